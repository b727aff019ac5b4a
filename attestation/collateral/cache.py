"""What was fetched before, by address: served while it is fresh, asked for again with its ETag, kept for bad days.

One file per address, written whole or not at all, so that several processes may share a folder.  A file that cannot be
read is as good as none: it is fetched again.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from attestation import strict_json
from attestation.collateral.documents import MAX_CRL
from attestation.errors import EvidenceError
from manifests import fields
from manifests.errors import ManifestCode, ManifestError
from manifests.files import exists, make_folder, read_bounded, write_atomically

MAX_ENTRY: Final = 2 * MAX_CRL
"""Base64 makes four bytes of three."""
_MAX_HEADERS: Final = 16


@dataclass(frozen=True)
class Entry:
    """One answer as it came.  fetched: Unix seconds when it came, or was last said to be unchanged."""

    url: str
    fetched: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @classmethod
    def parse(cls, data: bytes) -> Entry:
        """Read a file of the cache; raises ManifestError or EvidenceError."""
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise _invalid("it is not UTF-8") from None
        value = strict_json.loads(text, max_size=MAX_ENTRY)
        fields.versioned_map(value, "a cached answer", ("url", "fetched", "headers", "body"))
        headers = fields.of_type(value["headers"], "headers", dict)
        if len(headers) > _MAX_HEADERS:
            raise _invalid("there are too many headers")
        return cls(
            url=fields.text(value["url"], "url", 4096),
            fetched=fields.number(value["fetched"], "fetched", 0),
            headers={name: fields.of_type(text, name, str) for name, text in headers.items()},
            body=_base64(value["body"]),
        )

    def serialize(self) -> bytes:
        """Return the file; `parse` is the inverse."""
        value: dict[str, Any] = {
            "version": fields.VERSION,
            "url": self.url,
            "fetched": self.fetched,
            "headers": dict(self.headers),
            "body": base64.b64encode(self.body).decode("ascii"),
        }
        return json.dumps(value, indent=1).encode("utf-8")


class Cache:
    """A folder of answers."""

    def __init__(self, folder: Path | str) -> None:
        """Keep answers in `folder`, which is made when the first is kept."""
        self.folder = Path(folder)

    def load(self, url: str) -> Entry | None:
        """Return what is kept for an address; None where nothing is, or nothing that can be read."""
        path = self._path(url)
        try:
            if not exists(path):
                return None
            entry = Entry.parse(read_bounded(path, MAX_ENTRY))
        except (ManifestError, EvidenceError):
            return None
        return entry if entry.url == url else None

    def store(self, entry: Entry) -> None:
        """Keep an answer; raises ManifestError where it cannot be written."""
        make_folder(self.folder, mode=0o700)
        write_atomically(self._path(entry.url), entry.serialize())

    def _path(self, url: str) -> Path:
        return self.folder / f"{hashlib.sha256(url.encode('utf-8')).hexdigest()[:40]}.json"


def _base64(value: object) -> bytes:
    try:
        return base64.b64decode(fields.of_type(value, "body", str), validate=True)
    except ValueError:
        raise _invalid("the body is not base64") from None


def _invalid(why: str) -> ManifestError:
    return ManifestError(ManifestCode.FIELD_INVALID, f"a cached answer is not usable: {why}")
