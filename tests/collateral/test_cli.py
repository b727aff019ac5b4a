"""`strongroom collateral` fetches, files, carries and inspects; what does not verify is never filed."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from attestation import evidence
from attestation.amd.tcb import Product
from attestation.collateral import DirectorySource, open_source
from attestation.collateral.bundle import Bundle
from attestation.collateral.cli import collateral
from attestation.collateral.errors import FetchCode
from attestation.ear.keys import write_verifier_key
from attestation.errors import EvidenceCode, PolicyCode
from attestation.loose import open_collateral
from attestation.policy.feed import open_feed
from attestation.report import examine
from attestation.roots import Roots
from attestation.validity import rfc3339
from manifests import keyfile
from manifests.errors import ErrorCode, ManifestCode, StrongroomError
from tests.attestation import kit
from tests.attestation.kit import NOW, platform
from tests.collateral.kit import DAY, FMSPC, KEY, TCB, serve_amd, serve_intel, snp, write_quote
from tests.collateral.service import Reply, Service
from tests.nitro import kit as nitro
from tests.policy.kit import STRANGER, entry, feed
from tests.shared import vectors

VENDOR_FOLDER = vectors() / "snp/certs"
JANUARY_2024, JUNE_2025 = 1_704_067_200, 1_748_736_000


def run(*arguments: object) -> Result:
    return CliRunner().invoke(collateral, [str(argument) for argument in arguments])


def failed(result: Result, code: ErrorCode) -> StrongroomError:
    assert isinstance(result.exception, StrongroomError), result.output
    assert result.exception.code is code
    return result.exception


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root.pem"
    path.write_bytes(platform().root_pem)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the platform's collateral."""
    path = tmp_path / "held"
    path.mkdir()
    (path / f"{KEY}.json").write_text(platform().collateral(NOW).to_json(), encoding="utf-8")
    return path


# ------------------------------------------------------------------------------------------------ fetch


def test_what_evidence_needs_is_fetched_verified_and_filed(service: Service, tmp_path: Path, root: Path) -> None:
    held = serve_intel(service, platform().collateral(int(time.time())))
    quote = write_quote(tmp_path / "quote.bin")
    options = ["--evidence", quote, "--output", tmp_path / "new", "--pccs", service.url, "--simulated-root", root]
    result = run("fetch", *options)
    assert result.exit_code == 0, result.output
    assert "SIMULATED" in result.output
    parsed = evidence.parse(quote.read_bytes())
    assert evidence.collateral_for(parsed, DirectorySource(tmp_path / "new")) == held
    assert run("fetch", *options).exit_code == 0
    assert len(service.asked) == 4, "the second time, the cache serves"


def test_evidence_may_be_wrapped(service: Service, tmp_path: Path, root: Path) -> None:
    serve_intel(service)
    path = write_quote(tmp_path / "quote.hex")
    path.write_text(path.read_bytes().hex(), encoding="ascii")
    options = ["--evidence", path, "--output", tmp_path / "new", "--pccs", service.url, "--simulated-root", root]
    assert run("fetch", *options).exit_code == 0
    path.write_text("nothing", encoding="ascii")
    assert "quote.hex" in failed(run("fetch", *options), EvidenceCode.EVIDENCE_UNKNOWN).message


@pytest.mark.parametrize(
    "chosen", [["--tee", "sgx", "--fmspc", FMSPC.upper(), "--ca", "processor"], ["--name", KEY]], ids=["parts", "name"]
)
def test_a_platform_is_named_without_evidence(service: Service, tmp_path: Path, root: Path, chosen: list[str]) -> None:
    serve_intel(service)
    result = run("fetch", *chosen, "--output", tmp_path, "--pccs", service.url, "--simulated-root", root, "--json")
    assert result.exit_code == 0, result.output
    (shown,) = json.loads(result.output)["held"]
    assert (shown["tee"], shown["family"], shown["unit"]) == ("sgx", FMSPC, "processor")
    assert shown["verified"] is True
    assert shown["platform"] == "SIMULATED"


@pytest.mark.usefixtures("amd_keys")
def test_collateral_of_amd_is_fetched(service: Service, tmp_path: Path) -> None:
    simulated = snp(Product.MILAN)
    names = ("blSPL", "teeSPL", "snpSPL", "ucodeSPL")
    query = "&".join(f"{name}={value}" for name, value in zip(names, simulated.reported.versions, strict=True))
    serve_amd(service, simulated, query)
    (tmp_path / "report.bin").write_bytes(simulated.evidence(bytes(48), bytes(64), version=2))
    (tmp_path / "root.pem").write_bytes(simulated.root_pem)
    result = run(
        "fetch",
        *("--evidence", tmp_path / "report.bin", "--output", tmp_path / "new", "--kds", service.url),
        *("--simulated-root", tmp_path / "root.pem"),
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "new" / f"{simulated.collateral_key}.json").is_file()


def test_what_does_not_verify_is_not_filed(service: Service, tmp_path: Path, root: Path) -> None:
    held = serve_intel(service)
    options = ["--name", KEY, "--output", tmp_path / "new", "--pccs", service.url]
    assert failed(run("fetch", *options), EvidenceCode.CHAIN_ROOT).remedy is not None
    forged = held.tcb_info_signature[:-1] + b"\0"
    text = b'{"tcbInfo":%s,"signature":"%s"}' % (held.tcb_info, forged.hex().encode())
    service.replies[TCB] = lambda _: Reply(
        text,
        media="application/json",
        headers={"TCB-Info-Issuer-Chain": held.tcb_info_issuer_chain.decode().replace("\n", "%0A")},
    )
    options += ["--cache", tmp_path / "other", "--simulated-root", root]
    failed(run("fetch", *options), EvidenceCode.TCB_INFO_SIGNATURE)
    assert list((tmp_path / "new").glob("*.json")) == []


def test_collateral_of_another_platform_is_not_filed(service: Service, tmp_path: Path, root: Path) -> None:
    serve_intel(service)
    service.replies["/sgx/certification/v4/tcb?fmspc=00906ED50000"] = service.replies[TCB]
    name = "sgx-00906ed50000-processor"
    result = run("fetch", "--name", name, "--output", tmp_path, "--pccs", service.url, "--simulated-root", root)
    error = failed(result, FetchCode.MISFILED)
    assert (error.expected, error.found) == (name, KEY)
    assert "answers for another platform" in error.message
    assert "import" not in str(error.remedy)
    assert list(tmp_path.glob("sgx-*.json")) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--name", KEY, "--tee", "sgx"],
        ["--tee", "sgx", "--fmspc", FMSPC],
        ["--evidence", "quote", "--name", KEY],
        ["--tee", "snp", "--fmspc", FMSPC, "--ca", "platform"],
    ],
    ids=str,
)
def test_what_to_fetch_is_said_once_and_whole(tmp_path: Path, arguments: list[str]) -> None:
    assert run("fetch", *arguments, "--output", tmp_path).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--name", "../x"], "sgx-<FMSPC>-<processor|platform>"),
        (["--name", "foo"], "sgx-<FMSPC>-<processor|platform>"),
        (["--tee", "sgx", "--fmspc", "zz", "--ca", "processor"], "12 hex digits"),
    ],
    ids=str,
)
def test_a_platform_that_no_collateral_has_is_a_fault_of_the_command_line(
    tmp_path: Path, arguments: list[str], expected: str
) -> None:
    result = run("fetch", *arguments, "--output", tmp_path)
    assert result.exit_code == 2
    assert expected in " ".join(result.output.split())
    assert arguments[1] in result.output or arguments[3] in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_a_free_name_says_what_it_is_and_to_import_it(folder: Path, root: Path) -> None:
    (held,) = folder.glob("*.json")
    held.rename(folder / "mine.json")
    result = run("status", folder, "--at", NOW, "--simulated-root", root, "--json")
    (item,) = json.loads(result.output)["held"]
    assert (result.exit_code, item["error"]["code"]) == (10, "collateral-misfiled")
    assert (item["error"]["expected"], item["error"]["found"]) == (f"{KEY}.json", "mine.json")
    assert "collateral import" in item["error"]["remedy"]
    assert f"then remove {folder / 'mine.json'}" in item["error"]["remedy"]
    assert run("import", folder / "mine.json", "--output", folder, "--simulated-root", root).exit_code == 0
    (folder / "mine.json").unlink()
    assert status(folder, root, "--at", NOW)[0] == 0


def test_collateral_under_a_name_of_any_suffix_is_told_to_be_unfiled(folder: Path, root: Path) -> None:
    (held,) = folder.glob("*.json")
    held.rename(folder / "intel.txt")
    result = run("status", folder, "--at", NOW, "--simulated-root", root, "--json")
    assert (result.exit_code, json.loads(result.output)["unfiled"]) == (10, ["intel.txt"])
    assert f"import --output {folder} -- {folder}/intel.txt" in run("status", folder, "--at", NOW).output


# ------------------------------------------------------------------------------------------------ import


def test_a_file_is_filed_under_the_name_that_its_content_says(tmp_path: Path, root: Path) -> None:
    (tmp_path / "download.txt").write_text(platform().collateral(NOW).to_json(), encoding="utf-8")
    result = run("import", tmp_path / "download.txt", "--output", tmp_path / "new", "--simulated-root", root)
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"{KEY}.json"]


def test_a_bundle_is_filed_by_its_collateral(tmp_path: Path, folder: Path, root: Path) -> None:
    quote = write_quote(tmp_path / "quote.bin")
    shown = run("bundle", "--evidence", quote, "--collateral", folder, "--output", tmp_path / "b.json")
    assert shown.exit_code == 0
    assert shown.output.split() == ["bundle", str(tmp_path / "b.json"), "evidence", "Intel", "SGX", "collateral", KEY]
    shown = run("bundle", "--evidence", quote, "--collateral", folder, "--output", tmp_path / "j.json", "--json")
    assert json.loads(shown.output) == {
        "file": str(tmp_path / "j.json"),
        "tee": "sgx",
        "collateral": [KEY],
        "devices": False,
    }
    assert evidence.collateral_for(evidence.parse(quote.read_bytes()), open_source(tmp_path / "b.json")) is not None
    result = run("import", tmp_path / "b.json", "--output", tmp_path / "new", "--simulated-root", root, "--json")
    assert [item["verified"] for item in json.loads(result.output)["held"]] == [True]
    again = run("bundle", "--evidence", quote, "--collateral", folder, "--output", tmp_path / "b.json")
    failed(again, ManifestCode.FILE_EXISTS)


@pytest.mark.parametrize("given", [[], ["--collateral", VENDOR_FOLDER]], ids=["no collateral", "needless collateral"])
def test_evidence_that_needs_no_collateral_is_bundled_without_and_says_so(tmp_path: Path, given: list[object]) -> None:
    document = tmp_path / "document.cbor"
    document.write_bytes(nitro.real())
    result = run("bundle", "--evidence", document, *given, "--output", tmp_path / "b.json")
    assert result.exit_code == 0, result.output
    assert result.stderr == (
        f"{document} needs no collateral: all that its verification takes travels with it; the bundle has none\n"
    )
    assert Bundle.from_json((tmp_path / "b.json").read_bytes()).collateral == {}
    assert examine((tmp_path / "b.json").read_bytes(), now=nitro.REAL_NOW).accepted


def test_a_bundle_of_evidence_that_needs_collateral_takes_some(tmp_path: Path) -> None:
    quote = write_quote(tmp_path / "quote.bin")
    result = run("bundle", "--evidence", quote, "--output", tmp_path / "b.json")
    assert result.exit_code == 2
    assert f"give --collateral that has {KEY}" in " ".join(result.output.split())
    assert not (tmp_path / "b.json").exists()


def test_a_bundle_without_collateral_has_nothing_to_file(tmp_path: Path) -> None:
    text = '{"format": "strongroom-evidence-bundle", "version": 1, "evidence": "00", "collateral": {}}'
    (tmp_path / "b.json").write_text(text, encoding="utf-8")
    failed(run("import", tmp_path / "b.json", "--output", tmp_path / "new"), ManifestCode.FIELD_INVALID)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", EvidenceCode.JSON_MALFORMED),
        (b"\xff", EvidenceCode.JSON_MALFORMED),
        (b"{}", EvidenceCode.COLLATERAL_MALFORMED),
        (b'{"format": "strongroom-evidence-bundle"}', FetchCode.BUNDLE_MALFORMED),
        (platform().collateral(NOW).to_json().encode(), EvidenceCode.CHAIN_ROOT),
    ],
    ids=["empty", "no text", "other fields", "half a bundle", "another root"],
)
def test_what_cannot_be_filed_names_the_file(tmp_path: Path, content: bytes, code: ErrorCode) -> None:
    (tmp_path / "download").write_bytes(content)
    error = failed(run("import", tmp_path / "download", "--output", tmp_path / "new"), code)
    assert "download" in error.message
    assert not (tmp_path / "new").exists()


def test_one_file_that_cannot_be_filed_keeps_no_other_from_it(tmp_path: Path, root: Path) -> None:
    (tmp_path / "first").write_text("{}", encoding="utf-8")
    (tmp_path / "second").write_text(platform().collateral(NOW).to_json(), encoding="utf-8")
    files = [tmp_path / "first", tmp_path / "missing", tmp_path / "second"]
    options = ["--output", tmp_path / "new", "--simulated-root", root]
    result = run("import", *files, *options)
    assert result.exit_code == 30, "of the first that failed"
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"{KEY}.json"]
    for name, code in (("first", "collateral-malformed"), ("missing", "file-unavailable")):
        assert re.search(f"not imported: {tmp_path}/{name}: {code}", result.output)
    shown = json.loads(run("import", *files, *options, "--json").output)
    assert [item["verified"] for item in shown["held"]] == [True]
    assert [Path(item["file"]).name for item in shown["not_imported"]] == ["first", "missing"]
    assert [item["error"]["code"] for item in shown["not_imported"]] == ["collateral-malformed", "file-unavailable"]
    assert shown["error"] is None


def test_where_nothing_can_be_filed_every_file_is_named(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    result = run("import", tmp_path / "first", tmp_path / "second", "--output", tmp_path / "new")
    message = failed(result, EvidenceCode.COLLATERAL_MALFORMED).message
    assert message.startswith(f"{tmp_path}/first: ")
    assert message.endswith(f"nor was imported: {tmp_path}/second")


def test_where_nothing_can_be_filed_the_json_has_the_same_lists(tmp_path: Path) -> None:
    (tmp_path / "first").write_text("{}", encoding="utf-8")
    files = [tmp_path / "first", tmp_path / "missing"]
    result = run("import", *files, "--output", tmp_path / "new", "--json")
    shown = json.loads(result.output)
    assert (result.exit_code, shown["held"]) == (30, [])
    assert [item["file"] for item in shown["not_imported"]] == [str(file) for file in files]
    assert [item["error"]["code"] for item in shown["not_imported"]] == ["collateral-malformed", "file-unavailable"]
    assert "nor was imported" not in shown["not_imported"][0]["error"]["message"]
    assert shown["error"]["code"] == "collateral-malformed"
    assert shown["error"]["message"].endswith(f"nor was imported: {tmp_path}/missing")
    assert not (tmp_path / "new").exists()


# ------------------------------------------------------------------------------------------------ files of AMD's

SNP = vectors() / "snp"
VCEK, CHAIN = SNP / "certs/v2-milan-coco.vcek.der", SNP / "certs/milan_ask_ark_asvk.pem"
OTHER_CHAIN = SNP / "certs/genoa_ask_ark_asvk.pem"


def test_amds_own_files_are_filed_together(tmp_path: Path) -> None:
    vlek = SNP / "certs/v3-milan-vlek-coco.vlek.der"
    result = run("import", CHAIN, vlek, VCEK, "--output", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.output)
    assert [(item["family"], item["unit"][:4]) for item in shown["held"]] == [("milan", "vlek"), ("milan", "vcek")]
    assert shown["not_imported"] == []
    for name in ("v2-milan-coco", "v3-milan-vlek-coco"):
        parsed = evidence.parse((SNP / f"{name}.report.bin").read_bytes())
        assert evidence.collateral_for(parsed, DirectorySource(tmp_path)) is not None


@pytest.mark.parametrize(
    ("files", "code", "told"),
    [
        ([VCEK], EvidenceCode.COLLATERAL_MISSING, "SEV-Milan and ARK-Milan"),
        ([VCEK, OTHER_CHAIN], EvidenceCode.COLLATERAL_MISSING, "SEV-Milan and ARK-Milan"),
        ([CHAIN], EvidenceCode.COLLATERAL_MISSING, "a VCEK or VLEK certificate"),
        ([SNP / "derived-bad/v2-milan-coco-vcek-b42.der", CHAIN], EvidenceCode.CERTIFICATE_MALFORMED, "a VCEK"),
    ],
    ids=["no chain", "another product's chain", "no leaf", "a leaf that is none"],
)
def test_parts_of_amds_files_are_refused_for_what_is_missing(
    tmp_path: Path, files: list[Path], code: ErrorCode, told: str
) -> None:
    error = failed(run("import", *files, "--output", tmp_path / "new"), code)
    assert files[0].name in error.message
    assert told in str(error.expected)
    assert not (tmp_path / "new").exists()


def test_a_forged_certificate_of_amds_is_not_filed(tmp_path: Path) -> None:
    forged = SNP / "bad/vcek-invalid-legacy.der"
    error = failed(run("import", forged, CHAIN, "--output", tmp_path / "new"), EvidenceCode.CHAIN_SIGNATURE)
    assert forged.name in error.message
    assert not (tmp_path / "new").exists()


def test_der_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.der").write_bytes(b"\x30\x82\x01\x00" + bytes(256))
    result = run("import", tmp_path / "x.der", VCEK, CHAIN, "--output", tmp_path / "new")
    assert result.exit_code == 30
    assert "x.der" in result.output
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_a_bundle_takes_what_verification_takes(tmp_path: Path) -> None:
    """A folder of AMD's files, or the files themselves; and for Azure's evidence the chain alone."""
    folder = tmp_path / "kds"
    folder.mkdir()
    for file in (VCEK, CHAIN):
        (folder / file.name).write_bytes(file.read_bytes())
    for name, given in (("folder", [folder]), ("files", [VCEK, CHAIN])):
        options = [word for path in given for word in ("--collateral", path)]
        report = SNP / "v2-milan-coco.report.bin"
        result = run("bundle", "--evidence", report, *options, "--output", tmp_path / name)
        assert result.exit_code == 0, result.output
        assert examine((tmp_path / name).read_bytes(), now=JANUARY_2024).accepted
    (key,) = Bundle.from_json((tmp_path / "folder").read_bytes()).collateral
    assert key.family == "milan", "which the report does not name"
    azure = vectors() / "azure-snp/coco-evidence-v2.json"
    assert run("bundle", "--evidence", azure, "--collateral", CHAIN, "--output", tmp_path / "azure").exit_code == 0
    assert examine((tmp_path / "azure").read_bytes(), now=JUNE_2025).accepted


def test_a_folder_of_amds_files_is_told_what_to_do_with_them(tmp_path: Path) -> None:
    (tmp_path / "vcek.der").write_bytes(VCEK.read_bytes())
    (tmp_path / "notes.txt").write_text("nothing", encoding="utf-8")
    result = run("status", tmp_path)
    assert result.exit_code == 10
    assert "vcek.der" in result.output
    assert "notes" not in result.output
    assert "collateral import" in result.output
    assert json.loads(run("status", tmp_path, "--json").output)["unfiled"] == ["vcek.der"]


def test_the_command_that_status_prints_files_what_it_lists(tmp_path: Path) -> None:
    folder = tmp_path / "of the vendor"
    folder.mkdir()
    for name, path in {"vcek.der": VCEK, "cert_chain": CHAIN}.items():
        (folder / name).write_bytes(path.read_bytes())
    (folder / "manifest.xml").write_text("<SoftwareIdentity/>", encoding="utf-8")
    (line,) = (line for line in run("status", folder).output.splitlines() if line.startswith("  next: "))
    program, group, *words = shlex.split(line.removeprefix("  next: "))
    assert (program, group) == ("strongroom", "collateral")
    assert words == [
        *("import", "--output", str(folder), "--"),
        *(str(folder / name) for name in ("cert_chain", "vcek.der")),
    ]
    assert run(*words).exit_code == 0
    assert list(folder.glob("*.json"))


HOSTILE = [
    "--simulated-root=sim.pem",
    "-x",
    "a; touch PWNED #",
    "$(touch PWNED)",
    "`touch PWNED`",
    "a'b",
    "\x1b[2J\n\r$'\x07",
]


def commands(shown: str) -> list[list[str]]:
    """What a shell makes of the command that stands in a line: words that it would run."""
    line = next(line for line in shown.splitlines() if line.startswith("  next: "))
    assert line.isprintable()
    command = line.removeprefix("  next: ").removeprefix("`").partition("` files it")[0]
    made = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True, timeout=60)
    return [each.decode() for each in made.stdout.split(b"\0")[:-1]]


@pytest.mark.parametrize("name", HOSTILE)
def test_the_commands_that_are_printed_take_hostile_names_for_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("vcek.der").write_bytes(VCEK.read_bytes())
    Path(name).write_bytes(CHAIN.read_bytes())
    program, group, *words = commands(run("status", ".").output)
    assert (program, group) == ("strongroom", "collateral")
    assert words[-2:] == sorted([name, "vcek.der"])
    assert run(*words).exit_code == 0
    assert list(tmp_path.glob("snp-milan-vcek-*.json"))
    assert not Path("PWNED").exists()


@pytest.mark.parametrize("name", HOSTILE)
def test_the_command_that_files_what_is_misnamed_takes_hostile_names_for_names(
    name: str, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(f"{name}.json").write_text(platform().collateral(NOW).to_json(), encoding="utf-8")
    words = commands(run("status", ".", "--at", NOW, "--simulated-root", root).output)[2:]
    assert words[-1] == f"{name}.json"
    assert run(*words[:1], "--simulated-root", root, *words[1:]).exit_code == 0
    assert Path(f"{KEY}.json").is_file()
    assert not Path("PWNED").exists()


def test_no_name_of_a_file_commands_the_terminal(tmp_path: Path, folder: Path, root: Path) -> None:
    evil = "a\x1b[2J\nvalid"
    for suffix in (".json", ".der", ".xml"):
        (tmp_path / f"{evil}{suffix}").write_text("nothing", encoding="utf-8")
    (tmp_path / evil).mkdir()
    for arguments in (
        (
            "import",
            *folder.glob("*.json"),
            tmp_path / f"{evil}.json",
            "--output",
            tmp_path / "new",
            "--simulated-root",
            root,
        ),
        (
            "import",
            folder / f"{KEY}.json",
            tmp_path / f"{evil}.der",
            "--output",
            tmp_path / "new",
            "--simulated-root",
            root,
        ),
        ("status", tmp_path),
        ("status", tmp_path / evil),
    ):
        shown = run(*arguments).output
        assert "a\\x1b[2J" in shown
        assert all(line.isprintable() and not line.startswith("valid.") for line in shown.splitlines())


def test_a_folder_of_manifests_alone_has_nothing_to_import(tmp_path: Path) -> None:
    (tmp_path / "manifest.xml").write_text("<SoftwareIdentity/>", encoding="utf-8")
    shown = run("status", tmp_path).output
    assert "found by no name: manifest.xml" in shown
    assert "next:" not in shown


# ------------------------------------------------------------------------------------------------ status


def status(folder: Path, root: Path, *options: object) -> tuple[int, Any]:
    result = run("status", folder, "--simulated-root", root, "--json", *options)
    assert result.exit_code in {0, 10}, result.output
    return result.exit_code, json.loads(result.output)["held"]


def test_a_folder_of_genuine_valid_collateral_ends_with_0(folder: Path, root: Path) -> None:
    code, (held,) = status(folder, root, "--at", NOW)
    assert code == 0
    assert (held["verified"], held["stale"], held["error"]) == (True, False, None)
    assert held["issued"] == rfc3339(NOW - 3600)
    assert held["expires"] == rfc3339(NOW - 3600 + 30 * DAY)
    names = {item["what"] for item in held["documents"]}
    assert {"TCB info", "QE identity", "PCK CA certificate", "revocation list of the root CA"} <= names


@pytest.mark.parametrize(
    ("at", "within", "code"),
    [
        (NOW - 3600, 0, 0),
        (NOW - 3601, 0, 10),
        (NOW - 3600 + 30 * DAY - 1, 0, 0),
        (NOW - 3600 + 30 * DAY, 0, 10),
        (NOW, 29, 0),
        (NOW, 30, 10),
    ],
)
def test_the_exit_status_tells_whether_something_is_stale(
    folder: Path, root: Path, at: int, within: int, code: int
) -> None:
    assert status(folder, root, "--at", at, "--within", within)[0] == code


def test_people_see_what_goes_stale_first(folder: Path, root: Path) -> None:
    result = run("status", folder, "--simulated-root", root, "--at", rfc3339(NOW + 40 * DAY))
    assert result.exit_code == 10
    (line,) = (line for line in result.output.splitlines() if KEY in line)
    assert line.startswith("stale")
    assert "SIMULATED" in line
    assert "revocation list" in line


def test_what_goes_stale_within_the_span_is_marked(folder: Path, root: Path) -> None:
    longer = platform().collateral(NOW + 20 * DAY)
    other = "tdx-00806f050000-platform"
    (folder / f"{other}.json").write_text("{}", encoding="utf-8")
    for within, word, soon in ((29, "valid", False), (30, "soon", True)):
        options = ["--at", NOW, "--within", within]
        held = {Path(item["file"]).stem: item for item in status(folder, root, *options)[1]}
        assert (held[KEY]["stale"], held[KEY]["stale_within"], held[other]["stale_within"]) == (False, soon, None)
        shown = run("status", folder, "--simulated-root", root, *options).output
        words = {line.split()[1]: line.split()[0] for line in shown.splitlines() if KEY in line or other in line}
        assert words == {KEY: word, other: "refused"}
    (folder / f"{KEY}.json").write_text(longer.to_json(), encoding="utf-8")
    _, (early, _) = status(folder, root, "--at", NOW, "--within", 30)
    assert (early["stale"], early["stale_within"]) == (True, True), "what is not valid yet"


@pytest.mark.usefixtures("amd_keys")
def test_files_of_amds_without_a_revocation_list_say_so(tmp_path: Path) -> None:
    whole = snp(Product.MILAN)
    held = whole.collateral(NOW)
    roots = tmp_path / "amd.pem"
    roots.write_bytes(whole.root_pem)
    path = tmp_path / "held" / f"{whole.collateral_key}.json"
    path.parent.mkdir()
    for crl, lacks in ((held.crl, []), (b"", ["revocation list"])):
        path.write_text(dataclasses.replace(held, crl=crl).to_json(), encoding="utf-8")
        code, (item,) = status(path.parent, roots, "--at", NOW)
        assert (code, item["verified"], item["lacks"]) == (0, True, lacks)
        shown = run("status", path.parent, "--simulated-root", roots, "--at", NOW).output
        assert (f"{whole.collateral_key} has no revocation list" in shown) is bool(lacks)
        assert ("snp-revocation" in shown) is bool(lacks)


def test_what_is_not_genuine_is_shown_as_such(folder: Path, root: Path) -> None:
    path = folder / f"{KEY}.json"
    (folder / "notes.json").write_text("{}", encoding="utf-8")
    (folder / "sgx-00906ed50000-processor.json").write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    path.write_text(path.read_text(encoding="utf-8").replace("UpToDate", "UpToDatf"), encoding="utf-8")
    code, held = status(folder, root, "--at", NOW)
    assert code == 10
    codes = {Path(item["file"]).name: item["error"]["code"] for item in held}
    assert codes == {
        "notes.json": "collateral-key",
        "sgx-00906ed50000-processor.json": "collateral-misfiled",
        f"{KEY}.json": "tcb-info-signature",
    }
    assert all(item["verified"] is False and item["expires"] is None for item in held)
    result = run("status", folder, "--simulated-root", root, "--at", NOW)
    assert "collateral-misfiled" in result.output
    assert "move it out of the folder" in result.output
    assert (
        f"strongroom collateral import --output {folder} -- {folder}/sgx-00906ed50000-processor.json" in result.output
    )


def test_simulated_collateral_is_genuine_under_no_vendors_root(folder: Path) -> None:
    result = run("status", folder, "--at", NOW, "--json")
    assert result.exit_code == 10
    assert json.loads(result.output)["held"][0]["error"]["code"] == "chain-root"


def test_a_revoked_authority_makes_collateral_useless(tmp_path: Path, root: Path) -> None:
    text = kit.platform(revoked=("pck-ca",)).collateral(NOW).to_json()
    (tmp_path / f"{KEY}.json").write_text(text, encoding="utf-8")
    code, (held,) = status(tmp_path, root, "--at", NOW)
    assert (code, held["error"]["code"]) == (10, "certificate-revoked")


def test_a_folder_that_holds_nothing_ends_with_10(tmp_path: Path) -> None:
    (tmp_path / ".cache").mkdir()
    result = run("status", tmp_path)
    assert result.exit_code == 10
    assert f"{tmp_path} holds no collateral" in result.output


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    failed(run("status", tmp_path / "missing"), ManifestCode.FILE_UNAVAILABLE)


@pytest.mark.usefixtures("amd_keys")
def test_collateral_of_amd_shows_its_chip(tmp_path: Path) -> None:
    simulated = snp(Product.TURIN)
    held = simulated.collateral(NOW)
    (tmp_path / f"{simulated.collateral_key}.json").write_text(held.to_json(), encoding="utf-8")
    (tmp_path / "root.pem").write_bytes(simulated.root_pem)
    code, (shown,) = status(tmp_path, tmp_path / "root.pem", "--at", NOW)
    assert (code, shown["family"], shown["verified"]) == (0, "turin", True)


# ------------------------------------------------------------------------------------------------ the vectors


def test_the_real_collateral_of_a_vector_is_genuine_and_old(tmp_path: Path) -> None:
    real = kit.real_collateral()
    (tmp_path / "download").write_text(real.to_json(), encoding="utf-8")
    result = run("import", tmp_path / "download", "--output", tmp_path / "new", "--json")
    (held,) = json.loads(result.output)["held"]
    assert (held["family"], held["platform"]) == ("00a067110000", "hardware")
    for at, code in ((kit.REAL_NOW, 0), (kit.REAL_NOW + 60 * DAY, 10)):
        assert run("status", tmp_path / "new", "--at", at).exit_code == code


# ---------------------------------------------------------------------------------------- lists of broken hardware


@pytest.fixture
def verifier(tmp_path: Path) -> list[object]:
    """The options that name a verifier's key, whose card is beside it."""
    (tmp_path / "passphrase").write_text("x", encoding="utf-8")
    write_verifier_key(tmp_path / "v.key", b"x", cost=keyfile.Cost(1, 8 * 1024))
    return ["--key", tmp_path / "v.key", "--passphrase-file", tmp_path / "passphrase"]


LIST = """
version = 1
serial = 3
issued = "2025-10-01T00:00:00Z"
expires = "2025-12-01T00:00:00Z"

[[entries]]
id = "SR-9"
date = "2025-09-20T00:00:00Z"
reason = "its key was read off the memory bus"
tees = ["sgx", "tdx"]
platforms.fmspc = ["00906ed50000"]
below = { pcesvn = 14 }
"""


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_list_is_signed_from_toml_and_shown(tmp_path: Path, verifier: list[object], form: list[str]) -> None:
    (tmp_path / "list.toml").write_text(LIST, encoding="utf-8")
    result = run("feed", "sign", tmp_path / "list.toml", *verifier, "--output", tmp_path / "feed.json", *form)
    assert result.exit_code == 0, result.output
    public = keyfile.read_card_entry(tmp_path / "v.pub", "strongroom-verifier")
    opened = open_feed((tmp_path / "feed.json").read_text(encoding="utf-8"), public)
    assert (opened.serial, [item.id for item in opened.entries]) == (3, ["SR-9"])
    shown = run("feed", "show", tmp_path / "feed.json", "--key", tmp_path / "v.pub", *form)
    assert shown.exit_code == 0
    assert "SR-9" in shown.output
    assert shown.output == result.output


@pytest.mark.parametrize("text", ["", "version = ", LIST.replace("pcesvn", "pcesvm"), LIST.replace("serial = 3", "")])
def test_a_list_that_is_unclear_is_not_signed(tmp_path: Path, verifier: list[object], text: str) -> None:
    (tmp_path / "list.toml").write_text(text, encoding="utf-8")
    result = run("feed", "sign", tmp_path / "list.toml", *verifier, "--output", tmp_path / "feed.json")
    error = failed(result, PolicyCode.FEED_MALFORMED)
    assert "list.toml" in error.message
    assert not (tmp_path / "feed.json").exists()


def test_a_list_of_somebody_else_is_not_shown(tmp_path: Path, verifier: list[object]) -> None:
    assert verifier
    (tmp_path / "feed.json").write_text(feed(entry(), signer=STRANGER), encoding="utf-8")
    result = run("feed", "show", tmp_path / "feed.json", "--key", tmp_path / "v.pub")
    failed(result, PolicyCode.FEED_SIGNATURE)


@pytest.mark.parametrize("chain", [None, "-----BEGIN CERTIFICATE-----"])
def test_the_chain_that_dcap_qvl_keeps_beside_its_collateral_is_passed_over(
    tmp_path: Path, root: Path, chain: str | None
) -> None:
    kept = json.loads(platform().collateral(NOW).to_json()) | {"pck_certificate_chain": chain}
    (tmp_path / "qvl.json").write_text(json.dumps(kept), encoding="utf-8")
    result = run("import", tmp_path / "qvl.json", "--output", tmp_path / "new", "--simulated-root", root)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda held: held.pop("pck_crl"), "it lacks pck_crl"),
        (lambda held: held.update(pck_clr=""), "not known, 'pck_clr'"),
        (lambda held: held.update(pck_certificate_chain=1), "neither text nor null"),
        (lambda held: held.clear(), "no collateral of Intel's or AMD's"),
    ],
    ids=["a field is missing", "a field is misspelt", "a chain of another type", "no field at all"],
)
def test_collateral_with_other_fields_is_told_which(tmp_path: Path, root: Path, change: Any, words: str) -> None:
    held = json.loads(platform().collateral(NOW).to_json())
    change(held)
    (tmp_path / "odd.json").write_text(json.dumps(held), encoding="utf-8")
    result = run("import", tmp_path / "odd.json", "--output", tmp_path / "new", "--simulated-root", root)
    assert words in failed(result, EvidenceCode.COLLATERAL_MALFORMED).message


def test_a_bundle_has_what_counted_at_its_time(tmp_path: Path, folder: Path, root: Path) -> None:
    (folder / "old.json").write_text(platform().collateral(NOW - 10 * 86_400).to_json(), encoding="utf-8")
    quote, simulated = write_quote(tmp_path / "quote.bin"), ("--simulated-root", root)
    for number, at in enumerate((NOW - 9 * 86_400, NOW)):
        output = tmp_path / f"{number}.json"
        made = run("bundle", "--evidence", quote, "--collateral", folder, "--output", output, "--at", at, *simulated)
        assert made.exit_code == 0, made.output
        roots = Roots.simulated(root.read_bytes())
        assert examine(output.read_bytes(), now=at, roots=roots).accepted
        held = open_collateral([folder], roots)
        assert examine(quote.read_bytes(), now=at, collateral=held, roots=roots).accepted


def test_a_bundle_of_a_bare_device_report_has_its_chain(tmp_path: Path) -> None:
    device, output = vectors() / "nvidia", tmp_path / "b.json"
    report, chain = device / "hopper-550-coco.report.hex", device / "hopper-550-coco.chain.pem"
    made = run("bundle", "--evidence", report, "--collateral", chain, "--output", output)
    assert made.exit_code == 0, made.output
    roots, at = Roots.vendor(), 1_752_919_277
    apart = examine(report.read_bytes(), now=at, collateral=open_collateral([chain], roots), roots=roots)
    together = examine(output.read_bytes(), now=at, roots=roots)
    assert [str(each.code) for each in together.refused] == [str(each.code) for each in apart.refused]
    assert together.exit_code == apart.exit_code
