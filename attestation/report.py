"""Everything that can be said of one piece of evidence, in one call that does not fail: `examine`.

    bytes --unwrap--> bytes --parse--> Evidence --verify--> Verified --appraise--> findings

A stage that refuses becomes a finding with the code of its error, and what the other stages can still say is there,
too: fields that were decoded, and, where only dates do not hold, everything else as of the nearest time at which they
do.  Without a policy, `attestation.genuine` judges: that proves genuineness, and not identity.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from attestation import evidence, genuine
from attestation.appraise import appraise
from attestation.carried import carried, signer_test
from attestation.collateral import Collateral, CollateralKey, CollateralSource, FixedSource
from attestation.composite import SessionClaims, joined
from attestation.errors import EvidenceCode, EvidenceError
from attestation.eventlog.errors import EventLogCode, EventLogFinding
from attestation.eventlog.log import EventLog
from attestation.findings import Appraisal, Finding, Phase, Severity
from attestation.log_checks import replay_given, with_log
from attestation.loose import LooseFiles
from attestation.policy import Policy, roots_for
from attestation.refused import refusal, refusals
from attestation.report_json import report_map
from attestation.roots import Roots
from attestation.tees import BY_NAME
from attestation.unaided import check_unaided
from attestation.validity import DateError
from attestation.verified import Evidence, Verified
from attestation.wrapping import Unwrapped, is_device_report, parse_alone, unwrap
from manifests.errors import Fault, StrongroomError

_MAX_MOVES: Final = 16
"""Each move of the time satisfies one more document; a chain with its collateral has about ten."""


class Outcome(StrEnum):
    """How far a stage came.  `open`: nothing refused, but without a policy the question whose code it is stays open."""

    PASSED = "passed"
    OPEN = "open"
    FAILED = "failed"
    NOT_REACHED = "not reached"


@dataclass(frozen=True)
class Report:
    """What `examine` found.

    now: Unix seconds of the examination.  recognised: the TEE that the evidence begins as, whether it parses or not;
    None where it is none's, or could not be unwrapped.  evidence: None where nothing parses.  verified: None where
    verification failed for another reason than a date.  as_of: the time that everything but dates was judged at, where
    dates do not hold at `now` and there is such a time.  key: what collateral the evidence asks for.  held: that
    collateral, to be verified under `roots`.  error: what ended the first stage that failed.  passed_over: files
    in folders of collateral that hold none.  gpu: evidence of devices
    that lies beside that of the processor.  devices: the same, verified.  session: what ties the two.  event_log: the
    one that was given beside the evidence, where both parse.  findings: all checks, in order; that of `error` comes
    first.
    """

    now: int
    wrapping: tuple[str, ...] = ()
    recognised: str | None = None
    evidence: Evidence | None = field(default=None, repr=False)
    gpu: bytes | None = field(default=None, repr=False)
    devices: Verified | None = field(default=None, repr=False)
    session: SessionClaims | None = field(default=None, repr=False)
    event_log: EventLog | None = field(default=None, repr=False)
    key: CollateralKey | None = None
    held: Collateral | None = field(default=None, repr=False)
    roots: Roots | None = field(default=None, repr=False)
    verified: Verified | None = field(default=None, repr=False)
    as_of: int | None = None
    policy: Policy | None = field(default=None, repr=False)
    report_data: bytes | None = None
    error: StrongroomError | None = None
    passed_over: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def appraisal(self) -> Appraisal | None:
        """The verdict under the policy; None without a policy, and for evidence that is not genuine."""
        if self.verified is None or self.policy is None or self.error is not None:
            return None
        simulated = self.verified.simulated or (self.devices is not None and self.devices.simulated)
        return Appraisal(simulated, self.findings)

    @property
    def genuine(self) -> bool:
        """Whether signatures, chains and dates hold."""
        return self.verified is not None and self.error is None

    @property
    def refused(self) -> tuple[Finding, ...]:
        """The findings that decide against the evidence."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.REFUSAL)

    @property
    def open(self) -> tuple[Finding, ...]:
        """The findings that only a policy could decide."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.OPEN)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that passed with a warning."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.WARNING)

    @property
    def accepted(self) -> bool:
        """Whether the evidence is genuine and no check refuses; without a policy, that says nothing of identity."""
        return self.genuine and bool(self.findings) and not self.refused

    @property
    def exit_code(self) -> int:
        """Exit status of a command that ends with this report."""
        if self.accepted:
            return 0
        foreign = any(isinstance(finding.code, EventLogCode | EventLogFinding) for finding in self.refused)
        if self.error is None or (foreign and self.error.code is EvidenceCode.COLLATERAL_MISSING):
            return int(Fault.REFUSED)
        return self.error.exit_code

    @property
    def tee(self) -> str | None:
        """The name of the evidence's TEE, also where it only begins as such; None where that is not known."""
        return self.recognised if self.evidence is None else self.evidence.tee

    @property
    def tcb_status(self) -> str | None:
        """The platform's TCB status, in the vendor's words; where evidence wraps other evidence, that of the inner."""
        return next((part.tcb_status for part in self._parts if part.tcb_status is not None), None)

    @property
    def tcb_date(self) -> int | None:
        """Unix seconds of the earliest date that a part's TCB level is from; None where the vendor gives none."""
        return min((part.tcb_date for part in self._parts if part.tcb_date is not None), default=None)

    @property
    def tcb_age(self) -> int | None:
        """Seconds since `tcb_date`."""
        return None if self.tcb_date is None else self.now - self.tcb_date

    @property
    def advisories(self) -> tuple[str, ...]:
        """Ids of the advisories that apply to any part."""
        return tuple(dict.fromkeys(advisory for part in self._parts for advisory in part.advisories))

    @property
    def _parts(self) -> tuple[Verified, ...]:
        return () if self.verified is None else self.verified.parts

    @property
    def phases(self) -> dict[str, Outcome]:
        """How far each stage came."""
        parsed = Outcome.FAILED if self.evidence is None else Outcome.PASSED
        late = any(each.phase is Phase.VERIFY for each in self.refused)
        verified = Outcome.FAILED if late or not self.genuine else Outcome.PASSED
        judged = Outcome.OPEN if self.policy is None else Outcome.PASSED
        if any(each.phase not in _EARLY for each in self.refused):
            judged = Outcome.FAILED
        return {
            "parse": parsed,
            "verify": Outcome.NOT_REACHED if self.evidence is None else verified,
            "appraise": Outcome.NOT_REACHED if self.verified is None else judged,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return everything for programs: the same names always, null for what is not known."""
        return report_map(self)


_EARLY: Final = frozenset({Phase.PARSE, Phase.VERIFY})


def examine(
    data: bytes,
    *,
    now: int,
    collateral: Collateral | CollateralSource | None = None,
    policy: Policy | None = None,
    report_data: bytes | None = None,
    roots: Roots | None = None,
    session: SessionClaims | None = None,
    event_log: bytes | None = None,
) -> Report:
    """Examine evidence of any TEE, wrapped or not, at `now` (Unix seconds); never raises for what it finds.

    collateral: what the vendor says, or where to look for it; None: what travels with the evidence.  policy: None
    judges only what holds for everybody.  report_data (64 bytes): what the evidence must be bound to.  roots: those of
    the policy, or the vendors'.  session: the claims that the evidence must cover, instead of `report_data`; only they
    say whether evidence of a processor and of devices in one file belongs together.  event_log: a log of measured boot
    that must replay to the evidence's registers.  Raises ValueError for `session` with `report_data`.
    """
    if session is not None and report_data is not None:
        raise ValueError("the session says what the evidence must be bound to: leave out report_data")
    report_data = report_data if session is None else session.report_data
    source = FixedSource(collateral) if isinstance(collateral, Collateral) else collateral
    roots = roots or (roots_for(policy) if policy is not None else Roots.vendor())
    return _Examination(now, source, policy, report_data, roots, session, event_log).run(data)


@dataclass(frozen=True)
class _Examination:
    """One run of `examine`."""

    now: int
    source: CollateralSource | None
    policy: Policy | None
    report_data: bytes | None
    roots: Roots
    session: SessionClaims | None
    event_log: bytes | None

    def run(self, data: bytes) -> Report:
        """Take the evidence through all stages, as far as they go."""
        known: dict[str, Any] = {}
        try:
            unwrapped = unwrap(data)
            known |= {"wrapping": unwrapped.steps, "recognised": _recognised(unwrapped.evidence)}
            known |= {"evidence": parse_alone(unwrapped.evidence), "gpu": unwrapped.gpu}
        except StrongroomError as error:
            return self._report(**known, error=error, findings=refusals(error, Phase.PARSE))
        replayed: tuple[Finding, ...] = ()
        if self.event_log is not None:
            known["event_log"], replayed = replay_given(self.event_log, known["evidence"], self.policy)
        report = self._verified(unwrapped, known)
        return replace(report, findings=(*report.findings, *replayed))

    def _verified(self, unwrapped: Unwrapped, known: dict[str, Any]) -> Report:
        """Fetch collateral, verify and judge."""
        try:
            found = known["evidence"] = self._completed(known["evidence"], unwrapped.evidence)
        except StrongroomError as error:
            return self._report(**known, error=error, findings=refusals(error, Phase.VERIFY))
        try:
            held = self._collateral(found, unwrapped, known)
        except StrongroomError as error:
            if error.code is EvidenceCode.COLLATERAL_MISSING:
                return self._without_collateral(found, error, known)
            return self._report(**known, error=error, findings=refusals(error, Phase.VERIFY))
        return self._judge(found, held, known | {"held": held, "roots": self.roots})

    def _without_collateral(self, found: Evidence, missing: StrongroomError, known: dict[str, Any]) -> Report:
        """Tell what holds without the collateral that is missing; a forgery is refused for what it is."""
        unaided = check_unaided(found, self.roots, self.now)
        error: StrongroomError = unaided.error or missing
        dates = tuple(finding for each in unaided.dates for finding in refusals(each, Phase.VERIFY))
        findings = (*refusals(error, Phase.VERIFY), *dates, *unaided.held)
        if known["gpu"] is None or unaided.error is not None:
            return self._report(**known, error=error, findings=findings)
        devices, broken, of_devices = self._devices(known["gpu"], self.now)
        if broken is not None:
            return self._report(**known, error=broken, findings=(*of_devices, *findings))
        return self._report(**known, error=error, devices=devices, findings=(*findings, *of_devices))

    def _completed(self, found: Evidence, data: bytes) -> Evidence:
        """Put evidence of devices together with the certificates and manifests that lie beside it."""
        if is_device_report(data):
            return evidence.parse(self._files.complete(data))
        completed = self._files.with_manifests(data)
        return found if completed == data else evidence.parse(completed)

    @property
    def _files(self) -> LooseFiles:
        found = None if self.source is None else self.source.under(self.roots)
        return found if isinstance(found, LooseFiles) else LooseFiles((), (), self.roots)

    def _collateral(self, found: Evidence, unwrapped: Unwrapped, known: dict[str, Any]) -> Collateral | None:
        """Fetch what the evidence needs: from where the caller says, or else from what travelled with it.

        Where the evidence does not say what that is, but there is no choice, verification tells what is wrong with it.
        """
        source = self.source or unwrapped.collateral
        try:
            key = known["key"] = evidence.collateral_key(found)
        except EvidenceError:
            held = None if source is None else source.under(self.roots).only()
            if held is None:
                raise
            return held
        if key is None:
            return None
        if source is not None:
            return source.under(self.roots).fetch_for(key, carried(found), self.now, signer_test(found))
        raise EvidenceError(
            EvidenceCode.COLLATERAL_MISSING,
            f"{BY_NAME[found.tee].title} is verified with the vendor's collateral",
            expected=" or ".join(map(str, key.candidates)),
            found="none is given",
            remedy=f"{key.fetching}; then give --collateral FOLDER",
        )

    def _judge(self, found: Evidence, held: Collateral | None, known: dict[str, Any]) -> Report:
        """Verify, and appraise what verifies: at `now`, or as of the nearest time at which all dates hold."""
        try:
            verified = evidence.verify(found, held, self.roots, self.now)
        except DateError as error:
            return self._judge_as_of(found, held, error, known)
        except StrongroomError as error:
            return self._report(**known, error=error, findings=refusals(error, Phase.VERIFY))
        return self._report(**known, **self._found(verified, self.now, known))

    def _judge_as_of(self, found: Evidence, held: Collateral | None, error: DateError, known: dict[str, Any]) -> Report:
        """Refuse for every date, and tell what else there is to say as of the nearest time at which all hold."""
        moment, tried = error.nearest, {self.now}
        while moment not in tried and len(tried) < _MAX_MOVES:
            tried.add(moment)
            try:
                verified = evidence.verify(found, held, self.roots, moment)
            except DateError as other:
                moment = other.nearest
            except StrongroomError as other:
                findings = (*refusals(error, Phase.VERIFY), *refusals(other, Phase.VERIFY))
                return self._report(**known, error=error, findings=findings, as_of=moment)
            else:
                made = self._found(verified, moment, known)
                dates = tuple(each for each in verified.validities if not each.holds(self.now))
                made["findings"] = (*refusals(error, Phase.VERIFY, dates), *made["findings"])
                return self._report(**known, **made, error=error, as_of=moment)
        return self._report(**known, error=error, findings=refusals(error, Phase.VERIFY))

    def _found(self, verified: Verified, moment: int, known: dict[str, Any]) -> dict[str, Any]:
        """Judge the evidence, that of devices beside it, and whether the two belong together."""
        gpu: bytes | None = known["gpu"]
        verified = with_log(verified, known.get("event_log"))
        devices, findings = None, self._judged(verified, moment, self.report_data)
        of_devices: tuple[Finding, ...] = ()
        if BY_NAME[verified.tee].device and self.session is not None:
            findings = (*findings, refusal(_device_alone(verified), Phase.SESSION))
        if gpu is not None:
            findings = tuple(replace(each, part=each.part or verified.label) for each in findings)
            devices, _, of_devices = self._devices(gpu, moment)
        together = joined(verified, gpu, devices, self.session, decided=self.policy is not None)
        return {"verified": verified, "devices": devices, "findings": (*findings, *together, *of_devices)}

    def _devices(self, gpu: bytes, moment: int) -> tuple[Verified | None, StrongroomError | None, tuple[Finding, ...]]:
        """Verify and judge evidence of devices that lies beside a processor's: (verified, or the error; findings).

        Manifests that the caller has are added for that alone: what claims name is the evidence as it came.
        """
        try:
            parsed = evidence.parse(self._files.with_manifests(gpu))
            devices = evidence.verify(parsed, None, self.roots, moment)
        except StrongroomError as error:
            return None, error, refusals(error, Phase.VERIFY)
        asked = None if self.session is None else self.session.asked
        return devices, None, self._judged(devices, moment, asked, beside=True)

    def _judged(
        self, verified: Verified, moment: int, report_data: bytes | None, *, beside: bool = False
    ) -> tuple[Finding, ...]:
        if self.policy is None:
            return genuine.judge(verified, moment, report_data=report_data)
        return appraise(verified, self.policy, moment, report_data=report_data, beside=beside).findings

    def _report(self, **known: Any) -> Report:
        with suppress(StrongroomError):  # a folder that cannot be read was refused for it
            known["passed_over"] = self._files.passed_over
        return Report(now=self.now, policy=self.policy, report_data=self.report_data, session=self.session, **known)


def _device_alone(verified: Verified) -> EvidenceError:
    """Return the error for a device in the place of an enclave: it signs whatever nonce it is given."""
    return EvidenceError(
        EvidenceCode.EVIDENCE_DEVICE,
        EvidenceCode.EVIDENCE_DEVICE.meaning,
        expected="evidence of a processor",
        found=BY_NAME[verified.tee].title,
    )


def _recognised(data: bytes) -> str | None:
    """Return the name of the TEE whose evidence this begins as."""
    if is_device_report(data):
        return "nvidia"
    tee = evidence.recognised(data)
    return None if tee is None else tee.name
