from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attestation.binding import batch, session_leaf
from attestation.client.call import Timeouts
from attestation.collateral import FixedSource
from attestation.policy import Policy, load_policy
from attestation.sim.platform import SimulatedPlatform
from attestation.types import Claims, Delegation, EvidenceRecord, Heartbeat, OwnerState, Right, document_digest
from attestation.wire.messages import Body
from manifests.signing import Signer
from tests.client.scripted import Peer, Script, ScriptedEnclave

NOW = 1_800_000_000
MRENCLAVE = bytes([7]) * 32
DIGEST = bytes([9]) * 64
BOOT_ID = bytes([3]) * 16
QUICK = Timeouts(connect=2, handshake=10, request=10)


@dataclass
class World:
    """An owner, its broker, a platform, and an enclave whose state a test may change before it connects."""

    platform: SimulatedPlatform
    owner: Signer = field(default_factory=lambda: Signer.from_seed(bytes([1]) * 32))
    broker: Signer = field(default_factory=lambda: Signer.from_seed(bytes([2]) * 32))
    admitted: Any = "first"
    epoch: int = 5
    beat_time: int = NOW - 10
    rights: tuple[Right, ...] = (Right.HEARTBEAT, Right.PROVISION)
    boot_id: bytes = BOOT_ID
    served: bool = True
    beats: bool = True
    measured: bytes = MRENCLAVE
    delegation_key: Signer | None = None
    beat_owner: Signer | None = None
    """Whom the heartbeat names as its owner, where that is another."""
    beat_delegation: bytes = b""
    """The digest of the delegation that the heartbeat names, where that is another."""
    names: tuple[str, ...] = ("*",)
    """Of the models that the broker is trusted with."""
    beat_epoch: int | None = None
    """Which epoch the heartbeat knows of, where it is another than the enclave's."""
    others: tuple[bytes, ...] = ()
    """Further owners whose brokers live."""

    def delegation(self) -> bytes:
        document = Delegation(self.owner.public, self.broker.public, self.rights, self.names, 0)
        return document.sign(self.delegation_key or self.owner)

    def heartbeat(self) -> bytes:
        owner = (self.beat_owner or self.owner).public
        digest = self.beat_delegation or document_digest(self.delegation())
        leases = ((DIGEST, 100),)
        epoch = self.epoch if self.beat_epoch is None else self.beat_epoch
        beat = Heartbeat(owner, digest, bytes(32), self.boot_id, self.beat_time, epoch, leases)
        return beat.sign(self.broker)

    def claims(self) -> Claims:
        state = OwnerState(self.owner.public, self.epoch, self.heartbeat() if self.beats else b"", self.delegation())
        key = Signer.from_seed(bytes([4]) * 32).public
        return Claims(key, bytes(1216), BOOT_ID, self.admitted, (state,) if self.served else ())

    def evidence(self, handshake_hash: bytes) -> EvidenceRecord:
        claims = self.claims().encode()
        report_data, (proof,) = batch([session_leaf(handshake_hash, claims)])
        quote = self.platform.quote(self.platform.report_body(self.measured), report_data)
        return EvidenceRecord(claims, quote, proof, "sgx simulated")

    def policy(self, **service: Any) -> Policy:
        return load_policy(
            {
                "version": 1,
                "evidence": {
                    "simulation": True,
                    "simulated_root": self.platform.root_fingerprint.hex(),
                    "tcb_status": ["UpToDate"],
                },
                "sgx": {"mrenclave": [MRENCLAVE.hex()]},
                "service": {"owners": [self.owner.public.hex()], **service},
            }
        )

    def terms(self, **service: Any) -> dict[str, Any]:
        """Return the keyword arguments of Session.connect."""
        return {
            "policy": self.policy(**service),
            "collateral": FixedSource(self.platform.collateral(NOW)),
            "timeouts": QUICK,
            "now": lambda: NOW,
        }

    def doubling(self, peer: Peer, body: Body) -> None:
        """Answer as an enclave with one model, which doubles what it is sent."""
        number, operation = body.header["id"], body.header["op"]
        if operation == "models":
            peer.respond({"id": number, "models": [self.listed()], "class": "simulated", "beats": self.listed_beats()})
        elif operation == "ticket":
            ticket, psk = peer.tickets.issue(b"", bytes(64))
            peer.respond({"id": number, "ticket": ticket, "psk": psk})
        else:
            beat = [self.beat_time, self.epoch, self.owner.public]
            doubled = {name: np.asarray(value * 2) for name, value in body.arrays().items()}
            peer.respond({"id": number, "model": DIGEST, "epoch": self.epoch, "beat": beat}, doubled)

    def listed_beats(self) -> list[Any]:
        return [[self.beat_time, self.epoch, owner] for owner in sorted((self.owner.public, *self.others))]

    def listed(self) -> dict[str, Any]:
        tensors = [["x", "float32", [["batch", 1, 64], 3]]]
        return {
            "digest": DIGEST,
            "name": "doubler",
            "version": "1.0.0",
            "epoch": self.epoch,
            "owner": self.owner.public,
            "inputs": tensors,
            "outputs": tensors,
            "labels": 0,
        }


@pytest.fixture(scope="session")
def platform() -> SimulatedPlatform:
    return SimulatedPlatform(bytes([5]) * 32, NOW - 1000)


@pytest.fixture
def world(platform: SimulatedPlatform) -> World:
    return World(platform)


Serve = Callable[..., ScriptedEnclave]


@pytest.fixture
def serve(tmp_path: Path, world: World) -> Iterator[Serve]:
    """Start a scripted enclave; by default it attests honestly and doubles."""
    enclaves: list[ScriptedEnclave] = []

    def start(script: Script | None = None, *, tcp: bool = False) -> ScriptedEnclave:
        path = None if tcp else tmp_path / f"enclave{len(enclaves)}.sock"
        enclaves.append(ScriptedEnclave(path, world.evidence, script or world.doubling))
        return enclaves[-1]

    yield start
    for enclave in enclaves:
        enclave.close()
