"""Grants slices of one identity's budget as fast as it can until it is killed, and acknowledges each on its output.

python -m tests.broker.slicer HOME MODEL_DIGEST BOOT
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from attestation.broker.home import Home
from attestation.broker.ledger import Ledger
from attestation.broker.releases import Granted, release
from attestation.broker.renewals import renew
from attestation.types import Allotment
from attestation.types.budgets import Ask, BudgetState
from tests.broker.support import NOW, PASSPHRASE, session

IDENTITY = b"\1" * 32


def main() -> None:
    home, digest, boot = Home(Path(sys.argv[1])), bytes.fromhex(sys.argv[2]), int(sys.argv[3])
    with Ledger.open(home, home.unlock(PASSPHRASE)) as ledger:
        granted = release(ledger, session(boot), digest, NOW)
        assert isinstance(granted, Granted)
        until = (NOW // 86400 + 1) * 86400
        asked = BudgetState("tumour", until, 0, (Ask(IDENTITY, 5, 0),))
        while True:
            renewed = renew(ledger, session(boot), [digest], os.urandom(32), NOW, budgets=[asked])
            allotment = Allotment.open(renewed.allotment, ledger.keys.signer.public)
            os.write(1, b"%d\n" % allotment.models[0].slices[0].count)


if __name__ == "__main__":
    main()
