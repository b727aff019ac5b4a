"""Products, and the layouts of their TCB versions.

Sources: SEV Secure Nested Paging Firmware ABI Specification (AMD 56860), "TCB_VERSION" (one layout for Milan and
Genoa, another from Turin on) and the CPUID fields of ATTESTATION_REPORT; Versioned Chip Endorsement Key (VCEK)
Certificate and KDS Interface Specification (AMD 57230), on which processors a product name covers: Bergamo and Siena
are Genoa's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from attestation.amd.errors import SnpCode
from attestation.errors import EvidenceError
from attestation.layout import Kind, Layout, Row


class Product(StrEnum):
    """A line of processors that has one hierarchy of keys."""

    MILAN = "milan"
    GENOA = "genoa"
    TURIN = "turin"

    @property
    def label(self) -> str:
        """The product's name in certificates."""
        return self.capitalize()


_PROCESSORS: Final = (
    (0x19, range(0x10), Product.MILAN),
    (0x19, range(0x10, 0x20), Product.GENOA),
    (0x19, range(0xA0, 0xB0), Product.GENOA),  # Bergamo and Siena
    (0x1A, range(0x12), Product.TURIN),
)
"""By CPUID family and model, each with its extended part."""


def product_of(family: int, model: int) -> Product:
    """Return the product of a processor; raises EvidenceError `snp-cpuid`."""
    for known, models, product in _PROCESSORS:
        if family == known and model in models:
            return product
    raise EvidenceError(
        SnpCode.PRODUCT,
        SnpCode.PRODUCT.meaning,
        expected="a processor of Milan, Genoa or Turin",
        found=f"CPUID family {family:#x}, model {model:#x}",
    )


SIZE: Final = 8

_FIRST = Layout(
    "TCB version",
    SIZE,
    Row(0, 1, "bootloader", Kind.UINT),
    Row(1, 1, "tee", Kind.UINT),
    Row(2, 4, "reserved", Kind.ZERO),
    Row(6, 1, "snp", Kind.UINT),
    Row(7, 1, "microcode", Kind.UINT),
    truncated=SnpCode.LENGTH,
    reserved=SnpCode.RESERVED,
)
_TURIN = Layout(
    "TCB version of Turin",
    SIZE,
    Row(0, 1, "fmc", Kind.UINT),
    Row(1, 1, "bootloader", Kind.UINT),
    Row(2, 1, "tee", Kind.UINT),
    Row(3, 1, "snp", Kind.UINT),
    Row(4, 3, "reserved", Kind.ZERO),
    Row(7, 1, "microcode", Kind.UINT),
    truncated=SnpCode.LENGTH,
    reserved=SnpCode.RESERVED,
)

_LAYOUTS: Final = {Product.MILAN: _FIRST, Product.GENOA: _FIRST, Product.TURIN: _TURIN}

COMPONENTS: Final[dict[Product, tuple[str, ...]]] = {
    product: tuple(row.name for row in layout.rows if row.kind is not Kind.ZERO) for product, layout in _LAYOUTS.items()
}
"""By product, the parts of its firmware that have a security version, in the order of TCB_VERSION."""


@dataclass(frozen=True)
class Tcb:
    """One TCB version: the security version (0 to 255) of each component of the product's firmware."""

    product: Product
    versions: tuple[int, ...]

    @classmethod
    def parse(cls, product: Product, raw: bytes) -> Tcb:
        """Decode 8 bytes in the product's layout; raises EvidenceError `snp-reserved`."""
        values = _LAYOUTS[product].parse(raw)
        return cls(product, tuple(values[name] for name in COMPONENTS[product]))

    def serialize(self) -> bytes:
        """Return the 8 bytes."""
        return _LAYOUTS[self.product].serialize(self.to_dict())

    def reaches(self, other: Tcb) -> bool:
        """Tell whether no component is older than the other's."""
        return all(have >= need for have, need in zip(self.versions, other.versions, strict=True))

    def to_dict(self) -> dict[str, int]:
        """Return the versions by component."""
        return dict(zip(COMPONENTS[self.product], self.versions, strict=True))

    def __str__(self) -> str:
        return ", ".join(f"{name} {version}" for name, version in self.to_dict().items())
