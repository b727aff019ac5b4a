"""`strongroom collateral`: fetch what vendors publish, file it, carry it, and see when it goes stale."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from attestation import evidence
from attestation.collateral.bundle import Bundle
from attestation.collateral.cache import Cache
from attestation.collateral.fetcher import DAY, Fetcher
from attestation.collateral.filing import Imported, import_files
from attestation.collateral.held import SUFFIX, Held, command_to_import, fetch_into, inspect, inspect_folder, name_for
from attestation.collateral.http import HttpClient
from attestation.collateral.key import NAMES, CollateralKey
from attestation.collateral.replacing import OPTION
from attestation.collateral.vendors import VendorSource
from attestation.errors import EvidenceError
from attestation.folders import MAX_LOOSE, is_manifest, loose_names
from attestation.given_roots import simulated_roots
from attestation.loose import open_collateral
from attestation.moment import Moment
from attestation.policy.feed_cli import feed
from attestation.roots import Roots
from attestation.tees import BY_NAME
from attestation.validity import rfc3339
from attestation.wrapping import MAX_INPUT, is_device_report, unwrap
from manifests.command import Group
from manifests.errors import Fault, StrongroomError
from manifests.files import concerning, read_beginning, read_bounded, write_atomically
from manifests.plain import printable
from manifests.show import print_facts, print_rows

_PATH = click.Path(path_type=Path, readable=False)
"""What cannot be read is an error of ours, with its code and exit status, and not one of the command line."""
_MAX_CERTIFICATE = 64 * 1024
_CACHE = ".cache"

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_at = click.option("--at", type=Moment(), help="Look as of this time instead of now.")
_simulated = click.option(
    "--simulated-root",
    "simulated",
    type=_PATH,
    multiple=True,
    help="Root of a SIMULATED platform, instead of vendors'.",
)


_older = click.option(OPTION, "older", is_flag=True, help="Replace what is newer, too: may undo a revocation.")


@click.group(cls=Group)
def collateral() -> None:
    """Fetch, import and inspect the vendors' collateral."""


collateral.add_command(feed)


@collateral.command("fetch")
@click.option("--evidence", "path", type=_PATH, help="Evidence: fetch what it needs.")
@click.option("--tee", type=click.Choice(["sgx", "tdx"]), help="Without evidence: which of Intel's TEEs.")
@click.option("--fmspc", help="Without evidence: the platform family, 12 hex digits.")
@click.option(
    "--ca", type=click.Choice(["processor", "platform"]), help="Without evidence: who certifies the platform."
)
@click.option("--name", help="Without evidence: the name of the file to get, such as sgx-00906ed50000-platform.")
@click.option("--output", type=_PATH, required=True, help="Folder to file the collateral in.")
@click.option("--pccs", metavar="URL", help="A PCCS, instead of Intel's own service.")
@click.option("--kds", metavar="URL", help="A cache of AMD's KDS, instead of AMD's own service.")
@click.option("--early", is_flag=True, help="Intel's TCB info as of the latest recovery, before it is the standard.")
@click.option("--vlek", type=_PATH, help="The VLEK certificate (DER), which only its machine has.")
@click.option("--tls-ca", type=_PATH, help="Trust these authorities (PEM) for TLS, instead of the system's.")
@click.option("--cache", type=_PATH, help="Folder for what was fetched before.  [default: OUTPUT/.cache]")
@click.option("--max-age", type=click.IntRange(min=0), help="Ask again for what was fetched this many seconds ago.")
@_older
@_simulated
@_json
def fetch_command(
    *,
    path: Path | None,
    tee: str | None,
    fmspc: str | None,
    ca: str | None,
    name: str | None,
    output: Path,
    simulated: tuple[Path, ...],
    older: bool,
    as_json: bool,
    **service: Any,
) -> None:
    """Fetch the collateral of a platform from its vendor's service, verify it, and file it.

    Proxies are taken from the environment (https_proxy, no_proxy).
    """
    key = _key(path, tee, fmspc, ca, name)
    roots = _roots(simulated)
    filed = fetch_into(output, key, _source(output, **service), roots, older=older)
    _report([inspect(filed, roots)], int(time.time()), as_json=as_json)


@collateral.command("import")
@click.argument("files", nargs=-1, required=True, type=_PATH)
@click.option("--output", type=_PATH, required=True, help="Folder to file the collateral in.")
@_older
@_simulated
@_json
def import_command(
    files: tuple[Path, ...], output: Path, simulated: tuple[Path, ...], *, older: bool, as_json: bool
) -> None:
    """Verify collateral files or bundles, and file each under the name that its content says.

    AMD's own files (VCEK or VLEK, chain, list) are filed together. What cannot be filed is named, and keeps nothing
    else from it; the exit status is then that of the first such file.
    """
    roots = _roots(simulated)
    imported = import_files(output, files, roots, older=older)
    failed = [{"file": str(file), "error": error.to_dict()} for file, error in imported.failed]
    none = None if imported.filed else _none_filed(imported)
    if none is not None and not as_json:
        raise none
    held = [inspect(place, roots) for place in imported.filed]
    shown = None if none is None else none.to_dict()
    _report(held, int(time.time()), as_json=as_json, not_imported=failed, error=shown)
    if not as_json:
        for file, error in imported.failed:
            click.echo(f"{click.style('not imported', fg='red')}: {printable(str(file))}: {_problem(error)}")
    if imported.failed:
        sys.exit(imported.failed[0][1].exit_code)


@collateral.command()
@click.argument("folder", type=_PATH)
@click.option(
    "--within", type=click.IntRange(min=0), default=0, help="Mark and count what goes stale within so many days."
)
@_at
@_simulated
@_json
def status(folder: Path, within: int, at: int | None, simulated: tuple[Path, ...], as_json: bool) -> None:
    """Show what a folder holds, for which platform, whether it is genuine, and when it goes stale.

    Ends with 0 if all of it is genuine and valid, and with 10 if anything is not, or if nothing is held.
    """
    now = int(time.time()) if at is None else at
    held = inspect_folder(folder, _roots(simulated))
    unfiled = loose_names(folder)
    until = now + within * DAY
    _report(held, now, until, as_json=as_json, unfiled=unfiled)
    if not as_json:
        for line in _what_is_not_held(folder, held, unfiled):
            click.echo(line)
    if not held or not all(item.lasts(now, until) for item in held):
        sys.exit(int(Fault.REFUSED))


@collateral.command("bundle")
@click.option("--evidence", "path", type=_PATH, required=True, help="The evidence.")
@click.option(
    "--collateral",
    "held",
    type=_PATH,
    multiple=True,
    help="Collateral, as `attest verify` takes it: a file, or a folder of them; several times.",
)
@click.option("--output", type=_PATH, required=True, help="The bundle to write; an existing file is kept.")
@click.option("--at", type=Moment(), help="Choose what counts at this time instead of now.")
@_simulated
@_json
def bundle_command(
    path: Path, held: tuple[Path, ...], output: Path, at: int | None, simulated: tuple[Path, ...], *, as_json: bool
) -> None:
    """Put evidence and the collateral that it needs into one file that travels; verifies nothing of the evidence.

    Of several documents of a kind it takes those that `attest verify` would, at the same time.
    """
    with concerning(path):
        unwrapped = unwrap(read_bounded(path, MAX_INPUT))
    roots = _roots(simulated)
    source = open_collateral(held, roots)
    bare = is_device_report(unwrapped.evidence)
    data = source.complete(unwrapped.evidence) if bare else source.with_manifests(unwrapped.evidence)
    parsed = evidence.parse(data)
    key = evidence.collateral_key(parsed)
    if key is not None and not held:
        raise click.UsageError(f"{path} needs collateral: give --collateral that has {_candidates(key)}")
    found = evidence.collateral_for(parsed, source, int(time.time()) if at is None else at)
    content = {} if key is None or found is None else {name_for(key, found, roots): found}
    if unwrapped.gpu is not None:
        devices = source.with_manifests(unwrapped.gpu)
        data = json.dumps({"quote": data.hex(), "report": devices.hex()}).encode("ascii")
    write_atomically(output, Bundle(data, content).to_json().encode("utf-8"), replace=False)
    names = [str(name) for name in content]
    if as_json:
        shown = {"file": str(output), "tee": parsed.tee, "collateral": names, "devices": unwrapped.gpu is not None}
        click.echo(json.dumps(shown, indent=2))
        return
    if key is None:
        click.echo(f"{printable(_needs_none(path))}; the bundle has none", err=True)
    print_facts(
        {
            "bundle": output,
            "evidence": f"{BY_NAME[parsed.tee].title}{' and devices' if unwrapped.gpu is not None else ''}",
            "collateral": ", ".join(names) or "none",
        }
    )


def _key(path: Path | None, tee: str | None, fmspc: str | None, ca: str | None, name: str | None) -> CollateralKey:
    family = (tee, fmspc, ca)
    if sum((path is not None, name is not None, any(family))) != 1 or (any(family) and not all(family)):
        raise click.UsageError("say what to fetch: --evidence, or --name, or --tee with --fmspc and --ca")
    if name is not None:
        with _as_usage("--name", name, NAMES):
            return CollateralKey.parse(name.removesuffix(SUFFIX))
    if path is None:
        with _as_usage("--fmspc", fmspc or "", "12 hex digits"):
            return CollateralKey(tee or "", (fmspc or "").lower(), ca or "")
    key = evidence.collateral_key(evidence.parse(_evidence(path)))
    if key is None:
        raise click.UsageError(_needs_none(path))
    return key


def _needs_none(path: Path) -> str:
    return f"{path} needs no collateral: all that its verification takes travels with it"


def _candidates(key: CollateralKey) -> str:
    return " or ".join(map(str, key.candidates))


@contextlib.contextmanager
def _as_usage(option: str, typed: str, expected: str) -> Iterator[None]:
    """Have a key that no collateral has be a fault of the command line, and of no evidence."""
    try:
        yield
    except EvidenceError:
        raise click.BadParameter(f"{typed!r} is none of {expected}", param_hint=option) from None


def _none_filed(imported: Imported) -> StrongroomError:
    """Return the error of the first file, which names the others, too."""
    (_, error), *others = imported.failed
    if others:
        error.message += f"; nor was imported: {', '.join(str(file) for file, _ in others)}"
    return error


def _what_is_not_held(folder: Path, held: list[Held], unfiled: list[str]) -> Iterator[str]:
    if unfiled:
        yield f"not filed, and found by no name: {printable(', '.join(unfiled))}"
        files = [folder / name for name in unfiled]
        filed = [path for path in files if not is_manifest(read_beginning(path, MAX_LOOSE))]
        if filed:  # NVIDIA's manifests are used as they are: nothing files them
            yield f"  next: {command_to_import(filed, folder)}"
    elif not held:
        where = printable(str(folder))
        yield f"{where} holds no collateral: no file is named as `import` and `fetch` name them (docs/collateral.md)"


def _evidence(path: Path) -> bytes:
    """Return evidence as its TEE wrote it, whatever wraps it in the file: hex, base64, JSON, a bundle."""
    with concerning(path):
        return unwrap(read_bounded(path, MAX_INPUT)).evidence


def _source(
    output: Path,
    *,
    pccs: str | None,
    kds: str | None,
    early: bool,
    vlek: Path | None,
    tls_ca: Path | None,
    cache: Path | None,
    max_age: int | None,
) -> VendorSource:
    fetcher = Fetcher(HttpClient(tls_ca=tls_ca), Cache(cache or output / _CACHE), max_age=max_age)
    lent = b"" if vlek is None else read_bounded(vlek, _MAX_CERTIFICATE)
    return VendorSource(fetcher, pccs=pccs, kds=kds, early=early, vlek=lent)


def _roots(simulated: tuple[Path, ...]) -> Roots:
    if not simulated:
        return Roots.vendor()
    return simulated_roots(simulated)


def _report(held: list[Held], now: int, until: int | None = None, *, as_json: bool, **more: Any) -> None:
    """Print what is held, and what of it goes stale by `until`; `more`: what else JSON has."""
    until = now if until is None else until
    if as_json:
        shown = {"at": rfc3339(now), "held": [item.to_dict(now, until) for item in held]}
        click.echo(json.dumps(shown | more, indent=2))
        return
    if not held:
        return
    colors = {"valid": "green", "soon": "yellow", "stale": "red", "refused": "red"}
    rows = [_row(item, now, until) for item in held]
    print_rows([("", "for", "platform", "issued", "stale from", "first of all"), *rows], colors)
    for item in held:
        if item.problem is not None:
            click.echo(_problem(item.problem))
        for what in item.lacks:
            click.echo(f"{printable(_name(item))} has no {what}: {_LACKING}")


_LACKING = (
    "it cannot tell whether keys were revoked, which every policy refuses without\n"
    "  dangerous_crl_absent (snp-revocation)\n"
    "  next: import AMD's list together with the certificate and its chain, in one command"
)


def _problem(error: StrongroomError) -> str:
    remedy = f"\n  next: {printable(error.remedy)}" if error.remedy else ""
    return f"{click.style(str(error.code), fg='red')}: {printable(error.message)}{remedy}"


def _name(item: Held) -> str:
    return item.path.name.removesuffix(SUFFIX)


def _row(item: Held, now: int, until: int) -> tuple[str, ...]:
    if item.problem is not None:
        return ("refused", _name(item), "not verified", "", "", "")
    first = min(item.validities, key=lambda validity: validity.end)
    word = "stale" if item.stale(now) else "valid" if item.lasts(now, until) else "soon"
    platform = "SIMULATED" if item.simulated else "hardware"
    return (word, _name(item), platform, rfc3339(item.issued), rfc3339(item.expires), first.what)
