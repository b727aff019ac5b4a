"""Cases of an enclave's session together with the devices that it uses."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from typing import Any, Final

from attestation import binding
from attestation.errors import EvidenceCode as E
from attestation.errors import FindingCode as F
from attestation.errors import SessionFinding
from attestation.intel.pem import encode_chain
from attestation.nvidia.container import parse_evidence
from attestation.nvidia.errors import NvidiaCode, NvidiaFinding
from attestation.sim.chains import enrol
from attestation.sim.nvidia import Device
from attestation.types import Claims
from tests.vectors.attestation import nitro, nvidia, sgx, tdx
from tests.vectors.attestation.scene import CREATED, DAY, NOW, SEED, merged
from tests.vectors.attestation.sessions import ALONE, CLAIMS, OWNERS, others, record
from tests.vectors.attestation.vector import Vector

ROOTS: Final = (*sgx.SCENE.roots, *nvidia.ROOTS)


@functools.cache
def gpus(*devices: Device) -> bytes:
    """Devices that were asked after this start."""
    return nvidia.MACHINE.evidence(asked(), *devices, rims=())


def asked(claims: Claims = CLAIMS) -> bytes:
    return binding.device_report_data(claims.boot_id, claims.receipt_key, claims.hpke_key)


def naming(devices: bytes, claims: Claims = CLAIMS) -> Claims:
    return dataclasses.replace(claims, gpu_evidence=binding.device_digest(devices))


def _joint(policy: Any) -> dict[str, Any]:
    roots = [policy["evidence"]["simulated_root"], nvidia.EVIDENCE["simulated_root"]]
    return merged(policy, evidence={"simulated_root": roots}, nvidia=nvidia.PINNED["nvidia"])


POLICY: Final = _joint(sgx.SCENE.policy)
BESIDE: Final = ALONE.but(evidence=record(naming(gpus())).encode(), devices=gpus(), roots=ROOTS, policy=POLICY)
"""An enclave and its GPU."""


def cases() -> Iterator[Vector]:
    yield from accepted()
    yield from refused()
    yield from broken()
    yield from in_its_place()
    yield from classes()


def in_its_place() -> Iterator[Vector]:
    device = record(make=lambda data: nvidia.MACHINE.evidence(data, rims=())).encode()
    comment = "A device signs whatever nonce it is given, and stands for no enclave."
    yield BESIDE.unverified(
        "device in the place of an enclave", comment, E.EVIDENCE_DEVICE, evidence=device, devices=None
    )
    yield BESIDE.unverified(
        "device in the place of an enclave beside devices", comment, E.EVIDENCE_DEVICE, evidence=device
    )


def accepted() -> Iterator[Vector]:
    yield BESIDE.accepted("healthy with a gpu", "The claims name the GPU's evidence, which answers to their keys.")
    for edge, chosen in (
        ("two gpus", (Device(), Device(number=1))),
        ("a gpu of blackwell", (nvidia.BLACKWELL,)),
    ):
        data = gpus(*chosen)
        yield BESIDE.accepted(
            f"healthy with {edge}", "All devices are named by one digest.", evidence=record(naming(data)).encode(),
            devices=data,
        )  # fmt: skip
    batched = record(naming(gpus()), others=others(2), place=1).encode()
    yield BESIDE.accepted("gpu in a batch", "Devices are asked once, whichever session it is.", evidence=batched)
    td = tdx.MACHINE.platform
    sent = record(naming(gpus()), lambda data: td.evidence(tdx.MRTD, data)).encode()
    trusted = tdx.SCENE.but(
        kind="session",
        report_data=None,
        details=ALONE.details,
        policy=_joint(tdx.SCENE.policy),
        roots=(*tdx.SCENE.roots, *nvidia.ROOTS),
    )
    yield trusted.accepted("healthy td with a gpu", "The processor is a TD's.", evidence=sent, devices=gpus())


def refused() -> Iterator[Vector]:
    rule = "The claims name exactly the devices whose evidence is there."
    both = gpus(Device(), Device(number=1))
    for edge, sent, found in (
        ("gpu that the claims do not name", record(), gpus()),
        ("claims that name two gpus", record(naming(both)), gpus()),
        ("claims that name no second gpu", record(naming(gpus())), both),
        ("gpu without its evidence", record(naming(gpus())), None),
    ):
        yield BESIDE.refused(edge, rule, SessionFinding.DEVICES, evidence=sent.encode(), devices=found)
    strange = nvidia.MACHINE.evidence(bytes([0x99]) * 64, rims=())
    yield BESIDE.refused(
        "gpu that answered to another nonce", "The claims name it, and it was asked for something else.",
        F.REPORT_DATA, evidence=record(naming(strange)).encode(), devices=strange,
    )  # fmt: skip
    for edge, change in (("boot id", {"boot_id": bytes(16)}), ("receipt key", {"receipt_key": OWNERS[0]})):
        restarted = dataclasses.replace(naming(gpus()), **change)
        yield BESIDE.refused(
            f"gpu of another {edge}", "The GPU was asked by another start of the enclave.", F.REPORT_DATA,
            evidence=record(restarted).encode(),
        )  # fmt: skip
    unquoted = dataclasses.replace(record(), claims=naming(gpus()).encode())
    comment = "Whoever relays may write claims that name any devices; the quote covers others."
    yield BESIDE.refused("claims that the quote does not cover", comment, F.REPORT_DATA, evidence=unquoted.encode())
    yield BESIDE.refused(
        "gpu and enclave refused", "Both parts fail, and both are said.", F.MRENCLAVE, NvidiaFinding.PRODUCT,
        policy=merged(POLICY, sgx={"mrenclave": ["11" * 32]}, nvidia={"products": ["LS10"]}),
    )  # fmt: skip
    yield BESIDE.refused(
        "no table for devices", "The policy says nothing of devices.", F.TEE,
        policy={name: table for name, table in POLICY.items() if name != "nvidia"},
    )  # fmt: skip
    yield BESIDE.refused(
        "no table for the enclave", "The policy says nothing of the enclave.", F.TEE,
        policy={name: table for name, table in POLICY.items() if name != "sgx"},
    )  # fmt: skip


def broken() -> Iterator[Vector]:
    first = parse_evidence(gpus()).devices[0]
    backwards = dataclasses.replace(first, chain=first.chain[::-1])
    reversed_ = dataclasses.replace(parse_evidence(gpus()), devices=(backwards,)).serialize()
    twice = gpus(Device(), Device())
    for edge, comment, code, data in (
        ("gpu with its chain reversed", "The root stands first.", E.CHAIN_ROOT, reversed_),
        ("gpu twice", "Two reports are of one device.", NvidiaCode.DEVICE_TWICE, twice),
    ):
        sent = record(naming(data)).encode()
        yield BESIDE.unverified(edge, comment, code, evidence=sent, devices=data)
    nothing = record(naming(b"x")).encode()
    yield BESIDE.fails("parse", "gpu of nothing", "The bytes are no devices' evidence.", NvidiaCode.CONTAINER,
                       evidence=nothing, devices=b"x")  # fmt: skip
    quoted = record().quote
    yield BESIDE.fails("parse", "quote in the place of devices", "A second quote is no device.", NvidiaCode.CONTAINER,
                       evidence=record(naming(quoted)).encode(), devices=quoted)  # fmt: skip
    yield BESIDE.unverified("root of devices not trusted", "Only the enclave's root is.", E.CHAIN_ROOT,
                            roots=sgx.SCENE.roots)  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- classes


def classes() -> Iterator[Vector]:
    """Hardware and simulation are never mixed, whichever of the two is which."""
    real = nvidia.Unmarked(bytes([77]) * 32, CREATED)
    data = real.evidence(asked(), rims=())
    rule = "One class never stands beside the other."
    roots = (*sgx.SCENE.roots, ("replacement-nvidia-device", real.root_pem.decode("ascii")))
    yield BESIDE.refused(
        "hardware beside a simulated enclave", rule, SessionFinding.DEVICE_CLASS, F.CLASS, F.ROOT,
        evidence=record(naming(data)).encode(), devices=data, roots=roots,
        policy=merged(POLICY, nvidia={"measurements": [parse_evidence(data).devices[0].report.record_digest.hex()]}),
    )  # fmt: skip
    root = enrol(SEED, nitro.but(nitro.REGION, marked=False), None, CREATED, NOW + DAY)
    chain = (root, enrol(SEED, nitro.but(nitro.LEAF, marked=False), root, CREATED, NOW + DAY))

    def document(report_data: bytes) -> bytes:
        return nitro.MACHINE.evidence({0: nitro.IMAGE}, report_data, NOW, chain=chain)

    pem = encode_chain(root.der).decode("ascii")
    genuine = nitro.SCENE.but(
        kind="session", report_data=None, details=ALONE.details, roots=(*nvidia.ROOTS, ("replacement-nitro", pem))
    )
    yield genuine.but(devices=gpus(), policy=_joint(nitro.POLICY)).refused(
        "simulated devices beside hardware", rule, SessionFinding.DEVICE_CLASS, F.CLASS, F.ROOT,
        evidence=record(naming(gpus()), document).encode(),
    )  # fmt: skip
    evidence = {
        "tcb_status": ["UpToDate"],
        "dangerous_replacement_roots": {"nitro": [hashlib.sha256(root.der).hexdigest()]},
    }
    yield genuine.accepted(
        "root replaced", "The root stands in the place of AWS's, and the verdict says so.", warnings=(F.ROOT,),
        evidence=record(make=document).encode(), policy=nitro.POLICY | {"evidence": evidence},
        roots=(("replacement-nitro", pem),),
    )  # fmt: skip
