"""TPM evidence: a quote with everything that its verification needs, in one container.

A TPM's answer to TPM2_Quote is a message and a signature.  The container adds the key that made it, the PCR values
that the quote is a hash of, and the event log.  It is canonical msgpack (see `manifests.canonical`) of a map:

    format      "strongroom tpm evidence"
    key         TPM2B_PUBLIC of the attestation key
    key_chain   list of DER certificates, the attestation key's first and the root last; empty if the policy names
                the key itself
    log         the firmware's event log; empty if there is none
    message     TPMS_ATTEST, which the signature is over
    parent      qualified name of the attestation key's parent, or the hierarchy's handle (4 bytes) of a primary key
    pcrs        list of PCR values, in the order of the message's selection
    signature   TPMT_SIGNATURE
    version     1
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from attestation.errors import EvidenceError
from attestation.eventlog.log import MAX_LOG, EventLog, parse_event_log
from attestation.tpm.attest import MAX_ATTEST, Attest
from attestation.tpm.chain import MAX_CERTIFICATE, MAX_CHAIN
from attestation.tpm.errors import TpmCode
from attestation.tpm.marshal import U16
from attestation.tpm.pcrs import MAX_PCRS, PcrValues, match
from attestation.tpm.public import MAX_PUBLIC, Public
from attestation.tpm.signature import MAX_SIGNATURE, Signature
from manifests import canonical, fields
from manifests.errors import Fault, ManifestCode, ManifestError

FORMAT = "strongroom tpm evidence"
VERSION = 1
_NAMES = ("format", "key", "key_chain", "log", "message", "parent", "pcrs", "signature")
_BEGIN = b"\xa6format" + canonical.encode(FORMAT)
"""What follows the head of the map: `format` is the first of its keys."""

MAX_EVIDENCE = MAX_LOG + 64 * 1024
_MAX_NAME = 2 + 64


@dataclass(frozen=True)
class SignedQuote:
    """A quote, its signature, and the PCR values that it is over; nothing in it is verified."""

    attest: Attest
    signature: Signature
    pcrs: PcrValues

    tee: ClassVar[str] = "tpm"
    version: ClassVar[int] = VERSION

    @classmethod
    def parse(cls, message: bytes, signature: Signature, values: list[bytes]) -> SignedQuote:
        """Decode the message, and match the values with its selection; raises EvidenceError."""
        attest = Attest.parse(message)
        return cls(attest, signature, match(attest.pcr_select, values))

    @property
    def report_data(self) -> bytes:
        """The qualifying data: SHA-256 of the 64 bytes of report data, in evidence that is bound to a session."""
        return self.attest.extra_data

    def serialize(self) -> bytes:
        """Return message, signature and PCR values, one after the other."""
        return self.attest.serialize() + self.signature.serialize() + b"".join(self.pcrs.values)

    def to_dict(self) -> dict[str, Any]:
        """Return every field by the names of the TPM's structures, as hex."""
        return {
            "attest": self.attest.to_hex(),
            "signature": {
                "scheme": U16.write(self.signature.scheme).hex(),
                "hash": U16.write(self.signature.hash).hex(),
                "value": [value.hex() for value in self.signature.value],
            },
            "pcrs": self.pcrs.to_dict(),
        }


@dataclass(frozen=True)
class TpmEvidence:
    """A parsed container; nothing in it is verified.

    parent: 34 to 66 bytes, or 4.  key_chain: DER, the key's certificate first.  log: None where none is carried.
    """

    quote: SignedQuote
    key: Public
    parent: bytes
    key_chain: tuple[bytes, ...]
    log: EventLog | None

    tee: ClassVar[str] = "tpm"
    version: ClassVar[int] = VERSION

    @property
    def report_data(self) -> bytes:
        """The qualifying data of the quote."""
        return self.quote.report_data

    def serialize(self) -> bytes:
        """Return the container's bytes; `parse_evidence` is the inverse."""
        value = {
            "format": FORMAT,
            "version": VERSION,
            "key": self.key.serialize(),
            "key_chain": list(self.key_chain),
            "log": b"" if self.log is None else self.log.serialize(),
            "message": self.quote.attest.serialize(),
            "parent": self.parent,
            "pcrs": list(self.quote.pcrs.values),
            "signature": self.quote.signature.serialize(),
        }
        return canonical.encode(value)

    def to_dict(self) -> dict[str, Any]:
        """Return every field by the names of the TPM's structures, as hex."""
        return self.quote.to_dict() | {
            "key": self.key.to_dict(),
            "parent": self.parent.hex(),
            "key_chain": [der.hex() for der in self.key_chain],
            "event_log": [event.to_dict() for event in self.log.events] if self.log else None,
        }


def is_evidence(data: bytes) -> bool:
    """Tell whether bytes begin as a container does."""
    return data[1 : 1 + len(_BEGIN)] == _BEGIN and data[0] >> 4 == 8


def parse_evidence(data: bytes) -> TpmEvidence:
    """Parse a container; raises EvidenceError with a `tpm-...` or `eventlog-...` code, and nothing else."""
    try:
        value = _decode(data)
    except ManifestError as error:
        unsupported = error.code.fault is Fault.UNSUPPORTED
        raise EvidenceError(
            TpmCode.EVIDENCE_VERSION if unsupported else TpmCode.EVIDENCE_MALFORMED,
            f"the container of TPM evidence: {error.message}",
            expected=error.expected,
            found=error.found,
            remedy=error.remedy,
        ) from None
    signature = Signature.parse(value["signature"])
    return TpmEvidence(
        quote=SignedQuote.parse(value["message"], signature, value["pcrs"]),
        key=Public.parse(value["key"]),
        parent=value["parent"],
        key_chain=tuple(value["key_chain"]),
        log=parse_event_log(value["log"]) if value["log"] else None,
    )


def _decode(data: bytes) -> dict[str, Any]:
    """Return the map with types and sizes checked; raises ManifestError."""
    decoded = canonical.decode(data, max_size=MAX_EVIDENCE)
    value = fields.versioned_map(decoded, "TPM evidence", _NAMES)
    if fields.text(value["format"], "format", 64) != FORMAT:
        raise ManifestError(ManifestCode.FIELD_INVALID, "it is of another format", expected=FORMAT)
    for name, limit in (
        ("key", MAX_PUBLIC + 2),
        ("log", MAX_LOG),
        ("message", MAX_ATTEST),
        ("parent", _MAX_NAME),
        ("signature", MAX_SIGNATURE),
    ):
        fields.bounded_bytes(value[name], name, limit)
    for name, count, limit in (("key_chain", MAX_CHAIN, MAX_CERTIFICATE), ("pcrs", MAX_PCRS, _MAX_NAME)):
        for item in fields.list_of(value[name], name, count):
            fields.bounded_bytes(item, name, limit)
    return value
