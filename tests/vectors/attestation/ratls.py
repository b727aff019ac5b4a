"""Cases of RA-TLS certificates around quotes of SGX and TDX."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.errors import EvidenceCode as E
from attestation.errors import FindingCode as F
from attestation.ratls.certificate import LEGACY, TAGGED_EVIDENCE
from attestation.ratls.errors import RatlsCode
from attestation.sim.pki import derive_key
from attestation.sim.ratls import RatlsProfile, certificate, claims_of, ratls_certificate, tagged_evidence
from attestation.sim.rsa_key import derive_rsa_key
from attestation.types import cbor
from manifests.errors import ErrorCode
from tests.attestation.year0 import FAR, in_the_year_0
from tests.vectors.attestation import sgx, tdx
from tests.vectors.attestation.intel import dated_cases, flip
from tests.vectors.attestation.scene import CREATED, NOW, SEED, Scene, merged
from tests.vectors.attestation.vector import Vector

KEY: Final = ec.derive_private_key(0x5A5A5A5A, ec.SECP384R1())
"""On the curve that Gramine uses."""
TWIN: Final = x509.ObjectIdentifier("2.23.133.5.4.10")


def quote(report_data: bytes, mr_enclave: bytes = sgx.MRENCLAVE, platform: Any = None) -> bytes:
    platform = platform or sgx.MACHINE.platform
    data: bytes = platform.quote(platform.report_body(mr_enclave), report_data)
    return data


def td_quote(report_data: bytes, platform: Any = None) -> bytes:
    data: bytes = (platform or tdx.MACHINE.platform).evidence(tdx.MRTD, report_data)
    return data


def spki(key: Any = KEY) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def bound(key: Any = KEY) -> bytes:
    """Report data of the legacy form."""
    return hashlib.sha256(spki(key)).digest() + bytes(32)


@functools.lru_cache(maxsize=1)
def healthy() -> bytes:
    return ratls_certificate(KEY, quote)


SCENE: Final = sgx.SCENE.but(tee="ratls", version=1, evidence=healthy(), report_data=None)


def with_tagged(value: bytes) -> bytes:
    return certificate(KEY, {TAGGED_EVIDENCE: value}, RatlsProfile())


def cases() -> Iterator[Vector]:
    yield from accepted()
    yield from bindings()
    yield from certificates()
    yield from tagged()
    yield from inside()
    yield from dates()


def accepted() -> Iterator[Vector]:
    yield SCENE.accepted("both forms", "The certificate carries tagged evidence, and Gramine's own form.")
    for edge, form in (("tagged alone", {"legacy": False}), ("legacy alone", {"tagged": False})):
        data = ratls_certificate(KEY, quote, **form)
        yield SCENE.accepted(edge, "The certificate carries one form of evidence.", evidence=data)
    for edge, key in (
        ("key on p-256", ec.derive_private_key(7, ec.SECP256R1())),
        ("rsa key", derive_rsa_key(SEED, "ratls")),
    ):
        data = ratls_certificate(key, quote)
        yield SCENE.accepted(edge, "The certificate's key is of another kind.", evidence=data)
    meant = certificate(KEY, {LEGACY[1]: quote(bound())}, RatlsProfile())
    yield SCENE.accepted(
        "legacy under the other identifier", "The identifier is the one that was meant.", evidence=meant
    )
    nonce = with_tagged(tagged_evidence(quote, claims_of(spki(), nonce=b"challenge")))
    yield SCENE.accepted("nonce", "The claims have a nonce beside the key.", evidence=nonce)
    for number, name in ((7, "sha384"), (8, "sha512")):
        entry = cbor.encode([number, hashlib.new(name, spki()).digest()])
        data = with_tagged(tagged_evidence(quote, cbor.encode({"pubkey-hash": entry})))
        yield SCENE.accepted(f"key hashed with {name}", "The claims hash the key otherwise.", evidence=data)
    dated = ratls_certificate(KEY, quote, profile=RatlsProfile(not_before=NOW + 10, not_after=NOW + 20))
    yield SCENE.accepted("dates of the certificate", "Its holder writes them: they are data.", evidence=dated)
    yield _of_a_td(ratls_certificate(KEY, td_quote)).accepted("trust domain", "The evidence inside is of a TD.")


def _of_a_td(data: bytes) -> Scene:
    return tdx.SCENE.but(tee="ratls", version=1, evidence=data, report_data=None)


def bindings() -> Iterator[Vector]:
    stranger = derive_key(SEED, "somebody")
    own = tagged_evidence(quote, claims_of(spki()))
    loose = cbor.encode(cbor.Tag(60000, [quote(bytes(64)), claims_of(spki())]))
    yield SCENE.unparsed(
        "claims of another key", "Somebody else's evidence stands under a key of one's own.", RatlsCode.KEY,
        with_tagged(tagged_evidence(quote, claims_of(spki(stranger)))),
    )  # fmt: skip

    def padded(at: int) -> Any:
        return lambda data: quote(data[:at] + b"\1" + data[at + 1 :])

    other = quote(bound(), bytes([8]) * 32)
    for edge, comment, code, data in (
        ("quote for other claims", "The quote is bound to other claims.", RatlsCode.BINDING, with_tagged(loose)),
        ("legacy quote for another key", "The quote is bound to another key.", RatlsCode.BINDING,
         certificate(KEY, {LEGACY[0]: quote(bytes(64))}, RatlsProfile())),
        ("byte 32 of legacy report data", "All 64 bytes count.", RatlsCode.BINDING,
         ratls_certificate(KEY, padded(32), tagged=False)),
        ("byte 63 of legacy report data", "All 64 bytes count.", RatlsCode.BINDING,
         ratls_certificate(KEY, padded(63), tagged=False)),
        ("byte 63 of tagged report data", "All 64 bytes count.", RatlsCode.BINDING,
         ratls_certificate(KEY, padded(63), legacy=False)),
        ("legacy form broken beside a tagged one", "Both forms have to hold.", RatlsCode.BINDING,
         certificate(KEY, {TAGGED_EVIDENCE: own, LEGACY[0]: quote(bytes(64))}, RatlsProfile())),
        ("quotes of two programs", "One form is of another enclave.", RatlsCode.MIXED,
         certificate(KEY, {TAGGED_EVIDENCE: own, LEGACY[0]: other}, RatlsProfile())),
    ):  # fmt: skip
        yield SCENE.unverified(edge, comment, code, evidence=data)


def _signed_by(key: Any, algorithm: Any) -> bytes:
    """A certificate with another signature algorithm, and the evidence's extension."""
    name = x509.Name([])
    template = x509.load_der_x509_certificate(healthy())
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(template.not_valid_before_utc)
    builder = builder.not_valid_after(template.not_valid_after_utc)
    value = x509.UnrecognizedExtension(TAGGED_EVIDENCE, tagged_evidence(quote, claims_of(spki(key))))
    builder = builder.add_extension(value, critical=False)
    return builder.sign(key, algorithm, ecdsa_deterministic=True).public_bytes(Encoding.DER)


def _year_0(not_before: int, not_after: int) -> bytes:
    """A certificate whose dates in 2060 are in the year 0 instead."""
    profile = RatlsProfile(not_before=not_before, not_after=not_after)
    return in_the_year_0(
        ratls_certificate(KEY, quote, profile=profile),
        lambda tbs: KEY.sign(tbs, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)),
    )


def certificates() -> Iterator[Vector]:
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA")])
    value = tagged_evidence(quote, claims_of(spki()))
    twins = certificate(KEY, {TAGGED_EVIDENCE: value}, RatlsProfile(extensions=((TWIN, value),)))
    first, second = bytes.fromhex("0606678105050409"), bytes.fromhex("060667810505040a")
    table: tuple[tuple[str, str, ErrorCode, bytes], ...] = (
        ("signed by another key", "The certificate is not signed by its own key.", RatlsCode.SIGNATURE,
         ratls_certificate(KEY, quote, profile=RatlsProfile(signer=derive_key(SEED, "other")))),
        ("signed by an rsa key", "The signature is of another kind than the key.", RatlsCode.SIGNATURE,
         ratls_certificate(KEY, quote, profile=RatlsProfile(signer=derive_rsa_key(SEED, "ratls")))),
        ("named issuer", "The certificate names an issuer.", RatlsCode.SIGNATURE,
         ratls_certificate(KEY, quote, profile=RatlsProfile(issuer=issuer))),
        ("signature altered", "A bit of the signature differs.", RatlsCode.SIGNATURE, flip(healthy())),
        ("extension twice", "An extension comes twice.", RatlsCode.CERTIFICATE, twins.replace(second, first)),
        ("trailing byte", "A byte follows the certificate.", RatlsCode.CERTIFICATE, healthy() + b"\0"),
        ("cut", "The certificate lacks its last byte.", RatlsCode.CERTIFICATE, healthy()[:-1]),
        ("key on secp256k1", "The curve is not handled.", RatlsCode.KEY_KIND,
         ratls_certificate(ec.derive_private_key(7, ec.SECP256K1()), quote)),
        ("rsa key of 1024 bits", "The key is too small.", RatlsCode.KEY_KIND,
         ratls_certificate(derive_rsa_key(SEED, "weak", 1024), quote)),
        ("signed with sha-224", "SHA-224 is too weak.", RatlsCode.KEY_KIND, _signed_by(KEY, hashes.SHA224())),
        ("valid from the year 0", "DER has a year 0, and no calendar has.", RatlsCode.CERTIFICATE, _year_0(FAR, FAR)),
        ("valid until the year 0", "The last date is none.", RatlsCode.CERTIFICATE, _year_0(CREATED, FAR)),
    )  # fmt: skip
    for edge, comment, code, data in table:
        yield SCENE.unparsed(edge, comment, code, data)


def tagged() -> Iterator[Vector]:
    inner, claims = quote(bytes(64)), claims_of(spki())

    def of(tag: int, value: Any) -> bytes:
        return cbor.encode(cbor.Tag(tag, value))

    def claimed(**entries: Any) -> bytes:
        named = {name.replace("_", "-"): value for name, value in entries.items()}
        return tagged_evidence(quote, cbor.encode(named))

    digest = hashlib.sha256(spki()).digest()
    table: tuple[tuple[str, str, ErrorCode, bytes], ...] = (
        ("tagged empty", "The extension is empty.", E.CBOR_MALFORMED, b""),
        ("tagged with a trailing byte", "A byte follows.", E.CBOR_MALFORMED, of(60000, [inner, b""]) + b"\0"),
        ("tagged with a long head", "CBOR has one encoding.", E.CBOR_MALFORMED,
         b"\xda\x00\x00\xea\x60" + cbor.encode([inner, b""])),
        ("no tag", "The evidence has no tag.", RatlsCode.EVIDENCE, cbor.encode([inner, b""])),
        ("another tag", "Nobody knows the tag.", RatlsCode.EVIDENCE_KIND, of(60001, [inner, b""])),
        ("no list", "The tag is of a list.", RatlsCode.EVIDENCE, of(60000, inner)),
        ("list of one", "The list has two items.", RatlsCode.EVIDENCE, of(60000, [inner])),
        ("claims of text", "The claims are bytes.", RatlsCode.EVIDENCE, of(60000, [inner, "claims"])),
        ("claims of no cbor", "The claims are CBOR.", E.CBOR_MALFORMED, of(60000, [inner, b"\xff"])),
        ("claims of a number", "The claims are a map.", RatlsCode.CLAIMS, of(60000, [inner, cbor.encode(7)])),
        ("evidence of nothing", "The evidence is empty.", RatlsCode.EVIDENCE_KIND, of(60000, [b"", claims])),
        ("evidence with a trailing byte", "A byte follows the quote.", E.QUOTE_TRAILING_BYTES,
         of(60000, [inner + b"\0", claims])),
        ("claims without the key", "The claims name no key.", RatlsCode.CLAIMS, claimed(nonce=b"x")),
        ("claims with something else", "Nobody knows the claim.", RatlsCode.CLAIMS,
         claimed(pubkey_hash=cbor.encode([1, digest]), more=b"")),
        ("key hashed by algorithm 2", "The algorithm is not handled.", RatlsCode.CLAIMS_HASH,
         claimed(pubkey_hash=cbor.encode([2, b""]))),
        ("key hashed to nothing", "The hash is empty.", RatlsCode.KEY, claimed(pubkey_hash=cbor.encode([1, b""]))),
        ("nonce of text", "The nonce is bytes.", RatlsCode.CLAIMS,
         claimed(pubkey_hash=cbor.encode([1, digest]), nonce="text")),
    )  # fmt: skip
    for edge, comment, code, value in table:
        yield SCENE.unparsed(edge, comment, code, with_tagged(value))


def inside() -> Iterator[Vector]:
    bare = certificate(KEY, {}, RatlsProfile())
    yield SCENE.unparsed("no evidence", "The certificate carries none.", E.EVIDENCE_UNKNOWN, bare)
    forged = flip(quote(bound()), 100)
    data = certificate(KEY, {LEGACY[0]: forged}, RatlsProfile())
    yield SCENE.unverified("quote altered", "A bit of the quote inside differs.", E.QUOTE_SIGNATURE, evidence=data)
    for edge, code, changes in (
        ("root not trusted", E.CHAIN_ROOT, {"roots": (("vendor", ""),)}),
        ("collateral expired", E.CRL_EXPIRED, {"now": NOW + 40 * 86400}),
        ("no collateral", E.COLLATERAL_MISSING, {"collateral": None}),
        ("collateral of trust domains", E.COLLATERAL_TEE, {"collateral": tdx.SCENE.collateral}),
    ):
        yield SCENE.unverified(edge, "The evidence inside is verified by its own steps.", code, **changes)
    for edge, code, changes in (
        ("enclave not named", F.MRENCLAVE, {"policy": merged(SCENE.policy, sgx={"mrenclave": ["11" * 32]})}),
        ("no table for the evidence inside", F.TEE, {"policy": tdx.SCENE.policy}),
        ("report data of a session", F.REPORT_DATA, {"report_data": bytes(64)}),
    ):
        comment = "The evidence inside is judged under the table of its own TEE, and its report data are the key's."
        yield SCENE.refused(edge, comment, code, **changes)


def dates() -> Iterator[Vector]:
    """Of what vouches for the evidence inside, whether an enclave's or a trust domain's."""

    def around(quoter: Any) -> Any:
        return lambda platform: ratls_certificate(KEY, functools.partial(quoter, platform=platform))

    yield from dated_cases(sgx.MACHINE, SCENE, around(quote))
    yield from dated_cases(tdx.MACHINE, _of_a_td(ratls_certificate(KEY, td_quote)), around(td_quote), "trust domain ")
