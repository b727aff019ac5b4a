"""Every field that a receipt binds is held against something, and each departure has a code of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from attestation.errors import EvidenceCode
from attestation.receipts.bundle import Opening
from attestation.receipts.checks import Expected, Held, NoSource
from attestation.types import Claims, OwnerState
from attestation.types.receipt import SignedReceipt, Verdict
from attestation.types.receipt_errors import ReceiptCode, ReceiptError, ReceiptFinding
from attestation.wire.commitments import Direction, sent
from manifests.errors import Fault
from manifests.signing import Signer
from tests.receipts import kit
from tests.receipts.independent_verifier import RefusedError, course
from tests.receipts.independent_verifier import verify as verify_independently

WORSE = Verdict(("lease", "schema", "values"), "label-only")

CHANGES: list[tuple[str, dict[str, Any], ReceiptFinding]] = [
    ("another evidence", {"evidence": bytes(64)}, ReceiptFinding.EVIDENCE),
    ("another session", {"session": bytes(64)}, ReceiptFinding.SESSION),
    ("another origin", {"origin": bytes(64)}, ReceiptFinding.ORIGIN),
    ("another start of the process", {"boot_id": bytes(16)}, ReceiptFinding.BOOT),
    ("another serial", {"serial": 18}, ReceiptFinding.SERIAL),
    ("another request", {"request": 3}, ReceiptFinding.REQUEST),
    ("another model", {"model": bytes(64)}, ReceiptFinding.MODEL),
    ("another owner", {"owner": kit.OTHER_OWNER}, ReceiptFinding.OWNER),
    ("another epoch of the model", {"epoch": 4}, ReceiptFinding.EPOCH),
    ("another sign of life", {"broker_time": kit.NOW - 9}, ReceiptFinding.BROKER_TIME),
    ("another epoch of the owner", {"broker_epoch": 6}, ReceiptFinding.BROKER_EPOCH),
    ("another form of the outputs", {"verdict": WORSE}, ReceiptFinding.FORM),
    ("another level of abuse", {"verdict": replace(kit.receipt().verdict, abuse=1)}, ReceiptFinding.FORM),
    (
        "a budget that paid",
        {"verdict": Verdict(("budget", "lease", "schema", "values"), "scores")},
        ReceiptFinding.VERDICT,
    ),
    ("one check less", {"verdict": Verdict(("lease", "values"), "scores")}, ReceiptFinding.VERDICT),
    ("another input", {"input": bytes(64)}, ReceiptFinding.INPUT),
    ("another output", {"output": bytes(64)}, ReceiptFinding.OUTPUT),
    ("a further model", {"stages": (bytes(64),)}, ReceiptFinding.STAGES),
]
every_change = pytest.mark.parametrize(
    ("changes", "code"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES]
)


def test_the_receipt_of_the_kit_is_accepted() -> None:
    found = kit.report(kit.bundle())
    assert found.accepted, found.refused
    assert (found.exit_code, found.platform) == (0, "SIMULATED")
    found.require()


def test_every_field_has_a_change() -> None:
    changed = {name for _, changes, _ in CHANGES for name in changes}
    assert changed == set(kit.receipt().__dataclass_fields__)
    unchanged = {ReceiptFinding.SIGNATURE, ReceiptFinding.ADMITS}
    assert {code for _, _, code in CHANGES} == set(ReceiptFinding) - unchanged


@every_change
def test_a_field_changed_and_signed_by_another_key_fails_with_its_own_code(
    changes: dict[str, Any], code: ReceiptFinding
) -> None:
    found = kit.report(replace(kit.bundle(), receipt=kit.signed(kit.OTHER_KEY, **changes)))
    assert kit.codes(found) == {code, ReceiptFinding.SIGNATURE}
    assert found.exit_code == Fault.REFUSED


@every_change
def test_a_field_changed_under_the_old_signature_fails_with_its_own_code(
    changes: dict[str, Any], code: ReceiptFinding
) -> None:
    old = kit.bundle().signed().message
    payload = SignedReceipt.parse(kit.signed(**changes)).message.payload
    found = kit.report(replace(kit.bundle(), receipt=replace(old, payload=payload).serialize()))
    assert kit.codes(found) == {code, ReceiptFinding.SIGNATURE}


@every_change
def test_a_field_that_even_the_enclave_has_signed_so_fails_against_what_the_client_saw(
    changes: dict[str, Any], code: ReceiptFinding
) -> None:
    found = kit.report(replace(kit.bundle(), receipt=kit.signed(**changes)))
    assert kit.codes(found) == {code}
    with pytest.raises(ReceiptError) as error:
        found.require()
    assert error.value.code is ReceiptCode.REFUSED
    assert str(code) in error.value.message
    assert error.value.remedy


def test_a_signature_of_another_key_alone_is_refused() -> None:
    found = kit.report(replace(kit.bundle(), receipt=kit.signed(kit.OTHER_KEY)))
    assert kit.codes(found) == {ReceiptFinding.SIGNATURE}


READERS = (bytes([31]) * 64, bytes([32]) * 64)


def of_a_pipeline(said: tuple[bytes, ...]) -> Any:
    """The bundle of a pipeline's answer whose receipt says these readers."""
    return replace(kit.bundle(), receipt=kit.signed(stages=said), noted=replace(kit.receipt(), stages=READERS))


def test_a_pipelines_receipt_binds_every_model_that_answered() -> None:
    assert kit.report(of_a_pipeline(READERS), expected=Expected(stages=READERS)).accepted
    wrong = [READERS[::-1], READERS[:1], (*READERS, READERS[0]), (), (READERS[0], kit.receipt().model)]
    for said in wrong:
        found = kit.report(of_a_pipeline(said))
        assert kit.codes(found) == {"receipt-stages"}, said
        assert found.refused[0].remedy
    found = kit.report(of_a_pipeline(READERS), expected=Expected(stages=READERS[::-1]))
    assert kit.codes(found) == {"receipt-stages"}


def test_a_policy_that_pins_models_pins_those_of_stages_too() -> None:
    model = kit.receipt().model
    for pinned, codes in (
        ((model, *READERS), set()),
        ((model, READERS[0]), {"receipt-stages"}),
        (READERS, {"receipt-model"}),
    ):
        policy = kit.policy({"owners": [kit.OWNER.hex()], "models": [digest.hex() for digest in pinned]})
        assert kit.codes(kit.report(of_a_pipeline(READERS), policy)) == codes


def test_the_signature_is_of_a_receipt_and_of_nothing_else() -> None:
    """What the receipt key would sign without the label is none."""
    message = kit.bundle().signed().message
    unlabelled = replace(message, signature=kit.RECEIPT_KEY.sign(b"", message.signed()))
    found = kit.report(replace(kit.bundle(), receipt=unlabelled.serialize()))
    assert kit.codes(found) == {ReceiptFinding.SIGNATURE}


# ------------------------------------------------------------------------------------------ evidence


def test_evidence_of_another_session_of_the_same_enclave_is_refused() -> None:
    other = kit.record(session=bytes([18]) * 64)
    assert kit.codes(kit.report(replace(kit.bundle(), evidence=other))) == {"report-data", "receipt-evidence"}


def test_a_receipt_of_the_other_session_in_one_quote_is_refused() -> None:
    """Both have the same quote and claims, and so the same evidence digest: the inclusion proof tells them apart."""
    other = replace(kit.receipt(), session=bytes(64), origin=bytes(64))
    bundle = replace(kit.bundle(), receipt=kit.signed(session=bytes(64), origin=bytes(64)), noted=other)
    assert kit.codes(kit.report(bundle)) == {"report-data"}


def test_evidence_of_another_enclave_is_refused_in_everything() -> None:
    claims = replace(kit.CLAIMS, receipt_key=kit.OTHER_KEY.public, boot_id=bytes([4]) * 16)
    found = kit.report(replace(kit.bundle(), evidence=kit.record(claims)))
    assert kit.codes(found) == {"receipt-signature", "receipt-evidence", "receipt-boot"}


def test_claims_that_the_quote_does_not_cover_are_refused() -> None:
    """Somebody has put a key of his own into the claims and has signed with it."""
    claims = replace(kit.CLAIMS, receipt_key=kit.OTHER_KEY.public).encode()
    evidence = replace(kit.record(), claims=claims)
    noted = replace(kit.receipt(), evidence=evidence.digest())
    receipt = kit.signed(kit.OTHER_KEY, evidence=evidence.digest())
    found = kit.report(replace(kit.bundle(), evidence=evidence, receipt=receipt, noted=noted))
    assert kit.codes(found) == {"report-data"}


def test_broken_evidence_is_refused_with_its_code_and_the_other_checks_are_made() -> None:
    quote = bytearray(kit.record().quote)
    quote[100] ^= 1
    found = kit.report(replace(kit.bundle(), evidence=replace(kit.record(), quote=bytes(quote))))
    assert (found.accepted, found.platform, found.exit_code) == (False, "unknown", Fault.REFUSED)
    assert {"receipt-evidence"} < kit.codes(found)
    assert any(finding.code is ReceiptFinding.SIGNATURE and finding.passed for finding in found.findings)


def test_claims_that_are_none_are_malformed() -> None:
    found = kit.report(replace(kit.bundle(), evidence=replace(kit.record(), claims=b"none")))
    assert not found.accepted
    assert found.exit_code == Fault.MALFORMED


def test_without_collateral_the_exit_status_says_so() -> None:
    found = kit.report(replace(kit.bundle(), collateral=None))
    assert kit.codes(found) == {EvidenceCode.COLLATERAL_MISSING}
    assert found.exit_code == Fault.UNAVAILABLE


def test_long_after_only_the_time_of_the_receipt_holds() -> None:
    later = kit.report(kit.bundle(), at=kit.NOW + 3650 * 86400)
    assert (later.accepted, later.exit_code) == (False, Fault.REFUSED)
    assert not kit.codes(later) & set(ReceiptFinding)
    assert kit.report(kit.bundle(), at=kit.NOW).accepted


def test_a_receipt_is_not_from_before_the_time_that_it_is_verified_at() -> None:
    early = replace(kit.receipt(), broker_time=kit.NOW + 301)
    bundle = replace(kit.bundle(), receipt=kit.signed(broker_time=kit.NOW + 301), noted=early)
    assert kit.codes(kit.report(bundle)) == {"receipt-broker-time"}
    assert kit.report(bundle, at=kit.NOW + 1).accepted


# ------------------------------------------------------------------------------------------ policy and caller


@pytest.mark.parametrize(
    ("service", "code"),
    [
        ({}, "receipt-owner"),
        ({"owners": [kit.OTHER_OWNER.hex()]}, "receipt-owner"),
        ({"owners": [kit.OWNER.hex()], "models": ["00" * 64]}, "receipt-model"),
        ({"owners": [kit.OWNER.hex()], "min_epoch": 4}, "receipt-epoch"),
    ],
    ids=["a policy that names no owner", "one of another owner", "one of other models", "one of a later epoch"],
)
def test_what_the_policy_does_not_serve_is_refused(service: dict[str, Any], code: str) -> None:
    assert kit.codes(kit.report(kit.bundle(), kit.policy(service))) == {code}


def test_the_caller_may_name_the_owner_where_the_policy_names_none() -> None:
    bare = kit.policy({})
    assert kit.report(kit.bundle(), bare, expected=Expected(owner=kit.OWNER)).accepted
    assert kit.codes(kit.report(kit.bundle(), expected=Expected(owner=kit.OTHER_OWNER))) == {"receipt-owner"}


def test_a_swapped_model_shows() -> None:
    assert kit.report(kit.bundle(), expected=Expected(model=bytes([9]) * 64)).accepted
    assert kit.codes(kit.report(kit.bundle(), expected=Expected(model=bytes([10]) * 64))) == {"receipt-model"}


def test_another_session_than_the_callers_is_refused() -> None:
    assert kit.report(kit.bundle(), expected=Expected(session=kit.SESSION)).accepted
    assert kit.codes(kit.report(kit.bundle(), expected=Expected(session=bytes(64)))) == {"receipt-session"}


def admitting(admitted: Any) -> Any:
    evidence = kit.record(replace(kit.CLAIMS, admitted=admitted))
    noted = replace(kit.receipt(), evidence=evidence.digest())
    return replace(kit.bundle(), evidence=evidence, receipt=kit.signed(evidence=evidence.digest()), noted=noted)


def test_an_enclave_that_admits_any_owner_is_refused_unless_the_policy_says_so() -> None:
    anyone = admitting("any")
    assert kit.codes(kit.report(anyone)) == {"receipt-admitted"}
    assert kit.report(anyone, kit.policy({"owners": [kit.OWNER.hex()], "allow_any_owner": True})).accepted


def test_an_owner_whom_the_enclave_does_not_admit_is_refused() -> None:
    assert kit.report(admitting((kit.OWNER,))).accepted
    assert kit.codes(kit.report(admitting((kit.OTHER_OWNER,)))) == {"receipt-admitted"}


def test_an_epoch_below_that_of_the_claims_is_refused() -> None:
    claims = Claims(kit.RECEIPT_KEY.public, bytes(1216), kit.BOOT_ID, "first", (OwnerState(kit.OWNER, 6, b"", b""),))
    evidence = kit.record(claims)
    noted = replace(kit.receipt(), evidence=evidence.digest())
    bundle = replace(kit.bundle(), evidence=evidence, receipt=kit.signed(evidence=evidence.digest()), noted=noted)
    assert kit.codes(kit.report(bundle)) == {"receipt-broker-epoch"}


def test_a_request_that_passed_too_little_is_refused_even_if_the_client_noted_that() -> None:
    less = replace(kit.receipt(), verdict=Verdict(("lease",), "scores"))
    bundle = replace(kit.bundle(), receipt=kit.signed(verdict=less.verdict), noted=less)
    assert kit.codes(kit.report(bundle)) == {"receipt-verdict"}


@pytest.mark.parametrize(
    ("output", "abuse"),
    [("scores", 1), ("label-only", 1), ("scores", 2), ("rounded", 2), ("scores", 3), ("numbers", 0)],
)
def test_a_form_that_does_not_go_with_the_level_is_refused_even_if_the_client_noted_that(
    output: str, abuse: int
) -> None:
    odd = replace(kit.receipt(), verdict=Verdict(("lease", "schema", "values"), output, abuse))
    bundle = replace(kit.bundle(), receipt=kit.signed(verdict=odd.verdict), noted=odd)
    assert kit.codes(kit.report(bundle)) == {"receipt-form"}
    with pytest.raises(RefusedError, match="form"):
        verify_independently(bundle.encode())


def test_further_checks_and_forms_are_no_reason_to_refuse() -> None:
    more = replace(kit.receipt(), verdict=Verdict(("abuse", "lease", "schema", "values"), "label-only", 2))
    assert kit.report(replace(kit.bundle(), receipt=kit.signed(verdict=more.verdict), noted=more)).accepted


def test_a_resumed_session_is_bound_to_the_evidence_of_its_origin() -> None:
    resumed = replace(kit.receipt(), session=bytes([77]) * 64)
    bundle = replace(kit.bundle(), receipt=kit.signed(session=bytes([77]) * 64), noted=resumed)
    found = kit.report(bundle)
    assert found.accepted
    assert found.receipt.resumed


def test_a_bare_receipt_is_held_against_the_evidence_alone() -> None:
    bundle = kit.bundle()
    source = Held.of(bundle).source
    assert kit.report(Held(bundle.signed(), bundle.evidence, source)).accepted
    changed = SignedReceipt.parse(kit.signed(kit.OTHER_KEY, serial=99))
    assert kit.codes(kit.report(Held(changed, bundle.evidence, source))) == {"receipt-signature"}
    moved = SignedReceipt.parse(kit.signed(origin=bytes(64)))
    assert kit.codes(kit.report(Held(moved, bundle.evidence, source))) == {"report-data"}
    assert kit.report(Held(bundle.signed(), bundle.evidence, NoSource())).exit_code == Fault.UNAVAILABLE


# ------------------------------------------------------------------------------------------ contents


def opened(way: Direction, *found: Opening) -> Any:
    return replace(kit.bundle(), openings={**kit.bundle().openings, way: found})


@pytest.mark.parametrize(("way", "code"), [(Direction.INPUT, "receipt-input"), (Direction.OUTPUT, "receipt-output")])
def test_openings_that_do_not_add_up_or_hold_another_tensor_are_refused(way: Direction, code: str) -> None:
    first, *rest = kit.bundle().openings[way]
    assert first.data is not None
    changed = bytes([first.data[0] ^ 1]) + first.data[1:]
    assert kit.codes(kit.report(opened(way, replace(first, leaf=bytes(64)), *rest))) == {code}
    assert kit.codes(kit.report(opened(way, replace(first, data=changed), *rest))) == {code}
    assert kit.codes(kit.report(opened(way, replace(first, salt=bytes(32)), *rest))) == {code}
    assert kit.codes(kit.report(opened(way, first, *rest, first))) == {code}


def test_a_stateful_answers_step_and_reset_are_bound_and_each_change_has_its_code() -> None:
    bundle = kit.stateful_bundle()
    data = bundle.encode()
    assert kit.report(bundle).accepted
    assert verify_independently(data) == bundle.signed().receipt.to_map()
    assert (course(data), course(bundle.closed().encode())) == ([0, 3], [None, None])
    assert course(kit.bundle().encode()) == [None, None]
    for way, number, code in ((Direction.INPUT, 1, "receipt-input"), (Direction.OUTPUT, 4, "receipt-output")):
        *tensors, last = bundle.openings[way]
        assert last.data is not None
        other = replace(last, data=number.to_bytes(len(last.data), "little"))
        for found in ((*tensors, other), tuple(tensors)):
            changed = replace(bundle, openings={**bundle.openings, way: found})
            assert kit.codes(kit.report(changed)) == {code}
            with pytest.raises(RefusedError, match=str(way)):
                verify_independently(changed.encode())


def test_an_opening_cannot_be_given_another_name_dtype_or_shape() -> None:
    first, *rest = kit.bundle().openings[Direction.INPUT]
    assert first.spec is not None
    for change in ({"name": "z"}, {"dtype": "int32"}, {"shape": (3, 2)}):
        spec = replace(first.spec, **change)  # type: ignore[arg-type]
        assert kit.codes(kit.report(opened(Direction.INPUT, replace(first, spec=spec), *rest))) == {"receipt-input"}


def test_one_tensor_is_disclosed_and_the_others_stay_closed() -> None:
    shown = kit.bundle().disclosing({Direction.INPUT: frozenset({"note"})})
    assert kit.report(shown).accepted
    x, note = shown.openings[Direction.INPUT]
    assert (x.salt, x.spec, x.data) == (None, None, None)
    assert note.data == kit.TENSORS[Direction.INPUT][1][1]
    assert kit.SALTS[Direction.INPUT] not in kit.bundle().encode(), "the salt that opens all is kept nowhere"
    raw = np.ascontiguousarray(kit.INPUTS["x"]).tobytes()
    assert raw in kit.bundle().encode()
    assert raw not in shown.encode()
    assert kit.report(kit.bundle().disclosing({})).accepted


def test_contents_that_somebody_has_are_compared() -> None:
    closed = Held.of(kit.bundle().closed())
    same = {Direction.INPUT: sent(kit.INPUTS), Direction.OUTPUT: sent(kit.OUTPUTS)}
    assert kit.report(replace(closed, contents=same)).accepted
    other = {Direction.INPUT: sent({"x": kit.INPUTS["x"] + 1}), Direction.OUTPUT: sent({"z": kit.OUTPUTS["y"]})}
    assert kit.codes(kit.report(replace(closed, contents=other))) == {"receipt-input", "receipt-output"}
    hidden = Held.of(kit.bundle().disclosing({}))
    assert kit.codes(kit.report(replace(hidden, contents=same))) == {"receipt-input", "receipt-output"}


def test_a_name_that_is_not_opened_cannot_be_disclosed() -> None:
    with pytest.raises(ReceiptError) as error:
        kit.bundle().disclosing({Direction.OUTPUT: frozenset({"x"})})
    assert error.value.code is ReceiptCode.WITHHELD


def test_the_same_content_commits_to_something_else_under_another_salt() -> None:
    again = replace(kit.bundle().openings[Direction.OUTPUT][0], salt=Signer.generate().seed())
    assert not again.holds(kit.TENSORS[Direction.OUTPUT][0])
