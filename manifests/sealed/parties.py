"""Who a model is sealed by and for, as a caller names them: keys in memory, or the paths of key files and cards."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from manifests import keyfile
from manifests.errors import ManifestCode, ManifestError
from manifests.sealed import recipients as keys
from manifests.signing import Signer


def owner_signer(owner_key: object, passphrase: object = None) -> Signer:
    """Return the owner's key: a Signer as it is, or what the owner's key file at this path holds.

    `passphrase` (text or bytes) opens the key file; it is never asked for, nor taken from the environment.
    Raises ManifestError as `read_key_file`, `passphrase-wrong` where it is missing, and `key-invalid` for other types.
    """
    if isinstance(owner_key, Signer):
        return owner_key
    if not isinstance(owner_key, str | Path):
        raise _wrong_type(
            "owner_key",
            owner_key,
            "a Signer, or the path of the owner's key file",
            "make a key file with `strongroom owner init` and give its path",
        )
    path = Path(owner_key)
    return Signer.from_seed(keyfile.read_key_file(path, "owner", _passphrase(passphrase, path)))


def recipient_publics(recipients: object) -> list[bytes]:
    """Return public keys of 1,216 bytes; whatever is text or a Path is the path of a card with one.

    Raises ManifestError as `read_card_entry`, and `key-invalid` for other types.
    """
    if isinstance(recipients, bytes | str | Path) or not isinstance(recipients, Iterable):
        raise _wrong_type("recipients", recipients, "a list", "put a single recipient into a list: recipients=[...]")
    return [_recipient(item) for item in recipients]


def _recipient(item: object) -> bytes:
    if isinstance(item, str | Path):
        return keyfile.read_card_entry(Path(item), keys.CARD_ENTRY)
    if not isinstance(item, bytes | bytearray):
        raise _wrong_type(
            "a recipient",
            item,
            "a public key of 1216 bytes, or the path of a card",
            "give the card (.pub) that `strongroom broker init` or `strongroom owner recipient` wrote",
        )
    return bytes(item)


def _passphrase(passphrase: object, path: Path) -> bytes:
    if passphrase is None:
        raise ManifestError(
            ManifestCode.PASSPHRASE_WRONG,
            f"{path} is under a passphrase, and none was given",
            remedy="give it: passphrase=...",
        )
    if isinstance(passphrase, str):
        return passphrase.encode("utf-8", "surrogateescape")
    if not isinstance(passphrase, bytes):
        raise _wrong_type("passphrase", passphrase, "text or bytes", "give it as text: passphrase='...'")
    return passphrase


def _wrong_type(name: str, value: object, expected: str, remedy: str) -> ManifestError:
    """Make the error, which tells the type of what was given and never its value: it may be a secret."""
    return ManifestError(
        ManifestCode.KEY_INVALID,
        f"{name} is not {expected}",
        expected=expected,
        found=type(value).__name__,
        remedy=remedy,
    )
