"""GET, bounded: what a service may do wrong, and what the client makes of it.  No test leaves this machine."""

from __future__ import annotations

import datetime as dt
import email.utils
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from attestation.collateral.answers import Request, check_address
from attestation.collateral.errors import FetchCode, FetchError
from attestation.collateral.http import Limits
from manifests.errors import ErrorCode, ManifestCode
from tests.attestation.kit import NOW, refused
from tests.collateral.kit import QUICK, client
from tests.collateral.service import Behaviour, Reply, Service, Time, serving

LIMIT = 1000
DOCUMENT = bytes(range(256))


def get(
    service: Service, behaviour: Behaviour, limits: Limits = QUICK, clock: Time | None = None, **kind: Any
) -> bytes:
    service.replies["/document"] = behaviour
    return client(limits, clock).get(Request(f"{service.url}/document", LIMIT, **kind)).body


# ------------------------------------------------------------------------------------------------ what works


def test_a_document_comes_whole_with_the_headers_that_were_asked_for(service: Service) -> None:
    service.replies["/d"] = Reply(DOCUMENT, headers={"Issuer-Chain": "a%20b", "ETag": '"1"', "Other": "x"})
    answer = client().get(Request(f"{service.url}/d", LIMIT, ("Issuer-Chain",)))
    assert (answer.status, answer.body) == (200, DOCUMENT)
    assert answer.headers == {"issuer-chain": "a%20b", "etag": '"1"'}
    ((_, asked),) = service.asked
    assert asked["Accept-Encoding"] == "identity"
    assert asked["User-Agent"] == "strongroom"


def test_a_document_without_a_length_ends_with_its_connection(service: Service) -> None:
    assert get(service, Reply(DOCUMENT, length="")) == DOCUMENT


def test_a_document_that_is_unchanged_is_not_sent_again(service: Service) -> None:
    service.replies["/d"] = lambda asked: Reply(b"", 304 if asked.get("If-None-Match") == '"1"' else 200)
    request = Request(f"{service.url}/d", LIMIT)
    assert client().get(request, etag='"1"').status == 304
    assert client().get(request, etag='"2"').status == 200


def test_a_redirect_within_the_service_is_followed(service: Service) -> None:
    service.replies["/moved"] = Reply(status=302, headers={"Location": "/document"})
    service.replies["/document"] = Reply(DOCUMENT)
    assert client().get(Request(f"{service.url}/moved", LIMIT)).body == DOCUMENT


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("behaviour", "code", "asked"),
    [
        (Reply(status=404), FetchCode.NOT_FOUND, 1),
        (Reply(status=400), FetchCode.STATUS, 1),
        (Reply(status=401), FetchCode.STATUS, 1),
        (Reply(status=206, body=b"x"), FetchCode.STATUS, 1),
        (Reply(status=304, length=""), FetchCode.STATUS, 1),
        (Reply(status=500), FetchCode.STATUS, 4),
        (Reply(status=502), FetchCode.STATUS, 4),
        (Reply(status=503), FetchCode.STATUS, 4),
        (Reply(status=429), FetchCode.STATUS, 4),
        (Reply(slam=True), FetchCode.UNREACHABLE, 4),
        (Reply(DOCUMENT, length="257"), FetchCode.UNREACHABLE, 4),
        (Reply(bytes(LIMIT + 1)), FetchCode.TOO_LARGE, 1),
        (Reply(bytes(LIMIT + 1), length=""), FetchCode.TOO_LARGE, 1),
        (Reply(b"", length="99999999999999999999999"), FetchCode.TOO_LARGE, 1),
        (Reply(b"", length="-1"), FetchCode.CONTENT, 1),
        (Reply(b"", length="0x10"), FetchCode.CONTENT, 1),
        (Reply(b"<html>log in</html>", media="text/html; charset=utf-8"), FetchCode.CONTENT, 1),
        (Reply(DOCUMENT, headers={"Content-Encoding": "gzip"}), FetchCode.CONTENT, 1),
        (Reply(status=302, headers={"Location": "https://elsewhere.example/d"}), FetchCode.REDIRECTED, 1),
        (Reply(status=301, headers={"Location": "//elsewhere.example/d"}), FetchCode.REDIRECTED, 1),
        (Reply(status=307, headers={"Location": "file:///etc/passwd"}), FetchCode.REDIRECTED, 1),
        (Reply(status=302, headers={"Location": "/document"}), FetchCode.REDIRECTED, 4),
        (Reply(status=302), FetchCode.REDIRECTED, 4),
    ],
    ids=str,
)
def test_an_answer_that_is_none_is_refused(service: Service, behaviour: Reply, code: ErrorCode, asked: int) -> None:
    with refused(code) as caught:
        get(service, behaviour)
    assert len(service.asked) == asked
    assert isinstance(caught.value, FetchError)
    assert caught.value.remedy is not None


def test_a_type_other_than_the_documents_is_refused(service: Service) -> None:
    for media in ("text/plain", "application/xml", ""):
        with refused(FetchCode.CONTENT):
            get(service, Reply(b"{}", media=media), media=frozenset({"application/json"}))
    assert get(service, Reply(b"{}", media="Application/JSON; charset=utf-8"), media=frozenset({"application/json"}))


def test_a_service_that_recovers_is_asked_again(service: Service) -> None:
    clock = Time()
    trouble = [Reply(status=500), Reply(slam=True), Reply(DOCUMENT, length="300"), Reply(DOCUMENT)]
    assert get(service, trouble, clock=clock) == DOCUMENT
    assert clock.slept == [0.01, 0.02, 0.04]


def test_pauses_double_up_to_a_bound_and_are_left_to_chance_in_part(service: Service) -> None:
    clock = Time()
    limits = Limits(attempt=5, total=1000, attempts=8, pause=1, longest_pause=10)
    with refused(FetchCode.STATUS):
        get(service, Reply(status=500), limits, clock)
    assert clock.slept == [1, 2, 4, 8, 10, 10, 10]


def test_a_service_that_asks_to_wait_is_waited_for(service: Service) -> None:
    clock = Time()
    limits = Limits(attempt=5, total=60)
    later = email.utils.format_datetime(dt.datetime.fromtimestamp(NOW + 11, dt.UTC), usegmt=True)
    busy = [
        Reply(status=429, headers={"Retry-After": "7"}),
        Reply(status=503, headers={"Retry-After": later}),
        Reply(DOCUMENT),
    ]
    assert get(service, busy, limits, clock) == DOCUMENT
    assert clock.slept == [7, 11]


@pytest.mark.parametrize("wait", ["61", "999999999", "9" * 400])
def test_a_service_that_asks_to_wait_for_too_long_is_not_waited_for(service: Service, wait: str) -> None:
    clock = Time()
    with refused(FetchCode.LIMITED) as caught:
        get(service, Reply(status=429, headers={"Retry-After": wait}), Limits(total=60), clock)
    assert clock.slept == []
    assert "to be asked again in" in str(caught.value.found)


@pytest.mark.parametrize("wait", ["soon", "-5", "", "Thu, 32 Foo 2025 00:00:00 GMT", "٣"])
def test_a_wait_that_is_none_is_not_believed(service: Service, wait: str) -> None:
    clock = Time()
    answers = [Reply(status=429, headers={"Retry-After": wait.encode().decode("latin-1")}), Reply(DOCUMENT)]
    assert get(service, answers, clock=clock) == DOCUMENT
    assert clock.slept == [0.01]


def test_nothing_listens(service: Service) -> None:
    with serving() as gone:
        url = gone.url
    with refused(FetchCode.UNREACHABLE) as caught:
        client().get(Request(f"{url}/d", LIMIT))
    assert caught.value.found == "Connection refused"
    assert service.asked == []


def test_a_service_that_drips_is_cut_off_although_each_byte_is_in_time(service: Service) -> None:
    begun = time.monotonic()
    limits = Limits(attempt=0.3, total=0.35, attempts=1)
    with refused(FetchCode.TIMED_OUT):
        get(service, Reply(bytes(400), drip=0.05), limits)
    assert time.monotonic() - begun < 10


def test_a_service_that_says_nothing_is_cut_off(service: Service) -> None:
    def silent(_: object) -> Reply:
        service.stopping.wait(20)
        return Reply(slam=True)

    begun = time.monotonic()
    with refused(FetchCode.TIMED_OUT):
        get(service, silent, Limits(attempt=0.2, total=0.25, attempts=1))
    assert time.monotonic() - begun < 10


# ------------------------------------------------------------------------------------------------ names


class Resolver:
    """A stand-in for the system's resolver, which answers as a test says; numbers need no lookup."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Callable[[], list[Any]]) -> None:
        self.asked: list[str] = []
        self.ended = threading.Event()
        self._answer = answer
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        try:
            return [(*each[:4], (each[4][0], port)) for each in self._answer()]
        finally:
            self.ended.set()


HERE = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))
NOWHERE = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.255.255.254", 0))


def test_a_resolver_that_hangs_is_waited_for_no_longer_than_an_attempt(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    resolver = Resolver(monkeypatch, lambda: [HERE] if release.wait(30) else [])
    begun = time.monotonic()
    with refused(FetchCode.TIMED_OUT):
        get(service, Reply(DOCUMENT), Limits(attempt=0.2, total=0.45, attempts=5, pause=0.01, longest_pause=0.01))
    assert time.monotonic() - begun < 10
    assert not resolver.ended.is_set()
    assert 1 <= len(resolver.asked) <= 5
    assert service.asked == [], "nothing was connected to"
    release.set()
    assert resolver.ended.wait(10), "its thread ends with the lookup"


def test_a_resolver_that_comes_back_in_a_later_attempt_is_asked_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang, first = threading.Event(), iter([True])

    def answer() -> list[Any]:
        if next(first, False):
            hang.wait(30)
        return [HERE]

    Resolver(monkeypatch, answer)
    try:
        assert get(service, Reply(DOCUMENT), Limits(attempt=0.5, total=20, attempts=3, pause=0.01)) == DOCUMENT
    finally:
        hang.set()


def test_a_name_that_does_not_exist_is_unreachable(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer() -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    Resolver(monkeypatch, answer)
    with refused(FetchCode.UNREACHABLE) as caught:
        get(service, Reply(DOCUMENT))
    assert caught.value.found == "Name or service not known"


def test_of_several_addresses_the_first_that_answers_serves(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    Resolver(monkeypatch, lambda: [NOWHERE, HERE])
    assert get(service, Reply(DOCUMENT)) == DOCUMENT
    Resolver(monkeypatch, lambda: [NOWHERE])
    with refused(FetchCode.UNREACHABLE):
        get(service, Reply(DOCUMENT))
    Resolver(monkeypatch, list)
    with refused(FetchCode.UNREACHABLE) as caught:
        get(service, Reply(DOCUMENT))
    assert "has no address" in str(caught.value.found)


# ------------------------------------------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example",
        "http://api.example/",
        "http://10.0.0.1/",
        "http://localhost.example/",
        "ftp://localhost/",
        "file:///etc/passwd",
        "https://",
        "https://user:secret@api.example/",
        "https://api.example:port/",
        "https://[::1/",
        "https://api.example/a b",
        "https://api.example/\nHost: x",
        "https://exämple.example/",
    ],
)
def test_an_address_that_collateral_is_not_fetched_from(url: str) -> None:
    with refused(FetchCode.ADDRESS):
        check_address(url)
    with refused(FetchCode.ADDRESS):
        client().get(Request(url, LIMIT))


def test_a_password_in_an_address_is_not_repeated() -> None:
    with refused(FetchCode.ADDRESS) as caught:
        check_address("https://user:secret@api.example/")
    assert "secret" not in str(caught.value.to_dict())


@pytest.mark.parametrize(
    "url", ["https://api.example:8081/x", "http://127.0.0.1:1/", "http://[::1]/", "http://localhost/"]
)
def test_an_address_that_collateral_may_be_fetched_from(url: str) -> None:
    check_address(url)


# ------------------------------------------------------------------------------------------------ proxies and TLS


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http", "HTTP"])
def test_plain_http_to_this_machine_goes_through_no_proxy(
    service: Service, monkeypatch: pytest.MonkeyPatch, name: str, scheme: str
) -> None:
    monkeypatch.setenv(name, service.url)
    service.replies["http://localhost:1/document"] = Reply(DOCUMENT)
    with refused(FetchCode.UNREACHABLE):
        client().get(Request(f"{scheme}://localhost:1/document", LIMIT))
    assert service.paths == []


def authority(folder: Path, *names: str) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for this machine: as PEM to trust, and as a server's context."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    here: list[x509.GeneralName] = [x509.DNSName(text) for text in names or ("localhost",)]
    here.append(x509.IPAddress(ipaddress.ip_address("127.0.0.9")))
    today = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(here), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    (folder / "server.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + pem,
    )
    (folder / "ca.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return folder / "ca.pem", context


def test_a_service_of_a_trusted_authority_is_served(tmp_path: Path) -> None:
    trusted, context = authority(tmp_path)
    with serving(context) as service:
        service.replies["/d"] = Reply(DOCUMENT)
        assert client(tls_ca=trusted).get(Request(f"{service.url}/d", LIMIT)).body == DOCUMENT


def test_a_certificate_of_nobodys_is_refused_at_once(tmp_path: Path) -> None:
    _, context = authority(tmp_path)
    with serving(context) as service:
        with refused(FetchCode.TLS) as caught:
            client().get(Request(f"{service.url}/d", LIMIT))
        assert service.asked == []
    assert "self-signed" in str(caught.value.found)


def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    trusted, context = authority(tmp_path, "elsewhere.example")
    with serving(context) as service, refused(FetchCode.TLS):
        client(tls_ca=trusted).get(Request(f"{service.url}/d", LIMIT))


def test_authorities_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing", encoding="utf-8")
    with refused(FetchCode.TLS):
        client(tls_ca=tmp_path / "ca.pem")
    with refused(ManifestCode.FILE_UNAVAILABLE):
        client(tls_ca=tmp_path / "missing.pem")


def test_tls_goes_through_a_proxy_and_is_verified_behind_it(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted, context = authority(tmp_path)
    monkeypatch.setenv("https_proxy", service.url)
    with serving(context) as behind:
        behind.replies["/d"] = Reply(DOCUMENT)
        port = int(behind.url.rpartition(":")[2])
        with refused(FetchCode.UNREACHABLE) as caught:
            client(tls_ca=trusted).get(Request(f"{behind.url}/d", LIMIT))
        assert "403" in str(caught.value.found)
        service.tunnel_to = ("127.0.0.1", port)
        assert client(tls_ca=trusted).get(Request(f"{behind.url}/d", LIMIT)).body == DOCUMENT
        with refused(FetchCode.TLS):
            client().get(Request(f"{behind.url}/d", LIMIT))
    assert set(service.tunnels) == {f"localhost:{port}"}
    assert service.asked == []
