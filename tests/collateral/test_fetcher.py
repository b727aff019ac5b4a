"""The cache serves what is fresh, asks again in time, and keeps serving what is valid when the service does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from attestation.collateral.cache import Cache, Entry
from attestation.collateral.documents import revocation_list
from attestation.collateral.errors import FetchCode
from attestation.collateral.fetcher import Fetcher
from attestation.sim.pki import revocation_list as issue_list
from manifests.errors import ErrorCode, ManifestCode
from tests.attestation.kit import NOW, platform, refused
from tests.collateral.kit import DAY, client
from tests.collateral.service import Reply, Service

LIFE = 30 * DAY


def issued(days: int, life: int = LIFE) -> bytes:
    """The root's revocation list as of some days after NOW."""
    return issue_list(platform().pki.root, [], NOW + days * DAY, NOW + days * DAY + life)


class Bench:
    """A service with one document, a cache, and a clock that can be set."""

    def __init__(self, service: Service, folder: Path, max_age: int | None = None) -> None:
        self.service, self.now, self.folder = service, NOW, folder
        self.document = revocation_list(f"{service.url}/crl")
        self.fetcher = Fetcher(client(), Cache(folder), max_age=max_age, now=lambda: self.now)
        self.serve(Reply(issued(0), headers={"ETag": '"0"'}))

    def serve(self, reply: Reply | Callable[[Any], Reply]) -> None:
        self.service.replies["/crl"] = reply

    def body(self, days: int = 0, seconds: int = 0) -> bytes:
        self.now = NOW + days * DAY + seconds
        fetched = self.fetcher.fetch(self.document).body
        self.fetcher.keep()
        return fetched

    @property
    def asked(self) -> int:
        return len(self.service.asked)


@pytest.fixture
def bench(service: Service, tmp_path: Path) -> Bench:
    return Bench(service, tmp_path / "cache")


def test_a_fresh_document_is_served_without_asking(bench: Bench) -> None:
    first = bench.body()
    assert bench.body(days=10) == first
    assert bench.body(days=24, seconds=-1) == first
    assert bench.asked == 1


def test_a_document_is_asked_for_again_when_a_fifth_of_its_life_is_left(bench: Bench) -> None:
    bench.body()
    bench.serve(Reply(issued(24)))
    assert bench.body(days=24) == issued(24)
    assert bench.asked == 2
    assert bench.service.asked[1][1]["If-None-Match"] == '"0"'


def test_a_short_lived_document_is_asked_for_a_day_before_its_end(bench: Bench) -> None:
    bench.serve(Reply(issued(0, 2 * DAY)))
    bench.body()
    bench.body(days=1, seconds=-1)
    assert bench.asked == 1
    bench.body(days=1)
    assert bench.asked == 2


def test_a_document_that_is_unchanged_stays_and_is_asked_for_again_later(service: Service, tmp_path: Path) -> None:
    bench = Bench(service, tmp_path, max_age=DAY)
    first = bench.body()
    bench.serve(Reply(b"", 304, length=""))
    assert bench.body(days=2) == first
    assert bench.body(days=3) == first
    assert bench.asked == 2
    assert bench.body(days=3, seconds=1) == first
    assert bench.asked == 3


def test_a_document_without_an_etag_is_sent_anew(bench: Bench) -> None:
    bench.serve(Reply(issued(0)))
    bench.body()
    bench.body(days=29)
    assert "If-None-Match" not in bench.service.asked[1][1]


@pytest.mark.parametrize(
    "trouble",
    [
        Reply(slam=True),
        Reply(status=500),
        Reply(status=404),
        Reply(status=429, headers={"Retry-After": "3600"}),
        Reply(b"<html>", media="text/html"),
        Reply(b"garbage"),
        Reply(status=302, headers={"Location": "https://elsewhere.example/"}),
    ],
    ids=str,
)
def test_a_dead_or_disturbed_service_leaves_what_is_still_valid(bench: Bench, trouble: Reply) -> None:
    first = bench.body()
    bench.serve(trouble)
    assert bench.body(days=30, seconds=-1) == first
    bench.serve(Reply(issued(30)))
    assert bench.body(days=30, seconds=-1) == issued(30)


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (Reply(slam=True), FetchCode.UNREACHABLE),
        (Reply(status=404), FetchCode.NOT_FOUND),
        (Reply(b"garbage"), FetchCode.CONTENT),
    ],
    ids=str,
)
def test_what_is_no_longer_valid_is_not_served(bench: Bench, trouble: Reply, code: ErrorCode) -> None:
    bench.body()
    bench.serve(trouble)
    with refused(code):
        bench.body(days=30)


def test_garbage_is_never_kept(bench: Bench) -> None:
    bench.serve(Reply(b"garbage"))
    for _ in range(2):
        with refused(FetchCode.CONTENT):
            bench.body()
    assert not bench.folder.exists()


def test_an_answer_is_not_kept_before_it_is_verified(bench: Bench) -> None:
    assert bench.fetcher.fetch(bench.document).body == issued(0)
    assert not bench.folder.exists()
    bench.fetcher.drop()
    bench.fetcher.keep()
    assert not bench.folder.exists()


def test_what_the_cache_served_is_done_without_when_it_does_not_verify(bench: Bench) -> None:
    bench.body()
    assert not bench.fetcher.distrust()
    bench.fetcher.fetch(bench.document)
    bench.serve(Reply(issued(-1)))
    assert bench.fetcher.distrust()
    assert bench.fetcher.fetch(bench.document).body == issued(-1)
    bench.fetcher.begin()
    assert bench.body() == issued(0)


def test_a_document_that_has_ended_is_asked_for_without_its_etag(bench: Bench) -> None:
    bench.body()
    bench.body(days=30)
    assert "If-None-Match" not in bench.service.asked[1][1]


def test_an_answer_that_is_older_than_what_is_held_is_not_taken(bench: Bench) -> None:
    bench.serve(Reply(issued(10)))
    bench.body(days=10)
    bench.serve(Reply(issued(3)))
    assert bench.body(days=35) == issued(10)
    assert bench.body(days=39, seconds=DAY - 1) == issued(10)


def test_an_older_answer_is_better_than_one_that_has_ended(bench: Bench) -> None:
    bench.serve(Reply(issued(1, 10 * DAY)))
    bench.body(days=1)
    bench.serve(Reply(issued(0)))
    assert bench.body(days=12) == issued(0)


def test_a_clock_that_was_set_back_asks_again(bench: Bench) -> None:
    bench.body(days=5)
    bench.body(days=4)
    assert bench.asked == 2


def test_without_a_cache_everything_is_asked_for(service: Service) -> None:
    service.replies["/crl"] = Reply(issued(0))
    fetcher = Fetcher(client(), now=lambda: NOW)
    for _ in range(2):
        assert fetcher.fetch(revocation_list(f"{service.url}/crl")).body == issued(0)
    assert len(service.asked) == 2


# ------------------------------------------------------------------------------------------------ files


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda _: b"\xff",
        lambda data: data[:-30],
        lambda data: data.replace(b'"version": 1', b'"version": 2'),
        lambda data: data.replace(b"/crl", b"/crm"),
        lambda data: json.dumps(json.loads(data) | {"body": "!"}).encode(),
        lambda data: json.dumps(json.loads(data) | {"body": "AAAA"}).encode(),
        lambda data: json.dumps(json.loads(data) | {"headers": {str(n): "x" for n in range(17)}}).encode(),
        lambda data: json.dumps(json.loads(data) | {"fetched": -1}).encode(),
    ],
    ids=range(9),
)
def test_a_spoilt_file_is_as_good_as_none(bench: Bench, spoil: Callable[[bytes], bytes]) -> None:
    first = bench.body()
    (path,) = files(bench.folder)
    path.write_bytes(spoil(path.read_bytes()))
    assert bench.body() == first
    assert bench.asked == 2
    assert files(bench.folder) == [path]


def test_an_answer_is_kept_whole_and_readable_by_its_owner(bench: Bench) -> None:
    bench.body()
    (path,) = files(bench.folder)
    assert bench.folder.stat().st_mode & 0o077 == 0
    kept = Cache(bench.folder).load(f"{bench.service.url}/crl")
    assert kept is not None
    assert (kept.body, kept.fetched, dict(kept.headers)) == (issued(0), NOW, {"etag": '"0"'})
    assert path.suffix == ".json"


def test_a_cache_that_cannot_be_written_says_so(bench: Bench) -> None:
    bench.folder.write_bytes(b"a file in its place")
    with refused(ManifestCode.FILE_UNAVAILABLE):
        bench.body()


def test_several_writers_leave_one_whole_file(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def write(number: int) -> None:
        for _ in range(10):
            cache.store(Entry("https://a.example/", number, {}, bytes([number]) * 50000))
            kept = cache.load("https://a.example/")
            assert kept is not None
            assert kept.body == bytes([kept.fetched]) * 50000

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(files(tmp_path)) == 1
