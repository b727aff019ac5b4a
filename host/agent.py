"""The host agent: listeners, relay, supervised enclaves, model folder and admin interface in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

from attestation.wire.address import Address, UnixAddress
from host.admin import AdminServer
from host.config import SIMULATED, HostConfig
from host.errors import HostCode, HostError
from host.home import Home
from host.limits import Limits
from host.listeners import close_unix, open_listener
from host.metrics import families
from host.models import ModelFolder
from host.otlp import Pusher
from host.pool import Pool
from host.process import Command
from host.prometheus import to_text
from host.relay import Relay
from host.scrape import Page, check_address
from host.supervisor import Schedule
from host.watch import ModelWatch

_log = logging.getLogger(__name__)

SETTLED = 0.2
"""Seconds without a waiting client after which a draining agent is done."""


class HostAgent:
    """One agent in its home folder.  `run` brings everything up and returns when everything is down."""

    def __init__(
        self,
        config: HostConfig,
        *,
        limits: Limits | None = None,
        schedule: Schedule | None = None,
        command: Command | None = None,
    ) -> None:
        """Check the configuration; raises what `HostConfig.check` raises.  `command` replaces the platform's."""
        config.check()
        self.config = config
        self.home = Home(config.home)
        self.relay = Relay(limits)
        self.models = ModelWatch(ModelFolder(config.models))
        self.listening: list[Address] = []
        self.metrics_address: Address | None = None
        self._pusher = Pusher(config.otlp, lambda: families(self.status())) if config.otlp else None
        self._began = time.time()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        schedule = schedule or Schedule(ready=config.ready_timeout)
        self.pools = [
            Pool(deployment, self.relay, self.models, schedule=schedule, command=command)
            for deployment in config.deployments
        ]
        self.enclaves = [enclave for pool in self.pools for enclave in pool.enclaves]

    async def run(self, on_ready: Callable[[dict[str, Any]], None]) -> None:
        """Bring everything up, call `on_ready` with the status, serve until `stop`, and take everything down.

        Raises HostError: `home-running`, `address-in-use` and their like before anything is started, and
        `enclave-not-ready` if an enclave does not start.
        """
        self.home.acquire()
        try:
            async with self._listeners(), self._admin(), self._page(), self._background():
                await self._serve(on_ready)
        finally:
            self.models.folder.close()
            self.home.release()

    def stop(self) -> None:
        """Drain, then take everything down; a second call does not wait for anything."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def drain(self) -> None:
        """Take no new sessions from now on."""
        self.relay.draining = True

    async def _serve(self, on_ready: Callable[[dict[str, Any]], None]) -> None:
        runs = [asyncio.ensure_future(run) for pool in self.pools for run in pool.runs()]
        for run in runs:
            run.add_done_callback(lambda _: self._stop.set())  # one that ends by itself has failed
        try:
            if await self._come_up():
                on_ready(self.status())
                await self._stop.wait()
                await self._finish_requests()
        finally:
            for enclave in self.enclaves:
                enclave.supervisor.stop()
            await asyncio.wait(runs)
            self._collect(runs)

    async def _come_up(self) -> bool:
        """Wait until every enclave has been ready; return False if the agent was stopped before."""
        ready = asyncio.ensure_future(self._all_ready())
        stopped = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait((ready, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if ready.done():
            ready.result()
            return True
        ready.cancel()
        return False

    async def _all_ready(self) -> None:
        await asyncio.gather(*(enclave.first_ready() for enclave in self.enclaves))

    async def _finish_requests(self) -> None:
        """Give the requests under way their time."""
        self.drain()
        _log.info("draining: %d clients wait for an answer", self.relay.unanswered)
        deadline = time.monotonic() + self.config.drain_timeout
        settled = time.monotonic()
        while time.monotonic() < deadline and not self._hurry.is_set():
            if self.relay.unanswered:
                settled = time.monotonic()
            elif time.monotonic() - settled >= SETTLED or not self.relay.sessions:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), SETTLED / 4)

    async def _watch_for_hurry(self) -> None:
        """Kill the enclaves when `stop` is called for the second time."""
        await self._hurry.wait()
        for enclave in self.enclaves:
            enclave.supervisor.kill()

    @staticmethod
    def _collect(runs: Sequence[asyncio.Future[None]]) -> None:
        for run in runs:
            failure = run.exception()
            if failure is not None:
                raise HostError(HostCode.HOST_FAILED, f"a supervisor failed: {type(failure).__name__}") from failure

    @contextlib.asynccontextmanager
    async def _listeners(self) -> AsyncIterator[None]:
        opened: list[socket.socket] = []
        loop = asyncio.get_running_loop()
        servers: list[asyncio.Server] = []
        try:
            for address in self.config.addresses():
                listener, bound = open_listener(address)
                opened.append(listener)
                self.listening.append(bound)
            for listener, bound in zip(opened, self.listening, strict=True):
                make = partial(self.relay.make_client, str(bound))
                servers.append(await loop.create_server(make, sock=listener))
            self.relay.start()
            yield
        finally:
            self.relay.stop()
            for server in servers:
                server.close()
            for listener in opened:
                listener.close()
            for bound in self.listening:
                if isinstance(bound, UnixAddress):
                    close_unix(bound.path)
            await asyncio.sleep(0)  # the transports close in the loop's next turn

    @contextlib.asynccontextmanager
    async def _admin(self) -> AsyncIterator[None]:
        operations = {
            "status": self.status,
            "models": self.models.folder.to_dict,
            "drain": self._drain,
            "down": self._down,
            "metrics": lambda: {"text": self.metrics()},
        }
        async with AdminServer(self.home.admin_socket, operations):
            yield

    @contextlib.asynccontextmanager
    async def _page(self) -> AsyncIterator[None]:
        """Serve the page of metrics, where the configuration has an address for it."""
        if not self.config.metrics:
            yield
            return
        async with contextlib.AsyncExitStack() as stack:
            try:
                page = Page(check_address(self.config.metrics), self.metrics)
                self.metrics_address = await stack.enter_async_context(page.serving())
            except HostError as error:
                error.remedy = (error.remedy or "").replace("--listen", "--metrics") or None
                raise
            yield

    def metrics(self) -> str:
        """Return what monitoring is told, in Prometheus' text format."""
        return to_text(families(self.status()))

    @contextlib.asynccontextmanager
    async def _background(self) -> AsyncIterator[None]:
        await self.models.refresh()
        if not self.models.folder.models:
            _log.warning("there is no sealed model in %s yet", self.models.folder.folder)
        work = [self.models.run(), self._watch_for_hurry(), *(enclave.watch() for enclave in self.enclaves)]
        if self._pusher is not None:
            work.append(self._pusher.run())
        tasks = [asyncio.ensure_future(each) for each in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _drain(self) -> dict[str, Any]:
        self.drain()
        return {"sessions": self.relay.sessions, "unanswered": self.relay.unanswered}

    def _down(self) -> dict[str, Any]:
        self.stop()
        return {"pid": os.getpid(), "drain_timeout": self.config.drain_timeout}

    def status(self) -> dict[str, Any]:
        """Return everything that `host status` shows."""
        return {
            "pid": os.getpid(),
            "home": str(self.home.path),
            "uptime": round(time.time() - self._began, 1),
            "class": SIMULATED,
            "listening": [str(address) for address in self.listening],
            "metrics": None if self.metrics_address is None else str(self.metrics_address),
            "deployments": [one for pool in self.pools for one in pool.to_dicts()],
            "relay": self.relay.to_dict(),
            "models": len(self.models.folder.models),
            "models_unusable": len(self.models.folder.rejected),
        }
