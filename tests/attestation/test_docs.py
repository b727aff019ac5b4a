"""The pages list every code and every field."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from attestation import genuine
from attestation.azure.errors import AzureCode, AzureFinding
from attestation.cli import attest
from attestation.collateral.cli import collateral
from attestation.errors import EvidenceCode, FindingCode
from attestation.eventlog.errors import EventLogCode
from attestation.intel.errors import TdxCode, TdxFinding
from attestation.policy import EvidencePolicy, ReleasePolicy, ServicePolicy, SgxPolicy, TdxPolicy
from attestation.policy.azure import AzurePolicy
from attestation.policy.nitro import NitroPolicy
from attestation.policy.nvidia import NvidiaPolicy
from attestation.policy.schema import dangers
from attestation.policy.tpm import TpmPolicy
from attestation.ratls.errors import RatlsCode
from attestation.tpm.errors import TpmCode, TpmFinding
from attestation.whatif_fields import NOT_PROPOSED

DOCS = Path(__file__).resolve().parents[2] / "docs"

ELSEWHERE = {
    # Explained where they are raised: reading files, and the simulator's own commands.
    EvidenceCode.CBOR_MALFORMED,
    EvidenceCode.COSE_MALFORMED,
    EvidenceCode.COLLATERAL_MALFORMED,
    EvidenceCode.COLLATERAL_KEY,
    EvidenceCode.COLLATERAL_ROOTS,
    EvidenceCode.APPRAISAL_REFUSED,
    EvidenceCode.SIMULATOR_STATE,
    EvidenceCode.SIMULATOR_LAUNCH,
}


@pytest.mark.parametrize("code", [*FindingCode, *(code for code in EvidenceCode if code not in ELSEWHERE)])
def test_every_code_of_verification_and_appraisal_is_explained(code: str) -> None:
    assert f"`{code}`" in (DOCS / "attestation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", [*TdxCode, *TdxFinding])
def test_every_code_of_trust_domains_is_explained(code: str) -> None:
    assert f"`{code}`" in (DOCS / "attestation-tdx.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", [*TpmCode, *EventLogCode, *TpmFinding])
def test_every_code_of_tpms_and_event_logs_is_explained(code: str) -> None:
    assert f"`{code}`" in (DOCS / "attestation-tpm.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", [*AzureCode, *AzureFinding])
def test_every_code_of_azures_evidence_is_explained(code: str) -> None:
    assert f"`{code}`" in (DOCS / "attestation-azure.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", list(RatlsCode))
def test_every_code_of_ra_tls_certificates_is_explained(code: str) -> None:
    assert f"`{code}`" in (DOCS / "attestation-ratls.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "table",
    [
        EvidencePolicy,
        SgxPolicy,
        TdxPolicy,
        NitroPolicy,
        NvidiaPolicy,
        ServicePolicy,
        ReleasePolicy,
        TpmPolicy,
        AzurePolicy,
    ],
)
def test_every_field_of_a_policy_is_explained(table: type) -> None:
    page = (DOCS / "policy.md").read_text(encoding="utf-8")
    assert [item.name for item in dataclasses.fields(table) if f"| `{item.name}` |" not in page] == []


PAGES = {
    "attest-verify.md": [attest.commands[name] for name in ("verify", "explain", "show")],
    "ear.md": [attest.commands[name] for name in ("verify-token", "verifier-key")],
    "collateral.md": [collateral.commands[name] for name in ("fetch", "import", "status", "bundle")],
}


@pytest.mark.parametrize("page", PAGES)
def test_every_option_of_a_command_is_on_its_page(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    options = {max(item.opts, key=len) for command in PAGES[page] for item in command.params}
    missing = {option for option in options if option.startswith("--") and not re.search(rf"{option}(?![a-z-])", text)}
    assert missing == set()


def test_the_checks_that_no_change_is_proposed_for_are_listed() -> None:
    page = (DOCS / "attest-verify.md").read_text(encoding="utf-8")
    listed = page.split("There is a change for every check")[1].split("`attestation.whatif_fields")[0]
    assert set(re.findall(r"`([a-z0-9-]+)`", listed)) == set(map(str, NOT_PROPOSED))


def test_what_passes_with_a_warning_without_a_policy_is_listed() -> None:
    page = (DOCS / "attest-verify.md").read_text(encoding="utf-8")
    listed = " ".join(page.split("Permitted with a warning:")[1].split("\n- Open:")[0].split())
    words = {
        "provisional_firmware": "not committed",
        "dangerous_crl_absent": "without a revocation list",
        "vmpl_max": "VMPL above 0",
        "unsafe_clock": "clock that is not safe",
        "fwid_absent": "`fwid_absent`",
        "insecure_boot": "no secure boot",
        "console": "a console",
    }
    permitted = {
        danger.split(" ")[0] for table in genuine.TABLES.values() for danger in dangers(type(table), vars(table))
    }
    assert permitted == words.keys()
    assert all(word in listed for word in words.values())
