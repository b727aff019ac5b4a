"""The abuse guard of a loaded model: who is asking, what the detectors say of it, and what follows.

`observe` comes before pre-processing and refuses; `settle` comes after post-processing, shows the query and its
answer to the detectors, and gives the answer as the identity's rung of the ladder admits.  Answers become coarser or
are refused; they are never wrong, and no rung tells what the manifest's own answer does not.  Rungs are climbed on a
schedule of 32 queries, so that no single query tells whether it raised an alarm, and the detectors do the same work
whether they are alarmed or not.

Each identity has a state of its own, and all together have one more (enclave/identities.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from enclave.coarsening import Answered, Coarsening, rounded_outputs, shows_digits, shows_label
from enclave.errors import EnclaveCode, EnclaveError
from enclave.identities import Identities, refusal
from enclave.ladder import Standing
from enclave.validate import Tensors
from enclave.values import Array
from manifests.abuse.fitting import check_profile
from manifests.abuse.policy import SEVERITY, AbusePolicy, Action
from manifests.abuse.profile import Profile
from manifests.abuse.scores import squeeze
from manifests.abuse.served import Served
from manifests.abuse.state import Lens, Watch
from manifests.errors import StrongroomError
from manifests.model import ModelManifest


@dataclass(frozen=True)
class Seen:
    """A request that was let through: who asks, its rows, and the input with fewer levels where that is run, too."""

    identity: Standing
    rows: Array = field(repr=False)
    squeezed: Tensors | None = field(default=None, repr=False)


class Guard(Identities):
    """Watches one model; thread-safe."""

    def __init__(
        self,
        policy: AbusePolicy,
        lens: Lens,
        labels: tuple[str, ...],
        clock: Callable[[], float] = time.monotonic,
        *,
        rounded: frozenset[str] = frozenset(),
        served: Served | None = None,
    ) -> None:
        """Begin with nobody known.

        clock: gives seconds, which are the host's, for `slow` alone.  rounded: outputs that the manifest itself leaves
        with no more digits than the policy does.  served: where answers tell the best class, by default as
        scores in the watched output.
        """
        super().__init__(policy, lambda: Watch(lens.profile), clock)
        self._lens = lens
        self._labels = np.array(labels, dtype=object) if len(labels) == lens.profile.classes else None
        self._rounded_already = rounded
        self._served = served or Served(lens.profile.output, scores=not lens.profile.labels_only)

    @classmethod
    def load(
        cls, manifest: ModelManifest, parts: Mapping[str, bytes], secret: memoryview, digest: bytes
    ) -> Guard | None:
        """Make the guard that a manifest asks for, or None where it asks for none.

        The detectors' secrets follow from the boot's secret and the model's digest.  Raises EnclaveError
        `model-unusable` where the profile is missing, damaged or another model's.
        """
        policy = manifest.abuse
        if policy is None:
            return None
        if policy.profile not in parts:
            raise EnclaveError(EnclaveCode.MODEL_UNUSABLE, "the sealed model has not the profile that it names")
        try:
            profile = Profile.decode(parts[policy.profile])
            served = check_profile(profile, manifest)
        except StrongroomError as error:
            raise EnclaveError(EnclaveCode.MODEL_UNUSABLE, f"the model's profile is refused: {error.message}") from None
        key = HKDF(SHA512(), 32, salt=digest, info=b"strongroom sketch v1").derive(bytes(secret))
        return cls(
            policy,
            Lens(profile, key),
            manifest.labels,
            rounded=rounded_outputs(manifest.post, policy.digits),
            served=served,
        )

    # ------------------------------------------------------------------------------------ requests

    def observe(self, principal: bytes, inputs: Tensors) -> Seen:
        """Let a request through or refuse it; raises EnclaveError `abuse-slowed`, `-refused` or `-revoked`."""
        profile = self._lens.profile
        rows = inputs[profile.input]
        with self._lock:
            identity = self._identity(principal)
            self._gate(identity, len(rows))
        squeezed = {**inputs, profile.input: squeeze(profile.squeeze, rows)} if profile.squeeze.levels else None
        return Seen(identity, rows, squeezed)

    def settle(self, seen: Seen, raw: Tensors, outputs: Tensors, squeezed: Tensors | None = None) -> Answered:
        """Show the rows and the graph's `raw` answers to the detectors, and return `outputs` as the rung admits.

        Raises EnclaveError as `observe`: a request of many rows may climb the ladder while it is looked at.
        """
        name = self._lens.profile.output
        looks = self._lens.look(seen.rows, raw[name], None if squeezed is None else squeezed[name])
        with self._lock:
            for row in range(len(looks)):
                self._see(seen.identity, looks, row)
            action = self._action(seen.identity)
            if SEVERITY[action] >= SEVERITY[Action.REFUSE]:
                raise refusal(action)
        return self._admitted(action, outputs)

    def _admitted(self, action: Action, outputs: Tensors) -> Answered:
        if action is Action.FEWER_DIGITS:
            shows = shows_digits(outputs, self._rounded_already)
            rounded = {name: self._rounded(array) for name, array in outputs.items()}
            return Answered(rounded, coarsening=Coarsening.ROUNDED if shows else Coarsening.NONE)
        if SEVERITY[action] >= SEVERITY[Action.LABEL_ONLY]:
            label = {"label": self._label(self._served.best(outputs))}
            shows = shows_label(outputs, label)
            return Answered(label, coarsening=Coarsening.LABEL_ONLY if shows else Coarsening.NONE)
        return Answered(outputs)

    def _label(self, best: Array) -> Array:
        """Return classes by the names that the manifest has for them; what has its label already is left as it is."""
        if self._labels is None or best.dtype.kind == "O":
            return best
        return np.asarray(self._labels[np.clip(best, 0, len(self._labels) - 1)], dtype=object)

    def _rounded(self, array: Array) -> Array:
        if array.dtype.kind != "f":
            return array
        rounded = np.round(array.astype(np.float64), self._policy.digits)
        return np.where(np.isfinite(rounded), rounded, array).astype(array.dtype)
