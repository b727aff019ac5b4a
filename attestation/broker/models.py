"""The models of a broker: taken in, taken out, and given further recipients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attestation.broker.audit import EventKind
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.keystore import BrokerKeys, KeyContext, wipe
from attestation.broker.ledger import Ledger, Plan
from attestation.broker.policy import lineage_of
from attestation.broker.schema import ModelRow
from attestation.broker.state import State
from attestation.broker.terms import open_delegation
from attestation.types import Delegation, Right, document_digest
from manifests.files import concerning, read_bounded
from manifests.sealed import FileSource, SealedInfo, read_header, recipients, recover_dek, rewrap

MAX_DELEGATION = 16 * 1024
"""An enclave's claims carry the delegation, and admit this much."""
MIN_DIGITS = 16
"""Of a digest: fewer could be met by chance when models are many."""


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
    event = {**_named(row), "delegation": document_digest(row.delegation)}
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


def named_model(models: Sequence[ModelRow], digest: str) -> ModelRow:
    """Return the one model whose digest begins with these hex digits; raises BrokerError `model-not-held`."""
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


def rewrap_model(
    ledger: Ledger,
    path: Path,
    now: int,
    *,
    add: Sequence[bytes] = (),
    remove: Sequence[bytes] = (),
    destination: Path | None = None,
    overwrite: bool = False,
) -> SealedInfo:
    """Change the recipients of a model that is sealed for the broker; the log names them before the file does.

    The model need not be held.  Arguments and errors are those of `manifests.sealed.rewrap`.
    """
    with FileSource(path) as source:
        core, digest = read_header(source)
        wipe(recover_dek(source, ledger.keys.recipient))
    event = {
        "model": digest,
        "owner": core.owner,
        "name": core.name,
        "epoch": core.epoch,
        "added": sorted(recipients.key_id(public) for public in add),
        "removed": sorted(remove),
    }
    ledger.record(now, lambda _state: Plan(EventKind.REWRAPPED, event))
    return rewrap(
        path, private=ledger.keys.recipient, add=add, remove=remove, destination=destination, overwrite=overwrite
    )


def _named(row: ModelRow) -> dict[str, object]:
    return {"model": row.digest, "owner": row.owner, "name": row.name, "epoch": row.epoch}
