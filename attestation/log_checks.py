"""An event log that is given beside evidence, held against the registers that the evidence is over.

A log of a trust domain (CCEL) replays to RTMR0 to RTMR3; a log of a TPM's firmware to the quoted PCRs that it extends.
The registers are read from the parsed evidence: what holds for them holds for the machine as far as the evidence
verifies.  A register that something else has been extended into, after the firmware or without a log, differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attestation.azure.abi import AzureEvidence
from attestation.azure.verified import AzureVerified
from attestation.errors import EvidenceError
from attestation.eventlog.errors import EventLogFinding
from attestation.eventlog.log import EventLog, parse_event_log
from attestation.eventlog.replay import replay_pcrs, replay_rtmrs
from attestation.findings import Finding, Phase, check
from attestation.intel.td_abi import TdQuote
from attestation.policy import Policy
from attestation.policy.tpm import TpmPolicy
from attestation.ratls.certificate import RatlsCertificate
from attestation.refused import refusal
from attestation.tees import BY_NAME
from attestation.tpm.abi import SignedQuote, TpmEvidence
from attestation.tpm.verified import TpmVerified, replay_against
from attestation.verified import Evidence, Verified

_DIFFERS = (
    "find the event that differs (--json has them all): what else was extended, or another log, explains the register"
)


def replay_given(data: bytes, evidence: Evidence, policy: Policy | None) -> tuple[EventLog | None, tuple[Finding, ...]]:
    """Parse the log of a table or a file, which may be filled up, and hold it against the evidence's registers.

    Never raises for what it finds: a log that does not parse, or cannot be replayed, is a finding with its code.
    """
    log = None
    try:
        log = parse_event_log(data, padded=True)
        return log, log_checks(log, evidence, policy)
    except EvidenceError as error:
        return log, (refusal(error, Phase.VERIFY),)


def log_checks(log: EventLog, evidence: Evidence, policy: Policy | None) -> tuple[Finding, ...]:
    """Replay a log and hold each register that it stands for against the evidence's.

    The policy's `event_log_partial` admits PCRs that differ, with a warning.  Raises EvidenceError `eventlog-...`.
    """
    quote = _quote(evidence)
    registers: tuple[Finding, ...] = ()
    counts = 0
    if isinstance(quote, TdQuote):
        registers, counts = tuple(_rtmrs(log, quote)), len({event.register for event in log.extending})
    elif quote is not None:
        registers = tuple(_pcrs(log, quote, _partial(policy)))
        counts = len(registers)
    extended = check(
        EventLogFinding.REGISTERS,
        passed=counts > 0,
        expected="RTMRs, or quoted PCRs, that the log extends",
        found=f"{counts} registers" if quote is not None else f"{BY_NAME[evidence.tee].title} has none",
        remedy="give the log of the same machine, with evidence of TDX or of a TPM that quotes PCRs of the log's banks",
        phase=Phase.VERIFY,
    )
    return (extended, *registers)


def with_log(verified: Verified, log: EventLog | None) -> Verified:
    """Return verified evidence of a TPM as if it carried the log, for what a policy asks of one; all else as it is.

    A log that the evidence itself carries stays; of one that cannot be replayed, `replay_given` has a finding.
    """
    if log is None:
        return verified
    try:
        if isinstance(verified, AzureVerified):
            return replace(verified, vtpm=_replayed(verified.vtpm, log))
        return _replayed(verified, log) if isinstance(verified, TpmVerified) else verified
    except EvidenceError:
        return verified


def _replayed(verified: TpmVerified, log: EventLog) -> TpmVerified:
    """Add the replay where there is none; raises EvidenceError `eventlog-...`."""
    if verified.replay is not None:
        return verified
    return replace(verified, replay=replay_against(log, verified.quote))


def _quote(evidence: Evidence) -> TdQuote | SignedQuote | None:
    """Return the part whose registers firmware logs: on Azure that is the vTPM's, since the TD is the paravisor's."""
    if isinstance(evidence, RatlsCertificate):
        return _quote(evidence.bound[0].quote)
    if isinstance(evidence, TpmEvidence | AzureEvidence):
        return evidence.quote
    return evidence if isinstance(evidence, TdQuote) else None


def _partial(policy: Policy | None) -> tuple[int, ...]:
    table = None if policy is None else policy.table("tpm")
    return table.event_log_partial if isinstance(table, TpmPolicy) else ()


def _rtmrs(log: EventLog, quote: TdQuote) -> Iterator[Finding]:
    body = quote.body
    quoted = (body.rtmr0, body.rtmr1, body.rtmr2, body.rtmr3)
    for index, (value, replayed) in enumerate(zip(quoted, replay_rtmrs(log), strict=True)):
        yield _register(f"RTMR{index}", value, replayed)


def _pcrs(log: EventLog, quote: SignedQuote, partial: tuple[int, ...]) -> Iterator[Finding]:
    replayed = {bank: replay_pcrs(log, bank) for bank in log.banks}
    for bank, index, value in quote.pcrs:
        found = replayed.get(bank, {}).get(index)
        if found is not None:
            yield _register(f"PCR {index} ({bank.bank})", value, found, partial=index in partial)


def _register(name: str, quoted: bytes, replayed: bytes, *, partial: bool = False) -> Finding:
    differs = quoted != replayed
    return check(
        EventLogFinding.REPLAY,
        passed=partial or not differs,
        expected=f"{name} {quoted.hex()}",
        found=f"the log replays to {replayed.hex()}",
        dangerous=differs,
        remedy=_DIFFERS,
        phase=Phase.VERIFY,
    )
