"""The parts that only a serving broker needs: collateral, connections, and their limits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attestation.broker.call import opener
from attestation.broker.events import Emit
from attestation.broker.ledger import Ledger
from attestation.broker.service import Service
from attestation.client.call import PATIENT
from attestation.collateral import open_source
from attestation.wire.address import parse_address


def make_service(
    ledger: Ledger,
    addresses: Sequence[str],
    collateral: Path,
    route: str,
    emit: Emit,
    *,
    processes: int = 1,
) -> Service:
    """Return a service for these hosts; raises WireError for an address that is none.

    With several processes behind a route, each has a route of its own (host.pool), and is served like a host.
    """
    for address in addresses:
        parse_address(address)
    slots = [f"#{route}.{slot}" for slot in range(1, processes + 1)] if processes > 1 else [""]
    targets = [address + slot for address in addresses for slot in slots]
    return Service(ledger, targets, opener(open_source(collateral), route, PATIENT), emit)
