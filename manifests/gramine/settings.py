"""The enclave's own settings: a small TOML file that the manifest lists as trusted, and so measures.

    version = 1
    attester = "simulator"          # named here, never probed for
    owners = "first"                # or "any", or a list of owners' public keys in hexadecimal
    components = ["image"]          # optional libraries for steps of models; none by default
    [limits]                        # each is optional; the defaults are those of `Limits`
    threads = 4
    run_memory = 2147483648         # limits that came later are written where they differ from the defaults
    [tpm]                           # with attester = "tpm", and only then
    key = 0x81010002                # persistent handle of the attestation key
    parent = 0x81010001             # persistent handle of its parent, or the hierarchy of a primary key
    bank = "sha256"
    pcrs = [0, 2, 4, 7]
    event_log = true                # evidence carries the firmware's event log; without it, it does not
    [devices]                       # with devices that the enclave hands data to, and only then
    attester = "nvidia"
    manifests = ["/etc/strongroom/rims/driver.xml"]        # NVIDIA's reference values, for clients

Gramine's schema has no room for tables of others, hence a file of its own.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import tomli_w

from manifests.errors import ManifestError
from manifests.fields import check_version
from manifests.files import read_bounded
from manifests.gramine.errors import GramineCode, GramineError
from manifests.signing import check_public_key

MAX_SETTINGS = 64 * 1024
MAX_OWNERS = 16
ATTESTERS = ("simulator", "gramine", "tdx", "snp", "nitro", "tpm")
"""The attesters that exist: the simulator, Gramine's on SGX, the kernel's for TDX and SEV-SNP, Nitro's, a TPM's."""
DEVICE_ATTESTERS = ("nvidia",)
"""Who can ask devices for evidence: NVIDIA's management library, for its GPUs."""
MAX_DEVICE_MANIFESTS = 64
TPM_BANKS = ("sha256", "sha384", "sha512")

COMPONENTS = ("text", "image", "audio", "noise")
"""Optional parts of the enclave, each a library for steps of models: tokenizers, Pillow, soxr, python-dp."""

FIRST = "first"
"""The first valid grant fixes the one owner of this process."""
ANY = "any"
"""Every owner is admitted; claims say so, and a client's policy must allow it."""

_RANGES = {
    "threads": (2, 64),
    "intra_op_threads": (1, 64),
    "max_sessions": (1, 65_536),
    "max_half_open": (1, 4096),
    "max_message": (1 << 16, 1 << 31),
    "max_pending": (1 << 17, 1 << 36),
    "max_models": (1, 1024),
    "model_memory": (1 << 20, 1 << 44),
    "stuck_grace_ms": (10, 600_000),
    "max_client_runs": (0, 64),
    "max_waiting": (0, 65_536),
    "run_memory": (0, 1 << 44),
    "address_space": (0, 1 << 46),
    "telemetry_window": (0, 86_400),
    "telemetry_models": (0, 1),
}


_ALWAYS = tuple(_RANGES)[:8]
"""Limits that every file names."""


@dataclass(frozen=True)
class Limits:
    """Bounds of one enclave process.

    threads: that serve sessions.  intra_op_threads: of ONNX Runtime, within one request.  max_sessions: open at
    once.  max_half_open: handshakes that still wait for their quote.  max_message: bytes of one message.
    max_pending: bytes received and not yet answered, over all sessions.  max_models: loaded at once.
    model_memory: bytes of plain model parts, over all loaded models.  stuck_grace_ms: milliseconds that a run which was
    told to stop may go on before it counts as stuck, and the process ends for it.
    Of the following, 0 sets no limit.  max_client_runs: threads that serve one client at once, all anonymous ones
    together being one.  max_waiting: sessions of one client that may wait for a thread; beyond it, requests are refused
    with a time to come back.  run_memory: bytes that the runtime may take for the requests of one model.
    address_space: bytes of the whole process.  telemetry_window: seconds for which what is told of requests stays the
    same.  telemetry_models: 1 to tell counts by model, whose digests the host knows.
    """

    threads: int = 4
    intra_op_threads: int = 1
    max_sessions: int = 256
    max_half_open: int = 64
    max_message: int = 64 << 20
    max_pending: int = 256 << 20
    max_models: int = 16
    model_memory: int = 4 << 30
    stuck_grace_ms: int = 5000
    max_client_runs: int = 0
    max_waiting: int = 0
    run_memory: int = 2 << 30
    address_space: int = 0
    telemetry_window: int = 60
    telemetry_models: int = 0

    def __post_init__(self) -> None:
        """Refuse a limit that is out of its range; raises GramineError `enclave-settings-invalid`."""
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise _invalid(f"limits.{name}", f"a number between {low} and {high}")
        if self.max_pending < self.max_message:
            raise _invalid("limits.max_pending", "at least max_message")


@dataclass(frozen=True)
class TpmSettings:
    """Which key of the TPM quotes which PCRs.

    key: persistent handle.  parent: persistent handle, or the handle of a hierarchy (0x4000....).  pcrs: ascending.
    event_log: whether evidence carries the firmware's event log.
    """

    key: int
    parent: int
    pcrs: tuple[int, ...]
    bank: str = "sha256"
    event_log: bool = False

    def __post_init__(self) -> None:
        """Refuse what no TPM has; raises GramineError `enclave-settings-invalid`."""
        for name, handle, kinds in (("key", self.key, (0x81,)), ("parent", self.parent, (0x40, 0x81))):
            if type(handle) is not int or handle >> 24 not in kinds:
                raise _invalid(f"tpm.{name}", "a handle such as 0x81010002")
        if self.bank not in TPM_BANKS:
            raise _invalid("tpm.bank", f"one of {', '.join(TPM_BANKS)}")
        if type(self.event_log) is not bool:
            raise _invalid("tpm.event_log", "true or false")
        known = all(type(index) is int and 0 <= index < 24 for index in self.pcrs)
        if not self.pcrs or not known or list(self.pcrs) != sorted(set(self.pcrs)):
            raise _invalid("tpm.pcrs", "different numbers from 0 to 23 in ascending order")


@dataclass(frozen=True)
class DeviceSettings:
    """Which devices the enclave shows besides itself.

    attester: who asks them.  manifests: absolute paths of the reference values that go with what they answer.
    """

    attester: str
    manifests: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what nobody can ask; raises GramineError `enclave-settings-invalid`."""
        if self.attester not in DEVICE_ATTESTERS:
            raise _invalid("devices.attester", f"one of {', '.join(DEVICE_ATTESTERS)}")
        paths = self.manifests
        usable = all(isinstance(path, str) and path.startswith("/") and "\0" not in path for path in paths)
        if not usable or len(set(paths)) != len(paths) or len(paths) > MAX_DEVICE_MANIFESTS:
            raise _invalid("devices.manifests", f"at most {MAX_DEVICE_MANIFESTS} different absolute paths")


@dataclass(frozen=True)
class EnclaveSettings:
    """The settings: attester's name, admitted owners ("first", "any", or ascending 32-byte keys), and limits.

    tpm: with the attester "tpm", and only then.  devices: with devices that the enclave hands data to.
    """

    owners: tuple[bytes, ...] | str
    attester: str = "simulator"
    limits: Limits = field(default_factory=Limits)
    tpm: TpmSettings | None = None
    devices: DeviceSettings | None = None
    components: tuple[str, ...] = ()
    """Optional libraries that the enclave has, in the order of COMPONENTS."""

    def __post_init__(self) -> None:
        """Refuse values that mean nothing; raises GramineError `enclave-settings-invalid`."""
        if self.attester not in ATTESTERS:
            raise _invalid("attester", f"one of {', '.join(ATTESTERS)}")
        if (self.attester == "tpm") != (self.tpm is not None):
            raise _invalid("tpm", 'a table with attester = "tpm", and only then')
        if isinstance(self.owners, str):
            if self.owners not in {FIRST, ANY}:
                raise _invalid("owners", "'first', 'any' or a list of keys")
        elif not 0 < len(self.owners) <= MAX_OWNERS or list(self.owners) != sorted(set(self.owners)):
            raise _invalid("owners", f"1 to {MAX_OWNERS} different keys in ascending order")
        if list(self.components) != [name for name in COMPONENTS if name in self.components]:
            raise _invalid("components", f"different ones of {', '.join(COMPONENTS)}, in this order")

    def to_toml(self) -> bytes:
        """Return the settings file."""
        owners = self.owners if isinstance(self.owners, str) else [key.hex() for key in self.owners]
        tables = {"version": 1, "attester": self.attester, "owners": owners, "limits": _limits_table(self.limits)}
        if self.components:
            tables["components"] = list(self.components)
        if self.tpm is not None:
            tables["tpm"] = {**asdict(self.tpm), "pcrs": list(self.tpm.pcrs)}
        if self.devices is not None:
            tables["devices"] = {"attester": self.devices.attester, "manifests": list(self.devices.manifests)}
        return tomli_w.dumps(tables).encode("utf-8")


def parse_settings(data: bytes) -> EnclaveSettings:
    """Parse a settings file; raises GramineError `enclave-settings-invalid`, or ManifestError `version-unsupported`."""
    try:
        tables = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise _invalid("the file", "TOML") from None
    check_version(tables, "the settings file")
    unknown = tables.keys() - {"version", "attester", "owners", "limits", "tpm", "devices", "components"}
    if unknown or not tables.keys() >= {"version", "attester", "owners"}:
        raise _invalid("the file", "version, attester, owners, limits, tpm, devices and components, and nothing else")
    if type(tables["version"]) is not int or tables["version"] != 1:
        raise _invalid("version", "1")
    return EnclaveSettings(
        owners=_owners(tables["owners"]),
        attester=_attester(tables["attester"]),
        limits=parse_limits(tables.get("limits", {})),
        tpm=_tpm(tables["tpm"]) if "tpm" in tables else None,
        devices=_devices(tables["devices"]) if "devices" in tables else None,
        components=_components(tables.get("components", [])),
    )


def load_settings(path: Path) -> EnclaveSettings:
    """Read and parse a settings file; raises GramineError or ManifestError `file-unavailable`."""
    return parse_settings(read_bounded(path, MAX_SETTINGS))


def _invalid(name: str, expected: str) -> GramineError:
    return GramineError(GramineCode.SETTINGS_INVALID, f"setting {name} is not usable", expected=expected)


def _attester(value: object) -> str:
    if not isinstance(value, str):
        raise _invalid("attester", "a name")
    return value


def _owners(value: object) -> tuple[bytes, ...] | str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise _invalid("owners", "'first', 'any' or a list of keys")
    return tuple(sorted(_owner(item) for item in value))


def _owner(value: object) -> bytes:
    try:
        return check_public_key(bytes.fromhex(str(value)))
    except (ValueError, ManifestError):
        raise _invalid("owners", "Ed25519 public keys as 64 hexadecimal digits") from None


def _components(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _invalid("components", "a list of names")
    return tuple(value)


def _tpm(value: Any) -> TpmSettings:
    if not isinstance(value, dict) or not {"key", "parent", "pcrs"} <= value.keys() <= {
        "key",
        "parent",
        "pcrs",
        "bank",
        "event_log",
    }:
        raise _invalid("tpm", "key, parent, pcrs, bank and event_log")
    if not isinstance(value["pcrs"], list):
        raise _invalid("tpm.pcrs", "a list")
    return TpmSettings(**{**value, "pcrs": tuple(value["pcrs"])})


def _devices(value: Any) -> DeviceSettings:
    if not isinstance(value, dict) or not {"attester"} <= value.keys() <= {"attester", "manifests"}:
        raise _invalid("devices", "attester and manifests")
    manifests = value.get("manifests", [])
    if not isinstance(value["attester"], str) or not isinstance(manifests, list):
        raise _invalid("devices", "a name and a list")
    if not all(isinstance(path, str) for path in manifests):
        raise _invalid("devices.manifests", "a list of paths")
    return DeviceSettings(value["attester"], tuple(manifests))


def _limits_table(limits: Limits) -> dict[str, Any]:
    """Return the table as files have it: the first limits always, later ones where they are not the default."""
    return {name: value for name, value in asdict(limits).items() if name in _ALWAYS or value != getattr(Limits, name)}


def parse_limits(value: Any) -> Limits:
    """Read the table `limits`; raises GramineError `enclave-settings-invalid`."""
    if not isinstance(value, dict) or not value.keys() <= {item.name for item in fields(Limits)}:
        raise _invalid("limits", ", ".join(_RANGES))
    return Limits(**value)
