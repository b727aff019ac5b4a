"""Cases of what an enclave sends in a session: a record of claims, quote and inclusion proof."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Final

from attestation import binding
from attestation.errors import EvidenceCode as E
from attestation.errors import FindingCode as F
from attestation.types import Claims, EvidenceRecord
from attestation.types.claims import MAX_EVIDENCE, MAX_QUOTE
from manifests import canonical
from manifests.errors import ErrorCode
from manifests.errors import ManifestCode as M
from manifests.signing import Signer
from tests.vectors.attestation import nitro, sgx, snp, tdx, tpm
from tests.vectors.attestation.intel import flip
from tests.vectors.attestation.scene import NOW, merged
from tests.vectors.attestation.vector import Vector

HANDSHAKE: Final = bytes([9]) * 64
OWNERS: Final = tuple(sorted(Signer.from_seed(bytes([index]) * 32).public for index in range(1, 19)))
CLAIMS: Final = Claims(Signer.from_seed(bytes(32)).public, bytes(1216), bytes([3]) * 16, "first", ())


def quote(report_data: bytes) -> bytes:
    platform = sgx.MACHINE.platform
    data: bytes = platform.quote(platform.report_body(sgx.MRENCLAVE), report_data)
    return data


def leaf(claims: bytes, handshake: bytes = HANDSHAKE) -> bytes:
    return binding.session_leaf(handshake, claims)


def record(
    claims: Claims | bytes = CLAIMS, make: Any = quote, others: Sequence[bytes] = (), place: int = 0
) -> EvidenceRecord:
    """The record of a session whose quote covers these leaves, too; `place`: of its own among them."""
    encoded = claims if isinstance(claims, bytes) else claims.encode()
    leaves = [*others[:place], leaf(encoded), *others[place:]]
    report_data, proofs = binding.batch(leaves)
    return EvidenceRecord(encoded, make(report_data), proofs[place], "simulated")


def others(count: int) -> list[bytes]:
    return [leaf(CLAIMS.encode(), index.to_bytes(64, "big")) for index in range(count)]


ALONE: Final = dataclasses.replace(
    sgx.SCENE, kind="session", evidence=record().encode(), report_data=None, details={"handshake": HANDSHAKE.hex()}
)
"""An enclave that uses no devices."""


def cases() -> Iterator[Vector]:
    yield ALONE.accepted("healthy", "The quote is bound to this handshake and these claims.")
    yield from platforms()
    yield from claims()
    yield from records()
    yield from proofs()
    yield from bindings()
    yield from underneath()


def platforms() -> Iterator[Vector]:
    """The processor may be any; its report data are the session's."""
    td = tdx.MACHINE.platform
    tpm_policy = tpm.policy()
    for scene, make in (
        (tdx.SCENE, lambda data: td.evidence(tdx.MRTD, data)),
        (snp.SCENE, lambda data: snp.report(snp.MILAN, report_data=data)),
        (nitro.SCENE, lambda data: nitro.MACHINE.evidence({0: nitro.IMAGE}, data, NOW)),
        (tpm.SCENE.but(policy=tpm_policy), tpm.TPM.evidence),
    ):
        there = scene.but(kind="session", report_data=None, details=ALONE.details)
        data = record(make=make).encode()
        yield there.accepted(f"healthy {scene.tee}", "The session's evidence is another processor's.", evidence=data)
        yield there.refused(
            f"{scene.tee} of another handshake", "The same record was sent in another session.", F.REPORT_DATA,
            evidence=data, details={"handshake": (bytes([8]) * 64).hex()},
        )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ claims


def with_claims(**changes: Any) -> bytes:
    """A record over claims with other fields; None takes one out."""
    value = canonical.decode(CLAIMS.encode(), max_size=1 << 20) | changes
    return record(canonical.encode({name: item for name, item in value.items() if item is not None})).encode()


def claims() -> Iterator[Vector]:
    owner = [OWNERS[0], 7, b"heartbeat", b"delegation"]
    for edge, comment, changes in (
        ("owners named", "The enclave admits two owners.", {"admitted": list(OWNERS[:2])}),
        ("any owner", "The enclave admits any owner.", {"admitted": "any"}),
        ("an owner known", "The enclave has heard of an owner's epoch.", {"owners": [owner]}),
        ("sixteen owners", "As many owners as there may be.", {"admitted": list(OWNERS[:16])}),
    ):
        yield ALONE.accepted(f"claims with {edge}", comment, evidence=with_claims(**changes))
    for edge, comment, changes in (
        ("without a boot id", "Every field is there.", {"boot_id": None}),
        ("with another field", "No other field is known.", {"zeal": b""}),
        ("with a boot id of 15 bytes", "A boot id has 16 bytes.", {"boot_id": bytes(15)}),
        ("with a short hpke key", "An X-Wing key has 1,216 bytes.", {"hpke_key": bytes(1215)}),
        ("admitting nobody", "Somebody is admitted.", {"admitted": []}),
        ("admitting the last", "A word is first or any.", {"admitted": "last"}),
        ("admitting in another order", "Owners ascend.", {"admitted": list(OWNERS[1::-1])}),
        ("admitting one twice", "Owners ascend.", {"admitted": [OWNERS[0]] * 2}),
        ("admitting seventeen", "Owners have a bound.", {"admitted": list(OWNERS[:17])}),
        ("with an owner of three items", "An owner has four items.", {"owners": [owner[:3]]}),
        ("with an epoch below zero", "Epochs begin with 0.", {"owners": [[owner[0], -1, b"", b""]]}),
        ("with half a digest of devices", "A digest has 64 bytes.", {"gpu_evidence": bytes(32)}),
        ("of version 0", "There is no version 0.", {"version": 0}),
        ("of text for bytes", "Keys are bytes.", {"receipt_key": "x" * 32}),
    ):
        yield ALONE.fails("parse", f"claims {edge}", comment, M.FIELD_INVALID, evidence=with_claims(**changes))
    later = with_claims(version=2, more=1)
    yield ALONE.fails("parse", "claims of version 2", "A later version.", M.VERSION_UNSUPPORTED, evidence=later)
    no_key = with_claims(receipt_key=b"\2" + bytes(31))
    yield ALONE.fails(
        "parse", "claims with no point as a key", "No point of Ed25519's.", M.KEY_INVALID, evidence=no_key
    )
    for edge, comment, data in (
        ("with a trailing byte", "A byte follows the claims.", CLAIMS.encode() + b"\0"),
        ("cut", "The claims lack their last byte.", CLAIMS.encode()[:-1]),
        ("empty", "There are no claims.", b""),
    ):
        sent = record(data).encode()
        yield ALONE.fails("parse", f"claims {edge}", comment, M.ENCODING_MALFORMED, evidence=sent)


# ------------------------------------------------------------------------------------------------------------ record


def with_record(**changes: Any) -> bytes:
    value = canonical.decode(ALONE.evidence, max_size=1 << 20) | changes
    return canonical.encode({name: item for name, item in value.items() if item is not None})


def records() -> Iterator[Vector]:
    table: tuple[tuple[str, str, ErrorCode, bytes], ...] = (
        ("without a hint", "Every field is there.", M.FIELD_INVALID, with_record(hint=None)),
        ("with another field", "No other field is known.", M.FIELD_INVALID, with_record(zeal=b"")),
        ("with a hint of 257 characters", "A hint has a bound.", M.FIELD_INVALID, with_record(hint="x" * 257)),
        ("with a hint of two lines", "A hint is printable.", M.FIELD_INVALID, with_record(hint="a\nb")),
        ("with a quote above its bound", "A quote has at most 320 KiB.", M.FIELD_INVALID,
         with_record(quote=bytes(MAX_QUOTE + 1))),
        ("with index 1 of 1", "An index is below the size.", M.FIELD_INVALID, with_record(index=1)),
        ("with size 0", "There is at least one leaf.", M.FIELD_INVALID, with_record(size=0)),
        ("with size 65537", "A batch has a bound.", M.FIELD_INVALID, with_record(size=65537)),
        ("with a path of seventeen", "A path has a bound.", M.FIELD_INVALID, with_record(path=[bytes(64)] * 17)),
        ("with a hash of 63 bytes", "Hashes have 64 bytes.", M.FIELD_INVALID, with_record(size=2, path=[bytes(63)])),
        ("of version 0", "There is no version 0.", M.FIELD_INVALID, with_record(version=0)),
        ("of version 2", "The record is of a later version.", M.VERSION_UNSUPPORTED, with_record(version=2)),
        ("of a list", "The record is a list.", M.FIELD_INVALID, canonical.encode([1, 2])),
        ("with a trailing byte", "A byte follows the record.", M.ENCODING_MALFORMED, ALONE.evidence + b"\0"),
        ("cut", "The record lacks its last byte.", M.ENCODING_MALFORMED, ALONE.evidence[:-1]),
        ("nested too deep", "Values have a greatest depth.", M.ENCODING_TOO_DEEP, b"\x91" * 64 + b"\0"),
        ("too long", "A record has a bound.", M.ENCODING_TOO_LARGE, bytes(MAX_EVIDENCE + 1)),
        ("with a quote of nothing", "The quote is empty.", E.EVIDENCE_UNKNOWN, with_record(quote=b"")),
        ("with a quote cut", "The quote lacks its last byte.", E.QUOTE_TRUNCATED,
         with_record(quote=record().quote[:-1])),
        ("with a quote and a tail", "A byte follows the quote.", E.QUOTE_TRAILING_BYTES,
         with_record(quote=record().quote + b"\1")),
    )  # fmt: skip
    for edge, comment, code, data in table:
        yield ALONE.fails("parse", f"record {edge}", comment, code, evidence=data)


def proofs() -> Iterator[Vector]:
    """Inclusion proofs (RFC 9162, section 2.1.3.2, with SHA-512)."""
    for size, place in ((2, 0), (2, 1), (3, 2), (5, 4), (7, 3), (8, 7), (1000, 999)):
        data = record(others=others(size - 1), place=place).encode()
        comment = "One quote covers several sessions, and each has its path."
        yield ALONE.accepted(f"leaf {place} of {size}", comment, evidence=data)
    batch = record(others=others(4), place=2)
    path, rule = batch.proof.path, "The path leads from this leaf to what was quoted."
    for edge, comment, proof in (
        ("path too short", "The path ends below the root.", {"path": path[:-1]}),
        ("path too long", "The path leads above the root.", {"path": (*path, bytes(64))}),
        ("path for one leaf", "A batch of one has no path.", {"size": 1, "index": 0}),
        ("no path", "A batch of five has a path.", {"path": ()}),
    ):
        changed = dataclasses.replace(batch, proof=dataclasses.replace(batch.proof, **proof))
        yield ALONE.fails("parse", edge, comment, M.FIELD_INVALID, evidence=changed.encode())
    for edge, proof in (
        ("another index", {"index": 3}),
        ("another size", {"size": 6}),
        ("hash of the path altered", {"path": (flip(path[0]), *path[1:])}),
        ("hashes of the path in another order", {"path": (path[1], path[0], *path[2:])}),
    ):
        changed = dataclasses.replace(batch, proof=dataclasses.replace(batch.proof, **proof))
        yield ALONE.refused(edge, rule, F.REPORT_DATA, evidence=changed.encode())
    node = leaf(CLAIMS.encode())
    alone = EvidenceRecord(CLAIMS.encode(), quote(node), binding.InclusionProof(0, 1, ()), "simulated")
    comment = "The quote is bound to the leaf itself, and not to the tree of one."
    yield ALONE.refused("leaf quoted by itself", comment, F.REPORT_DATA, evidence=alone.encode())
    unsized = EvidenceRecord(CLAIMS.encode(), quote(binding.report_data(2, node)), alone.proof, "simulated")
    comment = "The size of the batch is part of what is quoted."
    yield ALONE.refused("size of the batch altered", comment, F.REPORT_DATA, evidence=unsized.encode())


def bindings() -> Iterator[Vector]:
    other = {"handshake": (bytes([8]) * 64).hex()}
    yield ALONE.refused("another handshake", "The record was sent in another session.", F.REPORT_DATA, details=other)
    for edge, change in (
        ("boot id", {"boot_id": bytes(16)}),
        ("receipt key", {"receipt_key": OWNERS[0]}),
        ("hpke key", {"hpke_key": b"\1" + bytes(1215)}),
        ("admitted owners", {"admitted": "any"}),
    ):
        changed = dataclasses.replace(record(), claims=dataclasses.replace(CLAIMS, **change).encode())
        comment = "The claims were altered after they were quoted."
        yield ALONE.refused(f"{edge} altered", comment, F.REPORT_DATA, evidence=changed.encode())
    hinted = dataclasses.replace(record(), hint="tdx fmspc=000000000000 ca=platform")
    yield ALONE.accepted("hint of another platform", "A hint is advice, and never trusted.", evidence=hinted.encode())


def underneath() -> Iterator[Vector]:
    """The evidence in a record is verified and appraised as any other is."""
    genuine = record()
    yield ALONE.unverified("quote corrupted", "A bit of what is signed differs.", E.QUOTE_SIGNATURE,
                           evidence=dataclasses.replace(genuine, quote=flip(genuine.quote, 60)).encode())  # fmt: skip
    yield ALONE.unverified("no collateral", "None is held for the platform.", E.COLLATERAL_MISSING, collateral=None)
    yield ALONE.fails(
        "collateral", "malformed collateral", "It has no fields.", E.COLLATERAL_MALFORMED, collateral="{}"
    )
    yield ALONE.unverified("collateral of a td", "It is for another TEE.", E.COLLATERAL_TEE,
                           collateral=tdx.SCENE.collateral, roots=(*ALONE.roots, *tdx.SCENE.roots))  # fmt: skip
    yield ALONE.unverified("root not trusted", "Only the vendors' roots are.", E.CHAIN_ROOT, roots=(("vendor", ""),))
    yield ALONE.refused("another enclave", "The policy names another one.", F.MRENCLAVE,
                        policy=merged(ALONE.policy, sgx={"mrenclave": ["11" * 32]}))  # type: ignore[arg-type] # fmt: skip
