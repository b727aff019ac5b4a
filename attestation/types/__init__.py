"""Documents that relying parties and enclaves exchange: claims, evidence records, and what a broker signs.

Encoders and decoders are exact inverses; decoders are total and raise ManifestError alone.  Byte-valued fields are
raw bytes; times are Unix seconds; epochs only ever grow.
"""

from attestation.types.budgets import Allotment, BudgetState, BudgetTerms
from attestation.types.claims import Claims, EvidenceRecord, OwnerState
from attestation.types.documents import (
    EVERY,
    Delegation,
    Grant,
    Heartbeat,
    PlatformClass,
    Revocation,
    Right,
    document_digest,
)
from attestation.types.identity import ClientAuthentication, Credential

__all__ = [
    "EVERY",
    "Allotment",
    "BudgetState",
    "BudgetTerms",
    "Claims",
    "ClientAuthentication",
    "Credential",
    "Delegation",
    "EvidenceRecord",
    "Grant",
    "Heartbeat",
    "OwnerState",
    "PlatformClass",
    "Revocation",
    "Right",
    "document_digest",
]
