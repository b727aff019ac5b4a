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
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

import numpy.typing as npt

from attestation.appraise import SessionAppraisal
from attestation.client import display
from attestation.client.connection import Connection
from attestation.client.content import Content, Labels, answers_of, inputs_of, newest
from attestation.client.generation import WINDOW, Draw, Generation, Prompt, Transcript, Whole, question
from attestation.client.models import ModelInfo, Prediction, tensors_of
from attestation.client.receipts import Exchange, Origin, Seen, take_receipt
from attestation.client.resumption import SavedSession, save
from attestation.client.retries import Patience, is_lost
from attestation.client.service import LISTING_REQUEST, TICKET_REQUEST, Ask, Service, read_ticket
from attestation.client.terms import Options, Terms, make_terms
from attestation.collateral import CollateralSource
from attestation.errors import WireError
from attestation.policy import Policy
from attestation.receipts.bundle import ReceiptBundle
from attestation.wire.commitments import Direction, sent
from attestation.wire.generated import asked
from manifests import canonical
from manifests.errors import StrongroomError
from manifests.files import require_free, require_writable


class SessionBase:
    """What both kinds of session know."""

    def __init__(self, terms: Terms, attested: SessionAppraisal, service: Service, origin: Origin) -> None:
        """Keep what was agreed and what was attested."""
        self._terms = terms
        self._is_lost = False
        self._attested = attested
        self._service = service
        self._origin = origin

    @property
    def attested(self) -> SessionAppraisal:
        """The appraisal of the enclave process that this session runs in: `.appraisal`, `.verified`, `.claims`."""
        return self._attested

    @property
    def simulated(self) -> bool:
        """Whether the evidence comes from a simulated platform, and so protects nothing from its operator."""
        return self._attested.verified.simulated

    def _wants(self, *, receipt: bool | Path | str) -> bool:
        """Tell whether to ask for a receipt, after whatever could keep it from being kept; raises StrongroomError."""
        if receipt is False:
            return False
        self._origin.collateral  # noqa: B018 - fetched before a request of the lease is spent
        if receipt is not True:
            require_writable(Path(receipt))
            require_free(Path(receipt), overwrite=False)
        return True

    def _receipted(self, exchange: Exchange, *, receipt: bool | Path | str) -> Prediction:
        """Return the answer with its receipt, which is checked, and saved where `receipt` is a path."""
        exchange.prediction.receipt = self._take(exchange.seen(), self._origin, self._attested, receipt=receipt)
        return exchange.prediction

    def _take(
        self, seen: Seen, origin: Origin, attested: SessionAppraisal, *, receipt: bool | Path | str
    ) -> ReceiptBundle | None:
        now = int(self._terms.freshness.now())
        found = take_receipt(seen, origin, attested, now, wanted=receipt is not False)
        if found is not None and not isinstance(receipt, bool):
            found.save(receipt)
        return found

    def _transcript(
        self,
        ask: Ask,
        request: tuple[bytes, int],
        header: Mapping[str, canonical.Value],
        tensors: Mapping[str, npt.NDArray[Any]] | None,
        *,
        receipt: bool | Path | str,
    ) -> Transcript:
        """Return what takes the parts of an answer; request: handshake hash of the session, and its number there."""
        origin, attested = self._origin, self._attested
        inputs = asked(header, sent(tensors or {}))

        def conclude(whole: Whole) -> ReceiptBundle | None:
            last, content = whole.last, {Direction.INPUT: inputs, Direction.OUTPUT: whole.tensors()}
            seen = Seen(*request, content, last.get("receipt"), last["model"], last["epoch"], last["beat"])
            return self._take(seen, origin, attested, receipt=receipt)

        return Transcript(partial(self._service.part, ask), conclude)

    def __repr__(self) -> str:
        return display.text(type(self).__name__, self._terms.call.address, self._attested)

    def _repr_html_(self) -> str:
        """Show in a notebook what was attested; no secrets."""
        return display.html(type(self).__name__, self._terms.call.address, self._attested)


class Session(SessionBase):
    """A session over a blocking socket; a context manager.  Made by `connect` or `resume`."""

    def __init__(
        self, terms: Terms, connection: Connection, attested: SessionAppraisal, service: Service, origin: Origin
    ) -> None:
        """Keep an open connection; use `connect`."""
        super().__init__(terms, attested, service, origin)
        self._connection = connection
        self._turn = threading.Lock()
        self._closed = False

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
        to keep them across runs.  timeouts: by default patient ones.  retries: how often a request is sent again where
        the enclave is busy or was lost, by default never.  now: gives Unix seconds.

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
                return cls(saved.terms, connection, saved.attested, saved.service(), saved.origin)
        return cls._open(saved.terms)

    @classmethod
    def _open(cls, terms: Terms) -> Self:
        return cls(terms, *cls._establish(terms))

    @staticmethod
    def _establish(terms: Terms) -> tuple[Connection, SessionAppraisal, Service, Origin]:
        connection = Connection.open(terms.call)
        try:
            attested = connection.attested
            service = Service(terms.freshness, terms.freshness.admit(attested.claims))
        except BaseException:
            connection.close()
            raise
        return connection, attested, service, connection.origin

    def infer(
        self,
        model: str | bytes,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        receipt: bool | Path | str = False,
        reset: bool = False,
    ) -> Prediction:
        """Send tensors to a model and return its output tensors by name.

        model: a name, `<owner hex>/<name>`, or a digest (64 bytes or 128 hex digits).  receipt: whether to ask for a
        receipt, which the answer then has as `receipt`; a path: the new file to save it in, too, without the tensors.
        reset: a stateful model begins anew with this request.
        Raises RemoteError for a request that the enclave refuses (the session goes on), ClientError for an answer
        that is stale or rolled back, and for one that does not come, ReceiptError for a receipt that is not of this
        request, ManifestError for its file.
        """
        tensors, patience = tensors_of(inputs), Patience(self._terms.retries)
        wanted = self._wants(receipt=receipt)
        while True:
            try:
                exchange = self._infer(model, tensors, wanted=wanted, reset=reset)
                break
            except StrongroomError as error:
                if self._closed:
                    raise
                time.sleep(patience.wait(error))
                self._is_lost = self._is_lost or is_lost(error)
        return self._receipted(exchange, receipt=receipt)

    def _infer(
        self, model: str | bytes, tensors: Mapping[str, npt.NDArray[Any]], *, wanted: bool, reset: bool
    ) -> Exchange:
        with self._turn:
            self._prepare(model)
            ask = self._service.infer_request(model, receipt=wanted, reset=reset)
            body = self._connection.request(ask.header, tensors)
            prediction = self._service.prediction(ask, body)
            return Exchange(self._connection.handshake_hash, self._connection.last_id, tensors, body, prediction, reset)

    def _replace(self) -> None:
        """Go on in a new session, attested anew under the same terms."""
        self._connection.close()
        self._connection, self._attested, self._service, self._origin = self._establish(self._terms)
        self._is_lost = False

    def ask(self, model: str | bytes, content: Content) -> Labels:
        """Ask a model of one text, picture or recording, and return its labels with their scores.

        content: a text as `str`; a file as its bytes or a Path; or a picture of Pillow's.  A pipeline answers with a
        label for each place that it found in the picture, and where that is.  Raises as `infer`, and ClientError
        `content-unfit` or `answer-unlabelled` for a model that is not made for this.
        """
        asked = newest(self.models(), model)
        return answers_of(self.infer(model, inputs_of(asked, content)), asked)

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
        receipt: bool | Path | str = False,
    ) -> Generation:
        """Ask a language model to go on with a prompt; the answer is read part by part.

        prompt: text, bytes, or token numbers.  stop: texts before which the answer ends.  Without a temperature the
        answer is greedy; with one, the same seed gives the same answer.  receipt: as for `infer`, of the whole answer,
        once its last part has come.  docs/generation.md explains all of it.
        Other requests may be made while the answer is open.  Raises as `infer`; refusals come with the first part.
        """
        header, tensors = question(prompt, max_new_tokens, stop, Draw(temperature, top_k, top_p, seed))
        wanted = self._wants(receipt=receipt)
        with self._turn:
            self._prepare(model)
            ask = self._service.generate_request(model, receipt=wanted)
            number = self._connection.stream({**ask.header, **header}, tensors, WINDOW)
            request = self._connection.handshake_hash, number
            transcript = self._transcript(ask, request, header, tensors, receipt=receipt)
        return Generation(self._connection, self._turn, number, transcript)

    def _prepare(self, model: str | bytes) -> None:
        """Replace a lost session, and list the models where that must come before inputs leave for this one."""
        if self._is_lost:
            self._replace()
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
        return save(self._terms, self._attested, self._service, self._origin, read_ticket(answer))

    def close(self) -> None:
        """End the session in order; safe to call twice."""
        self._closed = True
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
