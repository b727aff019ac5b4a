"""Write the golden home and audit log of version 1: `python -m tests.vectors.broker.generate`.

A home with all that a broker keeps: key file, card, database, anchor; with a policy, two models, an enclave with its
lease, and a revocation.  The keys are random.  Files of a released version are never written anew; a new version gets
a folder of its own.
"""

from __future__ import annotations

from pathlib import Path

from attestation.broker.inspection import export
from attestation.broker.ledger import Ledger
from attestation.broker.releases import release
from attestation.broker.revoking import revoke
from tests.broker.support import NOW, OWNER, session, stocked

FOLDER = Path(__file__).parent / "v1"
HOME = FOLDER / "home"
LOG = FOLDER / "log"


def main() -> None:
    """Write the folder; refuses to replace one that is there."""
    FOLDER.mkdir()
    home, keys, models = stocked(HOME, "tumour", "magika")
    with Ledger.open(home, keys) as ledger:
        release(ledger, session(), models["tumour"].digest, NOW + 1)
        revoke(ledger, OWNER.public, "magika", epoch=2, digests=[], now=NOW + 2)
    export(home, LOG)


if __name__ == "__main__":
    main()
