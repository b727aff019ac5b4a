"""Each certificate and list of the hierarchy, and each way in which it can be another."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.amd.abi import SigningKey
from attestation.amd.certificates import BASIC_CONSTRAINTS, KEY_USAGE, SIMULATION
from attestation.amd.collateral import SnpCollateral
from attestation.amd.crl import MAX_CRL
from attestation.amd.endorsement import CSP_ID, HWID, PRODUCT_NAME, RESERVED_SPL, SPL, STRUCT_VERSION
from attestation.amd.errors import SnpCode
from attestation.amd.signatures import PSS_ALGORITHMS
from attestation.amd.tcb import Product
from attestation.amd.verify import prepare
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel import pem
from attestation.roots import Hierarchy, Roots
from attestation.sim.amd_keys import sign_pss
from attestation.sim.extension import element
from attestation.strict_x509 import encode_oid
from manifests.errors import ErrorCode
from tests.amd import kit
from tests.amd.kit import refused
from tests.attestation.year0 import FAR, in_the_year_0

MALFORMED = EvidenceCode.CERTIFICATE_MALFORMED
EXTENSION = SnpCode.VEK_EXTENSION
P256 = ec.derive_private_key(7, ec.SECP256R1())


def integer(number: int) -> bytes:
    return element(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def text(value: bytes) -> bytes:
    return element(0x16, value)


def with_extension(oid: bytes, value: bytes, *, critical: bool = False) -> dict[str, Any]:
    return {"extensions": {oid: (critical, value)}}


def issued(changes: dict[str, dict[str, Any]], simulated: Any = None, **terms: Any) -> SnpCollateral:
    return (simulated or kit.snp()).collateral(kit.NOW, changes=changes, **terms)


def check(held: SnpCollateral, simulated: Any = None) -> None:
    prepare(held, kit.roots(simulated or kit.snp()), kit.NOW)


# ------------------------------------------------------------------------------------------------ certificates

VEK_CASES: dict[str, tuple[dict[str, Any], ErrorCode]] = {
    "is of version 1": ({"version": 0}, MALFORMED),
    "is of a version that does not exist": ({"version": 3}, MALFORMED),
    "has a key on P-256": ({"key": P256}, MALFORMED),
    "has an unknown extension": (with_extension(encode_oid("2.5.29.37"), b"\x30\x00"), MALFORMED),
    "has a critical extension": (with_extension(HWID, bytes(64), critical=True), EvidenceCode.CHAIN_ROLE),
    "is an authority": (
        with_extension(BASIC_CONSTRAINTS, bytes.fromhex("30030101ff"), critical=True),
        EvidenceCode.CHAIN_ROLE,
    ),
    "has the name of another role": ({"name": "SEV-VLEK"}, EvidenceCode.CHAIN_ROLE),
    "has no name of a role": ({"name": "SEV"}, EvidenceCode.CHAIN_ROLE),
    "names another issuer": ({"issuer": "SEV-Genoa"}, EvidenceCode.CHAIN_NAMES),
    "names an issuer of another organisation": ({"issuer_organisation": "another"}, EvidenceCode.CHAIN_NAMES),
    "lacks the simulator's mark": ({"without": (SIMULATION,)}, EvidenceCode.CHAIN_NOT_SIMULATED),
    "is of another product": (with_extension(PRODUCT_NAME, text(b"Genoa")), SnpCode.VEK_PRODUCT),
    "has a product name that only begins so": (with_extension(PRODUCT_NAME, text(b"MilanX")), SnpCode.VEK_PRODUCT),
    "has no text for a product name": (with_extension(PRODUCT_NAME, element(0x0C, b"Milan")), EXTENSION),
    "has an empty product name": (with_extension(PRODUCT_NAME, text(b"")), EXTENSION),
    "has a product name with a control character": (with_extension(PRODUCT_NAME, text(b"Milan\0")), EXTENSION),
    "has a product name beyond ASCII": (with_extension(PRODUCT_NAME, text(b"Milan-\xff")), EXTENSION),
    "has bytes after its product name": (with_extension(PRODUCT_NAME, text(b"Milan") + b"\0"), EXTENSION),
    "lacks its product name": ({"without": (PRODUCT_NAME,)}, EXTENSION),
    "lacks its structure's version": ({"without": (STRUCT_VERSION,)}, EXTENSION),
    "is of a structure that is not known": (with_extension(STRUCT_VERSION, integer(2)), EXTENSION),
    "lacks a component's version": ({"without": (SPL["tee"],)}, EXTENSION),
    "has a component of another product": (with_extension(SPL["fmc"], integer(0)), EXTENSION),
    "has a component that is not known": (with_extension(SPL["fmc"][:-1] + b"\x0a", integer(0)), EXTENSION),
    "has a component above 255": (with_extension(SPL["tee"], integer(256)), EXTENSION),
    "has a negative component": (with_extension(SPL["tee"], element(2, b"\xff")), EXTENSION),
    "has a component that is no integer": (with_extension(SPL["tee"], element(4, b"\0")), EXTENSION),
    "has a component in a longer form": (with_extension(SPL["tee"], element(2, b"\0\1")), EXTENSION),
    "has bytes after a component": (with_extension(SPL["tee"], integer(0) + b"\0"), EXTENSION),
    "has a reserved component": (with_extension(RESERVED_SPL[0], integer(1)), EXTENSION),
    "lacks its chip": ({"without": (HWID,)}, EXTENSION),
    "has a chip's id of another size": (with_extension(HWID, bytes(63)), EXTENSION),
    "has a chip's id of Turin's size": (with_extension(HWID, bytes(8)), EXTENSION),
    "has an empty chip's id": (with_extension(HWID, b""), EXTENSION),
    "has a wrapped chip's id of another size": (with_extension(HWID, element(4, bytes(65))), EXTENSION),
    "has bytes after a wrapped chip's id": (with_extension(HWID, element(4, bytes(64)) + b"\0"), EXTENSION),
    "has a chip's id in another wrapping": (with_extension(HWID, element(3, bytes(64))), EXTENSION),
    "is a chip's, and lent": (with_extension(CSP_ID, text(b"CN=cloud")), EXTENSION),
}


@pytest.mark.parametrize("case", VEK_CASES)
def test_a_chip_certificate_is_refused_that(case: str) -> None:
    changes, code = VEK_CASES[case]
    with refused(code):
        check(issued({"vek": changes}))


SIGNER_CASES: dict[str, tuple[dict[str, Any], ErrorCode]] = {
    "has the name of another product": ({"name": "SEV-Genoa"}, EvidenceCode.CHAIN_ROLE),
    "has the name of the root": ({"name": "ARK-Milan"}, EvidenceCode.CHAIN_ROLE),
    "names another issuer": ({"issuer": "ARK-Genoa"}, EvidenceCode.CHAIN_NAMES),
    "may sign revocation lists": (
        with_extension(KEY_USAGE, bytes.fromhex("03020106"), critical=True),
        EvidenceCode.CHAIN_ROLE,
    ),
    "has constraints that nobody must heed": (
        with_extension(BASIC_CONSTRAINTS, bytes.fromhex("30060101ff020100")),
        EvidenceCode.CHAIN_ROLE,
    ),
    "may have authorities below it": (
        with_extension(BASIC_CONSTRAINTS, bytes.fromhex("30030101ff"), critical=True),
        EvidenceCode.CHAIN_ROLE,
    ),
    "lacks its key usage": ({"without": (KEY_USAGE,)}, EvidenceCode.CHAIN_ROLE),
    "lacks the simulator's mark": ({"without": (SIMULATION,)}, EvidenceCode.CHAIN_NOT_SIMULATED),
    "has an extension of an endorsement key": (with_extension(HWID, bytes(64)), MALFORMED),
    "has a key on a curve": ({"key": P256}, MALFORMED),
}


@pytest.mark.parametrize("case", SIGNER_CASES)
def test_an_authority_is_refused_that(case: str) -> None:
    changes, code = SIGNER_CASES[case]
    with refused(code):
        check(issued({"signer": changes}))


def test_an_authority_with_a_shorter_key_is_refused() -> None:
    with refused(MALFORMED):
        check(issued({"signer": {"key": rsa.generate_private_key(65537, 2048)}}))


LENT_CASES: dict[str, tuple[dict[str, Any], ErrorCode]] = {
    "has the name of a chip's": ({"name": "SEV-VCEK"}, EvidenceCode.CHAIN_ROLE),
    "says not whom it is lent to": ({"without": (CSP_ID,)}, EXTENSION),
    "is lent, and a chip's": (with_extension(HWID, bytes(64)), EXTENSION),
    "is lent to an empty name": (with_extension(CSP_ID, text(b"")), EXTENSION),
    "is lent to a name that is too long": (with_extension(CSP_ID, text(b"x" * 129)), EXTENSION),
}


@pytest.mark.parametrize("case", LENT_CASES)
def test_a_lent_key_is_refused_that(case: str) -> None:
    changes, code = LENT_CASES[case]
    simulated = kit.snp(Product.MILAN, SigningKey.VLEK)
    with refused(code):
        check(issued({"vek": changes}, simulated), simulated)


def test_a_wrapped_chip_id_reads_as_a_bare_one() -> None:
    """The specification asks for an OCTET STRING; certificates in use have the bare octets."""
    for product in (Product.MILAN, Product.TURIN):
        simulated = kit.snp(product)
        held = issued({"vek": with_extension(HWID, element(4, simulated.hwid))}, simulated)
        assert prepare(held, kit.roots(simulated), kit.NOW).endorsement.hwid == simulated.hwid


def test_serial_number_zero_is_amds_habit() -> None:
    check(issued({"vek": {"serial": 0}}))


@pytest.mark.parametrize("name", ["ark", "signer", "vek"])
def test_each_certificate_must_be_signed_by_the_one_above(name: str) -> None:
    with refused(EvidenceCode.CHAIN_ROOT if name == "ark" else EvidenceCode.CHAIN_SIGNATURE):
        check(issued({}, signers={name: kit.keys().asvk}))


def test_a_root_without_the_name_of_a_product_is_none() -> None:
    held = issued({"ark": {"name": "ARK-Venice", "issuer": "ARK-Venice"}})
    _, root = pem.decode_chain(held.chain, 2)
    with refused(EvidenceCode.CHAIN_ROLE):
        prepare(held, Roots.simulated(pem.encode_chain(root)), kit.NOW)


def test_a_root_that_names_another_issuer_is_none() -> None:
    held = issued({"ark": {"issuer": "ARK-Genoa"}})
    _, root = pem.decode_chain(held.chain, 2)
    with refused(EvidenceCode.CHAIN_NAMES):
        prepare(held, Roots.simulated(pem.encode_chain(root)), kit.NOW)


def test_a_replaced_vendor_root_refuses_the_simulators_mark() -> None:
    root = kit.snp().root_pem
    with refused(EvidenceCode.CHAIN_SIMULATED):
        prepare(kit.collateral(kit.snp()), Roots.dangerous_replacement(root, Hierarchy.AMD), kit.NOW)


def test_a_root_of_another_vendor_is_none_of_amds() -> None:
    root = kit.snp().root_pem
    with refused(EvidenceCode.CHAIN_ROOT):
        prepare(kit.collateral(kit.snp()), Roots.dangerous_replacement(root, Hierarchy.INTEL), kit.NOW)


def test_a_chain_in_another_order_or_length_is_refused() -> None:
    held = kit.collateral(kit.snp())
    signer, ark = pem.decode_chain(held.chain, 2)
    for chain, code in (
        (pem.encode_chain(ark, signer), EvidenceCode.CHAIN_ROOT),
        (pem.encode_chain(ark), EvidenceCode.CHAIN_LENGTH),
        (pem.encode_chain(held.vek, signer, ark), EvidenceCode.CHAIN_LENGTH),
        (pem.encode_chain(ark, ark), EvidenceCode.CHAIN_ROLE),
        (held.chain.replace(b"\n", b"\r\n"), EvidenceCode.PEM_MALFORMED),
        (held.chain + b"#", EvidenceCode.PEM_MALFORMED),
    ):
        with refused(code):
            check(dataclasses.replace(held, chain=chain))


def test_the_two_algorithms_of_a_certificate_must_agree() -> None:
    tbs = element(0x30, b"\xa0\x03" + integer(2) + integer(1) + PSS_ALGORITHMS[1])
    der = element(0x30, tbs + PSS_ALGORITHMS[0] + element(3, b"\0" + sign_pss(kit.keys().ask, tbs)))
    with refused(MALFORMED):
        check(dataclasses.replace(kit.collateral(kit.snp()), vek=der))


def test_a_certificate_of_another_signature_scheme_is_refused() -> None:
    """PKCS #1 v1.5 by the right key is still not what AMD's profile has."""
    der = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(P256.public_key())
        .serial_number(1)
        .not_valid_before(kit.datetime_of(kit.CREATED))
        .not_valid_after(kit.datetime_of(kit.NOW + 1))
        .sign(kit.keys().ask, hashes.SHA384())
        .public_bytes(kit.DER)
    )
    with refused(MALFORMED):
        check(dataclasses.replace(kit.collateral(kit.snp()), vek=der))


def test_dates_after_2049_are_read() -> None:
    simulated = kit.snp()
    spans = {"vek": (kit.CREATED, 2_600_000_000)}
    held = simulated.collateral(kit.NOW, dates=spans)
    assert prepare(held, kit.roots(simulated), kit.NOW).vek.validity.end == 2_600_000_001


# ------------------------------------------------------------------------------------------------ dates


@pytest.mark.parametrize("name", ["signer", "vek"])
def test_dates_of_certificates_are_inclusive(name: str) -> None:
    simulated = kit.snp()
    held = simulated.collateral(kit.NOW, dates={name: (kit.NOW - 10, kit.NOW + 10)})
    for now, code in (
        (kit.NOW - 11, EvidenceCode.CERTIFICATE_EARLY),
        (kit.NOW - 10, None),
        (kit.NOW + 10, None),
        (kit.NOW + 11, EvidenceCode.CERTIFICATE_EXPIRED),
    ):
        if code is None:
            prepare(held, kit.roots(simulated), now)
            continue
        with refused(code):
            prepare(held, kit.roots(simulated), now)


def test_the_next_update_of_a_list_is_exclusive() -> None:
    simulated = kit.snp()
    held = simulated.collateral(kit.NOW, dates={"crl": (kit.NOW - 10, kit.NOW + 10)})
    for now, code in (
        (kit.NOW - 11, EvidenceCode.CRL_EARLY),
        (kit.NOW - 10, None),
        (kit.NOW + 9, None),
        (kit.NOW + 10, EvidenceCode.CRL_EXPIRED),
    ):
        if code is None:
            assert prepare(held, kit.roots(simulated), now).expires == kit.NOW + 10
            continue
        with refused(code):
            prepare(held, kit.roots(simulated), now)


# ------------------------------------------------------------------------------------------------ revocation


@pytest.mark.parametrize("name", ["signer", "vek"])
@pytest.mark.parametrize("signing_key", [SigningKey.VCEK, SigningKey.VLEK])
def test_a_revoked_certificate_is_refused(name: str, signing_key: SigningKey) -> None:
    simulated = kit.snp(Product.MILAN, signing_key, revoked=(name,))
    with refused(EvidenceCode.CERTIFICATE_REVOKED):
        check(kit.collateral(simulated), simulated)


CRL_CASES: dict[str, tuple[dict[str, Any], ErrorCode]] = {
    "is of another authority": ({"issuer": "ARK-Genoa"}, EvidenceCode.CRL_ISSUER),
    "has no next update": ({"end": None}, EvidenceCode.CRL_MALFORMED),
    "is a part of one": (
        {"extensions": {encode_oid("2.5.29.28"): (True, bytes.fromhex("30038401ff"))}},
        EvidenceCode.CRL_MALFORMED,
    ),
    "says uncritically that it is a part of one": (
        {"extensions": {encode_oid("2.5.29.28"): (False, bytes.fromhex("30038401ff"))}},
        EvidenceCode.CRL_MALFORMED,
    ),
    "has another critical extension": (
        {"extensions": {encode_oid("1.2.3.4"): (True, b"\x05\x00")}},
        EvidenceCode.CRL_MALFORMED,
    ),
    "is a difference of one": (
        {"extensions": {encode_oid("2.5.29.27"): (True, integer(1))}},
        EvidenceCode.CRL_MALFORMED,
    ),
}


@pytest.mark.parametrize("case", CRL_CASES)
def test_a_revocation_list_is_refused_that(case: str) -> None:
    changes, code = CRL_CASES[case]
    with refused(code):
        check(issued({"crl": changes}))


def test_an_uncritical_extension_of_a_revocation_list_changes_nothing() -> None:
    check(issued({"crl": {"extensions": {encode_oid("1.2.3.4"): (False, b"\x05\x00")}}}))


def test_a_revocation_list_that_its_authority_did_not_sign_is_refused() -> None:
    with refused(EvidenceCode.CRL_SIGNATURE):
        check(issued({}, signers={"crl": kit.keys().ask}))


def test_bytes_that_are_no_revocation_list_are_refused() -> None:
    held = kit.collateral(kit.snp())
    for crl in (b"\0", held.crl[:-1], held.crl + b"\0", bytes(MAX_CRL + 1)):
        with refused(EvidenceCode.CRL_MALFORMED):
            check(dataclasses.replace(held, crl=crl))


def test_an_authentic_list_that_no_parser_reads_is_refused() -> None:
    tbs = element(0x30, integer(1))
    crl = element(0x30, tbs + PSS_ALGORITHMS[0] + element(3, b"\0" + sign_pss(kit.keys().ark, tbs)))
    with refused(EvidenceCode.CRL_MALFORMED):
        check(dataclasses.replace(kit.collateral(kit.snp()), crl=crl))


@pytest.mark.parametrize("span", [(kit.NOW - 10, FAR), (FAR, FAR + 1)])
def test_a_list_with_a_date_of_the_year_0_is_refused(span: tuple[int, int]) -> None:
    held = kit.snp().collateral(kit.NOW, dates={"crl": span})
    crl = in_the_year_0(held.crl, lambda tbs: sign_pss(kit.keys().ark, tbs))
    with refused(EvidenceCode.CRL_MALFORMED) as caught:
        check(dataclasses.replace(held, crl=crl))
    assert "cannot be parsed" in caught.value.message


def test_without_a_list_the_result_says_so() -> None:
    simulated = kit.snp(crl=False)
    found = kit.verify(simulated)
    assert kit.collateral(simulated).crl == b""
    assert not found.revocation_checked
    assert found.issued == kit.CREATED - 86400
    assert kit.verify().revocation_checked
    assert kit.verify().issued == kit.NOW - 3600


# ------------------------------------------------------------------------------------------------ totality


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_an_authentic_certificate_of_any_content_is_refused_in_the_documented_way(content: bytes) -> None:
    tbs = element(0x30, content)
    der = element(0x30, tbs + PSS_ALGORITHMS[0] + element(3, b"\0" + kit.signature(tbs)))
    with pytest.raises(EvidenceError):
        check(dataclasses.replace(kit.collateral(kit.snp()), vek=der))


def test_the_simulators_signatures_are_those_of_the_standard() -> None:
    key = kit.keys().ark
    signature = sign_pss(key, b"message")
    assert signature == sign_pss(key, b"message")
    key.public_key().verify(signature, b"message", padding.PSS(padding.MGF1(hashes.SHA384()), 48), hashes.SHA384())
