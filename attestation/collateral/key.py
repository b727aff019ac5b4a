"""What collateral is filed under."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from attestation.errors import EvidenceCode, EvidenceError

_FORMS = {
    "sgx": (r"[0-9a-f]{12}", r"processor|platform"),
    "tdx": (r"[0-9a-f]{12}", r"processor|platform"),
    "snp": (r"milan|genoa|turin|unnamed", r"vcek-(?:[0-9a-f]{16}|[0-9a-f]{128})-[0-9a-f]{16}|vlek-[0-9a-f]{16}"),
}
"""By TEE, the form of family and unit.  Both become parts of a file's name, so each is closed."""

NAMES: Final = "sgx-<FMSPC>-<processor|platform>, tdx-..., snp-<product>-vcek-<chip id>-<TCB version>, snp-...-vlek-..."
"""How collateral is named, for people."""

_UNNAMED = "unnamed"
_BEFORE_NAMES = ("milan", "genoa")
"""The products of AMD's that make reports of version 2, which do not name their product."""


@dataclass(frozen=True)
class CollateralKey:
    """What collateral is filed under.

    tee: "sgx", "tdx" or "snp".  family: the platform family: Intel's FMSPC in hex, or AMD's product.  unit: what within
    the family: the CA that certifies its platforms ("processor", "platform"), or for AMD the kind of key, the chip's
    id and its TCB version in hex.  Family "unnamed" is of reports that do not name theirs: see `candidates`.  It comes
    from evidence that is not verified yet, so each part is held to its form before it names a file.
    """

    tee: str
    family: str
    unit: str

    def __post_init__(self) -> None:
        """Refuse a key that no vendor's collateral has; raises EvidenceError `collateral-key`."""
        family, unit = _FORMS.get(self.tee, ("$.", "$."))
        if re.fullmatch(family, self.family) is None or re.fullmatch(unit, self.unit) is None:
            found = "-".join(part[:32] for part in (self.tee, self.family, self.unit) if part) or "an empty name"
            raise EvidenceError(
                EvidenceCode.COLLATERAL_KEY,
                "no collateral has this name",
                expected=NAMES,
                found=found,
                remedy="name the platform as docs/collateral.md does",
            )

    @classmethod
    def parse(cls, text: str) -> CollateralKey:
        """Return the key that `str` gave this text; raises EvidenceError `collateral-key`."""
        tee, family, unit = [*text.split("-", 2), "", "", ""][:3]
        return cls(tee, family, unit)

    @property
    def candidates(self) -> tuple[CollateralKey, ...]:
        """The keys to look under, in this order: itself, or one for each product where the evidence names none."""
        if self.family != _UNNAMED:
            return (self,)
        return tuple(CollateralKey(self.tee, family, self.unit) for family in _BEFORE_NAMES)

    @property
    def fetching(self) -> str:
        """The command that fetches it, for people; AMD hands lent keys to providers alone, which give them out."""
        lent = " --vlek FILE, the provider's certificate" if self.unit.startswith("vlek-") else ""
        return f"`strongroom collateral fetch --evidence FILE --output FOLDER`{f' with{lent}' if lent else ''}"

    def __str__(self) -> str:
        return f"{self.tee}-{self.family}-{self.unit}"
