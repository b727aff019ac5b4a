"""Write docs/codes.md from the code tables; `--check` only tells whether it is current."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

from manifests.errors import ErrorCode

PAGE = Path(__file__).with_name("codes.md")
MODULES = (
    "manifests.errors",
    "manifests.abuse.errors",
    "manifests.gramine.errors",
    "manifests.onnx.errors",
    "attestation.broker.errors",
    "attestation.client.errors",
    "attestation.errors",
    "attestation.intel.errors",
    "attestation.amd.errors",
    "attestation.azure.errors",
    "attestation.collateral.errors",
    "attestation.ear.errors",
    "attestation.eventlog.errors",
    "attestation.nitro.errors",
    "attestation.nvidia.errors",
    "attestation.ratls.errors",
    "attestation.tpm.errors",
    "attestation.types.receipt_errors",
    "enclave.errors",
    "host.errors",
    "evaluation.demo.errors",
    "strongroom",
)

HEAD = """# Codes

Every error and every finding carries a stable code. Scripts may rely on the code and on the exit status; messages
may change. Every error says what to do next: the last column, or something more precise. This page is generated from
the code tables by `python docs/generate_codes.py`.

| fault | exit status | whose move it is |
|---|---|---|
| internal | 1 | ours: please report it |
| usage | 2 | the command line or configuration is wrong |
| refused | 10 | well-formed and refused: a signature, a policy, a budget |
| unsupported | 20 | a version, algorithm or platform that this program does not handle |
| malformed | 30 | bytes or text that do not follow their format |
| unavailable | 40 | the world is in the way: a full disk, a missing file, a peer that does not answer |

An interrupted command ends with 130.
"""


def tables() -> list[type[ErrorCode]]:
    """Return every code table, in order of name."""
    found = [
        value
        for module in MODULES
        for value in vars(importlib.import_module(module)).values()
        if inspect.isclass(value) and issubclass(value, ErrorCode) and value is not ErrorCode
    ]
    return sorted(set(found), key=lambda table: table.__name__)


def render() -> str:
    """Return the page."""
    parts = [HEAD]
    for table in tables():
        summary = (inspect.getdoc(table) or "").splitlines()[0]
        rows = [f"| `{code}` | {code.fault.name.lower()} | {code.meaning} | {code.remedy or ''} |" for code in table]
        head = f"\n## {table.__name__}\n\n{summary}\n\n| code | fault | meaning | what to do |\n|---|---|---|---|\n"
        parts.append(head + "\n".join(rows))
    return "\n".join(parts) + "\n"


def main() -> int:
    """Write or check the page."""
    if "--check" in sys.argv:
        return int(not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != render())
    PAGE.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
