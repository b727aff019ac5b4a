"""Every finding speaks about a claim of AR4SI, and the table in the docs is the one in the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.ear.ar4si import Claim, Tier, worse, worst_tier
from attestation.ear.mapping import BY_CODE, GROUPS, group_of, vector
from attestation.errors import EvidenceCode, FindingCode
from attestation.findings import Finding, Phase, Severity
from attestation.types.receipt_errors import ReceiptFinding
from tests.test_codes import generator

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "ear.md").read_text(encoding="utf-8")


def finding_codes() -> list[str]:
    """Codes of findings about evidence; those about receipts are in no token."""
    tables = [table for table in generator().tables() if table.__name__.endswith(("Finding", "FindingCode"))]
    tables.remove(ReceiptFinding)
    assert FindingCode in tables
    return [str(code) for table in tables for code in table]


def test_every_finding_of_every_tee_has_a_claim_and_no_other_code_has_one() -> None:
    assert sorted(set(finding_codes()) - BY_CODE.keys()) == [], "add them to attestation/ear/mapping.py and docs/ear.md"
    assert sorted(BY_CODE.keys() - set(finding_codes())) == []
    assert len(BY_CODE) == sum(len(group.codes) for group in GROUPS)


def test_a_code_that_the_table_lacks_is_not_lost() -> None:
    assert group_of(EvidenceCode.CHAIN_ROOT).claim is Claim.CONFIGURATION


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.codes[0])
def test_a_group_stands_in_the_docs(group: object) -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    for code in group.codes:
        (row,) = [line for line in rows if f"`{code}`" in line]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        values = [str(group.passed or "no claim"), str(group.warned), str(group.refused)]
        assert [cells[0].strip("`"), *cells[1:4]] == [str(group.claim), *values]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.codes[0])
def test_what_fails_is_contraindicated_and_what_passes_is_not(group: object) -> None:
    assert Tier.of(group.refused) is Tier.CONTRAINDICATED
    assert Tier.of(group.warned) in {Tier.WARNING, Tier.CONTRAINDICATED}
    assert Tier.of(group.passed) in {Tier.AFFIRMING, Tier.NONE}


@pytest.mark.parametrize(
    ("value", "tier"),
    [
        (-128, Tier.CONTRAINDICATED),
        (-97, Tier.CONTRAINDICATED),
        (-96, Tier.WARNING),
        (-33, Tier.WARNING),
        (-32, Tier.AFFIRMING),
        (-2, Tier.AFFIRMING),
        (-1, Tier.NONE),
        (0, Tier.NONE),
        (1, Tier.NONE),
        (2, Tier.AFFIRMING),
        (31, Tier.AFFIRMING),
        (32, Tier.WARNING),
        (95, Tier.WARNING),
        (96, Tier.CONTRAINDICATED),
        (127, Tier.CONTRAINDICATED),
    ],
)
def test_values_fall_into_the_tiers_of_ar4si(value: int, tier: Tier) -> None:
    assert Tier.of(value) is tier


_BYTES = st.integers(-128, 127)


@given(_BYTES, _BYTES)
def test_the_worse_of_two_values_is_never_of_a_better_tier(first: int, second: int) -> None:
    worst = worse(first, second)
    assert worst in {first, second}
    assert worst == worse(second, first)
    assert Tier.of(worst).badness == max(Tier.of(first).badness, Tier.of(second).badness)


def test_an_empty_vector_claims_nothing() -> None:
    assert worst_tier({}) is Tier.NONE
    assert vector([], simulated=False) == {}


def test_the_worst_of_several_findings_counts() -> None:
    def finding(code: FindingCode, severity: Severity) -> Finding:
        return Finding(code, Phase.PLATFORM, severity is not Severity.REFUSAL, severity, "", "")

    said = [
        finding(FindingCode.TCB_STATUS, Severity.WARNING),
        finding(FindingCode.ROOT, Severity.OK),
        finding(FindingCode.FMSPC, Severity.REFUSAL),
        finding(FindingCode.MRENCLAVE, Severity.OK),
    ]
    assert vector(said, simulated=False) == {Claim.HARDWARE: 97, Claim.EXECUTABLES: 3}
    assert vector(said[:2], simulated=False) == {Claim.HARDWARE: 32}


def test_the_page_names_every_claim_and_member_of_a_token() -> None:
    names = [*Claim, "ear_strongroom_appraisal", "eat_profile", "ear_status", "eat_nonce", "aud", "report_data"]
    assert [name for name in names if f"`{name}`" not in PAGE] == []
    assert re.search(r"SIMULATED", PAGE)
