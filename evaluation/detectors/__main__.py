"""Measure the detectors: `python -m evaluation.detectors --seed 0 -o results.json`, then `--write results.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from evaluation.detectors.campaign import Campaign, left_out
from evaluation.detectors.results import page
from evaluation.detectors.tables import table
from evaluation.detectors.victims import Victim, cancer, digits
from manifests.abuse.calibrate.learn import Settings

VICTIMS: Mapping[str, Callable[[int], Victim]] = {"digits": digits, "cancer": cancer}
RESULTS = Path(__file__).with_name("RESULTS.md")


def measure(
    victim: str,
    seed: int,
    *,
    calibration: int,
    sessions: int,
    thefts: int,
    targets: int,
    baselines: int,
    governed: int,
    long: int,
) -> dict[str, Any]:
    """Run one seed; everything in the result is a number of sessions or queries."""
    subject = VICTIMS[victim](seed)
    is_image = subject.test.is_image
    campaign = Campaign(subject, _settings(subject, seed, calibration))
    found: dict[str, Any] = {"victim": victim, "seed": seed, "accuracy": subject.accuracy}
    found["calibration"] = calibration
    found["held_out"] = [campaign.report.alarmed, campaign.report.sessions]
    found["benign"] = {name: vars(tally) for name, tally in campaign.benign(sessions).items()}
    found["thefts"] = {name: vars(tally) for name, tally in campaign.thefts(thefts).items()}
    if is_image and targets:
        found["evasions"] = {
            "plain": campaign.evasions(targets, 300),
            "blinded": campaign.evasions(targets // 2, 300, blind=0.05),
            "padded x19": campaign.evasions(max(1, targets // 4), 60, padding=19),
        }
    if is_image and governed:
        found["governed"] = campaign.governed(governed, 300)
    if long:
        found["long"] = {
            part: {name: vars(tally) for name, tally in found.items()} for part, found in campaign.long(long).items()
        }
    if is_image and baselines:
        found["baselines"] = campaign.baselines(baselines)
    return found


def _settings(subject: Victim, seed: int, sessions: int) -> Settings:
    is_image = subject.test.is_image
    return Settings(seed=seed, sessions=sessions, is_image=is_image, least_rows=500 if is_image else 0)


def _left_out(victim: str, seed: int, names: str, calibration: int, sessions: int) -> dict[str, Any]:
    subject = VICTIMS[victim](seed)
    settings = _settings(subject, seed, calibration)
    found = {name: vars(left_out(subject, settings, name, sessions)) for name in names.split(",")}
    return {"victim": victim, "seed": seed, "calibration": calibration, "left_out": found}


@click.command()
@click.option("--victim", type=click.Choice(list(VICTIMS)), default="digits", show_default=True)
@click.option("--seed", "seeds", type=int, multiple=True, help="Of split, model, sessions and keys.")
@click.option("--calibration", default=60, show_default=True, help="Sessions of each behaviour that fix the limits.")
@click.option("--sessions", default=60, show_default=True, help="Benign sessions of each behaviour.")
@click.option("--thefts", default=20, show_default=True, help="Sessions of each extraction attack.")
@click.option("--targets", default=20, show_default=True, help="Targets of each evasion attack until the first alarm.")
@click.option("--governed", default=0, show_default=True, help="Targets of each evasion attack under the ladder.")
@click.option("--long", default=0, show_default=True, help="Benign sessions of 1,500 queries; twice as many attacks.")
@click.option("--baselines", default=0, show_default=True, help="Sessions shown to PRADA and Blacklight.")
@click.option("--left-out", "names", default="", metavar="NAME,...", help="Calibrate without each; nothing else.")
@click.option("--through-service", default=0, show_default=True, help="Sessions of each attack through a deployment.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Add the results to this JSON file.")
@click.option("--write", "written", type=click.Path(path_type=Path), multiple=True, help="Write RESULTS.md from these.")
def main(
    *,
    victim: str,
    seeds: tuple[int, ...],
    names: str,
    through_service: int,
    output: Path | None,
    written: tuple[Path, ...],
    **counts: int,
) -> None:
    """Replay benign sessions and attacks through the abuse detectors."""
    if written:
        RESULTS.write_text(page([run for path in written for run in json.loads(path.read_text())]), encoding="utf-8")
        return
    runs: list[dict[str, Any]] = json.loads(output.read_text()) if output and output.exists() else []
    for seed in seeds:
        if through_service:
            from evaluation.detectors.service import through

            runs.append(through(VICTIMS[victim](seed), seed, through_service))
        elif names:
            runs.append(_left_out(victim, seed, names, counts["calibration"], counts["sessions"]))
        else:
            runs.append(measure(victim, seed, **counts))
        if output:
            output.write_text(json.dumps(runs) + "\n", encoding="utf-8")
    if not output:
        click.echo(table(runs), nl=False)


if __name__ == "__main__":
    main()
