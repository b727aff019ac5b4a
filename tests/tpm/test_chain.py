"""How an attestation key is trusted: by its own fingerprint, or by a chain of certificates; and what is refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import EvidenceCode
from attestation.roots import SIMULATION_EXTENSION, Hierarchy, Roots
from attestation.sim.pki import DAY, YEAR, Authority
from attestation.sim.rsa_key import derive_rsa_key
from attestation.sim.tpm import sign
from attestation.sim.tpm_pki import TpmProfile, authority, certify_key
from attestation.tpm.algorithms import Scheme
from attestation.tpm.errors import TpmCode
from attestation.tpm.signature import Signature
from attestation.tpm.verify import NO_END
from manifests.errors import ErrorCode
from tests.attestation.kit import CREATED, NOW, REPORT_DATA, SEED, refused
from tests.attestation.year0 import FAR, in_the_year_0
from tests.tpm import kit

END = CREATED + 10 * YEAR
ENDORSEMENT = x509.ObjectIdentifier("2.23.133.8.1")


def chained(*chain: bytes) -> bytes:
    return kit.rebuilt(key_chain=list(chain))


def intermediate(**changes: Any) -> Authority:
    profile = TpmProfile("Intermediate CA", CREATED - DAY, END, authority=True)
    return authority(SEED, replace(profile, **changes), kit.sim().root)


def test_a_chain_up_to_a_pinned_root_is_trusted_until_its_first_certificate_expires() -> None:
    verified = kit.verify()
    assert verified.simulated
    assert verified.root == kit.sim().root_fingerprint
    assert verified.expires == CREATED + 7 * YEAR + 1
    assert verified.issued == NOW


def test_a_longer_chain_is_trusted_too() -> None:
    middle = intermediate()
    data = chained(kit.sim().certificate(middle), middle.der, kit.sim().root.der)
    assert kit.verify(data).root == kit.sim().root_fingerprint


@pytest.mark.parametrize("scheme", list(Scheme))
def test_a_key_that_is_pinned_itself_needs_no_chain(scheme: Scheme) -> None:
    tpm = kit.sim(scheme)
    data = tpm.evidence(REPORT_DATA, container={"key_chain": []})
    verified = kit.verify(data, under=Roots.vendor().with_tpm([tpm.ak_fingerprint]))
    assert verified.root == verified.key == tpm.ak_fingerprint
    assert not verified.simulated
    assert verified.expires == NO_END
    assert kit.verify(data, under=kit.roots().with_tpm([tpm.ak_fingerprint])).simulated


def test_a_key_that_nobody_names_is_refused() -> None:
    data = kit.rebuilt(key_chain=[])
    for roots in (Roots.vendor(), kit.roots(), Roots.vendor().with_tpm([bytes(32)])):
        with refused(EvidenceCode.CHAIN_ROOT):
            kit.verify(data, under=roots)


def test_a_chain_that_is_carried_has_to_hold_even_where_the_key_is_pinned() -> None:
    with refused(EvidenceCode.CHAIN_ROOT):
        kit.verify(under=Roots.vendor().with_tpm([kit.sim().ak_fingerprint]))


def test_no_vendors_root_is_taken_for_a_tpms() -> None:
    with refused(EvidenceCode.CHAIN_ROOT):
        kit.verify(under=Roots.dangerous_replacement(kit.sim().root_pem, Hierarchy.INTEL))


def test_simulated_certificates_are_refused_under_a_root_that_stands_for_hardware() -> None:
    with refused(EvidenceCode.CHAIN_SIMULATED):
        kit.verify(under=Roots.vendor().with_tpm([kit.sim().root_fingerprint]))


def test_unmarked_certificates_are_refused_under_a_simulated_root() -> None:
    with refused(EvidenceCode.CHAIN_NOT_SIMULATED):
        kit.verify(chained(kit.sim().certificate(marked=False), kit.sim().root.der))


def test_an_unmarked_hierarchy_is_hardware_where_the_policy_names_it() -> None:
    root = authority(SEED, TpmProfile("Root CA", CREATED - DAY, END, authority=True, marked=False))
    data = chained(kit.sim().certificate(root, marked=False), root.der)
    assert not kit.verify(data, under=Roots.vendor().with_tpm([hashlib.sha256(root.der).digest()])).simulated


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (CREATED - DAY, None),
        (CREATED - DAY - 1, EvidenceCode.CERTIFICATE_EARLY),
        (CREATED + 7 * YEAR, None),  # the last second of the key's certificate, inclusive
        (CREATED + 7 * YEAR + 1, EvidenceCode.CERTIFICATE_EXPIRED),
    ],
)
def test_dates_of_the_chain_are_inclusive(now: int, code: EvidenceCode | None) -> None:
    if code is None:
        kit.verify(now=now)
        return
    with refused(code):
        kit.verify(now=now)


def _other_key() -> bytes:
    other = kit.sim(Scheme.RSASSA)
    return certify_key(SEED, kit.sim().profile, other.key.public_key(), kit.sim().root)


def _corrupted(der: bytes) -> bytes:
    return der[:-1] + bytes([der[-1] ^ 1])


def _unsigned_by(middle: Authority) -> list[bytes]:
    return [kit.sim().certificate(kit.sim().root), middle.der, kit.sim().root.der]


@pytest.mark.parametrize(
    ("chain", "code"),
    [
        (lambda: [kit.sim().root.der], EvidenceCode.CHAIN_LENGTH),
        (lambda: [*reversed(kit.sim().chain)], EvidenceCode.CHAIN_ROOT),
        (lambda: [kit.sim().certificate(), _corrupted(kit.sim().root.der)], EvidenceCode.CHAIN_ROOT),
        (lambda: [_corrupted(kit.sim().certificate()), kit.sim().root.der], EvidenceCode.CHAIN_SIGNATURE),
        (lambda: _unsigned_by(intermediate()), EvidenceCode.CHAIN_SIGNATURE),
        (lambda: [b"none", kit.sim().root.der], EvidenceCode.CERTIFICATE_MALFORMED),
        (lambda: [kit.sim().certificate() + b"\0", kit.sim().root.der], EvidenceCode.CERTIFICATE_MALFORMED),
        (lambda: [kit.sim().certificate(authority=True), kit.sim().root.der], EvidenceCode.CHAIN_ROLE),
        (lambda: [kit.sim().certificate(purpose=ENDORSEMENT), kit.sim().root.der], EvidenceCode.CHAIN_ROLE),
        (lambda: [_other_key(), kit.sim().root.der], TpmCode.KEY_CERTIFICATE),
    ],
)
def test_another_chain_is_refused(chain: Any, code: ErrorCode) -> None:
    with refused(code):
        kit.verify(chained(*chain()))


def test_a_certificate_without_a_purpose_is_refused() -> None:
    """Any key for signing could have such; where a cloud issues them, a policy can name the key itself."""
    with refused(EvidenceCode.CHAIN_ROLE) as caught:
        kit.verify(chained(kit.sim().certificate(purpose=None), kit.sim().root.der))
    assert caught.value.found == "no extended key usage"
    named = Roots.vendor().with_tpm([kit.sim().ak_fingerprint])
    assert kit.verify(kit.rebuilt(key_chain=[]), under=named).key == kit.sim().ak_fingerprint


def test_an_attestation_key_cannot_certify_another() -> None:
    leaf = TpmProfile("Leaf", CREATED - DAY, END)
    middle = authority(SEED, leaf, kit.sim().root)
    with refused(EvidenceCode.CHAIN_ROLE):
        kit.verify(chained(kit.sim().certificate(middle), middle.der, kit.sim().root.der))


def test_the_path_length_of_an_authority_counts() -> None:
    first = intermediate(path_length=0)
    second = authority(SEED, TpmProfile("Second CA", CREATED - DAY, END, authority=True), first)
    kit.verify(chained(kit.sim().certificate(first), first.der, kit.sim().root.der))
    with refused(EvidenceCode.CHAIN_ROLE):
        kit.verify(chained(kit.sim().certificate(second), second.der, first.der, kit.sim().root.der))


def test_a_certificate_that_names_another_issuer_is_refused() -> None:
    """Signed by the root's key, under another name."""
    renamed = authority(SEED, TpmProfile("Other CA", CREATED - DAY, END, authority=True), kit.sim().root)
    forged = Authority(kit.sim().root.key, renamed.certificate)
    with refused(EvidenceCode.CHAIN_NAMES):
        kit.verify(chained(kit.sim().certificate(forged), kit.sim().root.der))


def signed_elsewhere(public: Any, key: Any, algorithm: Any, *extensions: tuple[x509.ExtensionType, bool]) -> bytes:
    """The key's certificate, built in any way, with the name of the root as its issuer."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(kit.sim().root.certificate.subject)
        .issuer_name(kit.sim().root.certificate.subject)
        .public_key(public)
        .serial_number(1)
        .not_valid_before(datetime.fromtimestamp(CREATED, UTC))
        .not_valid_after(datetime.fromtimestamp(END, UTC))
        .add_extension(x509.UnrecognizedExtension(SIMULATION_EXTENSION, b"\x05\x00"), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


def test_algorithms_below_sha256_are_refused() -> None:
    der = signed_elsewhere(kit.sim().key.public_key(), kit.sim().root.key, hashes.SHA224())
    with refused(TpmCode.ALGORITHM):
        kit.verify(chained(der, kit.sim().root.der))


@pytest.mark.parametrize(
    ("key", "extensions", "code"),
    [
        (kit.sim().key.public_key, (), EvidenceCode.CERTIFICATE_MALFORMED),  # no key usage
        (
            kit.sim().key.public_key,
            ((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),),
            EvidenceCode.CERTIFICATE_MALFORMED,
        ),
        (lambda: ec.generate_private_key(ec.SECP256K1()).public_key(), (), EvidenceCode.CERTIFICATE_MALFORMED),
        (lambda: derive_rsa_key(SEED, "weak", 1024).public_key(), (), TpmCode.KEY_SIZE),
    ],
)
def test_a_certificate_of_another_profile_is_refused(key: Any, extensions: Any, code: ErrorCode) -> None:
    der = signed_elsewhere(key(), kit.sim().root.key, hashes.SHA256(), *extensions)
    with refused(code):
        kit.verify(chained(der, kit.sim().root.der))


def test_a_certificate_with_a_date_of_the_year_0_is_refused() -> None:
    key = kit.sim().root.key
    late = authority(SEED, TpmProfile("Late CA", CREATED - DAY, FAR, authority=True), kit.sim().root)
    der = in_the_year_0(late.der, lambda tbs: key.sign(tbs, ec.ECDSA(hashes.SHA256())))
    with refused(EvidenceCode.CERTIFICATE_MALFORMED) as caught:
        kit.verify(chained(kit.sim().certificate(late), der, kit.sim().root.der))
    assert "cannot be parsed" in caught.value.message


# ------------------------------------------------------------------------------------------- what the key signed


def test_another_signer_is_refused() -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    with refused(TpmCode.SIGNATURE):
        kit.verify(kit.sim().evidence(REPORT_DATA, signer=stranger))


def test_a_signature_in_another_scheme_than_the_keys_is_refused() -> None:
    """The key's public area says RSASSA; PSS of the same key would verify."""
    tpm = kit.sim(Scheme.RSASSA)
    value = kit.opened(tpm.evidence(REPORT_DATA))
    forged = tpm.evidence(REPORT_DATA, container={"signature": sign(tpm.key, Scheme.RSAPSS, value["message"])})
    with refused(TpmCode.SCHEME):
        kit.verify(forged)


def test_a_signature_of_another_kind_of_key_is_refused() -> None:
    with refused(TpmCode.SCHEME):
        kit.verify(kit.rebuilt(signature=kit.opened(kit.sim(Scheme.RSASSA).evidence(REPORT_DATA))["signature"]))


def test_a_digest_of_other_pcrs_is_refused() -> None:
    with refused(TpmCode.PCR_DIGEST):
        kit.verify(kit.sim().evidence(REPORT_DATA, pcr_digest=bytes(32)))


@pytest.mark.parametrize("parent", [b"", bytes(4), bytes.fromhex("40000007"), bytes.fromhex("4000000b"), bytes(34)])
def test_another_parent_is_refused(parent: bytes) -> None:
    with refused(TpmCode.SIGNER_NAME):
        kit.verify(kit.rebuilt(parent=parent))


def test_a_signature_checked_on_its_own_names_the_wrong_kind_of_key() -> None:
    value = kit.opened()
    with refused(TpmCode.SCHEME):
        Signature.parse(value["signature"]).verify(kit.sim(Scheme.RSASSA).key.public_key(), value["message"])
