"""The one root of all errors, and the stable codes of this package.

Every error answers three questions for its caller: whose fault it is (`code.fault`), what was expected and
found, and what to do next (`remedy`).  None of these ever carries a secret or a request's content.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
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
    """Base of the code tables: `NAME = "stable-code", Fault.X, "what it means", "what to do"`.

    The last is for errors that say nothing better themselves; None where every one of them does, and for findings.
    """

    fault: Fault
    meaning: str
    remedy: str | None

    def __new__(cls, value: str, fault: Fault, meaning: str, remedy: str | None = None) -> Self:
        """Make a member whose string value is the stable code."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.fault = fault
        member.meaning = meaning
        member.remedy = remedy
        return member


def shown(value: object) -> str:
    """Return what was expected or found as text for people: bytes in hex, several values side by side, never empty."""
    if isinstance(value, bytes):
        value = value.hex()
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(map(shown, value)) or "none"
    return str(value) or "nothing"


def _restore(kind: type[StrongroomError], args: tuple[Any, ...], state: dict[str, Any]) -> StrongroomError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


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
        """Keep what the caller needs; `message` is one sentence without secrets, `remedy` else the code's own."""
        super().__init__(message)
        self.code = code
        self.fault = code.fault
        self.message = message
        self.expected = expected
        self.found = found
        self.remedy = code.remedy if remedy is None else remedy

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes whatever a subclass's constructor takes."""
        return _restore, (type(self), self.args, self.__dict__)

    @property
    def exit_code(self) -> int:
        """Exit status for a command that ends with this error."""
        return int(self.fault)

    def __str__(self) -> str:
        return f"[{self.code}] {self.message}"

    def to_dict(self) -> dict[str, Any]:
        """Give the machine-readable form that `--json` prints."""
        return {
            "code": str(self.code),
            "fault": self.fault.name.lower(),
            "message": self.message,
            "expected": None if self.expected is None else shown(self.expected),
            "found": None if self.found is None else shown(self.found),
            "remedy": self.remedy,
        }


@contextlib.contextmanager
def configuring(option: str, path: object, remedy: str | None = None) -> Iterator[None]:
    """Read a file that an option of a command names: whatever is wrong with it is the caller's to correct.

    The error keeps its code; it names option and file, says `remedy` where one is given, and its fault is
    `Fault.USAGE`, so that no script takes a typing error for a verdict.
    """
    try:
        yield
    except StrongroomError as error:
        error.fault = Fault.USAGE
        error.message = f"{option}{'' if str(path) in error.message else f' {path}'}: {error.message}"
        error.remedy = remedy or error.remedy
        raise


_WHOLE = "get the file again from whoever made it"
_FETCH = "fetch the sealed file again from its owner; `strongroom inspect FILE` tells whether it is whole"


class ManifestCode(ErrorCode):
    """Codes of canonical encodings, signatures, model manifests and sealed models."""

    ENCODING_MALFORMED = "encoding-malformed", Fault.MALFORMED, "the bytes are not canonical msgpack", _WHOLE
    ENCODING_TOO_DEEP = (
        "encoding-too-deep",
        Fault.MALFORMED,
        "the value is nested deeper than its format allows",
        _WHOLE,
    )
    ENCODING_TOO_LARGE = "encoding-too-large", Fault.MALFORMED, "the value is longer than its format allows", _WHOLE
    FIELD_INVALID = (
        "field-invalid",
        Fault.MALFORMED,
        "a field is missing, unknown, or of the wrong type or size",
        "correct the field; the documentation of its format lists every field",
    )
    VERSION_UNSUPPORTED = (
        "version-unsupported",
        Fault.UNSUPPORTED,
        "a document or file is of a later version than this program knows",
        "use a newer release",
    )
    KEY_INVALID = (
        "key-invalid",
        Fault.MALFORMED,
        "the bytes are not a usable public or private key",
        "give a key file or card as `strongroom owner init`, `owner recipient` or `broker init` writes it",
    )
    SIGNATURE_INVALID = (
        "signature-invalid",
        Fault.REFUSED,
        "the Ed25519 signature does not verify",
        "get the file again from whoever signed it, and make sure that it is for this key",
    )
    FILE_UNAVAILABLE = (
        "file-unavailable",
        Fault.UNAVAILABLE,
        "a file cannot be read or written",
        "check the path, and who may read and write there",
    )
    DISK_FULL = "disk-full", Fault.UNAVAILABLE, "there is no space left for the file"
    PASSPHRASE_WRONG = "passphrase-wrong", Fault.REFUSED, "the passphrase does not open the key file"
    FILE_EXISTS = (
        "file-exists",
        Fault.USAGE,
        "a file that must not be overwritten is already there",
        "choose another name, or move the file away",
    )
    FILE_TOO_LARGE = (
        "file-too-large",
        Fault.MALFORMED,
        "a file is longer than its format allows",
        "name another file: this is none of its kind",
    )
    SEALED_MALFORMED = (
        "sealed-malformed",
        Fault.MALFORMED,
        "the bytes are not a sealed model",
        "name a file that `strongroom seal` wrote; if it is one, fetch it again from its owner",
    )
    SEALED_TRUNCATED = (
        "sealed-truncated",
        Fault.MALFORMED,
        "the sealed model ends before its announced length",
        "fetch the file again from its owner",
    )
    SEALED_VERSION = (
        "sealed-version",
        Fault.UNSUPPORTED,
        "the sealed model has a format or suite that this program does not know",
        "update strongroom, or have the owner seal the model for this version",
    )
    SEALED_SIGNATURE = (
        "sealed-signature",
        Fault.REFUSED,
        "the owner's signature does not cover this sealed model",
        _FETCH,
    )
    SEALED_OWNER = (
        "sealed-owner",
        Fault.REFUSED,
        "the sealed model belongs to another owner",
        "name the owner whom you mean, or get the model from its owner",
    )
    SEALED_DIGEST = "sealed-digest", Fault.REFUSED, "the sealed model is another one than was asked for", _FETCH
    SEALED_CHUNK = "sealed-chunk", Fault.REFUSED, "a chunk is not the one that the owner sealed", _FETCH
    SEALED_COMMITMENT = (
        "sealed-commitment",
        Fault.REFUSED,
        "the data key is not the one that this model was sealed with",
        _FETCH,
    )
    SEALED_DECRYPT = "sealed-decrypt", Fault.REFUSED, "a chunk does not decrypt under the data key", _FETCH
    SEALED_RECIPIENT = (
        "sealed-recipient",
        Fault.REFUSED,
        "the private key opens none of the model's recipient entries",
        "give the key of a present recipient, or have one of them rewrap the model for this key",
    )
    SEALED_RECIPIENTS = (
        "sealed-recipients",
        Fault.USAGE,
        "a sealed model needs between 1 and 64 different recipients",
        "name between 1 and 64 recipients, and keep one when you remove others",
    )
    TOKENIZER = (
        "tokenizer-refused",
        Fault.REFUSED,
        "a tokenizer.json asks for more than ordinary tokenizers do",
        "export it with the kinds of steps and the patterns that manifests/tokenizer.py lists",
    )
    SEALED_PART = (
        "sealed-part",
        Fault.USAGE,
        "the sealed model has no such part, or a part cannot be sealed",
        "name files that stay as they are while the model is sealed",
    )
    SEALED_STATE = (
        "sealed-state",
        Fault.INTERNAL,
        "the sealed model is read before its data key was given",
        "please report it",
    )
    MANIFEST_INVALID = (
        "manifest-invalid",
        Fault.MALFORMED,
        "the model manifest contradicts itself or its format",
        "correct the manifest; `strongroom model draft` writes one that fits the model",
    )
    MODEL_MALFORMED = "model-malformed", Fault.MALFORMED, "the bytes are not an ONNX model", "name an ONNX file"
    MODEL_UNSUPPORTED = (
        "model-unsupported",
        Fault.UNSUPPORTED,
        "the model uses something that cannot be served",
        "change the model; docs/model-manifest.md says what can be served",
    )
    SAMPLE_INVALID = (
        "sample-invalid",
        Fault.MALFORMED,
        "the sample data does not fit the model, or is too little",
        "give rows as clients send them, in an array for each input, by its name",
    )
    EXPORT_FAILED = (
        "export-failed",
        Fault.REFUSED,
        "the framework could not export the model to ONNX",
        "export the model to ONNX yourself and seal the file",
    )
    EXTRA_MISSING = "extra-missing", Fault.UNAVAILABLE, "an optional package is not installed"


class ManifestError(StrongroomError):
    """Raised by `manifests` for anything that it refuses."""
