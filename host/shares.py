"""Fair shares: who has to give a session up when another asks for one, and there is no place left.

The host can believe nobody about who they are, so it shares by what it sees: the listener that a connection came in
by, the user or network address at its other end, the connection itself.  A newcomer takes its place from whoever
holds most.  Where that would only swap the two, the session that goes must have been idle for a while: else clients of
one crowded address would end each other's sessions for ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from host.errors import HostCode, HostError
from host.limits import Limits
from host.peer import Holder, Stream

_LISTENER, _PEER, _CONNECTION = 1, 2, 3
"""How much of a holder says whose sessions are counted together."""


def places_of(max_sessions: int) -> int:
    """Return how many sessions the host lets through to an enclave that admits so many.

    An eighth stays free: an enclave learns a little later than the host that a session is over.
    """
    return max(1, max_sessions - max_sessions // 8)


def make_place(streams: Collection[Stream], newcomer: Holder, places: int, limits: Limits, now: float) -> Stream | None:
    """Return the stream that has to end so that the newcomer may open one, None where there is a place.

    `now` is the loop's clock.  Raises HostError `host-busy` where nobody holds more than the newcomer, or just one
    more and uses it.
    """
    own = [stream for stream in streams if stream.holder[:_PEER] == newcomer[:_PEER]]
    if len(own) >= max(1, places // limits.peer_share):
        crowd, excess = _heaviest(own, newcomer, (_CONNECTION,))
        why = "this user or address has its share of the sessions"
    elif len(streams) >= places:
        crowd, excess = _heaviest(streams, newcomer, (_LISTENER, _PEER, _CONNECTION))
        why = "the enclave has as many sessions as the host lets through"
    else:
        return None
    spare = [one for one in crowd if excess > 1 or (excess == 1 and now - one.moved_at >= limits.swap_idle)]
    if not spare:
        raise HostError(HostCode.HOST_BUSY, why)
    return min(spare, key=lambda stream: (stream.unanswered, stream.moved_at))


def _heaviest(streams: Collection[Stream], newcomer: Holder, levels: tuple[int, ...]) -> tuple[Collection[Stream], int]:
    """Return the streams of whoever holds most, and how many more than the newcomer it holds.

    Looked for from the listener down; where the newcomer's own listener or peer is the heaviest, within it.
    """
    excess = 0
    for level in levels:
        counts = Counter(stream.holder[:level] for stream in streams)
        most = max(counts.values())
        excess = excess or most - counts[newcomer[:level]]
        heaviest = {holder for holder, count in counts.items() if count == most} if excess else {newcomer[:level]}
        streams = [stream for stream in streams if stream.holder[:level] in heaviest]
    return streams, excess
