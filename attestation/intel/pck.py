"""The PCK certificate's SGX extension: which platform it is, and its TCB when the certificate was issued.

Source: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification, section 1.3.5
"SGX extensions" (OID 1.2.840.113741.1.13.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography import x509

from attestation.der import BOOLEAN, ENUMERATED, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, DerReader
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel.certificates import SGX_EXTENSION, Certificate

_BASE = bytes.fromhex("2a864886f84d010d01")
"""DER content of 1.2.840.113741.1.13.1."""

_PPID, _TCB, _PCEID, _FMSPC, _TYPE, _INSTANCE, _CONFIGURATION = (_BASE + bytes([n]) for n in range(1, 8))
_EXTENSION = frozenset({_PPID, _TCB, _PCEID, _FMSPC, _TYPE, _INSTANCE, _CONFIGURATION})
COMPONENTS = 16
_COMPONENTS = tuple(_TCB + bytes([n]) for n in range(1, COMPONENTS + 1))
_PCESVN, _CPUSVN = _TCB + bytes([17]), _TCB + bytes([18])
_TCB_MEMBERS = frozenset({*_COMPONENTS, _PCESVN, _CPUSVN})
_FLAGS = tuple(_CONFIGURATION + bytes([n]) for n in range(1, 4))
_MAX_SVN = 255
_MAX_PCESVN = 65535
_TYPES = 2
"""SGX Type: 0 standard, 1 scalable, 2 scalable with integrity."""

_VERSION_TAG = 0xA0
_EXTENSIONS_TAG = 0xA3


@dataclass(frozen=True)
class PckExtension:
    """What the certificate says of its platform.

    ppid: 16 bytes, one package or multi-package platform.  components: the 16 SGX TCB component SVNs.  cpu_svn: 16
    bytes.  pce_id: 2 bytes.  fmspc: 6 bytes, the platform's family.  sgx_type: 0 standard, 1 scalable, 2 scalable
    with integrity.  platform_instance_id (16 bytes) and configuration are absent from processor certificates.
    """

    ppid: bytes
    components: tuple[int, ...]
    pce_svn: int
    cpu_svn: bytes
    pce_id: bytes
    fmspc: bytes
    sgx_type: int
    platform_instance_id: bytes | None = None
    configuration: tuple[bool, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for people and programs, byte strings as hex."""
        return {
            "ppid": self.ppid.hex(),
            "tcb_components": list(self.components),
            "pcesvn": self.pce_svn,
            "cpusvn": self.cpu_svn.hex(),
            "pceid": self.pce_id.hex(),
            "fmspc": self.fmspc.hex(),
            "sgx_type": self.sgx_type,
            "platform_instance_id": self.platform_instance_id.hex() if self.platform_instance_id else None,
            "configuration": list(self.configuration) if self.configuration else None,
        }


def extension_of(certificate: Certificate) -> PckExtension:
    """Return the SGX extension of a verified PCK certificate; raises EvidenceError `pck-extension`."""
    try:
        extension = certificate.x509.extensions.get_extension_for_oid(SGX_EXTENSION)
    except x509.ExtensionNotFound:
        raise EvidenceError(EvidenceCode.PCK_EXTENSION, "the PCK certificate has no SGX extension") from None
    return parse_extension(extension.value.public_bytes())


def parse_extension(data: bytes) -> PckExtension:
    """Decode the extension's value: all required members once, optional ones at most once, no other.

    Raises EvidenceError `pck-extension`.
    """
    outer = DerReader(data, EvidenceCode.PCK_EXTENSION)
    members = _Members(outer.inside(SEQUENCE), _EXTENSION)
    outer.finish()
    tcb = _Members(members.sequence(_TCB), _TCB_MEMBERS)
    numbers = [tcb.integer(oid, _MAX_SVN) for oid in _COMPONENTS]
    return PckExtension(
        ppid=members.octets(_PPID, 16),
        components=tuple(numbers),
        pce_svn=tcb.integer(_PCESVN, _MAX_PCESVN),
        cpu_svn=tcb.octets(_CPUSVN, 16),
        pce_id=members.octets(_PCEID, 2),
        fmspc=members.octets(_FMSPC, 6),
        sgx_type=members.integer(_TYPE, _TYPES, ENUMERATED),
        platform_instance_id=members.octets(_INSTANCE, 16) if _INSTANCE in members else None,
        configuration=_configuration(members.sequence(_CONFIGURATION)) if _CONFIGURATION in members else None,
    )


class _Members:
    """SEQUENCE { OBJECT IDENTIFIER, value }, each at most once, all of them known; the values are read by name."""

    def __init__(self, reader: DerReader, known: frozenset[bytes]) -> None:
        self._reader = reader
        self._values = reader.members()
        if not known >= self._values.keys():
            raise reader.refuse("a member is unknown")

    def __contains__(self, oid: bytes) -> bool:
        return oid in self._values

    def octets(self, oid: bytes, size: int) -> bytes:
        """Return an octet string of exactly `size` bytes."""
        value = self._value(oid, OCTET_STRING)
        if len(value) != size:
            raise self._reader.refuse(f"an octet string does not have {size} bytes")
        return value

    def integer(self, oid: bytes, limit: int, tag: int = INTEGER) -> int:
        """Return a minimal integer between 0 and `limit`."""
        return self._reader.number(self._value(oid, tag), limit)

    def boolean(self, oid: bytes) -> bool:
        """Return a boolean."""
        return self._reader.truth(self._value(oid, BOOLEAN))

    def sequence(self, oid: bytes) -> DerReader:
        """Return a reader of what is in a SEQUENCE."""
        return DerReader(self._value(oid, SEQUENCE), EvidenceCode.PCK_EXTENSION)

    def _value(self, oid: bytes, tag: int) -> bytes:
        found, value = self._values.get(oid, (0, b""))
        if found != tag:
            raise self._reader.refuse("a member is of another type" if oid in self else "a member is missing")
        return value


def _configuration(reader: DerReader) -> tuple[bool, ...]:
    """Read the flags of a platform certificate: dynamic platform, cached keys, SMT enabled."""
    members = _Members(reader, frozenset(_FLAGS))
    return tuple(members.boolean(flag) for flag in _FLAGS if flag in members)


def peek(leaf: bytes) -> tuple[bytes, str]:
    """Return (fmspc, CA type) of a PCK certificate that NOBODY has verified: only good to look collateral up.

    Raises EvidenceError `collateral-key` or `pck-extension`.
    """
    outer = DerReader(leaf, EvidenceCode.COLLATERAL_KEY)
    tbs = outer.inside(SEQUENCE).inside(SEQUENCE)
    tbs.content(_VERSION_TAG)
    tbs.content(INTEGER)
    tbs.content(SEQUENCE)
    issuer = tbs.content(SEQUENCE)
    for _ in range(3):  # validity, subject, public key
        tbs.content(SEQUENCE)
    ca = "platform" if b"SGX PCK Platform CA" in issuer else "processor"
    return parse_extension(_find_extension(tbs.inside(_EXTENSIONS_TAG))).fmspc, ca


def _find_extension(reader: DerReader) -> bytes:
    """Return the value of the SGX extension among all extensions (RFC 5280, 4.1)."""
    extensions = reader.inside(SEQUENCE)
    while extensions.more:
        extension = extensions.inside(SEQUENCE)
        oid = extension.content(OBJECT_IDENTIFIER)
        if extension.next_tag() == BOOLEAN:
            extension.boolean()
        if oid == _BASE:
            return extension.content(OCTET_STRING)
    raise reader.refuse("the PCK certificate has no SGX extension")
