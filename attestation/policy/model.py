"""What a policy says, as frozen data.  Its defaults refuse; `attestation.policy.load` refuses the vacuous."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from typing import Any

from attestation.intel.abi import Attributes
from manifests import canonical, signing

VERSION = 1

KNOWN_XFRM = 0x602FF
"""x87, SSE, AVX, MPX, AVX-512, PKRU and AMX: what the SDM defines for enclaves."""

OPTIONAL_ATTRIBUTES = ("CET", "KSS", "AEXNOTIFY")
"""Attributes that are refused unless named, besides those that have a field of their own."""

_DIGEST = signing.label("policy")


@dataclass(frozen=True)
class EvidencePolicy:
    """What holds for every TEE.

    simulation: accept simulated platforms, and ONLY those under `simulated_root` (SHA-256 of its DER certificate).
    max_collateral_age: seconds since the oldest document was issued; None: as long as it is valid.
    tcb_evaluation_min: least tcbEvaluationDataNumber; None: any.
    """

    tcb_status: tuple[str, ...]
    simulation: bool = False
    simulated_root: bytes | None = None
    advisories_accepted: tuple[str, ...] = ()
    max_collateral_age: int | None = None
    tcb_evaluation_min: int | None = None


@dataclass(frozen=True)
class SgxPolicy:
    """What holds for SGX enclaves.  Where both mrenclave and mrsigner are named, both must match.

    Byte strings have the sizes of the report's fields.  An empty tuple of fmspc or ppid admits every platform.
    """

    mrenclave: tuple[bytes, ...] = ()
    mrsigner: tuple[bytes, ...] = ()
    isv_prod_id: int | None = None
    isv_svn_min: int = 0
    debug: bool = False
    provision_key: bool = False
    einittoken_key: bool = False
    attributes_allowed: tuple[str, ...] = ()
    xfrm_allowed: int = KNOWN_XFRM
    miscselect_allowed: int = 0
    cet_attributes_allowed: int = 0
    config_id: tuple[bytes, ...] = (bytes(64),)
    config_svn: int = 0
    isv_ext_prod_id: bytes = bytes(16)
    isv_family_id: bytes = bytes(16)
    fmspc: tuple[bytes, ...] = ()
    ppid: tuple[bytes, ...] = ()

    @property
    def attributes_mask(self) -> int:
        """The attributes without a field of their own that the policy names."""
        return sum(int(Attributes[name]) for name in self.attributes_allowed)


@dataclass(frozen=True)
class ServicePolicy:
    """What a client demands of the service inside the enclave.

    owners: Ed25519 keys (32 bytes) whose models it uses.  models: model digests (64 bytes); empty: any of those
    owners' models.  max_broker_age: seconds since the newest heartbeat.
    """

    owners: tuple[bytes, ...]
    allow_any_owner: bool = False
    models: tuple[bytes, ...] = ()
    max_broker_age: int = 3600
    min_epoch: int = 0


@dataclass(frozen=True)
class ReleasePolicy:
    """Under which terms a broker releases keys.

    lease: requests per grant.  models: names, or the single entry "*".  max_enclaves: how many may hold one model.
    older_epochs: how many epochs of a name below the newest that the broker holds are released, too.
    """

    models: tuple[str, ...]
    lease: int
    heartbeat_seconds: int = 30
    min_epoch: int = 0
    max_enclaves: int = 1
    older_epochs: int = 0


@dataclass(frozen=True)
class Policy:
    """A policy as loaded.  `service` is the client's part and `release` the broker's; each ignores the other's."""

    evidence: EvidencePolicy
    sgx: SgxPolicy
    service: ServicePolicy | None = None
    release: ReleasePolicy | None = None
    digest: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Compute SHA-512 over the canonical form."""
        object.__setattr__(self, "digest", hashlib.sha512(_DIGEST + canonical.encode(self.to_dict())).digest())

    def to_dict(self) -> dict[str, Any]:
        """Return a map that `load_policy` turns into an equal policy; byte strings as hex."""
        parts = {"evidence": self.evidence, "sgx": self.sgx, "service": self.service, "release": self.release}
        return {"version": VERSION} | {name: _plain(part) for name, part in parts.items() if part is not None}


def _plain(part: Any) -> dict[str, Any]:
    """Return a part's fields as TOML would have them, leaving out what is unset or empty."""
    values = {item.name: getattr(part, item.name) for item in dataclasses.fields(part)}
    return {name: _plain_value(value) for name, value in values.items() if value not in {None, ()}}


def _plain_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return [_plain_value(item) for item in value] if isinstance(value, tuple) else value
