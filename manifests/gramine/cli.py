"""`strongroom manifest`: render, measure and check the enclave's manifest."""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from manifests.command import Group
from manifests.errors import ManifestError
from manifests.files import naming, read_bounded, require_free, write_atomically
from manifests.gramine.compare import Weight, compare
from manifests.gramine.elf import MAX_LIBPAL
from manifests.gramine.errors import GramineCode, GramineError
from manifests.gramine.manifest import MAX_MANIFEST, parse_manifest
from manifests.gramine.measure import check_trusted_files, measure
from manifests.gramine.mrenclave import mrenclave
from manifests.gramine.render import render
from manifests.gramine.settings import COMPONENTS, FIRST, EnclaveSettings, Limits, parse_limits
from manifests.gramine.sigstruct import LENGTH as SIGSTRUCT_LENGTH
from manifests.gramine.sigstruct import (
    Sigstruct,
    check_sigstruct,
    identity_of,
    load_signing_key,
    parse_sigstruct,
    sign_enclave,
)
from manifests.keyfile import MAX_KEY_FILE, PASSPHRASE_VARIABLE, read_card
from manifests.plain import printable
from manifests.show import print_facts
from manifests.signing import check_public_key

_FILE = click.Path(path_type=Path, readable=False)
"""What cannot be read is an error of ours, with its code and exit status, and not one of the command line."""


@click.group(cls=Group)
def manifest() -> None:
    """Render, measure and check the enclave's manifest."""


@manifest.command("render")
@click.option("--output", type=_FILE, required=True, help="folder to write to")
@click.option(
    "--owner", "owners", multiple=True, help="owner that the enclave admits: a key in hex, or its card (.pub)"
)
@click.option("--first-owner", is_flag=True, help="let the first valid grant fix the one owner")
@click.option("--threads", type=int, default=Limits.threads, show_default=True, help="threads that serve sessions")
@click.option("--intra-op-threads", type=int, default=Limits.intra_op_threads, show_default=True)
@click.option("--max-sessions", type=int, default=Limits.max_sessions, show_default=True, help="sessions at once")
@click.option(
    "--limit", "more", multiple=True, metavar="NAME=NUMBER", help="another limit of the settings (repeatable)"
)
@click.option(
    "--component",
    "components",
    multiple=True,
    type=click.Choice(COMPONENTS),
    help="optional library that models need for their steps (repeatable)",
)
@click.option("--python", default=sys.executable, help="interpreter that runs the enclave  [default: this one]")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def render_command(
    *,
    output: Path,
    owners: tuple[str, ...],
    first_owner: bool,
    threads: int,
    intra_op_threads: int,
    max_sessions: int,
    more: tuple[str, ...],
    components: tuple[str, ...],
    python: str,
    as_json: bool,
) -> None:
    """Write enclave.manifest and enclave.toml for this machine."""
    if bool(owners) == first_owner:
        raise click.UsageError("say who may provision the enclave: --owner (repeatable) or --first-owner")
    admitted = FIRST if first_owner else tuple(sorted({_owner(owner) for owner in owners}))
    named = {"threads": threads, "intra_op_threads": intra_op_threads, "max_sessions": max_sessions}
    limits = parse_limits({**named, **dict(_named_limit(text) for text in more)})
    wanted = tuple(name for name in COMPONENTS if name in components)
    done = render(EnclaveSettings(admitted, limits=limits, components=wanted), output, python=python)
    facts = {
        "manifest": str(done.path),
        "settings": str(done.settings_path),
        "trusted_files": done.files,
        "mrenclave": done.measurement.hex(),
    }
    _show(facts, as_json=as_json)


@manifest.command("measure")
@click.argument("file", type=_FILE)
@click.option("--libpal", type=_FILE, help="Gramine's sgx/libpal.so: print what SGX hardware gives this manifest, too")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def measure_command(file: Path, *, libpal: Path | None, as_json: bool) -> None:
    """Print the measurement that a platform gives this manifest: the simulated one's, or that of SGX as well."""
    data = read_bounded(file, MAX_MANIFEST)
    parse_manifest(data)
    facts = {"mrenclave": measure(data).hex(), "platform": "simulated"}
    if libpal is not None:
        facts = {"mrenclave": _mrenclave(data, libpal).hex(), "platform": "sgx", "simulated": measure(data).hex()}
    _show(facts, as_json=as_json)


@manifest.command("sign")
@click.argument("file", type=_FILE)
@click.option("--libpal", type=_FILE, required=True, help="sgx/libpal.so of the Gramine that will run the enclave")
@click.option("--key", type=_FILE, required=True, help="author's key: RSA-3072 with exponent 3, in PEM")
@click.option("--output", type=_FILE, required=True, help="SIGSTRUCT to write: FILE's name with .sig for .manifest.sgx")
@click.option("--date", metavar="YYYY-MM-DD", help="date to write into it  [default: none, so that it is reproducible]")
@click.option("--overwrite", is_flag=True, help="replace a file that is there")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def sign_command(
    *, file: Path, libpal: Path, key: Path, output: Path, date: str | None, overwrite: bool, as_json: bool
) -> None:
    """Sign a manifest's measurement for SGX hardware, as gramine-sgx-sign does.

    A key under a passphrase takes it from STRONGROOM_PASSPHRASE.
    """
    require_free(output, overwrite=overwrite)
    data = read_bounded(file, MAX_MANIFEST)
    parsed = parse_manifest(data)
    check_trusted_files(parsed, base=file.absolute().parent)
    identity = identity_of(parsed, _mrenclave(data, libpal))
    passphrase = os.environ.get(PASSPHRASE_VARIABLE)
    author = load_signing_key(read_bounded(key, MAX_KEY_FILE), None if passphrase is None else passphrase.encode())
    signed = sign_enclave(identity, author, None if date is None else _date(date))
    write_atomically(output, signed, replace=overwrite)
    facts = _identity_facts(parse_sigstruct(signed))
    _show({"sigstruct": str(output), **facts}, as_json=as_json)


@manifest.command("check")
@click.argument("file", type=_FILE)
@click.option("--sigstruct", type=_FILE, help="a SIGSTRUCT that must be this manifest's; needs --libpal")
@click.option("--libpal", type=_FILE, help="sgx/libpal.so of the Gramine that will run the enclave")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def check_command(file: Path, *, sigstruct: Path | None, libpal: Path | None, as_json: bool) -> None:
    """Refuse unknown, removed and insecure options, and trusted files that have changed."""
    if (sigstruct is None) != (libpal is None):
        raise click.UsageError("--sigstruct and --libpal go together")
    data = read_bounded(file, MAX_MANIFEST)
    parsed = parse_manifest(data)
    check_trusted_files(parsed, base=file.absolute().parent)
    facts: dict[str, Any] = {"trusted_files": len(parsed.trusted_files), "mrenclave": measure(data).hex()}
    if sigstruct is not None and libpal is not None:
        found = parse_sigstruct(read_bounded(sigstruct, SIGSTRUCT_LENGTH))
        check_sigstruct(found, identity_of(parsed, _mrenclave(data, libpal)))
        facts |= {"sgx": _identity_facts(found)}
    _show({**facts, "verdict": "as rendered"}, as_json=as_json)


def _mrenclave(data: bytes, libpal: Path) -> bytes:
    return mrenclave(data, read_bounded(libpal, MAX_LIBPAL))


def _identity_facts(sigstruct: Sigstruct) -> dict[str, Any]:
    identity = sigstruct.identity
    return {
        "mrenclave": identity.mrenclave.hex(),
        "mrsigner": sigstruct.mrsigner.hex(),
        "isv_prod_id": identity.isv_prod_id,
        "isv_svn": identity.isv_svn,
        "date": sigstruct.date,
    }


def _date(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise click.UsageError("--date is not a date such as 2026-11-30") from None


def _named_limit(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    try:
        return name, int(value)
    except ValueError:
        raise GramineError(
            GramineCode.SETTINGS_INVALID,
            "the limit is not NAME=NUMBER",
            expected="such as max_models=4",
            found=text[:200],
        ) from None


@manifest.command("diff")
@click.argument("before", type=_FILE)
@click.argument("after", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def diff_command(before: Path, after: Path, *, as_json: bool) -> None:
    """Show what AFTER trusts and BEFORE does not, by package: files, shared libraries, and bytes.

    So you see what a component costs.  Sizes are those of the files on this machine that have the manifest's hash.
    """
    comparison = compare(before, after)
    if as_json:
        click.echo(json.dumps(comparison.to_dict(), indent=2))
        return
    print_facts(
        {
            "before": comparison.before.measurement.hex(),
            "after": comparison.after.measurement.hex(),
            "adds": _weight(sum(comparison.costs().values(), Weight())),
            "removes": _weight(sum(comparison.savings().values(), Weight())),
            "changes": f"{len(comparison.changed)} files",
            "options": ", ".join(comparison.options) or "the same",
        }
    )
    for sign, weights in (("+", comparison.costs()), ("-", comparison.savings())):
        for name, weight in weights.items():
            click.echo(f"{sign} {printable(name)}: {_weight(weight)}")
    for path in comparison.changed:
        click.echo(f"~ {printable(path)}")


def _weight(weight: Weight) -> str:
    words = f"{weight.files} files, {weight.libraries} shared libraries, {weight.size / 1024:,.0f} KiB"
    return words + (f", {weight.unknown} of unknown size" if weight.unknown else "")


def _owner(text: str) -> bytes:
    """Return a public key from hexadecimal digits or from a card that `strongroom owner init` wrote."""
    try:
        with naming(Path(text)):
            is_card = Path(text).is_file()
        if is_card:
            return check_public_key(read_card(Path(text))["strongroom-owner"])
        return check_public_key(bytes.fromhex(text))
    except (ValueError, KeyError, ManifestError):
        raise GramineError(
            GramineCode.SETTINGS_INVALID, "the owner is neither a public key nor a card of one", found=text[:200]
        ) from None


def _show(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    print_facts(facts)
