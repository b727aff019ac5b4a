"""A bundle carries evidence with its collateral, and is a source of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import evidence
from attestation.collateral import CollateralKey, open_source
from attestation.collateral.bundle import FORMAT, MAX_PLATFORMS, Bundle, BundleSource, looks_like_bundle
from attestation.collateral.errors import FetchCode
from attestation.errors import EvidenceCode
from manifests.errors import ManifestCode
from tests.attestation import kit
from tests.attestation.kit import NOW, outcome, platform, refused
from tests.collateral.kit import KEY

BUNDLE = Bundle(kit.sim_quote(), {CollateralKey.parse(KEY): platform().collateral(NOW)})
TEXT = BUNDLE.to_json()


def changed(**changes: Any) -> str:
    values = {name: value for name, value in (json.loads(TEXT) | changes).items() if value is not None}
    return json.dumps(values)


def test_a_bundle_is_read_as_it_was_written() -> None:
    again = Bundle.from_json(TEXT)
    assert again == BUNDLE
    assert again.to_json() == TEXT
    assert Bundle.from_json(TEXT.encode()) == BUNDLE
    assert looks_like_bundle(TEXT.encode())


def test_evidence_of_a_bundle_verifies_with_what_travels_with_it(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text(TEXT, encoding="utf-8")
    for source in (BundleSource(BUNDLE), open_source(tmp_path / "bundle.json")):
        quote = evidence.parse(BUNDLE.evidence)
        held = evidence.collateral_for(quote, source)
        assert evidence.verify(quote, held, kit.sim_roots(), NOW).simulated


def test_a_bundle_has_no_collateral_but_its_own(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text(TEXT, encoding="utf-8")
    other = CollateralKey("sgx", "00906ed50000", "platform")
    for source in (BundleSource(BUNDLE), open_source(tmp_path / "bundle.json")):
        with refused(EvidenceCode.COLLATERAL_MISSING):
            source.fetch(other)


def test_a_collateral_file_is_no_bundle() -> None:
    assert not looks_like_bundle(platform().collateral(NOW).to_json().encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        changed(format="zip"),
        changed(format=None),
        changed(evidence=""),
        changed(evidence="0"),
        changed(evidence="AB"),
        changed(evidence=5),
        changed(evidence="00" * (4 * 1024 * 1024 + 1)),
        changed(collateral=[]),
        changed(collateral={"../../etc/passwd": {}}),
        changed(collateral={"sgx-00906ed50000-platform": {}}),
        changed(collateral={KEY: "text"}),
        changed(collateral={f"sgx-{number:012x}-platform": {} for number in range(MAX_PLATFORMS + 1)}),
        changed(more=1),
        TEXT[:-1],
    ],
    ids=range(17),
)
def test_what_is_no_bundle_is_refused(text: str) -> None:
    with refused(FetchCode.BUNDLE_MALFORMED) as caught:
        Bundle.from_json(text)
    assert caught.value.remedy is not None


def test_a_bundle_of_a_later_version_is_unsupported() -> None:
    with refused(ManifestCode.VERSION_UNSUPPORTED):
        Bundle.from_json(changed(version=2))


def test_bytes_that_are_no_text_are_refused() -> None:
    with refused(FetchCode.BUNDLE_MALFORMED):
        Bundle.from_json(b"\xff")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5))
def test_any_value_in_any_place_is_read_or_refused(value: Any) -> None:
    for name in ("format", "version", "evidence", "collateral"):
        verdict = outcome(lambda chosen=name: Bundle.from_json(json.dumps(json.loads(SMALL) | {chosen: value})))
        known = {FetchCode.BUNDLE_MALFORMED, ManifestCode.VERSION_UNSUPPORTED}
        assert isinstance(verdict, Bundle) or verdict in known


SMALL = json.dumps({"format": FORMAT, "version": 1, "evidence": "00", "collateral": {}})
