"""What every attester is: report data in, quote out, under bounds."""

from __future__ import annotations

from abc import ABC, abstractmethod

from attestation.binding import HASH_SIZE
from attestation.types import PlatformClass
from attestation.types.claims import MAX_DEVICE_EVIDENCE
from enclave.errors import EnclaveCode, EnclaveError

MAX_QUOTE = 16 * 1024
"""A quote of Gramine is at most 8,192 bytes, a Nitro document 12,288; a confidential VM's is of the same order."""


class Attester(ABC):
    """A source of quotes.  One call at a time: Gramine's quote file is not thread-safe.

    platform: the class that grants must be for.  hint: the collateral hint of evidence records; advice, not trusted.
    limit: most bytes of a quote; at most what an evidence record takes (`attestation.types.claims.MAX_QUOTE`).
    """

    platform: PlatformClass
    hint: str
    limit = MAX_QUOTE
    lost = False
    """Whether no quote can ever come again: then the process ends, and its supervisor starts another."""

    def quote(self, report_data: bytes) -> bytes:
        """Return a quote over 64 bytes of report data; raises EnclaveError `quote-unavailable`."""
        if len(report_data) != HASH_SIZE:
            raise ValueError("report data has 64 bytes")
        try:
            quote = self._quote(report_data)
        except OSError as error:
            raise EnclaveError(
                EnclaveCode.QUOTE_UNAVAILABLE, "the platform did not answer", found=error.strerror
            ) from None
        if not 0 < len(quote) <= self.limit:
            raise EnclaveError(EnclaveCode.QUOTE_UNAVAILABLE, "the platform's quote is empty or too long")
        return quote

    @abstractmethod
    def _quote(self, report_data: bytes) -> bytes:
        """Ask the platform; raises OSError or EnclaveError."""


class DeviceAttester(ABC):
    """A source of evidence of the devices that an enclave uses; asked once in the process's life."""

    def evidence(self, report_data: bytes) -> bytes:
        """Return evidence that is bound to these 64 bytes; raises EnclaveError `enclave-start-failed`.

        An enclave that cannot show the devices that its settings name does not start: it would otherwise claim none.
        """
        if len(report_data) != HASH_SIZE:
            raise ValueError("report data has 64 bytes")
        evidence = self._evidence(report_data)
        if not 0 < len(evidence) <= MAX_DEVICE_EVIDENCE:
            raise EnclaveError(
                EnclaveCode.START_FAILED,
                "the evidence of the devices is too large for a session",
                expected=f"at most {MAX_DEVICE_EVIDENCE} bytes",
                found=f"{len(evidence)} bytes",
                remedy="name in [devices] manifests only those of the versions that this machine's devices run",
            )
        return evidence

    @abstractmethod
    def _evidence(self, report_data: bytes) -> bytes:
        """Ask the devices; raises EnclaveError."""


def missing(attester: str, found: str, remedy: str) -> EnclaveError:
    """Return the error for a machine that lacks what the measured settings name; nothing else is tried instead."""
    return EnclaveError(
        EnclaveCode.START_FAILED,
        f"the settings name the attester {attester!r}, which this machine does not have: {found}",
        expected=attester,
        found=found,
        remedy=remedy,
    )
