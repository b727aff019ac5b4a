"""The abuse guard of a loaded model: who is asking, what the detectors say of it, and what follows.

`observe` comes before pre-processing and refuses; `settle` comes after post-processing, shows the query and its
answer to the detectors, and gives the answer as the identity's rung of the ladder admits.  Answers become coarser or
are refused; they are never wrong.  Rungs are climbed on a schedule of 32 queries, so that no single query tells
whether it raised an alarm, and the detectors do the same work whether they are alarmed or not.

Each identity has a state of its own, and all together have one more.  Where the number of identities reaches its
bound, the one that was quiet longest joins the shared state `rest`, and stays there whenever it comes back: so nobody
gets rid of a state by having it pushed out.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from enclave.coarsening import Answered, Coarsening, rounded_outputs, shows_digits, shows_label
from enclave.errors import EnclaveCode, EnclaveError
from enclave.ladder import Standing
from enclave.log import Event, log
from enclave.validate import Tensors
from enclave.values import Array
from manifests.abuse.fitting import check_profile
from manifests.abuse.policy import SEVERITY, AbusePolicy, Action
from manifests.abuse.profile import Profile
from manifests.abuse.scores import answers, squeeze
from manifests.abuse.state import Lens, Looks, Watch
from manifests.errors import StrongroomError
from manifests.model import ModelManifest

MAX_JOINED = 1 << 16
"""Identities of which is remembered that they joined the rest; after these, no state is given up."""
RECORD_BYTES = 2048
"""What an identity takes besides the tables of its Watch, generously."""

_ANONYMOUS = b""
_JOINED_SIZE = 8


@dataclass(frozen=True)
class Seen:
    """A request that was let through: who asks, its rows, and the input with fewer levels where that is run, too."""

    identity: Standing
    rows: Array = field(repr=False)
    squeezed: Tensors | None = field(default=None, repr=False)


class Guard:
    """Watches one model; thread-safe."""

    def __init__(
        self,
        policy: AbusePolicy,
        lens: Lens,
        labels: tuple[str, ...],
        clock: Callable[[], float] = time.monotonic,
        rounded: frozenset[str] = frozenset(),
    ) -> None:
        """Begin with nobody known.

        clock: gives seconds, which are the host's, for `slow` alone.  rounded: outputs that the manifest itself leaves
        with no more digits than the policy does.
        """
        self._policy = policy
        self._lens = lens
        self._labels = np.array(labels, dtype=object) if len(labels) == lens.profile.classes else None
        self._clock = clock
        self._rounded_already = rounded
        self._known: OrderedDict[bytes, Standing] = OrderedDict()
        self._joined: set[bytes] = set()
        self._rest = self._standing()
        self._pool = self._standing(policy.pool_factor)
        self._shadow = self._standing()
        self._lock = threading.Lock()

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
            check_profile(profile, manifest)
        except StrongroomError as error:
            raise EnclaveError(EnclaveCode.MODEL_UNUSABLE, f"the model's profile is refused: {error.message}") from None
        key = HKDF(SHA512(), 32, salt=digest, info=b"strongroom sketch v1").derive(bytes(secret))
        return cls(
            policy,
            Lens(profile, key),
            manifest.labels,
            rounded=rounded_outputs(manifest.post, policy.digits),
        )

    @property
    def most_bytes(self) -> int:
        """Bytes that all identities may take together."""
        return (self._policy.identities + 3) * (self._pool.watch.nbytes + RECORD_BYTES)

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
                raise _refusal(action)
        return self._admitted(action, raw, outputs)

    def _gate(self, identity: Standing, rows: int) -> None:
        action = self._action(identity)
        if SEVERITY[action] < SEVERITY[Action.SLOW]:
            return
        wait = identity.ready - self._clock()
        if action is not Action.SLOW or wait > 0:
            identity.pass_over(rows)
            self._pool.pass_over(rows)
            raise _refusal(action, wait)
        identity.ready = self._clock() + self._policy.pause_ms / 1000

    def _see(self, identity: Standing, looks: Looks, row: int) -> None:
        """Take one row; who has raised an alarm of its own does not speak for all any more, at the same cost."""
        before = identity.action
        (self._shadow if identity.latched else self._pool).see(looks, row)
        identity.see(looks, row)
        if SEVERITY[identity.action] > SEVERITY[before]:
            log(Event.ABUSE, action=SEVERITY[identity.action], identities=_coarse(len(self._known)))

    def _action(self, identity: Standing) -> Action:
        """Return what the identity gets: its own rung, or the pool's as far as the policy lets that go."""
        shared = min(self._pool.action, self._policy.pool, key=SEVERITY.__getitem__)
        return max(identity.action, shared, key=SEVERITY.__getitem__)

    def _admitted(self, action: Action, raw: Tensors, outputs: Tensors) -> Answered:
        if action is Action.FEWER_DIGITS:
            shows = shows_digits(outputs, self._rounded_already)
            rounded = {name: self._rounded(array) for name, array in outputs.items()}
            return Answered(rounded, coarsening=Coarsening.ROUNDED if shows else Coarsening.NONE)
        if SEVERITY[action] >= SEVERITY[Action.LABEL_ONLY]:
            best = answers(self._lens.profile, raw[self._lens.profile.output])
            label = {"label": best if self._labels is None else np.asarray(self._labels[best], dtype=object)}
            shows = shows_label(outputs, label)
            return Answered(label, coarsening=Coarsening.LABEL_ONLY if shows else Coarsening.NONE)
        return Answered(outputs)

    def _rounded(self, array: Array) -> Array:
        if array.dtype.kind != "f":
            return array
        rounded = np.round(array.astype(np.float64), self._policy.digits)
        return np.where(np.isfinite(rounded), rounded, array).astype(array.dtype)

    # ------------------------------------------------------------------------------------ identities

    def _standing(self, factor: float = 1.0) -> Standing:
        return Standing(self._policy, Watch(self._lens.profile), factor)

    def _identity(self, principal: bytes) -> Standing:
        known = self._known.get(principal)
        if known is not None:
            self._known.move_to_end(principal)
            return known
        if self._joined and _short(principal) in self._joined:
            return self._rest
        if len(self._known) >= self._policy.identities and principal != _ANONYMOUS and not self._make_room():
            return self._rest
        self._known[principal] = self._standing()
        return self._known[principal]

    def _make_room(self) -> bool:
        """Have the identity that was quiet longest join the rest; False where all are under suspicion."""
        if len(self._joined) >= MAX_JOINED:
            return False
        for principal, standing in self._known.items():
            if principal != _ANONYMOUS and not standing.latched:
                self._rest.watch.absorb(standing.watch)
                self._joined.add(_short(principal))
                del self._known[principal]
                return True
        return False

    def counts(self) -> dict[str, int]:
        """Return coarse counters, each a power of two or zero: identities watched, and those on each rung."""
        with self._lock:
            actions = [standing.action for standing in (*self._known.values(), self._rest)]
        found = {f"abuse_{action}": _coarse(actions.count(action)) for action in Action if action is not Action.SERVE}
        return {"abuse_identities": _coarse(len(actions) - 1), **found}


def _short(principal: bytes) -> bytes:
    return hashlib.blake2b(principal, digest_size=_JOINED_SIZE).digest()


def _coarse(count: int) -> int:
    """Return the greatest power of two that is not above a count."""
    return 1 << count.bit_length() - 1 if count else 0


def _refusal(action: Action, wait: float = 0.0) -> EnclaveError:
    if action is Action.SLOW:
        return EnclaveError(EnclaveCode.ABUSE_SLOWED, "this client is answered more slowly", retry_after=round(wait, 1))
    if action is Action.REVOKE:
        return EnclaveError(EnclaveCode.ABUSE_REVOKED, "this client is not answered any more")
    return EnclaveError(EnclaveCode.ABUSE_REFUSED, "this client is not answered now")
