"""Secrets on disk under a passphrase, and cards that carry public keys.

A key file is JSON with `version`, the fields of `_HEADER` and `box`.  The passphrase goes through Argon2id; the
result keys a BLAKE2b over the canonical encoding of the other fields, so that none of them can be changed; that hash
is the key of the XSalsa20-Poly1305 box (libsodium's secretbox: nonce || ciphertext) which holds the secret.

A card is a text file of lines "name base64".  Empty lines and lines that begin with "#" mean nothing.
A line "version N" says of which version a card is; without one it is of version 1, and ours leave it out.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import nacl.pwhash
import nacl.secret
import nacl.utils
from nacl.exceptions import CryptoError
from nacl.exceptions import RuntimeError as SodiumError

from manifests import canonical, fields
from manifests.errors import ManifestCode, ManifestError
from manifests.files import concerning, read_bounded, write_atomically

MAX_KEY_FILE = 64 * 1024
"""A recipient's public key takes 1,216 bytes; no key file or card holds more than a few."""
MAX_PASSPHRASE = 4096
OWNER_ENTRY = "strongroom-owner"
CLIENT_ENTRY = "strongroom-client"
"""What an owner's and a client's card call their public key, 32 bytes each."""
PASSPHRASE_VARIABLE = "STRONGROOM_PASSPHRASE"  # noqa: S105 - the variable's name, not its value

_CARD_REMEDY = "give a card (.pub) as `strongroom owner init`, `owner recipient` or `broker init` writes it"
_KIND_REMEDIES = {"broker": "a broker's keys are used through `strongroom broker ... --home DIR`, such as `rewrap`"}
_FORMAT = "strongroom-key"
_HEADER = ("format", "kind", "public", "kdf")
_KDF = ("name", "operations", "memory", "salt")

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Cost:
    """What one guess of the passphrase costs: Argon2id passes, and memory in bytes (one lane)."""

    operations: int = 3
    memory: int = 64 * 1024 * 1024


RECOMMENDED = Cost()
"""RFC 9106 section 4, the second recommended option (3 passes over 64 MiB), with libsodium's single lane."""
_MOST = Cost(16, 1024 * 1024 * 1024)
"""A file that asks for more is refused, so that opening a foreign one cannot exhaust the machine."""
_LEAST = Cost(1, 8 * 1024)


def write_key_file(
    path: Path,
    kind: str,
    secret: bytes,
    passphrase: bytes,
    *,
    public: Mapping[str, bytes] | None = None,
    cost: Cost = RECOMMENDED,
) -> None:
    """Write a secret of some kind ("owner", "broker" ...) under a passphrase, readable by its owner alone.

    `public` values can be read without the passphrase.  Raises ManifestError `file-exists`, `disk-full`,
    `file-unavailable`, or `passphrase-wrong` for an empty passphrase.
    """
    salt = nacl.utils.random(nacl.pwhash.argon2id.SALTBYTES)
    header = {
        "format": _FORMAT,
        "version": 1,
        "kind": kind,
        "public": {name: _text(value) for name, value in (public or {}).items()},
        "kdf": {"name": "argon2id", "operations": cost.operations, "memory": cost.memory, "salt": _text(salt)},
    }
    box = nacl.secret.SecretBox(_box_key(header, salt, cost, passphrase)).encrypt(secret)
    document = json.dumps({**header, "box": _text(box)}, indent=2) + "\n"
    write_atomically(path, document.encode("utf-8"), mode=0o600, replace=False)


def read_key_file(path: Path, kind: str, passphrase: bytes) -> bytes:
    """Return the secret of a key file.

    Raises ManifestError `file-unavailable`, `file-too-large`, `key-invalid` (no key file of that kind),
    `version-unsupported` or `passphrase-wrong` (which is also what a changed file looks like).
    """
    header, box = _load(path, kind)
    kdf = header["kdf"]
    key = _box_key(header, _bytes(kdf["salt"]), Cost(kdf["operations"], kdf["memory"]), passphrase)
    try:
        return nacl.secret.SecretBox(key).decrypt(box)
    except CryptoError:
        raise ManifestError(
            ManifestCode.PASSPHRASE_WRONG,
            f"the passphrase does not open {path}, or the file was changed",
            remedy=f"give the passphrase that the file was made with: --passphrase-file, or {PASSPHRASE_VARIABLE}",
        ) from None


def read_public(path: Path, kind: str) -> dict[str, bytes]:
    """Return the public values of a key file as they stand there: only its passphrase can confirm them.

    Raises ManifestError `file-unavailable`, `file-too-large`, `key-invalid` or `version-unsupported`.
    """
    header, _ = _load(path, kind)
    return {name: _bytes(value) for name, value in header["public"].items()}


def write_card(path: Path, entries: Mapping[str, bytes]) -> None:
    """Write public keys as lines "name base64"; replaces an older card."""
    write_atomically(path, "".join(f"{name} {_text(value)}\n" for name, value in entries.items()).encode("ascii"))


def read_card(path: Path) -> dict[str, bytes]:
    """Return the entries of a card.

    Raises ManifestError `file-unavailable`, `file-too-large`, `version-unsupported`, or `key-invalid` for a line that
    is not "name base64" or repeats a name.
    """
    with concerning(path, _CARD_REMEDY):
        return _entries(_ascii(read_bounded(path, MAX_KEY_FILE), path), path)


def _entries(text: str, path: Path) -> dict[str, bytes]:
    lines = [line.split() for line in text.splitlines()]
    entries: dict[str, bytes] = {}
    for name, *rest in _of_this_version([line for line in lines if line and not line[0].startswith("#")]):
        if len(rest) != 1 or name in entries:
            raise ManifestError(ManifestCode.KEY_INVALID, f"{path} is not a card of lines 'name base64'")
        entries[name] = _bytes(rest[0])
    return entries


def _of_this_version(lines: list[list[str]]) -> list[list[str]]:
    """Return a card's lines without the one that tells its version; raises ManifestError `version-unsupported`."""
    for line in lines:
        if line[0] == "version" and len(line) == 2 and re.fullmatch("[1-9][0-9]{0,8}", line[1]):
            fields.check_version({"version": int(line[1])}, "the card")
            return [other for other in lines if other is not line]
    return lines


def read_card_entry(path: Path, name: str) -> bytes:
    """Return one entry of a card; raises as `read_card`, or `key-invalid` where the card lacks it."""
    entries = read_card(path)
    if name not in entries:
        raise ManifestError(
            ManifestCode.KEY_INVALID,
            f"{path} holds no {name}",
            expected=name,
            found=", ".join(entries) or "nothing",
            remedy=_CARD_REMEDY,
        )
    return entries[name]


def passphrase_option(command: F) -> F:
    """Give a click command `--passphrase-file`; the body passes its value on to `read_passphrase`."""
    option = click.option(
        "--passphrase-file",
        type=click.Path(path_type=Path, readable=False),
        help=f"File with the passphrase (else the variable {PASSPHRASE_VARIABLE}, else you are asked).",
    )
    return option(command)


def read_passphrase(file: Path | None, *, confirm: bool = False) -> bytes:
    """Return the passphrase from a file (without its last line end), from the environment, or from the terminal.

    Raises ManifestError `file-unavailable`, or click's UsageError where nobody can be asked.
    """
    if file is not None:
        return read_bounded(file, MAX_PASSPHRASE).removesuffix(b"\n").removesuffix(b"\r")
    if PASSPHRASE_VARIABLE in os.environ:
        return os.environb[PASSPHRASE_VARIABLE.encode()]
    if not sys.stdin.isatty():
        raise click.UsageError(f"no passphrase: give --passphrase-file or set {PASSPHRASE_VARIABLE}")
    answer: str = click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    return answer.encode("utf-8")


def _load(path: Path, kind: str) -> tuple[dict[str, Any], bytes]:
    """Return header and box of a key file, every field checked."""
    refuse = functools.partial(ManifestError, ManifestCode.KEY_INVALID, remedy=f"give the key file of the {kind}")
    try:
        document = json.loads(read_bounded(path, MAX_KEY_FILE))
        header = _header(document)
        box = _bytes(fields.of_type(header.pop("box"), "box", str))
        _check_header(header)
    except (ValueError, RecursionError):
        raise refuse(f"{path} is not a key file") from None
    except ManifestError as error:
        if error.code is not ManifestCode.FIELD_INVALID:
            raise
        raise refuse(f"{path} is not a key file: {error.message}") from None
    if header["kind"] != kind:
        raise ManifestError(
            ManifestCode.KEY_INVALID,
            f"{path} holds a key of another kind",
            expected=kind,
            found=header["kind"],
            remedy=_KIND_REMEDIES.get(header["kind"], f"give the key file of the {kind}"),
        )
    return header, box


def _header(document: object) -> dict[str, Any]:
    """Return the document if it is one of ours, and of a version that is known; its values are still unchecked."""
    if fields.of_type(document, "key file", dict).get("format") != _FORMAT:
        raise ManifestError(ManifestCode.FIELD_INVALID, "it has another format")
    return fields.versioned_map(document, "the key file", (*_HEADER, "box"))


def _check_header(header: dict[str, Any]) -> None:
    fields.text(header["kind"], "kind", 64)
    for name, value in fields.of_type(header["public"], "public", dict).items():
        fields.text(name, "name", 64)
        _bytes(fields.of_type(value, "public value", str))
    kdf = fields.closed_map(header["kdf"], "kdf", _KDF)
    if kdf["name"] != "argon2id":
        raise ManifestError(ManifestCode.FIELD_INVALID, "it uses another key derivation")
    fields.number(kdf["operations"], "operations", _LEAST.operations, _MOST.operations)
    fields.number(kdf["memory"], "memory", _LEAST.memory, _MOST.memory)
    fields.fixed_bytes(_bytes(fields.of_type(kdf["salt"], "salt", str)), "salt", nacl.pwhash.argon2id.SALTBYTES)


def _box_key(header: Mapping[str, Any], salt: bytes, cost: Cost, passphrase: bytes) -> bytes:
    if not passphrase:
        raise ManifestError(ManifestCode.PASSPHRASE_WRONG, "the passphrase is empty", remedy="give one that is not")
    try:
        stretched = nacl.pwhash.argon2id.kdf(32, passphrase, salt, opslimit=cost.operations, memlimit=cost.memory)
    except SodiumError:
        raise ManifestError(
            ManifestCode.KEY_INVALID, "there is not enough memory for this key file", expected=f"{cost.memory} bytes"
        ) from None
    return hashlib.blake2b(
        canonical.encode(dict(header)), key=stretched, digest_size=32, person=b"strongroom key 1"
    ).digest()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(encoded: str) -> bytes:
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ManifestError(ManifestCode.KEY_INVALID, "a key is not written in base64") from None
    if _text(data) != encoded:
        raise ManifestError(ManifestCode.KEY_INVALID, "a key is not written in canonical base64")
    return data


def _ascii(data: bytes, path: Path) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise ManifestError(ManifestCode.KEY_INVALID, f"{path} is not a card of lines 'name base64'") from None
