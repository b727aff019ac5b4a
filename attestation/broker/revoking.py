"""Revocations: signed, durable, and in force in the broker at once; `broker serve` tells the enclaves."""

from __future__ import annotations

from collections.abc import Sequence

from attestation.broker.audit import EventKind
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.ledger import Ledger, Plan
from attestation.broker.models import named_model
from attestation.broker.schema import ModelRow, RevocationRow
from attestation.broker.state import State
from attestation.broker.terms import known_model, open_delegation
from attestation.types import EVERY, Revocation, Right, document_digest


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
        row = named_model(models, digest)
        meant.setdefault((row.owner, row.name), []).append(row.digest)
    return [revoke(ledger, *key, epoch=0, digests=found, now=now) for key, found in meant.items()]


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


def _check_revocation(state: State, owner: bytes, name: str, epoch: int, digests: Sequence[bytes]) -> None:
    models = [known_model(state, digest) for digest in digests]
    if any(model.owner != owner or name not in {EVERY, model.name} for model in models):
        raise BrokerError(BrokerCode.MODEL_UNKNOWN, "a revoked digest is of another owner or name")
    if not any(model.owner == owner and name in {EVERY, model.name} for model in state.models()):
        raise BrokerError(BrokerCode.MODEL_UNKNOWN, "the broker holds no model of this owner and name", found=name)
    before = [item.document for item in state.revocations() if item.document.owner == owner]
    floor = max((item.epoch for item in before if item.names(name)), default=0)
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
        if Right.REVOKE in delegation.rights and delegation.names(name):
            return row.delegation
    return models[0].delegation
