"""`strongroom attest pack-tpm`: a quote of tpm2-tools as one file of evidence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from attestation.tpm.abi import TpmEvidence
from attestation.tpm.certificates import read_certificates
from attestation.tpm.pack import MAX_LOG_FILE, MAX_PART, Parts, pack
from attestation.tpm.public import fingerprint
from manifests.command import Command
from manifests.files import read_bounded, require_free, write_atomically
from manifests.show import print_facts

_PATH = click.Path(path_type=Path, readable=False)
"""What cannot be read is an error of ours, with its code and exit status, and not one of the command line."""


@click.command("pack-tpm", cls=Command)
@click.option("--message", type=_PATH, required=True, help="What the TPM signed: `tpm2_quote -m`.")
@click.option("--signature", type=_PATH, required=True, help="Its signature: `tpm2_quote -s`.")
@click.option("--pcrs", type=_PATH, required=True, help="The PCR values: `tpm2_quote -o`, or `tpm2_pcrread -o`.")
@click.option("--key", type=_PATH, required=True, help="The key's public area: `tpm2_readpublic -f tss -o`.")
@click.option("--parent", type=_PATH, help="Its parent's qualified name: `tpm2_readpublic -q`. Not of a primary key.")
@click.option("--certificate", type=_PATH, multiple=True, help="Its certificates up to the root, PEM or DER, in order.")
@click.option("--event-log", type=_PATH, help="The firmware's log: binary_bios_measurements.")
@click.option("--output", type=_PATH, required=True, help="The evidence to write; an existing file is kept.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def pack_tpm(*, certificate: tuple[Path, ...], output: Path, as_json: bool, **files: Path | None) -> None:
    """Put a TPM's quote, its PCR values and its key into one file, for `attest verify --evidence`.

    The signature, the key's name and the PCR values must be of one quote. Whose key it is, a policy decides.
    """
    require_free(output, overwrite=False, forcible=False)
    log = files.pop("event_log")
    read = {name: b"" if path is None else read_bounded(path, MAX_PART) for name, path in files.items()}
    chain, names = _chain(certificate)
    read_log = b"" if log is None else read_bounded(log, MAX_LOG_FILE)
    evidence = pack(Parts(**read, chain=chain, names=names, log=read_log))
    write_atomically(output, evidence.serialize(), replace=False)
    packed = _summary(evidence)
    if as_json:
        click.echo(json.dumps(packed, indent=2))
        return
    click.secho(
        "Nothing here says whose key it is: name it in a policy, and use `attest verify`.", fg="yellow", err=True
    )
    pcrs = {f"{bank} pcr{index}": value for bank, of in packed["pcrs"].items() for index, value in of.items()}
    print_facts({"ak": packed["ak"], "qualifying data": packed["qualifying_data"], **pcrs})


def _chain(files: tuple[Path, ...]) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
    """Return the certificates of all files, and the file of each."""
    read = [(read_certificates(read_bounded(path, MAX_PART), str(path)), str(path)) for path in files]
    return tuple(der for ders, _ in read for der in ders), tuple(name for ders, name in read for _ in ders)


def _summary(evidence: TpmEvidence) -> dict[str, Any]:
    """Return what a policy names: the key and the PCR values; and what the quote is bound to."""
    return {
        "ak": fingerprint(evidence.key.key()).hex(),
        "qualifying_data": evidence.report_data.hex(),
        "pcrs": evidence.quote.pcrs.to_dict(),
    }
