"""Which documents count where several collections of collateral for one platform family lie side by side.

An older list or document is genuine, too, and may be valid for weeks after a newer one has revoked something.  So each
kind is taken from the collection that has it newest, among those whose signature holds: the documents are signed one by
one, and the result is verified as a whole like any other.  What no collection has in order is taken from the first, for
verification to tell what is wrong with it.

Where evidence is verified as of a time in the past, what was issued after it does not hide what was there.  A list that
names a certificate at hand comes before all others, whatever its age: a newer one may leave out what has expired (RFC
5280, 3.3), which the certificate's own dates then refuse; nothing else that was revoked is ever good again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from attestation.collateral.key import CollateralKey
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel import ecdsa, pem, tcb
from attestation.intel.certificates import PCK_CA, TCB_SIGNING, Certificate, read_issued, read_root
from attestation.intel.collateral import IntelCollateral
from attestation.intel.crl import RevocationList, read_crl
from attestation.roots import Anchor, Roots
from attestation.signed_der import serial_of

_Age = tuple[int, ...]


@dataclass(frozen=True)
class _Read:
    """What counts of a document.  issued: Unix seconds.  revoked: the serial numbers on a list."""

    age: _Age
    issued: int
    revoked: frozenset[int] = frozenset()


@dataclass(frozen=True)
class _Reader:
    """Reads the documents of one collection: each method tells what counts of one, or raises EvidenceError."""

    held: IntelCollateral
    key: CollateralKey
    root: Certificate
    anchor: Anchor

    def root_list(self) -> _Read:
        return _of_list(read_crl(self.held.root_ca_crl, self.root))

    def pck_list(self) -> _Read:
        authority = read_issued(pem.decode_chain(self.held.pck_crl_issuer_chain, 2)[0], self.root, PCK_CA, self.anchor)
        _same(authority.common_name.lower().endswith(f"{self.key.unit} ca"))
        return _of_list(read_crl(self.held.pck_crl, authority))

    def tcb_info(self) -> _Read:
        held = self.held
        signed = held.tcb_info_issuer_chain, held.tcb_info, held.tcb_info_signature
        self._check(*signed, EvidenceCode.TCB_INFO_SIGNATURE)
        info = tcb.parse_tcb_info(held.tcb_info)
        _same((info.tee, info.fmspc.hex()) == (self.key.tee, self.key.family))
        return _Read((info.evaluation_number, info.validity.start), info.validity.start)

    def qe_identity(self) -> _Read:
        held = self.held
        signed = held.qe_identity_issuer_chain, held.qe_identity, held.qe_identity_signature
        self._check(*signed, EvidenceCode.QE_IDENTITY_SIGNATURE)
        identity = tcb.parse_qe_identity(held.qe_identity)
        _same(identity.tee == self.key.tee)
        return _Read((identity.evaluation_number, identity.validity.start), identity.validity.start)

    def _check(self, chain: bytes, document: bytes, signature: bytes, code: EvidenceCode) -> None:
        signer = read_issued(pem.decode_chain(chain, 2)[0], self.root, TCB_SIGNING, self.anchor)
        ecdsa.verify_raw(signer.key, signature, document, code)


def _of_list(crl: RevocationList) -> _Read:
    return _Read((crl.validity.start, crl.validity.end, len(crl.revoked)), crl.validity.start, crl.revoked)


_KINDS: Final[dict[str, tuple[Callable[[_Reader], _Read], tuple[str, ...]]]] = {
    "revocation list of the root CA": (_Reader.root_list, ("root_ca_crl",)),
    "revocation list of the PCK CA": (_Reader.pck_list, ("pck_crl_issuer_chain", "pck_crl")),
    "TCB info": (_Reader.tcb_info, ("tcb_info_issuer_chain", "tcb_info", "tcb_info_signature")),
    "QE identity": (_Reader.qe_identity, ("qe_identity_issuer_chain", "qe_identity", "qe_identity_signature")),
}
"""By kind, how to read it, and the fields that belong together."""
_LISTS: Final = (_Reader.root_list, _Reader.pck_list)
_CHAINS: Final = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")


def newest(
    collections: Sequence[IntelCollateral],
    key: CollateralKey,
    roots: Roots,
    *,
    beside: Sequence[IntelCollateral] = (),
    carried: Sequence[bytes] = (),
    now: int | None = None,
) -> IntelCollateral:
    """Return collateral with the newest document of each kind that is for `key`, out of at least one collection.

    beside: collections for other platforms, of which the lists of the same authorities count.  carried: certificates in
    the evidence (DER); a list that names one counts before others.  now: Unix seconds; what was issued later counts
    where nothing else is there.
    """
    made = collections[0]
    if len(collections) + len(beside) > 1:
        own, others = (_readers(held, key, roots) for held in (collections, _with_other_lists(beside)))
        for kind, (read, names) in reversed(
            _KINDS.items()
        ):  # the root's list last: it may name the signers chosen before
            readers = [*own, *others] if read in _LISTS else own
            chosen = _chosen(readers, read, _serials(carried, made), now)
            if read not in _LISTS:
                _check_one(chosen, kind, names[1])
            if chosen:
                made = replace(made, **{name: getattr(chosen[0], name) for name in names})
    return made


def ages(held: IntelCollateral, key: CollateralKey, roots: Roots) -> Mapping[str, tuple[int, ...]]:
    """Return how new each document for `key` is, by its kind; those alone whose signature holds."""
    reader = _reader(held, key, roots)
    found: dict[str, tuple[int, ...]] = {}
    if reader is None:
        return found
    for kind, (read, _) in _KINDS.items():
        with suppress(EvidenceError):
            found[kind] = read(reader).age
    return found


def said_key(held: IntelCollateral) -> CollateralKey | None:
    """Return what collateral says that it is for, verified by nobody; None where it does not say so."""
    with suppress(EvidenceError):
        info = tcb.parse_tcb_info(held.tcb_info)
        authority = pem.decode_chain(held.pck_crl_issuer_chain, 2)[0]
        unit = "platform" if b"SGX PCK Platform CA" in authority else "processor"
        return CollateralKey(info.tee, info.fmspc.hex(), unit)
    return None


def _with_other_lists(held: Iterable[IntelCollateral]) -> list[IntelCollateral]:
    """Return one collection for each pair of lists: what was fetched together for many platforms has the same."""
    return list({(each.root_ca_crl, each.pck_crl_issuer_chain, each.pck_crl): each for each in held}.values())


def _readers(held: Iterable[IntelCollateral], key: CollateralKey, roots: Roots) -> list[_Reader]:
    return [reader for each in held if (reader := _reader(each, key, roots)) is not None]


def _reader(held: IntelCollateral, key: CollateralKey, roots: Roots) -> _Reader | None:
    try:
        return _Reader(held, key, *read_root(pem.decode_chain(held.pck_crl_issuer_chain, 2)[1], roots))
    except EvidenceError:
        return None


def _serials(carried: Sequence[bytes], made: IntelCollateral) -> frozenset[int]:
    """Return the serial numbers of the certificates that verification will hold against the lists."""
    ders = list(carried)
    for name in _CHAINS:
        with suppress(EvidenceError):
            ders.append(pem.decode_chain(getattr(made, name), 2)[0])
    return frozenset(serial for der in ders if (serial := serial_of(der)) is not None)


def _chosen(
    readers: Sequence[_Reader], read: Callable[[_Reader], _Read], serials: frozenset[int], now: int | None
) -> list[IntelCollateral]:
    """Return the collections whose document of a kind counts: all that are as new, in their order; or none."""
    found: list[tuple[_Read, IntelCollateral]] = []
    for reader in readers:
        with suppress(EvidenceError):
            found.append((read(reader), reader.held))
    named = [each for each in found if not each[0].revoked.isdisjoint(serials)]
    issued = [each for each in found if now is None or each[0].issued <= now]
    counted = named or issued or found
    newest_age = max((each[0].age for each in counted), default=())
    return [held for each, held in counted if each.age == newest_age]


def _check_one(chosen: Sequence[IntelCollateral], kind: str, name: str) -> None:
    """Refuse two documents of one evaluation number and second that say different things: neither is the newer."""
    if len({getattr(held, name) for held in chosen}) > 1:
        raise EvidenceError(
            EvidenceCode.COLLATERAL_MALFORMED,
            f"there are different documents of one evaluation number and time of issue: {kind}",
            expected="one of them",
            found=f"{len({getattr(held, name) for held in chosen})} that are signed",
            remedy="leave out those that are not Intel's last word, or fetch the document again",
        )


def _same(holds: bool) -> None:  # noqa: FBT001 - the one thing that is asked
    if not holds:
        raise EvidenceError(EvidenceCode.COLLATERAL_TEE, "the document is for another platform family")
