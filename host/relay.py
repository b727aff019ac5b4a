"""The relay: which client may talk to which enclave, and what all of them together may cost."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection
from typing import Any

from host.clients import ClientPeer
from host.errors import HostCode, HostError
from host.limits import Limits
from host.link import ControlHandler, EnclaveLink
from host.peer import Exchange, Stream, Traffic
from manifests.errors import StrongroomError

_log = logging.getLogger(__name__)


class Relay:
    """Carries frames between clients and enclaves, and holds both to their bounds.

    It reads a frame's route and sid and nothing else.  Whatever a peer sends, only that peer's connection ends.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        """Make a relay without routes."""
        self.limits = limits or Limits()
        self.exchange = Exchange(self.limits)
        self.clients: set[ClientPeer] = set()
        self.refusals: Counter[str] = Counter()
        self.draining = False
        self.connections = 0
        self._links: dict[str, EnclaveLink | None] = {}
        self._slow: set[ClientPeer] = set()
        self._gone = Traffic()
        self._timer: asyncio.TimerHandle | None = None

    # Routes and enclaves

    def add_route(self, route: str) -> None:
        """Make a route known; until an enclave is attached its sessions are refused with `enclave-down`."""
        self._links.setdefault(route, None)

    def make_link(self, control: ControlHandler) -> EnclaveLink:
        """Make the protocol for the stream of an enclave that is being started."""
        return EnclaveLink(self.exchange, control)

    def attach(self, route: str, link: EnclaveLink | None) -> None:
        """Send new sessions of the route to this enclave, or refuse them where there is none."""
        self._links[route] = link

    def leads_to(self, route: str) -> EnclaveLink | None:
        """Return the enclave to which new sessions of the route go."""
        return self._links.get(route)

    # Clients (host.clients.Switch)

    def make_client(self, listener: str = "") -> ClientPeer:
        """Make the protocol for a connection that the listener of that name has accepted."""
        return ClientPeer(self.exchange, self, listener)

    def joined(self, client: ClientPeer) -> None:
        """Count a connection, or raise HostError `host-busy`."""
        self.connections += 1
        siblings = [one for one in self.clients if one.holder[:2] == client.holder[:2]]
        if len(siblings) >= self.limits.connections_per_peer:
            self._make_room(siblings)
        elif len(self.clients) >= self.limits.connections:
            self._make_room(self.clients)
        self.clients.add(client)

    @staticmethod
    def _make_room(clients: Collection[ClientPeer]) -> None:
        """Drop the longest idle of these connections that has no stream; raises HostError `host-busy` without one."""
        idle = [client for client in clients if not client.streams and not client.closed]
        if not idle:
            raise HostError(HostCode.HOST_BUSY, "the host has as many connections as it allows")
        longest = min(idle, key=lambda client: client.idle_since)
        longest.expel(HostError(HostCode.CLIENT_IDLE, "the connection had no stream, and another needs its place"))

    def left(self, client: ClientPeer) -> None:
        """Forget a connection but not what it carried."""
        self.clients.discard(client)
        self._slow.discard(client)
        self._gone.add(client.traffic)

    def open(self, client: ClientPeer, route: str, client_sid: int) -> Stream:
        """Tie a new stream to the enclave of its route; raises HostError for whatever stands in the way."""
        if route not in self._links:
            raise HostError(HostCode.ROUTE_UNKNOWN, "no deployment on this host has that route")
        if self.draining:
            raise HostError(HostCode.HOST_DRAINING, "the host takes no new sessions")
        if len(client.streams) >= self.limits.streams_per_connection:
            raise HostError(HostCode.STREAMS_EXCEEDED, "the connection has as many streams open as the host allows")
        if sum(not stream.greeted for stream in client.streams.values()) >= self.limits.unanswered_per_connection:
            raise HostError(HostCode.STREAMS_EXCEEDED, "too many streams of the connection wait for a first answer")
        link = self._links[route]
        if link is None:
            raise HostError(HostCode.ENCLAVE_DOWN, "the deployment has no running enclave at the moment")
        return link.open(client, route, client_sid)

    def refused(self, error: StrongroomError) -> None:
        """Count a refusal by its code."""
        self.refusals[str(error.code)] += 1

    def congested(self, client: ClientPeer) -> None:
        """Drop a client whose queue is over its bound, and the slowest one when all queues together are."""
        self._slow.add(client)
        if client.queued > self.limits.client_queue:
            self._expel_slow(client)
        if sum(slow.queued for slow in self._slow) > self.limits.total_queue:
            self._expel_slow(max(self._slow, key=lambda slow: slow.queued))

    def _expel_slow(self, client: ClientPeer) -> None:
        """Drop a slow client: it may read why while there is room for its queue, and loses it when there is none."""
        _log.warning("a client does not read: dropped with %d bytes queued", client.queued)
        if client.closed:
            client.abort()
        else:
            client.expel(HostError(HostCode.CLIENT_SLOW, "the client does not read what it is sent"))

    # Time

    def start(self) -> None:
        """Begin to hold connections to their time limits."""
        self._timer = asyncio.get_running_loop().call_later(self.limits.sweep, self._sweep)

    def stop(self) -> None:
        """Close every client's connection."""
        if self._timer is not None:
            self._timer.cancel()
        for client in list(self.clients):
            client.expel(HostError(HostCode.HOST_DRAINING, "the host is going down"))
        self.exchange.flush()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for client in list(self.clients):
            client.tick(now)
        self._slow = {client for client in self._slow if client.congested}
        self._bound_unfinished()
        self.exchange.flush()
        self._timer = loop.call_later(self.limits.sweep, self._sweep)

    def _bound_unfinished(self) -> None:
        """Drop the clients with the largest unfinished frames while all together are over their bound."""
        excess = sum(client.held for client in self.clients) - self.limits.unfinished_total
        for client in sorted(self.clients, key=lambda one: one.held, reverse=True) if excess > 0 else ():
            if excess <= 0:
                break
            excess -= client.held
            client.expel(HostError(HostCode.HOST_BUSY, "too many frames are unfinished at once"))

    # What it carries

    @property
    def sessions(self) -> int:
        """Streams that are open now."""
        return sum(len(client.streams) for client in self.clients)

    @property
    def unanswered(self) -> int:
        """Streams whose client waits for the enclave."""
        return sum(stream.unanswered for client in self.clients for stream in client.streams.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the counters that `host status` shows."""
        traffic = Traffic()
        for each in (self._gone, *(client.traffic for client in self.clients)):
            traffic.add(each)
        return {
            "connections": len(self.clients),
            "connections_total": self.connections,
            "sessions": self.sessions,
            "frames_in": traffic.frames_in,
            "frames_out": traffic.frames_out,
            "bytes_in": traffic.bytes_in,
            "bytes_out": traffic.bytes_out,
            "queued": sum(client.queued for client in self.clients),
            "refusals": dict(self.refusals),
            "draining": self.draining,
        }
