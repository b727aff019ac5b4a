"""Loading models: read from sealed bytes into memory, checked against their manifest, given to ONNX Runtime.

Plain model bytes exist in this process's memory alone.  The runtime gets them as buffers; it registers no custom
operators, its telemetry is off, and its threads are those of the settings.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import onnxruntime as ort

from attestation.types import Grant
from enclave.abuse import Guard
from enclave.batching import Batcher
from enclave.components import Component, Step
from enclave.deadline import Run, Watchdog
from enclave.errors import EnclaveCode, EnclaveError
from enclave.gate import Gate
from enclave.generation import GenerationPlan
from enclave.lease import Lease
from enclave.loaded import LoadedModel
from enclave.memory import bound_memory
from enclave.metrics import Metrics
from enclave.pipeline import Pipeline
from enclave.privacy import accountant
from enclave.process import check_components, compile_post, compile_pre, compile_words
from enclave.promptwatch import PromptGuard
from enclave.spelling import Words
from enclave.state import StatePlan
from enclave.validate import RequestPlan
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
            pipeline=Pipeline.compile(manifest, self._components),
            requests=requests,
            batcher=self._batcher(manifest),
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

    def _batcher(self, manifest: ModelManifest) -> Batcher | None:
        """Return what joins requests; its members wait until a run of theirs would be stuck."""
        seconds = (manifest.limits.timeout_ms + self._limits.stuck_grace_ms) / 1000
        table = manifest.serving.batching
        return None if table is None else Batcher(table, patience=seconds)

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
