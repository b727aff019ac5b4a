"""The folder of sealed models, and what an enclave may fetch from it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.wire.frames import ROUTE_FETCH, Frame
from host import fetch, models, watch
from host.control import MAX_FETCH, FetchRequest
from host.errors import HostCode, HostError
from host.fetch import Fetcher, read_cached
from host.limits import Limits
from host.link import EnclaveLink
from host.models import ModelFolder
from host.relay import Relay
from host.watch import ModelWatch
from manifests import canonical
from manifests.sealed import BytesSource
from manifests.sealed.header import load_header
from tests.host.rig import Wire, connect_enclave, run, until
from tests.manifests.small import Small, small

MODEL = small()
BIG = small(2, parts=(("model.onnx", bytes(3 << 20)),), chunk_size=1 << 20)


def folder_with(path: Path, **files: bytes) -> ModelFolder:
    for name, data in files.items():
        (path / f"{name}.sealed").write_bytes(data)
    folder = ModelFolder(path)
    folder.scan()
    return folder


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_models_are_found_by_digest_with_what_their_header_says(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    folder = folder_with(tmp_path, small=MODEL.data)
    (entry,) = folder.models
    assert folder.find(MODEL.digest) is entry
    assert entry.to_dict() == {
        "name": "small",
        "epoch": 3,
        "owner": MODEL.owner.public.hex(),
        "digest": MODEL.digest.hex(),
        "file": "small.sealed",
        "file_size": len(MODEL.data),
        "content_size": sum(map(len, MODEL.parts)),
        "verified": False,
    }


def test_files_that_are_no_models_are_listed_with_the_reason(tmp_path: Path) -> None:
    broken = bytearray(MODEL.data)
    broken[40] ^= 1
    (tmp_path / "folder.sealed").mkdir()
    (tmp_path / "gone.sealed").symlink_to(tmp_path / "nowhere")
    folder = folder_with(tmp_path, broken=bytes(broken), empty=b"", text=b"not a model at all")
    assert folder.models == []
    codes = {entry.path.name: entry.code for entry in folder.rejected}
    assert codes["folder.sealed"] == codes["gone.sealed"] == "fetch-model-unreadable"
    assert all(codes[name].startswith("sealed-") for name in ("broken.sealed", "empty.sealed", "text.sealed"))


def damaged(model: Small) -> bytes:
    """The same file with one flipped bit in its first chunk, which no header shows."""
    offset = load_header(BytesSource(model.data)).content_offset
    return model.data[:offset] + bytes([model.data[offset] ^ 1]) + model.data[offset + 1 :]


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_a_damaged_file_does_not_stand_in_the_way_of_a_good_one(tmp_path: Path, order: tuple[str, str]) -> None:
    good, bad = order
    folder = folder_with(tmp_path, **{good: MODEL.data, bad: damaged(MODEL)})
    assert [entry.path.stem for entry in folder.models] == [good]
    assert folder.find(MODEL.digest).verified
    assert [(entry.path.stem, entry.code) for entry in folder.rejected] == [(bad, "sealed-chunk")]
    descriptor = folder.locate(FetchRequest(MODEL.digest, 0, len(MODEL.data)))
    assert os.pread(descriptor, len(MODEL.data), 0) == MODEL.data
    folder.close()


def test_a_good_file_that_comes_later_takes_the_place_of_a_damaged_one(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, a=damaged(MODEL))
    assert folder.holds(MODEL.digest), "of a file that has no rival the header is read alone"
    folder = folder_with(tmp_path, b=MODEL.data)
    assert folder.find(MODEL.digest).path.stem == "b"


def test_good_copies_are_named_and_verified_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_with(tmp_path, a=MODEL.data, b=MODEL.data, c=BIG.data)
    assert [entry.path.stem for entry in folder.models] == ["a", "c"]
    assert folder.to_dict()["duplicates"] == [{"file": "b.sealed", "served": "a.sealed"}]
    monkeypatch.setattr("manifests.sealed.inspect_sealed", pytest.fail)
    assert not folder.scan()
    (tmp_path / "a.sealed").unlink()
    assert folder.scan()
    assert [entry.path.stem for entry in folder.models] == ["b", "c"]
    assert folder.duplicates == []


def test_verifying_a_folder_finds_what_its_headers_do_not_show(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, small=damaged(MODEL), big=BIG.data)
    assert len(folder.models) == 2
    folder.verify()
    assert [(entry.path.stem, entry.verified) for entry in folder.models] == [("big", True)]
    assert [(entry.path.stem, entry.code) for entry in folder.rejected] == [("small", "sealed-chunk")]
    assert not folder.holds(MODEL.digest)
    assert not folder.scan(), "an unchanged file stays as it was found"


def test_a_change_in_the_folder_is_seen_and_an_unchanged_file_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_with(tmp_path, small=MODEL.data)
    reads = []
    real = models.read_header
    monkeypatch.setattr(models, "read_header", lambda path: reads.append(path.name) or real(path))
    assert not folder.scan()
    assert reads == []
    (tmp_path / "big.sealed").write_bytes(BIG.data)
    assert folder.scan()
    assert reads == ["big.sealed"]
    (tmp_path / "small.sealed").unlink()
    assert folder.scan()
    assert [entry.digest for entry in folder.models] == [BIG.digest]


def test_a_folder_that_goes_away_keeps_its_last_index(tmp_path: Path) -> None:
    place = tmp_path / "models"
    place.mkdir()
    folder = folder_with(place, small=MODEL.data)
    place.rename(tmp_path / "elsewhere")
    assert not folder.scan()
    assert folder.holds(MODEL.digest)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError) as refused:
        ModelFolder(tmp_path / "none")
    assert refused.value.code is HostCode.MODELS_MISSING


def test_the_number_of_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MAX_MODELS", 2)
    folder = folder_with(tmp_path, a=MODEL.data, b=BIG.data, c=MODEL.data)
    assert len(folder.models) == 2
    assert folder.rejected[0].message == "the folder holds more than 2 sealed models"


def test_the_number_of_open_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MAX_OPEN", 2)
    made = [small(seed) for seed in range(3, 7)]
    folder = folder_with(tmp_path, **{f"m{index}": each.data for index, each in enumerate(made)})
    before = open_files()
    for each in [*made, *made]:
        descriptor = folder.locate(FetchRequest(each.digest, 0, 4))
        assert os.pread(descriptor, len(each.data), 0) == each.data
    assert open_files() == before + 2
    folder.close()
    assert open_files() == before


@pytest.mark.parametrize(
    ("offset", "length", "code"),
    [
        (len(MODEL.data), 1, "fetch-range"),
        (0, len(MODEL.data) + 1, "fetch-range"),
        ((1 << 63) - 1, 1, "fetch-range"),
    ],
)
def test_a_range_beyond_the_file_is_refused(tmp_path: Path, offset: int, length: int, code: str) -> None:
    folder = folder_with(tmp_path, small=MODEL.data)
    with pytest.raises(HostError) as refused:
        folder.locate(FetchRequest(MODEL.digest, offset, length))
    assert refused.value.code == code


def test_a_model_that_cannot_be_opened_any_more_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, small=MODEL.data)
    (tmp_path / "small.sealed").unlink()
    with pytest.raises(HostError) as refused:
        folder.locate(FetchRequest(MODEL.digest, 0, 1))
    assert refused.value.code == "fetch-model-unreadable"


def wish(digest: bytes = MODEL.digest, offset: int = 0, length: int = 16) -> bytes:
    return canonical.encode({"digest": digest, "offset": offset, "length": length})


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "fetch-malformed"),
        (wish() + b"\x00", "fetch-malformed"),
        (wish(digest=b"short"), "fetch-malformed"),
        (wish(offset=-1), "fetch-malformed"),
        (canonical.encode({"digest": MODEL.digest, "offset": 0}), "fetch-malformed"),
        (canonical.encode({"digest": MODEL.digest, "offset": 0, "length": 1.0}), "fetch-malformed"),
        (bytes(5000), "fetch-malformed"),
        (wish(length=MAX_FETCH + 1), "fetch-range"),
    ],
)
def test_a_request_that_is_none_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(HostError) as refused:
        FetchRequest.decode(body)
    assert refused.value.code == code


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_a_request_of_any_bytes_is_a_request_or_the_documented_error(body: bytes) -> None:
    with contextlib.suppress(HostError):
        FetchRequest.decode(body)


@dataclass
class Serving:
    enclave: Wire
    link: EnclaveLink
    fetcher: Fetcher

    async def fetch(self, number: int, body: bytes) -> bytes:
        self.fetcher.request(number, body)
        frame = await self.enclave.frame()
        assert frame[:2] == (ROUTE_FETCH, number)
        return bytes(frame.body)

    async def refusal(self, body: bytes) -> str:
        answer = await self.fetch(9, body)
        assert answer[:1] == b"\x01"
        return canonical.decode(answer[1:], max_size=1000)["code"]


@contextlib.asynccontextmanager
async def serving(folder: ModelFolder, limits: Limits | None = None) -> AsyncIterator[Serving]:
    controls: list[Frame] = []
    enclave, link = await connect_enclave(Relay(limits), controls)
    fetcher = Fetcher(link, ModelWatch(folder))
    task = asyncio.ensure_future(fetcher.run())
    try:
        yield Serving(enclave, link, fetcher)
    finally:
        task.cancel()
        link.abort()
        enclave.close()
        folder.close()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("is_cached", [True, False])
def test_an_enclave_gets_exactly_the_bytes_it_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_cached: bool
) -> None:
    async def scenario() -> None:
        async with serving(folder_with(tmp_path, big=BIG.data)) as made:
            whole = b""
            while len(whole) < len(BIG.data):
                length = min(MAX_FETCH, len(BIG.data) - len(whole))
                answer = await made.fetch(7, wish(BIG.digest, len(whole), length))
                assert len(answer) == 1 + length
                whole += answer[1:]
            assert whole == BIG.data
            assert made.fetcher.bytes_served == len(BIG.data)

    if not is_cached:
        monkeypatch.setattr(fetch, "read_cached", lambda *_: False)
    run(scenario())


def test_a_length_of_zero_asks_for_the_size(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(folder_with(tmp_path, small=MODEL.data)) as made:
            assert await made.fetch(1, wish(length=0)) == b"\x00" + len(MODEL.data).to_bytes(8, "big")
            assert await made.refusal(wish(bytes(64), length=0)) == "fetch-model-unknown"

    run(scenario())


def test_refused_fetches_carry_their_code_and_the_next_one_is_served(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(folder_with(tmp_path, small=MODEL.data)) as made:
            assert await made.refusal(b"nonsense") == "fetch-malformed"
            assert await made.refusal(wish(bytes(64))) == "fetch-model-unknown"
            assert await made.refusal(wish(offset=len(MODEL.data))) == "fetch-range"
            assert (await made.fetch(2, wish()))[1:] == MODEL.data[:16]

    run(scenario())


def test_a_model_that_has_just_arrived_is_served(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(folder_with(tmp_path)) as made:
            (tmp_path / "small.sealed").write_bytes(MODEL.data)
            assert (await made.fetch(2, wish()))[1:] == MODEL.data[:16]

    run(scenario())


def test_unknown_digests_cannot_keep_the_disk_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with serving(folder) as made:
            for _ in range(20):
                assert await made.refusal(wish(bytes(64))) == "fetch-model-unknown"

    folder, scans = folder_with(tmp_path), []
    monkeypatch.setattr(folder, "scan", lambda: scans.append(1) and False)
    monkeypatch.setattr(watch, "REFRESH", 60.0)
    run(scenario())
    assert len(scans) == 1


def test_a_file_that_became_shorter_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(folder_with(tmp_path, small=MODEL.data)) as made:
            os.truncate(tmp_path / "small.sealed", 10)
            assert await made.refusal(wish()) == "fetch-range"

    run(scenario())


def test_fetches_that_wait_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with serving(folder_with(tmp_path, small=MODEL.data)) as made:
            for number in range(5):
                made.fetcher.request(number, wish())
            answers = {(frame := await made.enclave.frame()).sid: bytes(frame.body[:1]) for _ in range(5)}
            assert answers == {0: b"\x00", 1: b"\x00", 2: b"\x00", 3: b"\x01", 4: b"\x01"}

    monkeypatch.setattr(fetch, "MAX_WAITING", 3)
    run(scenario())


def test_an_enclave_that_asks_and_never_reads_gets_no_more_than_it_has_room_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        limits = Limits(enclave_queue=4 * MAX_FETCH)
        async with serving(folder_with(tmp_path, big=BIG.data), limits) as made:
            made.enclave.writer.transport.pause_reading()
            for number in range(100):
                made.fetcher.request(number, wish(BIG.digest, 0, MAX_FETCH))
            await until(lambda: made.link.congested)
            await asyncio.sleep(0.05)
            assert made.link.queued < 3 * MAX_FETCH
            while not made.link.closed:
                made.fetcher.request(1, b"nonsense")
            assert made.link.lost.result().code == "enclave-protocol"

    run(scenario())


def test_reading_from_the_cache_takes_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    descriptor = os.open(path, os.O_RDONLY)
    buffer = bytearray(50)
    assert read_cached(descriptor, memoryview(buffer), 25)
    assert buffer == bytes(range(25, 75))
    assert not read_cached(descriptor, memoryview(buffer), 60)
    os.close(descriptor)
    assert not read_cached(descriptor, memoryview(buffer), 0)


def test_a_read_error_is_told_by_its_code(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)  # reading from a folder fails as a broken disk does
    with pytest.raises(HostError) as refused:
        fetch.read_and_close(folder, memoryview(bytearray(4)), 0)
    assert refused.value.code == "fetch-model-unreadable"
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(folder)


def test_more_fetches_than_may_wait_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MAX_WAITING", 2)
    folder = folder_with(tmp_path)

    async def scenario() -> None:
        async with serving(folder) as made:
            for number in (1, 2, 3):
                made.fetcher.request(number, wish())
            frames = [await made.enclave.frame() for _ in range(3)]
            assert [frame.sid for frame in frames] == [3, 1, 2]
            assert canonical.decode(frames[0].body[1:], max_size=1000)["code"] == HostCode.FETCH_BUSY

    run(scenario())
