"""A report in words: what the evidence is, who made it, what was checked, what would change the verdict, what to do."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from attestation.amd.verified import OUT_OF_DATE, UP_TO_DATE, SnpVerified
from attestation.errors import EvidenceCode
from attestation.eventlog.errors import EventLogFinding
from attestation.findings import Finding, Phase, Severity
from attestation.intel.tcb import TcbStatus
from attestation.log_checks import described
from attestation.refused import refusals
from attestation.report import Outcome, Report
from attestation.report_text import NOT_IDENTITY, devices, subject
from attestation.roots import AMD_ROOTS, AWS_NITRO_ROOT, INTEL_SGX_ROOT, NVIDIA_DEVICE_ROOT
from attestation.tees import BY_NAME
from attestation.validity import ending, rfc3339
from attestation.verified import Verified
from attestation.whatif import Changes, Preset, least_changes, under_presets
from manifests.plain import printable

_WIDTH: Final = 110
_DAY: Final = 86400

WHAT: Final[Mapping[str, str]] = {
    "sgx": "a quote: a report of one enclave, signed by Intel's quoting enclave on the same machine",
    "tdx": "a quote: a report of one trust domain (a confidential VM), signed by a quoting enclave on its machine",
    "snp": "an attestation report of one SEV-SNP guest (a confidential VM), signed by its processor's firmware",
    "nitro": "an attestation document of one enclave, signed by the Nitro hypervisor of its machine",
    "nvidia": "measurement reports of NVIDIA devices, each signed by its device, with the manifests that go with them",
    "tpm": "a quote of a TPM over its platform configuration registers",
    "azure-snp": "a quote of the vTPM inside a confidential VM of Azure, with the SEV-SNP report that vouches for it",
    "azure-tdx": "a quote of the vTPM inside a confidential VM of Azure, with the TDX quote that vouches for it",
    "ratls": "a TLS certificate that carries evidence bound to its key",
}
"""What the evidence of each TEE is."""

STATUSES: Final[Mapping[str, str]] = {
    TcbStatus.UP_TO_DATE: "the vendor knows of nothing that is missing",
    TcbStatus.SW_HARDENING_NEEDED: "firmware is current; the code inside must mitigate the advisories itself",
    TcbStatus.CONFIGURATION_NEEDED: "firmware is current; the platform's configuration may expose it",
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED: (
        "firmware is current; configuration may expose it, and the code inside must mitigate the advisories itself"
    ),
    TcbStatus.TD_RELAUNCH_ADVISED: "the TDX module was updated after the launch: relaunch the TD",
    TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED: (
        "the TDX module was updated after the launch, and the configuration may expose the platform"
    ),
    TcbStatus.OUT_OF_DATE: "security updates are missing",
    TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED: "security updates are missing, and the configuration may expose it",
}
"""What the vendor means by each status; revoked ones never verify."""

AMD_STATUSES: Final[Mapping[str, str]] = {
    UP_TO_DATE: "it vouches for all that it has committed to; AMD lists no levels, so floors in a policy say more",
    OUT_OF_DATE: "it has committed to newer firmware than it vouches for",
}
"""The same of SEV-SNP, where the report alone tells."""

_WITH_STATUS: Final = frozenset({"sgx", "tdx", "snp"})

ROOTS: Final[Mapping[bytes, str]] = {
    INTEL_SGX_ROOT: "Intel's SGX root",
    AWS_NITRO_ROOT: "the root of AWS Nitro",
    NVIDIA_DEVICE_ROOT: "NVIDIA's device identity root",
    **{root: f"AMD's root of {product.title()}" for product, root in AMD_ROOTS.items()},
}
"""What the pinned roots are called."""


@dataclass(frozen=True)
class Section:
    """A heading and the sentences below it."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """A report in words.  presets and changes are what-if; see `attestation.whatif`."""

    report: Report
    verdict: str
    sections: tuple[Section, ...]
    presets: tuple[Preset, ...]
    changes: Changes | None
    next_steps: tuple[str, ...]

    def text(self) -> str:
        """Return the words, wrapped for a screen."""
        blocks = [_wrapped(self.verdict, "")]
        sections = (*self.sections, Section("Next step", self.next_steps))
        blocks += ["\n".join(["", each.title, *(_wrapped(line, "  ") for line in each.lines)]) for each in sections]
        return "\n".join(blocks)

    def to_dict(self) -> dict[str, Any]:
        """Return the report with the words and the what-if beside it."""
        return self.report.to_dict() | {
            "explanation": {
                "verdict": self.verdict,
                **{section.title: list(section.lines) for section in self.sections},
            },
            "what_if": {
                "presets": [preset.to_dict() for preset in self.presets],
                "changes": None if self.changes is None else self.changes.to_dict(),
            },
            "next_steps": list(self.next_steps),
        }


def explanation(report: Report) -> Explanation:
    """Put a report into words, with what would change it."""
    presets, changes = under_presets(report), least_changes(report)
    made = (
        Section("What it is", tuple(_what(report))),
        Section("Who made it", tuple(_who(report))),
        Section("What was checked", tuple(_checked(report))),
        Section("How current the platform is", tuple(_currency(report))),
        Section("What if", tuple(_what_if(report, presets, changes))),
    )
    sections = tuple(section for section in made if section.lines)
    return Explanation(report, _verdict(report), sections, presets, changes, tuple(_next(report)))


def _verdict(report: Report) -> str:
    word = "ACCEPTED" if report.accepted else "REFUSED"
    if report.accepted:
        why = "every check of the policy passed" if report.policy else "it is genuine; whose code it is stays open"
    else:
        why = ", ".join(dict.fromkeys(str(finding.code) for finding in report.refused))
    return f"{word}: {subject(report)} ({why})"


def _what(report: Report) -> Iterator[str]:
    if report.wrapping:
        yield f"It came wrapped, and was taken out: {'; '.join(report.wrapping)}."
    found = report.evidence
    if found is None:
        yield from _unparsed(report)
        return
    yield f"{BY_NAME[found.tee].title}, format version {found.version}: {WHAT[found.tee]}."
    yield from _logged(report)
    if report.verified is None:
        yield "It is not verified: all that it says, it only claims."
        return
    yield f"It is bound to {found.report_data.hex() or 'nothing'}."
    if report.gpu is not None:
        yield f"Evidence of devices came with it and was judged, too; {devices(report)}."
    yield f"It is of code that measures {report.verified.measurement.hex()}."


def _unparsed(report: Report) -> Iterator[str]:
    if report.tee is not None:
        yield f"It begins as {BY_NAME[report.tee].title} does: {WHAT[report.tee]}. But it does not parse as such."
    yield "The bytes do not parse, and are not looked into any further: nothing in them could be relied on."


def _logged(report: Report) -> Iterator[str]:
    """Yield what the event log says; the data of an event is vouched for where its digest is that of the data."""
    if report.event_log is None or report.evidence is None:
        return
    events, told = report.event_log.extending, described(report.event_log, report.evidence)
    counts = Counter(event.register for event in events)
    registers = ", ".join(f"{counts[register]} for register {register}" for register in sorted(counts)) or "none"
    yield f"Its event log has {len(events)} events that extend registers: {registers}."
    yield f"{told} of them have the digest of the data that they log; what the others say, nothing vouches for."


def _who(report: Report) -> Iterator[str]:
    verified = report.verified
    if verified is None:
        yield "Nobody that can be told: the evidence is not verified, and anyone can write what it says."
        return
    for part in (*verified.parts, *(report.devices.parts if report.devices else ())):
        name = ROOTS.get(part.root, "a root that the caller or the policy named")
        kind = "a SIMULATED platform, whose maker can forge anything" if part.simulated else "hardware"
        ids = ", ".join(f"{key} {value}" for key, value in part.platform_ids.items()) or "no id"
        yield f"{BY_NAME[part.tee].title}: {kind}, under {name} ({part.root.hex()}); it shows {ids}."


def _checked(report: Report) -> Iterator[str]:
    judged = [finding for finding in report.findings if finding.phase not in {Phase.PARSE, Phase.VERIFY}]
    counts = f": of {len(judged)} checks, {', '.join(_counts(judged))}"
    for name, outcome in report.phases.items():
        meaning = _meaning(name, report) if outcome is Outcome.PASSED else ""
        yield f"{name}: {outcome}{meaning}{counts if name == 'appraise' and judged else ''}."
    passed = [finding for finding in report.findings if finding.phase is Phase.VERIFY and finding.passed]
    told = (finding.expected for finding in passed if not isinstance(finding.code, EventLogFinding))
    held = list(dict.fromkeys(told))
    if held and report.held is None:
        yield f"Without the collateral, this much holds: {'; '.join(held)}."
        yield _LEFT_OPEN
    replayed = [finding.expected for finding in passed if finding.code is EventLogFinding.REPLAY]
    if replayed:
        whose = "the evidence shows" if report.genuine else "the evidence, which is not verified, claims"
        yield f"The event log replays to what {whose}: {'; '.join(replayed)}."
    if report.as_of is not None:
        yield f"Dates do not hold at {rfc3339(report.now)}; all else was checked as of {rfc3339(report.as_of)}."
    for finding in report.refused:
        yield _told("Refused", finding)
    for finding in report.warnings:
        yield _told("Permitted, with a warning", finding)
    if report.open:
        yield f"Open, for want of a policy: {', '.join(dict.fromkeys(str(each.code) for each in report.open))}."


_LEFT_OPEN: Final = (
    "What takes the collateral was not checked: whether the vendor certified every key, whether one was revoked, "
    "whether it is the vendor's own code that vouches for the evidence, and how current the platform is."
)


def _meaning(stage: str, report: Report) -> str:
    """Say what it means that a stage passed."""
    if stage == "parse":
        return ", in the one encoding of its format"
    if stage != "verify":
        return ""
    if any(_saw_a_list(part) for part in (report.verified.parts if report.verified else ())):
        return "; signatures, chains, revocation and dates hold"
    return "; signatures, chains and dates hold; no revocation list was consulted"


def _saw_a_list(part: Verified) -> bool:
    """Tell whether a revocation list was consulted: always for Intel's, for AMD's where the collateral has it."""
    return part.revocation_checked if isinstance(part, SnpVerified) else part.tee in {"sgx", "tdx"}


def _counts(findings: list[Finding]) -> Iterator[str]:
    words = {Severity.OK: "passed", Severity.WARNING: "permitted", Severity.OPEN: "open", Severity.REFUSAL: "refused"}
    for severity, word in words.items():
        number = sum(finding.severity is severity for finding in findings)
        if number:
            yield f"{number} {word}"


def _told(how: str, finding: Finding) -> str:
    of = f" of {finding.part}" if finding.part else ""
    return f"{how}: {finding.code}{of}: {finding.code.meaning}. Expected {finding.expected}; found {finding.found}."


def _currency(report: Report) -> Iterator[str]:
    verified = report.verified
    if verified is None:
        return
    for part in verified.parts:
        yield from _standing(part, report)
    since = f"is from {rfc3339(verified.issued)}" if verified.dated else "has no date of issue"
    end = ending(verified.expires)
    yield f"What the vendor says {since} and {'does not expire' if end is None else f'expires at {end}'}."


def _standing(part: Verified, report: Report) -> Iterator[str]:
    """Yield how one part stands; what only wraps others repeats their status, and says nothing of its own."""
    meanings = AMD_STATUSES if part.tee == "snp" else STATUSES
    if part.tcb_status is None or part.tee not in _WITH_STATUS:
        return
    yield f"{BY_NAME[part.tee].title}: {part.tcb_status}: {meanings[part.tcb_status]}."
    if part.tcb_date is not None:
        yield f"The platform deals with what was published up to {rfc3339(part.tcb_date)}, {_age(part, report)}."
        yield f"Advisories that apply: {', '.join(part.advisories) or 'none'}."


def _age(part: Verified, report: Report) -> str:
    days = (report.now - (part.tcb_date or report.now)) // _DAY
    return f"{days} days before {rfc3339(report.now)}" if days >= 0 else f"{-days} days after {rfc3339(report.now)}"


def _but_for_dates(report: Report, verified: Verified) -> list[Finding]:
    """Return the refusals that stay at `as_of`: all but those for the dates of the evidence itself."""
    late = tuple(each for each in verified.validities if not each.holds(report.now))
    dates = () if report.error is None else refusals(report.error, Phase.VERIFY, late)
    return [finding for finding in report.refused if finding not in dates]


def _what_if(report: Report, presets: tuple[Preset, ...], changes: Changes | None) -> Iterator[str]:
    if report.as_of is not None and report.verified is not None:
        codes = dict.fromkeys(str(each.code) for each in _but_for_dates(report, report.verified))
        verdict = f"would be refused: {', '.join(codes)}" if codes else "would pass"
        yield f"At {rfc3339(report.as_of)}, which --at takes, it {verdict}. That says nothing of now."
    suffix = " (but for what only a policy can say)" if report.policy is None else ""
    whose = "a policy that names this evidence" if report.policy is None else "this policy"
    for preset in presets:
        verdict = f"would be refused: {', '.join(preset.refused)}" if preset.refused else f"would pass{suffix}"
        if preset.excluded is None:
            yield f'Under preset = "{preset.name}" it {verdict}.'
        else:
            yield f'Under preset = "{preset.name}" {whose} would not load: {preset.excluded}.'
    if changes is None:
        return
    if len(changes.changes) > 1:
        yield "These changes were tried together; one of them may not load without another."
    for change in changes.changes:
        danger = " DANGEROUS: it gives up what the check protects." if change.dangerous else ""
        yield f"{change.code} would pass with: {change.text}.{danger}"
    for each in changes.excluded:
        yield f"{each.change.code} asks for: {each.change.text}. With that the policy would not load: {each.why}."
    if changes.remaining:
        yield f"No change that is tried here makes these pass: {', '.join(changes.remaining)}."
    elif changes.changes:
        yield "With all of these, the policy would accept this evidence. Whether it should is yours to decide."


def _next(report: Report) -> Iterator[str]:
    """Yield what to do: once for each remedy."""
    if report.accepted:
        if report.policy is None:
            yield NOT_IDENTITY
            yield "Write a policy that names the code that you expect (docs/policy.md), and verify with --policy."
        else:
            yield "None: what the policy asks for is there. Verify again before the collateral expires."
        return
    missing = report.error is not None and report.error.code is EvidenceCode.COLLATERAL_MISSING
    if missing and report.key is not None:
        yield f"Get the collateral that is filed as {' or '.join(map(str, report.key.candidates))}."
    yield from dict.fromkeys(_step(finding) for finding in report.refused)


def _step(finding: Finding) -> str:
    return f"{finding.code}: {finding.remedy or finding.code.remedy or 'do not trust this evidence'}."


def _wrapped(text: str, indent: str) -> str:
    return textwrap.fill(
        printable(text),
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
