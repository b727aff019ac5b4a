"""The enclave's first lines: `python -I -S -B -X pycache_prefix=/dev/null .../enclave/start.py FOLDER... -- ARGUMENTS`.

Without site (-S) the interpreter executes no .pth file and no sitecustomize, and finds modules in its own library
alone.  The folders of all others are arguments: the manifest holds them, and so the measurement covers them.
"""

from __future__ import annotations

import sys

END_OF_PATH = "--"
"""Ends the folders; what follows is the program's."""


def start(arguments: list[str]) -> int:
    """Set the module path and run the program; returns its exit status."""
    end = arguments.index(END_OF_PATH)
    sys.path += arguments[:end]
    from enclave.program import main

    return main(arguments[end + 1 :])


if __name__ == "__main__":
    sys.exit(start(sys.argv[1:]))
