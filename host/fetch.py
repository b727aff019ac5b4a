"""Answer an enclave's fetches: ciphertext of sealed models, a range at a time.

Answers go out in order, one at a time and only while the enclave reads, so that the memory they take is bounded by
one range and the stream's high-water mark.  A range that is in the page cache is read in the loop (a fraction of a
millisecond); one that would wait for the disk is read in a thread.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque

from attestation.wire.frames import ROUTE_FETCH
from host.control import FETCH_OK, FetchRequest, fetch_refusal
from host.errors import HostCode, HostError
from host.link import EnclaveLink
from host.watch import ModelWatch

MAX_WAITING = 256
"""Fetches that wait for an answer; an enclave that pipelines a GiB at a time stays below it."""


class Fetcher:
    """Serves the fetches of one enclave from a folder of sealed models."""

    def __init__(self, link: EnclaveLink, models: ModelWatch) -> None:
        """Serve `link`; `run` does the work."""
        self._link = link
        self._models = models
        self._waiting: deque[tuple[int, FetchRequest]] = deque()
        self._arrived = asyncio.Event()
        self.served = 0
        self.bytes_served = 0

    def request(self, fetch_id: int, body: bytes | bytearray | memoryview) -> None:
        """Take a request; one that is malformed or too many is answered at once with its code."""
        if len(self._waiting) >= MAX_WAITING:
            self._refuse(fetch_id, HostError(HostCode.FETCH_BUSY, "too many fetches are waiting for an answer"))
            return
        try:
            self._waiting.append((fetch_id, FetchRequest.decode(body)))
        except HostError as error:
            self._refuse(fetch_id, error)
        else:
            self._arrived.set()

    def _refuse(self, fetch_id: int, error: HostError) -> None:
        """Answer a bad request, unless the enclave sends such requests and reads no answers."""
        if self._link.queued > self._link.exchange.limits.enclave_queue:
            self._link.fail(HostError(HostCode.ENCLAVE_PROTOCOL, "the enclave does not read the answers it asks for"))
        else:
            self._link.send(ROUTE_FETCH, fetch_id, fetch_refusal(error))

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                await self._link.writable()
                fetch_id, request = self._waiting.popleft()
                self._link.send(ROUTE_FETCH, fetch_id, await self._answer(request))

    async def _answer(self, request: FetchRequest) -> bytes | bytearray:
        try:
            answer = await self._read(request)
        except HostError as error:
            return fetch_refusal(error)
        self.served += 1
        self.bytes_served += request.length
        return answer

    async def _read(self, request: FetchRequest) -> bytes | bytearray:
        folder = self._models.folder
        if not folder.holds(request.digest):
            await self._models.refresh()  # it may have been put there a moment ago
        if not request.length:
            return FETCH_OK + folder.find(request.digest).stamp.size.to_bytes(8, "big")
        descriptor = folder.locate(request)
        answer = bytearray(len(FETCH_OK) + request.length)
        answer[: len(FETCH_OK)] = FETCH_OK
        place = memoryview(answer)[len(FETCH_OK) :]
        if not read_cached(descriptor, place, request.offset):
            # The thread has a descriptor of its own: the original may be closed to make room while it reads.
            await asyncio.get_running_loop().run_in_executor(
                None, read_and_close, os.dup(descriptor), place, request.offset
            )
        return answer


def read_cached(descriptor: int, into: memoryview, offset: int) -> bool:
    """Read a range if all of it is in the page cache; tell whether it was (preadv2(2), RWF_NOWAIT)."""
    try:
        return os.preadv(descriptor, [into], offset, os.RWF_NOWAIT) == len(into)
    except OSError:  # EAGAIN: not in the cache; EOPNOTSUPP: the file system cannot tell
        return False


def read_and_close(descriptor: int, into: memoryview, offset: int) -> None:
    """Read a range however long it takes, and close the descriptor.

    Raises HostError `fetch-range` or `fetch-model-unreadable`.
    """
    try:
        while into:
            got = os.preadv(descriptor, [into], offset)
            if not got:
                raise HostError(HostCode.FETCH_RANGE, "the file has become shorter than it was")
            into, offset = into[got:], offset + got
    except OSError as error:
        raise HostError(HostCode.FETCH_UNREADABLE, f"the model cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
