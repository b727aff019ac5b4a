"""Verified TPM quotes: what was signed, by which key, and how the event log stands to it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from attestation.eventlog.log import EventLog
from attestation.eventlog.replay import Compared, compare_pcrs
from attestation.tpm.abi import SignedQuote, TpmEvidence
from attestation.verified import Verified


@dataclass(frozen=True)
class Replay:
    """How an event log stands to the quoted PCRs, each as (bank, index).

    matching: the log replays to the quoted value.  differing: it does not.  unlogged: something has extended the PCR,
    and the log has no event for it, or not the bank.  PCRs that nothing has extended are in none of these.
    """

    matching: tuple[tuple[str, int], ...]
    differing: tuple[tuple[str, int], ...]
    unlogged: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class TpmVerified(Verified):
    """A genuine quote of the TPM that holds a key which the policy, or a certificate, vouches for.

    source: the container, or the bare quote where other evidence wraps one.  key: SHA-256 of the attestation key's
    SubjectPublicKeyInfo.  root: SHA-256 of the root certificate, or `key` itself where the policy names the key.
    replay: None where no event log is carried.
    """

    source: TpmEvidence | SignedQuote = field(repr=False)
    key: bytes
    replay: Replay | None = None

    @property
    def evidence(self) -> TpmEvidence | SignedQuote:
        """The evidence that was verified."""
        return self.source

    @property
    def quote(self) -> SignedQuote:
        """The quote itself."""
        return self.source.quote if isinstance(self.source, TpmEvidence) else self.source

    @property
    def measurement(self) -> bytes:
        """The digest over all quoted PCRs, 32 to 64 bytes."""
        return self.quote.attest.pcr_digest

    @property
    def platform_ids(self) -> dict[str, str]:
        """The attestation key, which one TPM alone has."""
        return {"ak": self.key.hex()}

    @property
    def dated(self) -> bool:
        """Return False, but where a processor's evidence vouches for the key, whose dates it then has."""
        return not isinstance(self.source, TpmEvidence)

    def bound(self, report_data: bytes) -> bytes:
        """Return SHA-256 of the report data: a TPM's qualifying data has no room for 64 bytes."""
        return hashlib.sha256(report_data).digest()

    def details(self) -> dict[str, Any]:
        """Return what the TPM says of its clock and firmware, and the verdict over the event log."""
        attest = self.quote.attest
        return {
            "firmware_version": f"{attest.firmware_version:016x}",
            "clock": {
                "milliseconds": attest.clock,
                "reset_count": attest.reset_count,
                "restart_count": attest.restart_count,
                "safe": attest.safe,
            },
            "event_log": vars(self.replay) if self.replay else None,
        }


def replay_against(log: EventLog, quote: SignedQuote) -> Replay:
    """Replay a log in every bank that it has, and compare; raises EvidenceError `eventlog-...`."""
    compared = compare_pcrs(log, quote.pcrs)
    logged = [each for each in compared if each.replayed is not None]
    return Replay(
        matching=_names(each for each in logged if each.matches),
        differing=_names(each for each in logged if not each.matches),
        unlogged=_names(each for each in compared if each.replayed is None),
    )


def _names(pcrs: Iterable[Compared]) -> tuple[tuple[str, int], ...]:
    return tuple((each.bank.bank, each.index) for each in pcrs)
