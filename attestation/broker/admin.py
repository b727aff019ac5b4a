"""What an administrator does with a broker: models, policies, enclaves that ended, credentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from attestation.broker.audit import EventKind
from attestation.broker.home import Home
from attestation.broker.keystore import CARD_SIGNING, BrokerKeys, KeyContext, wipe
from attestation.broker.ledger import Ledger, Plan
from attestation.broker.policy import NO_PREVIOUS, PolicyDocument, lineage_of, policy_digest, rules_of
from attestation.broker.schema import EnclaveRow, LeaseRow, ModelRow, PolicyRow
from attestation.broker.state import State
from attestation.broker.terms import open_delegation
from attestation.errors import BrokerCode, BrokerError
from attestation.policy import Policy, load_policy
from attestation.types import Credential, Delegation, Right, document_digest
from manifests import fields
from manifests.errors import ManifestCode, ManifestError
from manifests.files import concerning, read_bounded
from manifests.keyfile import RECOMMENDED, Cost, read_card_entry
from manifests.sealed import FileSource, read_header, recover_dek
from manifests.signing import Signer, check_public_key

MAX_DELEGATION = 16 * 1024
"""An enclave's claims carry the delegation, and admit this much."""
EVERY = "*"
MIN_DIGITS = 16
"""Of a boot id, as `list` shows it."""
CARD_CLIENT = "strongroom-client"


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
    if EVERY in models and len(set(models)) > 1:
        raise ManifestError(ManifestCode.FIELD_INVALID, "'*' covers every model, so it stands alone")
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


def add_model(ledger: Ledger, sealed: Path, delegation_file: Path, now: int) -> ModelRow:
    """Take in the key of a sealed model that names the broker as a recipient.

    The owner is the one whose signature the model carries, and who must have signed the delegation.  A model that is
    held already takes a new delegation.  Raises ManifestError (`sealed-*`, `signature-invalid`), or BrokerError
    `model-held`, `epoch-superseded` for a new model below the highest epoch held of its owner and name,
    `delegation-broker`, `delegation-right`, `delegation-model`, `epoch-below-delegation`.
    """
    with FileSource(sealed) as source:
        core, digest = read_header(source)
        document = read_bounded(delegation_file, MAX_DELEGATION)
        with concerning(delegation_file, "give the file that `strongroom broker delegate` wrote"):
            delegation = open_delegation(document, core.owner)
        _check_delegation(delegation, ledger.keys, core.name, core.epoch)
        key = recover_dek(source, ledger.keys.recipient)
    try:
        lineage = lineage_of(ledger.keys.signer.public)
        wrapped = ledger.keys.store.wrap(key, KeyContext(core.owner, digest, lineage))
    finally:
        wipe(key)
    row = ModelRow(digest, core.owner, core.name, core.epoch, lineage, wrapped, document, now)
    ledger.record(now, lambda state: _addition(state, row))
    return row


def _addition(state: State, row: ModelRow) -> Plan:
    known = state.model(row.digest)
    if known is not None and known.delegation == row.delegation:
        raise BrokerError(BrokerCode.MODEL_HELD, "the broker holds this model under this delegation", found=row.name)
    newer = state.newer_epochs(row)
    if known is None and newer:
        raise BrokerError(
            BrokerCode.EPOCH_SUPERSEDED,
            "the broker holds a newer epoch of this model",
            expected=f"at least {newer[-1]}",
            found=row.epoch,
            remedy="seal the model under a higher epoch",
        )
    event = {
        "model": row.digest,
        "owner": row.owner,
        "name": row.name,
        "epoch": row.epoch,
        "delegation": document_digest(row.delegation),
    }
    return Plan(EventKind.MODEL_ADDED, event, (row,))


def _check_delegation(delegation: Delegation, keys: BrokerKeys, name: str, epoch: int) -> None:
    """Refuse at once a delegation under which nothing could be released."""
    if delegation.broker != keys.signer.public:
        raise BrokerError(
            BrokerCode.DELEGATION_BROKER,
            "the delegation names another broker",
            expected=keys.signer.public.hex(),
            found=delegation.broker.hex(),
        )
    if Right.PROVISION not in delegation.rights:
        raise BrokerError(
            BrokerCode.DELEGATION_RIGHT,
            "the delegation does not let this broker provision",
            expected=str(Right.PROVISION),
            found=", ".join(delegation.rights),
        )
    if epoch < delegation.epoch_floor:
        raise BrokerError(
            BrokerCode.EPOCH_BELOW_DELEGATION,
            "the model is older than the delegation allows",
            expected=f"at least {delegation.epoch_floor}",
            found=epoch,
        )
    if not delegation.covers(name, epoch):
        raise BrokerError(
            BrokerCode.DELEGATION_MODEL,
            "the delegation does not cover this model",
            expected=", ".join(delegation.models),
            found=name,
        )


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
        return check_public_key(read_card_entry(Path(text), CARD_CLIENT))
    return check_public_key(key)
