"""The policy's table for AWS Nitro enclaves."""

from __future__ import annotations

from dataclasses import dataclass

from attestation.errors import PolicyCode
from attestation.policy.schema import Table, flag, named_hexes, refuse, texts

REGISTERS = tuple(f"pcr{index}" for index in range(32))
"""Names of the platform configuration registers."""
_IMAGE = frozenset({"pcr0", "pcr1", "pcr2"})
"""Registers of the image, which are zero in debug mode."""
_SIZE = 48


@dataclass(frozen=True, kw_only=True)
class NitroPolicy(Table):
    """What holds for Nitro enclaves.

    pcrs: accepted values (48 bytes) by register; every register that is named must match.  module_ids: accepted
    modules, as the document writes them; empty: any.  debug: accept enclaves whose parent reads their console.
    """

    pcrs: tuple[tuple[str, tuple[bytes, ...]], ...] = named_hexes(dict.fromkeys(REGISTERS, _SIZE))
    module_ids: tuple[str, ...] = texts()
    debug: bool = flag(dangerous=True)

    @property
    def measurements(self) -> tuple[bytes, ...]:
        """The images that are accepted, for people."""
        return dict(self.pcrs).get("pcr0", ())

    def check(self, given: frozenset[str]) -> None:
        """Refuse a table that names no image and no signer, or an image that only debug mode has."""
        named = dict(self.pcrs)
        if not named.keys() & {"pcr0", "pcr8"}:
            refuse(
                PolicyCode.POLICY_VACUOUS,
                "[nitro] names no enclave",
                remedy="list the image as pcr0 in [nitro.pcrs], or its signer as pcr8",
            )
        if "module_ids" in given and not self.module_ids:
            refuse(PolicyCode.POLICY_VACUOUS, "module_ids is an empty list", remedy="name a module, or leave it out")
        zeros = [name for name in _IMAGE & named.keys() if bytes(_SIZE) in named[name]]
        if zeros and not self.debug:
            refuse(
                PolicyCode.POLICY_CONTRADICTION, f"{min(zeros)} is zero in debug mode alone, and debug is not accepted"
            )
        if "pcr8" in named and bytes(_SIZE) in named["pcr8"]:
            refuse(PolicyCode.POLICY_CONTRADICTION, "pcr8 is zero where an image has no signer")
