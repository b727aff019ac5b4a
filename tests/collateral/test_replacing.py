"""What is held is not replaced by what is older: not by an import, not by a fetch, unless the caller says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from attestation.amd.collateral import SnpCollateral
from attestation.collateral.bundle import Bundle
from attestation.collateral.cli import collateral
from attestation.collateral.document import Collateral
from attestation.collateral.errors import FetchCode, FetchError
from attestation.collateral.held import fetch_into
from attestation.errors import EvidenceCode
from tests.amd import kit as amd
from tests.attestation.kit import NOW, platform, refused, sim_roots
from tests.collateral.kit import DAY, serve_intel, source
from tests.collateral.service import Service

OLD = NOW - 5 * DAY


def run(*arguments: object) -> Result:
    return CliRunner().invoke(collateral, [str(argument) for argument in arguments])


def write(path: Path, held: Collateral) -> Path:
    path.write_text(held.to_json(), encoding="utf-8")
    return path


def older_intel(*names: str) -> Collateral:
    """Today's collateral but for some documents, which are of some days ago."""
    then = platform().collateral(OLD)
    return replace(platform().collateral(NOW), **{name: getattr(then, name) for name in names})


INTEL: dict[str, tuple[Callable[[], Collateral], str]] = {
    "all of it": (lambda: platform().collateral(OLD), "revocation list of the root CA"),
    "the root CA's list": (lambda: older_intel("root_ca_crl"), "revocation list of the root CA"),
    "the PCK CA's list": (lambda: older_intel("pck_crl"), "revocation list of the PCK CA"),
    "TCB info": (lambda: older_intel("tcb_info", "tcb_info_signature"), "TCB info"),
    "QE identity": (lambda: older_intel("qe_identity", "qe_identity_signature"), "QE identity"),
    "a lower evaluation number": (lambda: platform(evaluation_number=16).collateral(NOW), "TCB info"),
}


@pytest.mark.parametrize(("make", "what"), INTEL.values(), ids=INTEL)
def test_collateral_of_intel_with_an_older_document_is_not_filed(
    make: Callable[[], Collateral], what: str, tmp_path: Path
) -> None:
    root = tmp_path / "root.pem"
    root.write_bytes(platform().root_pem)
    options = ("--output", tmp_path / "held", "--simulated-root", root)
    new, old = write(tmp_path / "new.json", platform().collateral(NOW)), write(tmp_path / "old.json", make())
    assert run("import", old, *options).exit_code == 0
    assert run("import", new, *options).exit_code == 0, "something newer is filed"
    assert run("import", new, *options).exit_code == 0, "and so is the same"
    result = run("import", old, *options)
    assert isinstance(result.exception, FetchError)
    assert (result.exception.code, result.exception.exit_code) == (FetchCode.OLDER, 10)
    assert result.exception.expected == f"a {what} that is not older than what is held"
    (held,) = (tmp_path / "held").glob("*.json")
    assert held.read_text() == new.read_text()
    assert run("import", old, *options, "--allow-older").exit_code == 0
    assert held.read_text() == old.read_text()


def of_amd() -> SnpCollateral:
    return amd.snp().collateral(NOW)


AMD: dict[str, Callable[[], SnpCollateral]] = {
    "an older list": lambda: replace(of_amd(), crl=amd.snp().collateral(OLD).crl),
    "no list": lambda: replace(of_amd(), crl=b""),
}


@pytest.mark.usefixtures("amd_keys")
@pytest.mark.parametrize("form", ["ours", "a bundle", "AMD's own files"])
@pytest.mark.parametrize("make", AMD.values(), ids=AMD)
def test_collateral_of_amd_with_an_older_list_or_none_is_not_filed(
    make: Callable[[], SnpCollateral], form: str, tmp_path: Path
) -> None:
    (tmp_path / "root.pem").write_bytes(amd.snp().root_pem)
    options = ("--output", tmp_path / "held", "--simulated-root", tmp_path / "root.pem")
    assert run("import", write(tmp_path / "new.json", of_amd()), *options).exit_code == 0
    old, files = make(), [tmp_path / "old"]
    if form == "a bundle":
        files[0].write_text(Bundle(b"x", {amd.snp().collateral_key: old}).to_json(), encoding="utf-8")
    elif form == "ours":
        write(files[0], old)
    else:
        files = [tmp_path / name for name in ("vcek", "chain", "crl")[: 3 if old.crl else 2]]
        for path, content in zip(files, (old.vek, old.chain, old.crl), strict=False):
            path.write_bytes(content)
    result = run("import", *files, *options)
    assert isinstance(result.exception, FetchError)
    assert result.exception.code is FetchCode.OLDER
    (held,) = (tmp_path / "held").glob("*.json")
    assert SnpCollateral.from_json(held.read_bytes()) == of_amd()
    assert run("import", *files, *options, "--allow-older").exit_code == 0
    assert SnpCollateral.from_json(held.read_bytes()) == old


@pytest.mark.usefixtures("amd_keys")
@pytest.mark.parametrize("crl", [b"", b"\x30\x03abc"])
def test_what_is_held_without_a_list_that_verifies_is_replaced(crl: bytes, tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_bytes(amd.snp().root_pem)
    options = ("--output", tmp_path, "--simulated-root", tmp_path / "root.pem")
    held = write(tmp_path / f"{amd.snp().collateral_key}.json", replace(of_amd(), crl=crl))
    new = write(tmp_path / "new", replace(of_amd(), crl=amd.snp().collateral(OLD).crl))
    assert run("import", new, *options).exit_code == 0
    assert held.read_text() == new.read_text()


def test_a_held_file_that_is_none_is_replaced(tmp_path: Path) -> None:
    root, new = tmp_path / "root.pem", write(tmp_path / "new", platform().collateral(OLD))
    root.write_bytes(platform().root_pem)
    held = tmp_path / f"{platform().collateral_key}.json"
    held.write_text("nothing", encoding="utf-8")
    assert run("import", new, "--output", tmp_path, "--simulated-root", root).exit_code == 0
    assert held.read_text() == new.read_text()


def test_a_service_that_answers_with_something_older_replaces_nothing(service: Service, tmp_path: Path) -> None:
    key = platform().collateral_key
    serve_intel(service)
    held = fetch_into(tmp_path, key, source(service), sim_roots()).read_text()
    old = serve_intel(service, platform().collateral(OLD))
    with refused(FetchCode.OLDER):
        fetch_into(tmp_path, key, source(service, tmp_path / "cache"), sim_roots())
    assert not list((tmp_path / "cache").glob("*")), "nor does the cache keep it"
    assert (tmp_path / f"{key}.json").read_text() == held
    fetch_into(tmp_path, key, source(service), sim_roots(), older=True)
    assert (tmp_path / f"{key}.json").read_text() == old.to_json()


def test_a_revocation_that_keeps_collateral_out_says_that_what_is_held_is_older(tmp_path: Path) -> None:
    root = tmp_path / "root.pem"
    root.write_bytes(platform().root_pem)
    new = write(tmp_path / "new.json", platform(revoked=("pck-ca",)).collateral(NOW))
    result = run("import", new, "--output", tmp_path / "held", "--simulated-root", root)
    assert isinstance(result.exception, Exception)
    assert getattr(result.exception, "code", None) is EvidenceCode.CERTIFICATE_REVOKED
    assert "remove what is held" in str(getattr(result.exception, "remedy", ""))


@pytest.mark.usefixtures("amd_keys")
def test_status_says_where_there_is_no_revocation_list(tmp_path: Path) -> None:
    root = tmp_path / "root.pem"
    root.write_bytes(amd.snp().root_pem)
    path = tmp_path / "held" / f"{amd.snp().collateral_key}.json"
    path.parent.mkdir()
    words = ("status", path.parent, "--at", NOW, "--simulated-root", root)
    for held, listed in ((of_amd(), True), (replace(of_amd(), crl=b""), False)):
        write(path, held)
        (shown,) = json.loads(run(*words, "--json").output)["held"]
        assert (shown["lacks"] == []) is listed
        assert ("no revocation list" in run(*words).output) is not listed
