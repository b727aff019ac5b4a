"""Models as a client sees them: what an enclave lists, how one is named, and what it answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from attestation.client.errors import ClientCode, ClientError
from attestation.client.freshness import Beat, parse_beats
from attestation.receipts.bundle import ReceiptBundle
from attestation.types.receipt import MAX_STAGES
from attestation.wire.messages import DTYPES, MAX_RANK, MAX_TENSOR_NAME, MAX_TENSORS
from manifests import canonical, fields
from manifests.errors import ManifestError

DIGEST_SIZE = 64
MAX_NAME = 128
"""As long as a model manifest and a grant admit."""
MAX_MODELS = 4096
"""An enclave holds some tens; the bound is on what a listing may make us keep."""

_DIGEST = re.compile(r"[0-9a-f]{128}")
_QUALIFIED = re.compile(r"([0-9a-f]{64})/(.+)")


class Axis(NamedTuple):
    """A dynamic axis: its name, and the smallest and greatest length."""

    name: str
    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.name}={self.low}..{self.high}"

    def to_dict(self) -> dict[str, Any]:
        """Give the machine-readable form."""
        return {"name": self.name, "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class TensorInfo:
    """One input or output: its name, wire dtype ("string" besides numpy's), and axes."""

    name: str
    dtype: str
    shape: tuple[int | Axis, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(str(axis) for axis in self.shape)}]"

    def to_dict(self) -> dict[str, Any]:
        """Give the machine-readable form; a dynamic axis is a map of its name and bounds."""
        shape = [axis.to_dict() if isinstance(axis, Axis) else axis for axis in self.shape]
        return {"name": self.name, "dtype": self.dtype, "shape": shape}


class StageInfo(NamedTuple):
    """A further model that answers with a pipeline's: its name, the lowest epoch, and the output with the boxes."""

    model: str
    least_epoch: int
    boxes: str

    def __str__(self) -> str:
        return f"{self.model} from epoch {self.least_epoch}"


class Reader(NamedTuple):
    """A further model that has answered: its name, its epoch, its digest (64 bytes)."""

    name: str
    epoch: int
    digest: bytes


@dataclass(frozen=True)
class ModelInfo:
    """A model that the enclave has loaded.  digest: 64 bytes; owner: 32 bytes; labels: how many it has."""

    digest: bytes
    name: str
    version: str
    epoch: int
    owner: bytes
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    labels: int
    takes: Mapping[str, str] = field(default_factory=dict)
    """Inputs that are content and no numbers, by name: "text", "image" or "audio"."""
    stages: tuple[StageInfo, ...] = ()
    """Further models of the owner that read what this one finds in a picture."""

    def __repr__(self) -> str:
        tensors = [", ".join(str(tensor) for tensor in side) for side in (self.inputs, self.outputs)]
        return f"<ModelInfo {self.name} {self.version} epoch {self.epoch}: {tensors[0]} -> {tensors[1]}>"

    @property
    def generates(self) -> bool:
        """Whether it is a language model, which takes no tensors but a prompt: `Session.generate`."""
        return not self.inputs

    def to_dict(self) -> dict[str, Any]:
        """Give the machine-readable form."""
        return {
            "name": self.name,
            "version": self.version,
            "epoch": self.epoch,
            "digest": self.digest.hex(),
            "owner": self.owner.hex(),
            "inputs": [tensor.to_dict() for tensor in self.inputs],
            "outputs": [tensor.to_dict() for tensor in self.outputs],
            "labels": self.labels,
        } | self._further()

    def _further(self) -> dict[str, Any]:
        """Give what most models have not."""
        stages = [stage._asdict() for stage in self.stages]
        generates = {"generates": True} if self.generates else {}
        return generates | ({"takes": dict(self.takes)} if self.takes else {}) | ({"stages": stages} if stages else {})


class Prediction(Mapping[str, npt.NDArray[Any]]):
    """A model's answer: its output tensors by name, and which model gave it.

    The arrays are read-only views of the received message; copy one to change it.
    """

    def __init__(
        self,
        tensors: dict[str, npt.NDArray[Any]],
        model: bytes,
        epoch: int,
        beat: Beat,
        steps: int | None = None,
        *,
        stages: tuple[Reader, ...] = (),
    ) -> None:
        """Keep an answer: `model` is the digest (64 bytes), `beat` the broker's newest sign of life.

        steps: of a stateful model, how many requests its state has taken in, this one among them; else None.  stages:
        of a pipeline, the further models that have answered.
        """
        self._tensors = tensors
        self.model = model
        self.epoch = epoch
        self.beat = beat
        self.receipt: ReceiptBundle | None = None
        """What the enclave signed of this answer, checked; None where it was not asked to."""
        self.steps = steps
        self.stages = stages
        """The further models of a pipeline that have answered, too, in the order of its stages."""

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {value.dtype.name}{list(value.shape)}" for name, value in self._tensors.items())
        return f"<Prediction {shapes} by model {self.model.hex()[:16]}… epoch {self.epoch}>"


@dataclass(frozen=True)
class ModelName:
    """How a caller named a model: by digest, or by name under an owner (None: the one that is served)."""

    digest: bytes | None = None
    name: str = ""
    owner: bytes | None = None

    @classmethod
    def parse(cls, model: str | bytes) -> ModelName:
        """Read a digest (64 bytes or 128 hex digits), `<owner hex>/<name>` or `<name>`; raises ClientError."""
        if not isinstance(model, str | bytes):
            raise name_invalid("a model is named by text, or by its digest as bytes", type(model).__name__)
        if isinstance(model, bytes):
            if len(model) != DIGEST_SIZE:
                raise name_invalid("a model digest has 64 bytes", f"{len(model)} bytes")
            return cls(digest=model)
        if _DIGEST.fullmatch(model):
            return cls(digest=bytes.fromhex(model))
        if not 0 < len(model) <= MAX_NAME + 65 or not model.isprintable():
            raise name_invalid("a model's name is printable text", f"{len(model)} characters")
        if qualified := _QUALIFIED.fullmatch(model):
            return cls(name=qualified[2], owner=bytes.fromhex(qualified[1]))
        return cls(name=model)


def name_invalid(message: str, found: object, remedy: str | None = None) -> ClientError:
    """Return the error for a model that cannot be resolved."""
    remedy = remedy or "name it, or give its digest of 128 hex digits; `strongroom infer --list` shows both"
    return ClientError(ClientCode.MODEL_NAME_INVALID, message, found=found, remedy=remedy)


def parse_listing(header: Mapping[str, canonical.Value]) -> tuple[tuple[ModelInfo, ...], dict[bytes, Beat]]:
    """Return the models and, by owner, the signs of life of an answer to `models`.

    Raises ClientError `response-unexpected`.
    """
    try:
        value = fields.closed_map(dict(header), "listing", ("models", "class", "beats"))
        models = tuple(_model(item) for item in fields.list_of(value["models"], "models", MAX_MODELS))
        return models, parse_beats(value["beats"])
    except ManifestError as error:
        raise ClientError(ClientCode.RESPONSE_UNEXPECTED, f"the listing is malformed: {error.message}") from None


def _model(item: object) -> ModelInfo:
    names = ("digest", "name", "version", "epoch", "owner", "inputs", "outputs", "labels")
    value = fields.closed_map(item, "model", names, ("takes", "stages"))
    return ModelInfo(
        digest=fields.fixed_bytes(value["digest"], "digest", DIGEST_SIZE),
        name=fields.text(value["name"], "name", MAX_NAME),
        version=fields.text(value["version"], "version", MAX_NAME),
        epoch=fields.number(value["epoch"], "epoch", 0),
        owner=fields.fixed_bytes(value["owner"], "owner", 32),
        inputs=tuple(_tensor(tensor) for tensor in fields.list_of(value["inputs"], "inputs", MAX_TENSORS)),
        outputs=tuple(_tensor(tensor) for tensor in fields.list_of(value["outputs"], "outputs", MAX_TENSORS)),
        labels=fields.number(value["labels"], "labels", 0),
        takes=_takes(value.get("takes", {})),
        stages=tuple(_stage(item) for item in fields.list_of(value.get("stages", []), "stages", MAX_STAGES)),
    )


def _stage(item: object) -> StageInfo:
    model, least, boxes = _items(item, "stage", 3)
    return StageInfo(
        fields.text(model, "model", MAX_NAME),
        fields.number(least, "least_epoch", 0),
        fields.text(boxes, "boxes", MAX_TENSOR_NAME),
    )


def read_readers(value: object) -> tuple[Reader, ...]:
    """Read which further models have answered; raises ManifestError, or ClientError `response-unexpected`."""
    items = [_items(item, "stage", 3) for item in fields.list_of(value, "stages", MAX_STAGES)]
    return tuple(
        Reader(
            fields.text(name, "name", MAX_NAME),
            fields.number(epoch, "epoch", 0),
            fields.fixed_bytes(digest, "digest", DIGEST_SIZE),
        )
        for name, epoch, digest in items
    )


def _tensor(item: object) -> TensorInfo:
    name, dtype, shape = _items(item, "tensor", 3)
    axes = fields.list_of(shape, "shape", MAX_RANK)
    return TensorInfo(
        fields.text(name, "name", MAX_TENSOR_NAME),
        fields.text(dtype, "dtype", 16),
        tuple(_axis(axis) for axis in axes),
    )


def _takes(value: object) -> dict[str, str]:
    """Read which inputs are content; kinds that a later enclave knows are no error, because nobody has to use them."""
    table = fields.of_type(value, "takes", dict)
    return {fields.text(name, "name", MAX_TENSOR_NAME): fields.text(kind, "kind", 16) for name, kind in table.items()}


def _axis(item: object) -> int | Axis:
    if not isinstance(item, list):
        return fields.number(item, "axis", 0)
    name, low, high = _items(item, "axis", 3)
    return Axis(fields.text(name, "axis", MAX_NAME), fields.number(low, "axis", 0), fields.number(high, "axis", 0))


def _items(item: object, what: str, count: int) -> list[Any]:
    items = fields.list_of(item, what, count)
    if len(items) != count:
        raise ClientError(ClientCode.RESPONSE_UNEXPECTED, f"a {what} of the answer has {count} items")
    return items


def tensors_of(inputs: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[Any]]:
    """Return the inputs as arrays that can travel; raises ClientError `tensor-invalid`.

    Nothing is converted silently: a list of numbers becomes what numpy makes of it, and the enclave checks dtypes.
    """
    if not isinstance(inputs, Mapping):
        raise ClientError(
            ClientCode.TENSOR_INVALID,
            "inputs are given by name",
            expected="a mapping of input names to arrays",
            found=type(inputs).__name__,
            remedy='write {"<input>": array}; `models()` shows the names of a model\'s inputs',
        )
    return {_input_name(name): _array(name, value) for name, value in inputs.items()}


def _input_name(name: object) -> str:
    if not isinstance(name, str):
        raise ClientError(
            ClientCode.TENSOR_INVALID, "an input's name is text", expected="str", found=type(name).__name__
        )
    return name


def _array(name: str, value: npt.ArrayLike) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.asarray(value)
    except (ValueError, TypeError, OverflowError):  # whose words are numpy's, and its advice may be unsafe
        raise ClientError(ClientCode.TENSOR_INVALID, f"input {name!r} is no array of one shape") from None
    if array.dtype.kind not in {"U", "O"} and array.dtype.name not in DTYPES:
        raise ClientError(
            ClientCode.TENSOR_INVALID,
            f"input {name!r} has a dtype that cannot travel",
            expected=["string", *DTYPES],
            found=array.dtype.name,
        )
    if array.dtype.kind == "O" and not all(isinstance(item, str) for item in array.flat):
        raise ClientError(ClientCode.TENSOR_INVALID, f"input {name!r} is neither numbers nor text")
    return array
