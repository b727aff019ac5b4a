"""The policy's tables for Azure's confidential VMs; those of the parts stand beside them: [snp] or [tdx], and [tpm]."""

from __future__ import annotations

from dataclasses import dataclass

from attestation.policy.schema import Table, flag, texts


@dataclass(frozen=True, kw_only=True)
class AzurePolicy(Table):
    """What holds for a VM of Azure, as its paravisor says.

    vm_ids: vmUniqueId of the accepted VMs, in either case; empty: any.  insecure_boot: accept VMs without secure boot.
    console: accept VMs into which the host has a console.
    """

    vm_ids: tuple[str, ...] = texts()
    insecure_boot: bool = flag(dangerous=True)
    console: bool = flag(dangerous=True)

    @property
    def accepted_ids(self) -> tuple[str, ...]:
        """The accepted ids in upper case, as the paravisor writes them."""
        return tuple(vm_id.upper() for vm_id in self.vm_ids)
