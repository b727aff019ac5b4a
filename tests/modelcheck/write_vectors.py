"""Write tests/vectors/onnx: small ordinary models from which fuzzing starts where `onnx` is not installed.

Run as `python -m tests.modelcheck.write_vectors`; the files need not be the same each time.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.modelcheck.hostile import made as hostile
from tests.modelcheck.ordinary import made

FOLDER: Final = Path(__file__).resolve().parents[1] / "vectors" / "onnx"
ORDINARY: Final = (
    "a detector of boxes",
    "a counting loop",
    "two branches",
    "a quantised product",
    "functions of its own",
    "sklearn DecisionTreeClassifier",
    "sklearn KNeighborsRegressor",
    "sklearn column transformer",
    "sklearn TF-IDF to logistic regression",
)
HOSTILE: Final = (
    "a sparse tensor with an index beyond its shape",
    "two weights that share half of their external data",
    "a scan that makes a terabyte of a row",
    "a Pad of 2^40 elements",
    "a division by what the client sends",
)
MOST: Final = 16 * 1024


def main() -> None:
    """Write every model that is small enough to mutate."""
    FOLDER.mkdir(exist_ok=True)
    for name, data in [*((name, made(name)) for name in ORDINARY), *((name, hostile(name)) for name in HOSTILE)]:
        assert len(data) <= MOST, (name, len(data))
        (FOLDER / f"{re.sub('[^a-z0-9]+', '-', name.lower())}.onnx").write_bytes(data)


if __name__ == "__main__":
    main()
