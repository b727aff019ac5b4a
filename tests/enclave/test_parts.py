"""The small parts: arena, hardening, attester, quoter, tickets, worker, lease, time limits, loading, log."""

from __future__ import annotations

import ctypes
import json
import socket
import struct
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from attestation.binding import expected_report_data
from attestation.types import PlatformClass
from enclave import arena as arena_module
from enclave import hardening as hardening_module
from enclave import log as log_module
from enclave.arena import Arena, ArenaKind
from enclave.attesters.simulator import SimulatorAttester
from enclave.closure import loaded_files
from enclave.deadline import Run, Watchdog
from enclave.errors import EnclaveCode, EnclaveError
from enclave.lease import Lease
from enclave.log import Event, log, show_platform
from enclave.models import check_interface, open_session, session_options
from enclave.process import compile_post, run_steps
from enclave.quoter import Quoted, Quoter
from enclave.tickets import ArenaTickets
from enclave.worker import Worker
from manifests.errors import ManifestError, StrongroomError
from manifests.sealed.core import GRAPH_PART
from tests.enclave.rig import Ended, FakeAttester, Owner, graph, linear, running


def code_of(function: Any, *arguments: Any) -> str:
    with pytest.raises(EnclaveError) as refusal:
        function(*arguments)
    return str(refusal.value.code)


# ------------------------------------------------------------------------------------------ arena


@pytest.fixture(params=["as the kernel has it", "without memfd_secret", "without locking"])
def arena(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Arena:
    if request.param != "as the kernel has it":
        monkeypatch.setattr(arena_module, "_map_secret", lambda _size: None)
    if request.param == "without locking":
        monkeypatch.setattr(arena_module, "_mlock", lambda *_: False)
        assert Arena(4096).kind is ArenaKind.UNLOCKED
    return Arena(4096)


def test_secrets_are_kept_apart_and_wiped(arena: Arena) -> None:
    first, second = arena.store(b"a" * 100), arena.store(b"b" * 32)
    assert (bytes(first.view), bytes(second.view)) == (b"a" * 100, b"b" * 32)
    assert arena.free == 4096 - 128 - 64
    first.wipe()
    first.wipe()
    assert b"a" not in bytes(arena._view)
    assert bytes(second.view) == b"b" * 32
    second.wipe()
    assert arena.free == 4096
    assert not any(arena._view)


def test_a_secret_that_is_forgotten_is_wiped(arena: Arena) -> None:
    arena.store(b"x" * 64)
    assert arena.free == 4096


def test_a_full_arena_refuses_and_recovers(arena: Arena) -> None:
    held = [arena.allocate(64) for _ in range(64)]
    assert code_of(arena.allocate, 1) == "arena-full"
    held.pop().wipe()
    assert len(arena.allocate(64).view) == 64


def test_secrets_do_not_show(arena: Arena) -> None:
    secret = arena.store(b"hush")
    assert "hush" not in repr(secret) + repr(arena)


@pytest.mark.parametrize("size", [0, 100, arena_module.MAX_ARENA + 4096])
def test_an_arena_has_whole_pages_of_at_most_a_mebibyte(size: int) -> None:
    with pytest.raises(ValueError, match="1 MiB"):
        Arena(size)


def test_locked_memory_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena_module, "_SYS_MEMFD_SECRET", 1_000_000)
    assert Arena(4096).kind in {ArenaKind.LOCKED, ArenaKind.UNLOCKED}


# ------------------------------------------------------------------------------------------ hardening, log


def test_telemetry_is_switched_off_whatever_the_environment_says() -> None:
    environment = {"ORT_DISABLE_TELEMETRY": "0"}
    hardening_module.silence_telemetry(environment)
    assert environment == {"ORT_DISABLE_TELEMETRY": "1"}


def test_memory_is_not_locked_under_a_limit_that_would_break_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardening_module.resource, "getrlimit", lambda _: (hardening_module.resource.RLIM_INFINITY, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    assert hardening_module._may_lock(libc)
    monkeypatch.setattr(hardening_module.resource, "getrlimit", lambda _: (8 << 20, 8 << 20))
    capabilities = next(line for line in Path("/proc/self/status").read_text().splitlines() if "CapEff" in line)
    assert hardening_module._may_lock(libc) == bool(int(capabilities.split()[1], 16) >> 14 & 1)


@pytest.mark.parametrize("event", Event)
def test_every_log_line_names_the_attesters_class(
    event: Event, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_platform", {})
    show_platform(PlatformClass.SIMULATED)
    log(event)
    assert json.loads(capfd.readouterr().err) == {"event": str(event), "platform": "SIMULATED"}


def test_a_session_keeps_no_copy_of_the_plain_graph() -> None:
    data, _ = linear(Owner())
    session = open_session({GRAPH_PART: bytearray(data)}, 1)
    assert session.get_inputs()
    assert copies_held(session) == []


def copies_held(session: object) -> list[str]:
    """The names under which a runtime's session keeps bytes."""
    return [name for name, value in vars(session).items() if isinstance(value, bytes | bytearray | memoryview)]


def test_the_runtime_keeps_its_copy_of_the_graph_where_the_enclave_drops_it() -> None:
    data, _ = linear(Owner())
    plain = type(open_session({GRAPH_PART: bytearray(data)}, 1))
    assert copies_held(plain(data, providers=["CPUExecutionProvider"])) == ["_model_bytes"], (
        f"onnxruntime {version('onnxruntime')} keeps the graph elsewhere than before: `open_session` in"
        " enclave/models.py drops `_model_bytes`, and must drop what this list has, or a model lies in memory twice"
    )


def test_a_log_line_holds_words_codes_and_counts_alone(capfd: pytest.CaptureFixture[str]) -> None:
    log(Event.QUOTED, leaves=3, ok=True)
    assert json.loads(capfd.readouterr().err) == {"event": "quoted", "leaves": 3, "ok": 1}
    with pytest.raises(ValueError, match="invalid literal"):
        log(Event.QUOTED, leaves="content")  # type: ignore[arg-type]


def test_the_closure_names_interpreter_libraries_and_modules() -> None:
    files = loaded_files()
    assert files == sorted(set(files))
    assert any("onnxruntime_pybind11_state" in file for file in files)
    assert any(file.endswith("enclave/closure.py") for file in files)
    assert not any(file.startswith(("/proc", "/dev")) for file in files)


# ------------------------------------------------------------------------------------------ attester


def simulator(reply: bytes) -> SimulatorAttester:
    inner, outer = socket.socketpair()

    def serve() -> None:
        with outer:
            assert len(outer.recv(64, socket.MSG_WAITALL)) == 64
            outer.sendall(reply)

    threading.Thread(target=serve, daemon=True).start()
    return SimulatorAttester(inner)


def test_the_simulator_is_asked_for_64_bytes_and_answers_with_a_length() -> None:
    attester = simulator(struct.pack(">I", 5) + b"quote")
    assert attester.quote(bytes(64)) == b"quote"
    assert attester.platform is PlatformClass.SIMULATED
    attester._stream.close()


@pytest.mark.parametrize("reply", [b"", b"\0\0", b"\0\0\0\x05quo", struct.pack(">I", 0), struct.pack(">I", 1 << 20)])
def test_a_platform_that_gives_no_quote_is_a_typed_error(reply: bytes) -> None:
    attester = simulator(reply)
    assert code_of(attester.quote, bytes(64)) == "quote-unavailable"
    attester._stream.close()


def test_a_platform_that_is_gone_is_a_typed_error() -> None:
    inner, outer = socket.socketpair()
    outer.close()
    attester = SimulatorAttester(inner)
    assert code_of(attester.quote, bytes(64)) == "quote-unavailable"
    inner.close()


def test_a_platform_that_answers_late_is_not_believed_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enclave.attesters.simulator.TIMEOUT", 0.05)
    inner, outer = socket.socketpair()
    attester = SimulatorAttester(inner)
    assert code_of(attester.quote, bytes(64)) == "quote-unavailable"
    with pytest.raises(BrokenPipeError):  # nobody listens any more
        outer.sendall(struct.pack(">I", 4) + b"late")
    assert code_of(attester.quote, bytes(64)) == "quote-unavailable"
    outer.close()


# ------------------------------------------------------------------------------------------ quoter


def test_a_defect_of_an_attester_costs_its_handshakes_and_not_the_quoter(monkeypatch: pytest.MonkeyPatch) -> None:
    attester = FakeAttester()
    quoter, results, done = Quoter(attester, 8), [], threading.Event()

    def broken(_: bytes) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(attester, "_quote", broken)
    quoter.submit(b"a" * 64, lambda result: (results.append(result), done.set())[0])
    assert done.wait(5)
    assert results[0].code == "quote-unavailable"
    monkeypatch.undo()
    done.clear()
    quoter.submit(b"a" * 64, lambda result: (results.append(result), done.set())[0])
    assert done.wait(5)
    assert isinstance(results[1], Quoted)
    quoter.stop()


def test_leaves_that_arrive_during_a_quote_share_the_next() -> None:
    attester = FakeAttester()
    attester.hold.clear()
    quoter = Quoter(attester, 8)
    results: dict[bytes, Any] = {}
    done = threading.Semaphore(0)

    def submit(leaf: bytes) -> None:
        quoter.submit(leaf, lambda result: (results.update({leaf: result}), done.release()))  # type: ignore[func-returns-value]

    submit(b"a" * 64)
    while not attester.asked:
        time.sleep(0.001)
    for index in range(8):
        submit(bytes([index]) * 64)
    assert code_of(quoter.submit, b"z" * 64, print) == "enclave-busy"
    attester.hold.set()
    for _ in range(9):
        assert done.acquire(timeout=5)
    assert (quoter.quotes, quoter.leaves) == (2, 9)
    for leaf, quoted in results.items():
        assert isinstance(quoted, Quoted)
        assert quoted.quote == b"quote" + expected_report_data(leaf, quoted.proof)
    quoter.stop()
    assert code_of(quoter.submit, b"z" * 64, print) == "enclave-busy"


def test_leaves_that_wait_when_the_quoter_stops_are_told() -> None:
    attester = FakeAttester()
    attester.hold.clear()
    quoter = Quoter(attester, 8)
    results: list[Any] = []
    quoter.submit(b"a" * 64, results.append)
    while not attester.asked:
        time.sleep(0.001)
    quoter.submit(b"b" * 64, results.append)
    stopper = threading.Thread(target=quoter.stop)
    stopper.start()
    while not quoter._stopped:
        time.sleep(0.001)
    attester.hold.set()
    stopper.join(5)
    assert isinstance(results[0], Quoted)
    assert isinstance(results[1], StrongroomError)
    assert results[1].code == "enclave-stopping"


# ------------------------------------------------------------------------------------------ tickets, worker, lease


def test_tickets_are_bounded_used_once_and_dropped_together() -> None:
    arena = Arena(4096)
    tickets = ArenaTickets(arena, capacity=2)
    issued = [tickets.issue(b"who", bytes(64), bytes([1]) * 64) for _ in range(3)]
    assert len(tickets) == 2
    assert tickets.take(issued[0][0]) is None
    ticket = tickets.take(issued[1][0])
    assert ticket is not None
    assert (ticket.psk, ticket.identity, ticket.origin) == (issued[1][1], b"who", bytes([1]) * 64)
    assert tickets.take(issued[1][0]) is None
    tickets.clear()
    assert tickets.take(issued[2][0]) is None
    assert arena.free == 4096


def test_a_full_worker_refuses() -> None:
    worker, gate, begun, done = Worker("test", 1), threading.Event(), threading.Event(), threading.Event()
    worker.submit(lambda: (begun.set(), gate.wait(5))[0])
    assert begun.wait(5)
    worker.submit(done.set)
    assert code_of(worker.submit, print) == "enclave-busy"
    gate.set()
    worker.stop()
    assert done.is_set()


def test_a_lease_is_exact_among_threads() -> None:
    lease, spent = Lease(1000), []

    def spend() -> None:
        try:
            while True:
                lease.spend()
                spent.append(1)
        except EnclaveError:
            pass

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(spent), lease.remaining) == (1000, 0)
    lease.renew(5, since=1000)
    lease.end()
    assert code_of(lease.spend) == "lease-exhausted"


def test_a_lease_counts_from_the_challenge_and_never_below_nothing() -> None:
    lease = Lease(3)
    for _ in range(3):
        lease.spend()
    lease.renew(5, since=1)
    assert lease.remaining == 3
    lease.renew(1, since=0)
    assert lease.remaining == 0


# ------------------------------------------------------------------------------------------ models


def endless() -> bytes:
    """A loop that would run for hours."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Sin", ["v"], ["v2"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [4]),
        ],
        [
            helper.make_tensor_value_info("c2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v2", TensorProto.FLOAT, [4]),
        ],
    )
    nodes = [
        helper.make_node("Constant", [], ["m"], value=helper.make_tensor("m", TensorProto.INT64, [], [1 << 50])),
        helper.make_node("Constant", [], ["t"], value=helper.make_tensor("t", TensorProto.BOOL, [], [True])),
        helper.make_node("Loop", ["m", "t", "x"], ["y"], body=body),
    ]
    return graph(nodes, [("x", TensorProto.FLOAT, [4])], [("y", TensorProto.FLOAT, [4])])


def test_a_run_that_takes_too_long_is_stopped() -> None:
    session = open_session({GRAPH_PART: bytearray(endless())}, 1)
    stuck: list[Run] = []
    watchdog = Watchdog(60.0, stuck.append)
    with watchdog.limit(60.0), watchdog.limit(0.1) as run, pytest.raises(Exception, match="terminate"):
        session.run(None, {"x": np.ones(4, np.float32)}, run.options)
    assert run.expired
    with watchdog.limit(5.0) as run:
        pass
    assert not run.expired
    assert not watchdog._runs
    assert not stuck
    watchdog.stop()


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {GRAPH_PART: bytearray()},
        {GRAPH_PART: bytearray(b"not a model")},
        {GRAPH_PART: bytearray(endless()[:-20])},
    ],
)
def test_what_the_runtime_cannot_load_is_refused_without_its_words(parts: dict[str, bytearray]) -> None:
    with pytest.raises(EnclaveError) as refusal:
        open_session(parts, 1)
    assert refusal.value.code == "model-unusable"
    assert "onnx" not in refusal.value.message.lower().replace("model.onnx", "")


def reads_a_file(location: str, where: str) -> bytes:
    """A graph whose data lie in a file of the machine, as an initialiser, a constant, or inside a branch."""
    data = TensorProto(name="" if where == "constant" else "w", data_type=TensorProto.UINT8, dims=[4])
    data.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "4")):
        data.external_data.add(key=key, value=value)
    output = helper.make_tensor_value_info("y", TensorProto.UINT8, [4])
    nodes, inputs, weights = [helper.make_node("Identity", ["w"], ["y"])], [], [data]
    if where == "constant":
        nodes, weights = [helper.make_node("Constant", [], ["w"], value=data), *nodes], []
    if where == "branch":
        branch = helper.make_graph(nodes, "branch", [], [output], weights)
        nodes, weights = [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], []
        inputs = [helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
    made = helper.make_graph(nodes, "graph", inputs, [output], weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("where", ["initialiser", "constant", "branch"])
@pytest.mark.parametrize(
    "location", ["secret", "./secret", "../{folder}/secret", "{path}/secret", "*/_ORT_MEM_ADDR_/*"]
)
@pytest.mark.parametrize("others", [{}, {"w.bin": bytearray(8)}], ids=["alone", "beside sealed parts"])
def test_a_graph_reads_no_file_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, location: str, others: dict[str, bytearray]
) -> None:
    (tmp_path / "secret").write_bytes(b"root")
    monkeypatch.chdir(tmp_path)
    data = reads_a_file(location.format(folder=tmp_path.name, path=tmp_path), where)
    with pytest.raises(EnclaveError) as refusal:
        open_session({GRAPH_PART: bytearray(data), **others}, 1)
    assert refusal.value.code == "model-unusable"


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": [{"name": "other", "dtype": "float32", "shape": ["n", 4]}]},
        {"inputs": [{"name": "x", "dtype": "float64", "shape": ["n", 4]}]},
        {"inputs": [{"name": "x", "dtype": "float32", "shape": ["n"]}]},
        {"outputs": [{"name": "other", "dtype": "float32", "shape": ["n", 3]}]},
        {"outputs": [{"name": "y", "dtype": "int64", "shape": ["n", 3]}]},
        {"outputs": [{"name": "y", "dtype": "float32", "shape": ["n", 3, 1]}]},
    ],
)
def test_a_graph_that_is_not_as_its_manifest_says_is_refused(changes: dict[str, Any]) -> None:
    data, _ = linear(Owner())
    session = open_session({GRAPH_PART: bytearray(data)}, 1)
    _, manifest = linear(Owner(), **changes)
    assert code_of(check_interface, session, manifest) == "model-unusable"


def test_the_runtimes_threads_are_explicit_and_its_log_is_silent() -> None:
    options = session_options(3)
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.log_severity_level == 4


def test_an_enclave_whose_attester_is_lost_ends() -> None:
    with running() as rig:
        rig.attester.fails = rig.attester.lost = True
        with pytest.raises(Ended):
            rig.client()
        rig.thread.join(10)
        assert not rig.thread.is_alive()


def test_a_simulator_that_lost_its_place_is_lost() -> None:
    attester = simulator(b"")
    assert not attester.lost
    with pytest.raises(EnclaveError):
        attester.quote(bytes(64))
    assert attester.lost


def test_outputs_of_other_shapes_than_announced_never_reach_the_steps() -> None:
    post = [{"kind": "label_only", "output": "y"}]
    _, manifest = linear(Owner(), post=post)
    steps = compile_post(manifest)
    for shape in [(1, 0), (1, 4), (9, 3), (3,)]:
        with pytest.raises(EnclaveError) as refusal:
            run_steps(steps, {"y": np.zeros(shape, np.float32)})
        assert refusal.value.code is EnclaveCode.INFERENCE_FAILED
    assert run_steps(steps, {"y": np.zeros((1, 3), np.float32)})["label"].tolist() == ["red"]


def test_a_label_of_an_axis_that_may_be_empty_is_refused() -> None:
    axes = {"n": {"minimum": 1, "maximum": 8}, "k": {"minimum": 0, "maximum": 8}}
    outputs = [{"name": "y", "dtype": "float32", "shape": ["n", "k"]}]
    with pytest.raises(ManifestError):
        linear(Owner(), axes=axes, outputs=outputs, labels=[], post=[{"kind": "label_only", "output": "y"}])
