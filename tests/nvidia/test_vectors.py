"""Catalogued reports and manifests of real devices give their verdict."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from attestation.appraise import appraise
from attestation.ear.check import open_token
from attestation.ear.errors import EarError
from attestation.errors import EvidenceCode, FindingCode
from attestation.evidence import Roots
from attestation.nvidia.errors import NvidiaCode, NvidiaFinding
from attestation.nvidia.rim import parse_rim
from attestation.nvidia.sdk_json import from_sdk_json
from attestation.roots import NVIDIA_DEVICE_ROOT, NVIDIA_RIM_ROOT, Hierarchy
from manifests.errors import ErrorCode
from manifests.signing import Signer
from tests.attestation.kit import NOW, refused
from tests.nvidia import kit

GPUS = {"NV-1": "hopper-580", "NV-2": "hopper-535", "NV-4": "blackwell-575", "NV-8": "hopper-550-coco"}

REFUSED: dict[str, tuple[str, str, ErrorCode]] = {
    # report, chain, code
    "NV-B1": ("bad/hopper-invalid-signature", "bad/hopper-invalid-signature.chain.pem", NvidiaCode.SIGNATURE),
    "NV-B3": ("hopper-550-coco", "bad/hopper-550-chain-case2.pem", EvidenceCode.CHAIN_LENGTH),
    "NV-B4": ("hopper-550-coco", "bad/hopper-550-chain-case3.pem", EvidenceCode.CHAIN_SIGNATURE),
    "NV-D1": ("derived-bad/hopper-550-coco-meas", "hopper-550-coco.chain.pem", NvidiaCode.SIGNATURE),
    "NV-D3": ("derived-bad/hopper-550-coco-trunc", "hopper-550-coco.chain.pem", NvidiaCode.REPORT_TRUNCATED),
}

RIMS: dict[str, tuple[str, ErrorCode | None]] = {
    "NV-R1": ("rims/NV_GPU_DRIVER_GH100_550.144.03.xml", None),
    "NV-R2": (kit.SWITCH_RIM, None),
    "NV-B6": ("bad/rim-driver-incorrect-signature.xml", NvidiaCode.RIM_SIGNATURE),
    "NV-B8": ("bad/rim-driver-535.86.09-mismatch.xml", NvidiaCode.RIM_DIGEST),
    "NV-B10": ("bad/rim-vbios-96005E0001-mismatch.xml", None),
    "NV-B11": ("bad/rim-switch-invalid-signature.xml", NvidiaCode.RIM_DIGEST),
    "NV-B12": ("bad/rim-switch-mismatch.xml", NvidiaCode.RIM_DIGEST),
}


def fields(name: str) -> dict[str, Any]:
    return next(row["fields"] for row in kit.rows() if row["id"] == name)


def test_no_catalogued_evidence_is_forgotten() -> None:
    assert {row["id"] for row in kit.rows()} == {*GPUS, *REFUSED, *RIMS, "NV-5", "NV-10"}


# --------------------------------------------------------------------------------------------------- reports


@pytest.mark.parametrize("name", GPUS)
def test_a_captured_report_verifies_and_decodes_to_its_catalogued_fields(name: str) -> None:
    data = kit.captured(GPUS[name])
    verified = kit.verify_real(data)
    (device,) = verified.devices
    report, wanted = device.device.report, fields(name)
    assert not verified.simulated
    assert verified.root == NVIDIA_DEVICE_ROOT
    assert kit.parsed(data).serialize() == data
    assert report.nonce.hex() == wanted["nonce"] == verified.report_data.hex()
    assert report.response_nonce.hex() == wanted["resp_nonce"]
    assert len(report.measurements) == wanted["n_meas"]
    assert device.measurement.hex() == wanted["meas_record_sha384"]
    assert report.measurements[10].hex() == wanted["meas10"]
    assert report.opaque.driver_version == wanted["driver"]
    assert report.opaque.to_dict()["VBIOS_VERSION"] == wanted["vbios_raw"]
    assert (report.opaque.fwid or b"").hex() == wanted.get("fwid_opaque", "")
    assert device.firmware is not None
    assert device.firmware.fwid.hex() == wanted["fwid_cert"]
    svn = 1 if device.product.name == "GB100" else None  # DiceTcbInfo [3] of the captured leaf
    assert device.firmware.svn == device.details()["fwid_svn"] == svn
    ids = device.platform_ids
    assert ids.keys() == {"device_product", "device_serial", "device_key", "fwid"}
    assert ids["device_serial"] == wanted["device_serial"]
    assert f"{device.chain.leaf.x509.serial_number:x}" == wanted["leaf_serial"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_catalogued_bad_report_or_chain_is_refused(name: str) -> None:
    report, chain, code = REFUSED[name]
    with refused(code):
        kit.verify_real(kit.captured(report, chain=chain))


def test_four_captured_gpus_answer_to_one_nonce() -> None:
    container = from_sdk_json(kit.file("hopper-590-multi4.json").decode("ascii"))
    verified = kit.verify_real(container)
    assert len(verified.parts) == 4
    assert verified.report_data.hex() == fields("NV-5")["nonce"]
    serials = [f"{device.chain.leaf.x509.serial_number:x}" for device in verified.devices]
    assert serials == fields("NV-5")["all_leaf_serials"]
    assert len({device.serial for device in verified.devices}) == 4


def test_what_the_vendors_service_said_of_a_report_is_what_we_say() -> None:
    """NVIDIA's remote attestation service has judged the same GPU and the same switch."""
    claims = json.loads(kit.file("hopper-550-coco.claims.json"))
    (gpu,) = kit.verify_real(kit.captured("hopper-550-coco")).devices
    report = gpu.device.report
    assert {str(index): digest.hex() for index, digest in report.measurements.items()} == claims["measurements"]
    assert report.opaque.driver_version == claims["config"]["driver_version"]
    assert report.opaque.vbios_version.lower() == claims["config"]["vbios_version"]
    assert str(gpu.chain.leaf.x509.serial_number) == "478176379286082186618948445787393647364802107249"
    assert gpu.chain.certificates[-2].common_name == "GH100 A01 GSP BROM"


TOKENS = {
    "nras-prod-hopper-550": ("hopper-550-coco", "gpu", "GPU-0"),
    "nras-stg-switch": ("switch-ls10", "switch", "SWITCH-0"),
}
"""NVIDIA's tokens about captured reports: the report, and what its claims are called after."""


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return decoded


@pytest.mark.parametrize("name", TOKENS)
def test_the_vendors_tokens_claim_what_we_decode(name: str) -> None:
    report, kind, submodule = TOKENS[name]
    (_, overall), details = json.loads(kit.file(f"tokens/{name}.eat.json"))
    claims = claims_of(details[submodule])
    verified = kit.verify_real(kit.captured(report))
    (device,) = verified.devices
    opaque = device.device.report.opaque
    assert claims["ueid"] == str(device.chain.leaf.x509.serial_number)
    assert claims["eat_nonce"] == claims_of(overall)["eat_nonce"] == verified.report_data.hex()
    assert claims["hwmodel"] == device.chain.certificates[-2].common_name
    version = claims.get(f"x-nvidia-{kind}-vbios-version") or claims[f"x-nvidia-{kind}-bios-version"]
    assert version.lower() == opaque.vbios_version.lower()
    assert claims.get("x-nvidia-gpu-driver-version", opaque.driver_version) == opaque.driver_version
    assert claims["measres"] == "success"


def test_no_token_of_another_verifier_passes_for_one_of_ours() -> None:
    """One of them has the algorithm "none", and so no signature that anyone could check."""
    keys = [Signer.from_seed(bytes(32)).public]
    tokens = [token for name in TOKENS for token in json.loads(kit.file(f"tokens/{name}.eat.json"))[1].values()]
    unsigned = texts_of(json.loads(kit.file("tokens/nvat-local-h100-algnone.json")))
    tokens += [text for text in unsigned if text.startswith("ey") and text.endswith(".")]
    assert len(tokens) == len(TOKENS) + 2
    for token in tokens:
        with pytest.raises(EarError):
            open_token(token, keys, NOW)


def texts_of(value: Any) -> list[str]:
    """Every text at any depth of a JSON value."""
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return [text for item in items for text in texts_of(item)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize(
    ("name", "mode", "extra"),
    [
        ("hopper-580", "SPT", []),
        ("hopper-550-coco", "SPT", []),
        ("hopper-535", "unreported", [NvidiaFinding.MODE, NvidiaFinding.FWID]),
        ("blackwell-575", "unreported", [NvidiaFinding.MODE, NvidiaFinding.FLAGS]),
    ],
)
def test_a_report_without_manifests_is_refused_unless_its_whole_record_is_named(
    name: str, mode: str, extra: list[ErrorCode]
) -> None:
    verified = kit.verify_real(kit.captured(name))
    opaque = verified.devices[0].device.report.opaque
    versions: dict[str, Any] = {
        "products": ["GB100", "GH100"],
        "driver_versions": [opaque.driver_version],
        "vbios_versions": [opaque.vbios_version],
    }
    missing = [NvidiaFinding.DRIVER_RIM, NvidiaFinding.VBIOS_RIM, NvidiaFinding.MEASUREMENTS]
    assert kit.failed(verified, **versions) == [*extra, *missing]
    record = {"measurements": [verified.measurement.hex()]}
    assert kit.failed(verified, **versions, **record) == extra
    named = {"modes": [mode], "fwid_absent": True, "flags_allowed": ["notConfigured"]}
    assert kit.failed(verified, **versions, **record, **named) == []


def test_protected_pcie_is_accepted_only_by_name() -> None:
    verified = kit.verify_real(from_sdk_json(kit.file("hopper-590-multi4.json").decode("ascii")))
    records = {"measurements": [device.measurement.hex() for device in verified.devices]}
    versions = {"driver_versions": ["590.12"], "vbios_versions": ["96.00.A5.00.01"]}
    assert set(kit.failed(verified, **versions, **records)) == {NvidiaFinding.MODE}
    assert kit.failed(verified, **versions, **records, modes=["PPCIE"]) == []


# ------------------------------------------------------------------------------------------------- manifests


@pytest.mark.parametrize("name", RIMS)
def test_a_catalogued_manifest_has_its_verdict(name: str) -> None:
    file, code = RIMS[name]
    rim = parse_rim(kit.file(file))
    assert (rim.product, rim.version) == (fields(name)["product"], fields(name)["version"])
    assert rim.tag_id.hex() == fields(name)["tagId"]
    if code is None:
        assert rim.verify(Roots.vendor()).anchor.fingerprint == NVIDIA_RIM_ROOT
    else:
        with refused(code):
            rim.verify(Roots.vendor())


def test_a_manifest_under_another_root_is_refused() -> None:
    rim = parse_rim(kit.file(RIMS["NV-R1"][0]))
    other = Roots.dangerous_replacement(kit.file("bad/incorrect_rim_root.crt"), Hierarchy.NVIDIA_RIM)
    with refused(EvidenceCode.CHAIN_ROOT):
        rim.verify(other)


def test_a_manifest_for_another_version_is_not_taken() -> None:
    """Stricter than NVIDIA's verifier, which does not see what it did not ask for: every byte must matter."""
    with refused(NvidiaCode.RIM_UNUSED):
        kit.verify_real(kit.captured("hopper-550-coco", RIMS["NV-R1"][0]))


def switch(*rims: str) -> bytes:
    return kit.captured("switch-ls10", *(rims or (kit.SWITCH_RIM,)))


SWITCH_POLICY: dict[str, Any] = {
    "products": ["LS10"],
    "driver_versions": None,
    "vbios_versions": ["96.10.55.00.01"],
    "fwid_absent": True,
}


def test_the_captured_switch_has_31_of_31_reference_values() -> None:
    verified = kit.verify_real(switch(), kit.SWITCH_NOW)
    (device,) = verified.devices
    assert [len(rim.golden) for rim in device.rims] == [31]
    assert device.mismatches == ()
    assert device.measurement.hex() == fields("NV-10")["meas_record_sha384"]
    appraisal = appraise(verified, kit.policy(simulation=False, **SWITCH_POLICY), kit.SWITCH_NOW)
    assert appraisal.accepted
    assert [finding.code for finding in appraisal.warnings] == [NvidiaFinding.FWID]
    assert [finding.code for finding in appraisal.findings if "-rim" in finding.code] == [
        NvidiaFinding.VBIOS_RIM,
        NvidiaFinding.RIM_TAG,
        NvidiaFinding.RIM_CONFLICT,
    ]


@pytest.mark.parametrize(
    ("rim", "code"),
    [
        ("bad/rim-switch-mismatch.xml", NvidiaCode.RIM_DIGEST),
        ("bad/rim-switch-invalid-signature.xml", NvidiaCode.RIM_DIGEST),
    ],
)
def test_the_captured_switch_is_refused_with_a_bad_manifest(rim: str, code: ErrorCode) -> None:
    with refused(code):
        kit.verify_real(switch(rim), kit.SWITCH_NOW)


def test_the_signers_dates_bound_the_switchs_verdict() -> None:
    expires = kit.verify_real(switch(), kit.SWITCH_NOW).expires
    assert expires == 1_825_200_000  # 2027-11-02T23:59:59Z is the last second of the L3 authority
    kit.verify_real(switch(), expires - 1)
    with refused(EvidenceCode.CERTIFICATE_EXPIRED):
        kit.verify_real(switch(), expires)
    with refused(EvidenceCode.CERTIFICATE_EARLY):
        kit.verify_real(switch(), kit.NOW)


def test_an_authentic_manifest_of_other_measurements_fails_at_the_one_that_differs() -> None:
    """NV-B10 with NV-2: 11 of 12 reference values are there."""
    verified = kit.verify_real(kit.captured("hopper-535", "bad/rim-vbios-96005E0001-mismatch.xml"))
    (device,) = verified.devices
    assert [len(rim.golden) for rim in device.rims] == [12]
    assert device.mismatches == (9,)
    failing = kit.failed(
        verified,
        driver_versions=["535.86.09"],
        vbios_versions=["96.00.5E.00.01"],
        modes=["unreported"],
        fwid_absent=True,
        measurements=[device.measurement.hex()],
    )
    assert failing == [NvidiaFinding.MEASUREMENTS]


def test_another_nonce_than_the_expected_is_refused() -> None:
    verified = kit.verify_real(switch(), kit.SWITCH_NOW)
    policy = kit.policy(simulation=False, **SWITCH_POLICY)
    appraisal = appraise(verified, policy, kit.SWITCH_NOW, report_data=bytes(64))
    assert [finding.code for finding in appraisal.failed] == [FindingCode.REPORT_DATA]
