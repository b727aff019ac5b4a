"""What the commands show: plain maps for JSON, made from state and documents."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from attestation.broker.home import Home
from attestation.broker.keystore import CARD_RECIPIENT, CARD_SIGNING
from attestation.broker.schema import EnclaveRow, LeaseRow, ModelRow, RevocationRow
from attestation.broker.state import State
from attestation.broker.terms import open_delegation
from attestation.types import Revocation, Right
from manifests.sealed.recipients import key_id

SHORT = 16
"""Hex digits of a digest that people are shown; commands take them, too."""


def card_text(home: Home) -> str:
    """Return the lines of the card."""
    return "".join(f"{name} {base64.b64encode(key).decode('ascii')}\n" for name, key in home.public_keys().items())


def card_facts(home: Home) -> dict[str, str]:
    """Return the public keys: the broker's signing key, and the id of its recipient key."""
    keys = home.public_keys()
    return {"broker": keys[CARD_SIGNING].hex(), "recipient": key_id(keys[CARD_RECIPIENT]).hex()}


def delegation_facts(document: bytes, owner: bytes) -> dict[str, Any]:
    """Return what an owner's delegation lets a broker do."""
    delegation = open_delegation(document, owner)
    return {
        "owner": delegation.owner.hex(),
        "broker": delegation.broker.hex(),
        "rights": [str(right) for right in delegation.rights],
        "models": list(delegation.models),
        "epoch_floor": delegation.epoch_floor,
    }


def listing(state: State) -> dict[str, list[dict[str, Any]]]:
    """Return every model and enclave."""
    return {
        "models": [_model(state, row) for row in state.models()],
        "enclaves": [_enclave(row, state.leases_of(row.boot_id)) for row in state.enclaves()],
    }


def shortened(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with long hex strings cut to their beginnings, for people."""
    return [{name: _short(value) for name, value in row.items()} for row in rows]


def revocation_facts(rows: Sequence[RevocationRow], broker: bytes) -> dict[str, Any]:
    """Return what was revoked, and whether running enclaves will be told or only run out of leases."""
    documents = [Revocation.open(row.document, broker) for row in rows]
    told = all(Right.REVOKE in open_delegation(row.delegation, row.owner).rights for row in rows)
    return {
        "revoked": [_revoked(document) for document in documents],
        "enclaves": "told by a running `broker serve`" if told else "not told: their leases run out",
    }


def _revoked(document: Revocation) -> str:
    below = f"{document.name} below epoch {document.epoch}" if document.epoch else ""
    return " and ".join(filter(None, [below, *(f"{document.name} {digest.hex()}" for digest in document.models)]))


def _model(state: State, row: ModelRow) -> dict[str, Any]:
    revoked = state.revoked(row)
    return {
        "name": row.name,
        "epoch": row.epoch,
        "digest": row.digest.hex(),
        "owner": row.owner.hex(),
        "rights": [str(right) for right in open_delegation(row.delegation, row.owner).rights],
        "holders": state.holders(row.digest),
        "revoked": revoked is not None,
        "added": row.added,
    }


def _enclave(row: EnclaveRow, leases: Sequence[LeaseRow]) -> dict[str, Any]:
    return {
        "boot_id": row.boot_id.hex(),
        "platform": "SIMULATED" if row.platform == "simulated" else row.platform,
        "measurement": row.measurement.hex(),
        "address": row.address,
        "first_seen": row.first_seen,
        "sessions": row.sessions,
        "provisions": row.provisions,
        "leases": [
            {"model": lease.model.hex(), "requests": lease.requests, "renewed": lease.renewed} for lease in leases
        ],
    }


def _short(value: Any) -> Any:
    is_hex = isinstance(value, str) and len(value) in {32, 64, 128} and not set(value) - set("0123456789abcdef")
    return value[:SHORT] if is_hex else value
