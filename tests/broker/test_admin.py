"""Taking sealed models in, delegating, setting policies: what is refused at once rather than at the first release."""

from __future__ import annotations

from pathlib import Path

import pytest

from attestation.broker.admin import (
    client_key,
    delegate,
    init_home,
    issue_credential,
    read_policy,
    set_policy,
)
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.home import Home
from attestation.broker.keystore import BrokerKeys
from attestation.broker.ledger import Ledger
from attestation.broker.models import add_model
from attestation.broker.policy import NO_PREVIOUS, PolicyDocument, active_policy, lineage_of, policy_digest
from attestation.broker.releases import Granted, release
from attestation.errors import PolicyCode, PolicyError
from attestation.types import Credential, Delegation, Right
from manifests.errors import ManifestCode, ManifestError
from manifests.files import write_atomically
from manifests.keyfile import write_card
from manifests.sealed import recover_dek
from manifests.sealed.recipients import RecipientKey
from manifests.signing import Signer
from tests.broker.conftest import Sealing
from tests.broker.support import (
    CHEAP,
    NOW,
    OWNER,
    PASSPHRASE,
    RIGHTS,
    delegation,
    model_row,
    new_home,
    policy,
    record,
    session,
)

OTHER = Signer.from_seed(b"\x09" * 32)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Home, BrokerKeys]:
    return new_home(tmp_path / "home")


def delegated(folder: Path, document: bytes) -> Path:
    path = folder / "delegation"
    write_atomically(path, document)
    return path


def test_a_new_home_opens_with_its_passphrase(tmp_path: Path) -> None:
    keys = init_home(tmp_path / "home", PASSPHRASE, NOW, cost=CHEAP)
    home = Home(tmp_path / "home")
    with Ledger.open(home, home.unlock(PASSPHRASE)) as ledger:
        assert ledger.head.count == 1
        assert ledger.keys.card() == keys.card()


def test_a_models_key_is_recovered_wrapped_and_released(
    tmp_path: Path, made: tuple[Home, BrokerKeys], sealed: Sealing
) -> None:
    home, keys = made
    model = sealed(keys.recipient.public)
    with Ledger.open(home, keys) as ledger:
        set_policy(ledger, policy(), NOW)
        row = add_model(ledger, model, delegated(tmp_path, delegation(keys)), NOW)
        assert (row.name, row.epoch, row.owner) == ("doubler", 1, OWNER.public)
        result = release(ledger, session(), row.digest, NOW)
    assert isinstance(result, Granted)
    key = recover_dek(model, keys.recipient)
    assert result.key == key
    for path in home.folder.iterdir():
        assert bytes(key) not in path.read_bytes()


def test_a_model_is_taken_once_but_takes_a_new_delegation(
    tmp_path: Path, made: tuple[Home, BrokerKeys], sealed: Sealing
) -> None:
    home, keys = made
    model = sealed(keys.recipient.public)
    with Ledger.open(home, keys) as ledger:
        add_model(ledger, model, delegated(tmp_path, delegation(keys)), NOW)
        with pytest.raises(BrokerError) as error:
            add_model(ledger, model, delegated(tmp_path, delegation(keys)), NOW)
        assert error.value.code is BrokerCode.MODEL_HELD
        add_model(ledger, model, delegated(tmp_path, delegation(keys, rights=(Right.PROVISION,))), NOW)
        (row,) = ledger.look(lambda state: state.models())
    assert Delegation.open(row.delegation, OWNER.public).rights == (Right.PROVISION,)


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"rights": (Right.HEARTBEAT,)}, BrokerCode.DELEGATION_RIGHT),
        ({"models": ("tripler",)}, BrokerCode.DELEGATION_MODEL),
        ({"floor": 2}, BrokerCode.EPOCH_BELOW_DELEGATION),
        ({"owner": OTHER}, ManifestCode.SIGNATURE_INVALID),
    ],
    ids=["without the right", "for other models", "for newer epochs", "by another owner"],
)
def test_a_delegation_that_releases_nothing_is_refused_at_once(
    tmp_path: Path, made: tuple[Home, BrokerKeys], sealed: Sealing, terms: dict[str, object], code: object
) -> None:
    home, keys = made
    path = delegated(tmp_path, delegation(keys, **terms))  # type: ignore[arg-type]
    with Ledger.open(home, keys) as ledger, pytest.raises((BrokerError, ManifestError)) as error:
        add_model(ledger, sealed(keys.recipient.public), path, NOW)
    assert error.value.code is code


def test_a_file_that_is_no_delegation_is_named(tmp_path: Path, made: tuple[Home, BrokerKeys], sealed: Sealing) -> None:
    home, keys = made
    path = delegated(tmp_path, b"not a delegation")
    with Ledger.open(home, keys) as ledger, pytest.raises(ManifestError) as error:
        add_model(ledger, sealed(keys.recipient.public), path, NOW)
    assert error.value.code is ManifestCode.ENCODING_MALFORMED
    assert str(path) in error.value.message
    assert "broker delegate" in str(error.value.remedy)


def test_an_epoch_below_one_that_is_held_is_not_taken(
    tmp_path: Path, made: tuple[Home, BrokerKeys], sealed: Sealing
) -> None:
    home, keys = made
    document = delegated(tmp_path, delegation(keys))
    with Ledger.open(home, keys) as ledger:
        add_model(ledger, sealed(keys.recipient.public, epoch=2), document, NOW)
        add_model(ledger, sealed(keys.recipient.public, epoch=3), document, NOW)
        with pytest.raises(BrokerError) as error:
            add_model(ledger, sealed(keys.recipient.public, epoch=1), document, NOW)
        assert error.value.code is BrokerCode.EPOCH_SUPERSEDED
        add_model(ledger, sealed(keys.recipient.public, "another"), document, NOW)
        renewed = delegated(tmp_path, delegation(keys, floor=1))  # an older one that is held takes a new delegation
        add_model(ledger, tmp_path / "doubler-2.sealed", renewed, NOW)


def test_a_delegation_to_another_broker_is_refused(
    tmp_path: Path, made: tuple[Home, BrokerKeys], sealed: Sealing
) -> None:
    home, keys = made
    document = Delegation(OWNER.public, OTHER.public, RIGHTS, ("*",), 0).sign(OWNER)
    with Ledger.open(home, keys) as ledger, pytest.raises(BrokerError) as error:
        add_model(ledger, sealed(keys.recipient.public), delegated(tmp_path, document), NOW)
    assert error.value.code is BrokerCode.DELEGATION_BROKER


def test_a_model_sealed_for_somebody_else_is_refused(
    tmp_path: Path, made: tuple[Home, BrokerKeys], sealed: Sealing
) -> None:
    home, keys = made
    model = sealed(RecipientKey.generate().public)
    with Ledger.open(home, keys) as ledger, pytest.raises(ManifestError) as error:
        add_model(ledger, model, delegated(tmp_path, delegation(keys)), NOW)
    assert error.value.code is ManifestCode.SEALED_RECIPIENT


def test_a_tampered_model_is_refused(tmp_path: Path, made: tuple[Home, BrokerKeys], sealed: Sealing) -> None:
    home, keys = made
    model = sealed(keys.recipient.public)
    data = bytearray(model.read_bytes())
    data[data.index(b"doubler")] ^= 1
    model.write_bytes(data)
    with Ledger.open(home, keys) as ledger, pytest.raises(ManifestError) as error:
        add_model(ledger, model, delegated(tmp_path, delegation(keys)), NOW)
    assert error.value.code is ManifestCode.SEALED_SIGNATURE


# ------------------------------------------------------------------------------------------------ delegating


def card(folder: Path, keys: BrokerKeys) -> Path:
    write_card(folder / "broker.pub", keys.card())
    return folder / "broker.pub"


def test_an_owner_delegates_to_the_broker_of_a_card(tmp_path: Path, made: tuple[Home, BrokerKeys]) -> None:
    _, keys = made
    rights = [Right.REVOKE, Right.PROVISION, Right.PROVISION]
    document = delegate(OWNER, card(tmp_path, keys), models=["b", "a", "b"], rights=rights, epoch_floor=3)
    assert Delegation.open(document, OWNER.public) == Delegation(
        OWNER.public, keys.signer.public, (Right.PROVISION, Right.REVOKE), ("a", "b"), 3
    )


def test_every_model_and_one_by_name_is_a_contradiction(tmp_path: Path, made: tuple[Home, BrokerKeys]) -> None:
    with pytest.raises(ManifestError, match="stands alone"):
        delegate(OWNER, card(tmp_path, made[1]), models=["*", "a"], rights=RIGHTS, epoch_floor=0)


def test_a_delegation_that_means_nothing_is_not_signed(tmp_path: Path, made: tuple[Home, BrokerKeys]) -> None:
    with pytest.raises(ManifestError):
        delegate(OWNER, card(tmp_path, made[1]), models=["a"], rights=[], epoch_floor=0)


def test_a_card_without_a_brokers_key_is_refused(tmp_path: Path) -> None:
    write_card(tmp_path / "card", {"strongroom-owner": bytes(32)})
    with pytest.raises(ManifestError) as error:
        delegate(OWNER, tmp_path / "card", models=["a"], rights=RIGHTS, epoch_floor=0)
    assert error.value.code is ManifestCode.KEY_INVALID


# ------------------------------------------------------------------------------------------------ policies


def test_policies_form_a_chain_of_signed_documents(made: tuple[Home, BrokerKeys]) -> None:
    home, keys = made
    with Ledger.open(home, keys) as ledger:
        first, second = set_policy(ledger, policy(), NOW), set_policy(ledger, policy(lease=5), NOW + 1)
        row = ledger.look(lambda state: state.policy())
        active = ledger.look(lambda state: active_policy(state, keys.signer.public))
    assert (first.epoch, first.previous) == (1, NO_PREVIOUS)
    assert (second.epoch, second.lineage) == (2, lineage_of(keys.signer.public))
    assert row is not None
    assert PolicyDocument.open(row.document, keys.signer.public) == second
    assert second.previous == policy_digest(first.sign(keys.signer))
    assert (active.epoch, active.rules.lease, active.policy) == (2, 5, policy(lease=5))


def test_a_lineage_follows_from_broker_and_name() -> None:
    names = {lineage_of(OWNER.public), lineage_of(OTHER.public), lineage_of(OWNER.public, "other")}
    assert {len(name) for name in names} == {64}
    assert len(names) == 3


def test_a_policy_of_another_broker_does_not_open() -> None:
    document = PolicyDocument(bytes(64), 1, NO_PREVIOUS, NOW, policy().to_dict()).sign(OTHER)
    with pytest.raises(ManifestError) as error:
        PolicyDocument.open(document, OWNER.public)
    assert error.value.code is ManifestCode.SIGNATURE_INVALID


def test_a_brokers_policy_needs_a_release_table(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(f'version = 1\n[evidence]\ntcb_status = ["UpToDate"]\n[sgx]\nmrenclave = ["{"11" * 32}"]\n')
    with pytest.raises(PolicyError) as error:
        read_policy(path)
    assert error.value.code is PolicyCode.POLICY_VACUOUS
    assert "[release]" in error.value.message


def test_a_policy_too_large_for_a_signed_document_is_refused_when_it_is_set(made: tuple[Home, BrokerKeys]) -> None:
    home, keys = made
    huge = policy(models=[f"model {number:0100}" for number in range(1000)])
    with Ledger.open(home, keys) as ledger:
        with pytest.raises(ManifestError) as error:
            set_policy(ledger, huge, NOW)
        assert ledger.look(lambda state: state.policy()) is None
    assert error.value.code is ManifestCode.ENCODING_TOO_LARGE


# ------------------------------------------------------------------------------------------------ credentials


def test_a_credential_names_a_client_and_is_recorded(made: tuple[Home, BrokerKeys]) -> None:
    home, keys = made
    with Ledger.open(home, keys) as ledger:
        document = issue_credential(ledger, OTHER.public, "ward 7", NOW)
        assert ledger.head.count == 2
        for key, name in ((bytes(32), "ward 7"), (OTHER.public, ""), (OTHER.public, "x" * 129)):
            with pytest.raises(ManifestError):
                issue_credential(ledger, key, name, NOW)
        assert ledger.head.count == 2
    assert Credential.open(document, keys.signer.public) == Credential(keys.signer.public, OTHER.public, "ward 7")


def test_a_clients_key_is_read_from_digits_or_from_a_card(tmp_path: Path) -> None:
    write_card(tmp_path / "client.pub", {"strongroom-client": OTHER.public})
    assert client_key(OTHER.public.hex()) == client_key(str(tmp_path / "client.pub")) == OTHER.public
    for text in ("00" * 32, "abcd", str(tmp_path / "nothing")):
        with pytest.raises(ManifestError):
            client_key(text)


def test_rows_of_the_support_code_are_releasable(made: tuple[Home, BrokerKeys]) -> None:
    """What the other tests stand on."""
    home, keys = made
    row = model_row(keys, lineage=lineage_of(keys.signer.public))
    with Ledger.open(home, keys) as ledger:
        set_policy(ledger, policy(), NOW)
        record(ledger, row)
        assert isinstance(release(ledger, session(), row.digest, NOW), Granted)
