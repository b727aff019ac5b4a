"""HTTP for collateral, and no more of it: GET, bounded in size and time, with a few careful repetitions.

Made of the standard library's urllib, which knows proxies and the proxy variables of the environment: what is needed
here is little, and a dependency would be one more thing to trust on a verifier's machine.  Its general openers are not
used.  They would read files and FTP, follow redirects anywhere, and read an error's body whole.

TLS is always verified.  Plain HTTP is for a service on this very machine; everything fetched is signed, but who can
replace answers on the way could hold a revocation back.
"""

from __future__ import annotations

import email.utils
import http.client
import ipaddress
import random
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from attestation.collateral.deadline import Deadline
from attestation.collateral.errors import FetchCode, FetchError
from manifests.files import naming

MAX_REDIRECTS: Final = 3

_OK, _NOT_MODIFIED, _NOT_FOUND = 200, 304, 404
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that may be another one a moment later."""
_LIMITED: Final = frozenset({429, 503})
_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})
"""What a captive portal or a proxy answers with, in the place of any document."""


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


@dataclass(frozen=True)
class Request:
    """One document.  limit: most bytes of its body.  headers: of the answer, to keep.  media: its types, if known."""

    url: str
    limit: int
    headers: tuple[str, ...] = ()
    media: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Answer:
    """What came: status 200 or 304 (unchanged), the headers that were asked for, in lower case, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


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
            except _PassingError as error:
                pause = max(self._pause(attempt), error.wait)
                if attempt == self._limits.attempts or self._clock.monotonic() + pause >= end:
                    raise error.final() from None
            self._clock.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _pause(self, attempt: int) -> float:
        longest = min(self._limits.pause * 2 ** (attempt - 1), self._limits.longest_pause)
        return float(longest * (0.5 + 0.5 * self._clock.chance()))

    def _attempt(self, request: Request, etag: str | None, seconds: float) -> Answer:
        url = request.url
        with Deadline(seconds) as deadline:
            for _ in range(MAX_REDIRECTS + 1):
                headers = {"Accept-Encoding": "identity", "User-Agent": "strongroom"}
                if etag is not None:
                    headers["If-None-Match"] = etag
                try:
                    with self._open(urllib.request.Request(url, headers=headers), deadline) as response:  # noqa: S310 - check_address
                        if response.status not in _REDIRECTS:
                            return self._answer(request, response, deadline, asked=etag is not None)
                        url = _redirected(url, response)
                except (OSError, http.client.HTTPException, ValueError) as error:
                    raise _failure(request.url, error, deadline) from None
        raise FetchError(FetchCode.REDIRECTED, f"{request.url} sends in circles", expected=f"at most {MAX_REDIRECTS}")

    def _open(self, request: urllib.request.Request, deadline: Deadline) -> Any:
        opener = urllib.request.OpenerDirector()
        opener.addheaders = []
        for handler in (urllib.request.ProxyHandler(), _Http(deadline), _Https(deadline, self._tls)):
            opener.add_handler(handler)
        return opener.open(request, timeout=deadline.left)

    def _tls(self) -> ssl.SSLContext:
        """Return what TLS connections are verified with; the system's authorities are read for the first of them."""
        if self._context is None:
            self._context = ssl.create_default_context()
        return self._context

    def _answer(self, request: Request, response: Any, deadline: Deadline, *, asked: bool) -> Answer:
        _check_status(request, response, self._clock.wall(), asked=asked)
        if response.status == _NOT_MODIFIED:
            return Answer(_NOT_MODIFIED, {}, b"")
        _check_media(request, response)
        body = _body(request, response, deadline)
        names = ("etag", *request.headers)
        return Answer(_OK, {name.lower(): value for name in names if (value := _header(response, name))}, body)


def check_address(url: str) -> None:
    """Refuse what is not an https address, or http on this machine; raises FetchError `fetch-address`."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urllib.parse.urlsplit("")
    usable = parts.scheme == "https" or (parts.scheme == "http" and _is_here(host))
    if not host or not usable or "@" in parts.netloc or not url.isascii() or not url.isprintable() or " " in url:
        raise FetchError(
            FetchCode.ADDRESS,
            FetchCode.ADDRESS.meaning,
            expected="https://HOST[:PORT], or http:// on this machine",
            found=url[:128],
            remedy="give the address of a service that speaks TLS; for its own authority use --tls-ca",
        )


# ------------------------------------------------------------------------------------------------ one attempt


class _PassingError(Exception):
    """A failure that may pass; `wait` is how many seconds the service asks for."""

    def __init__(self, error: FetchError, wait: float = 0) -> None:
        super().__init__(error.message)
        self.error, self.wait = error, wait

    def final(self) -> FetchError:
        """Return the error, now that nothing more is tried."""
        return self.error


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


def _check_status(request: Request, response: Any, now: float, *, asked: bool) -> None:
    """Refuse what is no answer; `asked` whether the service was asked for changes only."""
    status = response.status
    if status == _OK or (asked and status == _NOT_MODIFIED):
        return
    if status == _NOT_FOUND:
        raise FetchError(
            FetchCode.NOT_FOUND,
            f"there is no {request.url}",
            remedy="check that the evidence is of this vendor's hardware, and the address of the service",
        )
    wait = _retry_after(_header(response, "Retry-After") or "", now) if status in _LIMITED else 0.0
    error = FetchError(
        FetchCode.LIMITED if wait else FetchCode.STATUS,
        f"{request.url} answers with status {status}",
        expected="status 200",
        found=f"status {status}" + (f", to be asked again in {wait:.0f} s" if wait else ""),
        remedy="try again later; until then, collateral that is held and still valid serves",
    )
    if status in _PASSING:
        raise _PassingError(error, wait)
    raise error


def _check_media(request: Request, response: Any) -> None:
    media = (_header(response, "Content-Type") or "").partition(";")[0].strip().lower()
    if media in _PAGES or (request.media and media not in request.media):
        raise _content(
            request, "it is of another type", " or ".join(sorted(request.media)) or "a document", media or "no type"
        )
    encoding = (_header(response, "Content-Encoding") or "identity").strip().lower()
    if encoding != "identity":
        raise _content(request, "it is encoded", "identity", encoding)


def _body(request: Request, response: Any, deadline: Deadline) -> bytes:
    """Read a body of at most the document's limit, whole."""
    length = _header(response, "Content-Length")
    if length is not None and (not length.isascii() or not length.isdigit()):
        raise _content(request, "its length is no number", "digits", length[:32])
    if length is not None and int(length[:20]) > request.limit:
        raise _too_large(request, length[:20])
    body = bytearray()
    while len(body) <= request.limit and (block := response.read(min(65536, request.limit + 1 - len(body)))):
        body += block
        deadline.check()
    if len(body) > request.limit:
        raise _too_large(request, f"more than {request.limit}")
    if length is not None and len(body) != int(length):
        raise _PassingError(
            FetchError(
                FetchCode.UNREACHABLE,
                f"{request.url} breaks off",
                expected=f"{length} bytes",
                found=f"{len(body)} bytes",
                remedy="try again; check proxies between here and the service",
            )
        )
    return bytes(body)


def _failure(url: str, error: Exception, deadline: Deadline) -> Exception:
    """Return the error for what urllib has raised."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return FetchError(
            FetchCode.TLS,
            f"the certificate of {url} is not trusted",
            found=reason.verify_message,
            remedy="check the address and this machine's clock; for a service of your own give its authority: --tls-ca",
        )
    if isinstance(reason, http.client.InvalidURL | UnicodeError):
        return FetchError(FetchCode.ADDRESS, FetchCode.ADDRESS.meaning, found=url[:128])
    if deadline.passed or isinstance(reason, TimeoutError):
        timed_out = FetchError(
            FetchCode.TIMED_OUT,
            f"{url} does not answer in time",
            expected=f"an answer within {deadline.seconds:.0f} s",
            remedy="try again; check the network and the proxy variables (https_proxy, no_proxy)",
        )
        return _PassingError(timed_out)
    unreachable = FetchError(
        FetchCode.UNREACHABLE,
        f"{url} cannot be reached",
        found=(getattr(reason, "strerror", None) or str(reason) or type(reason).__name__)[:128],
        remedy="check the network and the proxy variables (https_proxy, no_proxy)",
    )
    return _PassingError(unreachable)


def _redirected(url: str, response: Any) -> str:
    """Return where a redirect leads, within the same service."""
    target = urllib.parse.urljoin(url, _header(response, "Location") or "")
    here, there = urllib.parse.urlsplit(url), urllib.parse.urlsplit(target)
    if (here.scheme, here.netloc) != (there.scheme, there.netloc):
        raise FetchError(
            FetchCode.REDIRECTED,
            f"{url} sends elsewhere",
            expected=f"{here.scheme}://{here.netloc}",
            found=target[:128],
            remedy="give the service's own address, if you trust the one that it sends to",
        )
    check_address(target)
    return target


def _retry_after(value: str, now: float) -> float:
    """Return the seconds that a service asks to wait for (RFC 9110 section 10.2.3); 0 where it says nothing usable."""
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _header(response: Any, name: str) -> str | None:
    """Return the value of a header; None where it is absent or there are several."""
    values = response.headers.get_all(name) or []
    return str(values[0]) if len(values) == 1 else None


def _trusting(authorities: Path) -> ssl.SSLContext:
    with naming(authorities):
        try:
            return ssl.create_default_context(cafile=str(authorities))
        except ssl.SSLError:
            raise FetchError(
                FetchCode.TLS, f"{authorities} holds no certificates", remedy="give a PEM file of authorities"
            ) from None


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _content(request: Request, why: str, expected: str, found: str) -> FetchError:
    return FetchError(
        FetchCode.CONTENT,
        f"the answer of {request.url} is not usable: {why}",
        expected=expected,
        found=found,
        remedy="check the address; a proxy or a login page may have answered instead",
    )


def _too_large(request: Request, found: str) -> FetchError:
    return FetchError(
        FetchCode.TOO_LARGE,
        f"the answer of {request.url} is too large",
        expected=f"at most {request.limit} bytes",
        found=f"{found} bytes",
        remedy="check the address; no such document is that large",
    )
