"""What platforms can be told apart by: the ids and security versions that a policy and a list of broken hardware name.

Names are the vendors', as `Verified.platform_ids` and `Verified.tcb_components` have them.  Both tables are closed: a
name that is mistyped would otherwise refuse nothing, and nobody would notice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MAX_TEXT: Final = 128

_INTEL = frozenset({"sgx", "tdx"})
_AMD = frozenset({"snp"})
_NVIDIA = frozenset({"nvidia"})


@dataclass(frozen=True)
class PlatformId:
    """One kind of id, and the TEEs whose evidence shows it.

    size: in bytes, which show as hex; None for text.  everywhere: whether each platform of these TEEs has one, so that
    evidence which does not show it hides it.
    """

    size: int | None
    tees: frozenset[str]
    everywhere: bool = True

    def admits(self, value: str) -> bool:
        """Tell whether a text is an id of this kind."""
        if self.size is None:
            return 0 < len(value) <= MAX_TEXT and value.isprintable()
        return re.fullmatch(rf"[0-9a-f]{{{2 * self.size}}}", value) is not None

    def __str__(self) -> str:
        return "text" if self.size is None else f"{self.size} bytes as lower-case hex digits"


PLATFORM_IDS: Final[Mapping[str, PlatformId]] = {
    "fmspc": PlatformId(6, _INTEL),
    "ppid": PlatformId(16, _INTEL),
    "product": PlatformId(None, _AMD),
    "chip_id": PlatformId(64, _AMD),
    "ak": PlatformId(32, frozenset({"tpm"})),
    "csp_id": PlatformId(None, _AMD, everywhere=False),
    "module_id": PlatformId(None, frozenset({"nitro"})),
    "device_product": PlatformId(None, _NVIDIA),
    "device_serial": PlatformId(9, _NVIDIA),
    "device_key": PlatformId(32, _NVIDIA),
    "fwid": PlatformId(48, _NVIDIA),
}
"""By the vendor's name: Intel's family of platforms and one platform of it; AMD's product, chip, and cloud provider;
a TPM's attestation key; an AWS instance with its enclave; NVIDIA's chip, the device by its serial number and by the key
that is burnt into it, and the firmware that holds its leaf's key."""

_SGX_COMPONENTS = frozenset({"pcesvn", *(f"sgxtcbcomp{index:02}svn" for index in range(1, 17))})

TCB_COMPONENTS: Final[Mapping[str, frozenset[str]]] = {
    "sgx": _SGX_COMPONENTS,
    "tdx": _SGX_COMPONENTS | {f"tdxtcbcomp{index:02}svn" for index in range(1, 17)},
    "snp": frozenset({"bootloader", "tee", "snp", "microcode", "fmc"}),
}
"""By TEE, the security versions that its evidence shows."""
