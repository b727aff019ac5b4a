"""What an appraisal finds: one finding for each check, passed or failed, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from attestation.errors import EvidenceCode, EvidenceError, FindingCode
from manifests.errors import ErrorCode, shown


class Phase(StrEnum):
    """Which part of the evidence a check looks at; `parse` and `verify` are of reports alone."""

    PARSE = "parse"
    VERIFY = "verify"
    PLATFORM = "platform"
    ENCLAVE = "enclave"
    SESSION = "session"


class Severity(StrEnum):
    """`refusal` decides; `warning` passed only because the policy names something dangerous.

    `open` is of reports without a policy alone: the check needs one, and neither passed nor decides.
    """

    OK = "ok"
    WARNING = "warning"
    OPEN = "open"
    REFUSAL = "refusal"


@dataclass(frozen=True)
class Finding:
    """One check: what the policy expected, what the evidence has, and the next step where it failed.

    part: which part of the evidence it is of, such as a device by its serial number; None where there is but one.
    """

    code: ErrorCode
    phase: Phase
    passed: bool
    severity: Severity
    expected: str
    found: str
    remedy: str | None = None
    part: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the finding for programs."""
        return {
            "code": str(self.code),
            "part": self.part,
            "phase": str(self.phase),
            "passed": self.passed,
            "severity": str(self.severity),
            "expected": self.expected,
            "found": self.found,
            "remedy": self.remedy,
        }


_REMEDIES: dict[ErrorCode, str] = {
    FindingCode.TEE: "use a platform whose table the policy has, or add the table to the policy",
    FindingCode.BARE: "give the whole evidence: Azure's with its vTPM, or the processor's together with its devices'",
    FindingCode.CLASS: "use a policy for this class of platform; the two are never mixed",
    FindingCode.ROOT: "name this platform's root in [evidence] simulated_root, if you meant it",
    FindingCode.TCB_STATUS: "update the platform's firmware, or name the status in [evidence] tcb_status",
    FindingCode.ADVISORIES: "read the advisories; name those you accept in [evidence] advisories_accepted",
    FindingCode.TCB_EVALUATION: "fetch newer collateral",
    FindingCode.COLLATERAL_AGE: "fetch newer collateral",
    FindingCode.COLLATERAL_DATES: "fetch fresh collateral and verify again",
    FindingCode.TCB_DATE: "update the platform's firmware, and use collateral that knows the newest level",
    FindingCode.DENIED: "use another machine: [evidence.platforms_denied] names this one, or it hides which it is",
    FindingCode.BROKEN: "use another machine, or update this one to what the entry asks for",
    FindingCode.FEED_DATES: "get the newest list of broken hardware from whoever signs it",
    FindingCode.FEED_AGE: "get the newest list of broken hardware from whoever signs it",
    FindingCode.FMSPC: "use a platform of a family that fmspc names in the table of its TEE",
    FindingCode.PPID: "use a platform that ppid names in the table of its TEE",
    FindingCode.TCB_COMPONENTS: "update the platform's firmware",
    FindingCode.QE_ISV_SVN: "update the platform's quoting enclave",
    FindingCode.REPORT_DATA: "treat the peer as an attacker: this quote was made for something else",
    FindingCode.MRENCLAVE: "compare the manifest with the measured one; a changed byte changes the measurement",
    FindingCode.MRSIGNER: "use an enclave of a signer that [sgx] mrsigner names",
    FindingCode.ISV_PROD_ID: "use the product that [sgx] isv_prod_id names",
    FindingCode.ISV_SVN: "update the enclave",
    FindingCode.INIT: "treat the evidence as forged: an uninitialised enclave cannot report",
    FindingCode.MODE64: "use a 64-bit enclave",
    FindingCode.DEBUG: "run the enclave in production mode: a debugger can read everything in this one",
    FindingCode.PROVISION_KEY: "build the enclave without access to provisioning keys",
    FindingCode.EINITTOKEN_KEY: "build the enclave without access to the launch key",
    FindingCode.ATTRIBUTES: "build the enclave without them, or name them in [sgx] attributes_allowed",
    FindingCode.XFRM: "build the enclave for fewer processor features, or widen [sgx] xfrm_allowed",
    FindingCode.MISCSELECT: "build the enclave without it, or widen [sgx] miscselect_allowed",
    FindingCode.CET_ATTRIBUTES: "build the enclave without it, or widen [sgx] cet_attributes_allowed",
    FindingCode.CONFIG_ID: "name the configuration in [sgx] config_id",
    FindingCode.CONFIG_SVN: "name the configuration's version in [sgx] config_svn, or a floor in config_svn_min",
    FindingCode.ISV_EXT_PROD_ID: "name the id in [sgx] isv_ext_prod_id",
    FindingCode.ISV_FAMILY_ID: "name the id in [sgx] isv_family_id",
}


_PLATFORM = frozenset(code for code in FindingCode if not code.startswith("sgx-"))


def check(
    code: ErrorCode,
    *,
    passed: bool,
    expected: object,
    found: object,
    dangerous: bool = False,
    remedy: str | None = None,
    phase: Phase | None = None,
) -> Finding:
    """Report one check; `dangerous` marks what passes only because the policy permits it by name.

    remedy: the next step where it fails; the codes of this project's common table have theirs here.  phase: what the
    check looks at; None: as the common table has it, and the enclave for all other codes.
    """
    severity = Severity.WARNING if dangerous else Severity.OK
    if not passed:
        severity = Severity.REFUSAL
    if code in _REMEDIES:
        remedy = _REMEDIES[code]
    remedy = None if passed else remedy
    return Finding(code, phase or _phase(code), passed, severity, shown(expected), shown(found), remedy)


def _phase(code: ErrorCode) -> Phase:
    if code is FindingCode.REPORT_DATA:
        return Phase.SESSION
    return Phase.PLATFORM if code in _PLATFORM else Phase.ENCLAVE


def one_of(allowed: tuple[str, ...] | tuple[bytes, ...]) -> str:
    """Return an allow-list as text; an empty one allows any."""
    return " or ".join(item.hex() if isinstance(item, bytes) else item for item in allowed) or "any"


def named(allowed: tuple[str, ...] | tuple[bytes, ...]) -> str:
    """Return an allow-list as text; an empty one allows nothing."""
    return one_of(allowed) if allowed else "what a policy names, and none is named"


def _explained(finding: Finding) -> str:
    of = f" of {finding.part}" if finding.part else ""
    lines = [f"  {finding.code}{of}", f"    expected: {finding.expected}", f"    found: {finding.found}"]
    return "\n".join([*lines, f"    next: {finding.remedy}"] if finding.remedy else lines)


class AppraisalError(EvidenceError):
    """Genuine evidence that the policy refuses; `failed` holds every failed check."""

    def __init__(self, failed: tuple[Finding, ...], platform: str) -> None:
        """Name all failing codes in the message."""
        codes = ", ".join(str(finding.code) for finding in failed)
        super().__init__(
            EvidenceCode.APPRAISAL_REFUSED,
            f"the policy refuses this {platform} evidence: {codes}",
            expected="; ".join(f"{finding.code}: {finding.expected}" for finding in failed),
            found="; ".join(f"{finding.code}: {finding.found}" for finding in failed),
            remedy="; ".join(dict.fromkeys(finding.remedy for finding in failed if finding.remedy)),
        )
        self.failed = failed

    def __str__(self) -> str:
        """Say of each failed check what was expected and found, and what to do: a traceback shows this alone."""
        return "\n".join([super().__str__(), *(_explained(finding) for finding in self.failed)])

    def to_dict(self) -> dict[str, Any]:
        """Return the error for programs, with its findings."""
        return super().to_dict() | {"findings": [finding.to_dict() for finding in self.failed]}


@dataclass(frozen=True)
class Appraisal:
    """The verdict over one piece of evidence.  Call `require()`: an Appraisal is not a yes.

    findings: every check that was made, in order.  simulated: from the anchor that the evidence reached.
    """

    simulated: bool
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The failed checks."""
        return tuple(finding for finding in self.findings if not finding.passed)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Checks that passed only because the policy names something dangerous."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.WARNING)

    @property
    def accepted(self) -> bool:
        """Whether checks were made and all of them passed."""
        return bool(self.findings) and not self.failed

    @property
    def platform(self) -> str:
        """How verdicts name the platform: `SIMULATED` is loud on purpose."""
        return "SIMULATED" if self.simulated else "hardware"

    def require(self) -> None:
        """Return only if the evidence was accepted; raises AppraisalError that names every failed check."""
        if not self.accepted:
            raise AppraisalError(self.failed, self.platform)

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict for programs."""
        return {
            "accepted": self.accepted,
            "platform": self.platform,
            "simulated": self.simulated,
            "findings": [finding.to_dict() for finding in self.findings],
        }
