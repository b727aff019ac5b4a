"""The model manifest: what a model takes and gives, its limits, and what the enclave does before and after.

Owners write TOML.  Part 0 of a sealed model is the canonical msgpack of the same tables, so one reader serves both:
`from_toml(text)` and `decode(bytes)` differ in the outer encoding alone.  docs/model-manifest.md explains each field.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tomli_w

from manifests import canonical, fields, signing
from manifests.abuse.policy import AbusePolicy
from manifests.errors import ManifestCode, ManifestError
from manifests.onnx.permits import GraphPermits, read_permits
from manifests.receipts import Receipts
from manifests.serving import TABLES, Serving
from manifests.stages import Stage, check_stages, read_stages
from manifests.state import check_names
from manifests.steps import ComponentStep, PostStep, PreStep, invalid, part_names, post_step, pre_step, step_to_map
from manifests.tensors import Axis, TensorField, axes_map, check_relations, read_axes, read_tensor

__all__ = ["Axis", "Limits", "ModelManifest", "TensorField"]

MAX_NAME = 128
MAX_MANIFEST = 1 << 20
MAX_TENSORS = 256
MAX_LABELS = 1 << 16
MAX_LABEL = 256
MAX_STEPS = 32
MAX_BYTES = 1 << 40
MAX_CONCURRENT = 1024
MAX_TIMEOUT_MS = 24 * 60 * 60 * 1000

_FORMAT = 1
_REQUIRED = ("name", "version", "epoch", "inputs", "outputs")
_OPTIONAL = (
    "format",
    "owner",
    "axes",
    "limits",
    "labels",
    "pre",
    "post",
    "receipts",
    "abuse",
    "graph",
    "stages",
    *TABLES,
)
_TOML_ORDER = (
    *("name", "version", "epoch", "owner", "receipts", "labels", "axes"),
    *("inputs", "outputs", "limits", "abuse", "graph", "pre", "post", "stages", *TABLES),
)
"""Scalars come before tables, or TOML would put them into one."""


@dataclass(frozen=True)
class Limits:
    """What one request may cost."""

    max_request_bytes: int = 16 << 20
    """Bytes of all input tensors together."""
    max_response_bytes: int = 16 << 20
    """Bytes of all output tensors together."""
    timeout_ms: int = 30_000
    """Milliseconds of inference; best effort, because the clock is the host's."""
    max_memory_bytes: int | None = None
    """Bytes that the runtime may take for all requests of the model at once; None for what the enclave admits."""
    max_request_memory: int | None = None
    """Bytes that one request may take by the static bound of its shapes; None for no limit."""
    max_concurrent: int | None = None
    """Requests of the model that run at once; None for as many as the enclave has threads."""
    max_concurrent_per_client: int | None = None
    """The same of one client, all anonymous ones together being one."""

    @classmethod
    def from_map(cls, value: object) -> Limits:
        """Read the table; raises ManifestError `field-invalid`."""
        names = {
            "max_request_bytes": MAX_BYTES,
            "max_response_bytes": MAX_BYTES,
            "timeout_ms": MAX_TIMEOUT_MS,
            "max_memory_bytes": MAX_BYTES,
            "max_request_memory": MAX_BYTES,
            "max_concurrent": MAX_CONCURRENT,
            "max_concurrent_per_client": MAX_CONCURRENT,
        }
        table = fields.closed_map(value, "limits", (), names)
        return cls(**{name: fields.number(table[name], name, 1, names[name]) for name in table})

    def to_map(self) -> dict[str, int]:
        """Return the table; limits that were not set are left out."""
        return {name: value for name, value in self.__dict__.items() if value is not None}


@dataclass(frozen=True)
class ModelManifest:
    """A checked manifest: construction raises ManifestError `manifest-invalid` where its tables contradict."""

    name: str
    version: str
    """The owner's own word for it, such as "1.4.0"; nothing compares versions, epochs are compared."""
    epoch: int
    """Grows with every release that must not be rolled back."""
    owner: bytes
    """Ed25519 public key, 32 bytes."""
    inputs: tuple[TensorField, ...]
    """What clients send, before pre-processing."""
    outputs: tuple[TensorField, ...]
    """What the graph gives, before post-processing."""
    limits: Limits = field(default_factory=Limits)
    labels: tuple[str, ...] = ()
    pre: tuple[PreStep, ...] = ()
    post: tuple[PostStep, ...] = ()
    receipts: Receipts = Receipts.ON_REQUEST
    abuse: AbusePolicy | None = None
    """What follows when detectors speak; None: nothing is watched."""
    graph: GraphPermits | None = None
    """What the graph may do beyond what every model may; None: nothing."""
    serving: Serving = field(default_factory=Serving)
    """State, generation or batching, where the model has any of them."""
    stages: tuple[Stage, ...] = ()
    """Further models that read what this one finds in a picture."""

    def __post_init__(self) -> None:
        check_name(self.name)
        for what, tensors in (("inputs", self.inputs), ("outputs", self.outputs)):
            names = [tensor.name for tensor in tensors]
            if not names or len(set(names)) != len(names):
                raise invalid(f"a model needs {what} with different names")
        axes_map(self.inputs + self.outputs)
        check_relations(self.inputs)
        self._check_together()
        has_steps = bool(self.pre or self.post)
        self.serving.check(self.inputs, self.outputs, len(self.labels), has_steps=has_steps)
        self.graph_inputs()
        served = self.served_outputs()
        if self.serving.state is not None:
            check_names(self.client_inputs(), served)
        if self.stages:
            check_stages(self.stages, self.name, self.pre, served)

    def _check_together(self) -> None:
        """Refuse tables that would not hold beside each other."""
        if self.serving.generation is not None and self.abuse is not None:
            raise invalid("detectors see nothing in tokens: leave out [abuse], and bound prompts by [watch]")
        if self.serving.generation is not None and self.limits.max_request_memory is not None:
            raise invalid("what generates grows by tokens: leave out max_request_memory, and bound `context`")
        if self.serving.batching is not None and (self.limits.max_concurrent or self.limits.max_concurrent_per_client):
            raise invalid("requests that are joined do not wait for turns: leave out batching, or max_concurrent")
        if self.stages and self.serving != Serving():
            raise invalid("a model with [[stages]] has none of [state], [generation] and [batching]")

    def graph_inputs(self) -> tuple[TensorField, ...]:
        """Return the inputs as the graph gets them, after pre-processing."""
        sent = {tensor.name for tensor in self.client_inputs()}
        kept = tuple(tensor for tensor in self.inputs if tensor.name not in sent)
        return self._after(self.client_inputs(), self.pre) + kept

    def client_inputs(self) -> tuple[TensorField, ...]:
        """Return the inputs that clients send: none of a state, and none of a model that generates."""
        return self.serving.client_inputs(self.inputs)

    def answered_outputs(self) -> tuple[TensorField, ...]:
        """Return the graph's outputs that post-processing gets."""
        return self.serving.answered(self.outputs)

    def served_outputs(self) -> tuple[TensorField, ...]:
        """Return the outputs as clients get them, after post-processing."""
        return self._after(self.answered_outputs(), self.post)

    def components(self) -> tuple[str, ...]:
        """Return the optional components of an enclave that steps and vocabulary need, each once."""
        needed = [step.component for step in (*self.pre, *self.post) if isinstance(step, ComponentStep)]
        return tuple(dict.fromkeys([*needed, *(["text"] if self.serving.own_parts else [])]))

    def own_parts(self) -> frozenset[str]:
        """Return the names of the sealed parts that are this manifest's, and none of the graph's external data."""
        watched = frozenset() if self.abuse is None else frozenset({self.abuse.profile})
        return part_names(self.pre) | watched | self.serving.own_parts

    def _after(self, tensors: Iterable[TensorField], steps: Iterable[PreStep | PostStep]) -> tuple[TensorField, ...]:
        tensors_now = {tensor.name: tensor for tensor in tensors}
        for step in steps:
            step.apply(tensors_now, len(self.labels))
        return tuple(tensors_now.values())

    @classmethod
    def from_toml(cls, text: str, *, owner: bytes | None = None) -> ModelManifest:
        """Read an owner's manifest; `owner` fills in, or must equal, the key that the text may name in hex.

        Raises ManifestError `manifest-invalid`, `version-unsupported`, `field-invalid` or `key-invalid`.
        """
        try:
            table = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # an integer of thousands of digits is a plain ValueError
            raise invalid(f"the manifest is not TOML: {str(error)[:200]}") from None
        _check_format(table)
        named = table.get("owner")
        table["owner"] = _from_hex(named) if named is not None else owner
        if table["owner"] is None:
            raise invalid("the manifest names no owner")
        if owner not in (None, table["owner"]):
            raise ManifestError(
                ManifestCode.SEALED_OWNER,
                "the manifest names another owner than the key",
                expected=named,
                found=owner.hex() if owner else None,
                remedy="take the owner's key, or remove `owner` from the manifest",
            )
        return cls.from_map(table)

    def to_toml(self, *, with_owner: bool = True) -> str:
        """Return the text that reads back as this manifest."""
        table = self.to_map() | {"owner": self.owner.hex() if with_owner else None}
        text = tomli_w.dumps({name: table[name] for name in _TOML_ORDER if table.get(name) not in (None, [], {})})
        return re.sub(r"^shape = \[\n(.*?),\n\]", _on_one_line, text, flags=re.MULTILINE | re.DOTALL)

    def encode(self) -> bytes:
        """Return the canonical bytes: part 0 of a sealed model."""
        return canonical.encode(self.to_map())

    @classmethod
    def decode(cls, data: bytes) -> ModelManifest:
        """Decode part 0; raises ManifestError as `from_map`, or `encoding-...`."""
        manifest = cls.from_map(canonical.decode(data, max_size=MAX_MANIFEST))
        if manifest.encode() != data:
            raise invalid("the manifest spells out a default or an unused axis")
        return manifest

    def to_map(self) -> dict[str, Any]:
        """Return the tables of the manifest."""
        return {
            "format": _FORMAT,
            "name": self.name,
            "version": self.version,
            "epoch": self.epoch,
            "owner": self.owner,
            "axes": axes_map(self.inputs + self.outputs),
            "inputs": [tensor.to_map() for tensor in self.inputs],
            "outputs": [tensor.to_map() for tensor in self.outputs],
            "limits": self.limits.to_map(),
            "labels": list(self.labels),
            "pre": [step_to_map(step) for step in self.pre],
            "post": [step_to_map(step) for step in self.post],
            **self.receipts.to_map(),
            **({"abuse": self.abuse.to_map()} if self.abuse is not None else {}),
            **({"graph": self.graph.to_map()} if self.graph is not None else {}),
            **({"stages": [stage.to_map() for stage in self.stages]} if self.stages else {}),
            **self.serving.to_map(),
        }

    @classmethod
    def from_map(cls, value: object) -> ModelManifest:
        """Read the tables.

        Raises ManifestError `manifest-invalid`, `version-unsupported`, `field-invalid` or `key-invalid`.
        """
        _check_format(value)
        table: Mapping[str, Any] = fields.closed_map(value, "model manifest", _REQUIRED, _OPTIONAL)
        fields.number(table.get("format", _FORMAT), "format", _FORMAT, _FORMAT)
        axes = read_axes(table.get("axes", {}))
        return cls(
            name=table["name"],
            version=fields.text(table["version"], "version", MAX_NAME),
            epoch=fields.number(table["epoch"], "epoch", 0),
            owner=signing.check_public_key(fields.fixed_bytes(table.get("owner"), "owner", signing.KEY_SIZE)),
            inputs=_tensors(table["inputs"], axes, is_input=True),
            outputs=_tensors(table["outputs"], axes, is_input=False),
            limits=Limits.from_map(table.get("limits", {})),
            abuse=AbusePolicy.from_map(table["abuse"]) if "abuse" in table else None,
            labels=_labels(table.get("labels", [])),
            pre=tuple(pre_step(item) for item in fields.list_of(table.get("pre", []), "pre", MAX_STEPS)),
            post=tuple(post_step(item) for item in fields.list_of(table.get("post", []), "post", MAX_STEPS)),
            receipts=Receipts.from_value(table.get("receipts", "on-request")),
            graph=read_permits(table.get("graph")),
            serving=Serving.from_map(table),
            stages=read_stages(table["stages"]) if "stages" in table else (),
        )


def _check_format(value: object) -> None:
    """Refuse a later format by name; its `version` is the owner's word, and says nothing of the format."""
    fields.check_version(value, "the model manifest", "format")


def check_name(value: object) -> str:
    """Return a model's name: 1 to 128 printable characters without "/", and not "*", which stands for every model.

    Raises ManifestError `field-invalid`.
    """
    name = fields.text(value, "name", MAX_NAME)
    if name == "*":
        raise ManifestError(
            ManifestCode.FIELD_INVALID,
            "the model's name is '*', which stands for every model",
            expected="a name other than '*'",
            found=name,
            remedy="choose another name",
        )
    if "/" in name:
        raise ManifestError(
            ManifestCode.FIELD_INVALID,
            f"the model's name {name!r} has a '/' in it",
            expected="a name without '/'",
            found=name,
            remedy="choose another name, such as " + repr(name.replace("/", "-")),
        )
    return name


def _on_one_line(shape: re.Match[str]) -> str:
    return f"shape = [{', '.join(item.strip() for item in shape[1].split(f',{chr(10)}'))}]"


def _tensors(value: object, axes: dict[str, Axis], *, is_input: bool) -> tuple[TensorField, ...]:
    what = "inputs" if is_input else "outputs"
    return tuple(read_tensor(item, axes, is_input=is_input) for item in fields.list_of(value, what, MAX_TENSORS))


def _labels(value: object) -> tuple[str, ...]:
    return tuple(fields.text(item, "label", MAX_LABEL) for item in fields.list_of(value, "labels", MAX_LABELS))


def _from_hex(value: object) -> bytes:
    try:
        return bytes.fromhex(fields.text(value, "owner", 2 * signing.KEY_SIZE))
    except ValueError:
        raise ManifestError(ManifestCode.KEY_INVALID, "the owner's key is not written in hexadecimal") from None
