"""Documents and files of version 1 are read for ever, and version 1 is still written as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from attestation.client.epochs import EpochMemory
from attestation.policy import load_policy
from attestation.policy.feed import open_feed, sign_feed
from attestation.sim.platform import SimulatedPlatform
from attestation.types import Claims, Credential, Delegation, EvidenceRecord, Grant, Heartbeat, Revocation
from attestation.types.identity import ClientAuthentication
from manifests.keyfile import read_key_file, read_public
from manifests.signing import Signer
from tests.vectors.documents import generate
from tests.vectors.documents.generate import BROKER, FOLDER, OWNER

RECORDED = {name: bytes.fromhex(text) for name, text in json.loads((FOLDER / "documents.json").read_text()).items()}
POLICY_DIGEST = (
    "759d3225b73d24cc2386d1127a602a46c4aecfc8788932f1c719121f8128f2d4"
    "9ed2670ccc76eb7604fa1fd3a4a59f87d7ad66dca06825e51d0baac0a685a937"
)
EVIDENCE_DIGEST = (
    "bb98c33646a9c70a71e36323dcc8eb0c0f2fe2c8f9f68990a307060bc363f57d"
    "c6632112f6b269809daacf1d1ff9da7c129791ec5f2aac258b760d5a3157c3de"
)


@pytest.mark.parametrize(
    ("kind", "signer", "made"),
    [
        (Delegation, OWNER, generate.DELEGATION),
        (Grant, BROKER, generate.GRANT),
        (Heartbeat, BROKER, generate.HEARTBEAT),
        (Revocation, BROKER, generate.REVOCATION),
        (Credential, OWNER, generate.CREDENTIAL),
    ],
)
def test_a_signed_document_of_version_1_opens(kind: Any, signer: Signer, made: object) -> None:
    assert kind.open(RECORDED[kind.__name__.lower()], signer.public) == made


@pytest.mark.parametrize(
    ("name", "decode", "made"),
    [
        ("claims", Claims.decode, generate.CLAIMS),
        ("evidence", EvidenceRecord.decode, generate.EVIDENCE),
        ("authentication", ClientAuthentication.decode, generate.AUTHENTICATION),
    ],
)
def test_a_record_of_version_1_decodes(name: str, decode: Any, made: object) -> None:
    assert decode(RECORDED[name]) == made


def test_tickets_and_audit_rows_name_evidence_as_they_did() -> None:
    assert generate.EVIDENCE.digest().hex() == EVIDENCE_DIGEST


def test_version_1_is_written_bit_for_bit_as_it_was() -> None:
    assert generate.documents() == RECORDED


def test_a_key_file_of_version_1_opens() -> None:
    path = FOLDER / "owner-key.json"
    assert read_key_file(path, "owner", generate.PASSPHRASE) == OWNER.seed()
    assert read_public(path, "owner") == {"strongroom-owner": OWNER.public}


def test_a_policy_of_version_1_means_what_it_meant() -> None:
    """Tickets and audit rows name policies by digest: a default that changed would show here."""
    policy = load_policy(FOLDER / "policy.toml")
    assert policy.service is not None
    assert policy.release is not None
    assert (policy.service.min_epoch, policy.release.lease) == (3, 1000)
    assert policy.digest.hex() == POLICY_DIGEST


def test_a_list_of_broken_hardware_of_version_1_opens() -> None:
    file = (FOLDER / "broken-hardware.json").read_text().rstrip("\n")
    feed = open_feed(file, BROKER.public)
    assert (feed.serial, [entry.id for entry in feed.entries]) == (7, ["SR-1"])
    assert sign_feed(generate.LIST, BROKER) == file


def test_a_file_of_seen_epochs_of_version_1_is_read() -> None:
    memory = EpochMemory(FOLDER / "epochs.json")
    assert {key: memory.highest(*key) for key in generate.EPOCHS} == generate.EPOCHS


def test_a_simulated_platform_of_version_1_is_read_and_derives_the_same_platform() -> None:
    platform = SimulatedPlatform.load(FOLDER / "platform")
    assert platform.state == generate.STATE
    again = SimulatedPlatform(generate.PLATFORM_SEED, generate.CREATED)
    assert platform.root_fingerprint == again.root_fingerprint
