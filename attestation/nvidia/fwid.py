"""What a device's leaf certificate says of its firmware: the DICE extensions.

Source: TCG DICE Attestation Architecture 1.1, section 6.1.1 "TcbInfo Evidence Extension" (2.23.133.5.4.1.1), and TCG
Implicit Identity Based Device Attestation 1.0, section "CompositeDeviceID" (2.23.133.5.4.1), which Hopper uses.

    CompositeDeviceID = SEQUENCE { version INTEGER (1), deviceID SubjectPublicKeyInfo, fwid FWID }
    DiceTcbInfo       = SEQUENCE { [0] vendor, [1] model, [2] version, [3] svn, [4] layer, [5] index,
                                   [6] SEQUENCE OF FWID, [7] flags BIT STRING, [8] vendorInfo, [9] type }
                        all members optional, in this order
    FWID              = SEQUENCE { hashAlg OBJECT IDENTIFIER, digest OCTET STRING }
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.chains import Certificate
from attestation.der import OBJECT_IDENTIFIER, SEQUENCE, DerReader
from attestation.errors import EvidenceError
from attestation.nvidia.errors import NvidiaCode

COMPOSITE_DEVICE_ID: Final = x509.ObjectIdentifier("2.23.133.5.4.1")
TCB_INFO: Final = x509.ObjectIdentifier("2.23.133.5.4.1.1")

_SHA384 = bytes.fromhex("608648016503040202")
_DIGEST = 48
_SVN, _FWIDS, _FLAGS = 0x83, 0xA6, 0x87
_MAX_SVN = (1 << 63) - 1
"""What a policy's floor can say.  The one that is known is 1."""
_MEMBERS = (0x80, 0x81, 0x82, _SVN, 0x84, 0x85, _FWIDS, _FLAGS, 0x88, 0x89)
"""Tags of the members of DiceTcbInfo, in their order."""


FLAGS: Final = (
    "notConfigured",
    "notSecure",
    "recovery",
    "debug",
    "notReplayProtected",
    "notIntegrityProtected",
    "notRuntimeMeasured",
    "notImmutable",
    "notTcb",
)
"""OperationalFlags of DiceTcbInfo, from its first bit on."""
_FIXED_WIDTH = 31
"""Says that the string has 32 bits, and nothing of the firmware."""


@dataclass(frozen=True)
class Firmware:
    """The digest of the firmware that holds the leaf's key (48 bytes), and with which flags it was started.

    A flag without a name of its own shows as "bit" with its number.  svn: its security version; None where the leaf
    has none, as Hopper's.
    """

    fwid: bytes
    flags: tuple[str, ...]
    svn: int | None = None


def read_firmware(leaf: Certificate, issuer: Certificate) -> Firmware | None:
    """Return what the leaf says of its firmware; None where it has neither extension.

    Raises EvidenceError `nvidia-fwid-malformed`.
    """
    found = {
        extension.oid: extension.value.value
        for extension in leaf.x509.extensions
        if isinstance(extension.value, x509.UnrecognizedExtension)
    }
    if TCB_INFO in found:
        return _tcb_info(found[TCB_INFO])
    if COMPOSITE_DEVICE_ID in found:
        return _composite(found[COMPOSITE_DEVICE_ID], issuer)
    return None


def _composite(value: bytes, issuer: Certificate) -> Firmware:
    reader = _whole(value)
    if reader.integer(0xFF) != 1:
        raise _malformed("its version is not 1")
    device = reader.element(SEQUENCE)
    if device != issuer.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise _malformed("its device id is not the key that signed the certificate")
    fwid = _fwid(reader)
    reader.finish()
    return Firmware(fwid, ())


def _tcb_info(value: bytes) -> Firmware:
    reader = _whole(value)
    members: dict[int, bytes] = {}
    for tag in _MEMBERS:
        if reader.more and reader.next_tag() == tag:
            members[tag] = reader.content(tag)
    reader.finish()
    if _FWIDS not in members:
        raise _malformed("it names no firmware")
    fwid = _fwid(DerReader(members[_FWIDS], NvidiaCode.FWID_MALFORMED))
    svn = reader.number(members[_SVN], _MAX_SVN) if _SVN in members else None
    return Firmware(fwid, _flags(members.get(_FLAGS)), svn)


def _flags(bits: bytes | None) -> tuple[str, ...]:
    """Return the flags that are set; a BIT STRING begins with its number of unused bits."""
    if bits is None:
        return ()
    if not 1 <= len(bits) <= 5 or bits[0] > 7:
        raise _malformed("its flags are no string of up to 32 bits")
    text = "".join(f"{byte:08b}" for byte in bits[1:])
    found = (place for place, bit in enumerate(text) if bit == "1" and place != _FIXED_WIDTH)
    return tuple(FLAGS[place] if place < len(FLAGS) else f"bit {place}" for place in found)


def _fwid(reader: DerReader) -> bytes:
    """Read one FWID; the first of a device is that of its key."""
    inner = reader.inside(SEQUENCE)
    if inner.content(OBJECT_IDENTIFIER) != _SHA384:
        raise _malformed("its digest is not of SHA-384")
    digest = inner.octets(_DIGEST)
    inner.finish()
    return digest


def _whole(value: bytes) -> DerReader:
    outer = DerReader(value, NvidiaCode.FWID_MALFORMED)
    reader = outer.inside(SEQUENCE)
    outer.finish()
    return reader


def _malformed(why: str) -> EvidenceError:
    return EvidenceError(NvidiaCode.FWID_MALFORMED, f"the leaf's DICE extension is not usable: {why}")
