"""Documents from a vendor's service, by way of a cache.

A document is served from the cache until its end comes near: until a fifth of its life is left, a day at least.  Then
it is asked for again, with its ETag.  Where the service does not answer, or answers with something else or something
older, what is held serves for as long as it is valid.  Whoever wants to hear of revocations sooner sets `max_age`.
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
    """Fetches documents; what it returns is not verified."""

    def __init__(
        self,
        client: HttpClient,
        cache: Cache | None = None,
        *,
        max_age: int | None = None,
        now: Callable[[], int] = lambda: int(time.time()),
    ) -> None:
        """Keep answers in `cache`; without one everything is asked for each time.

        max_age: most seconds since a document was last fetched, or said to be unchanged; None: until its end is near.
        """
        self._client, self._cache, self._max_age, self._now = client, cache, max_age, now

    def fetch(self, document: Document) -> Fetched:
        """Return a document in its one form.

        Raises FetchError, `fetch-not-found` where there is no such document, or ManifestError where the cache cannot
        be written.
        """
        entry = None if self._cache is None else self._cache.load(document.request.url)
        held = None if entry is None else _readable(document, entry)
        if entry is not None and held is not None and self._is_fresh(entry, held):
            return held
        try:
            return self._ask(document, entry if held is not None else None, held)
        except FetchError as error:
            if held is None or not self._is_valid(held) or error.code in _NEVER_SERVED_OVER:
                raise
            return held

    def _ask(self, document: Document, entry: Entry | None, held: Fetched | None) -> Fetched:
        tag = None if entry is None else entry.headers.get("etag")
        answer = self._client.get(document.request, etag=tag)
        if answer.status == _UNCHANGED and entry is not None and held is not None:
            self._keep(replace(entry, fetched=self._now()))
            return held
        fetched = document.read(answer.body, answer.headers)
        if held is not None and fetched.issued < held.issued and self._is_valid(held):
            return held  # something older: a service that lags behind, or somebody who holds a revocation back
        self._keep(_entry(document, answer, self._now()))
        return fetched

    def _keep(self, entry: Entry) -> None:
        if self._cache is not None:
            self._cache.store(entry)

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
