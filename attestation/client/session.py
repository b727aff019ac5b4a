"""Sessions with an attested enclave: the client library's front door.

    with Session.connect("tcp:models.example:7400", policy="client.toml", collateral="collateral") as session:
        answer = session.infer("tumour", {"X": measurements})
        answer["probabilities"]

Nothing is sent before the enclave's evidence has passed the policy.  A session is for one thread or task at a time
to use; others wait their turn.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import numpy.typing as npt

from attestation.appraise import SessionAppraisal
from attestation.client import display
from attestation.client.connection import Connection
from attestation.client.generation import WINDOW, Draw, Generation, Prompt, Transcript, question
from attestation.client.models import ModelInfo, Prediction, tensors_of
from attestation.client.resumption import SavedSession, save
from attestation.client.service import LISTING_REQUEST, TICKET_REQUEST, Service, read_ticket
from attestation.client.terms import Options, Terms, make_terms
from attestation.collateral import CollateralSource
from attestation.errors import WireError
from attestation.policy import Policy


class SessionBase:
    """What both kinds of session know."""

    def __init__(self, terms: Terms, attested: SessionAppraisal, service: Service) -> None:
        """Keep what was agreed and what was attested."""
        self._terms = terms
        self._attested = attested
        self._service = service

    @property
    def attested(self) -> SessionAppraisal:
        """The appraisal of the enclave process that this session runs in: `.appraisal`, `.verified`, `.claims`."""
        return self._attested

    @property
    def simulated(self) -> bool:
        """Whether the evidence comes from a simulated platform, and so protects nothing from its operator."""
        return self._attested.verified.simulated

    def __repr__(self) -> str:
        return display.text(type(self).__name__, self._terms.call.address, self._attested)

    def _repr_html_(self) -> str:
        """Show in a notebook what was attested; no secrets."""
        return display.html(type(self).__name__, self._terms.call.address, self._attested)


class Session(SessionBase):
    """A session over a blocking socket; a context manager.  Made by `connect` or `resume`."""

    def __init__(self, terms: Terms, connection: Connection, attested: SessionAppraisal, service: Service) -> None:
        """Keep an open connection; use `connect`."""
        super().__init__(terms, attested, service)
        self._connection = connection
        self._turn = threading.Lock()

    @classmethod
    def connect(
        cls,
        address: str,
        *,
        policy: Policy | Path | str,
        collateral: CollateralSource | Path | str | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """Connect, appraise the enclave, and return a session; nothing of the caller's is sent before that.

        address: "unix:/path" or "tcp:HOST:PORT" of a host agent.  policy: a Policy or its TOML file, with a
        [service] table.  collateral: a source, or the directory or file that holds it.  Further keywords:
        route: the deployment's name, by default "default".  key, credential: who the client says it is; anonymous
        without.  roots: only where the policy does not say.  memory: the highest epochs seen; give one with a file
        to keep them across runs.  timeouts: by default patient ones.  now: gives Unix seconds.

        Raises EvidenceError for evidence that is broken or refused, ClientError for an unreachable or silent
        address and for owners that the policy does not accept, WireError for a broken protocol.
        """
        return cls._open(make_terms(address, policy, collateral, **options))

    @classmethod
    def resume(cls, saved: SavedSession) -> Self:
        """Come back with a ticket where that is still allowed and taken; otherwise attest anew."""
        if saved.usable(saved.terms.freshness.now()):
            with contextlib.suppress(WireError):
                connection = Connection.open(saved.call())
                return cls(saved.terms, connection, saved.attested, saved.service())
        return cls._open(saved.terms)

    @classmethod
    def _open(cls, terms: Terms) -> Self:
        connection = Connection.open(terms.call)
        try:
            attested = connection.attested
            return cls(terms, connection, attested, Service(terms.freshness, terms.freshness.admit(attested.claims)))
        except BaseException:
            connection.close()
            raise

    def infer(self, model: str | bytes, inputs: Mapping[str, npt.ArrayLike], *, reset: bool = False) -> Prediction:
        """Send tensors to a model and return its output tensors by name.

        model: a name, `<owner hex>/<name>`, or a digest (64 bytes or 128 hex digits).  reset: a stateful model begins
        anew with this request.  Raises RemoteError for a
        request that the enclave refuses (the session goes on), ClientError for an answer that is stale or rolled
        back, and for one that does not come.
        """
        tensors = tensors_of(inputs)
        with self._turn:
            self._prepare(model)
            ask = self._service.infer_request(model, reset=reset)
            return self._service.prediction(ask, self._connection.request(ask.header, tensors))

    def generate(
        self,
        model: str | bytes,
        prompt: Prompt,
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> Generation:
        """Ask a language model to go on with a prompt; the answer is read part by part.

        prompt: text, bytes, or token numbers.  stop: texts before which the answer ends.  Without a temperature the
        answer is greedy; with one, the same seed gives the same answer.  docs/generation.md explains all of it.
        Other requests may be made while the answer is open.  Raises as `infer`; refusals come with the first part.
        """
        asked, tensors = question(prompt, max_new_tokens, stop, Draw(temperature, top_k, top_p, seed))
        with self._turn:
            self._prepare(model)
            ask = self._service.generate_request(model)
            number = self._connection.stream({**ask.header, **asked}, tensors, WINDOW)
        transcript = Transcript(partial(self._service.part, ask))
        return Generation(self._connection, self._turn, number, transcript)

    def _prepare(self, model: str | bytes) -> None:
        """List the models where that must come before inputs leave for this one."""
        if self._service.needs_listing(model):
            self._service.learn(self._connection.request(LISTING_REQUEST))

    def models(self) -> tuple[ModelInfo, ...]:
        """List the models that the enclave has loaded."""
        with self._turn:
            return self._service.learn(self._connection.request(LISTING_REQUEST))

    def ticket(self) -> SavedSession:
        """Ask for a ticket with which `resume` comes back to this enclave process once, within the hour."""
        with self._turn:
            answer = self._connection.request(TICKET_REQUEST)
        return save(self._terms, self._attested, self._service, read_ticket(answer))

    def close(self) -> None:
        """End the session in order; safe to call twice."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
