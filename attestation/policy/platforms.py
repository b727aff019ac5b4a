"""What platforms can be told apart by: the ids and security versions that a policy and a list of broken hardware name.

Names are the vendors', as `Verified.platform_ids` and `Verified.tcb_components` have them.  Both tables are closed: a
name that is mistyped would otherwise refuse nothing, and nobody would notice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_INTEL = frozenset({"sgx", "tdx"})


@dataclass(frozen=True)
class PlatformId:
    """One kind of id: its size in bytes, and the TEEs whose evidence shows it."""

    size: int
    tees: frozenset[str]


PLATFORM_IDS: Final[Mapping[str, PlatformId]] = {
    "fmspc": PlatformId(6, _INTEL),
    "ppid": PlatformId(16, _INTEL),
    "chip_id": PlatformId(64, frozenset({"snp"})),
}
"""By the vendor's name: Intel's family of platforms and one platform of it; AMD's chip."""

_SGX_COMPONENTS = frozenset({"pcesvn", *(f"sgxtcbcomp{index:02}svn" for index in range(1, 17))})

TCB_COMPONENTS: Final[Mapping[str, frozenset[str]]] = {
    "sgx": _SGX_COMPONENTS,
    "tdx": _SGX_COMPONENTS | {f"tdxtcbcomp{index:02}svn" for index in range(1, 17)},
    "snp": frozenset({"bootloader", "tee", "snp", "microcode", "fmc"}),
}
"""By TEE, the security versions that its evidence shows."""


def id_sizes() -> dict[str, int]:
    """Return the size in bytes of every kind of id."""
    return {name: each.size for name, each in PLATFORM_IDS.items()}
