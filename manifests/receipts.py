"""The model manifest's word on receipts: whether each answer carries one, or only those that are asked for."""

from __future__ import annotations

from enum import StrEnum

from manifests import fields


class Receipts(StrEnum):
    """When the enclave issues a receipt."""

    ON_REQUEST = "on-request"
    """For a request that asks for one: the default, which a manifest leaves out."""
    ALWAYS = "always"
    """With each answer, whether asked for or not."""

    @classmethod
    def from_value(cls, value: object) -> Receipts:
        """Read the manifest's `receipts`; raises ManifestError `field-invalid`."""
        return fields.member(cls, value, "receipts")

    def to_map(self) -> dict[str, str]:
        """Return the field as a manifest has it: none for the default."""
        return {} if self is Receipts.ON_REQUEST else {"receipts": str(self)}
