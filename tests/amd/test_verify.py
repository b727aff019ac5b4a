"""Verification of a report against its endorsement key: each step has a refusal of its own."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from attestation import evidence
from attestation.amd.abi import SigningKey, parse_report
from attestation.amd.collateral import SnpCollateral
from attestation.amd.errors import SnpCode
from attestation.amd.tcb import Product, Tcb
from attestation.amd.verified import OUT_OF_DATE, UP_TO_DATE
from attestation.amd.verify import prepare, verify_report
from attestation.collateral import FixedSource
from attestation.errors import EvidenceCode
from attestation.intel.collateral import IntelCollateral
from manifests.errors import ErrorCode
from tests.amd import kit
from tests.amd.kit import refused


@pytest.mark.parametrize("signing_key", [SigningKey.VCEK, SigningKey.VLEK])
@pytest.mark.parametrize("product", Product)
@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_every_version_of_every_product_under_either_key(
    version: int, product: Product, signing_key: SigningKey
) -> None:
    simulated = kit.snp(product, signing_key)
    if version == 2 and product is Product.TURIN:
        with refused(SnpCode.VEK_PRODUCT):
            kit.verify(simulated, version=version)
        return
    found = kit.verify(simulated, version=version)
    assert (found.simulated, found.product, found.tcb_status) == (True, product, UP_TO_DATE)
    assert found.root == simulated.root_fingerprint
    assert found.measurement == kit.MEASUREMENT
    assert found.report_data == kit.REPORT_DATA
    chip = (
        {"chip_id": simulated.chip_id.hex()}
        if signing_key is SigningKey.VCEK
        else {"csp_id": "CN=cloud.simulated.invalid"}
    )
    assert found.platform_ids == {"product": str(product)} | chip
    assert found.tcb_components == found.tcb.reported.to_dict()


def test_the_front_door_verifies_what_the_collaterals_file_holds() -> None:
    simulated = kit.snp(Product.GENOA)
    report = evidence.parse(simulated.evidence(kit.MEASUREMENT, kit.REPORT_DATA))
    source = FixedSource(kit.collateral(simulated))
    held = source.fetch(evidence.collateral_key(report))
    assert held == kit.collateral(simulated)
    found = evidence.verify(report, held, kit.roots(simulated), kit.NOW)
    assert found.to_dict()["platform_ids"]["product"] == "genoa"
    assert found.to_dict()["tcb"]["reported"]["microcode"] == 27
    assert found.to_dict()["quote"]["report_data"] == kit.REPORT_DATA.hex()


def other_tcb(*versions: int) -> bytes:
    return Tcb(Product.MILAN, versions).serialize()


STEPS: dict[str, tuple[dict[str, Any], ErrorCode]] = {
    "no key signed": ({"key_info": 7 << 2}, SnpCode.UNSIGNED),
    "a lent key signed": ({"key_info": 1 << 2}, SnpCode.VEK_KIND),
    "another product made": ({"cpuid_mod_id": 0x11}, SnpCode.VEK_PRODUCT),
    "a processor made that is not known": ({"cpuid_fam_id": 0x17}, SnpCode.PRODUCT),
    "another chip made": ({"chip_id": bytes(range(64))}, SnpCode.VEK_CHIP),
    "a chip made that masks its id": ({"chip_id": bytes(64)}, SnpCode.VEK_CHIP),
    "names a newer TCB version": ({"reported_tcb": other_tcb(4, 0, 24, 220)}, SnpCode.VEK_TCB),
    "names an older TCB version": ({"reported_tcb": other_tcb(3, 0, 24, 219)}, SnpCode.VEK_TCB),
    "has a reserved byte in a TCB version": ({"reported_tcb": b"\4\0\1\0\0\0\x18\xdb"}, SnpCode.RESERVED),
    "has one in another TCB version": ({"launch_tcb": b"\4\0\0\0\0\1\x18\xdb"}, SnpCode.RESERVED),
    "has committed less than it reports": ({"committed_tcb": other_tcb(4, 0, 23, 219)}, SnpCode.TCB_ORDER),
    "runs less than it has committed": ({"current_tcb": other_tcb(4, 0, 24, 218)}, SnpCode.TCB_ORDER),
}


@pytest.mark.parametrize("case", STEPS)
def test_an_authentic_report_is_refused_that(case: str) -> None:
    changes, code = STEPS[case]
    with refused(code) as caught:
        kit.verify(**changes)
    assert caught.value.expected is not None
    assert caught.value.found is not None


@pytest.mark.parametrize("part", [slice(0x2A0, 0x2D0), slice(0x2E8, 0x318)])
@pytest.mark.parametrize("value", [0, 1, (1 << 384) - 1])
def test_numbers_that_are_no_signature_are_refused(part: slice, value: int) -> None:
    data = bytearray(kit.snp().evidence(kit.MEASUREMENT, kit.REPORT_DATA))
    data[part] = value.to_bytes(48, "little")
    with refused(SnpCode.SIGNATURE):
        kit.verify(data=bytes(data))


def test_another_key_signs_nothing() -> None:
    simulated = kit.snp()
    report = simulated.report(measurement=kit.MEASUREMENT, report_data=kit.REPORT_DATA)
    forged = simulated.sign(report.serialize()[:0x2A0], key=kit.snp(Product.GENOA).key)
    with refused(SnpCode.SIGNATURE):
        kit.verify(data=forged)


def test_the_launch_may_have_seen_firmware_that_was_rolled_back() -> None:
    """Considered and rejected as a check: what is not committed may be rolled back while a guest runs."""
    assert kit.verify(launch_tcb=other_tcb(4, 0, 25, 219)).tcb_status == UP_TO_DATE


def test_the_status_says_whether_the_host_reports_all_that_is_committed() -> None:
    assert kit.verify(kit.snp(tcb_status=OUT_OF_DATE)).tcb_status == OUT_OF_DATE
    assert kit.verify(kit.snp(provisional=True)).tcb_status == UP_TO_DATE


def test_the_lent_key_of_another_tcb_version_is_refused() -> None:
    simulated = kit.snp(Product.MILAN, SigningKey.VLEK)
    old = kit.snp(Product.MILAN, SigningKey.VLEK, tcb_status=OUT_OF_DATE)
    with refused(SnpCode.VEK_TCB):
        kit.verify(simulated, held=kit.collateral(old))


def test_a_chips_certificate_is_none_of_a_lent_key() -> None:
    simulated = kit.snp(Product.MILAN, SigningKey.VLEK)
    with refused(SnpCode.VEK_KIND):
        kit.verify(simulated, held=kit.collateral(kit.snp()))


def test_the_certificate_of_another_product_is_refused_also_where_the_report_names_none() -> None:
    report = parse_report(kit.snp().evidence(kit.MEASUREMENT, kit.REPORT_DATA, version=2))
    turin = kit.snp(Product.TURIN)
    with refused(SnpCode.VEK_PRODUCT):
        verify_report(report, kit.collateral(turin), kit.roots(turin), kit.NOW)


@pytest.mark.parametrize("name", ["ark", "signer", "vek", "crl"])
@pytest.mark.parametrize("state", ["expired", "early"])
def test_every_state_of_the_simulator_gives_its_refusal(name: str, state: str) -> None:
    simulated = kit.snp(**{state: (name,)})
    kind = "CRL" if name == "crl" else "CERTIFICATE"
    code = EvidenceCode[f"{kind}_{state.upper()}"]
    if name == "ark":  # a root with other dates is another root
        code = EvidenceCode.CHAIN_ROOT
    with refused(code):
        kit.verify(simulated)


def test_prepared_collateral_serves_many_reports_until_it_expires() -> None:
    simulated = kit.snp()
    prepared = prepare(kit.collateral(simulated), kit.roots(simulated), kit.NOW)
    for vmpl in range(3):
        report = parse_report(simulated.evidence(kit.MEASUREMENT, kit.REPORT_DATA, vmpl=vmpl))
        assert verify_report(report, prepared, kit.roots(simulated), kit.NOW).expires == prepared.expires
    with refused(EvidenceCode.CRL_EXPIRED):
        verify_report(report, prepared, kit.roots(simulated), prepared.expires)


def test_prepared_collateral_is_of_its_roots_alone() -> None:
    simulated = kit.snp()
    prepared = prepare(kit.collateral(simulated), kit.roots(simulated), kit.NOW)
    report = parse_report(simulated.evidence(kit.MEASUREMENT, kit.REPORT_DATA))
    with refused(EvidenceCode.COLLATERAL_ROOTS):
        verify_report(report, prepared, kit.roots(kit.snp(Product.GENOA)), kit.NOW)


def test_collateral_of_another_vendor_is_none() -> None:
    report = parse_report(kit.snp().evidence(kit.MEASUREMENT, kit.REPORT_DATA))
    other = IntelCollateral(*(b"" for _ in dataclasses.fields(IntelCollateral)))
    with refused(EvidenceCode.COLLATERAL_TEE):
        verify_report(report, other, kit.roots(kit.snp()), kit.NOW)


def test_missing_collateral_names_what_is_missing() -> None:
    report = parse_report(kit.snp().evidence(kit.MEASUREMENT, kit.REPORT_DATA))
    with refused(EvidenceCode.COLLATERAL_MISSING) as caught:
        verify_report(report, None, kit.roots(kit.snp()), kit.NOW)
    assert str(caught.value.expected).startswith("snp-milan-vcek-")


def test_a_collateral_file_is_what_it_was_made_from() -> None:
    held = kit.collateral(kit.snp())
    assert SnpCollateral.from_json(held.to_json()) == held
    with refused(EvidenceCode.COLLATERAL_MALFORMED):
        SnpCollateral.from_json(held.to_json().replace('"vek"', '"vcek"'))
