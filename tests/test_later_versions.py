"""What the version after this one wrote is refused as unsupported, and the refusal says what to do.

Of a later version nothing is known but that it is later.  So each of these has its version, where it is signed a good
signature, and for the rest what nobody has heard of.
"""

from __future__ import annotations

import ast
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attestation.appraise import appraise_session
from attestation.binding import InclusionProof
from attestation.broker.anchor import ANCHOR, SLOT_SIZE, read_anchor
from attestation.broker.audit import HEAD, AuditRow, genesis, verify_row
from attestation.broker.export import MAGIC as EXPORT_MAGIC
from attestation.broker.export import read_export
from attestation.broker.keystore import KEY_FILE_KIND, load_keys
from attestation.broker.ledger import Ledger
from attestation.broker.policy import RELEASE_POLICY, PolicyDocument
from attestation.client.epochs import EpochMemory
from attestation.client.freshness import Freshness
from attestation.collateral import FixedSource
from attestation.collateral.bundle import Bundle
from attestation.nvidia import container as nvidia
from attestation.policy import ServicePolicy, load_policy
from attestation.policy.feed import CONTEXT as FEED
from attestation.policy.feed import open_feed
from attestation.receipts.bundle import ReceiptBundle
from attestation.sim.amd_keys import AmdKeys
from attestation.sim.platform import SimulatedPlatform
from attestation.sim.state import State
from attestation.tpm.abi import FORMAT as TPM_FORMAT
from attestation.tpm.abi import parse_evidence
from attestation.types import (
    Claims,
    ClientAuthentication,
    Credential,
    Delegation,
    EvidenceRecord,
    Grant,
    Heartbeat,
    OwnerState,
    Revocation,
    Right,
    cbor,
    cose,
)
from attestation.types.budgets import ALLOTMENT, Allotment
from attestation.types.documents import DELEGATION, GRANT, HEARTBEAT, REVOCATION
from attestation.types.identity import CREDENTIAL
from attestation.types.receipt import CONTENT_TYPE, SignedReceipt
from attestation.wire.frames import FrameDecoder
from attestation.wire.session import ClientSession, ServerSession
from enclave.identity import authenticate
from enclave.owners import Owners
from enclave.provision import Chain
from manifests import canonical, keyfile
from manifests.abuse.profile import Profile
from manifests.errors import Fault, StrongroomError
from manifests.gramine.settings import parse_settings
from manifests.model import ModelManifest
from manifests.sealed import BytesSource, inspect_sealed
from manifests.sealed.core import MAGIC as SEALED_MAGIC
from manifests.sealed.core import PREFIX, Core
from manifests.signing import Signer, digest, label
from tests.attestation import kit
from tests.broker.support import CHEAP, PASSPHRASE, new_home, sql
from tests.wire.pairs import greeted, ticket_from
from tests.wire.store import TicketStore

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("attestation", "enclave", "evaluation", "host", "manifests")
CHECKS = {"check_version", "versioned_map", "open_versioned"}
"""The functions that look at a version; the formats with a check of their own are not found by them."""

OWNER = Signer.from_seed(bytes(range(32)))
VALUE = {"version": 2, "unheard": "of"}
BYTES = canonical.encode(VALUE)
JSON = json.dumps(VALUE)
TOML = 'version = 2\nunheard = "of"\n'

FETCHED_ANEW = {"attestation.collateral.cache.Entry.parse"}
"""What is only a copy of something else is no loss: one of a later version is as good as none."""

Read = Callable[[Path], object]
FORMATS: dict[str, Read] = {}
SITES: set[str] = set()


def read_by(*sites: str) -> Callable[[Read], Read]:
    """Enter a format, with the functions that look at its version."""

    def enter(read: Read) -> Read:
        FORMATS[read.__name__.removeprefix("read_").replace("_", " ")] = read
        SITES.update(sites)
        return read

    return enter


def signed(context: bytes) -> bytes:
    return OWNER.sign_document(context, VALUE)


def raw_hello(session: ClientSession) -> bytes:
    """A hello of the next version, longer than any of this one."""
    start = session.start()
    return struct.pack(">I", len(start) + 496) + b"\2" + start[5:] + bytes(500)


# ------------------------------------------------------------------------------------------ sealed models, keys


@read_by()
def read_a_sealed_file(_: Path) -> object:
    return inspect_sealed(BytesSource(PREFIX.pack(SEALED_MAGIC, 2, 1 << 30) + bytes(100)))


@read_by()
def read_the_core_of_a_sealed_file(_: Path) -> object:
    return Core.decode(canonical.encode({"format": 2, "unheard": "of"}))


@read_by("manifests.model._check_format")
def read_a_model_manifest(_: Path) -> object:
    return ModelManifest.decode(canonical.encode({"format": 2, "unheard": "of", "version": "1.4"}))


@read_by("manifests.model._check_format")
def read_a_model_manifest_in_TOML(_: Path) -> object:  # noqa: N802 - the name that its owner knows
    return ModelManifest.from_toml('format = 2\nversion = "1.4"\nunheard = "of"')


@read_by("manifests.abuse.profile._read")
def read_the_profile_of_a_detector(_: Path) -> object:
    return Profile.decode(BYTES)


@read_by("manifests.keyfile._header")
def read_a_key_file(folder: Path) -> object:
    (folder / "key").write_text(json.dumps({"format": "strongroom-key", **VALUE}))
    return keyfile.read_key_file(folder / "key", "owner", PASSPHRASE)


@read_by("manifests.keyfile._of_this_version")
def read_a_card(folder: Path) -> object:
    (folder / "card").write_text("# public keys\nversion 2\nunheard of by us\n")
    return keyfile.read_card(folder / "card")


@read_by("manifests.gramine.settings.parse_settings")
def read_the_settings_of_an_enclave(_: Path) -> object:
    return parse_settings(TOML.encode())


# --------------------------------------------------------------------------------------------- policies, evidence


@read_by()
def read_a_policy(_: Path) -> object:
    return load_policy(TOML.encode())


@read_by("attestation.policy.feed._feed")
def read_a_list_of_broken_hardware(_: Path) -> object:
    envelope = {"feed": JSON, "signature": OWNER.sign(FEED, JSON.encode()).hex()}
    return open_feed(json.dumps(envelope), OWNER.public)


@read_by("attestation.types.claims.EvidenceRecord.decode")
def read_evidence_in_a_session(_: Path) -> object:
    client, server, _evidence = greeted()
    server, client = ServerSession(), ClientSession()
    server.receive(client.start())
    later: Any = type("LaterRecord", (), {"encode": lambda _: BYTES})()
    return client.receive(server.send_evidence(later))


@read_by("attestation.types.claims.Claims.decode")
def read_claims_in_a_session(_: Path) -> object:
    record = EvidenceRecord(BYTES, kit.sim_quote(), InclusionProof(0, 1, ()), "hint")
    source = FixedSource(kit.platform().collateral(kit.NOW))
    return appraise_session(record, bytes(64), kit.policy(), source, kit.sim_roots(), kit.NOW)


@read_by("attestation.types.documents.Delegation.open")
def read_the_documents_that_claims_show(_: Path) -> object:
    claims = Claims(
        OWNER.public, bytes(1216), bytes(16), "first", (OwnerState(OWNER.public, 1, b"", signed(DELEGATION)),)
    )
    return Freshness(ServicePolicy(owners=(OWNER.public,)), EpochMemory()).admit(claims)


@read_by("attestation.types.receipt.Receipt.from_map")
def read_a_receipt(_: Path) -> object:
    unsigned = cose.Sign1(cose.ED25519, cbor.encode_ordered(VALUE), bytes(64), tagged=True, content_type=CONTENT_TYPE)
    return SignedReceipt.parse(unsigned.serialize())


@read_by("attestation.receipts.bundle.ReceiptBundle._decode")
def read_the_bundle_of_a_receipt(_: Path) -> object:
    return ReceiptBundle.decode(canonical.encode([BYTES, digest(label("receipt bundle"), BYTES)]))


@read_by("attestation.tpm.abi._decode")
def read_the_evidence_of_a_TPM(_: Path) -> object:  # noqa: N802 - the name that the world knows
    return parse_evidence(canonical.encode({"format": TPM_FORMAT, **VALUE}))


@read_by("attestation.nvidia.container._read")
def read_the_evidence_of_GPUs(_: Path) -> object:  # noqa: N802 - the name that the world knows
    return nvidia.parse_evidence(canonical.encode({"format": nvidia.FORMAT, **VALUE}))


@read_by("attestation.sim.state.State.from_toml")
def read_the_state_of_a_simulated_platform(_: Path) -> object:
    return State.from_toml(TOML)


@read_by("attestation.sim.platform._read_secret")
def read_the_key_of_a_simulated_platform(folder: Path) -> object:
    SimulatedPlatform.open(folder / "platform", kit.NOW)
    (secret,) = (
        path for path in (folder / "platform").iterdir() if path.suffix not in {".pem", ".toml"} and path.is_file()
    )
    secret.write_bytes(BYTES)
    return SimulatedPlatform.open(folder / "platform", kit.NOW)


@read_by("attestation.sim.amd_keys.AmdKeys.parse")
def read_the_keys_of_a_simulated_AMD(_: Path) -> object:  # noqa: N802 - a name of its own
    return AmdKeys.parse(BYTES)


@read_by("attestation.collateral.bundle.Bundle._decode")
def read_a_bundle_of_evidence(_: Path) -> object:
    return Bundle.from_json(JSON)


# ---------------------------------------------------------------------------------------------- signed documents


@read_by("attestation.types.documents.Delegation.open")
def read_a_delegation(_: Path) -> object:
    return Delegation.open(signed(DELEGATION), OWNER.public)


@read_by("enclave.provision._named_owner")
def read_a_delegation_in_the_enclave(_: Path) -> object:
    return Chain.open(signed(DELEGATION), Right.PROVISION)


@read_by("attestation.types.documents.Grant.open")
def read_a_grant(_: Path) -> object:
    return Grant.open(signed(GRANT), OWNER.public)


@read_by("attestation.types.budgets.Allotment.open")
def read_an_allotment(_: Path) -> object:
    return Allotment.open(signed(ALLOTMENT), OWNER.public)


@read_by("attestation.types.documents.Heartbeat.open")
def read_a_heartbeat(_: Path) -> object:
    return Heartbeat.open(signed(HEARTBEAT), OWNER.public)


@read_by("attestation.types.documents.Revocation.open")
def read_a_revocation(_: Path) -> object:
    return Revocation.open(signed(REVOCATION), OWNER.public)


@read_by("attestation.types.identity.Credential.open")
def read_a_credential(_: Path) -> object:
    return Credential.open(signed(CREDENTIAL), OWNER.public)


@read_by("enclave.identity._issuer")
def read_a_credential_in_the_enclave(_: Path) -> object:
    proof = ClientAuthentication.sign(OWNER, signed(CREDENTIAL), bytes(64), b"claims")
    return authenticate(proof.encode(), bytes(64), b"claims", Owners("first", lambda _: None))


@read_by("attestation.types.identity.ClientAuthentication.decode")
def read_the_authentication_of_a_client(_: Path) -> object:
    return authenticate(BYTES, bytes(64), b"claims", Owners("first", lambda _: None))


@read_by("attestation.broker.policy.PolicyDocument.open")
def read_a_release_policy(_: Path) -> object:
    return PolicyDocument.open(signed(RELEASE_POLICY), OWNER.public)


# ----------------------------------------------------------------------------------------------------- the wire


@read_by()
def read_a_frame(_: Path) -> object:
    item = canonical.encode({"unheard": "of", "v": 2})
    return FrameDecoder().feed(struct.pack(">I", len(item)) + item)


@read_by()
def read_a_frame_with_one_more_field(_: Path) -> object:
    item = canonical.encode({"body": b"", "route": "r", "sid": 1, "unheard": "of", "v": 2})
    return FrameDecoder().feed(struct.pack(">I", len(item)) + item)


@read_by()
def read_a_hello(_: Path) -> object:
    return ServerSession().receive(raw_hello(ClientSession()))


@read_by()
def read_a_hello_with_a_ticket(_: Path) -> object:
    store = TicketStore()
    return ServerSession(tickets=store).receive(raw_hello(ClientSession(ticket=ticket_from(store))))


@read_by()
def read_the_answer_to_a_hello(_: Path) -> object:
    client, server = ClientSession(), ServerSession()
    server.receive(client.start())
    answer = server.data_to_send()
    return client.receive(answer[:4] + b"\2" + answer[5:])


# ----------------------------------------------------------------------------------------------- what a broker keeps


@read_by()
def read_the_home_of_a_broker(folder: Path) -> object:
    home, _ = new_home(folder / "home")
    home.version.write_bytes(b"strongroom broker home 2\nunheard of\n")
    return home.check()


@read_by("attestation.broker.keystore.load_keys")
def read_the_secrets_of_a_broker(folder: Path) -> object:
    keyfile.write_key_file(folder / "key", KEY_FILE_KIND, BYTES, PASSPHRASE, cost=CHEAP)
    return load_keys(folder / "key", PASSPHRASE)


@read_by()
def read_the_database_of_a_broker(folder: Path) -> object:
    home, keys = new_home(folder / "home")
    sql(home, "UPDATE schema_info SET version = 2")
    sql(home, "CREATE VIEW unheard AS SELECT 'of'")
    return Ledger.open(home, keys)


@read_by("attestation.broker.anchor._head")
def read_the_anchor_of_a_broker(folder: Path) -> object:
    (folder / "anchor").write_bytes(slot(signed(ANCHOR)) * 2)
    return read_anchor(folder / "anchor", OWNER.public)


@read_by("attestation.broker.audit._entry")
def read_an_audit_row(_: Path) -> object:
    start = genesis(OWNER.public)
    unsigned = AuditRow(0, start.digest, BYTES, b"")
    return verify_row(AuditRow(0, start.digest, BYTES, OWNER.sign(HEAD, unsigned.head().digest)), start, OWNER.public)


@read_by()
def read_an_exported_log(folder: Path) -> object:
    header = canonical.encode([EXPORT_MAGIC, 2, "unheard", "of"])
    (folder / "log").write_bytes(struct.pack(">I", len(header)) + header)
    return list(read_export(folder / "log", OWNER.public))


@read_by("attestation.client.epochs._epochs")
def read_the_epochs_that_a_client_has_seen(folder: Path) -> object:
    (folder / "epochs").write_text(JSON)
    return EpochMemory(folder / "epochs")


# ------------------------------------------------------------------------------------------------------- the tests


@pytest.mark.parametrize("name", FORMATS)
def test_a_later_version_is_unsupported_and_the_refusal_says_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(StrongroomError) as refusal:
        FORMATS[name](tmp_path)
    assert refusal.value.code.fault is Fault.UNSUPPORTED, refusal.value
    remedy = str(refusal.value.remedy)
    assert "release" in remedy or "update strongroom" in remedy
    assert "accept" not in remedy


def versions_checked(path: Path) -> Iterator[str]:
    """The dotted names of functions in a source file that look at a version."""

    def walk(node: ast.AST, name: str) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, ast.FunctionDef | ast.ClassDef)
            yield from walk(child, f"{name}.{child.name}" if named else name)
            if isinstance(child, ast.Call) and ast.unparse(child.func).rpartition(".")[2] in CHECKS:
                yield name

    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    yield from walk(ast.parse(path.read_text(encoding="utf-8")), module)


def test_every_format_with_a_version_is_held_here() -> None:
    found = {name for package in PACKAGES for path in (ROOT / package).rglob("*.py") for name in versions_checked(path)}
    own = {name for name in found if not name.startswith(("manifests.fields.", "manifests.signing."))}
    assert own - FETCHED_ANEW == SITES, "enter the format above, with the function that looks at its version"


# ------------------------------------------------------------------------------------------- what follows of one such


def slot(document: bytes) -> bytes:
    return (struct.pack(">H", len(document)) + document).ljust(SLOT_SIZE, b"\0")


@pytest.mark.parametrize("newer", [0, 1])
def test_an_anchor_of_a_later_version_is_neither_believed_nor_overwritten(newer: int, tmp_path: Path) -> None:
    """Whichever slot the newer program wrote, and though an owner asks to have the database's log accepted."""
    home, keys = new_home(tmp_path / "home")
    slots = [home.anchor.read_bytes()[:SLOT_SIZE]] * 2
    slots[newer] = slot(keys.signer.sign_document(ANCHOR, VALUE))
    home.anchor.write_bytes(b"".join(slots))
    written = home.anchor.read_bytes()
    for accept in (False, True):
        with (
            pytest.raises(StrongroomError, match="newer version") as refusal,
            Ledger.open(home, keys, dangerously_accept_rollback=accept) as ledger,
        ):
            ledger.write_anchor()
        assert refusal.value.code.fault is Fault.UNSUPPORTED
    assert home.anchor.read_bytes() == written


def test_a_card_may_say_that_it_is_of_this_version(tmp_path: Path) -> None:
    keyfile.write_card(tmp_path / "card", {"strongroom-owner": OWNER.public})
    card = tmp_path / "card"
    card.write_text("version 1\n" + card.read_text())
    assert keyfile.read_card(card) == {"strongroom-owner": OWNER.public}
