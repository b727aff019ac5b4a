"""A policy as loaded: frozen data with a digest of its meaning.  Its defaults refuse."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attestation.policy.azure import AzurePolicy
from attestation.policy.nitro import NitroPolicy
from attestation.policy.nvidia import NvidiaPolicy
from attestation.policy.schema import Table
from attestation.policy.sgx import SgxPolicy
from attestation.policy.snp import SnpPolicy
from attestation.policy.tables import EvidencePolicy, ReleasePolicy, ServicePolicy
from attestation.policy.tdx import TdxPolicy
from attestation.policy.tpm import TpmPolicy
from manifests import canonical, signing

VERSION = 1

TEE_TABLES: Mapping[str, type[Table]] = {
    "sgx": SgxPolicy,
    "nitro": NitroPolicy,
    "nvidia": NvidiaPolicy,
    "tdx": TdxPolicy,
    "snp": SnpPolicy,
    "tpm": TpmPolicy,
    "azure-snp": AzurePolicy,
    "azure-tdx": AzurePolicy,
}
"""The table of each TEE, under the TEE's name."""

_DIGEST = signing.label("policy")


@dataclass(frozen=True)
class Policy:
    """A policy.  `service` is the client's part and `release` the broker's; each ignores the other's.

    tables: by TEE, what holds for its evidence; evidence of a TEE without a table is refused.  preset: under which it
    was written, if any; filled: the fields of [evidence] that this filled in.  Neither is part of what it means.
    """

    evidence: EvidencePolicy
    tables: Mapping[str, Table]
    service: ServicePolicy | None = None
    release: ReleasePolicy | None = None
    preset: str | None = field(default=None, compare=False)
    filled: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    digest: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Compute SHA-512 over the canonical form."""
        object.__setattr__(self, "digest", hashlib.sha512(_DIGEST + canonical.encode(self.to_dict())).digest())

    def __hash__(self) -> int:
        return hash(self.digest)

    def table(self, tee: str) -> Table | None:
        """Return what holds for a TEE; None if the policy says nothing of it."""
        return self.tables.get(tee)

    def to_dict(self) -> dict[str, Any]:
        """Return a map that `load_policy` turns into an equal policy; byte strings as hex."""
        parts = {"evidence": self.evidence, **self.tables, "service": self.service, "release": self.release}
        return {"version": VERSION} | {name: part.to_dict() for name, part in parts.items() if part is not None}

    def written(self, preset: str | None) -> dict[str, Any]:
        """Return the map as it would be written under another preset, or again under its own.

        What its own preset filled in is left out, so that it stays for the other to fill in; `preset` None names none.
        """
        value = self.to_dict()
        value["evidence"] = {name: item for name, item in value["evidence"].items() if name not in self.filled}
        return value if preset is None else value | {"preset": preset}
