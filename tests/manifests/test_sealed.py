"""What was sealed is opened, by whom it was sealed for, and shown to anybody."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from manifests.errors import ManifestCode, ManifestError
from manifests.sealed import (
    BytesSource,
    FileSource,
    RecipientKey,
    SealedReader,
    inspect_sealed,
    read_header,
    recover_dek,
    rewrap,
)
from manifests.sealed.writer import FilePart, MemoryPart, write_sealed
from tests.manifests.small import GRAPH, OTHER_RECIPIENT, OWNER, RECIPIENT, TABLE, Pieces, manifest, randomness, small


def test_every_part_comes_back() -> None:
    sealed = small()
    assert tuple(sealed.open(sealed.data)) == sealed.parts


def test_anybody_sees_what_the_core_says_and_nothing_of_the_content() -> None:
    sealed = small()
    info = inspect_sealed(BytesSource(sealed.data))
    assert (info.core.name, info.core.epoch, info.core.owner) == ("small", 3, OWNER.public)
    assert [(part.name, part.size) for part in info.core.parts[1:]] == [
        ("model.onnx", len(GRAPH)),
        ("table", len(TABLE)),
    ]
    assert info.digest == sealed.digest
    assert info.recipients == [RECIPIENT.key_id]
    assert info.file_size == len(sealed.data)
    assert read_header(BytesSource(sealed.data)) == (info.core, info.digest)
    assert b"the rest of a graph" not in sealed.data
    assert b"a table" not in sealed.data
    assert info.to_dict()["digest"] == sealed.digest.hex()


def test_the_recipient_recovers_the_data_key_and_nobody_else() -> None:
    sealed = small()
    assert recover_dek(BytesSource(sealed.data), RECIPIENT) == sealed.dek
    with pytest.raises(ManifestError) as caught:
        recover_dek(BytesSource(sealed.data), OTHER_RECIPIENT)
    assert caught.value.code is ManifestCode.SEALED_RECIPIENT


def test_each_sealing_draws_a_fresh_key_and_salt(tmp_path: Path) -> None:
    parts = [MemoryPart("manifest", manifest().encode()), MemoryPart("model.onnx", GRAPH)]
    cores, deks = set(), set()
    for name in ("a", "b"):
        info = write_sealed(
            tmp_path / name, parts, name="small", epoch=3, owner_key=OWNER, recipients=[RECIPIENT.public]
        )
        cores.add(info.core.salt)
        deks.add(bytes(recover_dek(tmp_path / name, RECIPIENT)))
    assert len(cores) == len(deks) == 2


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 513, 1024])
def test_parts_of_every_length_around_a_chunk_come_back(tmp_path: Path, size: int) -> None:
    content = bytes(n % 251 for n in range(size))
    (tmp_path / "weights").write_bytes(content)
    sealed = tmp_path / "s"
    parts = [
        MemoryPart("manifest", manifest().encode()),
        MemoryPart("model.onnx", content),
        FilePart.of("weights", tmp_path / "weights"),
    ]
    info = write_sealed(
        sealed, parts, name="small", epoch=3, owner_key=OWNER, recipients=[RECIPIENT.public], chunk_size=256
    )
    with FileSource(sealed) as source:
        reader = SealedReader(source, owner=OWNER.public, digest=info.digest)
        reader.open(recover_dek(source, RECIPIENT))
        assert reader.read_part(1) == reader.read_part(2) == content
    assert inspect_sealed(sealed) == info


def test_a_part_is_decrypted_into_the_callers_buffer() -> None:
    sealed = small()
    reader = sealed.reader()
    reader.open(sealed.dek)
    whole = bytearray(len(GRAPH) + 2)
    assert reader.read_part(1, memoryview(whole)[1:-1]) == GRAPH
    assert whole == b"\0" + GRAPH + b"\0"
    with pytest.raises(ManifestError) as caught:
        reader.read_part(1, whole)
    assert caught.value.code is ManifestCode.SEALED_PART


def test_a_reader_needs_the_data_key_first_and_forgets_it_when_closed() -> None:
    sealed = small()
    reader = sealed.reader()
    assert reader.digest == sealed.digest
    for _ in range(2):
        with pytest.raises(ManifestError) as caught:
            reader.read_part(0)
        assert caught.value.code is ManifestCode.SEALED_STATE
        reader.open(sealed.dek)
        assert reader.read_part(0)
        reader.close()


@pytest.mark.parametrize("index", [-1, 3])
def test_a_part_that_is_not_there_is_refused(index: int) -> None:
    sealed = small()
    reader = sealed.reader()
    reader.open(sealed.dek)
    with pytest.raises(ManifestError) as caught:
        reader.read_part(index)
    assert caught.value.code is ManifestCode.SEALED_PART


def test_each_byte_of_the_host_is_read_once() -> None:
    class Counting(BytesSource):
        def read_at(self, offset: int, length: int) -> memoryview:
            reads.append((offset, offset + length))
            return super().read_at(offset, length)

    reads: list[tuple[int, int]] = []
    sealed = small()
    reader = SealedReader(Counting(sealed.data), owner=OWNER.public, digest=sealed.digest)
    reader.open(sealed.dek)
    for index in range(3):
        reader.read_part(index)
    reads.sort()
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(reads))
    assert sum(end - start for start, end in reads) == len(sealed.data) - len(Pieces.of(sealed.data).recipients)


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    parts = [MemoryPart("manifest", manifest().encode()), MemoryPart("model.onnx", GRAPH * 9)]
    write_sealed(
        tmp_path / "s",
        parts,
        name="small",
        epoch=3,
        owner_key=OWNER,
        recipients=[RECIPIENT.public],
        chunk_size=256,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert len(steps) > 9
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    assert steps[-1][0] == steps[-1][1]


def test_rewrapping_changes_the_recipients_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    sealed = small()
    path.write_bytes(sealed.data)
    before = Pieces.of(sealed.data)
    added = rewrap(path, private=RECIPIENT, add=[OTHER_RECIPIENT.public])
    assert sorted(added.recipients) == sorted([RECIPIENT.key_id, OTHER_RECIPIENT.key_id])
    assert inspect_sealed(path) == added
    after = Pieces.of(path.read_bytes())
    assert (after.core, after.chunks, after.tail) == (before.core, before.chunks, before.tail)
    assert recover_dek(path, OTHER_RECIPIENT) == recover_dek(path, RECIPIENT) == sealed.dek

    removed = rewrap(path, private=OTHER_RECIPIENT, remove=[RECIPIENT.key_id], destination=tmp_path / "t")
    assert removed.recipients == [OTHER_RECIPIENT.key_id]
    assert inspect_sealed(path) == added
    assert inspect_sealed(tmp_path / "t") == removed


def test_adding_a_present_recipient_makes_its_entry_anew(tmp_path: Path) -> None:
    path = tmp_path / "s"
    sealed = small()
    path.write_bytes(sealed.data)
    old = Pieces.of(sealed.data).entries(sealed.digest)
    assert rewrap(path, private=RECIPIENT, add=[RECIPIENT.public]).recipients == [RECIPIENT.key_id]
    assert Pieces.of(path.read_bytes()).entries(sealed.digest) != old
    assert recover_dek(path, RECIPIENT) == sealed.dek


REFUSED_REWRAPS = {
    "by a stranger": ({"private": OTHER_RECIPIENT, "add": [RECIPIENT.public]}, ManifestCode.SEALED_RECIPIENT),
    "leaving nobody": ({"private": RECIPIENT, "remove": [RECIPIENT.key_id]}, ManifestCode.SEALED_RECIPIENTS),
    "removing who is not there": (
        {"private": RECIPIENT, "remove": [OTHER_RECIPIENT.key_id]},
        ManifestCode.SEALED_RECIPIENT,
    ),
    "for a short key": ({"private": RECIPIENT, "add": [bytes(32)]}, ManifestCode.KEY_INVALID),
    "for a key out of range": ({"private": RECIPIENT, "add": [b"\xff" * 1216]}, ManifestCode.KEY_INVALID),
}


@pytest.mark.parametrize("attempt", REFUSED_REWRAPS)
def test_a_refused_rewrap_leaves_the_file_alone(tmp_path: Path, attempt: str) -> None:
    arguments, code = REFUSED_REWRAPS[attempt]
    path = tmp_path / "s"
    path.write_bytes(small().data)
    with pytest.raises(ManifestError) as caught:
        rewrap(path, **arguments)
    assert caught.value.code is code
    assert path.read_bytes() == small().data
    assert [child.name for child in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize("count", [0, 65])
def test_a_model_for_nobody_or_for_too_many_is_not_sealed(tmp_path: Path, count: int) -> None:
    publics = [RecipientKey.from_bytes(bytes([n]) * 32).public for n in range(count)]
    parts = [MemoryPart("manifest", b"m"), MemoryPart("model.onnx", b"g")]
    with pytest.raises(ManifestError) as caught:
        write_sealed(tmp_path / "s", parts, name="n", epoch=0, owner_key=OWNER, recipients=publics)
    assert caught.value.code is ManifestCode.SEALED_RECIPIENTS
    assert not list(tmp_path.iterdir())


def test_the_same_recipient_twice_is_one() -> None:
    sealed = small(recipients=(RECIPIENT, RECIPIENT))
    assert inspect_sealed(BytesSource(sealed.data)).recipients == [RECIPIENT.key_id]


WRONG_PARTS = {
    "no graph": ["manifest"],
    "no manifest": ["model.onnx", "manifest"],
    "a part twice": ["manifest", "model.onnx", "a", "a"],
    "a path upwards": ["manifest", "model.onnx", "../a"],
    "an absolute path": ["manifest", "model.onnx", "/a"],
    "a backslash": ["manifest", "model.onnx", "a\\b"],
    "a sloppy path": ["manifest", "model.onnx", "a//b"],
    "no name": ["manifest", "model.onnx", ""],
}


@pytest.mark.parametrize("case", WRONG_PARTS)
def test_parts_that_a_reader_would_refuse_are_not_sealed(tmp_path: Path, case: str) -> None:
    parts = [MemoryPart(name, b"x") for name in WRONG_PARTS[case]]
    with pytest.raises(ManifestError) as caught:
        write_sealed(tmp_path / "s", parts, name="n", epoch=0, owner_key=OWNER, recipients=[RECIPIENT.public])
    assert caught.value.code is ManifestCode.SEALED_MALFORMED
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("chunk_size", [128, 300, 1 << 25])
def test_a_chunk_size_out_of_bounds_is_refused(tmp_path: Path, chunk_size: int) -> None:
    parts = [MemoryPart("manifest", b"x"), MemoryPart("model.onnx", b"x")]
    with pytest.raises(ManifestError) as caught:
        write_sealed(
            tmp_path / "s",
            parts,
            name="n",
            epoch=0,
            owner_key=OWNER,
            recipients=[RECIPIENT.public],
            chunk_size=chunk_size,
        )
    assert caught.value.code is ManifestCode.SEALED_MALFORMED


def test_secrets_do_not_show() -> None:
    text = repr(RECIPIENT) + repr(MemoryPart("manifest", b"plain text"))
    assert RECIPIENT.to_bytes().decode() not in text
    assert "plain text" not in text
    with pytest.raises(ManifestError) as caught:
        RecipientKey.from_bytes(bytes(31))
    assert caught.value.code is ManifestCode.KEY_INVALID
    assert RecipientKey.generate() != RecipientKey.generate()


def test_vectors_of_the_key_encapsulation_give_the_published_public_key() -> None:
    """First vector of draft-connolly-cfrg-xwing-kem, appendix C: its seed and the first bytes of pk."""
    seed = bytes.fromhex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26")
    assert RecipientKey.from_bytes(seed).public[:8].hex() == "e2236b35a8c24b39"


def test_the_same_randomness_gives_the_same_content() -> None:
    assert randomness(1)(32) == small(1).dek
    first, second = (Pieces.of(small(1, recipients=keys).data) for keys in ((RECIPIENT,), (OTHER_RECIPIENT,)))
    assert (first.core, first.chunks, first.tail) == (second.core, second.chunks, second.tail)
    assert first.join() == small(1, recipients=(RECIPIENT,)).data


def test_reading_loads_nothing_that_only_owners_need() -> None:
    """The enclave is measured by what it loads."""
    program = "import sys, manifests.sealed, manifests.sealed.reader; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "manifests.sealed.reader" in loaded
    assert not {"manifests.sealed.sealing", "manifests.sealed.exporters", "manifests.draft", "onnx"} & set(loaded)
    with pytest.raises(ImportError):
        from manifests.sealed import nothing_of_the_kind  # noqa: F401 - it must fail
