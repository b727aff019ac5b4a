"""Where one check stands behind another: each of these holds though its neighbours are satisfied."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from attestation import evidence
from attestation.appraise import appraise
from attestation.errors import EvidenceCode, FindingCode
from attestation.evidence import Roots
from attestation.intel import pem, tcb
from attestation.intel.certificates import TCB_SIGNING, read_issued, read_root
from attestation.intel.collateral import IntelCollateral
from attestation.intel.crl import MAX_CRL, read_crl
from attestation.policy import SgxPolicy
from attestation.roots import SIMULATION_EXTENSION
from attestation.sim.pki import YEAR, Authority, Profile, certify, derive_key, revocation_list
from tests.attestation import kit
from tests.attestation.kit import CREATED, NOW, REPORT_DATA, SEED, policy, refused
from tests.tdx import kit as tdx_kit

PKI = kit.platform().pki
SERIAL = 4711


# ------------------------------------------------------------------------- two signers of collateral, one for each


def signer(end: int = CREATED + YEAR) -> Authority:
    """A second TCB signing certificate."""
    key = derive_key(SEED, "second signer")
    return certify(Profile("TCB Signing", authority=False), key, PKI.root, serial=SERIAL, start=CREATED, end=end)


def identity_signed_by(authority: Authority) -> IntelCollateral:
    good = kit.platform().collateral(NOW)
    return dataclasses.replace(
        good,
        qe_identity_issuer_chain=pem.encode_chain(authority.der, PKI.root.der),
        qe_identity_signature=authority.sign_raw(good.qe_identity),
    )


def info_signed_by(authority: Authority) -> IntelCollateral:
    good = kit.platform().collateral(NOW)
    return dataclasses.replace(
        good,
        tcb_info_issuer_chain=pem.encode_chain(authority.der, PKI.root.der),
        tcb_info_signature=authority.sign_raw(good.tcb_info),
    )


SIGNED = pytest.mark.parametrize("signed_by", [identity_signed_by, info_signed_by])
SignedBy = Callable[[Authority], IntelCollateral]


@SIGNED
def test_tcb_info_and_qe_identity_may_have_signers_of_their_own(signed_by: SignedBy) -> None:
    kit.verify_sim(collateral=signed_by(signer()))


@SIGNED
def test_each_signer_may_have_been_revoked(signed_by: SignedBy) -> None:
    crl = revocation_list(PKI.root, [SERIAL], *kit.dates()["root-crl"])
    with refused(EvidenceCode.CERTIFICATE_REVOKED):
        evidence.prepare(dataclasses.replace(signed_by(signer()), root_ca_crl=crl), kit.sim_roots(), NOW)


@SIGNED
def test_each_signer_may_have_expired(signed_by: SignedBy) -> None:
    with refused(EvidenceCode.CERTIFICATE_EXPIRED):
        evidence.prepare(signed_by(signer(end=NOW - 1)), kit.sim_roots(), NOW)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("root-crl", EvidenceCode.CRL_EARLY),
        ("pck-crl", EvidenceCode.CRL_EARLY),
        ("tcb-info", EvidenceCode.TCB_INFO_EARLY),
        ("qe-identity", EvidenceCode.QE_IDENTITY_EARLY),
    ],
)
def test_collateral_is_not_prepared_while_a_part_of_it_is_not_valid(name: str, code: EvidenceCode) -> None:
    early = dict(kit.dates(), **{name: (NOW + 1, NOW + 100)})
    with refused(code):
        evidence.prepare(kit.platform().collateral_with(early), kit.sim_roots(), NOW)


@pytest.mark.parametrize("name", ["pck-crl", "tcb-info", "qe-identity"])
def test_collateral_is_as_old_as_the_oldest_of_what_grows_stale(name: str) -> None:
    older = dict(kit.dates(), **{name: (NOW - 9999, NOW + 9999)})
    assert kit.verify_sim(collateral=kit.platform().collateral_with(older)).issued == NOW - 9999


@pytest.mark.parametrize(("info", "identity"), [(16, 17), (17, 16)])
def test_the_lower_evaluation_number_counts(info: int, identity: int) -> None:
    good = kit.verify_sim()
    documents = kit.platform().collateral(NOW)
    parsed = (
        tcb.parse_tcb_info(numbered(documents.tcb_info, info)),
        tcb.parse_qe_identity(numbered(documents.qe_identity, identity)),
    )
    assert tcb.verdict(*parsed, good.pck, good.quote.qe_report).evaluation_number == 16


@pytest.mark.parametrize(("info", "identity"), [(16, 17), (17, 16)])
def test_the_lower_evaluation_number_counts_for_trust_domains(info: int, identity: int) -> None:
    good = tdx_kit.verify_sim()
    documents = tdx_kit.platform().collateral(tdx_kit.NOW)
    parsed = (
        tcb.parse_tcb_info(numbered(documents.tcb_info, info)),
        tcb.parse_qe_identity(numbered(documents.qe_identity, identity)),
    )
    assert tcb.td_verdict(*parsed, good.pck, good.quote.qe_report, good.quote.body).evaluation_number == 16


def numbered(document: bytes, number: int) -> bytes:
    return json.dumps(json.loads(document) | {"tcbEvaluationDataNumber": number}).encode()


# ------------------------------------------------------------------------------------------------------ certificates


def leaf(*, authority: bool = False, **usage: bool) -> bytes:
    """A TCB signing certificate of the simulated root, with one thing that a leaf may not have."""
    named = {"digital_signature": True} | usage
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    names += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Strongroom Simulated SGX TCB Signing")]))
        .issuer_name(PKI.root.certificate.subject)
        .public_key(derive_key(SEED, "leaf").public_key())
        .serial_number(5)
        .not_valid_before(datetime.fromtimestamp(CREATED, UTC))
        .not_valid_after(datetime.fromtimestamp(CREATED + YEAR, UTC))
        .add_extension(x509.UnrecognizedExtension(SIMULATION_EXTENSION, b"\x05\x00"), critical=False)
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(x509.KeyUsage(**{name: named.get(name, False) for name in names}), critical=True)
    )
    return builder.sign(PKI.root.key, hashes.SHA256()).public_bytes(Encoding.DER)


def as_signer(der: bytes) -> None:
    root, anchor = read_root(PKI.root.der, kit.sim_roots())
    read_issued(der, root, TCB_SIGNING, anchor)


def test_a_leaf_signs_and_nothing_else() -> None:
    as_signer(leaf())
    for der in (
        leaf(authority=True),
        leaf(key_cert_sign=True),
        leaf(crl_sign=True),
        leaf(digital_signature=False),
    ):
        with refused(EvidenceCode.CHAIN_ROLE):
            as_signer(der)


def test_a_root_is_its_own_issuer() -> None:
    """Pinned, marked and named as a root, but issued by another name."""
    other = dataclasses.replace(PKI.root, certificate=PKI.pck_ca.certificate)
    profile = Profile("Root CA")
    issued = certify(profile, PKI.root.key, other, serial=1, start=CREATED, end=CREATED + YEAR)
    with refused(EvidenceCode.CHAIN_NAMES):
        read_root(issued.der, Roots.simulated(issued.der))


def test_an_oversized_revocation_list_is_not_parsed() -> None:
    root, _ = read_root(PKI.root.der, kit.sim_roots())
    with refused(EvidenceCode.CRL_MALFORMED) as caught:
        read_crl(bytes(MAX_CRL + 1), root)
    assert "too large" in caught.value.message


# -------------------------------------------------------------------------------------------------------- appraisals


def test_a_table_that_names_no_enclave_admits_none() -> None:
    """Loading refuses it; one that is made in code must not admit everything either."""
    vacuous = dataclasses.replace(policy(), tables={"sgx": SgxPolicy()})
    failed = {finding.code for finding in appraise(kit.verify_sim(), vacuous, NOW, report_data=REPORT_DATA).failed}
    assert failed == {FindingCode.MRENCLAVE, FindingCode.MRSIGNER}


def test_evidence_is_valid_until_before_it_expires() -> None:
    verified = kit.verify_sim()
    for now, accepted in (
        (verified.issued - 1, False),
        (verified.issued, True),
        (verified.expires - 1, True),
        (verified.expires, False),
    ):
        assert appraise(verified, policy(), now, report_data=REPORT_DATA).accepted is accepted
