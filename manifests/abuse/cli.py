"""`strongroom model calibrate`: from an owner's benign data to a detector profile."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manifests.command import Command
from manifests.errors import ManifestCode, ManifestError
from manifests.files import concerning, read_bounded, require_free, write_atomically
from manifests.model import MAX_MANIFEST, ModelManifest
from manifests.show import print_facts
from manifests.signing import Signer

if TYPE_CHECKING:
    from manifests.abuse.calibrate.learn import Report, Settings
    from manifests.abuse.profile import Profile

_FILE = click.Path(path_type=Path, readable=False)


@click.command("calibrate", cls=Command)
@click.argument("sample", type=_FILE)
@click.option("--model", "model_file", type=_FILE, help="The ONNX model, whose answers the profile is made of.")
@click.option("--manifest", type=_FILE, required=True, help="Its model manifest in TOML.")
@click.option("-o", "--output", type=_FILE, help="The profile to write.")
@click.option("--ranges", type=_FILE, help="Write the manifest here, with the ranges and sets that the sample shows.")
@click.option("--fpr", type=click.FloatRange(1e-6, 0.5), default=0.001, show_default=True, help="False positive rate.")
@click.option("--behaviours", default="", metavar="NAME,...", help="Benign behaviours to simulate; by default all.")
@click.option("--answer", metavar="NAME", help="The graph's output to watch, where there are several.")
@click.option("--image/--table", "is_image", default=None, help="What a row is; by default its shape tells.")
@click.option("--width", type=click.IntRange(1, 64), default=32, show_default=True, help="Dimensions to look in.")
@click.option("--levels", type=click.IntRange(0, 255), default=0, help="Squeeze inputs to so many steps; 0: do not.")
@click.option("--sessions", type=click.IntRange(10, 10000), default=120, show_default=True, help="Of each behaviour.")
@click.option("--queries", type=click.IntRange(32, 10000), default=300, show_default=True, help="Of a session.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Makes the profile reproducible.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def calibrate_command(
    *,
    sample: Path,
    model_file: Path | None,
    manifest: Path,
    output: Path | None,
    ranges: Path | None,
    force: bool,
    as_json: bool,
    **words: Any,
) -> None:
    """Learn from benign data (.npz) what is usual: a profile that arms the abuse detectors, and ranges of the inputs.

    SAMPLE holds an array of rows under the name of each of the model's inputs; the profile is made of one.  Rows that
    belong together may be numbered in a further array, `objects` or `sessions`.  Seal the profile with the model:
    --part profile=FILE, and a table `[abuse]` in the manifest.  Read what --ranges has written before you seal it.
    """
    if output is None and ranges is None:
        raise click.UsageError("say what to learn: --output, --ranges, or both")
    if output is not None and model_file is None:
        raise click.UsageError("a profile is made of the model's answers: give --model")
    for path in (output, ranges):
        if path is not None:
            require_free(path, overwrite=force)
    described, names_owner = _manifest(manifest)
    facts: dict[str, Any] = {}
    if ranges is not None:
        learned = _learned(sample, described)
        text = learned.to_toml(with_owner=names_owner).encode("utf-8")
    if output is not None and model_file is not None:
        facts = _profile(sample, model_file, manifest, described, output, force=force, hidden=as_json, words=words)
    if ranges is not None:
        write_atomically(ranges, text, replace=force)
        facts |= {"ranges": str(ranges), "promises": {each.name: len(each.features) for each in learned.inputs}}
    _show(facts, as_json=as_json)


def _learned(sample: Path, described: ModelManifest) -> ModelManifest:
    """Return the manifest with what the sample shows of its inputs."""
    from manifests.abuse.errors import AbuseCode, AbuseError
    from manifests.learning import MIN_ROWS, learn_values

    arrays = _inputs_of(sample, described)
    for name, array in arrays.items():
        if len(array) < MIN_ROWS:
            raise AbuseError(
                AbuseCode.SAMPLE_SHORT,
                f"{len(array)} rows of {name!r} are too few to show a range",
                expected=f"at least {MIN_ROWS} rows",
                found=len(array),
            )
    try:
        return learn_values(described, arrays)
    except ManifestError as error:  # one code for one mistake, whatever is learned
        raise AbuseError(AbuseCode.SAMPLE_INVALID, error.message, expected=error.expected, found=error.found) from None


def _inputs_of(sample: Path, described: ModelManifest) -> dict[str, Any]:
    """Return the sample's arrays of inputs, which the manifest admits."""
    from manifests.abuse.calibrate.admitted import check_arrays
    from manifests.abuse.calibrate.sample import GROUPS, read_arrays

    arrays = {name: array for name, array in read_arrays(sample).items() if name not in _NO_INPUTS | set(GROUPS)}
    with concerning(sample):
        check_arrays(described, {name: array for name, array in arrays.items() if array.ndim})
    return arrays


_NO_INPUTS = frozenset({"labels", "behaviours"})
"""Arrays that a sample may hold besides, for whoever made it."""


def _profile(
    sample: Path,
    model_file: Path,
    manifest: Path,
    described: ModelManifest,
    output: Path,
    *,
    force: bool,
    hidden: bool,
    words: dict[str, Any],
) -> dict[str, Any]:
    """Learn and write the profile, and return what it is worth."""
    from manifests.abuse.calibrate.runner import subject_of
    from manifests.abuse.calibrate.sample import read_sample
    from manifests.abuse.fitting import watched_input

    with concerning(manifest):
        watched_input(described)
    with concerning(model_file):
        _check_form(model_file, described)
    with concerning(manifest):
        subject = subject_of(model_file, described, words.pop("answer"))
        tensor = watched_input(described)
    _inputs_of(sample, described)
    data = read_sample(sample, tensor)
    with _progress(hidden=hidden) as progress:
        from manifests.abuse.calibrate.learn import learn

        settings = _settings(len(tensor.shape) > 2, **words)
        profile, report = learn(data.rows, data.groups, subject, settings, progress, objects=data.objects)
    _check_rate(profile, report)
    encoded = profile.encode()
    write_atomically(output, encoded, replace=force)
    return _facts(profile, report) | {"profile": str(output), "size": len(encoded)}


def _check_rate(profile: Profile, report: Report) -> None:
    """Refuse to arm detectors that the held-out sessions prove to alarm more often than was asked."""
    from manifests.abuse.errors import AbuseCode, AbuseError

    low, _ = report.interval
    if low > profile.rate:
        raise AbuseError(
            AbuseCode.RATE_MISSED,
            "honest sessions that were held out raise more alarms than were asked for",
            expected=f"at most {profile.rate:.3%} of sessions",
            found=f"{sum(report.alarmed.values())} of {sum(report.sessions.values())}, so more than {low:.2%}",
        )


def _check_form(model_file: Path, described: ModelManifest) -> None:
    """Check a model as sealing does before the runtime sees it; raises OnnxError or a file's error."""
    from manifests.check_cli import FilesBeside
    from manifests.onnx.bounds import MAX_MODEL
    from manifests.onnx.check import check_model

    report = check_model(read_bounded(model_file, MAX_MODEL), manifest=described, parts=FilesBeside(model_file, {}))
    if not report.passed:
        raise report.error()


def _settings(
    looks_like_image: bool,
    *,
    fpr: float,
    behaviours: str,
    is_image: bool | None,
    width: int,
    levels: int,
    sessions: int,
    queries: int,
    seed: int,
) -> Settings:
    from manifests.abuse.calibrate.behaviours import BEHAVIOURS
    from manifests.abuse.calibrate.learn import Settings

    names = tuple(filter(None, behaviours.split(",")))
    if unknown := [name for name in names if name not in BEHAVIOURS]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(BEHAVIOURS)}", param_hint="--behaviours")
    return Settings(
        rate=fpr,
        seed=seed,
        width=width,
        behaviours=names,
        sessions=sessions,
        length=queries,
        levels=levels,
        is_image=looks_like_image if is_image is None else is_image,
    )


def _manifest(path: Path) -> tuple[ModelManifest, bool]:
    """Return the manifest, and whether it names its owner; where it does not, it gets a stranger: nothing is sealed."""
    try:
        text = read_bounded(path, MAX_MANIFEST).decode("utf-8")
    except UnicodeDecodeError:
        raise ManifestError(ManifestCode.MANIFEST_INVALID, f"{path} is not UTF-8 text") from None
    with concerning(path, "correct the manifest; `strongroom model draft` writes one that fits"):
        try:
            return ModelManifest.from_toml(text, owner=Signer.generate().public), False
        except ManifestError as error:
            if error.code is not ManifestCode.SEALED_OWNER:
                raise
            return ModelManifest.from_toml(text), True


def _facts(profile: Profile, report: Report) -> dict[str, Any]:
    from manifests.abuse.profile import STATISTICS
    from manifests.abuse.state import Watch

    low, high = report.interval
    return {
        "rows": dict(zip(("reference", "calibration", "validation"), report.splits, strict=True)),
        "features": profile.view.features,
        "false_positive_rate": {
            "asked": profile.rate,
            "sessions": sum(report.sessions.values()),
            "alarmed": sum(report.alarmed.values()),
            "two_detectors": report.hard,
            "interval_95": [low, high],
            "shown": high <= profile.rate,
            "by_behaviour": report.alarmed,
            "by_detector": report.by_detector,
        },
        "limits": dict(zip(STATISTICS, profile.limits, strict=True)),
        "bytes_per_identity": Watch(profile).nbytes,
    }


def _show(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    plain = {name: value for name, value in facts.items() if not isinstance(value, dict)}
    if "promises" in facts:
        plain["learned"] = ", ".join(f"{count} features of {name}" for name, count in facts["promises"].items())
    if "false_positive_rate" not in facts:
        print_facts(plain)
        return
    rate = facts["false_positive_rate"]
    low, high = rate["interval_95"]
    print_facts(
        {
            **plain,
            "rows": ", ".join(f"{count} {name}" for name, count in facts["rows"].items()),
            "false alarms": f"{rate['alarmed']} of {rate['sessions']} held-out sessions "
            f"({low:.2%} to {high:.2%}, with 95 % confidence)",
            "by two detectors": f"{rate['two_detectors']} of them",
            "asked": f"{rate['asked']:.3%} of sessions{_doubt(rate)}",
        }
    )


def _doubt(rate: dict[str, Any]) -> str:
    """Say where the held-out sessions do not show the rate that was asked for, and what would."""
    if rate["shown"]:
        return ", which the held-out ones show"
    needed = math.ceil(math.log(0.025) / math.log1p(-rate["asked"]))
    return f", which {rate['sessions']} held-out ones cannot show:\nthat takes {needed:,} of them without an alarm"


@contextlib.contextmanager
def _progress(*, hidden: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar on standard error while sessions are simulated, where a person is watching."""
    if hidden or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("Simulating benign sessions"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("calibrate", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
