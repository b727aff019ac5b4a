"""The tables of a policy that hold for every TEE: evidence, service, release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NoReturn

from attestation.errors import PolicyCode, PolicyError
from attestation.intel.tcb import TcbStatus
from attestation.policy.feed import MAX_FEED, HardwareFeed, open_feed
from attestation.policy.schema import (
    Table,
    flag,
    hexes,
    keys,
    long_text,
    moment,
    named_hexes,
    number,
    platform_ids,
    public_key,
    refuse,
    required_number,
    required_texts,
    texts,
)
from attestation.roots import Hierarchy
from attestation.types.budgets import MAX_COUNT

ANY = "*"

HIERARCHIES: Final = {
    "intel": Hierarchy.INTEL,
    "amd": Hierarchy.AMD,
    "nitro": Hierarchy.NITRO,
    "nvidia_device": Hierarchy.NVIDIA_DEVICE,
    "nvidia_rim": Hierarchy.NVIDIA_RIM,
}
"""Whose pinned roots a policy can replace, by the name in `dangerous_replacement_roots`."""

_STATUSES = tuple(str(status) for status in TcbStatus)
_FEED_FIELDS = frozenset({"broken_hardware_key", "broken_hardware_max_age", "broken_hardware_serial_min"})


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
    tcb_evaluation_min: least tcbEvaluationDataNumber; None: any.  tcb_date_min: RFC 3339; None: any.
    advisories_refused: only beside the accepted "*".  platforms_denied: ids by the name of their kind.
    broken_hardware: the signed list's text, its key, the most seconds since it was issued, its least serial number.
    dangerous_replacement_roots: SHA-256 of DER certificates by vendor, each in the place of that vendor's own roots.
    """

    tcb_status: tuple[str, ...] = required_texts(*_STATUSES)
    simulation: bool = flag()
    simulated_root: tuple[bytes, ...] = hexes(32)
    advisories_accepted: tuple[str, ...] = texts()
    max_collateral_age: int | None = number(None, 1)
    tcb_evaluation_min: int | None = number(None)
    advisories_refused: tuple[str, ...] = texts()
    tcb_date_min: str | None = moment()
    platforms_denied: tuple[tuple[str, tuple[str, ...]], ...] = platform_ids()
    broken_hardware: str | None = long_text(2 * MAX_FEED)
    broken_hardware_key: bytes | None = public_key()
    broken_hardware_max_age: int | None = number(None, 1)
    broken_hardware_serial_min: int | None = number(None, 1)
    dangerous_replacement_roots: tuple[tuple[str, tuple[bytes, ...]], ...] = named_hexes(dict.fromkeys(HIERARCHIES, 32))

    @property
    def feed(self) -> HardwareFeed | None:
        """The list of broken hardware, whose signature holds; None where the policy names none."""
        if self.broken_hardware is None or self.broken_hardware_key is None:
            return None
        return open_feed(self.broken_hardware, self.broken_hardware_key)

    def check(self, given: frozenset[str]) -> None:
        """Refuse what no policy accepts, a simulated platform without its name, and a list that anyone can write."""
        if TcbStatus.REVOKED in self.tcb_status:
            refuse(PolicyCode.POLICY_CONTRADICTION, "a revoked TCB is accepted by no policy")
        if self.simulation != ("simulated_root" in given):
            refuse_roots(simulation=self.simulation)
        if self.simulation and self.dangerous_replacement_roots:
            refuse(PolicyCode.POLICY_CONTRADICTION, "a simulated platform has no vendor whose roots could be replaced")
        self._check_advisories()
        self._check_feed(given)

    def _check_advisories(self) -> None:
        accepts_any = ANY in self.advisories_accepted
        if accepts_any and len(self.advisories_accepted) > 1:
            refuse(PolicyCode.POLICY_CONTRADICTION, 'advisories_accepted is a list of ids, or the single entry "*"')
        if self.advisories_refused and not accepts_any:
            refuse(
                PolicyCode.POLICY_VACUOUS,
                "advisories_refused says nothing, because what advisories_accepted does not name is refused anyway",
                remedy='leave it out, or accept all others with advisories_accepted = ["*"]',
            )

    def _check_feed(self, given: frozenset[str]) -> None:
        if self.broken_hardware is None:
            if given & _FEED_FIELDS:
                refuse(
                    PolicyCode.POLICY_VACUOUS,
                    f"{min(given & _FEED_FIELDS)} stands there without a list",
                    remedy="name the list's file in broken_hardware",
                )
            return
        if self.broken_hardware_key is None:
            refuse(
                PolicyCode.POLICY_VACUOUS,
                "a list of broken hardware without broken_hardware_key could be anyone's",
                remedy="set broken_hardware_key to the Ed25519 key that signs the list",
            )
        feed, least = open_feed(self.broken_hardware, self.broken_hardware_key), self.broken_hardware_serial_min
        if least is not None and feed.serial < least:
            raise PolicyError(
                PolicyCode.FEED_ROLLED_BACK,
                PolicyCode.FEED_ROLLED_BACK.meaning,
                expected=f"serial number {least} or later",
                found=feed.serial,
                remedy="get the newest list from whoever signs it",
            )

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
    client_budget, anonymous_budget: answered requests of one identity in a period of budget_seconds.  slice: how many
    of them an enclave holds at a time.  newcomers: requests that an enclave answers before slices come.  client_rate,
    client_burst: requests per minute of one identity, and at once.  Without a value they bound nothing.
    """

    models: tuple[str, ...] = required_texts()
    lease: int = required_number(1)
    heartbeat_seconds: int = number(30, 1, 86400)
    min_epoch: int = number(0)
    max_enclaves: int = number(1, 1)
    older_epochs: int = number(0)
    client_budget: int | None = number(None, 1, MAX_COUNT)
    anonymous_budget: int | None = number(None, 0, MAX_COUNT)
    budget_seconds: int | None = number(None, 60, 366 * 86400)
    slice: int | None = number(None, 1, MAX_COUNT)
    newcomers: int | None = number(None, 0, MAX_COUNT)
    client_rate: int | None = number(None, 1, MAX_COUNT)
    client_burst: int | None = number(None, 1, MAX_COUNT)

    def check(self, given: frozenset[str]) -> None:
        """Refuse a list that names everything and something, and what says how to bound where nothing is bounded."""
        if ANY in self.models and len(self.models) > 1:
            refuse(PolicyCode.POLICY_CONTRADICTION, 'models is a list of names, or the single entry "*"')
        has_budget = self.client_budget is not None or self.anonymous_budget is not None
        needing = {"budget_seconds", "slice", "newcomers"} if not has_budget else set()
        needing |= {"client_burst"} if self.client_rate is None else set()
        for name in sorted(needing & given):
            what = "client_rate" if name == "client_burst" else "client_budget or anonymous_budget"
            refuse(PolicyCode.POLICY_VACUOUS, f"[release] {name} means nothing without {what}", remedy=f"add {what}")
