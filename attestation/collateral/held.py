"""What a folder of collateral holds: for which platform, whether it is genuine, and when each document goes stale."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from attestation.amd import verify as amd
from attestation.amd.collateral import SnpCollateral
from attestation.collateral.bundle import MAX_BUNDLE, Bundle, looks_like_bundle
from attestation.collateral.document import MAX_COLLATERAL, Collateral, malformed
from attestation.collateral.errors import FetchCode, FetchError
from attestation.collateral.key import CollateralKey
from attestation.collateral.kinds import decode
from attestation.collateral.replacing import check_replaces
from attestation.collateral.sources import CollateralSource
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel import verify as intel
from attestation.intel.collateral import IntelCollateral
from attestation.roots import Anchor, Roots
from attestation.validity import Validity, rfc3339
from manifests.errors import ManifestCode, ManifestError, StrongroomError
from manifests.files import concerning, make_folder, naming, read_bounded, write_atomically
from manifests.plain import shell_command

SUFFIX: Final = ".json"


class Authentic(Protocol):
    """Collateral whose signatures and chains hold, whatever the time."""

    @property
    def anchor(self) -> Anchor:
        """The root that its chains reached."""

    @property
    def validities(self) -> tuple[Validity, ...]:
        """The dates of every document and certificate in it."""

    @property
    def issued(self) -> int:
        """Unix seconds of the oldest document that says how the platform stands."""

    @property
    def lacks(self) -> tuple[str, ...]:
        """What can be in such collateral and is not in this, as people call it."""


@dataclass(frozen=True)
class Held:
    """One file of a folder.  key: by its name; None where no collateral has such a name.

    problem: why it is not genuine, or misnamed; then there are no dates.
    simulated: from the anchor that it reached.  issued: Unix seconds of the oldest document that says how the platform
    stands.  validities: dates of every document and certificate.  lacks: what it could have and does not, without which
    verification tells less.
    """

    path: Path
    key: CollateralKey | None
    problem: StrongroomError | None = None
    simulated: bool = False
    issued: int = 0
    validities: tuple[Validity, ...] = ()
    lacks: tuple[str, ...] = ()

    @property
    def expires(self) -> int:
        """The first Unix second at which a part of it is no longer valid; 0 where it is not genuine."""
        return min((validity.end for validity in self.validities), default=0)

    def stale(self, now: int) -> tuple[Validity, ...]:
        """Return the parts that are not valid at `now` (Unix seconds)."""
        return tuple(validity for validity in self.validities if not validity.holds(now))

    def usable(self, now: int) -> bool:
        """Tell whether evidence can be verified with it at `now`."""
        return self.problem is None and not self.stale(now)

    def lasts(self, now: int, until: int) -> bool:
        """Tell whether evidence can be verified with it at `now` and still at `until`."""
        return self.usable(now) and self.usable(until)

    def to_dict(self, now: int, until: int) -> dict[str, Any]:
        """Return everything for programs; times as RFC 3339."""
        genuine = self.problem is None
        return {
            "file": str(self.path),
            "tee": None if self.key is None else self.key.tee,
            "family": None if self.key is None else self.key.family,
            "unit": None if self.key is None else self.key.unit,
            "verified": genuine,
            "platform": ("SIMULATED" if self.simulated else "hardware") if genuine else None,
            "issued": rfc3339(self.issued) if genuine else None,
            "expires": rfc3339(self.expires) if genuine else None,
            "stale": None if not genuine else bool(self.stale(now)),
            "stale_within": None if not genuine else not self.lasts(now, until),
            "lacks": list(self.lacks),
            "documents": [item.to_dict() for item in self.validities],
            "error": None if self.problem is None else self.problem.to_dict(),
        }


def inspect(path: Path, roots: Roots) -> Held:
    """Look at one file, whose name says what it should be; what is wrong with it shows in the result."""
    try:
        key = CollateralKey.parse(path.name.removesuffix(SUFFIX))
    except EvidenceError as unnamed:
        return Held(path, None, _unnamed(path, roots, unnamed))
    try:
        collateral = decode(read_bounded(path, MAX_COLLATERAL))
        authentic, found = identify(collateral, roots)
        if found != key:
            raise _misfiled(found, path)
    except StrongroomError as problem:
        return Held(path, key, problem)
    return Held(
        path,
        key,
        simulated=authentic.anchor.simulated,
        issued=authentic.issued,
        validities=authentic.validities,
        lacks=authentic.lacks,
    )


def inspect_folder(folder: Path, roots: Roots) -> list[Held]:
    """Look at every file of a folder that is named as collateral is, in order; raises ManifestError."""
    with naming(folder):
        names = sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and not path.name.startswith("."))
    return [inspect(path, roots) for path in names]


def identify(collateral: Collateral, roots: Roots) -> tuple[Authentic, CollateralKey]:
    """Verify collateral, whatever the time, and tell what it is filed under; raises EvidenceError."""
    if isinstance(collateral, SnpCollateral):
        endorsement = amd.authenticate(collateral, roots)
        return endorsement, _snp_key(endorsement)
    if isinstance(collateral, IntelCollateral):
        validated = intel.authenticate(collateral, roots)
        return validated, _intel_key(validated)
    raise malformed("it is of a kind that no folder holds")


def key_of(collateral: Collateral, roots: Roots) -> CollateralKey:
    """Return what collateral is to be filed under; raises as `identify`, and says what a revocation means for files."""
    try:
        return identify(collateral, roots)[1]
    except EvidenceError as error:
        if error.code is EvidenceCode.CERTIFICATE_REVOKED:
            error.remedy = "nothing was filed; remove what is held for this platform: it is older, and accepts the key"
        raise


def name_for(key: CollateralKey, collateral: Collateral, roots: Roots) -> CollateralKey:
    """Return what collateral that was fetched for `key` is filed under: for evidence that names no product, its own.

    Where it does not verify under `roots`, one of the keys under which it is looked for.
    """
    try:
        found = identify(collateral, roots)[1]
    except StrongroomError:
        found = key
    return found if found in key.candidates else key.candidates[0]


def file_into(folder: Path, path: Path, roots: Roots, *, older: bool = False) -> list[tuple[CollateralKey, Path]]:
    """Verify what a file holds, collateral or a bundle, and file it under its right name; replaces what is not newer.

    older: whether it may replace what is newer.  Dates are not held against any time.  Returns what was filed, and
    where.  Raises EvidenceError, FetchError or ManifestError, and then has filed nothing.
    """
    with concerning(path):
        data = read_bounded(path, MAX_BUNDLE)
        items = list(Bundle.from_json(data).collateral.values()) if looks_like_bundle(data) else [decode(data)]
        filed = [(key_of(item, roots), item) for item in items]
        for key, item in () if older else filed:
            check_replaces(place(folder, key), key, item, roots)
    if not filed:
        raise ManifestError(
            ManifestCode.FIELD_INVALID, f"{path} is a bundle without collateral", remedy="import its evidence's own"
        )
    return [(key, store(folder, key, item)) for key, item in filed]


def fetch_into(
    folder: Path, key: CollateralKey, source: CollateralSource, roots: Roots, *, older: bool = False
) -> Path:
    """Fetch the collateral of one platform, verify it, whatever the time, and file it; replaces what is not newer.

    older: whether it may replace what is newer.  Raises FetchError, EvidenceError or ManifestError, and then has filed
    nothing.
    """

    def named(collateral: Collateral) -> CollateralKey:
        found = key_of(collateral, roots)
        if found not in key.candidates:
            raise FetchError(
                FetchCode.MISFILED,
                f"the service answers for another platform than was asked for: {found}",
                expected=" or ".join(map(str, key.candidates)),
                found=str(found),
                remedy="check the address of the service (--pccs, --kds) and what it has cached; nothing was filed",
            )
        if not older:
            check_replaces(place(folder, found), found, collateral, roots)
        return found

    collateral, found = source.fetch_verified(key, named)
    return store(folder, found, collateral)


def store(folder: Path, key: CollateralKey, collateral: Collateral) -> Path:
    """Write collateral under its name into a folder, whole or not at all; raises ManifestError."""
    make_folder(folder)
    path = place(folder, key)
    write_atomically(path, collateral.to_json().encode("utf-8"))
    return path


def place(folder: Path, key: CollateralKey) -> Path:
    """Return where a folder has the collateral of a key."""
    return folder / f"{key}{SUFFIX}"


def command_to_import(paths: Iterable[Path], folder: Path) -> str:
    """Return the command that files these files into a folder, whatever their names: none of them is an option."""
    words = ["strongroom", "collateral", "import", "--output", str(folder), "--", *map(str, paths)]
    return shell_command(words)


def _unnamed(path: Path, roots: Roots, unnamed: EvidenceError) -> StrongroomError:
    """Say what a file is whose name no collateral has: collateral to import, or something else."""
    with suppress(StrongroomError):
        return _misfiled(identify(decode(read_bounded(path, MAX_COLLATERAL)), roots)[1], path)
    unnamed.remedy = "move it out of the folder: its name is not one of collateral, and neither is its content"
    return unnamed


def _misfiled(found: CollateralKey, path: Path) -> FetchError:
    return FetchError(
        FetchCode.MISFILED,
        FetchCode.MISFILED.meaning,
        expected=f"{found}{SUFFIX}",
        found=path.name,
        remedy=f"`{command_to_import([path], path.parent)}` files it under its right name, unless something newer is "
        f"held there; then remove {path}",
    )


def _intel_key(validated: intel.ValidatedCollateral) -> CollateralKey:
    ca = "platform" if validated.pck_ca.common_name.endswith("Platform CA") else "processor"
    return CollateralKey(validated.tee, validated.tcb_info.fmspc.hex(), ca)


def _snp_key(endorsement: amd.ValidatedEndorsement) -> CollateralKey:
    said = endorsement.endorsement
    tcb = said.tcb.serialize().hex()
    unit = f"vlek-{tcb}" if said.hwid is None else f"vcek-{said.hwid.hex()}-{tcb}"
    return CollateralKey("snp", str(said.product), unit)
