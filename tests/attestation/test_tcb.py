"""TCB info and QE identity: matched as Intel says, and refused where their signed text makes no sense."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attestation import evidence
from attestation.collateral import CollateralKey, DirectorySource, FileSource, FixedSource, open_source
from attestation.errors import EvidenceCode
from attestation.intel import tcb
from attestation.intel.collateral import IntelCollateral
from attestation.intel.levels import TcbError
from attestation.intel.tcb import TcbStatus
from manifests.errors import ManifestCode
from tests.attestation import kit
from tests.attestation.kit import NOW, refused

PKI = kit.platform().pki
GOOD = kit.platform().collateral(NOW)


def tcb_info(**changes: Any) -> bytes:
    return _edited(GOOD.tcb_info, changes)


def qe_identity(**changes: Any) -> bytes:
    return _edited(GOOD.qe_identity, changes)


def _edited(body: bytes, changes: dict[str, Any]) -> bytes:
    value = json.loads(body) | changes
    return json.dumps({name: item for name, item in value.items() if item is not None}).encode("utf-8")


def level(components: list[int], pcesvn: int, status: str, advisories: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "tcb": {"sgxtcbcomponents": [{"svn": svn} for svn in components], "pcesvn": pcesvn},
        "tcbDate": "2024-01-01T00:00:00Z",
        "tcbStatus": status,
        "advisoryIDs": list(advisories),
    }


OWN = list(PKI.extension.components)
PCE = PKI.extension.pce_svn


def matched(*levels: dict[str, Any]) -> str:
    info = tcb.parse_tcb_info(tcb_info(tcbLevels=list(levels)))
    return str(tcb.match_platform(info, PKI.extension).status)


def higher(index: int) -> list[int]:
    return [svn + (at == index) for at, svn in enumerate(OWN)]


@pytest.mark.parametrize("index", [index for index in range(16) if OWN[index] < 255])
def test_every_component_counts(index: int) -> None:
    assert matched(level(higher(index), PCE, "UpToDate"), level(OWN, PCE, "OutOfDate")) == "OutOfDate"


def test_the_provisioning_enclaves_version_counts() -> None:
    assert matched(level(OWN, PCE + 1, "UpToDate"), level(OWN, PCE, "OutOfDate")) == "OutOfDate"


def test_the_first_level_that_is_reached_decides() -> None:
    assert matched(level(OWN, PCE, "SWHardeningNeeded"), level(OWN, PCE, "UpToDate")) == "SWHardeningNeeded"
    assert matched(level([0] * 16, 0, "ConfigurationNeeded")) == "ConfigurationNeeded"


def test_below_every_level_is_refused() -> None:
    with refused(EvidenceCode.TCB_NO_MATCH):
        matched(level(higher(0), PCE, "UpToDate"))
    with refused(EvidenceCode.TCB_NO_MATCH):
        matched()


NAMED = {f"sgxtcbcomp{number:02}svn": svn for number, svn in enumerate(OWN, 1)} | {"pcesvn": PCE}
ALL = ", ".join(f"{name}={svn}" for name, svn in NAMED.items())


def test_what_falls_short_of_the_nearest_level_is_named_and_nothing_else() -> None:
    far = [min(svn + 1, 255) for svn in OWN]
    levels = level(far, PCE + 1, "UpToDate"), level(higher(3), PCE + 2, "OutOfDate"), level(far, 0, "Revoked")
    with refused(EvidenceCode.TCB_NO_MATCH) as caught:
        matched(*levels)
    shown = caught.value.to_dict()
    needs = f"sgxtcbcomp04svn at least {OWN[3] + 1}, pcesvn at least {PCE + 2}"
    assert shown["expected"] == f"for the nearest level: {needs}"
    assert shown["found"] == f"sgxtcbcomp04svn={OWN[3]}, pcesvn={PCE}"
    assert shown["security_versions"] == NAMED


@pytest.mark.parametrize(
    ("levels", "expected", "found"),
    [
        (
            [level(OWN, PCE + 2, "UpToDate"), level(OWN, PCE + 1, "Revoked")],
            f"for the nearest level: pcesvn at least {PCE + 2}",
            f"pcesvn={PCE}",
        ),
        ([], "a level that is not Revoked", ALL),
        ([level(OWN, PCE, "Revoked"), level(OWN, PCE, "UpToDate")], "a level that is not Revoked", ALL),
    ],
    ids=["the nearest level is a revoked one", "no level", "a revoked level comes first"],
)
def test_a_revoked_level_is_never_what_is_lacking(levels: list[Any], expected: str, found: str) -> None:
    with pytest.raises(TcbError) as caught:
        matched(*levels)
    shown = caught.value.to_dict()
    assert (shown["expected"], shown["found"], shown["security_versions"]) == (expected, found, NAMED)


def test_tcb_info_of_another_family_or_provisioning_enclave_is_refused() -> None:
    for changes, code in (
        ({"fmspc": "00906ED50000"}, EvidenceCode.TCB_INFO_FMSPC),
        ({"pceId": "0001"}, EvidenceCode.TCB_INFO_PCE),
    ):
        info = tcb.parse_tcb_info(tcb_info(**changes))
        with refused(code):
            tcb.match_platform(info, PKI.extension)


@pytest.mark.parametrize("status", list(TcbStatus))
def test_a_quoting_enclave_that_is_up_to_date_changes_nothing(status: TcbStatus) -> None:
    assert tcb.merge(status, TcbStatus.UP_TO_DATE) is status


def test_unknown_fields_are_allowed_because_the_signature_covers_them() -> None:
    assert tcb.parse_tcb_info(tcb_info(novelty={"a": 1})) == tcb.parse_tcb_info(tcb_info())


BAD_LEVELS: list[Any] = [
    "none",
    [3],
    [{}],
    [level(OWN[:15], PCE, "UpToDate")],
    [level([*OWN, 0], PCE, "UpToDate")],
    [level([-1, *OWN[1:]], PCE, "UpToDate")],
    [level([256, *OWN[1:]], PCE, "UpToDate")],
    [level(OWN, 65536, "UpToDate")],
    [level(OWN, PCE, "Fine")],
    [level(OWN, PCE, "UpToDate") | {"tcbDate": "yesterday"}],
    [level(OWN, PCE, "UpToDate") | {"advisoryIDs": "INTEL-SA-00001"}],
    [level(OWN, PCE, "UpToDate") | {"advisoryIDs": [1]}],
    [level(OWN, PCE, "UpToDate") | {"tcb": 3}],
]


@pytest.mark.parametrize(
    "changes",
    [
        *({name: None} for name in json.loads(GOOD.tcb_info)),
        {"fmspc": "00"},
        {"fmspc": "zz906ed50000"},
        {"fmspc": 3},
        {"tcbType": 1},
        {"tcbEvaluationDataNumber": -1},
        {"tcbEvaluationDataNumber": True},
        {"issueDate": "2025-10-09"},
        {"nextUpdate": 3},
        *({"tcbLevels": levels} for levels in BAD_LEVELS),
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_malformed_tcb_info_is_refused(changes: dict[str, Any]) -> None:
    with refused(EvidenceCode.TCB_INFO_MALFORMED):
        tcb.parse_tcb_info(tcb_info(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        *({name: None} for name in json.loads(GOOD.qe_identity)),
        {"mrsigner": "00"},
        {"isvprodid": 65536},
        {"miscselectMask": "FF"},
        {"attributes": ""},
        {"tcbLevels": [{"tcb": {}, "tcbDate": "2024-01-01T00:00:00Z", "tcbStatus": "UpToDate"}]},
        {"tcbLevels": [{"tcb": {"isvsvn": 1}, "tcbDate": "2024-01-01T00:00:00Z", "tcbStatus": "SWHardeningNeeded"}]},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_a_malformed_qe_identity_is_refused(changes: dict[str, Any]) -> None:
    with refused(EvidenceCode.QE_IDENTITY_MALFORMED):
        tcb.parse_qe_identity(qe_identity(**changes))


@pytest.mark.parametrize("changes", [{"id": "SEV"}, {"id": "QE"}, {"version": 2}, {"version": 4}, {"version": "3"}])
def test_tcb_info_of_another_kind_is_unsupported(changes: dict[str, Any]) -> None:
    with refused(EvidenceCode.TCB_INFO_UNSUPPORTED):
        tcb.parse_tcb_info(tcb_info(**changes))


@pytest.mark.parametrize("changes", [{"id": "QVE"}, {"version": 1}, {"version": 3}])
def test_an_identity_of_another_kind_is_unsupported(changes: dict[str, Any]) -> None:
    with refused(EvidenceCode.QE_IDENTITY_UNSUPPORTED):
        tcb.parse_qe_identity(qe_identity(**changes))


@pytest.mark.parametrize("body", [b"[]", b"3", b"\xff"])
def test_a_document_that_is_no_map_is_malformed(body: bytes) -> None:
    with refused(EvidenceCode.TCB_INFO_MALFORMED):
        tcb.parse_tcb_info(body)


def test_a_repeated_key_is_refused_although_it_is_signed() -> None:
    body = GOOD.tcb_info.replace(b'{"id":"SGX"', b'{"id":"SGX","id":"SGX"')
    forged = dataclasses.replace(GOOD, tcb_info=body, tcb_info_signature=PKI.tcb_signing.sign_raw(body))
    with refused(EvidenceCode.JSON_MALFORMED):
        evidence.prepare(forged, kit.sim_roots(), NOW)


@pytest.mark.parametrize("at", [0, 100, -1])
def test_a_changed_byte_of_a_signed_document_is_refused(at: int) -> None:
    body = bytearray(GOOD.tcb_info)
    body[at] ^= 1
    with refused(EvidenceCode.TCB_INFO_SIGNATURE):
        evidence.prepare(dataclasses.replace(GOOD, tcb_info=bytes(body)), kit.sim_roots(), NOW)


# -------------------------------------------------------------------------------------------------- collateral


def test_collateral_round_trips() -> None:
    assert IntelCollateral.from_json(GOOD.to_json()) == GOOD
    assert IntelCollateral.from_json(GOOD.to_json().encode("utf-8")) == GOOD


def file_with(**changes: Any) -> str:
    value = json.loads(GOOD.to_json()) | changes
    return json.dumps({name: item for name, item in value.items() if item is not None})


@pytest.mark.parametrize(
    "text",
    [
        *(file_with(**{name: None}) for name in json.loads(GOOD.to_json())),
        file_with(extra="x"),
        file_with(pck_crl="0"),
        file_with(pck_crl="0g"),
        file_with(pck_crl="00 00"),
        file_with(pck_crl=3),
        file_with(tcb_info={"id": "SGX"}),
        file_with(tcb_info="\ud800"),
        "[]",
        b"\xff\xfe",
    ],
    ids=lambda text: str(len(text)),
)
def test_a_file_that_is_no_collateral_is_refused(text: str | bytes) -> None:
    with refused(EvidenceCode.COLLATERAL_MALFORMED):
        IntelCollateral.from_json(text)


def test_a_file_that_is_no_json_is_refused() -> None:
    with refused(EvidenceCode.JSON_MALFORMED):
        IntelCollateral.from_json('{"pck_crl": ')


KEY = kit.platform().collateral_key


def test_a_directory_is_read_by_name(tmp_path: Any) -> None:
    source = DirectorySource(tmp_path)
    with refused(EvidenceCode.COLLATERAL_MISSING) as caught:
        source.fetch(KEY)
    assert caught.value.exit_code == 40
    (tmp_path / f"{KEY}.json").write_text(GOOD.to_json(), encoding="utf-8")
    assert source.fetch(KEY) == GOOD


@pytest.mark.parametrize("data", [kit.sim_quote(), kit.real_quote()], ids=["simulated", "of hardware"])
@pytest.mark.parametrize("kind", [DirectorySource, open_source, Path, str])
def test_where_collateral_is_kept_is_no_collateral_and_the_refusal_says_how_to_get_it(
    tmp_path: Path, data: bytes, kind: Callable[[Path], Any]
) -> None:
    given = kind(tmp_path)
    with refused(EvidenceCode.COLLATERAL_MISSING) as caught:
        evidence.verify(evidence.parse(data), given, kit.sim_roots(), NOW)
    assert caught.value.found == type(given).__name__
    assert "collateral_for(evidence, " in str(caught.value.remedy)
    assert ("open_source(path)" in str(caught.value.remedy)) is isinstance(given, Path | str)


def test_sources_are_told_apart_by_what_the_path_is(tmp_path: Any) -> None:
    path = tmp_path / "any.json"
    path.write_text(GOOD.to_json(), encoding="utf-8")
    assert isinstance(open_source(tmp_path), DirectorySource)
    assert isinstance(open_source(path), FileSource)
    assert open_source(path).fetch(KEY) == FixedSource(GOOD).fetch(KEY) == GOOD
    with refused(ManifestCode.FILE_UNAVAILABLE):
        open_source(tmp_path / "missing")


@pytest.mark.parametrize(
    ("tee", "fmspc", "ca"),
    [
        ("sgx", "../../../etc", "processor"),
        ("sgx", "00906ED50000", "processor"),
        ("sgx", "00906ed50000\n", "processor"),
        ("sgx", "00906ed50000", "../x"),
        ("sev", "00906ed50000", "platform"),
        ("snp", "rome", "vlek-0000000000000000"),
        ("snp", "milan", "vcek-00-0000000000000000"),
    ],
)
def test_a_key_names_no_other_file(tee: str, fmspc: str, ca: str) -> None:
    with refused(EvidenceCode.COLLATERAL_KEY):
        CollateralKey(tee, fmspc, ca)
