"""The one root of all errors, and the stable codes of this package.

Every error answers three questions for its caller: whose fault it is (`code.fault`), what was expected and
found, and what to do next (`remedy`).  None of these ever carries a secret or a request's content.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Any, Self


class Fault(IntEnum):
    """Whose fault an error is; the value is the exit status of a command that ends with it."""

    INTERNAL = 1
    """A defect of ours."""
    USAGE = 2
    """The command line or the configuration is wrong."""
    REFUSED = 10
    """Well-formed, understood, and refused: a signature, a policy, a budget."""
    UNSUPPORTED = 20
    """A version, algorithm or platform that this program does not handle."""
    MALFORMED = 30
    """Bytes or text that do not follow their format."""
    UNAVAILABLE = 40
    """The world is in the way: a full disk, a missing file, a port in use, a peer that does not answer."""


class ErrorCode(StrEnum):
    """Base of the code tables: `NAME = "stable-code", Fault.X, "what it means"`."""

    fault: Fault
    meaning: str

    def __new__(cls, value: str, fault: Fault, meaning: str) -> Self:
        """Make a member whose string value is the stable code."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.fault = fault
        member.meaning = meaning
        return member


class StrongroomError(Exception):
    """Root of every error that this project raises on purpose."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        expected: object = None,
        found: object = None,
        remedy: str | None = None,
    ) -> None:
        """Keep what the caller needs; `message` is one sentence without secrets."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.expected = expected
        self.found = found
        self.remedy = remedy

    @property
    def exit_code(self) -> int:
        """Exit status for a command that ends with this error."""
        return int(self.code.fault)

    def __str__(self) -> str:
        return f"[{self.code}] {self.message}"

    def to_dict(self) -> dict[str, Any]:
        """Give the machine-readable form that `--json` prints."""
        return {
            "code": str(self.code),
            "fault": self.code.fault.name.lower(),
            "message": self.message,
            "expected": None if self.expected is None else str(self.expected),
            "found": None if self.found is None else str(self.found),
            "remedy": self.remedy,
        }


class ManifestCode(ErrorCode):
    """Codes of canonical encodings, signatures, model manifests and sealed models."""

    ENCODING_MALFORMED = "encoding-malformed", Fault.MALFORMED, "the bytes are not canonical msgpack"
    ENCODING_TOO_DEEP = (
        "encoding-too-deep",
        Fault.MALFORMED,
        "the value is nested deeper than its format allows",
    )
    ENCODING_TOO_LARGE = "encoding-too-large", Fault.MALFORMED, "the value is longer than its format allows"
    FIELD_INVALID = (
        "field-invalid",
        Fault.MALFORMED,
        "a field is missing, unknown, or of the wrong type or size",
    )
    VERSION_UNSUPPORTED = (
        "version-unsupported",
        Fault.UNSUPPORTED,
        "a document or file is of a later version than this program knows",
    )
    KEY_INVALID = "key-invalid", Fault.MALFORMED, "the bytes are not a usable public or private key"
    SIGNATURE_INVALID = "signature-invalid", Fault.REFUSED, "the Ed25519 signature does not verify"
    FILE_UNAVAILABLE = "file-unavailable", Fault.UNAVAILABLE, "a file cannot be read or written"
    DISK_FULL = "disk-full", Fault.UNAVAILABLE, "there is no space left for the file"
    PASSPHRASE_WRONG = "passphrase-wrong", Fault.REFUSED, "the passphrase does not open the key file"
    FILE_EXISTS = "file-exists", Fault.USAGE, "a file that must not be overwritten is already there"
    FILE_TOO_LARGE = "file-too-large", Fault.MALFORMED, "a file is longer than its format allows"
    SEALED_MALFORMED = "sealed-malformed", Fault.MALFORMED, "the bytes are not a sealed model"
    SEALED_TRUNCATED = "sealed-truncated", Fault.MALFORMED, "the sealed model ends before its announced length"
    SEALED_VERSION = (
        "sealed-version",
        Fault.UNSUPPORTED,
        "the sealed model has a format or suite that this program does not know",
    )
    SEALED_SIGNATURE = "sealed-signature", Fault.REFUSED, "the owner's signature does not cover this sealed model"
    SEALED_OWNER = "sealed-owner", Fault.REFUSED, "the sealed model belongs to another owner"
    SEALED_DIGEST = "sealed-digest", Fault.REFUSED, "the sealed model is another one than was asked for"
    SEALED_CHUNK = "sealed-chunk", Fault.REFUSED, "a chunk is not the one that the owner sealed"
    SEALED_COMMITMENT = (
        "sealed-commitment",
        Fault.REFUSED,
        "the data key is not the one that this model was sealed with",
    )
    SEALED_DECRYPT = "sealed-decrypt", Fault.REFUSED, "a chunk does not decrypt under the data key"
    SEALED_RECIPIENT = "sealed-recipient", Fault.REFUSED, "the private key opens none of the model's recipient entries"
    SEALED_RECIPIENTS = (
        "sealed-recipients",
        Fault.USAGE,
        "a sealed model needs between 1 and 64 different recipients",
    )
    SEALED_PART = "sealed-part", Fault.USAGE, "the sealed model has no such part, or a part cannot be sealed"
    SEALED_STATE = "sealed-state", Fault.INTERNAL, "the sealed model is read before its data key was given"
    MANIFEST_INVALID = "manifest-invalid", Fault.MALFORMED, "the model manifest contradicts itself or its format"
    MODEL_MALFORMED = "model-malformed", Fault.MALFORMED, "the bytes are not an ONNX model"
    MODEL_UNSUPPORTED = "model-unsupported", Fault.UNSUPPORTED, "the model uses something that cannot be served"
    EXPORT_FAILED = "export-failed", Fault.REFUSED, "the framework could not export the model to ONNX"
    EXTRA_MISSING = "extra-missing", Fault.UNAVAILABLE, "an optional package is not installed"


class ManifestError(StrongroomError):
    """Raised by `manifests` for anything that it refuses."""
