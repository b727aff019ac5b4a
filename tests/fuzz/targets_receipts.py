"""Targets that read receipts and the files that keep them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from attestation.receipts.bundle import ReceiptBundle
from attestation.types.receipt import SignedReceipt
from attestation.types.receipt_errors import ReceiptError
from manifests import canonical
from manifests.errors import ManifestError
from manifests.signing import digest, label
from tests.fuzz.target import Target
from tests.receipts import kit

_ERRORS = (ReceiptError, ManifestError)
_MAX: Final = 1 << 24


def _receipts() -> list[bytes]:
    return [kit.signed(), kit.signed(serial=1 << 40, session=bytes(64))]


def _bundles() -> list[bytes]:
    return [kit.bundle().encode(), replace(kit.bundle().disclosing({}), collateral=None).encode()]


def _body(data: bytes) -> ReceiptBundle:
    """Decode a bundle whose checksum is right, whatever its body."""
    return ReceiptBundle.decode(canonical.encode([data, digest(label("receipt bundle"), data)]))


def _body_of(data: bytes) -> bytes:
    body: bytes = canonical.decode(data, max_size=_MAX)[0]
    return body


TARGETS: Final[tuple[Target, ...]] = (
    Target("receipt", SignedReceipt.parse, _receipts, _ERRORS, remade=lambda value: value.serialize()),
    Target("receipt-bundle", ReceiptBundle.decode, _bundles, _ERRORS, remade=lambda value: value.encode()),
    Target("receipt-bundle-body", _body, lambda: [_body_of(data) for data in _bundles()], _ERRORS,
           remade=lambda value: _body_of(value.encode())),
)  # fmt: skip
