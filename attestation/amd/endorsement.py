"""What the certificate of a VCEK or VLEK says: product, TCB version, and whose key it is.

Source: Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification (AMD 57230), section 3.1
(extensions under 1.3.6.1.4.1.3704.1).  The hardware id stands in its extension as bare octets; an OCTET STRING around
them, which the specification asks for, is read as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from attestation.amd.certificates import AMD, VCEK, Certificate
from attestation.amd.errors import SnpCode
from attestation.amd.tcb import COMPONENTS, Product, Tcb
from attestation.der import INTEGER, OCTET_STRING, DerReader
from attestation.errors import EvidenceError

STRUCT_VERSION: Final = AMD + b"\x01"
PRODUCT_NAME: Final = AMD + b"\x02"
HWID: Final = AMD + b"\x04"
CSP_ID: Final = AMD + b"\x05"
SPL: Final = {
    "bootloader": AMD + b"\x03\x01",
    "tee": AMD + b"\x03\x02",
    "snp": AMD + b"\x03\x03",
    "microcode": AMD + b"\x03\x08",
    "fmc": AMD + b"\x03\x09",
}
"""The security version of each component of TCB_VERSION."""
RESERVED_SPL: Final = tuple(AMD + bytes((3, index)) for index in (4, 5, 6, 7))
"""spl_4 to spl_7, which stand for the reserved bytes of TCB_VERSION and are zero."""

CHIP_ID_SIZE: Final = 64
HWID_SIZES: Final = {Product.MILAN: 64, Product.GENOA: 64, Product.TURIN: 8}
_MAX_STRUCT_VERSION = 1
_MAX_TEXT = 128
_IA5_STRING = 0x16

_Extensions = Mapping[bytes, bytes]


@dataclass(frozen=True)
class Endorsement:
    """What AMD says of an endorsement key.

    product_name: with a stepping, such as "Milan-B0".  tcb: the one TCB version under which the firmware has the key.
    hwid: the chip's id, 64 bytes and 8 for Turin; None for a VLEK.  csp_id: the cloud provider that a VLEK is lent to;
    None for a VCEK.
    """

    product: Product
    product_name: str
    tcb: Tcb
    hwid: bytes | None
    csp_id: str | None

    @property
    def chip_id(self) -> bytes | None:
        """The chip's id in the 64 bytes that reports have for it; None for a VLEK."""
        return None if self.hwid is None else self.hwid.ljust(CHIP_ID_SIZE, b"\0")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for people and programs."""
        return {
            "product_name": self.product_name,
            "tcb": self.tcb.to_dict(),
            "hwid": None if self.hwid is None else self.hwid.hex(),
            "csp_id": self.csp_id,
        }


def endorsement_of(vek: Certificate) -> Endorsement:
    """Return what a verified VCEK or VLEK certificate says: each extension of its kind once, and no other of AMD's.

    Raises EvidenceError `snp-vek-extension`, or `snp-vek-product` where the key is of another product than its chain.
    """
    product, chip = vek.product, vek.role is VCEK
    values = {oid: value for oid, (_, value) in vek.extensions.items() if oid.startswith(AMD)}
    required = {STRUCT_VERSION, PRODUCT_NAME, HWID if chip else CSP_ID, *(SPL[name] for name in COMPONENTS[product])}
    missing, unknown = required - values.keys(), values.keys() - required - set(RESERVED_SPL)
    if missing or unknown:
        raise _refuse(
            "the extensions are not those of its kind and product",
            expected=", ".join(sorted(oid.hex() for oid in required)),
            found=", ".join(sorted(oid.hex() for oid in values)),
        )
    _check_fixed(values)
    return Endorsement(
        product=product,
        product_name=_product_name(values, product),
        tcb=Tcb(product, tuple(_integer(values[SPL[name]], 0xFF) for name in COMPONENTS[product])),
        hwid=_hwid(values[HWID], HWID_SIZES[product]) if chip else None,
        csp_id=None if chip else _text(values[CSP_ID]),
    )


def _check_fixed(values: _Extensions) -> None:
    _integer(values[STRUCT_VERSION], _MAX_STRUCT_VERSION)
    for oid in RESERVED_SPL:
        if oid in values and _integer(values[oid], 0xFF):
            raise _refuse("a reserved security version is not zero", expected="0", found=values[oid].hex())


def _product_name(values: _Extensions, product: Product) -> str:
    """Return the product's name, which is of the product whose authority signed; its stepping is the certificate's."""
    name = _text(values[PRODUCT_NAME])
    if name.partition("-")[0] != product.label:
        raise EvidenceError(
            SnpCode.VEK_PRODUCT,
            "the endorsement key's certificate names another product than its chain",
            expected=product.label,
            found=name,
            remedy="get the certificate from AMD again, and report it if it stays so: AMD signed a contradiction",
        )
    return name


def _integer(value: bytes, limit: int) -> int:
    reader = DerReader(value, SnpCode.VEK_EXTENSION)
    number = reader.integer(limit, INTEGER)
    reader.finish()
    return number


def _hwid(value: bytes, size: int) -> bytes:
    if len(value) == size:
        return value
    reader = DerReader(value, SnpCode.VEK_EXTENSION)
    if reader.next_tag() != OCTET_STRING:
        raise _refuse("the hardware id has another size", expected=f"{size} bytes", found=f"{len(value)} bytes")
    hwid = reader.octets(size)
    reader.finish()
    return hwid


def _text(value: bytes) -> str:
    reader = DerReader(value, SnpCode.VEK_EXTENSION)
    raw = reader.content(_IA5_STRING)
    reader.finish()
    text = raw.decode("latin-1")
    if not (0 < len(text) <= _MAX_TEXT and text.isascii() and text.isprintable()):
        raise _refuse("a text is not of 1 to 128 printable characters", expected="ASCII", found=raw[:_MAX_TEXT].hex())
    return text


def _refuse(why: str, *, expected: str, found: str) -> EvidenceError:
    return EvidenceError(
        SnpCode.VEK_EXTENSION, f"the endorsement key's certificate: {why}", expected=expected, found=found
    )
