"""Policies refuse by default, refuse to be vacuous, and refuse what they do not know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import EvidenceCode, PolicyCode, PolicyError
from attestation.evidence import Roots
from attestation.policy import MAX_POLICY, Policy, SgxPolicy, load_policy, roots_for
from manifests.errors import ManifestCode, StrongroomError
from manifests.signing import Signer
from tests.attestation import kit
from tests.attestation.kit import policy, policy_map, refused

OWNER = Signer.from_seed(bytes(32)).public.hex()

TOML = """
version = 1

[evidence]
tcb_status = ["UpToDate", "SWHardeningNeeded"]
advisories_accepted = ["INTEL-SA-00615"]
max_collateral_age = 604800
tcb_evaluation_min = 17

[sgx]
mrsigner = ["{signer}"]
isv_prod_id = 1
isv_svn_min = 2
attributes_allowed = ["KSS"]
xfrm_allowed = 0xe7
miscselect_allowed = 1
config_id = ["{config}"]
config_svn = 3
fmspc = ["00906ed50000"]
ppid = ["{ppid}"]

[service]
owners = ["{owner}"]
models = ["{model}"]
max_broker_age = 600
min_epoch = 4

[release]
models = ["tumour", "filetype"]
lease = 10000
heartbeat_seconds = 10
min_epoch = 5
max_enclaves = 2
"""


def full() -> bytes:
    parts = {"signer": "ab" * 32, "config": "01" * 64, "ppid": "02" * 16, "owner": OWNER, "model": "03" * 64}
    return TOML.format(**parts).encode("utf-8")


def sgx_table(loaded: Policy) -> SgxPolicy:
    table = loaded.table("sgx")
    assert isinstance(table, SgxPolicy)
    return table


def test_a_full_policy_is_read() -> None:
    loaded = load_policy(full())
    assert loaded.evidence.tcb_status == ("SWHardeningNeeded", "UpToDate")
    assert loaded.evidence.tcb_evaluation_min == 17
    sgx = sgx_table(loaded)
    assert sgx.mrsigner == (b"\xab" * 32,)
    assert sgx.attributes_mask == 0x80
    assert loaded.service is not None
    assert loaded.service.owners == (bytes.fromhex(OWNER),)
    assert loaded.release is not None
    assert (loaded.release.lease, loaded.release.max_enclaves) == (10000, 2)
    assert roots_for(loaded) == Roots.vendor()


def test_a_policy_and_its_map_are_the_same_policy() -> None:
    for loaded in (load_policy(full()), policy()):
        assert load_policy(loaded.to_dict()) == loaded
        assert load_policy(loaded.to_dict()).digest == loaded.digest
        assert len(loaded.digest) == 64


def test_the_digest_follows_the_meaning_and_not_the_text() -> None:
    assert load_policy(b"# a comment\n" + full()).digest == load_policy(full()).digest
    assert load_policy(full().replace(b"isv_svn_min = 2", b"isv_svn_min = 3")).digest != load_policy(full()).digest


def test_the_defaults_refuse() -> None:
    sgx = sgx_table(policy())
    assert not sgx.debug
    assert not sgx.provision_key
    assert not sgx.einittoken_key
    assert sgx.attributes_mask == sgx.miscselect_allowed == sgx.cet_attributes_allowed == sgx.config_svn == 0
    assert sgx.config_id == (bytes(64),)
    evidence = load_policy(policy_map(evidence={"simulation": None, "simulated_root": None})).evidence
    assert not evidence.simulation
    assert evidence.advisories_accepted == ()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"evidence": {"tcb_status": None}}, PolicyCode.POLICY_VACUOUS),
        ({"evidence": {"tcb_status": []}}, PolicyCode.POLICY_VACUOUS),
        ({"evidence": {"simulated_root": None}}, PolicyCode.POLICY_VACUOUS),
        ({"sgx": {"mrenclave": None}}, PolicyCode.POLICY_VACUOUS),
        ({"sgx": {"mrenclave": []}}, PolicyCode.POLICY_VACUOUS),
        ({"sgx": {"mrsigner": []}}, PolicyCode.POLICY_VACUOUS),
        ({"sgx": {"fmspc": []}}, PolicyCode.POLICY_VACUOUS),
        ({"sgx": {"ppid": []}}, PolicyCode.POLICY_VACUOUS),
        ({"sgx": {"mrsigner": ["ab" * 32]}}, PolicyCode.POLICY_VACUOUS),
        ({"sgx": {"mrsigner": ["ab" * 32], "isv_prod_id": 1}}, PolicyCode.POLICY_VACUOUS),
        ({"service": {"owners": []}}, PolicyCode.POLICY_VACUOUS),
        ({"service": {}}, PolicyCode.POLICY_VACUOUS),
        ({"release": {"models": [], "lease": 1}}, PolicyCode.POLICY_VACUOUS),
        ({"evidence": {"tcb_status": ["UpToDate", "Revoked"]}}, PolicyCode.POLICY_CONTRADICTION),
        ({"evidence": {"simulation": False}}, PolicyCode.POLICY_CONTRADICTION),
        ({"release": {"models": ["*", "a"], "lease": 1}}, PolicyCode.POLICY_CONTRADICTION),
        ({"evidence": {"tcb_status": ["uptodate"]}}, PolicyCode.POLICY_MALFORMED),
        ({"evidence": {"simulation": "yes"}}, PolicyCode.POLICY_MALFORMED),
        ({"evidence": {"max_collateral_age": 0}}, PolicyCode.POLICY_MALFORMED),
        ({"evidence": {"allow_expired": True}}, PolicyCode.POLICY_MALFORMED),
        ({"sgx": {"mrenclave": ["07" * 31]}}, PolicyCode.POLICY_MALFORMED),
        ({"sgx": {"mrenclave": ["0G" * 32]}}, PolicyCode.POLICY_MALFORMED),
        ({"sgx": {"mrenclave": "07" * 32}}, PolicyCode.POLICY_MALFORMED),
        ({"sgx": {"debug": 1}}, PolicyCode.POLICY_MALFORMED),
        ({"sgx": {"attributes_allowed": ["DEBUG"]}}, PolicyCode.POLICY_MALFORMED),
        ({"sgx": {"isv_svn_min": 65536}}, PolicyCode.POLICY_MALFORMED),
        ({"sgx": {"xfrm_allowed": -1}}, PolicyCode.POLICY_MALFORMED),
        ({"service": {"owners": ["00" * 32]}}, PolicyCode.POLICY_MALFORMED),
        ({"service": {"owners": [OWNER], "max_broker_age": 0}}, PolicyCode.POLICY_MALFORMED),
        ({"release": {"models": ["a"]}}, PolicyCode.POLICY_VACUOUS),
        ({"release": {"models": ["a"], "lease": 0}}, PolicyCode.POLICY_MALFORMED),
        ({"quotas": {}}, PolicyCode.POLICY_MALFORMED),
    ],
    ids=str,
)
def test_a_policy_that_cannot_be_meant_is_refused(changes: dict[str, Any], code: PolicyCode) -> None:
    with refused(code):
        policy(**changes)


def test_which_owner_is_no_key_is_named() -> None:
    with refused(PolicyCode.POLICY_MALFORMED) as caught:
        policy(service={"owners": [OWNER, "00" * 32]})
    assert f"owners: {'00' * 32} is not an Ed25519 public key" in caught.value.message


def test_a_policy_that_accepts_no_code_is_refused() -> None:
    with refused(PolicyCode.POLICY_VACUOUS) as caught:
        load_policy({name: table for name, table in policy_map().items() if name != "sgx"})
    assert "[sgx]" in str(caught.value.remedy)


def test_several_roots_of_a_simulated_platform_are_named_as_a_list() -> None:
    roots = [digit * 64 for digit in "ab"]
    loaded = load_policy(policy_map(evidence={"simulated_root": roots}))
    assert roots_for(loaded) == Roots.simulated_fingerprints(*map(bytes.fromhex, roots))
    assert load_policy(loaded.to_dict()) == loaded


def test_a_policy_of_another_version_is_unsupported() -> None:
    for version in (2, 0, True, 1.0, "1", None):
        with refused(PolicyCode.POLICY_VERSION):
            load_policy(policy_map() | {"version": version})
    with refused(PolicyCode.POLICY_VERSION):
        load_policy({})


def test_a_policy_without_its_tables_is_malformed() -> None:
    with refused(PolicyCode.POLICY_MALFORMED):
        load_policy({"version": 1})
    with refused(PolicyCode.POLICY_MALFORMED):
        load_policy(policy_map() | {"sgx": 3})


@pytest.mark.parametrize("text", [b"\xff", b"version = ", b"[" * 3000])
def test_text_that_is_no_toml_is_refused(text: bytes) -> None:
    with refused(PolicyCode.POLICY_MALFORMED):
        load_policy(text)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5))
def test_any_value_in_any_place_is_read_or_refused(value: Any) -> None:
    for table in ("evidence", "sgx", "service", "release"):
        for name in ("tcb_status", "mrenclave", "owners", "models", "lease", "debug", "config_svn", "simulated_root"):
            try:
                policy(**{table: {name: value}})
            except StrongroomError as error:
                known = isinstance(error, PolicyError) or error.code is ManifestCode.FILE_UNAVAILABLE
            else:
                known = True
            assert known


# ------------------------------------------------------------------------------------------------------- files


def test_the_root_of_a_simulated_platform_is_found_beside_the_policy(tmp_path: Path) -> None:
    (tmp_path / "platform").mkdir()
    (tmp_path / "platform" / "root.pem").write_bytes(kit.platform().root_pem)
    text = (
        "version = 1\n[evidence]\nsimulation = true\nsimulated_root = 'platform/root.pem'\n"
        f"tcb_status = ['UpToDate']\n[sgx]\nmrenclave = ['{kit.MRENCLAVE.hex()}']\n"
    )
    path = tmp_path / "policy.toml"
    path.write_text(text, encoding="utf-8")
    for loaded in (load_policy(path), load_policy(str(path)), load_policy(text.encode("utf-8"), base=tmp_path)):
        assert loaded == policy()
        assert roots_for(loaded) == kit.sim_roots()


def test_a_missing_root_file_is_named(tmp_path: Path) -> None:
    with refused(ManifestCode.FILE_UNAVAILABLE) as caught:
        load_policy(policy_map(evidence={"simulated_root": "root.pem"}), base=tmp_path)
    assert "root.pem" in caught.value.message


def test_a_root_that_is_not_marked_as_simulated_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_bytes(b"junk")
    with refused(EvidenceCode.CERTIFICATE_MALFORMED):
        load_policy(policy_map(evidence={"simulated_root": "root.pem"}), base=tmp_path)


def test_policy_files_are_bounded(tmp_path: Path) -> None:
    with refused(ManifestCode.FILE_UNAVAILABLE):
        load_policy(tmp_path / "missing.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * (MAX_POLICY + 1))
    with pytest.raises(StrongroomError) as caught:
        load_policy(tmp_path / "large.toml")
    assert caught.value.code is ManifestCode.FILE_TOO_LARGE


def test_a_floor_for_configsvn_stands_in_the_place_of_the_one_value() -> None:
    floor = sgx_table(policy(sgx={"config_svn_min": 2}))
    assert (floor.config_svn_min, "config_svn" in floor.to_dict()) == (2, False)
    loaded = policy(sgx={"config_svn_min": 2})
    assert load_policy(loaded.to_dict()) == loaded
    assert sgx_table(policy()).config_svn_min is None
    for one in (0, 2):
        with refused(PolicyCode.POLICY_CONTRADICTION):
            policy(sgx={"config_svn": one, "config_svn_min": 2})
    for wrong in (-1, 1 << 16, "2", True):
        with refused(PolicyCode.POLICY_MALFORMED):
            policy(sgx={"config_svn_min": wrong})
