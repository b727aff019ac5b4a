"""Pipelines: a finder's boxes are cut out of its picture, and read by further models of the same owner.

The way of a request, in this order, and nothing of it is answered unless all of it went well:

1. The request is held against the finder's manifest.
2. Each reader is found by name among the finder's owner's models, and held against what the stage makes for it.
3. One request is spent of the finder and of each reader, or none of any.
4. The finder is watched and run; its boxes are chosen and held against the picture.
5. They are cut out, and each reader gets all pieces as one request: checked, watched, run and settled as a client's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from attestation.wire.messages import MAX_TENSOR_NAME, Body
from enclave.boxes import Selection
from enclave.coarsening import Answered, Coarsening
from enclave.components import BOXES, PIECES, WHOLE, Component, Step
from enclave.errors import EnclaveCode, EnclaveError
from enclave.process import compile_crop, run_steps
from enclave.validate import Tensors
from enclave.values import Array
from manifests.model import ModelManifest
from manifests.stages import Stage, answers_of
from manifests.tensors import Axis, TensorField

if TYPE_CHECKING:
    from enclave.loaded import LoadedModel
    from enclave.owners import Owners


@dataclass(frozen=True)
class _Reading:
    """A stage, ready to be applied."""

    stage: Stage
    cut: Step = field(repr=False)


@dataclass(frozen=True)
class Pipeline:
    """The stages of a loaded finder, compiled."""

    selection: Selection
    readings: tuple[_Reading, ...]

    @classmethod
    def compile(cls, manifest: ModelManifest, components: Mapping[str, Component]) -> Pipeline | None:
        """Compile a manifest's stages, or return None where it has none; raises EnclaveError `component-missing`."""
        if not manifest.stages:
            return None
        readings = tuple(_Reading(stage, compile_crop(stage.crop, components)) for stage in manifest.stages)
        return cls(Selection.compile(manifest), readings)

    def readers(self, owners: Owners, finder: LoadedModel) -> tuple[LoadedModel, ...]:
        """Return each stage's model, the newest of its name; raises EnclaveError `stage-...`."""
        found = tuple(_find(owners, finder, reading.stage) for reading in self.readings)
        for reader, reading in zip(found, self.readings, strict=True):
            _check_fit(reader, reading.stage)
        return found

    def answer(self, finder: LoadedModel, readers: Sequence[LoadedModel], body: Body, principal: bytes) -> Answered:
        """Answer a request by all models together; raises EnclaveError or WireError, and then nothing is answered.

        The caller holds a turn at each of them that has a gate.
        """
        inputs = finder.plan.check(body)
        charged = _spend((finder, *readers), finder, principal)
        try:
            answered = self._answered(finder, readers, principal, inputs)
        except MemoryError:
            raise EnclaveError(EnclaveCode.INFERENCE_MEMORY, "the request needs more memory than there is") from None
        finder.bound(answered.outputs)
        return replace(answered, charged=charged)

    def _answered(
        self, finder: LoadedModel, readers: Sequence[LoadedModel], principal: bytes, inputs: Tensors
    ) -> Answered:
        found, whole = _found(finder, principal, inputs)
        boxes, outputs = self.selection.choose(found.outputs, whole.shape)
        levels: list[Coarsening] = []
        for reader, reading in zip(readers, self.readings, strict=True):
            with _naming(reader, finder):
                read = _read(reader, reading, principal, whole, boxes)
            outputs |= read.outputs
            levels.append(read.coarsening)
        return replace(found, outputs=outputs, readers=tuple(levels))


def _find(owners: Owners, finder: LoadedModel, stage: Stage) -> LoadedModel:
    """Return the reader that a stage names, of the finder's owner; raises EnclaveError `stage-...`."""
    with owners.lock:
        record = owners.known(finder.owner)
        named = [model for model in record.models.values() if model.name == stage.model]
        if not named:
            raise _absent(owners, stage, was_here=stage.model in record.floors)
    best = max(named, key=lambda model: model.epoch)
    if best.epoch < stage.least_epoch:
        raise EnclaveError(
            EnclaveCode.STAGE_EPOCH,
            f"the model {stage.model!r} of a stage has a lower epoch than the pipeline admits",
            expected=f"at least {stage.least_epoch}",
            found=best.epoch,
        )
    return best


def _absent(owners: Owners, stage: Stage, *, was_here: bool) -> EnclaveError:
    """Return why there is no model of that name of the owner: only a revocation takes the last one of a name away."""
    if was_here:
        return _refused(EnclaveCode.STAGE_REVOKED, stage, "was revoked")
    if any(model.name == stage.model for model in owners.models()):  # which the listing shows to everybody
        return _refused(EnclaveCode.STAGE_OWNER, stage, "is here, but of another owner")
    return _refused(EnclaveCode.STAGE_MISSING, stage, "is not loaded")


def _check_fit(reader: LoadedModel, stage: Stage) -> None:
    """Refuse a reader that cannot take what the stage makes, or whose answers do not belong to boxes."""
    manifest = reader.manifest
    if manifest.stages:
        raise _refused(EnclaveCode.STAGE_DEPTH, stage, "has stages itself")
    if reader.state is not None or reader.generation is not None:
        raise _refused(EnclaveCode.STAGE_UNFIT, stage, "keeps a state, or generates")
    inputs = manifest.client_inputs()
    if len(inputs) != 1 or inputs[0].name != stage.input:
        raise _refused(EnclaveCode.STAGE_UNFIT, stage, f"has other inputs than {stage.input!r}")
    rows = _rows(inputs[0], stage)
    if any(tensor.shape[:1] != (rows,) for tensor in manifest.served_outputs()):
        raise _refused(EnclaveCode.STAGE_UNFIT, stage, "answers otherwise than row by row")
    if any(len(answers_of(stage, tensor.name)) > MAX_TENSOR_NAME for tensor in manifest.served_outputs()):
        raise _refused(EnclaveCode.STAGE_UNFIT, stage, "has outputs with names too long to be answered here")


def _rows(tensor: TensorField, stage: Stage) -> Axis:
    """Return the axis of the reader's input that counts pieces; raises EnclaveError `stage-unfit`."""
    rows = tensor.shape[0] if tensor.shape else None
    if not isinstance(rows, Axis) or tensor.shape[1:] != stage.crop.shape or tensor.dtype != stage.crop.dtype:
        made = f"{stage.crop.dtype} of shape {['n', *stage.crop.shape]}"
        raise _refused(EnclaveCode.STAGE_UNFIT, stage, f"does not take {made}")
    if rows.minimum > 1 or rows.maximum < stage.limit:
        raise _refused(EnclaveCode.STAGE_UNFIT, stage, f"does not take each number of pieces from 1 to {stage.limit}")
    return rows


def _spend(models: Sequence[LoadedModel], finder: LoadedModel, principal: bytes) -> bool:
    """Spend one request of each model, or none of any; tell whether a budget was charged for any of them.

    In one order for all requests, for each is held meanwhile.
    """
    charged = False
    with ExitStack() as ready:
        for model in sorted(models, key=lambda model: model.name):
            with _naming(model, finder):
                charged |= ready.enter_context(model.spending(principal))
    return charged


def _found(finder: LoadedModel, principal: bytes, inputs: Tensors) -> tuple[Answered, Array]:
    """Return the finder's answer, and the whole picture that it was given."""
    pictures: list[Array] = []

    def graph(given: Tensors) -> Tensors:
        prepared = run_steps(finder.pre, given)
        pictures.append(prepared.pop(WHOLE))
        return finder.run(prepared)

    return finder.serve(principal, inputs, graph), pictures[0]


def _read(reader: LoadedModel, reading: _Reading, principal: bytes, whole: Array, boxes: Array) -> Answered:
    """Return a reader's answer for all boxes, its outputs by the names that they have in the whole answer."""
    read = Answered(_empty(reader)) if not len(boxes) else _pieces_read(reader, reading, principal, whole, boxes)
    if any(array.shape[:1] != (len(boxes),) for array in read.outputs.values()):
        raise EnclaveError(EnclaveCode.INFERENCE_FAILED, "the model did not answer row by row")
    return replace(read, outputs={answers_of(reading.stage, name): array for name, array in read.outputs.items()})


def _pieces_read(reader: LoadedModel, reading: _Reading, principal: bytes, whole: Array, boxes: Array) -> Answered:
    pieces = run_steps([reading.cut], {WHOLE: whole, BOXES: boxes})[PIECES]
    inputs = reader.plan.check_arrays({reading.stage.input: pieces})
    read = reader.serve(principal, inputs, lambda given: reader.run(run_steps(reader.pre, given)))
    reader.bound(read.outputs)
    return read


def _empty(reader: LoadedModel) -> Tensors:
    """Return what a reader answers to no pieces at all: its outputs without rows."""
    return {tensor.name: _without_rows(tensor) for tensor in reader.manifest.served_outputs()}


def _without_rows(tensor: TensorField) -> Array:
    rest = [axis.minimum if isinstance(axis, Axis) else axis for axis in tensor.shape[1:]]
    return np.zeros((0, *rest), object if tensor.dtype == "string" else tensor.dtype)


@contextmanager
def _naming(model: LoadedModel, finder: LoadedModel) -> Iterator[None]:
    """Have what a reader refuses say that it was the reader."""
    try:
        yield
    except EnclaveError as error:
        if model is finder:
            raise
        raise EnclaveError(
            cast("EnclaveCode", error.code),
            f"stage {model.name!r}: {error.message}",
            field=error.field,
            retry_after=error.retry_after,
        ) from None


def _refused(code: EnclaveCode, stage: Stage, why: str) -> EnclaveError:
    return EnclaveError(code, f"the model {stage.model!r} of a stage {why}", expected=code.meaning, found=why)
