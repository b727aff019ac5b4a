"""Somebody who proves nothing opens all the sessions that the host lets through, and asks for more."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from attestation.wire.frames import Frame, FrameDecoder, encode_frame, parse_error
from attestation.wire.session import ClientSession
from evaluation.demo.deployment import Deployment
from evaluation.demo.processes import wait_until
from tests.deployment.small import ROWS, WEIGHTS

pytestmark = pytest.mark.xdist_group("deployment")


class Hoarder:
    """One anonymous connection whose sessions are real ones: each has the enclave's evidence."""

    def __init__(self, address: str) -> None:
        self._stream = socket.socket(socket.AF_UNIX)
        self._stream.connect(address.removeprefix("unix:"))
        self._stream.settimeout(20)
        self._decoder = FrameDecoder()
        self._sid = 0
        self._stop = threading.Event()

    def take_all(self) -> tuple[int, str]:
        """Open sessions until one is refused; return how many there are, and the code of the refusal."""
        for count in range(1000):
            code = self._open()
            if code is not None:
                return count, code
        raise AssertionError("nothing is ever refused")

    def _open(self) -> str | None:
        self._sid += 1
        session = ClientSession()
        self._stream.sendall(encode_frame(Frame("default", self._sid, session.start())))
        while True:
            for frame in self._decoder.feed(self._stream.recv(1 << 18)):
                if frame.route == "!error" and frame.sid == self._sid:
                    return parse_error(frame.body)[0]
                if frame.sid == self._sid and frame.body and session.receive(bytes(frame.body)):
                    return None

    @contextlib.contextmanager
    def grabbing(self) -> Iterator[None]:
        """Ask on and on: the first place that falls free is to be the hoarder's own."""
        thread = threading.Thread(target=self._grab, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            self._stream.close()

    def _grab(self) -> None:
        while not self._stop.wait(0.005):
            with contextlib.suppress(OSError):
                self._open()


def test_one_connection_locks_neither_clients_nor_the_broker_out(deployment: Deployment) -> None:
    """The hoarder, the client and the broker are even the same user at the same socket."""
    hoarder = Hoarder(deployment.address)
    count, code = hoarder.take_all()
    assert code == "host-busy"
    assert 0 < count <= 256 // 4
    with hoarder.grabbing():
        with deployment.session() as session:
            assert session.infer("linear", {"x": ROWS})["y"].shape == (len(ROWS), WEIGHTS.shape[1])
        deployment.stop_part("broker")
        deployment.start_broker()
        wait_until(lambda: "attested" in {event["event"] for event in deployment.broker_events()}, 20, "the broker")
        with deployment.session() as session:
            session.infer("linear", {"x": ROWS})
    assert deployment.status()["relay"]["refusals"]["stream-displaced"] > 0
