"""The [snp] table: what it takes, what it refuses, and what it means once loaded."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from attestation.amd.errors import SnpCode, SnpFinding
from attestation.errors import PolicyCode
from attestation.policy import load_policy
from attestation.policy.snp import SnpPolicy
from tests.amd import kit
from tests.amd.kit import refused

DOCS = Path(__file__).resolve().parents[2] / "docs"

VACUOUS: dict[str, dict[str, Any]] = {
    "no measurement": {"measurement": None},
    "an empty list of measurements": {"measurement": []},
    "no floor for the reported TCB": {"reported_tcb_min": None},
    "an empty table of floors": {"reported_tcb_min": {}},
    "a product without a floor": {"reported_tcb_min": {"milan": {}}},
    "lent keys of any provider": {"signing_keys": ["vlek"]},
}


@pytest.mark.parametrize("case", VACUOUS)
def test_a_table_is_vacuous_with(case: str) -> None:
    with refused(PolicyCode.POLICY_VACUOUS):
        kit.policy(**VACUOUS[case])


CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "a provider whose keys are not accepted": {"csp_id": ["CN=cloud"]},
    "committed floors of a product that is not accepted": {
        "reported_tcb_min": {"milan": {"snp": 1}},
        "committed_tcb_min": {"genoa": {"snp": 1}},
    },
    "launch floors of a product that is not accepted": {
        "reported_tcb_min": {"milan": {"snp": 1}},
        "launch_tcb_min": {"turin": {"snp": 1}},
    },
    "agents where none is admitted": {"report_id_ma": ["00" * 32]},
    "unknown bits that are known": {"policy_bits_allowed": 1 << 19},
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_table_contradicts_itself_with(case: str) -> None:
    with refused(PolicyCode.POLICY_CONTRADICTION):
        kit.policy(**CONTRADICTIONS[case])


MALFORMED: dict[str, dict[str, Any]] = {
    "a measurement of another size": {"measurement": ["00" * 32]},
    "a product that is not known": {"reported_tcb_min": {"venice": {"snp": 1}}},
    "a component of another product": {"reported_tcb_min": {"milan": {"fmc": 1}}},
    "a component that is not known": {"reported_tcb_min": {"milan": {"psp": 1}}},
    "a floor above 255": {"reported_tcb_min": {"milan": {"snp": 256}}},
    "a kind of key that is not known": {"signing_keys": ["none"]},
    "a firmware version of two numbers": {"firmware_min": "1.55"},
    "a firmware version with a leading zero": {"firmware_min": "1.55.049"},
    "a firmware version above 255": {"firmware_min": "1.55.256"},
    "a firmware version that is none": {"firmware_min": "newest"},
    "an interface version of three numbers": {"policy_abi_min": "1.55.0"},
    "a level that does not exist": {"vmpl_max": 4},
    "a report version that does not exist": {"report_version_min": 6},
    "a bit of the guest's policy that is not protective": {"policy_required": ["DEBUG"]},
    "a bit that has a field of its own": {"policy_allowed": ["DEBUG"]},
    "a bit of the platform that is not known": {"platform_info_required": ["BIT_8"]},
    "a field that is not known": {"mrenclave": ["00" * 32]},
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_table_is_malformed_with(case: str) -> None:
    with refused(PolicyCode.POLICY_MALFORMED):
        kit.policy(**MALFORMED[case])


def test_a_full_table_survives_its_own_map() -> None:
    policy = kit.policy(
        committed_tcb_min={"genoa": {"snp": 1, "microcode": 2}},
        firmware_min="1.55.29",
        policy_abi_min="1.51",
        signing_keys=["vlek", "vcek"],
        csp_id=["CN=cloud"],
        migration_agent=True,
        report_id_ma=["11" * 32],
        mitigations_required=0x3F,
        platform_info_required=["ECC_EN"],
    )
    again = load_policy(policy.to_dict())
    assert again == policy
    assert again.digest == policy.digest
    assert policy.tables["snp"].measurements == (kit.MEASUREMENT,)


def test_every_field_changes_the_digest() -> None:
    assert kit.policy(vmpl_max=1).digest != kit.policy().digest
    assert kit.policy(reported_tcb_min={"milan": {"snp": 21}}).digest != kit.policy().digest


def test_the_zero_value_refuses() -> None:
    """Nothing dangerous is on by default, and identities are those of a guest that has none."""
    table = kit.policy().tables["snp"]
    assert isinstance(table, SnpPolicy)
    assert not any((table.debug, table.migration_agent, table.provisional_firmware, table.dangerous_crl_absent))
    assert table.signing_keys == ("vcek",)
    assert table.vmpl_max == 0
    assert table.host_data == (bytes(32),)
    assert table.id_key_digest == table.author_key_digest == (bytes(48),)


def test_every_field_of_the_table_is_explained() -> None:
    page = (DOCS / "policy.md").read_text(encoding="utf-8")
    assert [item.name for item in dataclasses.fields(SnpPolicy) if f"| `{item.name}` |" not in page] == []


@pytest.mark.parametrize("code", [*SnpCode, *SnpFinding])
def test_every_code_is_explained(code: str) -> None:
    assert f"`{code}`" in (DOCS / "attestation-snp.md").read_text(encoding="utf-8")
