"""Azure's wrapping around a simulated SEV-SNP processor, whose certificate travels with the evidence."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from attestation import evidence
from attestation.amd.abi import SigningKey
from attestation.amd.errors import SnpCode
from attestation.appraise import appraise
from attestation.azure.errors import AzureCode
from attestation.azure.hcl import ReportType
from attestation.azure.verified import AzureVerified
from attestation.errors import EvidenceCode, FindingCode
from attestation.loose import open_collateral
from attestation.policy import Policy, load_policy
from attestation.report import Report, examine
from attestation.roots import Roots
from attestation.sim.azure import BOOTED, SimulatedAzure
from attestation.sim.snp import SimulatedSnp
from tests.amd import kit as amd
from tests.attestation.kit import NOW, REPORT_DATA, SEED, refused


@pytest.fixture(scope="module", autouse=True)
def amd_keys(tmp_path_factory: pytest.TempPathFactory) -> None:
    amd.share_keys(tmp_path_factory.getbasetemp())


def vm(**changes: Any) -> SimulatedAzure:
    """A VM; keywords replace fields of its processor's report."""
    vek = amd.collateral(amd.snp()).vek
    return SimulatedAzure(
        SEED, ReportType.SNP, lambda data: amd.snp().evidence(amd.MEASUREMENT, data, **changes), lambda _: vek
    )


def verify(data: bytes) -> AzureVerified:
    """The collateral's own certificate is left out: the evidence brings it."""
    collateral = dataclasses.replace(amd.collateral(amd.snp()), vek=b"")
    roots = Roots.simulated(amd.snp().root_pem)
    verified = evidence.verify(evidence.parse(data), collateral, roots, NOW)
    assert isinstance(verified, AzureVerified)
    return verified


def policy() -> Policy:
    return load_policy(
        {
            "version": 1,
            "evidence": {
                "simulation": True,
                "simulated_root": amd.snp().root_fingerprint.hex(),
                "tcb_status": ["UpToDate"],
            },
            "azure-snp": {},
            "snp": {
                "measurement": [amd.MEASUREMENT.hex()],
                "reported_tcb_min": {"milan": {"snp": 20}},
                "policy_allowed": ["SMT"],
            },
            "tpm": {"pcrs": {"sha256": {"pcr4": [BOOTED[4].hex()]}}},
        }
    )


def test_a_healthy_vm_is_accepted_under_all_three_tables() -> None:
    verified = verify(vm().evidence(REPORT_DATA))
    appraise(verified, policy(), NOW, report_data=REPORT_DATA).require()
    assert (verified.tee, verified.tcb_status, verified.simulated) == ("azure-snp", "UpToDate", True)


def test_a_certificate_that_is_not_of_the_chip_is_refused() -> None:
    other = amd.collateral(amd.snp(tcb_status="OutOfDate")).vek
    with refused(SnpCode.VEK_TCB):
        verify(vm().evidence(REPORT_DATA, parts={"vcek": other}))
    with refused(EvidenceCode.CERTIFICATE_MALFORMED):
        verify(vm().evidence(REPORT_DATA, parts={"vcek": b"none"}))


@pytest.mark.parametrize("vmpl", [1, 3, 0xFFFFFFFF])
def test_a_report_that_the_paravisor_did_not_ask_for_is_refused_whatever_the_policy_says(vmpl: int) -> None:
    """A guest above VMPL 0 could have runtime data with its own key reported.  All ones: the host asked."""
    with refused(AzureCode.VMPL) as caught:
        verify(vm(vmpl=vmpl).evidence(REPORT_DATA))
    assert caught.value.found == f"VMPL {vmpl}"


def test_a_bare_report_is_refused_by_a_policy_for_azure() -> None:
    report = evidence.parse(amd.snp().evidence(amd.MEASUREMENT, REPORT_DATA))
    verified = evidence.verify(report, amd.collateral(amd.snp()), Roots.simulated(amd.snp().root_pem), NOW)
    (found,) = appraise(verified, policy(), NOW, report_data=REPORT_DATA).failed
    assert (found.code, found.expected) == (FindingCode.BARE, "snp together with azure-snp")


# ------------------------------------------------------------------------------------------------ what lies beside it


def neighbours(*, lent: bool = False) -> dict[str, bytes]:
    """What a folder has for this product, without this machine's certificate: its chain, list, and other keys'."""
    own = amd.collateral(amd.snp())
    files = {"cert_chain": own.chain, "crl": own.crl}
    if lent:
        vlek = amd.snp(signing_key=SigningKey.VLEK).collateral(NOW)
        return files | {"vlek.der": vlek.vek, "vlek_chain": vlek.chain}
    return files | {f"vcek{number}.der": vek for number, vek in enumerate(foreign())}


def foreign() -> list[bytes]:
    """VCEKs of two other machines of the product."""
    made = []
    for number in (1, 2):
        machine = SimulatedSnp(amd.keys())
        machine.hwid = bytes([number]) * 64
        made.append(machine.collateral(NOW).vek)
    return made


def examined(folder: Path, files: dict[str, bytes], data: bytes | None = None, **options: Any) -> Report:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    roots = Roots.simulated(amd.snp().root_pem)
    data = data or vm().evidence(REPORT_DATA)
    return examine(data, now=NOW, collateral=open_collateral([folder], roots), roots=roots, **options)


@pytest.mark.parametrize("lent", [False, True])
def test_certificates_of_other_keys_in_the_folder_hide_nothing_of_evidence_that_carries_its_own(
    lent: bool, tmp_path: Path
) -> None:
    found = examined(tmp_path, neighbours(lent=lent))
    assert (found.refused, found.exit_code) == ((), 0)
    assert found.verified is not None
    assert found.verified.parts[1].evidence.tee == "snp"


@pytest.mark.parametrize("lent", [False, True])
def test_a_chain_of_another_kind_of_key_alone_is_collateral_that_is_missing(lent: bool, tmp_path: Path) -> None:
    files = neighbours(lent=lent)
    del files["cert_chain"]
    found = examined(tmp_path, files)
    assert ([str(each.code) for each in found.refused], found.exit_code) == (["collateral-missing"], 40)
    assert found.refused[0].expected == "SEV-Milan and ARK-Milan"
    assert "cert_chain" in str(found.refused[0].remedy)


def test_a_list_that_revokes_the_carried_key_counts_wherever_it_lies(tmp_path: Path) -> None:
    revoking = amd.snp(revoked=("vek",)).collateral(NOW - 86_400)
    found = examined(tmp_path, neighbours() | {"older_crl": revoking.crl})
    assert [str(each.code) for each in found.refused] == ["certificate-revoked"]


def test_what_is_filed_for_another_chip_has_the_chain_and_the_list(tmp_path: Path) -> None:
    for number, vek in enumerate(foreign(), 1):
        held = dataclasses.replace(amd.collateral(amd.snp()), vek=vek)
        unit = f"vcek-{bytes([number]).hex() * 64}-{amd.snp().reported.serialize().hex()}"
        (tmp_path / f"snp-milan-{unit}.json").write_text(held.to_json(), encoding="utf-8")
    assert examined(tmp_path, {}).accepted
    bare = amd.snp().evidence(amd.MEASUREMENT, REPORT_DATA)
    assert [str(each.code) for each in examined(tmp_path, {}, bare).refused] == ["collateral-missing"]


def test_of_a_bare_report_the_certificates_that_are_not_its_chips_are_counted(tmp_path: Path) -> None:
    found = examined(tmp_path, neighbours(), amd.snp().evidence(amd.MEASUREMENT, REPORT_DATA))
    assert ([str(each.code) for each in found.refused], found.exit_code) == (["collateral-missing"], 40)
    assert found.error is not None
    assert found.error.message.startswith("none of the 2 VCEKs here is this chip's")


def test_a_newer_list_that_is_filed_for_another_chip_revokes(tmp_path: Path) -> None:
    key = amd.snp().collateral_key
    held = amd.snp().collateral(NOW - 86_400)
    (tmp_path / f"{key}.json").write_text(held.to_json(), encoding="utf-8")
    bare = amd.snp().evidence(amd.MEASUREMENT, REPORT_DATA)
    assert examined(tmp_path, {}, bare).accepted
    other = dataclasses.replace(amd.snp(revoked=("signer",)).collateral(NOW), vek=foreign()[0])
    other_key = dataclasses.replace(key, unit=f"vcek-{'01' * 64}-{amd.snp().reported.serialize().hex()}")
    (tmp_path / f"{other_key}.json").write_text(other.to_json(), encoding="utf-8")
    assert [str(each.code) for each in examined(tmp_path, {}, bare).refused] == ["certificate-revoked"]


def test_a_later_list_hides_nothing_that_was_valid_at_the_time(tmp_path: Path) -> None:
    files = neighbours() | {"later_crl": amd.snp().collateral(NOW + 7 * 86_400).crl}
    found = examined(tmp_path, files)
    assert found.accepted
    del files["crl"]
    (tmp_path / "crl").unlink()
    assert [str(each.code) for each in examined(tmp_path, files).refused] == ["crl-early"]


@pytest.mark.parametrize("names", [("a.der", "b.der"), ("b.der", "a.der")])
def test_of_two_certificates_of_one_key_the_one_that_is_valid_at_the_time_counts(
    names: tuple[str, str], tmp_path: Path
) -> None:
    later = amd.snp().collateral(NOW, dates={"vek": (NOW + 86_400, NOW + 10 * 86_400)})
    veks = dict(zip(names, (amd.collateral(amd.snp()).vek, later.vek), strict=True))
    bare = amd.snp().evidence(amd.MEASUREMENT, REPORT_DATA)
    assert examined(tmp_path, {"cert_chain": later.chain, "crl": later.crl} | veks, bare).accepted
    (tmp_path / names[0]).unlink()
    assert [str(each.code) for each in examined(tmp_path, {}, bare).refused] == ["certificate-early"]
