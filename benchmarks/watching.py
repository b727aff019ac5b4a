"""What the abuse detectors cost: one query that comes alone, of 64 features, in its identity's state and the pool's.

Times are of the process, and the least of many blocks of ten queries: so what else the machine does matters least.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from evaluation.detectors.victims import digits
from manifests.abuse.calibrate.learn import Settings, learn
from manifests.abuse.state import Lens, Watch

QUERIES = 2000
BLOCK = 10
REPEATS = 5
POOL_FACTOR = 4.0


def measure() -> dict[str, Any]:
    """Return microseconds of a query, and of its three parts; no two queries are equal."""
    victim = digits(1)
    settings = Settings(seed=1, sessions=10, is_image=True)
    profile, _ = learn(victim.sample, np.arange(len(victim.sample)), victim.subject, settings)
    random = np.random.default_rng(1)
    flat = victim.test.rows[np.arange(QUERIES * REPEATS) % len(victim.test.rows)]
    rows = victim.subject.rows(flat + random.normal(0, 0.05, flat.shape))
    outputs = victim.subject.run(rows)
    lens, own, pool = Lens(profile, b"cost"), Watch(profile), Watch(profile)
    spent = np.array([_query(lens, own, pool, rows[at : at + 1], outputs[at : at + 1]) for at in range(len(rows))])
    blocks = spent.reshape(-1, BLOCK, spent.shape[1]).mean(axis=1) / 1000
    least, usual = blocks[blocks.sum(axis=1).argmin()], np.median(blocks, axis=0)
    parts = ("look_us", "own_state_us", "pooled_state_us")
    return {
        "features": lens.profile.view.features,
        "query_us": {"least": float(least.sum()), "median": float(usual.sum()), "queries": len(rows)},
        **{
            name: {"least": float(low), "median": float(mid)}
            for name, low, mid in zip(parts, least, usual, strict=True)
        },
        "bytes_per_identity": own.nbytes,
    }


def _query(lens: Lens, own: Watch, pool: Watch, row: Any, outputs: Any) -> tuple[int, int, int]:
    """Do what the guard does for one query; return nanoseconds of its parts."""
    start = time.process_time_ns()
    looks = lens.look(row, outputs)
    looked = time.process_time_ns()
    own.see(looks, 0)
    own.alarms()
    seen = time.process_time_ns()
    pool.see(looks, 0)
    pool.alarms(POOL_FACTOR)
    return looked - start, seen - looked, time.process_time_ns() - seen


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
