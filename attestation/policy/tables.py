"""The tables of a policy that hold for every TEE: evidence, service, release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from attestation.errors import PolicyCode
from attestation.intel.tcb import TcbStatus
from attestation.policy.schema import (
    Table,
    flag,
    hexes,
    keys,
    number,
    refuse,
    required_number,
    required_texts,
    texts,
)

_STATUSES = tuple(str(status) for status in TcbStatus)


def refuse_roots(*, simulation: bool) -> NoReturn:
    """Refuse simulation without the platform's root, or a simulated root without simulation."""
    refuse(
        PolicyCode.POLICY_VACUOUS if simulation else PolicyCode.POLICY_CONTRADICTION,
        "simulation = true and simulated_root need each other",
        remedy='name the platform: simulated_root = "PLATFORM/root.pem", or the SHA-256 of its certificate',
    )


@dataclass(frozen=True, kw_only=True)
class EvidencePolicy(Table):
    """What holds for every TEE.

    simulation: accept simulated platforms, and ONLY those under `simulated_root` (SHA-256 of DER certificates).
    max_collateral_age: seconds since the oldest document was issued; None: as long as it is valid.
    tcb_evaluation_min: least tcbEvaluationDataNumber; None: any.
    """

    tcb_status: tuple[str, ...] = required_texts(*_STATUSES)
    simulation: bool = flag()
    simulated_root: tuple[bytes, ...] = hexes(32)
    advisories_accepted: tuple[str, ...] = texts()
    max_collateral_age: int | None = number(None, 1)
    tcb_evaluation_min: int | None = number(None)

    def check(self, given: frozenset[str]) -> None:
        """Refuse what no policy accepts, and a simulated platform without its name."""
        if TcbStatus.REVOKED in self.tcb_status:
            refuse(PolicyCode.POLICY_CONTRADICTION, "a revoked TCB is accepted by no policy")
        if self.simulation != ("simulated_root" in given):
            refuse_roots(simulation=self.simulation)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as TOML would have them: one root by itself, several as a list."""
        values = super().to_dict()
        if len(self.simulated_root) == 1:
            (values["simulated_root"],) = values["simulated_root"]
        return values


@dataclass(frozen=True, kw_only=True)
class ServicePolicy(Table):
    """What a client demands of the service inside the enclave.

    owners: Ed25519 keys (32 bytes) whose models it uses.  models: model digests (64 bytes); empty: any of those
    owners' models.  max_broker_age: seconds since the newest heartbeat.
    """

    owners: tuple[bytes, ...] = keys()
    allow_any_owner: bool = flag()
    models: tuple[bytes, ...] = hexes(64)
    max_broker_age: int = number(3600, 1)
    min_epoch: int = number(0)


@dataclass(frozen=True, kw_only=True)
class ReleasePolicy(Table):
    """Under which terms a broker releases keys.

    lease: requests per grant.  models: names or digests in hex, or the single entry "*".  max_enclaves: how many may
    hold one model.  older_epochs: how many epochs of a name below the newest that the broker holds are released, too.
    """

    models: tuple[str, ...] = required_texts()
    lease: int = required_number(1)
    heartbeat_seconds: int = number(30, 1, 86400)
    min_epoch: int = number(0)
    max_enclaves: int = number(1, 1)
    older_epochs: int = number(0)

    def check(self, given: frozenset[str]) -> None:  # noqa: ARG002 - what is given does not matter here
        """Refuse a list that names everything and something."""
        if "*" in self.models and len(self.models) > 1:
            refuse(PolicyCode.POLICY_CONTRADICTION, 'models is a list of names, or the single entry "*"')
