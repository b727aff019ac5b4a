"""A bundle: evidence and the collateral that it needs, in one file that travels.

One JSON map: format, version, evidence in hex, and collateral by the name that a folder would file it under.  It is as
trustworthy as what is in it, and verified in the same way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from attestation import strict_json
from attestation.collateral.document import MAX_COLLATERAL, Collateral, without_mark
from attestation.collateral.errors import FetchCode, FetchError
from attestation.collateral.key import CollateralKey
from attestation.collateral.sources import CollateralSource
from attestation.errors import EvidenceError
from manifests import fields
from manifests.errors import ManifestCode, ManifestError

FORMAT: Final = "strongroom-evidence-bundle"
MAX_BUNDLE: Final = 2 * MAX_COLLATERAL
MAX_EVIDENCE: Final = 4 * 1024 * 1024
"""Evidence of a machine with eight GPUs takes some hundred KiB."""
MAX_PLATFORMS: Final = 64


@dataclass(frozen=True)
class Bundle:
    """Evidence, as bytes of any TEE, and collateral by what it is filed under.  Nothing in it is verified."""

    evidence: bytes = field(repr=False)
    collateral: Mapping[CollateralKey, Collateral] = field(repr=False)

    def to_json(self) -> str:
        """Encode to the text of a bundle file."""
        value = {
            "format": FORMAT,
            "version": fields.VERSION,
            "evidence": self.evidence.hex(),
            "collateral": {str(key): json.loads(item.to_json()) for key, item in self.collateral.items()},
        }
        return json.dumps(value, indent=1)

    @property
    def only(self) -> Collateral | None:
        """The one collateral that it has; None where it has none or several."""
        return next(iter(self.collateral.values())) if len(self.collateral) == 1 else None

    def file(self, key: CollateralKey) -> bytes | None:
        """Return the collateral of one key as its file; None where the bundle has none."""
        held = self.collateral.get(key)
        return None if held is None else held.to_json().encode("utf-8")

    @classmethod
    def from_json(cls, data: bytes | str) -> Bundle:
        """Decode a bundle file.

        Raises FetchError `bundle-malformed`, ManifestError `version-unsupported`, or as its collateral does.
        """
        try:
            text = data if isinstance(data, str) else without_mark(data).decode("utf-8")
            return cls._decode(strict_json.loads(text, max_size=MAX_BUNDLE))
        except UnicodeDecodeError:
            raise _malformed("it is not UTF-8") from None
        except (ManifestError, EvidenceError) as error:
            if error.code is ManifestCode.VERSION_UNSUPPORTED:
                raise
            raise _malformed(error.message) from None

    @classmethod
    def _decode(cls, value: Any) -> Bundle:
        fields.versioned_map(value, "the bundle", ("format", "evidence", "collateral"))
        if value["format"] != FORMAT:
            raise _malformed("it is of another format")
        evidence = fields.of_type(value["evidence"], "evidence", str)
        if len(evidence) % 2 or len(evidence) > 2 * MAX_EVIDENCE or re.fullmatch(r"[0-9a-f]+", evidence) is None:
            raise _malformed("its evidence is not lower-case hex, or too long")
        table = fields.of_type(value["collateral"], "collateral", dict)
        if len(table) > MAX_PLATFORMS:
            raise _malformed(f"it has collateral of more than {MAX_PLATFORMS} platforms")
        keys = {CollateralKey.parse(name): item for name, item in table.items()}
        return cls(bytes.fromhex(evidence), {key: _collateral(key, item) for key, item in keys.items()})


class BundleSource(CollateralSource):
    """The collateral of a bundle, each under its own key."""

    def __init__(self, bundle: Bundle) -> None:
        """Hand out what the bundle has."""
        self._bundle = bundle

    def only(self) -> Collateral | None:
        """Return what the bundle has, if that is one."""
        return self._bundle.only

    def _fetch(self, key: CollateralKey) -> bytes | None:
        return self._bundle.file(key)


def looks_like_bundle(data: bytes) -> bool:
    """Tell whether bytes begin as a bundle does, which no other file of this project does."""
    return re.match(rb'\s*\{\s*"format"\s*:\s*"' + FORMAT.encode() + rb'"', without_mark(data[:256])) is not None


def _collateral(key: CollateralKey, value: Any) -> Collateral:
    from attestation.collateral.kinds import KINDS  # the kinds are subclasses of what this package declares

    if key.tee not in KINDS:
        raise _malformed(f"nothing is known of collateral of {key.tee}")
    return KINDS[key.tee].from_json(json.dumps(value))


def _malformed(why: str) -> FetchError:
    return FetchError(
        FetchCode.BUNDLE_MALFORMED, f"the bundle is not usable: {why}", remedy="get a whole copy from who made it"
    )
