"""Trying again, where a caller asks for it: when, how often, and after what.

An enclave that has too much to do says after how many seconds it will have less, inside the session, and one that ends
says so too; a host that lost its enclave is believed as far as a new connection goes, which attests anew.  A request
that was refused for what it is, or that took too long, is never sent again.  Answers depend on inputs alone, so sending
a request twice costs one more of the model's lease, and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from attestation.client.errors import ClientCode, ClientError
from attestation.client.refusals import RemoteError
from attestation.errors import WireCode, WireError
from manifests.errors import StrongroomError

FIRST_SECONDS = 0.25
"""Before the first new try where nobody has said how long; it doubles with each."""
MAX_ATTEMPTS = 100
MAX_SECONDS = 86_400.0

_LOST = frozenset({ClientCode.HOST_REFUSED, ClientCode.ADDRESS_UNREACHABLE, ClientCode.CLIENT_CLOSED})
"""Codes of a session that is over through no fault of the request."""


@dataclass(frozen=True)
class Retries:
    """How often a request is sent anew at most, and for how long in all.

    attempts: beside the first.  longest: seconds of one wait; an enclave that asks for more is not waited for.
    total: seconds of all waits.  draw: uniform from [a, b], for tests.
    """

    attempts: int = 5
    longest: float = 30.0
    total: float = 60.0
    draw: Callable[[float, float], float] = field(default=random.uniform, repr=False)

    def __post_init__(self) -> None:
        """Refuse what is no bound; raises ClientError `retries-invalid`."""
        if not 0 < self.attempts <= MAX_ATTEMPTS or not 0 < self.longest <= self.total <= MAX_SECONDS:
            raise ClientError(
                ClientCode.RETRIES_INVALID,
                "the retries have no usable bounds",
                expected=f"1 to {MAX_ATTEMPTS} attempts, and 0 < longest <= total <= {MAX_SECONDS:g} seconds",
                found=f"attempts={self.attempts!r}, longest={self.longest!r}, total={self.total!r}",
            )


@dataclass
class Patience:
    """What is left of the retries for one request."""

    retries: Retries | None
    tried: int = 0
    waited: float = 0.0

    def wait(self, error: StrongroomError) -> float:
        """Return the seconds to wait before the request is sent again; raises `error` where it is not to be.

        The wait has jitter, never less than the enclave asked for: those who were sent away together do not come
        back together.
        """
        retries = self.retries
        if retries is None or self.tried >= retries.attempts or not _may_pass(error):
            raise error
        asked = (error.retry_after if isinstance(error, RemoteError) else None) or 0.0
        least = max(asked, min(FIRST_SECONDS * 2.0**self.tried, retries.longest / 1.5))
        seconds = retries.draw(least, 1.5 * least)
        if asked > retries.longest or self.waited + seconds > retries.total:
            raise error
        self.tried += 1
        self.waited += seconds
        return seconds


def is_lost(error: StrongroomError) -> bool:
    """Tell whether the session is over, and another one may answer."""
    if isinstance(error, RemoteError):
        return error.remote_code == "enclave-stopping"
    return error.code in _LOST or (isinstance(error, WireError) and error.code is WireCode.SESSION_TRUNCATED)


def _may_pass(error: StrongroomError) -> bool:
    return is_lost(error) or (isinstance(error, RemoteError) and error.retry_after is not None)
