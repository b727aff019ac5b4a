"""The owner's one call: from a model in whatever form to a sealed file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manifests import draft
from manifests.abuse.sealing import check_sealed_profile
from manifests.errors import ManifestCode, ManifestError
from manifests.files import concerning, read_bounded, require_free
from manifests.model import MAX_MANIFEST, ModelManifest
from manifests.onnx.check import require_model
from manifests.sealed import exporters, parties
from manifests.sealed.core import DEFAULT_CHUNK, GRAPH_PART, MANIFEST_PART, check_part_name
from manifests.sealed.header import SealedInfo
from manifests.sealed.tokenizers import check_tokenizers
from manifests.sealed.writer import FilePart, MemoryPart, Part, Progress, write_sealed
from manifests.signing import Signer

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class _Model:
    """A model ready to be sealed: its graph's bytes, the parsed graph, and the files with its weights."""

    data: bytes
    graph: onnx.ModelProto
    external: Mapping[str, Path]
    name: str | None = None


def seal(
    model: object,
    destination: Path | str,
    *,
    owner_key: Signer | Path | str,
    recipients: Sequence[bytes | Path | str],
    passphrase: bytes | str | None = None,
    manifest: ModelManifest | None = None,
    name: str | None = None,
    version: str | None = None,
    epoch: int | None = None,
    extra_parts: Mapping[str, Path | bytes] | None = None,
    example_input: Any = None,
    chunk_size: int = DEFAULT_CHUNK,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> SealedInfo:
    """Seal a model for its recipients and return what anybody can see of it.

    `model` is the path of an ONNX file (its external data is found beside it), the bytes of one, an
    `onnx.ModelProto`, a fitted scikit-learn estimator, a `torch.nn.Module` or a Keras 3 model; `example_input` is
    what the last three are called with.  `owner_key` is a Signer, or the path of a key file that `passphrase` opens.
    `recipients`, one at least, are public keys of 1,216 bytes or paths of cards.  Without a `manifest` one is drafted
    from the graph under `name`, `version` and `epoch`.  `extra_parts` are tokenizer files, tables, or external data,
    by the name they get.

    Raises ManifestError: `file-exists` without `overwrite`, `key-invalid`, `passphrase-wrong`, `manifest-invalid`,
    `field-invalid`, `model-malformed`, `model-unsupported`, `export-failed`, `extra-missing`, `sealed-part`,
    a code of the model's check (OnnxCode), and as `write_sealed`.  After an error the destination is what it was
    before.
    """
    require_free(Path(destination), overwrite=overwrite)
    signer = parties.owner_signer(owner_key, passphrase)
    publics = parties.recipient_publics(recipients)
    source = _load(model, example_input)
    if manifest is None:
        manifest = draft.draft_manifest(
            source.graph,
            owner=signer.public,
            name=name,
            suggested=source.name,
            version="1.0.0" if version is None else version,
            epoch=1 if epoch is None else epoch,
        )
    elif (name, version, epoch) != (None, None, None):
        raise ManifestError(ManifestCode.MANIFEST_INVALID, "name, version and epoch stand in the manifest already")
    _check(manifest, source.graph, signer)
    check_sealed_profile(manifest, extra_parts or {})
    check_tokenizers(manifest, extra_parts or {})
    parts, own = list(_parts(manifest, source, extra_parts or {})), manifest.own_parts()
    require_model(source.data, manifest, {part.name: part.size for part in parts[2:] if part.name not in own})
    return write_sealed(
        Path(destination),
        parts,
        name=manifest.name,
        epoch=manifest.epoch,
        owner_key=signer,
        recipients=publics,
        chunk_size=chunk_size,
        progress=progress,
        overwrite=overwrite,
    )


def _check(manifest: ModelManifest, graph: onnx.ModelProto, owner_key: Signer) -> None:
    if manifest.owner != owner_key.public:
        raise ManifestError(
            ManifestCode.SEALED_OWNER,
            "the manifest names another owner than the key",
            expected=manifest.owner.hex(),
            found=owner_key.public.hex(),
        )
    ModelManifest.from_map(manifest.to_map())  # one that was made in memory must be one that can be read
    draft.check_graph(manifest, graph)
    draft.check_limits(manifest)


def _load(model: object, example_input: Any) -> _Model:
    if isinstance(model, str | Path):
        return _load_file(Path(model))
    if isinstance(model, bytes):
        return _Model(model, draft.load_graph(model), {})
    graph = exporters.to_onnx(model, example_input)
    return _Model(exporters.serialize(graph), graph, {})


def _load_file(path: Path) -> _Model:
    data = read_bounded(path, draft.MAX_GRAPH)
    with concerning(path, "name an ONNX file"):
        graph = draft.load_graph(data)
    return _Model(data, graph, {name: _beside(path, name) for name in external_locations(graph)}, path.stem)


def _beside(model: Path, location: str) -> Path:
    """Return the file with external data, which must lie below the model's folder."""
    folder = model.resolve().parent
    path = (folder / location).resolve()
    if not path.is_relative_to(folder):
        raise _part_error(f"external data {location!r} lies outside the model's folder")
    return path


def _parts(manifest: ModelManifest, model: _Model, extra: Mapping[str, Path | bytes]) -> Iterator[Part]:
    encoded = manifest.encode()
    if len(encoded) > MAX_MANIFEST:
        raise ManifestError(
            ManifestCode.MANIFEST_INVALID, "the manifest is too large", expected=MAX_MANIFEST, found=len(encoded)
        )
    yield MemoryPart(MANIFEST_PART, encoded)
    yield MemoryPart(GRAPH_PART, model.data)
    taken = {MANIFEST_PART, GRAPH_PART}
    for name, content in [*model.external.items(), *extra.items()]:
        if name in taken:
            raise _part_error(f"there would be two parts {name!r}")
        taken.add(name)
        check_part_name(name)
        yield MemoryPart(name, content) if isinstance(content, bytes) else FilePart.of(name, Path(content))
    own, external = manifest.own_parts(), external_locations(model.graph)
    missing = external - taken
    if missing:
        raise _part_error(f"the model's external data is missing: {', '.join(sorted(missing))[:200]}")
    if own & (external | {MANIFEST_PART, GRAPH_PART}):
        raise _part_error("a step names a part that belongs to the graph")
    if own - taken:
        raise _part_error(f"parts that the manifest's steps name are missing: {', '.join(sorted(own - taken))[:200]}")


def external_locations(graph: onnx.ModelProto) -> set[str]:
    """Return the names of the files that hold the graph's external data; raises ManifestError `sealed-part`."""
    import onnx

    locations: set[str] = set()
    for tensor in _tensors(graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            locations.update(entry.value for entry in tensor.external_data if entry.key == "location")
    for location in locations:
        try:
            check_part_name(location)
        except ManifestError as error:
            raise _part_error(error.message) from None
    return locations


def _tensors(message: Any) -> Iterator[Any]:
    """Yield every tensor of a model, however deep: initializers, attributes, subgraphs, functions."""
    import onnx

    pending = [message]
    while pending:
        for descriptor, value in pending.pop().ListFields():
            if descriptor.message_type is None:
                continue
            for item in value if descriptor.is_repeated else (value,):
                if isinstance(item, onnx.TensorProto):
                    yield item
                else:
                    pending.append(item)


def _part_error(message: str) -> ManifestError:
    return ManifestError(ManifestCode.SEALED_PART, message, remedy="name the files with extra_parts (--part NAME=FILE)")
