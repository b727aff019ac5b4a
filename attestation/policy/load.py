"""Policies from TOML: strict, closed, and never vacuous.  The form is described in docs/policy.md."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from attestation.errors import PolicyCode, PolicyError
from attestation.intel.tcb import TcbStatus
from attestation.policy.model import (
    KNOWN_XFRM,
    OPTIONAL_ATTRIBUTES,
    VERSION,
    EvidencePolicy,
    Policy,
    ReleasePolicy,
    ServicePolicy,
    SgxPolicy,
)
from attestation.roots import Roots, fingerprint_of_simulated
from manifests import fields, signing
from manifests.errors import Fault, ManifestError
from manifests.files import concerning, read_bounded

MAX_POLICY = 256 * 1024
MAX_ITEMS = 4096
"""Room for one entry per machine of a large fleet."""

_U16 = 0xFFFF
_U32 = 0xFFFFFFFF
_U64 = (1 << 64) - 1


def load_policy(source: Path | str | bytes | Mapping[str, Any], *, base: Path | None = None) -> Policy:
    """Load a policy: from a file (Path or str), from TOML text (bytes), or from a map of the same shape.

    A relative `simulated_root` is taken from `base`, by default the file's folder or the working directory.
    Raises PolicyError, or ManifestError where a file cannot be read.
    """
    if isinstance(source, Path | str):
        path = Path(source)
        with concerning(path, "correct the policy; docs/policy.md explains every field"):
            return load_policy(read_bounded(path, MAX_POLICY), base=base or path.parent)
    if isinstance(source, bytes):
        source = _parse_toml(source)
    try:
        return _policy(dict(source), base or Path())
    except ManifestError as error:
        if error.code.fault is not Fault.MALFORMED:
            raise
        raise PolicyError(
            PolicyCode.POLICY_MALFORMED, f"the policy: {error.message}", expected=error.expected, found=error.found
        ) from None


def roots_for(policy: Policy) -> Roots:
    """Return the roots that a policy demands: the vendors', or the one simulated platform that it names."""
    if policy.evidence.simulated_root is not None:
        return Roots.simulated_fingerprint(policy.evidence.simulated_root)
    return Roots.vendor()


def _parse_toml(text: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise PolicyError(PolicyCode.POLICY_MALFORMED, f"the policy is not TOML: {error}") from None


def _policy(value: dict[str, Any], base: Path) -> Policy:
    version = value.get("version")
    if type(version) is not int or version != VERSION:  # TOML's true and 1.0 are equal to 1, and no version
        later = type(version) is int and version > VERSION
        raise PolicyError(
            PolicyCode.POLICY_VERSION,
            "the policy's version is unknown",
            expected=f"version = {VERSION}",
            found=version,
            remedy="use a newer release" if later else f"write version = {VERSION}",
        )
    fields.closed_map(value, "policy", ("version", "evidence", "sgx"), ("service", "release"))
    return Policy(
        evidence=_evidence(_table(EvidencePolicy, value["evidence"], "evidence"), base),
        sgx=_sgx(_table(SgxPolicy, value["sgx"], "sgx")),
        service=_service(_table(ServicePolicy, value["service"], "service")) if "service" in value else None,
        release=_release(_table(ReleasePolicy, value["release"], "release")) if "release" in value else None,
    )


def _table(kind: type[Any], value: object, name: str) -> dict[str, Any]:
    """Return a table whose keys are fields of the dataclass; what it lacks takes the field's default."""
    return fields.closed_map(value, f"[{name}]", (), [item.name for item in dataclasses.fields(kind)])


def _evidence(table: dict[str, Any], base: Path) -> EvidencePolicy:
    statuses = _texts(table, "tcb_status", least=1)
    unknown = set(statuses) - {str(status) for status in TcbStatus}
    if unknown:
        _refuse(PolicyCode.POLICY_MALFORMED, f"tcb_status knows no {min(unknown)!r}")
    if TcbStatus.REVOKED in statuses:
        _refuse(PolicyCode.POLICY_CONTRADICTION, "a revoked TCB is accepted by no policy")
    simulation = fields.of_type(table.get("simulation", False), "simulation", bool)
    return EvidencePolicy(
        tcb_status=statuses,
        simulation=simulation,
        simulated_root=_simulated_root(table, base, simulation=simulation),
        advisories_accepted=_texts(table, "advisories_accepted"),
        max_collateral_age=_optional_number(table, "max_collateral_age", 1),
        tcb_evaluation_min=_optional_number(table, "tcb_evaluation_min", 0),
    )


def _simulated_root(table: dict[str, Any], base: Path, *, simulation: bool) -> bytes | None:
    """Return the SHA-256 of the simulated root, which the policy names by itself or by its certificate's file."""
    if simulation != ("simulated_root" in table):
        _refuse(
            PolicyCode.POLICY_VACUOUS if simulation else PolicyCode.POLICY_CONTRADICTION,
            "simulation = true and simulated_root need each other",
            remedy='name the platform: simulated_root = "PLATFORM/root.pem", or the SHA-256 of its certificate',
        )
    if not simulation:
        return None
    name = fields.text(table["simulated_root"], "simulated_root", 4096)
    if re.fullmatch(r"[0-9a-f]{64}", name):
        return bytes.fromhex(name)
    return fingerprint_of_simulated(read_bounded(base / name, MAX_POLICY))


def _sgx(table: dict[str, Any]) -> SgxPolicy:
    policy = SgxPolicy(
        mrenclave=_hexes(table, "mrenclave", 32),
        mrsigner=_hexes(table, "mrsigner", 32),
        isv_prod_id=_optional_number(table, "isv_prod_id", 0, _U16),
        isv_svn_min=fields.number(table.get("isv_svn_min", 0), "isv_svn_min", 0, _U16),
        debug=fields.of_type(table.get("debug", False), "debug", bool),
        provision_key=fields.of_type(table.get("provision_key", False), "provision_key", bool),
        einittoken_key=fields.of_type(table.get("einittoken_key", False), "einittoken_key", bool),
        attributes_allowed=_texts(table, "attributes_allowed"),
        xfrm_allowed=_mask(table, "xfrm_allowed", KNOWN_XFRM, _U64),
        miscselect_allowed=_mask(table, "miscselect_allowed", 0, _U32),
        cet_attributes_allowed=_mask(table, "cet_attributes_allowed", 0, 0xFF),
        config_id=_hexes(table, "config_id", 64) or (bytes(64),),
        config_svn=fields.number(table.get("config_svn", 0), "config_svn", 0, _U16),
        isv_ext_prod_id=_hex(table.get("isv_ext_prod_id", "00" * 16), "isv_ext_prod_id", 16),
        isv_family_id=_hex(table.get("isv_family_id", "00" * 16), "isv_family_id", 16),
        fmspc=_hexes(table, "fmspc", 6),
        ppid=_hexes(table, "ppid", 16),
    )
    _check_sgx(policy, table)
    return policy


def _check_sgx(policy: SgxPolicy, table: dict[str, Any]) -> None:
    if not policy.mrenclave and not policy.mrsigner:
        _refuse(PolicyCode.POLICY_VACUOUS, "[sgx] names no enclave", remedy="list mrenclave, or mrsigner")
    if policy.mrsigner and not {"isv_prod_id", "isv_svn_min"} <= table.keys():
        _refuse(
            PolicyCode.POLICY_VACUOUS,
            "mrsigner admits everything that its holder ever signed",
            remedy="set isv_prod_id and isv_svn_min beside it",
        )
    unknown = set(policy.attributes_allowed) - set(OPTIONAL_ATTRIBUTES)
    if unknown:
        _refuse(PolicyCode.POLICY_MALFORMED, f"attributes_allowed takes {', '.join(OPTIONAL_ATTRIBUTES)}")


def _service(table: dict[str, Any]) -> ServicePolicy:
    owners = _hexes(table, "owners", signing.KEY_SIZE)
    if not owners:
        _refuse(PolicyCode.POLICY_VACUOUS, "[service] names no owner", remedy="list the owners whose models you use")
    return ServicePolicy(
        owners=tuple(signing.check_public_key(owner) for owner in owners),
        allow_any_owner=fields.of_type(table.get("allow_any_owner", False), "allow_any_owner", bool),
        models=_hexes(table, "models", 64),
        max_broker_age=fields.number(table.get("max_broker_age", 3600), "max_broker_age", 1),
        min_epoch=fields.number(table.get("min_epoch", 0), "min_epoch", 0),
    )


def _release(table: dict[str, Any]) -> ReleasePolicy:
    models = _texts(table, "models", least=1)
    if "*" in models and len(models) > 1:
        _refuse(PolicyCode.POLICY_CONTRADICTION, 'models is a list of names, or the single entry "*"')
    return ReleasePolicy(
        models=models,
        lease=fields.number(table.get("lease"), "lease", 1),
        heartbeat_seconds=fields.number(table.get("heartbeat_seconds", 30), "heartbeat_seconds", 1, 86400),
        min_epoch=fields.number(table.get("min_epoch", 0), "min_epoch", 0),
        max_enclaves=fields.number(table.get("max_enclaves", 1), "max_enclaves", 1),
        older_epochs=fields.number(table.get("older_epochs", 0), "older_epochs", 0),
    )


def _texts(table: dict[str, Any], name: str, *, least: int = 0) -> tuple[str, ...]:
    items = fields.list_of(table.get(name, []), name, MAX_ITEMS)
    if len(items) < least:
        _refuse(PolicyCode.POLICY_VACUOUS, f"{name} must be named; an empty list accepts nothing")
    return tuple(sorted({fields.text(item, name, 128) for item in items}))


def _hexes(table: dict[str, Any], name: str, size: int) -> tuple[bytes, ...]:
    """Return the byte strings of a list; where it is absent: none, and where it is present it must not be empty."""
    items = fields.list_of(table.get(name, []), name, MAX_ITEMS)
    if name in table and not items:
        _refuse(PolicyCode.POLICY_VACUOUS, f"{name} is an empty list", remedy="name what is accepted, or leave it out")
    return tuple(sorted({_hex(item, name, size) for item in items}))


def _hex(value: object, name: str, size: int) -> bytes:
    text = fields.of_type(value, name, str)
    if re.fullmatch(r"[0-9a-f]*", text) is None or len(text) != 2 * size:
        _refuse(PolicyCode.POLICY_MALFORMED, f"{name} takes {size} bytes as {2 * size} lower-case hex digits")
    return bytes.fromhex(text)


def _optional_number(table: dict[str, Any], name: str, low: int, high: int = fields.U63) -> int | None:
    return fields.number(table[name], name, low, high) if name in table else None


def _mask(table: dict[str, Any], name: str, default: int, high: int) -> int:
    return fields.number(table.get(name, default), name, 0, high)


def _refuse(code: PolicyCode, message: str, *, remedy: str | None = None) -> NoReturn:
    raise PolicyError(code, f"the policy: {message}", remedy=remedy)
