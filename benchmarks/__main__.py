"""Run every measurement, print it, and write benchmarks/results/latest.json."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

from benchmarks import batching, receipts, refusing, sealing, serving, verification, watching

RESULTS = Path(__file__).with_name("results") / "latest.json"


def main() -> None:
    """Measure."""
    machine = {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
    result = {
        "machine": machine,
        "sealing": sealing.measure(),
        "verification": verification.measure(),
        "serving": serving.measure(),
        "receipts": receipts.measure(),
        "batching": batching.measure(),
        "refusing": refusing.measure(),
        "watching": watching.measure(),
    }
    text = json.dumps(result, indent=2)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
