"""Every case of the conformance corpus has exactly its outcome; none is skipped, and none says what another does."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import re
from collections import defaultdict
from pathlib import Path

import pytest

from attestation.amd.errors import SnpCode, SnpFinding
from attestation.azure.errors import AzureCode, AzureFinding
from attestation.composite import SessionClaims
from attestation.ear.errors import EarCode
from attestation.errors import EvidenceCode, FindingCode, PolicyCode, SessionFinding
from attestation.eventlog.errors import EventLogCode, EventLogFinding
from attestation.intel.errors import TdxCode, TdxFinding
from attestation.intel.levels import TcbStatus
from attestation.nitro.errors import NitroCode, NitroFinding
from attestation.nvidia.errors import NvidiaCode, NvidiaFinding
from attestation.policy import load_policy
from attestation.ratls.errors import RatlsCode
from attestation.report import Report, examine
from attestation.tpm.errors import TpmCode, TpmFinding
from attestation.types import EvidenceRecord
from attestation.validity import NO_END, DateError
from manifests.errors import ErrorCode
from tests.vectors.attestation import vector as files
from tests.vectors.attestation.generate import INDEX, index_of
from tests.vectors.attestation.runner import declared, run
from tests.vectors.attestation.stages import roots_of, source_of
from tests.vectors.attestation.vector import CASES, OUTCOMES, PHASES, SHARED, Vector

PATHS = sorted(CASES.rglob("*.txt"))
NAMES = [str(path.relative_to(CASES)) for path in PATHS]
SHARE = 8
"""Into how many tests the corpus is cut, so that processes can share it."""


@functools.lru_cache(maxsize=1)
def corpus() -> tuple[Vector, ...]:
    return tuple(files.read_all())


def test_the_corpus_is_there_and_whole() -> None:
    """Every file counts: read_all fails for one that is no case, and the index names each."""
    vectors = list(corpus())
    assert len(vectors) >= 200
    assert len(vectors) == len(PATHS) == sum(path.is_file() for path in CASES.rglob("*"))
    assert INDEX.read_text(encoding="utf-8") == index_of(vectors)
    assert {vector.folder for vector in vectors} == {path.name for path in CASES.iterdir()}


@pytest.mark.parametrize("part", range(SHARE))
def test_every_case_has_exactly_its_outcome(part: int) -> None:
    wrong = [
        f"{path}: {outcome} instead of {declared(vector)}"
        for path, vector in zip(NAMES, corpus(), strict=True)
        if hash_of(path) == part and (outcome := run(vector)) != declared(vector)
    ]
    assert wrong == []


def hash_of(name: str) -> int:
    return sum(name.encode()) % SHARE


QUICK = ("tdx", "nitro", "tpm", "nvidia", "ratls", "tokens", "event_logs")
"""Modules that make their cases anew in a second; the others sign in the same ways, with RSA of 4096 bits, too."""


@pytest.mark.parametrize("module", QUICK)
def test_the_generator_writes_the_same_bytes_each_time(module: str) -> None:
    held = {vector.name: vector for vector in corpus()}
    made = list(importlib.import_module(f"tests.vectors.attestation.{module}").cases())
    assert made
    for vector in made:
        there = held[vector.name]
        assert dataclasses.replace(vector, shares_evidence=there.shares_evidence) == there, vector.name


def test_no_case_is_left_out_of_the_parts() -> None:
    assert {hash_of(name) for name in NAMES} == set(range(SHARE))


def test_cases_speak_the_fixed_vocabulary() -> None:
    for vector in corpus():
        assert vector.expect in OUTCOMES
        assert vector.phase is None if vector.expect == "accepted" else vector.phase in PHASES
        assert (vector.codes == ()) is (vector.expect == "accepted")
        assert vector.phase == "appraise" or len(vector.codes) <= 1
        assert re.fullmatch(r"[^\n]+[.:][^\n]*", vector.comment), vector.name
        assert re.fullmatch(r"[A-Za-z0-9 -]+", vector.edge), vector.name


def test_no_case_is_the_clone_of_another() -> None:
    vectors = corpus()
    assert len({vector.identity for vector in vectors}) == len(vectors)
    assert len({(vector.folder, vector.codes, vector.edge) for vector in vectors}) == len(vectors)
    assert len({(vector.folder, vector.edge.lower()) for vector in vectors}) == len(vectors)


LARGEST = 10 * 1024 * 1024
"""Every clone carries every case: 7 MiB for evidence of each TEE, 2 for sessions, tokens, event logs and files of
collateral, which are kinds of their own, and 1 for each document's dates: its four edges share their evidence."""


def test_every_shared_file_is_used_and_the_corpus_stays_small() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in PATHS)
    assert [path.name for path in SHARED.iterdir() if f"shared/{path.name}" not in text] == []
    assert sum(path.stat().st_size for path in (*PATHS, *SHARED.iterdir())) < LARGEST


UNREACHED: dict[ErrorCode, str] = {
    EvidenceCode.VERIFIER_DEFECT: "of a defect of this verifier, and none is known",
    EvidenceCode.APPRAISAL_REFUSED: "the error that carries findings; cases name the findings",
    EvidenceCode.SIMULATOR_STATE: "of the simulator",
    EvidenceCode.SIMULATOR_LAUNCH: "of the simulator",
    EvidenceCode.SIMULATOR_CONFINEMENT: "of the simulator",
    EventLogFinding.REPLAY: "of a log that is given beside evidence; no case gives one",
    EventLogFinding.REGISTERS: "of a log that is given beside evidence; no case gives one",
}
"""Codes that no case can reach, since they are no verdict on evidence; each is reached by a test of its own part."""

TABLES: tuple[type[ErrorCode], ...] = (
    EvidenceCode,
    FindingCode,
    PolicyCode,
    TdxCode,
    TdxFinding,
    SnpCode,
    SnpFinding,
    NitroCode,
    NitroFinding,
    TpmCode,
    TpmFinding,
    EventLogCode,
    EventLogFinding,
    NvidiaCode,
    NvidiaFinding,
    AzureCode,
    AzureFinding,
    RatlsCode,
    SessionFinding,
    EarCode,
)


def test_every_code_is_reached_but_those_that_are_no_verdict() -> None:
    reached = {code for vector in corpus() for code in vector.codes}
    missing = {code for table in TABLES for code in table if str(code) not in reached}
    assert missing == set(UNREACHED)


def test_every_status_of_the_vendors_is_reached() -> None:
    """Revoked is no status that passes verification: `tcb-revoked` says it."""
    reached = {vector.tcb_status for vector in corpus() if vector.tee in {"sgx", "tdx"}} - {None}
    assert reached == {str(status) for status in TcbStatus} - {"Revoked"}
    assert {vector.tcb_status for vector in corpus() if vector.tee == "snp"} >= {"UpToDate", "OutOfDate"}


UNWRAPPED = {
    "trailing-zeros": "a report cuts off what a driver's buffer adds",
    "larger-than-any-quote": "a report cuts off what a driver's buffer adds",
    "repeated-name": "a report unwraps JSON, and refuses it first",
    "device-in-the-place-of-an-enclave-beside-devices": "a report cannot tell which of two stands in whose place",
}
"""Cases of bytes which `examine`, that takes evidence as tools hand it out, sees otherwise."""


def reported(vector: Vector) -> bool:
    """Whether `examine` takes what the case gives: evidence or a session, told by its bytes, and all at one time."""
    if vector.kind not in {"evidence", "session"} or vector.phase in {"policy", "issue"}:
        return False
    if vector.kind == "session" and vector.phase == "parse":
        return False  # a record is opened before it is examined
    if vector.phase == "collateral" and vector.store is None:
        return False  # a file of collateral is decoded before it is given
    return vector.prepared is None and vector.details.keys().isdisjoint({"as", "appraised"})


@pytest.mark.parametrize("part", range(SHARE))
def test_a_report_says_the_same(part: int) -> None:
    """`examine` takes all stages in one call; where it differs by design, the case is named."""
    wrong = []
    for name, vector in zip(NAMES, corpus(), strict=True):
        edge = Path(name).stem
        if hash_of(name) != part or not reported(vector) or edge in UNWRAPPED:
            continue
        found = examined(vector)
        expected = (vector.expect == "accepted", None if vector.phase == "appraise" else next(iter(vector.codes), None))
        refusals = {str(finding.code) for finding in found.refused}
        if vector.kind == "session" and vector.phase == "verify" and found.genuine:
            expected = (False, None)  # what is wrong with devices is a finding beside those of the processor
            assert set(vector.codes) <= refusals, name
        differ = vector.phase == "appraise" and refusals != set(vector.codes)
        if differ or (found.accepted, code_of(found)) != expected:
            wrong.append(f"{name}: {found.accepted}, {found.error}, {refusals}")
    assert wrong == []


EDGES = ("not valid yet", "first second", "last second", "just expired")
"""Of the span in which a document counts: the seconds around its beginning, and those around its end."""
DATED = {"certificate-early", "certificate-expired", "crl-early", "crl-expired", "tcb-info-early", "tcb-info-expired"}
DATED |= {"qe-identity-early", "qe-identity-expired", "nitro-early"}
MADE = "attestation document"
"""Of Nitro: it is made while its leaf is valid, so that before the leaf's first second both are from the future."""
AUTHORITIES = {"root CA certificate", "ARK certificate"}
"""Roots, which no list of their own can revoke: whoever trusts them has to take them out."""


@functools.lru_cache(maxsize=1)
def dated(folder: str) -> tuple[Report, ...]:
    """What is found for the cases of a TEE that verify, or that a date or a revocation ends."""
    decided = DATED | {"certificate-revoked"}
    return tuple(
        examined(vector)
        for vector in corpus()
        if (vector.kind, vector.folder) == ("evidence", folder)
        and reported(vector)
        and (vector.expect == "accepted" or decided & set(vector.codes))
    )


def wrapped(report: Report) -> str:
    """What the evidence is of, and what a certificate around it wraps, whose documents may be another TEE's."""
    inner = sorted({each.quote.tee for each in getattr(report.evidence, "bound", ())})
    return " around ".join([report.evidence.tee, *inner])


def edges_of(report: Report) -> set[tuple[str, str]]:
    """The edges that a case stands on: each of one document alone, for a case about several shows nothing of each."""
    now, found = report.now, set()
    if report.genuine:
        spans = report.verified.validities
        moments = {"first second": lambda each: each.start, "last second": lambda each: each.end - 1}
    else:
        spans = report.error.failing if isinstance(report.error, DateError) else ()
        moments = {"not valid yet": lambda each: each.start - 1, "just expired": lambda each: each.end}
    for edge, moment in moments.items():
        there = {each.what for each in spans if moment(each) == now}
        apart = (there - {MADE}) or there
        if len(apart) == 1 and (report.genuine or {each.what for each in spans} <= apart | {MADE}):
            found.add((*apart, edge))
    return found


def revoked(report: Report) -> set[str]:
    """The certificate that a case says is revoked."""
    return set(re.findall(r"the (.+ certificate) was revoked", "" if report.error is None else report.error.message))


FOLDERS = sorted({path.parent.name for path in PATHS} - {"session", "token", "eventlog"})


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_document_has_all_four_edges_and_every_listed_certificate_a_revocation(folder: str) -> None:
    """What is dated is asked of verification itself, so that a new document without its edges fails here."""
    wanted: dict[str, set[tuple[str, str]]] = defaultdict(set)
    shown, gone = defaultdict(set), defaultdict(set)
    for report in dated(folder):
        kind = wrapped(report)
        shown[kind] |= edges_of(report)
        gone[kind] |= revoked(report)
        for each in () if report.verified is None else report.verified.validities:
            wanted[kind] |= {(each.what, edge) for edge in (EDGES[:2] if each.end >= NO_END else EDGES)}
    assert wanted
    for kind, edges in wanted.items():
        assert sorted(edges - shown[kind]) == [], kind
        documents = {what for what, _ in edges}
        if any("revocation list" in what for what in documents):
            listed = {what for what in documents if what.endswith("certificate")} - AUTHORITIES
            assert gone[kind] == listed, kind


UNTOLD = re.compile(r"[\[({]'|\([0-9]+,|<[a-z_.]+ |b'")
"""Python's own words for a value, where a text for people should stand."""


@pytest.mark.parametrize("part", range(SHARE))
def test_every_refusal_says_what_it_expected_and_what_it_found(part: int) -> None:
    """Both are there, differ, are no sentence of what is wrong, and are in no programming language's words."""
    wrong = []
    for name, vector in zip(NAMES, corpus(), strict=True):
        if hash_of(name) != part or vector.phase is None or not reported(vector):
            continue
        wrong += [
            f"{name}: {each.code}: {each.expected!r}, {each.found!r}, {each.remedy!r}"
            for each in examined(vector).refused
            if each.expected in {each.found, each.code.meaning}
            or not (each.expected and each.found and each.remedy)
            or UNTOLD.search(each.expected + each.found)
        ]
    assert wrong == []


def examined(vector: Vector) -> Report:
    data, session = vector.evidence, None
    if vector.kind == "session":
        record = EvidenceRecord.decode(vector.evidence)
        session = SessionClaims.of(record, bytes.fromhex(vector.details["handshake"]))
        beside = {} if vector.devices is None else {"evidence": vector.devices.hex()}
        data = json.dumps({"quote": record.quote.hex(), **beside}).encode()
    with source_of(vector) as source:
        return examine(
            data,
            now=vector.now,
            collateral=None if vector.collateral is None and vector.store is None else source,
            policy=load_policy(vector.policy.encode()),
            report_data=vector.report_data,
            roots=roots_of(vector.roots),
            session=session,
        )


def code_of(report: Report) -> str | None:
    return None if report.error is None else str(report.error.code)


def first_column(heading: str) -> tuple[str, ...]:
    """The names in the first columns of tables, from the last line that begins like this up to the next section."""
    section = (files.FOLDER / "README.md").read_text(encoding="utf-8").split(f"\n{heading}")[-1].split("\n## ")[0]
    return tuple(re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE))


def test_the_readme_names_every_key_phase_and_root_in_order() -> None:
    assert first_column("## A case") == files.KEYS
    assert first_column("| `phase` |") == PHASES
    assert first_column("| `expect` |") == (*OUTCOMES, "phase", *PHASES)
    readme = (files.FOLDER / "README.md").read_text(encoding="utf-8")
    assert [kind for kind in files.ROOT_KINDS if f"`{kind}" not in readme] == []
    used = {kind for vector in corpus() for kind, _ in vector.roots}
    assert used == set(files.ROOT_KINDS)


def test_every_key_and_phase_is_used_by_a_case() -> None:
    text = [path.read_text(encoding="utf-8").partition("\n\n")[0] for path in PATHS]
    used = {line.partition(": ")[0] for head in text for line in head.split("\n")}
    assert used == set(files.KEYS)
    assert {vector.phase for vector in corpus()} == {None, *PHASES}
    assert {vector.kind for vector in corpus()} == set(files.SCALARS)


def is_refused(place: Path, text: str) -> None:
    place.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"."):
        files.read(place)


def test_a_file_that_is_no_case_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = PATHS[0].read_text(encoding="utf-8")
    monkeypatch.setattr(files, "CASES", tmp_path)
    place = tmp_path / PATHS[0].relative_to(CASES)
    place.parent.mkdir()
    place.write_text(good, encoding="utf-8")
    assert files.read(place) == corpus()[0]
    for bad in (
        good.replace("vector: 1", "vector: 2"),
        good.replace("expect:", "expects:"),
        good.replace("tee:", "tee: x\ntee:"),
        good.replace("edge: ", "edge: another "),
        good.replace("comment: ", "comment:  "),
        good.replace("evidence: ", "evidence: !"),
        good.replace("\n\n", "\n", 1),
        "",
    ):
        is_refused(place, bad)


FOREIGN = [
    ("sgx/token.txt", "signer:", "bank: sha256\nsigner:"),
    ("sgx/token.txt", "tee: sgx", "kind: other\ntee: sgx"),
    ("sgx/token.txt", "now: ", "later: "),
    ("session/healthy.txt", "roots:", "prepared: vendor\nroots:"),
    ("session/healthy.txt", "now:", "wrapped: yes\nnow:"),
    ("session/healthy.txt", "kind: session\n", ""),
    ("token/affirming.txt", "keys:", "roots: vendor\nkeys:"),
    ("token/affirming.txt", "\n\n", "\n\nversion = 1\n"),
    ("eventlog/bank-sha256.txt", "bank:", "now: 2025-10-09T08:53:20Z\nbank:"),
    ("eventlog/bank-sha256.txt", "evidence:", "token: e30\nevidence:"),
    ("eventlog/log-too-large.txt", "filled: 1048577", "filled: 1"),
    ("sgx/collateral-in-a-folder.txt", "store: ", "store: empty, "),
]
"""Keys that a case of its kind has no use for, or lacks, and values with more than one form."""


@pytest.mark.parametrize(("name", "old", "new"), FOREIGN)
def test_a_case_has_the_keys_of_its_kind_alone(
    name: str, old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = (CASES / name).read_text(encoding="utf-8")
    monkeypatch.setattr(files, "CASES", tmp_path)
    place = tmp_path / name
    place.parent.mkdir()
    place.write_text(good, encoding="utf-8")
    assert files.read(place).name == name.removesuffix(".txt")
    assert good.count(old) == 1
    is_refused(place, good.replace(old, new))
