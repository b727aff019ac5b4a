"""Policies from TOML: strict, closed, and never vacuous.  The form is described in docs/policy.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attestation.errors import PolicyCode, PolicyError
from attestation.policy.feed import MAX_FEED, normalise
from attestation.policy.model import TEE_TABLES, VERSION, Policy
from attestation.policy.platforms import ADVISED
from attestation.policy.presets import with_preset
from attestation.policy.schema import Table, read_table, refuse
from attestation.policy.tables import HIERARCHIES, EvidencePolicy, ReleasePolicy, ServicePolicy, refuse_roots
from attestation.policy.tdx import TdxPolicy
from attestation.policy.toml import parse_toml
from attestation.roots import Roots, fingerprint_of_replacement, fingerprint_of_simulated
from manifests import fields
from manifests.errors import Fault, ManifestError
from manifests.files import concerning, read_bounded

MAX_POLICY = 256 * 1024
MAX_ROOTS = 16
"""A simulated platform has one root for each vendor that it plays."""

_REPLACED = "dangerous_replacement_roots"


def load_policy(source: Path | str | bytes | Mapping[str, Any], *, base: Path | None = None) -> Policy:
    """Load a policy: from a file (Path or str), from TOML text (bytes), or from a map of the same shape.

    Relative names of files in [evidence] are taken from `base`, by default the file's folder or the working directory.
    Raises PolicyError, or ManifestError where a file cannot be read.
    """
    if isinstance(source, Path | str):
        path = Path(source)
        with concerning(path, "correct the policy; docs/policy.md explains every field"):
            return load_policy(read_bounded(path, MAX_POLICY), base=base or path.parent)
    if isinstance(source, bytes):
        source = parse_toml(source, MAX_POLICY, PolicyCode.POLICY_MALFORMED, "the policy")
    try:
        return _policy(dict(source), base or Path())
    except ManifestError as error:
        if error.code.fault is not Fault.MALFORMED:
            raise
        raise PolicyError(
            PolicyCode.POLICY_MALFORMED, f"the policy: {error.message}", expected=error.expected, found=error.found
        ) from None


def roots_for(policy: Policy) -> Roots:
    """Return the roots that a policy demands: the vendors', or the one simulated platform that it names.

    Where the policy names replacements, they stand in the place of that vendor's roots.  The keys and roots of TPMs
    that it names come on top.
    """
    named = [anchor for table in policy.tables.values() for anchor in table.anchors]
    return _platform_roots(policy.evidence).with_tpm(named)


def _platform_roots(evidence: EvidencePolicy) -> Roots:
    if evidence.simulation:
        return Roots.simulated_fingerprints(*evidence.simulated_root)
    replaced = {HIERARCHIES[name]: roots for name, roots in evidence.dangerous_replacement_roots}
    return Roots.vendor().dangerously_replaced(replaced) if replaced else Roots.vendor()


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
    value, preset, filled = with_preset(value)
    fields.closed_map(value, "policy", ("version", "evidence"), (*TEE_TABLES, "service", "release"))
    named = [tee for tee in TEE_TABLES if tee in value]
    if not named:
        refuse(
            PolicyCode.POLICY_VACUOUS,
            "no table says what code is accepted",
            remedy=f"add one of {', '.join(f'[{tee}]' for tee in TEE_TABLES)}",
        )
    tables = {tee: read_table(TEE_TABLES[tee], value[tee], tee) for tee in named}
    _check_system(tables)
    evidence = read_table(EvidencePolicy, _with_files(value["evidence"], base), "evidence")
    _check_advised(evidence, tables)
    return Policy(
        evidence=evidence,
        tables=tables,
        service=read_table(ServicePolicy, value["service"], "service") if "service" in value else None,
        release=read_table(ReleasePolicy, value["release"], "release") if "release" in value else None,
        preset=preset,
        filled=filled,
    )


def _check_system(tables: Mapping[str, Table]) -> None:
    """Refuse [tdx] that leaves open which system the TD runs.  On Azure the vTPM's registers say that instead."""
    tdx = tables.get("tdx")
    if isinstance(tdx, TdxPolicy) and not tdx.names_system and "azure-tdx" not in tables:
        refuse(
            PolicyCode.POLICY_VACUOUS,
            "[tdx] names neither RTMR1 nor RTMR2: any system that the firmware boots would do",
            remedy="list rtmr1 and rtmr2; where MRTD covers everything, their value is zero",
        )


def _check_advised(evidence: EvidencePolicy, tables: Mapping[str, Table]) -> None:
    """Refuse advisories that are refused where no evidence that is accepted could show them."""
    if evidence.advisories_refused and not ADVISED & tables.keys():
        refuse(
            PolicyCode.POLICY_VACUOUS,
            f"advisories_refused says nothing: only evidence of {' and '.join(sorted(ADVISED))} shows advisories",
            remedy="leave it out; set floors for security versions instead",
        )


def _with_files(table: object, base: Path) -> object:
    """Return [evidence] with what stands in files: roots by their SHA-256, and the list of broken hardware."""
    if not isinstance(table, dict):
        return table
    result = dict(table)
    if "simulated_root" in table:
        if table.get("simulation", False) is False:
            refuse_roots(simulation=False)
        result["simulated_root"] = _fingerprints(table["simulated_root"], base, fingerprint_of_simulated)
    if "broken_hardware" in table:
        result["broken_hardware"] = _feed(table["broken_hardware"], base)
    if isinstance(table.get(_REPLACED), dict):
        result[_REPLACED] = {
            name: _fingerprints(given, base, fingerprint_of_replacement) for name, given in table[_REPLACED].items()
        }
    return result


def _fingerprints(named: object, base: Path, read: Callable[[bytes], bytes]) -> list[str]:
    """Return the SHA-256 of root certificates, which a policy names so or by their files, one or several."""
    names = fields.list_of(named, "roots", MAX_ROOTS) if isinstance(named, list) else [named]
    return [_fingerprint(fields.text(name, "root", 4096), base, read) for name in names]


def _fingerprint(text: str, base: Path, read: Callable[[bytes], bytes]) -> str:
    if re.fullmatch(r"[0-9a-f]{64}", text):
        return text
    return read(read_bounded(base / text, MAX_POLICY)).hex()


def _feed(value: object, base: Path) -> str:
    """Return the one text of a list of broken hardware, which a policy names by its file, or holds once loaded."""
    text = fields.of_type(value, "broken_hardware", str)
    if text.startswith("{"):
        return normalise(text)
    path = base / fields.text(text, "broken_hardware", 4096)
    with concerning(path):
        return normalise(read_bounded(path, 2 * MAX_FEED).decode("utf-8", "replace"))
