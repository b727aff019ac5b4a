"""What else is learned from the same sample: each learner sees the whole of it, and adds facts to the report.

A learner takes the manifest, the path of the sample and the sample itself, and returns names and values, which the
command prints and puts into its JSON.  Whoever learns something else of benign data appends a function to LEARNERS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from manifests.abuse.calibrate.sample import Sample
from manifests.model import ModelManifest

Learner: TypeAlias = Callable[[ModelManifest, Path, Sample], Mapping[str, Any]]

LEARNERS: list[Learner] = []
