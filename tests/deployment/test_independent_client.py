"""The client that was written from the wire's page alone, against a real deployment."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import numpy as np
import pytest

from attestation.evidence import parse
from evaluation.demo.deployment import Deployment
from tests.deployment.small import ROWS, WEIGHTS
from tests.wire.independent_client import Client, RefusalError


@contextlib.contextmanager
def connected(
    deployment: Deployment, ticket: tuple[bytes, bytes] | None = None
) -> Iterator[tuple[Client, dict | None]]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(deployment.address.removeprefix("unix:"))
        client = Client(ticket=ticket)
        yield client, client.connect(sock)


def infer(client: Client, digest: bytes) -> np.ndarray:
    data = ROWS.tobytes()
    request = {"op": "infer", "model": {"digest": digest}, "tensors": [["x", "float32", [2, 4], len(data)]]}
    answer, buffers = client.request(request, data)
    assert answer["model"] == digest
    [[name, dtype, shape, size]] = answer["tensors"]
    assert (name, dtype, shape, size) == ("y", "float32", [2, 3], len(buffers))
    return np.frombuffer(buffers, np.float32).reshape(shape)


def test_it_attests_asks_and_comes_back_with_a_ticket(deployment: Deployment) -> None:
    with connected(deployment) as (client, evidence):
        assert evidence is not None
        assert parse(evidence["quote"]).body.report_data == evidence["report_data"]
        listed, _ = client.request({"op": "models"})
        digest = next(model["digest"] for model in listed["models"] if model["name"] == "linear")
        np.testing.assert_array_equal(infer(client, digest), ROWS @ WEIGHTS)
        told, _ = client.request({"op": "ticket"})
        client.close()
    ticket = (told["ticket"], told["psk"])
    with connected(deployment, ticket) as (client, evidence):
        assert evidence is None
        np.testing.assert_array_equal(infer(client, digest), ROWS @ WEIGHTS)
        client.close()
    with pytest.raises(RefusalError), connected(deployment, ticket):
        pass


def test_a_request_that_is_refused_leaves_its_session_alive(deployment: Deployment) -> None:
    with connected(deployment) as (client, _):
        with pytest.raises(RefusalError, match="operation-unknown"):
            client.request({"op": "no such thing"})
        assert client.request({"op": "models"})[0]["class"] == "simulated"
        client.close()
