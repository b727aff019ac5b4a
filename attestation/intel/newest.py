"""Which documents count where several collections of collateral for one platform family lie side by side.

An older list or document is genuine, too, and may be valid for weeks after a newer one has revoked something.  So each
kind is taken from the collection that has it newest, among those whose signature holds: the documents are signed one by
one, and the result is verified as a whole like any other.  What no collection has in order is taken from the first, for
verification to tell what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from attestation.collateral.key import CollateralKey
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel import ecdsa, pem, tcb
from attestation.intel.certificates import PCK_CA, TCB_SIGNING, Certificate, read_issued, read_root
from attestation.intel.collateral import IntelCollateral
from attestation.intel.crl import read_crl
from attestation.roots import Anchor, Roots

_Age = tuple[int, ...]


@dataclass(frozen=True)
class _Reader:
    """Reads the documents of one collection: each method tells how new one is, or raises EvidenceError."""

    held: IntelCollateral
    key: CollateralKey
    root: Certificate
    anchor: Anchor

    def root_list(self) -> _Age:
        crl = read_crl(self.held.root_ca_crl, self.root)
        return (crl.validity.start, crl.validity.end, len(crl.revoked))

    def pck_list(self) -> _Age:
        authority = read_issued(pem.decode_chain(self.held.pck_crl_issuer_chain, 2)[0], self.root, PCK_CA, self.anchor)
        _same(authority.common_name.lower().endswith(f"{self.key.unit} ca"))
        crl = read_crl(self.held.pck_crl, authority)
        return (crl.validity.start, crl.validity.end, len(crl.revoked))

    def tcb_info(self) -> _Age:
        held = self.held
        signed = held.tcb_info_issuer_chain, held.tcb_info, held.tcb_info_signature
        self._check(*signed, EvidenceCode.TCB_INFO_SIGNATURE)
        info = tcb.parse_tcb_info(held.tcb_info)
        _same((info.tee, info.fmspc.hex()) == (self.key.tee, self.key.family))
        return (info.evaluation_number, info.validity.start)

    def qe_identity(self) -> _Age:
        held = self.held
        signed = held.qe_identity_issuer_chain, held.qe_identity, held.qe_identity_signature
        self._check(*signed, EvidenceCode.QE_IDENTITY_SIGNATURE)
        identity = tcb.parse_qe_identity(held.qe_identity)
        _same(identity.tee == self.key.tee)
        return (identity.evaluation_number, identity.validity.start)

    def _check(self, chain: bytes, document: bytes, signature: bytes, code: EvidenceCode) -> None:
        signer = read_issued(pem.decode_chain(chain, 2)[0], self.root, TCB_SIGNING, self.anchor)
        ecdsa.verify_raw(signer.key, signature, document, code)


_KINDS: Final[dict[str, tuple[Callable[[_Reader], _Age], tuple[str, ...]]]] = {
    "revocation list of the root CA": (_Reader.root_list, ("root_ca_crl",)),
    "revocation list of the PCK CA": (_Reader.pck_list, ("pck_crl_issuer_chain", "pck_crl")),
    "TCB info": (_Reader.tcb_info, ("tcb_info_issuer_chain", "tcb_info", "tcb_info_signature")),
    "QE identity": (_Reader.qe_identity, ("qe_identity_issuer_chain", "qe_identity", "qe_identity_signature")),
}
"""By kind, how to read it, and the fields that belong together."""


def newest(collections: Sequence[IntelCollateral], key: CollateralKey, roots: Roots) -> IntelCollateral:
    """Return collateral with the newest document of each kind that is for `key`, out of at least one collection."""
    made = collections[0]
    if len(collections) > 1:
        readers = [reader for held in collections if (reader := _reader(held, key, roots)) is not None]
        for read, names in _KINDS.values():
            found = _latest(readers, read)
            if found is not None:
                made = replace(made, **{name: getattr(found, name) for name in names})
    return made


def ages(held: IntelCollateral, key: CollateralKey, roots: Roots) -> Mapping[str, tuple[int, ...]]:
    """Return how new each document for `key` is, by its kind; those alone whose signature holds."""
    reader = _reader(held, key, roots)
    found: dict[str, tuple[int, ...]] = {}
    if reader is None:
        return found
    for kind, (read, _) in _KINDS.items():
        with suppress(EvidenceError):
            found[kind] = read(reader)
    return found


def _reader(held: IntelCollateral, key: CollateralKey, roots: Roots) -> _Reader | None:
    try:
        return _Reader(held, key, *read_root(pem.decode_chain(held.pck_crl_issuer_chain, 2)[1], roots))
    except EvidenceError:
        return None


def _latest(readers: Sequence[_Reader], read: Callable[[_Reader], _Age]) -> IntelCollateral | None:
    """Return the collection with the newest document of a kind; the first of several that are as new."""
    ages: dict[_Age, IntelCollateral] = {}
    for reader in readers:
        with suppress(EvidenceError):
            ages.setdefault(read(reader), reader.held)
    return ages[max(ages)] if ages else None


def _same(holds: bool) -> None:  # noqa: FBT001 - the one thing that is asked
    if not holds:
        raise EvidenceError(EvidenceCode.COLLATERAL_TEE, "the document is for another platform family")
