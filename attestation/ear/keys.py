"""The key of a verifier: it signs tokens, and lists of broken hardware."""

from __future__ import annotations

from pathlib import Path

from manifests import keyfile, signing
from manifests.errors import ManifestCode, ManifestError
from manifests.files import exists

KIND = "verifier"
CARD_ENTRY = "strongroom-verifier"


def write_verifier_key(
    path: Path, passphrase: bytes, *, cost: keyfile.Cost = keyfile.RECOMMENDED
) -> tuple[bytes, Path]:
    """Make a key file at `path` and its card beside it; returns the public key (32 bytes) and the card's path.

    Raises ManifestError `file-exists`, `disk-full`, `file-unavailable`, or `passphrase-wrong` for an empty passphrase.
    """
    card = path.with_suffix(".pub")
    if exists(card):
        raise ManifestError(ManifestCode.FILE_EXISTS, f"{card} already exists", remedy="choose another name with --key")
    signer = signing.Signer.generate()
    public = {CARD_ENTRY: signer.public}
    keyfile.write_key_file(path, KIND, signer.seed(), passphrase, public=public, cost=cost)
    keyfile.write_card(card, public)
    return signer.public, card


def read_verifier_key(path: Path, passphrase: bytes) -> signing.Signer:
    """Return the key of a file; raises ManifestError."""
    return signing.Signer.from_seed(keyfile.read_key_file(path, KIND, passphrase))


def read_verifier_card(path: Path) -> bytes:
    """Return the public key (32 bytes) of a card; raises ManifestError."""
    return signing.check_public_key(keyfile.read_card_entry(path, CARD_ENTRY))
