"""Releases keys as fast as it can until it is killed, and acknowledges each grant on standard output.

python -m tests.broker.releaser HOME MODEL_DIGEST
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

from attestation.broker.home import Home
from attestation.broker.ledger import Ledger
from attestation.broker.releases import Granted, release
from tests.broker.support import NOW, PASSPHRASE, session


def main() -> None:
    home = Home(Path(sys.argv[1]))
    with Ledger.open(home, home.unlock(PASSPHRASE)) as ledger:
        for boot in itertools.count(os.getpid() << 32):  # enclaves that no earlier process released to
            result = release(ledger, session(boot), bytes.fromhex(sys.argv[2]), NOW)
            assert isinstance(result, Granted)
            os.write(1, result.serial.hex().encode() + b"\n")


if __name__ == "__main__":
    main()
