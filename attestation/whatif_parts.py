"""What it takes for a refused check to pass, made of the verified evidence: SGX, TDX, TPM, Nitro, Azure, and NVIDIA.

A change is made only where this part of the evidence is what fails.  `attestation.whatif` tries each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from attestation.azure.errors import AzureFinding
from attestation.azure.verified import AzureVerified
from attestation.changes import Change, Floors, Without
from attestation.errors import FindingCode
from attestation.intel.abi import Attributes
from attestation.intel.errors import TdxFinding
from attestation.intel.td_abi import TdAttributes
from attestation.intel.verified import IntelVerified, SgxVerified, TdxVerified
from attestation.nitro.errors import NitroFinding
from attestation.nitro.verify import NitroVerified
from attestation.nvidia.errors import NvidiaFinding
from attestation.nvidia.fwid import FLAGS
from attestation.nvidia.verified import DeviceVerified
from attestation.policy import SgxPolicy, TdxPolicy
from attestation.policy.azure import AzurePolicy
from attestation.policy.nitro import NitroPolicy
from attestation.policy.nvidia import PRODUCTS, NvidiaPolicy
from attestation.policy.schema import Table
from attestation.policy.sgx import OPTIONAL_ATTRIBUTES as SGX_ATTRIBUTES
from attestation.policy.tdx import OPTIONAL_ATTRIBUTES as TDX_ATTRIBUTES
from attestation.policy.tpm import TpmPolicy
from attestation.tpm.checks import replayed
from attestation.tpm.errors import TpmFinding
from attestation.tpm.verified import TpmVerified
from attestation.verified import Verified
from manifests.errors import ErrorCode


def part_changes(code: str, part: Verified, table: Table) -> Iterator[Change]:
    """Yield the changes of the part's own table under which one refused check passes."""
    maker = _MAKERS.get(part.tee, {}).get(code)
    if maker is not None:
        yield from maker(code, part, table)


def quoted(words: Iterable[str]) -> str:
    """Return texts as TOML would have them in a list."""
    return ", ".join(json.dumps(word, ensure_ascii=False) for word in words)


_Maker = Callable[[str, Any, Any], Iterator[Change]]


def _add(code: str, tee: str, field: str, found: Iterable[str | bytes | int], old: tuple[Any, ...]) -> Iterator[Change]:
    """Add to a list what it lacks."""
    new = tuple(value for value in found if value not in old)
    if new:
        yield Change(code, tee, field, new, f"[{tee}] {field}: add {_listed(new)}")


def _remove(code: str, tee: str, field: str, entries: Iterable[int]) -> Iterator[Change]:
    gone = tuple(entries)
    if gone:
        yield Change(code, tee, field, Without(gone), f"[{tee}] {field}: remove {_listed(gone)}")


def _listed(values: Iterable[str | bytes | int]) -> str:
    return ", ".join(
        str(value) if isinstance(value, int) else quoted((value.hex() if isinstance(value, bytes) else value,))
        for value in values
    )


# ------------------------------------------------------------------------------------------------ SGX and TDX


def _components(code: str, part: IntelVerified, table: SgxPolicy | TdxPolicy) -> Iterator[Change]:
    """Lower those floors that a component does not reach."""
    found = part.tcb_components
    lower = {name: found[name] for name, least in table.tcb_components_min if found[name] < least}
    written = ", ".join(f"{name} = {version}" for name, version in lower.items())
    value = Floors(tuple(lower.items()))
    yield Change(code, part.tee, "tcb_components_min", value, f"[{part.tee}.tcb_components_min] {written}")


def _sgx_attributes(code: str, part: SgxVerified, table: SgxPolicy) -> Iterator[Change]:
    """Name the attributes; one that has no name is accepted by no policy."""
    found = [name for name in SGX_ATTRIBUTES if part.quote.body.flags & Attributes[name]]
    yield from _add(code, part.tee, "attributes_allowed", found, table.attributes_allowed)


def _tdx_attributes(code: str, part: TdxVerified, table: TdxPolicy) -> Iterator[Change]:
    found = [name for name in TDX_ATTRIBUTES if part.quote.body.td_attributes & TdAttributes[name]]
    yield from _add(code, part.tee, "attributes_allowed", found, table.attributes_allowed)


def _config_svn(code: str, part: SgxVerified, table: SgxPolicy) -> Iterator[Change]:
    """Name the configuration's version, or lower the floor that stands in its place."""
    field = "config_svn" if table.config_svn_min is None else "config_svn_min"
    found = part.quote.body.config_svn
    yield Change(code, part.tee, field, found, f"[{part.tee}] {field} = {found}")


# -------------------------------------------------------------------------------------- TPM, Nitro and Azure


def _key(code: str, part: TpmVerified, table: TpmPolicy) -> Iterator[Change]:
    yield from _add(code, part.tee, "ak", (part.key,), table.ak)


def _firmware(code: str, part: TpmVerified, _: TpmPolicy) -> Iterator[Change]:
    found = part.quote.attest.firmware_version
    yield Change(code, part.tee, "firmware_min", found, f"[{part.tee}] firmware_min = {found:#018x}")


def _partly_logged(code: str, part: TpmVerified, table: TpmPolicy) -> Iterator[Change]:
    """Name the PCRs that more was extended into than the log has."""
    _, differing = replayed(part, table)
    yield from _add(code, part.tee, "event_log_partial", sorted(differing), table.event_log_partial)


def _unlogged(code: str, part: TpmVerified, table: TpmPolicy) -> Iterator[Change]:
    """Require the log to explain those PCRs alone that it does."""
    matching, differing = replayed(part, table)
    wanted = (index for index in table.event_log_pcrs if index not in matching - differing)
    yield from _remove(code, part.tee, "event_log_pcrs", wanted)


def _module(code: str, part: NitroVerified, table: NitroPolicy) -> Iterator[Change]:
    yield from _add(code, part.tee, "module_ids", (part.document.module_id,), table.module_ids)


def _machine(code: str, part: AzureVerified, table: AzurePolicy) -> Iterator[Change]:
    """Name the machine, where its paravisor does."""
    if part.claims.vm_id:
        yield from _add(code, part.tee, "vm_ids", (part.claims.vm_id,), table.accepted_ids)


# ---------------------------------------------------------------------------------------------------- NVIDIA


def _product(code: str, part: DeviceVerified, table: NvidiaPolicy) -> Iterator[Change]:
    """Name the chip, where a policy can."""
    found = (name for name in PRODUCTS if name == part.product.name)
    yield from _add(code, part.tee, "products", found, table.products)


def _version(field: str) -> _Maker:
    """Name a version, in a list that names some."""

    def make(code: str, part: DeviceVerified, table: NvidiaPolicy) -> Iterator[Change]:
        opaque, old = part.device.report.opaque, getattr(table, f"{field}s")
        found = getattr(opaque, field)
        if old and found is not None:
            yield from _add(code, part.tee, f"{field}s", (found,), old)

    return make


def _security_version(code: str, part: DeviceVerified, table: NvidiaPolicy) -> Iterator[Change]:
    """Lower the floor; a leaf that names no version reaches none."""
    found, least = part.firmware.svn if part.firmware else None, table.fwid_svn_min
    if found is not None and least is not None and found < least:
        yield Change(code, part.tee, "fwid_svn_min", found, f"[{part.tee}] fwid_svn_min = {found}")


def _mode(code: str, part: DeviceVerified, table: NvidiaPolicy) -> Iterator[Change]:
    yield from _add(code, part.tee, "modes", (str(part.device.report.opaque.mode),), table.modes)


def _flags(code: str, part: DeviceVerified, table: NvidiaPolicy) -> Iterator[Change]:
    """Name the flags; one that has no name is accepted by no policy."""
    found = (name for name in FLAGS if part.firmware is not None and name in part.firmware.flags)
    yield from _add(code, part.tee, "flags_allowed", found, table.flags_allowed)


def _tags(code: str, part: DeviceVerified, table: NvidiaPolicy) -> Iterator[Change]:
    yield from _add(code, part.tee, "rim_tags", (rim.tag_id for rim in part.rims), table.rim_tags)


def _record(code: str, part: DeviceVerified, table: NvidiaPolicy) -> Iterator[Change]:
    """Name the whole record, which stands for manifests; once there is such a list, every device has to be on it."""
    yield from _add(code, part.tee, "measurements", (part.measurement,), table.measurements)


_AZURE: Final[Mapping[ErrorCode, _Maker]] = {AzureFinding.VM_ID: _machine}

_MAKERS: Final[Mapping[str, Mapping[Any, _Maker]]] = {
    "sgx": {
        FindingCode.TCB_COMPONENTS: _components,
        FindingCode.ATTRIBUTES: _sgx_attributes,
        FindingCode.CONFIG_SVN: _config_svn,
    },
    "tdx": {FindingCode.TCB_COMPONENTS: _components, TdxFinding.ATTRIBUTES: _tdx_attributes},
    "tpm": {
        TpmFinding.AK: _key,
        TpmFinding.FIRMWARE: _firmware,
        TpmFinding.EVENT_LOG: _partly_logged,
        TpmFinding.EVENT_LOG_PCRS: _unlogged,
    },
    "nitro": {NitroFinding.MODULE_ID: _module},
    "azure-snp": _AZURE,
    "azure-tdx": _AZURE,
    "nvidia": {
        NvidiaFinding.PRODUCT: _product,
        NvidiaFinding.FIRMWARE_SVN: _security_version,
        NvidiaFinding.DRIVER_VERSION: _version("driver_version"),
        NvidiaFinding.VBIOS_VERSION: _version("vbios_version"),
        NvidiaFinding.MODE: _mode,
        NvidiaFinding.FLAGS: _flags,
        NvidiaFinding.RIM_TAG: _tags,
        NvidiaFinding.DRIVER_RIM: _record,
        NvidiaFinding.VBIOS_RIM: _record,
        NvidiaFinding.MEASUREMENTS: _record,
    },
}
"""By TEE and code."""

PART_CODES: Final = frozenset(code for makers in _MAKERS.values() for code in makers)
"""The checks that a change is made for here."""
