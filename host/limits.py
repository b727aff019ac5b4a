"""Bounds of the agent, each a number that an operator can reason about."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024

SCRATCH = 128 * 1024
"""Size of the receive buffer that all connections share: the loop reads one socket at a time."""


@dataclass(frozen=True)
class Limits:
    """What the relay holds at most; times in seconds, sizes in bytes."""

    connections: int = 1024
    """Client connections over all listeners; beyond it the longest idle one without a stream makes room."""
    connections_per_peer: int = 512
    """Client connections of one user of a Unix socket, or of one network address, at one listener."""
    streams_per_connection: int = 256
    """Sessions that one connection may have open at once."""
    unanswered_per_connection: int = 16
    """Sessions of one connection that the enclave has sent nothing for yet; it admits 64 open handshakes in all."""
    streams: int = 8192
    """Sessions that one deployment may have open at once, where the enclave does not tell that it admits fewer."""
    peer_share: int = 4
    """One peer of a listener gets one in so many of an enclave's sessions."""
    swap_idle: float = 120.0
    """A session that makes place for a newcomer with just one less has been idle for so long."""
    high_water: int = MIB
    """Bytes queued towards a peer at which the sender is paused (enclave) or watched (client)."""
    enclave_queue: int = 64 * MIB
    """Bytes queued towards one enclave beyond which it gets no new sessions; old ones are paused long before."""
    client_queue: int = 64 * MIB
    """Bytes queued towards one client that does not read; beyond it the client is dropped."""
    total_queue: int = 512 * MIB
    """Bytes queued towards all slow clients together; beyond it the slowest is dropped."""
    first_frame: float = 10.0
    """From accepting a connection to the first frame that opens a stream."""
    first_answer: float = 10.0
    """From the opening of a stream to the enclave's first frame for it."""
    unfinished_frame: float = 30.0
    """From the first byte of a frame to its last."""
    unfinished_total: int = 256 * MIB
    """Bytes of frames that have not arrived completely, over all clients; beyond it the largest is dropped."""
    idle_connection: float = 120.0
    """A connection without an open stream."""
    idle_stream: float = 3600.0
    """A stream, or a connection with open streams, on which nothing moves in either direction."""
    stuck_grace: float = 5.0
    """From an enclave's word that a run is stuck to its end: brokers come back in this time to hear which model it was,
    and give the process's places to another."""
    linger: float = 15.0
    """From the client's end of a stream to the enclave's; and for a dropped client to read why."""
    sweep: float = 1.0
    """How often the time limits are looked at."""
