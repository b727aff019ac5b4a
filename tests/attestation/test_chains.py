"""Certificates and revocation lists that a careless verifier would take: each is refused with its own code."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attestation import evidence
from attestation.der import BIT_STRING, INTEGER, SEQUENCE, DerReader
from attestation.errors import EvidenceCode
from attestation.evidence import Roots
from attestation.intel import pem
from attestation.intel.certificates import PCK, PCK_CA, SGX_EXTENSION, Certificate, read_issued, read_root
from attestation.intel.collateral import IntelCollateral
from attestation.intel.crl import MAX_CRL, read_crl
from attestation.intel.pck import extension_of
from attestation.sim.extension import element, encode_extension
from attestation.sim.pki import YEAR, Authority, Profile, certify, derive_key, revocation_list
from tests.attestation import kit, year0
from tests.attestation.kit import CREATED, NOW, SEED, refused
from tests.attestation.year0 import FAR

PKI = kit.platform().pki
SPAN = (CREATED, CREATED + YEAR)
CA_NAME, LEAF_NAME = "PCK Processor CA", "PCK Certificate"
EXTENSION = ((SGX_EXTENSION, encode_extension(PKI.extension)),)


def issue(profile: Profile, issuer: Authority | None = PKI.root, key: str = "fresh") -> Authority:
    return certify(profile, derive_key(SEED, key), issuer, serial=77, start=SPAN[0], end=SPAN[1])


def root() -> tuple[Certificate, Any]:
    return read_root(PKI.root.der, kit.sim_roots())


def as_ca(der: bytes) -> Certificate:
    certificate, anchor = root()
    return read_issued(der, certificate, PCK_CA, anchor)


# ------------------------------------------------------------------------------------------------------- roles


def test_a_good_ca_is_read() -> None:
    assert as_ca(issue(Profile(CA_NAME)).der).common_name.endswith(CA_NAME)
    assert as_ca(issue(Profile("PCK Platform CA")).der).role is PCK_CA


@pytest.mark.parametrize(
    ("profile", "code"),
    [
        (Profile(CA_NAME, authority=False), EvidenceCode.CHAIN_ROLE),
        (Profile("TCB Signing"), EvidenceCode.CHAIN_ROLE),
        (Profile("PCK Processor CA of somebody"), EvidenceCode.CHAIN_ROLE),
        (Profile(CA_NAME, marked=False), EvidenceCode.CHAIN_NOT_SIMULATED),
        (
            Profile(CA_NAME, extra=((x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"),)),
            EvidenceCode.CERTIFICATE_MALFORMED,
        ),
    ],
)
def test_a_certificate_serves_only_its_own_role(profile: Profile, code: EvidenceCode) -> None:
    with refused(code):
        as_ca(issue(profile).der)


def test_a_ca_of_another_issuer_is_refused() -> None:
    impostor = issue(Profile("Root CA"), None, "impostor")
    with refused(EvidenceCode.CHAIN_SIGNATURE):
        as_ca(issue(Profile(CA_NAME), impostor).der)


def test_a_ca_that_names_another_issuer_is_refused() -> None:
    """The root's key, under another name."""
    renamed = dataclasses.replace(issue(Profile("Other Root CA"), None, "x"), key=PKI.root.key)
    with refused(EvidenceCode.CHAIN_NAMES):
        as_ca(issue(Profile(CA_NAME), renamed).der)


@pytest.mark.parametrize("der", [b"", b"\x30\x00", b"\x30\x03\x02\x01\x00", b"junk", PKI.pck_ca.der + b"\0"])
def test_bytes_that_are_no_certificate_are_refused(der: bytes) -> None:
    with refused(EvidenceCode.CERTIFICATE_MALFORMED):
        as_ca(der)


def built(key: Any, *extensions: tuple[x509.ExtensionType, bool], algorithm: Any = None) -> bytes:
    """A certificate of the simulated root with exactly these extensions."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Strongroom Simulated SGX {CA_NAME}")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(PKI.root.certificate.subject)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(datetime.fromtimestamp(SPAN[0], UTC))
        .not_valid_after(datetime.fromtimestamp(SPAN[1], UTC))
    )
    mark = x509.UnrecognizedExtension(
        x509.ObjectIdentifier("2.25.119772707208057421482615936699027391313"), b"\x05\x00"
    )
    for value, critical in ((mark, False), *extensions):
        builder = builder.add_extension(value, critical)
    return builder.sign(PKI.root.key, algorithm or hashes.SHA256()).public_bytes(Encoding.DER)


def usage(**changed: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: changed.get(name, name in {"key_cert_sign", "crl_sign"}) for name in names})


CONSTRAINTS = (x509.BasicConstraints(True, 0), True)
P256 = derive_key(SEED, "built")


def test_a_certificate_built_by_hand_passes_where_it_follows_the_profile() -> None:
    assert as_ca(built(P256, CONSTRAINTS, (usage(), True)))


@pytest.mark.parametrize(
    ("der", "code"),
    [
        (lambda: built(P256, (usage(), True)), EvidenceCode.CERTIFICATE_MALFORMED),
        (lambda: built(P256, CONSTRAINTS), EvidenceCode.CERTIFICATE_MALFORMED),
        (lambda: built(P256, CONSTRAINTS, (usage(crl_sign=False), True)), EvidenceCode.CHAIN_ROLE),
        (lambda: built(P256, CONSTRAINTS, (usage(key_cert_sign=False), True)), EvidenceCode.CHAIN_ROLE),
        (lambda: built(P256, CONSTRAINTS, (usage(), False)), EvidenceCode.CHAIN_ROLE),
        (lambda: built(P256, (x509.BasicConstraints(True, 0), False), (usage(), True)), EvidenceCode.CHAIN_ROLE),
        (
            lambda: built(ec.derive_private_key(5, ec.SECP384R1()), CONSTRAINTS, (usage(), True)),
            EvidenceCode.CERTIFICATE_MALFORMED,
        ),
        (
            lambda: built(P256, CONSTRAINTS, (usage(), True), algorithm=hashes.SHA384()),
            EvidenceCode.CERTIFICATE_MALFORMED,
        ),
    ],
)
def test_constraints_usage_curve_and_algorithm_are_the_profiles(der: Any, code: EvidenceCode) -> None:
    with refused(code):
        as_ca(der())


def test_a_signature_that_is_no_whole_number_of_bytes_is_refused() -> None:
    der = PKI.pck_ca.der
    signature = der.index(b"\x03", len(der) - 75)
    assert der[signature + 2] == 0
    with refused(EvidenceCode.CERTIFICATE_MALFORMED):
        as_ca(der[: signature + 2] + b"\x01" + der[signature + 3 :])


def test_a_pck_certificate_without_the_sgx_extension_is_refused() -> None:
    certificate, anchor = root()
    ca = read_issued(PKI.pck_ca.der, certificate, PCK_CA, anchor)
    leaf = issue(Profile(LEAF_NAME, authority=False), PKI.pck_ca)
    with refused(EvidenceCode.PCK_EXTENSION):
        extension_of(read_issued(leaf.der, ca, PCK, anchor))


def authentic(tbs: bytes, issuer: Authority) -> bytes:
    """Any bytes as the to-be-signed part, with the issuer's signature."""
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    signature = issuer.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return element(SEQUENCE, tbs + algorithm + element(BIT_STRING, b"\0" + signature))


def test_signed_bytes_that_are_no_certificate_are_refused() -> None:
    with refused(EvidenceCode.CERTIFICATE_MALFORMED):
        as_ca(authentic(element(SEQUENCE, b"\x02\x01\x05"), PKI.root))


def in_the_year_0(der: bytes, issuer: Authority) -> bytes:
    return year0.in_the_year_0(der, lambda tbs: issuer.key.sign(tbs, ec.ECDSA(hashes.SHA256())))


def test_dates_of_the_year_0_are_none() -> None:
    """They are DER, and no dates of a calendar; they are held against nothing, and refused."""
    der = certify(Profile(CA_NAME), derive_key(SEED, "far"), PKI.root, serial=7, start=CREATED, end=FAR).der
    with refused(EvidenceCode.CERTIFICATE_MALFORMED):
        as_ca(in_the_year_0(der, PKI.root))
    for span in ((NOW, FAR), (FAR, FAR + 9)):
        der = in_the_year_0(revocation_list(PKI.pck_ca, [], *span), PKI.pck_ca)
        with refused(EvidenceCode.CRL_MALFORMED):
            read_crl(der, ca_certificate())


# ------------------------------------------------------------------------------------------------------- roots


def test_roots_are_made_by_name_only() -> None:
    with pytest.raises(TypeError):
        Roots(None, ())
    with pytest.raises(ValueError, match="32 bytes"):
        Roots.simulated_fingerprints(b"short")


def test_roots_show_what_they_pin_and_compare_by_it() -> None:
    assert Roots.vendor() == Roots.vendor()
    assert len({Roots.vendor(), Roots.vendor(), kit.sim_roots()}) == 2
    assert "hardware" in repr(Roots.vendor())
    assert "simulated" in repr(kit.sim_roots())
    der = PKI.root.der
    assert Roots.simulated(der) == Roots.simulated_fingerprints(hashlib.sha256(der).digest()) == kit.sim_roots()


@pytest.mark.parametrize("certificate", [b"", b"-----BEGIN CERTIFICATE-----\n", b"junk"])
def test_a_root_that_is_no_certificate_is_refused(certificate: bytes) -> None:
    with refused(EvidenceCode.CERTIFICATE_MALFORMED):
        Roots.simulated(certificate)
    with refused(EvidenceCode.CERTIFICATE_MALFORMED):
        Roots.dangerous_replacement(certificate)


def test_an_unmarked_root_is_no_simulated_root() -> None:
    with refused(EvidenceCode.CHAIN_NOT_SIMULATED):
        Roots.simulated(issue(Profile("Root CA", marked=False), None).der)


def test_a_replaced_root_verifies_unmarked_evidence_as_hardware() -> None:
    """What a vendor's test system would look like: the simulator's formats without its marks."""
    test_root = issue(Profile("Root CA", marked=False), None, "r")
    certificate, anchor = read_root(test_root.der, Roots.dangerous_replacement(test_root.der))
    assert not anchor.simulated
    assert read_issued(issue(Profile(CA_NAME, marked=False), test_root).der, certificate, PCK_CA, anchor)


# ----------------------------------------------------------------------------------------------------- quotes


def with_chain(*certificates: bytes, tail: bytes = b"\0") -> bytes:
    quote = kit.parsed()
    return dataclasses.replace(quote, certification_data=pem.encode_chain(*certificates) + tail).serialize()


def test_chains_of_another_length_or_order_are_refused() -> None:
    leaf, ca, top = PKI.pck.der, PKI.pck_ca.der, PKI.root.der
    kit.verify_sim(with_chain(leaf, ca, top))
    for chain, code in (
        ((leaf, ca), EvidenceCode.CHAIN_LENGTH),
        ((leaf, ca, top, top), EvidenceCode.CHAIN_LENGTH),
        ((ca, leaf, top), EvidenceCode.CHAIN_SIGNATURE),
        ((leaf, top, ca), EvidenceCode.CHAIN_ROOT),
        ((leaf, top, top), EvidenceCode.CHAIN_ROLE),
    ):
        with refused(code):
            kit.verify_sim(with_chain(*chain))


def test_a_renewed_certificate_of_the_same_ca_is_accepted() -> None:
    renewed = certify(Profile(CA_NAME), PKI.pck_ca.key, PKI.root, serial=99, start=SPAN[0], end=SPAN[1])
    assert kit.verify_sim(with_chain(PKI.pck.der, renewed.der, PKI.root.der)).expires <= SPAN[1] + 1
    with refused(EvidenceCode.CERTIFICATE_EXPIRED):
        short = certify(Profile(CA_NAME), PKI.pck_ca.key, PKI.root, serial=99, start=SPAN[0], end=NOW - 1)
        kit.verify_sim(with_chain(PKI.pck.der, short.der, PKI.root.der))


def test_the_revocation_list_must_be_of_the_quotes_own_ca() -> None:
    other = certify(Profile("PCK Platform CA"), PKI.pck_ca.key, PKI.root, serial=99, start=SPAN[0], end=SPAN[1])
    with refused(EvidenceCode.CRL_ISSUER):
        kit.verify_sim(with_chain(PKI.pck.der, other.der, PKI.root.der))
    stranger = issue(Profile(CA_NAME))
    leaf = issue(Profile(LEAF_NAME, authority=False, extra=EXTENSION), stranger, "leaf")
    with refused(EvidenceCode.CRL_ISSUER):
        kit.verify_sim(with_chain(leaf.der, stranger.der, PKI.root.der))


def test_a_revoked_ca_in_the_quote_is_refused_even_where_the_collateral_has_another_certificate() -> None:
    renewed = certify(Profile(CA_NAME), PKI.pck_ca.key, PKI.root, serial=99, start=SPAN[0], end=SPAN[1])
    crl = revocation_list(PKI.root, [99], *kit.dates()["root-crl"])
    collateral = dataclasses.replace(kit.platform().collateral(NOW), root_ca_crl=crl)
    kit.verify_sim(collateral=collateral)
    with refused(EvidenceCode.CERTIFICATE_REVOKED):
        kit.verify_sim(with_chain(PKI.pck.der, renewed.der, PKI.root.der), collateral)


def test_the_quoting_enclave_is_held_to_its_identity() -> None:
    """Anyone with a PCK could have another enclave report an attestation key: its signer gives it away."""
    quote = kit.parsed()
    for changes, name in (
        ({"mr_signer": bytes(32)}, "MRSIGNER"),
        ({"isv_prod_id": 2}, "ISVPRODID"),
        ({"misc_select": 1}, "MISCSELECT"),
        ({"flags": quote.qe_report.flags | 2}, "ATTRIBUTES"),
    ):
        report = dataclasses.replace(quote.qe_report, **changes)  # type: ignore[arg-type]
        forged = dataclasses.replace(quote, qe_report=report, qe_report_signature=PKI.pck.sign_raw(report.serialize()))
        with refused(EvidenceCode.QE_REPORT_IDENTITY) as caught:
            kit.verify_sim(forged.serialize())
        assert name in caught.value.message


def test_report_data_of_the_quoting_enclave_must_end_in_zeros() -> None:
    quote = kit.parsed()
    report = dataclasses.replace(quote.qe_report, report_data=quote.qe_report.report_data[:32] + b"\1" + bytes(31))
    forged = dataclasses.replace(quote, qe_report=report, qe_report_signature=PKI.pck.sign_raw(report.serialize()))
    with refused(EvidenceCode.QE_REPORT_BINDING):
        kit.verify_sim(forged.serialize())


def test_an_attestation_key_that_is_no_point_is_refused() -> None:
    quote = kit.parsed()
    key = bytes(64)
    bound = hashlib.sha256(key + quote.qe_auth_data).digest() + bytes(32)
    report = dataclasses.replace(quote.qe_report, report_data=bound)
    signature = PKI.pck.sign_raw(report.serialize())
    forged = dataclasses.replace(quote, attestation_key=key, qe_report=report, qe_report_signature=signature)
    with refused(EvidenceCode.ATTESTATION_KEY):
        kit.verify_sim(forged.serialize())


# -------------------------------------------------------------------------------------------------------- crl


def ca_certificate() -> Certificate:
    return as_ca(PKI.pck_ca.der)


def crl_builder(issuer: Authority = PKI.pck_ca) -> x509.CertificateRevocationListBuilder:
    return (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(datetime.fromtimestamp(NOW, UTC))
        .next_update(datetime.fromtimestamp(NOW + 9, UTC))
    )


def signed(builder: x509.CertificateRevocationListBuilder) -> bytes:
    return builder.sign(PKI.pck_ca.key, hashes.SHA256()).public_bytes(Encoding.DER)


def altered(data: bytes) -> bytes:
    """The same but for its last byte, whatever that is."""
    return data[:-1] + bytes([data[-1] ^ 1])


def test_a_list_gives_its_serial_numbers() -> None:
    crl = read_crl(revocation_list(PKI.pck_ca, [1, 2**150], NOW, NOW + 9), ca_certificate())
    assert crl.revoked == {1, 2**150}
    assert (crl.validity.start, crl.validity.end) == (NOW, NOW + 9)


@pytest.mark.parametrize(
    ("der", "code"),
    [
        (lambda: b"", EvidenceCode.CRL_MALFORMED),
        (lambda: b"\x30\x00", EvidenceCode.CRL_MALFORMED),
        (lambda: bytes(MAX_CRL + 1), EvidenceCode.CRL_MALFORMED),
        (lambda: signed(crl_builder()) + b"\0", EvidenceCode.CRL_MALFORMED),
        (lambda: altered(signed(crl_builder())), EvidenceCode.CRL_SIGNATURE),
        (lambda: revocation_list(PKI.root, [], NOW, NOW + 9), EvidenceCode.CRL_SIGNATURE),
        (lambda: signed(crl_builder(PKI.root)), EvidenceCode.CRL_ISSUER),
        (lambda: signed(crl_builder().add_extension(x509.DeltaCRLIndicator(1), True)), EvidenceCode.CRL_MALFORMED),
        (lambda: PKI.pck_ca.der, EvidenceCode.CRL_SIGNATURE),
    ],
)
def test_a_bad_list_is_refused(der: Any, code: EvidenceCode) -> None:
    with refused(code):
        read_crl(der(), ca_certificate())


def test_a_certificate_signed_by_the_ca_is_no_revocation_list() -> None:
    with refused(EvidenceCode.CRL_MALFORMED):
        read_crl(PKI.pck.der, ca_certificate())


def test_a_list_without_a_next_update_is_refused() -> None:
    tbs = DerReader(signed(crl_builder()), EvidenceCode.CRL_MALFORMED).inside(SEQUENCE).inside(SEQUENCE)
    parts = [tbs.element(tag) for tag in (INTEGER, SEQUENCE, SEQUENCE, 0x17)]
    with refused(EvidenceCode.CRL_MALFORMED) as caught:
        read_crl(authentic(element(SEQUENCE, b"".join(parts)), PKI.pck_ca), ca_certificate())
    assert "no next update" in caught.value.message


# -------------------------------------------------------------------------------------------------- collateral


def changed(**parts: bytes) -> IntelCollateral:
    return dataclasses.replace(kit.platform().collateral(NOW), **parts)


CHAIN = pem.encode_chain


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ({"tcb_info_signature": bytes(64)}, EvidenceCode.TCB_INFO_SIGNATURE),
        ({"tcb_info_signature": b""}, EvidenceCode.TCB_INFO_SIGNATURE),
        ({"qe_identity_signature": bytes(64)}, EvidenceCode.QE_IDENTITY_SIGNATURE),
        ({"pck_crl_issuer_chain": CHAIN(PKI.tcb_signing.der, PKI.root.der)}, EvidenceCode.CHAIN_ROLE),
        ({"tcb_info_issuer_chain": CHAIN(PKI.pck_ca.der, PKI.root.der)}, EvidenceCode.CHAIN_ROLE),
        ({"qe_identity_issuer_chain": CHAIN(PKI.pck_ca.der, PKI.root.der)}, EvidenceCode.CHAIN_ROLE),
        ({"tcb_info_issuer_chain": CHAIN(PKI.pck.der, PKI.root.der)}, EvidenceCode.CHAIN_SIGNATURE),
        ({"pck_crl_issuer_chain": CHAIN(PKI.pck_ca.der, PKI.pck_ca.der)}, EvidenceCode.CHAIN_ROOT),
        ({"tcb_info_issuer_chain": CHAIN(PKI.tcb_signing.der, PKI.root.der[:-1] + b"\0")}, EvidenceCode.CHAIN_ROOT),
        ({"qe_identity_issuer_chain": CHAIN(PKI.tcb_signing.der)}, EvidenceCode.CHAIN_LENGTH),
        ({"qe_identity_issuer_chain": b"none"}, EvidenceCode.PEM_MALFORMED),
        ({"root_ca_crl": b""}, EvidenceCode.CRL_MALFORMED),
        ({"pck_crl": b""}, EvidenceCode.CRL_MALFORMED),
    ],
)
def test_a_broken_part_of_collateral_is_refused(parts: dict[str, bytes], code: EvidenceCode) -> None:
    with refused(code):
        evidence.prepare(changed(**parts), kit.sim_roots(), NOW)


def test_the_lists_of_root_and_ca_are_not_interchangeable() -> None:
    good = kit.platform().collateral(NOW)
    with refused(EvidenceCode.CRL_SIGNATURE):
        evidence.prepare(changed(root_ca_crl=good.pck_crl), kit.sim_roots(), NOW)
    with refused(EvidenceCode.CRL_SIGNATURE):
        evidence.prepare(changed(pck_crl=good.root_ca_crl), kit.sim_roots(), NOW)


def test_tcb_info_and_qe_identity_are_not_interchangeable() -> None:
    good = kit.platform().collateral(NOW)
    tcb = {"tcb_info": good.qe_identity, "tcb_info_signature": good.qe_identity_signature}
    with refused(EvidenceCode.TCB_INFO_UNSUPPORTED):
        evidence.prepare(changed(**tcb), kit.sim_roots(), NOW)
    identity = {"qe_identity": good.tcb_info, "qe_identity_signature": good.tcb_info_signature}
    with refused(EvidenceCode.QE_IDENTITY_UNSUPPORTED):
        evidence.prepare(changed(**identity), kit.sim_roots(), NOW)
