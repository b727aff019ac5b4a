"""The vocabulary of AR4SI: eight claims about an attester, each one signed byte, in four tiers.

Source: draft-ietf-rats-ar4si, "Enumeration Encoding", "Specific Claims" and "Trustworthiness Tiers".
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Self


class Claim(StrEnum):
    """What a verifier makes a statement about."""

    INSTANCE_IDENTITY = "instance-identity"
    CONFIGURATION = "configuration"
    EXECUTABLES = "executables"
    FILE_SYSTEM = "file-system"
    HARDWARE = "hardware"
    RUNTIME_OPAQUE = "runtime-opaque"
    STORAGE_OPAQUE = "storage-opaque"
    SOURCED_DATA = "sourced-data"


class Tier(Enum):
    """How a statement is to be taken; later ones are worse.  The value is its name in JSON."""

    NONE = "none"
    AFFIRMING = "affirming"
    WARNING = "warning"
    CONTRAINDICATED = "contraindicated"

    @classmethod
    def of(cls, value: int) -> Self:
        """Return the tier of a claim's value, -128 to 127."""
        if -1 <= value <= 1:
            return cls("none")
        if -32 <= value <= 31:
            return cls("affirming")
        return cls("warning" if -96 <= value <= 95 else "contraindicated")

    @property
    def badness(self) -> int:
        """The place in the order, 0 for none."""
        return list(Tier).index(self)


NO_CLAIM = 0
APPROVED = 2
"""Of every claim the first affirming value: what is there is known, genuine and approved."""
APPROVED_AT_BOOT = 3
"""Executables: approved ones alone were loaded at start, and nothing is said of what came later."""
KNOWN_VULNERABILITIES = 32
"""Configuration, executables and hardware: genuine, with known vulnerabilities."""
CONTRAINDICATED = 96
"""Of every claim the first contraindicated value: recognised, and not to be trusted."""
UNRECOGNISED = 97
"""Hardware and instance identity: not recognised, where it should be."""
CRYPTOGRAPHY_FAILED = 99
"""Of every claim: the evidence's cryptographic validation has failed."""


def worse(first: int, second: int) -> int:
    """Return the worse of two values of one claim; of one tier the higher number, which says less."""
    return max(first, second, key=lambda value: (Tier.of(value).badness, value))


def worst_tier(values: dict[Claim, int]) -> Tier:
    """Return the worst tier of a vector; none where it is empty."""
    return max((Tier.of(value) for value in values.values()), key=lambda tier: tier.badness, default=Tier.NONE)
