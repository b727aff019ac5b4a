"""What the client's commands share: who asks, and where they keep the highest epochs seen."""

from __future__ import annotations

import os
from pathlib import Path

import click

from manifests.files import read_bounded
from manifests.keyfile import read_key_file, read_passphrase
from manifests.signing import Signer

MAX_CREDENTIAL = 4096
"""A credential has some 300 bytes."""


def signer(client_key: Path | None, passphrase_file: Path | None) -> Signer | None:
    """Return the client's key, or None for an anonymous one; raises ManifestError."""
    if client_key is None:
        return None
    return Signer.from_seed(read_key_file(client_key, "client", read_passphrase(passphrase_file)))


def credential_of(path: Path | None, client_key: Path | None) -> bytes:
    """Return a credential's bytes, empty without one; raises UsageError for one without its key, or ManifestError."""
    if path is None:
        return b""
    if client_key is None:
        raise click.UsageError("--credential needs the --client-key that it names")
    return read_bounded(path, MAX_CREDENTIAL)


def state_file() -> Path:
    """Return where the user's programs keep state (XDG base directory specification)."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "strongroom" / "epochs.json"
