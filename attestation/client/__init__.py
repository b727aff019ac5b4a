"""The client: sessions with attested enclaves, synchronous and asynchronous."""

from __future__ import annotations

from attestation.client.async_session import AsyncSession
from attestation.client.call import Timeouts
from attestation.client.content import Found, Label
from attestation.client.epochs import EpochMemory
from attestation.client.generation import AsyncGeneration, Generation
from attestation.client.models import ModelInfo, Prediction
from attestation.client.refusals import RemoteError
from attestation.client.resumption import SavedSession
from attestation.client.retries import Retries
from attestation.client.session import Session

__all__ = [
    "AsyncGeneration",
    "AsyncSession",
    "EpochMemory",
    "Found",
    "Generation",
    "Label",
    "ModelInfo",
    "Prediction",
    "RemoteError",
    "Retries",
    "SavedSession",
    "Session",
    "Timeouts",
]
