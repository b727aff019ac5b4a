"""RA-TLS certificates: evidence that is bound to the certificate's key, held to more than Gramine's verifier asks."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation import evidence
from attestation.appraise import appraise
from attestation.batch import BatchVerifier
from attestation.collateral import CollateralKey
from attestation.der import BIT_STRING, INTEGER, SEQUENCE, DerReader
from attestation.errors import EvidenceCode, EvidenceError, FindingCode
from attestation.evidence import ValidatedCollateral
from attestation.ratls.certificate import LEGACY, MAX_CERTIFICATE, TAGGED_EVIDENCE, looks_like, parse_certificate
from attestation.ratls.claims import read_tagged
from attestation.ratls.errors import RatlsCode
from attestation.ratls.verify import RatlsVerified
from attestation.report import examine
from attestation.roots import Roots
from attestation.sim.pki import derive_key
from attestation.sim.ratls import RatlsProfile, certificate, claims_of, ratls_certificate, tagged_evidence
from attestation.sim.rsa_key import derive_rsa_key
from attestation.sim.tdx import SimulatedTdx
from attestation.types import cbor
from manifests.errors import ErrorCode
from tests import flips
from tests.attestation import kit, year0
from tests.attestation.kit import CREATED, NOW, SEED, outcome, refused
from tests.attestation.year0 import FAR

KEY = ec.derive_private_key(0x5A5A5A5A, ec.SECP384R1())
"""On the curve that Gramine uses."""
WRITER = derive_key(SEED, "ratls")
"""On P-256, which is faster."""


def quote(report_data: bytes, mr_enclave: bytes = kit.MRENCLAVE) -> bytes:
    return kit.platform().quote(kit.platform().report_body(mr_enclave), report_data)


def other_quote(report_data: bytes) -> bytes:
    return quote(report_data, bytes([8]) * 32)


def spki(key: Any = KEY) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


@functools.lru_cache(maxsize=1)
def healthy() -> bytes:
    return ratls_certificate(KEY, quote)


def verify(der: bytes | None = None) -> RatlsVerified:
    parsed = evidence.parse(der or healthy())
    verified = evidence.verify(parsed, kit.platform().collateral(NOW), kit.sim_roots(), NOW)
    assert isinstance(verified, RatlsVerified)
    return verified


def with_tagged(value: bytes) -> bytes:
    return certificate(KEY, {TAGGED_EVIDENCE: value}, RatlsProfile())


def with_claims(claims: bytes) -> bytes:
    return with_tagged(tagged_evidence(quote, claims))


# ------------------------------------------------------------------------------------------------------- accepted


@pytest.mark.parametrize(("tagged", "legacy"), [(True, True), (True, False), (False, True)])
def test_either_form_of_evidence_and_both_are_accepted(tagged: bool, legacy: bool) -> None:
    der = ratls_certificate(KEY, quote, tagged=tagged, legacy=legacy)
    verified = verify(der)
    assert verified.certificate.serialize() == der
    assert verified.public_key == spki()
    assert [each.form for each in verified.certificate.bound] == ["tagged"] * tagged + ["legacy"] * legacy
    assert verified.measurement == kit.MRENCLAVE
    assert verified.simulated


@pytest.mark.parametrize("key", [ec.derive_private_key(7, ec.SECP256R1()), derive_rsa_key(SEED, "ratls")])
def test_other_keys_are_accepted_too(key: Any) -> None:
    assert verify(ratls_certificate(key, quote)).public_key == spki(key)


def test_the_legacy_extension_is_read_under_the_identifier_that_was_meant_too() -> None:
    legacy = quote(hashlib.sha256(spki()).digest() + bytes(32))
    assert verify(certificate(KEY, {LEGACY[1]: legacy}, RatlsProfile())).public_key == spki()


def test_the_evidence_inside_is_judged_under_the_table_of_its_own_tee() -> None:
    verified = verify()
    appraise(verified, kit.policy(), NOW).require()
    refusals = appraise(verified, kit.policy(sgx={"mrenclave": ["11" * 32]}), NOW).failed
    assert [finding.code for finding in refusals] == [FindingCode.MRENCLAVE]


def test_the_certificate_of_another_session_proves_nothing_about_this_one() -> None:
    """Its report data is taken by the key, so that no session's can be in it."""
    assert FindingCode.REPORT_DATA in {
        finding.code for finding in appraise(verify(), kit.policy(), NOW, report_data=kit.REPORT_DATA).failed
    }


def test_it_says_which_collateral_it_needs() -> None:
    assert evidence.collateral_key(evidence.parse(healthy())) == CollateralKey("sgx", "53494d000000", "processor")


def test_trust_domains_are_wrapped_too() -> None:
    tdx = SimulatedTdx(SEED, CREATED)
    der = ratls_certificate(KEY, lambda data: tdx.evidence(bytes([9]) * 48, data))
    parsed = evidence.parse(der)
    verified = evidence.verify(parsed, tdx.collateral(NOW), Roots.simulated(tdx.root_pem), NOW)
    assert [part.tee for part in verified.parts] == ["tdx"]


def test_dates_are_data_because_their_holder_writes_them() -> None:
    der = ratls_certificate(KEY, quote, profile=RatlsProfile(not_before=NOW + 10, not_after=NOW + 20))
    shown = json.loads(json.dumps(verify(der).to_dict()))
    assert (shown["not_before"], shown["not_after"]) == ("2025-10-09T08:53:30Z", "2025-10-09T08:53:40Z")
    assert shown["tcb_status"] == shown["sgx"]["tcb_status"] == "UpToDate"
    assert set(shown["platform_ids"]) == {"fmspc", "ppid"}
    assert set(shown["quote"]) >= {"tagged", "legacy", "public_key"}


def test_a_nonce_in_the_claims_is_bound_and_shown() -> None:
    verified = verify(with_claims(claims_of(spki(), nonce=b"challenge")))
    assert verified.certificate.bound[0].nonce == b"challenge"
    assert verified.to_dict()["nonce"] == b"challenge".hex()


@pytest.mark.parametrize(("number", "name"), [(1, "sha256"), (7, "sha384"), (8, "sha512")])
def test_the_key_may_be_hashed_by_each_registered_algorithm(number: int, name: str) -> None:
    entry = cbor.encode([number, hashlib.new(name, spki()).digest()])
    verify(with_claims(cbor.encode({"pubkey-hash": entry})))


# --------------------------------------------------------------------------------------------- the binding, broken


def test_evidence_for_another_key_is_refused() -> None:
    """Someone else's claims and quote, under a key of one's own."""
    stolen = tagged_evidence(quote, claims_of(spki(derive_key(SEED, "somebody"))))
    with refused(RatlsCode.KEY):
        parse_certificate(with_tagged(stolen))


def test_a_quote_for_other_claims_is_refused() -> None:
    value = cbor.encode(cbor.Tag(60000, [quote(bytes(64)), claims_of(spki())]))
    with refused(RatlsCode.BINDING):
        verify(with_tagged(value))


def test_a_legacy_quote_for_another_key_is_refused() -> None:
    with refused(RatlsCode.BINDING):
        verify(certificate(KEY, {LEGACY[0]: quote(bytes(64))}, RatlsProfile()))


def test_all_64_bytes_of_report_data_count_though_gramine_compares_32() -> None:
    for at in (32, 63):

        def padded(report_data: bytes, at: int = at) -> bytes:
            return quote(report_data[:at] + b"\x01" + report_data[at + 1 :])

        for form in ({"tagged": False}, {"legacy": False}):
            with refused(RatlsCode.BINDING):
                verify(ratls_certificate(KEY, padded, **form))


def test_claims_without_the_keys_hash_are_refused_though_gramine_accepts_them() -> None:
    for claims in ({}, {"nonce": b"x"}, {"pubkey": b"x"}):
        with refused(RatlsCode.CLAIMS):
            parse_certificate(with_claims(cbor.encode(claims)))


def test_both_forms_have_to_hold_where_both_are_carried() -> None:
    tagged = tagged_evidence(quote, claims_of(spki()))
    with refused(RatlsCode.BINDING):
        verify(certificate(KEY, {TAGGED_EVIDENCE: tagged, LEGACY[0]: quote(bytes(64))}, RatlsProfile()))


def test_quotes_of_two_programs_are_refused() -> None:
    tagged = tagged_evidence(quote, claims_of(spki()))
    legacy = other_quote(hashlib.sha256(spki()).digest() + bytes(32))
    with refused(RatlsCode.MIXED):
        verify(certificate(KEY, {TAGGED_EVIDENCE: tagged, LEGACY[0]: legacy}, RatlsProfile()))


# ---------------------------------------------------------------------------------------------------- certificate


def test_a_signature_by_another_key_is_refused() -> None:
    for other in (derive_key(SEED, "other"), derive_rsa_key(SEED, "ratls")):
        with refused(RatlsCode.SIGNATURE):
            parse_certificate(ratls_certificate(KEY, quote, profile=RatlsProfile(signer=other)))


def test_a_certificate_that_names_an_issuer_is_refused() -> None:
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA")])
    with refused(RatlsCode.SIGNATURE):
        parse_certificate(ratls_certificate(KEY, quote, profile=RatlsProfile(issuer=issuer)))


def test_a_certificate_without_evidence_is_none() -> None:
    other = (x509.ObjectIdentifier("1.2.3"), b"\x05\x00")
    with refused(RatlsCode.NO_EVIDENCE):
        parse_certificate(certificate(KEY, {}, RatlsProfile(extensions=(other,))))
    with refused(RatlsCode.NO_EVIDENCE):
        parse_certificate(certificate(KEY, {}, RatlsProfile()))


def test_an_extension_that_comes_twice_is_refused() -> None:
    """The library refuses to make such a certificate, so that the second identifier is turned into the first."""
    twin = x509.ObjectIdentifier("2.23.133.5.4.10")
    value = tagged_evidence(quote, claims_of(spki()))
    der = certificate(KEY, {TAGGED_EVIDENCE: value}, RatlsProfile(extensions=((twin, value),)))
    first, second = bytes.fromhex("0606678105050409"), bytes.fromhex("060667810505040a")
    assert second in der
    with refused(RatlsCode.CERTIFICATE):
        parse_certificate(der.replace(second, first))


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\x30\x00",
        bytes(100),
        healthy() + b"\0",
        healthy()[:-1],
        b"\x30\x80" + healthy()[4:] + b"\0\0",
        b"\x30" + bytes(MAX_CERTIFICATE),
    ],
)
def test_bytes_that_are_no_certificate_are_refused(der: bytes) -> None:
    with refused(RatlsCode.CERTIFICATE):
        parse_certificate(der)


@pytest.mark.parametrize("serial", ["020100", "0201ff", "020200ff", "0200", "0215" + "7f" * 21])
def test_a_serial_number_that_is_none_is_refused_before_the_x509_parser_warns_of_it(serial: str) -> None:
    """All but the third, which is 255."""
    template = x509.load_der_x509_certificate(healthy())
    body = template.tbs_certificate_bytes
    reader = DerReader(body, EvidenceCode.CERTIFICATE_MALFORMED).inside(SEQUENCE)
    version, old = reader.element(0xA0), reader.element(INTEGER)
    rest = body[body.index(version + old) + len(version + old) :]
    signed = der_of(SEQUENCE, version + bytes.fromhex(serial) + rest)
    signature = KEY.sign(signed, ec.ECDSA(hashes.SHA384()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040303")
    der = der_of(SEQUENCE, signed + algorithm + der_of(BIT_STRING, b"\0" + signature))
    if serial == "020200ff":
        verify(der)
        return
    with refused(RatlsCode.CERTIFICATE):
        parse_certificate(der)


def der_of(tag: int, content: bytes) -> bytes:
    """One element, with a length of one byte or of three."""
    size = len(content)
    return bytes([tag, size] if size < 0x80 else [tag, 0x82, *size.to_bytes(2, "big")]) + content


def test_a_signed_part_that_is_no_certificate_is_refused() -> None:
    tail = bytes.fromhex("300a06082a8648ce3d040303") + b"\x03\x02\x00\x00"
    der = b"\x30" + bytes([2 + len(tail)]) + b"\x30\x00" + tail
    with refused(RatlsCode.CERTIFICATE):
        parse_certificate(der)


def test_keys_and_signatures_of_other_kinds_are_refused() -> None:
    with refused(RatlsCode.KEY_KIND):
        parse_certificate(ratls_certificate(ec.derive_private_key(7, ec.SECP256K1()), quote))
    with refused(RatlsCode.KEY_KIND):
        parse_certificate(ratls_certificate(derive_rsa_key(SEED, "weak", 1024), quote))
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([]))
    template = x509.load_der_x509_certificate(healthy())
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
    builder = builder.public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(template.not_valid_before_utc).not_valid_after(template.not_valid_after_utc)
    with refused(RatlsCode.KEY_KIND):
        parse_certificate(builder.sign(key, None).public_bytes(Encoding.DER))


def in_the_year_0(not_before: int, not_after: int) -> bytes:
    der = ratls_certificate(KEY, quote, profile=RatlsProfile(not_before=not_before, not_after=not_after))
    return year0.in_the_year_0(der, lambda tbs: KEY.sign(tbs, ec.ECDSA(hashes.SHA256())))


@pytest.mark.parametrize("dates", [(FAR, FAR + 1), (CREATED, FAR), (FAR, FAR)], ids=["first", "last", "both"])
def test_a_date_of_the_year_0_is_no_date(dates: tuple[int, int]) -> None:
    """DER has such a year, and no calendar has: whoever makes a certificate signs what they like."""
    der = in_the_year_0(*dates)
    with refused(RatlsCode.CERTIFICATE) as caught:
        evidence.parse(der)
    assert "a date is none" in caught.value.message
    report = examine(der, now=NOW)
    assert (report.exit_code, report.refused[0].code) == (30, RatlsCode.CERTIFICATE)


def test_such_a_certificate_costs_no_other_piece_of_a_batch_its_outcome() -> None:
    with BatchVerifier(kit.platform().collateral(NOW), kit.sim_roots(), workers=1) as verifier:
        bad, good = verifier.verify([in_the_year_0(CREATED, FAR), kit.sim_quote()], NOW)
    assert isinstance(bad, EvidenceError)
    assert bad.code is RatlsCode.CERTIFICATE
    assert good == kit.verify_sim()


def test_sha1_and_sha224_sign_no_certificate() -> None:
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([]))
    template = x509.load_der_x509_certificate(healthy())
    builder = builder.public_key(KEY.public_key()).serial_number(1)
    builder = builder.not_valid_before(template.not_valid_before_utc).not_valid_after(template.not_valid_after_utc)
    with refused(RatlsCode.KEY_KIND):
        parse_certificate(builder.sign(KEY, hashes.SHA224()).public_bytes(Encoding.DER))


def test_certificates_are_recognised_by_what_they_carry() -> None:
    assert looks_like(healthy())
    assert not looks_like(certificate(KEY, {}, RatlsProfile()))
    with refused(EvidenceCode.EVIDENCE_UNKNOWN):
        evidence.parse(certificate(KEY, {}, RatlsProfile()))


# -------------------------------------------------------------------------------------------------- tagged evidence

QUOTE = quote(bytes(64))


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", EvidenceCode.CBOR_MALFORMED),
        (cbor.encode(cbor.Tag(60000, [QUOTE, b""])) + b"\0", EvidenceCode.CBOR_MALFORMED),
        (b"\xda\x00\x00\xea\x60" + cbor.encode([QUOTE, b""]), EvidenceCode.CBOR_MALFORMED),  # a long head
        (cbor.encode([QUOTE, b""]), RatlsCode.EVIDENCE),
        (cbor.encode(cbor.Tag(60001, [QUOTE, b""])), RatlsCode.EVIDENCE_KIND),
        (cbor.encode(cbor.Tag(60000, QUOTE)), RatlsCode.EVIDENCE),
        (cbor.encode(cbor.Tag(60000, [QUOTE])), RatlsCode.EVIDENCE),
        (cbor.encode(cbor.Tag(60000, [QUOTE, claims_of(spki()), b""])), RatlsCode.EVIDENCE),
        (cbor.encode(cbor.Tag(60000, [QUOTE, "claims"])), RatlsCode.EVIDENCE),
        (cbor.encode(cbor.Tag(60000, [QUOTE, b"\xff"])), EvidenceCode.CBOR_MALFORMED),
        (cbor.encode(cbor.Tag(60000, [QUOTE, cbor.encode(7)])), RatlsCode.CLAIMS),
        (cbor.encode(cbor.Tag(60000, [b"", claims_of(spki())])), RatlsCode.EVIDENCE_KIND),
        (cbor.encode(cbor.Tag(60000, [bytes(5000), claims_of(spki())])), RatlsCode.EVIDENCE_KIND),
        (cbor.encode(cbor.Tag(60000, [QUOTE + b"\0", claims_of(spki())])), EvidenceCode.QUOTE_TRAILING_BYTES),
    ],
)
def test_evidence_of_another_form_is_refused(value: bytes, code: ErrorCode) -> None:
    with refused(code):
        parse_certificate(with_tagged(value))


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"pubkey-hash": "text"}, RatlsCode.CLAIMS),
        ({"pubkey-hash": b"\xff"}, EvidenceCode.CBOR_MALFORMED),
        ({"pubkey-hash": cbor.encode([1])}, RatlsCode.CLAIMS),
        ({"pubkey-hash": cbor.encode([True, b""])}, RatlsCode.CLAIMS),
        ({"pubkey-hash": cbor.encode([2, b""])}, RatlsCode.CLAIMS_HASH),
        ({"pubkey-hash": cbor.encode([1, b""])}, RatlsCode.KEY),
        ({"pubkey-hash": cbor.encode([1, hashlib.sha256(spki()).digest()]), "more": b""}, RatlsCode.CLAIMS),
        ({"pubkey-hash": cbor.encode([1, hashlib.sha256(spki()).digest()]), "nonce": "text"}, RatlsCode.CLAIMS),
        ({"pubkey-hash": cbor.encode([1, hashlib.sha256(spki()).digest()]), "nonce": None}, RatlsCode.CLAIMS),
    ],
)
def test_claims_of_another_form_are_refused(claims: dict[int | str, Any], code: ErrorCode) -> None:
    with refused(code):
        parse_certificate(with_claims(cbor.encode(claims)))


def test_every_kind_of_refusal_inside_stays_one_of_evidence() -> None:
    forged = bytearray(quote(hashlib.sha256(spki()).digest() + bytes(32)))
    forged[100] ^= 1
    with refused(EvidenceCode.QUOTE_SIGNATURE):
        verify(certificate(KEY, {LEGACY[0]: bytes(forged)}, RatlsProfile()))


# ------------------------------------------------------------------------------------------------------------ bits


SLICES = 12
"""Parts of the work, so that processes can share it."""


@functools.cache
def real_collateral() -> ValidatedCollateral:
    return evidence.prepare(kit.platform().collateral(NOW), kit.sim_roots(), NOW)


def accept(_name: str, der: bytes) -> None:
    """Take a certificate through all steps, from recognition on; collateral that was verified is as it was."""
    evidence.verify(evidence.parse(der), real_collateral(), kit.sim_roots(), NOW)


@functools.cache
def both_forms() -> bytes:
    """A certificate with both forms of evidence, and a nonce in the claims."""
    claims = claims_of(spki(WRITER), nonce=b"challenge")
    legacy = quote(hashlib.sha256(spki(WRITER)).digest() + bytes(32))
    return certificate(WRITER, {TAGGED_EVIDENCE: tagged_evidence(quote, claims), LEGACY[0]: legacy}, RatlsProfile())


@pytest.mark.parametrize("part", range(SLICES))
def test_every_flipped_bit_of_a_certificate_is_refused(part: int) -> None:
    """The certificate signs itself: nothing in it can be changed without its key."""
    case = flips.Case({"certificate": both_forms()}, accept)
    assert case.accepts("certificate", both_forms())
    assert case.unnoticed(itertools.islice(case.everywhere(), part, None, SLICES)) == []


@pytest.mark.parametrize("share", range(flips.SHARES))
def test_drawn_bits_of_the_evidence_are_refused_though_the_keys_holder_signs_them(share: int) -> None:
    """Who holds the certificate's key writes it as he likes; what the platform signed he cannot change."""
    legacy = quote(hashlib.sha256(spki()).digest() + bytes(32))
    values = {TAGGED_EVIDENCE: tagged_evidence(quote, claims_of(spki(), nonce=b"challenge")), LEGACY[0]: legacy}

    def resigned(oid: str, value: bytes) -> None:
        accept("", certificate(KEY, {x509.ObjectIdentifier(oid): value}, RatlsProfile()))

    case = flips.Case({oid.dotted_string: value for oid, value in values.items()}, resigned)
    assert flips.unnoticed_draws(case, "ratls", share, seconds=1.0) == []


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_bytes_of_evidence_are_refused_or_read(data: st.DataObject) -> None:
    seed = tagged_evidence(quote, claims_of(spki()))
    start = data.draw(st.integers(0, len(seed)))
    end = data.draw(st.integers(start, len(seed)))
    raw = seed[:start] + data.draw(st.binary(max_size=64)) + seed[end:]
    found = outcome(functools.partial(read_tagged, raw, spki()))
    assert raw == seed or isinstance(found, ErrorCode) or found.quote.serialize() in raw
