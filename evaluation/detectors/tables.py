"""The tables of a campaign, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from evaluation.detectors.campaign import LENGTH
from manifests.abuse.calibrate.intervals import clopper_pearson

Run = dict[str, Any]


def table(runs: Sequence[Run]) -> str:
    """Return all tables of these runs, those of one victim together."""
    parts = []
    for victim in dict.fromkeys(run["victim"] for run in runs):
        mine = [run for run in runs if run["victim"] == victim]
        seeds = ", ".join(str(run["seed"]) for run in mine)
        parts.append(f"## {victim}, seeds {seeds}\n\n{_cost(mine)}\n{_benign(mine)}\n{_thefts(mine)}")
        parts += [_evasions(mine, kind) for kind in mine[0].get("evasions", {})]
        parts += [_baselines(mine)] if any("baselines" in run for run in mine) else []
    return "\n".join(parts)


def _cost(runs: Sequence[Run]) -> str:
    best = min(run["cost"]["p50"] for run in runs)
    least = min(run["cost"]["least"] for run in runs)
    accuracy = ", ".join(f"{run['accuracy']:.1%}" for run in runs)
    return (
        f"Accuracy of the models: {accuracy}. One query that comes alone, own and pooled state together: "
        f"median {best:.0f} µs, least {least:.0f} µs. One identity: {runs[0]['cost']['bytes']:,} bytes.\n"
    )


def _benign(runs: Sequence[Run]) -> str:
    rows = []
    total = hard = trials = 0
    for name in runs[0]["benign"]:
        firsts, hards = _joined(runs, "benign", name)
        hits, twos = _count(firsts), _count(hards)
        total, hard, trials = total + hits, hard + twos, trials + len(firsts)
        rows.append((name, f"{hits}/{len(firsts)}", _interval(hits, len(firsts)), f"{twos}/{len(hards)}"))
    rows.append(("**all**", f"**{total}/{trials}**", _interval(total, trials), f"**{hard}/{trials}**"))
    return _markdown(("benign sessions", "any alarm", "95 % interval", "two detectors"), rows)


def _thefts(runs: Sequence[Run]) -> str:
    rows = []
    for name in runs[0]["thefts"]:
        firsts, hards = _joined(runs, "thefts", name)
        hits = _count(firsts)
        by = {key: sum(run["thefts"][name]["detectors"][key] for run in runs) for key in _detectors(runs)}
        spoke = ", ".join(f"{key} {count}" for key, count in by.items() if count) or "none"
        rate = f"{hits}/{len(firsts)}"
        rows.append(
            (name, rate, _interval(hits, len(firsts)), _median(firsts), f"{_count(hards)}", _median(hards), spoke)
        )
    head = ("extraction", "detected", "95 % interval", "median query", "by two", "median query", "detectors")
    return _markdown(head, rows)


def _evasions(runs: Sequence[Run], kind: str) -> str:
    rows = []
    for name in runs[0]["evasions"][kind]:
        found = [run["evasions"][kind][name] for run in runs]
        targets, detected = sum(one["targets"] for one in found), sum(one["detected"] for one in found)
        opened, guarded = sum(one["open"] for one in found), sum(one["guarded"] for one in found)
        medians = ", ".join(str(one["median"]) for one in found)
        interval = _interval(guarded, targets)
        rows.append((name, f"{opened}/{targets}", f"{guarded}/{targets}", interval, f"{detected}/{targets}", medians))
    head = (f"evasion, {kind}", "succeeds unwatched", "before the first alarm", "95 % interval", "detected", "medians")
    return _markdown(head, rows)


def _baselines(runs: Sequence[Run]) -> str:
    shown = [run for run in runs if "baselines" in run]
    kinds = list(next(iter(shown[0]["baselines"].values())))
    rows = []
    for name in shown[0]["baselines"]:
        cells = []
        for kind in kinds:
            firsts = [first for run in shown for first in run["baselines"][name][kind]]
            cells.append(f"{_count(firsts)}/{len(firsts)}" + (f" at {_median(firsts)}" if _count(firsts) else ""))
        rows.append((name, *cells))
    return _markdown(("the same traffic", *kinds), rows)


def _joined(runs: Sequence[Run], part: str, name: str) -> tuple[list[int | None], list[int | None]]:
    firsts = [first for run in runs for first in run[part][name]["first"]]
    return firsts, [hard for run in runs for hard in run[part][name]["hard"]]


def _detectors(runs: Sequence[Run]) -> Iterable[str]:
    return next(iter(runs[0]["thefts"].values()))["detectors"].keys()  # type: ignore[no-any-return]


def _count(firsts: Sequence[int | None]) -> int:
    return sum(first is not None for first in firsts)


def _median(firsts: Sequence[int | None]) -> str:
    ordered = sorted(LENGTH + 1 if first is None else first for first in firsts)
    middle = ordered[len(ordered) // 2]
    return f"> {LENGTH}" if middle > LENGTH else str(middle)


def _interval(hits: int, trials: int) -> str:
    low, high = clopper_pearson(hits, trials)
    return f"{100 * low:.2f} to {100 * high:.2f} %"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
