"""Slow, silent and greedy peers: everything is bounded, and the others notice nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from pathlib import Path

from attestation.wire.frames import MAX_BODY, Frame, encode_frame
from host.limits import Limits
from tests.host.rig import Rig, Wire, rig, run, until

MIB = 1 << 20
QUICK = Limits(first_frame=0.1, unfinished_frame=0.1, idle_connection=0.15, idle_stream=0.3, linger=0.1, sweep=0.02)


async def open_stream(made: Rig, client: Wire, sid: int = 1) -> int:
    """Open a stream and return the enclave's sid."""
    await client.send("default", sid, b"open")
    return (await made.enclave.frame()).sid


async def stuck_client(made: Rig) -> tuple[socket.socket, int]:
    """Connect a client that never reads, and return it with the enclave's sid of its stream."""
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, str(made.path))
    await asyncio.get_running_loop().sock_sendall(client, encode_frame(Frame("default", 1, b"open")))
    return client, (await made.enclave.frame()).sid


def test_a_client_that_does_not_read_is_dropped_and_the_others_are_served(tmp_path: Path) -> None:
    async def scenario() -> None:
        limits = Limits(client_queue=4 * MIB, high_water=MIB // 4, linger=0.2)
        async with rig(tmp_path, limits) as made:
            slow, slow_sid = await stuck_client(made)
            good = await made.client()
            good_sid = await open_stream(made, good)
            for _ in range(8):
                await made.enclave.send("default", slow_sid, bytes(MAX_BODY))
                await made.enclave.send("default", good_sid, b"prompt")
                assert (await good.frame()).body == b"prompt"
            assert await made.enclave.frame() == Frame("default", slow_sid, b"")
            assert made.relay.refusals["client-slow"] == 1
            await until(lambda: len(made.relay.clients) == 1)
            slow.close()

    run(scenario())


def test_a_dropped_client_that_wakes_up_reads_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        limits = Limits(client_queue=2 * MIB, high_water=MIB // 4, linger=30)
        async with rig(tmp_path, limits) as made:
            client = await made.client()
            client.writer.transport.pause_reading()
            sid = await open_stream(made, client)
            while "client-slow" not in made.relay.refusals:
                await made.enclave.send("default", sid, bytes(MAX_BODY))
            client.writer.transport.resume_reading()
            frame = await client.frame()
            while frame.route == "default":
                frame = await client.frame()
            assert b"client-slow" in frame.body

    run(scenario())


def test_all_slow_clients_together_are_bounded_and_the_slowest_goes_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        limits = Limits(client_queue=64 * MIB, total_queue=4 * MIB, high_water=MIB // 4, linger=30)
        async with rig(tmp_path, limits) as made:
            little, little_sid = await stuck_client(made)
            greedy, greedy_sid = await stuck_client(made)
            await made.enclave.send("default", little_sid, bytes(MAX_BODY))
            for _ in range(12):
                await made.enclave.send("default", greedy_sid, bytes(MAX_BODY))
                await asyncio.sleep(0)
            await until(lambda: made.relay.refusals["client-slow"] == 1)
            assert [one.streams != {} for one in made.relay.clients].count(True) == 1
            assert made.link.streams.keys() == {little_sid}
            assert sum(one.queued for one in made.relay.clients) < 8 * MIB
            little.close()
            greedy.close()

    run(scenario())


def test_an_enclave_that_does_not_read_stops_the_clients_that_feed_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, Limits(high_water=MIB)) as made:
            made.enclave.writer.transport.pause_reading()
            client, total = await made.client(), 64
            sending = asyncio.ensure_future(_send_many(client, total))
            await until(lambda: made.link.congested)
            await asyncio.sleep(0.1)
            assert not sending.done()
            assert made.link.queued < 4 * MIB
            made.enclave.writer.transport.resume_reading()
            bodies = [len((await made.enclave.frame()).body) for _ in range(total)]
            assert bodies == [MIB] * total
            await sending

    async def _send_many(client: Wire, total: int) -> None:
        for _ in range(total):
            await client.send("default", 1, bytes(MIB))

    run(scenario())


def test_a_stuck_enclave_gets_no_new_sessions_and_churning_clients_cannot_fill_the_memory(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, Limits(high_water=MIB // 4, enclave_queue=MIB)) as made:
            made.enclave.writer.transport.pause_reading()
            refused = 0
            for _ in range(40):
                is_full = made.link.queued > MIB
                client = await made.client()
                await client.send("default", 1, bytes(MIB // 8))
                if is_full:
                    assert await client.refusal(1) == "host-busy"
                    refused += 1
                await asyncio.sleep(0.002)
                client.close()
            assert refused > 20
            assert made.link.queued < 2 * MIB

    run(scenario())


def test_a_connection_that_says_nothing_is_closed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, QUICK) as made:
            client = await made.client()
            assert await client.error() == (0, "client-idle")
            await client.nothing_more()

    run(scenario())


def test_a_connection_whose_frames_are_all_refused_is_closed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, dataclasses.replace(QUICK, idle_connection=30.0)) as made:
            client = await made.client()
            await client.send("nonsense", 1, b"x")
            assert await client.refusal(1) == "route-unknown"
            assert await client.error() == (0, "client-idle")
            await client.nothing_more()

    run(scenario())


def test_a_stream_that_the_enclave_never_answers_is_ended_on_both_sides(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, Limits(first_answer=0.1, sweep=0.02)) as made:
            client = await made.client()
            answered = await open_stream(made, client, 1)
            await made.enclave.send("default", answered, b"hello")
            assert (await client.frame()).body == b"hello"
            silent = await open_stream(made, client, 2)
            assert await client.refusal(2) == "host-busy"
            assert await made.enclave.frame() == Frame("default", silent, b"")
            await client.send("default", 1, b"goes on")
            assert await made.enclave.frame() == Frame("default", answered, b"goes on")
            await made.enclave.send("default", silent, b"too late")
            await client.quiet()

    run(scenario())


def test_half_a_frame_does_not_hold_a_connection_open(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, dataclasses.replace(QUICK, first_frame=30, idle_stream=30)) as made:
            client = await made.client()
            await open_stream(made, client)
            await client.send_raw(encode_frame(Frame("default", 1, bytes(500)))[:100])
            assert await client.error() == (1, "client-idle")
            await client.nothing_more()

    run(scenario())


def test_too_many_unfinished_frames_cost_the_largest_its_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, Limits(unfinished_total=300_000, sweep=0.02)) as made:
            small, large = await made.client(), await made.client()
            for client, part in ((small, 100_000), (large, 250_000)):
                await open_stream(made, client)
                await client.send_raw(encode_frame(Frame("default", 1, bytes(MIB)))[:part])
            assert await large.error() == (1, "host-busy")
            await small.quiet()

    run(scenario())


def test_a_connection_without_a_stream_is_closed_after_its_time_and_one_with_a_stream_later(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, QUICK) as made:
            idle, held = await made.client(), await made.client()
            sid = await open_stream(made, idle)
            await made.enclave.send("default", sid, b"")
            assert (await idle.frame()).body == b""
            await open_stream(made, held)
            assert await idle.error() == (0, "client-idle")
            assert await held.error() == (1, "client-idle")
            assert [(await made.enclave.frame()).body] == [b""]

    run(scenario())


def test_a_stream_that_the_enclave_never_ends_is_ended_for_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, dataclasses.replace(QUICK, idle_stream=30, idle_connection=30)) as made:
            client = await made.client()
            await open_stream(made, client)
            await client.send("default", 1, b"")
            assert await client.frame() == Frame("default", 1, b"")
            assert made.relay.sessions == 0

    run(scenario())


def test_the_relay_says_why_it_goes_down(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            client = await made.client()
            await open_stream(made, client)
            made.relay.stop()
            assert await client.error() == (1, "host-draining")
            await client.nothing_more()

    run(scenario())


def test_an_enclaves_own_error_reaches_the_client_it_is_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            client = await made.client()
            sid = await open_stream(made, client, sid=9)
            await made.enclave.send("!error", sid, b"whatever it says")
            assert await client.frame() == Frame("!error", 9, b"whatever it says")
            await made.enclave.send("!error", sid + 1, b"for nobody")
            await until(lambda: made.link.strays == 1)

    run(scenario())


def test_a_request_under_way_is_known_until_it_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            client = await made.client()
            sid = await open_stream(made, client)
            assert made.relay.unanswered == 1
            await made.enclave.send("default", sid, b"answer")
            await client.frame()
            assert (made.relay.unanswered, made.relay.sessions) == (0, 1)

    run(scenario())
