"""A kind of field: accepted values of registers (PCRs), by bank and index."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, TypeAlias

from attestation.errors import PolicyCode
from attestation.policy.schema import MAX_ITEMS, hexes, refuse
from manifests import fields

Registers: TypeAlias = tuple[tuple[str, tuple[tuple[str, tuple[bytes, ...]], ...]], ...]
"""Pairs of a bank's name and of its registers; these are pairs of a name ("pcr7") and the accepted values."""


def registers(banks: Mapping[str, int], count: int) -> Any:
    """Declare tables of registers by bank: pcr0, pcr1, `count` of them, with values of the bank's size in bytes."""
    read = functools.partial(_registers, banks=banks, count=count)
    return dataclasses.field(default=(), metadata={"read": read})


def indices(count: int) -> Any:
    """Declare a list of register numbers from 0 to `count` - 1; without duplicates, sorted."""
    return dataclasses.field(default=(), metadata={"read": functools.partial(_indices, count=count)})


def _registers(value: Any, name: str, *, banks: Mapping[str, int], count: int) -> Registers:
    table = fields.closed_map(value, name, (), banks)
    if not table:
        refuse(PolicyCode.POLICY_VACUOUS, f"{name} is an empty table", remedy=f"name one of {', '.join(banks)}")
    return tuple(sorted((bank, _bank(item, f"{name}.{bank}", banks[bank], count)) for bank, item in table.items()))


def _bank(value: Any, name: str, size: int, count: int) -> tuple[tuple[str, tuple[bytes, ...]], ...]:
    known = [f"pcr{index}" for index in range(count)]
    table = fields.closed_map(value, name, (), known)
    if not table:
        refuse(PolicyCode.POLICY_VACUOUS, f"{name} is an empty table", remedy="name a register, or leave it out")
    read = hexes(size).metadata["read"]
    return tuple((register, read(table[register], f"{name}.{register}")) for register in known if register in table)


def _indices(value: Any, name: str, *, count: int) -> tuple[int, ...]:
    items = fields.list_of(value, name, MAX_ITEMS)
    if not items:
        refuse(PolicyCode.POLICY_VACUOUS, f"{name} is an empty list", remedy="name a register, or leave it out")
    return tuple(sorted({fields.number(item, name, 0, count - 1) for item in items}))
