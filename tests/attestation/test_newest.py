"""Several collections of Intel's documents for one platform: nothing older wins over what is newer, in any order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from attestation.collateral import CollateralKey
from attestation.collateral.bundle import Bundle
from attestation.errors import EvidenceCode
from attestation.folders import read_folder
from attestation.intel.collateral import IntelCollateral
from attestation.intel.newest import newest
from attestation.loose import open_collateral
from attestation.report import Report, examine
from attestation.sim.tdx import SimulatedTdx
from tests.attestation import kit
from tests.attestation.kit import NOW

DAY = 86_400
OLD = NOW - 5 * DAY


def old() -> IntelCollateral:
    """What Intel said some days ago, which is still valid."""
    return kit.platform().collateral(OLD)


def written(folder: Path, *collections: IntelCollateral) -> list[Path]:
    paths = [folder / f"{number}.json" for number in range(len(collections))]
    for path, held in zip(paths, collections, strict=True):
        path.write_text(held.to_json(), encoding="utf-8")
    return paths


def examined(paths: Sequence[Path]) -> Report:
    roots = kit.sim_roots()
    return examine(kit.sim_quote(), now=NOW, collateral=open_collateral(paths, roots), roots=roots)


def codes(report: Report) -> list[str]:
    return [str(each.code) for each in report.refused]


NEWER: dict[str, tuple[Callable[[], IntelCollateral], str]] = {
    "a list of the root's": (lambda: kit.platform(revoked=("pck-ca",)).collateral(NOW), "certificate-revoked"),
    "a list of the PCK CA's": (lambda: kit.platform(revoked=("pck",)).collateral(NOW), "certificate-revoked"),
    "TCB info": (lambda: kit.platform(tcb_status="OutOfDate").collateral(NOW), "tcb-status"),
    "QE identity": (lambda: kit.platform(qe_status="OutOfDate").collateral(NOW), "tcb-status"),
}


@pytest.mark.parametrize(("make", "code"), NEWER.values(), ids=NEWER)
@pytest.mark.parametrize("turned", [False, True])
def test_what_is_newer_decides_whichever_file_is_named_first(
    make: Callable[[], IntelCollateral], code: str, turned: bool, tmp_path: Path
) -> None:
    paths = written(tmp_path, old(), make())
    assert examined(paths[:1]).accepted
    assert code in codes(examined(paths[::-1] if turned else paths))


def test_each_document_is_taken_from_where_it_is_newest() -> None:
    parts: dict[str, tuple[str, ...]] = {
        "root-crl": ("root_ca_crl",),
        "pck-crl": ("pck_crl",),
        "tcb-info": ("tcb_info", "tcb_info_signature"),
        "qe-identity": ("qe_identity", "qe_identity_signature"),
    }
    new = kit.platform().collateral(NOW)
    mixed = [
        replace(old(), **{name: getattr(new, name) for names in some for name in parts[names]})
        for some in (("root-crl", "tcb-info"), ("pck-crl",), ("qe-identity",))
    ]
    for collections in itertools.permutations(mixed):
        assert newest(collections, kit.platform().collateral_key, kit.sim_roots()) == new


def test_a_higher_evaluation_number_comes_before_a_later_date() -> None:
    early = kit.platform(evaluation_number=18).collateral(OLD)
    standard = kit.platform(evaluation_number=17).collateral(NOW)
    for collections in ([early, standard], [standard, early]):
        found = newest(collections, kit.platform().collateral_key, kit.sim_roots())
        assert (found.tcb_info, found.qe_identity) == (early.tcb_info, early.qe_identity)
        assert found.pck_crl == standard.pck_crl


SAME_AGE: dict[str, dict[str, str]] = {"TCB info": {"tcb_status": "Revoked"}, "QE identity": {"qe_status": "Revoked"}}


@pytest.mark.parametrize("state", SAME_AGE.values(), ids=SAME_AGE)
@pytest.mark.parametrize("turned", [False, True])
def test_two_documents_of_one_age_are_refused_whichever_is_named_first(
    state: dict[str, str], turned: bool, tmp_path: Path
) -> None:
    paths = written(tmp_path, kit.platform().collateral(NOW), kit.platform(**state).collateral(NOW))
    assert codes(examined(paths[::-1] if turned else paths)) == ["collateral-malformed"]
    newer = written(tmp_path, kit.platform(evaluation_number=99).collateral(NOW))
    (tmp_path / "more.json").write_text(newer[0].read_text(encoding="utf-8"), encoding="utf-8")
    assert examined([paths[1], tmp_path / "more.json"]).accepted, "a newer one decides"


BROKEN = (
    "pck_crl_issuer_chain",
    "root_ca_crl",
    "pck_crl",
    "tcb_info_issuer_chain",
    "tcb_info",
    "tcb_info_signature",
    "qe_identity_issuer_chain",
    "qe_identity",
    "qe_identity_signature",
)


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("turned", [False, True])
def test_what_does_not_verify_spoils_nothing_that_does(name: str, turned: bool, tmp_path: Path) -> None:
    new = kit.platform().collateral(NOW)
    broken = replace(new, **{name: getattr(new, name)[:-3] + b"~~~"})
    paths = written(tmp_path, old(), broken)
    assert not examined(paths[1:]).accepted
    assert examined(paths[::-1] if turned else paths).accepted


def test_collateral_of_another_family_and_of_another_tee_is_passed_over(tmp_path: Path) -> None:
    tdx = SimulatedTdx(kit.SEED, kit.CREATED).collateral(NOW)
    paths = written(tmp_path, tdx, old())
    for order in (paths, paths[::-1]):
        report = examined(order)
        assert report.accepted
        assert isinstance(report.held, IntelCollateral)
        assert report.held.tcb_info == old().tcb_info


def test_what_no_collection_has_in_order_is_refused_for_what_it_is(tmp_path: Path) -> None:
    broken = [replace(each, tcb_info_signature=bytes(64)) for each in (old(), kit.platform().collateral(NOW))]
    assert codes(examined(written(tmp_path, *broken))) == ["tcb-info-signature"]


def test_a_folder_and_a_bundle_beside_it_count_as_two_files_do(tmp_path: Path) -> None:
    key = kit.platform().collateral_key
    folder = tmp_path / "held"
    folder.mkdir()
    (folder / f"{key}.json").write_text(old().to_json(), encoding="utf-8")
    revoking = kit.platform(revoked=("pck",)).collateral(NOW)
    bundle = tmp_path / "bundle.json"
    bundle.write_text(Bundle(kit.sim_quote(), {key: revoking}).to_json(), encoding="utf-8")
    assert examined([folder]).accepted
    for paths in ([folder, bundle], [bundle, folder]):
        assert codes(examined(paths)) == ["certificate-revoked"]


# ------------------------------------------------------------------------------------------------ lists of any age


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("revoked", ["pck", "pck-ca", "tcb-signing"])
def test_a_certificate_that_an_older_list_alone_revokes_is_refused(revoked: str, turned: bool, tmp_path: Path) -> None:
    older = kit.platform(revoked=(revoked,)).collateral(OLD)
    paths = written(tmp_path, older, kit.platform().collateral(NOW))
    assert examined(paths[1:]).accepted
    assert codes(examined(paths[::-1] if turned else paths)) == ["certificate-revoked"]


def filed(folder: Path, key: CollateralKey, held: IntelCollateral) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{key}.json").write_text(held.to_json(), encoding="utf-8")
    return folder


@pytest.mark.parametrize("at", [OLD, NOW])
def test_a_list_that_is_filed_for_another_family_of_the_same_authority_counts(at: int, tmp_path: Path) -> None:
    key = kit.platform().collateral_key
    folder = filed(tmp_path / "held", key, kit.platform().collateral(OLD + DAY))
    assert examined([folder]).accepted
    other = SimulatedTdx(kit.SEED, kit.CREATED).collateral_key
    assert other.unit == key.unit, "below the same authority"
    filed(folder, other, kit.platform(revoked=("pck",)).collateral(at))
    assert codes(examined([folder])) == ["certificate-revoked"]


def test_nothing_else_than_lists_is_taken_from_what_is_filed_for_another_family(tmp_path: Path) -> None:
    folder = filed(
        tmp_path / "held", SimulatedTdx(kit.SEED, kit.CREATED).collateral_key, kit.platform().collateral(NOW)
    )
    assert codes(examined([folder])) == ["collateral-missing"]


# ------------------------------------------------------------------------------------------------ the time


@pytest.mark.parametrize("turned", [False, True])
def test_what_was_issued_later_hides_nothing_that_was_valid_at_the_time(turned: bool, tmp_path: Path) -> None:
    paths = written(tmp_path, old(), kit.platform().collateral(NOW))
    ordered, roots = paths[::-1] if turned else paths, kit.sim_roots()
    held = open_collateral(ordered, roots)
    found = examine(kit.sim_quote(), now=OLD + DAY, collateral=held, roots=roots)
    assert found.accepted
    assert found.held == old()
    late = open_collateral(paths[1:], roots)
    refusals = codes(examine(kit.sim_quote(), now=OLD + DAY, collateral=late, roots=roots))
    assert set(refusals) == {"crl-early", "tcb-info-early", "qe-identity-early"}, "where nothing else is there"


def test_what_revokes_a_key_later_refuses_it_at_an_earlier_time_too(tmp_path: Path) -> None:
    paths, roots = written(tmp_path, old(), kit.platform(revoked=("pck",)).collateral(NOW)), kit.sim_roots()
    found = examine(kit.sim_quote(), now=OLD + DAY, collateral=open_collateral(paths, roots), roots=roots)
    assert codes(found) == ["certificate-revoked"]


# ------------------------------------------------------------------------------------------------ any name


@pytest.mark.parametrize("name", ["download.json", "collateral", "intel.txt", "sgx-53494d000000.json"])
def test_a_folder_has_collateral_under_any_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(kit.platform().collateral(NOW).to_json(), encoding="utf-8")
    (tmp_path / "policy.json").write_text('{"version": 1}', encoding="utf-8")
    found = examined([tmp_path])
    assert found.accepted
    assert [Path(path).name for path in found.passed_over] == ["policy.json"]


def test_a_folder_has_the_collateral_of_a_bundle_under_any_name(tmp_path: Path) -> None:
    key = kit.platform().collateral_key
    bundle = Bundle(kit.sim_quote(), {key: kit.platform().collateral(NOW)})
    (tmp_path / "sent.json").write_text(bundle.to_json(), encoding="utf-8")
    assert examined([tmp_path]).accepted


def test_collateral_under_another_name_that_does_not_verify_is_refused_for_what_it_is(tmp_path: Path) -> None:
    broken = replace(kit.platform().collateral(NOW), tcb_info_signature=bytes(64))
    (tmp_path / "download.json").write_text(broken.to_json(), encoding="utf-8")
    assert codes(examined([tmp_path])) == ["tcb-info-signature"]
    (tmp_path / "download.json").write_text(broken.to_json()[:-9], encoding="utf-8")
    assert codes(examined([tmp_path])) == ["collateral-missing"]


def test_a_list_under_another_name_counts_beside_what_is_filed(tmp_path: Path) -> None:
    folder = filed(tmp_path / "held", kit.platform().collateral_key, old())
    (folder / "new.json").write_text(kit.platform(revoked=("pck",)).collateral(NOW).to_json(), encoding="utf-8")
    assert codes(examined([folder])) == ["certificate-revoked"]


def test_a_folder_of_too_many_filed_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attestation.folders.MAX_FILED", 2)
    for number in range(2):
        filed(tmp_path, CollateralKey("sgx", f"{number:012x}", "platform"), old())
    assert len(read_folder(tmp_path).filed) == 2
    filed(tmp_path, CollateralKey("sgx", f"{2:012x}", "platform"), old())
    with kit.refused(EvidenceCode.COLLATERAL_MALFORMED) as caught:
        read_folder(tmp_path)
    assert caught.value.found == "3"
