"""Where the JSON of other tools keeps evidence and collateral.

Read leniently, because nothing in it counts but the evidence that is found: numbers may be fractions, and names that
are not known are passed over.  A repeated name is refused, since tools disagree on which of the two counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from attestation.collateral import Collateral, CollateralSource, FixedSource
from attestation.collateral.kinds import decode
from attestation.errors import EvidenceCode, EvidenceError
from attestation.nvidia.sdk_json import from_sdk_json
from manifests.errors import StrongroomError

NAMES: Final = frozenset(
    {
        "attestation",
        "attestation_document",
        "attestation_report",
        "body",
        "document",
        "evidence",
        "hcl_evidence",
        "intel_quote",
        "isvEnclaveQuote",
        "quote",
        "quote_hex",
        "raw_quote",
        "raw_report",
        "report",
        "sev_snp_report",
        "sgx_quote",
        "snp_report",
        "td_quote",
        "tdx_quote",
        "tpm_evidence",
        "value",
    }
)
"""Under which names evidence is looked for."""

COLLATERAL_NAMES: Final = frozenset({"collateral", "quote_collateral"})
MAX_NESTING: Final = 16
MAX_ITEMS: Final = 1 << 18
"""Lists, maps and what they hold, together, in all texts of one call: evidence that stands as a list of numbers may
have 256 KiB.  Known tools' texts have up to 9,000."""
_SDK = frozenset({"evidence", "certificate"})


def is_json(data: bytes) -> bool:
    """Tell whether bytes begin as an object, a list or a string of JSON does."""
    return data.lstrip()[:1] in {b"{", b"[", b'"'}


def count_items(data: bytes) -> int:
    """Return at least the number of items of a JSON text, without reading it; what is in strings counts, too.

    A text is small, and what it says is not: a list of empty maps takes 20 times its text once it is read.
    """
    return sum(map(data.count, (b"[", b"{", b",")))


def find_texts(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (where, what) for everything that may be evidence; nothing where the bytes are no JSON.

    The caller has seen to it that there are at most `MAX_ITEMS` items.
    Raises EvidenceError `wrapping-ambiguous` for a repeated name, `wrapping-too-large`.
    """
    value = _load(data)
    if isinstance(value, str):
        yield "JSON string", value.encode("utf-8", "replace")
    else:
        yield from _search(value, "", 0)


def find_collateral(data: bytes) -> CollateralSource | None:
    """Return the collateral that a JSON text has beside its evidence; None where it has none that is whole."""
    value = _load(data) if is_json(data) and count_items(data) <= MAX_ITEMS else None
    found = [value[name] for name in sorted(COLLATERAL_NAMES & value.keys())] if isinstance(value, dict) else []
    decoded = [collateral for item in found if (collateral := _collateral(item)) is not None]
    return FixedSource(decoded[0]) if len(decoded) == 1 else None


def _collateral(value: Any) -> Collateral | None:
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        return decode(text.encode("utf-8", "replace"))
    except StrongroomError:
        return None


def _load(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise EvidenceError(
            EvidenceCode.WRAPPING_AMBIGUOUS,
            "the JSON repeats a name, so that tools disagree on what it says",
            expected="every name once",
            found=f"{len(pairs)} entries with {len(result)} names",
        )
    return result


def _search(value: Any, name: str, depth: int) -> Iterator[tuple[str, bytes]]:
    """Yield what lies under one of the names, from the top down."""
    if depth > MAX_NESTING:
        raise EvidenceError(
            EvidenceCode.WRAPPING_TOO_LARGE,
            EvidenceCode.WRAPPING_TOO_LARGE.meaning,
            expected=f"JSON of at most {MAX_NESTING} levels",
            found="more levels",
        )
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _search(item, key, depth + 1)
    elif isinstance(value, list):
        yield from _list(value, name, depth)
    elif isinstance(value, str) and name in NAMES:
        yield f'JSON "{name}"', value.encode("utf-8", "replace")


def _list(value: list[Any], name: str, depth: int) -> Iterator[tuple[str, bytes]]:
    """Yield the bytes of a list of numbers, NVIDIA's reports, or what the items hold."""
    if value and all(isinstance(item, dict) and item.keys() >= _SDK for item in value):
        yield "NVIDIA SDK JSON", from_sdk_json(json.dumps(value))
    elif name in NAMES and value and all(type(item) is int and 0 <= item <= 255 for item in value):
        yield f'JSON "{name}": a list of numbers', bytes(value)
    else:
        for item in value:
            if not isinstance(item, int | float):
                yield from _search(item, name, depth + 1)
