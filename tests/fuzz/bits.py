"""Every bit of the collateral of one captured piece of evidence per TEE, flipped: `python -m tests.fuzz.bits`.

Collateral whose flipped form still verifies must not exist; nor must such JSON text of Azure's evidence, which is
flipped here because its exhaustive run, too, takes minutes.  Needs the captured evidence.

    python -m tests.fuzz.bits [sgx] [tdx] [snp] [nvidia] [azure]

Without names, all are run.  Lines of those that are not run stay as they were.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from tests import flips
from tests.amd import test_bit_flips as snp
from tests.attestation import test_bit_flips as sgx
from tests.azure import test_bit_flips as azure
from tests.fuzz.results import read_section, replace_section
from tests.nvidia import test_bit_flips as nvidia
from tests.tdx import test_td_bit_flips as tdx

SECTION: Final = "Every flipped bit of collateral"
RUNS: Final[dict[str, tuple[str, Callable[[], flips.Case]]]] = {
    "sgx": ("SGX, quote v3", sgx.real_collateral),
    "tdx": ("TDX, quote v4", tdx.real_collateral),
    "snp": (f"SEV-SNP, {snp.REAL} (no revocation list was captured)", snp.real_collateral),
    "nvidia": ("NVIDIA, the switch's reference manifest", nvidia.real_manifest),
    "azure": ("Azure over SEV-SNP, the JSON text of the evidence", azure.real_text),
}
_HEAD: Final = """\
Nitro and TPM evidence has no collateral; Azure's and RA-TLS' is that of the evidence inside. An evidence's own bits are
flipped by `make test`, all of them; but not Azure's JSON text, which is here.

| Evidence | Bits flipped | Seconds | Unnoticed | Run |
|---|---:|---:|---|---|
"""


def main(names: Iterable[str]) -> int:
    """Flip every bit of these runs, and write the section; returns 1 if a flip went unnoticed."""
    lines = _lines(read_section(SECTION))
    unnoticed = 0
    for name in names:
        title, make = RUNS[name]
        found, lines[title] = _run(title, make())
        unnoticed += found
        print(lines[title], flush=True)
        order = (title for title, _ in RUNS.values() if title in lines)
        replace_section(SECTION, _HEAD + "\n".join(lines[title] for title in order))
    return 1 if unnoticed else 0


def _run(title: str, case: flips.Case) -> tuple[int, str]:
    assert all(case.accepts(name, data) for name, data in case.parts.items())
    start = time.monotonic()
    found = [f"{name} {bit}" for name, bit in case.unnoticed(case.everywhere())]
    seconds = time.monotonic() - start
    today = datetime.now(UTC).date().isoformat()
    return len(found), f"| {title} | {case.size:,} | {seconds:.0f} | {', '.join(found) or 'none'} | {today} |"


def _lines(section: str) -> dict[str, str]:
    """Return the table's lines of earlier runs by title."""
    titles = {title for title, _ in RUNS.values()}
    rows = {line.split("|")[1].strip(): line for line in section.splitlines() if line.startswith("| ")}
    return {title: line for title, line in rows.items() if title in titles}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or RUNS))
