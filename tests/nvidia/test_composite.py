"""An enclave and its GPUs in one appraisal: neither stands without the other, and no class for the other."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from typing import Any

import pytest

from attestation import binding, evidence
from attestation.appraise import SessionAppraisal, appraise_session, open_session
from attestation.appraise import appraise as judge
from attestation.collateral import FixedSource
from attestation.composite import appraise_composite, appraise_session_with_devices
from attestation.errors import EvidenceCode, FindingCode, SessionFinding
from attestation.evidence import Roots
from attestation.nvidia.errors import NvidiaCode, NvidiaFinding
from attestation.policy import Policy, load_policy
from attestation.sim.nvidia import Device
from attestation.types import Claims, EvidenceRecord, PlatformClass
from manifests.errors import ErrorCode
from manifests.signing import Signer
from tests.attestation import kit as sgx
from tests.attestation.kit import NOW, refused
from tests.nvidia import kit

HASH = bytes([9]) * 64
RECEIPT_KEY = Signer.from_seed(bytes(32)).public
CLAIMS = Claims(RECEIPT_KEY, bytes(1216), bytes([3]) * 16, "first", ())


def asked(claims: Claims = CLAIMS) -> bytes:
    return binding.device_report_data(claims.boot_id, claims.receipt_key, claims.hpke_key)


@functools.cache
def gpus(*devices: Device) -> bytes:
    """Evidence of the enclave's devices, asked for after its start."""
    return kit.platform().evidence(asked(), *devices)


def claims_for(devices: bytes) -> Claims:
    return dataclasses.replace(CLAIMS, gpu_evidence=binding.device_digest(devices))


def record(claims: Claims, quote: bytes | None = None) -> EvidenceRecord:
    encoded = claims.encode()
    report_data, (proof,) = binding.batch([binding.session_leaf(HASH, encoded)])
    platform = sgx.platform()
    return EvidenceRecord(encoded, quote or platform.quote(platform.report_body(sgx.MRENCLAVE), report_data), proof, "")


def roots() -> Roots:
    return Roots.simulated(sgx.platform().root_pem, kit.platform().root_pem)


def policy(**tables: dict[str, Any] | None) -> Policy:
    base = sgx.policy_map() | {"nvidia": kit.policy_map()["nvidia"]} | tables
    base["evidence"]["simulated_root"] = [sgx.platform().root_fingerprint.hex(), kit.platform().root_fingerprint.hex()]
    return load_policy({name: table for name, table in base.items() if table is not None})


def source() -> FixedSource:
    return FixedSource(sgx.platform().collateral(NOW))


def appraise(claims: Claims, devices: bytes, chosen: Policy | None = None) -> SessionAppraisal:
    return appraise_session_with_devices(record(claims), devices, HASH, chosen or policy(), source(), roots(), NOW)


def failed(appraisal: SessionAppraisal) -> list[ErrorCode]:
    return [finding.code for finding in appraisal.appraisal.failed]


def test_one_appraisal_holds_the_findings_of_both() -> None:
    session = appraise(claims_for(gpus()), gpus())
    session.require()
    codes = [finding.code for finding in session.appraisal.findings]
    assert {FindingCode.MRENCLAVE, SessionFinding.DEVICES, SessionFinding.DEVICE_CLASS} < set(codes)
    assert {NvidiaFinding.MEASUREMENTS, FindingCode.REPORT_DATA} < set(codes)
    assert codes.count(FindingCode.REPORT_DATA) == 2
    assert session.appraisal.simulated
    assert session.verified.tee == "sgx"
    assert session.claims.gpu_evidence == binding.device_digest(gpus())


def test_it_expires_with_the_first_of_both() -> None:
    session = appraise(claims_for(gpus()), gpus())
    devices = evidence.verify(evidence.parse(gpus()), None, roots(), NOW)
    assert session.expires == min(session.verified.expires, devices.expires)


def test_the_devices_nonce_follows_from_keys_of_this_start() -> None:
    expected = hashlib.sha512(
        b"strongroom report devices v1\0" + CLAIMS.boot_id + CLAIMS.receipt_key + CLAIMS.hpke_key
    ).digest()
    assert asked() == expected
    assert kit.parsed(gpus()).report_data == hashlib.sha256(expected).digest()
    assert binding.device_digest(b"x") == hashlib.sha512(b"strongroom device evidence v1\0x").digest()


def test_devices_that_the_claims_do_not_name_are_refused() -> None:
    both = gpus(Device(), Device(number=1))
    assert failed(appraise(claims_for(both), gpus())) == [SessionFinding.DEVICES]
    assert failed(appraise(CLAIMS, gpus())) == [SessionFinding.DEVICES]


@pytest.mark.parametrize("junk", [b"", b"x", gpus()[:-1], gpus() + b"x"], ids=["none", "junk", "short", "long"])
def test_what_the_claims_do_not_name_is_refused_before_it_is_parsed(junk: bytes) -> None:
    """It may be 4 MiB of manifests that somebody made to be slow; an enclave's own evidence has the digest."""
    session = appraise(claims_for(gpus()), junk)
    assert failed(session) == [SessionFinding.DEVICES]
    assert session.expires == session.verified.expires
    assert FindingCode.MRENCLAVE in {finding.code for finding in session.appraisal.findings}
    assert failed(appraise(claims_for(gpus()), junk, policy(sgx={"mrenclave": ["11" * 32]}))) == [
        FindingCode.MRENCLAVE,
        SessionFinding.DEVICES,
    ]


def test_devices_that_answered_for_another_start_are_refused() -> None:
    for change in ({"boot_id": bytes(16)}, {"receipt_key": Signer.from_seed(bytes([1]) * 32).public}):
        other = dataclasses.replace(claims_for(gpus()), **change)
        assert failed(appraise(other, gpus())) == [FindingCode.REPORT_DATA]


def test_a_device_that_fails_fails_the_enclave_and_the_reverse() -> None:
    old = gpus(Device(driver_version="550.00"))
    assert failed(appraise(claims_for(old), old)) == [NvidiaFinding.DRIVER_VERSION]
    strict = policy(sgx={"mrenclave": ["11" * 32]})
    assert failed(appraise(claims_for(gpus()), gpus(), strict)) == [FindingCode.MRENCLAVE]


def test_a_policy_without_a_table_for_devices_refuses_them() -> None:
    assert failed(appraise(claims_for(gpus()), gpus(), policy(nvidia=None))) == [FindingCode.TEE]


def test_broken_evidence_of_devices_raises() -> None:
    with refused(NvidiaCode.CONTAINER):
        appraise(claims_for(b"x"), b"x")
    with refused(EvidenceCode.CHAIN_ROOT):
        appraise_session_with_devices(
            record(claims_for(gpus())), gpus(), HASH, policy(), source(), sgx.sim_roots(), NOW
        )


def test_an_enclave_that_uses_devices_is_refused_without_their_evidence() -> None:
    """Otherwise a client's data would reach a GPU that nobody has looked at."""
    args = (HASH, policy(), source(), roots(), NOW)
    session = appraise_session(record(claims_for(gpus())), *args)
    assert failed(session) == [SessionFinding.DEVICES]
    assert appraise_session(record(CLAIMS), *args).appraisal.accepted


def test_a_device_stands_for_no_enclave() -> None:
    """A GPU signs whatever nonce it is given: it says nothing about who gave it."""
    encoded = CLAIMS.encode()
    report_data, _ = binding.batch([binding.session_leaf(HASH, encoded)])
    alone = record(CLAIMS, quote=kit.platform().evidence(report_data, rims=()))
    for call in (appraise_session, lambda *args: open_session(*args[:2], *args[3:])):
        with refused(EvidenceCode.EVIDENCE_DEVICE):
            call(alone, HASH, policy(), source(), roots(), NOW)


def test_a_device_alone_is_refused_where_the_policy_is_for_a_processor() -> None:
    devices = evidence.verify(evidence.parse(gpus()), None, roots(), NOW)
    (found,) = judge(devices, policy(), NOW, report_data=asked()).failed
    assert (found.code, found.expected) == (FindingCode.BARE, "nvidia together with sgx")
    assert judge(devices, policy(sgx=None), NOW, report_data=asked()).accepted, "a policy for devices alone"
    assert appraise(claims_for(gpus()), gpus()).appraisal.accepted


@pytest.mark.parametrize("simulated", [PlatformClass.SIMULATED, PlatformClass.HARDWARE])
def test_one_class_never_stands_beside_the_other(simulated: PlatformClass) -> None:
    session = open_session(record(claims_for(gpus())), HASH, source(), roots(), NOW)
    devices = evidence.verify(evidence.parse(gpus()), None, roots(), NOW)
    processor = session.verified
    if simulated is PlatformClass.SIMULATED:
        processor = dataclasses.replace(processor, simulated=False)
    else:
        parts = tuple(dataclasses.replace(device, simulated=False) for device in devices.devices)
        devices = dataclasses.replace(devices, simulated=False, devices=parts)
    appraisal = appraise_composite(processor, session.claims, devices, policy(), NOW, report_data=session.report_data)
    assert SessionFinding.DEVICE_CLASS in [finding.code for finding in appraisal.failed]
    assert FindingCode.CLASS in [finding.code for finding in appraisal.failed]
    assert appraisal.simulated, "a verdict over anything simulated says so"
