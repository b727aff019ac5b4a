"""What `rewrap` and `broker rewrap` share: the words that say which recipients come and go, and where it is written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import click

from manifests.files import require_free
from manifests.keyfile import read_card_entry
from manifests.sealed import recipients

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path, readable=False)


class Change(TypedDict):
    """What changes, as keywords of `manifests.sealed.rewrap`."""

    path: Path
    add: tuple[bytes, ...]
    remove: tuple[bytes, ...]
    destination: Path | None
    overwrite: bool


def read_change(
    *, sealed: Path, add: tuple[Path, ...], remove: tuple[Path, ...], output: Path | None, force: bool
) -> Change:
    """Read the cards that a command line names; raises click's UsageError, or ManifestError as `read_card_entry`.

    An output that is there raises ManifestError `file-exists` without `force`.
    """
    if not add and not remove:
        raise click.UsageError("name a recipient with --add or --remove")
    if output is not None:
        require_free(output, overwrite=force)
    publics = tuple(read_card_entry(card, recipients.CARD_ENTRY) for card in add)
    return Change(path=sealed, add=publics, remove=tuple(map(_key_id, remove)), destination=output, overwrite=force)


def change_options(command: F) -> F:
    """Give a click command the words of a change, which its body passes on to `read_change`."""
    for option in (
        click.option("--force", is_flag=True, help="Replace the file that --output names."),
        click.option("-o", "--output", type=_FILE, help="Write here in place of changing the file."),
        click.option("--remove", type=_FILE, multiple=True, help="Card, or key id, of a recipient to remove."),
        click.option("--add", type=_FILE, multiple=True, help="Card of a recipient to add."),
        click.argument("sealed", type=_FILE),
    ):
        command = option(command)
    return command


def _key_id(item: Path) -> bytes:
    """Take a recipient's key id in hexadecimal, or the card that holds its public key."""
    with contextlib.suppress(ValueError):
        if len(key_id := bytes.fromhex(str(item))) == recipients.KEY_ID_SIZE:
            return key_id
    return recipients.key_id(read_card_entry(item, recipients.CARD_ENTRY))
