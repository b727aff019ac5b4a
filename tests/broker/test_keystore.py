"""The broker's home and keys: who can open them, and what a wrapped key opens as."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.home import Home
from attestation.broker.keystore import KEY_SIZE, WRAPPED_SIZE, FileKeyStore, KeyContext, create_keys, load_keys
from manifests import canonical, keyfile
from manifests.errors import ManifestCode, ManifestError
from tests.broker.support import CHEAP, PASSPHRASE, new_home

CONTEXT = KeyContext(bytes(32), bytes(64), bytes(64))


@pytest.fixture
def store() -> FileKeyStore:
    return FileKeyStore(os.urandom(32), os.urandom(32))


def test_a_wrapped_key_opens_in_its_place(store: FileKeyStore) -> None:
    key = os.urandom(KEY_SIZE)
    wrapped = store.wrap(key, CONTEXT)
    assert len(wrapped) == WRAPPED_SIZE
    assert key not in wrapped
    assert store.unwrap(wrapped, CONTEXT) == key


def test_wrapping_twice_gives_different_bytes(store: FileKeyStore) -> None:
    key = os.urandom(KEY_SIZE)
    assert store.wrap(key, CONTEXT) != store.wrap(key, CONTEXT)


@pytest.mark.parametrize(
    "context",
    [
        KeyContext(b"\1" * 32, bytes(64), bytes(64)),
        KeyContext(bytes(32), b"\1" * 64, bytes(64)),
        KeyContext(bytes(32), bytes(64), b"\1" * 64),
    ],
    ids=["another owner", "another model", "another policy lineage"],
)
def test_a_wrapped_key_opens_nowhere_else(store: FileKeyStore, context: KeyContext) -> None:
    wrapped = store.wrap(os.urandom(KEY_SIZE), CONTEXT)
    with pytest.raises(BrokerError) as error:
        store.unwrap(wrapped, context)
    assert error.value.code is BrokerCode.KEY_UNWRAP_FAILED


def test_every_flipped_bit_and_every_length_is_refused(store: FileKeyStore) -> None:
    wrapped = store.wrap(os.urandom(KEY_SIZE), CONTEXT)
    changed = [
        wrapped[:at] + bytes([wrapped[at] ^ 1 << bit]) + wrapped[at + 1 :]
        for at in range(len(wrapped))
        for bit in range(8)
    ]
    for candidate in [*changed, b"", wrapped[:-1], wrapped + b"\0"]:
        with pytest.raises(BrokerError, match="key-unwrap-failed"):
            store.unwrap(candidate, CONTEXT)


def test_another_key_encryption_key_opens_nothing(store: FileKeyStore) -> None:
    wrapped = store.wrap(os.urandom(KEY_SIZE), CONTEXT)
    with pytest.raises(BrokerError, match="key-unwrap-failed"):
        FileKeyStore(os.urandom(32), os.urandom(32)).unwrap(wrapped, CONTEXT)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_size_is_not_wrapped(store: FileKeyStore, size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        store.wrap(bytes(size), CONTEXT)


def test_a_context_with_parts_of_other_sizes_is_refused(store: FileKeyStore) -> None:
    with pytest.raises(ValueError, match="32, 64 and 64"):
        store.wrap(bytes(32), KeyContext(bytes(33), bytes(63), bytes(64)))


def test_keys_come_back_from_their_file(tmp_path: Path) -> None:
    made = create_keys(tmp_path / "broker.key", PASSPHRASE, cost=CHEAP)
    loaded = load_keys(tmp_path / "broker.key", PASSPHRASE)
    assert loaded.card() == made.card()
    assert loaded.store.authenticate(b"x") == made.store.authenticate(b"x")
    assert loaded.store.unwrap(made.store.wrap(bytes(32), CONTEXT), CONTEXT) == bytes(32)


def test_no_secret_shows_in_a_representation(tmp_path: Path) -> None:
    path = tmp_path / "broker.key"
    keys = create_keys(path, PASSPHRASE, cost=CHEAP)
    secrets = canonical.decode(keyfile.read_key_file(path, "broker", PASSPHRASE), max_size=65536)
    shown = repr(keys) + str(keys) + repr(keys.store) + repr(vars(keys))
    for name in ("kek", "rows", "signing", "recipient"):
        assert secrets[name].hex() not in shown
        assert repr(secrets[name]) not in shown
        assert secrets[name] not in path.read_bytes()


def test_a_wrong_passphrase_opens_nothing(tmp_path: Path) -> None:
    home, _ = new_home(tmp_path / "home")
    with pytest.raises(ManifestError) as error:
        home.unlock(b"battery staple")
    assert error.value.code is ManifestCode.PASSPHRASE_WRONG
    assert error.value.exit_code == 10


@pytest.mark.parametrize(
    "secret",
    [b"", b"\x80", canonical.encode({"version": 0}), canonical.encode({"version": 1, "kek": b""})],
    ids=["nothing", "an empty map", "a version that never was", "fields missing"],
)
def test_a_key_file_with_other_contents_is_refused(tmp_path: Path, secret: bytes) -> None:
    keyfile.write_key_file(tmp_path / "k", "broker", secret, PASSPHRASE, cost=CHEAP)
    with pytest.raises(ManifestError) as error:
        load_keys(tmp_path / "k", PASSPHRASE)
    assert error.value.code is ManifestCode.KEY_INVALID


def test_a_key_file_of_a_later_version_asks_for_a_newer_release(tmp_path: Path) -> None:
    keyfile.write_key_file(tmp_path / "k", "broker", canonical.encode({"version": 2}), PASSPHRASE, cost=CHEAP)
    with pytest.raises(ManifestError) as error:
        load_keys(tmp_path / "k", PASSPHRASE)
    assert (error.value.code, error.value.remedy) == (ManifestCode.VERSION_UNSUPPORTED, "use a newer release")


def test_a_home_is_for_its_user_alone(tmp_path: Path) -> None:
    home, keys = new_home(tmp_path / "deep" / "home")
    assert home.folder.stat().st_mode & 0o777 == 0o700
    assert home.database.stat().st_mode & 0o777 == 0o600
    assert home.key_file.stat().st_mode & 0o777 == 0o600
    assert home.public_keys() == keys.card()
    assert keyfile.read_card(home.card) == keys.card()


def test_a_home_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    home, _ = new_home(tmp_path / "home")
    home.folder.chmod(0o750)
    with pytest.raises(BrokerError) as error:
        home.unlock(PASSPHRASE)
    assert error.value.code is BrokerCode.HOME_EXPOSED


def test_a_folder_that_holds_something_does_not_become_a_home(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    with pytest.raises(BrokerError) as error:
        Home(tmp_path).make_keys(PASSPHRASE, cost=CHEAP)
    assert error.value.code is BrokerCode.HOME_EXISTS


def test_a_home_whose_making_was_cut_short_is_not_taken_for_one(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make_keys(PASSPHRASE, cost=CHEAP)
    with pytest.raises(BrokerError) as error:
        home.unlock(PASSPHRASE)
    assert error.value.code is BrokerCode.HOME_INVALID


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"strongroom broker home 2\n", BrokerCode.HOME_VERSION), (b"holiday house\n", BrokerCode.HOME_INVALID)],
)
def test_a_home_of_another_layout_is_refused(tmp_path: Path, content: bytes, code: BrokerCode) -> None:
    home, _ = new_home(tmp_path / "home")
    home.version.write_bytes(content)
    with pytest.raises(BrokerError) as error:
        home.check()
    assert error.value.code is code
