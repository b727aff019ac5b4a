"""Frames between clients and an enclave: who gets what, and who is told what."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attestation.wire.frames import MAX_BODY, Frame, encode_frame
from host import clients
from host.limits import Limits
from host.listeners import peer_of
from tests.host.rig import Rig, echo, rig, run, until


def test_a_body_reaches_the_enclave_and_the_answer_comes_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            client = await made.client()
            await client.send("default", 7, b"question")
            arrived = await made.enclave.frame()
            assert (arrived.route, arrived.body) == ("default", b"question")
            await made.enclave.send("default", arrived.sid, b"answer")
            assert await client.frame() == Frame("default", 7, b"answer")

    run(scenario())


def test_two_clients_with_the_same_sid_are_two_sessions_of_the_enclave(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            first, second = await made.client(), await made.client()
            await first.send("default", 1, b"a")
            one = await made.enclave.frame()
            await second.send("default", 1, b"b")
            two = await made.enclave.frame()
            assert one.sid != two.sid
            await made.enclave.send("default", two.sid, b"for b")
            await made.enclave.send("default", one.sid, b"for a")
            assert (await first.frame()).body == b"for a"
            assert (await second.frame()).body == b"for b"

    run(scenario())


def test_many_connections_with_interleaved_sids_all_get_their_own_bytes(tmp_path: Path) -> None:
    async def talk(made: Rig, seed: int) -> None:
        client, draw = await made.client(), random.Random(seed)
        expected, received = dict.fromkeys(range(5), b""), dict.fromkeys(range(5), b"")
        for sid in [0, 1, 2, 3, 4, *draw.choices(range(5), k=35)]:
            body = draw.randbytes(draw.randint(1, 3000))
            expected[sid] += body
            await client.send("default", sid, body)
        while received != expected:
            frame = await client.frame()
            received[frame.sid] += frame.body

    async def scenario() -> None:
        async with rig(tmp_path) as made:
            server = asyncio.ensure_future(echo(made.enclave))
            await asyncio.gather(*(talk(made, seed) for seed in range(40)))
            server.cancel()
            assert made.relay.to_dict()["frames_in"] == 40 * 40

    run(scenario())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies=st.lists(st.binary(min_size=1, max_size=2000), min_size=1, max_size=8), cut=st.integers(1, 97))
def test_bodies_pass_unchanged_whatever_they_hold_and_however_they_are_cut(
    tmp_path: Path, bodies: list[bytes], cut: int
) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            client = await made.client()
            stream = b"".join(encode_frame(Frame("default", 3, body)) for body in bodies)
            for start in range(0, len(stream), cut):
                client.writer.write(stream[start : start + cut])
            await client.writer.drain()
            arrived = [await made.enclave.frame() for _ in bodies]
            assert [frame.body for frame in arrived] == bodies
            for frame in arrived:
                await made.enclave.send(*frame)
            assert [(await client.frame()).body for _ in bodies] == bodies

    run(scenario())


def test_the_largest_body_passes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            client, server = await made.client(), asyncio.ensure_future(echo(made.enclave))
            body = os.urandom(MAX_BODY)
            sending = asyncio.ensure_future(client.send("default", 1, body))
            assert (await client.frame()).body == body
            await sending
            server.cancel()

    run(scenario())


@pytest.mark.parametrize("route", ["other", "!fetch", "!ready", "!stop", "!error"])
def test_an_unknown_or_controlling_route_is_refused_and_the_connection_lives_on(tmp_path: Path, route: str) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            client = await made.client()
            await client.send(route, 1, b"x")
            assert await client.refusal(1) == "route-unknown"
            await client.send("default", 2, b"y")
            assert (await made.enclave.frame()).body == b"y"
            assert made.controls == []

    run(scenario())


def test_an_empty_body_ends_the_clients_direction_and_the_enclave_may_still_answer(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            client = await made.client()
            await client.send("default", 1, b"x")
            sid = (await made.enclave.frame()).sid
            await client.send("default", 1, b"")
            assert await made.enclave.frame() == Frame("default", sid, b"")
            await made.enclave.send("default", sid, b"last")
            await made.enclave.send("default", sid, b"")
            assert (await client.frame()).body == b"last"
            assert (await client.frame()).body == b""
            assert made.relay.sessions == 0

    run(scenario())


def test_a_sid_that_is_over_is_never_opened_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            client = await made.client()
            await client.send("default", 5, b"x")
            await made.enclave.send("default", (await made.enclave.frame()).sid, b"")
            assert await client.frame() == Frame("default", 5, b"")
            await client.send("default", 5, b"")  # the client's own end crosses the enclave's: no error
            await client.send("default", 5, b"more")
            assert await client.refusal(5) == "stream-ended"
            await client.send("default", 4, b"lower")
            assert await client.refusal(4) == "stream-ended"
            await made.enclave.quiet()

    run(scenario())


def test_a_stream_that_changes_its_route_or_goes_on_after_its_end_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            await made.attach("second")
            client = await made.client()
            await client.send("default", 1, b"x")
            await client.send("second", 1, b"y")
            assert await client.refusal(1) == "stream-ended"
            await client.send("default", 1, b"")
            await client.send("default", 1, b"z")
            assert await client.refusal(1) == "stream-ended"
            assert [(await made.enclave.frame()).body for _ in range(2)] == [b"x", b""]

    run(scenario())


def test_a_client_that_disconnects_ends_each_of_its_sessions(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            client = await made.client()
            for sid in range(3):
                await client.send("default", sid, b"x")
            opened = {(await made.enclave.frame()).sid for _ in range(3)}
            client.close()
            ended = [await made.enclave.frame() for _ in range(3)]
            assert {frame.sid for frame in ended} == opened
            assert all(frame.body == b"" for frame in ended)
            await made.enclave.send("default", ended[0].sid, b"too late")
            await until(lambda: made.link.strays == 1)
            assert made.relay.sessions == 0

    run(scenario())


def test_garbage_ends_the_connection_that_sent_it_and_no_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            good, bad = await made.client(), await made.client()
            await good.send("default", 1, b"x")
            sid = (await made.enclave.frame()).sid
            await bad.send_raw(struct.pack(">I", 40) + b"\xff" * 40)
            assert await bad.error() == (0, "frame-malformed")
            await bad.nothing_more()
            await made.enclave.send("default", sid, b"still here")
            assert (await good.frame()).body == b"still here"

    run(scenario())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(min_size=1, max_size=300))
def test_whatever_a_client_sends_the_relay_lives_on(tmp_path: Path, noise: bytes) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            client = await made.client()
            await client.send_raw(noise)
            client.writer.write_eof()
            await client.nothing_more()
            other = await made.client()
            await other.send("default", 1, b"x")
            assert (await made.enclave.frame()).body == b"x"

    run(scenario())


def test_a_frame_that_claims_too_much_is_refused_before_it_is_received(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            client = await made.client()
            await client.send("default", 1, b"x")
            sid = (await made.enclave.frame()).sid
            await client.send_raw(struct.pack(">I", 0x7FFFFFFF))
            assert await client.error() == (1, "frame-too-large")
            await client.nothing_more()
            assert await made.enclave.frame() == Frame("default", sid, b"")

    run(scenario())


def test_a_disconnect_in_the_middle_of_a_frame_costs_nothing_but_that_frame(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            client = await made.client()
            await client.send_raw(
                encode_frame(Frame("default", 1, b"whole")) + encode_frame(Frame("default", 1, b"half"))[:9]
            )
            sid = (await made.enclave.frame()).sid
            client.close()
            assert await made.enclave.frame() == Frame("default", sid, b"")

    run(scenario())


def test_sessions_are_refused_while_no_enclave_is_attached(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            made.relay.attach("default", None)
            client = await made.client()
            await client.send("default", 1, b"x")
            assert await client.refusal(1) == "enclave-down"

    run(scenario())


def test_an_enclave_that_ends_takes_its_sessions_with_it_and_clients_are_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            client = await made.client()
            await client.send("default", 1, b"x")
            await made.enclave.frame()
            made.enclave.close()
            assert await client.refusal(1) == "enclave-lost"
            assert await made.link.lost is None
            await client.send("default", 2, b"x")
            assert await client.refusal(2) == "enclave-down"
            restarted = await made.attach("default")
            await client.send("default", 3, b"back")
            assert (await restarted.frame()).body == b"back"

    run(scenario())


def test_an_enclave_that_sends_garbage_is_given_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            client = await made.client()
            await client.send("default", 1, b"x")
            await made.enclave.frame()
            await made.enclave.send_raw(b"\x00\x00\x00\x05hello")
            error = await made.link.lost
            assert error is not None
            assert error.code == "enclave-protocol"
            assert await client.refusal(1) == "enclave-lost"

    run(scenario())


def test_control_frames_of_the_enclave_reach_the_host_and_no_client(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            client = await made.client()
            await client.send("default", 1, b"x")
            sid = (await made.enclave.frame()).sid
            await made.enclave.send("!stats", sid, b"\x80")
            await until(lambda: made.controls == [Frame("!stats", sid, b"\x80")])
            await client.quiet()

    run(scenario())


def test_a_draining_relay_finishes_old_sessions_and_takes_no_new_ones(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path) as made:
            client = await made.client()
            await client.send("default", 1, b"x")
            sid = (await made.enclave.frame()).sid
            made.relay.draining = True
            await client.send("default", 2, b"new")
            assert await client.refusal(2) == "host-draining"
            await client.send("default", 1, b"old")
            assert await made.enclave.frame() == Frame("default", sid, b"old")

    run(scenario())


LOW = Limits(connections=2, streams_per_connection=2, streams=3, peer_share=1)


def test_one_connection_more_than_allowed_is_told_so_and_closed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, LOW) as made:
            first, second = await made.client(), await made.client()
            for client in (first, second):
                await client.send("default", 1, b"x")
                await made.enclave.frame()
            third = await made.client()
            assert await third.error() == (0, "host-busy")
            await third.nothing_more()
            first.close()
            await until(lambda: len(made.relay.clients) < 2)
            assert (await made.enclave.frame()).body == b""
            fourth = await made.client()
            await fourth.send("default", 1, b"x")
            assert (await made.enclave.frame()).body == b"x"

    run(scenario())


@pytest.mark.parametrize("limits", [LOW, Limits(connections_per_peer=2)], ids=["of the host", "of one peer"])
def test_the_longest_idle_connection_without_a_stream_makes_room(tmp_path: Path, limits: Limits) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, limits) as made:
            busy = await made.client()
            await busy.send("default", 1, b"x")
            await made.enclave.frame()
            for _ in range(3):
                idle = await made.client()
                await until(lambda: len(made.relay.clients) == 2)
                latest = await made.client()
                assert await idle.error() == (0, "client-idle")
                await idle.nothing_more()
                latest.close()
                await until(lambda: len(made.relay.clients) == 1)
            await busy.send("default", 1, b"still here")
            assert (await made.enclave.frame()).body == b"still here"

    run(scenario())


def test_a_peer_at_its_bound_is_refused_and_other_peers_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, Limits(connections_per_peer=1)) as made:
            first = await made.client()
            await first.send("default", 1, b"x")
            await made.enclave.frame()
            assert await (await made.client()).error() == (0, "host-busy")
            monkeypatch.setattr(clients, "peer_of", lambda _: "another user")
            other = await made.client()
            await other.send("default", 1, b"y")
            assert (await made.enclave.frame()).body == b"y"

    run(scenario())


def test_a_peer_is_a_user_or_an_address() -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert peer_of(ours) == f"uid {os.getuid()}"
        for family, host, network in ((socket.AF_INET, "127.0.0.1", "127.0.0.1/32"), (socket.AF_INET6, "::1", "::/64")):
            with socket.create_server((host, 0), family=family) as server, socket.socket(family) as client:
                client.connect(server.getsockname()[:2])
                assert peer_of(client) == network
        with socket.socket(socket.AF_INET) as unconnected:
            assert peer_of(unconnected) == ""

    run(scenario())


def test_streams_without_a_first_answer_are_few(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, Limits(unanswered_per_connection=2)) as made:
            client = await made.client()
            for sid in (1, 2, 3):
                await client.send("default", sid, b"hello")
            assert await client.refusal(3) == "streams-exceeded"
            first = await made.enclave.frame()
            await made.enclave.send(*first)
            assert (await client.frame()).sid == 1
            await made.enclave.frame()
            await client.send("default", 4, b"hello")
            assert (await made.enclave.frame()).body == b"hello"

    run(scenario())


def test_one_stream_more_than_allowed_is_refused_per_connection_and_per_enclave(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, LOW) as made:
            first, second = await made.client(), await made.client()
            for sid in (1, 2, 3):
                await first.send("default", sid, b"x")
            assert await first.refusal(3) == "streams-exceeded"
            for sid in (1, 2):
                await second.send("default", sid, b"x")
            assert await second.refusal(2) == "host-busy"
            assert made.relay.to_dict()["refusals"] == {"streams-exceeded": 1, "host-busy": 1}

    run(scenario())
