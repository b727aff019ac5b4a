"""The highest epochs that a client has seen: its defence against being shown yesterday's world.

Epochs are kept by owner and name; the empty name stands for the owner's broker.  In memory by default, or in a JSON
file that several programs share: {"version": 1, "epochs": {"<owner, hex>": {"<name>": number}}}.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attestation.client.errors import ClientCode, ClientError
from manifests import fields
from manifests.errors import ManifestCode, ManifestError
from manifests.files import read_bounded, write_atomically

MAX_FILE = 4 * 1024 * 1024
"""Some ten thousand models."""
BROKER = ""
"""The name under which an owner's broker is remembered."""

_Key = tuple[bytes, str]


class EpochMemory:
    """Remembers the highest epoch of each owner and model; refuses lower ones."""

    def __init__(self, path: Path | None = None) -> None:
        """Remember in `path`, which is made when first needed, or for this object's life alone.

        Raises ManifestError for a file that is none of seen epochs, here and whenever it is read again.
        """
        self._path = path
        self._highest: dict[_Key, int] = {}
        self._text: bytes | None = None
        self._refresh()

    def __repr__(self) -> str:
        return f"EpochMemory({str(self._path)!r})" if self._path else "EpochMemory()"

    def highest(self, owner: bytes, name: str) -> int:
        """Return the highest epoch seen, by whichever program shares the file, or 0."""
        self._refresh()
        return self._highest.get((owner, name), 0)

    def observe(self, owner: bytes, name: str, epoch: int) -> None:
        """Take note of an epoch; raises ClientError `epoch-rollback` if a higher one was seen.

        The file is read anew each time, since another program may have seen a higher one meanwhile.  It is replaced
        in one step, so that only a change of ours needs the lock.
        """
        if self._is_news(owner, name, epoch):
            with self._alone():
                if self._is_news(owner, name, epoch):
                    self._highest[owner, name] = epoch
                    self._save()

    def _is_news(self, owner: bytes, name: str, epoch: int) -> bool:
        """Tell whether an epoch is higher than any before; raises ClientError if it is lower."""
        highest = self.highest(owner, name)
        if epoch < highest:
            raise ClientError(
                ClientCode.EPOCH_ROLLBACK,
                f"the epoch of {name or 'the broker'} went back",
                expected=f"at least {highest}",
                found=epoch,
                remedy="ask the owner; if the owner did start again, remove its entry from the file of seen epochs",
            )
        return epoch > highest

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._path is None else _locked(self._path)

    def _refresh(self) -> None:
        """Take over what other programs have written; nothing that was seen here is forgotten."""
        if self._path is None or not self._path.exists():
            return
        text = read_bounded(self._path, MAX_FILE)
        if text != self._text:
            for key, epoch in _decode(text, self._path).items():
                self._highest[key] = max(epoch, self._highest.get(key, 0))
            self._text = text

    def _save(self) -> None:
        if self._path is not None:
            write_atomically(self._path, _encode(self._highest), mode=0o600)


def _encode(highest: dict[_Key, int]) -> bytes:
    epochs: dict[str, dict[str, int]] = {}
    for (owner, name), epoch in sorted(highest.items()):
        epochs.setdefault(owner.hex(), {})[name] = epoch
    return json.dumps({"version": 1, "epochs": epochs}, indent=1).encode()


def _decode(text: bytes, path: Path) -> dict[_Key, int]:
    """Decode the file's text; raises ManifestError for one that is not of this format."""
    try:
        return _epochs(json.loads(text))
    except (ValueError, RecursionError):
        raise ManifestError(
            ManifestCode.FIELD_INVALID,
            f"{path} is not a file of seen epochs",
            remedy="restore it from a copy, or remove it and lose the protection against older epochs",
        ) from None


def _epochs(value: Any) -> dict[_Key, int]:
    value = fields.versioned_map(value, "the file of seen epochs", ("epochs",))
    owners = fields.of_type(value["epochs"], "epochs", dict)
    return {
        (bytes.fromhex(owner), name): fields.number(epoch, "epoch", 0)
        for owner, names in owners.items()
        for name, epoch in fields.of_type(names, "names", dict).items()
    }


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock beside the file, so that two programs cannot forget each other's epochs."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ManifestError(ManifestCode.FILE_UNAVAILABLE, f"cannot write beside {path}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
