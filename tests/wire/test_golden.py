"""The recorded sessions and records of version 1 replay bit for bit, on both sides and by the page alone."""

from __future__ import annotations

import hashlib
import json

import pytest

from attestation.wire.messages import MessageType
from attestation.wire.records import REKEY_INTERVAL, RecordReader, RecordWriter
from attestation.wire.session import Closed, Evidence, HandshakeDone, Message, Resumed
from attestation.wire.session_states import State
from tests.vectors.wire import generate
from tests.vectors.wire.generate import FOLDER, RecordedKem, sides
from tests.wire import independent_client
from tests.wire.pairs import records_of


def load(name):
    return json.loads((FOLDER / f"{name}-v1.json").read_text())


def recorded_kem(vector):
    secret, ciphertext = bytes.fromhex(vector["kem_shared_secret"]), bytes.fromhex(vector["kem_ciphertext"])
    return RecordedKem(bytes.fromhex(vector["kem_seed"]), (secret, ciphertext))


def content_of(message):
    content = message["content"]
    return bytes.fromhex(content) if isinstance(content, str) else bytes.fromhex(content["repeat"]) * content["times"]


def send(side, kind, content):
    if kind is MessageType.CLOSE:
        return side.close()
    if kind is MessageType.EVIDENCE:
        return side.send_evidence(generate.EVIDENCE)
    return side.send(kind, content)


@pytest.mark.parametrize("name", ["full", "resumed"])
def test_both_sides_of_a_recorded_session_replay(name):
    vector = load(name)
    client, server = sides(recorded_kem(vector), resumed=name == "resumed")
    assert client.start().hex() == vector["hello"]
    (done,) = server.receive(bytes.fromhex(vector["hello"]))
    assert isinstance(done, HandshakeDone)
    assert server.data_to_send().hex() == vector["answer"]
    assert client.receive(bytes.fromhex(vector["answer"])) == ([Resumed()] if name == "resumed" else [])
    assert client.handshake_hash.hex() == server.handshake_hash.hex() == vector["handshake_hash"]
    assert len(vector["records"]) >= 5
    for record in vector["records"]:
        _replay(client, server, record)
    assert client.state is server.state is State.CLOSED


def _replay(client, server, record):
    kind, content = MessageType[record["type"]], bytes.fromhex(record["content"])
    sender, receiver = (client, server) if record["sender"] == "client" else (server, client)
    assert send(sender, kind, content).hex() == record["bytes"]
    (event,) = receiver.receive(bytes.fromhex(record["bytes"]))
    match event:
        case Message():
            assert (event.type, bytes(event.content)) == (kind, content)
        case Evidence():
            assert event.record.encode() == content
            client.accept()
        case Closed():
            assert kind is MessageType.CLOSE


def test_recorded_records_replay_across_the_change_of_keys():
    vector = load("records")
    key = bytes.fromhex(vector["key"])
    writer, reader = RecordWriter(key), RecordReader(key)
    assert [len(content_of(message)) for message in vector["messages"]][:6] == generate.LENGTHS
    for message in vector["messages"]:
        writer.counter = reader.counter = message["counter"]
        data = b"".join(writer.seal(MessageType.REQUEST, content_of(message)))
        if "bytes" in message:
            assert data.hex() == message["bytes"]
        else:
            assert (len(data), hashlib.sha512(data).hexdigest()) == (message["length"], message["sha512"])
        results = [reader.open(record[4:]) for record in records_of(data)]
        assert results[-1].content == content_of(message)
    assert message["counter"] == REKEY_INTERVAL


def test_the_page_alone_gives_the_same_records():
    vector = load("records")
    cipher = independent_client.Cipher(bytes.fromhex(vector["key"]))
    for message in vector["messages"]:
        cipher.n = message["counter"]
        data = independent_client.records(cipher, independent_client.REQUEST, content_of(message))
        assert hashlib.sha512(data).hexdigest() == message.get("sha512", hashlib.sha512(data).hexdigest())
        assert data.hex() == message.get("bytes", data.hex())


def test_the_vectors_are_what_their_generator_writes_but_for_the_recorded_encapsulation():
    assert generate.record_vectors() == load("records")
    fresh = {name: generate.session(resumed=name == "resumed") for name in ("full", "resumed")}
    for name, vector in fresh.items():
        recorded = load(name)
        assert set(vector) == set(recorded)
        assert vector["hello"] == recorded["hello"]
        assert vector["answer"][:76] == recorded["answer"][:76]
        assert [r["content"] for r in vector["records"]] == [r["content"] for r in recorded["records"]]
