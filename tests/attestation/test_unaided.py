"""Without collateral: signatures, chains to a pinned root and bindings are held all the same, and forgeries refused."""

from __future__ import annotations

import base64
import dataclasses
import json
import random

import pytest

from attestation import evidence
from attestation.amd.errors import SnpCode
from attestation.azure.errors import AzureCode
from attestation.errors import EvidenceCode
from attestation.explain import explanation
from attestation.findings import Phase, Severity
from attestation.ratls.errors import RatlsCode
from attestation.report import Outcome, Report, examine
from attestation.roots import Roots
from attestation.tpm.errors import TpmCode
from attestation.unaided import check_unaided
from manifests.errors import ErrorCode
from tests.attestation import kit
from tests.attestation.kit import NOW
from tests.azure import kit as azure
from tests.ratls import test_certificates as ratls
from tests.shared import vectors

JUNE_2024, JANUARY_2025 = 1_717_200_000, 1_735_689_600
QUOTE = [
    EvidenceCode.CHAIN_ROOT,
    EvidenceCode.CHAIN_SIGNATURE,
    EvidenceCode.QE_REPORT_SIGNATURE,
    EvidenceCode.QE_REPORT_BINDING,
    EvidenceCode.QUOTE_SIGNATURE,
]
VTPM = [AzureCode.RUNTIME_DATA, TpmCode.SIGNATURE, TpmCode.PCR_DIGEST]


def bare(name: str, now: int = JUNE_2024) -> Report:
    return examine((vectors() / name).read_bytes(), now=now)


def held(report: Report) -> list[ErrorCode]:
    return [finding.code for finding in report.findings if finding.passed]


@pytest.mark.parametrize(
    ("name", "now", "expected"),
    [
        ("sgx/v3-dcapqvl.quote.bin", kit.REAL_NOW, QUOTE),
        ("tdx/v4-cos113.quote.bin", JANUARY_2025, QUOTE),  # catalogue TDX4-6: signature and chain hold
        ("tdx/v4-azure-coco.quote.bin", JUNE_2024, QUOTE),  # TDX4-14: the same
        ("azure-tdx/coco-evidence-v1.json", JUNE_2024, QUOTE + VTPM),  # AZTDX-1: the same
        ("azure-snp/coco-evidence-v2.json", JUNE_2024, [SnpCode.SIGNATURE, *VTPM]),
        ("snp/v2-milan-coco.report.bin", JUNE_2024, []),  # a report says nothing without its key's certificate
    ],
)
def test_a_captured_piece_without_collateral_shows_what_holds(name: str, now: int, expected: list[ErrorCode]) -> None:
    report = bare(name, now)
    assert (report.exit_code, report.accepted, report.genuine) == (40, False, False)
    assert [finding.code for finding in report.refused] == [EvidenceCode.COLLATERAL_MISSING]
    assert report.findings[0].code is EvidenceCode.COLLATERAL_MISSING
    assert held(report) == expected
    assert {(each.phase, each.severity, each.found) for each in report.findings[1:]} <= {
        (Phase.VERIFY, Severity.OK, "holds")
    }
    assert report.phases["verify"] is Outcome.FAILED
    assert report.to_dict()["root"] is None, "nothing is verified"


FORGED = {
    "sgx/derived-bad/v3-dcapqvl-userdata.quote.bin": (kit.REAL_NOW, EvidenceCode.QUOTE_SIGNATURE),
    "sgx/derived-bad/v3-dcapqvl-sig.quote.bin": (kit.REAL_NOW, EvidenceCode.QUOTE_SIGNATURE),
    "sgx/derived-bad/v3-dcapqvl-attkey.quote.bin": (kit.REAL_NOW, EvidenceCode.QE_REPORT_BINDING),
    "sgx/derived-bad/v3-dcapqvl-qesig.quote.bin": (kit.REAL_NOW, EvidenceCode.QE_REPORT_SIGNATURE),
    "tdx/derived-bad/v4-dcapqvl-pckcert-sub.quote.bin": (JANUARY_2025, EvidenceCode.CHAIN_SIGNATURE),
    "tdx/derived-bad/v4-dcapqvl-rootcert-sub.quote.bin": (JANUARY_2025, EvidenceCode.CHAIN_ROOT),
    "azure-tdx/derived-bad/pcr0.json": (JUNE_2024, TpmCode.PCR_DIGEST),
    "azure-tdx/derived-bad/hcl-vardata.json": (JUNE_2024, AzureCode.RUNTIME_DATA),
    "azure-snp/derived-bad/hcl-tcb.json": (JUNE_2024, SnpCode.SIGNATURE),
    "azure-snp/derived-bad/hcl-vardata.json": (JUNE_2024, AzureCode.RUNTIME_DATA),
    "azure-snp/derived-bad/tpm-sig.json": (JUNE_2024, TpmCode.SIGNATURE),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_piece_is_refused_for_what_it_is_without_collateral(name: str) -> None:
    now, code = FORGED[name]
    report = bare(name, now)
    assert (report.exit_code, [finding.code for finding in report.refused]) == (10, [code])
    assert report.error is not None
    assert report.error.code is code
    assert report.findings[0].code is code


def test_the_words_tell_what_holds_and_what_takes_collateral() -> None:
    genuine = explanation(bare("azure-tdx/coco-evidence-v1.json")).text()
    words = " ".join(genuine.split())
    assert "Without the collateral, this much holds: the PCK chain ends in a pinned root" in words
    assert "the quote is over the PCR values that are carried." in words
    assert "whether the vendor certified every key, whether one was revoked" in words
    assert "tdx-00806f050000-platform" in words
    forged = " ".join(explanation(bare("azure-tdx/derived-bad/pcr0.json")).text().split())
    assert "Refused: tpm-pcr-digest" in forged
    assert "the quote is signed by its attestation key." in forged


def test_a_chain_that_is_not_valid_yet_is_told_beside_what_is_missing() -> None:
    report = bare("tdx/v4-cos113.quote.bin", JUNE_2024)
    assert [finding.code for finding in report.refused] == [
        EvidenceCode.COLLATERAL_MISSING,
        EvidenceCode.CERTIFICATE_EARLY,
    ]
    assert (report.exit_code, held(report)) == (40, QUOTE)


def test_simulated_evidence_is_no_hardware_without_collateral_either() -> None:
    assert [each.code for each in examine(kit.sim_quote(), now=NOW).refused] == [EvidenceCode.CHAIN_ROOT]
    assert held(examine(kit.sim_quote(), now=NOW, roots=kit.sim_roots())) == QUOTE


def test_a_certificate_of_a_connection_is_held_to_its_key() -> None:
    report = examine(ratls.healthy(), now=NOW, roots=kit.sim_roots())
    assert held(report) == [*QUOTE, *QUOTE, RatlsCode.BINDING]
    passed = [finding for finding in report.findings if finding.passed]
    assert [finding.part for finding in passed] == ["tagged"] * len(QUOTE) + ["legacy"] * len(QUOTE) + [None]
    assert len(set(passed)) == len(passed), "no row stands there twice"
    assert explanation(report).text().count("PCK chain ends") == 1
    other = evidence.parse(ratls.healthy())
    moved = dataclasses.replace(
        other, bound=tuple(dataclasses.replace(each, expected=bytes(64)) for each in other.bound)
    )
    error = check_unaided(moved, kit.sim_roots(), NOW).error
    assert error is not None
    assert error.code is RatlsCode.BINDING


def test_a_carried_certificate_that_is_none_is_refused() -> None:
    parsed = azure.parsed(azure.captured("coco-evidence-v2.json"))
    for vcek, code in ((b"x", EvidenceCode.CERTIFICATE_MALFORMED), (b"", None)):
        error = check_unaided(dataclasses.replace(parsed, vcek=vcek), Roots.vendor(), NOW).error
        assert (None if error is None else error.code) is code


def test_devices_beside_a_quote_are_judged_without_its_collateral() -> None:
    devices = json.loads((vectors() / "nvidia/hopper-590-multi4.json").read_bytes())
    quote = (vectors() / "tdx/v4-cos113.quote.bin").read_bytes().hex()
    whole = examine(json.dumps({"quote": quote, "evidence_list": devices}).encode(), now=JANUARY_2025)
    assert whole.exit_code == 40
    assert whole.devices is not None
    assert held(whole)[: len(QUOTE)] == QUOTE
    assert "nvidia-measurements" in {str(each.code) for each in whole.refused}
    report = bytearray(base64.b64decode(devices[0]["evidence"]))
    report[-1] ^= 1
    devices[0]["evidence"] = base64.b64encode(report).decode()
    forged = examine(json.dumps({"quote": quote, "evidence_list": devices}).encode(), now=JANUARY_2025)
    assert forged.exit_code == 10
    assert forged.findings[0].code == "nvidia-signature"


def test_what_is_refused_without_collateral_is_refused_with_it() -> None:
    """Never stricter than verification: for seeded bits of a real quote, and never with an error of another kind."""
    quote, chosen = kit.real_quote(), random.Random(7)
    refused = 0
    for bit in chosen.sample(range(8 * len(quote)), 150):
        flipped = bytearray(quote)
        flipped[bit // 8] ^= 1 << bit % 8
        report = examine(bytes(flipped), now=kit.REAL_NOW)
        with_it = examine(bytes(flipped), now=kit.REAL_NOW, collateral=kit.real_collateral())
        assert not with_it.accepted
        if report.exit_code == 10:
            refused += 1
            assert with_it.exit_code == 10
    assert refused > 80, "the rest is malformed, or does not say which collateral it needs"
