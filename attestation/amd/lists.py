"""Which revocation list counts where several of one root key lie side by side.

An older list is genuine, too, and may be valid for weeks after a newer one has revoked something.  So every list is
verified, one that names a certificate of the chain at hand comes before all others, and then the one that was issued
last, of those that were issued by the time of verification if any were.  Lists that do not verify are passed over where
another does; where none does, one of them is returned, for verification to tell what is wrong with it: a list that
cannot be read is not the same as none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from attestation.amd.certificates import read_root
from attestation.amd.crl import RevocationList, read_crl
from attestation.errors import EvidenceError
from attestation.roots import Roots

UNREADABLE: Final = b""
"""The issuer of a list that does not say it: it may be anybody's."""


class Lists:
    """The lists among some files, and those of them that a pinned root key signed; each is verified once."""

    def __init__(self, lists: Iterable[tuple[bytes, bytes]], roots: Roots, now: int | None = None) -> None:
        """Choose among these (DER name of the issuer, DER) under these roots; now: Unix seconds, or None."""
        self._lists, self._roots, self._now = tuple(dict.fromkeys(lists)), roots, now
        self._read: dict[bytes, list[tuple[RevocationList, bytes]]] = {}

    def newest(self, root: bytes, issuer: bytes, serials: Collection[int]) -> bytes:
        """Return the DER of the list that counts for certificates with these serial numbers; empty where none is there.

        root: DER of the root's certificate.  issuer: its DER name.
        """
        genuine = self._genuine(root, issuer)
        named = [each for each in genuine if not each[0].revoked.isdisjoint(serials)]
        issued = [each for each in genuine if self._now is None or each[0].validity.start <= self._now]
        if found := named or issued or genuine:
            return max(found, key=_age)[1]
        return next((der for said, der in self._lists if said in {issuer, UNREADABLE}), b"")

    def _genuine(self, root: bytes, issuer: bytes) -> list[tuple[RevocationList, bytes]]:
        if root not in self._read:
            self._read[root] = self._verified(root, issuer)
        return self._read[root]

    def _verified(self, root: bytes, issuer: bytes) -> list[tuple[RevocationList, bytes]]:
        found: list[tuple[RevocationList, bytes]] = []
        try:
            ark, _ = read_root(root, self._roots)
        except EvidenceError:
            return found
        for said, der in self._lists:
            if said != issuer:
                continue
            try:
                found.append((read_crl(der, ark), der))
            except EvidenceError:
                continue
        return found


def _age(item: tuple[RevocationList, bytes]) -> tuple[int, int, int]:
    """Sort lists by when they were issued; of the same second, by how long they are good, and by what they hold."""
    validity = item[0].validity
    return validity.start, validity.end, len(item[0].revoked)
