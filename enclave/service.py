"""What all sessions of one enclave process share: keys, owners, tickets, the quoter, the loader, revocations."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from attestation.binding import device_digest, device_report_data
from attestation.types import Claims, PlatformClass
from enclave.arena import Arena
from enclave.attesters.base import Attester, DeviceAttester
from enclave.batching import THREADS
from enclave.channel import Channel
from enclave.components import load_components
from enclave.condemned import Condemned
from enclave.deadline import Run
from enclave.identities import Identities
from enclave.keys import EnclaveKeys
from enclave.loaded import LoadedModel
from enclave.metrics import Metrics
from enclave.models import ModelLoader
from enclave.owners import Owners
from enclave.provision import Provisioner, model_reference
from enclave.quoter import Quoter
from enclave.receipts import Receipts
from enclave.tickets import ArenaTickets
from enclave.worker import Worker
from manifests import canonical
from manifests.gramine.settings import EnclaveSettings
from manifests.steps import DecodeStep
from manifests.tensors import Axis, TensorField

MAX_WAITING_LOADS = 16


class Service:
    """The enclave without its sessions; thread-safe."""

    def __init__(
        self,
        settings: EnclaveSettings,
        attester: Attester,
        channel: Channel,
        arena: Arena,
        devices: DeviceAttester | None = None,
    ) -> None:
        """Draw keys, ask the devices, and start the helpers' threads.

        Raises EnclaveError `enclave-start-failed` where the devices give no evidence.
        """
        self.settings = settings
        self.platform: PlatformClass = attester.platform
        self.hint = attester.hint
        self.keys = EnclaveKeys.generate(arena)
        self.devices = b"" if devices is None else devices.evidence(self._asked())
        """Evidence of the enclave's devices, which answered for this start of the process; empty without any."""
        self._device_digest = device_digest(self.devices) if self.devices else b""
        self.tickets = ArenaTickets(arena)
        self.receipts = Receipts(self.keys)
        self.owners = Owners(settings.owners, self._changed)
        self.quoter = Quoter(attester, settings.limits.max_half_open, lost=channel.shut)
        self.worker = Worker("loader", MAX_WAITING_LOADS)
        self.condemned = Condemned(self.owners)
        self.crowd: Callable[[bytes], float | None] = lambda _client: None
        """Gives the seconds after which a client would find fewer of its requests waiting; the server sets it."""
        self.metrics = Metrics(settings.limits.telemetry_window)
        components = load_components(settings.components)
        secret = self.keys.boot_secret.view
        self.loader = ModelLoader(settings.limits, secret, self._on_stuck, self.metrics, components)
        self.abandon: Callable[[int], None] = lambda _thread: None
        """Takes a stuck thread's session out of its hands, and tells the host; the server sets it."""
        self.control = Provisioner(
            owners=self.owners,
            condemned=self.condemned,
            loader=self.loader,
            channel=channel,
            arena=arena,
            platform=attester.platform,
            boot_id=self.keys.boot_id,
        )
        self._crew: Worker | None = None
        self.requests = 0
        self._revocations: dict[bytes, int] = {}
        self._lock = threading.Lock()
        self.generation = 0
        """Counts revocations; a session that began at the present one has missed none."""

    def crew(self) -> Worker:
        """Return the threads that wait in batches, which are started when the first of them is needed."""
        with self._lock:
            if self._crew is None:
                self._crew = Worker("batch", self.settings.limits.max_sessions, THREADS)
            return self._crew

    def claims(self) -> bytes:
        """Return the claims of this moment, encoded."""
        return Claims(
            receipt_key=self.keys.receipt_public,
            hpke_key=self.keys.hpke_public,
            boot_id=self.keys.boot_id,
            admitted=self.owners.admitted,
            owners=self.owners.states(),
            gpu_evidence=self._device_digest,
        ).encode()

    def _asked(self) -> bytes:
        """Return the 64 bytes that the devices are bound to: they follow from keys of this very start."""
        return device_report_data(self.keys.boot_id, self.keys.receipt_public, self.keys.hpke_public)

    def resolve(self, reference: object) -> LoadedModel:
        """Return the model that a request names.

        Raises ManifestError, or EnclaveError `model-unknown` or `enclave-stopping`.
        """
        self.condemned.check()
        digest, owner, name, epoch = model_reference(reference)
        return self.owners.by_digest(digest) if digest is not None else self.owners.by_name(owner, name, epoch)

    def _on_stuck(self, run: Run) -> None:
        """End this process's service; called by the watchdog."""
        self.condemned.condemn(run.owner, run.digest)
        self.abandon(run.thread)

    def present(self) -> int:
        """Return the present generation; never one whose tickets are still being dropped."""
        with self.owners.lock:
            return self.generation

    def _changed(self, owner: bytes | None) -> None:
        """Drop all tickets; called under the owners' lock.

        After a revocation, the sessions that began before and concern the owner end at their next record.  The
        generation comes first: a session that took its ticket before they are dropped began at an older one.
        """
        if owner is not None:
            with self._lock:
                self.generation += 1
                self._revocations[owner] = self.generation
        self.tickets.clear()

    def is_revoked(self, began: int, touched: set[bytes]) -> bool:
        """Tell whether a session that began at a generation, and used models of these owners, must end.

        Where a process serves one owner alone, all its sessions concern that owner.
        """
        if began == self.generation:
            return False
        with self._lock:
            owners = [owner for owner, when in self._revocations.items() if when > began]
        return any(owner in touched or self.owners.serves_only(owner) for owner in owners)

    def stats(self) -> dict[str, int]:
        """Return counters for the operator; none of them is content."""
        return {
            "models": len(self.owners.models()),
            "quotes": self.quoter.quotes,
            "handshakes_quoted": self.quoter.leaves,
            "requests": self.requests,
            "tickets": len(self.tickets),
            "stuck": self.condemned.runs,
            **self._abuse(),
            **self._batches(),
        }

    def _abuse(self) -> dict[str, int]:
        """Return the coarse counters of all models that are watched, the greatest of each."""
        found: dict[str, int] = {}
        for guard in self._guards():
            for name, count in guard.counts().items():
                found[name] = max(count, found.get(name, 0))
        return found

    def score(self) -> int:
        """Return how near an identity has come to a limit; for telemetry alone, which tells it in windows."""
        return max((guard.score() for guard in self._guards()), default=0)

    def _guards(self) -> list[Identities]:
        models = self.owners.models()
        found = (model.guard if model.generation is None else model.generation.guard for model in models)
        return [guard for guard in found if guard is not None]

    def _batches(self) -> dict[str, int]:
        """Count batches and the requests that shared one, where any loaded model joins requests."""
        batchers = [model.batcher for model in self.owners.models() if model.batcher is not None]
        if not batchers:
            return {}
        return {"batches": sum(b.batches for b in batchers), "joined": sum(b.joined for b in batchers)}

    def stop(self) -> None:
        """End the helpers' threads."""
        self.quoter.stop()
        self.worker.stop()
        if self._crew is not None:
            self._crew.stop()
        self.loader.stop()


def listing(models: list[LoadedModel]) -> list[canonical.Value]:
    """Return what the operation `models` answers: interfaces, never weights or labels."""
    return [_listed(model) for model in models]


def _listed(model: LoadedModel) -> Mapping[str, canonical.Value]:
    manifest = model.manifest
    takes: dict[str, canonical.Value] = {
        step.input: step.component for step in manifest.pre if isinstance(step, DecodeStep)
    }
    stages: list[canonical.Value] = [[each.model, each.least_epoch, each.boxes] for each in manifest.stages]
    return (
        {
            "digest": model.digest,
            "name": manifest.name,
            "version": manifest.version,
            "epoch": manifest.epoch,
            "owner": manifest.owner,
            "inputs": [_tensor(tensor) for tensor in manifest.client_inputs()],
            "outputs": [_tensor(tensor) for tensor in manifest.served_outputs()],
            "labels": len(manifest.labels),
        }
        | ({"takes": takes} if takes else {})
        | ({"stages": stages} if stages else {})
    )


def _tensor(tensor: TensorField) -> list[canonical.Value]:
    axes = [[axis.name, axis.minimum, axis.maximum] if isinstance(axis, Axis) else axis for axis in tensor.shape]
    return [tensor.name, tensor.dtype, axes]
