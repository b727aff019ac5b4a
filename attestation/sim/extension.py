"""The PCK certificate's SGX extension, written: the inverse of `attestation.intel.pck.parse_extension`."""

from __future__ import annotations

from attestation.der import BOOLEAN, ENUMERATED, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE
from attestation.intel.pck import COMPONENTS, PckExtension

_BASE = bytes.fromhex("2a864886f84d010d01")


def encode_extension(extension: PckExtension) -> bytes:
    """Return the DER value of the extension, members in the order of the profile."""
    members = [
        _member((1,), element(OCTET_STRING, extension.ppid)),
        _member((2,), element(SEQUENCE, _tcb(extension))),
        _member((3,), element(OCTET_STRING, extension.pce_id)),
        _member((4,), element(OCTET_STRING, extension.fmspc)),
        _member((5,), element(ENUMERATED, bytes([extension.sgx_type]))),
    ]
    if extension.platform_instance_id is not None:
        members.append(_member((6,), element(OCTET_STRING, extension.platform_instance_id)))
    if extension.configuration is not None:
        flags = [
            _member((7, index), element(BOOLEAN, b"\xff" if flag else b"\x00"))
            for index, flag in enumerate(extension.configuration, 1)
        ]
        members.append(_member((7,), element(SEQUENCE, b"".join(flags))))
    return element(SEQUENCE, b"".join(members))


def _tcb(extension: PckExtension) -> bytes:
    numbers = (*extension.components, extension.pce_svn)
    members = [_member((2, index), element(INTEGER, _unsigned(number))) for index, number in enumerate(numbers, 1)]
    members.append(_member((2, COMPONENTS + 2), element(OCTET_STRING, extension.cpu_svn)))
    return b"".join(members)


def _member(suffix: tuple[int, ...], value: bytes) -> bytes:
    return element(SEQUENCE, element(OBJECT_IDENTIFIER, _BASE + bytes(suffix)) + value)


def _unsigned(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def element(tag: int, content: bytes) -> bytes:
    """Return one DER element."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content
