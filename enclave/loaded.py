"""A loaded model, and the way of a request through it: checked, spent, watched, run, settled, and bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

from attestation.wire.messages import Body
from enclave.abuse import Guard
from enclave.batching import Batcher
from enclave.budget import Budget
from enclave.coarsening import Answered
from enclave.components import Step
from enclave.deadline import OVERDUE, Watchdog
from enclave.errors import EnclaveCode, EnclaveError
from enclave.gate import Gate
from enclave.generation import GenerationPlan
from enclave.lease import Lease
from enclave.memory import check_memory
from enclave.metrics import Metrics
from enclave.pipeline import Pipeline
from enclave.privacy import Accountant
from enclave.process import run_steps
from enclave.state import Held, StatePlan
from enclave.streams import Source
from enclave.validate import RequestPlan, Tensors
from manifests.model import ModelManifest
from manifests.onnx.requests import RequestBounds

NO_MEMORY = "the request needs more memory than the model may take"
_NO_MEMORY = ("Available memory of", "Failed to allocate memory", "bad_alloc", "bad allocation")
"""What the runtime says where its arena, or the process, has no more to give."""
Graph: TypeAlias = Callable[[Tensors], Tensors]
"""From a request's inputs to the graph's outputs, with the steps before it."""


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
    pipeline: Pipeline | None = field(default=None, repr=False)
    """Further models that read what this one finds; such a model is asked through it, and not by `answer`."""

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
            check_memory(self.requests, inputs)  # at once, before it costs anything
        with self.spending(principal, held) as charged:
            pass
        answered = self.serve(principal, inputs, partial(self._graph, held=held))
        self.bound(answered.outputs)
        return replace(answered, charged=charged)

    @contextmanager
    def spending(self, principal: bytes, held: Held | None = None) -> Iterator[bool]:
        """Hold one request of privacy, budget and lease ready, which is taken when the block ends without an error.

        A place for a state is taken at once, and is the caller's to give back.  Tells whether a budget of the client's
        identity is charged.  So one request can be spent of several models, or of none: whoever holds several begins
        with the least name.  Raises EnclaveError for what is used up.
        """
        with ExitStack() as ready:
            if self.privacy is not None:
                ready.enter_context(self.privacy.taking(principal))
            charged = ready.enter_context(self.budget.taking(principal, self.lease))
            if held is not None:  # last: who may not ask at all takes nobody's place
                held.take_place(principal)
            yield charged

    def serve(self, principal: bytes, inputs: Tensors, graph: Graph) -> Answered:
        """Watch a request that was checked and spent, run it, and settle it; raises EnclaveError.

        graph: does what lies between inputs and post-processing.
        """
        try:
            if self.guard is None:
                return Answered(run_steps(self.post, graph(inputs)))
            return self._watched(self.guard, principal, inputs, graph)
        except MemoryError:
            raise EnclaveError(EnclaveCode.INFERENCE_MEMORY, NO_MEMORY) from None

    def run(self, prepared: Tensors) -> Tensors:
        """Run the graph on what pre-processing has left, joined with no other request; raises EnclaveError."""
        check_memory(self.requests, prepared)
        return self._run(self.outputs, prepared)

    def bound(self, outputs: Tensors) -> None:
        """Refuse an answer that is larger than the manifest admits; raises EnclaveError `response-too-large`."""
        size = sum(array.nbytes for array in outputs.values() if array.dtype.kind != "O")
        size += sum(len(text) for array in outputs.values() if array.dtype.kind == "O" for text in array.flat)
        if size > self.manifest.limits.max_response_bytes:
            limit = self.manifest.limits.max_response_bytes
            raise EnclaveError(EnclaveCode.RESPONSE_TOO_LARGE, f"an answer must have at most {limit} bytes")

    def _watched(self, guard: Guard, principal: bytes, inputs: Tensors, graph: Graph) -> Answered:
        """Answer under the eyes of the detectors; what they do costs the same whether they are alarmed or not."""
        seen = guard.observe(principal, inputs)
        raw = graph(inputs)
        again = seen.squeezed if self.state is None else None  # a second look would take a state one step too far
        squeezed = None if again is None else graph(again)
        return guard.settle(seen, raw, run_steps(self.post, raw), squeezed)

    def _graph(self, inputs: Tensors, held: Held | None) -> Tensors:
        made = run_steps(self.pre, inputs)
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
