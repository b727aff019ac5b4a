"""A rendered manifest, parsed strictly: what is started, from which files, in which sizes.

Only options that this project knows are accepted, and none that Gramine itself calls insecure, so that a manifest
that parses can be run.  Paths are absolute, or relative to the folder that the launcher names.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from manifests.gramine import options
from manifests.gramine.errors import GramineCode, GramineError

MAX_MANIFEST = 16 * 1024 * 1024
"""Fifty thousand trusted files; Gramine itself would need minutes for more."""
MAX_FILES = 60_000
MAX_TEXTS = 1024
"""Bound on arguments, variables and mounts."""

_URI = "file:"
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_MOUNT_TYPES = ("chroot", "tmpfs")
"""Encrypted mounts and shared memory are not used yet, and so not accepted."""

_STEERING = ("LD_", "PYTHON", "OMP_TOOL_LIBRARIES", "SSL_CERT_", "GCONV_PATH", "GLIBC_TUNABLES")
"""Variables that would load code or trust from elsewhere; the interpreter's options are arguments, which show."""


@dataclass(frozen=True)
class TrustedFile:
    """A file that the enclave may read: its path (absolute or relative), and SHA-256 of its content (32 bytes)."""

    path: str
    sha256: bytes


@dataclass(frozen=True)
class Mount:
    """A host folder or file at `source` that the enclave sees at `path`; a tmpfs has no source."""

    path: str
    source: str | None


@dataclass(frozen=True)
class EnclaveManifest:
    """What a launcher enforces.  Sizes are bytes; `env` holds every variable that the process will have."""

    entrypoint: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    start_dir: str
    mounts: tuple[Mount, ...]
    trusted_files: tuple[TrustedFile, ...]
    stack_size: int
    enclave_size: int
    max_threads: int
    max_descriptors: int
    remote_attestation: str
    isv_prod_id: int
    isv_svn: int
    edmm: bool
    exinfo: bool
    cpu_features: Mapping[str, str]
    """Of avx, avx512, amx, mpx and pkru: "unspecified", "disabled" or "required"."""


def parse_manifest(data: bytes) -> EnclaveManifest:
    """Parse a rendered manifest.

    Raises GramineError `enclave-manifest-malformed`, `enclave-option-unknown`, `enclave-option-refused` or
    `enclave-option-invalid`, and nothing else.
    """
    values = options.flatten(_tables(data))
    if values.get("sgx.debug"):
        raise GramineError(GramineCode.OPTION_REFUSED, "option sgx.debug is refused: the host could read everything")
    if values.get("sgx.enable_stats"):
        raise GramineError(GramineCode.OPTION_REFUSED, "option sgx.enable_stats is refused: it is for debug enclaves")
    options.choice(values, "sgx.file_check_policy", ("strict",))
    options.choice(values, "loader.log_level", ("error", "none"))
    if values.get("fs.root.type") != "tmpfs":
        raise options.invalid("fs.root.type", "tmpfs, or the host's working directory becomes /", "another or none")
    manifest = EnclaveManifest(
        entrypoint=_absolute(values.get("libos.entrypoint"), "libos.entrypoint"),
        argv=_texts(values.get("loader.argv"), "loader.argv"),
        env=_environment(values.get("loader.env", {})),
        start_dir=_absolute(values.get("fs.start_dir", "/"), "fs.start_dir"),
        mounts=_mounts(values.get("fs.mounts", [])),
        trusted_files=_trusted_files(values.get("sgx.trusted_files")),
        stack_size=options.size(values, "sys.stack.size", "256K"),
        enclave_size=_enclave_size(values),
        max_threads=options.count(values, "sgx.max_threads", 4, 4, 4096),
        max_descriptors=options.count(values, "sys.fds.limit", 900, 16, 1 << 20),
        remote_attestation=options.choice(values, "sgx.remote_attestation", ("none", "dcap")),
        isv_prod_id=options.count(values, "sgx.isvprodid", 0, 0, 0xFFFF),
        isv_svn=options.count(values, "sgx.isvsvn", 0, 0, 0xFFFF),
        edmm=bool(values.get("sgx.edmm_enable", False)),
        exinfo=bool(values.get("sgx.use_exinfo", False)),
        cpu_features=_cpu_features(values),
    )
    _check_entrypoint(manifest)
    return manifest


def _tables(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_MANIFEST:
        raise GramineError(GramineCode.MANIFEST_MALFORMED, "the manifest is too large", expected=MAX_MANIFEST)
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise GramineError(
            GramineCode.MANIFEST_MALFORMED, "the manifest is not TOML", found=type(error).__name__
        ) from None


def _check_entrypoint(manifest: EnclaveManifest) -> None:
    """Refuse a manifest whose interpreter is not hashed, or would be told another name than its own."""
    if manifest.argv[0] != manifest.entrypoint:
        raise options.invalid("loader.argv", f"{manifest.entrypoint} first", manifest.argv[0])
    if manifest.entrypoint not in {file.path for file in manifest.trusted_files}:
        raise options.invalid("libos.entrypoint", "one of the trusted files", manifest.entrypoint)


def _cpu_features(values: Mapping[str, Any]) -> Mapping[str, str]:
    """Return what is said of each feature; only the first three may be left to the processor."""
    features = {
        name: options.choice(values, f"sgx.cpu_features.{name}", ("unspecified", "disabled", "required"))
        for name in ("avx", "avx512", "amx")
    }
    for name in ("mpx", "pkru"):
        features[name] = options.choice(values, f"sgx.cpu_features.{name}", ("disabled", "required"))
    return MappingProxyType(features)


def _enclave_size(values: Mapping[str, Any]) -> int:
    size = options.size(values, "sgx.enclave_size", "256M")
    if size < 1 << 20 or size & (size - 1):
        raise options.invalid("sgx.enclave_size", "a power of two of at least 1M", size)
    return size


def _absolute(value: object, path: str) -> str:
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable():
        raise options.invalid(path, "an absolute path", value)
    return value


def _texts(value: object, path: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_TEXTS:
        raise options.invalid(path, f"a list of 1 to {MAX_TEXTS} texts", type(value).__name__)
    for item in value:
        if not isinstance(item, str) or "\0" in item:
            raise options.invalid(path, "texts without NUL", type(item).__name__)
    return tuple(value)


def _environment(value: Mapping[str, object]) -> Mapping[str, str]:
    if len(value) > MAX_TEXTS:
        raise options.invalid("loader.env", f"at most {MAX_TEXTS} variables", len(value))
    for name, content in value.items():
        path = f"loader.env.{name}"
        if not isinstance(content, str):  # a table: {value=...}, or {passthrough=true}, which is the host's choice
            raise GramineError(GramineCode.OPTION_REFUSED, f"option {path} is refused: only fixed texts are accepted")
        if name.startswith(_STEERING):
            raise GramineError(GramineCode.OPTION_REFUSED, f"option {path} is refused: it steers what is loaded")
        if not _VARIABLE.fullmatch(name) or "\0" in content:
            raise options.invalid("loader.env", "names of letters, digits and _", name)
    return MappingProxyType({name: str(content) for name, content in value.items()})


def _mounts(value: list[Any]) -> tuple[Mount, ...]:
    if len(value) > MAX_TEXTS:
        raise options.invalid("fs.mounts", f"at most {MAX_TEXTS} mounts", len(value))
    return tuple(_mount(item) for item in value)


def _mount(item: object) -> Mount:
    if not isinstance(item, dict) or not item.keys() <= {"path", "uri", "type"}:
        raise options.invalid("fs.mounts", "tables of path, uri and type", item)
    kind = item.get("type", "chroot")
    if kind not in _MOUNT_TYPES:
        raise options.invalid("fs.mounts.type", _MOUNT_TYPES, kind)
    path = _absolute(item.get("path"), "fs.mounts.path")
    if path == "/":
        raise options.invalid("fs.mounts.path", "another path than /", path)
    if kind == "tmpfs":
        if "uri" in item:
            raise options.invalid("fs.mounts.uri", "no uri for a tmpfs", item["uri"])
        return Mount(path, None)
    return Mount(path, _file(item.get("uri"), "fs.mounts.uri"))


def _file(uri: object, path: str) -> str:
    if not isinstance(uri, str) or not uri.startswith(_URI) or len(uri) <= len(_URI) or "\0" in uri:
        raise options.invalid(path, "a file: uri", uri)
    return uri.removeprefix(_URI)


def _trusted_files(value: object) -> tuple[TrustedFile, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_FILES:
        raise options.invalid("sgx.trusted_files", f"a list of 1 to {MAX_FILES} files", type(value).__name__)
    files = tuple(_trusted_file(item) for item in value)
    if len({file.path for file in files}) != len(files):
        raise options.invalid("sgx.trusted_files", "each file once", "a file twice")
    return files


def _trusted_file(item: object) -> TrustedFile:
    if not isinstance(item, dict) or item.keys() != {"uri", "sha256"}:
        raise options.invalid("sgx.trusted_files", "rendered entries of uri and sha256", item)
    path = _file(item["uri"], "sgx.trusted_files.uri")
    if path.endswith("/"):
        raise options.invalid("sgx.trusted_files.uri", "files, not folders", path)
    digest = item["sha256"]
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise options.invalid("sgx.trusted_files.sha256", "64 lower-case hexadecimal digits", digest)
    return TrustedFile(path, bytes.fromhex(digest))
