"""A list of broken hardware refuses what it names, and is itself refused where it is forged, old or unclear."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.amd.tcb import COMPONENTS, Product
from attestation.amd.verified import SnpVerified
from attestation.appraise import appraise
from attestation.errors import FindingCode, PolicyCode
from attestation.findings import Appraisal
from attestation.intel.verified import IntelVerified, SgxVerified, TdxVerified
from attestation.nitro.verify import NitroVerified
from attestation.nvidia.verified import DeviceVerified
from attestation.policy import load_policy
from attestation.policy.feed import CONTEXT, MAX_FEED, HardwareFeed, describe, open_feed, sign_feed
from attestation.policy.platforms import PLATFORM_IDS, TCB_COMPONENTS
from attestation.tpm.verified import TpmVerified
from attestation.validity import rfc3339
from manifests.errors import ManifestCode
from tests.attestation import kit
from tests.attestation.kit import NOW, policy, policy_map, refused
from tests.policy.kit import DAY, FMSPC, PPID, STRANGER, WATCHER, body, entry, feed, named


def judged(now: int = NOW, verified: IntelVerified | None = None, **evidence: Any) -> Appraisal:
    return appraise(verified or kit.verify_sim(), policy(evidence=evidence), now)


def failing(now: int = NOW, verified: IntelVerified | None = None, **evidence: Any) -> list[str]:
    return [str(finding.code) for finding in judged(now, verified, **evidence).failed]


def with_pck(**changes: Any) -> IntelVerified:
    good = kit.verify_sim()
    return dataclasses.replace(good, pck=dataclasses.replace(good.pck, **changes))


# ------------------------------------------------------------------------------------------------ what an entry hits


def test_a_platform_on_the_list_is_refused_and_the_finding_says_why() -> None:
    (finding,) = judged(**named(entry())).failed
    assert finding.code is FindingCode.BROKEN
    assert "SR-1 since 2025-09-01T00:00:00Z: its attestation key was read off the memory bus" in finding.found
    assert "list 7" in finding.expected
    assert finding.remedy is not None


HITS: list[dict[str, Any]] = [
    {"platforms": {"fmspc": [FMSPC]}},
    {"platforms": {"fmspc": [FMSPC], "ppid": ["00" * 15 + "01", PPID]}},
    {"platforms": None, "below": {"pcesvn": 14}},
    {"platforms": None, "below": {"pcesvn": 13, "sgxtcbcomp01svn": 8}},
    {"platforms": {"fmspc": [FMSPC]}, "below": {"sgxtcbcomp05svn": 256}},
    {"tees": ["sgx", "tdx"]},
]
MISSES: list[dict[str, Any]] = [
    {"platforms": {"fmspc": ["00906ed50000"]}},
    {"platforms": {"fmspc": ["00906ed50000"], "ppid": [PPID]}},
    {"platforms": None, "below": {"pcesvn": 13}},
    {"below": {"sgxtcbcomp01svn": 7}},
    {"platforms": None, "advisories": ["INTEL-SA-00615"]},
    {"tees": ["tdx"]},
]


@pytest.mark.parametrize("changes", HITS, ids=str)
def test_an_entry_whose_conditions_all_hold_hits(changes: dict[str, Any]) -> None:
    assert failing(**named(entry(**changes))) == [FindingCode.BROKEN]


@pytest.mark.parametrize("changes", MISSES, ids=str)
def test_an_entry_with_a_condition_that_does_not_hold_misses(changes: dict[str, Any]) -> None:
    assert failing(**named(entry(**changes))) == []


def test_an_entry_hits_by_an_advisory_that_a_policy_may_well_accept() -> None:
    good = kit.verify_sim()
    advised = dataclasses.replace(good, tcb=dataclasses.replace(good.tcb, advisories=("INTEL-SA-00615",)))
    listed = entry(platforms=None, advisories=["INTEL-SA-00615"])
    assert failing(verified=advised, advisories_accepted=["*"], **named(listed)) == [FindingCode.BROKEN]


@pytest.mark.parametrize("hidden", [bytes(16), b""])
def test_a_platform_that_hides_its_id_counts_as_the_one_that_is_named(hidden: bytes) -> None:
    other = entry(platforms={"ppid": ["77" * 16]})
    assert failing(verified=with_pck(ppid=hidden), **named(other)) == [FindingCode.BROKEN]
    denied = {"platforms_denied": {"ppid": ["77" * 16]}}
    assert failing(verified=with_pck(ppid=hidden), **denied) == [FindingCode.DENIED]


def test_every_entry_that_hits_is_named() -> None:
    (finding,) = judged(**named(entry(), entry(id="SR-2", platforms={"fmspc": [FMSPC]}))).failed
    assert "SR-1" in finding.found
    assert "SR-2" in finding.found


def test_a_list_without_entries_refuses_nothing() -> None:
    assert failing(**named()) == []


# ------------------------------------------------------------------------------------------------ dates


@pytest.mark.parametrize(
    ("now", "failed"),
    [
        (NOW - DAY - 1, [FindingCode.FEED_DATES]),
        (NOW - DAY, []),
        (NOW + 30 * DAY - 1, []),
        (NOW + 30 * DAY, [FindingCode.FEED_DATES]),
    ],
)
def test_a_list_counts_from_its_issue_until_before_its_end(now: int, failed: list[str]) -> None:
    collateral = {FindingCode.COLLATERAL_DATES}
    assert [code for code in failing(now, **named()) if code not in collateral] == failed


def test_a_list_older_than_the_policy_allows_is_a_finding() -> None:
    assert failing(**named(broken_hardware_max_age=DAY)) == []
    assert failing(**named(broken_hardware_max_age=DAY - 1)) == [FindingCode.FEED_AGE]


def test_a_list_behind_the_policys_floor_is_refused_as_rolled_back() -> None:
    assert failing(**named(broken_hardware_serial_min=7)) == []
    with refused(PolicyCode.FEED_ROLLED_BACK) as caught:
        policy(evidence=named(broken_hardware_serial_min=8))
    assert (caught.value.expected, caught.value.found) == ("serial number 8 or later", 7)


# ------------------------------------------------------------------------------------------------ the policy's part


@pytest.mark.parametrize("field", ["broken_hardware_key", "broken_hardware_max_age", "broken_hardware_serial_min"])
def test_fields_of_a_list_without_a_list_are_vacuous(field: str) -> None:
    value: Any = WATCHER.public.hex() if field.endswith("key") else 5
    with refused(PolicyCode.POLICY_VACUOUS):
        policy(evidence={field: value})


def test_a_list_without_its_key_is_vacuous() -> None:
    with refused(PolicyCode.POLICY_VACUOUS):
        policy(evidence=named(broken_hardware_key=None))


def test_a_key_that_is_none_is_refused() -> None:
    with refused(PolicyCode.POLICY_MALFORMED) as caught:
        policy(evidence=named(broken_hardware_key="00" * 32))
    assert f"broken_hardware_key: {'00' * 32} is not an Ed25519 public key" in caught.value.message


def test_a_list_in_a_file_becomes_part_of_the_policy_and_of_its_digest(tmp_path: Path) -> None:
    (tmp_path / "feed.json").write_text(feed(entry()), encoding="utf-8")
    value = policy_map(evidence=named(entry(), broken_hardware="feed.json"))
    loaded = load_policy(value, base=tmp_path)
    assert loaded == policy(evidence=named(entry()))
    assert load_policy(loaded.to_dict()) == loaded
    (tmp_path / "feed.json").write_text(feed(entry(), serial=8), encoding="utf-8")
    assert load_policy(value, base=tmp_path).digest != loaded.digest


def test_a_list_means_the_same_however_its_file_is_laid_out() -> None:
    spread = json.dumps(json.loads(feed(entry())), indent=4)
    assert policy(evidence=named(broken_hardware=spread)) == policy(evidence=named(entry()))


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with refused(ManifestCode.FILE_UNAVAILABLE) as caught:
        load_policy(policy_map(evidence=named(broken_hardware="feed.json")), base=tmp_path)
    assert "feed.json" in caught.value.message


def test_an_unusable_list_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "feed.json").write_bytes(b"\xff{}")
    with refused(PolicyCode.FEED_MALFORMED) as caught:
        load_policy(policy_map(evidence=named(broken_hardware="feed.json")), base=tmp_path)
    assert "feed.json" in caught.value.message


# ------------------------------------------------------------------------------------------------ the signature


def test_a_list_under_another_key_is_refused() -> None:
    with refused(PolicyCode.FEED_SIGNATURE):
        open_feed(feed(entry(), signer=STRANGER), WATCHER.public)


def test_every_changed_character_of_a_list_is_refused() -> None:
    good = feed(entry())
    for index, old in enumerate(good):
        changed = good[:index] + chr(ord(old) ^ 1) + good[index + 1 :]
        verdict = kit.outcome(lambda text=changed: open_feed(text, WATCHER.public))
        assert verdict in {PolicyCode.FEED_SIGNATURE, PolicyCode.FEED_MALFORMED}, changed


def test_a_signature_of_another_document_is_none_of_a_list() -> None:
    text = json.loads(feed())["feed"]
    other = WATCHER.sign(b"strongroom grant v1\0", text.encode())
    with refused(PolicyCode.FEED_SIGNATURE):
        open_feed(json.dumps({"feed": text, "signature": other.hex()}), WATCHER.public)


# ------------------------------------------------------------------------------------------------ the form


def signed(value: Any) -> str:
    """A list's file over any JSON at all, rightly signed."""
    text = value if isinstance(value, str) else json.dumps(value)
    return json.dumps({"feed": text, "signature": WATCHER.sign(CONTEXT, text.encode()).hex()})


MALFORMED: list[Any] = [
    "",
    [],
    body(entry(), serial=0),
    body(entry(), serial=True),
    body(entry(), issued="yesterday"),
    body(entry(), issued=rfc3339(NOW + 31 * DAY)),
    body(entry(), expires=rfc3339(NOW - DAY)),
    body(entry(), more=1),
    body(entry(), entry()),
    body(entry(platforms=None)),
    body(entry(platforms={})),
    body(entry(platforms={"ppid": []})),
    body(entry(platforms={"ppid": ["00" * 15]})),
    body(entry(platforms={"ppid": [PPID.upper() + "Z"]})),
    body(entry(platforms={"chip_id": ["00" * 64]})),
    body(entry(tees=["sgx", "snp"])),
    body(entry(tees=["sgx3"])),
    body(entry(tees=[])),
    body(entry(below={})),
    body(entry(below={"pcesvn": 0})),
    body(entry(below={"bootloader": 1})),
    body(entry(advisories=[])),
    body(entry(tees=["snp"], platforms=None, advisories=["AMD-SB-3019"])),
    body(entry(tees=["snp"], platforms={"product": ["genoa"]}, advisories=["AMD-SB-3019"])),
    body(entry(tees=["tpm"], platforms=None, advisories=["CVE-2025-2884"])),
    body(entry(tees=["nitro", "sgx"], platforms=None, advisories=["INTEL-SA-00615"])),
    body(entry(tees=["snp"], platforms={"product": ["Genoa"]})),
    body(entry(tees=["snp"], platforms={"product": ["EPYC-9004"]})),
    body(entry(tees=["snp"], platforms={"csp_id": ["aws"]})),
    body(entry(tees=["nitro"], platforms={"module_id": ["i-0827e799ec9232d44"]})),
    body(entry(reason="")),
    body(entry(date="2025-09-01")),
    body(entry(note="x")),
]


@pytest.mark.parametrize("value", MALFORMED, ids=str)
def test_a_list_that_is_unclear_is_refused_although_it_is_signed(value: Any) -> None:
    with refused(PolicyCode.FEED_MALFORMED) as caught:
        open_feed(signed(value), WATCHER.public)
    assert caught.value.remedy is not None
    if isinstance(value, dict):
        with refused(PolicyCode.FEED_MALFORMED):
            sign_feed(value, WATCHER)


def test_a_list_of_a_later_version_is_unsupported() -> None:
    with refused(PolicyCode.FEED_VERSION):
        open_feed(signed(body(entry(), version=2)), WATCHER.public)


def test_a_list_that_is_too_large_is_refused() -> None:
    many = [entry(id=f"SR-{number}", reason="x" * 200) for number in range(200)]
    assert len(json.dumps(many)) > MAX_FEED
    with refused(PolicyCode.FEED_MALFORMED):
        open_feed(signed(body(*many)), WATCHER.public)


@pytest.mark.parametrize(
    "file",
    ["", "{}", "[]", '{"feed": 1, "signature": "00"}', '{"feed": "é", "signature": "' + "0" * 128 + '"}', "{" * 99],
)
def test_a_file_that_is_no_list_is_refused(file: str) -> None:
    with refused(PolicyCode.FEED_MALFORMED):
        open_feed(file, WATCHER.public)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5))
def test_any_value_in_any_place_is_read_or_refused(value: Any) -> None:
    for name in ("serial", "issued", "entries"):
        _totally(body(entry(), **{name: value}))
    for name in ("id", "date", "reason", "tees", "platforms", "below", "advisories"):
        _totally(body(entry(**{name: value})))


def _totally(value: Any) -> None:
    opened = kit.outcome(lambda: open_feed(signed(value), WATCHER.public))
    if isinstance(opened, HardwareFeed):
        assert describe(opened)["serial"] == opened.serial
    else:
        assert opened in {PolicyCode.FEED_MALFORMED, PolicyCode.FEED_VERSION}


def test_security_versions_that_evidence_shows_are_those_that_lists_can_name() -> None:
    assert set(kit.verify_sim().tcb_components) == TCB_COMPONENTS["sgx"]
    assert {name for names in COMPONENTS.values() for name in names} == TCB_COMPONENTS["snp"]


_PCK = SimpleNamespace(fmspc=bytes(5) + b"\1", ppid=bytes(15) + b"\1")
_GPU = SimpleNamespace(
    product=SimpleNamespace(name="GH100"),
    serial=b"\1" * 9,
    device_key=b"\1" * 32,
    firmware=SimpleNamespace(fwid=b"\1" * 48),
)
_SNP = SimpleNamespace(
    product=Product.MILAN,
    report=SimpleNamespace(chip_id=b"\1" * 64),
    endorsement=SimpleNamespace(csp_id="CN=cc-us-east-2.amazonaws.com"),
)


@pytest.mark.parametrize(
    ("tee", "kind", "parts"),
    [
        ("sgx", SgxVerified, {"pck": _PCK}),
        ("tdx", TdxVerified, {"pck": _PCK}),
        ("snp", SnpVerified, vars(_SNP)),
        ("nitro", NitroVerified, {"document": SimpleNamespace(module_id="i-0827e799ec9232d44-enc019b55a68bd2ed4b")}),
        ("tpm", TpmVerified, {"key": b"\1" * 32}),
        ("nvidia", DeviceVerified, vars(_GPU)),
    ],
)
def test_ids_that_evidence_shows_are_those_that_lists_and_policies_can_name(tee: str, kind: Any, parts: Any) -> None:
    shown = kind.platform_ids.fget(SimpleNamespace(**parts))
    assert set(shown) == {name for name, each in PLATFORM_IDS.items() if tee in each.tees}
    assert all(PLATFORM_IDS[name].admits(value) for name, value in shown.items())


def test_for_programs_a_list_has_its_own_dates_and_maps() -> None:
    given = body(entry())
    shown = json.loads(json.dumps(describe(open_feed(signed(given), WATCHER.public))))
    assert {name: shown[name] for name in ("serial", "issued", "expires")} == {
        name: given[name] for name in ("serial", "issued", "expires")
    }
    (item,) = shown["entries"]
    assert item["date"] == given["entries"][0]["date"]
    assert {name: item[name] for name in ("platforms", "below")} == {
        name: given["entries"][0].get(name, {}) for name in ("platforms", "below")
    }
