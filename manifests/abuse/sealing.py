"""What sealing asks of a profile: that it is there, that it can be read, and that it fits the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from manifests.errors import ManifestCode, ManifestError
from manifests.files import concerning, read_bounded
from manifests.model import ModelManifest


def check_sealed_profile(manifest: ModelManifest, parts: Mapping[str, Path | bytes]) -> None:
    """Check the part that the table `abuse` names, where there is one.

    Raises ManifestError `sealed-part` where it is missing, and AbuseError `profile-...`.
    """
    if manifest.abuse is None:
        return
    name = manifest.abuse.profile
    if name not in parts:
        raise ManifestError(
            ManifestCode.SEALED_PART,
            f"the manifest's table `abuse` names a profile {name!r}, and no such part is given",
            remedy=f"calibrate one with `strongroom model calibrate`, and seal with --part {name}=FILE",
        )
    from manifests.abuse.fitting import check_profile
    from manifests.abuse.profile import MAX_PROFILE, Profile

    content = parts[name]
    if isinstance(content, bytes):
        check_profile(Profile.decode(content), manifest)
        return
    path = Path(content)
    with concerning(path):
        check_profile(Profile.decode(read_bounded(path, MAX_PROFILE)), manifest)
