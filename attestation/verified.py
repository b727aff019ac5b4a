"""Evidence whose signatures, chains and dates hold: what `verify` gives and `appraise` takes, for every TEE."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Protocol

from attestation.types import PlatformClass
from attestation.validity import Validity, ending, rfc3339


class Evidence(Protocol):
    """Parsed evidence of one TEE; nothing in it is verified."""

    @property
    def tee(self) -> str:
        """Which TEE: the name of its table in policies."""

    @property
    def version(self) -> int:
        """Version of the evidence's format."""

    @property
    def report_data(self) -> bytes:
        """What the attester had bound into the evidence; 64 bytes where the format has that room."""

    def serialize(self) -> bytes:
        """Return the bytes that were parsed."""

    def to_dict(self) -> dict[str, Any]:
        """Return every field by the vendor's name, as the hex of its bytes."""


@dataclass(frozen=True)
class Verified(ABC):
    """Genuine evidence of one platform.  That it is genuine says nothing about whether to accept it: appraise it.

    root: SHA-256 of the DER root certificate that the chains reached; simulated: what its anchor stands for.
    issued: Unix seconds of the oldest document of the vendor that says how the platform stands.  expires: the first
    Unix second at which the same evidence with the same collateral no longer passes.  validities: the dates of every
    document and certificate that it rests on.
    """

    simulated: bool
    root: bytes
    issued: int
    expires: int
    validities: tuple[Validity, ...] = field(kw_only=True, repr=False)

    @property
    def begins(self) -> int:
        """The first Unix second at which all of it is valid: nothing from the future counts."""
        return max((self.issued, *(validity.start for validity in self.validities)))

    @property
    @abstractmethod
    def evidence(self) -> Evidence:
        """The evidence that was verified."""

    @property
    @abstractmethod
    def measurement(self) -> bytes:
        """What identifies the code that was loaded: MRENCLAVE, MRTD, MEASUREMENT, PCR0."""

    @property
    def tcb_status(self) -> str | None:
        """How the platform's security versions stand, in the vendor's words; None where the vendor says nothing."""
        return None

    @property
    def advisories(self) -> tuple[str, ...]:
        """Ids of the vendor's security advisories that apply."""
        return ()

    @property
    def tcb_date(self) -> int | None:
        """Unix seconds up to which the platform deals with what was published; None where the vendor says nothing."""
        return None

    @property
    def evaluation_number(self) -> int | None:
        """Intel's tcbEvaluationDataNumber; None for others."""
        return None

    @property
    def tcb_components(self) -> dict[str, int]:
        """Security versions of the platform's components, by the vendor's name; empty where it has none."""
        return {}

    @property
    def platform_ids(self) -> dict[str, str]:
        """What tells this machine from others, by the vendor's name, in hex."""
        return {}

    @property
    def parts(self) -> tuple[Verified, ...]:
        """Everything to appraise, each under its own table: more than itself where evidence wraps other evidence."""
        return (self,)

    @property
    def label(self) -> str:
        """What findings call this part where it is one of several."""
        return self.tee

    @property
    def dated(self) -> bool:
        """Whether `issued` is of a document; without one, it is the time of verification."""
        return True

    def bound(self, report_data: bytes) -> bytes:
        """Return what this evidence's `report_data` must be in order to carry these 64 bytes."""
        return report_data

    @property
    def tee(self) -> str:
        """Which TEE: the name of its table in policies."""
        return self.evidence.tee

    @property
    def platform(self) -> PlatformClass:
        """Hardware or simulated."""
        return PlatformClass.SIMULATED if self.simulated else PlatformClass.HARDWARE

    @property
    def version(self) -> int:
        """Version of the evidence's format."""
        return self.evidence.version

    @property
    def report_data(self) -> bytes:
        """What the attester had bound into the evidence."""
        return self.evidence.report_data

    def details(self) -> dict[str, Any]:
        """Return what only this TEE has, for programs."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Return everything for programs; byte strings as hex, times as RFC 3339."""
        return {
            "tee": self.tee,
            "version": self.version,
            "platform": str(self.platform),
            "simulated": self.simulated,
            "root": self.root.hex(),
            "measurement": self.measurement.hex(),
            "tcb_status": self.tcb_status,
            "tcb_date": None if self.tcb_date is None else rfc3339(self.tcb_date),
            "tcb_evaluation_data_number": self.evaluation_number,
            "advisories": list(self.advisories),
            "collateral": {
                "issued": rfc3339(self.issued) if self.dated else None,
                "expires": ending(self.expires),
                "documents": [validity.to_dict() for validity in self.validities],
            },
            "platform_ids": self.platform_ids,
            **self.details(),
            "quote": self.evidence.to_dict(),
        }
