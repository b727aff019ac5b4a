"""What `strongroom broker budgets` shows and resets: budgets by identity, as the ledger has them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from attestation.broker.admin import client_key
from attestation.broker.audit import MAX_BODY, EventKind
from attestation.broker.budgets import ALL_POOLS
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.ledger import Ledger, Plan
from attestation.broker.policy import active_policy
from attestation.broker.schema import BudgetRow
from attestation.broker.state import State
from attestation.types.budgets import ANONYMOUS, IDENTITY_SIZE, identity_of
from manifests import canonical
from manifests.errors import ManifestError

ANONYMOUS_NAME = "anonymous"
MAX_RESET = 256
"""Identities that the row of a reset names; what it sets back beyond those it counts."""


@dataclass(frozen=True)
class Meant:
    """Which rows are meant: of some identities and of one model's name; None for all."""

    identities: set[bytes] | None
    model: str | None

    def holds(self, row: BudgetRow) -> bool:
        """Tell whether it is the row of an identity that is meant."""
        is_identity = len(row.identity) == IDENTITY_SIZE and (
            self.identities is None or row.identity in self.identities
        )
        return is_identity and self.model in {None, row.name}


def clients(ledger: Ledger) -> dict[bytes, tuple[bytes, str]]:
    """Return the clients that this broker has issued credentials to: (key, name) by identity, the newest name."""
    found = {ANONYMOUS: (b"", ANONYMOUS_NAME)}
    for row in ledger.audit_rows():
        body = canonical.decode(row.body, max_size=MAX_BODY)
        if body["kind"] == EventKind.CREDENTIAL:
            client, name = body["event"]["client"], body["event"]["name"]
            found[identity_of(client)] = (client, name)
    return found


def chosen(ledger: Ledger, client: str | None) -> set[bytes] | None:
    """Return the identities that a command line means; None for all.

    client: a name that this broker has put into a credential, "anonymous", a key in hexadecimal, or a card's file.
    Raises BrokerError `client-unknown`.
    """
    if client is None:
        return None
    named = {identity for identity, (_, name) in clients(ledger).items() if name == client}
    if named:
        return named
    try:
        return {identity_of(client_key(client))}
    except ManifestError:
        raise BrokerError(
            BrokerCode.CLIENT_UNKNOWN, "no credential of this broker has that name", found=client
        ) from None


def report(ledger: Ledger, meant: Meant, now: int) -> dict[str, list[dict[str, Any]]]:
    """Return what was granted of each model to each identity, and to enclaves for newcomers, in periods that run."""
    rows = [row for row in ledger.look(State.budgets) if row.until > now]
    known = clients(ledger)
    budgets = ledger.look(lambda state: _budgets(state, ledger.keys.signer.public))
    pools = [row for row in rows if row.identity == ALL_POOLS and meant.model in {None, row.name}]
    return {
        "clients": [_client(row, known, budgets) for row in rows if meant.holds(row)],
        "newcomers": [_pool(row) for row in pools if meant.identities is None and row.granted],
    }


def reset(ledger: Ledger, meant: Meant, now: int) -> int:
    """Set what was granted back to nothing, and return for how many identities and models.

    Slices that enclaves hold stay good.  Raises BrokerError `budgets-untouched` where nothing was granted.
    """
    done: list[BudgetRow] = []

    def plan(state: State) -> Plan:
        done.extend(row for row in state.budgets() if row.granted and row.until > now and meant.holds(row))
        if not done:
            raise BrokerError(BrokerCode.BUDGETS_UNTOUCHED, "nothing was granted in the present period")
        event: dict[str, Any] = {
            "budgets": [[row.owner, row.name, row.identity, row.granted] for row in done[:MAX_RESET]],
            **({"left_out": len(done) - MAX_RESET} if len(done) > MAX_RESET else {}),
        }
        return Plan(EventKind.BUDGETS_RESET, event, tuple(replace(row, granted=0) for row in done))

    ledger.record(now, plan)
    return len(done)


def _budgets(state: State, broker: bytes) -> tuple[int | None, int | None]:
    """Return the budgets of a client and of all anonymous sessions under the policy in force."""
    rules = None if state.policy() is None else active_policy(state, broker).rules.budget
    return (None, None) if rules is None else (rules.client, rules.anonymous)


def _client(
    row: BudgetRow, known: dict[bytes, tuple[bytes, str]], budgets: tuple[int | None, int | None]
) -> dict[str, Any]:
    key, name = known.get(row.identity, (b"", ""))
    return {
        "client": name,
        "key": key.hex(),
        "identity": row.identity.hex(),
        "model": row.name,
        "owner": row.owner.hex(),
        "granted": row.granted,
        "budget": budgets[row.identity == ANONYMOUS],
        "until": row.until,
    }


def _pool(row: BudgetRow) -> dict[str, Any]:
    return {
        "model": row.name,
        "owner": row.owner.hex(),
        "granted": row.granted,
        "settled": row.settled,
        "until": row.until,
    }
