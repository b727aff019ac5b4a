"""Evidence is taken out of whatever wraps it, every captured wrapping included, and nothing else comes out."""

from __future__ import annotations

import base64
import gzip
import json
import random
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation import evidence, wrapping, wrapping_json
from attestation.cli import attest
from attestation.collateral.bundle import Bundle
from attestation.collateral.errors import FetchCode
from attestation.errors import EvidenceCode
from attestation.nvidia.errors import NvidiaCode
from attestation.wrapping import MAX_DEPTH, MAX_WRAPPED, Unwrapped, unwrap
from tests.attestation import kit
from tests.attestation.kit import NOW, refused
from tests.shared import vectors

QUOTE = kit.sim_quote


def base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def armour(data: bytes) -> bytes:
    return b"Some words before.\n-----BEGIN SGX QUOTE-----\n" + base64.encodebytes(data) + b"-----END SGX QUOTE-----\n"


def dstack(data: bytes, rest: bytes = b"of its own") -> bytes:
    return b"\x00\x00" + ((len(data) << 2) | 1).to_bytes(2, "little") + data + rest


def in_json(name: str = "quote", how: Callable[[bytes], Any] = bytes.hex) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps({"version": 1.5, "data": {name: how(data)}}).encode()


FRAME = "dstack frame: {size} bytes; 10 bytes of dstack's own follow, unverified"

FORMS: dict[str, tuple[Callable[[bytes], bytes], tuple[str, ...]]] = {
    "raw": (lambda data: data, ()),
    "padded": (lambda data: data + bytes(70), ("zero padding: 70 bytes",)),
    "hex": (lambda data: data.hex().encode(), ("hex",)),
    "hex in capitals with 0x": (lambda data: b"0x" + data.hex().upper().encode(), ("hex",)),
    "hex in lines": (lambda data: data.hex("\n", 16).encode() + b"\r\n", ("hex",)),
    "base64": (base64.b64encode, ("base64",)),
    "base64 in lines": (base64.encodebytes, ("base64",)),
    "base64url": (base64url, ("base64",)),
    "armour": (armour, ("armour: SGX QUOTE", "base64")),
    "JSON hex": (in_json(), ('JSON "quote"', "hex")),
    "JSON base64url": (in_json("report", lambda data: base64url(data).decode()), ('JSON "report"', "base64")),
    "JSON numbers": (in_json("td_quote", list), ('JSON "td_quote": a list of numbers',)),
    "JSON string": (lambda data: json.dumps(data.hex()).encode(), ("JSON string", "hex")),
    "gzip": (gzip.compress, ("gzip",)),
    "gzip in base64": (lambda data: base64.b64encode(gzip.compress(data, mtime=0)), ("base64", "gzip")),
    "dstack": (dstack, (FRAME,)),
    "dstack in hex in JSON": (in_json("attestation", lambda d: dstack(d).hex()), ('JSON "attestation"', "hex", FRAME)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_evidence_and_says_what_it_was(form: str) -> None:
    wrap, steps = FORMS[form]
    unwrapped = unwrap(wrap(QUOTE()))
    assert unwrapped == Unwrapped(QUOTE(), tuple(step.format(size=len(QUOTE())) for step in steps))


@pytest.mark.parametrize("name", sorted(wrapping_json.NAMES))
def test_every_usual_name_is_looked_under(name: str) -> None:
    assert unwrap(in_json(name)(QUOTE())).evidence == QUOTE()
    with refused(EvidenceCode.EVIDENCE_UNKNOWN):
        unwrap(in_json(f"no_{name}")(QUOTE()))


def test_an_integer_of_four_bytes_frames_what_is_longer() -> None:
    long = QUOTE() + bytes(20_000)
    framed = b"\x00\x00" + ((len(long) << 2) | 2).to_bytes(4, "little") + long
    assert unwrap(framed).evidence == QUOTE()


@pytest.mark.parametrize("head", [b"\x00\x08\xfc", b"\x00\x00\x03\x00", b"\x00\x00\xff\xff", b"\x00\x00\x00", b"\x00"])
def test_a_frame_that_is_none_is_unknown(head: bytes) -> None:
    with refused(EvidenceCode.EVIDENCE_UNKNOWN):
        unwrap(head + b"x" * 63)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"{",
        b'{"quote": 5}',
        b"[]",
        b"0x",
        b"\xff\xfe\xfd",
        b"-----BEGIN X-----\n!!\n-----END X-----",
        b"=" * 12,
        b"A" * 9,
        gzip.compress(b"quote", mtime=0)[:-1],
        gzip.compress(b"quote", mtime=0) + b"x",
        b"\x1f\x8bnot gzip",
        json.dumps({"quote": [1, 2, 300]}).encode(),
        b'"' + b"[" * 3000,
        b"[" * 100_000,
    ],
)
def test_what_holds_no_evidence_is_unknown(data: bytes) -> None:
    with refused(EvidenceCode.EVIDENCE_UNKNOWN):
        unwrap(data)


def test_two_pieces_are_ambiguous_and_the_same_one_twice_is_not() -> None:
    other = kit.platform().quote(kit.platform().report_body(bytes(32)), bytes(64))
    same = {"quote": QUOTE().hex(), "sgx_quote": base64.b64encode(QUOTE()).decode()}
    assert unwrap(json.dumps(same).encode()).evidence == QUOTE()
    with refused(EvidenceCode.WRAPPING_AMBIGUOUS) as caught:
        unwrap(json.dumps({"quote": QUOTE().hex(), "report": other.hex()}).encode())
    assert 'JSON "quote"' in str(caught.value.found)
    assert 'JSON "report"' in str(caught.value.found)


def test_of_several_the_one_that_parses_counts() -> None:
    both = {"quote": QUOTE().hex(), "report": QUOTE()[:600].hex()}
    assert unwrap(json.dumps(both).encode()).evidence == QUOTE()
    with refused(EvidenceCode.WRAPPING_AMBIGUOUS):
        unwrap(json.dumps({"quote": QUOTE()[:500].hex(), "report": QUOTE()[:600].hex()}).encode())


def test_one_that_is_cut_short_is_left_to_its_parser() -> None:
    unwrapped = unwrap(QUOTE()[:600].hex().encode())
    assert unwrapped.evidence == QUOTE()[:600]
    with refused(EvidenceCode.QUOTE_TRUNCATED):
        evidence.parse(unwrapped.evidence)


def test_a_repeated_name_is_ambiguous() -> None:
    with refused(EvidenceCode.WRAPPING_AMBIGUOUS):
        unwrap(f'{{"quote": "{QUOTE().hex()}", "quote": "00"}}'.encode())


def test_size_depth_and_nesting_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = QUOTE()
    for _ in range(MAX_DEPTH):
        data = base64.b64encode(data)
    assert len(unwrap(data).steps) == MAX_DEPTH
    nested: Any = QUOTE().hex()
    for _ in range(20):
        nested = {"quote": nested}
    for large in (base64.b64encode(data), bytes(MAX_WRAPPED + 1), json.dumps(nested).encode()):
        with refused(EvidenceCode.WRAPPING_TOO_LARGE):
            unwrap(large)
    monkeypatch.setattr(wrapping, "MAX_WRAPPED", 6000)
    with refused(EvidenceCode.WRAPPING_TOO_LARGE):
        unwrap(gzip.compress(bytes(6001), mtime=0))


def test_a_bundle_brings_its_collateral() -> None:
    platform = kit.platform()
    bundle = Bundle(QUOTE(), {platform.collateral_key: platform.collateral(NOW)})
    unwrapped = unwrap(bundle.to_json().encode())
    assert (unwrapped.evidence, unwrapped.steps) == (QUOTE(), ("bundle",))
    assert unwrapped.collateral is not None
    assert unwrapped.collateral.fetch(platform.collateral_key) == platform.collateral(NOW)
    with refused(FetchCode.BUNDLE_MALFORMED):
        unwrap(b'{"format": "strongroom-evidence-bundle"}')


def test_collateral_beside_the_evidence_is_taken_along() -> None:
    platform = kit.platform()
    collateral = platform.collateral(NOW)
    for held in (collateral.to_json(), json.loads(collateral.to_json())):
        unwrapped = unwrap(json.dumps({"quote": QUOTE().hex(), "collateral": held}).encode())
        assert unwrapped.collateral is not None
        assert unwrapped.collateral.fetch(platform.collateral_key) == collateral
    assert unwrap(json.dumps({"quote": QUOTE().hex(), "collateral": {"x": 1}}).encode()).collateral is None


def test_device_evidence_of_the_sdk_becomes_a_container_and_stands_beside_a_processors() -> None:
    devices = json.loads((vectors() / "nvidia/hopper-590-multi4.json").read_bytes())
    alone = unwrap(json.dumps(devices).encode())
    assert alone.steps == ("NVIDIA SDK JSON",)
    assert evidence.parse(alone.evidence).tee == "nvidia"
    both = unwrap(json.dumps({"quote": QUOTE().hex(), "nvidia_payload": {"evidence_list": devices}}).encode())
    assert (both.evidence, both.gpu) == (QUOTE(), alone.evidence)
    devices[0]["evidence"] = "!"
    with refused(NvidiaCode.CONTAINER):
        unwrap(json.dumps(devices).encode())


WRAPPED = {
    "tdx/v4-dstack-quote-report.json": ("tdx", ('JSON "quote"', "hex", "zero padding: 70 bytes")),
    "tdx/v4-dstack-tappd.quote.hex": ("tdx", ("hex", "zero padding: 70 bytes")),
    "tdx/v4-dstack-simulator.attestation.bin": (
        "tdx",
        ("dstack frame: 5010 bytes; 4490 bytes of dstack's own follow, unverified", "zero padding: 70 bytes"),
    ),
    "snp/v3-milan-dstack.attestation.bin": (
        "snp",
        ("dstack frame: 1184 bytes; 2857 bytes of dstack's own follow, unverified",),
    ),
    "snp/v3-milan-dstack.attestation.json": (
        "snp",
        ('JSON "attestation"', "hex", "dstack frame: 1184 bytes; 7104 bytes of dstack's own follow, unverified"),
    ),
    "snp/v3-genoa-tinfoil.attestation.json": ("snp", ('JSON "body"', "base64", "gzip")),
    "nitro/prod-a.dstack.bin": (
        "nitro",
        ("dstack frame: 4527 bytes; 151 bytes of dstack's own follow, unverified",),
    ),
    "nitro/debug.dstack.bin": (
        "nitro",
        ("dstack frame: 4529 bytes; 151 bytes of dstack's own follow, unverified",),
    ),
    "nvidia/hopper-590-multi4.json": ("nvidia", ("NVIDIA SDK JSON",)),
}
"""Captured wrappings, with the TEE and the steps that each has."""

EXTRACTED = {
    "snp/v3-milan-dstack.attestation.bin": "snp/v3-milan-dstack.report.bin",
    "snp/v3-milan-dstack.attestation.json": "snp/v3-milan-dstack.report.bin",
    "snp/v3-genoa-tinfoil.attestation.json": "snp/v3-genoa-tinfoil.report.bin",
    "nitro/prod-a.dstack.bin": "nitro/prod-a.cose.cbor",
    "nitro/debug.dstack.bin": "nitro/debug.cose.cbor",
}
"""What others took out of some of them."""


@pytest.mark.parametrize("path", WRAPPED)
def test_every_captured_wrapping_is_taken_off(path: str) -> None:
    tee, steps = WRAPPED[path]
    unwrapped = unwrap((vectors() / path).read_bytes())
    assert unwrapped.steps == steps
    assert evidence.parse(unwrapped.evidence).tee == tee
    if path in EXTRACTED:
        assert unwrapped.evidence == (vectors() / EXTRACTED[path]).read_bytes()


def test_no_captured_evidence_is_skipped() -> None:
    """Everything that the catalogue calls evidence is taken out, or is a part that no tool verifies by itself."""
    parts = ("tpm/", "cca/", "hcl-report", "tpm-quote", ".pem", ".der", ".xml", "claims.json", "collateral-")
    rows = json.loads((vectors() / "catalogue.json").read_text(encoding="utf-8"))["rows"]
    files = sorted({path for row in rows for path in row["files"] if not any(part in path for part in parts)})
    assert len(files) > 60
    for path in files:
        steps = unwrap((vectors() / path).read_bytes()).steps
        if path.startswith("nvidia/") and path not in WRAPPED:
            assert steps == ("hex", "device report without certificates")
        elif path in WRAPPED:
            assert steps == WRAPPED[path][1]
        else:
            assert all(step.startswith("zero padding") for step in steps), (path, steps)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode) | st.binary(max_size=60).map(dstack))
def test_unwrapping_is_total(data: bytes) -> None:
    found = kit.outcome(lambda: unwrap(data))
    documented = {
        EvidenceCode.EVIDENCE_UNKNOWN,
        EvidenceCode.WRAPPING_AMBIGUOUS,
        EvidenceCode.WRAPPING_TOO_LARGE,
    }
    assert isinstance(found, Unwrapped) or found in documented


@pytest.mark.parametrize("item", ["{}", "[]", "1", '"ab"', '{"a":1}', "0.5"])
@pytest.mark.parametrize("around", ["[{}]", '{{"quote":[{}]}}', '{{"collateral":[{}]}}'])
def test_json_of_too_many_items_is_not_read(item: str, around: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some bytes each as text, and up to some hundred once they are read."""
    text = around.format(",".join([item] * (wrapping_json.MAX_ITEMS + 1)))
    monkeypatch.setattr(json, "loads", lambda *_args, **_options: pytest.fail("it is read"))
    with refused(EvidenceCode.WRAPPING_TOO_LARGE) as caught:
        unwrap(text.encode())
    assert caught.value.expected == f"JSON of at most {wrapping_json.MAX_ITEMS} items"


def test_the_items_of_all_texts_count_together() -> None:
    """Each text is within the bound; what is different about them is how much space stands in front."""
    share = wrapping_json.MAX_ITEMS // 4 - 100
    texts = [" " * number + json.dumps([1] * share) for number in range(5)]
    with refused(EvidenceCode.EVIDENCE_UNKNOWN):
        unwrap(json.dumps({"x": [{"body": text.encode().hex()} for text in texts[:4]]}).encode())
    with refused(EvidenceCode.WRAPPING_TOO_LARGE):
        unwrap(json.dumps({"x": [{"body": text.encode().hex()} for text in texts]}).encode())


def test_collateral_of_too_many_items_is_not_looked_for() -> None:
    """Evidence that is JSON itself is not opened as a wrapping, so its items are counted where collateral is sought."""
    text = f'{{"collateral":[{",".join(["[]"] * wrapping_json.MAX_ITEMS)}]}}'
    assert wrapping_json.find_collateral(text.encode()) is None


def test_a_list_of_numbers_may_be_long() -> None:
    data = json.dumps({"quote": list(QUOTE() + bytes(100_000))}).encode()
    assert unwrap(data).evidence == QUOTE()


def test_gzip_inflates_to_no_more_than_evidence_does() -> None:
    within, beyond = (gzip.compress(b"A" * (wrapping.MIN_INFLATED + more), mtime=0) for more in (-1, 1))
    assert len(beyond) * wrapping.MAX_RATIO < wrapping.MIN_INFLATED
    with refused(EvidenceCode.EVIDENCE_UNKNOWN):
        unwrap(within)
    with refused(EvidenceCode.WRAPPING_TOO_LARGE):
        unwrap(beyond)
    less = gzip.compress(random.Random(5).randbytes(wrapping.MIN_INFLATED + 1), mtime=0)
    with refused(EvidenceCode.EVIDENCE_UNKNOWN):
        unwrap(less)


@pytest.mark.parametrize("text", [b"A", b"0", b"A ", b"0 ", b'"'])
def test_long_text_takes_memory_in_proportion(text: bytes) -> None:
    """A pattern that repeats a group keeps a record of every repetition, some hundred bytes for two digits."""
    data = (text * MAX_WRAPPED)[: MAX_WRAPPED // 4]
    tracemalloc.start()
    try:
        kit.outcome(lambda: unwrap(data))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 16 * len(data)


def bomb(levels: int, width: int) -> bytes:
    """A text in which each level holds the one below many times over, as gzip in JSON, with different spaces."""
    data = b"A" * 100_000
    for _ in range(levels):
        inner = [base64.b64encode(gzip.compress(data + b" " * number, mtime=0)).decode() for number in range(width)]
        data = json.dumps({"x": [{"body": text} for text in inner]}).encode()
    return data


def test_what_holds_too_much_is_opened_within_one_budget() -> None:
    with refused(EvidenceCode.WRAPPING_TOO_LARGE):
        unwrap(bomb(1, 400))


def test_what_repeats_itself_level_by_level_ends_within_the_same_budget() -> None:
    """It would have 20 ** 4 pieces."""
    with refused(EvidenceCode.WRAPPING_TOO_LARGE):
        unwrap(bomb(4, 20))


def test_a_piece_that_stands_in_many_places_is_opened_once() -> None:
    text = base64.b64encode(gzip.compress(b"A" * (2 << 20), mtime=0)).decode()
    with refused(EvidenceCode.EVIDENCE_UNKNOWN):
        unwrap(json.dumps({"x": [{"body": text}] * 100}).encode())


# ------------------------------------------------------------------------------------------------ recognised, unhandled

CCA = b"\xd9\x01\x8f\xa2\x19\xac\xca\x41\x00\x19\xac\xd1\x41\x00"


@pytest.mark.parametrize(
    "data",
    [
        CCA,
        CCA.hex().encode(),
        base64.b64encode(CCA),
        json.dumps({"evidence": base64.b64encode(CCA).decode()}).encode(),
    ],
    ids=["raw", "hex", "base64", "JSON"],
)
def test_an_arm_cca_token_is_called_by_its_name(data: bytes) -> None:
    with refused(EvidenceCode.EVIDENCE_UNKNOWN) as caught:
        unwrap(data)
    assert "Arm CCA" in str(caught.value.found)
    assert "a platform that this release handles" in str(caught.value.remedy)


def test_the_captured_cca_token_ends_with_20_and_its_name() -> None:
    path = vectors() / "cca" / "example-token.cbor"
    result = CliRunner().invoke(attest, ["verify", "--evidence", str(path)])
    assert result.exit_code == 20
    assert "Arm CCA token" in result.output
    assert "attest show ADDRESS" not in result.output
    with refused(EvidenceCode.EVIDENCE_UNKNOWN) as caught:
        evidence.parse(path.read_bytes())
    assert "Arm CCA" in str(caught.value.found)
    assert "a platform that this release handles" in str(caught.value.remedy)


def test_what_is_captured_besides_evidence_is_not_taken_for_any() -> None:
    """Tokens of NVIDIA's service, and the trust anchors and reference values of another verifier of CCA."""
    paths = [*(vectors() / "nvidia" / "tokens").iterdir(), *(vectors() / "cca").glob("*.json")]
    assert len(paths) == 7
    for path in paths:
        result = CliRunner().invoke(attest, ["verify", "--evidence", str(path)])
        assert result.exit_code == 20, path.name
        assert "evidence-unknown" in result.output, path.name


def test_the_mark_that_some_editors_put_before_a_text_is_no_part_of_it() -> None:
    assert unwrap(b"\xef\xbb\xbf" + kit.sim_quote().hex().encode()).evidence == kit.sim_quote()


def test_an_empty_file_is_told_to_be_empty() -> None:
    with refused(EvidenceCode.EVIDENCE_UNKNOWN) as refusal:
        unwrap(b"")
    assert refusal.value.found == "no bytes at all"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_text_in_utf_16_is_called_so(encoding: str) -> None:
    text = kit.sim_quote().hex() if encoding == "utf-16" else "\ufeff" + kit.sim_quote().hex()
    with refused(EvidenceCode.EVIDENCE_UNKNOWN) as refusal:
        unwrap(text.encode(encoding))
    assert refusal.value.found == "text in UTF-16"
    assert "ASCII or UTF-8" in str(refusal.value.remedy)


@pytest.mark.parametrize(
    ("encoding", "title"),
    [("utf-32", "UTF-32"), ("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16")],
)
def test_text_in_utf_32_and_without_a_mark_is_called_so(encoding: str, title: str) -> None:
    with refused(EvidenceCode.EVIDENCE_UNKNOWN) as refusal:
        unwrap(kit.sim_quote().hex().encode(encoding))
    assert refusal.value.found == f"text in {title}"


@pytest.mark.parametrize("encoding", [Encoding.DER, Encoding.PEM])
def test_a_certificate_of_a_web_server_is_called_neither_evidence_nor_collateral(encoding: Encoding) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "models.example")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 5)
    made = made.not_valid_before(datetime(2025, 1, 1, tzinfo=UTC)).not_valid_after(datetime(2026, 1, 1, tzinfo=UTC))
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    with refused(EvidenceCode.EVIDENCE_UNKNOWN) as refusal:
        unwrap(made.sign(key, hashes.SHA256()).public_bytes(encoding))
    assert refusal.value.found == "a certificate that carries no evidence"


def lists_of_amd() -> bytes:
    return (vectors() / "snp/certs/milan_ask_ark_asvk.pem").read_bytes()


@pytest.mark.parametrize("make", [lambda: kit.platform().collateral(NOW).to_json().encode(), lists_of_amd])
def test_collateral_in_the_place_of_evidence_is_called_so(make: Callable[[], bytes]) -> None:
    with refused(EvidenceCode.EVIDENCE_UNKNOWN) as refusal:
        unwrap(make())
    assert refusal.value.found == "collateral, and no evidence"
    assert "--collateral" in str(refusal.value.remedy)


TORN: dict[str, bytes] = {
    "hex that lacks a digit": kit.sim_quote().hex().encode()[:-1],
    "hex in lines that lacks most digits": kit.sim_quote().hex("\n", 16).encode()[:1004],
    "hex with 0x": b"0x" + kit.sim_quote().hex().encode()[:4001],
    "base64 that lacks characters": base64.b64encode(kit.sim_quote())[:4001],
    "base64url that lacks characters": base64url(kit.sim_quote())[:4001],
}


@pytest.mark.parametrize("data", TORN.values(), ids=TORN)
def test_text_of_a_known_kind_that_ends_within_a_byte_is_malformed_and_not_unknown(data: bytes) -> None:
    for wrapped in (data, json.dumps({"quote": data.decode()}).encode()):
        with refused(EvidenceCode.WRAPPING_AMBIGUOUS) as refusal:
            unwrap(wrapped)
        assert refusal.value.exit_code == 30
        assert "Intel SGX in" in str(refusal.value.found)
        assert "whole" in str(refusal.value.remedy)


def test_text_of_no_known_kind_that_ends_within_a_byte_stays_unknown() -> None:
    for data in (b"0" * 4001, b"ab" * 20 + b"c", b"A" * 4001):
        with refused(EvidenceCode.EVIDENCE_UNKNOWN):
            unwrap(data)


def test_a_torn_text_beside_whole_evidence_hides_it_not() -> None:
    data = json.dumps({"quote": kit.sim_quote().hex(), "evidence": kit.sim_quote().hex()[:-1]}).encode()
    assert unwrap(data).evidence == kit.sim_quote()
