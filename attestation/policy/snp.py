"""The policy's table for SEV-SNP guests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from attestation.amd.abi import GUEST_POLICY_KNOWN, PlatformInfo
from attestation.amd.tcb import COMPONENTS
from attestation.errors import PolicyCode
from attestation.policy.schema import (
    U32,
    Table,
    dotted,
    flag,
    grouped_floors,
    hexes,
    mask,
    number,
    refuse,
    texts,
)

VCEK: Final = "vcek"
VLEK: Final = "vlek"

OPTIONAL_POLICY: Final = ("SMT", "CXL_ALLOW")
"""What a guest's policy may admit only where this one names it, besides what has a field of its own."""
PROTECTIVE_POLICY: Final = (
    "SINGLE_SOCKET",
    "MEM_AES_256_XTS",
    "RAPL_DIS",
    "CIPHERTEXT_HIDING_DRAM",
    "PAGE_SWAP_DISABLE",
)
"""What a guest's policy demands of its platform, and this one may require it to demand."""

KNOWN_PLATFORM: Final = 0x7F
"""All named bits of PLATFORM_INFO but TIO_EN, which lets devices into the guest's memory."""

Floor = tuple[str, tuple[tuple[str, int], ...]]
"""A product, and the least version of each component that has one."""

_COMPONENTS: Final = {str(product): names for product, names in COMPONENTS.items()}


@dataclass(frozen=True, kw_only=True)
class SnpPolicy(Table):
    """What holds for SEV-SNP guests.  Byte strings have the sizes of the report's fields.

    ..._tcb_min: by product, the least version of each component; a product without a floor for the reported TCB is
    refused.  An empty tuple of chip_id, report_id or report_id_ma leaves it open.
    """

    measurement: tuple[bytes, ...] = hexes(48)
    reported_tcb_min: tuple[Floor, ...] = grouped_floors(_COMPONENTS, required=True)
    committed_tcb_min: tuple[Floor, ...] = grouped_floors(_COMPONENTS)
    launch_tcb_min: tuple[Floor, ...] = grouped_floors(_COMPONENTS)
    firmware_min: str | None = dotted(3)
    provisional_firmware: bool = flag(dangerous=True)
    mitigations_required: int = mask(0, 63)
    report_version_min: int = number(2, 2, 5)
    signing_keys: tuple[str, ...] = texts(VCEK, VLEK, default=(VCEK,))
    csp_id: tuple[str, ...] = texts()
    chip_id: tuple[bytes, ...] = hexes(64)
    dangerous_crl_absent: bool = flag(dangerous=True)
    platform_info_required: tuple[str, ...] = texts(*(str(bit.name) for bit in PlatformInfo))
    platform_info_allowed: int = mask(KNOWN_PLATFORM, 63, safe=KNOWN_PLATFORM)
    debug: bool = flag(dangerous=True)
    migration_agent: bool = flag(dangerous=True)
    report_id_ma: tuple[bytes, ...] = hexes(32)
    policy_allowed: tuple[str, ...] = texts(*OPTIONAL_POLICY)
    policy_required: tuple[str, ...] = texts(*PROTECTIVE_POLICY)
    policy_bits_allowed: int = mask(0, 63, safe=0)
    policy_abi_min: str | None = dotted(2)
    vmpl_max: int = number(0, 0, 3, safe=0)
    guest_svn_min: int = number(0, 0, U32)
    host_data: tuple[bytes, ...] = hexes(32, (bytes(32),))
    family_id: tuple[bytes, ...] = hexes(16, (bytes(16),))
    image_id: tuple[bytes, ...] = hexes(16, (bytes(16),))
    id_key_digest: tuple[bytes, ...] = hexes(48, (bytes(48),))
    author_key_digest: tuple[bytes, ...] = hexes(48, (bytes(48),))
    report_id: tuple[bytes, ...] = hexes(32)

    @property
    def measurements(self) -> tuple[bytes, ...]:
        """What identifies the accepted code, for people."""
        return self.measurement

    @property
    def products(self) -> tuple[str, ...]:
        """The products that are accepted: those with a floor."""
        return tuple(product for product, _ in self.reported_tcb_min)

    def check(self, given: frozenset[str]) -> None:  # noqa: ARG002 - what matters is what results
        """Refuse a table that names no guest, keys that are lent to anyone, and what excludes itself."""
        if not self.measurement:
            refuse(PolicyCode.POLICY_VACUOUS, "[snp] names no guest", remedy="list its measurement")
        if (VLEK in self.signing_keys) != bool(self.csp_id):
            refuse(
                PolicyCode.POLICY_VACUOUS if VLEK in self.signing_keys else PolicyCode.POLICY_CONTRADICTION,
                'signing_keys = ["vlek"] and csp_id need each other, because AMD lends keys to any cloud provider',
                remedy="list in csp_id whose machines are accepted",
            )
        for name, floors in (("committed_tcb_min", self.committed_tcb_min), ("launch_tcb_min", self.launch_tcb_min)):
            extra = {product for product, _ in floors} - set(self.products)
            if extra:
                refuse(PolicyCode.POLICY_CONTRADICTION, f"{name} names {min(extra)}, which reported_tcb_min leaves out")
        if self.report_id_ma and not self.migration_agent:
            refuse(PolicyCode.POLICY_CONTRADICTION, "report_id_ma names agents, and migration_agent admits none")
        if self.policy_bits_allowed & GUEST_POLICY_KNOWN:
            refuse(
                PolicyCode.POLICY_CONTRADICTION,
                f"policy_bits_allowed is for bits above {GUEST_POLICY_KNOWN:#x}; those below have fields of their own",
            )
