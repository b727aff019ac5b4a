"""An event log that is given beside evidence, held against the registers that the evidence is over.

A log of a trust domain (CCEL) replays to RTMR0 to RTMR3; a log of a TPM's firmware to every quoted PCR that anything
has extended, in every quoted bank but SHA-1.  The registers are read from the parsed evidence: what holds for them
holds for the machine as far as the evidence verifies.  A register that something else has been extended into, after
the firmware or without an event or a bank of the log, differs.

SHA-1 explains nothing, since firmware may leave its bank alone and software extend it afterwards, and since its digests
collide: there only a difference counts.  A log that the evidence carries besides is judged by itself, by the policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from attestation.azure.abi import AzureEvidence
from attestation.azure.verified import AzureVerified
from attestation.errors import EvidenceError
from attestation.eventlog.errors import EventLogFinding
from attestation.eventlog.log import EventLog, parse_event_log
from attestation.eventlog.replay import compare_pcrs, replay_rtmrs
from attestation.findings import Finding, Phase, check
from attestation.intel.td_abi import TdQuote
from attestation.policy import Policy
from attestation.policy.tpm import TpmPolicy
from attestation.ratls.certificate import RatlsCertificate
from attestation.refused import refusal
from attestation.tees import BY_NAME
from attestation.tpm.abi import SignedQuote, TpmEvidence
from attestation.tpm.algorithms import STRONG, Hash
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

    The policy's `event_log_partial` admits PCRs that differ, or have no event, with a warning.  Raises EvidenceError
    `eventlog-...`.
    """
    quote = _quote(evidence)
    registers: tuple[Finding, ...] = ()
    counts = 0
    if isinstance(quote, TdQuote):
        registers, counts = tuple(_rtmrs(log, quote)), len({event.register for event in log.extending})
    elif quote is not None:
        registers, counts = tuple(_pcrs(log, quote, _partial(policy))), _explained(log, quote)
    extended = check(
        EventLogFinding.REGISTERS,
        passed=counts > 0,
        expected="RTMRs, or quoted PCRs, that the log extends",
        found=f"{counts} registers" if quote is not None else f"{BY_NAME[evidence.tee].title} has none",
        remedy="give the log of the same machine, with evidence of TDX or of a TPM, in a quoted bank other than SHA-1",
        phase=Phase.VERIFY,
    )
    return (extended, *registers)


def shown(log: EventLog, evidence: Evidence) -> dict[str, Any]:
    """Return the log for programs; an event counts as described where the evidence vouches for its digest alone."""
    return log.to_dict(_explained_registers(log, _quote(evidence)))


def described(log: EventLog, evidence: Evidence) -> int:
    """Return how many events have the digest of their data in a register, and a bank, that the log explains."""
    explained = _explained_registers(log, _quote(evidence))
    return sum(bool(log.described(event, explained)) for event in log.events)


def _explained_registers(log: EventLog, quote: TdQuote | SignedQuote | None) -> frozenset[tuple[Hash, int]]:
    """Return bank and number of each quoted register that the log replays to, without SHA-1; none of a log that fails.

    A digest that was extended into one of these is the machine's: another one, or one more, would not replay.
    """
    try:
        if isinstance(quote, TdQuote):
            registers = enumerate(zip(_rtmr_values(quote), replay_rtmrs(log), strict=True), 1)
            return frozenset((Hash.SHA384, register) for register, (value, found) in registers if value == found)
        compared = () if quote is None else compare_pcrs(log, quote.pcrs)
    except EvidenceError:
        return frozenset()
    return frozenset((pcr.bank, pcr.index) for pcr in compared if pcr.matches and pcr.bank in STRONG)


def _covered_banks(log: EventLog, quote: TdQuote | SignedQuote | None) -> tuple[Hash, ...]:
    """Return the banks of a log whose digests a quote can vouch for: those of its registers, and never SHA-1."""
    if quote is None:
        return ()
    quoted: Iterable[Hash] = (Hash.SHA384,) if isinstance(quote, TdQuote) else {bank for bank, _, _ in quote.pcrs}
    return tuple(bank for bank in log.banks if bank in STRONG and bank in quoted)


def with_log(verified: Verified, log: EventLog | None) -> Verified:
    """Return verified evidence of a TPM as if it carried the log, for what a policy asks of one; all else as it is.

    A log that the evidence itself carries stays, and is judged as ever: of the given one, and of one that cannot be
    replayed, `replay_given` has the findings.
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
    for index, (value, replayed) in enumerate(zip(_rtmr_values(quote), replay_rtmrs(log), strict=True)):
        yield _register(f"RTMR{index}", value, replayed)


def _rtmr_values(quote: TdQuote) -> tuple[bytes, ...]:
    body = quote.body
    return body.rtmr0, body.rtmr1, body.rtmr2, body.rtmr3


def _pcrs(log: EventLog, quote: SignedQuote, partial: tuple[int, ...]) -> Iterator[Finding]:
    for pcr in compare_pcrs(log, quote.pcrs):
        if pcr.bank not in STRONG and (pcr.replayed is None or pcr.matches):
            continue  # SHA-1 explains nothing, and needs no explanation where a bank that counts is quoted
        name = f"PCR {pcr.index} ({pcr.bank.bank})"
        yield _register(name, pcr.quoted, pcr.replayed, partial=pcr.index in partial)


def _explained(log: EventLog, quote: SignedQuote) -> int:
    """Return how many quoted PCRs the log has events for, in banks that count."""
    extended = {event.register for event in log.extending}
    banks = _covered_banks(log, quote)
    return sum(bank in banks and index in extended for bank, index, _ in quote.pcrs)


def _register(name: str, quoted: bytes, replayed: bytes | None, *, partial: bool = False) -> Finding:
    """Compare a register with what a log replays to; None: the log lacks the register, or its bank."""
    differs = quoted != replayed
    return check(
        EventLogFinding.REPLAY,
        passed=partial or not differs,
        expected=f"{name} {quoted.hex()}",
        found="the log has no event for it" if replayed is None else f"the log replays to {replayed.hex()}",
        dangerous=differs,
        remedy=_DIFFERS,
        phase=Phase.VERIFY,
    )
