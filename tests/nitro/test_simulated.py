"""Simulated documents: what is genuine passes, and each deviation is refused by the step that sees it."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from attestation import evidence
from attestation.appraise import appraise
from attestation.errors import EvidenceCode, EvidenceError, FindingCode, PolicyCode
from attestation.evidence import Roots
from attestation.nitro.document import MAX_DOCUMENT, parse_document
from attestation.nitro.errors import NitroCode, NitroFinding
from attestation.policy import load_policy
from attestation.policy.nitro import NitroPolicy
from attestation.roots import Hierarchy
from attestation.sim.chains import Authority384, Profile384, certify, derive_key, enrol
from attestation.sim.extension import element
from attestation.sim.nitro import MODULE_ID, SimulatedNitro
from attestation.types import cbor, cose
from manifests.errors import ErrorCode
from tests.attestation.kit import outcome, refused
from tests.attestation.year0 import FAR, in_the_year_0
from tests.nitro import kit

DAY = 86400


def test_a_simulated_document_passes_the_same_steps_under_its_own_root() -> None:
    verified = kit.verify_sim(kit.simulated())
    assert verified.simulated
    assert verified.measurement == kit.IMAGE
    assert verified.report_data == kit.REPORT_DATA
    assert verified.tcb_status is None
    assert verified.to_dict()["platform_ids"] == {"module_id": MODULE_ID}
    assert appraise(verified, kit.policy(), kit.NOW, report_data=kit.REPORT_DATA).accepted


def test_the_same_seed_gives_the_same_bytes() -> None:
    again = SimulatedNitro(kit.SEED, kit.CREATED)
    assert again.evidence({0: kit.IMAGE}, kit.REPORT_DATA, kit.NOW) == kit.simulated()
    assert again.collateral(kit.NOW) is None


def test_the_tagged_form_passes_too() -> None:
    assert kit.verify_sim(kit.simulated(tagged=True)).document.message.tagged


def test_it_needs_no_collateral() -> None:
    assert evidence.collateral_key(evidence.parse(kit.simulated())) is None


def test_a_simulated_document_is_not_the_vendors() -> None:
    with refused(EvidenceCode.CHAIN_ROOT):
        evidence.verify(evidence.parse(kit.simulated()), None, Roots.vendor(), kit.NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"module_id": ""},
        {"module_id": "x" * 129},
        {"module_id": "a\nb"},
        {"module_id": b"i-0"},
        {"timestamp": 0},
        {"timestamp": -1},
        {"timestamp": "now"},
        {"pcrs": {}},
        {"pcrs": {32: bytes(48)}},
        {"pcrs": {-1: bytes(48)}},
        {"pcrs": {"0": bytes(48)}},
        {"pcrs": {0: bytes(32)}},
        {"pcrs": {0: bytes(64)}},
        {"pcrs": {0: "0" * 48}},
        {"pcrs": [bytes(48)]},
        {"certificate": b""},
        {"certificate": bytes(1025)},
        {"certificate": None},
        {"cabundle": []},
        {"cabundle": [b""]},
        {"cabundle": [bytes(1025)]},
        {"cabundle": [b"x"] * 9},
        {"cabundle": b"x"},
        {"cabundle": [None]},
        {"public_key": b""},
        {"public_key": bytes(1025)},
        {"user_data": bytes(513)},
        {"user_data": 7},
        {"nonce": bytes(513)},
        {"extra": None},
        {"omit": ("module_id",)},
        {"omit": ("pcrs",)},
        {"omit": ("cabundle",)},
    ],
    ids=str,
)
def test_a_field_outside_the_format_is_refused(changes: dict[str, Any]) -> None:
    data = kit.hypervisor().evidence(
        {0: kit.IMAGE}, kit.REPORT_DATA, kit.NOW, chain=(*kit.hypervisor().authorities, leaf()), **changes
    )
    with refused(NitroCode.MALFORMED):
        evidence.parse(data)


def test_optional_fields_may_be_absent_or_at_their_limits() -> None:
    bare = kit.verify_sim(kit.simulated(omit=("public_key", "user_data", "nonce")))
    assert bare.report_data == b""
    assert not appraise(bare, kit.policy(), kit.NOW, report_data=kit.REPORT_DATA).accepted
    full = kit.verify_sim(kit.simulated(public_key=bytes(1024), user_data=bytes(512), nonce=bytes(512)))
    assert len(full.document.nonce or b"") == 512
    assert kit.verify_sim(kit.simulated(user_data=b"")).document.user_data == b""


_ES256 = -7
"""COSE's number of ECDSA with SHA-256."""


def test_another_digest_or_algorithm_is_not_supported() -> None:
    with refused(NitroCode.DIGEST):
        evidence.parse(kit.simulated(digest="SHA512"))
    with refused(NitroCode.ALGORITHM):
        parse_document(kit.simulated(algorithm=_ES256))
    with refused(EvidenceCode.EVIDENCE_UNKNOWN):
        evidence.parse(kit.simulated(algorithm=_ES256))


def test_a_document_that_is_too_large_is_refused_before_it_is_read() -> None:
    with refused(NitroCode.TOO_LARGE):
        evidence.parse(kit.simulated() + bytes(MAX_DOCUMENT))


def test_a_payload_with_a_repeated_key_is_refused() -> None:
    message = kit.parsed(kit.simulated()).message
    payload = bytearray(message.payload)
    payload[0] += 1
    twice = cose.Sign1(cose.ES384, bytes(payload) + cbor.encode("nonce") + cbor.encode(None), message.signature)
    with refused(EvidenceCode.CBOR_MALFORMED):
        evidence.parse(twice.serialize())


def test_a_payload_that_is_no_map_is_refused() -> None:
    message = kit.parsed(kit.simulated()).message
    with refused(NitroCode.MALFORMED):
        evidence.parse(cose.Sign1(cose.ES384, cbor.encode([1]), message.signature).serialize())


def test_a_header_that_nothing_signs_is_refused() -> None:
    message = kit.parsed(kit.simulated()).message
    loose = cbor.encode([message.protected, {4: b"kid"}, message.payload, message.signature])
    with refused(EvidenceCode.COSE_MALFORMED):
        evidence.parse(loose)


@functools.cache
def leaf(**changes: Any) -> Authority384:
    return kit.hypervisor().leaf(kit.NOW, **changes)


def issued(profile: Profile384, issuer: Authority384 | None = None, **dates: int) -> Authority384:
    span = {"start": kit.CREATED, "end": kit.NOW + 3 * DAY} | dates
    return enrol(kit.SEED, profile, issuer, span["start"], span["end"])


def under(*profiles: Profile384, **dates: int) -> tuple[Authority384, ...]:
    """A chain below the simulated root; the last profile is the leaf's."""
    chain = [kit.hypervisor().root]
    for profile in profiles:
        chain.append(issued(profile, chain[-1], **dates))
    return tuple(chain)


def refusal(chain: tuple[Authority384, ...], **changes: Any) -> Any:
    data = kit.simulated(chain=chain, **changes)
    result = outcome(lambda: kit.verify_sim(data))
    return result if isinstance(result, ErrorCode) else None


LEAF = Profile384(f"{MODULE_ID}.simulated.aws", authority=False)
REGION = Profile384("region")
KNOWN = ("digital_signature",)


@pytest.mark.parametrize(
    ("profiles", "code"),
    [
        ((LEAF,), None),
        ((REGION, LEAF), None),
        ((REGION, dataclasses.replace(LEAF, constrained=False)), None),
        ((dataclasses.replace(REGION, path_length=0), LEAF), None),
        ((dataclasses.replace(REGION, path_length=0), Profile384("zone"), LEAF), EvidenceCode.CHAIN_ROLE),
        ((dataclasses.replace(REGION, path_length=1), Profile384("zone"), LEAF), None),
        ((dataclasses.replace(REGION, constrained=False), LEAF), EvidenceCode.CHAIN_ROLE),
        ((dataclasses.replace(REGION, usages=KNOWN), LEAF), EvidenceCode.CHAIN_ROLE),
        ((Profile384("region", authority=False), LEAF), EvidenceCode.CHAIN_ROLE),
        ((REGION, dataclasses.replace(LEAF, authority=True)), EvidenceCode.CHAIN_ROLE),
        ((REGION, dataclasses.replace(LEAF, usages=("key_agreement",))), EvidenceCode.CHAIN_ROLE),
        ((REGION, dataclasses.replace(LEAF, usages=("digital_signature", "crl_sign"))), EvidenceCode.CHAIN_ROLE),
        ((REGION, dataclasses.replace(LEAF, usages=())), EvidenceCode.CERTIFICATE_MALFORMED),
        ((REGION, dataclasses.replace(LEAF, marked=False)), EvidenceCode.CHAIN_NOT_SIMULATED),
        ((dataclasses.replace(REGION, marked=False), LEAF), EvidenceCode.CHAIN_NOT_SIMULATED),
        ((REGION, Profile384("i-1-enc1.aws", authority=False)), NitroCode.MODULE),
        (
            (REGION, dataclasses.replace(LEAF, extra=((x509.ObjectIdentifier("1.2.3"), b"\5\0"),))),
            EvidenceCode.CERTIFICATE_MALFORMED,
        ),
    ],
)
def test_certificates_are_held_to_their_places(profiles: tuple[Profile384, ...], code: ErrorCode | None) -> None:
    assert refusal(under(*profiles)) is code


def test_the_chain_may_not_be_longer_than_any_of_the_vendors() -> None:
    profiles = [Profile384(f"authority {index}") for index in range(9)]
    chain = under(*profiles[:7], LEAF)
    assert refusal(chain) is None
    document = kit.parsed(kit.simulated(chain=chain))
    longer = dataclasses.replace(document, cabundle=(*document.cabundle, document.certificate))
    with refused(EvidenceCode.CHAIN_LENGTH):
        evidence.verify(longer, None, kit.sim_roots(), kit.NOW)


def test_certificates_out_of_order_do_not_chain() -> None:
    root, region, zone, instance = kit.hypervisor().authorities
    assert refusal((root, zone, region, instance, leaf())) is EvidenceCode.CHAIN_SIGNATURE
    assert refusal((region, root, zone, instance, leaf())) is EvidenceCode.CHAIN_ROOT
    assert refusal((root, region, zone, leaf())) is EvidenceCode.CHAIN_SIGNATURE
    assert refusal((root, region, zone, instance, instance), module_id=MODULE_ID) is EvidenceCode.CHAIN_SIGNATURE


def test_an_issuer_of_another_name_is_refused_though_its_key_is_right() -> None:
    root, region, *_ = kit.hypervisor().authorities
    renamed = certify(Profile384("other"), region.key, root, serial=5, start=kit.CREATED, end=kit.NOW + DAY)
    assert refusal((root, renamed, issued(LEAF, region))) is EvidenceCode.CHAIN_NAMES


def test_a_key_on_another_curve_is_refused() -> None:
    key = ec.derive_private_key(5, ec.SECP256R1())
    short = certify(REGION, key, kit.hypervisor().root, serial=5, start=kit.CREATED, end=kit.NOW + DAY)
    assert refusal((kit.hypervisor().root, short, leaf())) is EvidenceCode.CERTIFICATE_MALFORMED


@pytest.mark.parametrize("der", [b"x", b"\x30\x00", b"\x30\x80\x00\x00"])
def test_a_certificate_that_is_none_is_refused_before_it_is_parsed(der: bytes) -> None:
    document = kit.parsed(kit.simulated())
    with refused(EvidenceCode.CERTIFICATE_MALFORMED):
        evidence.verify(dataclasses.replace(document, certificate=der), None, kit.sim_roots(), kit.NOW)


def test_a_certificate_with_a_date_of_the_year_0_is_refused() -> None:
    signer = kit.hypervisor().authorities[-1]
    late = issued(LEAF, signer, end=FAR)
    der = in_the_year_0(late.der, lambda tbs: signer.key.sign(tbs, ec.ECDSA(hashes.SHA384())))
    document = dataclasses.replace(kit.parsed(kit.simulated()), certificate=der)
    with refused(EvidenceCode.CERTIFICATE_MALFORMED) as caught:
        evidence.verify(document, None, kit.sim_roots(), kit.NOW)
    assert "cannot be parsed" in caught.value.message


def signed_by_the_instance(tbs: bytes, unused: bytes = b"\0") -> bytes:
    """DER that is signed like a certificate, whatever it is."""
    signature = kit.hypervisor().authorities[-1].key.sign(tbs, ec.ECDSA(hashes.SHA384()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040303")
    return element(0x30, tbs + algorithm + element(0x03, unused + signature))


@pytest.mark.parametrize(
    "der",
    [signed_by_the_instance(b"\x30\x00"), signed_by_the_instance(b"\x30\x03\x02\x01\x00", b"\1")],
    ids=["empty", "odd bits"],
)
def test_what_an_authority_signs_is_no_certificate_by_that_alone(der: bytes) -> None:
    document = kit.parsed(kit.simulated())
    with refused(EvidenceCode.CERTIFICATE_MALFORMED):
        evidence.verify(dataclasses.replace(document, certificate=der), None, kit.sim_roots(), kit.NOW)


def test_a_certificate_under_another_signature_algorithm_is_refused() -> None:
    document = kit.parsed(kit.simulated())
    der = document.certificate.replace(bytes.fromhex("2a8648ce3d040303"), bytes.fromhex("2a8648ce3d040302"))
    with refused(EvidenceCode.CERTIFICATE_MALFORMED):
        evidence.verify(dataclasses.replace(document, certificate=der), None, kit.sim_roots(), kit.NOW)


def test_a_marked_certificate_under_a_vendors_anchor_is_refused() -> None:
    data = kit.simulated()
    trusting = Roots.dangerous_replacement(kit.hypervisor().root_pem, Hierarchy.NITRO)
    with refused(EvidenceCode.CHAIN_SIMULATED):
        evidence.verify(evidence.parse(data), None, trusting, kit.NOW)
    with refused(EvidenceCode.CHAIN_ROOT):
        evidence.verify(
            evidence.parse(data),
            None,
            Roots.dangerous_replacement(kit.hypervisor().root_pem, Hierarchy.AMD),
            kit.NOW,
        )


def test_every_certificate_must_be_valid_at_that_time() -> None:
    ended = under(REGION, LEAF)
    early = (*ended[:1], issued(REGION, ended[0], start=kit.NOW + 1), ended[2])
    late = (*ended[:1], issued(REGION, ended[0], end=kit.NOW - 1), ended[2])
    last = (*ended[:1], issued(REGION, ended[0], end=kit.NOW), ended[2])
    assert refusal(early) is EvidenceCode.CERTIFICATE_EARLY
    assert refusal(late) is EvidenceCode.CERTIFICATE_EXPIRED
    assert refusal(last) is None


def test_a_document_is_made_while_its_certificate_is_valid_and_not_in_the_future() -> None:
    start, end = kit.NOW - 3, kit.NOW + 3 * 3600
    assert refusal((*kit.hypervisor().authorities, leaf()), timestamp=1000 * start) is None
    for timestamp in (1000 * start - 1, 1000 * (end + 1)):
        assert refusal((*kit.hypervisor().authorities, leaf()), timestamp=timestamp) is NitroCode.TIMESTAMP
    assert refusal((*kit.hypervisor().authorities, leaf()), timestamp=1000 * (kit.NOW + 1)) is NitroCode.EARLY
    later = kit.simulated(timestamp=1000 * end + 999)
    assert kit.verify_sim(later, now=end).issued == end


def test_a_signature_of_another_key_is_refused() -> None:
    other = issued(Profile384("other"))
    with refused(NitroCode.SIGNATURE):
        kit.verify_sim(kit.simulated(signer=other))
    message = kit.parsed(kit.simulated()).message
    short = cose.Sign1(cose.ES384, message.payload, message.signature[:-1])
    with refused(NitroCode.SIGNATURE):
        kit.verify_sim(short.serialize())


def test_a_known_chain_of_other_roots_is_of_no_use() -> None:
    other = SimulatedNitro(bytes(32), kit.CREATED)
    data = other.evidence({0: kit.IMAGE}, kit.REPORT_DATA, kit.NOW)
    known = kit.verify_sim(kit.simulated()).chain
    with refused(EvidenceCode.CHAIN_ROOT):
        kit.verify_sim(data, known=known)
    both = Roots.simulated(kit.hypervisor().root_pem, other.root_pem)
    assert evidence.verify(evidence.parse(data), known, both, kit.NOW).root == other.root_fingerprint


def failed(data: bytes, **table: Any) -> list[ErrorCode]:
    return [finding.code for finding in appraise(kit.verify_sim(data), kit.policy(**table), kit.NOW).failed]


def test_debug_mode_on_demand_is_refused_by_its_own_finding() -> None:
    data = kit.hypervisor(debug=True).evidence({0: kit.IMAGE}, kit.REPORT_DATA, kit.NOW)
    assert failed(data) == [NitroFinding.DEBUG, NitroFinding.PCR]
    one = kit.hypervisor().evidence({0: kit.IMAGE, 2: bytes(48)}, kit.REPORT_DATA, kit.NOW)
    assert failed(one) == [NitroFinding.DEBUG]
    none = kit.simulated(pcrs={0: kit.IMAGE, 1: kit.IMAGE})
    assert failed(none) == [NitroFinding.DEBUG]


def test_each_register_that_the_policy_names_is_a_check_of_its_own() -> None:
    pcrs = {"pcr0": [kit.IMAGE.hex(), "22" * 48], "pcr10": ["11" * 48], "pcr3": ["33" * 48], "pcr31": ["11" * 48]}
    verified = kit.verify_sim(kit.simulated())
    findings = appraise(verified, kit.policy(pcrs=pcrs), kit.NOW).findings
    registers = [finding for finding in findings if finding.code is NitroFinding.PCR]
    assert [finding.expected.partition(":")[0] for finding in registers] == ["pcr0", "pcr3", "pcr10", "pcr31"]
    assert [finding.passed for finding in registers] == [True, False, False, False]
    assert registers[-1].found == "pcr31: not in the document"
    assert all(finding.remedy for finding in registers[1:])


def test_modules_are_named_exactly() -> None:
    assert failed(kit.simulated(), module_ids=[MODULE_ID]) == []
    assert failed(kit.simulated(), module_ids=[MODULE_ID[:-1]]) == [NitroFinding.MODULE_ID]


def test_the_age_of_a_document_is_the_age_of_its_collateral() -> None:
    policy = load_policy(
        kit.policy().to_dict() | {"evidence": kit.policy().evidence.to_dict() | {"max_collateral_age": 60}}
    )
    verified = kit.verify_sim(kit.simulated())
    assert appraise(verified, policy, kit.NOW + 60).accepted
    late = appraise(verified, policy, kit.NOW + 61)
    assert [finding.code for finding in late.failed] == [FindingCode.COLLATERAL_AGE]


@pytest.mark.parametrize(
    ("table", "code"),
    [
        ({"pcrs": {"pcr1": ["11" * 48]}}, PolicyCode.POLICY_VACUOUS),
        ({"pcrs": {}}, PolicyCode.POLICY_VACUOUS),
        ({"pcrs": {"pcr0": []}}, PolicyCode.POLICY_VACUOUS),
        ({"pcrs": {"pcr0": ["00" * 48]}}, PolicyCode.POLICY_CONTRADICTION),
        ({"pcrs": {"pcr0": ["11" * 48], "pcr2": ["00" * 48]}}, PolicyCode.POLICY_CONTRADICTION),
        ({"pcrs": {"pcr8": ["00" * 48]}}, PolicyCode.POLICY_CONTRADICTION),
        ({"pcrs": {"pcr0": ["11" * 32]}}, PolicyCode.POLICY_MALFORMED),
        ({"pcrs": {"pcr32": ["11" * 48]}}, PolicyCode.POLICY_MALFORMED),
        ({"module_ids": []}, PolicyCode.POLICY_VACUOUS),
        ({"debug": 1}, PolicyCode.POLICY_MALFORMED),
    ],
    ids=str,
)
def test_a_policy_that_names_no_enclave_or_contradicts_itself_is_refused(
    table: dict[str, Any], code: PolicyCode
) -> None:
    with refused(code):
        kit.policy(**table)


def test_a_table_that_names_no_enclave_admits_none_however_it_was_made() -> None:
    policy = dataclasses.replace(kit.policy(), tables={"nitro": NitroPolicy()})
    codes = [finding.code for finding in appraise(kit.verify_sim(kit.simulated()), policy, kit.NOW).failed]
    assert codes == [NitroFinding.PCR]


def test_a_signer_stands_for_its_images_and_a_policy_comes_back_as_it_was() -> None:
    policy = kit.policy(pcrs={"pcr8": ["88" * 48]}, module_ids=[MODULE_ID])
    assert policy.table("nitro").measurements == ()
    assert kit.policy().table("nitro").measurements == (kit.IMAGE,)
    assert load_policy(policy.to_dict()) == policy
    signed = kit.hypervisor().evidence({8: bytes.fromhex("88" * 48)}, kit.REPORT_DATA, kit.NOW)
    assert appraise(kit.verify_sim(signed), policy, kit.NOW).accepted


@given(st.binary(max_size=300))
def test_parsing_is_total(data: bytes) -> None:
    for start in (b"", bytes.fromhex("8444a1013822a0")):
        with pytest.raises(EvidenceError):
            parse_document(start + data)


@given(st.integers(0, 5000), st.integers(0, 255))
def test_a_changed_byte_gives_a_code_and_never_another_exception(place: int, value: int) -> None:
    data = bytearray(kit.simulated())
    data[place % len(data)] = value
    result = outcome(lambda: kit.verify_sim(bytes(data)))
    assert isinstance(result, ErrorCode) or bytes(data) == kit.simulated()


def test_keys_follow_from_the_seed() -> None:
    assert derive_key(kit.SEED, "a").private_numbers() == derive_key(kit.SEED, "a").private_numbers()
    assert derive_key(kit.SEED, "a").private_numbers() != derive_key(kit.SEED, "b").private_numbers()
