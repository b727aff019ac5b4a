"""One answer of a service: whether it is one, and what to make of it where it is not.

A failure that may pass is a PassingError, which the client tries again; every other is final.
"""

from __future__ import annotations

import email.utils
import http.client
import ipaddress
import ssl
import urllib.error
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from attestation.collateral.deadline import Deadline
from attestation.collateral.errors import FetchCode, FetchError

OK: Final = 200
NOT_MODIFIED: Final = 304
_NOT_FOUND: Final = 404
_PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that may be another one a moment later."""
_LIMITED: Final = frozenset({429, 503})
_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})
"""What a captive portal or a proxy answers with, in the place of any document."""


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


class PassingError(Exception):
    """A failure that may pass: `error` is raised if it does not; `wait` is the seconds that the service asks for."""

    def __init__(self, error: FetchError, wait: float = 0) -> None:
        super().__init__(error.message)
        self.error, self.wait = error, wait


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
            found="an address with a user in it" if "@" in url else url[:128],
            remedy="give the address of a service that speaks TLS; for its own authority use --tls-ca",
        )


def check_status(request: Request, response: Any, now: float, *, asked: bool) -> None:
    """Refuse what is no answer; `asked` whether the service was asked for changes only."""
    status = response.status
    if status == OK or (asked and status == NOT_MODIFIED):
        return
    if status == _NOT_FOUND:
        raise FetchError(
            FetchCode.NOT_FOUND,
            f"there is no {request.url}",
            remedy="check that the evidence is of this vendor's hardware, and the address of the service",
        )
    wait = _retry_after(header(response, "Retry-After") or "", now) if status in _LIMITED else 0.0
    error = FetchError(
        FetchCode.LIMITED if wait else FetchCode.STATUS,
        f"{request.url} answers with status {status}",
        expected="status 200",
        found=f"status {status}" + (f", to be asked again in {wait:.0f} s" if wait else ""),
        remedy="try again later; until then, collateral that is held and still valid serves",
    )
    if status in _PASSING:
        raise PassingError(error, wait)
    raise error


def check_media(request: Request, response: Any) -> None:
    """Refuse an answer of another type than the document's, or an encoded one; raises FetchError `fetch-content`."""
    media = (header(response, "Content-Type") or "").partition(";")[0].strip().lower()
    if media in _PAGES or (request.media and media not in request.media):
        raise _content(
            request, "it is of another type", " or ".join(sorted(request.media)) or "a document", media or "no type"
        )
    encoding = (header(response, "Content-Encoding") or "identity").strip().lower()
    if encoding != "identity":
        raise _content(request, "it is encoded", "identity", encoding)


def read_body(request: Request, response: Any, deadline: Deadline) -> bytes:
    """Return a body of at most the document's limit, whole; raises FetchError, PassingError, or what reading does."""
    length = header(response, "Content-Length")
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
        raise PassingError(
            FetchError(
                FetchCode.UNREACHABLE,
                f"{request.url} breaks off",
                expected=f"{length} bytes",
                found=f"{len(body)} bytes",
                remedy="try again; check proxies between here and the service",
            )
        )
    return bytes(body)


def failure(url: str, error: Exception, deadline: Deadline) -> Exception:
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
        return FetchError(
            FetchCode.ADDRESS, FetchCode.ADDRESS.meaning, found=url[:128], remedy="check the name of the host"
        )
    if deadline.passed or isinstance(reason, TimeoutError):
        timed_out = FetchError(
            FetchCode.TIMED_OUT,
            f"{url} does not answer in time",
            expected=f"an answer within {deadline.seconds:.0f} s",
            remedy="try again; check the network and the proxy variables (https_proxy, no_proxy)",
        )
        return PassingError(timed_out)
    unreachable = FetchError(
        FetchCode.UNREACHABLE,
        f"{url} cannot be reached",
        found=(getattr(reason, "strerror", None) or str(reason) or type(reason).__name__)[:128],
        remedy="check the network and the proxy variables (https_proxy, no_proxy)",
    )
    return PassingError(unreachable)


def redirected(url: str, response: Any) -> str:
    """Return where a redirect leads, within the same service."""
    target = urllib.parse.urljoin(url, header(response, "Location") or "")
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


def header(response: Any, name: str) -> str | None:
    """Return the value of a header; None where it is absent or there are several."""
    values = response.headers.get_all(name) or []
    return str(values[0]) if len(values) == 1 else None


def _retry_after(value: str, now: float) -> float:
    """Return the seconds that a service asks to wait for (RFC 9110 section 10.2.3); 0 where it says nothing usable."""
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return 0.0


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
