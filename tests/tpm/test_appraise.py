"""TPM evidence against policies: each check passes, fails with what it expected and found, and says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from attestation.appraise import appraise
from attestation.errors import FindingCode, PolicyCode
from attestation.eventlog.log import EventType
from attestation.findings import Finding, Severity
from attestation.policy import load_policy, roots_for
from attestation.roots import Roots
from attestation.sim.eventlog import BOOT, make_log
from attestation.sim.tpm import boot_values
from attestation.tpm.algorithms import Hash
from attestation.tpm.errors import TpmFinding
from manifests.errors import ErrorCode
from tests.attestation.kit import NOW, REPORT_DATA, refused
from tests.tpm import kit


def findings(data: bytes | None = None, **policy: Any) -> dict[ErrorCode, Finding]:
    table = kit.policy(**policy)
    appraisal = appraise(kit.verify(data, under=roots_for(table)), table, NOW, report_data=REPORT_DATA)
    return {finding.code: finding for finding in appraisal.findings}


def failing(data: bytes | None = None, **policy: Any) -> Finding:
    (found,) = (finding for finding in findings(data, **policy).values() if not finding.passed)
    assert found.remedy
    return found


def test_a_healthy_tpm_is_accepted_and_every_check_reports() -> None:
    table = kit.policy(event_log_pcrs=[0, 7], firmware_min=1)
    appraisal = appraise(kit.verify(), table, NOW, report_data=REPORT_DATA)
    appraisal.require()
    assert {finding.code for finding in appraisal.findings} >= set(TpmFinding)
    assert [finding.code for finding in appraisal.warnings] == [FindingCode.CLASS]  # SIMULATED is loud


def test_a_pcr_with_another_value_is_refused() -> None:
    found = failing(pcrs={"sha256": {"pcr7": ["11" * 32, "22" * 32]}})
    assert found.code is TpmFinding.PCR
    assert found.expected == f"PCR 7 (sha256) {'11' * 32} or {'22' * 32}"
    assert found.found == kit.verify().quote.pcrs.to_dict()["sha256"]["7"]


@pytest.mark.parametrize("bank", ["sha384", "sha512"])
def test_a_pcr_that_is_not_quoted_is_refused(bank: str) -> None:
    found = failing(pcrs={bank: {"pcr7": ["11" * {"sha384": 48, "sha512": 64}[bank]]}})
    assert (found.code, found.found) == (TpmFinding.PCR, "it is not quoted")


def test_each_pcr_that_fails_is_named() -> None:
    table = kit.policy(pcrs={"sha256": {"pcr0": ["11" * 32], "pcr10": ["11" * 32]}})
    failed = appraise(kit.verify(), table, NOW).failed
    assert [finding.expected.split()[1] for finding in failed] == ["0", "10"]


def test_a_key_that_the_policy_does_not_name_is_refused() -> None:
    found = failing(ak=["11" * 32])
    assert found.code is TpmFinding.AK
    assert kit.sim().ak_fingerprint.hex() in found.found


def test_a_key_or_its_root_may_be_named() -> None:
    assert findings(ak=[kit.sim().ak_fingerprint.hex()])[TpmFinding.AK].passed
    assert findings(ak=["11" * 32], roots=[kit.sim().root_fingerprint.hex()])[TpmFinding.AK].passed
    assert failing(roots=["11" * 32]).expected == "any that a root in [tpm] roots vouches for"


def test_what_trust_ended_in_is_what_the_policy_names() -> None:
    """A key that the policy itself names is no replacement of a vendor's root, and no warning."""
    data = kit.rebuilt(key_chain=[])
    found = findings(data, ak=[kit.sim().ak_fingerprint.hex()])[FindingCode.ROOT]
    assert (found.severity, found.found) == (Severity.OK, kit.sim().ak_fingerprint.hex())


def test_old_firmware_is_refused() -> None:
    found = failing(firmware_min=0x2025_1001_0000_0002)
    assert (found.code, found.found) == (TpmFinding.FIRMWARE, "0x2025100100000001")


def test_a_clock_that_is_not_safe_is_refused_unless_the_policy_says_so() -> None:
    data = kit.sim().evidence(REPORT_DATA, safe=False)
    refusal = failing(data)
    assert refusal.code is TpmFinding.CLOCK
    assert "TPM_PT_CLOCK_UPDATE" in str(refusal.remedy)
    assert "2^22 (70 minutes)" in str(refusal.remedy)
    found = findings(data, unsafe_clock=True)[TpmFinding.CLOCK]
    assert (found.passed, found.severity) == (True, Severity.WARNING)


def test_a_log_that_does_not_replay_is_refused_even_where_no_policy_asks_for_it() -> None:
    data = kit.rebuilt(log=make_log([*BOOT, (7, EventType.EV_EFI_VARIABLE_AUTHORITY, b"another key")]))
    found = failing(data)
    assert found.code is TpmFinding.EVENT_LOG
    assert "differing PCR 7" in found.found


def test_a_pcr_that_software_extends_without_logging_may_be_named() -> None:
    values = _values()
    values[Hash.SHA256, 9] = Hash.SHA256.digest(values[Hash.SHA256, 9], bytes(32))
    data = kit.sim().evidence(REPORT_DATA, pcrs=values)
    assert failing(data).found.endswith("differing PCR 9")
    found = findings(data, event_log_partial=[9])[TpmFinding.EVENT_LOG]
    assert (found.passed, found.severity) == (True, Severity.WARNING)


def _values() -> dict[tuple[Hash, int], bytes]:
    return {(bank, index): value for bank, index, value in kit.verify().quote.pcrs}


def test_evidence_without_a_log_is_accepted_unless_the_policy_wants_pcrs_explained() -> None:
    data = kit.sim().evidence(REPORT_DATA, log=b"", pcrs=_values())
    assert findings(data)[TpmFinding.EVENT_LOG].found == "no log"
    found = failing(data, event_log_pcrs=[7])
    assert (found.code, found.expected, found.found) == (TpmFinding.EVENT_LOG_PCRS, "PCR 7 in sha256", "none")


def test_a_pcr_that_the_log_never_extends_is_not_explained() -> None:
    assert failing(event_log_pcrs=[7, 16]).code is TpmFinding.EVENT_LOG_PCRS


def test_report_data_travels_as_its_sha256() -> None:
    table = kit.policy()
    (found,) = appraise(kit.verify(), table, NOW, report_data=bytes(64)).failed
    assert found.code is FindingCode.REPORT_DATA
    assert found.expected == Hash.SHA256.digest(bytes(64)).hex()


def test_a_policy_for_hardware_refuses_a_simulated_tpm() -> None:
    table = load_policy(
        {
            "version": 1,
            "evidence": {"tcb_status": ["UpToDate"]},
            "tpm": {"pcrs": {"sha256": {"pcr7": ["11" * 32]}}},
        }
    )
    codes = {finding.code for finding in appraise(kit.verify(), table, NOW).failed}
    assert FindingCode.CLASS in codes
    assert roots_for(table) == Roots.vendor()


def test_a_policy_without_a_table_for_tpms_refuses_them() -> None:
    from tests.attestation import kit as sgx

    assert FindingCode.TEE in {finding.code for finding in appraise(kit.verify(), sgx.policy(), NOW).failed}


@pytest.mark.parametrize(
    ("table", "code"),
    [
        ({"pcrs": None}, PolicyCode.POLICY_VACUOUS),
        ({"pcrs": {}}, PolicyCode.POLICY_VACUOUS),
        ({"pcrs": {"sha256": {}}}, PolicyCode.POLICY_VACUOUS),
        ({"pcrs": {"sha256": {"pcr7": []}}}, PolicyCode.POLICY_VACUOUS),
        ({"pcrs": {"sha256": {"pcr16": ["00" * 32]}}}, PolicyCode.POLICY_VACUOUS),
        ({"pcrs": {"sha256": {"pcr16": ["00" * 32]}, "sha384": {"pcr23": ["00" * 48]}}}, PolicyCode.POLICY_VACUOUS),
        ({"pcrs": {"sha1": {"pcr7": ["11" * 20]}}}, PolicyCode.POLICY_MALFORMED),
        ({"pcrs": {"sha256": {"pcr24": ["11" * 32]}}}, PolicyCode.POLICY_MALFORMED),
        ({"pcrs": {"sha256": {"pcr07": ["11" * 32]}}}, PolicyCode.POLICY_MALFORMED),
        ({"pcrs": {"sha256": {"pcr7": ["11" * 48]}}}, PolicyCode.POLICY_MALFORMED),
        ({"pcrs": [7]}, PolicyCode.POLICY_MALFORMED),
        ({"ak": []}, PolicyCode.POLICY_VACUOUS),
        ({"event_log_pcrs": []}, PolicyCode.POLICY_VACUOUS),
        ({"event_log_pcrs": [24]}, PolicyCode.POLICY_MALFORMED),
        ({"event_log_pcrs": [9], "event_log_partial": [9]}, PolicyCode.POLICY_CONTRADICTION),
    ],
)
def test_a_table_that_cannot_stand_is_refused(table: dict[str, Any], code: PolicyCode) -> None:
    with refused(code):
        kit.policy(**table)


@pytest.mark.parametrize("name", ["pcr0", "pcr15", "pcr17", "pcr22"])
def test_one_register_that_nobody_resets_is_enough(name: str) -> None:
    table = {"sha256": {name: ["11" * 32], "pcr23": ["00" * 32]}}
    assert kit.policy(pcrs=table).table("tpm")


@pytest.mark.parametrize(
    "accepted",
    [
        {"pcr0": ["00" * 32]},
        {"pcr0": ["00" * 31 + "03"], "pcr16": ["11" * 32]},
        {"pcr0": ["00" * 31 + "04", "11" * 32]},
        {"pcr15": ["00" * 32]},
        {"pcr4": ["11" * 32, "00" * 32]},
        {"pcr17": ["ff" * 32]},
        {"pcr18": ["00" * 32], "pcr22": ["ff" * 32, "11" * 32]},
    ],
    ids=str,
)
def test_values_that_a_register_begins_with_say_nothing(accepted: dict[str, Any]) -> None:
    with refused(PolicyCode.POLICY_VACUOUS):
        kit.policy(pcrs={"sha256": accepted})
    beside = kit.policy(pcrs={"sha256": {**accepted, "pcr7": ["11" * 32]}})
    assert beside.table("tpm")


# ------------------------------------------------------------------------------------------------ banks of the log

OTHER_BANKS = (Hash.SHA1, Hash.SHA384, Hash.SHA512)


def booted_in(bank: Hash) -> bytes:
    """SHA-256 has PCR 7 alone; another bank, which firmware left alone, has what an honest boot would have had."""
    log = make_log(banks=(bank,))
    wanted = {at: value for at, value in _values().items() if at[1] == 7}
    return kit.sim().evidence(REPORT_DATA, log=log, pcrs={**wanted, **boot_values(log, bank)})


@pytest.mark.parametrize("bank", OTHER_BANKS)
def test_a_log_explains_nothing_in_a_bank_that_the_policy_does_not_name(bank: Hash) -> None:
    found = findings(booted_in(bank), event_log_pcrs=[0, 4, 7])
    assert not found[TpmFinding.EVENT_LOG_PCRS].passed
    assert found[TpmFinding.EVENT_LOG_PCRS].expected == "PCR 0, PCR 4, PCR 7 in sha256"
    assert found[TpmFinding.EVENT_LOG_PCRS].found == "none"


@pytest.mark.parametrize("bank", OTHER_BANKS)
def test_a_log_without_the_bank_that_the_policy_names_differs_from_its_pcrs(bank: Hash) -> None:
    found = findings(booted_in(bank))[TpmFinding.EVENT_LOG]
    assert (found.passed, found.found) == (False, "matching none; differing PCR 7")


def test_a_pcr_has_to_be_explained_in_every_bank_that_the_policy_names() -> None:
    log = make_log(banks=(Hash.SHA256, Hash.SHA384))
    other = boot_values(log, Hash.SHA384)
    pcrs = {"sha256": {"pcr7": [_values()[Hash.SHA256, 7].hex()]}, "sha384": {"pcr7": [other[Hash.SHA384, 7].hex()]}}
    whole = kit.sim().evidence(REPORT_DATA, log=log, pcrs={**_values(), **other})
    assert findings(whole, pcrs=pcrs, event_log_pcrs=[4, 7])[TpmFinding.EVENT_LOG_PCRS].passed
    narrow = {at: value for at, value in {**_values(), **other}.items() if at != (Hash.SHA256, 4)}
    less = kit.sim().evidence(REPORT_DATA, log=log, pcrs=narrow)
    found = failing(less, pcrs=pcrs, event_log_pcrs=[4, 7])
    assert (found.code, found.expected) == (TpmFinding.EVENT_LOG_PCRS, "PCR 4, PCR 7 in sha256 and sha384")
    assert "PCR 4" not in found.found


def test_a_pcr_that_was_extended_without_any_event_differs() -> None:
    silent = make_log([event for event in BOOT if event[0] != 4])
    found = failing(kit.sim().evidence(REPORT_DATA, log=silent, pcrs=_values()))
    assert (found.code, found.found.split("; ")[1]) == (TpmFinding.EVENT_LOG, "differing PCR 4")
    data = kit.sim().evidence(REPORT_DATA, log=silent, pcrs=_values())
    assert findings(data, event_log_partial=[4])[TpmFinding.EVENT_LOG].severity is Severity.WARNING


def test_pcrs_that_nothing_has_extended_need_no_event() -> None:
    values = {**_values(), (Hash.SHA256, 15): bytes(32), (Hash.SHA256, 17): b"\xff" * 32}
    data = kit.sim().evidence(REPORT_DATA, pcrs=dict(sorted(values.items())))
    found = findings(data)[TpmFinding.EVENT_LOG]
    assert found.passed
    assert "PCR 15" not in found.found


def test_a_policy_survives_its_own_form() -> None:
    table = kit.policy(
        pcrs={"sha384": {"pcr10": ["22" * 48], "pcr9": ["11" * 48]}, "sha256": {"pcr0": ["22" * 32, "11" * 32]}},
        ak=["33" * 32],
        event_log_pcrs=[9, 0, 9],
    )
    again = load_policy(table.to_dict())
    assert again == table
    assert again.digest == table.digest
    assert table.to_dict()["tpm"]["pcrs"] == {
        "sha256": {"pcr0": ["11" * 32, "22" * 32]},
        "sha384": {"pcr9": ["11" * 48], "pcr10": ["22" * 48]},
    }


def test_the_verdict_can_be_given_to_programs() -> None:
    import json

    value = json.loads(json.dumps(kit.verify().to_dict()))
    assert value["tee"] == "tpm"
    assert value["clock"]["safe"] is True
    assert value["platform_ids"] == {"ak": kit.sim().ak_fingerprint.hex()}
    assert value["event_log"]["differing"] == []
