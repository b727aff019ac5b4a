"""What a refused request costs against a good one of the same size: in the enclave alone, and for the client.

In the enclave: from the decoded request to the answer or the error.  For the client: the round trip through host and
session, most of which is the way there and back, for both alike.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import numpy as np
import onnxruntime as ort

from attestation.client import RemoteError
from attestation.wire.messages import decode_body, encode_body
from benchmarks.timing import repeat_in_turn
from enclave.errors import EnclaveError
from enclave.process import compile_post, compile_pre, run_steps
from enclave.validate import RequestPlan
from evaluation.demo.deployment import Deployment, temporary_home
from evaluation.demo.models import DemoModel, magika_model, tumour_model
from evaluation.demo.preparation import ModelToSeal
from manifests.draft import draft_manifest, load_graph

OWNER = bytes(32)


def measure() -> dict[str, Any]:
    """Return, for each model and each way to be refused, microseconds and the ratio to a good request."""
    models = [tumour_model(), magika_model()]
    to_seal = [ModelToSeal(model.name, model.onnx) for model in models]
    with (
        temporary_home() as home,
        Deployment(home, to_seal, release={"release": {"lease": 10_000_000}}) as deployment,
        deployment.session() as session,
    ):
        return {model.name: {**_inside(model), "client": _round_trip(session, model)} for model in models}


def _bad(rows: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return requests that are refused: for their dtype, for their shape, and for a name that is not known."""
    name, row = next(iter(rows.items()))
    return {
        "dtype": {**rows, name: row.astype(np.int8)},
        "shape": {**rows, name: row.reshape(-1)},
        "name": {"another": row, **{other: value for other, value in rows.items() if other != name}},
    }


def _inside(model: DemoModel) -> dict[str, Any]:
    """Compare what the enclave does with a decoded request: check, steps and graph, or check and refusal."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    runtime = ort.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])
    manifest = draft_manifest(load_graph(model.onnx), name=model.name, owner=OWNER)
    plan, pre, post = RequestPlan.compile(manifest), compile_pre(manifest), compile_post(manifest)
    names = [output.name for output in runtime.get_outputs()]
    rows = {name: np.ascontiguousarray(values[:1]) for name, values in model.inputs.items()}

    def answer(body: Any) -> None:
        given = run_steps(pre, plan.check(body))
        run_steps(post, dict(zip(names, runtime.run(names, given), strict=True)))

    def refuse(body: Any) -> None:
        with contextlib.suppress(EnclaveError):
            plan.check(body)

    good = decode_body(encode_body({"id": 1}, rows))
    cases = {name: decode_body(encode_body({"id": 1}, tensors)) for name, tensors in _bad(rows).items()}
    answered, *refused = repeat_in_turn(partial(answer, good), *(partial(refuse, body) for body in cases.values()))
    return {
        "answered_us": answered.median * 1e6,
        **{
            name: {"us": times.median * 1e6, "ratio": times.median / answered.median}
            for name, times in zip(cases, refused, strict=True)
        },
    }


def _round_trip(session: Any, model: DemoModel) -> dict[str, float]:
    rows = {name: np.ascontiguousarray(values[:1]) for name, values in model.inputs.items()}
    bad = _bad(rows)["dtype"]

    def refuse() -> None:
        with contextlib.suppress(RemoteError):
            session.infer(model.name, bad)

    good, refused = repeat_in_turn(lambda: session.infer(model.name, rows), refuse)
    return {"answered_us": good.median * 1e6, "refused_us": refused.median * 1e6, "ratio": refused.median / good.median}


if __name__ == "__main__":
    import json

    print(json.dumps(measure(), indent=2))
