"""The policy's table for trust domains."""

from __future__ import annotations

from dataclasses import dataclass

from attestation.errors import PolicyCode
from attestation.intel.td_abi import TdAttributes
from attestation.policy.platforms import TCB_COMPONENTS
from attestation.policy.schema import U16, Table, flag, floors, hexes, mask, number, refuse, texts

KNOWN_XFAM = 0x6DBE7
"""x87, SSE, AVX, AVX-512, PT, PKRU, CET, user interrupts, LBR and AMX: what the TDX module's ABI defines."""

OPTIONAL_ATTRIBUTES = ("ICSSD", "LASS", "PKS", "KL", "TPA", "PERFMON")
"""Attributes that are refused unless named, besides those that have a field of their own."""

_ZERO = (bytes(48),)


@dataclass(frozen=True, kw_only=True)
class TdxPolicy(Table):
    """What holds for trust domains.  Whatever is named must match; a list names alternatives.

    Measurements have 48 bytes.  An empty tuple leaves its field open; the fields that have zero as their default are
    what a TD's builder or its owner could set, and are refused until they are named.
    """

    mrtd: tuple[bytes, ...] = hexes(48)
    rtmr0: tuple[bytes, ...] = hexes(48)
    rtmr1: tuple[bytes, ...] = hexes(48)
    rtmr2: tuple[bytes, ...] = hexes(48)
    rtmr3: tuple[bytes, ...] = hexes(48)
    mrconfigid: tuple[bytes, ...] = hexes(48, _ZERO)
    mrowner: tuple[bytes, ...] = hexes(48, _ZERO)
    mrownerconfig: tuple[bytes, ...] = hexes(48, _ZERO)
    mrservicetd: tuple[bytes, ...] = hexes(48, _ZERO)
    mrseam: tuple[bytes, ...] = hexes(48)
    debug: bool = flag(dangerous=True)
    sept_ve: bool = flag(dangerous=True)
    migratable: bool = flag(dangerous=True)
    attributes_allowed: tuple[str, ...] = texts(*OPTIONAL_ATTRIBUTES)
    xfam_allowed: int = mask(KNOWN_XFAM, 64, safe=KNOWN_XFAM)
    tcb_components_min: tuple[tuple[str, int], ...] = floors(*sorted(TCB_COMPONENTS["tdx"]), high=U16)
    qe_isv_svn_min: int | None = number(None, 0, U16)
    fmspc: tuple[bytes, ...] = hexes(6)
    ppid: tuple[bytes, ...] = hexes(16)

    @property
    def attributes_mask(self) -> int:
        """The attributes without a field of their own that the policy names."""
        return sum(int(TdAttributes[name]) for name in self.attributes_allowed)

    @property
    def measurements(self) -> tuple[bytes, ...]:
        """What identifies the accepted code, for people."""
        return self.mrtd

    @property
    def names_system(self) -> bool:
        """Whether RTMR1 or RTMR2 is named, which alone say what the firmware booted."""
        return bool(self.rtmr1 or self.rtmr2)

    def check(self, given: frozenset[str]) -> None:  # noqa: ARG002 - what is given does not matter here
        """Refuse a table that names no TD, or only the firmware that boots whatever it is given."""
        if not self.mrtd:
            refuse(PolicyCode.POLICY_VACUOUS, "[tdx] names no trust domain", remedy="list mrtd")
        if not (self.rtmr0 or self.rtmr1 or self.rtmr2 or self.rtmr3):
            refuse(
                PolicyCode.POLICY_VACUOUS,
                "[tdx] names no RTMR: MRTD covers the firmware, and not the system that it boots",
                remedy="list rtmr1 and rtmr2; where MRTD covers everything, their value is zero",
            )
