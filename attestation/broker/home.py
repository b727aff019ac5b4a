"""A broker's home: one folder that nobody but its user may enter.

version         "strongroom broker home 1", written last: a folder without it is one whose making was cut short
broker.key      the broker's keys under the passphrase (keystore.py)
broker.pub      the card: public keys for owners (`broker delegate`) and for `seal --recipient`
broker.db       the database, untrusted storage (store.py), with SQLite's -wal and -shm files beside it
anchor          the newest audit head that the broker remembers outside the database (anchor.py)
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.keystore import BrokerKeys, create_keys, load_keys
from manifests.files import naming, read_bounded, write_atomically
from manifests.keyfile import RECOMMENDED, Cost, read_public, write_card

FORMAT = b"strongroom broker home 1\n"
_FORMAT_STEM = b"strongroom broker home "


@dataclass(frozen=True)
class Home:
    """The paths of a home; nothing here says that they exist."""

    folder: Path

    @property
    def version(self) -> Path:
        """The file that says which layout this is."""
        return self.folder / "version"

    @property
    def key_file(self) -> Path:
        """The keys, under the passphrase."""
        return self.folder / "broker.key"

    @property
    def card(self) -> Path:
        """The public keys."""
        return self.folder / "broker.pub"

    @property
    def database(self) -> Path:
        """The SQLite database."""
        return self.folder / "broker.db"

    @property
    def anchor(self) -> Path:
        """The remembered audit head."""
        return self.folder / "anchor"

    def check(self) -> None:
        """Refuse a folder that is no home of this version, or that others may enter.

        Raises BrokerError `broker-home-invalid`, `broker-home-version` or `broker-home-exposed`.
        """
        if not self.version.is_file():
            raise BrokerError(
                BrokerCode.HOME_INVALID,
                f"{self.folder} is not a broker's home",
                remedy="make one with `strongroom broker init --home DIR`; remove the rest of one cut short first",
            )
        found = read_bounded(self.version, 256)
        if found != FORMAT:
            other = found.startswith(_FORMAT_STEM)
            raise BrokerError(
                BrokerCode.HOME_VERSION if other else BrokerCode.HOME_INVALID,
                f"{self.folder} has another layout",
                expected=FORMAT.decode().strip(),
                found=repr(found[:80]),
                remedy="use the release that made it, or a newer one" if other else "name a broker's home",
            )
        with naming(self.folder):
            mode = stat.S_IMODE(self.folder.stat().st_mode)
        if mode & 0o077:
            raise BrokerError(
                BrokerCode.HOME_EXPOSED,
                f"others may enter {self.folder}",
                expected="mode 0700",
                found=f"mode {mode:04o}",
                remedy=f"chmod 700 {self.folder}",
            )

    def unlock(self, passphrase: bytes) -> BrokerKeys:
        """Check the home and open its keys; raises BrokerError, or ManifestError `passphrase-wrong`."""
        self.check()
        return load_keys(self.key_file, passphrase)

    def public_keys(self) -> dict[str, bytes]:
        """Return the card's entries as the key file carries them, without a passphrase."""
        self.check()
        return read_public(self.key_file, "broker")

    def require_unused(self) -> None:
        """Refuse a folder that holds anything; raises BrokerError `broker-home-exists`."""
        with naming(self.folder):
            taken = self.folder.exists() and any(self.folder.iterdir())
        if taken:
            raise BrokerError(
                BrokerCode.HOME_EXISTS, f"{self.folder} is not empty", remedy="name a new folder for the broker's home"
            )

    def make_keys(self, passphrase: bytes, *, cost: Cost = RECOMMENDED) -> BrokerKeys:
        """Make the folder, its keys and its card; `seal_layout` completes the home.

        Raises BrokerError `broker-home-exists` where the folder holds anything.
        """
        self.require_unused()
        with naming(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
        keys = create_keys(self.key_file, passphrase, cost=cost)
        write_card(self.card, keys.card())
        return keys

    def seal_layout(self) -> None:
        """Write the version file: from now on the folder is a home."""
        write_atomically(self.version, FORMAT, mode=0o600)
