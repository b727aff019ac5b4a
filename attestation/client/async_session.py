"""The asynchronous front door; what it does and raises is said in `attestation.client.session`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack

import numpy.typing as npt

from attestation.appraise import SessionAppraisal
from attestation.client.asynchronous import AsyncConnection
from attestation.client.content import Content, Labels, answers_of, inputs_of, newest
from attestation.client.generation import WINDOW, AsyncGeneration, Draw, Prompt, question
from attestation.client.models import ModelInfo, Prediction, tensors_of
from attestation.client.receipts import Exchange, Origin
from attestation.client.resumption import SavedSession, save
from attestation.client.retries import Patience, is_lost
from attestation.client.service import LISTING_REQUEST, TICKET_REQUEST, Service, read_ticket
from attestation.client.session import SessionBase
from attestation.client.terms import Options, Terms, make_terms
from attestation.collateral import CollateralSource
from attestation.errors import WireError
from attestation.policy import Policy
from manifests.errors import StrongroomError

SessionT = TypeVar("SessionT", bound="AsyncSession")


class Opening(Generic[SessionT]):
    """A session that is being opened: awaited once, or entered with `async with`."""

    def __init__(self, session: Coroutine[Any, Any, SessionT]) -> None:
        """Take the coroutine that opens it."""
        self._opening = session

    def __await__(self) -> Generator[Any, Any, SessionT]:
        return self._opening.__await__()

    async def __aenter__(self) -> SessionT:
        self._session = await self._opening
        return self._session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()


class AsyncSession(SessionBase):
    """A session for asyncio; an asynchronous context manager.  Made by `connect` or `resume`."""

    def __init__(
        self, terms: Terms, connection: AsyncConnection, attested: SessionAppraisal, service: Service, origin: Origin
    ) -> None:
        """Keep an open connection; use `connect`."""
        super().__init__(terms, attested, service, origin)
        self._connection = connection
        self._turn = asyncio.Lock()
        self._closed = False

    @classmethod
    def connect(
        cls,
        address: str,
        *,
        policy: Policy | Path | str,
        collateral: CollateralSource | Path | str | None = None,
        **options: Unpack[Options],
    ) -> Opening[Self]:
        """Connect and appraise the enclave: `await` gives the session, `async with` closes it too.

        Arguments and errors are those of `Session.connect`.
        """

        async def connect() -> Self:
            return await cls._open(make_terms(address, policy, collateral, **options))

        return Opening(connect())

    @classmethod
    def resume(cls, saved: SavedSession) -> Opening[Self]:
        """Come back with a ticket where that is still allowed and taken; otherwise attest anew."""
        return Opening(cls._resume(saved))

    @classmethod
    async def _resume(cls, saved: SavedSession) -> Self:
        if saved.usable(saved.terms.freshness.now()):
            with contextlib.suppress(WireError):
                connection = await AsyncConnection.open(saved.call())
                return cls(saved.terms, connection, saved.attested, saved.service(), saved.origin)
        return await cls._open(saved.terms)

    @classmethod
    async def _open(cls, terms: Terms) -> Self:
        return cls(terms, *await cls._establish(terms))

    @staticmethod
    async def _establish(terms: Terms) -> tuple[AsyncConnection, SessionAppraisal, Service, Origin]:
        connection = await AsyncConnection.open(terms.call)
        try:
            attested = connection.attested
            service = Service(terms.freshness, terms.freshness.admit(attested.claims))
        except BaseException:
            await connection.close()
            raise
        return connection, attested, service, connection.origin

    async def infer(
        self,
        model: str | bytes,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        receipt: bool | Path | str = False,
        reset: bool = False,
    ) -> Prediction:
        """Send tensors to a model and return its output tensors by name; see `Session.infer`."""
        tensors, patience = tensors_of(inputs), Patience(self._terms.retries)
        wanted = await asyncio.to_thread(self._wants, receipt=receipt)
        while True:
            try:
                exchange = await self._infer(model, tensors, wanted=wanted, reset=reset)
                break
            except StrongroomError as error:
                if self._closed:
                    raise
                await asyncio.sleep(patience.wait(error))
                self._is_lost = self._is_lost or is_lost(error)
        return await asyncio.to_thread(self._receipted, exchange, receipt=receipt)

    async def _infer(
        self, model: str | bytes, tensors: Mapping[str, npt.NDArray[Any]], *, wanted: bool, reset: bool
    ) -> Exchange:
        async with self._turn:
            await self._prepare(model)
            ask = self._service.infer_request(model, receipt=wanted, reset=reset)
            body = await self._connection.request(ask.header, tensors)
            prediction = self._service.prediction(ask, body)
            return Exchange(self._connection.handshake_hash, self._connection.last_id, tensors, body, prediction, reset)

    async def _replace(self) -> None:
        """Go on in a new session, attested anew under the same terms."""
        await self._connection.close()
        self._connection, self._attested, self._service, self._origin = await self._establish(self._terms)
        self._is_lost = False

    async def ask(self, model: str | bytes, content: Content) -> Labels:
        """Ask a model of one text, picture or recording, and return its labels with their scores; see `Session.ask`."""
        asked = newest(await self.models(), model)
        return answers_of(await self.infer(model, inputs_of(asked, content)), asked)

    async def generate(
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
    ) -> AsyncGeneration:
        """Ask a language model to go on with a prompt; the answer is read part by part.

        Arguments and errors are those of `Session.generate`.
        """
        header, tensors = question(prompt, max_new_tokens, stop, Draw(temperature, top_k, top_p, seed))
        wanted = await asyncio.to_thread(self._wants, receipt=receipt)
        async with self._turn:
            await self._prepare(model)
            ask = self._service.generate_request(model, receipt=wanted)
            number = await self._connection.stream({**ask.header, **header}, tensors, WINDOW)
            request = self._connection.handshake_hash, number
            transcript = self._transcript(ask, request, header, tensors, receipt=receipt)
        return AsyncGeneration(self._connection, self._turn, number, transcript)

    async def _prepare(self, model: str | bytes) -> None:
        """Replace a lost session, and list the models where that must come before inputs leave for this one."""
        if self._is_lost:
            await self._replace()
        if self._service.needs_listing(model):
            self._service.learn(await self._connection.request(LISTING_REQUEST))

    async def models(self) -> tuple[ModelInfo, ...]:
        """List the models that the enclave has loaded."""
        async with self._turn:
            return self._service.learn(await self._connection.request(LISTING_REQUEST))

    async def ticket(self) -> SavedSession:
        """Ask for a ticket with which `resume` comes back to this enclave process once, within the hour."""
        async with self._turn:
            answer = await self._connection.request(TICKET_REQUEST)
        return save(self._terms, self._attested, self._service, self._origin, read_ticket(answer))

    async def close(self) -> None:
        """End the session in order; safe to call twice."""
        self._closed = True
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
