"""The attester of NVIDIA's devices against a stand-in for NVIDIA's library, and the evidence that the verifier gets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attestation.intel.pem import encode_chain
from attestation.nvidia import container
from attestation.sim.nvidia import Device
from attestation.types.claims import MAX_DEVICE_EVIDENCE
from enclave.attesters import DEVICE_ATTESTERS, nvidia, open_devices
from enclave.attesters.nvidia import NvidiaDevices
from enclave.errors import EnclaveCode, EnclaveError
from manifests.gramine import settings
from manifests.gramine.errors import GramineError
from manifests.gramine.settings import DeviceSettings, EnclaveSettings, parse_settings
from tests.nvidia import kit
from tests.nvidia.nvml import NOT_SUPPORTED, FakeNvml


def manifests(folder: Path, *devices: Device) -> tuple[str, ...]:
    """Write the manifests of devices, as an operator puts those of NVIDIA's service, and return their paths."""
    paths = []
    for number, rim in enumerate(kit.rims(*devices)):
        path = folder / f"rim-{number}.xml"
        path.write_bytes(rim)
        paths.append(str(path))
    return tuple(paths)


def asked(library: FakeNvml, *paths: str) -> bytes:
    return NvidiaDevices(DeviceSettings("nvidia", paths), library.load).evidence(kit.REPORT_DATA)


def failed(call: Callable[[], object]) -> EnclaveError:
    with pytest.raises(EnclaveError) as refusal:
        call()
    assert refusal.value.code is EnclaveCode.START_FAILED
    assert refusal.value.remedy
    return refusal.value


def test_what_devices_answer_verifies_with_the_manifests_of_the_settings(tmp_path: Path) -> None:
    devices = (Device(), Device(number=1))
    library = FakeNvml(kit.platform(), devices)
    data = asked(library, *manifests(tmp_path, Device()))
    verified = kit.verify_sim(data)
    assert kit.failed(verified) == []
    assert [each.serial for each in verified.devices] == [kit.platform().serial(device) for device in devices]
    assert set(library.nonces) == {hashlib.sha256(kit.REPORT_DATA).digest()}
    assert data == kit.simulated(*devices, manifests=kit.rims(Device()))


def test_the_container_is_the_one_that_verifiers_read() -> None:
    assert (nvidia.FORMAT, nvidia.VERSION) == (container.FORMAT, container.VERSION)
    assert (nvidia.MAX_DEVICES, nvidia.MAX_MANIFEST) == (container.MAX_DEVICES, container.MAX_RIM)
    assert MAX_DEVICE_EVIDENCE <= container.MAX_EVIDENCE
    assert tuple(DEVICE_ATTESTERS) == settings.DEVICE_ATTESTERS


def test_a_machine_without_the_library_is_told_so() -> None:
    error = failed(lambda: open_devices(EnclaveSettings("first", devices=DeviceSettings("nvidia"))))
    assert "libnvidia-ml.so.1" in error.message
    assert open_devices(EnclaveSettings("first")) is None


@pytest.mark.parametrize(
    "function",
    [
        "nvmlInit_v2",
        "nvmlDeviceGetCount_v2",
        "nvmlDeviceGetHandleByIndex_v2",
        "nvmlDeviceGetConfComputeGpuAttestationReport",
        "nvmlDeviceGetConfComputeGpuCertificate",
    ],
)
def test_a_library_that_lacks_or_refuses_a_function_is_named_with_it(function: str) -> None:
    refusing = FakeNvml(kit.platform(), fails={function: NOT_SUPPORTED})
    assert f"{function} gives status 3" in failed(lambda: asked(refusing)).message
    lacking = FakeNvml(kit.platform(), absent=frozenset({function}))
    assert f"has no {function}" in failed(lambda: asked(lacking)).message


@pytest.mark.parametrize(
    "changes",
    [
        {"sizes": (0, None)},
        {"sizes": (0x2001, None)},
        {"sizes": (None, 0)},
        {"sizes": (None, 0xFFFFFFFF)},
        {"chain": b"no certificate"},
        {"chain": b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n"},
        {"chain": b"-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----\n"},
        {"chain": encode_chain(b"0", b"", b"0")},
    ],
)
def test_an_answer_that_is_none_is_refused_and_nothing_is_read_beyond_its_buffer(changes: dict[str, Any]) -> None:
    assert "not of its form" in failed(lambda: asked(FakeNvml(kit.platform(), **changes))).message


@pytest.mark.parametrize("count", [0, 33])
def test_no_gpu_and_too_many_are_refused(count: int) -> None:
    devices = tuple(Device(number=number) for number in range(count))
    assert f"{count} GPUs" in failed(lambda: asked(FakeNvml(kit.platform(), devices))).message


def test_a_manifest_that_is_not_there_or_too_long_is_named(tmp_path: Path) -> None:
    library = FakeNvml(kit.platform())
    assert "none.xml" in failed(lambda: asked(library, str(tmp_path / "none.xml"))).message
    (tmp_path / "long.xml").write_bytes(bytes(128 * 1024 + 1))
    assert "large" in failed(lambda: asked(library, str(tmp_path / "long.xml"))).message


def test_evidence_that_no_session_can_carry_is_refused_at_the_start(tmp_path: Path) -> None:
    paths = []
    for number in range(9):
        path = tmp_path / f"{number}.xml"
        path.write_bytes(bytes(128 * 1024))
        paths.append(str(path))
    error = failed(lambda: asked(FakeNvml(kit.platform()), *paths))
    assert error.expected == f"at most {MAX_DEVICE_EVIDENCE} bytes"
    with pytest.raises(ValueError, match="64 bytes"):
        NvidiaDevices(DeviceSettings("nvidia"), FakeNvml(kit.platform()).load).evidence(b"short")


# ------------------------------------------------------------------------------------------ settings

BASE = 'version = 1\nattester = "tdx"\nowners = "first"\n'


def test_settings_name_the_devices_and_come_back_from_their_file() -> None:
    read = parse_settings(f'{BASE}[devices]\nattester = "nvidia"\nmanifests = ["/rims/a.xml"]\n'.encode())
    assert read.devices == DeviceSettings("nvidia", ("/rims/a.xml",))
    assert parse_settings(read.to_toml()) == read
    bare = parse_settings(f'{BASE}[devices]\nattester = "nvidia"\n'.encode())
    assert bare.devices == DeviceSettings("nvidia")
    assert parse_settings(bare.to_toml()) == bare
    assert parse_settings(BASE.encode()).devices is None


@pytest.mark.parametrize(
    "table",
    [
        "devices = 1",
        "[devices]",
        '[devices]\nattester = "amd"',
        "[devices]\nattester = 1",
        '[devices]\nattester = "nvidia"\nunknown = 1',
        '[devices]\nattester = "nvidia"\nmanifests = "/rims/a.xml"',
        '[devices]\nattester = "nvidia"\nmanifests = [1]',
        '[devices]\nattester = "nvidia"\nmanifests = ["rims/a.xml"]',
        '[devices]\nattester = "nvidia"\nmanifests = ["/a", "/a"]',
    ],
)
def test_settings_of_devices_that_mean_nothing_are_refused(table: str) -> None:
    with pytest.raises(GramineError) as refusal:
        parse_settings(f"{BASE}{table}\n".encode())
    assert str(refusal.value.code) == "enclave-settings-invalid"
