"""What an administrator does with a broker: delegations, policies, enclaves that ended, credentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from attestation.broker.audit import EventKind
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.home import Home
from attestation.broker.keystore import CARD_SIGNING, BrokerKeys
from attestation.broker.ledger import Ledger, Plan
from attestation.broker.policy import NO_PREVIOUS, PolicyDocument, lineage_of, policy_digest, rules_of
from attestation.broker.schema import EnclaveRow, LeaseRow, PolicyRow
from attestation.broker.state import State
from attestation.policy import Policy, load_policy
from attestation.types import Credential, Delegation, Right
from manifests import fields
from manifests.keyfile import CLIENT_ENTRY, RECOMMENDED, Cost, read_card_entry
from manifests.signing import Signer, check_public_key

MIN_DIGITS = 16
"""Of a boot id, as `list` shows it."""


def init_home(folder: Path, passphrase: bytes, now: int, *, cost: Cost = RECOMMENDED) -> BrokerKeys:
    """Make a broker's home: keys, card, database, and the first audit row.

    Raises BrokerError `broker-home-exists`, and ManifestError for files that cannot be written.
    """
    home = Home(folder)
    keys = home.make_keys(passphrase, cost=cost)
    Ledger.create(home, keys, now).close()
    home.seal_layout()
    return keys


def delegate(owner: Signer, card: Path, *, models: Sequence[str], rights: Sequence[Right], epoch_floor: int) -> bytes:
    """Return the owner's signed delegation to the broker of a card; raises ManifestError.

    `models` are names, or "*" alone.
    """
    delegation = Delegation(
        owner=owner.public,
        broker=check_public_key(read_card_entry(card, CARD_SIGNING)),
        rights=tuple(sorted(set(rights))),
        models=tuple(sorted(set(models))),
        epoch_floor=epoch_floor,
    )
    document = delegation.sign(owner)
    Delegation.open(document, owner.public)  # what would be refused later is refused now
    return document


def read_policy(path: Path) -> Policy:
    """Read and check a policy file for a broker; raises PolicyError, or ManifestError where it cannot be read."""
    policy = load_policy(path)
    rules_of(policy)
    return policy


def set_policy(ledger: Ledger, policy: Policy, now: int) -> PolicyDocument:
    """Put a policy in force, signed and one epoch above the one before.

    Raises ManifestError `encoding-too-large` for one that a signed document cannot hold, and as `Ledger.record`.
    """
    signer = ledger.keys.signer
    made: list[PolicyDocument] = []

    def plan(state: State) -> Plan:
        before = state.policy()
        document = PolicyDocument(
            lineage=lineage_of(signer.public),
            epoch=1 if before is None else before.epoch + 1,
            previous=NO_PREVIOUS if before is None else policy_digest(before.document),
            time=now,
            policy=policy.to_dict(),
        )
        row = PolicyRow(document.epoch, document.sign(signer))
        made.append(PolicyDocument.open(row.document, signer.public))
        event = {"epoch": document.epoch, "policy": policy_digest(row.document)}
        return Plan(EventKind.POLICY_SET, event, (row,))

    ledger.record(now, plan)
    return made[-1]


def forget_enclave(ledger: Ledger, boot_id: str, now: int) -> tuple[EnclaveRow, int]:
    """Count an enclave's leases as spent, because its process has ended; returns it and how many leases there were.

    boot_id: 32 hex digits, or the first 16.  An enclave that runs on is counted again at its next heartbeat, if there
    is room for it.  Raises BrokerError `enclave-not-known`.
    """
    meant: list[EnclaveRow] = []
    given_up: list[LeaseRow] = []

    def plan(state: State) -> Plan:
        row = _meant(state, boot_id)
        meant.append(row)
        given_up.extend(replace(lease, requests=0) for lease in state.leases_of(row.boot_id) if lease.requests)
        return Plan(EventKind.FORGOTTEN, {"boot_id": row.boot_id, "leases": len(given_up)}, tuple(given_up))

    ledger.record(now, plan)
    return meant[-1], len(given_up)


def _meant(state: State, boot_id: str) -> EnclaveRow:
    found = [row for row in state.enclaves() if row.boot_id.hex().startswith(boot_id.lower())]
    if len(found) != 1 or len(boot_id) < MIN_DIGITS:
        raise BrokerError(
            BrokerCode.ENCLAVE_UNKNOWN,
            "the boot id does not name one enclave that was given a key",
            expected=f"{MIN_DIGITS} to 32 hexadecimal digits",
            found=f"{boot_id[:160]}: {len(found)} enclaves",
            remedy="see `strongroom broker list`",
        )
    return found[0]


def issue_credential(ledger: Ledger, client: bytes, name: str, now: int) -> bytes:
    """Return a signed credential that names a client's key; raises ManifestError for a key or name that is none."""
    credential = Credential(
        issuer=ledger.keys.signer.public, client=check_public_key(client), name=fields.text(name, "name", 128)
    )
    event = {"client": credential.client, "name": credential.name}
    ledger.record(now, lambda _state: Plan(EventKind.CREDENTIAL, event))
    return credential.sign(ledger.keys.signer)


def client_key(text: str) -> bytes:
    """Return a client's public key from 64 hex digits, or from a card's line `strongroom-client`."""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        return check_public_key(read_card_entry(Path(text), CLIENT_ENTRY))
    return check_public_key(key)
