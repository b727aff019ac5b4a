"""HTTP for collateral, and no more of it: GET, bounded in size and time, with a few careful repetitions.

Made of the standard library's urllib, which knows proxies and the proxy variables of the environment: what is needed
here is little, and a dependency would be one more thing to trust on a verifier's machine.  Its general openers are not
used.  They would read files and FTP, follow redirects anywhere, and read an error's body whole.

TLS is always verified.  Plain HTTP is for a service on this very machine, and goes through no proxy: everything
fetched is signed, but who can replace answers on the way could hold a revocation back.
"""

from __future__ import annotations

import http.client
import random
import ssl
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from attestation.collateral.answers import (
    NOT_MODIFIED,
    OK,
    Answer,
    PassingError,
    Request,
    check_address,
    check_media,
    check_status,
    failure,
    header,
    read_body,
    redirected,
)
from attestation.collateral.deadline import Deadline
from attestation.collateral.errors import FetchCode, FetchError
from manifests.files import naming

MAX_REDIRECTS: Final = 3

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Limits:
    """attempt: seconds for one attempt, from connecting to its last byte.  total: seconds for all of them.

    attempts: how many, at most.  pause and longest_pause: seconds between two, at first and at most; each doubles the
    one before, and up to half of it is left to chance, so that a fleet does not come back all at once.
    """

    attempt: float = 20
    total: float = 90
    attempts: int = 5
    pause: float = 0.5
    longest_pause: float = 20


@dataclass(frozen=True)
class Clock:
    """Where time and chance come from; tests have their own."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


class HttpClient:
    """Fetches documents; one object may serve many requests, one after the other."""

    def __init__(self, *, tls_ca: Path | None = None, limits: Limits | None = None, clock: Clock | None = None) -> None:
        """Trust the system's authorities, or only those of a PEM file; raises ManifestError `file-unavailable`."""
        self._limits, self._clock = limits or Limits(), clock or Clock()
        self._context = None if tls_ca is None else _trusting(tls_ca)

    def get(self, request: Request, *, etag: str | None = None) -> Answer:
        """Return the answer; with `etag`, 304 where the document is still the one with that tag.

        Raises FetchError: `fetch-not-found` where there is no such document, and others.
        """
        check_address(request.url)
        end = self._clock.monotonic() + self._limits.total
        for attempt in range(1, self._limits.attempts + 1):
            left = end - self._clock.monotonic()
            try:
                return self._attempt(request, etag, min(left, self._limits.attempt))
            except PassingError as error:
                pause = max(self._pause(attempt), error.wait)
                if attempt == self._limits.attempts or self._clock.monotonic() + pause >= end:
                    raise error.error from None
            self._clock.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _pause(self, attempt: int) -> float:
        longest = min(self._limits.pause * 2 ** (attempt - 1), self._limits.longest_pause)
        return float(longest * (0.5 + 0.5 * self._clock.chance()))

    def _attempt(self, request: Request, etag: str | None, seconds: float) -> Answer:
        url = request.url
        with Deadline(seconds) as deadline:
            for _ in range(MAX_REDIRECTS + 1):
                try:
                    with self._open(url, etag, deadline) as response:
                        if response.status not in _REDIRECTS:
                            return self._answer(request, response, deadline, asked=etag is not None)
                        url = redirected(url, response)
                except (OSError, http.client.HTTPException, ValueError) as error:
                    raise failure(request.url, error, deadline) from None
        raise FetchError(
            FetchCode.REDIRECTED,
            f"{request.url} sends in circles",
            expected=f"at most {MAX_REDIRECTS} redirects",
            remedy="check the address; no service of a vendor's does that",
        )

    def _open(self, url: str, etag: str | None, deadline: Deadline) -> Any:
        opener = urllib.request.OpenerDirector()
        opener.addheaders = []
        for handler in (_Http(deadline), _Https(deadline, self._tls)):
            opener.add_handler(handler)
        if not url.lower().startswith("http:"):  # plain HTTP is for this machine, and never leaves it
            opener.add_handler(urllib.request.ProxyHandler())
        headers = {"Accept-Encoding": "identity", "User-Agent": "strongroom"}
        known = {} if etag is None else {"If-None-Match": etag}
        return opener.open(urllib.request.Request(url, headers=headers | known), timeout=deadline.left)  # noqa: S310 - the address was checked

    def _tls(self) -> ssl.SSLContext:
        """Return what TLS connections are verified with; the system's authorities are read for the first of them."""
        if self._context is None:
            self._context = ssl.create_default_context()
        return self._context

    def _answer(self, request: Request, response: Any, deadline: Deadline, *, asked: bool) -> Answer:
        check_status(request, response, self._clock.wall(), asked=asked)
        if response.status == NOT_MODIFIED:
            return Answer(NOT_MODIFIED, {}, b"")
        check_media(request, response)
        body = read_body(request, response, deadline)
        names = ("etag", *request.headers)
        return Answer(OK, {name.lower(): value for name in names if (value := header(response, name))}, body)


# ------------------------------------------------------------------------------------------------ one attempt


class _Connection(http.client.HTTPConnection):
    """A connection whose socket the deadline knows from its first moment."""

    def __init__(self, *arguments: Any, deadline: Deadline, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._create_connection = deadline.connect


class _TlsConnection(http.client.HTTPSConnection):
    """The same, with TLS: the handshake counts, too."""

    def __init__(self, *arguments: Any, deadline: Deadline, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._create_connection = deadline.connect


class _Http(urllib.request.AbstractHTTPHandler):
    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, request, deadline=self._deadline)  # type: ignore[arg-type]

    http_request = urllib.request.AbstractHTTPHandler.do_request_


class _Https(urllib.request.AbstractHTTPHandler):
    def __init__(self, deadline: Deadline, tls: Callable[[], ssl.SSLContext]) -> None:
        super().__init__()
        self._deadline, self._tls = deadline, tls

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        options: dict[str, Any] = {"deadline": self._deadline, "context": self._tls()}
        return self.do_open(_TlsConnection, request, **options)  # type: ignore[arg-type]

    https_request = urllib.request.AbstractHTTPHandler.do_request_


def _trusting(authorities: Path) -> ssl.SSLContext:
    with naming(authorities):
        try:
            return ssl.create_default_context(cafile=str(authorities))
        except ssl.SSLError:
            raise FetchError(
                FetchCode.TLS, f"{authorities} holds no certificates", remedy="give a PEM file of authorities"
            ) from None
