"""Cases of attestation result tokens that are checked: who has signed them, until when they count, what they say."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from attestation import evidence
from attestation.appraise import appraise
from attestation.collateral.kinds import decode
from attestation.ear import EarCode, issue_token
from attestation.ear.jws import MAX_TOKEN, decode_base64url, encode_base64url, key_id, sign
from attestation.ear.token import EXTENSION
from attestation.intel.levels import TcbStatus
from attestation.intel.verified import IntelVerified
from attestation.policy import load_policy
from attestation.roots import INTEL_SGX_ROOT
from manifests.signing import Signer
from tests.vectors.attestation import sgx
from tests.vectors.attestation.scene import DAY, NOW, REPORT_DATA, Scene, merged
from tests.vectors.attestation.stages import VERIFIER, roots_of
from tests.vectors.attestation.vector import Vector

SIGNER: Final = Signer.from_seed(bytes([6]) * 32)
STRANGER: Final = Signer.from_seed(bytes([7]) * 32)
NONCE: Final = bytes(range(16))
NAME: Final = "https://relying.example"
LIFETIME: Final = 300


@functools.lru_cache(maxsize=1)
def simulated() -> IntelVerified:
    scene = sgx.SCENE
    held = decode((scene.collateral or "").encode())
    verified = evidence.verify(evidence.parse(scene.evidence), held, roots_of(scene.roots), scene.now)
    assert isinstance(verified, IntelVerified)
    return verified


def hardware(**changes: Any) -> IntelVerified:
    """The same as if its chains had reached the vendor's root, which nobody here can sign under."""
    return dataclasses.replace(simulated(), simulated=False, root=INTEL_SGX_ROOT, **changes)


def token(verified: IntelVerified | None = None, tables: Mapping[str, Any] | None = None, **options: Any) -> str:
    """A token over evidence, of hardware by default, under a policy that is changed by `tables`."""
    verified = verified or hardware()
    source: Any = sgx.SCENE.policy
    if not verified.simulated:
        source = merged(source, evidence={"simulation": None, "simulated_root": None})
    policy = load_policy(merged(source, **tables or {}))
    verdict = appraise(verified, policy, NOW, report_data=REPORT_DATA)
    return issue_token(verdict, verified, SIGNER, NOW, policy=policy, verifier=VERIFIER, **options)


GOOD: Final = token()
SCENE: Final = Scene(
    tee="sgx",
    version=3,
    kind="token",
    evidence=GOOD.encode(),
    roots=(),
    policy="",
    report_data=None,
    details={"keys": SIGNER.public.hex(), "require": "hardware"},
)


def asking(scene: Scene = SCENE, **details: str | None) -> Scene:
    """The scene with other details; None takes one out."""
    kept = {**scene.details, **details}
    return scene.but(details={name: value for name, value in kept.items() if value is not None})


def cases() -> Iterator[Vector]:
    yield SCENE.accepted("affirming", "A token of hardware that was accepted passes.")
    yield asking(require=None).accepted("nothing required", "The token is genuine, whatever it says.")
    yield from wanted()
    yield from text()
    yield from headers()
    yield from keys()
    yield from claims()
    yield from dates()
    yield from addressed()


def wanted() -> Iterator[Vector]:
    """What a token says, held against what is asked of it."""
    out_of_date = hardware(tcb=dataclasses.replace(simulated().tcb, status=TcbStatus.OUT_OF_DATE))
    warning = token(out_of_date, {"evidence": {"tcb_status": ["OutOfDate"]}})
    refusal = token(tables={"sgx": {"isv_svn_min": 9}})
    sim, sim_refusal = token(simulated()), token(simulated(), {"sgx": {"isv_svn_min": 9}})
    elsewhere = token(dataclasses.replace(hardware(), root=b"\1" * 32))
    for edge, comment, text, require in (
        (
            "warning that is taken",
            "What passed by a dangerous name passes where warnings are taken.",
            warning,
            "warnings",
        ),
        ("affirming where warnings are taken", "The better tier passes as well.", GOOD, "warnings"),
        ("simulated", "A simulated platform is asked for, and nothing else.", sim, "simulated"),
        ("refusal where nothing is required", "The token is genuine, whatever it says.", refusal, None),
    ):
        yield asking(require=require).accepted(edge, comment, evidence=text.encode())
    for edge, comment, text, require, code in (
        ("warning that is not taken", "A warning is no affirmation.", warning, "hardware", EarCode.STATUS),
        ("refusal", "The policy refused the evidence.", refusal, "hardware", EarCode.STATUS),
        ("refusal where warnings are taken", "A refusal is no warning.", refusal, "warnings", EarCode.STATUS),
        ("simulated refusal", "The policy refused the simulated platform.", sim_refusal, "simulated", EarCode.STATUS),
        ("root of nobody", "Hardware that is not recognised is contraindicated.", elsewhere, "warnings",
         EarCode.STATUS),
        ("simulated taken for hardware", "The two are never mixed.", sim, "hardware", EarCode.SIMULATED),
        ("simulated where warnings are taken", "The two are never mixed.", sim, "warnings", EarCode.SIMULATED),
        ("hardware taken for simulated", "The two are never mixed.", GOOD, "simulated", EarCode.SIMULATED),
        ("refusal of hardware taken for simulated", "The class counts first.", refusal, "simulated", EarCode.SIMULATED),
    ):  # fmt: skip
        yield asking(require=require).fails("require", edge, comment, code, evidence=text.encode())


def opened(edge: str, comment: str, code: EarCode, text: str | bytes, scene: Scene = SCENE) -> Vector:
    """A case of a token that is refused before what it says counts."""
    return scene.fails("open", edge, comment, code, evidence=text if isinstance(text, bytes) else text.encode())


def text() -> Iterator[Vector]:
    header, payload, signature = GOOD.split(".")
    other = signature[:-1] + ALPHABET[ALPHABET.index(signature[-1]) | 1]
    for edge, comment, changed in (
        ("one part", "A token has three parts.", "e30"),
        ("two parts", "A token has three parts.", f"{header}.{payload}"),
        ("four parts", "A token has three parts.", f"{GOOD}.e30"),
        ("padded", "Base64url is not padded.", f"{GOOD}="),
        ("with a line feed", "Nothing follows the token.", f"{GOOD}\n"),
        ("with a space before", "Nothing precedes the token.", f" {GOOD}"),
        ("in base64", "The alphabet is base64url's.", f"{header}.{payload}.{'+/' + signature[2:]}"),
        ("with bits that are left over", "A part has one form.", f"{header}.{payload}.{other}"),
        ("without a signature", "A signature has 64 bytes.", f"{header}.{payload}."),
        ("with half a signature", "A signature has 64 bytes.", f"{header}.{payload}.{signature[:43]}"),
        ("not of ascii", "A token is of ASCII.", f"{GOOD[:-1]}é"),
        ("too large", "A token has at most 64 KiB.", GOOD + "A" * (MAX_TOKEN + 1 - len(GOOD))),
    ):
        yield opened(edge, comment, EarCode.MALFORMED, changed)
    flipped = bytearray(decode_base64url(signature))
    for edge, comment, index in (("first", "The first half differs.", 0), ("last", "The last byte differs.", 63)):
        changed = bytearray(flipped)
        changed[index] ^= 1
        text = f"{header}.{payload}.{encode_base64url(bytes(changed))}"
        yield opened(f"{edge} byte of the signature altered", comment, EarCode.SIGNATURE, text)
    altered = json.dumps(claims_of(GOOD) | {"exp": NOW + DAY}, sort_keys=True, separators=(",", ":"))
    forged = f"{header}.{encode_base64url(altered.encode())}.{signature}"
    yield opened("claims altered", "The end was put off after the token was signed.", EarCode.SIGNATURE, forged)


ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
HEADER: Final = {"alg": "EdDSA", "kid": key_id(SIGNER.public), "typ": "eat+jwt"}


def headed(header: Any) -> str:
    """The healthy token with another header, signed by the verifier as it then stands."""
    first = encode_base64url((header if isinstance(header, str) else json.dumps(header)).encode())
    signed = f"{first}.{GOOD.split('.')[1]}"
    return f"{signed}.{encode_base64url(SIGNER.sign(b'', signed.encode()))}"


def headers() -> Iterator[Vector]:
    """A header of another kind is refused before anything else, although the right key signed."""
    for name in ("none", "HS256", "ES256", "Ed25519", "eddsa"):
        comment = "EdDSA is the one algorithm."
        yield opened(f"algorithm {name}", comment, EarCode.ALGORITHM, headed(HEADER | {"alg": name}))
    without = {name: value for name, value in HEADER.items() if name != "alg"}
    yield opened("no algorithm", "EdDSA is the one algorithm.", EarCode.ALGORITHM, headed(without))
    for edge, comment, header in (
        ("type jwt", "The type is that of EAT.", HEADER | {"typ": "JWT"}),
        ("no type", "The type is that of EAT.", {"alg": "EdDSA", "kid": HEADER["kid"]}),
    ):
        yield opened(edge, comment, EarCode.PROFILE, headed(header))
    for edge, comment, header in (
        ("no key id", "The header names its key.", {"alg": "EdDSA", "typ": "eat+jwt"}),
        ("critical extension", "The header has three members.", HEADER | {"crit": "exp"}),
        ("key in the header", "No key that travels with a token counts.", HEADER | {"jwk": {"kty": "OKP"}}),
        ("certificate in the header", "No key that travels with a token counts.", HEADER | {"x5c": "AA=="}),
        ("header of a list", "The header is a map.", [HEADER]),
        ("header with a name twice", "A name that comes twice says two things.",
         '{"alg":"EdDSA","alg":"none","kid":"x","typ":"eat+jwt"}'),
        ("header of nothing", "The header is JSON.", ""),
        ("header too long", "A header has at most 1 KiB.", HEADER | {"kid": "x" * 1024}),
    ):  # fmt: skip
        yield opened(edge, comment, EarCode.MALFORMED, headed(header))


def keys() -> Iterator[Vector]:
    claims = claims_of(GOOD)
    strange = sign(claims, STRANGER)
    both = f"{SIGNER.public.hex()}, {STRANGER.public.hex()}"
    yield asking(keys=both).accepted("one key of two", "Either key is trusted.")
    yield asking(keys=both).accepted("the other key of two", "Either key is trusted.", evidence=strange.encode())
    yield opened("signed by a stranger", "The token names a key that nobody trusts.", EarCode.KEY, strange)
    named = ".".join([GOOD.split(".")[0], *strange.split(".")[1:]])
    edge = "signed by a stranger under the name of the verifier"
    yield opened(edge, "The key that is named did not sign.", EarCode.SIGNATURE, named)
    yield opened("no key is trusted", "There is no key at all.", EarCode.KEY, GOOD, asking(keys=None))
    yield opened("another key is trusted", "The token is another verifier's.", EarCode.KEY, GOOD,
                 asking(keys=STRANGER.public.hex()))  # fmt: skip
    path = headed(HEADER | {"kid": "../../etc/passwd"})
    yield opened("key id that is a path", "A key id is a thumbprint, and opens no file.", EarCode.KEY, path)


# ------------------------------------------------------------------------------------------------------------ claims


def claims_of(text: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(decode_base64url(text.split(".")[1]))
    return value


def said(change: Callable[[dict[str, Any]], object], text: str = GOOD) -> str:
    """A token whose claims were changed before they were signed: the verifier itself is at fault."""
    value = claims_of(text)
    change(value)
    return sign(value, SIGNER)


def entry(value: dict[str, Any]) -> dict[str, Any]:
    inner: dict[str, Any] = value["submods"]["sgx"]
    return inner


def claims() -> Iterator[Vector]:
    yield from profiles()
    for edge, comment, change in (
        ("without an end", "Every claim is there.", lambda c: c.pop("exp")),
        ("without a verifier", "Every claim is there.", lambda c: c.pop("ear_verifier_id")),
        ("with another claim", "No other claim is known.", lambda c: c.update(admin=True)),
        ("issued before 1970", "Times are not negative.", lambda c: c.update(iat=-1, nbf=-1)),
        ("beginning at another time than issued", "Both are the appraisal's.", lambda c: c.update(nbf=NOW - 1)),
        ("with a fraction of a second", "Times are whole seconds.", lambda c: c.update(nbf=1.5)),
        ("with a time of text", "Times are numbers.", lambda c: c.update(exp=str(NOW + 5))),
        ("ending as it begins", "A token counts for a second at least.", lambda c: c.update(exp=NOW)),
        ("of more than a day", "A token counts for a day at most.", lambda c: c.update(exp=NOW + DAY + 1)),
        ("for two", "A token is for one.", lambda c: c.update(aud=["a", "b"])),
        ("with a nonce of 3 bytes", "A nonce has at least 8 bytes.", lambda c: c.update(eat_nonce="AAAA")),
        ("with a nonce that is no base64url", "A nonce is in base64url.", lambda c: c.update(eat_nonce="!" * 12)),
        ("with an unknown status", "A status is a tier of AR4SI's.", lambda c: c.update(ear_status="fine")),
        ("with a status of a number", "A status is text.", lambda c: c.update(ear_status=2)),
        ("with a better status than its appraisal", "The whole is no better than a part.",
         lambda c: c.update(ear_status="none")),
        ("without an appraisal", "There is exactly one.", lambda c: c.update(submods={})),
        ("with two appraisals", "There is exactly one.", lambda c: c["submods"].update(tdx=entry(c))),
        ("with a better status than its claims", "A status is no better than the worst claim.",
         lambda c: entry(c)["ear_trustworthiness_vector"].update(hardware=32)),
        ("with a claim of 128", "A claim is a signed byte.",
         lambda c: entry(c)["ear_trustworthiness_vector"].update(hardware=128)),
        ("with an unknown claim of trust", "AR4SI has eight.",
         lambda c: entry(c)["ear_trustworthiness_vector"].update(colour=2)),
        ("without a policy", "One policy is named.", lambda c: entry(c).update(ear_appraisal_policy_ids=[])),
        ("with a policy of another form", "A policy is named by its digest.",
         lambda c: entry(c).update(ear_appraisal_policy_ids=["x"])),
        ("without its extension", "The appraisal has all its members.", lambda c: entry(c).pop(EXTENSION)),
        ("accepted by a number", "A verdict is true or false.", lambda c: entry(c)[EXTENSION].update(accepted=1)),
        ("refused for no reason", "A refusal names its checks.",
         lambda c: entry(c)[EXTENSION].update(accepted=False)),
        ("accepted in spite of a check", "What is accepted has failed no check.",
         lambda c: entry(c)[EXTENSION].update(failed=["sgx-debug"])),
        ("refused and affirming", "What is refused is contraindicated.",
         lambda c: entry(c)[EXTENSION].update(accepted=False, failed=["sgx-debug"])),
        ("of an unknown platform", "A platform is hardware, or SIMULATED.",
         lambda c: entry(c)[EXTENSION].update(platform="simulated")),
        ("affirming a simulated platform", "A simulated platform is contraindicated.",
         lambda c: entry(c)[EXTENSION].update(platform="SIMULATED")),
        ("with a root of 31 bytes", "A root is named by 32 bytes.",
         lambda c: entry(c)[EXTENSION].update(root="11" * 31)),
        ("with hex in capitals", "Hex is in small letters.", lambda c: entry(c)[EXTENSION].update(measurement="AA")),
        ("with a version below zero", "Versions are not negative.",
         lambda c: entry(c)[EXTENSION].update(version=-1)),
    ):  # fmt: skip
        yield opened(f"claims {edge}", comment, EarCode.MALFORMED, said(change))
    worse = said(lambda c: c.update(ear_status="warning"))
    comment = "A verifier may say less than its claims do; what counts is the status of the whole."
    yield asking(require="warnings").accepted("status worse than its appraisal", comment, evidence=worse.encode())
    yield SCENE.fails("require", "status worse than its appraisal not taken", comment, EarCode.STATUS,
                      evidence=worse.encode())  # fmt: skip


def profiles() -> Iterator[Vector]:
    for edge, change in (
        ("another draft", lambda c: c.update(eat_profile="tag:ietf.org,2026:rats/ear#03")),
        ("no profile", lambda c: c.pop("eat_profile")),
        ("profile of a number", lambda c: c.update(eat_profile=4)),
        ("another profile of the appraisal", lambda c: entry(c).update(eat_profile="urn:uuid:0")),
    ):
        yield opened(edge, "The profile is not one that is handled.", EarCode.PROFILE, said(change))


# ------------------------------------------------------------------------------------------ dates, audience, nonce


def dates() -> Iterator[Vector]:
    rule = "A token counts from its issue until before its end; clocks may differ by a leeway of at most 300 s."
    for edge, now, leeway in (
        ("last second", NOW + LIFETIME - 1, None),
        ("before its issue within the leeway", NOW - 5, "5"),
        ("after its end within the leeway", NOW + LIFETIME + 4, "5"),
        ("greatest leeway", NOW + 2 * LIFETIME - 1, "300"),
    ):
        yield asking(leeway=leeway).but(now=now).accepted(edge, rule)
    for edge, now, leeway, code in (
        ("a second before its issue", NOW - 1, None, EarCode.EARLY),
        ("before its issue and the leeway", NOW - 6, "5", EarCode.EARLY),
        ("first second after its end", NOW + LIFETIME, None, EarCode.EXPIRED),
        ("after its end and the leeway", NOW + LIFETIME + 5, "5", EarCode.EXPIRED),
        ("leeway above the greatest", NOW + 2 * LIFETIME, "1000000", EarCode.EXPIRED),
        ("leeway below zero", NOW - 1, "-5", EarCode.EARLY),
    ):
        yield asking(leeway=leeway).but(now=now).fails("open", edge, rule, code)
    day = token(lifetime=DAY).encode()
    yield SCENE.accepted("of a whole day", "A token counts for a day at most.", evidence=day, now=NOW + DAY - 1)


def addressed() -> Iterator[Vector]:
    named, answering = token(audience=NAME).encode(), token(nonce=NONCE).encode()
    yield asking(audience=NAME).accepted("for who asks", "The token names who asks.", evidence=named)
    for edge, comment, asks, text in (
        ("for another", "The token names another.", "https://other.example", named),
        ("for somebody asked by nobody", "A token that names somebody is for nobody else.", None, named),
        ("for anyone asked by somebody", "Who asks by name wants a token that names it.", NAME, GOOD.encode()),
        ("for a name in capitals", "Names are compared letter by letter.", NAME.upper(), named),
    ):
        yield asking(audience=asks).fails("open", edge, comment, EarCode.AUDIENCE, evidence=text)
    hexed = NONCE.hex()
    yield asking(nonce=hexed).accepted("answering the nonce", "The token shows the nonce.", evidence=answering)
    yield SCENE.accepted("nonce that nobody asked with", "Freshness comes from elsewhere.", evidence=answering)
    for edge, comment, asks, text in (
        ("answering another nonce", "The token is a replay.", bytes(16).hex(), answering),
        ("answering no nonce", "The token shows none.", hexed, GOOD.encode()),
        ("answering the beginning of a nonce", "All of it counts.", hexed + "00", answering),
    ):
        yield asking(nonce=asks).fails("open", edge, comment, EarCode.NONCE, evidence=text)
