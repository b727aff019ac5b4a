"""Batches are verified by several processes, each piece with the outcome that it has alone."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from attestation import evidence
from attestation.appraise import appraise
from attestation.batch import BatchVerifier
from attestation.errors import EvidenceCode, EvidenceError
from attestation.findings import AppraisalError
from attestation.intel.verified import SgxVerified
from tests.attestation import kit
from tests.attestation.kit import NOW, REPORT_DATA


def quotes(count: int) -> list[bytes]:
    platform = kit.platform()
    body = platform.report_body(kit.MRENCLAVE)
    return [platform.quote(body, number.to_bytes(64, "big")) for number in range(count)]


def test_each_piece_of_a_batch_has_the_outcome_that_it_has_alone() -> None:
    batch = quotes(70)
    batch[3] = b"junk"
    batch[40] = batch[40][:-1] + bytes([batch[40][-1] ^ 1])
    with BatchVerifier(kit.platform().collateral(NOW), kit.sim_roots(), workers=2) as verifier:
        outcomes = verifier.verify(batch, NOW)
        late = verifier.verify(batch[:1], NOW + 10**8)
    for number, outcome in enumerate(outcomes):
        if number in {3, 40}:
            assert isinstance(outcome, EvidenceError)
        else:
            assert outcome == kit.verify_sim(batch[number])
            assert outcome.report_data == number.to_bytes(64, "big")
    assert [error.code for error in outcomes if isinstance(error, EvidenceError)] == [
        EvidenceCode.EVIDENCE_UNKNOWN,
        EvidenceCode.PEM_MALFORMED,
    ]
    assert isinstance(late[0], EvidenceError)
    assert late[0].code is EvidenceCode.CERTIFICATE_EXPIRED or late[0].remedy


def test_an_empty_batch_has_no_outcome_and_broken_collateral_has_one_for_each_piece() -> None:
    broken = kit.platform(revoked=("tcb-signing",)).collateral(NOW)
    with BatchVerifier(broken, kit.sim_roots(), workers=1) as verifier:
        assert verifier.verify([], NOW) == []
        outcomes = verifier.verify(quotes(2), NOW)
    assert [error.code for error in outcomes if isinstance(error, EvidenceError)] == [
        EvidenceCode.CERTIFICATE_REVOKED
    ] * 2


def test_a_defect_over_one_piece_is_the_outcome_of_that_piece_alone() -> None:
    """No input that meets one is known, so this piece is of a type that no caller may give."""
    good = quotes(1)[0]
    broken: Any = None
    with BatchVerifier(kit.platform().collateral(NOW), kit.sim_roots(), workers=1) as verifier:
        first, defect, last = verifier.verify([good, broken, good], NOW)
    assert first == last == kit.verify_sim(good)
    assert isinstance(defect, EvidenceError)
    assert (defect.code, defect.exit_code) == (EvidenceCode.VERIFIER_DEFECT, 1)
    assert re.fullmatch(r"the verifier has a defect: TypeError at \w+\.py:[0-9]+", defect.message)


def test_processes_that_cannot_begin_break_no_pool() -> None:
    broken: Any = None
    with BatchVerifier(kit.platform().collateral(NOW), broken, workers=1) as verifier:
        defect, junk = verifier.verify([*quotes(1), b"junk"], NOW)
    assert isinstance(defect, EvidenceError)
    assert isinstance(junk, EvidenceError)
    assert (defect.code, junk.code) == (EvidenceCode.VERIFIER_DEFECT, EvidenceCode.EVIDENCE_UNKNOWN)


def test_what_is_verified_and_what_is_refused_travel_between_processes() -> None:
    verified = kit.verify_sim()
    assert isinstance(verified, SgxVerified)
    assert copy.deepcopy(verified) == verified
    appraisal = appraise(verified, kit.policy(sgx={"mrenclave": ["00" * 32]}), NOW, report_data=REPORT_DATA)
    with pytest.raises(AppraisalError) as refusal:
        appraisal.require()
    again = copy.deepcopy(refusal.value)
    assert (again.code, again.failed, again.to_dict()) == (
        refusal.value.code,
        refusal.value.failed,
        refusal.value.to_dict(),
    )


def test_authenticated_collateral_serves_many_pieces() -> None:
    prepared = evidence.authenticate(kit.platform().collateral(NOW), kit.sim_roots())
    for data in quotes(3):
        assert evidence.verify(evidence.parse(data), prepared, kit.sim_roots(), NOW) == kit.verify_sim(data)
    assert [len(platform.certified) for platform in prepared.platforms.values()] == [1]
