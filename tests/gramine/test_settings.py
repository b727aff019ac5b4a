"""The enclave's own settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w

from manifests.errors import ManifestCode, ManifestError, StrongroomError
from manifests.gramine.errors import GramineError
from manifests.gramine.settings import ANY, FIRST, EnclaveSettings, Limits, load_settings, parse_settings
from manifests.signing import Signer

KEYS = tuple(sorted(Signer.from_seed(bytes([n]) * 32).public for n in range(1, 18)))


@pytest.mark.parametrize("owners", [FIRST, ANY, KEYS[:1], KEYS[:16]])
def test_settings_read_back_as_they_were_written(owners: tuple[bytes, ...] | str, tmp_path: Path) -> None:
    settings = EnclaveSettings(owners, limits=Limits(threads=7, max_models=3), components=("text", "audio"))
    path = tmp_path / "enclave.toml"
    path.write_bytes(settings.to_toml())
    assert load_settings(path) == settings


def test_limits_that_came_later_are_written_where_they_are_set_alone(tmp_path: Path) -> None:
    """So that a file, and the measurement of an enclave, stays the same for those who set none of them."""
    later = ("stuck_grace_ms", "run_memory", "address_space", "max_client_runs", "max_waiting", "telemetry")
    assert not [name for name in later if name in EnclaveSettings("any").to_toml().decode()]
    settings = EnclaveSettings("any", limits=Limits(run_memory=0, telemetry_models=1))
    written = settings.to_toml()
    assert (b"run_memory = 0" in written, b"telemetry_models = 1" in written) == (True, True)
    assert b"telemetry_window" not in written
    assert parse_settings(written) == settings


def test_limits_have_defaults_and_owners_have_none() -> None:
    assert parse_settings(b'version = 1\nattester = "simulator"\nowners = "first"').limits == Limits()
    with pytest.raises(GramineError):
        parse_settings(b'version = 1\nattester = "simulator"')


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"version": True},
        {"attester": "tea-leaves"},
        {"attester": 5},
        {"owners": "everybody"},
        {"owners": []},
        {"owners": 5},
        {"owners": [5]},
        {"owners": ["zz"]},
        {"owners": ["00" * 32]},
        {"owners": [KEYS[0].hex()] * 2},
        {"owners": [key.hex() for key in KEYS]},
        {"limits": 5},
        {"limits": {"nonsense": 1}},
        {"limits": {"threads": 1}},
        {"limits": {"threads": "4"}},
        {"limits": {"threads": True}},
        {"limits": {"max_message": 1 << 40}},
        {"limits": {"max_message": 1 << 20, "max_pending": 1 << 19}},
        {"limits": {"stuck_grace_ms": 0}},
        {"limits": {"run_memory": -1}},
        {"limits": {"address_space": 1 << 47}},
        {"limits": {"max_client_runs": 65}},
        {"limits": {"max_waiting": 1.5}},
        {"limits": {"telemetry_window": 86_401}},
        {"limits": {"telemetry_models": 2}},
        {"components": "image"},
        {"components": [5]},
        {"components": ["video"]},
        {"components": ["image", "image"]},
        {"components": ["audio", "text"]},
        {"another": 1},
    ],
)
def test_settings_that_are_not_usable_are_refused(changes: dict[str, Any]) -> None:
    table = {"version": 1, "attester": "simulator", "owners": "first", **changes}
    with pytest.raises(GramineError) as refusal:
        parse_settings(tomli_w.dumps(table).encode())
    assert refusal.value.code == "enclave-settings-invalid"


def test_settings_of_a_later_version_ask_for_a_newer_release() -> None:
    with pytest.raises(ManifestError) as refusal:
        parse_settings(b'version = 2\nattesters = ["simulator"]')
    assert refusal.value.code is ManifestCode.VERSION_UNSUPPORTED


@pytest.mark.parametrize("data", [b"\xff", b"[", b"x = " + b"[" * 5000])
def test_what_is_no_toml_is_refused(data: bytes) -> None:
    with pytest.raises(GramineError) as refusal:
        parse_settings(data)
    assert refusal.value.code == "enclave-settings-invalid"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StrongroomError) as refusal:
        load_settings(tmp_path / "none.toml")
    assert refusal.value.code == "file-unavailable"
