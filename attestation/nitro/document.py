"""The attestation document of a Nitro enclave: bytes to fields and back.

Source: AWS Nitro Enclaves, "Nitro Enclaves Attestation Process" (attestation_process.md of the NSM library), sections
2.2 "Attestation Document Specification", 3.1 "COSE and CBOR" and 3.2.2 "Syntactical validation".

    message  = COSE_Sign1([protected {1: -35}, unprotected {}, payload, signature])       tagged 18, or untagged
    payload  = {"module_id": text, "digest": "SHA384", "timestamp": uint, "pcrs": {index: bytes}, "certificate": bytes,
                "cabundle": [bytes], "public_key": bytes / null, "user_data": bytes / null, "nonce": bytes / null}

Stricter than the source: registers have 48 bytes, the size of the one digest that there is; keys are not repeated;
integers take their shortest form.  Laxer: null stands for an absent field, since the module itself writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from attestation.errors import EvidenceError
from attestation.nitro.errors import NitroCode
from attestation.types import cbor, cose

MAX_PAYLOAD = 16 * 1024
"""Section 3.1: bstr .size (1..16384)."""
MAX_DOCUMENT = MAX_PAYLOAD + 256
"""Headers and signature take 115 bytes."""
MAX_CERTIFICATE = 1024
MAX_BUNDLE = 8
"""AWS's hierarchy has 4 certificates above the enclave's own; 8 leave room for more zones."""
PCRS = 32
PCR_SIZE = 48
MAX_MODULE_ID = 128
"""An id has 39 characters."""

_DIGEST = "SHA384"
_BOUNDS = {"public_key": (1, 1024), "user_data": (0, 512), "nonce": (0, 512)}
"""Lengths of the optional fields, in bytes (section 3.2.2.2)."""
_REQUIRED = frozenset({"module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"})
_STARTS = tuple(head + bytes.fromhex("44a1013822") for head in (b"\x84", b"\xd2\x84"))


@dataclass(frozen=True)
class NitroDocument:
    """A parsed document; nothing in it is verified.

    module_id: instance and enclave, as text.  timestamp: milliseconds since the Unix epoch.  pcrs: by index, 48 bytes
    each.  certificate: DER of the signing key's certificate.  cabundle: DER of its issuers, root first.
    """

    message: cose.Sign1 = field(repr=False)
    module_id: str
    timestamp: int
    pcrs: Mapping[int, bytes]
    certificate: bytes = field(repr=False)
    cabundle: tuple[bytes, ...] = field(repr=False)
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None

    tee: ClassVar[str] = "nitro"
    version: ClassVar[int] = 1
    """AWS has not numbered its format; a second one would need a mark to be told by."""

    @property
    def report_data(self) -> bytes:
        """The user data, where our attester puts its 64 bytes; empty where there are none."""
        return self.user_data or b""

    @property
    def debug(self) -> bool:
        """Whether the parent instance can read this enclave's console: its image registers are zero."""
        return any(not any(self.pcrs.get(index, b"")) for index in range(3))

    @property
    def seconds(self) -> int:
        """The timestamp in whole Unix seconds, rounded down."""
        return self.timestamp // 1000

    def serialize(self) -> bytes:
        """Return the document's bytes; `parse_document` is the inverse."""
        return self.message.serialize()

    def to_dict(self) -> dict[str, Any]:
        """Return every field by AWS's name: text as it is, byte strings and the 8 bytes of the time as hex."""
        return {
            "module_id": self.module_id,
            "digest": _DIGEST,
            "timestamp": self.timestamp.to_bytes(8, "big").hex(),
            "pcrs": {str(index): value.hex() for index, value in self.pcrs.items()},
            "certificate": self.certificate.hex(),
            "cabundle": [der.hex() for der in self.cabundle],
            **{name: None if (value := getattr(self, name)) is None else value.hex() for name in _BOUNDS},
            "signature": self.message.signature.hex(),
        }


def is_document(data: bytes) -> bool:
    """Tell whether bytes begin as a COSE_Sign1 message under ES384 does."""
    return data.startswith(_STARTS)


def parse_document(data: bytes) -> NitroDocument:
    """Parse a document that uses up `data`; raises EvidenceError `nitro-...`, `cose-malformed` or `cbor-malformed`."""
    if len(data) > MAX_DOCUMENT:
        raise EvidenceError(
            NitroCode.TOO_LARGE, NitroCode.TOO_LARGE.meaning, expected=f"at most {MAX_DOCUMENT} bytes", found=len(data)
        )
    message = cose.parse(data, max_size=MAX_DOCUMENT)
    if message.algorithm != cose.ES384:
        raise EvidenceError(
            NitroCode.ALGORITHM, NitroCode.ALGORITHM.meaning, expected=cose.ES384, found=message.algorithm
        )
    return NitroDocument(message, **_fields(message.payload))


def _fields(payload: bytes) -> dict[str, Any]:
    value = cbor.decode(payload, max_size=MAX_PAYLOAD, indefinite=True)
    if not isinstance(value, dict) or not _REQUIRED <= value.keys() <= _REQUIRED | _BOUNDS.keys():
        raise _malformed("list of fields", sorted(_REQUIRED | _BOUNDS.keys()), _shape(value))
    if value.pop("digest") != _DIGEST:
        raise EvidenceError(NitroCode.DIGEST, NitroCode.DIGEST.meaning, expected=_DIGEST)
    bundle = _typed(value["cabundle"], "cabundle", list)
    if not 1 <= len(bundle) <= MAX_BUNDLE:
        raise _malformed("cabundle", f"1 to {MAX_BUNDLE} certificates", len(bundle))
    return {
        "module_id": _module_id(value["module_id"]),
        "timestamp": _timestamp(value["timestamp"]),
        "pcrs": _pcrs(value["pcrs"]),
        "certificate": _bytes(value["certificate"], "certificate", 1, MAX_CERTIFICATE),
        "cabundle": tuple(_bytes(der, "cabundle", 1, MAX_CERTIFICATE) for der in bundle),
        **{name: _optional(value.get(name), name) for name in _BOUNDS},
    }


def _shape(value: object) -> str:
    if not isinstance(value, dict):
        return type(value).__name__
    unknown = len(value.keys() - _REQUIRED - _BOUNDS.keys())
    return f"{unknown} unknown; missing: {', '.join(sorted(_REQUIRED - value.keys())) or 'none'}"


def _module_id(value: object) -> str:
    text: str = _typed(value, "module_id", str)
    if not 0 < len(text) <= MAX_MODULE_ID or not text.isascii() or not text.isprintable():
        raise _malformed("module_id", f"1 to {MAX_MODULE_ID} printable characters", f"{len(text)} characters")
    return text


def _timestamp(value: object) -> int:
    number: int = _typed(value, "timestamp", int)
    if number <= 0:
        raise _malformed("timestamp", "a positive number", number)
    return number


def _pcrs(value: object) -> dict[int, bytes]:
    pcrs: dict[Any, object] = _typed(value, "pcrs", dict)
    if not pcrs or not all(type(index) is int and 0 <= index < PCRS for index in pcrs):
        raise _malformed("pcrs", f"1 to {PCRS} registers, numbered 0 to {PCRS - 1}", f"{len(pcrs)} keys")
    return {index: _bytes(pcr, f"pcrs[{index}]", PCR_SIZE, PCR_SIZE) for index, pcr in pcrs.items()}


def _optional(value: object, name: str) -> bytes | None:
    return None if value is None else _bytes(value, name, *_BOUNDS[name])


def _bytes(value: object, name: str, low: int, high: int) -> bytes:
    raw: bytes = _typed(value, name, bytes)
    if not low <= len(raw) <= high:
        raise _malformed(name, f"{low} to {high} bytes", f"{len(raw)} bytes")
    return raw


def _typed(value: object, name: str, kind: type) -> Any:
    if type(value) is not kind:
        raise _malformed(name, kind.__name__, type(value).__name__)
    return value


def _malformed(name: str, expected: object, found: object) -> EvidenceError:
    return EvidenceError(
        NitroCode.MALFORMED, f"the document's {name} does not follow AWS's format", expected=expected, found=found
    )
