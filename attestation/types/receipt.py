"""A receipt: what an enclave signs of one request that it has answered.

    receipt = COSE_Sign1 (RFC 9052, section 4.2), tagged, under the receipt key of the enclave's claims
    payload = a map in core deterministic CBOR (RFC 8949, section 4.2.1)

docs/receipts.md specifies both, and says what a receipt proves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from attestation.errors import EvidenceError
from attestation.types import cbor, cose
from attestation.types.receipt_errors import ReceiptCode, ReceiptError
from manifests import fields, signing
from manifests.errors import ManifestCode, ManifestError

CONTENT_TYPE: Final = "application/vnd.strongroom.receipt+cbor"
RECEIPT: Final = signing.label("receipt")
"""The external_aad: nothing else that is signed with COSE can be taken for a receipt."""
MAX_RECEIPT: Final = 4096
"""A receipt takes some 750 bytes; the rest is room for more checks."""
MAX_CHECKS: Final = 16
MAX_WORD: Final = 32
"""Characters of a check's name, and of the form of the outputs."""
MAX_ABUSE: Final = 255
FORMS: Final[Mapping[int, tuple[str, ...]]] = {
    0: ("scores", "rounded", "label-only", "text"),
    1: ("rounded",),
    2: ("label-only",),
}
"""By the level of the abuse policy's verdict, the forms that outputs may have left in."""
DIGEST_SIZE: Final = 64
MAX_STAGES: Final = 16
"""Further models; a manifest of today admits four."""

_DIGESTS: Final = ("evidence", "session", "origin", "model", "input", "output")
_NUMBERS: Final = ("epoch", "broker_time", "broker_epoch")


@dataclass(frozen=True)
class Verdict:
    """What the enclave made of the request.

    checks: names of those that it passed, in ascending order.  output: in which form the outputs left.  abuse: how far
    the abuse policy made them coarser than the manifest does, 0 for not at all.
    """

    checks: tuple[str, ...]
    output: str
    abuse: int = 0

    @property
    def agrees(self) -> bool:
        """Whether form and level are known, and go together."""
        return self.output in FORMS.get(self.abuse, ())

    def to_map(self) -> dict[str, Any]:
        """Return the map that a receipt has."""
        return {"abuse": self.abuse, "checks": list(self.checks), "output": self.output}

    @classmethod
    def from_map(cls, value: object) -> Self:
        """Read the map; raises ManifestError `field-invalid`."""
        table = fields.closed_map(value, "verdict", ("abuse", "checks", "output"))
        checks = [
            fields.text(item, "checks", MAX_WORD) for item in fields.list_of(table["checks"], "checks", MAX_CHECKS)
        ]
        fields.ascending(checks, "checks")
        return cls(
            tuple(checks),
            fields.text(table["output"], "output", MAX_WORD),
            fields.number(table["abuse"], "abuse", 0, MAX_ABUSE),
        )


@dataclass(frozen=True)
class Receipt:
    """The payload.  Digests, handshake hashes and commitments have 64 bytes.

    evidence: `EvidenceRecord.digest` of what this process was attested by.  session: handshake hash of the session.
    origin: handshake hash of the session that had the evidence; another one only where the session was resumed.
    boot_id: 16 bytes, as in the claims.  serial: counts the receipts of this boot from 1.  request: its number within
    the session.  model: digest of the model as it was loaded.  owner: its owner's key, 32 bytes.  epoch: the model's.
    broker_time, broker_epoch: newest signed time (Unix seconds) and epoch that the enclave knew of the owner's broker.
    input, output: commitments (attestation/wire/commitments.py).  stages: digests of the further models that have
    answered, in the order of the manifest's stages; a receipt without any has not the field.
    """

    evidence: bytes
    session: bytes
    origin: bytes
    boot_id: bytes
    serial: int
    request: int
    model: bytes
    owner: bytes
    epoch: int
    broker_time: int
    broker_epoch: int
    verdict: Verdict
    input: bytes
    output: bytes
    stages: tuple[bytes, ...] = ()

    @property
    def resumed(self) -> bool:
        """Whether the session came back with a ticket, and has no evidence of its own."""
        return self.session != self.origin

    def to_map(self) -> dict[str, Any]:
        """Return the map that is encoded."""
        table = {**self.__dict__, "version": 1, "verdict": self.verdict.to_map(), "stages": list(self.stages)}
        return table if self.stages else {name: value for name, value in table.items() if name != "stages"}

    @classmethod
    def from_map(cls, value: object) -> Self:
        """Read the map; raises ManifestError `field-invalid` or `version-unsupported`."""
        required = cls.__dataclass_fields__.keys() - {"stages"}
        table = fields.versioned_map(value, "the receipt", required, ("stages",))
        read: dict[str, Any] = {name: fields.fixed_bytes(table[name], name, DIGEST_SIZE) for name in _DIGESTS}
        read |= {name: fields.number(table[name], name, 0) for name in _NUMBERS}
        return cls(
            **read,
            boot_id=fields.fixed_bytes(table["boot_id"], "boot_id", 16),
            serial=fields.number(table["serial"], "serial", 1),
            request=fields.number(table["request"], "request", 1, (1 << 32) - 1),
            owner=signing.public_key_field(table["owner"], "owner"),
            verdict=Verdict.from_map(table["verdict"]),
            stages=_stages(table["stages"]) if "stages" in table else (),
        )

    def sign(self, sign: Callable[[bytes], bytes]) -> bytes:
        """Return the message, signed: `sign` gives the Ed25519 signature of its argument, 64 bytes."""
        payload = cbor.encode_ordered(self.to_map())
        unsigned = cose.Sign1(cose.ED25519, payload, b"", tagged=True, content_type=CONTENT_TYPE)
        return replace(unsigned, signature=sign(unsigned.signed(RECEIPT))).serialize()


@dataclass(frozen=True)
class SignedReceipt:
    """A parsed receipt; its signature counts only where `verify` says so."""

    receipt: Receipt
    message: cose.Sign1

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a message that uses up `data`.

        Raises ReceiptError `receipt-malformed` or `receipt-algorithm`, or ManifestError `version-unsupported`.
        """
        try:
            message = cose.parse(data, max_size=MAX_RECEIPT, content_type=CONTENT_TYPE)
            _check_form(message)
            return cls(Receipt.from_map(cbor.decode(message.payload, max_size=MAX_RECEIPT, ordered=True)), message)
        except (EvidenceError, ManifestError) as error:
            if error.code is ManifestCode.VERSION_UNSUPPORTED:
                raise
            raise _malformed(error.message) from None

    def serialize(self) -> bytes:
        """Return the message; `parse` is the inverse."""
        return self.message.serialize()

    def verify(self, public: bytes) -> bool:
        """Tell whether this key, 32 bytes, has signed it."""
        try:
            signing.verify(public, b"", self.message.signed(RECEIPT), self.message.signature)
        except ManifestError:
            return False
        return True


def _stages(value: object) -> tuple[bytes, ...]:
    """Read the digests of further models, one at least: a receipt without any has not the field."""
    items = fields.list_of(value, "stages", MAX_STAGES)
    if not items:
        raise ManifestError(ManifestCode.FIELD_INVALID, "'stages' is empty", expected="a digest", found="nothing")
    return tuple(fields.fixed_bytes(item, "stages", DIGEST_SIZE) for item in items)


def _check_form(message: cose.Sign1) -> None:
    if message.algorithm != cose.ED25519:
        raise ReceiptError(
            ReceiptCode.ALGORITHM,
            ReceiptCode.ALGORITHM.meaning,
            expected=f"{cose.ED25519} (Ed25519)",
            found=message.algorithm,
        )
    if not message.tagged or len(message.signature) != signing.SIGNATURE_SIZE:
        raise _malformed("it has not the tag of COSE_Sign1, or no Ed25519 signature")


def _malformed(why: str) -> ReceiptError:
    return ReceiptError(ReceiptCode.MALFORMED, f"the receipt is not usable: {why}")
