"""What the simulated platform lets its enclave reach: the trusted files of the manifest, and nothing else."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attestation.errors import EvidenceCode, EvidenceError
from attestation.sim import confine, landlock
from attestation.sim.confine import Confinement
from attestation.sim.landlock import Access, Ruleset
from manifests.gramine.manifest import parse_manifest
from manifests.gramine.measure import check_trusted_files
from tests.attestation.sim_rig import Running, running, spawn, write_manifest

NEEDS_LANDLOCK = pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")
DENIED = b"Permission denied"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file that the manifest lists and others that it does not."""
    folder = tmp_path_factory.mktemp("enclave")
    for name in ("listed", "unlisted", "kept"):
        (folder / name).write_text(f"{name}\n")
    (folder / "other").mkdir()
    (folder / "tool").symlink_to("/bin/true")
    return folder


@pytest.fixture(scope="module")
def sim(places: Path) -> Iterator[Running]:
    with running(places, also=(places / "listed",)) as made:
        yield made


@NEEDS_LANDLOCK
def test_a_listed_file_is_read(sim: Running, places: Path) -> None:
    assert sim.ask(f"read {places}/listed") == b"b'list'"
    assert sim.ready["confinement"] == {"landlock": landlock.version()}


@NEEDS_LANDLOCK
@pytest.mark.parametrize("command", ["read {}/unlisted", "read /etc/passwd", "read /proc/self/maps", "read /dev/zero"])
def test_a_file_that_is_not_listed_is_out_of_reach(sim: Running, places: Path, command: str) -> None:
    assert sim.ask(command.format(places)) == DENIED


@NEEDS_LANDLOCK
@pytest.mark.parametrize(
    "command",
    [
        *("write {}/listed", "write {}/unlisted", "write {}/new", "write /dev/null"),
        *("make {}/folder", "remove {}/kept", "move {}/kept", "link {}/listed", "bind {}/socket"),
        *(("truncate {}/listed",) if landlock.version() >= 3 else ()),
    ],
)
def test_nothing_is_written_anywhere(sim: Running, places: Path, command: str) -> None:
    before = {path.name: path.is_file() and path.read_bytes() for path in places.iterdir()}
    assert sim.ask(command.format(places)) == DENIED
    assert {path.name: path.is_file() and path.read_bytes() for path in places.iterdir()} == before


@NEEDS_LANDLOCK
def test_no_other_program_is_run_and_no_other_folder_listed(sim: Running, places: Path) -> None:
    assert sim.ask(f"run {places}/tool") == DENIED
    assert sim.ask("list /home") == DENIED
    assert sim.ask("list /") == DENIED


@NEEDS_LANDLOCK
def test_where_landlock_governs_them_no_network_and_no_process_outside_is_reached(sim: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert (sim.ask(f"connect {server.getsockname()[1]}") == DENIED) == (landlock.version() >= 4)
    assert (sim.ask(f"kill {sim.process.pid}") == b"Operation not permitted") == (landlock.version() >= 6)


@NEEDS_LANDLOCK
def test_a_file_put_in_the_place_of_a_listed_one_is_another_file(tmp_path: Path) -> None:
    """What was hashed is let in, and not what takes its name later."""
    listed, new = tmp_path / "listed", tmp_path / "new"
    listed.write_text("as hashed")
    with running(tmp_path, also=(listed,)) as sim:
        assert sim.ask(f"read {listed}") == b"b'as h'"
        new.write_text("another")
        new.replace(listed)
        assert sim.ask(f"read {listed}") == DENIED
        assert sim.tell("exit 0") == 0


def test_an_enclave_is_unconfined_only_where_the_platform_is_told_so_by_name(tmp_path: Path) -> None:
    process, host, reader = spawn(tmp_path, write_manifest(tmp_path), "--dangerously-unconfined")
    with process, os.fdopen(reader, encoding="ascii") as pipe:
        sim = Running(process, host, tmp_path / "platform", json.loads(pipe.read()))
        assert sim.ready["confinement"] == {"landlock": 0}
        assert sim.ask("read /etc/passwd") == b"b'root'"
        assert sim.tell("exit 0") == 0
        host.close()
        _, errors = process.communicate()
    assert json.loads(errors) == {"event": "DANGEROUSLY-UNCONFINED", "platform": "SIMULATED", "landlock": 0}


def test_a_kernel_without_landlock_starts_no_enclave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confine, "version", lambda: 0)
    with pytest.raises(EvidenceError) as refusal:
        Confinement()
    assert refusal.value.code is EvidenceCode.SIMULATOR_CONFINEMENT
    assert refusal.value.exit_code == 20
    assert "--dangerously-unconfined" in str(refusal.value.remedy)
    assert Confinement(dangerously_unconfined=True).layers == {"landlock": 0}


@NEEDS_LANDLOCK
def test_what_cannot_be_admitted_is_an_error(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with pytest.raises(EvidenceError) as refusal:
        Confinement().admit(reader)
    assert refusal.value.code is EvidenceCode.SIMULATOR_LAUNCH
    with pytest.raises(EvidenceError) as refusal:
        Confinement().admit_modules([tmp_path / "gone" / "module.py"])
    assert refusal.value.code is EvidenceCode.SIMULATOR_LAUNCH
    os.close(reader)
    os.close(writer)


def test_files_are_admitted_while_they_are_open_and_only_after_their_hash_was_right(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path)
    parsed = parse_manifest(manifest.read_bytes())
    admitted: list[str] = []
    check_trusted_files(parsed, admit=lambda fd: admitted.append(str(Path(f"/proc/self/fd/{fd}").readlink())))
    assert admitted == [os.path.realpath(file.path) for file in parsed.trusted_files]


# ---------------------------------------------------------------------------------------------- the kernel's interface


@pytest.mark.parametrize(
    ("version", "known"),
    [(1, "MAKE_SYM"), (2, "REFER"), (3, "TRUNCATE"), (4, "TRUNCATE"), (5, "IOCTL_DEV"), (7, "IOCTL_DEV")],
)
def test_each_version_governs_the_rights_up_to_its_newest(version: int, known: str) -> None:
    governed = landlock.governed(version)
    assert governed == Access(2 * Access[known] - 1)


@NEEDS_LANDLOCK
@pytest.mark.parametrize("version", range(1, max(1, landlock.version()) + 1))
def test_this_kernel_takes_the_rulesets_of_all_versions_up_to_its_own(
    version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landlock, "version", lambda: version)
    with Ruleset() as ruleset, Path("/etc/passwd").open("rb") as file:
        ruleset.allow(file.fileno(), Access.READ_FILE)
        assert ruleset.version == version


def test_a_call_that_the_kernel_refuses_is_an_oserror() -> None:
    code = (
        "from attestation.sim import landlock\n"
        "landlock._CREATE_RULESET = 100_000\n"
        "assert landlock.version() == 0\n"
        "try:\n    landlock.Ruleset()\nexcept OSError as error:\n    print(error.strerror)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "Function not implemented\n"
