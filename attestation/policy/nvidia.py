"""The policy's table for NVIDIA GPUs and NVSwitches."""

from __future__ import annotations

from dataclasses import dataclass

from attestation.errors import PolicyCode
from attestation.nvidia.fwid import FLAGS
from attestation.policy.schema import Table, flag, hexes, number, refuse, texts

PRODUCTS = ("GH100", "GB100", "LS10")
"""Hopper and Blackwell GPUs, and the third NVSwitch."""
_GPUS = {"GH100", "GB100"}
MODES = ("SPT", "MPT", "PPCIE", "unreported")
_UNSAID = ("unreported",)
"""Firmware that does not say whether anything is encrypted."""
_UNPROTECTED = ("debug", "notSecure", "recovery", "notReplayProtected", "notIntegrityProtected", "notTcb")
"""Flags of firmware that can be debugged or replaced, or says of itself that it is not secure, or not what is trusted.

The other three say less: notConfigured stands in leaves of Blackwell in production, firmware that can be updated is
notImmutable, and what is measured once, as it starts, is notRuntimeMeasured.
"""


@dataclass(frozen=True, kw_only=True)
class NvidiaPolicy(Table):
    """What holds for every device of the evidence.

    driver_versions, vbios_versions: accepted versions; empty: any that has reference values.  rim_tags: accepted
    manifests (48 bytes); empty: any that NVIDIA signed.  measurements: SHA-384 of whole measurement records (48 bytes),
    each of which stands for reference values.  modes: how a GPU may be used.  flags_allowed: DICE flags
    that firmware may have set, such as "debug".  fwid_absent: accept reports of firmware too old to name itself.
    device_serials, device_keys: accepted devices, by the serial number in the device certificate's name (9 bytes), and
    by SHA-256 of that certificate's key (32 bytes), which is burnt into the chip.  fwids: accepted firmware, by the
    digest in the leaf certificate (48 bytes).  Each is any where it is empty.  fwid_svn_min: least security version
    that the leaf certificate names for that firmware, which one without any does not reach; None: any, or none.
    """

    products: tuple[str, ...] = texts(*PRODUCTS)
    driver_versions: tuple[str, ...] = texts()
    vbios_versions: tuple[str, ...] = texts()
    rim_tags: tuple[bytes, ...] = hexes(48)
    measurements: tuple[bytes, ...] = hexes(48)
    modes: tuple[str, ...] = texts(*MODES, default=("MPT", "SPT"), dangerous=_UNSAID)
    flags_allowed: tuple[str, ...] = texts(*FLAGS, dangerous=_UNPROTECTED)
    fwid_absent: bool = flag(dangerous=True)
    device_serials: tuple[bytes, ...] = hexes(9)
    device_keys: tuple[bytes, ...] = hexes(32)
    fwids: tuple[bytes, ...] = hexes(48)
    fwid_svn_min: int | None = number(None)

    def check(self, given: frozenset[str]) -> None:
        """Refuse a table that leaves open which firmware runs, or names nothing where it names a list."""
        if not self.products:
            refuse(PolicyCode.POLICY_VACUOUS, "[nvidia] names no device", remedy="list products, such as GH100")
        for name in ("driver_versions", "vbios_versions", "modes"):
            if name in given and not getattr(self, name):
                refuse(PolicyCode.POLICY_VACUOUS, f"{name} is an empty list", remedy="name one, or leave it out")
        if self.rim_tags or self.measurements:
            return
        wanted = {"vbios_versions"} | ({"driver_versions"} if _GPUS & set(self.products) else set())
        if not wanted <= given:
            refuse(
                PolicyCode.POLICY_VACUOUS,
                "[nvidia] admits every firmware that NVIDIA ever signed",
                remedy=f"list {' and '.join(sorted(wanted))}, or rim_tags, or measurements",
            )
