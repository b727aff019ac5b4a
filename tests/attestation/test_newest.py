"""Several collections of Intel's documents for one platform: nothing older wins over what is newer, in any order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from attestation.collateral.bundle import Bundle
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
