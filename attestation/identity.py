"""Which checks of each TEE ask whose code it is, and on whose machine: those that only a policy can answer.

A report without a policy shows them as open.  All other checks hold for everybody, and refuse without a policy, too.
"""

from __future__ import annotations

from typing import Final

from attestation.amd.errors import SnpFinding
from attestation.azure.errors import AzureFinding
from attestation.errors import FindingCode
from attestation.intel.errors import TdxFinding
from attestation.nitro.errors import NitroFinding
from attestation.tpm.errors import TpmFinding
from manifests.errors import ErrorCode

SGX: Final[frozenset[ErrorCode]] = frozenset(
    {
        FindingCode.MRENCLAVE,
        FindingCode.MRSIGNER,
        FindingCode.ISV_PROD_ID,
        FindingCode.ISV_SVN,
        FindingCode.CONFIG_ID,
        FindingCode.CONFIG_SVN,
        FindingCode.ISV_EXT_PROD_ID,
        FindingCode.ISV_FAMILY_ID,
    }
)

TDX: Final[frozenset[ErrorCode]] = frozenset(
    {
        TdxFinding.MRTD,
        TdxFinding.RTMR0,
        TdxFinding.RTMR1,
        TdxFinding.RTMR2,
        TdxFinding.RTMR3,
        TdxFinding.MRCONFIGID,
        TdxFinding.MROWNER,
        TdxFinding.MROWNERCONFIG,
        TdxFinding.MRSERVICETD,
    }
)

SNP: Final[frozenset[ErrorCode]] = frozenset(
    {
        SnpFinding.MEASUREMENT,
        SnpFinding.GUEST_SVN,
        SnpFinding.HOST_DATA,
        SnpFinding.FAMILY_ID,
        SnpFinding.IMAGE_ID,
        SnpFinding.ID_KEY,
        SnpFinding.AUTHOR_KEY,
        SnpFinding.REPORT_ID,
        SnpFinding.CSP_ID,
    }
)

NITRO: Final[frozenset[ErrorCode]] = frozenset({NitroFinding.PCR, NitroFinding.MODULE_ID})

TPM: Final[frozenset[ErrorCode]] = frozenset({TpmFinding.PCR, TpmFinding.AK})

AZURE: Final[frozenset[ErrorCode]] = frozenset({AzureFinding.VM_ID})

NONE: Final[frozenset[ErrorCode]] = frozenset()
"""Of an NVIDIA device, which runs NVIDIA's firmware alone, and of what only wraps other evidence."""
