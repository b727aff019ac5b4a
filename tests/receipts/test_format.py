"""A receipt has one form: what is not in it is refused, and every flipped bit is noticed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.policy import load_policy
from attestation.receipts.bundle import ReceiptBundle
from attestation.receipts.checks import NOTHING, Held, checks
from attestation.receipts.show import report_map
from attestation.receipts.verify import examine
from attestation.types import cbor, cose
from attestation.types.receipt import CONTENT_TYPE, MAX_RECEIPT, RECEIPT, Receipt, SignedReceipt, Verdict
from attestation.types.receipt_errors import ReceiptCode
from attestation.wire.commitments import Direction
from manifests import canonical
from manifests.errors import ErrorCode, Fault, ManifestCode, StrongroomError
from manifests.signing import digest, label
from tests.flips import flip
from tests.receipts import kit
from tests.receipts.independent_verifier import RefusedError
from tests.receipts.independent_verifier import verify as verify_independently

GOLDEN = Path(__file__).parent / "golden"
LASTING = ("accepted", "platform", "at", "tee", "measurement", "receipt", "openings")
"""What later releases say of a receipt of today, whatever they check besides."""


def refusal(function: Callable[[], object]) -> ErrorCode:
    with pytest.raises(StrongroomError) as error:
        function()
    return error.value.code


def outcome(function: Callable[[bytes], object], data: bytes) -> ErrorCode | None:
    """The code of a refusal, or None for a value; anything else that is raised is a defect."""
    try:
        function(data)
    except StrongroomError as error:
        return error.code
    return None


def same(found: bytes, data: bytes) -> None:
    assert found == data


def message(**changes: Any) -> bytes:
    """The kit's receipt with parts of its message changed, and signed after that."""
    changed = replace(kit.bundle().signed().message, **changes)
    return replace(changed, signature=kit.RECEIPT_KEY.sign(b"", changed.signed(RECEIPT))).serialize()


def payload(**changes: Any) -> bytes:
    return message(payload=cbor.encode_ordered(kit.receipt().to_map() | changes))


def test_a_receipt_is_a_tagged_message_of_some_750_bytes() -> None:
    data = kit.signed()
    assert data.startswith(b"\xd2\x84")
    assert 600 < len(data) < 900
    parsed = SignedReceipt.parse(data)
    assert (parsed.receipt, parsed.serialize()) == (kit.receipt(), data)
    assert parsed.verify(kit.RECEIPT_KEY.public)
    assert not parsed.verify(kit.OTHER_KEY.public)
    assert not parsed.verify(bytes(32)), "a point of small order is no key"


def unordered() -> bytes:
    table = kit.receipt().to_map()
    return message(payload=cbor.encode(dict(reversed(cbor.decode(cbor.encode_ordered(table), max_size=9999).items()))))


def with_unprotected() -> bytes:
    value = cbor.decode(kit.signed(), max_size=MAX_RECEIPT)
    return cbor.encode(cbor.Tag(18, [value.value[0], {4: b"key"}, *value.value[2:]]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"",
        lambda: kit.signed()[:-1],
        lambda: kit.signed() + b"\0",
        lambda: bytes(MAX_RECEIPT + 1),
        lambda: message(tagged=False),
        lambda: message(content_type=None),
        lambda: message(content_type="application/cwt"),
        lambda: replace(kit.bundle().signed().message, signature=bytes(63)).serialize(),
        with_unprotected,
        unordered,
        lambda: message(payload=cbor.encode([])),
        lambda: payload(more=1),
        lambda: payload(version=0),
        lambda: payload(serial=0),
        lambda: payload(serial=1 << 63),
        lambda: payload(request=1 << 32),
        lambda: payload(epoch=-1),
        lambda: payload(model=bytes(63)),
        lambda: payload(owner=bytes(32)),
        lambda: payload(boot_id="text"),
        lambda: payload(verdict={}),
        lambda: payload(verdict={"abuse": 256, "checks": [], "output": "scores"}),
        lambda: payload(verdict={"abuse": 0, "checks": ["b", "a"], "output": "scores"}),
        lambda: payload(verdict={"abuse": 0, "checks": ["a"] * 2, "output": "scores"}),
        lambda: payload(verdict={"abuse": 0, "checks": [str(n) for n in range(17)], "output": "scores"}),
        lambda: payload(verdict={"abuse": 0, "checks": [], "output": ""}),
    ],
)
def test_what_is_not_in_the_one_form_is_malformed(make: Callable[[], bytes]) -> None:
    assert refusal(lambda: SignedReceipt.parse(make())) is ReceiptCode.MALFORMED


def test_another_algorithm_is_unsupported() -> None:
    for algorithm in (-8, -7, cose.ES384):
        code = refusal(lambda algorithm=algorithm: SignedReceipt.parse(message(algorithm=algorithm)))  # type: ignore[misc]
        assert code is ReceiptCode.ALGORITHM
        assert code.fault is Fault.UNSUPPORTED


def test_a_later_version_is_unsupported_whatever_else_it_has() -> None:
    later = message(payload=cbor.encode_ordered({"version": 2, "news": True}))
    assert refusal(lambda: SignedReceipt.parse(later)) is ManifestCode.VERSION_UNSUPPORTED


def test_every_bit_of_a_receipt_counts() -> None:
    data = kit.signed()
    unnoticed = [bit for bit in range(8 * len(data)) if accepts(flip(data, bit))]
    assert unnoticed == []


def accepts(data: bytes) -> bool:
    try:
        return SignedReceipt.parse(data).verify(kit.RECEIPT_KEY.public)
    except StrongroomError:
        return False


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda data: kit.signed()[:40] + data))
def test_the_parser_is_total(data: bytes) -> None:
    code = outcome(lambda data: same(SignedReceipt.parse(data).serialize(), data), data)
    assert code is None or isinstance(code, ReceiptCode) or code is ManifestCode.VERSION_UNSUPPORTED


# ------------------------------------------------------------------------------------------ bundles


def rewritten(**changes: Any) -> bytes:
    """The kit's bundle with fields of its body changed, under a checksum that fits."""
    body = canonical.decode(canonical.decode(kit.bundle().encode(), max_size=1 << 24)[0], max_size=1 << 24)
    return checked(canonical.encode({name: value for name, value in (body | changes).items() if value != "left out"}))


def checked(body: bytes) -> bytes:
    return canonical.encode([body, digest(label("receipt bundle"), body)])


def test_a_bundle_decodes_to_what_was_encoded() -> None:
    data = kit.bundle().encode()
    assert ReceiptBundle.decode(data).encode() == data
    assert ReceiptBundle.decode(kit.bundle().closed().encode()) == kit.bundle().closed()
    assert rewritten() == data


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"",
        lambda: kit.bundle().encode()[:-1],
        lambda: kit.bundle().encode() + b"\0",
        lambda: canonical.encode([b""]),
        lambda: canonical.encode([b"", b"", b""]),
        lambda: canonical.encode(["text", bytes(64)]),
        lambda: checked(b"\xc1"),
        lambda: rewritten(format="strongroom-evidence-bundle"),
        lambda: rewritten(more=1),
        lambda: rewritten(receipt="left out"),
        lambda: rewritten(receipt=bytes(MAX_RECEIPT + 1)),
        lambda: rewritten(evidence=b"none"),
        lambda: rewritten(collateral=b"{}"),
        lambda: rewritten(collateral="text"),
        lambda: rewritten(collateral=(kit.platform().collateral(kit.NOW).to_json() + "\n").encode()),
        lambda: rewritten(noted={}),
        lambda: rewritten(time=-1),
        lambda: rewritten(input=[[bytes(63)]]),
        lambda: rewritten(input=[[bytes(64), bytes(32)]]),
        lambda: rewritten(input=[[bytes(64), bytes(31), ["x", "int8", [1], 1], b"0"]]),
        lambda: rewritten(input=[[bytes(64), bytes(32), ["x", "int8", [1], 2], b"00"]]),
        lambda: rewritten(input=[[bytes(64), bytes(32), ["x", "int8", [1], 1], b"00"]]),
        lambda: rewritten(input=[[bytes(64), bytes(32), ["x", "complex64", [1], 8], None]]),
        lambda: rewritten(input=[[bytes(64)]] * 1025),
    ],
)
def test_what_is_no_bundle_is_malformed(make: Callable[[], bytes]) -> None:
    assert refusal(lambda: ReceiptBundle.decode(make())) is ReceiptCode.BUNDLE


def test_a_bundle_of_a_later_version_or_with_a_later_receipt_is_unsupported() -> None:
    assert refusal(lambda: ReceiptBundle.decode(rewritten(version=2))) is ManifestCode.VERSION_UNSUPPORTED
    later = kit.receipt().to_map() | {"version": 2}
    assert refusal(lambda: ReceiptBundle.decode(rewritten(noted=later))) is ManifestCode.VERSION_UNSUPPORTED


def test_every_bit_of_a_bundle_counts() -> None:
    """Without collateral, which only makes it long; with it, one bit of every byte."""
    small = replace(kit.bundle(), collateral=None).encode()
    whole = kit.bundle().encode()
    codes = {outcome(ReceiptBundle.decode, flip(small, bit)) for bit in range(8 * len(small))}
    codes |= {outcome(ReceiptBundle.decode, flip(whole, 8 * place + place % 8)) for place in range(len(whole))}
    assert codes == {ReceiptCode.BUNDLE, ReceiptCode.DAMAGED}


def test_bits_of_what_a_client_noted_and_opened_count_under_a_checksum_that_fits() -> None:
    """The evidence is the kit's: it is verified once, and not for each bit."""
    body = canonical.decode(kit.bundle().encode(), max_size=1 << 24)[0]
    start, end = (body.index(canonical.encode(name)) for name in ("noted", "time"))
    bits = range(8 * start, 8 * end, 11)
    assert len(bits) > 1000
    assert [bit for bit in bits if passes(checked(flip(body, bit)))] == []


def passes(data: bytes) -> bool:
    try:
        bundle = ReceiptBundle.decode(data)
        return all(finding.passed for finding in checks(Held.of(bundle), kit.policy(), kit.NOW, NOTHING))
    except StrongroomError:
        return False


def test_bits_of_the_evidence_count_under_a_checksum_that_fits() -> None:
    """A draw by a seed, of all but the hint, which is advice."""
    body = canonical.decode(kit.bundle().encode(), max_size=1 << 24)[0]
    start = body.index(kit.record().encode())
    hint = body.index(b"sgx simulated")
    places = [place for place in range(start, start + len(kit.record().encode())) if not hint <= place < hint + 13]
    draw = random.Random("receipts").sample([8 * place + bit for place in places for bit in range(8)], 200)
    assert [bit for bit in draw if is_accepted(checked(flip(body, bit)))] == []


def is_accepted(data: bytes) -> bool:
    try:
        return kit.report(ReceiptBundle.decode(data)).accepted
    except StrongroomError:
        return False


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=200).map(checked))
def test_the_decoder_of_bundles_is_total(data: bytes) -> None:
    code = outcome(lambda data: same(ReceiptBundle.decode(data).encode(), data), data)
    assert code is None or isinstance(code, ReceiptCode) or code is ManifestCode.VERSION_UNSUPPORTED


def test_a_saved_bundle_is_private_whole_and_never_replaced_unasked(tmp_path: Path) -> None:
    path = kit.bundle().save(tmp_path / "a.receipt")
    assert path.stat().st_mode & 0o777 == 0o600
    assert ReceiptBundle.load(path) == kit.bundle().closed()
    assert refusal(lambda: kit.bundle().save(path)) is ManifestCode.FILE_EXISTS
    kit.bundle().save(path, content=True, overwrite=True)
    assert ReceiptBundle.load(path) == kit.bundle()
    assert [each.name for each in tmp_path.iterdir()] == ["a.receipt"]


def test_no_salt_and_no_content_shows_in_what_is_printed() -> None:
    shown = repr(kit.bundle()) + repr(kit.openings())
    for way in Direction:
        for opening in kit.openings()[way]:
            assert repr(opening.salt) not in shown
            assert repr(opening.data) not in shown


@pytest.mark.parametrize("stages", [[], [bytes(63)], [bytes(64)] * 17, bytes(64), None], ids=repr)
def test_stages_are_digests_one_at_least_or_there_is_no_such_field(stages: Any) -> None:
    assert refusal(lambda: SignedReceipt.parse(payload(stages=stages))) is ReceiptCode.MALFORMED


def test_the_receipt_of_a_pipeline_has_one_form_and_any_other_has_not_the_field() -> None:
    stages = (bytes([1]) * 64, bytes([2]) * 64)
    data = kit.signed(stages=stages)
    assert SignedReceipt.parse(data).receipt.stages == stages
    assert SignedReceipt.parse(data).serialize() == data
    assert b"stages" not in kit.signed()
    told = verify_independently(
        replace(kit.bundle(), receipt=data, noted=replace(kit.receipt(), stages=stages)).encode()
    )
    assert told["stages"] == list(stages)


# ------------------------------------------------------------------------------------------ golden files


def test_the_first_versions_golden_file_verifies_for_good() -> None:
    data = (GOLDEN / "v1.receipt").read_bytes()
    bundle = ReceiptBundle.decode(data)
    assert bundle.encode() == data
    held = Held.of(bundle)
    report = examine(held, load_policy(GOLDEN / "v1.policy.toml"), bundle.time)
    told = report_map(report, held)
    assert {name: told[name] for name in LASTING} == json.loads((GOLDEN / "v1.json").read_text(encoding="utf-8"))
    assert report.accepted
    assert verify_independently(data) == report.receipt.to_map()


def test_the_verifier_written_from_the_page_refuses_what_this_one_refuses() -> None:
    assert verify_independently(kit.bundle().encode())["serial"] == 17
    for changes in ({"receipt": kit.signed(kit.OTHER_KEY)}, {"receipt": kit.signed(serial=18)}):
        with pytest.raises(RefusedError):
            verify_independently(replace(kit.bundle(), **changes).encode())
    for make in (unordered, with_unprotected, lambda: payload(more=1), lambda: message(algorithm=-8)):
        with pytest.raises(RefusedError):
            verify_independently(replace(kit.bundle(), receipt=make()).encode())


def test_the_words_of_the_page_are_those_of_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "receipts.md").read_text(encoding="utf-8")
    assert CONTENT_TYPE in page
    assert all(f"| `{name}` |" in page for name in Receipt.__dataclass_fields__)
    assert all(f'"{name}"' in page for name in Verdict.__dataclass_fields__)
