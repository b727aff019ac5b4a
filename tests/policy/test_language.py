"""What holds for every TEE: denied platforms, refused advisories, a least TCB date, replaced roots, and presets."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.appraise import appraise
from attestation.errors import EvidenceCode, FindingCode, PolicyCode
from attestation.findings import Severity
from attestation.intel.tcb import TcbStatus
from attestation.intel.verified import IntelVerified
from attestation.policy import EvidencePolicy, Policy, load_policy, roots_for
from attestation.policy.feed import MAX_FEED
from attestation.policy.model import TEE_TABLES
from attestation.policy.presets import PRESETS
from attestation.policy.schema import dangers
from attestation.roots import AMD_ROOTS, INTEL_SGX_ROOT, Hierarchy, Roots
from attestation.sim.pki import Profile, certify, derive_key
from attestation.validity import rfc3339
from manifests import canonical, signing
from manifests.errors import ManifestCode
from tests.attestation import kit
from tests.attestation.kit import MRENCLAVE, NOW, SEED, outcome, policy, policy_map, refused
from tests.policy.kit import DAY, FMSPC, PPID, WATCHER, entry, feed, named

HARDWARE = {"simulation": None, "simulated_root": None}


def failing(verified: IntelVerified | None = None, **changes: dict[str, Any]) -> list[str]:
    return [str(item.code) for item in appraise(verified or kit.verify_sim(), policy(**changes), NOW).failed]


def advised(*advisories: str) -> IntelVerified:
    good = kit.verify_sim()
    return dataclasses.replace(good, tcb=dataclasses.replace(good.tcb, advisories=advisories))


# ------------------------------------------------------------------------------------------------ denied platforms


@pytest.mark.parametrize("denied", [{"ppid": [PPID]}, {"fmspc": [FMSPC]}, {"ppid": ["01" * 16], "fmspc": [FMSPC]}])
def test_a_platform_that_the_policy_refuses_by_name_is_refused(denied: dict[str, Any]) -> None:
    verified = kit.verify_sim()
    (finding,) = appraise(verified, policy(evidence={"platforms_denied": denied}), NOW).failed
    assert finding.code is FindingCode.DENIED
    assert PPID in finding.found or FMSPC in finding.found


def test_a_platform_that_is_not_named_is_not_refused() -> None:
    assert failing(evidence={"platforms_denied": {"ppid": ["01" * 16], "chip_id": ["02" * 64]}}) == []


@pytest.mark.parametrize(
    ("denied", "code"),
    [
        ({}, PolicyCode.POLICY_VACUOUS),
        ({"ppid": []}, PolicyCode.POLICY_VACUOUS),
        ({"pp_id": [PPID]}, PolicyCode.POLICY_MALFORMED),
        ({"ppid": [PPID[2:]]}, PolicyCode.POLICY_MALFORMED),
        ({"ppid": PPID}, PolicyCode.POLICY_MALFORMED),
        ({"product": ["Genoa"]}, PolicyCode.POLICY_MALFORMED),
        ({"product": ["EPYC-9004"]}, PolicyCode.POLICY_MALFORMED),
        ({"product": ["milan", "genoa "]}, PolicyCode.POLICY_MALFORMED),
        ({"csp_id": ["aws"]}, PolicyCode.POLICY_MALFORMED),
        ({"csp_id": ["cn=cloud"]}, PolicyCode.POLICY_MALFORMED),
        ({"csp_id": ["CN=cloud\n"]}, PolicyCode.POLICY_MALFORMED),
        ({"module_id": ["i-0827e799ec9232d44"]}, PolicyCode.POLICY_MALFORMED),
        ({"module_id": ["I-0827E799EC9232D44-ENC019B55A68BD2ED4B"]}, PolicyCode.POLICY_MALFORMED),
        ([PPID], PolicyCode.POLICY_MALFORMED),
    ],
)
def test_a_deny_list_that_cannot_be_meant_is_refused(denied: Any, code: PolicyCode) -> None:
    with refused(code):
        policy(evidence={"platforms_denied": denied})


# ------------------------------------------------------------------------------------------------ advisories


def test_all_advisories_but_some_can_be_accepted() -> None:
    named = {"advisories_accepted": ["*"], "advisories_refused": ["SA-2"]}
    assert failing(advised("SA-1"), evidence=named) == []
    assert failing(advised("SA-1", "SA-2"), evidence=named) == [FindingCode.ADVISORIES]
    assert failing(advised("SA-1", "SA-2"), evidence={"advisories_accepted": ["*"]}) == []
    shown = {item.code: item for item in appraise(advised("SA-2"), policy(evidence=named), NOW).findings}
    assert (shown[FindingCode.ADVISORIES].expected, shown[FindingCode.ADVISORIES].found) == ("any but SA-2", "SA-2")


def test_an_accepted_advisory_stays_a_warning() -> None:
    judged = appraise(advised("SA-1"), policy(evidence={"advisories_accepted": ["*"]}), NOW)
    assert FindingCode.ADVISORIES in {item.code for item in judged.warnings}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"advisories_refused": ["SA-1"]}, PolicyCode.POLICY_VACUOUS),
        ({"advisories_refused": ["SA-1"], "advisories_accepted": ["SA-2"]}, PolicyCode.POLICY_VACUOUS),
        ({"advisories_accepted": ["*", "SA-2"]}, PolicyCode.POLICY_CONTRADICTION),
    ],
)
def test_lists_of_advisories_that_say_nothing_are_refused(fields: dict[str, Any], code: PolicyCode) -> None:
    with refused(code):
        policy(evidence=fields)


def test_advisories_are_refused_only_where_evidence_shows_them() -> None:
    named = {"advisories_accepted": ["*"], "advisories_refused": ["SA-2"], "tcb_status": ["UpToDate"]}
    snp = {"measurement": ["11" * 48], "reported_tcb_min": {"milan": {"snp": 1}}}
    with refused(PolicyCode.POLICY_VACUOUS):
        load_policy({"version": 1, "evidence": named, "snp": snp})
    assert load_policy({"version": 1, "evidence": named, "snp": snp, "sgx": {"mrenclave": ["11" * 32]}})


# ------------------------------------------------------------------------------------------------ the TCB's date


def test_a_level_before_the_policys_date_is_refused() -> None:
    date = kit.verify_sim().tcb_date
    assert failing(evidence={"tcb_date_min": rfc3339(date)}) == []
    assert failing(evidence={"tcb_date_min": rfc3339(date + 1)}) == [FindingCode.TCB_DATE]


@pytest.mark.parametrize("text", ["2024-11-13", "", "2024-11-13T00:00:00+00:00", 5])
def test_a_date_has_one_form(text: Any) -> None:
    with refused(PolicyCode.POLICY_MALFORMED):
        policy(evidence={"tcb_date_min": text})


# ------------------------------------------------------------------------------------------------ replaced roots


def test_a_replaced_root_stands_in_the_place_of_its_vendors_own_and_of_no_other() -> None:
    root = "ab" * 32
    loaded = policy(evidence=HARDWARE | {"dangerous_replacement_roots": {"intel": [root]}})
    roots = roots_for(loaded)
    assert roots == Roots.vendor().dangerously_replaced({Hierarchy.INTEL: [bytes.fromhex(root)]})
    shown = repr(roots)
    assert root in shown
    assert INTEL_SGX_ROOT.hex() not in shown
    assert AMD_ROOTS["milan"].hex() in shown
    assert load_policy(loaded.to_dict()) == loaded
    assert loaded.evidence.dangerous_replacement_roots == (("intel", (bytes.fromhex(root),)),)


def test_evidence_below_a_replaced_root_is_accepted_with_a_warning(tmp_path: Path) -> None:
    key = derive_key(SEED, "a root of one's own")
    root = certify(Profile("Root CA", marked=False), key, None, serial=5, start=NOW - DAY, end=NOW + DAY)
    (tmp_path / "root.der").write_bytes(root.der)
    named = HARDWARE | {"dangerous_replacement_roots": {"intel": "root.der"}}
    loaded = load_policy(policy_map(evidence=named), base=tmp_path)
    ((_, (fingerprint,)),) = loaded.evidence.dangerous_replacement_roots
    assert roots_for(loaded).anchor(Hierarchy.INTEL, root.der).fingerprint == fingerprint
    below = dataclasses.replace(kit.verify_sim(), simulated=False, root=fingerprint)
    judged = appraise(below, loaded, NOW)
    assert judged.accepted
    (warning,) = judged.warnings
    assert (warning.code, warning.severity) == (FindingCode.ROOT, Severity.WARNING)
    assert fingerprint.hex() in warning.expected


def test_the_root_of_a_simulated_platform_takes_no_vendors_place(tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_bytes(kit.platform().root_pem)
    named = HARDWARE | {"dangerous_replacement_roots": {"intel": "root.pem"}}
    with refused(EvidenceCode.CHAIN_SIMULATED):
        load_policy(policy_map(evidence=named), base=tmp_path)
    with refused(ManifestCode.FILE_UNAVAILABLE):
        load_policy(policy_map(evidence=named))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"dangerous_replacement_roots": {"intel": ["ab" * 32]}}, PolicyCode.POLICY_CONTRADICTION),
        (HARDWARE | {"dangerous_replacement_roots": {}}, PolicyCode.POLICY_VACUOUS),
        (HARDWARE | {"dangerous_replacement_roots": {"intel": []}}, PolicyCode.POLICY_VACUOUS),
        (HARDWARE | {"dangerous_replacement_roots": {"tpm": ["ab" * 32]}}, PolicyCode.POLICY_MALFORMED),
        (HARDWARE | {"dangerous_replacement_roots": ["ab" * 32]}, PolicyCode.POLICY_MALFORMED),
    ],
)
def test_replacements_that_cannot_be_meant_are_refused(fields: dict[str, Any], code: PolicyCode) -> None:
    with refused(code):
        policy(evidence=fields)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5))
def test_any_value_in_any_place_is_read_or_refused(value: Any) -> None:
    names = [item.name for item in dataclasses.fields(EvidencePolicy)]
    for name in names:
        verdict = outcome(lambda chosen=name: policy(evidence={chosen: value}))
        assert isinstance(verdict, Policy | PolicyCode) or verdict is ManifestCode.FILE_UNAVAILABLE, name
    for name in ("ppid", "csp_id", "unknown"):
        verdict = outcome(lambda chosen=name: policy(evidence={"platforms_denied": {chosen: value}}))
        assert isinstance(verdict, Policy | PolicyCode)
    verdict = outcome(lambda: policy(evidence=HARDWARE | {"dangerous_replacement_roots": {"intel": value}}))
    assert isinstance(verdict, Policy | PolicyCode) or verdict is ManifestCode.FILE_UNAVAILABLE


def test_a_list_of_the_largest_size_still_fits_a_brokers_signed_policy() -> None:
    ids = [f"{number:032x}" for number in range(1, 920)]
    loaded = policy(evidence=named(entry(platforms={"ppid": ids})))
    text = loaded.evidence.broken_hardware
    assert text is not None
    assert MAX_FEED * 0.9 < len(text) < MAX_FEED * 1.1
    assert len(canonical.encode(loaded.to_dict())) < signing.MAX_DOCUMENT - 8192


# ------------------------------------------------------------------------------------------------ presets


def preset(name: str, **changes: dict[str, Any]) -> dict[str, Any]:
    base: dict[str, Any] = {"version": 1, "preset": name, "evidence": {}, "sgx": {"mrenclave": [MRENCLAVE.hex()]}}
    return base | {table: base.get(table, {}) | fields for table, fields in changes.items()}


def test_a_preset_is_short_for_its_fields_and_means_the_same_policy() -> None:
    written = policy_map(evidence=HARDWARE | {"tcb_status": ["UpToDate"], "max_collateral_age": 7 * DAY})
    assert load_policy(preset("strict")) == load_policy(written)
    assert load_policy(preset("strict")).digest == load_policy(written).digest
    assert "preset" not in load_policy(preset("strict")).to_dict()


def test_a_preset_needs_no_evidence_table() -> None:
    value = preset("production")
    del value["evidence"]
    assert load_policy(value) == load_policy(preset("production"))


def test_what_the_policy_says_itself_goes_before_the_preset() -> None:
    named = {"tcb_status": ["UpToDate", "ConfigurationNeeded"], "max_collateral_age": 60}
    evidence = load_policy(preset("production", evidence=named)).evidence
    assert set(evidence.tcb_status) == set(named["tcb_status"])
    assert evidence.max_collateral_age == 60


def test_a_preset_dates_the_list_of_broken_hardware_where_there_is_one() -> None:
    named = {"broken_hardware": feed(), "broken_hardware_key": WATCHER.public.hex()}
    assert load_policy(preset("strict", evidence=named)).evidence.broken_hardware_max_age == 7 * DAY
    assert load_policy(preset("strict")).evidence.broken_hardware_max_age is None


def test_the_simulation_preset_still_needs_the_platforms_name() -> None:
    with refused(PolicyCode.POLICY_VACUOUS):
        load_policy(preset("simulation"))
    root = kit.platform().root_fingerprint.hex()
    loaded = load_policy(preset("simulation", evidence={"simulated_root": root}, sgx={"debug": True}))
    assert loaded.evidence.simulation


@pytest.mark.parametrize("name", PRESETS)
def test_no_preset_accepts_code_that_the_policy_does_not_name(name: str) -> None:
    root = {"simulated_root": "ab" * 32} if name == "simulation" else {}
    for table in ({"sgx": {}}, {}):
        with refused(PolicyCode.POLICY_VACUOUS):
            load_policy({"version": 1, "preset": name, "evidence": root, **table})


ROOT = {"simulation": True, "simulated_root": "ab" * 32}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("strict", {"evidence": ROOT}),
        ("strict", {"evidence": {"dangerous_replacement_roots": {"intel": ["ab" * 32]}}}),
        ("strict", {"evidence": {"advisories_accepted": ["SA-1"]}}),
        ("strict", {"sgx": {"debug": True}}),
        ("strict", {"snp": {"measurement": ["00" * 48], "dangerous_crl_absent": True}}),
        ("strict", {"azure-snp": {"insecure_boot": True}}),
        ("strict", {"evidence": {"tcb_status": ["UpToDate", "SWHardeningNeeded"]}}),
        ("strict", {"evidence": {"max_collateral_age": 7 * DAY + 1}}),
        ("strict", {"snp": {"provisional_firmware": True}}),
        ("strict", {"nvidia": {"flags_allowed": ["notConfigured", "notImmutable"]}}),
        ("strict", {"nvidia": {"flags_allowed": ["notRuntimeMeasured"]}}),
        ("production", {"evidence": {"tcb_status": ["OutOfDate"]}}),
        ("production", {"evidence": {"tcb_status": ["OutOfDateConfigurationNeeded"]}}),
        ("production", {"evidence": {"tcb_status": ["UpToDate", "TDRelaunchAdvised"]}}),
        ("production", {"evidence": {"tcb_status": ["TDRelaunchAdvisedConfigurationNeeded"]}}),
        ("production", {"evidence": {"max_collateral_age": 30 * DAY + 1}}),
        ("production", {"evidence": {"broken_hardware_max_age": 30 * DAY + 1}}),
        *(
            (name, {table: {field: value}})
            for name in ("strict", "production")
            for table, field, value in (
                ("nvidia", "flags_allowed", ["recovery", "debug"]),
                ("nvidia", "flags_allowed", ["notSecure"]),
                ("nvidia", "flags_allowed", ["recovery"]),
                ("nvidia", "flags_allowed", ["notReplayProtected"]),
                ("nvidia", "flags_allowed", ["notIntegrityProtected"]),
                ("nvidia", "flags_allowed", ["notTcb"]),
                ("nvidia", "modes", ["SPT", "unreported"]),
                ("nvidia", "fwid_absent", True),
                ("sgx", "provision_key", True),
                ("sgx", "einittoken_key", True),
                ("sgx", "xfrm_allowed", (1 << 63) - 1),
                ("sgx", "miscselect_allowed", 4),
                ("sgx", "cet_attributes_allowed", 0x40),
                ("tdx", "sept_ve", True),
                ("tdx", "xfam_allowed", (1 << 63) - 1),
                ("snp", "dangerous_crl_absent", True),
                ("snp", "platform_info_allowed", 0xFF),
                ("snp", "policy_bits_allowed", 1 << 62),
                ("azure-snp", "console", True),
                ("azure-tdx", "console", True),
                ("azure-tdx", "insecure_boot", True),
                ("tdx", "debug", True),
                ("tdx", "migratable", True),
                ("snp", "migration_agent", True),
                ("snp", "vmpl_max", 1),
                ("nitro", "debug", True),
            )
        ),
        ("production", {"evidence": ROOT}),
        ("production", {"evidence": {"dangerous_replacement_roots": {"intel": ["ab" * 32]}}}),
        ("production", {"sgx": {"debug": True}}),
        ("simulation", {"evidence": {**ROOT, "dangerous_replacement_roots": {"intel": ["ab" * 32]}}}),
    ],
    ids=str,
)
def test_a_preset_refuses_what_its_name_promises_not_to_accept(name: str, changes: dict[str, Any]) -> None:
    with refused(PolicyCode.POLICY_CONTRADICTION) as caught:
        load_policy(preset(name, **changes))
    assert name in caught.value.message


@pytest.mark.parametrize("name", ["", "Strict", "none", 5, None])
def test_an_unknown_preset_is_refused(name: Any) -> None:
    with refused(PolicyCode.POLICY_MALFORMED):
        load_policy(preset(name))


def test_a_preset_beside_a_table_of_the_wrong_type_is_refused() -> None:
    with refused(PolicyCode.POLICY_MALFORMED):
        load_policy(preset("strict") | {"evidence": 5})


def test_what_is_no_wider_than_a_presets_name_may_be_named() -> None:
    named = {"tcb_status": ["UpToDate"], "max_collateral_age": 7 * DAY}
    nvidia = {
        "products": ["GH100"],
        "measurements": ["ab" * 48],
        "flags_allowed": ["notConfigured"],
        "fwid_absent": False,
    }
    assert load_policy(preset("strict", evidence=named, nvidia=nvidia)).evidence.max_collateral_age == 7 * DAY


def test_production_takes_what_strict_alone_excludes() -> None:
    nvidia = {"products": ["GH100"], "measurements": ["ab" * 48]}
    flags = ["notConfigured", "notImmutable", "notRuntimeMeasured"]
    loaded = load_policy(preset("production", nvidia=nvidia | {"flags_allowed": flags}))
    assert loaded.written("production")["nvidia"]["flags_allowed"] == sorted(flags)
    load_policy(preset("strict", nvidia=nvidia | {"flags_allowed": []}))


@pytest.mark.parametrize("value", [5, None, "notTcb", [5], [[]]])
def test_what_is_of_a_wrong_type_is_malformed_under_a_preset_too(value: Any) -> None:
    code = PolicyCode.POLICY_CONTRADICTION if isinstance(value, list) else PolicyCode.POLICY_MALFORMED
    with refused(code):
        load_policy(
            preset("strict", nvidia={"products": ["GH100"], "measurements": ["ab" * 48], "flags_allowed": value})
        )


def test_every_field_whose_name_warns_is_declared_as_dangerous() -> None:
    for kind in TEE_TABLES.values():
        for item in dataclasses.fields(kind):
            if item.name.startswith(("dangerous_", "insecure_", "debug")):
                assert list(dangers(kind, {item.name: True})) == [item.name]


def test_no_default_of_a_table_is_dangerous() -> None:
    for kind in TEE_TABLES.values():
        defaults = {item.name: item.default for item in dataclasses.fields(kind)}
        assert list(dangers(kind, defaults)) == []


@pytest.mark.parametrize(
    ("table", "fields"),
    [
        ("sgx", {"miscselect_allowed": 3, "cet_attributes_allowed": 0x3F, "xfrm_allowed": 0x602FF}),
        ("tdx", {"mrtd": ["11" * 48], "rtmr1": ["11" * 48], "xfam_allowed": 0x6DBE7}),
        ("nitro", {"pcrs": {"pcr0": ["11" * 48]}, "debug": False}),
    ],
)
def test_what_the_architecture_defines_stands_beside_a_preset(table: str, fields: dict[str, Any]) -> None:
    assert load_policy(preset("strict", **{table: fields})).table(table)


def test_what_a_preset_refuses_may_be_named_as_false() -> None:
    assert load_policy(preset("strict", sgx={"debug": False}, evidence={"simulation": False})).evidence.tcb_status


def test_a_policy_is_written_again_as_it_was_under_its_preset_or_another() -> None:
    loaded = load_policy(preset("strict", evidence={"tcb_evaluation_min": 3}))
    assert (loaded.preset, loaded.filled) == ("strict", {"tcb_status", "max_collateral_age"})
    assert load_policy(loaded.written("strict")) == loaded
    assert load_policy(loaded.written("production")).evidence.max_collateral_age == 30 * DAY
    assert load_policy(loaded.to_dict()) == loaded
    assert load_policy(loaded.to_dict()).preset is None


def test_every_status_of_a_preset_is_one_of_the_vendors() -> None:
    for each in PRESETS.values():
        assert set(each.evidence["tcb_status"]) <= {str(status) for status in TcbStatus}


def test_an_empty_list_where_something_has_to_be_named_is_not_to_be_left_out() -> None:
    with refused(PolicyCode.POLICY_VACUOUS) as caught:
        policy(evidence={"tcb_status": []})
    assert "would accept nothing" in caught.value.message
    assert "UpToDate" in str(caught.value.remedy)
    assert "leave it out" not in str(caught.value.remedy)
