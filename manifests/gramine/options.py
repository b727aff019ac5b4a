"""The options of a Gramine manifest that this project knows, and those that it refuses by name.

Sources: Gramine's manifest-syntax.rst (v1.9), the schema of its manifest checker, and the options for which its own
LibOS prints the insecure banner.  An option in neither table is unknown and refused too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from manifests.gramine.errors import GramineCode, GramineError

KNOWN: Mapping[str, type] = {
    "loader.entrypoint.uri": str,
    "loader.entrypoint.sha256": str,
    "loader.argv": list,
    "loader.env": dict,
    "loader.log_level": str,
    "libos.entrypoint": str,
    "fs.root.type": str,
    "fs.start_dir": str,
    "fs.mounts": list,
    "sys.stack.size": str,
    "sys.brk.max_size": str,
    "sys.fds.limit": int,
    "sys.disallow_subprocesses": bool,
    "sys.enable_sigterm_injection": bool,
    "sgx.enclave_size": str,
    "sgx.max_threads": int,
    "sgx.edmm_enable": bool,
    "sgx.debug": bool,
    "sgx.remote_attestation": str,
    "sgx.isvprodid": int,
    "sgx.isvsvn": int,
    "sgx.use_exinfo": bool,
    "sgx.cpu_features.avx": str,
    "sgx.cpu_features.avx512": str,
    "sgx.cpu_features.amx": str,
    "sgx.cpu_features.mpx": str,
    "sgx.cpu_features.pkru": str,
    "sgx.enable_stats": bool,
    "sgx.file_check_policy": str,
    "sgx.trusted_files": list,
}
"""Option path and the TOML type of its value."""

_HOST_CONTROLS = "the host would choose what the enclave runs"
_REMOVED = "Gramine has removed it"

REFUSED: Mapping[str, str] = {
    "loader.insecure__use_cmdline_argv": _HOST_CONTROLS,
    "loader.insecure__use_host_env": _HOST_CONTROLS,
    "loader.argv_src_file": "the file is read without its hash being checked",
    "loader.env_src_file": "the file is read without its hash being checked",
    "loader.insecure__disable_aslr": "addresses become predictable",
    "loader.log_file": "a log on the host may carry content",
    "fs.insecure__keys": "keys in a public manifest are no keys",
    "sys.insecure__allow_eventfd": "the host could alter the enclave's event counters",
    "sys.experimental__enable_flock": "locks would be the host's word",
    "sys.allowed_ioctls": "devices are the host's",
    "sys.ioctl_structs": "devices are the host's",
    "sys.debug__mock_syscalls": "it is for debugging",
    "sgx.allowed_files": "allowed files are unprotected, and win over trusted ones",
    "sgx.insecure__rpc_thread_num": "exitless calls leak stale memory (CVE-2022-21233)",
    "sgx.insecure__allow_memfaults_without_exinfo": "faults would be the host's word",
    "sgx.profile": "it is for debug enclaves",
    "sgx.vtune_profile": "it is for debug enclaves",
    "loader.preload": _REMOVED,
    "loader.exec": _REMOVED,
    "loader.argv0_override": _REMOVED,
    "loader.pal_internal_mem_size": _REMOVED,
    "fs.mount": _REMOVED,
    "sgx.thread_num": _REMOVED,
    "sgx.rpc_thread_num": _REMOVED,
    "sgx.nonpie_binary": _REMOVED,
    "sgx.protected_files": _REMOVED,
    "sgx.insecure__protected_files_key": _REMOVED,
    "sgx.require_avx": _REMOVED,
    "sgx.require_avx512": _REMOVED,
    "sgx.require_amx": _REMOVED,
    "sgx.require_mpx": _REMOVED,
    "sgx.require_pkru": _REMOVED,
    "sgx.require_exinfo": _REMOVED,
    "sgx.ra_client_spid": _REMOVED,
    "sgx.ra_client_linkable": _REMOVED,
    "sgx.sigfile": _REMOVED,
}
"""Option path (or the table that holds it) and why it is refused."""

_SIZE = re.compile(r"(0x[0-9a-fA-F]{1,15}|[0-9]{1,15})([KMG]?)", re.ASCII)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def flatten(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest's options by path, each known and of its type.

    Raises GramineError `enclave-option-refused`, `enclave-option-unknown` or `enclave-option-invalid`.
    """
    options = dict(_leaves(tables, ""))
    for path, value in options.items():
        if type(value) is not KNOWN[path]:
            raise invalid(path, KNOWN[path].__name__, type(value).__name__)
    return options


def _leaves(tables: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tables.items():
        path = f"{prefix}{key}"
        if path in REFUSED:
            raise GramineError(GramineCode.OPTION_REFUSED, f"option {path} is refused: {REFUSED[path]}", found=path)
        if path in KNOWN:
            yield path, value
        elif isinstance(value, dict) and any(known.startswith(path + ".") for known in (*KNOWN, *REFUSED)):
            yield from _leaves(value, path + ".")
        else:
            raise GramineError(GramineCode.OPTION_UNKNOWN, f"option {path} is not known", found=path)


def invalid(path: str, expected: object, found: object) -> GramineError:
    """Return the error for an option whose value is not usable."""
    return GramineError(
        GramineCode.OPTION_INVALID, f"option {path} is not usable", expected=expected, found=str(found)[:200]
    )


def size(options: Mapping[str, Any], path: str, default: str) -> int:
    """Return a size option in bytes; raises GramineError `enclave-option-invalid`."""
    value = options.get(path, default)
    match = _SIZE.fullmatch(value)
    if match is None:
        raise invalid(path, "a size such as 512M", value)
    return int(match[1], 0 if match[1].startswith("0x") else 10) * _UNITS[match[2]]


def count(options: Mapping[str, Any], path: str, default: int, low: int, high: int) -> int:
    """Return a counting option within its closed range; raises GramineError `enclave-option-invalid`."""
    value = int(options.get(path, default))
    if not low <= value <= high:
        raise invalid(path, f"between {low} and {high}", value)
    return value


def choice(options: Mapping[str, Any], path: str, admitted: tuple[str, ...]) -> str:
    """Return a text option that has one of a few values, the first of which is its default."""
    value = str(options.get(path, admitted[0]))
    if value not in admitted:
        raise invalid(path, admitted, value)
    return value
