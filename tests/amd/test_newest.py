"""AMD's files where several of a kind lie side by side: nothing older wins, and no revocation is lost."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.amd.abi import SigningKey
from attestation.amd.collateral import SnpCollateral
from attestation.amd.endorsement import CSP_ID
from attestation.collateral import open_source
from attestation.collateral.filing import import_files
from attestation.errors import EvidenceCode
from attestation.evidence import collateral_for, parse, verify
from attestation.folders import MAX_FILES, MAX_FOLDER, MAX_LOOSE
from attestation.intel import pem
from attestation.loose import open_collateral
from attestation.report import Report, examine
from attestation.sim.extension import element
from attestation.sim.snp import SimulatedSnp, SnpState
from manifests.errors import ManifestCode
from tests.amd import kit
from tests.amd.kit import NOW, refused, snp

DAY = 86_400


def revoking() -> SnpCollateral:
    """What AMD says now: the ASK is revoked."""
    return snp(revoked=("signer",)).collateral(NOW)


def silent(days: int = 5) -> bytes:
    """The list of some days ago, which names nothing; it is valid for 30 days."""
    return snp().collateral(NOW - days * DAY).crl


def edited(der: bytes) -> bytes:
    """The same list with a signature that is not the root's."""
    return der[:-1] + bytes([der[-1] ^ 1])


def as_pem(der: bytes) -> bytes:
    return b"-----BEGIN X509 CRL-----\n%s-----END X509 CRL-----\n" % base64.encodebytes(der)


def folder(path: Path, lists: Mapping[str, bytes], held: SnpCollateral | None = None) -> Path:
    """A folder of what AMD's service gave, with these lists."""
    held = held or revoking()
    path.mkdir(exist_ok=True)
    for name, content in {"vcek.der": held.vek, "cert_chain": held.chain, **lists}.items():
        (path / name).write_bytes(content)
    return path


def examined(*paths: Path) -> Report:
    simulated = snp()
    data = simulated.evidence(measurement=kit.MEASUREMENT, report_data=kit.REPORT_DATA)
    roots = kit.roots(simulated)
    return examine(data, now=NOW, collateral=open_collateral(paths, roots), roots=roots)


def codes(report: Report) -> list[str]:
    return [str(each.code) for each in report.refused]


REVOKED: dict[str, Mapping[str, bytes]] = {
    "the older list comes first by name": {"crl": b"new", "a_crl": b"old"},
    "the older list comes last by name": {"crl": b"new", "z_crl": b"old"},
    "the older list stands in PEM": {"crl": b"new", "a_crl.pem": b"old pem"},
    "the list that revokes stands in PEM": {"crl.pem": b"new pem", "a_crl": b"old"},
    "both stand in one file": {"crl.pem": b"old pem+new pem"},
    "the older list is expired": {"crl": b"new", "a_crl": b"expired"},
    "the older list is badly signed": {"crl": b"new", "a_crl": b"edited"},
    "the list that revokes has a suffix in capitals": {"Milan.CRL": b"new"},
    "the list that revokes was saved under a second name": {"crl": b"old", "crl.1": b"new"},
    "the list that revokes has a suffix of anything": {"milan.bin": b"new", "a_crl": b"old"},
    "the list that revokes is the older one": {"a_crl": b"newer", "crl": b"new"},
}


def content(what: bytes) -> bytes:
    """The lists of a case by its words."""
    made = {
        b"new": revoking().crl,
        b"newer": snp().collateral(NOW + 1800).crl,
        b"old": silent(),
        b"expired": silent(40),
        b"edited": edited(silent()),
    }
    parts = [part.removesuffix(b" pem") for part in what.split(b"+")]
    return b"".join(as_pem(made[part]) if b"pem" in what else made[part] for part in parts)


@pytest.mark.parametrize("lists", REVOKED.values(), ids=REVOKED)
def test_a_key_that_a_list_of_the_folder_revokes_is_refused(lists: Mapping[str, bytes], tmp_path: Path) -> None:
    report = examined(folder(tmp_path, {name: content(what) for name, what in lists.items()}))
    assert codes(report) == ["certificate-revoked"]


@pytest.mark.parametrize("bad", [b"expired", b"edited"])
@pytest.mark.parametrize("name", ["a_crl", "z_crl"])
def test_a_list_that_is_expired_or_badly_signed_spoils_no_good_one(name: str, bad: bytes, tmp_path: Path) -> None:
    good = snp().collateral(NOW)
    report = examined(folder(tmp_path, {"crl": good.crl, name: content(bad)}, good))
    assert report.accepted
    assert isinstance(report.held, SnpCollateral)
    assert report.held.crl == good.crl


TORN: dict[str, tuple[str, bytes, str]] = {
    "badly signed": ("crl", b"edited", "crl-signature"),
    "cut short": ("crl", b"cut", "crl-malformed"),
    "cut short in PEM": ("crl.pem", b"cut pem", "crl-malformed"),
    "cut short before it says whose it is": ("crl", b"stub", "crl-malformed"),
    "in PEM without its end": ("crl.pem", b"endless", "crl-malformed"),
    "in PEM that is not base64": ("crl.pem", b"garbled", "crl-malformed"),
}


@pytest.mark.parametrize(("name", "what", "code"), TORN.values(), ids=TORN)
def test_the_only_list_is_refused_where_it_cannot_be_used(name: str, what: bytes, code: str, tmp_path: Path) -> None:
    der = revoking().crl
    made = {
        b"edited": edited(der),
        b"cut": der[:-100],
        b"cut pem": as_pem(der[:-100]),
        b"stub": der[:100],
        b"endless": as_pem(der).partition(b"-----END")[0],
        b"garbled": as_pem(der).replace(b"A", b"A=", 1),
    }
    assert codes(examined(folder(tmp_path, {name: made[what]}))) == [code]


def test_of_two_lists_that_are_both_bad_one_is_refused_for_what_it_is(tmp_path: Path) -> None:
    report = examined(folder(tmp_path, {"crl": edited(revoking().crl), "a_crl": edited(silent())}))
    assert codes(report) == ["crl-signature"]


def test_a_list_of_another_vendor_is_none_of_amds(tmp_path: Path) -> None:
    from tests.attestation import kit as sgx

    report = examined(folder(tmp_path, {"crl": sgx.platform().collateral(NOW).root_ca_crl}))
    assert report.accepted
    assert isinstance(report.held, SnpCollateral)
    assert report.held.crl == b""


def test_a_revoked_key_is_told_from_one_that_is_missing_where_there_are_several(tmp_path: Path) -> None:
    other = snp(tcb_status="OutOfDate").collateral(NOW)
    report = examined(folder(tmp_path, {"crl": revoking().crl, "a.der": other.vek}))
    assert codes(report) == ["certificate-revoked"]


def test_a_list_beside_a_filed_key_counts_and_so_does_that_of_another_folder(tmp_path: Path) -> None:
    filed = tmp_path / "filed"
    filed.mkdir()
    old = snp().collateral(NOW - 5 * DAY)
    (filed / f"{snp().collateral_key}.json").write_text(old.to_json(), encoding="utf-8")
    assert examined(filed).accepted
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/crl").write_bytes(revoking().crl)
    for paths in ([filed, tmp_path / "lists"], [tmp_path / "lists", filed], [tmp_path / "lists/crl", filed]):
        assert codes(examined(*paths)) == ["certificate-revoked"]
    (filed / "crl").write_bytes(revoking().crl)
    assert codes(examined(filed)) == ["certificate-revoked"]


@pytest.mark.parametrize("first", ["old.json", "new.json"])
def test_of_two_files_of_ours_the_list_that_revokes_counts_in_either_order(first: str, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(snp().collateral(NOW - 5 * DAY).to_json(), encoding="utf-8")
    (tmp_path / "new.json").write_text(revoking().to_json(), encoding="utf-8")
    paths = sorted(tmp_path.iterdir(), key=lambda path: path.name != first)
    assert codes(examined(*paths)) == ["certificate-revoked"]


@pytest.mark.parametrize("names", [("a_crl", "crl"), ("crl", "z_crl")])
def test_importing_files_the_list_that_counts(names: tuple[str, str], tmp_path: Path) -> None:
    good = snp().collateral(NOW)
    path = folder(tmp_path / "kds", dict(zip(names, (good.crl, silent()), strict=True)), good)
    imported = import_files(tmp_path / "filed", sorted(path.iterdir()), kit.roots(snp()))
    (place,) = imported.filed
    assert SnpCollateral.from_json(place.read_bytes()) == good


def test_a_chain_beside_another_of_the_same_names_is_the_one_that_signed(tmp_path: Path) -> None:
    good = snp().collateral(NOW)
    signer, root = pem.decode_chain(good.chain, 2)
    spoilt = pem.encode_chain(edited(signer), root)
    for name in ("a_chain", "z_chain"):
        assert examined(folder(tmp_path / name, {name: spoilt, "crl": good.crl}, good)).accepted


# ------------------------------------------------------------------------------------------------ bounds


def test_a_thousand_chips_fit_into_a_folder_and_no_list_is_cut_off(tmp_path: Path) -> None:
    held = revoking()
    path = folder(tmp_path, {"zz_crl": held.crl}, held)
    for number in range(1000):
        (path / f"{number:04x}.der").write_bytes(held.vek[:40] + number.to_bytes(2, "big") + held.vek[42:])
    assert codes(examined(path)) == ["certificate-revoked"]


def test_a_folder_of_too_many_files_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    for number in range(MAX_FILES + 1):
        (tmp_path / f"{number}").write_bytes(b"")
    with refused(EvidenceCode.COLLATERAL_MALFORMED) as caught:
        open_collateral([tmp_path], kit.roots(snp()))
    assert "collateral import" in str(caught.value.remedy)
    assert caught.value.found == str(MAX_FILES + 1)
    (tmp_path / "0").unlink()
    assert open_collateral([tmp_path], kit.roots(snp())).contents == ()


def test_a_folder_of_too_many_bytes_is_refused(tmp_path: Path) -> None:
    for number in range(MAX_FOLDER // MAX_LOOSE + 1):
        (tmp_path / f"{number}").write_bytes(b"\x30\x83" + bytes(MAX_LOOSE - 2))
    with refused(EvidenceCode.COLLATERAL_MALFORMED):
        open_collateral([tmp_path], kit.roots(snp()))


@pytest.mark.parametrize("start", [b"\x30\x84\x7f", b"-----BEGIN X509 CRL-----\n", b"text\n-----BEGIN X509 CRL-----\n"])
def test_a_list_that_is_too_large_is_refused_and_not_passed_over(start: bytes, tmp_path: Path) -> None:
    folder(tmp_path, {"crl": start + bytes(MAX_LOOSE)})
    with refused(ManifestCode.FILE_TOO_LARGE):
        examined(tmp_path)


def test_a_large_file_of_anything_else_is_passed_over(tmp_path: Path) -> None:
    good = snp().collateral(NOW)
    assert examined(folder(tmp_path, {"core": b"\x7fELF" + bytes(2 * MAX_LOOSE), "crl": good.crl}, good)).accepted


def test_a_list_of_some_megabytes_is_read(tmp_path: Path) -> None:
    good = snp().collateral(NOW, changes={"crl": {"serials": tuple(range(10**6, 10**6 + 60_000))}})
    assert len(good.crl) > 1024 * 1024
    assert examined(folder(tmp_path, {"crl": good.crl}, good)).accepted


# ------------------------------------------------------------------------------------------------ lists under any name


@pytest.mark.parametrize("turned", ["genoa", "unnamed", "sgx"])
def test_a_list_is_read_whatever_platform_its_file_is_filed_for(turned: str, tmp_path: Path) -> None:
    key = str(snp().collateral_key)
    (tmp_path / f"{key}.json").write_text(snp().collateral(NOW - 3 * DAY).to_json(), encoding="utf-8")
    assert examined(tmp_path).accepted
    name = "sgx-000000000001-platform" if turned == "sgx" else key.replace("milan", turned)
    (tmp_path / f"{name}.json").write_text(revoking().to_json(), encoding="utf-8")
    assert codes(examined(tmp_path)) == ["certificate-revoked"]


@pytest.mark.parametrize("name", ["crl", "another-chip"])
def test_a_source_of_a_folder_reads_the_lists_that_the_command_line_reads(name: str, tmp_path: Path) -> None:
    simulated = snp()
    key, data = (
        str(simulated.collateral_key),
        simulated.evidence(measurement=kit.MEASUREMENT, report_data=kit.REPORT_DATA),
    )
    (tmp_path / f"{key}.json").write_text(simulated.collateral(NOW - 3 * DAY).to_json(), encoding="utf-8")
    roots = kit.roots(simulated)
    assert examine(data, now=NOW, collateral=open_source(tmp_path), roots=roots).accepted
    if name == "crl":
        (tmp_path / name).write_bytes(revoking().crl)
    else:
        other = key[:-1] + ("0" if key[-1] != "0" else "1")
        (tmp_path / f"{other}.json").write_text(revoking().to_json(), encoding="utf-8")
    found = examine(data, now=NOW, collateral=open_source(tmp_path), roots=roots)
    assert codes(found) == ["certificate-revoked"]
    parsed = parse(data)
    held = collateral_for(parsed, open_source(tmp_path), NOW)
    with refused(EvidenceCode.CERTIFICATE_REVOKED):
        verify(parsed, held, roots, NOW)


# ------------------------------------------------------------------------------------------------ two lent keys


def lent(*, other: bool) -> SimulatedSnp:
    """One of two providers' machines, whose lent keys are of one TCB version."""
    simulated = SimulatedSnp(kit.keys(), signing_key=SigningKey.VLEK, state=SnpState())
    if other:
        simulated.key = ec.derive_private_key(0xBAD_CAB1E_0F_0115, ec.SECP384R1())
    return simulated


def lent_vek(*, other: bool) -> bytes:
    changes = {"serial": 777, "extensions": {CSP_ID: (False, element(0x16, b"other-cloud"))}} if other else {}
    return lent(other=other).collateral(NOW, changes={"vek": changes}).vek


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_of_two_lent_keys_the_one_that_signed_counts(names: tuple[str, str], other: bool, tmp_path: Path) -> None:
    held = lent(other=False).collateral(NOW)
    (tmp_path / names[0]).write_bytes(lent_vek(other=False))
    (tmp_path / names[1]).write_bytes(lent_vek(other=True))
    (tmp_path / "chain").write_bytes(held.chain)
    (tmp_path / "crl").write_bytes(held.crl)
    machine = lent(other=other)
    data, roots = machine.evidence(measurement=kit.MEASUREMENT, report_data=kit.REPORT_DATA), kit.roots(machine)
    source = open_collateral([tmp_path], roots)
    assert examine(data, now=NOW, collateral=source, roots=roots).accepted


def test_a_lent_key_that_was_revoked_is_refused_beside_another(tmp_path: Path) -> None:
    machine = lent(other=False)
    held = SimulatedSnp(kit.keys(), signing_key=SigningKey.VLEK, state=SnpState(revoked=("vek",))).collateral(NOW)
    for name, content in {"a": lent_vek(other=True), "b": held.vek, "chain": held.chain, "crl": held.crl}.items():
        (tmp_path / name).write_bytes(content)
    data, roots = machine.evidence(measurement=kit.MEASUREMENT, report_data=kit.REPORT_DATA), kit.roots(machine)
    found = examine(data, now=NOW, collateral=open_collateral([tmp_path], roots), roots=roots)
    assert codes(found) == ["certificate-revoked"]
