"""What registers hold after the events of a log.

Source: TCG PC Client Platform Firmware Profile, section 10 "Event Logging"; TCG PC Client Platform TPM Profile,
section 4.6 "PCR" (initial values); UEFI Specification, section 38 "Confidential Computing" (measurement registers).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attestation.errors import EvidenceError
from attestation.eventlog.errors import EventLogCode
from attestation.eventlog.log import EventLog, EventType
from attestation.tpm.algorithms import Hash

RTMRS = 4
PCRS = 24
_STARTUP_LOCALITY = b"StartupLocality\0"
_LOCALITIES = (0, 3, 4)
"""From which TPM2_Startup may come; 4 stands for a measurement that begins in hardware (H-CRTM)."""
_DYNAMIC = range(17, 23)
"""PCRs of a dynamic launch; until one happens they hold ones."""


@dataclass(frozen=True)
class Compared:
    """A quoted PCR and what a log replays to; None where the log has no event for it, or not its bank."""

    bank: Hash
    index: int
    quoted: bytes
    replayed: bytes | None

    @property
    def matches(self) -> bool:
        """Whether the log explains the value."""
        return self.quoted == self.replayed


def compare_pcrs(log: EventLog, pcrs: Iterable[tuple[Hash, int, bytes]]) -> tuple[Compared, ...]:
    """Hold quoted PCRs, each as (bank, index, value), against a log in every bank that it has.

    PCRs that nothing has extended are left out: a log says nothing of them.  Raises EvidenceError `eventlog-...`.
    """
    replayed = {bank: replay_pcrs(log, bank) for bank in log.banks}
    compared = (Compared(bank, index, value, replayed.get(bank, {}).get(index)) for bank, index, value in pcrs)
    return tuple(each for each in compared if each.replayed is not None or not _is_initial(log, each))


def _is_initial(log: EventLog, pcr: Compared) -> bool:
    return pcr.quoted == initial_pcrs(log, pcr.bank).get(pcr.index, bytes(pcr.bank.size))


def replay_pcrs(log: EventLog, bank: Hash) -> dict[int, bytes]:
    """Return the value of every PCR that the log extends; raises EvidenceError `eventlog-bank` or others."""
    _check_registers(log, range(PCRS))
    return _replay(log, bank, initial_pcrs(log, bank))


def initial_pcrs(log: EventLog, bank: Hash) -> dict[int, bytes]:
    """Return the value of every PCR before anything extends it; raises EvidenceError `eventlog-malformed`."""
    return started_pcrs(bank) | {0: _locality(log).to_bytes(bank.size, "big")}


def started_pcrs(bank: Hash) -> dict[int, bytes]:
    """Return the value of every PCR of a TPM that was started from locality 0, before anything extends it."""
    return {index: (b"\xff" if index in _DYNAMIC else b"\0") * bank.size for index in range(PCRS)}


def replay_rtmrs(log: EventLog) -> tuple[bytes, ...]:
    """Return RTMR0 to RTMR3 (48 bytes each) after the log of a TD, whose registers 1 to 4 they are.

    Raises EvidenceError `eventlog-bank` or `eventlog-register`.
    """
    _check_registers(log, range(1, RTMRS + 1))
    values = _replay(log, Hash.SHA384, {})
    return tuple(values.get(index, bytes(Hash.SHA384.size)) for index in range(1, RTMRS + 1))


def extend(bank: Hash, value: bytes, digests: Iterable[bytes]) -> bytes:
    """Return a register's value after it was extended with these digests."""
    for digest in digests:
        value = bank.digest(value, digest)
    return value


def _replay(log: EventLog, bank: Hash, start: dict[int, bytes]) -> dict[int, bytes]:
    values: dict[int, bytes] = {}
    for event in log.extending:
        before = values.get(event.register, start.get(event.register, bytes(bank.size)))
        values[event.register] = extend(bank, before, (event.digest(bank),))
    return values


def _check_registers(log: EventLog, known: range) -> None:
    for event in log.extending:
        if event.register not in known:
            raise EvidenceError(
                EventLogCode.REGISTER,
                EventLogCode.REGISTER.meaning,
                expected=f"{known[0]} to {known[-1]}",
                found=event.register,
            )


def _locality(log: EventLog) -> int:
    """Return the locality from which the TPM was started, which PCR 0 begins with."""
    found = [
        event.data
        for event in log.events
        if event.register == 0 and event.kind == EventType.EV_NO_ACTION and event.data.startswith(_STARTUP_LOCALITY)
    ]
    if not found:
        return 0
    locality = found[0].removeprefix(_STARTUP_LOCALITY)
    if len(found) > 1 or len(locality) != 1 or locality[0] not in _LOCALITIES:
        raise EvidenceError(EventLogCode.MALFORMED, "the event log names no one startup locality")
    return locality[0]
