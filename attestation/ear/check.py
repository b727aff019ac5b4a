"""Checking a token: form, signature, profile, dates, audience, nonce, and that it does not contradict itself.

Steps, in this order; each refuses by its code:
  1  the compact form, and a header of one algorithm and type        ear-malformed, ear-algorithm, ear-profile
  2  a key that the caller trusts already, and its signature         ear-key, ear-signature
  3  the profile                                                     ear-profile
  4  exactly the claims of the profile, each of its type             ear-malformed
  5  statuses no better than what they stand for                     ear-malformed
  6  iat, nbf and exp                                                ear-early, ear-expired
  7  the audience: who is named must be who asks                     ear-audience
  8  the nonce                                                       ear-nonce
What the token says of the evidence is left to `Token.require`.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from attestation.ear import jws
from attestation.ear.ar4si import NO_CLAIM, Claim, Tier, worst_tier
from attestation.ear.errors import EarCode, EarError
from attestation.ear.issue import MAX_AUDIENCE, MAX_LIFETIME, NONCE_SIZES, check_nonce
from attestation.ear.mapping import group_of
from attestation.ear.token import EXTENSION, EXTENSION_PROFILE, HARDWARE, POLICY_PREFIX, PROFILE, SIMULATED, Token
from attestation.errors import FindingCode
from attestation.validity import rfc3339
from manifests import fields
from manifests.errors import ManifestError

T = TypeVar("T")

MAX_LEEWAY = 300
"""Clocks that differ by more are to be corrected, not to be allowed for."""
_MAX_CODES = 256
_MAX_TEXT = 256
_MAX_HEX = 2048
"""A Nitro document has room for 512 bytes of the enclave's, which show as 1024 digits."""

_CLAIMS = ("eat_profile", "ear_verifier_id", "ear_status", "iat", "nbf", "exp", "submods")
_APPRAISAL = ("eat_profile", "ear_status", "ear_trustworthiness_vector", "ear_appraisal_policy_ids", EXTENSION)
_HEX = {"evidence": 64, "root": 32, "measurement": None, "report_data": None}
_LISTS = ("advisories", "failed", "warned")
_ALWAYS = tuple(dict.fromkeys(group_of(code).claim for code in (FindingCode.TEE, FindingCode.DENIED)))
"""What every appraisal makes a statement about: an accepted one that does not was never made."""


def open_token(
    token: str,
    keys: Iterable[bytes],
    now: int,
    *,
    audience: str | None = None,
    nonce: bytes | None = None,
    leeway: int = 0,
) -> Token:
    """Return what a token says, if one of these keys (Ed25519, 32 bytes) has signed it and it is valid at `now`.

    audience: who asks; a token that names one is for nobody else.  nonce: what the token must answer, 8 to
    64 bytes; None where freshness comes from elsewhere.  leeway: seconds by which clocks may differ, at most 300.
    Raises EarError; `ear-request` for a nonce that no token has, whatever the token.
    """
    check_nonce(nonce)
    payload, key = jws.verify(token, keys)  # 1, 2
    if not isinstance(payload, dict) or payload.get("eat_profile") != PROFILE:  # 3
        raise EarError(
            EarCode.PROFILE,
            EarCode.PROFILE.meaning,
            expected=PROFILE,
            found=str(payload.get("eat_profile"))[:64] if isinstance(payload, dict) else "no map",
            remedy="use a release that knows this profile",
        )
    opened = _guarded(lambda: _token(payload, key))  # 4, 5
    _check_dates(opened, now, min(max(leeway, 0), MAX_LEEWAY))  # 6
    _check_audience(opened, audience)  # 7
    _check_nonce(opened, nonce)  # 8
    return opened


def _check_dates(token: Token, now: int, leeway: int) -> None:
    if now + leeway < token.issued:
        raise EarError(
            EarCode.EARLY,
            EarCode.EARLY.meaning,
            expected=f"from {rfc3339(token.issued)}",
            found=rfc3339(now),
            remedy="check this machine's clock",
        )
    if now - leeway >= token.expires:
        raise EarError(
            EarCode.EXPIRED,
            EarCode.EXPIRED.meaning,
            expected=f"before {rfc3339(token.expires)}",
            found=rfc3339(now),
            remedy="have the evidence verified again, and get a fresh token",
        )


def _check_audience(token: Token, audience: str | None) -> None:
    if token.audience != audience:
        raise EarError(
            EarCode.AUDIENCE,
            EarCode.AUDIENCE.meaning,
            expected=audience or "a token for anyone",
            found=token.audience or "a token for anyone",
            remedy=_audience_remedy(token.audience, audience),
        )


def _audience_remedy(named: str | None, asks: str | None) -> str:
    if asks is None:
        return "if you are who the token names, say so (--audience); if not, do not use it"
    if named is None:
        return "have the evidence verified again for a token that names you (`strongroom attest verify --audience`)"
    return "if both mean you, ask (--audience) by the name that the token has; if not, get a token that names you"


def _check_nonce(token: Token, nonce: bytes | None) -> None:
    if nonce is not None and not hmac.compare_digest(token.nonce or b"", nonce):
        raise EarError(
            EarCode.NONCE,
            EarCode.NONCE.meaning,
            expected=nonce.hex(),
            found=(token.nonce or b"").hex() or "none",
            remedy="treat the token as replayed: ask for one with your nonce",
        )


# ------------------------------------------------------------------------------------------------ the claims


def _guarded(decode: Callable[[], T]) -> T:
    try:
        return decode()
    except ManifestError as error:
        raise EarError(
            EarCode.MALFORMED,
            f"the token is not usable: {error.message}",
            expected=error.expected,
            found=error.found,
            remedy="use a release that knows this verifier's tokens",
        ) from None


def _token(value: dict[str, Any], key: bytes) -> Token:
    fields.closed_map(value, "the token", _CLAIMS, ("aud", "eat_nonce"))
    issued, expires = fields.number(value["iat"], "iat", 0), fields.number(value["exp"], "exp", 0)
    begins = fields.number(value["nbf"], "nbf", 0)
    if begins != issued or not issued < expires <= issued + MAX_LIFETIME:
        raise _malformed("its dates contradict each other, or lie more than a day apart")
    submods = fields.of_type(value["submods"], "submods", dict)
    if len(submods) != 1:
        raise _malformed("it has not exactly one appraisal")
    ((tee, entry),) = submods.items()
    fields.closed_map(entry, "the appraisal", _APPRAISAL)
    if entry["eat_profile"] != EXTENSION_PROFILE:
        raise EarError(
            EarCode.PROFILE, EarCode.PROFILE.meaning, expected=EXTENSION_PROFILE, found=str(entry["eat_profile"])[:64]
        )
    extension = _extension(entry[EXTENSION])
    vector = _vector(entry["ear_trustworthiness_vector"])
    inner, status = _tier(entry["ear_status"]), _tier(value["ear_status"])
    _check_statuses(vector, inner, status, extension)
    return Token(
        key=key,
        issued=issued,
        expires=expires,
        audience=fields.text(value["aud"], "aud", MAX_AUDIENCE) if "aud" in value else None,
        nonce=_nonce(value["eat_nonce"]) if "eat_nonce" in value else None,
        verifier=_verifier(value["ear_verifier_id"]),
        status=status,
        tee=fields.text(tee, "submods", _MAX_TEXT),
        vector=vector,
        accepted=extension.pop("accepted"),
        simulated=extension.pop("platform") == SIMULATED,
        policy=_policy(entry["ear_appraisal_policy_ids"]),
        appraisal=extension,
    )


def _check_statuses(vector: dict[Claim, int], inner: Tier, status: Tier, extension: dict[str, Any]) -> None:
    """Refuse a status better than the worst claim, and a verdict that its own parts contradict."""
    least = worst_tier(vector).badness
    if inner.badness < least or status.badness < inner.badness:
        raise _malformed("a status is better than the claims that it stands for")
    missing = [claim for claim in _ALWAYS if Tier.of(vector.get(claim, NO_CLAIM)) is Tier.NONE]
    if extension["accepted"] and missing:
        raise _malformed(f"the verdict stands for no claim about {missing[0]}")
    refused = not extension["accepted"] or extension["failed"]
    if extension["accepted"] is bool(extension["failed"]) or (refused and inner is not Tier.CONTRAINDICATED):
        raise _malformed("the verdict and its failed checks contradict each other")
    if extension["platform"] == SIMULATED and inner is not Tier.CONTRAINDICATED:
        raise _malformed("a simulated platform is not contraindicated")


def _extension(value: Any) -> dict[str, Any]:
    names = ("accepted", "platform", "version", "tcb_status", *_HEX, *_LISTS)
    fields.closed_map(value, EXTENSION, names)
    for name, size in _HEX.items():
        text = fields.of_type(value[name], name, str)
        if (
            re.fullmatch(r"(?:[0-9a-f]{2})*", text) is None
            or size not in {None, len(text) // 2}
            or len(text) > _MAX_HEX
        ):
            raise _malformed(f"{name} is not the hex of its bytes")
    if fields.of_type(value["platform"], "platform", str) not in {SIMULATED, HARDWARE}:
        raise _malformed("it does not say whether the platform is simulated")
    return {
        **value,
        "accepted": fields.of_type(value["accepted"], "accepted", bool),
        "version": fields.number(value["version"], "version", 0),
        "tcb_status": _text_or_none(value["tcb_status"], "tcb_status"),
        **{name: _texts(value[name], name) for name in _LISTS},
    }


def _text_or_none(value: Any, name: str) -> str:
    """Return printable text, or the empty one that stands for none."""
    return "" if value == "" else fields.text(value, name, _MAX_TEXT)


def _texts(value: Any, name: str) -> list[str]:
    return [fields.text(item, name, _MAX_TEXT) for item in fields.list_of(value, name, _MAX_CODES)]


def _vector(value: Any) -> dict[Claim, int]:
    table = fields.closed_map(value, "the trustworthiness vector", (), [str(claim) for claim in Claim])
    return {Claim(name): _byte(number, name) for name, number in table.items()}


def _byte(value: Any, name: str) -> int:
    return fields.number(value, name, -128, 127)


def _tier(value: Any) -> Tier:
    try:
        return Tier(fields.of_type(value, "ear_status", str))
    except ValueError:
        raise _malformed("its status is none of AR4SI's tiers") from None


def _nonce(value: Any) -> bytes:
    nonce = jws.decode_base64url(fields.of_type(value, "eat_nonce", str))
    if not NONCE_SIZES[0] <= len(nonce) <= NONCE_SIZES[1]:
        raise _malformed("its nonce has not 8 to 64 bytes")
    return nonce


def _verifier(value: Any) -> dict[str, str]:
    table = fields.closed_map(value, "ear_verifier_id", ("developer", "build"))
    return {name: fields.text(item, name, _MAX_TEXT) for name, item in table.items()}


def _policy(value: Any) -> str:
    ids = _texts(value, "ear_appraisal_policy_ids")
    if len(ids) != 1 or re.fullmatch(rf"{re.escape(POLICY_PREFIX)}[0-9a-f]{{128}}", ids[0]) is None:
        raise _malformed("it does not name its one policy")
    return ids[0].removeprefix(POLICY_PREFIX)


def _malformed(why: str) -> EarError:
    return EarError(
        EarCode.MALFORMED, f"the token is not usable: {why}", remedy="use a release that knows this verifier's tokens"
    )
