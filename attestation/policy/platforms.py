"""What platforms can be told apart by: the ids and security versions that a policy and a list of broken hardware name.

Names are the vendors', as `Verified.platform_ids` and `Verified.tcb_components` have them.  Both tables are closed, and
each id has its form: one that is mistyped would otherwise refuse nothing, and nobody would notice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from attestation.amd.tcb import Product
from attestation.intel.levels import SGX_NAMES, TDX_NAMES

_INTEL = frozenset({"sgx", "tdx"})
_AMD = frozenset({"snp"})
_NVIDIA = frozenset({"nvidia"})


@dataclass(frozen=True)
class PlatformId:
    """One kind of id, and the TEEs whose evidence shows it.

    form: the regular expression of its text.  title: the form for people.  everywhere: whether each platform of these
    TEEs has one, so that evidence which does not show it hides it.
    """

    form: str
    title: str
    tees: frozenset[str]
    everywhere: bool = True

    def admits(self, value: str) -> bool:
        """Tell whether a text is an id of this kind."""
        return re.fullmatch(self.form, value, re.ASCII) is not None

    def __str__(self) -> str:
        return self.title


def _bytes(size: int, tees: frozenset[str]) -> PlatformId:
    """Return the kind of an id of this many bytes, which show as hex."""
    return PlatformId(rf"[0-9a-f]{{{2 * size}}}", f"{size} bytes as lower-case hex digits", tees)


PLATFORM_IDS: Final[Mapping[str, PlatformId]] = {
    "fmspc": _bytes(6, _INTEL),
    "ppid": _bytes(16, _INTEL),
    "product": PlatformId("|".join(Product), f"one of {', '.join(Product)}", _AMD),
    "chip_id": _bytes(64, _AMD),
    "ak": _bytes(32, frozenset({"tpm"})),
    "csp_id": PlatformId(
        "CN=[0-9A-Za-z](?:[0-9A-Za-z.-]{0,123}[0-9A-Za-z])?",
        "a name as keys have it, such as 'CN=cc-us-east-2.amazonaws.com'",
        _AMD,
        everywhere=False,
    ),
    "module_id": PlatformId(
        "i-(?:[0-9a-f]{8}|[0-9a-f]{17})-enc[0-9a-f]{16}",
        "a module as documents name it, such as 'i-0827e799ec9232d44-enc019b55a68bd2ed4b'",
        frozenset({"nitro"}),
    ),
    "device_product": PlatformId("[A-Z]{2}[0-9]{2,3}[A-Z]?", "a chip as reports name it, such as 'GH100'", _NVIDIA),
    "device_serial": _bytes(9, _NVIDIA),
    "device_key": _bytes(32, _NVIDIA),
    "fwid": _bytes(48, _NVIDIA),
}
"""By the vendor's name: Intel's family of platforms and one platform of it; AMD's product, chip, and cloud provider;
a TPM's attestation key; an AWS instance with its enclave; NVIDIA's chip, the device by its serial number and by the key
that is burnt into it, and the firmware that holds its leaf's key."""

ADVISED: Final = _INTEL
"""The TEEs whose evidence shows which of the vendor's advisories apply."""

TCB_COMPONENTS: Final[Mapping[str, frozenset[str]]] = {
    "sgx": frozenset(SGX_NAMES),
    "tdx": frozenset(SGX_NAMES + TDX_NAMES),
    "snp": frozenset({"bootloader", "tee", "snp", "microcode", "fmc"}),
}
"""By TEE, the security versions that its evidence shows."""
