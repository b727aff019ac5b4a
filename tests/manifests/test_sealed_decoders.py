"""Whatever bytes come, the decoders give a value or the documented error."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import canonical
from manifests.errors import ManifestCode, ManifestError
from manifests.model import ModelManifest
from manifests.sealed import BytesSource, inspect_sealed
from manifests.sealed.core import Core, parse_prefix
from manifests.sealed.recipients import decode_section, section_size
from tests.manifests.small import Pieces, manifest, small

MALFORMED = {ManifestCode.SEALED_MALFORMED, ManifestCode.SEALED_VERSION}

LEAVES = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text() | st.binary()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)


def _refused_as(codes: set[ManifestCode], call: Any) -> Any:
    """Return the value of a call, or None if it raised one of the documented codes."""
    try:
        return call()
    except ManifestError as error:
        assert error.code in codes  # noqa: PT017 - either outcome is right
        return None


@given(st.binary(min_size=16, max_size=16) | st.binary(min_size=8, max_size=8).map(lambda rest: b"STRGROOM" + rest))
def test_any_prefix(data: bytes) -> None:
    length = _refused_as(MALFORMED, lambda: parse_prefix(data))
    assert length is None or 0 < length <= 1 << 20


CORE = canonical.decode(Pieces.of(small().data).core, max_size=4096)
MANIFEST = manifest().to_map()


def _one_field_changed(table: dict[str, Any]) -> st.SearchStrategy[bytes]:
    return st.tuples(st.sampled_from([*table, "more"]), VALUES).map(
        lambda change: canonical.encode({**table, change[0]: change[1]})
    )


@given(st.binary(max_size=300) | _one_field_changed(CORE))
@settings(max_examples=300)
def test_any_core(data: bytes) -> None:
    core = _refused_as(MALFORMED, lambda: Core.decode(data))
    assert core is None or core.encode() == data


@given(st.binary(max_size=300) | _one_field_changed(MANIFEST))
@settings(max_examples=300)
def test_any_manifest(data: bytes) -> None:
    codes = {
        ManifestCode.MANIFEST_INVALID,
        ManifestCode.FIELD_INVALID,
        ManifestCode.KEY_INVALID,
        ManifestCode.VERSION_UNSUPPORTED,
        ManifestCode.ENCODING_MALFORMED,
        ManifestCode.ENCODING_TOO_DEEP,
        ManifestCode.ENCODING_TOO_LARGE,
    }
    decoded = _refused_as(codes, lambda: ModelManifest.decode(data))
    assert decoded is None or decoded.encode() == data


@given(
    st.text(max_size=300)
    | st.sampled_from(manifest().to_toml().splitlines()).flatmap(
        lambda line: st.text(max_size=20).map(lambda new: manifest().to_toml().replace(line, new))
    )
)
@settings(max_examples=200)
def test_any_toml(text: str) -> None:
    codes = {ManifestCode.MANIFEST_INVALID, ManifestCode.FIELD_INVALID, ManifestCode.KEY_INVALID}
    read = _refused_as(codes, lambda: ModelManifest.from_toml(text, owner=manifest().owner))
    assert read is None or ModelManifest.from_toml(read.to_toml()) == read


@given(st.binary(max_size=2000))
def test_any_recipients(data: bytes) -> None:
    if len(data) >= 4:
        size = _refused_as(MALFORMED, lambda: section_size(data[:4]))
        assert size is None or size > 32
    assert _refused_as(MALFORMED, lambda: decode_section(data, bytes(64))) is None


@given(st.binary(max_size=400), st.integers(0, len(small().data)))
def test_any_file_that_begins_as_a_sealed_model(data: bytes, cut: int) -> None:
    codes = MALFORMED | {ManifestCode.SEALED_TRUNCATED, ManifestCode.SEALED_SIGNATURE, ManifestCode.SEALED_CHUNK}
    file = small().data[:cut] + data + small().data[cut + len(data) :]
    info = _refused_as(codes, lambda: inspect_sealed(BytesSource(file)))
    assert info is None or file == small().data
