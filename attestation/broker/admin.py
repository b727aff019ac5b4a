"""What an administrator does with a broker: take models in, set policies, revoke, issue credentials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attestation.broker.audit import EventKind
from attestation.broker.home import Home
from attestation.broker.keystore import CARD_SIGNING, BrokerKeys, KeyContext, wipe
from attestation.broker.ledger import Ledger, Plan
from attestation.broker.policy import NO_PREVIOUS, PolicyDocument, lineage_of, policy_digest, rules_of
from attestation.broker.releases import known_model, open_delegation
from attestation.broker.schema import ModelRow, PolicyRow, RevocationRow
from attestation.broker.state import State
from attestation.errors import BrokerCode, BrokerError
from attestation.policy import Policy, load_policy
from attestation.types import Credential, Delegation, Revocation, Right, document_digest
from manifests import fields
from manifests.errors import ManifestCode, ManifestError
from manifests.files import read_bounded
from manifests.keyfile import RECOMMENDED, Cost, read_card_entry
from manifests.sealed import FileSource, read_header, recover_dek
from manifests.signing import Signer, check_public_key

MAX_DELEGATION = 16 * 1024
"""An enclave's claims carry the delegation, and admit this much."""
EVERY = "*"
CARD_CLIENT = "strongroom-client"
MIN_DIGITS = 16
"""Of a digest: fewer could be met by chance when models are many."""


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
    `model-held`, `delegation-broker`, `delegation-right`, `delegation-model`, `epoch-below-delegation`.
    """
    with FileSource(sealed) as source:
        core, digest = read_header(source)
        document = read_bounded(delegation_file, MAX_DELEGATION)
        _check_delegation(open_delegation(document, core.owner), ledger.keys, core.name, core.epoch)
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


def revoke(ledger: Ledger, owner: bytes, name: str, *, epoch: int, digests: Sequence[bytes], now: int) -> RevocationRow:
    """Revoke an owner's models of a name below an epoch, and those of these digests; returns the signed row.

    It holds in the broker at once.  Enclaves are told by `broker serve`, under the owner's delegation with the right
    `revoke` if there is one; without it, their leases are not renewed.  Raises BrokerError `model-not-held` or
    `revocation-vacuous`.
    """
    rows: list[RevocationRow] = []

    def plan(state: State) -> Plan:
        _check_revocation(state, owner, name, epoch, digests)
        delegation = _revoking_delegation(state, owner, name)
        document = Revocation(
            owner=owner,
            delegation=document_digest(delegation),
            name=name,
            epoch=epoch,
            models=tuple(sorted(set(digests))),
            time=now,
        )
        rows.append(RevocationRow(len(state.revocations()) + 1, owner, delegation, document.sign(ledger.keys.signer)))
        event = {"owner": owner, "name": name, "epoch": epoch, "models": sorted(set(digests))}
        return Plan(EventKind.REVOCATION, event, (rows[-1],))

    ledger.record(now, plan)
    return rows[-1]


def revoke_named(
    ledger: Ledger, *, digests: Sequence[str], name: str | None, below: int, owner: str | None, now: int
) -> list[RevocationRow]:
    """Revoke what a command line names: models by digest or its beginning, or a name below an epoch.

    Digests under several names take a revocation each.  Raises BrokerError `model-not-held` where nothing, or more
    than one thing, is meant.
    """
    ledger.refresh()
    models = ledger.look(lambda state: [row for row in state.models() if owner in {None, row.owner.hex()}])
    if name is not None:
        return [revoke(ledger, _only_owner(models, name), name, epoch=below, digests=[], now=now)]
    meant: dict[tuple[bytes, str], list[bytes]] = {}
    for digest in digests:
        row = _meant(models, digest)
        meant.setdefault((row.owner, row.name), []).append(row.digest)
    return [revoke(ledger, *key, epoch=0, digests=found, now=now) for key, found in meant.items()]


def _meant(models: Sequence[ModelRow], digest: str) -> ModelRow:
    found = [row for row in models if row.digest.hex().startswith(digest.lower())]
    if len(found) != 1 or len(digest) < MIN_DIGITS:
        raise BrokerError(
            BrokerCode.MODEL_UNKNOWN,
            "the digest does not name one model that the broker holds",
            expected=f"{MIN_DIGITS} to 128 hexadecimal digits",
            found=f"{digest[:160]}: {len(found)} models",
            remedy="see `strongroom broker list`",
        )
    return found[0]


def _only_owner(models: Sequence[ModelRow], name: str) -> bytes:
    owners = {row.owner for row in models if name in {EVERY, row.name}}
    if len(owners) != 1:
        raise BrokerError(
            BrokerCode.MODEL_UNKNOWN,
            f"{len(owners)} owners have models of this name here",
            found=name,
            remedy="see `strongroom broker list`; where there are several owners, name one with --owner",
        )
    return owners.pop()


def client_key(text: str) -> bytes:
    """Return a client's public key from 64 hex digits, or from a card's line `strongroom-client`."""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        return check_public_key(read_card_entry(Path(text), CARD_CLIENT))
    return check_public_key(key)


def _check_revocation(state: State, owner: bytes, name: str, epoch: int, digests: Sequence[bytes]) -> None:
    models = [known_model(state, digest) for digest in digests]
    if any(model.owner != owner or name not in {EVERY, model.name} for model in models):
        raise BrokerError(BrokerCode.MODEL_UNKNOWN, "a revoked digest is of another owner or name")
    if not any(model.owner == owner and name in {EVERY, model.name} for model in state.models()):
        raise BrokerError(BrokerCode.MODEL_UNKNOWN, "the broker holds no model of this owner and name", found=name)
    before = [item.document for item in state.revocations() if item.document.owner == owner]
    floor = max((item.epoch for item in before if item.name in {EVERY, name}), default=0)
    ended = {digest for item in before for digest in item.models}
    if epoch <= floor and set(digests) <= ended:
        raise BrokerError(
            BrokerCode.REVOCATION_VACUOUS,
            "this is revoked already, or nothing is named",
            expected=f"an epoch above {floor}, or a digest that is not revoked",
            remedy="name a model by --model, or give --below an epoch",
        )


def _revoking_delegation(state: State, owner: bytes, name: str) -> bytes:
    """Return the newest delegation under which enclaves can be told, else the owner's newest of all."""
    models = sorted((row for row in state.models() if row.owner == owner), key=lambda row: row.added, reverse=True)
    for row in models:
        delegation = open_delegation(row.delegation, owner)
        if Right.REVOKE in delegation.rights and {EVERY, name} & set(delegation.models):
            return row.delegation
    return models[0].delegation


def issue_credential(ledger: Ledger, client: bytes, name: str, now: int) -> bytes:
    """Return a signed credential that names a client's key; raises ManifestError for a key or name that is none."""
    credential = Credential(
        issuer=ledger.keys.signer.public, client=check_public_key(client), name=fields.text(name, "name", 128)
    )
    event = {"client": credential.client, "name": credential.name}
    ledger.record(now, lambda _state: Plan(EventKind.CREDENTIAL, event))
    return credential.sign(ledger.keys.signer)
