"""TCB levels and statuses: which level security versions reach, and what several statuses mean together.

Source: Intel's Quote Verification Library (QVL), EvaluateTcb.cpp (`convergeTcbStatuses`) and TDRelaunchCheck.cpp
(`checkForRelaunch`), which implement 4.1.2.5 "Verify quote" of its specification.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from enum import StrEnum

from attestation.errors import EvidenceCode, EvidenceError
from manifests.errors import ErrorCode


class TcbStatus(StrEnum):
    """How a platform's security versions stand, in Intel's words."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"


_RELAUNCH = frozenset({TcbStatus.TD_RELAUNCH_ADVISED, TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED})

PLATFORM_STATUSES = frozenset(TcbStatus) - _RELAUNCH
"""What a level of TCB info may say; advice to relaunch follows from two levels, and stands in no document."""
COMPONENT_STATUSES = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED})
"""What a level of a quoting enclave or of a TDX module may say."""

_WITH_OLD_COMPONENT = {
    TcbStatus.UP_TO_DATE: TcbStatus.OUT_OF_DATE,
    TcbStatus.SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE,
    TcbStatus.CONFIGURATION_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
}
_CONFIGURATION = frozenset(
    {
        TcbStatus.CONFIGURATION_NEEDED,
        TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
        TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    }
)
_OLD = frozenset({TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED})


_COMPONENTS = range(1, 17)
_PLATFORM_NAMES = (
    *(f"SGX component {number}" for number in _COMPONENTS),
    "PCESVN",
    *(f"TDX component {number}" for number in _COMPONENTS),
)
_NAMES = {1: ("ISVSVN",)}


@dataclass(frozen=True)
class TcbLevel:
    """One level: the least SVNs that reach it, and what reaching it means.

    minimum: of a platform, the 16 SGX component SVNs, PCESVN, and for TDX the 16 TDX component SVNs; of a quoting
    enclave or a TDX module, its one ISVSVN.  date: Unix seconds; every advisory published before it has been dealt
    with by this level, up to those in `advisories`.
    """

    minimum: tuple[int, ...]
    status: TcbStatus
    date: int
    advisories: tuple[str, ...]

    def reached(self, found: tuple[int, ...]) -> bool:
        """Tell whether every security version reaches this level's."""
        if len(found) != len(self.minimum):
            raise ValueError("the level is of another kind of component")
        return all(map(operator.ge, found, self.minimum))

    def lacking(self, found: tuple[int, ...]) -> tuple[str, ...]:
        """Name each security version that falls short, as people read it."""
        needs = zip(_NAMES.get(len(found), _PLATFORM_NAMES), found, self.minimum, strict=False)
        return tuple(f"{name} at least {need} (not {have})" for name, have, need in needs if have < need)


def first_reached(levels: tuple[TcbLevel, ...], found: tuple[int, ...], none: ErrorCode) -> TcbLevel:
    """Return the first level that these security versions reach; a document lists the newest first.

    Raises EvidenceError `none` below every level, and `tcb-revoked` where the level was revoked.
    """
    for level in levels:
        if level.reached(found):
            if level.status is TcbStatus.REVOKED:
                raise EvidenceError(
                    EvidenceCode.TCB_REVOKED,
                    EvidenceCode.TCB_REVOKED.meaning,
                    expected=f"security versions of a level that is not {TcbStatus.REVOKED}",
                    found=found,
                    remedy="update the platform's firmware; no policy accepts a revoked level",
                )
            return level
    nearest = min(levels, key=lambda level: len(level.lacking(found)), default=None)
    raise EvidenceError(
        none,
        none.meaning,
        expected="a level" if nearest is None else f"for the nearest level: {', '.join(nearest.lacking(found))}",
        found=found,
        remedy="update the platform's firmware, or fetch newer collateral",
    )


def merge(platform: TcbStatus, *components: TcbStatus) -> TcbStatus:
    """Return the status of a platform with its quoting enclave and TDX module; none is Revoked, as that is refused."""
    if TcbStatus.OUT_OF_DATE in components:
        return _WITH_OLD_COMPONENT.get(platform, platform)
    return platform


def with_relaunch(launch: TcbStatus, current: TcbStatus) -> TcbStatus:
    """Return the status of a TD that was launched under one TCB and now runs under another.

    Stricter than QVL in one case: it calls a TD up to date whose platform has gone back to an old TCB since.
    """
    if launch in _OLD and current not in _OLD:
        if {launch, current} & _CONFIGURATION:
            return TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
        return TcbStatus.TD_RELAUNCH_ADVISED
    if current in _OLD and launch not in _OLD:
        return current
    return launch
