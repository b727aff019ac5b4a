"""What holds for everybody: the judgement of evidence where no policy says whose code it should be.

It refuses what no relying party should take: debug and migration, platforms that are out of date or revoked, bits that
nothing here knows.  It permits, with a warning, what some policies name.  Identity stays open.  A pass therefore says
"genuine, and protected", and never "the right one": `appraise` with a policy does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from attestation.amd.tcb import Product
from attestation.appraise import appraise
from attestation.findings import Finding, Severity
from attestation.intel.tcb import TcbStatus
from attestation.policy import EvidencePolicy, Policy, SgxPolicy, TdxPolicy
from attestation.policy.azure import AzurePolicy
from attestation.policy.nitro import NitroPolicy
from attestation.policy.nvidia import PRODUCTS, NvidiaPolicy
from attestation.policy.schema import Table
from attestation.policy.sgx import KNOWN_CET, KNOWN_MISCSELECT
from attestation.policy.sgx import OPTIONAL_ATTRIBUTES as SGX_ATTRIBUTES
from attestation.policy.snp import OPTIONAL_POLICY, VCEK, VLEK, SnpPolicy
from attestation.policy.tables import ANY
from attestation.policy.tdx import OPTIONAL_ATTRIBUTES as TDX_ATTRIBUTES
from attestation.policy.tpm import TpmPolicy
from attestation.tees import TEES
from attestation.verified import Verified

STATUSES: Final = (
    TcbStatus.UP_TO_DATE,
    TcbStatus.SW_HARDENING_NEEDED,
    TcbStatus.CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
)
"""What is current as far as the platform's firmware goes; the rest is for software and configuration to answer."""

EVIDENCE: Final = EvidencePolicy(tcb_status=tuple(map(str, STATUSES)), advisories_accepted=(ANY,))

TABLES: Final[Mapping[str, Table]] = MappingProxyType(
    {
        "sgx": SgxPolicy(
            attributes_allowed=SGX_ATTRIBUTES,
            cet_attributes_allowed=KNOWN_CET,
            miscselect_allowed=KNOWN_MISCSELECT,
        ),
        "tdx": TdxPolicy(attributes_allowed=TDX_ATTRIBUTES),
        "snp": SnpPolicy(
            reported_tcb_min=tuple((str(product), ()) for product in Product),
            signing_keys=(VCEK, VLEK),
            policy_allowed=OPTIONAL_POLICY,
            provisional_firmware=True,
            dangerous_crl_absent=True,
            vmpl_max=3,
        ),
        "nitro": NitroPolicy(),
        "tpm": TpmPolicy(unsafe_clock=True),
        "nvidia": NvidiaPolicy(products=PRODUCTS, fwid_absent=True),
        "azure-snp": AzurePolicy(insecure_boot=True, console=True),
        "azure-tdx": AzurePolicy(insecure_boot=True, console=True),
    }
)
"""By TEE: nothing of identity, so that each of them admits no evidence by itself."""

IDENTITY: Final = frozenset(code for tee in TEES for code in tee.identity)

NO_POLICY: Final = "no policy says what is expected"
_REMEDY: Final = "write a policy that names it (docs/policy.md)"


def policy_for(verified: Verified) -> Policy:
    """Return the policy without identity, for the class of platform and the roots that verification has reached.

    It has tables for the parts of this evidence alone, because a table of what could wrap it would demand that.
    """
    evidence = EVIDENCE
    if verified.simulated:
        roots = tuple(sorted({part.root for part in verified.parts}))
        evidence = replace(EVIDENCE, simulation=True, simulated_root=roots)
    return Policy(evidence=evidence, tables={part.tee: TABLES[part.tee] for part in verified.parts})


def judge(verified: Verified, now: int, *, report_data: bytes | None = None) -> tuple[Finding, ...]:
    """Return every check of verified evidence at `now` (Unix seconds), with those of identity open.

    `report_data` as `appraise` takes it.
    """
    appraisal = appraise(verified, policy_for(verified), now, report_data=report_data)
    return tuple(_opened(finding) for finding in appraisal.findings)


def _opened(finding: Finding) -> Finding:
    if finding.code not in IDENTITY:
        return finding
    return replace(finding, passed=False, severity=Severity.OPEN, expected=NO_POLICY, remedy=_REMEDY)
