"""What every attester is: report data in, quote out, under bounds."""

from __future__ import annotations

from abc import ABC, abstractmethod

from attestation.binding import HASH_SIZE
from attestation.types import PlatformClass
from attestation.types.claims import MAX_QUOTE
from enclave.errors import EnclaveCode, EnclaveError


class Attester(ABC):
    """A source of quotes.  One call at a time: Gramine's quote file is not thread-safe.

    platform: the class that grants must be for.  hint: the collateral hint of evidence records; advice, not trusted.
    """

    platform: PlatformClass
    hint: str
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
        if not 0 < len(quote) <= MAX_QUOTE:
            raise EnclaveError(EnclaveCode.QUOTE_UNAVAILABLE, "the platform's quote is empty or too long")
        return quote

    @abstractmethod
    def _quote(self, report_data: bytes) -> bytes:
        """Ask the platform; raises OSError or EnclaveError."""


def missing(attester: str, found: str, remedy: str) -> EnclaveError:
    """Return the error for a machine that lacks what the measured settings name; nothing else is tried instead."""
    return EnclaveError(
        EnclaveCode.START_FAILED,
        f"the settings name the attester {attester!r}, which this machine does not have: {found}",
        expected=attester,
        found=found,
        remedy=remedy,
    )
