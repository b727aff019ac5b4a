"""Somebody who is not the owner changes a sealed model; and what even an owner cannot do."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from manifests import canonical, signing
from manifests.errors import Fault, ManifestCode, ManifestError
from manifests.sealed import BytesSource, SealedReader, inspect_sealed, recover_dek
from manifests.sealed import recipients as keys
from manifests.sealed.core import PREFIX
from manifests.sealed.header import read_exactly
from manifests.sealed.stream import commitment
from manifests.sealed.writer import MemoryPart, write_sealed
from tests.manifests.small import (
    OTHER_OWNER,
    OTHER_RECIPIENT,
    OWNER,
    RECIPIENT,
    Pieces,
    manifest,
    randomness,
    small,
)


def _swap(items: list[bytes], first: int, second: int) -> None:
    items[first], items[second] = items[second], items[first]


TWO_PARTS = (("model.onnx", b"g" * 512), ("weights", b"w" * 512))
"""Chunks: manifest 0 and 1 (the second short), graph 2 and 3, weights 4 and 5; all full ones are equally long."""
SEALED = small(parts=TWO_PARTS)
SAME_AGAIN = small(seed=2, parts=TWO_PARTS)

FULL = len(Pieces.of(SEALED.data).chunks) - 4  # the graph's first chunk

MOVES: dict[str, Callable[[list[bytes]], None]] = {
    "a chunk dropped": lambda chunks: chunks.pop(FULL),
    "the last chunk dropped": lambda chunks: chunks.pop(),
    "a chunk repeated": lambda chunks: chunks.insert(FULL, chunks[FULL]),
    "a chunk in place of the next": lambda chunks: chunks.__setitem__(FULL + 1, chunks[FULL]),
    "two chunks of a part swapped": lambda chunks: _swap(chunks, FULL, FULL + 1),
    "two chunks of different parts swapped": lambda chunks: _swap(chunks, FULL, FULL + 2),
    "the last chunks of two parts swapped": lambda chunks: _swap(chunks, FULL + 1, FULL + 3),
    "a chunk from another sealing of the same model": lambda chunks: chunks.__setitem__(
        FULL, Pieces.of(SAME_AGAIN.data).chunks[FULL]
    ),
    "all chunks from another sealing of the same model": lambda chunks: chunks.__setitem__(
        slice(None), Pieces.of(SAME_AGAIN.data).chunks
    ),
}


@pytest.mark.parametrize("move", MOVES)
def test_chunks_stand_where_the_owner_put_them(move: str) -> None:
    pieces = Pieces.of(SEALED.data)
    MOVES[move](pieces.chunks)
    changed = pieces.join()
    assert changed != SEALED.data
    for attempt in (lambda: SEALED.open(changed), lambda: inspect_sealed(BytesSource(changed))):
        with pytest.raises(ManifestError) as caught:
            attempt()
        assert caught.value.code in {
            ManifestCode.SEALED_CHUNK,
            ManifestCode.SEALED_SIGNATURE,  # where the file's length changed, the tail is found elsewhere
            ManifestCode.SEALED_TRUNCATED,
        }


@pytest.mark.parametrize("move", [name for name in MOVES if "dropped" not in name and "repeated" not in name])
def test_positions_hold_even_where_somebody_signs_the_moved_chunks(move: str) -> None:
    """An owner's key, but not the data key, was stolen: the nonces and part keys still hold each chunk in place."""
    pieces = Pieces.of(SEALED.data)
    MOVES[move](pieces.chunks)
    digest = pieces.sign()
    reader = SEALED.reader(pieces.join(), digest=digest)
    reader.open(SEALED.dek)
    with pytest.raises(ManifestError) as caught:
        [reader.read_part(index) for index in range(3)]
    assert caught.value.code is ManifestCode.SEALED_DECRYPT


def test_the_last_chunk_flag_holds_where_a_shortened_part_is_signed() -> None:
    pieces = Pieces.of(SEALED.data)
    size = len(SEALED.parts[0])
    pieces.change_core(parts=[["manifest", size], ["model.onnx", 256], ["weights", 512]])
    del pieces.chunks[FULL + 1]
    digest = pieces.sign()
    reader = SEALED.reader(pieces.join(), digest=digest)
    reader.open(SEALED.dek)
    with pytest.raises(ManifestError) as caught:
        reader.read_part(1)
    assert caught.value.code is ManifestCode.SEALED_DECRYPT


@pytest.mark.parametrize("failing", ["hash", "tag", "source"])
def test_after_a_failure_the_buffer_holds_zeros(failing: str) -> None:
    pieces = Pieces.of(SEALED.data)
    pieces.chunks[FULL + 1] = bytes(len(pieces.chunks[FULL + 1]))
    digest = pieces.sign() if failing == "tag" else SEALED.digest

    class Failing(BytesSource):
        def read_at(self, offset: int, length: int) -> memoryview:
            if failing == "source" and offset > 0 and bytes(super().read_at(offset, length)) == pieces.chunks[FULL + 1]:
                raise OSError("the network went away")
            return super().read_at(offset, length)

    reader = SEALED.reader(pieces.join(), digest=digest)
    reader._source = Failing(pieces.join())
    reader.open(SEALED.dek)
    target = bytearray(b"?" * 512)
    with pytest.raises((ManifestError, OSError)):
        reader.read_part(1, target)
    assert target == bytes(512)


def test_a_source_that_returns_too_little_is_refused() -> None:
    class Short(BytesSource):
        def read_at(self, offset: int, length: int) -> memoryview:
            return super().read_at(offset, length)[:-1]

    reader = SEALED.reader()
    reader.open(SEALED.dek)
    reader._source = Short(SEALED.data)
    with pytest.raises(ManifestError) as caught:
        reader.read_part(0)
    assert caught.value.code is ManifestCode.SEALED_TRUNCATED
    with pytest.raises(ManifestError) as caught:
        inspect_sealed(Short(SEALED.data))
    assert caught.value.code is ManifestCode.SEALED_TRUNCATED


def test_another_owners_model_is_refused_although_it_is_genuine() -> None:
    other = small(owner=OTHER_OWNER)
    assert inspect_sealed(BytesSource(other.data)).core.owner == OTHER_OWNER.public
    with pytest.raises(ManifestError) as caught:
        SEALED.reader(other.data)
    assert caught.value.code is ManifestCode.SEALED_OWNER


def test_the_owners_name_on_a_stolen_model_is_refused() -> None:
    """Somebody puts his key into the core and signs; the digest that grants name does not follow him."""
    pieces = Pieces.of(SEALED.data)
    pieces.change_core(owner=OTHER_OWNER.public)
    digest = pieces.sign(OTHER_OWNER)
    assert digest != SEALED.digest
    with pytest.raises(ManifestError) as caught:
        SEALED.reader(pieces.join(), owner=OTHER_OWNER.public)
    assert caught.value.code is ManifestCode.SEALED_DIGEST


def test_a_signature_of_somebody_else_is_refused() -> None:
    pieces = Pieces.of(SEALED.data)
    pieces.sign(OTHER_OWNER)
    with pytest.raises(ManifestError) as caught:
        SEALED.reader(pieces.join())
    assert caught.value.code is ManifestCode.SEALED_SIGNATURE


@pytest.mark.parametrize("name", ["sealed model", "policy", "grant"])
def test_a_signature_under_another_label_is_refused(name: str) -> None:
    pieces = Pieces.of(SEALED.data)
    pieces.tail = pieces.tail[:-64] + OWNER.sign(signing.label(name), SEALED.digest)
    with pytest.raises(ManifestError) as caught:
        SEALED.reader(pieces.join())
    assert caught.value.code is ManifestCode.SEALED_SIGNATURE


def test_another_model_of_the_same_owner_is_refused() -> None:
    for digest in (SAME_AGAIN.digest, b"", SEALED.digest[:63]):
        with pytest.raises(ManifestError) as caught:
            SEALED.reader(digest=digest)
        assert caught.value.code is ManifestCode.SEALED_DIGEST


@pytest.mark.parametrize("dek", [SAME_AGAIN.dek, b"", SEALED.dek[:31], SEALED.dek + b"\0", bytes(32)])
def test_a_wrong_data_key_is_refused_by_the_commitment(dek: bytes) -> None:
    reader = SEALED.reader()
    with pytest.raises(ManifestError) as caught:
        reader.open(dek)
    assert caught.value.code is ManifestCode.SEALED_COMMITMENT
    with pytest.raises(ManifestError) as caught:
        reader.read_part(0)
    assert caught.value.code is ManifestCode.SEALED_STATE


def test_one_file_has_one_data_key_whatever_its_recipients_are_told() -> None:
    """AES-GCM commits to no key: without the commitment a file could open differently for two recipients."""
    pieces = Pieces.of(SEALED.data)
    entries = {
        **keys.seal_keys(SEALED.dek, [RECIPIENT.public], SEALED.digest),
        **keys.seal_keys(SAME_AGAIN.dek, [OTHER_RECIPIENT.public], SEALED.digest),
    }
    pieces.set_entries(sorted(entries.items()), SEALED.digest)
    source = BytesSource(pieces.join())
    assert len(inspect_sealed(source).recipients) == 2
    assert recover_dek(source, RECIPIENT) == SEALED.dek
    with pytest.raises(ManifestError) as caught:
        recover_dek(source, OTHER_RECIPIENT)
    assert caught.value.code is ManifestCode.SEALED_COMMITMENT


def test_a_commitment_to_another_key_does_not_open_the_chunks() -> None:
    pieces = Pieces.of(SEALED.data)
    salt = canonical.decode(pieces.core, max_size=4096)["salt"]
    pieces.change_core(commitment=commitment(SAME_AGAIN.dek, salt))
    digest = pieces.sign()
    reader = SEALED.reader(pieces.join(), digest=digest)
    reader.open(SAME_AGAIN.dek)
    with pytest.raises(ManifestError) as caught:
        reader.read_part(0)
    assert caught.value.code is ManifestCode.SEALED_DECRYPT


def test_an_entry_from_another_model_does_not_open() -> None:
    """The owner sealed both for the same recipient; the host moves the entries of one file to the other."""
    entries = Pieces.of(SAME_AGAIN.data).entries(SAME_AGAIN.digest)
    pieces = Pieces.of(SEALED.data)
    pieces.recipients = Pieces.of(SAME_AGAIN.data).recipients
    with pytest.raises(ManifestError) as caught:
        recover_dek(BytesSource(pieces.join()), RECIPIENT)
    assert caught.value.code is ManifestCode.SEALED_MALFORMED
    pieces.set_entries(list(entries.items()), SEALED.digest)
    with pytest.raises(ManifestError) as caught:
        recover_dek(BytesSource(pieces.join()), RECIPIENT)
    assert caught.value.code is ManifestCode.SEALED_RECIPIENT


ID, BLOB = b"i" * 16, bytes(keys.SEALED_KEY_SIZE)

BAD_ENTRIES = {
    "none": [],
    "out of order": [[b"j" * 16, BLOB], [ID, BLOB]],
    "one twice": [[ID, BLOB], [ID, BLOB]],
    "too many": [[struct.pack(">QQ", 0, n), BLOB] for n in range(65)],
    "a short key id": [[ID[:15], BLOB]],
    "a short sealed key": [[ID, BLOB[:-1]]],
    "three items": [[ID, BLOB, b""]],
    "one item": [[ID]],
    "text": [["i" * 16, BLOB]],
}


@pytest.mark.parametrize("case", BAD_ENTRIES)
def test_recipients_have_one_form(case: str) -> None:
    pieces = Pieces.of(SEALED.data)
    pieces.set_entries(BAD_ENTRIES[case], SEALED.digest)
    with pytest.raises(ManifestError) as caught:
        inspect_sealed(BytesSource(pieces.join()))
    assert caught.value.code is ManifestCode.SEALED_MALFORMED


@pytest.mark.parametrize("length", [0, keys.MAX_SECTION + 1, (1 << 32) - 1])
def test_an_oversized_length_of_the_recipients_is_refused(length: int) -> None:
    pieces = Pieces.of(SEALED.data)
    pieces.recipients = struct.pack(">I", length) + pieces.recipients[4:]
    with pytest.raises(ManifestError) as caught:
        inspect_sealed(BytesSource(pieces.join()))
    assert caught.value.code is ManifestCode.SEALED_MALFORMED


FUTURES = {
    "the prefix' version": lambda pieces: PREFIX.pack(b"STRGROOM", 2, len(pieces.core)) + pieces.core,
    "the core's format": lambda pieces: pieces.change_core(format=2),
    "the core's suite": lambda pieces: pieces.change_core(suite="XAES"),
    "a core of other fields": lambda pieces: pieces.change_core(format=2, more="fields"),
}


@pytest.mark.parametrize("case", FUTURES)
def test_a_file_from_the_future_is_unsupported_and_says_what_to_do(case: str) -> None:
    pieces = Pieces.of(SEALED.data)
    changed = FUTURES[case](pieces) or pieces.join()
    for attempt in (lambda: SEALED.open(changed), lambda: inspect_sealed(BytesSource(changed))):
        with pytest.raises(ManifestError) as caught:
            attempt()
        assert caught.value.code is ManifestCode.SEALED_VERSION
        assert caught.value.code.fault is Fault.UNSUPPORTED
        assert "update" in str(caught.value.remedy)


GIB = 1 << 30
CORES = {
    "an unknown field": {"more": 1},
    "no parts": {"parts": []},
    "a part twice": {"parts": [["manifest", 1], ["model.onnx", 1], ["a", 1], ["a", 1]]},
    "the graph first": {"parts": [["model.onnx", 1], ["manifest", 1]]},
    "a path upwards": {"parts": [["manifest", 1], ["model.onnx", 1], ["../a", 1]]},
    "a part of three items": {"parts": [["manifest", 1, 1], ["model.onnx", 1]]},
    "a part of one item": {"parts": [["manifest", 1], ["model.onnx"]]},
    "a negative size": {"parts": [["manifest", -1], ["model.onnx", 1]]},
    "too many parts": {"parts": [["manifest", 1], ["model.onnx", 1]] + [[f"p{n}", 1] for n in range(4095)]},
    "too many chunks": {"parts": [["manifest", 1], ["model.onnx", GIB]]},
    "sizes beyond all disks": {"parts": [["manifest", 1], ["model.onnx", (1 << 63) - 1]]},
    "an odd chunk size": {"chunk_size": 300},
    "a tiny chunk size": {"chunk_size": 1},
    "a huge chunk size": {"chunk_size": GIB},
    "a short salt": {"salt": b"s"},
    "a short commitment": {"commitment": b"c"},
    "a short owner": {"owner": b"o"},
    "a small-order owner": {"owner": b"\x01" + bytes(31)},
    "a negative epoch": {"epoch": -1},
    "a true epoch": {"epoch": True},
    "no name": {"name": ""},
    "a long name": {"name": "n" * 129},
    "a name with a line end": {"name": "a\nb"},
    "the name of all models": {"name": "*"},
}


@pytest.mark.parametrize("case", CORES)
def test_a_core_out_of_bounds_is_refused_before_anything_is_read_for_it(case: str) -> None:
    pieces = Pieces.of(SEALED.data)
    pieces.change_core(**CORES[case])
    with pytest.raises(ManifestError) as caught:
        SEALED.reader(pieces.join())
    assert caught.value.code is ManifestCode.SEALED_MALFORMED


def test_bytes_that_are_not_there_are_not_asked_for() -> None:
    """A source may be a host far away, which would be asked for whatever length a file announces."""

    class Short:
        size = 100

        def read_at(self, offset: int, length: int) -> bytes:
            asked.append((offset, length))
            return bytes(length)

    asked: list[tuple[int, int]] = []
    assert read_exactly(Short(), 60, 40) == bytes(40)
    with pytest.raises(ManifestError) as caught:
        read_exactly(Short(), 60, 41)
    assert caught.value.code is ManifestCode.SEALED_TRUNCATED
    assert asked == [(60, 40)]


def test_a_terabyte_that_is_not_there_is_not_allocated() -> None:
    pieces = Pieces.of(SEALED.data)
    pieces.change_core(parts=[["manifest", 1], ["model.onnx", 1 << 40]], chunk_size=1 << 24)
    with pytest.raises(ManifestError) as caught:
        SEALED.reader(pieces.join())
    assert caught.value.code is ManifestCode.SEALED_TRUNCATED


@pytest.mark.parametrize("length", [0, (1 << 20) + 1, (1 << 32) - 1])
def test_an_oversized_core_length_is_refused(length: int) -> None:
    changed = PREFIX.pack(b"STRGROOM", 1, length) + SEALED.data[16:]
    with pytest.raises(ManifestError) as caught:
        SEALED.reader(changed)
    assert caught.value.code is ManifestCode.SEALED_MALFORMED


MISMATCHES = {
    "another name": manifest(name="other"),
    "another epoch": manifest(epoch=4),
    "another owner": manifest(owner=OTHER_OWNER),
}


@pytest.mark.parametrize("case", MISMATCHES)
def test_even_an_owner_cannot_show_the_host_one_name_and_the_enclave_another(tmp_path: Path, case: str) -> None:
    reader = _sealed_with(tmp_path, MISMATCHES[case].encode())
    with pytest.raises(ManifestError) as caught:
        reader.read_manifest()
    assert caught.value.code is ManifestCode.SEALED_MALFORMED


def test_a_manifest_part_of_unreasonable_size_is_not_read(tmp_path: Path) -> None:
    reader = _sealed_with(tmp_path, bytes((1 << 20) + 1))
    with pytest.raises(ManifestError) as caught:
        reader.read_manifest()
    assert caught.value.code is ManifestCode.SEALED_MALFORMED


def _sealed_with(folder: Path, part_0: bytes) -> SealedReader:
    """Seal whatever is given as the model manifest, and open it."""
    parts = [MemoryPart("manifest", part_0), MemoryPart("model.onnx", b"g")]
    path = folder / "s"
    info = write_sealed(path, parts, name="small", epoch=3, owner_key=OWNER, recipients=[RECIPIENT.public])
    reader = SealedReader(BytesSource(path.read_bytes()), owner=OWNER.public, digest=info.digest)
    reader.open(recover_dek(path, RECIPIENT))
    return reader


def test_different_randomness_is_what_separates_two_sealings() -> None:
    assert randomness(1)(32) != randomness(2)(32)
    assert SEALED.digest != SAME_AGAIN.digest
