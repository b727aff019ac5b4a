"""The simulated AMD's certificates and revocation lists, written out so that any field can be asked to deviate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.amd.certificates import SIMULATION, Role
from attestation.amd.endorsement import CSP_ID, HWID, PRODUCT_NAME, RESERVED_SPL, SPL, STRUCT_VERSION
from attestation.amd.signatures import PSS_ALGORITHMS
from attestation.amd.tcb import Product, Tcb
from attestation.der import BIT_STRING, BOOLEAN, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE
from attestation.sim.amd_keys import sign_pss
from attestation.sim.extension import element
from attestation.strict_x509 import COMMON_NAME, Extensions, encode_oid

ORGANISATION: Final = "Strongroom Simulated AMD"

_NULL = b"\x05\x00"
_SET = 0x31
_UTF8 = 0x0C
_IA5 = 0x16
_UTC_TIME = 0x17
_GENERALIZED_TIME = 0x18
_FIRST_GENERALIZED = 2524608000
"""2050-01-01: from here on, dates are GeneralizedTime (RFC 5280, 4.1.2.5)."""
_ORGANISATION_OID = encode_oid("2.5.4.10")
_CRL_NUMBER = encode_oid("2.5.29.20")

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class CertificateForm:
    """What a certificate says; start and end in Unix seconds, both inclusive."""

    name: str
    issuer: str
    serial: int
    start: int
    end: int
    key: PrivateKey
    extensions: Extensions
    organisation: str = ORGANISATION
    issuer_organisation: str = ORGANISATION
    version: int = 2
    algorithm: bytes = PSS_ALGORITHMS[0]

    def changed(self, *, extensions: Extensions | None = None, without: tuple[bytes, ...] = (), **changes: Any) -> Any:
        """Return the form with fields replaced, and extensions added, replaced or left out."""
        kept = {oid: value for oid, value in self.extensions.items() if oid not in without}
        return replace(self, extensions=kept | dict(extensions or {}), **changes)

    def signed_by(self, signer: rsa.RSAPrivateKey) -> bytes:
        """Return the DER certificate."""
        body = b"".join(
            (
                element(0xA0, _integer(self.version)),
                _integer(self.serial),
                self.algorithm,
                encode_name(self.issuer, self.issuer_organisation),
                element(SEQUENCE, encode_time(self.start) + encode_time(self.end)),
                encode_name(self.name, self.organisation),
                self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
                element(0xA3, encode_extensions(self.extensions)),
            )
        )
        return sign(body, signer, self.algorithm)


@dataclass(frozen=True)
class CrlForm:
    """What a revocation list says; start and end in Unix seconds, end None leaves out its next update."""

    issuer: str
    start: int
    end: int | None
    serials: tuple[int, ...] = ()
    extensions: Extensions | None = None
    organisation: str = ORGANISATION
    algorithm: bytes = PSS_ALGORITHMS[0]

    def signed_by(self, signer: rsa.RSAPrivateKey) -> bytes:
        """Return the DER revocation list."""
        date = encode_time(self.start)
        entries = b"".join(element(SEQUENCE, _integer(serial) + date) for serial in self.serials)
        extensions = {_CRL_NUMBER: (False, _integer(1))} if self.extensions is None else self.extensions
        body = b"".join(
            (
                _integer(1),
                self.algorithm,
                encode_name(self.issuer, self.organisation),
                date,
                b"" if self.end is None else encode_time(self.end),
                element(SEQUENCE, entries) if entries else b"",
                element(0xA0, encode_extensions(extensions)),
            )
        )
        return sign(body, signer, self.algorithm)


def authority_extensions(role: Role) -> Extensions:
    """Return the extensions of an ARK, ASK or ASVK."""
    return {SIMULATION: (False, _NULL)} | {oid: (True, min(values)) for oid, values in role.critical.items()}


def endorsement_extensions(tcb: Tcb, product_name: str, *, hwid: bytes | None, csp_id: str | None) -> Extensions:
    """Return the extensions of a VCEK (with `hwid`) or a VLEK (with `csp_id`)."""
    turin = tcb.product is Product.TURIN
    values = {
        SIMULATION: _NULL,
        STRUCT_VERSION: _integer(int(turin)),
        PRODUCT_NAME: element(_IA5, product_name.encode("ascii")),
        **{SPL[name]: _integer(version) for name, version in tcb.to_dict().items()},
        **dict.fromkeys(RESERVED_SPL[1:] if turin else RESERVED_SPL, _integer(0)),
    }
    if hwid is not None:
        values[HWID] = hwid
    if csp_id is not None:
        values[CSP_ID] = element(_IA5, csp_id.encode("ascii"))
    return {oid: (False, value) for oid, value in values.items()}


def sign(body: bytes, signer: rsa.RSAPrivateKey, algorithm: bytes) -> bytes:
    """Return a certificate or revocation list, given the content of its to-be-signed part."""
    tbs = element(SEQUENCE, body)
    return element(SEQUENCE, tbs + algorithm + element(BIT_STRING, b"\0" + sign_pss(signer, tbs)))


def encode_name(common_name: str, organisation: str) -> bytes:
    """Return a DER name of two attributes."""
    pairs = ((_ORGANISATION_OID, organisation), (COMMON_NAME, common_name))
    return element(SEQUENCE, b"".join(element(_SET, _attribute(oid, text)) for oid, text in pairs))


def _attribute(oid: bytes, text: str) -> bytes:
    return element(SEQUENCE, element(OBJECT_IDENTIFIER, oid) + element(_UTF8, text.encode("utf-8")))


def encode_time(seconds: int) -> bytes:
    """Return a date in the form that RFC 5280 wants for its year."""
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%SZ").encode("ascii")
    return element(_GENERALIZED_TIME, text) if seconds >= _FIRST_GENERALIZED else element(_UTC_TIME, text[2:])


def encode_extensions(extensions: Extensions) -> bytes:
    """Return a list of extensions."""
    return element(SEQUENCE, b"".join(_extension(oid, *value) for oid, value in extensions.items()))


def _extension(oid: bytes, critical: bool, value: bytes) -> bytes:  # noqa: FBT001 - a pair of the map, unpacked
    flag = element(BOOLEAN, b"\xff") if critical else b""
    return element(SEQUENCE, element(OBJECT_IDENTIFIER, oid) + flag + element(OCTET_STRING, value))


def _integer(number: int) -> bytes:
    return element(INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big"))
