"""TPMS_ATTEST: what a TPM signs when it quotes its PCRs.

Source: TCG TPM 2.0 Library, Part 2, sections 10.6 "PCR Structures" (TPMS_PCR_SELECTION), 10.9 "Lists"
(TPML_PCR_SELECTION), 10.11 "Clock/Counter Structures", and 10.12 "Attestation Structures" (TPMS_QUOTE_INFO,
TPMS_ATTEST).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attestation.errors import EvidenceCode, EvidenceError
from attestation.tpm.algorithms import Hash, known
from attestation.tpm.errors import TpmCode
from attestation.tpm.marshal import U8, U16, U32, U64, Reader, Sized, Structure

MAGIC = 0xFF544347
"""TPM_GENERATED_VALUE: a restricted key refuses to sign anything else that begins so."""
QUOTE = 0x8018
"""TPM_ST_ATTEST_QUOTE."""

MAX_ATTEST = 1024
"""A quote over every bank takes some 250 bytes."""
MAX_BANKS = 8
_MASK_SIZES = (3, 4)
"""sizeofSelect: 24 PCRs on a PC, 32 at most."""


@dataclass(frozen=True)
class PcrSelection:
    """TPMS_PCR_SELECTION: PCRs of one bank.  indices: ascending; size: bytes of the mask."""

    bank: Hash
    indices: tuple[int, ...]
    size: int = 3


@dataclass(frozen=True)
class _Selections:
    """The codec of TPML_PCR_SELECTION."""

    def read(self, reader: Reader) -> tuple[PcrSelection, ...]:
        count = reader.number(4)
        if not 1 <= count <= MAX_BANKS:
            raise _selection("it has another number of banks", f"1 to {MAX_BANKS}", count)
        selections = tuple(_read_selection(reader) for _ in range(count))
        if len({selection.bank for selection in selections}) != count:
            raise _selection("a bank is repeated", "each bank once", [each.bank.bank for each in selections])
        if not any(selection.indices for selection in selections):
            raise _selection("it selects no PCR", "at least one PCR", "none")
        return selections

    def write(self, value: tuple[PcrSelection, ...]) -> bytes:
        return U32.write(len(value)) + b"".join(_write_selection(selection) for selection in value)


def _read_selection(reader: Reader) -> PcrSelection:
    bank = known(Hash, reader.number(2), "PCR bank")
    size = reader.number(1)
    if size not in _MASK_SIZES:
        raise _selection("a mask has another size", "3 or 4 bytes", size)
    mask = int.from_bytes(reader.take(size), "little")
    return PcrSelection(bank, tuple(index for index in range(8 * size) if mask >> index & 1), size)


def _write_selection(selection: PcrSelection) -> bytes:
    mask = sum(1 << index for index in selection.indices).to_bytes(selection.size, "little")
    return U16.write(selection.bank) + U8.write(selection.size) + mask


def _selection(why: str, expected: object, found: object) -> EvidenceError:
    return EvidenceError(
        TpmCode.PCR_SELECTION, f"the selection of PCRs is not usable: {why}", expected=expected, found=found
    )


ATTEST = Structure(
    magic=U32,
    type=U16,
    qualified_signer=Sized("qualifiedSigner", 2 + 32, 2 + 64),
    extra_data=Sized("extraData", 0, 2 + 64),
    clock=U64,
    reset_count=U32,
    restart_count=U32,
    safe=U8,
    firmware_version=U64,
    pcr_select=_Selections(),
    pcr_digest=Sized("pcrDigest", 32, 64),
)
"""TPMS_ATTEST with TPMS_QUOTE_INFO in it."""


@dataclass(frozen=True)
class Attest:
    """A quote as the TPM signs it.

    qualified_signer: TPM2B_NAME, the key's and its parents' names hashed together, behind a two-byte algorithm.
    extra_data: the caller's qualifying data.  clock: milliseconds for which the TPM has been powered, over all its
    life.  reset_count, restart_count: of TPM resets, and of restarts and resumes since.  safe: whether `clock` is
    certain not to have been reported before.  firmware_version: vendor-specific, 64 bits.  pcr_digest: over the
    selected PCRs, in the hash of the signature.
    """

    qualified_signer: bytes
    extra_data: bytes
    clock: int
    reset_count: int
    restart_count: int
    safe: bool
    firmware_version: int
    pcr_select: tuple[PcrSelection, ...]
    pcr_digest: bytes

    @classmethod
    def parse(cls, data: bytes) -> Attest:
        """Decode a quote that uses up `data` exactly; raises EvidenceError with a `tpm-...` code."""
        reader = Reader(data, "TPMS_ATTEST")
        _check_kind(data)
        values = ATTEST.read(reader)
        reader.finish()
        if values["safe"] not in {0, 1}:
            raise EvidenceError(TpmCode.RESERVED, "clockInfo.safe is no TPMI_YES_NO", expected="0 or 1")
        del values["magic"], values["type"]
        return cls(**values | {"safe": bool(values["safe"])})

    def serialize(self) -> bytes:
        """Return the bytes that the TPM signs."""
        return ATTEST.write(self._values())

    def to_hex(self) -> dict[str, Any]:
        """Return every field by name, as hex."""
        return ATTEST.to_hex(self._values())

    def _values(self) -> dict[str, Any]:
        return {"magic": MAGIC, "type": QUOTE} | vars(self)


def is_attest(data: bytes) -> bool:
    """Tell whether bytes begin as what a TPM signs does: by itself, it is a message and no evidence."""
    return data.startswith(MAGIC.to_bytes(4, "big"))


def bare_attest() -> EvidenceError:
    """Return the error for a message without the signature, the key and the PCR values that its verification takes."""
    return EvidenceError(
        EvidenceCode.EVIDENCE_UNKNOWN,
        "this is the message of a TPM's quote (TPMS_ATTEST) and no evidence by itself",
        expected="the container of TPM evidence: message, signature, PCR values and public area in one",
        found=f"a bare message, which begins with {MAGIC:08x}",
        remedy="put it together with the rest of the quote: `strongroom attest pack-tpm` (docs/attestation-tpm.md)",
    )


def _check_kind(data: bytes) -> None:
    """Look at magic and type before anything else: of another kind nothing that follows is known."""
    reader = Reader(data, "TPMS_ATTEST")
    magic, kind = reader.number(4), reader.number(2)
    if magic != MAGIC:
        raise EvidenceError(TpmCode.MAGIC, TpmCode.MAGIC.meaning, expected=f"{MAGIC:#010x}", found=f"{magic:#010x}")
    if kind != QUOTE:
        raise EvidenceError(
            TpmCode.ATTEST_TYPE, TpmCode.ATTEST_TYPE.meaning, expected=f"{QUOTE:#x}", found=f"{kind:#x}"
        )
