"""The checks of an appraisal of a TPM quote, in the order in which they are reported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from attestation.findings import Finding, check, named, one_of
from attestation.policy.tpm import TpmPolicy
from attestation.tpm.errors import TpmFinding
from attestation.tpm.verified import Replay, TpmVerified


def tpm_checks(verified: TpmVerified, policy: TpmPolicy) -> Iterator[Finding]:
    """Hold key, PCRs, firmware, clock and event log against the policy."""
    yield _key(verified, policy)
    yield from _pcrs(verified, policy)
    yield _firmware(verified, policy)
    yield _clock(verified, policy)
    yield from _event_log(verified, policy)


def _key(verified: TpmVerified, policy: TpmPolicy) -> Finding:
    """Hold the key against the policy's; one that other evidence vouches for needs no name here."""
    return check(
        TpmFinding.AK,
        passed=not policy.anchors or verified.key in policy.ak or verified.root in policy.roots,
        expected=one_of(policy.ak) if policy.ak or not policy.roots else "any that a root in [tpm] roots vouches for",
        found=f"{verified.key.hex()} under {verified.root.hex()}",
        remedy="use a machine whose attestation key [tpm] ak names, or name this one after you enrolled it",
    )


def _pcrs(verified: TpmVerified, policy: TpmPolicy) -> Iterator[Finding]:
    if not policy.pcrs:  # a table that names no PCR admits nothing
        yield check(
            TpmFinding.PCR,
            passed=False,
            expected=named(()),
            found=f"a quote over {len(verified.quote.pcrs.values)} PCRs: {verified.measurement.hex()}",
            remedy="name PCRs in [tpm.pcrs.sha256]",
        )
    for bank, registers in policy.pcrs:
        for register, accepted in registers:
            index = int(register.removeprefix("pcr"))
            value = verified.quote.pcrs.get(bank, index)
            yield check(
                TpmFinding.PCR,
                passed=value in accepted,
                expected=f"PCR {index} ({bank}) {one_of(accepted)}",
                found="it is not quoted" if value is None else value.hex(),
                remedy="find what changed in the event log; quote the PCR if it is missing",
            )


def _firmware(verified: TpmVerified, policy: TpmPolicy) -> Finding:
    least, found = policy.firmware_min, verified.quote.attest.firmware_version
    return check(
        TpmFinding.FIRMWARE,
        passed=least is None or found >= least,
        expected="any" if least is None else f"at least {least:#018x}",
        found=f"{found:#018x}",
        remedy="update the TPM's firmware; its maker numbers the versions, so one floor holds for one maker",
    )


_SAVED: Final = (
    "let the TPM run until it has saved its clock, and quote again: it does so every TPM_PT_CLOCK_UPDATE milliseconds "
    "(`tpm2_getcap properties-fixed`), at most 2^22 (70 minutes); a shutdown before that leaves the clock unsafe"
)
"""TPM 2.0 Library, Part 1, "Clock": it is recorded at least once in 2^22 ms, and safe is as it was before an orderly
shutdown.  swtpm records every 4096 ms."""


def _clock(verified: TpmVerified, policy: TpmPolicy) -> Finding:
    safe = verified.quote.attest.safe
    return check(
        TpmFinding.CLOCK,
        passed=safe or policy.unsafe_clock,
        expected="either" if policy.unsafe_clock else "safe",
        found="safe" if safe else "not safe: the TPM lost power without a shutdown and may repeat times",
        dangerous=not safe,
        remedy=_SAVED,
    )


def _event_log(verified: TpmVerified, policy: TpmPolicy) -> Iterator[Finding]:
    """Report whether a carried log tells the truth, and whether it tells enough."""
    banks = {bank for bank, _ in policy.pcrs}
    matching, differing = replayed(verified, policy)
    partial = differing & set(policy.event_log_partial)
    yield check(
        TpmFinding.EVENT_LOG,
        passed=differing == partial,
        expected="every quoted PCR as the log has it" + _but(policy.event_log_partial),
        found="no log" if verified.replay is None else f"matching {_list(matching)}; differing {_list(differing)}",
        dangerous=bool(partial),
        remedy="carry the whole log; name PCRs that software extends without logging in [tpm] event_log_partial",
    )
    wanted = set(policy.event_log_pcrs)
    yield check(
        TpmFinding.EVENT_LOG_PCRS,
        passed=wanted <= matching - differing,
        expected=_list(wanted) + (f" in {' and '.join(sorted(banks))}" if wanted and banks else ""),
        found=_list(matching - differing),
        remedy="carry the firmware's event log (/sys/kernel/security/tpm0/binary_bios_measurements), and quote them",
    )


def replayed(verified: TpmVerified, policy: TpmPolicy) -> tuple[set[int], set[int]]:
    """Return the PCRs that the log replays to, and those that it does not.

    What counts for a log is that it replays in the banks that the policy names: in another bank, which firmware never
    extends, whatever the log says can be extended afterwards.
    """
    banks = {bank for bank, _ in policy.pcrs}
    replay = verified.replay or Replay((), ())
    differing = {index for _, index in replay.differing}
    differing |= {index for bank, index in replay.unlogged if bank in banks}
    return _in_all(replay.matching, banks), differing


def _in_all(matching: Iterable[tuple[str, int]], banks: set[str]) -> set[int]:
    """Return the PCRs that match in each of these banks; none where there is no bank."""
    found = [{index for each, index in matching if each == bank} for bank in banks]
    return set.intersection(*found) if found else set()


def _but(indices: Iterable[int]) -> str:
    return f", but {_list(indices)}" if indices else ""


def _list(indices: Iterable[int]) -> str:
    return ", ".join(f"PCR {index}" for index in sorted(indices)) or "none"
