"""What tpm2-tools write, put into one file of evidence: by the commands of the documentation, and what is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from attestation import evidence
from attestation.cli import attest
from attestation.errors import EvidenceCode, EvidenceError
from attestation.eventlog.errors import EventLogCode
from attestation.report import examine
from attestation.sim.tpm import SimulatedTpm
from attestation.sim.tpm_pki import TpmProfile, authority
from attestation.tpm.abi import parse_evidence
from attestation.tpm.algorithms import Scheme
from attestation.tpm.attest import Attest
from attestation.tpm.errors import PackCode, TpmCode, TpmFinding
from attestation.tpm.pack import Parts, pack, read_pcrs, read_signature
from manifests.errors import ErrorCode, ManifestCode, StrongroomError
from tests.attestation.kit import CREATED, NOW, REPORT_DATA, SEED, refused
from tests.shared import vectors
from tests.tpm import kit
from tests.tpm.swtpm import SoftwareTpm, software_tpm

DOCS = Path(__file__).resolve().parents[2] / "docs" / "attestation-tpm.md"
KEYLIME = vectors() / "tpm"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(attest, [str(argument) for argument in arguments])


def failed(result: Result, code: ErrorCode) -> StrongroomError:
    assert isinstance(result.exception, StrongroomError), result.output
    assert result.exception.code is code
    return result.exception


def _section() -> str:
    return DOCS.read_text(encoding="utf-8").split("## From tpm2-tools", 1)[1].split("\n## ", 1)[0]


def documented() -> list[list[str]]:
    """The commands of the page's section on packing, as words."""
    block = re.search(r"```\n(tpm2_.*?)```", _section(), re.DOTALL)
    assert block is not None
    lines = block[1].replace("\\\n", " ").splitlines()
    return [line.split("#")[0].split() for line in lines if line.split("#")[0].strip()]


def parts(**changes: Any) -> Parts:
    """The simulated TPM's quote as tpm2-tools would write its parts."""
    opened = kit.opened()
    names = ("message", "signature", "key")
    made: dict[str, Any] = {name: opened[name] for name in names} | {"pcrs": b"".join(opened["pcrs"])}
    return Parts(**made | changes)


def documented_policy(shown: dict[str, Any]) -> str:
    """The page's policy, with what packing printed in its two places."""
    block = re.search(r"```toml\n(.*?)```", _section(), re.DOTALL)
    assert block is not None
    values = {'"AK"': shown["ak"], '"PCR7"': shown["pcrs"]["sha256"]["7"]}
    text = block[1]
    for place, value in values.items():
        assert text.count(place) == 1
        text = text.replace(place, f'"{value}"')
    return text


def follow_the_page(tpm: SoftwareTpm) -> dict[str, Any]:
    """Run its commands up to the evidence, and write its policy beside it."""
    *made, packing, _ = documented()
    tpm.extend(7, "sha256", bytes([7]) * 32)  # a software TPM has booted nothing
    for program, *words in made:
        tpm.run(program, *words)
        if program != "tpm2_flushcontext":
            tpm.free()
    packed = run(*packing[2:], "--json")
    assert packed.exit_code == 0, packed.output
    shown: dict[str, Any] = json.loads(packed.stdout)
    Path("policy.toml").write_text(documented_policy(shown), encoding="utf-8")
    return shown


def verified(*options: str) -> tuple[int, dict[str, str]]:
    """The exit status of the page's last command, and how severe each check of the TPM's is."""
    result = run(*documented()[-1][2:], *options, "--json")
    found = {item["code"]: item["severity"] for item in json.loads(result.stdout)["findings"]}
    return result.exit_code, found


def test_the_documented_commands_make_evidence_that_the_documented_policy_accepts(
    tpm: SoftwareTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a real TPM, from the making of its keys to the verdict."""
    monkeypatch.chdir(tpm.folder)
    shown = follow_the_page(tpm)
    assert shown["qualifying_data"] == "00" * 16 + "11" * 16
    accepted = run(*documented()[-1][2:])
    assert accepted.exit_code == 0, accepted.output
    assert "ACCEPTED" in accepted.output
    status, found = verified()
    assert (status, found[TpmFinding.CLOCK]) == (0, "ok")


KEPT = "0x81010002"
"""A persistent handle: what `ak.ctx` holds does not outlast a reset."""
POWER_FAILURES = 5
"""A software TPM saves its clock every 4.096 s, and is safe again: on a busy machine the quote may come too late."""


def quote_after_power_failures(folder: Path) -> bool:
    """Quote as the page does, right after a TPM has lost power; tells whether the clock was not safe then."""
    quoting = next(words for words in documented() if words[0] == "tpm2_quote")
    for _ in range(POWER_FAILURES):
        with software_tpm(folder, power_fails=True) as tpm:
            tpm.extend(7, "sha256", bytes([7]) * 32)
            tpm.run(*(KEPT if word == "ak.ctx" else word for word in quoting))
        if not Attest.parse(tpm.read("quote.msg")).safe:
            return True
    return False


def test_the_documented_policy_accepts_a_tpm_that_lost_power_by_its_line_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with software_tpm(tmp_path, power_fails=True) as first:
        follow_the_page(first)
        first.run("tpm2_evictcontrol", "-C", "o", "-c", "ak.ctx", KEPT)
    assert quote_after_power_failures(tmp_path)
    Path("evidence.bin").unlink()
    assert run(*documented()[-2][2:]).exit_code == 0
    status, found = verified()
    assert (status, found[TpmFinding.CLOCK]) == (0, "warning")
    policy = Path("policy.toml")
    lines = policy.read_text(encoding="utf-8").splitlines()
    policy.write_text("\n".join(line for line in lines if not line.startswith("unsafe_clock")), encoding="utf-8")
    status, found = verified()
    refused_for = [code for code, severity in found.items() if severity == "refusal"]
    assert (status, refused_for) == (10, [TpmFinding.CLOCK])


@pytest.mark.parametrize("kind", [("rsa", "rsassa"), ("rsa", "rsapss"), ("ecc", "ecdsa")])
@pytest.mark.parametrize("form", ["tss", "plain"])
@pytest.mark.parametrize("pcrs", ["values", "serialized"])
def test_every_form_of_the_tools_gives_the_same_evidence(
    tpm: SoftwareTpm, kind: tuple[str, str], form: str, pcrs: str
) -> None:
    """Twelve PCRs of two banks take two lists of digests."""
    key = tpm.key(*kind)
    tpm.run(
        *("tpm2_quote", "-c", key.context, "-l", "sha256:0,1,2,3,4,5,6,7,16,23+sha384:7,16", "-q", "ab", "-m", "m"),
        *("-s", "s", "-f", form, "-o", "p", "-F", pcrs, "-g", key.hash, "--scheme", key.scheme),
    )
    tpm.free()
    packed = pack(Parts(tpm.read("m"), tpm.read("s"), tpm.read("p"), key.public, key.parent))
    assert packed.quote.pcrs.values == tuple(tpm.pcrs(tpm.read("m")))
    assert parse_evidence(packed.serialize()) == packed


def test_the_hierarchy_of_a_primary_key_is_found(tpm: SoftwareTpm) -> None:
    key = tpm.primary_key(
        "ecc256:ecdsa-sha256:null", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign"
    )
    message, signature = tpm.quote(key, "sha256:7", b"")
    packed = pack(Parts(message, signature, b"".join(tpm.pcrs(message)), key.public))
    assert packed.parent.hex() == "40000001"


def test_a_key_below_another_needs_its_parents_name(tpm: SoftwareTpm) -> None:
    key = tpm.key("ecc", "ecdsa")
    message, signature = tpm.quote(key, "sha256:7", b"")
    with refused(TpmCode.SIGNER_NAME) as caught:
        pack(Parts(message, signature, b"".join(tpm.pcrs(message)), key.public))
    assert "tpm2_readpublic -c PARENT -q FILE" in str(caught.value.remedy)
    with refused(TpmCode.SIGNER_NAME):
        pack(Parts(message, signature, b"".join(tpm.pcrs(message)), key.public, b"\0\x0b" + bytes(32)))


def test_chain_and_log_travel_with_the_quote(tmp_path: Path) -> None:
    sim, opened = kit.sim(), kit.opened()
    made = parts()
    for name in ("message", "signature", "pcrs", "key"):
        (tmp_path / name).write_bytes(getattr(made, name))
    (tmp_path / "log").write_bytes(opened["log"])
    (tmp_path / "ak.der").write_bytes(sim.chain[0])
    (tmp_path / "root.pem").write_bytes(sim.root_pem)
    options = [word for name in ("message", "signature", "pcrs", "key") for word in (f"--{name}", tmp_path / name)]
    options += ["--certificate", tmp_path / "ak.der", "--certificate", tmp_path / "root.pem"]
    options += ["--event-log", tmp_path / "log", "--output", tmp_path / "evidence"]
    shown = run("pack-tpm", *options)
    assert shown.exit_code == 0, shown.output
    assert sim.ak_fingerprint.hex() in shown.stdout
    assert (tmp_path / "evidence").read_bytes() == kit.healthy()
    again = failed(run("pack-tpm", *options), ManifestCode.FILE_EXISTS)
    assert again.remedy == "choose another name, or move the file away"


def test_json_calls_what_the_quote_is_bound_to_qualifying_data(tmp_path: Path) -> None:
    (tmp_path / "ak.der").write_bytes(kit.sim().chain[0])
    (tmp_path / "root.pem").write_bytes(kit.sim().root_pem)
    shown = json.loads(_packing(tmp_path, tmp_path / "ak.der", tmp_path / "root.pem").stdout)
    assert set(shown) == {"ak", "qualifying_data", "pcrs"}
    assert len(bytes.fromhex(shown["qualifying_data"])) == 32


def _packing(folder: Path, *certificates: Path) -> Result:
    """Pack the simulated TPM's quote with these files as certificates."""
    made, names = parts(), ("message", "signature", "pcrs", "key")
    for name in names:
        (folder / name).write_bytes(getattr(made, name))
    options: list[object] = [word for name in names for word in (f"--{name}", folder / name)]
    options += [word for path in certificates for word in ("--certificate", path)]
    return run("pack-tpm", *options, "--output", folder / "evidence", "--json")


def _an_edwards_certificate() -> bytes:
    key, name = ed25519.Ed25519PrivateKey.from_private_bytes(SEED), x509.Name([])
    when = datetime.fromtimestamp(NOW, UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, when, when)
    return made.sign(key, None).public_bytes(Encoding.DER)


CERTIFICATES: dict[str, tuple[list[bytes], int, ErrorCode]] = {
    "no certificate": ([b'[policy]\nname = "p"\n'], 0, EvidenceCode.CERTIFICATE_MALFORMED),
    "PEM of something else": (
        [b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"],
        0,
        EvidenceCode.CERTIFICATE_MALFORMED,
    ),
    "a certificate of no RSA key and none on a curve": (
        [kit.sim().chain[0], _an_edwards_certificate()],
        1,
        EvidenceCode.CERTIFICATE_MALFORMED,
    ),
    "one of another key": ([SimulatedTpm(SEED[::-1], NOW).chain[0]], 0, TpmCode.KEY_CERTIFICATE),
    "the root before the key's": ([kit.sim().root_pem, kit.sim().chain[0]], 0, TpmCode.KEY_CERTIFICATE),
    "the key's alone": ([kit.sim().chain[0]], 0, EvidenceCode.CHAIN_LENGTH),
    "the root of another": (
        [kit.sim().chain[0], SimulatedTpm(SEED[::-1], NOW).root_pem],
        0,
        EvidenceCode.CHAIN_SIGNATURE,
    ),
}
"""What is packed as certificates, which of the files is at fault, and the code that says so."""


@pytest.mark.parametrize("name", CERTIFICATES)
def test_certificates_that_are_not_the_keys_are_refused_with_the_files_name(name: str, tmp_path: Path) -> None:
    contents, guilty, code = CERTIFICATES[name]
    files = [tmp_path / f"certificate-{place}" for place in range(len(contents))]
    for path, content in zip(files, contents, strict=True):
        path.write_bytes(content)
    error = failed(_packing(tmp_path, *files), code)
    assert str(files[guilty]) in error.message
    assert not (tmp_path / "evidence").exists()


def test_keylimes_quote_holds_under_its_bare_key_which_makes_no_evidence(tmp_path: Path) -> None:
    """Catalogue TPM-1: a valid signature over PCRs 15, 16 and 22, and no root of trust."""
    files = {"message": "quote.out", "signature": "quotesig.out", "pcrs": "quotepcr.out", "key": "akpub.pem"}
    options = [word for name, file in files.items() for word in (f"--{name}", KEYLIME / f"keylime-sim.{file}")]
    error = failed(run("pack-tpm", *options, "--output", tmp_path / "evidence"), PackCode.KEY_BARE)
    assert error.exit_code == 20
    assert "signature over the quote holds" in error.message
    assert "tpm2_readpublic -c KEY -f tss" in str(error.remedy)
    assert not (tmp_path / "evidence").exists()


def keylime(**changes: bytes) -> Parts:
    read = {
        name: (KEYLIME / f"keylime-sim.{file}").read_bytes()
        for name, file in (("message", "quote.out"), ("signature", "quotesig.out"), ("pcrs", "quotepcr.out"))
    }
    return Parts(**read | {"key": (KEYLIME / "keylime-sim.akpub.pem").read_bytes()} | changes)


def test_a_forged_keylime_quote_is_told_from_the_genuine_one() -> None:
    genuine = keylime()
    with refused(TpmCode.SIGNATURE):
        pack(keylime(message=genuine.message[:-1] + bytes([genuine.message[-1] ^ 1])))
    with refused(TpmCode.PCR_DIGEST):
        pack(keylime(pcrs=genuine.pcrs.replace(b"\xff" * 32, b"\xfe" * 32)))
    with refused(TpmCode.KEY_INVALID):
        pack(keylime(key=b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"))


REFUSED = {
    "the message of another quote": (
        {"message": kit.opened(kit.sim().evidence(bytes(64)))["message"]},
        TpmCode.SIGNATURE,
    ),
    "a message that is cut short": ({"message": kit.opened()["message"][:-1]}, TpmCode.TRUNCATED),
    "the key of another TPM": ({"key": SimulatedTpm(SEED[::-1], NOW).public.serialize()}, TpmCode.SIGNER_NAME),
    "a key for another scheme": (
        {"key": SimulatedTpm(SEED, NOW, Scheme.RSASSA).public.serialize(), "parent": bytes.fromhex("40000001")},
        TpmCode.SCHEME,
    ),
    "other values of PCRs": ({"pcrs": bytes(32) * len(kit.opened()["pcrs"])}, TpmCode.PCR_DIGEST),
    "one PCR too few": ({"pcrs": b"".join(kit.opened()["pcrs"][1:])}, PackCode.PCR_FILE),
    "no PCRs": ({"pcrs": b""}, PackCode.PCR_FILE),
    "a log that is none": ({"log": b"not a log"}, EventLogCode.MALFORMED),
    "a signature that is cut short": ({"signature": kit.opened()["signature"][:-1]}, TpmCode.TRUNCATED),
    "a plain signature that is no DER": ({"signature": b"\x30\x01"}, TpmCode.SIZE),
    "too many certificates": ({"chain": (b"0",) * 9}, TpmCode.EVIDENCE_MALFORMED),
}


@pytest.mark.parametrize("name", REFUSED)
def test_parts_that_are_not_of_one_quote_make_no_evidence(name: str) -> None:
    changes, code = REFUSED[name]
    with refused(code):
        pack(parts(**changes))


@given(data=st.binary(max_size=2048), size=st.sampled_from([0, 132 + 4 + 532, 132 + 4 + 2 * 532]))
def test_no_file_of_pcrs_or_signature_fails_in_another_way(data: bytes, size: int) -> None:
    attest = Attest.parse(kit.opened()["message"])
    raw = (data + bytes(max(0, size - len(data))))[: size or None]
    for read in (lambda: read_pcrs(raw, attest), lambda: read_signature(raw, kit.sim().public)):
        with contextlib.suppress(EvidenceError):
            read()


@pytest.mark.parametrize(
    "wrapped", [lambda raw: raw, lambda raw: raw.hex().encode(), lambda raw: json.dumps({"quote": raw.hex()}).encode()]
)
def test_a_bare_message_is_recognised_and_told_what_to_do(wrapped: Any) -> None:
    message = keylime().message
    assert message.hex().startswith("ff544347")
    report = examine(wrapped(message), now=NOW)
    assert (report.exit_code, report.accepted) == (20, False)
    (finding,) = report.findings
    assert finding.code is EvidenceCode.EVIDENCE_UNKNOWN
    assert "ff544347" in finding.found
    assert "strongroom attest pack-tpm" in str(finding.remedy)
    with refused(EvidenceCode.EVIDENCE_UNKNOWN) as caught:
        evidence.parse(message)
    assert "pack-tpm" in str(caught.value.remedy)


def test_a_bare_message_beside_whole_evidence_is_passed_over() -> None:
    text = json.dumps({"quote": keylime().message.hex(), "tpm_evidence": kit.healthy().hex()})
    assert examine(text.encode(), now=NOW, roots=kit.roots(), report_data=REPORT_DATA).genuine


ROOT = kit.sim().root
MIDDLE, USELESS = (
    authority(SEED, TpmProfile("Intermediate CA", CREATED, NOW + 10**8, authority=able), ROOT) for able in (True, False)
)
UNFIT: dict[str, tuple[tuple[bytes, ...], ErrorCode]] = {
    "a key's certificate that is for something else": (
        (kit.sim().certificate(purpose=None), ROOT.der),
        EvidenceCode.CHAIN_ROLE,
    ),
    "an issuer that is no authority": (
        (kit.sim().certificate(USELESS), USELESS.der, ROOT.der),
        EvidenceCode.CHAIN_ROLE,
    ),
    "an unmarked certificate below a simulated root": (
        (kit.sim().certificate(marked=False), ROOT.der),
        EvidenceCode.CHAIN_NOT_SIMULATED,
    ),
}
"""Chains whose signatures hold."""


@pytest.mark.parametrize("name", UNFIT)
def test_certificates_that_no_root_makes_good_are_not_packed(name: str) -> None:
    """What `pack` makes verifies but for trust and dates, and so what would not is refused with verification's code."""
    chain, code = UNFIT[name]
    with refused(code):
        pack(parts(chain=chain))


def test_a_longer_chain_is_packed_and_verifies() -> None:
    chain = (kit.sim().certificate(MIDDLE), MIDDLE.der, ROOT.der)
    assert kit.verify(pack(parts(chain=chain)).serialize()).root == kit.sim().root_fingerprint


@pytest.mark.parametrize(
    ("one", "other"),
    [("message", "signature"), ("message", "key"), ("signature", "key"), ("pcrs", "key"), ("message", "pcrs")],
)
def test_swapped_files_are_called_so(one: str, other: str, tpm: SoftwareTpm) -> None:
    key = tpm.key("rsa", "rsassa")
    tpm.run(
        "tpm2_quote", "-c", key.context, "-l", "sha256:7", "-q", "ab", "-m", "m", "-s", "s", "-o", "p", "-g", "sha256"
    )
    tpm.free()
    made = Parts(tpm.read("m"), tpm.read("s"), tpm.read("p"), key.public, key.parent)
    assert pack(made)
    swapped = dataclasses.replace(made, **{one: getattr(made, other), other: getattr(made, one)})
    with pytest.raises(StrongroomError) as caught:
        pack(swapped)
    assert f"--{one} has what belongs to --{other}" in str(caught.value.remedy)
    assert f"--{other} has what belongs to --{one}" in str(caught.value.remedy)


def test_a_broken_part_is_no_swapped_one() -> None:
    with pytest.raises(StrongroomError) as caught:
        pack(dataclasses.replace(parts(), message=b"x"))
    assert "swapped" not in str(caught.value.remedy)
