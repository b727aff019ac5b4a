"""Who makes place for whom where an enclave has as many sessions as the host lets through."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.wire.frames import Frame
from host import clients
from host.errors import HostError
from host.limits import Limits
from host.peer import FramePeer, Holder, Stream
from host.shares import make_place, places_of
from tests.host.rig import Rig, Wire, echo, rig, run, until

LIMITS = Limits(peer_share=4, swap_idle=10.0)
NOW = 1000.0
LONG_AGO = NOW - LIMITS.swap_idle


def stream(holder: Holder, moved_at: float = NOW, *, unanswered: bool = False) -> Stream:
    nobody = cast(FramePeer, None)
    return Stream("default", nobody, 0, nobody, 0, holder, 0.0, moved_at, unanswered=unanswered)


def of(listener: str, peer: str, connection: int, count: int, moved_at: float = NOW) -> list[Stream]:
    return [stream((listener, peer, connection), moved_at) for _ in range(count)]


def victim(streams: list[Stream], newcomer: Holder, places: int) -> Holder | None:
    made = make_place(streams, newcomer, places, LIMITS, NOW)
    return None if made is None else made.holder


def test_where_there_is_room_nobody_goes() -> None:
    assert victim([], ("a", "x", 1), 1) is None
    assert victim(of("a", "x", 1, 15), ("a", "y", 2), 16) is None


def test_one_connection_gets_its_peers_share_and_no_more() -> None:
    hoard = of("a", "x", 1, 4, moved_at=LONG_AGO)
    with pytest.raises(HostError) as refusal:
        victim(hoard, ("a", "x", 1), 16)
    assert refusal.value.code == "host-busy"
    assert victim(hoard[:3], ("a", "x", 1), 16) is None


def test_within_a_peer_the_connection_with_most_makes_place() -> None:
    """The broker may share user or address with whoever floods."""
    hoard = [*of("a", "x", 1, 3), *of("a", "x", 2, 1, moved_at=LONG_AGO)]
    assert victim(hoard, ("a", "x", 3), 16) == ("a", "x", 1)


def test_a_newcomer_takes_the_place_of_the_peer_with_most() -> None:
    full = [*of("a", "x", 1, 3), *of("a", "y", 2, 5), *of("a", "z", 3, 8)]
    assert victim(full, ("a", "new", 9), 16) == ("a", "z", 3)
    assert victim(full, ("a", "x", 9), 16) == ("a", "z", 3)


def test_a_listener_of_its_own_keeps_its_client_a_place_among_any_number_of_peers() -> None:
    full = [one for peer in range(15) for one in of("public", str(peer), peer, 1)]
    full += of("private", "broker", 99, 1)
    assert victim(full, ("private", "broker", 100), 16) is not None
    assert victim(full, ("private", "broker", 100), 16)[0] == "public"
    with pytest.raises(HostError):
        victim(full, ("public", "15", 15), 16)


def test_a_mere_swap_is_made_for_a_session_that_is_idle_and_for_no_other() -> None:
    full = [one for peer in range(16) for one in of("a", str(peer), peer, 1)]
    newcomer = ("a", "new", 99)
    with pytest.raises(HostError) as refusal:
        victim(full, newcomer, 16)
    assert refusal.value.code == "host-busy"
    full[7] = stream(full[7].holder, LONG_AGO)
    assert victim(full, newcomer, 16) == full[7].holder
    with pytest.raises(HostError):
        victim(full, full[3].holder, 16)


def test_the_longest_idle_session_goes_and_one_with_a_request_under_way_last() -> None:
    holder = ("a", "x", 1)
    times = [(NOW - 1, False), (NOW - 3, False), (NOW - 2, False), (NOW - 9, True)]
    full = [stream(holder, moved_at, unanswered=unanswered) for moved_at, unanswered in times]
    assert make_place(full, ("a", "y", 2), 4, LIMITS, NOW) is full[1]


@given(
    opened=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(1, 3)), max_size=80),
    places=st.integers(1, 12),
)
def test_whatever_is_opened_places_and_shares_hold_and_no_one_is_left_with_less_than_the_newcomer(
    opened: list[Holder], places: int
) -> None:
    streams: list[Stream] = []
    for newcomer in opened:
        gone = None
        try:
            gone = make_place(streams, newcomer, places, LIMITS, NOW)
        except HostError:
            continue
        if gone is not None:
            streams.remove(gone)
            holders = [one.holder for one in streams]
            level = next(n for n in (1, 2, 3) if gone.holder[:n] != newcomer[:n])
            left, has = (sum(one[:level] == holder[:level] for one in holders) for holder in (gone.holder, newcomer))
            assert left > has
        streams.append(stream(newcomer))
        assert len(streams) <= places
        peers = Counter(one.holder[:2] for one in streams)
        assert max(peers.values()) <= max(1, places // LIMITS.peer_share)


def test_the_host_lets_fewer_sessions_through_than_the_enclave_admits() -> None:
    assert [places_of(n) for n in (1, 2, 8, 256, 65_536)] == [1, 2, 7, 224, 57_344]


# ---------------------------------------------------------------------------------------------- in the relay


async def opened(made: Rig, client: Wire, sid: int) -> int:
    """Open a stream, have the enclave answer, and return the sid that the enclave knows it by."""
    await client.send("default", sid, b"hello")
    arrived = await made.enclave.frame()
    await made.enclave.send("default", arrived.sid, b"answer")
    assert (await client.frame()).body == b"answer"
    return arrived.sid


def test_a_hoarder_is_told_what_it_lost_and_the_enclave_hears_of_it_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, Limits(streams=16)) as made:
            hoarder, honest = await made.client(), await made.client()
            held = [await opened(made, hoarder, sid) for sid in range(1, 5)]
            await hoarder.send("default", 5, b"hello")
            assert await hoarder.refusal(5) == "host-busy"
            await hoarder.send("default", 1, b"still in use")
            assert (await made.enclave.frame()).sid == held[0]
            await honest.send("default", 1, b"hello")
            assert await made.enclave.frame() == Frame("default", held[1], b"")
            assert (await made.enclave.frame()).body == b"hello"
            assert await hoarder.refusal(2) == "stream-displaced"
            assert made.relay.to_dict()["refusals"] == {"host-busy": 1, "stream-displaced": 1}
            assert made.relay.sessions == 4
            await hoarder.send("default", 2, b"late")
            assert await hoarder.refusal(2) == "stream-ended"

    run(scenario())


def test_peers_that_take_all_they_can_get_lock_no_later_one_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def take_all(client: Wire) -> int:
        for sid in range(1, 10):
            await client.send("default", sid, b"hello")
            if (await client.frame()).route == "!error":
                return sid - 1
        return 9

    async def scenario() -> None:
        async with rig(tmp_path, Limits(streams=8)) as made:
            server = asyncio.ensure_future(echo(made.enclave))
            got = []
            for peer in range(6):
                monkeypatch.setattr(clients, "peer_of", lambda _, peer=peer: str(peer))
                client = await made.client()
                await until(lambda peer=peer: str(peer) in {one.holder[1] for one in made.relay.clients})
                got.append(await take_all(client))
            assert got == [2, 2, 2, 2, 1, 1]
            holders = Counter(stream.holder[1] for stream in made.link.streams.values())
            assert holders == {"0": 1, "1": 1, "2": 2, "3": 2, "4": 1, "5": 1}
            server.cancel()

    run(scenario())


def test_the_enclave_says_how_many_sessions_it_admits_and_may_say_anything(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, Limits(streams=100)) as made:
            for nonsense in (None, "many", -1, 0, True, 1 << 70):
                made.link.admits(nonsense)
            assert made.link.places == 100
            made.link.admits(64)
            assert made.link.places == 56

    run(scenario())


def test_a_stream_on_which_nothing_moves_ends_while_others_of_its_connection_go_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        limits = Limits(idle_stream=0.2, sweep=0.02)
        async with rig(tmp_path, limits) as made:
            client = await made.client()
            idle, busy = await opened(made, client, 1), await opened(made, client, 2)

            async def keep_busy() -> None:
                while True:
                    await client.send("default", 2, b"x")
                    await asyncio.sleep(0.02)

            task = asyncio.ensure_future(keep_busy())
            assert await client.refusal(1) == "client-idle"
            task.cancel()
            while (frame := await made.enclave.frame()).sid != idle:
                assert frame.sid == busy
            assert frame.body == b""

    run(scenario())
