"""Write the golden vectors of the wire: `python -m tests.vectors.wire.generate`.

Every key is fixed but the result of ML-KEM's encapsulation, which cannot be derandomised and is recorded.  Vectors
of a released version are never written anew; a new version gets files of its own.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from attestation.binding import InclusionProof
from attestation.types import EvidenceRecord
from attestation.wire.messages import MessageType, encode_body
from attestation.wire.noise_primitives import MlKem768, kem_pair
from attestation.wire.records import REKEY_INTERVAL, ROOM, RecordWriter
from attestation.wire.session import ClientSession, FixedKeys, ServerSession
from attestation.wire.tickets import ServerTicket, Ticket

FOLDER = Path(__file__).parent
CLIENT_KEY = bytes.fromhex("4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893")
SERVER_KEY = bytes.fromhex("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b")
KEM_SEED = bytes(range(64))
TICKET_ID = bytes(range(0xA0, 0xB0))
PSK = bytes(range(0x40, 0x60))
EVIDENCE = EvidenceRecord(b"claims", b"quote", InclusionProof(1, 2, (bytes(64),)), "dummy")
LONG = {"repeat": "5a", "times": ROOM + 1}
LENGTHS = [0, 1, 250, 251, 300, 5000]


class RecordedKem(MlKem768):
    """ML-KEM-768 with a fixed key pair and a recorded encapsulation."""

    def __init__(self, seed: bytes, recorded: tuple[bytes, bytes] | None = None) -> None:
        """Encapsulate as recorded, or record the first result."""
        self._private = MLKEM768PrivateKey.from_seed_bytes(seed)
        self.recorded = recorded

    def generate(self) -> Any:
        """Return the fixed key pair."""
        return kem_pair(self._private)

    def encapsulate(self, public: bytes) -> tuple[bytes, bytes]:
        """Return the recorded (shared secret, ciphertext), for the fixed public key alone."""
        assert public == kem_pair(self._private)[1], "the recording is of another key"
        self.recorded = self.recorded or super().encapsulate(public)
        return self.recorded


class OneTicket:
    """A lookup that always finds the vector's ticket."""

    def __init__(self, ticket: ServerTicket) -> None:
        """Keep the ticket."""
        self._ticket = ticket

    def take(self, ticket_id: bytes) -> ServerTicket | None:
        """Return the ticket if it is the one."""
        return self._ticket if ticket_id == self._ticket.id else None


def fixed(key: bytes, kem: RecordedKem) -> FixedKeys:
    """Return fixed ephemeral keys of one side."""
    return FixedKeys(X25519PrivateKey.from_private_bytes(key), kem)


def sides(kem: RecordedKem, *, resumed: bool) -> tuple[ClientSession, ServerSession]:
    """Return both sides of the vector's session, before its hello."""
    ticket = Ticket(TICKET_ID, PSK, b"", b"", 0, 0) if resumed else None
    lookup = OneTicket(ServerTicket(TICKET_ID, PSK, b"", b"")) if resumed else None
    return (
        ClientSession(ticket=ticket, dangerous_fixed_keys=fixed(CLIENT_KEY, kem)),
        ServerSession(tickets=lookup, dangerous_fixed_keys=fixed(SERVER_KEY, kem)),
    )


def session(*, resumed: bool) -> dict[str, Any]:
    """Record one session from hello to close."""
    kem = RecordedKem(KEM_SEED)
    client, server = sides(kem, resumed=resumed)
    hello = client.start()
    server.receive(hello)
    answer = server.data_to_send()
    client.receive(answer)
    assert kem.recorded is not None
    vector = {
        "protocol": "Noise_NNhfs+psk0_25519+MLKEM768_AESGCM_SHA512"
        if resumed
        else "Noise_NNhfs_25519+MLKEM768_AESGCM_SHA512",
        "client_ephemeral": CLIENT_KEY.hex(),
        "server_ephemeral": SERVER_KEY.hex(),
        "kem_seed": KEM_SEED.hex(),
        "kem_shared_secret": kem.recorded[0].hex(),
        "kem_ciphertext": kem.recorded[1].hex(),
        "hello": hello.hex(),
        "answer": answer.hex(),
        "handshake_hash": client.handshake_hash.hex(),
    }
    if resumed:
        vector |= {"ticket_id": TICKET_ID.hex(), "psk": PSK.hex()}
    return vector | {"records": conversation(client, server, resumed=resumed)}


def conversation(client: ClientSession, server: ServerSession, *, resumed: bool) -> list[dict[str, str]]:
    """Record evidence, a request, its response, an error, and both closes."""
    request = encode_body({"op": "models", "id": 1})
    response = encode_body({"class": "simulated", "id": 1, "models": []})
    error = encode_body({"code": "op-unknown", "field": None, "id": 2, "message": "no", "retry_after": None})
    records: list[dict[str, str]] = []

    def note(sender: str, kind: MessageType, content: bytes, data: bytes) -> None:
        records.append({"sender": sender, "type": kind.name, "content": content.hex(), "bytes": data.hex()})

    if not resumed:
        evidence = server.send_evidence(EVIDENCE)
        note("server", MessageType.EVIDENCE, EVIDENCE.encode(), evidence)
        client.receive(evidence)
        client.accept()
    note("client", MessageType.REQUEST, request, client.send(MessageType.REQUEST, request))
    server.receive(bytes.fromhex(records[-1]["bytes"]))
    note("server", MessageType.RESPONSE, response, server.send(MessageType.RESPONSE, response))
    note("server", MessageType.ERROR, error, server.send(MessageType.ERROR, error))
    note("client", MessageType.CLOSE, b"", client.close())
    note("server", MessageType.CLOSE, b"", server.close())
    return records


def record_vectors() -> dict[str, Any]:
    """Record messages of chosen lengths, a long one, and those around a change of keys, all under one key."""
    key = bytes(range(32))
    writer = RecordWriter(key)
    messages: list[dict[str, Any]] = []
    for length in LENGTHS:
        content = bytes(index % 251 for index in range(length))
        data = b"".join(writer.seal(MessageType.REQUEST, content))
        messages.append({"counter": writer.counter - 1, "content": content.hex(), "bytes": data.hex()})
    long = b"".join(writer.seal(MessageType.REQUEST, bytes.fromhex(LONG["repeat"]) * LONG["times"]))
    digest = hashlib.sha512(long).hexdigest()
    messages.append({"counter": writer.counter - 2, "content": LONG, "length": len(long), "sha512": digest})
    writer.counter = REKEY_INTERVAL - 1
    for content in (b"the last record under the first key", b"the first record under the second key"):
        data = b"".join(writer.seal(MessageType.REQUEST, content))
        messages.append({"counter": writer.counter - 1, "content": content.hex(), "bytes": data.hex()})
    return {"key": key.hex(), "type": "REQUEST", "messages": messages}


def main() -> None:
    """Write the three files."""
    vectors = {"full": session(resumed=False), "resumed": session(resumed=True), "records": record_vectors()}
    for name, vector in vectors.items():
        (FOLDER / f"{name}-v1.json").write_text(json.dumps(vector, indent=1) + "\n")


if __name__ == "__main__":
    main()
