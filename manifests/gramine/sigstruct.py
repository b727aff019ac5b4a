"""SIGSTRUCT: the enclave's certificate, which names its measurement and is signed by its author.

Source: Intel SDM volume 3D, "Enclave Signature Structure (SIGSTRUCT)", and chapter "EINIT" for how it is verified.
Gramine's `gramine-sgx-sign` makes the same 1,808 bytes.  The key is RSA-3072 with exponent 3, as the processor asks.

    MRSIGNER = SHA-256(modulus, 384 bytes, least significant first)
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from manifests.gramine.errors import GramineCode, GramineError
from manifests.gramine.manifest import EnclaveManifest

LENGTH = 1808
KEY_BITS = 3072
EXPONENT = 3

_NUMBER = KEY_BITS // 8
_HEAD = struct.Struct("<16sIBBH16sI84x")
"""Header, vendor, day, month, year, second header, SWDEFINED: the first of the two signed parts."""
_HEADER = bytes.fromhex("06000000e10000000000010000000000")
_HEADER2 = bytes.fromhex("01010000600000006000000001000000")
_BODY = struct.Struct("<II20xQQQQ32s32xHH")
"""From MISCSELECT to ISVSVN: the second of the two signed parts."""
_BODY_AT = 0x384
_Q1_AT = 0x410
_ALL = (1 << 64) - 1

_MODE64 = 4
_EXINFO = 1
_X87_SSE = 3
_FEATURES = {"avx": 0x4, "avx512": 0xE4, "amx": 0x60000, "mpx": 0x18, "pkru": 0x200}
"""Bits of XFRM (SDM, "XFRM")."""
_FIXED_XFRM = 0xFFFFFFFFFFF9FF1B
"""Gramine lets the processor have AVX, AVX-512 and AMX or not, unless the manifest says more."""


@dataclass(frozen=True)
class EnclaveIdentity:
    """What a SIGSTRUCT says of an enclave: its measurement (32 bytes), product, version, and what it may run with."""

    mrenclave: bytes
    isv_prod_id: int
    isv_svn: int
    misc_select: int
    flags: int
    xfrm: int
    xfrm_mask: int


@dataclass(frozen=True)
class Sigstruct:
    """A SIGSTRUCT whose signature is right: its identity, its signer (32 bytes), and its date as eight digits."""

    identity: EnclaveIdentity
    mrsigner: bytes
    date: str


def identity_of(manifest: EnclaveManifest, mrenclave: bytes) -> EnclaveIdentity:
    """Return the identity that a manifest's options make of a measurement."""
    required = [bits for name, bits in _FEATURES.items() if manifest.cpu_features[name] == "required"]
    named = [bits for name, bits in _FEATURES.items() if manifest.cpu_features[name] != "unspecified"]
    return EnclaveIdentity(
        mrenclave=mrenclave,
        isv_prod_id=manifest.isv_prod_id,
        isv_svn=manifest.isv_svn,
        misc_select=_EXINFO if manifest.exinfo else 0,
        flags=_MODE64,
        xfrm=_union(_X87_SSE, required),
        xfrm_mask=_union(_FIXED_XFRM, named),
    )


def _union(bits: int, more: list[int]) -> int:
    for others in more:
        bits |= others
    return bits


def load_signing_key(data: bytes, passphrase: bytes | None = None) -> rsa.RSAPrivateKey:
    """Read an author's key from PEM; raises GramineError `signing-key-invalid`."""
    try:
        key = serialization.load_pem_private_key(data, passphrase)
    except (ValueError, TypeError) as error:  # TypeError: a passphrase too many, or too few
        raise _bad_key(type(error).__name__) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise _bad_key("a key of another kind")
    _check_size(key.public_key().public_numbers())
    return key


def sign_enclave(identity: EnclaveIdentity, key: rsa.RSAPrivateKey, date: dt.date | None = None) -> bytes:
    """Return the 1,808 bytes of a SIGSTRUCT; without a date its bytes depend on identity and key alone.

    Raises GramineError `signing-key-invalid` for a key that is not RSA-3072 with exponent 3.
    """
    numbers = key.public_key().public_numbers()
    _check_size(numbers)
    head, body = _head(*_coded(date)), _body(identity)
    raw = key.sign(head + body, padding.PKCS1v15(), hashes.SHA256())
    modulus, signature = numbers.n, int.from_bytes(raw, "big")
    q1, q2 = _quotients(signature, modulus)
    data = b"".join(
        (
            head,
            _little(modulus),
            EXPONENT.to_bytes(4, "little"),
            _little(signature),
            body,
            bytes(_Q1_AT - _BODY_AT - _BODY.size),
            _little(q1),
            _little(q2),
        )
    )
    parse_sigstruct(data)
    return data


def parse_sigstruct(data: bytes) -> Sigstruct:
    """Parse a SIGSTRUCT and verify its signature; raises GramineError `sigstruct-invalid`, and nothing else.

    It proves that one key signed these fields, and not whose key that is: compare `mrsigner`.
    """
    if len(data) != LENGTH:
        raise _invalid(f"{LENGTH} bytes", len(data))
    _, _, day, month, year, _, _ = _HEAD.unpack_from(data)
    misc, _, flags, xfrm, _, xfrm_mask, measured, prod_id, svn = _BODY.unpack_from(data, _BODY_AT)
    identity = EnclaveIdentity(measured, prod_id, svn, misc, flags, xfrm, xfrm_mask)
    signed = _head(day, month, year) + _body(identity)
    found = data[: _HEAD.size] + data[_BODY_AT : _BODY_AT + _BODY.size]
    if not hmac.compare_digest(signed, found) or any(data[_BODY_AT + _BODY.size : _Q1_AT]):
        raise _invalid("the headers, masks and zeros that belong there", "others")
    exponent = int.from_bytes(data[0x200:0x204], "little")
    modulus, signature = _number(data, 0x80), _number(data, 0x204)
    if exponent != EXPONENT or modulus.bit_length() != KEY_BITS or modulus % 2 == 0:
        raise _invalid(f"a modulus of {KEY_BITS} bits and exponent {EXPONENT}", f"{modulus.bit_length()}, {exponent}")
    _verify(modulus, signature, signed)
    if (_number(data, _Q1_AT), _number(data, _Q1_AT + _NUMBER)) != _quotients(signature, modulus):
        raise _invalid("Q1 and Q2 of this signature", "others")
    return Sigstruct(identity, mrsigner(modulus), f"{year:04x}-{month:02x}-{day:02x}")


def check_sigstruct(sigstruct: Sigstruct, expected: EnclaveIdentity) -> None:
    """Refuse a SIGSTRUCT of another enclave; raises GramineError `sigstruct-invalid`, naming the first other field."""
    for name, value in vars(expected).items():
        found = getattr(sigstruct.identity, name)
        same = hmac.compare_digest(found, value) if isinstance(value, bytes) else found == value
        if not same:
            raise _invalid(f"{name} {_shown(value)}", _shown(found))


def mrsigner(modulus: int) -> bytes:
    """Return the identity (32 bytes) of the author with this RSA modulus."""
    return hashlib.sha256(_little(modulus)).digest()


def _coded(date: dt.date | None) -> tuple[int, int, int]:
    """Return day, month and year in binary-coded decimal: 0x31, 0x12, 0x2026."""
    if date is None:
        return 0, 0, 0
    return int(str(date.day), 16), int(str(date.month), 16), int(str(date.year), 16)


def _head(day: int, month: int, year: int) -> bytes:
    return _HEAD.pack(_HEADER, 0, day, month, year, _HEADER2, 0)


def _body(identity: EnclaveIdentity) -> bytes:
    return _BODY.pack(
        identity.misc_select,
        0xFFFFFFFF,
        identity.flags,
        identity.xfrm,
        _ALL,
        identity.xfrm_mask,
        identity.mrenclave,
        identity.isv_prod_id,
        identity.isv_svn,
    )


def _verify(modulus: int, signature: int, signed: bytes) -> None:
    try:
        rsa.RSAPublicNumbers(EXPONENT, modulus).public_key().verify(
            signature.to_bytes(_NUMBER, "big"), signed, padding.PKCS1v15(), hashes.SHA256()
        )
    except (InvalidSignature, ValueError):
        raise _invalid("a signature by the key that it names", "another") from None


def _quotients(signature: int, modulus: int) -> tuple[int, int]:
    """Return Q1 and Q2, which spare the processor two divisions (SDM, "SIGSTRUCT")."""
    square = signature * signature
    return square // modulus, (square % modulus) * signature // modulus


def _check_size(numbers: rsa.RSAPublicNumbers) -> None:
    if numbers.n.bit_length() != KEY_BITS or numbers.e != EXPONENT:
        raise _bad_key(f"RSA-{numbers.n.bit_length()} with exponent {numbers.e}")


def _little(number: int) -> bytes:
    return number.to_bytes(_NUMBER, "little")


def _number(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + _NUMBER], "little")


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else f"{value:#x}"


def _bad_key(found: str) -> GramineError:
    return GramineError(
        GramineCode.SIGNING_KEY_INVALID,
        "the key cannot sign an SGX enclave",
        expected=f"an RSA key of {KEY_BITS} bits with exponent {EXPONENT}, in PEM",
        found=found,
    )


def _invalid(expected: str, found: object) -> GramineError:
    return GramineError(
        GramineCode.SIGSTRUCT_INVALID, "the SIGSTRUCT is not usable", expected=expected, found=str(found)
    )
