"""The policy's table for SGX enclaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attestation.errors import PolicyCode
from attestation.intel.abi import Attributes
from attestation.policy.platforms import TCB_COMPONENTS
from attestation.policy.schema import U16, Table, flag, floors, hex_value, hexes, mask, number, refuse, texts

KNOWN_XFRM = 0x602FF
"""x87, SSE, AVX, MPX, AVX-512, PKRU and AMX: what the SDM defines for enclaves."""

KNOWN_MISCSELECT = 0x3
"""EXINFO and CPINFO: what the SDM defines for enclaves."""

KNOWN_CET = 0x3F
"""All of CET_ATTRIBUTES that the SDM does not reserve."""

OPTIONAL_ATTRIBUTES = ("CET", "KSS", "AEXNOTIFY")
"""Attributes that are refused unless named, besides those that have a field of their own."""


@dataclass(frozen=True, kw_only=True)
class SgxPolicy(Table):
    """What holds for SGX enclaves.  Where both mrenclave and mrsigner are named, both must match.

    Byte strings have the sizes of the report's fields.  An empty tuple of fmspc or ppid admits every platform.
    config_svn_min: least CONFIGSVN, in the place of the one that config_svn names; None: that one alone.
    """

    mrenclave: tuple[bytes, ...] = hexes(32)
    mrsigner: tuple[bytes, ...] = hexes(32)
    isv_prod_id: int | None = number(None, 0, U16)
    isv_svn_min: int = number(0, 0, U16)
    debug: bool = flag(dangerous=True)
    provision_key: bool = flag(dangerous=True)
    einittoken_key: bool = flag(dangerous=True)
    attributes_allowed: tuple[str, ...] = texts(*OPTIONAL_ATTRIBUTES)
    xfrm_allowed: int = mask(KNOWN_XFRM, 64, safe=KNOWN_XFRM)
    miscselect_allowed: int = mask(0, 32, safe=KNOWN_MISCSELECT)
    cet_attributes_allowed: int = mask(0, 8, safe=KNOWN_CET)
    config_id: tuple[bytes, ...] = hexes(64, (bytes(64),))
    config_svn: int = number(0, 0, U16)
    config_svn_min: int | None = number(None, 0, U16)
    isv_ext_prod_id: bytes = hex_value(16, bytes(16))
    isv_family_id: bytes = hex_value(16, bytes(16))
    tcb_components_min: tuple[tuple[str, int], ...] = floors(*sorted(TCB_COMPONENTS["sgx"]), high=U16)
    qe_isv_svn_min: int | None = number(None, 0, U16)
    fmspc: tuple[bytes, ...] = hexes(6)
    ppid: tuple[bytes, ...] = hexes(16)

    @property
    def attributes_mask(self) -> int:
        """The attributes without a field of their own that the policy names."""
        return sum(int(Attributes[name]) for name in self.attributes_allowed)

    @property
    def measurements(self) -> tuple[bytes, ...]:
        """What identifies the accepted code, for people."""
        return (*self.mrenclave, *self.mrsigner)

    def check(self, given: frozenset[str]) -> None:
        """Refuse a table that names no enclave, or all that a signer ever signed."""
        if not self.mrenclave and not self.mrsigner:
            refuse(PolicyCode.POLICY_VACUOUS, "[sgx] names no enclave", remedy="list mrenclave, or mrsigner")
        if self.mrsigner and not {"isv_prod_id", "isv_svn_min"} <= given:
            refuse(
                PolicyCode.POLICY_VACUOUS,
                "mrsigner admits everything that its holder ever signed",
                remedy="set isv_prod_id and isv_svn_min beside it",
            )
        if {"config_svn", "config_svn_min"} <= given:
            refuse(
                PolicyCode.POLICY_CONTRADICTION,
                "config_svn names the one CONFIGSVN, and config_svn_min a floor",
                remedy="name config_svn or config_svn_min",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as TOML would have them: beside a floor, no CONFIGSVN is the only one."""
        values = super().to_dict()
        if self.config_svn_min is not None:
            del values["config_svn"]
        return values
