"""The list of broken hardware: which machines, families, security versions and advisories nobody should accept.

A vendor's revocation comes late, or never, for machines whose keys were read off their memory bus.  Whoever watches
for that signs a list; a policy names the list and the key.  docs/policy.md describes the file.

The file is a JSON map of two strings: `feed`, the exact JSON text that is signed, and `signature`, Ed25519 over label
and text, in hex.  The text is decoded only after the signature has been checked.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attestation import strict_json
from attestation.errors import EvidenceError, PolicyCode, PolicyError
from attestation.policy.platforms import ADVISED, PLATFORM_IDS, TCB_COMPONENTS
from attestation.validity import parse_rfc3339, rfc3339
from manifests import fields, signing
from manifests.errors import ManifestCode, ManifestError

MAX_FEED = 32 * 1024
"""A list becomes part of a policy, and a broker's signed policy has at most 64 KiB.  Room for 900 single platforms."""
MAX_ENTRIES = 1024
MAX_VALUES = 4096

CONTEXT = signing.label("hardware feed")

_ENTRY = ("id", "date", "reason", "tees")
_CONDITIONS = ("platforms", "below", "advisories")

Pairs = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Broken:
    """One entry: what is broken since when, and why.  It hits where every condition that it has holds.

    tees: whose evidence it is about.  platforms: by the kind of an id, those that are.  below: by component, the least
    security version that is good; one component below it is enough.  advisories: one that applies is enough.
    """

    id: str
    date: int
    reason: str
    tees: tuple[str, ...]
    platforms: Pairs = ()
    below: Pairs = ()
    advisories: tuple[str, ...] = ()


@dataclass(frozen=True)
class HardwareFeed:
    """A list whose signature holds.  serial only ever grows; issued and expires are Unix seconds, expires exclusive."""

    serial: int
    issued: int
    expires: int
    entries: tuple[Broken, ...]


def sign_feed(body: Mapping[str, Any], signer: signing.Signer) -> str:
    """Return the text of a list's file, for a body of the form that docs/policy.md describes; raises PolicyError."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    _body(text)
    return _envelope(text, signer.sign(CONTEXT, text.encode("ascii")))


def normalise(file: str) -> str:
    """Return the one text of a list's file, whose signature has NOT been checked; raises PolicyError."""
    return _envelope(*_split(file))


@functools.lru_cache(maxsize=8)
def open_feed(file: str, key: bytes) -> HardwareFeed:
    """Verify a list under its key (Ed25519, 32 bytes) and decode it.

    Raises PolicyError `hardware-feed-malformed`, `hardware-feed-version` or `hardware-feed-signature`.
    """
    text, signature = _split(file)
    try:
        signing.verify(key, CONTEXT, text.encode("utf-8"), signature)
    except ManifestError:
        raise PolicyError(
            PolicyCode.FEED_SIGNATURE,
            PolicyCode.FEED_SIGNATURE.meaning,
            expected=f"a signature of {key.hex()}",
            remedy="get the list from whoever holds the key in broken_hardware_key, or correct the key",
        ) from None
    return _body(text)


def _envelope(text: str, signature: bytes) -> str:
    return json.dumps({"feed": text, "signature": signature.hex()}, ensure_ascii=True)


def _split(file: str) -> tuple[str, bytes]:
    """Return (signed text, signature)."""
    value = _guarded(lambda: fields.closed_map(_load(file), "the list's file", ("feed", "signature")))
    text, signature = value["feed"], value["signature"]
    if not isinstance(text, str) or not isinstance(signature, str) or not re.fullmatch(r"[0-9a-f]{128}", signature):
        raise _malformed("feed is a text, and signature has 128 lower-case hex digits")
    if not text.isascii():
        raise _malformed("the signed text is not ASCII")
    return text, bytes.fromhex(signature)


def _load(text: str) -> Any:
    return strict_json.loads(text, max_size=2 * MAX_FEED)


def _guarded(decode: Any) -> Any:
    """Run a decoder, turning what the field readers raise into `hardware-feed-malformed` or `-version`."""
    try:
        return decode()
    except ManifestError as error:
        code = PolicyCode.FEED_MALFORMED
        if error.code is ManifestCode.VERSION_UNSUPPORTED:
            code = PolicyCode.FEED_VERSION
        raise PolicyError(
            code,
            f"the list of broken hardware: {error.message}",
            expected=error.expected,
            found=error.found,
            remedy=error.remedy or "get a whole copy from whoever signs it",
        ) from None
    except EvidenceError as error:
        raise _malformed(error.message) from None


def _body(text: str) -> HardwareFeed:
    if len(text) > MAX_FEED:
        raise _malformed(f"it is longer than {MAX_FEED} bytes")
    return _guarded(lambda: _feed(_load(text)))  # type: ignore[no-any-return]


def _feed(value: Any) -> HardwareFeed:
    names = ("serial", "issued", "expires", "entries")
    fields.versioned_map(value, "the list", names)
    feed = HardwareFeed(
        serial=fields.number(value["serial"], "serial", 1),
        issued=_time(value["issued"], "issued"),
        expires=_time(value["expires"], "expires"),
        entries=tuple(_entry(item) for item in fields.list_of(value["entries"], "entries", MAX_ENTRIES)),
    )
    if feed.issued >= feed.expires:
        raise _malformed("it expires before it was issued")
    ids = [entry.id for entry in feed.entries]
    if len(set(ids)) != len(ids):
        raise _malformed("two entries have one id")
    return feed


def _entry(value: Any) -> Broken:
    fields.closed_map(value, "an entry", _ENTRY, _CONDITIONS)
    if not any(name in value for name in _CONDITIONS):
        raise _malformed(f"an entry has none of {', '.join(_CONDITIONS)}, so it would refuse every platform")
    tees = _words(value["tees"], "tees")
    unknown = set(tees) - TCB_COMPONENTS.keys() - {tee for each in PLATFORM_IDS.values() for tee in each.tees}
    if unknown:
        raise _malformed(f"nothing is known of the TEE {min(unknown)!r}; a newer release may know it")
    return Broken(
        id=fields.text(value["id"], "id", 64),
        date=_time(value["date"], "date"),
        reason=fields.text(value["reason"], "reason", 256),
        tees=tees,
        platforms=_platforms(value["platforms"], tees) if "platforms" in value else (),
        below=_below(value["below"], tees) if "below" in value else (),
        advisories=_advisories(value["advisories"], tees) if "advisories" in value else (),
    )


def _platforms(value: Any, tees: tuple[str, ...]) -> Pairs:
    known = [name for name, each in PLATFORM_IDS.items() if each.tees >= set(tees)]
    table = _filled(fields.closed_map(value, "platforms", (), known), "platforms")
    for name, ids in table.items():
        for item in _words(ids, name):
            if not PLATFORM_IDS[name].admits(item):
                raise _malformed(f"{name} takes {PLATFORM_IDS[name]}")
    return tuple(sorted((name, tuple(sorted(ids))) for name, ids in table.items()))


def _below(value: Any, tees: tuple[str, ...]) -> Pairs:
    known = frozenset.intersection(*(TCB_COMPONENTS.get(tee, frozenset()) for tee in tees))
    table = _filled(fields.closed_map(value, "below", (), known), "below")
    return tuple(sorted((name, fields.number(least, name, 1, 65535)) for name, least in table.items()))


def _advisories(value: Any, tees: tuple[str, ...]) -> tuple[str, ...]:
    silent = set(tees) - ADVISED
    if silent:
        raise _malformed(f"evidence of {min(silent)} shows no advisories, so that the entry would hit none of it")
    return _words(value, "advisories")


def _filled(table: dict[str, Any], name: str) -> dict[str, Any]:
    if not table:
        raise _malformed(f"{name} is empty")
    return table


def _words(value: Any, name: str) -> tuple[str, ...]:
    words = [fields.text(item, name, 256) for item in fields.list_of(value, name, MAX_VALUES)]
    if not words:
        raise _malformed(f"{name} is empty")
    return tuple(sorted(set(words)))


def _time(value: Any, name: str) -> int:
    try:
        return parse_rfc3339(fields.text(value, name, 32))
    except ValueError:
        raise _malformed(f"{name} is no time such as '2026-01-05T00:00:00Z'") from None


def _malformed(why: str) -> PolicyError:
    return PolicyError(
        PolicyCode.FEED_MALFORMED,
        f"the list of broken hardware is not usable: {why}",
        remedy="get a whole copy from whoever signs it",
    )


def describe(feed: HardwareFeed) -> dict[str, Any]:
    """Return a list for programs; times as RFC 3339, as in the list."""
    times = {"issued": rfc3339(feed.issued), "expires": rfc3339(feed.expires)}
    return dataclasses.asdict(feed) | times | {"entries": [_described(entry) for entry in feed.entries]}


def _described(entry: Broken) -> dict[str, Any]:
    maps = {"platforms": dict(entry.platforms), "below": dict(entry.below)}
    return dataclasses.asdict(entry) | maps | {"date": rfc3339(entry.date)}
