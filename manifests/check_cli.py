"""`strongroom model check`: what sealing and the enclave would say of a model, all at once."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import click

from manifests import draft
from manifests.abuse.sealing import check_sealed_profile
from manifests.command import Command
from manifests.errors import ManifestCode, ManifestError, StrongroomError
from manifests.files import concerning, read_bounded
from manifests.model import MAX_MANIFEST, ModelManifest
from manifests.onnx.bounds import MAX_MODEL
from manifests.onnx.check import Report, check_model, check_smallest
from manifests.onnx.errors import OnnxCode
from manifests.onnx.findings import Finding
from manifests.onnx.requests import bound_requests
from manifests.plain import printable_lines
from manifests.sealed.tokenizers import check_tokenizers
from manifests.show import print_facts
from manifests.signing import Signer

_FILE = click.Path(path_type=Path, readable=False)
_UNITS = ("", "K", "M", "G", "T", "P", "E")


class FilesBeside(Mapping[str, int]):
    """Bytes of the files that may hold a model's external data: those below its folder, and further parts by name."""

    def __init__(self, model: Path, parts: Mapping[str, Path]) -> None:
        """Look below the folder of a model."""
        self._folder = model.resolve().parent
        self._parts = parts

    def __getitem__(self, name: str) -> int:
        path = self._parts.get(name) or (self._folder / name).resolve()
        if name not in self._parts and not path.is_relative_to(self._folder):
            raise KeyError(name)
        try:
            if not path.is_file():
                raise KeyError(name)
            return path.stat().st_size
        except (OSError, ValueError):
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


@click.command("check", cls=Command)
@click.argument("model_file", metavar="MODEL", type=_FILE)
@click.option("--manifest", type=_FILE, help="Model manifest in TOML, whose limits count; else those of a draft.")
@click.option("--part", "parts", multiple=True, metavar="NAME=FILE", help="A further part: external data, a tokenizer.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check_command(*, model_file: Path, manifest: Path | None, parts: tuple[str, ...], as_json: bool) -> None:
    """Check an ONNX model as sealing and the enclave do, and bound what one request costs.

    With a manifest, both are compared as sealing compares them.  Ends with 0 where the model passes, with 10 where it
    is refused, with 20 where it cannot be served, and with 30 where it is no ONNX model, or the manifest another's.
    """
    described = None if manifest is None else _manifest(manifest)
    named = {name: Path(file) for name, _, file in (part.partition("=") for part in parts)}
    data = read_bounded(model_file, MAX_MODEL)
    beside = FilesBeside(model_file, named)
    with _progress(hidden=as_json):
        report = _report(data, described, beside, named)
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
    else:
        print_report(report)
    sys.exit(0 if report.passed else int(report.fault))


def _report(data: bytes, described: ModelManifest | None, beside: FilesBeside, named: Mapping[str, Path]) -> Report:
    """Return what the check and the comparison with the manifest found."""
    report = check_model(data, manifest=described, parts=beside)
    if _is_text(data) and not report.passed:
        first = replace(
            report.findings[0],
            message="this is no ONNX file, but text",
            remedy="name an ONNX file; a manifest goes with --manifest",
        )
        report = replace(report, findings=(first, *report.findings[1:]))
    try:
        _compare(data, report, described, beside, named)
    except StrongroomError as error:
        report = report.with_finding(Finding.of(error))
    return report


@contextlib.contextmanager
def _progress(*, hidden: bool) -> Iterator[None]:
    """Show on standard error that a model is being checked, and for how long, where a person is watching."""
    if hidden or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("Checking"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        bar.add_task("check", total=None)
        yield


def _is_text(data: bytes) -> bool:
    """Tell whether a file begins as a text does: a protobuf has bytes below tab within the first few."""
    return bool(data) and all(byte >= 9 for byte in data[:256])


def _compare(
    data: bytes, report: Report, manifest: ModelManifest | None, beside: FilesBeside, parts: Mapping[str, Path]
) -> None:
    """Compare model and manifest as sealing does, which drafts one where there is none; raises StrongroomError.

    What has no sound form is not read by another reader.  A profile or tokenizer counts where it is given.
    """
    if any(finding.code not in _COSTS for finding in report.findings):
        return
    graph = draft.load_graph(data)
    if manifest is None:
        draft.draft_manifest(graph, owner=Signer.generate().public, suggested="model")
        return
    draft.check_graph(manifest, graph)
    draft.check_limits(manifest)
    if manifest.abuse is not None and manifest.abuse.profile in parts:
        check_sealed_profile(manifest, parts)
    check_tokenizers(manifest, parts)
    if report.passed:
        check_smallest(bound_requests(data, manifest, beside))


_COSTS = frozenset({OnnxCode.INTERFACE, OnnxCode.RESIDENT, OnnxCode.MEMORY, OnnxCode.WORK})
"""Findings beside which manifest and graph can still be compared."""


def _manifest(path: Path) -> ModelManifest:
    """Read a manifest whoever its owner is: a check needs none."""
    text = read_bounded(path, MAX_MANIFEST)
    with concerning(path, "correct the manifest; `strongroom model draft` writes one that fits the model"):
        try:
            table = text.decode("utf-8")
        except UnicodeDecodeError:
            raise ManifestError(ManifestCode.MANIFEST_INVALID, f"{path} is not UTF-8 text") from None
        try:
            return ModelManifest.from_toml(table)
        except ManifestError as error:
            if error.message != "the manifest names no owner":
                raise
            return ModelManifest.from_toml(table, owner=Signer.generate().public)


def print_report(report: Report) -> None:
    """Print a summary for people, and every finding."""
    verdict = "passes" if report.passed else f"refused, {report.count} finding{'s' if report.count > 1 else ''}"
    facts: dict[str, object] = {"check": verdict}
    if report.ir_version:
        opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in report.opsets.items())
        facts["format"] = f"IR version {report.ir_version}; {opsets}"
        facts["graph"] = f"{report.nodes:,} nodes, {report.tensors:,} initializers"
        facts["operators"] = ", ".join(f"{name} {count}" for name, count in sorted(report.operators.items()))
    if report.cost is not None:
        facts["loaded"] = f"{amount(report.cost.resident)}B"
        facts["one request"] = (
            f"at most {amount(report.cost.memory)}B of {amount(report.permits.memory)}B\n"
            f"at most {amount(report.cost.work, 1000)} operations of {amount(report.permits.work, 1000)}"
        )
    print_facts(facts)
    for finding in report.findings:
        click.secho(printable_lines(f"{finding.code}: {finding.message}"), fg="red")
        table = finding.to_dict()
        for name, value in (("where", finding.place), ("expected", table["expected"]), ("found", table["found"]),
                            ("next", table["remedy"])):  # fmt: skip
            if value:
                click.echo(f"  {name}: {printable_lines(str(value))}")


def amount(number: int, base: int = 1024) -> str:
    """Return a number with three digits or so and a unit: "1.6 Gi", "48 G"."""
    size, at = float(min(number, base**7)), 0
    while size >= base and at + 1 < len(_UNITS):
        size, at = size / base, at + 1
    digits = f"{size:.0f}" if size >= 100 or not at else f"{size:.1f}"
    return f"{digits} {_UNITS[at]}{'i' if base == 1024 and at else ''}"
