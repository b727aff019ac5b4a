"""The Noise core against the public vectors, and its refusals."""

from __future__ import annotations

import collections
import functools
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from attestation.errors import WireCode
from attestation.wire.noise import CipherState, HandshakeState, Keys, Suite, SymmetricState
from attestation.wire.noise_patterns import BASE_PATTERNS, pattern
from attestation.wire.noise_primitives import CIPHERS, MAX_NONCE, CryptoRefusal, MlKem768
from tests.shared import vectors
from tests.wire.kit import refusal

XX = Suite.parse("Noise_XX_25519_AESGCM_SHA256")
HYBRID = Suite.parse("Noise_NNhfs_25519+MLKEM768_AESGCM_SHA512")
RESUMED = Suite.parse("Noise_NNhfs+psk0_25519+MLKEM768_AESGCM_SHA512")


def _private(vector, name):
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(vector[name])) if name in vector else None


def _party(suite, vector, side):
    keys = Keys(
        static=_private(vector, f"{side}_static"),
        remote_static=bytes.fromhex(vector.get(f"{side}_remote_static", "")) or None,
        psks=[bytes.fromhex(psk) for psk in vector.get(f"{side}_psks", [])],
        ephemeral=_private(vector, f"{side}_ephemeral"),
    )
    prologue = bytes.fromhex(vector[f"{side}_prologue"])
    return HandshakeState(suite, keys, initiator=side == "init", prologue=prologue)


def _replay(suite, vector):
    """Run both sides; the transport messages of a two-way pattern alternate and go on where the handshake ended."""
    parties = [_party(suite, vector, "init"), _party(suite, vector, "resp")]
    sender, messages = 0, list(vector["messages"])
    while not parties[0].finished:
        message = messages.pop(0)
        payload, ciphertext = bytes.fromhex(message["payload"]), bytes.fromhex(message["ciphertext"])
        assert parties[sender].write_message(payload) == ciphertext
        assert parties[1 - sender].read_message(ciphertext) == payload
        sender = 1 - sender
    for party in parties:
        assert party.handshake_hash.hex() == vector["handshake_hash"]
    ciphers = [party.split() for party in parties]
    for message in messages:
        direction = 0 if suite.pattern.one_way else sender
        payload, ciphertext = bytes.fromhex(message["payload"]), bytes.fromhex(message["ciphertext"])
        assert ciphers[direction][direction].encrypt_with_ad(b"", payload) == ciphertext
        assert ciphers[1 - direction][direction].decrypt_with_ad(b"", ciphertext) == payload
        sender = 1 - sender


@functools.cache
def _corpus():
    return json.loads((vectors() / "noise" / "cacophony.txt").read_text())["vectors"]


def test_every_public_vector_whose_primitives_are_covered_passes():
    counts = collections.Counter()
    for vector in _corpus():
        name = vector["protocol_name"]
        if "_448_" in name:
            counts["the group is 448, which no format of ours uses"] += 1
            continue
        _replay(Suite.parse(name), vector)
        counts["passed"] += 1
    assert counts == {"passed": 472, "the group is 448, which no format of ours uses": 472}


def test_the_public_vectors_cover_every_pattern_that_is_declared():
    named = {vector["protocol_name"].split("_")[1] for vector in _corpus()}
    assert set(BASE_PATTERNS) <= named


def hybrid_pair(suite=HYBRID, psks=((), ())):
    return (
        HandshakeState(suite, Keys(psks=psks[0]), initiator=True, prologue=b"p"),
        HandshakeState(suite, Keys(psks=psks[1]), initiator=False, prologue=b"p"),
    )


@pytest.mark.parametrize(("suite", "psk", "sizes"), [(HYBRID, (), (1216, 1152)), (RESUMED, (b"k" * 32,), (1248, 1152))])
def test_the_hybrid_handshake_agrees_on_hash_and_keys(suite, psk, sizes):
    client, server = hybrid_pair(suite, (psk, psk))
    first = client.write_message()
    assert server.read_message(first) == b""
    second = server.write_message()
    assert client.read_message(second) == b""
    assert (len(first), len(second)) == sizes
    assert client.handshake_hash == server.handshake_hash
    up, down = client.split()
    assert [up.key, down.key] == [cipher.key for cipher in server.split()]
    assert up.key != down.key


def test_the_hybrid_pattern_is_the_one_that_the_protocol_names():
    assert HYBRID.pattern.messages == (("e", "e1"), ("e", "ee", "ekem1"))
    assert RESUMED.pattern.messages == (("psk", "e", "e1"), ("e", "ee", "ekem1"))
    assert pattern("IKhfs").messages == (("e", "e1", "es", "s", "ss"), ("e", "ee", "ekem1", "se"))


def test_each_message_ends_the_handshake_if_a_wrong_psk_is_held():
    client, server = hybrid_pair(RESUMED, ([b"a" * 32], [b"b" * 32]))
    assert refusal(server.read_message, client.write_message()) is WireCode.HANDSHAKE_FAILED


def test_a_failed_handshake_is_dead_and_never_splits():
    client, server = hybrid_pair()
    server.read_message(client.write_message())
    answer = bytearray(server.write_message())
    answer[40] ^= 1
    assert refusal(client.read_message, bytes(answer)) is WireCode.HANDSHAKE_FAILED
    answer[40] ^= 1
    assert refusal(client.read_message, bytes(answer)) is WireCode.SESSION_STATE
    assert refusal(client.split) is WireCode.SESSION_STATE
    assert not client.finished


def test_a_handshake_out_of_turn_is_a_defect_of_the_caller():
    client, server = hybrid_pair()
    assert refusal(server.write_message) is WireCode.SESSION_STATE
    assert refusal(client.read_message, b"") is WireCode.SESSION_STATE
    client.write_message()
    assert refusal(client.write_message) is WireCode.SESSION_STATE
    assert refusal(client.split) is WireCode.SESSION_STATE


@pytest.mark.parametrize("size", [0, 31, 32, 1215, 65536])
def test_a_first_message_of_the_wrong_length_is_refused(size):
    _, server = hybrid_pair(RESUMED, ([b"k" * 32], [b"k" * 32]))
    assert refusal(server.read_message, bytes(size)) is WireCode.HANDSHAKE_FAILED


@pytest.mark.parametrize("low_order", [bytes(32), (1).to_bytes(32, "little"), (2**255 - 19).to_bytes(32, "little")])
def test_a_dh_output_of_zeros_is_refused(low_order):
    _, server = hybrid_pair()
    server.read_message(low_order + MlKem768().generate()[1])
    assert refusal(server.write_message) is WireCode.HANDSHAKE_FAILED


def test_an_encapsulation_key_outside_its_field_is_refused():
    client, server = hybrid_pair()
    server.read_message(client.write_message()[:32] + b"\xff" * 1184)
    assert refusal(server.write_message) is WireCode.HANDSHAKE_FAILED


def test_a_pattern_whose_keys_are_missing_is_refused():
    assert refusal(lambda: HandshakeState(RESUMED, Keys(), initiator=True)) is WireCode.SESSION_STATE
    assert refusal(lambda: HandshakeState(RESUMED, Keys(psks=[b"short"]), initiator=True)) is WireCode.SESSION_STATE
    nk = Suite.parse("Noise_NK_25519_AESGCM_SHA256")
    assert refusal(lambda: HandshakeState(nk, Keys(), initiator=True)) is WireCode.SESSION_STATE


@pytest.mark.parametrize(
    "name",
    [
        "Noise_XX_448_AESGCM_SHA256",
        "Noise_XX_25519_AESGCM",
        "Noise_XX_25519_DES_SHA256",
        "Noise_XX_25519_AESGCM_MD5",
        "Noise_YY_25519_AESGCM_SHA256",
        "Noise_XXpsk9_25519_AESGCM_SHA256",
        "Noise_XXfallback_25519_AESGCM_SHA256",
        "Noise_XXhfs_25519_AESGCM_SHA256",
        "Noise_XX_25519+MLKEM768_AESGCM_SHA256",
        "Noise_Nhfs_25519+MLKEM768_AESGCM_SHA256",
        "",
    ],
)
def test_a_protocol_that_is_not_covered_is_refused_by_name(name):
    with pytest.raises(ValueError, match=r"Noise|hfs|KEM"):
        Suite.parse(name)


def test_keys_learnt_in_the_handshake_are_shown_and_secrets_are_not():
    static = X25519PrivateKey.generate()
    client = HandshakeState(XX, Keys(static=X25519PrivateKey.generate()), initiator=True)
    server = HandshakeState(XX, Keys(static=static), initiator=False)
    server.read_message(client.write_message())
    client.read_message(server.write_message())
    assert client.remote_static == static.public_key().public_bytes_raw()
    assert repr(Keys(psks=[b"secret" * 5])) == "Keys(...)"


def test_rekey_replaces_the_key_and_keeps_the_counter():
    sender, receiver = (CipherState(CIPHERS["AESGCM"], b"k" * 32) for _ in range(2))
    assert receiver.decrypt_with_ad(b"", sender.encrypt_with_ad(b"", b"one")) == b"one"
    sender.rekey()
    receiver.rekey()
    assert sender.key == receiver.key != b"k" * 32
    sealed = sender.encrypt_with_ad(b"", b"two")
    assert receiver.decrypt_with_ad(b"", sealed) == b"two"
    restarted = CipherState(CIPHERS["AESGCM"], sender.key)
    assert restarted.encrypt_with_ad(b"", b"two") != sealed


def test_a_cipher_without_a_key_passes_data_and_cannot_rekey():
    cipher = CipherState(CIPHERS["ChaChaPoly"])
    assert cipher.decrypt_with_ad(b"", cipher.encrypt_with_ad(b"", b"plain")) == b"plain"
    assert refusal(cipher.rekey) is WireCode.SESSION_STATE


def test_a_key_is_handed_over_once():
    cipher = CipherState(CIPHERS["AESGCM"], b"k" * 32)
    assert cipher.take_key() == b"k" * 32
    assert refusal(cipher.take_key) is WireCode.SESSION_STATE


def test_the_reserved_nonce_is_never_used():
    cipher = CipherState(CIPHERS["AESGCM"], bytes(32))
    cipher._counter = MAX_NONCE
    with pytest.raises(CryptoRefusal):
        cipher.encrypt_with_ad(b"", b"")


def test_a_name_longer_than_the_hash_is_hashed():
    suite = Suite.parse("Noise_KKpsk0+psk2_25519_ChaChaPoly_SHA256")
    assert SymmetricState(suite).h == suite.hash.digest(suite.name.encode())
