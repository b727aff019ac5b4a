"""Every bit of the collateral of one captured piece of evidence per TEE, flipped: `python -m tests.fuzz.bits`.

Collateral whose flipped form still verifies must not exist.  Takes minutes, and the captured evidence.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from attestation import evidence
from attestation.amd.collateral import SnpCollateral
from attestation.errors import EvidenceError
from attestation.evidence import Roots
from attestation.intel.collateral import IntelCollateral
from tests.amd.test_bit_flips import REAL, accepted_flips
from tests.amd.test_vectors import VALID, at
from tests.attestation import kit as sgx
from tests.fuzz.results import replace_section
from tests.tdx import kit as tdx

TDX = "tdx/collateral/dcapqvl-b0c06f.json"


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def intel_flips(held: IntelCollateral, field: str, now: int) -> list[int]:
    """The bits of one part that can be flipped unnoticed."""
    data, found = getattr(held, field), []
    for bit in range(8 * len(data)):
        try:
            evidence.prepare(dataclasses.replace(held, **{field: flipped(data, bit)}), Roots.vendor(), now)
        except EvidenceError:
            continue
        found.append(bit)
    return found


def snp_flips(held: SnpCollateral, field: str, now: int) -> list[int]:
    return accepted_flips(held, field, range(8 * len(getattr(held, field))), Roots.vendor(), now)


Run = tuple[str, Any, int, Callable[[Any, str, int], list[int]]]


def runs() -> Iterator[Run]:
    yield "SGX, quote v3", sgx.real_collateral(), sgx.REAL_NOW, intel_flips
    yield "TDX, quote v4", tdx.real_collateral(TDX), tdx.REAL_NOW, intel_flips
    yield f"SEV-SNP, {REAL} (no revocation list was captured)", VALID[REAL].collateral(), at(VALID[REAL]), snp_flips


def main() -> int:
    """Flip every bit, and write the section; returns 1 if a flip went unnoticed."""
    today = datetime.now(UTC).date().isoformat()
    lines = [
        f"{today}. Nitro and TPM evidence has no collateral; Azure's and RA-TLS' is that of the evidence inside.",
        "",
        "| Evidence | Bits flipped | Seconds | Unnoticed |",
        "|---|---:|---:|---|",
    ]
    unnoticed = 0
    for title, held, now, flips in runs():
        start, bits, found = time.monotonic(), 0, []
        for field in (item.name for item in dataclasses.fields(held)):
            bits += 8 * len(getattr(held, field))
            found += [f"{field} {bit}" for bit in flips(held, field, now)]
        unnoticed += len(found)
        lines.append(f"| {title} | {bits:,} | {time.monotonic() - start:.0f} | {', '.join(found) or 'none'} |")
        print(lines[-1], flush=True)
    replace_section("Every flipped bit of collateral", "\n".join(lines))
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
