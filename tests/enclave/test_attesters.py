"""The hardware's attesters against stand-ins for the kernel that behave as its documentation says."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from attestation.intel.abi import strip_padding
from attestation.tpm import abi
from attestation.types import PlatformClass
from enclave.attesters import ATTESTERS, open_attester, tpm
from enclave.attesters.base import MAX_QUOTE
from enclave.attesters.files import KernelFiles
from enclave.attesters.gramine import GramineAttester
from enclave.attesters.nitro import NitroAttester
from enclave.attesters.tpm import TpmAttester
from enclave.attesters.tsm import MAX_OUTBLOB, PROVIDERS, TsmAttester, exact_quote
from enclave.errors import EnclaveError
from manifests import canonical
from manifests.gramine import settings
from manifests.gramine.errors import GramineError
from manifests.gramine.settings import EnclaveSettings, TpmSettings, parse_settings
from tests.enclave.fakes import PUBLIC, QUOTE, FakeGramine, FakeNsm, FakeTpm, FakeTsm, answer, pcrs, sized, tdx_quote
from tests.shared import vectors

REPORT_DATA = bytes(range(64))
TPM = TpmSettings(key=0x81010002, parent=0x81010001, pcrs=(0, 7))


def failed(call: Callable[[], object]) -> EnclaveError:
    with pytest.raises(EnclaveError) as refusal:
        call()
    return refusal.value


def test_the_attesters_are_those_that_settings_can_name() -> None:
    assert tuple(ATTESTERS) == settings.ATTESTERS


@pytest.mark.parametrize("name", ["gramine", "tdx", "snp", "nitro", "tpm"])
def test_a_machine_without_what_the_settings_name_is_told_so(name: str) -> None:
    error = failed(lambda: open_attester(EnclaveSettings("first", attester=name, tpm=TPM if name == "tpm" else None)))
    assert str(error.code) == "enclave-start-failed"
    assert name in error.message
    assert error.remedy


# ------------------------------------------------------------------------------------------ plain files


def test_a_pseudo_file_is_read_to_its_end_and_bounded(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100_000)
    assert KernelFiles().read(path, 100_000) == b"x" * 100_000
    with pytest.raises(OSError, match="large") as refusal:
        KernelFiles().read(path, 99_999)
    assert refusal.value.errno == errno.EFBIG


def test_a_write_is_one_call_to_a_file_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, files = tmp_path / "file", KernelFiles()
    with pytest.raises(FileNotFoundError):
        files.write(path, b"data")
    path.touch()
    files.write(path, b"data")
    assert path.read_bytes() == b"data"
    monkeypatch.setattr(os, "write", lambda _descriptor, _data: 3)
    with pytest.raises(OSError, match="part"):
        files.write(path, b"data")


def test_folders_are_made_and_removed(tmp_path: Path) -> None:
    KernelFiles().make_folder(tmp_path / "folder")
    KernelFiles().remove_folder(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


# ------------------------------------------------------------------------------------------ Gramine


def test_gramine_quotes_the_report_data() -> None:
    attester = GramineAttester(FakeGramine())
    assert attester.quote(REPORT_DATA) == b"quote over " + REPORT_DATA
    assert attester.quote(bytes(64)) == b"quote over " + bytes(64)
    assert (attester.platform, attester.hint) == (PlatformClass.HARDWARE, "sgx")


def test_gramine_without_dcap_is_named() -> None:
    error = failed(lambda: GramineAttester(FakeGramine(kind=b"none")))
    assert "'none'" in error.message
    assert "sgx.remote_attestation" in str(error.remedy)


def test_a_quoting_enclave_that_does_not_answer_costs_this_quote_alone() -> None:
    kernel = FakeGramine(aesmd=False)
    attester = GramineAttester(kernel)
    assert str(failed(lambda: attester.quote(REPORT_DATA)).code) == "quote-unavailable"
    assert not attester.lost
    kernel.aesmd = True
    assert attester.quote(REPORT_DATA)


# ------------------------------------------------------------------------------------------ configfs-tsm


def test_a_report_carries_the_report_data_and_its_folder_is_removed() -> None:
    kernel = FakeTsm(b"sev_guest\n", lambda data: b"report over " + data)
    attester = TsmAttester("snp", kernel)
    assert attester.quote(REPORT_DATA) == b"report over " + REPORT_DATA
    assert (attester.platform, attester.hint) == (PlatformClass.HARDWARE, "snp")
    assert kernel.reports == {}


def test_a_machine_of_another_tee_is_not_taken_for_the_named_one() -> None:
    error = failed(lambda: TsmAttester("tdx", FakeTsm(b"sev_guest\n")))
    assert str(error.code) == "enclave-start-failed"
    assert "sev_guest" in error.message


def test_evidence_over_another_process_options_is_refused() -> None:
    kernel = FakeTsm(b"sev_guest")
    attester = TsmAttester("snp", kernel)
    kernel.interfere = lambda folder: kernel.write(folder / "inblob", b"theirs")
    assert str(failed(lambda: attester.quote(REPORT_DATA)).code) == "quote-unavailable"
    assert kernel.reports == {}


def test_a_driver_that_fails_costs_one_quote_and_leaves_nothing() -> None:
    kernel = FakeTsm(b"sev_guest")
    attester = TsmAttester("snp", kernel)

    def fail(_folder: Path) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    kernel.interfere = fail
    assert str(failed(lambda: attester.quote(REPORT_DATA)).code) == "quote-unavailable"
    assert kernel.reports == {}


@pytest.mark.parametrize("tee", ["snp", "tdx"])
@pytest.mark.parametrize("size", [0, MAX_QUOTE + 1, MAX_OUTBLOB])
def test_evidence_that_no_record_has_room_for_is_refused_and_not_cut(tee: str, size: int) -> None:
    kernel = FakeTsm(PROVIDERS[tee], lambda _data: b"\1" * size)
    error = failed(lambda: TsmAttester(tee, kernel).quote(REPORT_DATA))
    assert str(error.code) == "quote-unavailable"
    assert error.message == "the platform's quote is empty or too long"


def test_the_longest_evidence_that_a_record_has_room_for_is_given_whole() -> None:
    longest = b"\1" * MAX_QUOTE
    assert TsmAttester("snp", FakeTsm(b"sev_guest", lambda _data: longest)).quote(REPORT_DATA) == longest


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("padding", [0, 1, 70, 3065])
def test_zeros_behind_a_tdx_quote_are_left_out(version: int, padding: int) -> None:
    quote = tdx_quote(version)
    kernel = FakeTsm(evidence=lambda _data: quote + bytes(padding))
    assert TsmAttester("tdx", kernel).quote(REPORT_DATA) == quote


def padded_quotes() -> list[bytes]:
    quotes = [tdx_quote(version, size) for version in (4, 5) for size in (0, 1, 100)]
    padded = [quote + bytes(size) for quote in quotes for size in (0, 1, 70, 3065)]
    return [*padded, *(quote[:-1] for quote in quotes[1:]), *(quote + b"\0\1" for quote in quotes)]


@pytest.mark.parametrize("data", padded_quotes(), ids=range(35))
def test_the_attester_and_the_verifier_cut_the_same_zeros(data: bytes) -> None:
    """The enclave must not import the verifier, so the rule stands twice: this holds the two equal."""
    assert exact_quote(data) == strip_padding(data)[0]


def test_captured_quotes_are_cut_alike() -> None:
    paths = sorted((vectors() / "tdx").rglob("*.quote.bin"))
    assert paths
    for path in paths:
        data = path.read_bytes()
        assert exact_quote(data) == strip_padding(data)[0], path.name


@pytest.mark.parametrize("data", [b"", b"\4", tdx_quote(4)[:-1], tdx_quote(4) + b"\0\1", tdx_quote(5)[:50]])
def test_what_is_no_quote_with_zeros_behind_it_stays_as_it_is(data: bytes) -> None:
    assert exact_quote(data) == data


# ------------------------------------------------------------------------------------------ Nitro


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "nsm"
    path.touch()
    return path


def test_the_security_module_is_asked_in_its_own_cbor(device: Path) -> None:
    nsm = FakeNsm()
    attester = NitroAttester(device, nsm)
    document = attester.quote(REPORT_DATA)
    assert document.startswith(b"document over " + REPORT_DATA)
    expected = b"\xa1\x6bAttestation\xa3\x69user_data\x58\x40" + REPORT_DATA + b"\x65nonce\xf6\x6apublic_key\xf6"
    assert nsm.requests == [expected]
    assert (attester.platform, attester.hint) == (PlatformClass.HARDWARE, "nitro")


def test_a_refusal_of_the_security_module_is_named(device: Path) -> None:
    error = failed(
        lambda: NitroAttester(device, FakeNsm(lambda _: b"\xa1\x65Error\x6cInputTooLarge")).quote(REPORT_DATA)
    )
    assert str(error.code) == "quote-unavailable"
    assert error.found == "InputTooLarge"


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"\xa1\x6bAttestation\xa1\x68document",
        b"\xa1\x6bAttestation\xa1\x68document\x59\x01\x00short",
        b"\xa1\x6bAttestation\xa1\x68document\x58\x05short",
        b"\xa1\x6bAttestation\xa1\x68document\x45short and more",
        b"\xa1\x6bRandomBytes\x41\x00",
        bytes(0x3000),
    ],
)
def test_an_answer_of_another_form_is_no_document(device: Path, response: bytes) -> None:
    attester = NitroAttester(device, FakeNsm(lambda _: response))
    assert str(failed(lambda: attester.quote(REPORT_DATA)).code) == "quote-unavailable"


def test_a_module_that_fails_costs_one_quote(device: Path) -> None:
    def fail(_request: bytes) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    assert str(failed(lambda: NitroAttester(device, FakeNsm(fail)).quote(REPORT_DATA)).code) == "quote-unavailable"


# ------------------------------------------------------------------------------------------ TPM


def test_the_attesters_container_is_the_verifiers() -> None:
    """The enclave must not import the verifier, so the names stand twice: this holds the two equal."""
    assert (tpm.FORMAT, tpm.VERSION) == (abi.FORMAT, abi.VERSION)


def test_pcrs_that_are_extended_meanwhile_are_quoted_anew() -> None:
    tpm = FakeTpm(PUBLIC, PUBLIC, pcrs(1), QUOTE, pcrs(2), pcrs(2), QUOTE, pcrs(2))
    evidence = canonical.decode(TpmAttester(TPM, tpm).quote(REPORT_DATA), max_size=4096)
    assert isinstance(evidence, dict)
    assert evidence["pcrs"] == [b"\2" * 32, b"\3" * 32]
    assert (evidence["message"], evidence["signature"]) == (b"message", b"a signature!")
    assert (evidence["key"], evidence["parent"]) == (sized(b"public"), b"qualified")
    assert tpm.answers == []


def test_a_tpm_that_asks_for_patience_gets_the_command_again() -> None:
    tpm = FakeTpm(PUBLIC, PUBLIC, answer(b"", code=0x922), answer(b"", code=0x90A), pcrs(1), QUOTE, pcrs(1))
    assert TpmAttester(TPM, tpm).quote(REPORT_DATA)
    assert tpm.answers == []


def test_pcrs_that_never_stand_still_are_not_quoted() -> None:
    changing = [part for turn in range(3) for part in (pcrs(turn), QUOTE, pcrs(turn + 1))]
    attester = TpmAttester(TPM, FakeTpm(PUBLIC, PUBLIC, *changing))
    assert str(failed(lambda: attester.quote(REPORT_DATA)).code) == "quote-unavailable"


def test_a_primary_key_needs_no_parent_in_the_tpm() -> None:
    tpm = FakeTpm(PUBLIC, pcrs(1), QUOTE, pcrs(1))
    settings = TpmSettings(key=0x81010002, parent=0x40000001, pcrs=(0, 7))
    evidence = canonical.decode(TpmAttester(settings, tpm).quote(REPORT_DATA), max_size=4096)
    assert isinstance(evidence, dict)
    assert evidence["parent"] == b"\x40\0\0\1"


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"\x80\1",
        answer(b"", code=0x18B),
        pcrs(1)[:-1],
        pcrs(1, size=20),
        pcrs(1) + b"\0",
        answer(b"", tag=0x8002),
        answer(bytes(4) + b"\0\0\0\1\0\x0b\3\x01\0\0" + bytes(4)),
    ],
    ids=["nothing", "half a head", "an error", "cut", "short digests", "too long", "another tag", "a missing PCR"],
)
def test_an_answer_of_the_tpm_that_is_none_costs_one_quote(wrong: bytes) -> None:
    attester = TpmAttester(TPM, FakeTpm(PUBLIC, PUBLIC, wrong))
    assert str(failed(lambda: attester.quote(REPORT_DATA)).code) == "quote-unavailable"


def test_a_key_that_the_tpm_does_not_hold_is_named() -> None:
    error = failed(lambda: TpmAttester(TPM, FakeTpm(answer(b"", code=0x18B))))
    assert str(error.code) == "enclave-start-failed"
    assert "0x81010002" in error.message
    assert "TPM_RC 0x18b" in error.message


def test_the_settings_of_a_tpm_are_read_and_written() -> None:
    full = EnclaveSettings("first", attester="tpm", tpm=TPM)
    assert parse_settings(full.to_toml()) == full


@pytest.mark.parametrize(
    "table",
    [
        "",
        "[tpm]\nkey = 1\nparent = 0x81010001\npcrs = [0]",
        "[tpm]\nkey = 0x81010002\nparent = 2\npcrs = [0]",
        "[tpm]\nkey = 0x81010002\nparent = 0x81010001\npcrs = []",
        "[tpm]\nkey = 0x81010002\nparent = 0x81010001\npcrs = [24]",
        "[tpm]\nkey = 0x81010002\nparent = 0x81010001\npcrs = [7, 0]",
        "[tpm]\nkey = 0x81010002\nparent = 0x81010001\npcrs = 7",
        "[tpm]\nkey = 0x81010002\nparent = 0x81010001\npcrs = [0]\nbank = 'sha1'",
        "[tpm]\nkey = 0x81010002\nparent = 0x81010001\npcrs = [0]\nmore = 1",
    ],
)
def test_settings_of_no_tpm_are_refused(table: str) -> None:
    with pytest.raises(GramineError):
        parse_settings(f"version = 1\nattester = 'tpm'\nowners = 'first'\n{table}\n".encode())
