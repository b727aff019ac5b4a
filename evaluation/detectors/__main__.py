"""Measure the detectors: `python -m evaluation.detectors --seed 0 --seed 1 -o results.json`, then `--table`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from evaluation.detectors.campaign import Campaign
from evaluation.detectors.tables import table
from evaluation.detectors.victims import cancer, digits
from manifests.abuse.calibrate.learn import Settings

VICTIMS = {"digits": digits, "cancer": cancer}


def measure(victim: str, seed: int, *, sessions: int, thefts: int, targets: int, baselines: int) -> dict[str, Any]:
    """Run one seed; everything in the result is a number of sessions or queries."""
    subject = VICTIMS[victim](seed)
    is_image = subject.test.is_image
    settings = Settings(seed=seed, sessions=sessions, is_image=is_image, least_rows=500 if is_image else 0)
    campaign = Campaign(subject, settings)
    found: dict[str, Any] = {"victim": victim, "seed": seed, "accuracy": subject.accuracy}
    found["held_out"] = [campaign.report.alarmed, campaign.report.sessions]
    found["benign"] = {name: vars(tally) for name, tally in campaign.benign(sessions).items()}
    found["thefts"] = {name: vars(tally) for name, tally in campaign.thefts(thefts).items()}
    if is_image and targets:
        found["evasions"] = {
            "plain": campaign.evasions(targets, 300),
            "blinded": campaign.evasions(targets // 2, 300, blind=0.05),
            "padded x19": campaign.evasions(max(1, targets // 4), 60, padding=19),
        }
    if is_image and baselines:
        found["baselines"] = campaign.baselines(baselines)
    found["cost"] = campaign.cost()
    return found


@click.command()
@click.option("--victim", type=click.Choice(list(VICTIMS)), default="digits", show_default=True)
@click.option("--seed", "seeds", type=int, multiple=True, help="Of split, model, sessions and keys.")
@click.option("--sessions", default=60, show_default=True, help="Benign sessions of each behaviour.")
@click.option("--thefts", default=20, show_default=True, help="Sessions of each extraction attack.")
@click.option("--targets", default=24, show_default=True, help="Targets of each evasion attack.")
@click.option("--baselines", default=0, show_default=True, help="Sessions shown to PRADA and Blacklight.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Add the results to this JSON file.")
@click.option("--table", "tables", type=click.Path(path_type=Path), multiple=True, help="Print tables of such files.")
def main(
    *,
    victim: str,
    seeds: tuple[int, ...],
    sessions: int,
    thefts: int,
    targets: int,
    baselines: int,
    output: Path | None,
    tables: tuple[Path, ...],
) -> None:
    """Replay benign sessions and attacks through the abuse detectors."""
    if tables:
        click.echo(table([run for path in tables for run in json.loads(path.read_text())]), nl=False)
        return
    runs: list[dict[str, Any]] = json.loads(output.read_text()) if output and output.exists() else []
    for seed in seeds:
        runs.append(measure(victim, seed, sessions=sessions, thefts=thefts, targets=targets, baselines=baselines))
        if output:
            output.write_text(json.dumps(runs, indent=1))
    if not output:
        click.echo(table(runs), nl=False)


if __name__ == "__main__":
    main()
