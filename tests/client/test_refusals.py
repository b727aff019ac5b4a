from __future__ import annotations

import pytest

from attestation.client import RemoteError
from attestation.client.errors import ClientCode
from attestation.errors import WireCode
from enclave.errors import EnclaveCode
from manifests.errors import ErrorCode, Fault, ManifestCode


def remote(code: str, retry_after: float | None = None) -> RemoteError:
    return RemoteError(code, "no", "x", retry_after)


@pytest.mark.parametrize("code", [*EnclaveCode, *ManifestCode, *WireCode])
def test_a_refusal_has_the_exit_status_that_the_enclaves_code_is_documented_with(code: ErrorCode):
    error = remote(str(code))
    assert error.code is ClientCode.REMOTE_REFUSED
    assert error.exit_code == code.fault
    assert error.to_dict()["fault"] == code.fault.name.lower()


def test_a_code_that_nobody_knows_is_a_refusal():
    assert remote("of-a-later-version").exit_code == Fault.REFUSED


def test_a_refusal_shows_the_enclaves_words_field_and_code():
    assert remote("tensor-dtype").message == "the enclave refused: no (field 'x') [tensor-dtype]"


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("model-unknown", "infer --list"),
        ("lease-exhausted", "renew"),
        ("tensor-name", "infer --list"),
        ("tensor-dtype", "infer --list"),
        ("tensor-shape", "infer --list"),
        ("tensor-value", "range"),
        ("tensor-not-finite", "NaN"),
    ],
)
def test_a_refusal_says_what_to_do_next(code, remedy):
    assert code in set(EnclaveCode)
    assert remedy in str(remote(code).remedy)


@pytest.mark.parametrize("code", [*EnclaveCode, *ManifestCode, *WireCode])
def test_every_refusal_says_what_to_do_next(code: ErrorCode):
    assert remote(str(code)).remedy
    assert type(code) is not EnclaveCode or remote(str(code)).remedy != ClientCode.REMOTE_REFUSED.remedy


@pytest.mark.parametrize("code", ["sealed-chunk", "sealed-truncated", "fetch-failed", "grant-other-model"])
def test_a_sealed_file_that_is_bad_on_the_host_is_to_be_inspected_there(code):
    assert "on the host" in str(remote(code).remedy)
    assert "`strongroom inspect FILE`" in str(remote(code).remedy)


def test_the_enclaves_own_word_of_when_goes_before():
    assert remote("enclave-busy", 2.5).remedy == "try again in 2.5 s"


def test_more_tokens_than_the_model_admits_are_refused_with_their_field_and_option():
    error = RemoteError("field-invalid", "field 'max_new_tokens' is not between 1 and 47", None, None)
    assert (error.field, error.exit_code) == ("max_new_tokens", 10)
    assert "--max-tokens" in str(error.remedy)
    assert RemoteError("field-invalid", "field 'seed' is not between 0 and 1", None, None).exit_code == 30
