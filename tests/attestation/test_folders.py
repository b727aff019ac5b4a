"""A folder of collateral has one reading, whoever asks: on the command line, from Python, and in a session."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from attestation import evidence
from attestation.appraise import appraise
from attestation.collateral import CollateralKey, DirectorySource, open_source
from attestation.collateral.bundle import Bundle
from attestation.collateral.kinds import decode
from attestation.errors import EvidenceCode
from attestation.folders import Folder, Reading, read_folder
from attestation.intel.collateral import IntelCollateral
from attestation.loose import MAX_COLLECTIONS, open_collateral
from attestation.policy import roots_for
from attestation.report import Report, examine
from manifests.errors import ManifestCode, StrongroomError
from tests.attestation import kit
from tests.attestation.kit import NOW
from tests.shared import vectors

DAY = 86_400
KEY = kit.platform().collateral_key
OTHER_FAMILY = CollateralKey("sgx", "00906ed50000", "processor")
OTHER_UNIT = CollateralKey("sgx", "00906ed50000", "platform")
OTHER_TEE = CollateralKey("tdx", "00806f050000", "platform")


def held(at: int = NOW - 2 * DAY, *revoked: str) -> IntelCollateral:
    return kit.platform(revoked=revoked).collateral(at)


def folder(path: Path, **others: str | bytes) -> Path:
    """A folder with older collateral that is filed, and other files by name."""
    path.mkdir(exist_ok=True)
    (path / f"{KEY}.json").write_text(held().to_json(), encoding="utf-8")
    for name, content in others.items():
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def examined(path: Path) -> Report:
    roots = kit.sim_roots()
    return examine(kit.sim_quote(), now=NOW, collateral=open_collateral([path], roots), roots=roots)


def codes(report: Report) -> list[str]:
    return [str(each.code) for each in report.refused]


def on_the_command_line(path: Path) -> list[str]:
    return codes(examined(path))


def in_a_report(path: Path) -> list[str]:
    return codes(examine(kit.sim_quote(), now=NOW, collateral=open_source(path), roots=kit.sim_roots()))


def by_steps(path: Path) -> list[str]:
    return _by_steps(path, kit.sim_roots())


def by_steps_without_roots(path: Path) -> list[str]:
    return _by_steps(path, None)


def _by_steps(path: Path, roots: evidence.Roots | None) -> list[str]:
    policy, quote = kit.policy(), evidence.parse(kit.sim_quote())
    try:
        collateral = evidence.collateral_for(quote, open_source(path), NOW, roots)
        verified = evidence.verify(quote, collateral, roots_for(policy), NOW)
    except StrongroomError as error:
        return [str(error.code)]
    return codes_of(appraise(verified, policy, NOW, report_data=kit.REPORT_DATA))


def codes_of(appraisal: object) -> list[str]:
    return [str(each.code) for each in appraisal.findings if each.severity == "refusal"]  # type: ignore[attr-defined]


READERS: dict[str, Callable[[Path], list[str]]] = {
    "on the command line": on_the_command_line,
    "in a report": in_a_report,
    "by steps": by_steps,
    "by steps, without roots": by_steps_without_roots,
}
NEWER: dict[str, tuple[str, Callable[[], IntelCollateral], str]] = {
    "a PCK list of another family": (f"{OTHER_FAMILY}.json", lambda: held(NOW, "pck"), "certificate-revoked"),
    "a root's list of another unit": (f"{OTHER_UNIT}.json", lambda: held(NOW, "tcb-signing"), "certificate-revoked"),
    "a root's list of another TEE": (f"{OTHER_TEE}.json", lambda: held(NOW, "pck-ca"), "certificate-revoked"),
    "an older list of another unit": (
        f"{OTHER_UNIT}.json",
        lambda: held(NOW - 5 * DAY, "pck-ca"),
        "certificate-revoked",
    ),
    "a list in a file for AMD": (
        f"snp-milan-vlek-{'0' * 16}.json",
        lambda: held(NOW, "pck"),
        "certificate-revoked",
    ),
    "a list under any name": ("extra", lambda: held(NOW, "pck"), "certificate-revoked"),
    "TCB info under any name": (
        "download.json",
        lambda: kit.platform(tcb_status="OutOfDate", evaluation_number=99).collateral(NOW),
        "tcb-status",
    ),
}


@pytest.mark.parametrize(("name", "make", "code"), NEWER.values(), ids=NEWER)
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_what_is_newer_refuses_whoever_reads_the_folder(
    read: Callable[[Path], list[str]], name: str, make: Callable[[], IntelCollateral], code: str, tmp_path: Path
) -> None:
    assert read(folder(tmp_path / "held")) == []
    assert code in read(folder(tmp_path / "held", **{name: make().to_json()}))


# ------------------------------------------------------------------------------------------------ while it is used


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that are read from now on."""
    read: list[Path] = []

    def reading(folder: Path) -> Folder:
        read.append(folder)
        return read_folder(folder)

    monkeypatch.setattr("attestation.watched.read_folder", reading)
    return read


def test_a_folder_that_changes_counts_at_the_next_fetch(tmp_path: Path) -> None:
    source = DirectorySource(folder(tmp_path / "held"))
    data, roots = kit.sim_quote(), kit.sim_roots()
    assert examine(data, now=NOW, collateral=source, roots=roots).accepted
    folder(tmp_path / "held", extra=held(NOW, "pck").to_json())
    assert codes(examine(data, now=NOW, collateral=source, roots=roots)) == ["certificate-revoked"]
    (tmp_path / "held" / "extra").unlink()
    assert examine(data, now=NOW, collateral=source, roots=roots).accepted


def test_a_folder_that_is_as_it_was_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tmp_path / "held", **{f"{OTHER_UNIT}.json": held().to_json()})
    monkeypatch.setattr("attestation.watched.SETTLING", 0)
    read = counted(monkeypatch)
    time.sleep(0.05)
    source = DirectorySource(path)
    for _ in range(3):
        assert source.under(kit.sim_roots()).fetch_for(KEY) == held()
    assert len(read) == 1
    (path / f"{OTHER_UNIT}.json").write_text(held(NOW, "pck").to_json(), encoding="utf-8")
    assert source.under(kit.sim_roots()).fetch_for(KEY).to_json() != held().to_json()
    assert len(read) == 2


def test_a_folder_that_is_changing_is_read_at_every_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tmp_path / "held")
    read = counted(monkeypatch)
    source = DirectorySource(path)
    for _ in range(2):
        source.under(kit.sim_roots())
    assert len(read) == 2, "two changes within the clock's step would look like one"


def test_a_folder_that_is_not_there_has_nothing(tmp_path: Path) -> None:
    with kit.refused(EvidenceCode.COLLATERAL_MISSING):
        DirectorySource(tmp_path / "none").fetch(KEY)


def test_a_simulated_file_hides_no_list_of_a_vendor_where_no_roots_are_named(tmp_path: Path) -> None:
    source = DirectorySource(folder(tmp_path / "held"))
    assert source._watch().guessed_roots(KEY) == kit.sim_roots()
    (tmp_path / "held" / "x.json").write_text(kit.real_collateral().to_json(), encoding="utf-8")
    assert source._watch().guessed_roots(KEY) == evidence.Roots.vendor()


# ------------------------------------------------------------------------------------------------ bounds


def test_what_is_read_of_all_folders_has_one_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(held().to_json())
    monkeypatch.setattr("attestation.folders.MAX_READ", 3 * size)
    first = folder(tmp_path / "a", **{f"{OTHER_UNIT}.json": held(NOW).to_json()})
    assert examined(first).accepted
    second = folder(tmp_path / "b", extra=held(NOW - DAY).to_json())
    assert examined(second).accepted
    with kit.refused(EvidenceCode.COLLATERAL_MALFORMED):
        open_collateral([first, second], kit.sim_roots())


def test_a_file_of_many_names_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tmp_path / "held", notes=b"text " * 4096)
    for number in range(64):
        (path / f"sgx-{number:012x}-processor.json").symlink_to(path / f"{KEY}.json")
        os.link(path / "notes", path / f"notes{number}")
    monkeypatch.setattr("attestation.folders.MAX_READ", 4 * len(held().to_json()) + 4 * 20480)
    found = examined(path)
    assert found.accepted
    assert len(found.passed_over) == 65, "by each name"


def test_of_what_is_filed_the_lists_alone_are_kept_and_each_once(tmp_path: Path) -> None:
    path = folder(tmp_path / "held", **{f"sgx-{number:012x}-platform.json": held().to_json() for number in range(9)})
    found = read_folder(path, Reading()).filed
    assert len(found) == 10
    assert len({id(item) for _, item in found}) == 1
    assert isinstance(found[0][1], IntelCollateral)
    assert (found[0][1].tcb_info, found[0][1].qe_identity) == (b"", b"")


def test_more_collections_for_one_platform_than_are_compared_are_refused(tmp_path: Path) -> None:
    one = held()
    others = {f"u{n}": replace(one, qe_identity=one.qe_identity + b" " * n).to_json() for n in range(MAX_COLLECTIONS)}
    path = folder(tmp_path / "held", **others)
    assert codes(examined(path)) == ["collateral-malformed"]
    (path / "u0").unlink()
    assert examined(path).accepted


# ------------------------------------------------------------------------------------------------ nothing is overlooked

REVOKING = held(NOW, "pck", "pck-ca")
BUNDLED = Bundle(kit.sim_quote(), {KEY: REVOKING}).to_json()
PADDING = " " * (33 * 1024 * 1024)
READ: dict[str, tuple[str, bytes]] = {
    "behind a mark of UTF-8": ("x.json", b"\xef\xbb\xbf" + REVOKING.to_json().encode()),
    "filed, behind a mark of UTF-8": (f"{OTHER_FAMILY}.json", b"\xef\xbb\xbf" + REVOKING.to_json().encode()),
    "in a bundle behind a mark of UTF-8": ("b.json", b"\xef\xbb\xbf" + BUNDLED.encode()),
    "in a bundle under a platform's name": (f"{OTHER_FAMILY}.json", BUNDLED.encode()),
    "in a bundle larger than collateral": ("b.json", (BUNDLED + PADDING).encode()),
    "as the PCK CA's own file": ("pck.crl", REVOKING.pck_crl),
    "as the root's own file": ("root.crl", REVOKING.root_ca_crl),
}


@pytest.mark.parametrize(("name", "content"), READ.values(), ids=READ)
def test_a_list_is_read(name: str, content: bytes, tmp_path: Path) -> None:
    assert codes(examined(folder(tmp_path / "held", **{name: content}))) == ["certificate-revoked"]


@pytest.mark.parametrize("name", ["x.json", f"{OTHER_FAMILY}.json"])
def test_collateral_that_is_too_large_is_refused_under_any_name(name: str, tmp_path: Path) -> None:
    with kit.refused(ManifestCode.FILE_TOO_LARGE):
        examined(folder(tmp_path / "held", **{name: REVOKING.to_json() + PADDING}))


UNREADABLE: dict[str, tuple[str, bytes]] = {
    "filed, with a field that is not known": (f"{OTHER_FAMILY}.json", REVOKING.to_json()[:-1].encode() + b',"x":"y"}'),
    "filed, and torn": (f"{OTHER_FAMILY}.json", REVOKING.to_json()[:-9].encode()),
    "filed, and empty": (f"{OTHER_FAMILY}.json", b""),
    "in UTF-16": ("x.json", REVOKING.to_json().encode("utf-16")),
}


@pytest.mark.parametrize(("name", "content"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    found = examined(folder(tmp_path / "held", **{name: content}))
    assert found.accepted
    assert [Path(each).name for each in found.passed_over] == [name]


def test_json_with_evidence_and_collateral_is_both(tmp_path: Path) -> None:
    inner = {"quote": kit.sim_quote().hex(), "collateral": json.loads(held(NOW).to_json())}
    (tmp_path / "both.json").write_text(json.dumps(inner), encoding="utf-8")
    assert examined(tmp_path / "both.json").accepted


def test_what_collateral_could_have_is_said_by_its_fields_alone() -> None:
    with kit.refused(EvidenceCode.COLLATERAL_MALFORMED) as caught:
        decode(b'{"none": "of them"}')
    assert "passed_over" not in str(caught.value.expected)
    assert "tcb_info_signature" in str(caught.value.expected)


def test_a_chain_of_a_device_that_differs_in_its_spaces_alone_is_one(tmp_path: Path) -> None:
    device = vectors() / "nvidia"
    report, chain = (device / f"hopper-550-coco.{name}" for name in ("report.hex", "chain.pem"))
    roots, data = evidence.Roots.vendor(), chain.read_bytes()
    found = []
    for number, each in enumerate((data, data + b"\n", data.replace(b"\n", b"\r\n"))):
        (tmp_path / f"{number}.pem").write_bytes(each)
        source = open_collateral([tmp_path], roots)
        found.append(codes(examine(report.read_bytes(), now=1_752_919_277, collateral=source, roots=roots)))
    assert found[0] == found[1] == found[2]
    assert "collateral-missing" not in found[0]
