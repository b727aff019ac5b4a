"""The report's format: one encoding, every reserved byte and bit, and nothing but the documented errors."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation import evidence
from attestation.amd import abi
from attestation.amd.abi import LAYOUTS, SIZE, SigningKey, parse_report
from attestation.amd.errors import SnpCode
from attestation.amd.tcb import COMPONENTS, Product, Tcb, product_of
from attestation.amd.verify import collateral_key
from attestation.collateral import CollateralKey
from attestation.errors import EvidenceCode, EvidenceError
from attestation.layout import Kind
from manifests.errors import ErrorCode
from tests.amd import kit
from tests.amd.kit import refused


def report(version: int = 5, **changes: object) -> bytearray:
    return bytearray(kit.snp().evidence(kit.MEASUREMENT, kit.REPORT_DATA, version=version, **changes))


@pytest.mark.parametrize("version", sorted(LAYOUTS))
def test_each_version_serialises_to_itself(version: int) -> None:
    data = bytes(report(version))
    parsed = evidence.parse(data)
    assert parsed.version == version
    assert parsed.serialize() == data
    assert parsed.report_data == kit.REPORT_DATA
    assert parsed.to_dict()["measurement"] == kit.MEASUREMENT.hex()


def test_fields_of_later_versions_are_absent_from_earlier_ones() -> None:
    assert parse_report(bytes(report(2))).cpuid_fam_id is None
    assert parse_report(bytes(report(3))).cpuid_fam_id == 0x19
    assert parse_report(bytes(report(4))).launch_mit_vector is None
    assert parse_report(bytes(report(5))).launch_mit_vector == 0x0B
    assert "cpuid_step" not in parse_report(bytes(report(2))).to_dict()


@pytest.mark.parametrize("version", sorted(LAYOUTS))
def test_every_reserved_byte_must_be_zero(version: int) -> None:
    data = report(version)
    rows = [row for row in LAYOUTS[version].rows if row.kind is Kind.ZERO]
    assert len(rows) >= 8
    for row in rows:
        for at in (row.offset, row.offset + row.size - 1):
            changed = data.copy()
            changed[at] = 1
            with refused(SnpCode.RESERVED):
                parse_report(bytes(changed))


@pytest.mark.parametrize("size", [0, 3, 4, 200, SIZE - 1, SIZE + 1, 4096])
def test_any_other_size_is_refused(size: int) -> None:
    with refused(SnpCode.LENGTH) as caught:
        parse_report(bytes(report().ljust(size, b"\0")[:size]))
    assert (caught.value.expected, caught.value.found) == (SIZE, size)


@pytest.mark.parametrize("version", [0, 1, 6, 255, 2**31])
def test_any_other_version_is_unsupported(version: int) -> None:
    data = report()
    data[:4] = version.to_bytes(4, "little")
    with refused(SnpCode.VERSION):
        parse_report(bytes(data))


@pytest.mark.parametrize("algorithm", [0, 2, 2**31])
def test_any_other_signature_algorithm_is_unsupported(algorithm: int) -> None:
    with refused(SnpCode.SIGNATURE_ALGORITHM):
        parse_report(bytes(report(signature_algo=algorithm)))


@pytest.mark.parametrize("key_info", [2 << 2, 6 << 2, 1 << 5, 1 << 31])
def test_reserved_kinds_of_keys_are_refused(key_info: int) -> None:
    with refused(SnpCode.RESERVED):
        parse_report(bytes(report(key_info=key_info)))


def test_the_reserved_one_of_a_guests_policy_must_be_one() -> None:
    with refused(SnpCode.RESERVED) as caught:
        parse_report(bytes(report(policy=0x1F)))
    assert "bit 17" in caught.value.message


def test_key_info_decodes() -> None:
    parsed = parse_report(bytes(report(key_info=3)))
    assert (parsed.signing_key, parsed.chip_key_masked, parsed.author_key_enabled) == (SigningKey.VCEK, True, True)
    parsed = parse_report(bytes(report(key_info=7 << 2)))
    assert (parsed.signing_key, parsed.chip_key_masked, parsed.author_key_enabled) == (SigningKey.NONE, False, False)


@pytest.mark.parametrize(
    ("family", "model", "product"),
    [
        (0x19, 0x00, Product.MILAN),
        (0x19, 0x0F, Product.MILAN),
        (0x19, 0x10, Product.GENOA),
        (0x19, 0x1F, Product.GENOA),
        (0x19, 0xA0, Product.GENOA),
        (0x19, 0xAF, Product.GENOA),
        (0x1A, 0x00, Product.TURIN),
        (0x1A, 0x11, Product.TURIN),
    ],
)
def test_processors_belong_to_products(family: int, model: int, product: Product) -> None:
    assert product_of(family, model) is product


@pytest.mark.parametrize(
    ("family", "model"), [(0x17, 0x31), (0x19, 0x20), (0x19, 0x9F), (0x19, 0xB0), (0x1A, 0x12), (0, 0)]
)
def test_other_processors_are_unsupported(family: int, model: int) -> None:
    with refused(SnpCode.PRODUCT):
        product_of(family, model)
    with refused(SnpCode.PRODUCT):
        collateral_key(parse_report(bytes(report(cpuid_fam_id=family, cpuid_mod_id=model))))


@pytest.mark.parametrize("product", Product)
def test_tcb_versions_serialise_to_themselves(product: Product) -> None:
    versions = tuple(range(1, len(COMPONENTS[product]) + 1))
    raw = Tcb(product, versions).serialize()
    assert len(raw) == 8
    assert Tcb.parse(product, raw) == Tcb(product, versions)
    for at in [index for index, byte in enumerate(raw) if byte == 0]:
        with refused(SnpCode.RESERVED):
            Tcb.parse(product, raw[:at] + b"\1" + raw[at + 1 :])


def test_tcb_layouts_are_the_vendors() -> None:
    assert Tcb.parse(Product.MILAN, bytes.fromhex("04000000000018db")).to_dict() == {
        "bootloader": 4,
        "tee": 0,
        "snp": 24,
        "microcode": 219,
    }
    assert Tcb.parse(Product.TURIN, bytes.fromhex("0102030400000051")).to_dict() == {
        "fmc": 1,
        "bootloader": 2,
        "tee": 3,
        "snp": 4,
        "microcode": 81,
    }


def test_a_tcb_version_reaches_another_in_every_component_or_not_at_all() -> None:
    one, other = Tcb(Product.MILAN, (4, 0, 24, 219)), Tcb(Product.MILAN, (4, 0, 23, 220))
    assert one.reaches(one)
    assert not one.reaches(other)
    assert not other.reaches(one)


# ------------------------------------------------------------------------------------------------ recognising


def test_reports_are_told_from_quotes() -> None:
    """A quote of SGX or TDX begins with a version of 16 bits and a key type that is never 0."""
    for version in LAYOUTS:
        assert evidence.parse(bytes(report(version))).tee == "snp"
    assert not abi.looks_like_report(bytes.fromhex("03000200") + bytes(SIZE - 4))
    assert not abi.looks_like_report(bytes.fromhex("04000300") + bytes(2000))
    assert not abi.looks_like_report(b"")


def test_a_report_that_was_cut_or_has_a_changed_field_is_still_named_as_one() -> None:
    with refused(SnpCode.LENGTH):
        evidence.parse(bytes(report()[:200]))
    with refused(SnpCode.LENGTH):
        evidence.parse(bytes(report()) + b"\0")
    with refused(SnpCode.SIGNATURE_ALGORITHM):
        evidence.parse(bytes(report(signature_algo=0)))


# ------------------------------------------------------------------------------------------------ collateral key


def test_the_collateral_key_says_chip_and_tcb_version() -> None:
    for product, size in ((Product.MILAN, 64), (Product.GENOA, 64), (Product.TURIN, 8)):
        simulated = kit.snp(product)
        parsed = parse_report(simulated.evidence(kit.MEASUREMENT, kit.REPORT_DATA))
        unit = f"vcek-{parsed.chip_id[:size].hex()}-{parsed.reported_tcb.hex()}"
        assert evidence.collateral_key(parsed) == CollateralKey("snp", str(product), unit)


def test_a_report_that_does_not_name_its_product_is_looked_up_under_both_that_make_such() -> None:
    key = collateral_key(parse_report(bytes(report(2))))
    assert key.family == "unnamed"
    assert [each.family for each in key.candidates] == ["milan", "genoa"]
    assert all(each.candidates == (each,) for each in key.candidates)


def test_a_lent_key_is_filed_under_its_tcb_version() -> None:
    simulated = kit.snp(Product.GENOA, SigningKey.VLEK)
    parsed = parse_report(simulated.evidence(kit.MEASUREMENT, kit.REPORT_DATA))
    assert collateral_key(parsed) == CollateralKey("snp", "genoa", f"vlek-{parsed.reported_tcb.hex()}")


def test_a_report_that_no_key_signed_asks_for_no_collateral() -> None:
    with refused(SnpCode.UNSIGNED):
        collateral_key(parse_report(bytes(report(key_info=7 << 2))))


@pytest.mark.parametrize("unit", ["vcek-00-0000000000000000", "vlek-", "../x", "vlek-000000000000000G"])
def test_a_key_that_is_no_file_name_is_refused(unit: str) -> None:
    with refused(EvidenceCode.COLLATERAL_KEY):
        CollateralKey("snp", "milan", unit)


# ------------------------------------------------------------------------------------------------ totality


@functools.cache
def healthy() -> bytes:
    return bytes(report())


def parsed_or_code(data: bytes) -> abi.Report | ErrorCode:
    try:
        return parse_report(data)
    except EvidenceError as error:
        return error.code


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64) | st.binary(min_size=SIZE, max_size=SIZE))
def test_arbitrary_bytes_are_a_report_or_one_documented_error(data: bytes) -> None:
    found = parsed_or_code(data)
    assert found in set(SnpCode) if isinstance(found, ErrorCode) else found.serialize() == data


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_changed_report_parses_to_itself_or_is_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(healthy())
    for at, value in changes:
        data[at] = value
    found = parsed_or_code(bytes(data))
    assert found in set(SnpCode) if isinstance(found, ErrorCode) else found.serialize() == data
