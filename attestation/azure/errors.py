"""Codes of Azure's evidence: how the vTPM's key hangs on the processor's report, and what the VM is."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault


class AzureCode(ErrorCode):
    """Codes of Azure's vTPM evidence over SEV-SNP and TDX."""

    EVIDENCE_MALFORMED = (
        "azure-evidence-malformed",
        Fault.MALFORMED,
        "the JSON is not Azure's evidence",
        "give the JSON as the attester made it, in version 0, 1 or 2",
    )
    EVIDENCE_VERSION = (
        "azure-evidence-version",
        Fault.UNSUPPORTED,
        "the evidence is of a version that is not handled",
        "use a newer release",
    )
    HCL_MALFORMED = (
        "azure-hcl-malformed",
        Fault.MALFORMED,
        "the paravisor's report breaks its format",
        "read the report anew from the vTPM's NV index 0x01400001, whole",
    )
    HCL_UNSUPPORTED = (
        "azure-hcl-unsupported",
        Fault.UNSUPPORTED,
        "the paravisor's report is of a kind not handled",
        "use a newer release: the paravisor may be newer than this one knows",
    )
    HCL_TEE = (
        "azure-hcl-tee",
        Fault.REFUSED,
        "the paravisor's report is of another TEE than the evidence",
        "give the quote or certificate that belongs to the machine's own processor",
    )
    RUNTIME_DATA = (
        "azure-runtime-data",
        Fault.REFUSED,
        "the processor's report does not vouch for the runtime data",
        "treat the vTPM's key as forged: the processor vouches for other runtime data",
    )
    RUNTIME_CLAIMS = (
        "azure-runtime-claims",
        Fault.MALFORMED,
        "authentic runtime data does not name one vTPM key",
        "use a newer release: the paravisor may say what this one does not know",
    )
    TD_REPORT = (
        "azure-td-report",
        Fault.REFUSED,
        "the TD report and the TD quote say different things",
        "make the quote from the very TD report that stands in the paravisor's",
    )
    VMPL = (
        "azure-vmpl",
        Fault.REFUSED,
        "the processor's report was not asked for at VMPL 0, where the paravisor alone runs",
        "treat the vTPM's key as forged: the guest can have its own data reported above VMPL 0, whoever names the key",
    )
    VCEK = (
        "azure-vcek",
        Fault.REFUSED,
        "the collateral was prepared for another chip's certificate",
        "verify with the collateral of this machine",
    )
    USER_DATA = (
        "azure-user-data",
        Fault.REFUSED,
        "the paravisor's user data is not what the vTPM's quote is bound to",
        "write the quote's qualifying data into the vTPM's user data before the report is made",
    )


class AzureFinding(ErrorCode):
    """Codes of the checks of an appraisal of Azure's evidence; each shows as passed or failed."""

    VM_ID = "azure-vm-id", Fault.REFUSED, "the virtual machine is one that the policy names"
    SECURE_BOOT = "azure-secure-boot", Fault.REFUSED, "secure boot is on, unless the policy says so"
    CONSOLE = "azure-console", Fault.REFUSED, "the host has no console into the machine, unless the policy says so"
