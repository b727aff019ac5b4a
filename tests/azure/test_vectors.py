"""Captured evidence of Azure's confidential VMs gives its catalogued verdicts."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from attestation import evidence
from attestation.amd.collateral import SnpCollateral
from attestation.amd.errors import SnpCode
from attestation.amd.verify import prepare
from attestation.appraise import appraise
from attestation.azure.errors import AzureCode
from attestation.azure.verify import check_vtpm, collateral_key
from attestation.errors import EvidenceCode
from attestation.intel import pem
from attestation.intel.abi import strip_padding
from attestation.policy import load_policy
from attestation.roots import Roots
from attestation.tpm.algorithms import Hash
from attestation.tpm.errors import TpmCode
from attestation.validity import parse_rfc3339
from manifests.errors import ErrorCode
from tests.amd import kit as amd
from tests.attestation.kit import REAL_NOW, refused
from tests.azure import kit
from tests.shared import vectors

BAD: dict[str, ErrorCode] = {
    "AZSNP-D1": SnpCode.VEK_TCB,
    "AZSNP-D2": AzureCode.RUNTIME_DATA,
    "AZSNP-D4": TpmCode.SIGNATURE,
    "AZTDX-D1": AzureCode.RUNTIME_DATA,
    "AZTDX-D3": TpmCode.PCR_DIGEST,
}
GOOD = {"AZSNP-1", "AZSNP-2", "AZSNP-3", "AZSNP-5", "AZSNP-6", "AZTDX-1"}


def rows() -> dict[str, dict[str, Any]]:
    catalogue = json.loads((vectors() / "catalogue.json").read_text(encoding="utf-8"))
    return {row["id"]: row for row in catalogue["rows"] if row["id"].startswith(("AZSNP-", "AZTDX-"))}


def test_no_catalogued_evidence_is_left_out() -> None:
    assert set(rows()) == GOOD | set(BAD)
    files = {path.name for path in (vectors() / "azure-snp").glob("*evidence*.json")}
    assert files == set(kit.CAPTURED)


@pytest.mark.parametrize("name", sorted(kit.CAPTURED))
def test_captured_evidence_over_snp_verifies(name: str) -> None:
    nonce, moment = kit.CAPTURED[name]
    data = kit.captured(name)
    verified = kit.verify_captured(data, moment)
    assert verified.tee == "azure-snp"
    assert verified.report_data == nonce
    assert not verified.simulated
    assert [part.tee for part in verified.parts] == ["azure-snp", "snp", "tpm"]
    assert verified.evidence.serialize() == data
    assert verified.evidence.hcl.serialize() == _hcl(data)


def _hcl(data: bytes) -> bytes:
    value = json.loads(data)
    value = value.get("evidence", value)
    text = value.get("hcl_report", value.get("report"))
    return bytes(text) if isinstance(text, list) else base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("name", sorted(GOOD - {"AZTDX-1"}))
def test_the_catalogued_fields_are_those_that_were_decoded(name: str) -> None:
    row = rows()[name]
    file = row["files"][0].split("/")[1]
    verified = kit.verify_captured(kit.captured(file), kit.CAPTURED[file][1])
    fields, quote = row["fields"], verified.vtpm.quote
    assert fields["evidence_version"] == verified.version
    assert fields["tpm_extraData_nonce"] == quote.report_data.hex()
    assert fields["tpm_qualifiedSigner"] == quote.attest.qualified_signer.hex()
    assert fields["pcrDigest"] == verified.vtpm.measurement.hex()
    assert fields["snp_measurement"] == verified.measurement.hex()
    assert fields["var_data_sha256"] == Hash.SHA256.digest(verified.evidence.hcl.runtime_data).hex()
    assert fields["vm_configuration"] == verified.claims.configuration
    for index in (0, 7, 10, 14):
        value = quote.pcrs.get("sha256", index)
        assert value is not None
        assert fields[f"pcr{index:02}"] == value.hex()


def test_evidence_in_version_2_is_bound_in_the_paravisors_user_data_too() -> None:
    verified = kit.verify_captured(kit.captured("coco-evidence-v2.json"))
    assert verified.claims.user_data == verified.report_data.ljust(64, b"\0")


def test_evidence_in_version_1_that_calls_itself_2_is_refused() -> None:
    """Its user data is zero."""
    with refused(AzureCode.USER_DATA):
        kit.verify_captured(kit.changed(kit.captured("coco-evidence-v1.json"), version=2))


@pytest.mark.parametrize("name", ["coco-evidence-v0.json", "coco-evidence-v1.json"])
def test_captured_evidence_over_tdx_holds_together_and_needs_collateral_that_nobody_has(name: str) -> None:
    """No TCB info of its family was captured, so that its platform's status stays open; we then refuse."""
    parsed = kit.parsed(kit.captured(name, "azure-tdx"))
    claims = check_vtpm(parsed)
    assert parsed.tee == "azure-tdx"
    assert parsed.report_data == b"challenge"
    assert claims.vm_id == "6332533D-5649-4D02-8AA7-8F64B7C3EE21"
    assert parsed.quote.pcrs.to_dict()["sha256"]["0"].startswith("782b20b1")
    assert collateral_key(parsed).family == "00806f050000"
    with refused(EvidenceCode.COLLATERAL_MISSING):
        evidence.verify(parsed, None, Roots.vendor(), parse_rfc3339("2024-06-01T00:00:00Z"))


@pytest.mark.parametrize("name", sorted(BAD))
def test_derived_evidence_is_refused_for_its_reason(name: str) -> None:
    data = (vectors() / rows()[name]["files"][0]).read_bytes()
    with refused(BAD[name]):
        if name.startswith("AZSNP"):
            kit.verify_captured(data, "2024-01-01T00:00:00Z")
        else:
            check_vtpm(kit.parsed(data))


def test_evidence_does_not_verify_without_amds_chain() -> None:
    parsed = kit.parsed(kit.captured("coco-evidence-v1.json"))
    with refused(EvidenceCode.COLLATERAL_MISSING):
        evidence.verify(parsed, None, Roots.vendor(), REAL_NOW)


def test_validated_collateral_serves_the_machine_that_it_is_of_and_no_other() -> None:
    first, other = (kit.parsed(kit.captured(f"coco-evidence-v{version}.json")) for version in (1, 2))
    collateral = SnpCollateral(vek=first.vcek or b"", chain=kit.milan().chain, crl=b"")
    prepared = prepare(collateral, Roots.vendor(), REAL_NOW)
    assert evidence.verify(first, prepared, Roots.vendor(), REAL_NOW).report_data == b"challenge"
    with refused(AzureCode.VCEK):
        evidence.verify(other, prepared, Roots.vendor(), REAL_NOW)


def test_a_policy_names_processor_vtpm_and_vm() -> None:
    verified = kit.verify_captured(kit.captured("coco-evidence-v1.json"))
    pcr0 = verified.vtpm.quote.pcrs.get("sha256", 0)
    assert pcr0 is not None
    shown = verified.inner.evidence.to_dict()
    policy = load_policy(
        {
            "version": 1,
            "evidence": {"tcb_status": ["UpToDate"]},
            "azure-snp": {"console": True, "vm_ids": ["26f8bc30-774e-4290-8e7a-535f3b672aee"]},
            "snp": {
                "measurement": [verified.measurement.hex()],
                "reported_tcb_min": {"milan": {"snp": 24}},
                "dangerous_crl_absent": True,
                "policy_allowed": ["SMT"],
                **{name: [shown[name]] for name in ("id_key_digest", "family_id", "image_id")},
            },
            "tpm": {"pcrs": {"sha256": {"pcr0": [pcr0.hex()]}}},
        }
    )
    failed = appraise(verified, policy, REAL_NOW).failed
    assert [str(finding.code) for finding in failed] == []


# ------------------------------------------------------------------------------------------------ evidence in parts


def assembled(tee: str, name: str, **endorsement: bytes) -> bytes:
    """Evidence of version 1, put together from files as a guest reads them: paravisor's report, quote, endorsement."""
    folder = vectors() / tee
    value: dict[str, Any] = {
        "version": 1,
        "tpm_quote": json.loads((folder / f"{name}.tpm-quote-v1.json").read_text(encoding="utf-8")),
        "hcl_report": _base64url((folder / f"{name}.hcl-report.bin").read_bytes()),
    }
    return json.dumps(value | {key: _base64url(item) for key, item in endorsement.items()}).encode()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def test_captured_parts_over_snp_make_evidence_that_verifies() -> None:
    """Azure's metadata service gives the VCEK with its chain, which must be AMD's own."""
    vcek, *chain = amd.certificates("../azure-snp/parts-v2-milan.vcek.pem")
    assert pem.encode_chain(*chain) == kit.milan().chain
    verified = kit.verify_captured(assembled("azure-snp", "parts-v2-milan", vcek=vcek), "2024-01-01T00:00:00Z")
    assert (verified.report_data, verified.tcb_status) == (b"challenge", "UpToDate")
    other = kit.parsed(kit.captured("coco-evidence-v1.json")).vcek
    assert other is not None
    with refused(SnpCode.VEK_CHIP):
        kit.verify_captured(assembled("azure-snp", "parts-v2-milan", vcek=other))


def test_captured_parts_over_tdx_hold_together() -> None:
    quote = (vectors() / "tdx" / "v4-azure-coco.quote.bin").read_bytes()
    found = kit.parsed(assembled("azure-tdx", "parts-coco", td_quote=quote))
    assert found.report_data == b"challenge"
    assert check_vtpm(found).configuration["secure-boot"] is True
    stranger = (vectors() / "tdx" / "v4-dcapqvl.quote.bin").read_bytes()
    with refused(AzureCode.RUNTIME_DATA):
        check_vtpm(kit.parsed(assembled("azure-tdx", "parts-coco", td_quote=strip_padding(stranger)[0])))
