"""`strongroom collateral`: fetch what vendors publish, file it, carry it, and see when it goes stale."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from attestation import evidence
from attestation.collateral.bundle import Bundle
from attestation.collateral.cache import Cache
from attestation.collateral.fetcher import DAY, Fetcher
from attestation.collateral.held import Held, fetch_into, file_into, inspect, inspect_folder
from attestation.collateral.http import HttpClient
from attestation.collateral.key import CollateralKey
from attestation.collateral.sources import open_source
from attestation.collateral.vendors import VendorSource
from attestation.errors import EvidenceError
from attestation.given_roots import simulated_roots
from attestation.moment import Moment
from attestation.policy.feed_cli import feed
from attestation.roots import Roots
from attestation.validity import rfc3339
from attestation.wrapping import MAX_INPUT, unwrap
from manifests.errors import Fault
from manifests.files import concerning, read_bounded, write_atomically
from manifests.plain import printable
from manifests.show import print_rows

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


@click.group()
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
    as_json: bool,
    **service: Any,
) -> None:
    """Fetch the collateral of a platform from its vendor's service, verify it, and file it.

    Proxies are taken from the environment (https_proxy, no_proxy).
    """
    key = _key(path, tee, fmspc, ca, name)
    roots = _roots(simulated)
    filed = fetch_into(output, key, _source(output, **service), roots)
    _report([inspect(filed, roots)], int(time.time()), as_json=as_json)


@collateral.command("import")
@click.argument("files", nargs=-1, required=True, type=_PATH)
@click.option("--output", type=_PATH, required=True, help="Folder to file the collateral in.")
@_simulated
@_json
def import_command(files: tuple[Path, ...], output: Path, simulated: tuple[Path, ...], as_json: bool) -> None:
    """Verify collateral files or bundles, and file each under the name that its content says."""
    roots = _roots(simulated)
    filed = [place for file in files for _, place in file_into(output, file, roots)]
    _report([inspect(place, roots) for place in dict.fromkeys(filed)], int(time.time()), as_json=as_json)


@collateral.command()
@click.argument("folder", type=_PATH)
@click.option("--within", type=click.IntRange(min=0), default=0, help="Count what goes stale within so many days.")
@_at
@_simulated
@_json
def status(folder: Path, within: int, at: int | None, simulated: tuple[Path, ...], as_json: bool) -> None:
    """Show what a folder holds, for which platform, whether it is genuine, and when it goes stale.

    Ends with 0 if all of it is genuine and valid, and with 10 if anything is not, or if nothing is held.
    """
    now = int(time.time()) if at is None else at
    held = inspect_folder(folder, _roots(simulated))
    _report(held, now, as_json=as_json)
    if not held or not all(item.usable(now) and item.usable(now + within * DAY) for item in held):
        sys.exit(int(Fault.REFUSED))


@collateral.command("bundle")
@click.option("--evidence", "path", type=_PATH, required=True, help="The evidence.")
@click.option("--collateral", "held", type=_PATH, required=True, help="A collateral file, or a folder of them.")
@click.option("--output", type=_PATH, required=True, help="The bundle to write; an existing file is kept.")
def bundle_command(path: Path, held: Path, output: Path) -> None:
    """Put evidence and the collateral that it needs into one file that travels; verifies nothing."""
    data = _evidence(path)
    parsed = evidence.parse(data)
    key, found = evidence.collateral_key(parsed), evidence.collateral_for(parsed, open_source(held))
    content = {} if key is None or found is None else {key: found}
    write_atomically(output, Bundle(data, content).to_json().encode("utf-8"), replace=False)


def _key(path: Path | None, tee: str | None, fmspc: str | None, ca: str | None, name: str | None) -> CollateralKey:
    family = (tee, fmspc, ca)
    if sum((path is not None, name is not None, any(family))) != 1 or (any(family) and not all(family)):
        raise click.UsageError("say what to fetch: --evidence, or --name, or --tee with --fmspc and --ca")
    if name is not None:
        return _typed(name, "--name", "a name is as `collateral status` shows it, such as sgx-00906ed50000-platform")
    if path is None:
        return _typed(f"{tee}-{(fmspc or '').lower()}-{ca}", "--fmspc", "a family is 12 hex digits")
    key = evidence.collateral_key(evidence.parse(_evidence(path)))
    if key is None:
        raise click.UsageError(f"{path} needs no collateral: all that its verification takes travels with it")
    return key


def _typed(name: str, option: str, form: str) -> CollateralKey:
    """Return the key of a name that was typed; raises click.BadParameter."""
    try:
        return CollateralKey.parse(name)
    except EvidenceError:
        raise click.BadParameter(form, param_hint=option) from None


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


def _report(held: list[Held], now: int, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"at": rfc3339(now), "held": [item.to_dict(now) for item in held]}, indent=2))
        return
    colors = {"valid": "green", "stale": "red", "refused": "red"}
    rows = [_row(item, now) for item in held]
    print_rows([("", "for", "platform", "issued", "stale from", "first of all"), *rows], colors)
    for item in held:
        if item.problem is not None:
            remedy = f"\n  next: {printable(item.problem.remedy)}" if item.problem.remedy else ""
            message = printable(item.problem.message)
            click.echo(f"{click.style(str(item.problem.code), fg='red')}: {message}{remedy}")


def _row(item: Held, now: int) -> tuple[str, ...]:
    name = item.path.name.removesuffix(".json")
    if item.problem is not None:
        return ("refused", name, "not verified", "", "", "")
    first = min(item.validities, key=lambda validity: validity.end)
    word = "stale" if item.stale(now) else "valid"
    platform = "SIMULATED" if item.simulated else "hardware"
    return (word, name, platform, rfc3339(item.issued), rfc3339(item.expires), first.what)
