"""Documents from a vendor's service, by way of a cache.

A document is served from the cache until its end comes near: until a fifth of its life is left, a day at least.  Then
it is asked for again, with its ETag.  Where the service does not answer, or answers with something else or something
older, what is held serves for as long as it is valid.  Whoever wants to hear of revocations sooner sets `max_age`.

The dates that decide all this are the document's own.  So an answer waits in memory until its signatures have been
verified, and only then is it kept: one forged answer would otherwise be served for as long as it says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from attestation.collateral.answers import Answer
from attestation.collateral.cache import Cache, Entry
from attestation.collateral.documents import Document, Fetched
from attestation.collateral.errors import FetchCode, FetchError
from attestation.collateral.http import HttpClient

DAY: Final = 86400
_PART: Final = 5
_UNCHANGED: Final = 304
_NEVER_SERVED_OVER: Final = frozenset({FetchCode.ADDRESS, FetchCode.TLS})
"""What the caller has to put right is said, whatever is held."""


class Fetcher:
    """Fetches documents; what it returns is not verified, and is kept only once the caller says that it is."""

    def __init__(
        self,
        client: HttpClient,
        cache: Cache | None = None,
        *,
        max_age: int | None = None,
        now: Callable[[], int] = lambda: int(time.time()),
    ) -> None:
        """Keep verified answers in `cache`; without one everything is asked for each time.

        max_age: most seconds since a document was last fetched, or said to be unchanged; None: until its end is near.
        """
        self._client, self._cache, self._max_age, self._now = client, cache, max_age, now
        self._waiting: dict[str, Entry] = {}
        self._served: set[str] = set()
        self._distrusted: set[str] = set()

    def begin(self) -> None:
        """Forget every answer that waits, and everything that was said of the cache."""
        for state in (self._waiting, self._served, self._distrusted):
            state.clear()

    def drop(self) -> None:
        """Forget the answers that wait."""
        self._waiting.clear()

    def distrust(self) -> bool:
        """Do without what the cache has served since `begin`, which did not verify; tells whether that was anything.

        The files stay: only an answer that is verified replaces them, or nobody could keep an old document out.
        """
        self._distrusted |= self._served
        self._waiting.clear()
        self._served.clear()
        return bool(self._distrusted)

    def keep(self) -> None:
        """Keep the answers that wait, which the caller has verified; raises ManifestError."""
        if self._cache is not None:
            for entry in self._waiting.values():
                self._cache.store(entry)
        self.begin()

    def fetch(self, document: Document) -> Fetched:
        """Return a document in its one form.

        Raises FetchError, `fetch-not-found` where there is no such document.
        """
        entry = self._load(document.request.url)
        held = None if entry is None else _readable(document, entry)
        if entry is not None and held is not None and self._is_fresh(entry, held):
            return self._serve(document, held)
        try:
            return self._ask(document, entry if held is not None and self._is_valid(held) else None, held)
        except FetchError as error:
            if held is None or not self._is_valid(held) or error.code in _NEVER_SERVED_OVER:
                raise
            return self._serve(document, held)

    def _load(self, url: str) -> Entry | None:
        return None if self._cache is None or url in self._distrusted else self._cache.load(url)

    def _serve(self, document: Document, held: Fetched) -> Fetched:
        self._served.add(document.request.url)
        return held

    def _ask(self, document: Document, entry: Entry | None, held: Fetched | None) -> Fetched:
        tag = None if entry is None else entry.headers.get("etag")
        answer = self._client.get(document.request, etag=tag)
        if answer.status == _UNCHANGED and entry is not None and held is not None:
            self._waiting[entry.url] = replace(entry, fetched=self._now())
            return self._serve(document, held)
        fetched = document.read(answer.body, answer.headers)
        if held is not None and fetched.issued < held.issued and self._is_valid(held):
            # something older: a service that lags behind, or somebody who holds a revocation back
            return self._serve(document, held)
        self._waiting[document.request.url] = _entry(document, answer, self._now())
        return fetched

    def _is_valid(self, held: Fetched) -> bool:
        return held.issued <= self._now() < held.expires

    def _is_fresh(self, entry: Entry, held: Fetched) -> bool:
        age = self._now() - entry.fetched
        if age < 0 or (self._max_age is not None and age > self._max_age):
            return False
        margin = max((held.expires - held.issued) // _PART, DAY)
        return self._is_valid(held) and self._now() < held.expires - margin


def _entry(document: Document, answer: Answer, now: int) -> Entry:
    return Entry(document.request.url, now, answer.headers, answer.body)


def _readable(document: Document, entry: Entry) -> Fetched | None:
    try:
        return document.read(entry.body, entry.headers)
    except FetchError:
        return None
