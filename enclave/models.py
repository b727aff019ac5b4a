"""Models: read from sealed bytes into memory, checked against their manifest, run by ONNX Runtime.

Plain model bytes exist in this process's memory alone.  The runtime gets them as buffers; it registers no custom
operators, its telemetry is off, and its threads are those of the settings.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import Any

import onnxruntime as ort

from attestation.types import Grant
from attestation.wire.messages import Body
from enclave.budget import Budget
from enclave.deadline import Watchdog
from enclave.errors import EnclaveCode, EnclaveError
from enclave.lease import Lease
from enclave.process import Step, compile_post, compile_pre, run_steps
from enclave.validate import RequestPlan, Tensors
from manifests.gramine.settings import Limits
from manifests.model import ModelManifest
from manifests.sealed.core import GRAPH_PART, Core
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


@dataclass(frozen=True)
class LoadedModel:
    """One model in memory.  `size` is the bytes of its plain parts, which the memory bound counts."""

    digest: bytes
    manifest: ModelManifest
    size: int
    lease: Lease
    plan: RequestPlan
    outputs: tuple[str, ...]
    session: Any = field(repr=False)
    watchdog: Watchdog = field(repr=False)
    pre: tuple[Step, ...] = field(default=(), repr=False)
    post: tuple[Step, ...] = field(default=(), repr=False)
    budget: Budget = field(default_factory=Budget, repr=False)

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

    def answer(self, body: Body, principal: bytes = b"") -> Tensors:
        """Validate a request, spend one of budget and lease, and return the outputs; raises EnclaveError or WireError.

        principal: 32 bytes of the client's key, or b"" for all anonymous sessions.
        """
        inputs = self.plan.check(body)
        self.budget.spend(principal, self.lease)
        outputs = run_steps(self.post, self._run(run_steps(self.pre, inputs)))
        size = sum(array.nbytes for array in outputs.values() if array.dtype.kind != "O")
        size += sum(len(text) for array in outputs.values() if array.dtype.kind == "O" for text in array.flat)
        if size > self.manifest.limits.max_response_bytes:
            limit = self.manifest.limits.max_response_bytes
            raise EnclaveError(EnclaveCode.RESPONSE_TOO_LARGE, f"an answer must have at most {limit} bytes")
        return outputs

    def _run(self, inputs: Tensors) -> Tensors:
        with self.watchdog.limit(self.manifest.limits.timeout_ms / 1000) as run:
            try:
                outputs = self.session.run(self.outputs, inputs, run.options)
            except Exception:  # noqa: BLE001 - the runtime's exceptions have no common root, and texts with content
                raise _failed(expired=run.expired) from None
        return dict(zip(self.outputs, outputs, strict=True))


def _failed(*, expired: bool) -> EnclaveError:
    if expired:
        return EnclaveError(EnclaveCode.INFERENCE_TIMEOUT, "the request took longer than the model admits")
    return EnclaveError(EnclaveCode.INFERENCE_FAILED, "the model cannot be run on this input")


class ModelLoader:
    """Loads one model at a time, within bounds on their number and memory."""

    def __init__(self, limits: Limits) -> None:
        """Load under the settings' limits."""
        self._limits = limits
        self._watchdog = Watchdog()
        self._lock = threading.Lock()

    def load(self, source: ByteSource, grant: Grant, dek: memoryview, loaded: list[LoadedModel]) -> LoadedModel:
        """Open the sealed model that a grant names and load it, next to those that are `loaded`.

        Raises ManifestError for sealed bytes that are not the owner's, and EnclaveError `grant-other-model`,
        `provision-limit` or `model-unusable`.
        """
        with self._lock:
            reader = SealedReader(source, owner=grant.owner, digest=grant.model)
            if (reader.core.name, reader.core.epoch) != (grant.name, grant.epoch):
                raise EnclaveError(EnclaveCode.GRANT_MODEL, "the sealed model has another name or epoch than the grant")
            self._check_room(reader.core, loaded)
            reader.open(dek)
            try:
                manifest = reader.read_manifest()
                session = self._open_session(reader)
            finally:
                reader.close()
        check_interface(session, manifest)
        return LoadedModel(
            digest=reader.digest,
            manifest=manifest,
            size=reader.core.plaintext_size,
            lease=Lease(grant.lease),
            plan=RequestPlan.compile(manifest),
            outputs=tuple(output.name for output in manifest.outputs),
            session=session,
            watchdog=self._watchdog,
            pre=compile_pre(manifest),
            post=compile_post(manifest),
        )

    def stop(self) -> None:
        """End the helper's thread."""
        self._watchdog.stop()

    def _check_room(self, core: Core, loaded: list[LoadedModel]) -> None:
        if len(loaded) >= self._limits.max_models:
            raise EnclaveError(EnclaveCode.PROVISION_LIMIT, f"at most {self._limits.max_models} models are loaded")
        if sum(model.size for model in loaded) + core.plaintext_size > self._limits.model_memory:
            raise EnclaveError(
                EnclaveCode.PROVISION_LIMIT, f"models may take {self._limits.model_memory} bytes together"
            )

    def _open_session(self, reader: SealedReader) -> Any:
        """Decrypt the graph and its external data, and give them to the runtime, which copies what it keeps."""
        parts = {part.name: reader.read_part(index) for index, part in enumerate(reader.core.parts) if index}
        try:
            return open_session(parts, self._limits.intra_op_threads)
        finally:
            for part in parts.values():
                wipe(part)


def open_session(parts: dict[str, bytearray], threads: int) -> Any:
    """Make an inference session from plain parts by name; raises EnclaveError `model-unusable`."""
    graph = parts.get(GRAPH_PART)
    if graph is None:
        raise EnclaveError(EnclaveCode.MODEL_UNUSABLE, f"the sealed model has no part {GRAPH_PART!r}")
    external = {name: data for name, data in parts.items() if name != GRAPH_PART}
    try:
        options = session_options(threads)
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
