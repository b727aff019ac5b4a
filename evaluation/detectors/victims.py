"""The models that are attacked, on data that ships with scikit-learn, split by object into four parts."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from manifests.abuse.calibrate.behaviours import Pool, Rows
from manifests.abuse.calibrate.learn import Subject
from manifests.abuse.scores import Outputs


@dataclass(frozen=True)
class Victim:
    """A trained model: what calibration needs of it, and the objects of each party.

    sample: the owner's benign rows.  test: benign clients.  attacker: rows that an attacker has.  accuracy: on `test`.
    layers: weights and biases of the hidden and of the last layer, where there is nothing before and between them.
    """

    name: str
    subject: Subject
    sample: Rows
    test: Pool
    attacker: Pool
    accuracy: float
    layers: tuple[Rows, ...] = ()

    def scores(self, flat: Rows) -> Outputs:
        """Return the model's probabilities [n, classes]."""
        return self.subject.run(self.subject.rows(flat))

    def labels(self, flat: Rows) -> npt.NDArray[np.int64]:
        """Return the model's labels [n]."""
        return np.asarray(self.scores(flat).argmax(axis=1), np.int64)


def digits(seed: int) -> Victim:
    """Handwritten digits, 8 by 8 pixels between 0 and 1: 500 rows train, 700 calibrate, 300 test, 297 attack."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return _victim("digits", data.data / 16, data.target, sizes=(500, 700, 300), shape=(8, 8), seed=seed)


def cancer(seed: int) -> Victim:
    """Measurements of tumours, 30 features of different units: 150 rows train, 239 calibrate, 100 test, 80 attack."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return _victim("breast_cancer", data.data, data.target, sizes=(150, 239, 100), shape=(30,), seed=seed)


def _victim(
    name: str,
    rows: Rows,
    targets: npt.NDArray[Any],
    *,
    sizes: tuple[int, int, int],
    shape: tuple[int, ...],
    seed: int,
) -> Victim:
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    order = np.random.default_rng(seed).permutation(len(rows))
    train, sample, test, attacker = np.split(order, np.cumsum(sizes))
    is_image = len(shape) > 1
    steps = [] if is_image else [StandardScaler()]
    model = make_pipeline(*steps, MLPClassifier((64,), max_iter=400, random_state=seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(rows[train], targets[train])

    network = model[-1]
    layers = () if steps else (network.coefs_[0], network.intercepts_[0], network.coefs_[1], network.intercepts_[1])

    def run(asked: npt.NDArray[Any]) -> Outputs:
        flat = asked.reshape(len(asked), -1).astype(np.float64)
        return np.asarray(_forward(flat, *layers) if layers else model.predict_proba(flat), np.float32)

    subject = Subject("x", "y", False, len(np.unique(targets)), "float32", shape, run)

    def pool(chosen: npt.NDArray[np.int64]) -> Pool:
        mine = rows[chosen]
        low, high = rows.min(axis=0), rows.max(axis=0)
        if is_image:
            low, high = np.zeros_like(low), np.ones_like(high)
        unit = high - low if is_image else 3 * rows[sample].std(axis=0)
        labels = np.asarray(run(mine).argmax(axis=1), np.int64)
        return Pool(mine, labels, low, high, unit, shape, is_image)

    accuracy = float((model.predict(rows[test]) == targets[test]).mean())
    return Victim(name, subject, rows[sample], pool(test), pool(attacker), accuracy, layers)


def _forward(rows: Rows, w: Rows, b: Rows, v: Rows, c: Rows) -> Rows:
    """Return softmax(relu(rows w + b) v + c), as scikit-learn does with many more checks."""
    logits = np.maximum(rows @ w + b, 0) @ v + c
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
