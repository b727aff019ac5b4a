"""The deployment guard: every finding is reached, one by one, on a machine made of files."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from attestation.wire.address import TcpAddress, UnixAddress
from host.errors import GuardCode, HostCode, HostError
from host.guard.check import Plan, check, require
from host.guard.finding import Finding, Severity
from host.guard.machine import machine_findings
from host.guard.probe import Probe
from manifests.gramine.render import render
from manifests.gramine.settings import FIRST, EnclaveSettings
from tests.manifests.small import small

MIB = 1 << 20
FILES = {
    "proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable:    8000000 kB\n",
    "proc/swaps": "Filename Type Size Used Priority\n",
    "proc/sys/kernel/core_pattern": "core\n",
    "proc/sys/user/max_user_namespaces": "1000\n",
    "proc/sys/kernel/seccomp/actions_avail": "kill_process kill_thread trap errno trace log allow\n",
    "dev/sgx_enclave": "",
}


class GoodMachine(Probe):
    """A machine on which everything is as it should be, until a test changes something."""

    version = (3, 12, 1)
    free: int | None = 1000 * MIB
    core = 0
    descriptors = 4096
    secret = True
    landlock = 4
    clock: bool | None = True
    owners: dict[str, list[str]] = {"host": ["strongroom"], "numpy": ["numpy"]}  # noqa: RUF012 - replaced, not changed

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        for name, text in FILES.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def python_version(self) -> tuple[int, int, int]:
        return self.version

    def disk_free(self, path: Path) -> int | None:
        return self.free

    def core_limit(self) -> int:
        return self.core

    def descriptor_limit(self) -> int:
        return self.descriptors

    def has_memfd_secret(self) -> bool:
        return self.secret

    def landlock_version(self) -> int:
        return self.landlock

    def clock_synchronised(self) -> bool | None:
        return self.clock

    def distributions(self) -> dict[str, list[str]]:
        return self.owners


@dataclass
class Case:
    probe: GoodMachine
    plan: Plan
    findings: list[Finding] = field(default_factory=list)

    def failed(self) -> dict[GuardCode, Finding]:
        return {one.code: one for one in check(self.plan, self.probe) if not one.passed}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    for name in ("home", "platform"):
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / "models").mkdir(mode=0o755)
    (tmp_path / "models" / "small.sealed").write_bytes(small().data)
    plan = Plan(tmp_path / "home", tmp_path / "models", None, tmp_path / "platform")
    return Case(GoodMachine(tmp_path / "root"), plan)


def test_a_good_machine_passes_every_check(case: Case) -> None:
    findings = check(case.plan, case.probe)
    assert [one for one in findings if not one.passed] == []
    assert len({one.code for one in findings}) == len(findings) == 19
    require(findings)


MACHINES: list[tuple[GuardCode, Severity, Callable[[GoodMachine], None]]] = [
    (GuardCode.PYTHON, Severity.BLOCKING, lambda m: setattr(m, "version", (3, 10, 9))),
    (GuardCode.MEMORY, Severity.BLOCKING, lambda m: m.write("proc/meminfo", "MemAvailable: 300000 kB\n")),
    (GuardCode.MEMORY, Severity.BLOCKING, lambda m: m.write("proc/meminfo", "nonsense")),
    (GuardCode.DISK, Severity.BLOCKING, lambda m: setattr(m, "free", 10 * MIB)),
    (GuardCode.DISK, Severity.BLOCKING, lambda m: setattr(m, "free", None)),
    (GuardCode.SWAP, Severity.WARNING, lambda m: m.write("proc/swaps", "Filename\n/dev/sda2 partition 1 0 -2\n")),
    (GuardCode.CORE_DUMPS, Severity.WARNING, lambda m: setattr(m, "core", -1)),
    (GuardCode.CORE_DUMPS, Severity.WARNING, lambda m: m.write("proc/sys/kernel/core_pattern", "|/bin/catch %p")),
    (GuardCode.DESCRIPTORS, Severity.WARNING, lambda m: setattr(m, "descriptors", 256)),
    (GuardCode.CLOCK, Severity.WARNING, lambda m: setattr(m, "clock", False)),
    (GuardCode.CLOCK, Severity.WARNING, lambda m: setattr(m, "clock", None)),
    (GuardCode.PACKAGES, Severity.BLOCKING, lambda m: setattr(m, "owners", {"host": ["strongroom", "other"]})),
    (GuardCode.USER_NAMESPACES, Severity.WARNING, lambda m: m.write("proc/sys/user/max_user_namespaces", "0\n")),
    (
        GuardCode.USER_NAMESPACES,
        Severity.WARNING,
        lambda m: m.write("proc/sys/kernel/unprivileged_userns_clone", "0\n"),
    ),
    (
        GuardCode.USER_NAMESPACES,
        Severity.WARNING,
        lambda m: m.write("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n"),
    ),
    (
        GuardCode.USER_NAMESPACES,
        Severity.WARNING,
        lambda m: (m.root / "proc/sys/user/max_user_namespaces").unlink(),
    ),
    (GuardCode.SECCOMP, Severity.WARNING, lambda m: m.write("proc/sys/kernel/seccomp/actions_avail", "allow")),
    (GuardCode.LANDLOCK, Severity.BLOCKING, lambda m: setattr(m, "landlock", 0)),
    (GuardCode.MEMFD_SECRET, Severity.WARNING, lambda m: setattr(m, "secret", False)),
    (GuardCode.TEE_DEVICE, Severity.NOTE, lambda m: (m.root / "dev/sgx_enclave").unlink()),
]


@pytest.mark.parametrize(("code", "severity", "change"), MACHINES)
def test_each_fault_of_the_machine_is_found_and_nothing_else(
    case: Case, code: GuardCode, severity: Severity, change: Callable[[GoodMachine], None]
) -> None:
    change(case.probe)
    failed = case.failed()
    assert failed.keys() == {code}
    assert failed[code].severity is severity
    assert failed[code].to_dict()["remedy"]


def test_a_kernel_without_landlock_blocks_unless_the_deployment_admits_it_by_name(case: Case) -> None:
    case.probe.landlock = 0
    case.plan = replace(case.plan, dangerously_unconfined=True)
    assert case.failed()[GuardCode.LANDLOCK].severity is Severity.WARNING
    require(list(case.failed().values()))


def widen(path: Path, mode: int) -> None:
    path.chmod(mode)


def become_file(path: Path) -> None:
    path.rmdir()
    path.write_text("not a folder")


def vanish(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def spoil(path: Path) -> None:
    (path / "bad.sealed").write_bytes(b"not a model")


def damage_a_copy(path: Path) -> None:
    data = bytearray((path / "small.sealed").read_bytes())
    data[len(data) // 2] ^= 1
    (path / "damaged.sealed").write_bytes(data)


def copy(path: Path) -> None:
    (path / "copy.sealed").write_bytes((path / "small.sealed").read_bytes())


def empty(path: Path) -> None:
    (path / "small.sealed").unlink()


FOLDERS = [
    (GuardCode.HOME_FOLDER, "home", lambda path: widen(path, 0o755)),
    (GuardCode.HOME_FOLDER, "home", become_file),
    (GuardCode.PLATFORM_FOLDER, "platform", lambda path: widen(path, 0o710)),
    (GuardCode.MODELS_FOLDER, "models", lambda path: widen(path, 0o777)),
    (GuardCode.MODELS_FOLDER, "models", vanish),
    (GuardCode.MODELS_SEALED, "models", spoil),
    (GuardCode.MODELS_SEALED, "models", damage_a_copy),
    (GuardCode.MODELS_UNIQUE, "models", copy),
    (GuardCode.MODELS_PRESENT, "models", empty),
]


@pytest.mark.parametrize(("code", "name", "change"), FOLDERS)
def test_each_fault_of_the_folders_is_found(
    case: Case, tmp_path: Path, code: GuardCode, name: str, change: Callable[[Path], None]
) -> None:
    change(tmp_path / name)
    assert case.failed().keys() == {code}


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder away takes root")
def test_a_folder_of_another_user_is_found(case: Case, tmp_path: Path) -> None:
    os.chown(tmp_path / "platform", 12345, 12345)
    assert case.failed()[GuardCode.PLATFORM_FOLDER].found == "belongs to user 12345"


def test_folders_that_do_not_exist_yet_are_no_fault(case: Case, tmp_path: Path) -> None:
    case.plan = Plan(tmp_path / "new" / "home")
    assert case.failed() == {}


def test_models_need_memory(case: Case) -> None:
    case.probe.write("proc/meminfo", f"MemAvailable: {384 * 1024} kB\n")
    assert GuardCode.MEMORY in case.failed()
    case.plan = replace(case.plan, models=None)
    assert case.failed() == {}


def test_each_process_holds_all_models(case: Case) -> None:
    two = 384 + 2 * 2 * 100 + 192
    for processes, megabytes, fits in ((1, two, True), (2, two, True), (2, two - 1, False), (3, two, False)):
        case.probe.write("proc/meminfo", f"MemAvailable: {megabytes * 1024} kB\n")
        found = {one.code: one for one in machine_findings(case.probe, case.plan.home, 100 * MIB, processes)}
        assert found[GuardCode.MEMORY].passed is fits
    needed = f"{384 + 3 * 2 * 100 + 2 * 192} MiB for the sealed models of the folder, in each of 3 processes"
    assert found[GuardCode.MEMORY].needed == needed


def test_the_plan_says_how_many_processes(case: Case) -> None:
    case.probe.write("proc/meminfo", f"MemAvailable: {512 * 1024} kB\n")
    assert case.failed() == {}
    case.plan = replace(case.plan, processes=2)
    assert case.failed().keys() == {GuardCode.MEMORY}


def test_an_address_in_use_blocks_and_a_free_one_is_left_free(case: Case, tmp_path: Path) -> None:
    free = UnixAddress(str(tmp_path / "free.sock"))
    case.plan = replace(case.plan, addresses=(free, TcpAddress("127.0.0.1", 0)))
    assert case.failed() == {}
    assert not (tmp_path / "free.sock").exists()
    with socket.create_server(("127.0.0.1", 0)) as other:
        case.plan = replace(case.plan, addresses=(TcpAddress("127.0.0.1", other.getsockname()[1]),))
        failed = case.failed()
    assert failed.keys() == {GuardCode.LISTENER_FREE}
    assert failed[GuardCode.LISTENER_FREE].blocks


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - the address under test
def test_an_address_that_others_can_reach_is_a_warning(case: Case, host: str) -> None:
    case.plan = replace(case.plan, addresses=(TcpAddress(host, 0),))
    failed = case.failed()
    assert failed.keys() == {GuardCode.LISTENER_LOCAL}
    assert not failed[GuardCode.LISTENER_LOCAL].blocks


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(EnclaveSettings(FIRST), tmp_path_factory.mktemp("enclave")).path


def test_a_manifest_whose_files_are_unchanged_passes_with_its_measurement(case: Case, rendered: Path) -> None:
    case.plan = replace(case.plan, manifest=rendered)
    assert case.failed() == {}
    found = {one.code: one.found for one in check(case.plan, case.probe)}[GuardCode.MANIFEST]
    assert "MRENCLAVE" in found


def test_a_manifest_with_a_changed_file_blocks(case: Case, rendered: Path, tmp_path: Path) -> None:
    copy = tmp_path / "enclave.manifest"
    settings = rendered.with_name("enclave.toml")
    (tmp_path / "enclave.toml").write_text(settings.read_text() + "\n# a comment more\n")
    copy.write_text(rendered.read_text().replace(str(settings), str(tmp_path / "enclave.toml")))
    case.plan = replace(case.plan, manifest=copy)
    assert "has changed" in case.failed()[GuardCode.MANIFEST].found


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"[loader]\nentrypoint = 1\n"])
def test_a_manifest_that_is_missing_or_none_blocks(case: Case, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "enclave.manifest"
    if content is not None:
        path.write_bytes(content)
    case.plan = replace(case.plan, manifest=path)
    assert case.failed()[GuardCode.MANIFEST].blocks


def test_what_blocks_is_raised_with_every_code(case: Case) -> None:
    case.probe.version = (3, 9, 0)
    case.probe.free = 0
    with pytest.raises(HostError) as refused:
        require(check(case.plan, case.probe))
    assert refused.value.code is HostCode.CHECK_FAILED
    assert "guard-python" in refused.value.message
    assert "guard-disk" in refused.value.message


def test_the_real_machine_answers_every_question(tmp_path: Path) -> None:
    findings = check(Plan(tmp_path / "home"))
    assert all(one.found and one.needed for one in findings)
    probe = Probe()
    assert probe.memory_available()
    assert probe.disk_free(tmp_path / "not" / "yet")
    assert isinstance(probe.has_memfd_secret(), bool)
    assert probe.landlock_version() >= 0
    assert probe.clock_synchronised() in {True, False, None}
    assert probe.text("nonexistent") is None
