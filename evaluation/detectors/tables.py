"""The tables of a campaign, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from evaluation.detectors.campaign import LENGTH
from manifests.abuse.calibrate.intervals import clopper_pearson

Run = dict[str, Any]


def table(runs: Sequence[Run]) -> str:
    """Return all tables of these runs, those of one victim together."""
    parts = []
    for victim in dict.fromkeys(run["victim"] for run in runs):
        mine = [run for run in runs if run["victim"] == victim]
        full = [run for run in mine if "benign" in run]
        if full:
            parts.append(f"## {victim}, seeds {_seeds(full)}\n\n{_subject(full)}\n{_benign(full)}\n{_thefts(full)}")
            parts += [_evasions(full, kind) for kind in full[0].get("evasions", {})]
            parts += [show(full) for part, show in _PARTS.items() if any(part in run for run in full)]
        parts += [_peer(run) for run in mine if "peer" in run]
        for part, show in (("left_out", _left_out), ("service", _service)):
            having = [run for run in mine if part in run]
            parts += [show(having)] if having else []
    return "\n".join(parts)


def _seeds(runs: Sequence[Run]) -> str:
    return ", ".join(str(run["seed"]) for run in runs)


def _subject(runs: Sequence[Run]) -> str:
    accuracy = ", ".join(f"{run['accuracy']:.1%}" for run in runs)
    sessions = runs[0]["calibration"]
    return f"Accuracy of the models: {accuracy}. Limits fixed on {sessions} sessions of each behaviour.\n"


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
            (name, rate, _interval(hits, len(firsts)), _middle(firsts), f"{_count(hards)}", _middle(hards), spoke)
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


def _governed(runs: Sequence[Run]) -> str:
    shown = [run["governed"] for run in runs if "governed" in run]
    terms = list(next(iter(shown[0].values())))
    rows = []
    for name in shown[0]:
        cells = []
        for term in terms:
            found = [run[name][term] for run in shown]
            hits, targets = (sum(one[key] for one in found) for key in ("hits", "targets"))
            refused = [at for one in found for at in one["refused"]]
            ends = f"; {_count(refused)} refused" + (f" at {_middle(refused)}" if _count(refused) else "")
            cells.append(f"{hits}/{targets} ({_interval(hits, targets)})" + (ends if refused else ""))
        rows.append((name, *cells))
    return _markdown(("evasions that succeed within 300 queries", *terms), rows)


def _long(runs: Sequence[Run]) -> str:
    shown = [run["long"] for run in runs if "long" in run]
    rows = []
    for part in ("benign", "thefts"):
        for name, tally in shown[0][part].items():
            firsts, hards = _joined(shown, part, name)
            hits, length = _count(firsts), tally["length"]
            by = {key: sum(run[part][name]["detectors"][key] for run in shown) for key in tally["detectors"]}
            spoke = ", ".join(f"{key} {count}" for key, count in by.items() if count) or "none"
            rate = f"{hits}/{len(firsts)}"
            rows.append((name, rate, _interval(hits, len(firsts)), _middle(firsts, length), str(_count(hards)), spoke))
    head = ("sessions of 1,500 queries", "any alarm", "95 % interval", "median query", "by two", "detectors")
    return _markdown(head, rows)


def _left_out(runs: Sequence[Run]) -> str:
    rows = []
    for name in dict.fromkeys(name for run in runs for name in run["left_out"]):
        tallies = [run["left_out"][name] for run in runs if name in run["left_out"]]
        firsts = [first for tally in tallies for first in tally["first"]]
        hards = [hard for tally in tallies for hard in tally["hard"]]
        hits = _count(firsts)
        rows.append((name, f"{hits}/{len(firsts)}", _interval(hits, len(firsts)), f"{_count(hards)}/{len(hards)}"))
    head = (f"not declared, seed {_seeds(runs)}", "any alarm", "95 % interval", "two detectors")
    return _markdown(head, rows)


def _service(runs: Sequence[Run]) -> str:
    rows = []
    for part in ("benign", "thefts", "evasions"):
        for name in runs[0]["service"][part]:
            sessions = [one for run in runs for one in run["service"][part][name]]
            less, refused = ([one[key] for one in sessions] for key in ("coarser", "refused"))
            hits = [one["succeeded"] for one in sessions if one["succeeded"] is not None]
            rate = f"{_count(less)}/{len(less)}"
            wins = f"{sum(hits)}/{len(hits)}" if hits else ""
            cells = (_middle(less), f"{_count(refused)}/{len(refused)}", _middle(refused), wins)
            rows.append((name, rate, _interval(_count(less), len(less)), *cells))
    head = (f"through the service, seed {_seeds(runs)}", "answered less", "95 % interval", "median query")
    return _markdown((*head, "refused", "median query", "succeeds"), rows)


def _peer(run: Run) -> str:
    """Return the same attacks as the Adversarial Robustness Toolbox has them, on the same targets and detectors."""
    rows = []
    for name, kinds in run["peer"].items():
        for kind, found in kinds.items():
            firsts, targets = found["first"], len(found["first"])
            cells = (f"{found['open']}/{targets}", f"{found['guarded']}/{targets}")
            rows.append((name, kind, *cells, f"{_count(firsts)}/{targets}", _middle(firsts)))
    head = (f"evasion, seed {run['seed']}", "by", "succeeds unwatched", "before the first alarm", "detected")
    return _markdown((*head, "median query"), rows)


def _middle(firsts: Sequence[int | None], length: int = LENGTH) -> str:
    """Return the median, where sessions without count as longer than all."""
    ordered = sorted(length + 1 if first is None else first for first in firsts)
    middle = ordered[len(ordered) // 2] if ordered else length + 1
    return f"> {length}" if middle > length else str(middle)


def _baselines(runs: Sequence[Run]) -> str:
    shown = [run for run in runs if "baselines" in run]
    kinds = list(next(iter(shown[0]["baselines"].values())))
    rows = []
    for name in shown[0]["baselines"]:
        cells = []
        for kind in kinds:
            firsts = [first for run in shown for first in run["baselines"][name][kind]]
            cells.append(f"{_count(firsts)}/{len(firsts)}" + (f" at {_middle(firsts)}" if _count(firsts) else ""))
        rows.append((name, *cells))
    return _markdown(("the same traffic", *kinds), rows)


def _joined(runs: Sequence[Run], part: str, name: str) -> tuple[list[int | None], list[int | None]]:
    firsts = [first for run in runs for first in run[part][name]["first"]]
    return firsts, [hard for run in runs for hard in run[part][name]["hard"]]


def _detectors(runs: Sequence[Run]) -> Iterable[str]:
    return next(iter(runs[0]["thefts"].values()))["detectors"].keys()  # type: ignore[no-any-return]


def _count(firsts: Sequence[int | None]) -> int:
    return sum(first is not None for first in firsts)


def _interval(hits: int, trials: int) -> str:
    low, high = clopper_pearson(hits, trials)
    return f"{100 * low:.2f} to {100 * high:.2f} %"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


_PARTS: Mapping[str, Callable[[Sequence[Run]], str]] = {
    "governed": _governed,
    "long": _long,
    "baselines": _baselines,
}
"""Tables of the parts that not every run has."""
