"""Verified SEV-SNP reports: the report, what its endorsement key's certificate says, and how its TCB stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from attestation.amd.abi import GuestPolicy, PlatformInfo, Report
from attestation.amd.endorsement import Endorsement
from attestation.amd.tcb import Product, Tcb
from attestation.verified import Verified

UP_TO_DATE: Final = "UpToDate"
OUT_OF_DATE: Final = "OutOfDate"


@dataclass(frozen=True)
class SnpTcb:
    """The four TCB versions of a report.

    current: what runs.  committed: what the firmware cannot be rolled back below.  reported: what the platform vouches
    for, and what its key is derived from.  launch: what ran when the guest was started or imported.
    """

    reported: Tcb
    committed: Tcb
    current: Tcb
    launch: Tcb

    def to_dict(self) -> dict[str, dict[str, int]]:
        """Return the versions by name and component."""
        return {name: tcb.to_dict() for name, tcb in vars(self).items()}


@dataclass(frozen=True)
class SnpVerified(Verified):
    """A genuine report.  `issued` is of the revocation list; without one, of the endorsement key's certificate.

    revocation_checked: whether a revocation list was there to consult.
    """

    report: Report
    endorsement: Endorsement = field(repr=False)
    tcb: SnpTcb
    revocation_checked: bool

    @property
    def evidence(self) -> Report:
        """The report."""
        return self.report

    @property
    def product(self) -> Product:
        """The line of processors, by the key's chain; from version 3 on the report says the same."""
        return self.endorsement.product

    @property
    def measurement(self) -> bytes:
        """MEASUREMENT, 48 bytes: the launch digest."""
        return self.report.measurement

    @property
    def tcb_status(self) -> str:
        """Whether the platform vouches for all that it has committed to.

        AMD publishes no list of TCB levels, so that UpToDate says no more; floors in the policy do.
        """
        return UP_TO_DATE if self.tcb.reported.reaches(self.tcb.committed) else OUT_OF_DATE

    @property
    def tcb_components(self) -> dict[str, int]:
        """The security versions that the platform vouches for: those of the reported TCB."""
        return self.tcb.reported.to_dict()

    @property
    def platform_ids(self) -> dict[str, str]:
        """The product, and the chip or the cloud provider that its key is lent to."""
        ids = {"product": str(self.product)}
        if any(self.report.chip_id):
            ids["chip_id"] = self.report.chip_id.hex()
        if self.endorsement.csp_id is not None:
            ids["csp_id"] = self.endorsement.csp_id
        return ids

    def details(self) -> dict[str, Any]:
        """Return the TCB versions, and the meaning of the report's bits."""
        report = self.report
        return {
            "product": str(self.product),
            "signing_key": report.signing_key.name,
            "chip_key_masked": report.chip_key_masked,
            "author_key": report.author_key_enabled,
            "guest_policy": names(GuestPolicy, report.policy),
            "guest_policy_abi": dotted(report.policy_abi),
            "platform_info": names(PlatformInfo, report.platform_info),
            "firmware": {"current": dotted(report.current_firmware), "committed": dotted(report.committed_firmware)},
            "tcb": self.tcb.to_dict(),
            "endorsement": self.endorsement.to_dict(),
            "revocation_checked": self.revocation_checked,
        }


def names(flags: type[GuestPolicy | PlatformInfo], value: int) -> list[str]:
    """Return the names of the bits that are set."""
    return [str(flag.name) for flag in flags if flag & value]


def dotted(numbers: tuple[int, ...]) -> str:
    """Return a version for people."""
    return ".".join(map(str, numbers))
