"""The whole way through a session: provision, infer, tickets, listing, identities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from attestation.types import Credential
from manifests.gramine.settings import EnclaveSettings
from manifests.model import ModelManifest
from manifests.signing import Signer
from manifests.telemetry import BY_NAME
from tests.enclave.conftest import Served
from tests.enclave.rig import Ended, Owner, Refused, Rig, graph, linear, running

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


def plain(data: bytes, **inputs: np.ndarray) -> list[np.ndarray]:
    return ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, inputs)


def test_answers_equal_those_of_plain_onnxruntime_bit_for_bit(served: Served) -> None:
    outputs = served.rig.client().infer(served.digest, x=X)
    assert list(outputs) == ["y"]
    assert outputs["y"].tobytes() == plain(served.data, x=X)[0].tobytes()


def test_a_fitted_estimator_is_sealed_provisioned_and_answers_like_itself(
    rig: Rig, owner: Owner, tmp_path: Path
) -> None:
    samples, classes = load_iris(return_X_y=True)
    estimator = LogisticRegression(max_iter=500).fit(samples, classes)
    digest = owner.seal(rig.host, tmp_path, estimator, name="iris", version="1", epoch=1)
    client = rig.client()
    owner.provision(client, digest, name="iris")
    listed = client.request({"op": "models"}).header["models"][0]
    name, dtype, _ = listed["inputs"][0]
    outputs = client.infer(digest, **{name: samples[:50].astype(dtype)})
    labels = next(value for value in outputs.values() if value.dtype.kind == "i")
    assert labels.tolist() == estimator.predict(samples[:50]).tolist()


def test_external_data_is_loaded_from_memory(rig: Rig, owner: Owner, tmp_path: Path) -> None:
    weights = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    tensor = numpy_helper.from_array(weights, "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    shapes = ([("x", TensorProto.FLOAT, [1, 64])], [("y", TensorProto.FLOAT, [1, 64])])
    inside = graph(nodes, *shapes, [tensor])
    import onnx

    model = onnx.load_model_from_string(inside)
    onnx.save_model(model, str(tmp_path / "big.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0)
    digest = owner.seal(rig.host, tmp_path, tmp_path / "big.onnx", name="big", version="1", epoch=1)
    client = rig.client()
    owner.provision(client, digest, name="big")
    x = np.ones((1, 64), np.float32)
    assert client.infer(digest, x=x)["y"].tobytes() == plain(inside, x=x)[0].tobytes()


def test_a_sealed_model_larger_than_the_read_ahead_is_fetched_once(rig: Rig, owner: Owner, tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.random.default_rng(1).normal(size=(1500, 1500)).astype(np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    data = graph(nodes, [("x", TensorProto.FLOAT, [1, 1500])], [("y", TensorProto.FLOAT, [1, 1500])], [weights])
    digest = owner.seal(rig.host, tmp_path, data, name="wide", version="1", epoch=1)
    client = rig.client()
    owner.provision(client, digest, name="wide")
    x = np.ones((1, 1500), np.float32)
    assert client.infer(digest, x=x)["y"].tobytes() == plain(data, x=x)[0].tobytes()
    assert rig.host.fetched <= len(rig.host.files[digest]) + (1 << 20)


def test_the_listing_shows_interfaces_and_class(served: Served) -> None:
    header = served.rig.client().request({"op": "models"}).header
    assert header["class"] == "simulated"
    assert header["beats"] == [[served.owner.now, 1, served.owner.public]], "what a client looks at before it sends"
    (model,) = header["models"]
    assert model["digest"] == served.digest
    assert model["owner"] == served.owner.public
    assert model["inputs"] == [["x", "float32", [["n", 1, 8], 4]]]
    assert model["outputs"] == [["y", "float32", [["n", 1, 8], 3]]]
    assert (model["name"], model["version"], model["epoch"], model["labels"]) == ("tiny", "1.0", 1, 3)


def test_a_model_is_found_by_owner_name_and_least_epoch(served: Served) -> None:
    client = served.rig.client()
    reference = {"owner": served.owner.public, "name": "tiny", "epoch": 1}
    body = client.request({"op": "infer", "model": reference}, {"x": X})
    assert body.header["model"] == served.digest
    assert body.header["beat"] == [served.owner.now, 1, served.owner.public]
    with pytest.raises(Refused) as refusal:
        client.request({"op": "infer", "model": {**reference, "epoch": 2}}, {"x": X})
    assert refusal.value.code == "model-unknown"


@pytest.mark.parametrize("reference", [{"name": "tiny"}, "tiny", {"digest": b"short"}, {}, None])
def test_a_bare_or_malformed_name_resolves_to_nothing(served: Served, reference: object) -> None:
    with pytest.raises(Refused) as refusal:
        served.rig.client().request({"op": "infer", "model": reference}, {"x": X})
    assert refusal.value.code == "field-invalid"


def test_several_models_are_served_at_once(served: Served) -> None:
    data, manifest = linear(served.owner, name="second", post=[{"kind": "label_only", "output": "y"}])
    digest = served.owner.seal(served.rig.host, served.folder, data, manifest=manifest)
    served.owner.provision(served.broker, digest, name="second")
    client = served.rig.client()
    scores = client.infer(served.digest, x=X)["y"]
    labels = client.infer(digest, x=X)["label"]
    assert labels.tolist() == [["red", "green", "blue"][row.argmax()] for row in scores]


def test_a_second_grant_for_a_loaded_model_leaves_its_lease_alone(served: Served) -> None:
    served.rig.client().infer(served.digest, x=X)
    before = served.rig.host.fetched
    answer = served.owner.provision(served.rig.client(), served.digest, lease=5000)
    assert answer["lease"] == 999
    assert served.rig.host.fetched == before


def test_claims_show_what_the_enclave_knows_of_its_owners(served: Served) -> None:
    client = served.rig.client()
    (state,) = client.claims.owners
    assert (state.owner, state.epoch, state.heartbeat) == (served.owner.public, 1, b"")
    assert state.delegation == served.owner.delegation
    assert client.claims.admitted == "first"
    assert client.claims.boot_id == served.rig.service.keys.boot_id


def test_a_ticket_resumes_without_a_quote_and_only_once(served: Served) -> None:
    ticket = served.rig.client().ticket()
    quotes = len(served.rig.attester.asked)
    resumed = served.rig.client(ticket=ticket)
    assert resumed.record is None
    assert resumed.infer(served.digest, x=X)["y"].shape == (3, 3)
    assert len(served.rig.attester.asked) == quotes
    with pytest.raises(Ended):
        served.rig.client(ticket=ticket)


def test_a_resumed_session_gives_tickets_of_the_first_evidence(served: Served) -> None:
    first = served.rig.client().ticket()
    second = served.rig.client(ticket=first).request({"op": "ticket"}).header
    kept = served.rig.service.tickets.take(second["ticket"])
    assert kept is not None
    assert kept.evidence_digest == first.evidence_digest
    assert kept.psk == second["psk"]


def test_control_needs_a_session_with_evidence_of_its_own(served: Served) -> None:
    resumed = served.rig.client(ticket=served.rig.client().ticket())
    with pytest.raises(Refused) as refusal:
        served.owner.challenge(resumed)
    assert refusal.value.code == "session-unattested"


@pytest.mark.parametrize("issuer", ["owner", "broker"])
def test_a_named_client_is_known_by_its_credential_also_after_resumption(served: Served, issuer: str) -> None:
    signer = served.owner.key if issuer == "owner" else served.owner.broker
    key = Signer.generate()
    client = served.rig.client()
    client.authenticate(key, Credential(signer.public, key.public, "ward 7").sign(signer))
    ticket = client.ticket()
    kept = served.rig.service.tickets.take(ticket.id)
    assert kept is not None
    from enclave.identity import Identity

    assert Identity.decode(kept.identity) == Identity(served.owner.public, key.public, "ward 7")


def test_a_key_without_credential_is_anonymous(served: Served) -> None:
    client = served.rig.client()
    client.authenticate(Signer.generate())
    kept = served.rig.service.tickets.take(client.ticket().id)
    assert kept is not None
    assert kept.identity == b""


def test_a_credential_of_a_stranger_ends_the_session(served: Served) -> None:
    stranger, key = Signer.generate(), Signer.generate()
    client = served.rig.client()
    client.authenticate(key, Credential(stranger.public, key.public, "me").sign(stranger))
    with pytest.raises(Refused) as refusal:
        client.answer()
    assert refusal.value.code == "credential-refused"
    with pytest.raises(Ended):
        client.answer()


def test_a_credential_of_another_client_key_is_refused(served: Served) -> None:
    client = served.rig.client()
    credential = Credential(served.owner.public, Signer.generate().public, "me").sign(served.owner.key)
    client.authenticate(Signer.generate(), credential)
    with pytest.raises(Refused) as refusal:
        client.answer()
    assert refusal.value.code == "credential-refused"


def test_a_credential_that_is_none_is_refused(served: Served) -> None:
    client = served.rig.client()
    client.authenticate(Signer.generate(), b"not a document")
    with pytest.raises(Refused) as refusal:
        client.answer()
    assert refusal.value.code == "credential-refused"


def test_an_authentication_made_for_another_session_is_refused(served: Served) -> None:
    key = Signer.generate()
    first, second = served.rig.client(), served.rig.client()
    second.record = first.record
    second.wire, wire = first.wire, second.wire
    from attestation.types import ClientAuthentication
    from attestation.wire.messages import MessageType

    assert first.record is not None
    proof = ClientAuthentication.sign(key, b"", first.wire.handshake_hash, first.record.claims)
    second.wire = wire
    second.put(wire.send(MessageType.AUTHENTICATE, proof.encode()))
    with pytest.raises(Refused) as refusal:
        second.answer()
    assert refusal.value.code == "signature-invalid"


def test_pre_and_post_processing_run_inside(rig: Rig, owner: Owner, tmp_path: Path) -> None:
    data, _ = linear(owner)
    manifest = ModelManifest.from_map(
        {
            "name": "tiny",
            "version": "1",
            "epoch": 1,
            "owner": owner.public,
            "axes": {"n": {"minimum": 1, "maximum": 8}},
            "inputs": [{"name": "x", "dtype": "uint8", "shape": ["n", 4]}],
            "outputs": [{"name": "y", "dtype": "float32", "shape": ["n", 3]}],
            "labels": ["red", "green", "blue"],
            "pre": [
                {"kind": "cast", "input": "x", "dtype": "float32"},
                {"kind": "scale", "input": "x", "mean": [10.0], "std": [4.0]},
            ],
            "post": [
                {"kind": "round", "output": "y", "decimals": 2},
                {"kind": "top_k", "output": "y", "k": 2},
                {"kind": "label", "output": "y_indices"},
            ],
        }
    )
    digest = owner.seal(rig.host, tmp_path, data, manifest=manifest)
    client = rig.client()
    owner.provision(client, digest)
    x = np.array([[1, 2, 30, 4], [50, 6, 7, 8]], np.uint8)
    outputs = client.infer(digest, x=x)
    scores = np.round(plain(data, x=(x.astype(np.float32) - 10) / 4)[0], 2)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :2]
    assert outputs["y_values"].tolist() == np.take_along_axis(scores, best, 1).tolist()
    assert outputs["y_indices"].tolist() == np.array(["red", "green", "blue"])[best].tolist()


def test_statistics_are_counts_for_the_operator(served: Served) -> None:
    from attestation.wire.frames import Frame
    from manifests import canonical

    served.rig.client().infer(served.digest, x=X)
    served.rig.host.send(Frame("!stats", 7, b""))
    answer = served.rig.host.control.get(timeout=5)
    counters = canonical.decode(answer.body, max_size=4096)
    assert answer.sid == 7
    assert counters["models"] == 1
    assert counters["requests"] == 2
    telemetry = counters.pop("telemetry")
    assert all(isinstance(value, int) for value in counters.values())
    assert set(telemetry) <= set(BY_NAME)


def test_a_manifest_that_admits_any_owner_says_so_and_serves_two(tmp_path: Path) -> None:
    with running(EnclaveSettings("any")) as rig:
        for _ in range(2):
            owner = Owner()
            data, manifest = linear(owner)
            digest = owner.seal(rig.host, tmp_path, data, manifest=manifest)
            owner.provision(rig.client(), digest)
        claims = rig.client().claims
        assert claims.admitted == "any"
        assert len(claims.owners) == 2


def provisioned(rig: Rig, owner: Owner, folder: Path, data: bytes, manifest: ModelManifest) -> bytes:
    digest = owner.seal(rig.host, folder, data, manifest=manifest)
    owner.provision(rig.client(), digest)
    return digest


def code_of_inference(rig: Rig, digest: bytes, x: np.ndarray) -> str:
    client = rig.client()
    with pytest.raises(Refused) as refusal:
        client.infer(digest, x=x)
    assert client.request({"op": "models"})
    return refusal.value.code


def test_a_run_that_fails_is_refused_without_the_runtimes_words(rig: Rig, owner: Owner, tmp_path: Path) -> None:
    shape = numpy_helper.from_array(np.array([5, 5], np.int64), "s")
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"])]
    data = graph(nodes, [("x", TensorProto.FLOAT, ["n", 4])], [("y", TensorProto.FLOAT, ["a", "b"])], [shape])
    axes = {name: {"minimum": 1, "maximum": 8} for name in "nab"}
    outputs = [{"name": "y", "dtype": "float32", "shape": ["a", "b"]}]
    _, manifest = linear(owner, outputs=outputs, axes=axes)
    digest = provisioned(rig, owner, tmp_path, data, manifest)
    assert code_of_inference(rig, digest, X) == "inference-failed"


def test_a_run_that_takes_too_long_is_refused(rig: Rig, owner: Owner, tmp_path: Path) -> None:
    from tests.enclave.test_parts import endless

    _, manifest = linear(
        owner,
        inputs=[{"name": "x", "dtype": "float32", "shape": [4]}],
        outputs=[{"name": "y", "dtype": "float32", "shape": [4]}],
        axes={},
        limits={"timeout_ms": 50},
        graph={"max_work": 1 << 62},
    )
    digest = provisioned(rig, owner, tmp_path, endless(), manifest)
    assert code_of_inference(rig, digest, X[0]) == "inference-timeout"


@pytest.mark.parametrize("post", [[], [{"kind": "label_only", "output": "y"}]])
def test_an_answer_larger_than_admitted_is_refused(
    rig: Rig, owner: Owner, tmp_path: Path, post: list[dict[str, object]]
) -> None:
    data, manifest = linear(owner, post=post, limits={"max_response_bytes": 12})
    digest = provisioned(rig, owner, tmp_path, data, manifest)
    assert code_of_inference(rig, digest, X) == "response-too-large"


def test_a_request_larger_than_the_model_admits_is_refused(rig: Rig, owner: Owner, tmp_path: Path) -> None:
    data, manifest = linear(owner, limits={"max_request_bytes": 32})
    digest = provisioned(rig, owner, tmp_path, data, manifest)
    assert code_of_inference(rig, digest, X) == "request-too-large"


def test_a_listing_longer_than_a_header_is_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    client = rig.client()
    monkeypatch.setattr("enclave.session.MAX_HEADER", 8)
    with pytest.raises(Refused) as refusal:
        client.request({"op": "models"})
    assert refusal.value.code == "response-too-large"
