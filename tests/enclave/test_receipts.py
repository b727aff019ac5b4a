"""The enclave's side of receipts: when they are issued, what they say, and what they commit to."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from attestation.types.receipt import SignedReceipt, Verdict
from attestation.wire.commitments import Direction, combine, leaf, leaves, received, salts, sent
from enclave.arena import Arena
from enclave.coarsening import Answered, Coarsening
from enclave.keys import EnclaveKeys
from enclave.receipts import CHECKS, Receipts, verdict_of
from manifests.signing import Signer
from tests.enclave.conftest import Served
from tests.enclave.rig import Client, Owner, Refused, Rig, linear

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


def ask(client: Client, model: bytes, receipt: object = True) -> tuple[dict, dict]:
    """The answer's header, and its tensors."""
    header = {"op": "infer", "model": {"digest": model}} | ({} if receipt is None else {"receipt": receipt})
    body = client.request(header, {"x": X})
    return body.header, {"specs": received(body)}


def test_a_receipt_comes_with_the_answer_that_it_is_of(served: Served) -> None:
    client = served.rig.client()
    header, answer = ask(client, served.digest)
    issued = header["receipt"]
    signed = SignedReceipt.parse(issued["signed"])
    said = signed.receipt
    assert signed.verify(client.claims.receipt_key)
    assert client.record is not None
    assert said.evidence == client.record.digest()
    assert said.session == said.origin == client.wire.handshake_hash
    assert (said.boot_id, said.serial, said.request) == (client.claims.boot_id, 1, header["id"])
    assert (said.model, said.owner, said.epoch) == (served.digest, served.owner.public, 1)
    assert [said.broker_time, said.broker_epoch, said.owner] == header["beat"]
    assert said.input == combine(Direction.INPUT, leaves(issued["input"], sent({"x": X})))
    assert said.output == combine(Direction.OUTPUT, leaves(issued["output"], answer["specs"]))
    assert issued["input"] != issued["output"]


def test_without_the_word_there_is_none(served: Served) -> None:
    client = served.rig.client()
    for receipt in (None, False):
        header, _ = ask(client, served.digest, receipt)
        assert header.keys() == {"id", "model", "epoch", "beat"}


@pytest.mark.parametrize("receipt", [1, "yes", None], ids=["a number", "text", "nothing"])
def test_the_word_is_true_or_false(served: Served, receipt: object) -> None:
    client = served.rig.client()
    header = {"op": "infer", "model": {"digest": served.digest}, "receipt": receipt}
    with pytest.raises(Refused) as error:
        client.request(header, {"x": X})
    assert error.value.code == "field-invalid"
    assert served.rig.leases()[served.digest] == 1000, "it costs nothing"


def test_a_request_that_is_refused_has_no_receipt_and_takes_no_serial(served: Served) -> None:
    client = served.rig.client()
    header = {"op": "infer", "model": {"digest": served.digest}, "receipt": True}
    with pytest.raises(Refused):
        client.request(header, {"x": X * np.float32(np.nan)})
    assert SignedReceipt.parse(ask(client, served.digest)[0]["receipt"]["signed"]).receipt.serial == 1


def test_an_owner_may_have_every_answer_carry_one(rig: Rig, owner: Owner, tmp_path: Path) -> None:
    data, manifest = linear(owner, receipts="always", post=[{"kind": "round", "output": "y", "decimals": 2}])
    digest = owner.seal(rig.host, tmp_path, data, manifest=manifest)
    client = rig.client()
    owner.provision(client, digest)
    header, _ = ask(client, digest, None)
    said = SignedReceipt.parse(header["receipt"]["signed"]).receipt
    assert said.verdict.output == "rounded"


def test_the_form_of_the_outputs_is_that_of_the_bluntest_step(owner: Owner) -> None:
    assert verdict_of(Answered({}), linear(owner)[1]).output == "scores"
    both = [{"kind": "round", "output": "y", "decimals": 2}, {"kind": "label_only", "output": "y"}]
    assert verdict_of(Answered({}), linear(owner, post=both)[1]).output == "label-only"


def test_a_resumed_session_names_where_it_descends_from(served: Served) -> None:
    first = served.rig.client()
    second = served.rig.client(ticket=first.ticket())
    issued = ask(second, served.digest)[0]["receipt"]
    said = SignedReceipt.parse(issued["signed"]).receipt
    assert first.record is not None
    assert (said.origin, said.evidence) == (first.wire.handshake_hash, first.record.digest())
    assert said.session == second.wire.handshake_hash


def test_serials_are_never_given_twice(served: Served) -> None:
    keys = EnclaveKeys.generate(Arena(4096))
    receipts, found = Receipts(keys), []

    def draw() -> None:
        found.extend(receipts._next() for _ in range(2000))

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 8001))


def test_keys_sign_as_a_signer_of_the_same_seed_does() -> None:
    keys = EnclaveKeys.generate(Arena(4096))
    signer = Signer.from_seed(bytes(keys.receipt_seed.view))
    assert keys.sign(b"message") == signer.sign(b"", b"message")


def test_each_tensor_has_a_salt_and_a_leaf_of_its_own() -> None:
    tensors = sent({"a": X, "b": X})
    first, second = leaves(bytes(32), tensors)
    assert first != second
    own = salts(bytes(32), 2)
    assert len({bytes(32), *own}) == 3
    assert leaf(own[1], tensors[1]) == second
    assert combine(Direction.INPUT, [first, second]) != combine(Direction.OUTPUT, [first, second])
    assert combine(Direction.INPUT, [first, second]) != combine(Direction.INPUT, [second, first])


def test_the_verdict_of_a_pipeline_is_of_what_tells_most_and_says_that_any_reader_was_coarsened(owner: Owner) -> None:
    finder, reader = linear(owner)[1], linear(owner, post=[{"kind": "label_only", "output": "y"}])[1]
    answered = Answered({}, charged=True, readers=(Coarsening.ROUNDED,))
    assert verdict_of(answered, finder, reader) == Verdict(("budget", *CHECKS), "scores", 1)
    blunt = Answered({}, coarsening=Coarsening.ROUNDED, readers=(Coarsening.LABEL_ONLY,))
    assert verdict_of(blunt, finder, reader) == Verdict(CHECKS, "rounded", 2)
