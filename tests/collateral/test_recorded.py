"""What Intel's and AMD's services once answered, served again: `collateral fetch` files it, and evidence verifies."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from attestation.amd.collateral import SnpCollateral
from attestation.cli import attest
from attestation.collateral import CollateralKey, DirectorySource, held
from attestation.collateral.cli import collateral
from attestation.evidence import collateral_for, parse
from attestation.intel import pem
from attestation.intel.collateral import IntelCollateral
from attestation.validity import parse_rfc3339
from tests.amd.test_vectors import STATUSES, VALID
from tests.collateral.kit import source
from tests.collateral.recorded import Answers, of_collateral, of_folder, serve_amd
from tests.collateral.service import Reply, Service
from tests.shared import vectors


def run(*arguments: object) -> Result:
    return CliRunner().invoke(collateral, [str(argument) for argument in arguments])


def verdict(path: Path, folder: Path, at: object) -> dict[str, Any]:
    """Return what `attest verify` says of evidence with what was fetched."""
    arguments = ["verify", "--evidence", path, "--collateral", folder, "--at", at, "--json"]
    shown: dict[str, Any] = json.loads(CliRunner().invoke(attest, [str(each) for each in arguments]).output)
    return shown


def refusals(shown: dict[str, Any]) -> set[str]:
    return {finding["code"] for finding in shown["findings"] if finding["severity"] == "refusal"}


def in_one_form(collateral: IntelCollateral) -> IntelCollateral:
    """Return collateral with chains that end in one line feed, as fetching has them; verification takes several."""
    names = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")
    chains = {name: pem.encode_chain(*pem.decode_chain(getattr(collateral, name), 2)) for name in names}
    return replace(collateral, **chains)


@dataclass(frozen=True)
class Recorded:
    """Recorded answers, a quote of a platform that they are about, and what it is at a time within their dates.

    source: a file of collateral, or a folder and the family of a TCB info.  same: a file that was put together from
    the same answers.  refused: codes of the checks that refuse the quote.
    """

    source: str
    quote: str
    key: str
    at: str
    status: str | None
    same: str = ""
    refused: tuple[str, ...] = ()

    @property
    def answers(self) -> Answers:
        folder, _, family = self.source.partition(":")
        return of_folder(folder, family) if family else of_collateral(folder)


ONES = "tdx/collateral/assembled-"
INTEL = {
    "Intel's answers of March 2026 about the platform of a debugged TD": Recorded(
        "attestation-rs:50806f", "tdx/v4-coco-debug.quote.bin", "tdx-50806f000000-platform",
        "2026-04-01T00:00:00Z", "OutOfDate", f"{ONES}attestation-rs-50806f.json", ("tdx-debug", "tcb-status"),
    ),
    "Intel's answers of March 2026 about a platform that is up to date": Recorded(
        "attestation-rs:90c06f", "tdx/v5-gotdx.quote.bin", "tdx-90c06f000000-platform",
        "2026-04-01T00:00:00Z", "UpToDate", f"{ONES}attestation-rs-90c06f.json",
    ),
    "Intel's answers of June 2023 about the platform of a debugged TD": Recorded(
        "go-tdx-guest:50806f", "tdx/v4-coco-debug.quote.bin", "tdx-50806f000000-platform",
        "2023-07-01T00:00:00Z", "UpToDate", f"{ONES}go-tdx-guest-50806f.json", ("tdx-debug",),
    ),
    "answers of two years, which were never valid together": Recorded(
        "go-tdx-guest:90c06f", "tdx/v5-gotdx.quote.bin", "tdx-90c06f000000-platform",
        "2026-02-03T01:00:00Z", None, "", ("certificate-expired", "crl-expired", "qe-identity-expired"),
    ),
    "the answers in the collateral of an up to date TD": Recorded(
        "tdx/collateral/dcapqvl-b0c06f.json", "tdx/v4-dcapqvl.quote.bin", "tdx-b0c06f000000-platform",
        "1752919234", "UpToDate", "tdx/collateral/dcapqvl-b0c06f.json",
    ),
    "the answers in the collateral of a TD with a quote of version 5": Recorded(
        "tdx/collateral/dcapqvl-90c06f.json", "tdx/v5-gotdx.quote.bin", "tdx-90c06f000000-platform",
        "2026-03-01T00:00:00Z", "UpToDate", "tdx/collateral/dcapqvl-90c06f.json",
    ),
    "the answers in the collateral of an enclave": Recorded(
        "sgx/collateral/dcapqvl-00a067110000.json", "sgx/v3-dcapqvl.quote.bin", "sgx-00a067110000-processor",
        "1752919277", "ConfigurationAndSWHardeningNeeded", "sgx/collateral/dcapqvl-00a067110000.json",
    ),
}  # fmt: skip


def test_no_recorded_answer_of_intels_is_left_out() -> None:
    place = vectors() / "tdx" / "collateral"
    served = {recorded.source for recorded in INTEL.values()}
    infos = {f"{path.parent.name}:{path.stem[-6:]}" for path in place.glob("*/tcb_info_*.json")}
    files = {str(path.relative_to(vectors())) for path in vectors().glob("*/collateral/dcapqvl-*.json")}
    assert served == infos | files


@pytest.mark.parametrize("name", INTEL)
def test_recorded_answers_of_intel_are_fetched_and_verify(service: Service, tmp_path: Path, name: str) -> None:
    recorded = INTEL[name]
    tee, fmspc, ca = recorded.key.split("-")
    recorded.answers.serve(service, tee, fmspc, ca)
    path = vectors() / recorded.quote
    result = run("fetch", "--evidence", path, "--output", tmp_path, "--pccs", service.url, "--json")
    assert result.exit_code == 0, result.output
    (shown,) = json.loads(result.output)["held"]
    assert (shown["verified"], shown["platform"]) == (True, "hardware")
    filed = held.decode((tmp_path / f"{recorded.key}.json").read_bytes())
    assert isinstance(filed, IntelCollateral)
    if recorded.same:
        assert filed == in_one_form(IntelCollateral.from_json((vectors() / recorded.same).read_bytes()))
    judged = verdict(path, tmp_path, recorded.at)
    assert judged["tcb_status"] == recorded.status
    assert refusals(judged) == set(recorded.refused)
    assert len(service.asked) == 4


def test_recorded_answers_are_not_asked_for_twice_while_they_are_valid(service: Service, tmp_path: Path) -> None:
    recorded = INTEL["Intel's answers of March 2026 about a platform that is up to date"]
    recorded.answers.serve(service, *recorded.key.split("-"))
    parsed = parse((vectors() / recorded.quote).read_bytes())
    now = parse_rfc3339(recorded.at)
    key = CollateralKey.parse(recorded.key)
    first, _ = source(service, tmp_path, now=lambda: now).fetch_verified(key, lambda _: None)
    assert collateral_for(parsed, source(service, tmp_path, now=lambda: now)) == first
    assert len(service.asked) == 4
    later = source(service, tmp_path, now=lambda: now + 1, max_age=0)
    assert collateral_for(parsed, later) == first
    assert [bool(headers.get("If-None-Match")) for _, headers in service.asked] == [False] * 4 + [True] * 4


@pytest.mark.parametrize("name", VALID)
def test_recorded_certificates_of_amd_are_fetched_and_verify(service: Service, tmp_path: Path, name: str) -> None:
    vector = VALID[name]
    serve_amd(service, name, vector)
    path = vectors() / "snp" / vector.report
    lent = ["--vlek", vectors() / "snp" / vector.vek] if "vlek" in vector.vek else []
    result = run("fetch", "--evidence", path, "--output", tmp_path, "--kds", service.url, *lent, "--json")
    assert result.exit_code == 0, result.output
    (shown,) = json.loads(result.output)["held"]
    assert (shown["verified"], shown["platform"]) == (True, "hardware")
    filed = collateral_for(parse(path.read_bytes()), DirectorySource(tmp_path))
    assert isinstance(filed, SnpCollateral)
    assert filed == vector.collateral()
    judged = verdict(path, tmp_path, f"{vector.now}T00:00:00Z")
    assert judged["genuine"] is True
    assert judged["tcb_status"] == STATUSES[name]


def test_recorded_certificates_of_another_chip_are_not_filed(service: Service, tmp_path: Path) -> None:
    serve_amd(service, "SNP-4", VALID["SNP-4"])
    wrong = (vectors() / "snp" / VALID["SNP-8"].vek).read_bytes()
    (asked,) = (path for path in service.replies if "?" in path)
    service.replies[asked] = Reply(wrong)
    path = vectors() / "snp" / VALID["SNP-4"].report
    result = run("fetch", "--evidence", path, "--output", tmp_path, "--kds", service.url)
    assert "collateral-misfiled" in str(result.exception)
    assert list(tmp_path.glob("*.json")) == []
