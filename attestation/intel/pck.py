"""The PCK certificate's SGX extension: which platform it is, and its TCB when the certificate was issued.

Source: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification, section 1.3.5
"SGX extensions" (OID 1.2.840.113741.1.13.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel.certificates import SGX_EXTENSION, Certificate
from attestation.intel.der import BOOLEAN, ENUMERATED, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, DerReader

_BASE = bytes.fromhex("2a864886f84d010d01")
"""DER content of 1.2.840.113741.1.13.1."""

_PPID, _TCB, _PCEID, _FMSPC, _TYPE, _INSTANCE, _CONFIGURATION = (_BASE + bytes([n]) for n in range(1, 8))
COMPONENTS = 16
_PCESVN = 17
_CPUSVN = 18
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
    values: dict[str, Any] = {}
    for oid, reader in _members(outer.inside(SEQUENCE)):
        values.update(_member(oid, reader))
        reader.finish()
    outer.finish()
    required = {"ppid", "components", "pce_id", "fmspc", "sgx_type"}
    if not required <= values.keys():
        raise outer.refuse(f"members are missing: {', '.join(sorted(required - values.keys()))}")
    return PckExtension(**values)


def _members(reader: DerReader) -> Iterator[tuple[bytes, DerReader]]:
    """Yield (object identifier, reader at its value) of each SEQUENCE { OID, value }, refusing repetitions."""
    seen = set()
    while reader.more:
        member = reader.inside(SEQUENCE)
        oid = member.content(OBJECT_IDENTIFIER)
        if oid in seen:
            raise reader.refuse("a member is repeated")
        seen.add(oid)
        yield oid, member


def _member(oid: bytes, reader: DerReader) -> dict[str, Any]:
    if oid == _PPID:
        return {"ppid": reader.octets(16)}
    if oid == _TCB:
        return _tcb(reader.inside(SEQUENCE))
    if oid == _PCEID:
        return {"pce_id": reader.octets(2)}
    if oid == _FMSPC:
        return {"fmspc": reader.octets(6)}
    if oid == _TYPE:
        return {"sgx_type": reader.integer(_TYPES, ENUMERATED)}
    if oid == _INSTANCE:
        return {"platform_instance_id": reader.octets(16)}
    if oid == _CONFIGURATION:
        return {"configuration": _configuration(reader.inside(SEQUENCE))}
    raise reader.refuse("a member is unknown")


def _tcb(reader: DerReader) -> dict[str, Any]:
    """Read the 16 component SVNs, PCESVN and CPUSVN, members .2.1 to .2.18."""
    numbers: dict[int, int] = {}
    cpu_svn = b""
    for oid, member in _members(reader):
        index = oid[-1] if oid[:-1] == _TCB else 0
        if index == _CPUSVN:
            cpu_svn = member.octets(16)
        elif 1 <= index <= _PCESVN:
            numbers[index] = member.integer(_MAX_PCESVN if index == _PCESVN else _MAX_SVN, INTEGER)
        else:
            raise reader.refuse("a member of the TCB is unknown")
        member.finish()
    if len(numbers) != _PCESVN or not cpu_svn:
        raise reader.refuse("a member of the TCB is missing")
    components = tuple(numbers[index] for index in range(1, COMPONENTS + 1))
    return {"components": components, "pce_svn": numbers[_PCESVN], "cpu_svn": cpu_svn}


def _configuration(reader: DerReader) -> tuple[bool, ...]:
    """Read the flags of a platform certificate: dynamic platform, cached keys, SMT enabled."""
    flags: dict[int, bool] = {}
    for oid, member in _members(reader):
        if oid[:-1] != _CONFIGURATION or not 1 <= oid[-1] <= 3 or member.next_tag() != BOOLEAN:
            raise reader.refuse("a member of the configuration is unknown")
        flags[oid[-1]] = member.boolean()
        member.finish()
    return tuple(flags[index] for index in sorted(flags))


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
    for oid, member in _members(reader.inside(SEQUENCE)):
        if member.next_tag() == BOOLEAN:
            member.boolean()
        if oid == _BASE:
            return member.content(OCTET_STRING)
    raise reader.refuse("the PCK certificate has no SGX extension")
