"""What a receipt costs: issuing it in the enclave, checking it in the client, verifying its file later."""

from __future__ import annotations

from functools import partial

import numpy as np

from attestation.receipts.bundle import ReceiptBundle, open_all
from attestation.receipts.checks import Held
from attestation.receipts.verify import examine
from attestation.types.receipt import SignedReceipt, Verdict
from attestation.wire.commitments import Direction, commit, received, sent
from attestation.wire.messages import decode_body, encode_body
from benchmarks.timing import repeat
from enclave.arena import Arena
from enclave.keys import EnclaveKeys
from enclave.receipts import Receipts
from manifests.signing import Signer
from tests.receipts import kit

MIB = 1 << 20


def measure() -> dict[str, float]:
    """Return medians: microseconds for a request of 30 floats, and milliseconds for each MiB of one large tensor."""
    row, scores = np.zeros((1, 30), np.float32), np.zeros((1, 2), np.float32)
    request = decode_body(encode_body({"id": 1}, {"X": row}))
    issuer = Receipts(EnclaveKeys.generate(Arena(4096)))
    names = ("evidence", "session", "origin", "request", "model", "owner", "epoch", "broker_time", "broker_epoch")
    facts = {name: getattr(kit.receipt(), name) for name in names}
    verdict = Verdict(("lease", "schema", "values"), "scores")
    answer = sent({"probabilities": scores})
    issue = repeat(lambda: issuer.issue(facts, verdict, received(request), answer), warm_up=50)
    large = sent({"X": np.zeros(8 * MIB, np.uint8)})
    hashing = repeat(lambda: commit(Direction.INPUT, bytes(32), large))
    issued = issuer.issue(facts, verdict, received(request), answer)["signed"]
    key = issuer._keys.receipt_public  # noqa: SLF001 - the public half, which claims carry
    checking = repeat(partial(_check, issued, key, sent({"X": row})), warm_up=50)
    policy, held = kit.policy(), ReceiptBundle.decode(kit.bundle().encode())
    later = repeat(lambda: examine(Held.of(held), policy, kit.NOW))
    sign = repeat(partial(Signer.generate().sign, b"", bytes(800)), warm_up=50)
    return {
        "issue_us": issue.median * 1e6,
        "issue_p99_us": issue.p99 * 1e6,
        "signature_alone_us": sign.median * 1e6,
        "commit_ms_per_mib": hashing.median * 1e3 / 8,
        "client_check_us": checking.median * 1e6,
        "verify_file_us": later.median * 1e6,
        "size_bytes": len(issued),
    }


def _check(issued: bytes, key: bytes, tensors: list[object]) -> None:
    """Do what a client does: parse, verify, and commit to what it has sent and got."""
    assert SignedReceipt.parse(issued).verify(key)
    open_all(bytes(32), tensors)  # type: ignore[arg-type]
    open_all(bytes(32), tensors)  # type: ignore[arg-type]
