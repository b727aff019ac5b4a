"""Receipts of a real deployment: issued in the session, saved by the client, verified from files alone."""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attestation.client import AsyncSession, EpochMemory, Session
from attestation.policy import load_policy
from attestation.receipts.bundle import ReceiptBundle
from attestation.receipts.checks import Expected, Held
from attestation.receipts.verify import ReceiptReport, examine
from attestation.wire.commitments import Direction
from evaluation.demo.deployment import Deployment, temporary_home
from evaluation.demo.preparation import ModelToSeal
from manifests.sealed import inspect_sealed
from manifests.signing import Signer
from tests.deployment.small import ROWS, WEIGHTS, linear
from tests.receipts.independent_verifier import RefusedError
from tests.receipts.independent_verifier import verify as verify_independently

DAY = 86400


@pytest.fixture(scope="module")
def served() -> Iterator[Deployment]:
    """A deployment of its own: one model whose receipts are asked for, and one that always gives them."""
    models = [
        ModelToSeal("linear", linear(), epoch=3),
        ModelToSeal("noted", linear(WEIGHTS + 1), review={"receipts": "always"}),
    ]
    with temporary_home() as home, Deployment(home, models) as running:
        yield running


def report(deployment: Deployment, bundle: ReceiptBundle, **options: Any) -> ReceiptReport:
    at = options.pop("at", int(time.time()))
    return examine(Held.of(bundle), load_policy(deployment.policy_path), at, **options)


def codes(found: ReceiptReport) -> set[str]:
    return {str(finding.code) for finding in found.refused}


def ask(session: Session, model: str = "linear") -> ReceiptBundle:
    answer = session.infer(model, {"x": ROWS}, receipt=True)
    assert answer.receipt is not None
    return answer.receipt


def test_a_receipt_is_asked_for_saved_and_verified_from_its_file(served: Deployment, tmp_path: Path) -> None:
    with served.session() as session:
        answer = session.infer("linear", {"x": ROWS}, receipt=tmp_path / "one.receipt")
        claims, digest = session.attested.claims, session.attested.evidence_digest
    bundle = ReceiptBundle.load(tmp_path / "one.receipt")
    assert (tmp_path / "one.receipt").stat().st_mode & 0o777 == 0o600
    found = report(served, bundle)
    assert found.accepted, found.refused
    assert found.platform == "SIMULATED"
    said = found.receipt
    assert (said.evidence, said.boot_id, said.model, said.epoch) == (digest, claims.boot_id, answer.model, 3)
    assert said.session == said.origin
    assert said.verdict.checks == ("lease", "schema", "values")
    assert (said.verdict.output, said.verdict.abuse) == ("scores", 0)
    assert abs(said.broker_time - time.time()) < 300
    assert all(each.data is None for way in Direction for each in bundle.openings[way])


def test_no_receipt_comes_where_none_is_asked_for_and_one_comes_always_where_the_owner_says_so(
    served: Deployment,
) -> None:
    with served.session() as session:
        assert session.infer("linear", {"x": ROWS}).receipt is None
        kept = session.infer("noted", {"x": ROWS}).receipt
    assert kept is not None
    assert report(served, kept).accepted


def test_serials_count_within_a_boot_and_requests_within_a_session(served: Deployment) -> None:
    with served.session() as first, served.session() as second:
        found = [ask(session).signed().receipt for session in (first, first, second)]
    serials = [receipt.serial for receipt in found]
    assert serials == list(range(serials[0], serials[0] + 3))
    assert found[1].request == found[0].request + 1
    assert len({receipt.session for receipt in found}) == 2
    assert len({receipt.input for receipt in found}) == 3, "the same input commits to something else under each salt"


def test_a_resumed_session_descends_from_its_tickets_session(served: Deployment) -> None:
    with served.session() as session:
        before, saved = ask(session), session.ticket()
    with Session.resume(saved) as again:
        after, saved = ask(again), again.ticket()
    with Session.resume(saved) as once_more:
        last = ask(once_more)
    first = before.signed().receipt
    for bundle in (after, last):
        said = bundle.signed().receipt
        assert said.resumed
        assert (said.origin, said.evidence) == (first.session, first.evidence)
        assert report(served, bundle).accepted
    assert codes(report(served, after, expected=Expected(session=first.session))) == {"receipt-session"}


def test_an_asynchronous_session_gets_receipts_too(served: Deployment, tmp_path: Path) -> None:
    async def run() -> ReceiptBundle | None:
        terms: Any = {"policy": served.policy_path, "collateral": served.collateral_dir, "memory": EpochMemory()}
        async with AsyncSession.connect(served.address, **terms) as session:
            await session.infer("linear", {"x": ROWS}, receipt=tmp_path / "async.receipt")
            saved = await session.ticket()
        async with AsyncSession.resume(saved) as session:
            return (await session.infer("linear", {"x": ROWS}, receipt=True)).receipt

    again = asyncio.run(run())
    assert again is not None
    assert report(served, again).receipt.resumed
    assert report(served, ReceiptBundle.load(tmp_path / "async.receipt")).accepted


def test_a_receipt_tells_nothing_of_who_asked(served: Deployment) -> None:
    key = Signer.generate()
    with served.session(key=key) as named, served.session() as anonymous:
        receipts = [ask(session) for session in (named, anonymous)]
    assert all(report(served, bundle).accepted for bundle in receipts)
    assert all(key.public not in bundle.encode() for bundle in receipts)


def test_a_swapped_model_shows(served: Deployment) -> None:
    models = {
        model.name: inspect_sealed(served.layout.models / f"{model.name}.sealed") for model in served.preparation.models
    }
    with served.session() as session:
        bundle = ask(session, "noted")
    assert report(served, bundle, expected=Expected(model=models["noted"].digest)).accepted
    assert codes(report(served, bundle, expected=Expected(model=models["linear"].digest))) == {"receipt-model"}
    assert codes(report(served, bundle, expected=Expected(owner=Signer.generate().public))) == {"receipt-owner"}


def test_a_receipt_of_another_session_or_start_of_the_enclave_is_refused(
    served: Deployment, deployment: Deployment
) -> None:
    with served.session() as first, served.session() as second, deployment.session() as elsewhere:
        one, two, other = ask(first), ask(second), ask(elsewhere)
    swapped = ReceiptBundle(one.receipt, two.evidence, two.collateral, one.noted, one.time, one.openings)
    assert "report-data" in codes(report(served, swapped))
    foreign = ReceiptBundle(other.receipt, one.evidence, one.collateral, one.noted, one.time, one.openings)
    assert {"receipt-signature", "receipt-evidence", "receipt-boot", "receipt-session"} <= codes(
        report(served, foreign)
    )


def test_long_after_the_time_of_the_receipt_holds_and_now_does_not(served: Deployment) -> None:
    with served.session() as session:
        bundle = ask(session)
    later = bundle.time + 3650 * DAY
    refused = report(served, bundle, at=later)
    assert not refused.accepted
    assert refused.exit_code == 10
    assert report(served, bundle, at=bundle.time).accepted
    early = report(served, bundle, at=bundle.time - 30 * DAY)
    assert "receipt-broker-time" in codes(early)


def test_the_command_asks_saves_verifies_shows_and_discloses(served: Deployment, tmp_path: Path) -> None:
    run = served.commands.run
    np.save(tmp_path / "x.npy", ROWS)
    np.save(tmp_path / "other.npy", ROWS + 1)
    run(
        *("infer", served.address, "linear", "--policy", served.policy_path, "--collateral", served.collateral_dir),
        *("--input", f"x={tmp_path / 'x.npy'}", "--output", tmp_path / "y.npz", "--state", tmp_path / "epochs.json"),
        *("--receipt", tmp_path / "a.receipt"),
    )
    verify = ("receipt", "verify", tmp_path / "a.receipt", "--policy", served.policy_path)
    given = ("--input", f"x={tmp_path / 'x.npy'}", "--output", tmp_path / "y.npz")
    told = json.loads(run(*verify, *given, "--json"))
    assert (told["accepted"], told["platform"], told["simulated"]) == (True, "SIMULATED", True)
    assert [each["code"] for each in told["findings"]].count("receipt-input") == 3
    assert "SIMULATED" in run(*verify)
    other = json.loads(run(*verify, "--input", f"x={tmp_path / 'other.npy'}", "--json", expect=(10,)))
    assert [each["code"] for each in other["findings"] if not each["passed"]] == ["receipt-input"]

    run("receipt", "disclose", tmp_path / "a.receipt", "--answer", "y", "-o", tmp_path / "shown.receipt")
    shown = ("receipt", "verify", tmp_path / "shown.receipt", "--policy", served.policy_path)
    run(*shown, "--output", tmp_path / "y.npz")
    run(*shown, *given, expect=(2,))
    run(*shown, *given, "--salts", tmp_path / "a.receipt")
    opened = json.loads(run("receipt", "show", tmp_path / "shown.receipt", "--json"))["openings"]
    assert opened["input"] == [None]
    assert opened["output"][0]["name"] == "y"

    bare, record = tmp_path / "a.cose", tmp_path / "a.evidence"
    run("receipt", "show", tmp_path / "a.receipt", "-o", bare, "--evidence", record)
    assert "serial" in run("receipt", "show", bare)
    collateral = ("--collateral", served.collateral_dir)
    run("receipt", "verify", bare, "--policy", served.policy_path, "--evidence", record, *collateral)
    run("receipt", "verify", bare, "--policy", served.policy_path, "--evidence", record, expect=(40,))


def test_the_verifier_written_from_the_page_agrees(served: Deployment) -> None:
    with served.session() as session:
        bundle = ask(session)
    data = bundle.encode()
    assert verify_independently(data)["serial"] == bundle.signed().receipt.serial
    with pytest.raises(RefusedError):
        verify_independently(data[:-1] + bytes([data[-1] ^ 1]))


def test_the_commands_of_the_page_run_as_they_stand_there(
    served: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the names of this deployment in the places of the page's."""
    page = (Path(__file__).parents[2] / "docs" / "receipts.md").read_text(encoding="utf-8")
    block = page.split("```sh\n")[1].split("```")[0].replace("\\\n", " ")
    names = {
        "ADDRESS": served.address,
        "tumour": "linear",
        "X=": "x=",
        " probabilities": " y",
        "policy.toml": str(served.policy_path),
        "collateral/": str(served.collateral_dir),
    }
    for word, name in names.items():
        assert word in block
        block = block.replace(word, name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    np.save("patients.npy", ROWS)
    lines = [shlex.split(line) for line in block.splitlines()]
    assert [words[:3][-1] for words in lines[1:]] == ["verify", "verify", "show", "disclose"]
    for command, *words in lines:
        assert command == "strongroom"
        served.commands.run(*words)
    assert report(served, ReceiptBundle.load("for-the-auditor.receipt")).accepted
