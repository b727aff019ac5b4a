"""Rendering: the manifest of an enclave on this machine, with every file that the process really loads.

The files are found by running the enclave's own warm-up (`--closure`) with the interpreter, module path and environment
that the manifest will have, and hashing what it reports.  The same interpreter, packages and settings in the same
places give the same bytes.

The enclave's interpreter runs no site processing (-S), which would execute .pth files that no manifest lists.  The
folders that site would have found, those of editable installs among them, are looked up here once, and written into
the arguments.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from manifests.files import make_folder, write_atomically
from manifests.gramine.errors import GramineCode, GramineError
from manifests.gramine.manifest import parse_manifest
from manifests.gramine.measure import file_sha256, measure
from manifests.gramine.settings import EnclaveSettings
from manifests.plain import shell_command

MANIFEST_NAME = "enclave.manifest"
SETTINGS_NAME = "enclave.toml"

FLAGS = ("-I", "-S", "-B", "-X", "pycache_prefix=/dev/null")
"""Isolated, without site, writing no bytecode and reading none: what runs is source, which the manifest hashes.

That nothing else is opened is the launcher's to see to: Gramine, or the simulated platform (attestation.sim.confine).
"""
START = "enclave.start"
"""The enclave's first module, which takes the module path from the arguments before "--"."""

LIBOS_URI = "file:/usr/lib/x86_64-linux-gnu/gramine/libsysdb.so"
"""Where Gramine's packages install the LibOS; the simulator has no use for it."""

HELPER_THREADS = 16
"""Threads of an enclave besides serving and compute: main, quoter, loader, watchdog, Gramine's three, and room."""

_CLOSURE_TIMEOUT = 120
_ASK_PATH = "import json, sys; print(json.dumps(sys.path))"
_ASK_START = f"""
import importlib.util, json, sys
print(json.dumps([importlib.util.find_spec({START!r}).origin, *sys.path]))
"""
_ENVIRONMENT = {"LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}


@dataclass(frozen=True)
class RenderedManifest:
    """Where manifest and settings were written, the manifest's exact bytes, and their measurement (32 bytes)."""

    path: Path
    settings_path: Path
    data: bytes
    measurement: bytes
    files: int


def render(settings: EnclaveSettings, directory: Path, *, python: str = sys.executable) -> RenderedManifest:
    """Write `enclave.manifest` and `enclave.toml` into a folder, which is made if needed.

    `python` is the interpreter's path, a virtual environment's for choice; the enclave's packages must be installed
    for it.  Raises GramineError `closure-failed`, and ManifestError where a file cannot be written.
    """
    directory = Path(directory).absolute()
    make_folder(directory)
    settings_path = directory / SETTINGS_NAME
    write_atomically(settings_path, settings.to_toml())
    command = enclave_command(python)
    wanted = [word for name in settings.components for word in ("--component", name)]
    files = sorted({*record_closure((*command, *wanted)), python, str(settings_path)})
    data = tomli_w.dumps(_tables(settings, command, settings_path, files)).encode("utf-8")
    parse_manifest(data)
    path = directory / MANIFEST_NAME
    write_atomically(path, data)
    return RenderedManifest(path, settings_path, data, measure(data), len(files))


def enclave_command(python: str) -> tuple[str, ...]:
    """Return the arguments that start the enclave, up to its own; raises GramineError `closure-failed`.

    They are interpreter, flags, the enclave's first file, and the folders of all modules that are not the
    interpreter's own, in the order in which it would look through them.
    """
    start, *path = _texts((python, "-I", "-B", "-c", _ASK_START))
    own = _texts((python, "-I", "-S", "-c", _ASK_PATH))
    root = str(Path(start).parent.parent)
    folders = [folder for folder in (*path, root) if folder not in own and Path(folder).is_dir()]
    return (python, *FLAGS, start, *dict.fromkeys(folders), "--")


def record_closure(command: Sequence[str]) -> list[str]:
    """Run the enclave's warm-up and return the files that it loaded; raises GramineError `closure-failed`."""
    files = _texts((*command, "--closure"))
    if not all(file.startswith("/") for file in files):
        raise _failed("ValueError", command)
    return files


def _texts(command: Sequence[str]) -> list[str]:
    """Run a command that prints a list of texts as JSON; raises GramineError `closure-failed`."""
    try:
        done = subprocess.run(
            command,
            env=_ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_CLOSURE_TIMEOUT,
            check=True,
        )
        texts = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise _failed(type(error).__name__, command) from None
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise _failed("no list of texts", command)
    return texts


def _failed(found: str, command: Sequence[str]) -> GramineError:
    return GramineError(
        GramineCode.CLOSURE_FAILED,
        "the enclave could not be started to record its files",
        found=found,
        remedy=f"check that this works: {shell_command(command)}",
    )


def _tables(
    settings: EnclaveSettings, command: Sequence[str], settings_path: Path, files: Sequence[str]
) -> dict[str, Any]:
    """Return the manifest's tables, in the order in which they are written."""
    limits = settings.limits
    return {
        "libos": {"entrypoint": command[0]},
        "loader": {
            "entrypoint": {"uri": LIBOS_URI},
            "argv": [*command, "--settings", str(settings_path)],
            "env": _ENVIRONMENT,
            "log_level": "error",
        },
        "fs": {"start_dir": "/", "root": {"type": "tmpfs"}, "mounts": _mounts(files)},
        "sys": {"stack": {"size": "2M"}, "disallow_subprocesses": True, "fds": {"limit": 900}},
        "sgx": {
            "debug": False,
            "edmm_enable": False,
            "enclave_size": f"{_enclave_size(settings) >> 20}M",
            "max_threads": limits.threads * limits.intra_op_threads + HELPER_THREADS,
            "remote_attestation": "dcap",
            "isvprodid": 0,
            "isvsvn": 0,
            "trusted_files": [{"uri": f"file:{path}", "sha256": file_sha256(Path(path)).hex()} for path in files],
        },
    }


def _enclave_size(settings: EnclaveSettings) -> int:
    """Return the least power of two that holds runtime (1 GiB), models twice (plain and loaded), and requests."""
    limits = settings.limits
    wanted = (1 << 30) + 2 * limits.model_memory + 2 * limits.max_pending
    return 1 << (wanted - 1).bit_length()


def _mounts(files: Iterable[str]) -> list[dict[str, str]]:
    """Return one mount for each folder directly below / that a trusted file is in."""
    tops = sorted({"/" + path.split("/")[1] for path in files})
    return [{"type": "chroot", "path": top, "uri": f"file:{top}"} for top in tops]
