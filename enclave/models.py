"""Models: read from sealed bytes into memory, checked against their manifest, run by ONNX Runtime.

Plain model bytes exist in this process's memory alone.  The runtime gets them as buffers; it registers no custom
operators, its telemetry is off, and its threads are those of the settings.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import onnxruntime as ort

from attestation.types import Grant
from attestation.wire.messages import Body
from enclave.abuse import Guard
from enclave.batching import Batcher
from enclave.budget import Budget
from enclave.coarsening import Answered
from enclave.components import Component, Step
from enclave.deadline import Run, Watchdog
from enclave.errors import EnclaveCode, EnclaveError
from enclave.gate import Gate
from enclave.generation import GenerationPlan
from enclave.lease import Lease
from enclave.memory import bound_memory, check_memory
from enclave.metrics import Metrics
from enclave.privacy import Accountant, accountant
from enclave.process import check_components, compile_post, compile_pre, compile_words, run_steps
from enclave.promptwatch import PromptGuard
from enclave.spelling import Words
from enclave.state import Held, StatePlan
from enclave.streams import Source
from enclave.validate import RequestPlan, Tensors
from manifests.gramine.settings import Limits
from manifests.model import Limits as ModelLimits
from manifests.model import ModelManifest
from manifests.onnx.check import require_model
from manifests.onnx.requests import RequestBounds
from manifests.sealed.core import GRAPH_PART
from manifests.sealed.reader import SealedReader
from manifests.sealed.source import ByteSource
from manifests.sealed.stream import wipe
from manifests.tensors import TensorField

_ORT_TYPES = {
    "bool": "tensor(bool)",
    "string": "tensor(string)",
    "float16": "tensor(float16)",
    "float32": "tensor(float)",
    "float64": "tensor(double)",
    **{name: f"tensor({name})" for bits in (8, 16, 32, 64) for name in (f"int{bits}", f"uint{bits}")},
}
"""The runtime's names of element types."""

LOAD_SECONDS = 120.0
"""For the runtime to make a session of a graph that is in memory; a gigabyte takes a few."""
NO_MEMORY = "the request needs more memory than the model may take"
_NO_MEMORY = ("Available memory of", "Failed to allocate memory", "bad_alloc", "bad allocation")
"""What the runtime says where its arena, or the process, has no more to give."""
OVERDUE = "the request took longer than the model admits"


@dataclass(frozen=True)
class LoadedModel:
    """One model in memory.  `size` is the bytes of its plain parts and of what requests may hold, which are bounded."""

    digest: bytes
    manifest: ModelManifest
    size: int
    lease: Lease
    plan: RequestPlan
    outputs: tuple[str, ...]
    session: Any = field(repr=False)
    watchdog: Watchdog = field(repr=False)
    metrics: Metrics = field(repr=False)
    gate: Gate | None = field(default=None, repr=False)
    """Whose turn it is, where the manifest bounds how many requests run at once."""
    privacy: Accountant | None = None
    pre: tuple[Step, ...] = field(default=(), repr=False)
    post: tuple[Step, ...] = field(default=(), repr=False)
    budget: Budget = field(default_factory=Budget, repr=False)
    guard: Guard | None = field(default=None, repr=False)
    generation: GenerationPlan | None = field(default=None, repr=False)
    state: StatePlan | None = field(default=None, repr=False)
    batcher: Batcher | None = field(default=None, repr=False)
    requests: RequestBounds | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The owner's name for it."""
        return self.manifest.name

    @property
    def epoch(self) -> int:
        """Its epoch, which only grows from release to release."""
        return self.manifest.epoch

    @property
    def owner(self) -> bytes:
        """The owner's public key."""
        return self.manifest.owner

    def answer(self, body: Body, principal: bytes, held: Held | None = None) -> Answered:
        """Validate a request, spend one of budget and lease, and return the answer; raises EnclaveError or WireError.

        principal: the client's key, 32 bytes, or empty for all anonymous sessions together.  held: the session's state,
        of a model that has one.
        """
        inputs = self.plan.check(body)
        if not self.pre:
            check_memory(self.requests, inputs)
        if held is not None:
            held.take_place()
        if self.privacy is not None:
            self.privacy.spend(principal)
        charged = self.budget.spend(principal, self.lease)
        try:
            answered = self._outputs(principal, inputs, held)
        except MemoryError:
            raise EnclaveError(EnclaveCode.INFERENCE_MEMORY, NO_MEMORY) from None
        outputs = answered.outputs
        size = sum(array.nbytes for array in outputs.values() if array.dtype.kind != "O")
        size += sum(len(text) for array in outputs.values() if array.dtype.kind == "O" for text in array.flat)
        if size > self.manifest.limits.max_response_bytes:
            limit = self.manifest.limits.max_response_bytes
            raise EnclaveError(EnclaveCode.RESPONSE_TOO_LARGE, f"an answer must have at most {limit} bytes")
        return replace(answered, charged=charged)

    def _outputs(self, principal: bytes, inputs: Tensors, held: Held | None) -> Answered:
        if self.guard is None:
            return Answered(run_steps(self.post, self._graph(inputs, held)))
        return self._watched(self.guard, principal, inputs, held)

    def _watched(self, guard: Guard, principal: bytes, inputs: Tensors, held: Held | None) -> Answered:
        """Answer under the eyes of the detectors; what they do costs the same whether they are alarmed or not."""
        seen = guard.observe(principal, inputs)
        raw = self._graph(inputs, held)
        again = seen.squeezed if held is None else None  # a second look would take a state one step too far
        squeezed = None if again is None else self._graph(again, None)
        return guard.settle(seen, raw, run_steps(self.post, raw), squeezed)

    def _graph(self, inputs: Tensors, held: Held | None) -> Tensors:
        made = run_steps(self.pre, inputs)
        if self.pre:
            check_memory(self.requests, made)
        return self._infer(made, held)

    def generate(self, body: Body, principal: bytes) -> Source:
        """Validate a request and return what gives its answer, whose steps are spent of budget and lease.

        Raises EnclaveError or WireError.
        """
        if self.generation is None:
            raise EnclaveError(EnclaveCode.OPERATION_UNFIT, "the model answers requests, and generates nothing")
        ask = self.generation.read(body)
        spend = partial(self.budget.spend, principal, self.lease)
        return self.generation.generate(ask, self._run_for, spend, principal)

    def try_out(self) -> None:
        """Take the first steps of a model that generates; raises EnclaveError `model-unusable` where they go wrong."""
        if self.generation is not None:
            try:
                self.generation.try_out(self._run_for)
            except EnclaveError:
                raise EnclaveError(EnclaveCode.MODEL_UNUSABLE, "the graph does not step as its manifest says") from None

    def _infer(self, inputs: Tensors, held: Held | None) -> Tensors:
        if self.state is not None and held is not None:
            return self.state.run(self._run, self.outputs, inputs, held)
        if self.batcher is not None:
            return self.batcher.run(self._run, self.outputs, inputs)
        return self._run(self.outputs, inputs)

    def _run(self, names: Sequence[str], inputs: Tensors) -> Tensors:
        outputs = self._run_for(names, inputs, self.manifest.limits.timeout_ms / 1000)
        return dict(zip(names, outputs, strict=True))

    def _run_for(self, names: Sequence[str], inputs: Tensors, seconds: float) -> list[Any]:
        with self.watchdog.limit(seconds, self.owner, self.digest) as run:
            try:
                outputs = list(self.session.run(names, inputs, run.options))
            except Exception as error:  # noqa: BLE001 - the runtime's exceptions have no common root
                raise _failed(error, expired=run.expired) from None
        self.metrics.observe("run_seconds", run.seconds)
        return outputs


def _failed(error: Exception, *, expired: bool) -> EnclaveError:
    """Return the refusal for a failed run; the runtime's words have content, and are looked at but never passed on."""
    if isinstance(error, MemoryError) or any(word in str(error) for word in _NO_MEMORY):
        return EnclaveError(EnclaveCode.INFERENCE_MEMORY, NO_MEMORY)
    if expired:
        return EnclaveError(EnclaveCode.INFERENCE_TIMEOUT, OVERDUE)
    return EnclaveError(EnclaveCode.INFERENCE_FAILED, "the model cannot be run on this input")


class ModelLoader:
    """Loads one model at a time, within bounds on their number and memory."""

    def __init__(
        self,
        limits: Limits,
        secret: memoryview,
        stuck: Callable[[Run], None],
        metrics: Metrics,
        components: Mapping[str, Component] | None = None,
    ) -> None:
        """Load under the settings' limits, with these optional components for the models' steps.

        secret: the boot's own, of 32 bytes.  stuck: is told of runs that cannot be stopped.
        """
        self._secret = secret
        self._metrics = metrics
        self._limits = limits
        self._components = components or {}
        self._watchdog = Watchdog(limits.stuck_grace_ms / 1000, stuck)
        self._lock = threading.Lock()

    def load(self, source: ByteSource, grant: Grant, dek: memoryview, loaded: list[LoadedModel]) -> LoadedModel:
        """Open the sealed model that a grant names and load it, next to those that are `loaded`.

        Raises ManifestError for sealed bytes that are not the owner's, OnnxError with the code of the first check that
        the model fails, and EnclaveError `grant-other-model`, `provision-limit`, `component-missing` or
        `model-unusable`.
        """
        with self._lock:
            reader = SealedReader(source, owner=grant.owner, digest=grant.model)
            if (reader.core.name, reader.core.epoch) != (grant.name, grant.epoch):
                raise EnclaveError(EnclaveCode.GRANT_MODEL, "the sealed model has another name or epoch than the grant")
            self._check_room(reader.core.plaintext_size, loaded)
            reader.open(dek)
            try:
                manifest = reader.read_manifest()
                held = manifest.serving.reserved(manifest.inputs)
                self._check_room(reader.core.plaintext_size + held, loaded)
                session, pre, guard, words, requests = self._open(reader, grant, manifest)
            finally:
                reader.close()
        check_interface(session, manifest)
        model = LoadedModel(
            digest=reader.digest,
            manifest=manifest,
            size=reader.core.plaintext_size + held + (0 if guard is None else guard.most_bytes),
            lease=Lease(grant.lease),
            plan=RequestPlan.compile(manifest),
            outputs=tuple(output.name for output in manifest.answered_outputs()),
            session=session,
            watchdog=self._watchdog,
            metrics=self._metrics,
            gate=_gate(manifest.limits),
            pre=pre,
            privacy=accountant(manifest.post),
            post=compile_post(manifest, self._components),
            guard=guard,
            generation=GenerationPlan.compile(manifest, PromptGuard.load(manifest, self._secret, reader.digest), words),
            state=StatePlan.compile(manifest),
            requests=requests,
            batcher=None if manifest.serving.batching is None else Batcher(manifest.serving.batching),
        )
        model.try_out()
        return model

    def stop(self) -> None:
        """End the helper's thread."""
        self._watchdog.stop()

    def _check_room(self, size: int, loaded: list[LoadedModel]) -> None:
        if len(loaded) >= self._limits.max_models:
            raise EnclaveError(EnclaveCode.PROVISION_LIMIT, f"at most {self._limits.max_models} models are loaded")
        if sum(model.size for model in loaded) + size > self._limits.model_memory:
            raise EnclaveError(
                EnclaveCode.PROVISION_LIMIT, f"models may take {self._limits.model_memory} bytes together"
            )

    def _open(
        self, reader: SealedReader, grant: Grant, manifest: ModelManifest
    ) -> tuple[Any, tuple[Step, ...], Guard | None, Words | None, RequestBounds | None]:
        """Decrypt the parts, give graph and external data to the runtime, and what the manifest names to its users.

        Each copies what it keeps.  A part that the manifest names is none of the graph's external data, whatever that
        says.  The runtime computes what is constant in a graph then and there, and nothing stops it: that can be stuck.
        """
        check_components(manifest, self._components)
        parts = {part.name: reader.read_part(index) for index, part in enumerate(reader.core.parts) if index}
        own = manifest.own_parts() - {GRAPH_PART}
        try:
            named = {name: parts[name] for name in own & parts.keys()}
            pre = compile_pre(manifest, self._components, named)
            words = compile_words(manifest, self._components, named)
            watched = {
                name: bytes(part) for name, part in named.items() if manifest.abuse and name == manifest.abuse.profile
            }
            guard = Guard.load(manifest, watched, self._secret, reader.digest)
            graph = {name: data for name, data in parts.items() if name not in own}
            requests = check_parts(graph, manifest)
            memory = [bound for bound in (manifest.limits.max_memory_bytes, self._limits.run_memory) if bound]
            with self._watchdog.limit(LOAD_SECONDS, grant.owner, grant.model):
                return (
                    open_session(graph, self._limits.intra_op_threads, min(memory, default=0)),
                    pre,
                    guard,
                    words,
                    requests,
                )
        finally:
            for part in parts.values():
                wipe(part)


def _gate(limits: ModelLimits) -> Gate | None:
    if limits.max_concurrent is None and limits.max_concurrent_per_client is None:
        return None
    return Gate(limits.max_concurrent or 0, limits.max_concurrent_per_client or 0)


def check_parts(parts: dict[str, bytearray], manifest: ModelManifest) -> RequestBounds | None:
    """Check a graph before the runtime sees it; raises OnnxError without a word of the model's own."""
    if GRAPH_PART not in parts:
        return None
    sizes = {name: len(data) for name, data in parts.items() if name != GRAPH_PART}
    return require_model(parts[GRAPH_PART], manifest, sizes, named=False).requests


def open_session(parts: dict[str, bytearray], threads: int, memory: int = 0) -> Any:
    """Make an inference session from plain parts by name; raises EnclaveError `model-unusable`.

    memory: bytes that the runtime may take for requests, 0 for any number; one caller at a time, if it is set.
    """
    graph = parts.get(GRAPH_PART)
    if graph is None:
        raise EnclaveError(EnclaveCode.MODEL_UNUSABLE, f"the sealed model has no part {GRAPH_PART!r}")
    external = {name: data for name, data in parts.items() if name != GRAPH_PART}
    try:
        options = session_options(threads)
        if memory:
            bound_memory(options, memory)
        if external:
            sizes = [len(data) for data in external.values()]
            options.add_external_initializers_from_files_in_memory(list(external), list(external.values()), sizes)
        return _session(graph, options)
    except Exception:  # noqa: BLE001 - the runtime's exceptions have no common root, and texts with content
        raise EnclaveError(EnclaveCode.MODEL_UNUSABLE, "the runtime cannot load the model") from None


def _session(graph: bytearray, options: Any) -> Any:
    """Make a session of a graph, with one short-lived copy of it.

    The runtime's Python class takes `bytes` alone, which nobody can wipe, and would keep them as long as the session
    lives, to make it anew under other providers.  That is never done here: the copy is given up at once.
    """
    session = ort.InferenceSession(bytes(graph), options, providers=["CPUExecutionProvider"])
    session._model_bytes = None  # noqa: SLF001 - the only reference, and there is no public way to drop it
    return session


def session_options(threads: int) -> Any:
    """Return options with explicit threads and a silent log, under which the runtime opens no file.

    External data that no sealed part supplies would be looked up on disk, relative to the working directory: a
    hostile owner could read the machine's files.  Below a path that is no folder there are none.
    """
    options = ort.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    return options


def check_interface(session: Any, manifest: ModelManifest) -> None:
    """Refuse a graph whose inputs and outputs are not what its manifest says; raises EnclaveError `model-unusable`."""
    inputs = {node.name: node for node in session.get_inputs()}
    if inputs.keys() != {tensor.name for tensor in manifest.graph_inputs()}:
        raise EnclaveError(EnclaveCode.MODEL_UNUSABLE, "the graph has other inputs than its manifest")
    outputs = {node.name: node for node in session.get_outputs()}
    for tensor, nodes in [(t, inputs) for t in manifest.graph_inputs()] + [(t, outputs) for t in manifest.outputs]:
        if tensor.name not in nodes or not _fits(nodes[tensor.name], tensor):
            raise EnclaveError(
                EnclaveCode.MODEL_UNUSABLE, "the graph has another tensor than its manifest", field=tensor.name
            )


def _fits(node: Any, tensor: TensorField) -> bool:
    """Compare element type and rank; the runtime gives an empty shape where the graph leaves it open."""
    return bool(node.type == _ORT_TYPES[tensor.dtype] and (not node.shape or len(node.shape) == len(tensor.shape)))
