"""Cases of tokens that are made of a verdict: the very text, or why there is none."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, Final

from attestation.ear import EarCode
from attestation.errors import EvidenceCode as E
from attestation.errors import FindingCode as F
from attestation.errors import SessionFinding
from attestation.nvidia.errors import NvidiaFinding
from attestation.sim.nvidia import Device
from attestation.validity import rfc3339
from manifests.errors import ErrorCode
from tests.vectors.attestation import azure_snp, devices, nitro, nvidia, sessions, sgx, snp, tdx, tpm
from tests.vectors.attestation.collateral import ends
from tests.vectors.attestation.intel import put
from tests.vectors.attestation.runner import run
from tests.vectors.attestation.scene import DAY, REPORT_DATA, Scene, merged
from tests.vectors.attestation.vector import Vector

SEED: Final = bytes([6]) * 32
"""Of the key that signs."""
NONCE: Final = bytes(range(16))
DEBUG: Final = 2


def cases() -> Iterator[Vector]:
    yield from of_each()
    yield from requests()
    yield from ended()
    yield from refused()
    yield from over_both()


def signed(scene: Scene, **details: Any) -> Scene:
    """The scene, whose verdict is to become a token."""
    return scene.but(details={**scene.details, "signer": SEED.hex(), **details})


def with_token(vector: Vector) -> Vector:
    """The case with the token that comes of it."""
    token = run(vector).token
    assert token is not None, vector.name
    return dataclasses.replace(vector, details={**vector.details, "token": token})


def of_each() -> Iterator[Vector]:
    for scene in (sgx.SCENE, tdx.SCENE, snp.SCENE, nitro.SCENE, tpm.SCENE, nvidia.SCENE, azure_snp.SCENE):
        comment = "A simulated platform is accepted, and its token contraindicated: nobody takes it for hardware."
        yield with_token(signed(scene).accepted("token", comment))


def requests() -> Iterator[Vector]:
    for edge, comment, details in (
        ("with a nonce", "The token shows what whoever asks wants to see again.", {"nonce": NONCE.hex()}),
        ("with a nonce of 8 bytes", "A nonce has at least 8 bytes.", {"nonce": bytes(8).hex()}),
        ("with a nonce of 64 bytes", "A nonce has at most 64 bytes.", {"nonce": REPORT_DATA.hex()}),
        ("for somebody", "The token is for one who is named.", {"audience": "https://relying.example"}),
        ("for the longest name", "An audience has at most 256 characters.", {"audience": "x" * 256}),
        ("of a second", "A lifetime has at least a second.", {"lifetime": "1"}),
        ("of a day", "A lifetime has at most a day.", {"lifetime": str(DAY)}),
    ):
        yield with_token(signed(sgx.SCENE, **details).accepted(f"token {edge}", comment))
    for edge, comment, details in (
        ("with a nonce of 7 bytes", "A nonce has at least 8 bytes.", {"nonce": bytes(7).hex()}),
        ("with a nonce of 65 bytes", "A nonce has at most 64 bytes.", {"nonce": bytes(65).hex()}),
        ("for too long a name", "An audience has at most 256 characters.", {"audience": "x" * 257}),
        ("for a name with a tab", "An audience is printable.", {"audience": "a\tb"}),
        ("of no time", "A lifetime has at least a second.", {"lifetime": "0"}),
        ("of a time below zero", "A lifetime has at least a second.", {"lifetime": "-1"}),
        ("of more than a day", "A lifetime has at most a day.", {"lifetime": str(DAY + 1)}),
    ):
        yield unissued(signed(sgx.SCENE, **details), f"token {edge}", comment, EarCode.REQUEST)


def unissued(scene: Scene, edge: str, comment: str, code: ErrorCode, **changes: Any) -> Vector:
    return scene.fails("issue", edge, comment, code, **changes)


def ended() -> Iterator[Vector]:
    """A token never outlives what it stands on."""
    for scene in (sgx.SCENE, snp.SCENE):
        _, expires = ends(scene)
        last = signed(scene, appraised=rfc3339(expires - 7))
        comment = "The collateral ends before the lifetime does, and so does the token."
        yield with_token(last.accepted("token that ends with its collateral", comment))
        late = signed(scene, appraised=rfc3339(expires))
        yield unissued(late, "token of collateral that has ended", "Nothing is left to vouch for.", EarCode.UNISSUABLE)


def refused() -> Iterator[Vector]:
    """A refusal makes a token, too, which names the checks that failed."""
    policy: Any = sgx.SCENE.policy
    yield with_token(
        signed(sgx.SCENE).refused(
            "token of a refusal", "The enclave is another.", F.MRENCLAVE,
            policy=merged(policy, sgx={"mrenclave": ["11" * 32]}),
        )
    )  # fmt: skip
    yield with_token(
        signed(sgx.SCENE).refused(
            "token of two refusals", "All failing checks are named.", F.MRENCLAVE, F.ISV_SVN,
            policy=merged(policy, sgx={"mrenclave": ["11" * 32], "isv_svn_min": 99}),
        )
    )  # fmt: skip
    platform = sgx.MACHINE.platform
    data = sgx.quote(platform, flags=platform.report_body(sgx.MRENCLAVE).flags | DEBUG).serialize()
    yield with_token(
        signed(sgx.SCENE).accepted(
            "token of what is permitted", "The policy permits debugging by name, and the token warns.",
            warnings=(F.DEBUG,), evidence=data, policy=merged(policy, sgx={"debug": True}),
        )
    )  # fmt: skip
    unbound = signed(sgx.SCENE).refused(
        "token of other report data", "The quote is bound to something else.", F.REPORT_DATA, report_data=bytes(64)
    )
    yield with_token(unbound)
    broken = put(sgx.SCENE.evidence, 60, b"\1")
    yield signed(sgx.SCENE).unverified(
        "token of no evidence", "What does not verify makes no token.", E.QUOTE_SIGNATURE, evidence=broken
    )


def over_both() -> Iterator[Vector]:
    """A token over a processor and its devices, only where something ties the two."""
    beside = signed(devices.BESIDE)
    yield with_token(beside.accepted("token over an enclave and its gpu", "The claims tie the two."))
    yield with_token(
        signed(sessions.ALONE, nonce=NONCE.hex()).accepted("token of a session", "The enclave uses no devices.")
    )
    strict = merged(devices.POLICY, nvidia={"products": ["LS10"]})
    yield with_token(
        beside.refused("token of a gpu that is refused", "Its product is another.", NvidiaFinding.PRODUCT,
                       policy=strict)
    )  # fmt: skip
    rule = "No token is made over parts that nothing ties together."
    two = devices.gpus(Device(), Device(number=1))
    yield unissued(beside, "token of a gpu that the claims do not name", rule, EarCode.UNISSUABLE, devices=two)
    yield unissued(beside, "token without the evidence of the gpu", rule, EarCode.UNISSUABLE, devices=None)
    yield from in_one_file(rule)


def in_one_file(rule: str) -> Iterator[Vector]:
    """Evidence of both in one JSON, without the claims of a session."""
    record = sessions.record(devices.naming(devices.gpus()))
    text = json.dumps({"quote": record.quote.hex(), "evidence": devices.gpus().hex()}).encode()
    both = sgx.SCENE.but(evidence=text, wrapped=True, policy=devices.POLICY, roots=devices.ROOTS, report_data=None)
    comment = "A quote and a device in one file: nothing here says that they belong together."
    yield both.refused("device beside a quote", comment, SessionFinding.DEVICES)
    yield unissued(signed(both), "token of a device beside a quote", rule, EarCode.UNISSUABLE)
    stranger = nvidia.MACHINE.evidence(bytes([1]) * 64, rims=())
    lying = json.dumps({"quote": record.quote.hex(), "evidence": stranger.hex()}).encode()
    comment = "Without claims even the device that was asked for something else looks no different."
    yield both.refused("another device beside a quote", comment, SessionFinding.DEVICES, evidence=lying)
    alone = json.dumps({"evidence": devices.gpus().hex()}).encode()
    comment = "The device stands alone where the policy names an enclave."
    yield nvidia.SCENE.but(evidence=alone, wrapped=True, policy=devices.POLICY, report_data=None).refused(
        "device alone in a file", comment, F.BARE
    )
