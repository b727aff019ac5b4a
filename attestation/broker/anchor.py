"""The anchor: the newest audit head that the broker remembers outside its database.

A file in the home, signed by the broker.  A database that lacks this head was rolled back or exchanged, and is
refused.  It is written after the database's commit, so that a crash leaves it behind and never ahead; the rows
between it and the log's end are verified whenever the database is opened.
"""

from __future__ import annotations

from pathlib import Path

from attestation.binding import HASH_SIZE
from attestation.broker.audit import Head
from attestation.errors import BrokerCode, BrokerError
from manifests import fields, signing
from manifests.errors import ManifestError
from manifests.files import read_bounded, write_atomically

ANCHOR = signing.label("audit anchor")


class Anchor:
    """Reads and writes one anchor file."""

    def __init__(self, path: Path, signer: signing.Signer) -> None:
        """Name the file and the key that signs it; nothing is read yet."""
        self._path = path
        self._signer = signer

    def read(self) -> Head:
        """Return the remembered head; raises as `read_anchor`."""
        return read_anchor(self._path, self._signer.public)

    def write(self, head: Head, *, dangerously_lower: bool = False) -> None:
        """Remember a head durably, unless a higher one is remembered already.

        Raises ManifestError `disk-full` or `file-unavailable`.
        """
        if not dangerously_lower and self._is_behind(head):
            return
        document = self._signer.sign_document(ANCHOR, {"version": 1, "count": head.count, "head": head.digest})
        write_atomically(self._path, document, mode=0o600)

    def _is_behind(self, head: Head) -> bool:
        """Tell whether another process has remembered more than this head."""
        try:
            return self.read().count > head.count
        except BrokerError:  # the first anchor, or one that was lost under a running broker
            return False


def read_anchor(path: Path, broker: bytes) -> Head:
    """Return the head that an anchor remembers; raises BrokerError `store-rolled-back` if it is lost or altered."""
    try:
        value = signing.open_versioned(broker, ANCHOR, read_bounded(path, 4096), ("count", "head"))
        return Head(fields.number(value["count"], "count", 1), fields.fixed_bytes(value["head"], "head", HASH_SIZE))
    except ManifestError as error:
        raise BrokerError(
            BrokerCode.STORE_ROLLED_BACK,
            f"the anchor {path} is lost or altered, so nothing shows that the database is the newest",
            found=error.message,
            remedy="verify the log against a head from elsewhere, then `strongroom broker audit accept`",
        ) from None
