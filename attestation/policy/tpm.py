"""The policy's table for TPM quotes."""

from __future__ import annotations

from dataclasses import dataclass

from attestation.errors import PolicyCode
from attestation.policy.registers import indices, registers
from attestation.policy.schema import Table, flag, hexes, number, refuse
from attestation.tpm.algorithms import STRONG

PCRS = 24
RESETTABLE = frozenset({"pcr16", "pcr23"})
"""Registers that software may reset at any time (TCG PC Client Platform TPM Profile, PCR attributes): 16 is for
debugging, 23 for applications.  Whoever can extend them can give them any value that can be reached from zero."""
_LOCALITIES = (3, 4)
"""What PCR 0 begins with, besides zero: the locality from which the TPM was started."""
_BANKS = {hash_.bank: hash_.size for hash_ in STRONG}


@dataclass(frozen=True, kw_only=True)
class TpmPolicy(Table):
    """What holds for TPM quotes.

    pcrs: accepted values by bank and index.  ak: attestation keys, as SHA-256 of their SubjectPublicKeyInfo; roots:
    SHA-256 of the DER root certificates whose attestation key certificates count: evidence that is a TPM's alone needs
    one of the two.  firmware_min: least firmwareVersion; None: any.  event_log_pcrs: PCRs that the event log must
    explain; event_log_partial: PCRs that more may have been extended into than the log has.
    """

    pcrs: tuple[tuple[str, tuple[tuple[str, tuple[bytes, ...]], ...]], ...] = registers(_BANKS, PCRS)
    ak: tuple[bytes, ...] = hexes(32)
    roots: tuple[bytes, ...] = hexes(32)
    firmware_min: int | None = number(None)
    unsafe_clock: bool = flag(dangerous=True)
    event_log_pcrs: tuple[int, ...] = indices(PCRS)
    event_log_partial: tuple[int, ...] = indices(PCRS)

    @property
    def measurements(self) -> tuple[bytes, ...]:
        """The accepted values of every PCR that is named."""
        return tuple(value for _, registers_ in self.pcrs for _, values in registers_ for value in values)

    @property
    def anchors(self) -> tuple[bytes, ...]:
        """The keys and roots that trust may end in."""
        return (*self.ak, *self.roots)

    def check(self, given: frozenset[str]) -> None:  # noqa: ARG002 - what is given does not matter here
        """Refuse a table that names no PCR that lasts, or asks two things of one."""
        if not self.pcrs:
            refuse(PolicyCode.POLICY_VACUOUS, "[tpm] names no PCR", remedy="add [tpm.pcrs.sha256] with accepted values")
        if not any(_tells(name, accepted) for _, named in self.pcrs for name, accepted in named):
            refuse(
                PolicyCode.POLICY_VACUOUS,
                "[tpm] names only PCR 16 or 23, which any software can reset, or values with which a PCR begins: "
                "they say nothing of what was started",
                remedy="name one of the PCRs 0 to 15 or 17 to 22 with what was measured into it, such as pcr4 or pcr7",
            )
        both = set(self.event_log_pcrs) & set(self.event_log_partial)
        if both:
            refuse(
                PolicyCode.POLICY_CONTRADICTION,
                f"PCR {min(both)} must be explained by the event log, and need not be",
                remedy="name it in event_log_pcrs or in event_log_partial",
            )


def _tells(register: str, accepted: tuple[bytes, ...]) -> bool:
    """Tell whether a register with one of these values says what was started.

    It does not where software can reset it, nor where a value is accepted that it has before anything extends it.
    """
    begins = {bytes(size) for size in _BANKS.values()} | {b"\xff" * size for size in _BANKS.values()}
    if register == "pcr0":
        begins |= {locality.to_bytes(size, "big") for size in _BANKS.values() for locality in _LOCALITIES}
    return register not in RESETTABLE and not begins & set(accepted)
