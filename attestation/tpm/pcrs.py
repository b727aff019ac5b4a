"""PCR values: matched with the selection that a quote is over, and hashed as the TPM hashes them.

Source: TCG TPM 2.0 Library, Part 1, section 17 "PCR Operations" ("Selecting Multiple PCR"), and Part 3, "TPM2_Quote".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from attestation.errors import EvidenceError
from attestation.tpm.algorithms import Hash
from attestation.tpm.attest import PcrSelection
from attestation.tpm.errors import TpmCode

MAX_PCRS = 256
"""32 PCRs of each bank."""


@dataclass(frozen=True)
class PcrValues:
    """The values of the selected PCRs, in the order of the selection: bank by bank, and upwards in each."""

    selection: tuple[PcrSelection, ...]
    values: tuple[bytes, ...]

    def __iter__(self) -> Iterator[tuple[Hash, int, bytes]]:
        """Yield (bank, index, value)."""
        slots = ((selection.bank, index) for selection in self.selection for index in selection.indices)
        for (bank, index), value in zip(slots, self.values, strict=True):
            yield bank, index, value

    def get(self, bank: str, index: int) -> bytes | None:
        """Return one value; None where the quote is not over that PCR."""
        return next((value for each, at, value in self if each.bank == bank and at == index), None)

    def digest(self, algorithm: Hash) -> bytes:
        """Return the digest over all values, which the TPM signs as pcrDigest."""
        return algorithm.digest(*self.values)

    def to_dict(self) -> dict[str, dict[str, str]]:
        """Return the values as hex, by bank and index."""
        result: dict[str, dict[str, str]] = {}
        for bank, index, value in self:
            result.setdefault(bank.bank, {})[str(index)] = value.hex()
        return result


def match(selection: tuple[PcrSelection, ...], values: Sequence[bytes]) -> PcrValues:
    """Return the values that belong to a selection.

    Raises EvidenceError `tpm-pcr-values` unless there is one value of the bank's size for each selected PCR.
    """
    sizes = [each.bank.size for each in selection for _ in each.indices]
    found = [len(value) for value in values]
    if found != sizes:
        raise EvidenceError(
            TpmCode.PCR_VALUES,
            TpmCode.PCR_VALUES.meaning,
            expected=f"{len(sizes)} values with {sum(sizes)} bytes in all, in the order of the selection",
            found=f"{len(found)} values with {sum(found)} bytes",
        )
    return PcrValues(selection, tuple(values))
