"""Policies from TOML: strict, closed, and never vacuous.  The form is described in docs/policy.md."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attestation.errors import PolicyCode, PolicyError
from attestation.policy.model import TEE_TABLES, VERSION, Policy
from attestation.policy.schema import read_table, refuse
from attestation.policy.tables import EvidencePolicy, ReleasePolicy, ServicePolicy, refuse_roots
from attestation.roots import Roots, fingerprint_of_simulated
from manifests import fields
from manifests.errors import Fault, ManifestError
from manifests.files import concerning, read_bounded

MAX_POLICY = 256 * 1024
MAX_ROOTS = 16
"""A simulated platform has one root for each vendor that it plays."""


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
    if policy.evidence.simulation:
        return Roots.simulated_fingerprints(*policy.evidence.simulated_root)
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
    fields.closed_map(value, "policy", ("version", "evidence"), (*TEE_TABLES, "service", "release"))
    named = [tee for tee in TEE_TABLES if tee in value]
    if not named:
        refuse(
            PolicyCode.POLICY_VACUOUS,
            "no table says what code is accepted",
            remedy=f"add one of {', '.join(f'[{tee}]' for tee in TEE_TABLES)}",
        )
    return Policy(
        evidence=read_table(EvidencePolicy, _with_roots(value["evidence"], base), "evidence"),
        tables={tee: read_table(TEE_TABLES[tee], value[tee], tee) for tee in named},
        service=read_table(ServicePolicy, value["service"], "service") if "service" in value else None,
        release=read_table(ReleasePolicy, value["release"], "release") if "release" in value else None,
    )


def _with_roots(table: object, base: Path) -> object:
    """Return the [evidence] table with simulated roots as SHA-256, which a policy names so or by their files."""
    if not isinstance(table, dict) or "simulated_root" not in table:
        return table
    if table.get("simulation", False) is False:
        refuse_roots(simulation=False)
    named = table["simulated_root"]
    names = fields.list_of(named, "simulated_root", MAX_ROOTS) if isinstance(named, list) else [named]
    return {**table, "simulated_root": [_fingerprint(name, base) for name in names]}


def _fingerprint(name: object, base: Path) -> str:
    text = fields.text(name, "simulated_root", 4096)
    if re.fullmatch(r"[0-9a-f]{64}", text):
        return text
    return fingerprint_of_simulated(read_bounded(base / text, MAX_POLICY)).hex()
