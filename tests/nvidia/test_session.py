"""A real session with an enclave that uses GPUs: one message has the evidence of both, and one appraisal covers it."""

from __future__ import annotations

import dataclasses
import functools
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attestation import binding
from attestation.appraise import SessionAppraisal, appraise_session
from attestation.client.connection import collect_evidence, open_session
from attestation.collateral import FixedSource
from attestation.composite import appraise_record
from attestation.errors import EvidenceCode, FindingCode, SessionFinding
from attestation.evidence import Roots
from attestation.nvidia.errors import NvidiaFinding
from attestation.policy import load_policy
from attestation.sim.nvidia import Device
from attestation.types import Claims, EvidenceRecord, PlatformClass
from attestation.types.claims import MAX_DEVICE_EVIDENCE, MAX_EVIDENCE, MAX_QUOTE
from attestation.wire.records import ROOM, padded_room
from enclave.attesters.base import Attester, DeviceAttester
from enclave.attesters.nvidia import NvidiaDevices
from manifests import canonical
from manifests.errors import ManifestCode, ManifestError
from manifests.gramine.settings import DeviceSettings
from manifests.signing import Signer
from tests.attestation import kit as sgx
from tests.nvidia import kit
from tests.nvidia.nvml import FakeNvml
from tests.nvidia.test_attester import manifests
from tests.tdx import kit as tdx
from tests.testkit.direct import serving
from tests.wire.independent_client import Client, RefusalError, devices_named
from tests.wire.store import TicketStore
from tests.wire.test_independent_client import Server

NOW = kit.NOW


class Quoting(Attester):
    """A simulated processor."""

    platform = PlatformClass.SIMULATED
    hint = "simulated"

    def __init__(self, quote: Callable[[bytes], bytes]) -> None:
        self._make = quote

    def _quote(self, report_data: bytes) -> bytes:
        return self._make(report_data)


def sgx_quote(report_data: bytes) -> bytes:
    platform = sgx.platform()
    return platform.quote(platform.report_body(sgx.MRENCLAVE), report_data)


def tdx_quote(report_data: bytes) -> bytes:
    return tdx.platform().evidence(tdx.MRTD, report_data)


PROCESSORS: dict[str, Any] = {"sgx": (sgx_quote, sgx), "tdx": (tdx_quote, tdx)}


def gpus(folder: Path, *devices: Device) -> NvidiaDevices:
    """The enclave's attester of devices, over the simulated ones, with their manifests in files."""
    paths = manifests(folder, *devices)
    return NvidiaDevices(DeviceSettings("nvidia", paths), FakeNvml(kit.platform(), devices or (Device(),)).load)


def terms(tee: str, **tables: dict[str, Any] | None) -> dict[str, Any]:
    """What a relying party holds the enclave against; keywords replace tables of its policy."""
    of_processor = PROCESSORS[tee][1]
    base = of_processor.policy_map() | {"nvidia": kit.policy_map()["nvidia"]} | tables
    roots = (of_processor.platform(), kit.platform())
    base["evidence"]["simulated_root"] = [each.root_fingerprint.hex() for each in roots]
    return {
        "policy": load_policy({name: table for name, table in base.items() if table is not None}),
        "source": FixedSource(of_processor.platform().collateral(NOW)),
        "roots": Roots.simulated(*(each.root_pem for each in roots)),
        "now": NOW,
    }


def attested(
    folder: Path, tee: str, devices: DeviceAttester | None, decide: Callable[[SessionAppraisal], None], **tables: Any
) -> SessionAppraisal:
    """Open a session with an enclave on this processor, and make a request in it."""
    attester = Quoting(PROCESSORS[tee][0])
    with (
        serving(folder / "enclave", attester, devices) as address,
        open_session(address, route="default", decide=decide, **terms(tee, **tables)) as connection,
    ):
        assert connection.request({"op": "models"}).header["models"] == []
        return connection.attested


def refused_codes(folder: Path, tee: str, devices: DeviceAttester | None, **tables: Any) -> list[str]:
    """Return the codes for which a session is refused; nothing is sent in it."""
    codes: list[str] = []

    def decide(found: SessionAppraisal) -> None:
        codes.extend(str(finding.code) for finding in found.appraisal.failed)
        found.require()

    with sgx.refused(EvidenceCode.APPRAISAL_REFUSED):
        attested(folder, tee, devices, decide, **tables)
    return codes


@pytest.mark.parametrize("tee", PROCESSORS)
def test_one_appraisal_covers_a_processor_and_the_gpus_beside_it(tee: str, tmp_path: Path) -> None:
    devices = (Device(), Device(number=1))
    found = attested(tmp_path, tee, gpus(tmp_path, *devices), SessionAppraisal.require)
    codes = [finding.code for finding in found.appraisal.findings]
    assert {SessionFinding.DEVICES, SessionFinding.DEVICE_CLASS, NvidiaFinding.MEASUREMENTS} < set(codes)
    assert codes.count(FindingCode.REPORT_DATA) == 2, "the processor's, and the one nonce of all devices"
    assert found.appraisal.accepted
    assert found.verified.tee == tee
    assert found.claims.gpu_evidence


def test_a_gpu_that_fails_fails_the_session(tmp_path: Path) -> None:
    old = gpus(tmp_path, Device(driver_version="550.00"))
    assert refused_codes(tmp_path, "sgx", old) == [NvidiaFinding.DRIVER_VERSION]


def test_a_policy_that_knows_no_gpus_refuses_an_enclave_that_uses_some(tmp_path: Path) -> None:
    assert refused_codes(tmp_path, "tdx", gpus(tmp_path, Device()), nvidia=None) == [FindingCode.TEE]


def test_a_policy_for_gpus_takes_an_enclave_without_any() -> None:
    """As it always did: whoever demands a device looks for one in the appraisal."""
    record, handshake = made(b"")
    assert appraise_record(record, handshake, **terms("sgx")).appraisal.accepted


# ---------------------------------------------------------------------------------- what the host may have done


@functools.cache
def collected(folder: Path) -> tuple[EvidenceRecord, bytes]:
    with serving(folder / "enclave", Quoting(sgx_quote), gpus(folder, Device())) as address:
        return collect_evidence(address)


def made(devices: bytes) -> tuple[EvidenceRecord, bytes]:
    """A record of an enclave without devices, beside which these lie."""
    claims = Claims(Signer.from_seed(bytes(32)).public, bytes(1216), bytes(16), "first", ())
    encoded, handshake = claims.encode(), bytes([9]) * 64
    report_data, (proof,) = binding.batch([binding.session_leaf(handshake, encoded)])
    return EvidenceRecord(encoded, sgx_quote(report_data), proof, "sgx", devices), handshake


def test_devices_left_out_exchanged_or_added_are_refused(tmp_path: Path) -> None:
    record, handshake = collected(tmp_path)
    assert appraise_record(record, handshake, **terms("sgx")).appraisal.accepted
    without = dataclasses.replace(record, devices=b"")
    exchanged = dataclasses.replace(record, devices=kit.simulated())
    for changed in (without, exchanged):
        codes = [each.code for each in appraise_record(changed, handshake, **terms("sgx")).appraisal.failed]
        assert SessionFinding.DEVICES in codes
    added, hash_ = made(kit.simulated())
    codes = [each.code for each in appraise_record(added, hash_, **terms("sgx")).appraisal.failed]
    assert SessionFinding.DEVICES in codes


def test_whoever_looks_at_the_processor_alone_refuses_a_record_with_devices() -> None:
    added, handshake = made(kit.simulated())
    (found,) = appraise_session(added, handshake, **terms("sgx")).appraisal.failed
    assert (found.code, found.found) == (SessionFinding.DEVICES, "evidence of a device")


def test_the_client_that_was_written_from_the_page_reads_devices(tmp_path: Path) -> None:
    with serving(tmp_path / "enclave", Quoting(sgx_quote), gpus(tmp_path, Device())) as address:
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(20)
                sock.connect(address.removeprefix("unix:"))
                client = Client()
                evidence = client.connect(sock)
                assert devices_named(evidence)
                assert not devices_named({name: value for name, value in evidence.items() if name != "devices"})
                assert kit.verify_sim(evidence["devices"]).devices
                client.request({"op": "models"})
                client.close()


# ------------------------------------------------------------------------------------------------- the bounds


class Large(DeviceAttester):
    """Evidence as long as a session carries it."""

    def __init__(self, size: int) -> None:
        self._size = size

    def _evidence(self, report_data: bytes) -> bytes:
        return report_data[:1] * self._size


def test_the_largest_evidence_travels_in_several_records(tmp_path: Path) -> None:
    attester = Quoting(lambda report_data: report_data * (MAX_QUOTE // 64))
    attester.limit = MAX_QUOTE
    with serving(tmp_path / "enclave", attester, Large(MAX_DEVICE_EVIDENCE)) as address:
        record, _ = collect_evidence(address)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(address.removeprefix("unix:"))
            other = Client().connect(sock)
    assert (len(record.quote), len(record.devices)) == (MAX_QUOTE, MAX_DEVICE_EVIDENCE)
    assert (len(other["quote"]), len(other["devices"])) == (MAX_QUOTE, MAX_DEVICE_EVIDENCE)
    assert ROOM < len(record.encode()) <= MAX_EVIDENCE
    assert padded_room(MAX_EVIDENCE) < 2 * ROOM


def test_a_record_beyond_a_bound_or_with_empty_devices_is_refused() -> None:
    record, _ = made(b"")
    for changed in (
        dataclasses.replace(record, quote=bytes(MAX_QUOTE + 1)),
        dataclasses.replace(record, devices=bytes(MAX_DEVICE_EVIDENCE + 1)),
    ):
        with pytest.raises(ManifestError) as refusal:
            EvidenceRecord.decode(changed.encode())
        assert refusal.value.code is ManifestCode.FIELD_INVALID
    value = canonical.decode(record.encode(), max_size=MAX_EVIDENCE)
    assert "devices" not in value, "what has no devices is encoded as it always was"
    with pytest.raises(ManifestError) as refusal:
        EvidenceRecord.decode(canonical.encode(value | {"devices": b""}))
    assert refusal.value.code is ManifestCode.FIELD_INVALID


def test_the_independent_client_refuses_empty_devices() -> None:
    server = Server(TicketStore())
    honest = server._evidence

    def empty() -> Any:
        value = canonical.decode(honest().encode(), max_size=MAX_EVIDENCE)
        lying: Any = type("Lying", (), {"encode": lambda _: canonical.encode(value | {"devices": b""})})()
        return lying

    server._evidence = empty
    with server as sock, pytest.raises(RefusalError, match="bad evidence"):
        Client().connect(sock)
