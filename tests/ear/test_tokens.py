"""A token says what an appraisal found, to anyone who trusts its verifier, and to nobody else."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.appraise import appraise
from attestation.ear import Claim, EarCode, Tier, Token, issue_token, open_token
from attestation.ear.jws import MAX_TOKEN, decode_base64url, encode_base64url, key_id, sign
from attestation.ear.token import EXTENSION
from attestation.findings import Appraisal
from attestation.intel.tcb import TcbStatus
from tests.attestation import kit
from tests.attestation.kit import NOW, outcome, refused
from tests.ear.kit import (
    BUILD,
    NONCE,
    STRANGER,
    VERIFIER,
    appraisal_of,
    hardware,
    opened,
    part,
    payload,
    policy,
    resigned,
    simulated_token,
    token,
    verdict,
)
from tests.policy.kit import DAY, WATCHER, feed

GOOD = token()


# ------------------------------------------------------------------------------------------------ what a token says


def test_accepted_hardware_makes_an_affirming_token() -> None:
    said = opened(GOOD)
    said.require()
    assert said.accepted
    assert not said.simulated
    assert said.status is Tier.AFFIRMING
    assert said.vector == {
        Claim.INSTANCE_IDENTITY: 2,
        Claim.CONFIGURATION: 2,
        Claim.EXECUTABLES: 3,
        Claim.HARDWARE: 2,
        Claim.RUNTIME_OPAQUE: 2,
    }
    assert said.policy == policy().digest.hex()
    assert said.appraisal["measurement"] == kit.MRENCLAVE.hex()
    assert said.appraisal["report_data"] == kit.REPORT_DATA.hex()
    assert (said.issued, said.expires) == (NOW, NOW + 300)
    assert said.to_dict()["platform"] == "hardware"


def test_a_token_is_a_jwt_of_the_ear_profile() -> None:
    assert part(GOOD, 0) == {"alg": "EdDSA", "kid": key_id(VERIFIER.public), "typ": "eat+jwt"}
    claims = payload(GOOD)
    assert claims["eat_profile"] == "tag:ietf.org,2026:rats/ear#04"
    assert claims["ear_verifier_id"] == {"developer": "strongroom", "build": "strongroom 1"}
    assert claims["iat"] == claims["nbf"] == NOW
    assert set(claims["submods"]) == {"sgx"}


def test_the_key_id_is_the_thumbprint_of_rfc_8037() -> None:
    """RFC 8037, appendix A.3."""
    public = decode_base64url("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    assert key_id(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_signature_is_that_of_rfc_8037() -> None:
    """RFC 8037, appendix A.4 signs {"alg":"EdDSA"}; Ed25519 itself is the same."""
    seed = decode_base64url("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
    signer = type(VERIFIER).from_seed(seed)
    message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    expected = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    assert encode_base64url(signer.sign(b"", message)) == expected


def test_a_refusal_makes_a_contraindicated_token_that_names_the_checks() -> None:
    under = policy(sgx={"isv_svn_min": 1})
    said = opened(token(under=under))
    assert not said.accepted
    assert said.status is Tier.CONTRAINDICATED
    assert said.vector[Claim.EXECUTABLES] == 96
    assert said.appraisal["failed"] == ["sgx-isv-svn"]
    with refused(EarCode.STATUS) as caught:
        said.require(warnings=True)
    assert "sgx-isv-svn" in str(caught.value.found)


def test_what_passes_by_name_makes_a_warning_that_must_be_asked_for() -> None:
    good = hardware()
    old = dataclasses.replace(good, tcb=dataclasses.replace(good.tcb, status=TcbStatus.OUT_OF_DATE))
    said = opened(token(old, policy(evidence={"tcb_status": ["OutOfDate"]})))
    assert said.accepted
    assert said.status is Tier.WARNING
    assert said.vector[Claim.HARDWARE] == 32
    said.require(warnings=True)
    with refused(EarCode.STATUS):
        said.require()


def test_a_debug_enclave_is_contraindicated_although_its_policy_permits_it() -> None:
    good = hardware()
    body = dataclasses.replace(good.quote.body, flags=good.quote.body.flags | 2)
    debug = dataclasses.replace(good, quote=dataclasses.replace(good.quote, body=body))
    said = opened(token(debug, policy(sgx={"debug": True})))
    assert said.accepted
    assert said.vector[Claim.RUNTIME_OPAQUE] == 96
    with refused(EarCode.STATUS):
        said.require(warnings=True)


def test_a_replaced_root_is_no_hardware_that_others_recognise() -> None:
    other = dataclasses.replace(hardware(), root=b"\1" * 32)
    said = opened(token(other))
    assert said.accepted
    assert said.vector[Claim.HARDWARE] == 97
    with refused(EarCode.STATUS):
        said.require(warnings=True)


# ------------------------------------------------------------------------------------------------ simulation


def test_a_simulated_platform_shows_in_its_token() -> None:
    text = simulated_token()
    assert appraisal_of(payload(text))[EXTENSION]["platform"] == "SIMULATED"
    said = opened(text)
    assert said.simulated
    assert said.accepted
    assert said.status is Tier.CONTRAINDICATED
    assert (said.vector[Claim.HARDWARE], said.vector[Claim.RUNTIME_OPAQUE]) == (97, 96)
    assert said.to_dict()["platform"] == "SIMULATED"


def test_hardware_and_simulation_are_never_mixed() -> None:
    opened(simulated_token()).require(simulation=True)
    for text, wanted in ((simulated_token(), False), (GOOD, True)):
        with refused(EarCode.SIMULATED):
            opened(text).require(simulation=wanted, warnings=True)


def test_a_simulated_platform_that_its_policy_refuses_is_refused() -> None:
    text = token(kit.verify_sim(), kit.policy(sgx={"isv_svn_min": 1}))
    with refused(EarCode.STATUS):
        opened(text).require(simulation=True)


# ------------------------------------------------------------------------------------------------ tampering


def test_every_changed_character_is_refused() -> None:
    for index, old in enumerate(GOOD):
        for new in {"A", "B", ".", chr(ord(old) ^ 1)} - {old}:
            verdict_ = outcome(lambda text=GOOD[:index] + new + GOOD[index + 1 :]: opened(text))
            assert not isinstance(verdict_, Token), (index, new)


def test_every_single_bit_of_the_signature_matters() -> None:
    head, _, signature = GOOD.rpartition(".")
    raw = decode_base64url(signature)
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        with refused(EarCode.SIGNATURE):
            opened(f"{head}.{encode_base64url(bytes(changed))}")


def unsigned(header: Any, signature: str = "") -> str:
    text = json.dumps(header) if not isinstance(header, str) else header
    return ".".join([encode_base64url(text.encode()), GOOD.split(".")[1], signature])


HEADER = {"alg": "EdDSA", "kid": key_id(VERIFIER.public), "typ": "eat+jwt"}


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (HEADER | {"alg": "none"}, EarCode.ALGORITHM),
        (HEADER | {"alg": "None"}, EarCode.ALGORITHM),
        (HEADER | {"alg": "HS256"}, EarCode.ALGORITHM),
        (HEADER | {"alg": "ES256"}, EarCode.ALGORITHM),
        (HEADER | {"alg": "Ed25519"}, EarCode.ALGORITHM),
        ({"typ": "eat+jwt"}, EarCode.ALGORITHM),
        (HEADER | {"typ": "JWT"}, EarCode.PROFILE),
        ({"alg": "EdDSA", "kid": "x"}, EarCode.PROFILE),
        ({"alg": "EdDSA", "typ": "eat+jwt"}, EarCode.MALFORMED),
        (HEADER | {"crit": "exp"}, EarCode.MALFORMED),
        (HEADER | {"crit": ["exp"]}, EarCode.MALFORMED),
        (HEADER | {"jwk": {"kty": "OKP"}}, EarCode.MALFORMED),
        (HEADER | {"x5c": ["AA=="]}, EarCode.MALFORMED),
        (HEADER | {"b64": "false"}, EarCode.MALFORMED),
        ([HEADER], EarCode.MALFORMED),
        ('{"alg":"EdDSA","alg":"none","typ":"eat+jwt","kid":"x"}', EarCode.MALFORMED),
        ("", EarCode.MALFORMED),
        (HEADER | {"kid": key_id(STRANGER.public)}, EarCode.KEY),
        (HEADER | {"kid": "../../etc/passwd"}, EarCode.KEY),
        (HEADER | {"kid": "x" * 5000}, EarCode.MALFORMED),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_header_of_another_kind_is_refused_before_anything_else(header: Any, code: EarCode) -> None:
    for signature in ("", GOOD.split(".")[2]):
        with refused(code):
            opened(unsigned(header, signature))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.b",
        "a.b.c.d",
        GOOD + "=",
        GOOD + "\n",
        " " + GOOD,
        GOOD.replace(".", ".."),
        GOOD.rpartition(".")[0] + ".",
        GOOD + "A" * MAX_TOKEN,
        "é.é.é",
        GOOD.replace(".", ".\ud800", 1),
        GOOD.replace(".", ".é", 1),
        GOOD + "\udc80",
    ],
    ids=lambda text: ascii(text[:12]),
)
def test_text_that_is_no_token_is_malformed(text: str) -> None:
    with refused(EarCode.MALFORMED):
        opened(text)


def test_a_part_has_one_form() -> None:
    header, body, signature = GOOD.split(".")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = signature[:-1] + last[last.index(signature[-1]) | 1]
    assert base64.urlsafe_b64decode(other + "==") == base64.urlsafe_b64decode(signature + "==")
    with refused(EarCode.MALFORMED):
        opened(f"{header}.{body}.{other}")


def test_a_strangers_token_is_refused_whatever_key_it_names() -> None:
    claims = payload(GOOD)
    with refused(EarCode.KEY):
        opened(sign(claims, STRANGER))
    body = sign(claims, STRANGER).split(".")
    forged = ".".join([GOOD.split(".")[0], *body[1:]])
    with refused(EarCode.SIGNATURE):
        opened(forged)
    with refused(EarCode.KEY):
        open_token(GOOD, [], NOW)


# ---------------------------------------------------------------------------------------- dates, audience, nonce


@pytest.mark.parametrize(
    ("now", "leeway", "code"),
    [
        (NOW - 1, 0, EarCode.EARLY),
        (NOW, 0, None),
        (NOW + 299, 0, None),
        (NOW + 300, 0, EarCode.EXPIRED),
        (NOW - 5, 5, None),
        (NOW - 6, 5, EarCode.EARLY),
        (NOW + 304, 5, None),
        (NOW + 305, 5, EarCode.EXPIRED),
        (NOW + 600, 10**9, EarCode.EXPIRED),
        (NOW - 1, -5, EarCode.EARLY),
    ],
)
def test_a_token_counts_from_its_issue_until_before_its_end(now: int, leeway: int, code: EarCode | None) -> None:
    if code is None:
        assert opened(GOOD, now, leeway=leeway).issued == NOW
    else:
        with refused(code):
            opened(GOOD, now, leeway=leeway)


def test_a_token_ends_with_the_collateral_or_the_list_of_broken_hardware() -> None:
    verified = dataclasses.replace(hardware(), expires=NOW + 7)
    assert opened(token(verified)).expires == NOW + 7
    listed = {"broken_hardware": feed(expires="2025-10-09T08:53:29Z"), "broken_hardware_key": WATCHER.public.hex()}
    assert opened(token(under=policy(evidence=listed))).expires == NOW + 9


@pytest.mark.parametrize("spare", [0, 7, 100])
def test_a_token_ends_when_the_collateral_is_older_than_the_policy_takes(spare: int) -> None:
    under = policy(evidence={"max_collateral_age": NOW - hardware().issued + spare})
    text = token(under=under, lifetime=DAY)
    assert opened(text).expires == NOW + spare + 1
    assert verdict(hardware(), under).accepted
    for now, accepts in ((NOW + spare, True), (NOW + spare + 1, False)):
        assert appraise(hardware(), under, now).accepted is accepts
    with refused(EarCode.EXPIRED):
        opened(text, NOW + spare + 1)


def test_a_token_ends_when_the_list_of_broken_hardware_is_older_than_the_policy_takes() -> None:
    named = {"broken_hardware": feed(), "broken_hardware_key": WATCHER.public.hex(), "broken_hardware_max_age": DAY + 5}
    assert opened(token(under=policy(evidence=named), lifetime=DAY)).expires == NOW + 6


def test_a_token_for_somebody_is_for_nobody_else() -> None:
    text = token(audience="https://relying.example")
    assert opened(text, audience="https://relying.example").audience == "https://relying.example"
    for asked in (None, "https://other.example"):
        with refused(EarCode.AUDIENCE):
            opened(text, audience=asked)
    with refused(EarCode.AUDIENCE):
        opened(GOOD, audience="https://relying.example")


@pytest.mark.parametrize(
    ("named", "asked", "told"),
    [
        ("me", None, "if you are who the token names, say so"),
        (None, "me", "have the evidence verified again for a token that names you"),
        ("you", "me", "ask (--audience) by the name that the token has"),
    ],
    ids=["nobody asks", "the token names nobody", "another one asks"],
)
def test_what_to_do_about_an_audience_follows_from_who_is_named(
    named: str | None, asked: str | None, told: str
) -> None:
    with refused(EarCode.AUDIENCE) as caught:
        opened(token(audience=named), audience=asked)
    assert told in str(caught.value.remedy)


@pytest.mark.parametrize("size", [0, 1, 7, 65])
def test_a_nonce_that_no_token_has_is_no_question(size: int) -> None:
    for text in (GOOD, token(nonce=NONCE), "no token at all"):
        with refused(EarCode.REQUEST) as caught:
            opened(text, nonce=bytes(size))
        assert (caught.value.expected, caught.value.found) == ("8 to 64 bytes", f"{size} bytes")


def test_a_nonce_must_be_the_one_that_was_asked_with() -> None:
    text = token(nonce=NONCE)
    assert opened(text, nonce=NONCE).nonce == NONCE
    assert opened(text).nonce == NONCE
    for bad in (text, GOOD):
        with refused(EarCode.NONCE):
            opened(bad, nonce=bytes(16))


# ------------------------------------------------------------------------------------------------ making


@pytest.mark.parametrize(
    "options",
    [
        {"nonce": bytes(7)},
        {"nonce": bytes(65)},
        {"audience": ""},
        {"audience": "x" * 257},
        {"audience": "a\nb"},
        {"lifetime": 0},
        {"lifetime": DAY + 1},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_request_that_no_token_can_answer_is_refused(options: dict[str, Any]) -> None:
    with refused(EarCode.REQUEST):
        token(**options)


def test_no_token_vouches_for_evidence_that_is_no_longer_valid() -> None:
    with refused(EarCode.UNISSUABLE) as caught:
        token(dataclasses.replace(hardware(), expires=NOW))
    assert caught.value.remedy is not None


def test_no_token_is_made_of_a_verdict_over_other_evidence() -> None:
    judged = verdict(hardware(), policy())
    with refused(EarCode.UNISSUABLE):
        issue_token(judged, kit.verify_sim(), VERIFIER, NOW, policy=policy())
    with refused(EarCode.UNISSUABLE):
        issue_token(Appraisal(simulated=False, findings=()), hardware(), VERIFIER, NOW, policy=policy())


def test_a_token_names_the_release_that_made_it() -> None:
    said = opened(token(verifier=None))
    assert said.verifier["developer"] == BUILD.developer
    assert said.verifier["build"].startswith("strongroom ")


# ---------------------------------------------------------------------------------------- claims of the verifier


def extension(claims: dict[str, Any]) -> dict[str, Any]:
    inner: dict[str, Any] = appraisal_of(claims)[EXTENSION]
    return inner


MALFORMED: list[Any] = [
    lambda c: c.update(iat=-1),
    lambda c: c.update(iat=True),
    lambda c: c.update(nbf=NOW - 1),
    lambda c: c.update(nbf=1.5),
    lambda c: c.update(exp=NOW),
    lambda c: c.update(exp=NOW + DAY + 1),
    lambda c: c.update(exp=str(NOW + 5)),
    lambda c: c.pop("exp"),
    lambda c: c.pop("ear_verifier_id"),
    lambda c: c.update(ear_verifier_id={"build": "x"}),
    lambda c: c.update(admin=True),
    lambda c: c.update(aud=["a", "b"]),
    lambda c: c.update(eat_nonce="AAAA"),
    lambda c: c.update(eat_nonce="!" * 12),
    lambda c: c.update(eat_nonce=[]),
    lambda c: c.update(ear_status="fine"),
    lambda c: c.update(ear_status=2),
    lambda c: c.update(ear_status="none"),
    lambda c: c.update(submods={}),
    lambda c: c.update(submods=[]),
    lambda c: c["submods"].update(more=appraisal_of(c)),
    lambda c: appraisal_of(c).update(ear_status="none"),
    lambda c: appraisal_of(c)["ear_trustworthiness_vector"].update(hardware=32),
    lambda c: appraisal_of(c)["ear_trustworthiness_vector"].update(hardware=-97),
    lambda c: appraisal_of(c)["ear_trustworthiness_vector"].update(hardware=128),
    lambda c: appraisal_of(c)["ear_trustworthiness_vector"].update(hardware="2"),
    lambda c: appraisal_of(c)["ear_trustworthiness_vector"].update(colour=2),
    lambda c: appraisal_of(c).update(ear_appraisal_policy_ids=[]),
    lambda c: appraisal_of(c).update(ear_appraisal_policy_ids=["x"]),
    lambda c: appraisal_of(c).pop(EXTENSION),
    lambda c: extension(c).update(accepted=1),
    lambda c: extension(c).update(accepted=False),
    lambda c: extension(c).update(failed=["sgx-debug"]),
    lambda c: extension(c).update(accepted=False, failed=["sgx-debug"]),
    lambda c: extension(c).update(platform="simulated"),
    lambda c: extension(c).update(platform="SIMULATED"),
    lambda c: extension(c).update(root="00"),
    lambda c: extension(c).update(evidence="0" * 129),
    lambda c: extension(c).update(measurement="0G"),
    lambda c: extension(c).update(report_data="00" * 1025),
    lambda c: extension(c).update(version=-1),
    lambda c: extension(c).update(warned="none"),
    lambda c: extension(c).update(advisories=[""]),
]


@pytest.mark.parametrize("change", MALFORMED, ids=range(len(MALFORMED)))
def test_a_token_that_contradicts_itself_is_refused_although_it_is_signed(change: Any) -> None:
    with refused(EarCode.MALFORMED) as caught:
        opened(resigned(change))
    assert caught.value.remedy is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(eat_profile="tag:ietf.org,2026:rats/ear#05"),
        lambda c: c.pop("eat_profile"),
        lambda c: appraisal_of(c).update(eat_profile="urn:uuid:0"),
    ],
)
def test_a_token_of_another_profile_is_unsupported(change: Any) -> None:
    with refused(EarCode.PROFILE):
        opened(resigned(change))
    with refused(EarCode.PROFILE):
        opened(sign([], VERIFIER))  # type: ignore[arg-type]


def test_a_worse_status_than_the_claims_is_the_verifiers_right() -> None:
    text = resigned(lambda c: (c.update(ear_status="warning"), appraisal_of(c).update(ear_status="warning")))
    assert opened(text).status is Tier.WARNING


def test_a_simulated_token_that_affirms_is_refused() -> None:
    def affirm(claims: dict[str, Any]) -> None:
        claims["ear_status"] = appraisal_of(claims)["ear_status"] = "affirming"
        appraisal_of(claims)["ear_trustworthiness_vector"] = {"hardware": 2}

    with refused(EarCode.MALFORMED):
        opened(resigned(affirm, simulated_token()))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5))
def test_any_value_in_any_place_is_read_or_refused(value: Any) -> None:
    base = payload(GOOD)
    for name in base:
        outcome(lambda name=name: opened(sign(base | {name: value}, VERIFIER)))
    for name in appraisal_of(base):
        outcome(lambda name=name: opened(resigned(lambda c, n=name: appraisal_of(c).update({n: value}), GOOD)))
    for name in extension(base):
        outcome(lambda name=name: opened(resigned(lambda c, n=name: extension(c).update({n: value}), GOOD)))


@given(st.text(max_size=200) | st.builds(".".join, st.lists(st.text("abcAB-_eyJ", max_size=40), max_size=4)))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    assert not isinstance(outcome(lambda: opened(text)), Token)


@pytest.mark.parametrize("status", ["\x1b[2J\x1b[31mUpToDate", "Up\nToDate", "UpToDate\u202e", "x" * 257])
def test_a_status_that_would_not_print_as_it_is_is_refused(status: str) -> None:
    with refused(EarCode.MALFORMED):
        opened(resigned(lambda claims: extension(claims).update(tcb_status=status)))


@pytest.mark.parametrize("vector", [{}, {"hardware": 2}, {"instance-identity": 2}, {"hardware": 0, "executables": 2}])
@pytest.mark.parametrize("status", ["affirming", "warning", "none"])
def test_an_acceptance_without_the_claims_that_every_appraisal_makes_is_refused(
    vector: dict[str, int], status: str
) -> None:
    def emptied(claims: dict[str, Any]) -> None:
        claims["ear_status"] = status
        appraisal_of(claims).update(ear_status=status, ear_trustworthiness_vector=vector)

    with refused(EarCode.MALFORMED):
        opened(resigned(emptied))
