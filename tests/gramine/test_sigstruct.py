"""SIGSTRUCT: bytes by the SDM's table, the signature by plain arithmetic, and every refusal."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from manifests.errors import StrongroomError
from manifests.gramine.cli import manifest as group
from manifests.gramine.errors import GramineCode, GramineError
from manifests.gramine.manifest import parse_manifest
from manifests.gramine.mrenclave import mrenclave
from manifests.gramine.sigstruct import (
    EnclaveIdentity,
    check_sigstruct,
    identity_of,
    load_signing_key,
    parse_sigstruct,
    sign_enclave,
)
from tests.gramine import elves
from tests.gramine.test_mrenclave import manifest_text

IDENTITY = EnclaveIdentity(bytes(range(32)), 0x1122, 0x3344, 1, 4, 0xE7, 0xFFFFFFFFFFF9FFFF)
PASSPHRASE = b"of the author"
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
"""Of SHA-256 (RFC 8017, section 9.2, note 1)."""


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(3, 3072)


@pytest.fixture(scope="module")
def signed(key: rsa.RSAPrivateKey) -> bytes:
    return sign_enclave(IDENTITY, key, dt.date(2026, 11, 30))


def pem(private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> bytes:
    protection = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


def test_every_field_is_where_the_processor_reads_it(signed: bytes, key: rsa.RSAPrivateKey) -> None:
    modulus = key.public_key().public_numbers().n
    assert len(signed) == 1808
    assert signed[:16].hex() == "06000000e10000000000010000000000"
    assert signed[0x10:0x14] == bytes(4)
    assert signed[0x14:0x18].hex() == "30112620"  # day, month, year
    assert signed[0x18:0x28].hex() == "01010000600000006000000001000000"
    assert signed[0x28:0x80] == bytes(88)
    assert int.from_bytes(signed[0x80:0x200], "little") == modulus
    assert signed[0x200:0x204].hex() == "03000000"
    assert signed[0x384:0x38C].hex() == "01000000ffffffff"
    assert signed[0x38C:0x3A0] == bytes(20)
    assert signed[0x3A0:0x3B0].hex() == "0400000000000000e700000000000000"
    assert signed[0x3B0:0x3C0].hex() == "fffffffffffffffffffff9ffffffffff"
    assert signed[0x3C0:0x3E0] == bytes(range(32))
    assert signed[0x3E0:0x400] == bytes(32)
    assert signed[0x400:0x404].hex() == "22114433"
    assert signed[0x404:0x410] == bytes(12)


def test_the_signature_is_right_by_arithmetic_alone(signed: bytes) -> None:
    modulus, signature, q1, q2 = (int.from_bytes(signed[at : at + 384], "little") for at in (0x80, 0x204, 0x410, 0x590))
    digest = hashlib.sha256(signed[:0x80] + signed[0x384:0x404]).digest()
    padded = b"\0\x01" + b"\xff" * (384 - 3 - 51) + b"\0" + DIGEST_INFO + digest
    assert pow(signature, 3, modulus) == int.from_bytes(padded, "big")
    assert q1 == signature**2 // modulus
    assert q2 == (signature**3 - q1 * signature * modulus) // modulus


def test_what_is_parsed_is_what_was_signed(signed: bytes, key: rsa.RSAPrivateKey) -> None:
    sigstruct = parse_sigstruct(signed)
    assert sigstruct.identity == IDENTITY
    assert sigstruct.date == "2026-11-30"
    assert sigstruct.mrsigner == hashlib.sha256(signed[0x80:0x200]).digest()


def test_without_a_date_the_bytes_depend_on_nothing_else(key: rsa.RSAPrivateKey) -> None:
    first = sign_enclave(IDENTITY, key)
    assert first == sign_enclave(IDENTITY, key)
    assert parse_sigstruct(first).date == "0000-00-00"


def test_a_changed_bit_of_any_byte_is_refused(signed: bytes) -> None:
    for bit in range(0, 8 * len(signed), 7):  # at least one bit of each byte, and each of the eight in turn
        changed = bytearray(signed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(GramineError) as caught:
            parse_sigstruct(bytes(changed))
        assert caught.value.code is GramineCode.SIGSTRUCT_INVALID


@pytest.mark.parametrize("length", [0, 1, 1807, 1809])
def test_another_length_is_refused(signed: bytes, length: int) -> None:
    with pytest.raises(GramineError) as caught:
        parse_sigstruct((signed + b"\0")[:length])
    assert caught.value.code is GramineCode.SIGSTRUCT_INVALID


@pytest.mark.parametrize("field", ["mrenclave", "isv_prod_id", "isv_svn", "misc_select", "flags", "xfrm", "xfrm_mask"])
def test_the_certificate_of_another_enclave_is_refused(key: rsa.RSAPrivateKey, field: str) -> None:
    value = getattr(IDENTITY, field)
    other = {**vars(IDENTITY), field: bytes(32) if isinstance(value, bytes) else value ^ 8}
    sigstruct = parse_sigstruct(sign_enclave(EnclaveIdentity(**other), key))
    with pytest.raises(GramineError, match="SIGSTRUCT") as caught:
        check_sigstruct(sigstruct, IDENTITY)
    assert caught.value.code is GramineCode.SIGSTRUCT_INVALID
    assert field in str(caught.value.expected)


def test_options_of_the_manifest_show_in_the_identity() -> None:
    features = {"avx": "required", "avx512": "disabled", "amx": "unspecified", "mpx": "disabled", "pkru": "required"}
    text = manifest_text(isvprodid=7, isvsvn=9, use_exinfo=True, cpu_features=features)
    identity = identity_of(parse_manifest(text), bytes(32))
    assert (identity.isv_prod_id, identity.isv_svn, identity.misc_select, identity.flags) == (7, 9, 1, 4)
    assert identity.xfrm == 0x207
    assert identity.xfrm_mask == 0xFFFFFFFFFFF9FFFF


def test_by_default_the_processor_chooses_its_vector_registers() -> None:
    identity = identity_of(parse_manifest(manifest_text()), bytes(32))
    assert (identity.xfrm, identity.xfrm_mask) == (0x3, 0xFFFFFFFFFFF9FF1B)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"-----BEGIN PRIVATE KEY-----\n", id="a PEM cut short"),
        pytest.param(pem(ec.generate_private_key(ec.SECP256R1())), id="an elliptic curve"),
        pytest.param(pem(rsa.generate_private_key(65537, 3072)), id="another exponent"),
        pytest.param(pem(rsa.generate_private_key(3, 2048)), id="another size"),
        pytest.param(pem(rsa.generate_private_key(3, 2048), b"secret"), id="a passphrase, and none given"),
    ],
)
def test_a_key_that_the_processor_would_not_take_is_refused(data: bytes) -> None:
    with pytest.raises(GramineError) as caught:
        load_signing_key(data)
    assert caught.value.code is GramineCode.SIGNING_KEY_INVALID


@pytest.fixture
def folder(tmp_path: Path, key: rsa.RSAPrivateKey) -> Path:
    (tmp_path / "libpal.so").write_bytes(elves.build())
    (tmp_path / "key.pem").write_bytes(pem(key, PASSPHRASE))
    program = tmp_path / "python"
    program.write_bytes(b"a program")
    trusted = [{"uri": f"file:{program}", "sha256": hashlib.sha256(b"a program").hexdigest()}]
    text = manifest_text(trusted_files=trusted).replace(b"/usr/bin/python3", str(program).encode())
    (tmp_path / "enclave.manifest").write_bytes(text)
    return tmp_path


def run(folder: Path, *arguments: str, passphrase: bytes = PASSPHRASE) -> tuple[int, str]:
    words = [word.replace("@", str(folder) + "/") for word in arguments]
    done = CliRunner(env={"STRONGROOM_PASSPHRASE": passphrase.decode()}).invoke(group, words)
    if isinstance(done.exception, StrongroomError):
        return 1, done.exception.code.value
    return done.exit_code, done.output


SIGN = ("sign", "@enclave.manifest", "--libpal", "@libpal.so", "--key", "@key.pem", "--output", "@enclave.sig")
CHECK = ("check", "@enclave.manifest", "--libpal", "@libpal.so", "--sigstruct", "@enclave.sig", "--json")


def test_the_command_signs_and_checks(folder: Path) -> None:
    assert run(folder, *SIGN)[0] == 0
    signed = parse_sigstruct((folder / "enclave.sig").read_bytes())
    expected = mrenclave((folder / "enclave.manifest").read_bytes(), elves.build())
    assert signed.identity.mrenclave == expected
    status, output = run(folder, *CHECK)
    assert status == 0
    assert json.loads(output)["sgx"]["mrsigner"] == signed.mrsigner.hex()


def test_the_command_refuses_the_certificate_of_another_manifest(folder: Path) -> None:
    assert run(folder, *SIGN)[0] == 0
    with (folder / "enclave.manifest").open("ab") as file:
        file.write(b"\n")
    assert run(folder, *CHECK) == (1, "sigstruct-invalid")


def test_the_command_refuses_what_it_cannot_sign(folder: Path) -> None:
    assert run(folder, *SIGN, passphrase=b"another") == (1, "signing-key-invalid")
    assert run(folder, *SIGN, "--date", "30.11.2026")[0] == 2
    assert run(folder, "check", "@enclave.manifest", "--libpal", "@libpal.so")[0] == 2
    assert not (folder / "enclave.sig").exists()
    (folder / "python").write_bytes(b"another program")
    assert run(folder, *SIGN) == (1, "trusted-file-changed")


def test_a_certificate_that_is_there_is_kept(folder: Path) -> None:
    assert run(folder, *SIGN)[0] == 0
    before = (folder / "enclave.sig").read_bytes()
    assert run(folder, *SIGN, "--date", "2026-11-30") == (1, "file-exists")
    assert (folder / "enclave.sig").read_bytes() == before
    assert run(folder, *SIGN, "--date", "2026-11-30", "--overwrite")[0] == 0
    assert parse_sigstruct((folder / "enclave.sig").read_bytes()).date == "2026-11-30"
