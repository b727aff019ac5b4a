"""Where collateral is kept.  Nothing that comes from here is trusted: verification tells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from attestation.collateral.document import MAX_COLLATERAL, Collateral
from attestation.collateral.key import CollateralKey
from attestation.errors import EvidenceCode, EvidenceError
from manifests.errors import ManifestCode, ManifestError
from manifests.files import exists, naming, read_bounded

if TYPE_CHECKING:
    from attestation.roots import Roots
    from attestation.watched import WatchedFolder

T = TypeVar("T")


class CollateralSource(ABC):
    """Somewhere that collateral comes from.  Nothing that it returns is trusted."""

    def fetch(self, key: CollateralKey) -> Collateral:
        """Return the collateral filed under `key`; raises EvidenceError `collateral-missing` and others.

        It may be of another TEE than `key`: verification tells.
        """
        from attestation.collateral.kinds import decode  # the kinds are subclasses of what this package declares

        for candidate in key.candidates:
            data = self._fetch(candidate)
            if data is not None:
                return decode(data)
        raise missing(key)

    def fetch_for(
        self,
        key: CollateralKey,
        carried: Sequence[bytes] = (),  # noqa: ARG002 - for sources that choose
        now: int | None = None,  # noqa: ARG002 - likewise
        signed: Callable[[Collateral], bool] | None = None,  # noqa: ARG002 - likewise
    ) -> Collateral:
        """Return the collateral for evidence that carries these certificates, to be verified at `now` (Unix seconds).

        carried: DER, the key's own first.  now: None is now or later.  signed: whether the key that collateral is of
        signed the evidence.  All matter where a source has several documents of a kind to choose among.  Raises as
        `fetch` does.
        """
        return self.fetch(key)

    def under(self, roots: Roots) -> CollateralSource:  # noqa: ARG002 - for sources that choose
        """Return this source as it is now, for evidence that is verified under these roots; raises as `fetch` does.

        A source that has several documents of a kind chooses among those that were signed below them.
        """
        return self

    def only(self) -> Collateral | None:
        """Return the one collateral that this source has whatever the key, for evidence that gives none; None else.

        Raises as `fetch` does.
        """
        return None

    def fetch_verified(self, key: CollateralKey, verify: Callable[[Collateral], T]) -> tuple[Collateral, T]:
        """Return the collateral filed under `key`, and what `verify` makes of it; raises as `fetch` and `verify` do.

        A source that keeps what it fetched keeps nothing that `verify` has refused.
        """
        collateral = self.fetch(key)
        return collateral, verify(collateral)

    @abstractmethod
    def _fetch(self, key: CollateralKey) -> bytes | None:
        """Return the JSON bytes for `key`, or None where there are none."""


def missing(key: CollateralKey) -> EvidenceError:
    """Return the error for a source that has nothing for a key."""
    return EvidenceError(
        EvidenceCode.COLLATERAL_MISSING,
        f"no collateral is held for {key}",
        expected=" or ".join(map(str, key.candidates)),
        remedy="fetch the vendor's collateral for this platform and put it there",
    )


class DirectorySource(CollateralSource):
    """A folder with files named `{tee}-{family}-{unit}.json`, and any others: needs no network.

    All its files count, as they do for `attest verify`: a list that revokes does under any name.  They are read again
    whenever the folder has changed.
    """

    def __init__(self, folder: Path | str) -> None:
        """Read from `folder`, at each fetch what has changed."""
        self.folder = Path(folder)
        self._watched: WatchedFolder | None = None

    def fetch(self, key: CollateralKey) -> Collateral:
        """Return what counts for `key`; raises EvidenceError `collateral-missing` and others, and ManifestError."""
        return self.fetch_for(key)

    def fetch_for(
        self,
        key: CollateralKey,
        carried: Sequence[bytes] = (),
        now: int | None = None,
        signed: Callable[[Collateral], bool] | None = None,
    ) -> Collateral:
        """Return what counts for this evidence, under the vendors' roots, or a simulated platform's that it ends in.

        `under` names the roots.
        """
        return self.under(self._watch().guessed_roots(key)).fetch_for(key, carried, now, signed)

    def under(self, roots: Roots) -> CollateralSource:
        """Return all that the folder holds now; raises as `open_collateral` does."""
        return self._watch().files(roots)

    def _watch(self) -> WatchedFolder:
        from attestation.watched import WatchedFolder  # it reads what the kinds of collateral declare

        if self._watched is None:
            self._watched = WatchedFolder(self.folder)
        return self._watched

    def _fetch(self, key: CollateralKey) -> bytes | None:
        path = self.folder / f"{key}.json"
        return read_bounded(path, MAX_COLLATERAL) if exists(path) else None


class DataSource(CollateralSource):
    """The content of one collateral file, for whichever platform is asked for; verification tells if it does not fit.

    A bundle gives what it has under the key that is asked for.
    """

    def __init__(self, data: bytes) -> None:
        """Hand out what these bytes have."""
        self._content = data

    def only(self) -> Collateral | None:
        """Return the file's collateral, or a bundle's if it has one only."""
        from attestation.collateral.bundle import Bundle, looks_like_bundle  # bundles are sources, too
        from attestation.collateral.kinds import decode

        data = self._data()
        return Bundle.from_json(data).only if looks_like_bundle(data) else decode(data)

    def _fetch(self, key: CollateralKey) -> bytes | None:
        from attestation.collateral.bundle import Bundle, looks_like_bundle

        data = self._data()
        return Bundle.from_json(data).file(key) if looks_like_bundle(data) else data

    def _data(self) -> bytes:
        return self._content


class FileSource(DataSource):
    """One collateral file, or a bundle, as `DataSource`."""

    def __init__(self, path: Path | str) -> None:
        """Read from `path`, at each fetch anew."""
        super().__init__(b"")
        self.path = Path(path)

    def _data(self) -> bytes:
        from attestation.collateral.bundle import MAX_BUNDLE

        return read_bounded(self.path, MAX_BUNDLE)


class FixedSource(CollateralSource):
    """Collateral that is already in memory, such as the bundle that travels with evidence."""

    def __init__(self, collateral: Collateral) -> None:
        """Hand out this collateral."""
        self._collateral = collateral
        self._data = collateral.to_json().encode("utf-8")

    def only(self) -> Collateral | None:
        """Return it."""
        return self._collateral

    def _fetch(self, key: CollateralKey) -> bytes | None:  # noqa: ARG002 - one bundle serves every key
        return self._data


def open_source(path: Path | str) -> CollateralSource:
    """Return the source for a folder or a file; raises ManifestError `file-unavailable`."""
    path = Path(path)
    with naming(path):
        if path.is_dir():
            return DirectorySource(path)
        if path.is_file():
            return FileSource(path)
    raise ManifestError(
        ManifestCode.FILE_UNAVAILABLE, f"{path} is neither a folder nor a file", remedy="name collateral that exists"
    )
