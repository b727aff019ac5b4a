r"""The file that keeps a receipt with all that it takes to verify it, and to open it.

    file = canonical msgpack [body, SHA-512("strongroom receipt bundle v1\0" || body)]
    body = canonical msgpack map: docs/receipts.md has its fields

The checksum finds damage, and no attacker: whoever changes the body can make another.  Verification finds those.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

from attestation.collateral import MAX_COLLATERAL, Collateral
from attestation.errors import EvidenceError, WireError
from attestation.types.claims import MAX_EVIDENCE, EvidenceRecord
from attestation.types.receipt import DIGEST_SIZE, MAX_RECEIPT, Receipt, SignedReceipt
from attestation.types.receipt_errors import ReceiptCode, ReceiptError
from attestation.wire.commitments import SALT_SIZE, Direction, Tensor, leaf, salts
from attestation.wire.messages import MAX_TENSORS, TensorSpec, read_spec
from manifests import canonical, fields
from manifests.errors import ManifestCode, ManifestError
from manifests.files import read_bounded, write_atomically
from manifests.signing import digest, label

FORMAT: Final = "strongroom-receipt-bundle"
MAX_BUNDLE: Final = 1 << 29
"""Twice the 256 MiB that a message has at most: inputs and outputs may be in it."""

_CHECKSUM: Final = label("receipt bundle")
_START: Final = b"\x92"
"""An array of two; a bare receipt starts with the tag of COSE_Sign1."""
_FIELDS: Final = ("format", "receipt", "evidence", "collateral", "noted", "time", *map(str, Direction))


@dataclass(frozen=True)
class Opening:
    """One tensor under a commitment.  leaf: 64 bytes.  The rest is None where it is withheld.

    salt: 32 bytes, with which the tensor can be compared.  spec: how the message announced it.  data: its bytes.
    """

    leaf: bytes
    salt: bytes | None = field(default=None, repr=False)
    spec: TensorSpec | None = None
    data: bytes | None = field(default=None, repr=False)

    def holds(self, tensor: Tensor) -> bool:
        """Tell whether this is the tensor; without the salt nothing is."""
        return self.salt is not None and hmac.compare_digest(leaf(self.salt, tensor), self.leaf)

    def withheld(self) -> Opening:
        """Return it closed."""
        return Opening(self.leaf)

    def to_list(self) -> list[Any]:
        """Return the items that stand in the file."""
        if self.salt is None or self.spec is None:
            return [self.leaf]
        return [self.leaf, self.salt, self.spec.announced(), self.data]

    @classmethod
    def from_list(cls, value: object) -> Self:
        """Read the items; raises ManifestError or WireError."""
        items = fields.list_of(value, "opening", 4)
        if len(items) not in {1, 4}:
            raise ManifestError(ManifestCode.FIELD_INVALID, "an opening has one item or four", found=len(items))
        found = cls(fields.fixed_bytes(items[0], "leaf", DIGEST_SIZE))
        if len(items) == 1:
            return found
        spec = read_spec(items[2])
        data = None if items[3] is None else fields.fixed_bytes(items[3], "data", spec.size)
        return replace(found, salt=fields.fixed_bytes(items[1], "salt", SALT_SIZE), spec=spec, data=data)


def open_all(salt: bytes, tensors: Sequence[Tensor]) -> tuple[Opening, ...]:
    """Return the openings of all tensors of a message, with their content; `salt` has 32 bytes."""
    return tuple(
        Opening(leaf(own, (spec, data)), own, spec, bytes(data))
        for own, (spec, data) in zip(salts(salt, len(tensors)), tensors, strict=True)
    )


@dataclass(frozen=True)
class ReceiptBundle:
    """A receipt, and what it takes to verify and open it.  Nothing in it is verified.

    receipt: the COSE message.  evidence: the record of the session that it descends from.  collateral: what the
    vendor said of that platform then; None where its evidence needs none.  noted: what the client saw, in the fields
    of a receipt.  time: Unix seconds by the client's clock.  openings: by direction, all tensors in order.
    """

    receipt: bytes = field(repr=False)
    evidence: EvidenceRecord = field(repr=False)
    collateral: Collateral | None = field(repr=False)
    noted: Receipt
    time: int
    openings: Mapping[Direction, tuple[Opening, ...]]

    def signed(self) -> SignedReceipt:
        """Return the receipt, parsed; raises ReceiptError or ManifestError as that does."""
        return SignedReceipt.parse(self.receipt)

    def closed(self) -> Self:
        """Return the bundle without any content: it can be compared with content that somebody has."""
        opened = {way: tuple(replace(each, data=None) for each in found) for way, found in self.openings.items()}
        return replace(self, openings=opened)

    def disclosing(self, names: Mapping[Direction, frozenset[str]]) -> Self:
        """Return the bundle with these tensors as they are, and every other one withheld.

        Raises ReceiptError `receipt-withheld` for a name that is not opened here.
        """
        for way in Direction:
            known = {each.spec.name for each in self.openings[way] if each.spec is not None}
            if missing := sorted(names.get(way, frozenset()) - known):
                raise ReceiptError(
                    ReceiptCode.WITHHELD, f"the bundle opens no {way} {missing[0]!r}", expected=sorted(known)
                )
        opened = {
            way: tuple(_kept(each, names.get(way, frozenset())) for each in self.openings[way]) for way in Direction
        }
        return replace(self, openings=opened)

    def encode(self) -> bytes:
        """Return the file's bytes."""
        body = canonical.encode(
            {
                "format": FORMAT,
                "version": fields.VERSION,
                "receipt": self.receipt,
                "evidence": self.evidence.encode(),
                "collateral": None if self.collateral is None else self.collateral.to_json().encode(),
                "noted": self.noted.to_map(),
                "time": self.time,
                **{str(way): [each.to_list() for each in self.openings[way]] for way in Direction},
            }
        )
        return canonical.encode([body, digest(_CHECKSUM, body)])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode a file.

        Raises ReceiptError `receipt-bundle-malformed` or `receipt-bundle-damaged`, or ManifestError
        `version-unsupported`.
        """
        try:
            return cls._decode(_checked(data))
        except (ManifestError, EvidenceError, WireError) as error:
            if error.code is ManifestCode.VERSION_UNSUPPORTED:
                raise
            raise _malformed(error.message) from None

    @classmethod
    def _decode(cls, body: bytes) -> Self:
        value = fields.versioned_map(canonical.decode(body, max_size=MAX_BUNDLE), "the bundle", _FIELDS)
        if value["format"] != FORMAT:
            raise _malformed("it is of another format")
        return cls(
            receipt=fields.bounded_bytes(value["receipt"], "receipt", MAX_RECEIPT),
            evidence=EvidenceRecord.decode(fields.bounded_bytes(value["evidence"], "evidence", MAX_EVIDENCE)),
            collateral=None if value["collateral"] is None else _collateral(value["collateral"]),
            noted=Receipt.from_map(value["noted"]),
            time=fields.number(value["time"], "time", 0),
            openings={way: _openings(value[way], way) for way in Direction},
        )

    def save(self, path: Path | str, *, content: bool = False, overwrite: bool = False) -> Path:
        """Write the file, whole or not at all, for its owner's eyes: its salts open the commitments.

        content: whether the inputs and outputs go into it.  Raises ManifestError.
        """
        kept = self if content else self.closed()
        write_atomically(Path(path), kept.encode(), mode=0o600, replace=overwrite)
        return Path(path)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a file; raises ReceiptError or ManifestError."""
        return cls.decode(read_bounded(Path(path), MAX_BUNDLE))


def looks_like_bundle(data: bytes) -> bool:
    """Tell a bundle from a bare receipt."""
    return data.startswith(_START)


def _kept(opening: Opening, names: frozenset[str]) -> Opening:
    return opening if opening.spec is not None and opening.spec.name in names else opening.withheld()


def _checked(data: bytes) -> bytes:
    """Return the body of a file; raises ReceiptError or ManifestError."""
    items = fields.list_of(canonical.decode(data, max_size=MAX_BUNDLE), "bundle", 2)
    if len(items) != 2:
        raise ManifestError(ManifestCode.FIELD_INVALID, "a bundle has two items", found=len(items))
    body, checksum = fields.of_type(items[0], "body", bytes), fields.fixed_bytes(items[1], "checksum", DIGEST_SIZE)
    if digest(_CHECKSUM, body) != checksum:
        raise ReceiptError(ReceiptCode.DAMAGED, ReceiptCode.DAMAGED.meaning)
    return body


def _collateral(value: object) -> Collateral:
    """Read collateral, which must stand there as this program writes it."""
    from attestation.collateral.kinds import decode  # the kinds are subclasses of what that package declares

    data = fields.bounded_bytes(value, "collateral", MAX_COLLATERAL)
    collateral = decode(data)
    if collateral.to_json().encode() != data:
        raise _malformed("its collateral is not in the one form that it is written in")
    return collateral


def _openings(value: object, way: Direction) -> tuple[Opening, ...]:
    return tuple(Opening.from_list(item) for item in fields.list_of(value, way, MAX_TENSORS))


def _malformed(why: str) -> ReceiptError:
    return ReceiptError(ReceiptCode.BUNDLE, f"the bundle is not usable: {why}")
