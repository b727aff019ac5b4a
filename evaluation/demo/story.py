"""The demonstration's plot: seal, start, attest, infer, look over the host's shoulder, attack."""

from __future__ import annotations

import json
import time
from pathlib import Path

from attestation.client import Session
from evaluation.demo import views
from evaluation.demo.attacks import ATTACKS, Scene
from evaluation.demo.deployment import Deployment
from evaluation.demo.errors import DemoCode, DemoError
from evaluation.demo.installation import Installation
from evaluation.demo.models import DemoModel, magika_model, tumour_model
from evaluation.demo.preparation import ModelToSeal
from evaluation.demo.report import Report
from evaluation.demo.screen import Narrator
from evaluation.demo.serving import measure_cost, serve_cases, verdicts
from evaluation.demo.tap import Tap

SHOWN_CASES = 6


def run(home: Path, narrator: Narrator) -> Report:
    """Tell the whole story below the folder `home`; raises DemoError if anything is not as claimed."""
    report, begun = Report(), time.monotonic()
    narrator.step("Two models: one is trained now, the other is a third party's. Neither will be stored unsealed.")
    models = [tumour_model(), magika_model()]
    for model in models:
        narrator.fact(f"{model.name}: {model.title}, {len(model.onnx):,} bytes of ONNX, {len(model.cases)} real cases")
    installation = Installation(home / "installation")
    installation.make()
    to_seal = [ModelToSeal(model.name, model.onnx) for model in models]
    deployment = Deployment(home, to_seal, python=installation.python, shown=narrator.command)
    try:
        _set_up(deployment, narrator)
        _serve(deployment, models, narrator, report)
        _weigh(deployment, models, narrator, report)
        report.receipt = _receipt(deployment, models, narrator)
        _attack(Scene(deployment, installation, models[0], narrator), report)
        _audit(deployment, narrator)
    finally:
        deployment.stop()
    report.seconds = round(time.monotonic() - begun, 1)
    _conclude(report, narrator)
    return report


def _set_up(deployment: Deployment, narrator: Narrator) -> None:
    preparation = deployment.preparation
    narrator.step("The owner makes a key, and lets a key broker act for it.")
    preparation.make_owner()
    preparation.make_broker()
    narrator.step("The owner seals both models for the broker: from here on the host gets ciphertext.")
    preparation.seal_models()
    narrator.step("The enclave's code is measured; the policies name that measurement and the platform's root.")
    narrator.fact(f"the enclave measures {preparation.render_enclave()[:16]}…")
    preparation.write_policies()
    preparation.arm_broker()
    preparation.done = True
    narrator.step("The operator starts the simulated platform, the enclave and the host agent: three processes.")
    deployment.start_host()
    narrator.fact(_confinement(deployment))
    narrator.step("The broker attests the enclave through the host, and releases both keys into it.")
    deployment.start_broker()
    deployment.wait_until_serving()
    for event in deployment.broker_events():
        if event["event"] == "released":
            narrator.fact(f"released: {event['model']}")


def _confinement(deployment: Deployment) -> str:
    if deployment.confined:
        return "the enclave is confined: the files that its manifest names are all that it can open"
    return "DANGEROUSLY UNCONFINED: this kernel has no Landlock, so the enclave can open what its user can"


def _serve(deployment: Deployment, models: list[DemoModel], narrator: Narrator, report: Report) -> None:
    narrator.step("A client attests the enclave: quote, certificates, revocations, TCB, code. Only then it sends.")
    with Tap(deployment.layout.home / "tap.sock", deployment.address) as tap:
        with deployment.session(tap.address) as session:
            narrator.fact(repr(session))
            answers = [_classify(session, model, narrator, report) for model in models]
            narrator.step("The same request as the client saw it and as the host saw it.")
            session.infer(models[0].name, {name: value[:1] for name, value in models[0].inputs.items()})
            shown = [("client", views.client_text(models[0], answers[0])), ("host", views.host_text(tap))]
            narrator.side_by_side(shown)
        files = deployment.layout.of_the_host()
        report.host = view = views.host_view(tap, models, answers, files)
    narrator.fact(
        f"{view.to_enclave + view.to_client:,} bytes passed through the host, and {len(files)} files lie with it;"
        f" {view.pieces_searched} pieces of inputs, outputs and models searched in them, {view.pieces_found} found"
    )


def _weigh(deployment: Deployment, models: list[DemoModel], narrator: Narrator, report: Report) -> None:
    narrator.step("What it costs, on this machine and this run.")
    begun = time.perf_counter()
    with deployment.session() as session:
        report.handshake_ms = round((time.perf_counter() - begun) * 1000, 1)
        report.costs = [measure_cost(session, model) for model in models]
    rows = [(cost.name, f"{cost.enclave_ms} ms", f"{cost.plain_ms} ms") for cost in report.costs]
    narrator.table(("one request", "in the enclave", "plain onnxruntime"), rows)
    narrator.fact(f"attested handshake with quote and verification: {report.handshake_ms} ms")


def _receipt(deployment: Deployment, models: list[DemoModel], narrator: Narrator) -> str:
    """Have an answer's receipt verified from its file, and tried for the other model; returns what was found then."""
    narrator.step("A receipt of one answer: signed by the enclave, kept in a file, verified without any network.")
    asked, other = models
    file = deployment.layout.home / "answer.receipt"
    with deployment.session() as session:
        answer = session.infer(asked.name, {name: value[:1] for name, value in asked.inputs.items()}, receipt=file)
        digests = {model.name: model.digest.hex() for model in session.models()}
    verify = ("receipt", "verify", file, "--policy", deployment.policy_path)
    told = deployment.commands.json(*verify, "--model", digests[asked.name])
    narrator.fact(
        f"{told['platform']}: receipt {told['receipt']['serial']} of model {answer.model.hex()[:16]}… is accepted"
    )
    swapped = deployment.commands.run(*verify, "--model", digests[other.name], "--json", expect=(10,))
    refused = [finding["code"] for finding in json.loads(swapped)["findings"] if not finding["passed"]]
    narrator.refusal("by whoever expects another model", ", ".join(refused), as_expected=refused == ["receipt-model"])
    return ", ".join(refused)


def _classify(session: Session, model: DemoModel, narrator: Narrator, report: Report) -> views.Answer:
    narrator.step(f"{model.name} answers {len(model.cases)} real cases inside the enclave.")
    result, answer = serve_cases(session, model)
    report.models.append(result)
    rows = verdicts(model, answer)[:SHOWN_CASES]
    narrator.table(("case", "answer", "score"), [(case, label, f"{score:.4f}") for case, label, score in rows])
    if result.correct is not None:
        narrator.fact(f"{result.correct} of {result.cases} are right")
    same = "bit for bit those of" if result.identical else "NOT those of"
    narrator.fact(f"all outputs are {same} plain onnxruntime")
    return answer


def _attack(scene: Scene, report: Report) -> None:
    scene.folder.mkdir()
    for name, (explained, attack) in ATTACKS.items():
        scene.narrator.step(f"Attack: {name}. {explained}")
        for refusal in attack(scene):
            report.refusals.append(refusal)
            scene.narrator.refusal(f"by {refusal.by}", str(refusal.found), as_expected=refusal.as_expected)


def _audit(deployment: Deployment, narrator: Narrator) -> None:
    narrator.step("Every decision of the broker is in its signed log, which anyone verifies offline.")
    log = deployment.commands.json("broker", "audit", "verify", "--home", deployment.layout.broker)
    narrator.fact(f"{log['rows']} rows verified, {log.get('release', 0)} releases and {log.get('refusal', 0)} refusals")


def _conclude(report: Report, narrator: Narrator) -> None:
    failures = report.failures(list(ATTACKS))
    if failures:
        raise DemoError(DemoCode.NOT_AS_CLAIMED, "; ".join(failures))
    narrator.step(f"All as claimed, in {report.seconds} s. The platform was SIMULATED: real formats, no real silicon.")
