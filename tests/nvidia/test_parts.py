"""Evidence of several parts: each finding names its own, and devices are shown in full wherever they stand."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from attestation.cli import attest
from attestation.explain import explanation
from attestation.loose import LooseFiles, open_collateral
from attestation.nvidia.container import NvidiaEvidence
from attestation.nvidia.errors import NvidiaCode, NvidiaFinding
from attestation.nvidia.rim import parse_rim
from attestation.report import Report, examine
from attestation.roots import Roots
from attestation.sim.nvidia import Device
from tests.attestation import kit as sgx
from tests.nvidia import kit
from tests.nvidia.test_beside import examined
from tests.nvidia.test_composite import claims_for, gpus
from tests.shared import vectors

JUNE_2026 = 1_780_272_000
NVIDIA = vectors() / "nvidia"
FOUR = NVIDIA / "hopper-590-multi4.json"
SWITCH_RIM = NVIDIA / "rims/NV_SWITCH_BIOS_5612_0002_890_9610550001.xml"
HOPPER_RIM = NVIDIA / "rims/NV_GPU_DRIVER_GH100_550.144.03.xml"


def files(*paths: Path) -> LooseFiles:
    return open_collateral(paths, Roots.vendor())


def switch(*rims: Path) -> Report:
    """The captured switch as NVIDIA's SDK writes it, with manifests beside it."""
    report = bytes.fromhex((NVIDIA / "switch-ls10.report.hex").read_text(encoding="ascii"))
    chain = (NVIDIA / "switch-ls10.chain.pem").read_bytes()
    device = {"evidence": base64.b64encode(report).decode(), "certificate": base64.b64encode(chain).decode()}
    return examine(json.dumps([device]).encode(), now=JUNE_2026, collateral=files(*rims) if rims else None)


def test_each_finding_says_which_of_four_devices_it_is_about() -> None:
    report = examine(FOUR.read_bytes(), now=JUNE_2026)
    labels = Counter(finding.part for finding in report.findings if finding.part is not None)
    assert len(labels) == 4
    assert len(set(labels.values())) == 1
    assert report.verified is not None
    assert [part.label for part in report.verified.parts] == list(labels)
    assert all(label.startswith("GPU ") for label in labels)
    assert [finding.code for finding in report.findings if finding.part is None] == ["platform-bare"]
    shown = report.to_dict()
    assert {item["part"] for item in shown["findings"]} == {None, *labels}
    assert [f"GPU {device['device_serial']}" for device in shown["devices"]] == list(labels)
    text = explanation(report).text()
    table = CliRunner().invoke(attest, ["verify", "--evidence", str(FOUR), "--at", str(JUNE_2026)]).output
    for label in labels:
        assert f"nvidia-mode of {label}" in " ".join(text.split())
        assert label in table
    assert table.count("\nnvidia-mode: ") == 1, "one remedy is told once"


def test_each_finding_of_azures_evidence_names_its_part() -> None:
    data = (vectors() / "azure-snp/coco-evidence-v2.json").read_bytes()
    chain = files(vectors() / "snp/certs/milan_ask_ark_asvk.pem")
    report = examine(data, now=1_748_736_000, collateral=chain)
    assert {finding.part for finding in report.findings} == {None, "azure-snp", "snp", "tpm"}
    assert [each.part for each in report.findings if each.code == "platform-root"] == ["azure-snp", "snp", "tpm"]


def test_evidence_of_one_part_names_none() -> None:
    report = examine(sgx.sim_quote(), now=sgx.NOW, collateral=sgx.platform().collateral(sgx.NOW), roots=sgx.sim_roots())
    assert {finding.part for finding in report.findings} == {None}


def test_devices_beside_a_quote_are_shown_in_full() -> None:
    report = examined(claims_for(gpus()), gpus())
    assert report.accepted
    shown = report.to_dict()
    assert report.devices is not None
    assert [device["device_serial"] for device in shown["devices"]] == [
        part.platform_ids["device_serial"] for part in report.devices.parts
    ]
    for device, part in zip(shown["devices"], report.devices.parts, strict=True):
        assert device["quote"] == part.evidence.to_dict()
        assert device["product"]
    assert {each.part for each in report.findings if str(each.code).startswith("nvidia-")} == {
        part.label for part in report.devices.parts
    }
    words = " ".join(explanation(report).text().split())
    for part in report.devices.parts:
        assert f"device_serial {part.platform_ids['device_serial']}" in words


def test_what_has_no_date_of_issue_and_no_end_says_so() -> None:
    report = examine(FOUR.read_bytes(), now=JUNE_2026)
    collateral = report.to_dict()["collateral"]
    assert (collateral["key"], collateral["issued"], collateral["expires"]) == (None, None, None)
    assert {each["until_before"] for each in collateral["documents"]} == {None}
    words = " ".join(explanation(report).text().split())
    assert "What the vendor says has no date of issue and does not expire." in words
    assert "253402300800" not in words + json.dumps(report.to_dict()["findings"])
    dated = switch(SWITCH_RIM).to_dict()["collateral"]
    assert (dated["issued"], dated["expires"]) == (None, "2027-11-03T00:00:00Z")


def test_a_single_device_shows_its_id_and_several_show_theirs_each() -> None:
    assert switch().to_dict()["platform_ids"]["device_serial"] == "50203eb31ad9ed0008"
    assert examine(FOUR.read_bytes(), now=JUNE_2026).to_dict()["platform_ids"] == {}


def test_a_manifest_beside_the_sdks_evidence_is_used() -> None:
    assert not switch().accepted
    with_manifest = switch(SWITCH_RIM)
    assert with_manifest.accepted
    assert "nvidia-measurements" in {str(each.code) for each in with_manifest.findings if each.passed}
    again = files(SWITCH_RIM).with_manifests(with_manifest.evidence.serialize() if with_manifest.evidence else b"")
    assert again == (with_manifest.evidence.serialize() if with_manifest.evidence else None), "once is enough"


def test_a_manifest_for_no_device_is_refused_and_never_ignored() -> None:
    report = switch(SWITCH_RIM, HOPPER_RIM)
    assert [each.code for each in report.refused] == [NvidiaCode.RIM_UNUSED]
    (finding,) = report.refused
    assert finding.expected == "LS10 VBIOS 96.10.55.00.01"


def test_a_manifest_for_no_device_is_passed_over_in_a_folder_but_not_where_it_is_named(tmp_path: Path) -> None:
    for path in (SWITCH_RIM, HOPPER_RIM):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    report = switch(tmp_path)
    assert report.accepted
    assert isinstance(report.evidence, NvidiaEvidence)
    assert [rim.raw for rim in report.evidence.rims] == [SWITCH_RIM.read_bytes()]
    assert [each.code for each in switch(tmp_path, HOPPER_RIM).refused] == [NvidiaCode.RIM_UNUSED]
    assert switch(tmp_path, SWITCH_RIM).accepted, "once is enough"


def test_a_bare_report_takes_its_manifests_out_of_a_folder() -> None:
    data = (NVIDIA / "switch-ls10.report.hex").read_bytes()
    report = examine(data, now=JUNE_2026, collateral=files(NVIDIA / "switch-ls10.chain.pem", SWITCH_RIM.parent))
    assert report.accepted
    assert isinstance(report.evidence, NvidiaEvidence)
    assert [rim.raw for rim in report.evidence.rims] == [SWITCH_RIM.read_bytes()]


def test_a_folder_of_manifests_refuses_no_genuine_devices_for_what_is_of_others() -> None:
    report = examine(FOUR.read_bytes(), now=JUNE_2026, collateral=files(SWITCH_RIM.parent))
    assert report.genuine
    assert NvidiaCode.RIM_UNUSED not in {each.code for each in report.refused}


def test_a_manifest_of_a_folder_that_does_not_parse_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "torn.xml").write_bytes(SWITCH_RIM.read_bytes()[:1000])
    assert [each.code for each in switch(tmp_path).refused] == [NvidiaCode.RIM_MALFORMED]


PAGE = b"<!DOCTYPE html>\n<html><body>Sign in to continue</body></html>\n"
STRAY: dict[str, bytes] = {
    "a page that a proxy answered with": PAGE,
    "some other XML": b'<?xml version="1.0"?>\n<feed/>\n',
    "the same manifest with one more line feed": SWITCH_RIM.read_bytes() + b"\n",
    "the same manifest with the line ends of Windows": SWITCH_RIM.read_bytes().replace(b"\n", b"\r\n"),
    "the same manifest, torn": SWITCH_RIM.read_bytes()[:1000],
    "the same manifest, edited": re.sub(rb'Hash0="[0-9a-f]{2}', b'Hash0="00', SWITCH_RIM.read_bytes(), count=1),
    "what a process left behind": b"\x7fELF" + bytes(2 * 1024 * 1024),
}


@pytest.mark.parametrize("name", ["0_stray.xml", "z_stray.xml"])
@pytest.mark.parametrize("content", STRAY.values(), ids=STRAY)
def test_a_stray_file_in_a_folder_spoils_no_good_evidence(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / SWITCH_RIM.name).write_bytes(SWITCH_RIM.read_bytes())
    (tmp_path / name).write_bytes(content)
    report = switch(tmp_path)
    assert report.accepted, report.refused
    assert isinstance(report.evidence, NvidiaEvidence)
    (rim,) = report.evidence.rims
    assert rim.raw.rstrip() == SWITCH_RIM.read_bytes().rstrip()


def test_a_torn_manifest_in_a_folder_spoils_no_evidence_that_carries_its_own(tmp_path: Path) -> None:
    carried = switch(SWITCH_RIM).evidence
    assert isinstance(carried, NvidiaEvidence)
    (tmp_path / "torn.xml").write_bytes(SWITCH_RIM.read_bytes()[:1000])
    assert examine(carried.serialize(), now=JUNE_2026, collateral=files(tmp_path)).accepted


def test_what_is_passed_over_in_a_folder_is_said(tmp_path: Path) -> None:
    for name in ("a\x1b[2J.html", "core", "page.xml"):
        (tmp_path / name).write_bytes(PAGE)
    (tmp_path / SWITCH_RIM.name).write_bytes(SWITCH_RIM.read_bytes())
    report = switch(tmp_path)
    assert [Path(name).name for name in report.passed_over] == ["a\x1b[2J.html", "core", "page.xml"]
    assert report.to_dict()["collateral"]["passed_over"] == list(report.passed_over)
    words = ["verify", "--evidence", str(NVIDIA / "switch-ls10.report.hex"), "--collateral", str(tmp_path)]
    shown = CliRunner().invoke(attest, words).output
    (line,) = (line for line in shown.splitlines() if line.startswith("passed over"))
    assert line.isprintable()
    assert all(name in line for name in ("\\x1b[2J.html", "core", "page.xml"))
    assert switch(SWITCH_RIM).passed_over == ()


def test_amds_chain_beside_that_of_a_device_is_none_of_it(tmp_path: Path) -> None:
    data = (NVIDIA / "switch-ls10.report.hex").read_bytes()
    for path in (NVIDIA / "switch-ls10.chain.pem", SWITCH_RIM, vectors() / "snp/certs/milan_ask_ark_asvk.pem"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "again.pem").write_bytes((NVIDIA / "switch-ls10.chain.pem").read_bytes())
    assert examine(data, now=JUNE_2026, collateral=files(tmp_path)).accepted
    (tmp_path / "switch-ls10.chain.pem").unlink()
    (tmp_path / "again.pem").unlink()
    (tmp_path / "other.pem").write_bytes((vectors() / "snp/certs/genoa_ask_ark_asvk.pem").read_bytes())
    report = examine(data, now=JUNE_2026, collateral=files(tmp_path))
    assert [str(each.code) for each in report.refused] == ["collateral-missing"]
    assert report.refused[0].found == "2 such files"


def test_two_genuine_manifests_for_the_same_that_differ_are_refused() -> None:
    bare = kit.simulated(Device(), manifests=())
    driver, vbios = kit.rims(Device())
    other = kit.platform().rim(Device(), driver=True, active=(0, 1))
    assert parse_rim(other).version == parse_rim(driver).version
    contents = (driver, vbios, other)
    source = LooseFiles(contents, (), kit.sim_roots(), offered=frozenset(contents))
    report = examine(bare, now=kit.NOW, collateral=source, policy=kit.policy())
    assert [each.code for each in report.refused] == [NvidiaCode.RIM_TWICE]


def test_manifests_beside_a_quote_and_devices_leave_what_the_claims_name_alone(tmp_path: Path) -> None:
    bare = kit.simulated(Device(), manifests=())
    for index, rim in enumerate(kit.rims(Device())):
        (tmp_path / f"{index}.xml").write_bytes(rim)
    subject = sgx.platform()
    (tmp_path / f"{subject.collateral_key}.json").write_text(subject.collateral(sgx.NOW).to_json(), encoding="utf-8")
    options: dict[str, Any] = {"policy": None}
    without = examined(claims_for(bare), bare, **options)
    given = examined(claims_for(bare), bare, collateral=files(tmp_path), **options)
    assert NvidiaFinding.MEASUREMENTS in {each.code for each in without.refused}
    assert not {each.code for each in given.refused} & set(NvidiaFinding)
    assert "session-devices" in {str(each.code) for each in given.findings if each.passed}
    assert given.gpu == bare


@pytest.mark.parametrize("container", [b"", b"not a container", b"\x84\xa6format\xbastrongroom nvidia evidence"])
def test_what_is_no_container_is_left_for_its_parser_to_refuse(container: bytes) -> None:
    assert files(SWITCH_RIM).with_manifests(container) == container


def test_missing_manifests_are_told_from_wrong_measurements() -> None:
    (finding,) = (each for each in switch().refused if each.code is NvidiaFinding.MEASUREMENTS)
    assert finding.expected == "reference values of a manifest, or a record that the policy names"
    assert "nothing was compared" in finding.found
    assert "--collateral" in str(finding.remedy)
    assert "do not use" not in str(finding.remedy)
    (rim,) = (each for each in switch().refused if each.code is NvidiaFinding.VBIOS_RIM)
    assert "--collateral" in str(rim.remedy)
