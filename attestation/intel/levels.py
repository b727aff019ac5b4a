"""TCB levels and statuses: which level security versions reach, and what several statuses mean together.

Source: Intel's Quote Verification Library (QVL), EvaluateTcb.cpp (`convergeTcbStatuses`) and TDRelaunchCheck.cpp
(`checkForRelaunch`), which implement 4.1.2.5 "Verify quote" of its specification.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

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


_COMPONENTS: Final = range(1, 17)
SGX_NAMES: Final = (*(f"sgxtcbcomp{number:02}svn" for number in _COMPONENTS), "pcesvn")
TDX_NAMES: Final = tuple(f"tdxtcbcomp{number:02}svn" for number in _COMPONENTS)
"""What a platform's security versions are called, as policies name them, in the order of a level's `minimum`."""
_PLATFORM_NAMES: Final = (*SGX_NAMES, *TDX_NAMES)
_ENCLAVE_NAMES: Final = ("isvsvn",)


class TcbError(EvidenceError):
    """Security versions that no policy accepts; `security_versions` has all of them by name."""

    def __init__(self, code: ErrorCode, versions: dict[str, int], nearest: dict[str, int], remedy: str) -> None:
        """Name what falls short of the nearest level, and where there is none everything."""
        needs = ", ".join(f"{name} at least {need}" for name, need in nearest.items())
        super().__init__(
            code,
            code.meaning,
            expected=f"for the nearest level: {needs}" if nearest else f"a level that is not {TcbStatus.REVOKED}",
            found=[f"{name}={have}" for name, have in versions.items() if name in nearest or not nearest],
            remedy=remedy,
        )
        self.security_versions = versions

    def to_dict(self) -> dict[str, Any]:
        """Return the error for programs, with all versions."""
        return super().to_dict() | {"security_versions": self.security_versions}


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

    def lacking(self, found: tuple[int, ...]) -> dict[str, int]:
        """Return the least of each security version that falls short, by its name."""
        needs = zip(_names(found), found, self.minimum, strict=True)
        return {name: need for name, have, need in needs if have < need}


def first_reached(
    levels: tuple[TcbLevel, ...], found: tuple[int, ...], none: ErrorCode, versions: tuple[int, ...] | None = None
) -> TcbLevel:
    """Return the first level that these security versions reach; a document lists the newest first.

    versions: what an error says of them, where that is not what is compared.  Raises TcbError `none` below every
    level, and `tcb-revoked` where the level was revoked.
    """
    reached = next((level for level in levels if level.reached(found)), None)
    if reached is not None and reached.status is not TcbStatus.REVOKED:
        return reached
    known = dict(zip(_names(found), versions or found, strict=True))
    usable = (level.lacking(found) for level in levels if level.status is not TcbStatus.REVOKED)
    nearest = min(filter(None, usable), key=len, default={})
    if reached is None:
        raise TcbError(none, known, nearest, "update the platform's firmware, or fetch newer collateral")
    remedy = "update the platform's firmware; no policy accepts a revoked level"
    raise TcbError(EvidenceCode.TCB_REVOKED, known, nearest, remedy)


def _names(found: tuple[int, ...]) -> tuple[str, ...]:
    return _ENCLAVE_NAMES if len(found) == 1 else _PLATFORM_NAMES[: len(found)]


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
