"""Every case of the conformance corpus has exactly its outcome; none is skipped, and none says what another does."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

from attestation.amd.errors import SnpCode, SnpFinding
from attestation.azure.errors import AzureCode, AzureFinding
from attestation.collateral.kinds import decode
from attestation.errors import EvidenceCode, FindingCode, PolicyCode
from attestation.eventlog.errors import EventLogCode
from attestation.intel.errors import TdxCode, TdxFinding
from attestation.intel.levels import TcbStatus
from attestation.nitro.errors import NitroCode, NitroFinding
from attestation.nvidia.errors import NvidiaCode, NvidiaFinding
from attestation.policy import load_policy
from attestation.ratls.errors import RatlsCode
from attestation.report import Report, examine
from attestation.tpm.errors import TpmCode, TpmFinding
from manifests.errors import ErrorCode
from tests.vectors.attestation import vector as files
from tests.vectors.attestation.generate import INDEX, index_of
from tests.vectors.attestation.runner import declared, roots_of, run
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
    assert {vector.tee for vector in vectors} == {path.name for path in CASES.iterdir()}


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
    assert len({(vector.tee, vector.codes, vector.edge) for vector in vectors}) == len(vectors)
    assert len({(vector.tee, vector.edge.lower()) for vector in vectors}) == len(vectors)


def test_every_shared_file_is_used_and_the_corpus_stays_small() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in PATHS)
    assert [path.name for path in SHARED.iterdir() if f"shared/{path.name}" not in text] == []
    assert sum(path.stat().st_size for path in (*PATHS, *SHARED.iterdir())) < 7 * 1024 * 1024


UNREACHED: dict[ErrorCode, str] = {
    EvidenceCode.EVIDENCE_DEVICE: "said of a session's evidence, where a device's stands in an enclave's place",
    EvidenceCode.QUOTE_VERSION: "quotes are told from other evidence by their version",
    EvidenceCode.DER_MALFORMED: "each reader names a code of its own",
    EvidenceCode.COLLATERAL_KEY: "asked only where collateral is looked up, and a case carries its own",
    EvidenceCode.COLLATERAL_MALFORMED: "of collateral's file, whose shape is this project's own",
    EvidenceCode.COLLATERAL_ROOTS: "of collateral that a program has verified before, under other roots",
    EvidenceCode.APPRAISAL_REFUSED: "the error that carries findings; cases name the findings",
    EvidenceCode.SIMULATOR_STATE: "of the simulator",
    EvidenceCode.SIMULATOR_LAUNCH: "of the simulator",
    EvidenceCode.SIMULATOR_CONFINEMENT: "of the simulator",
    FindingCode.COLLATERAL_DATES: "needs an appraisal later than its verification, and a case has one time",
    AzureCode.VCEK: "of collateral that a program has verified before",
    EventLogCode.BANK: "of replaying a log by itself: a quote's bank that the log lacks is left unexplained",
    EventLogCode.TOO_LARGE: "of a log by itself: the container of TPM evidence refuses it first",
    NvidiaCode.ROOTS_MIXED: "needs a simulated and a vendor's root in one verification, which no case mixes",
    NitroCode.ALGORITHM: "documents are told from other evidence by their algorithm",
    RatlsCode.NO_EVIDENCE: "certificates are told from other evidence by what they carry",
}
"""Codes of evidence that no case can reach, and why; each is reached by a test of its own part."""

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
    NvidiaCode,
    NvidiaFinding,
    AzureCode,
    AzureFinding,
    RatlsCode,
)


def test_every_code_is_reached_but_those_that_no_case_can() -> None:
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
}
"""Cases of raw bytes which `examine`, that takes evidence as tools hand it out, sees otherwise."""


@pytest.mark.parametrize("part", range(SHARE))
def test_a_report_says_the_same(part: int) -> None:
    """`examine` takes all stages in one call; where it differs by design, the case is named."""
    wrong = []
    for name, vector in zip(NAMES, corpus(), strict=True):
        edge = Path(name).stem
        if hash_of(name) != part or vector.phase == "policy" or edge in UNWRAPPED:
            continue
        found = examined(vector)
        expected = (vector.expect == "accepted", None if vector.phase == "appraise" else next(iter(vector.codes), None))
        refusals = {str(finding.code) for finding in found.refused} if vector.phase == "appraise" else None
        if refusals not in (None, set(vector.codes)) or (found.accepted, code_of(found)) != expected:
            wrong.append(f"{name}: {found.accepted}, {found.error}, {refusals}")
    assert wrong == []


UNTOLD = re.compile(r"[\[({]'|\([0-9]+,|<[a-z_.]+ |b'")
"""Python's own words for a value, where a text for people should stand."""


@pytest.mark.parametrize("part", range(SHARE))
def test_every_refusal_says_what_it_expected_and_what_it_found(part: int) -> None:
    """Both are there, differ, are no sentence of what is wrong, and are in no programming language's words."""
    wrong = []
    for name, vector in zip(NAMES, corpus(), strict=True):
        if hash_of(name) != part or vector.phase in {None, "policy"}:
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
    return examine(
        vector.evidence,
        now=vector.now,
        collateral=None if vector.collateral is None else decode(vector.collateral.encode()),
        policy=load_policy(vector.policy.encode()),
        report_data=vector.report_data,
        roots=roots_of(vector),
    )


def code_of(report: Report) -> str | None:
    return None if report.error is None else str(report.error.code)


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
        place.write_text(bad, encoding="utf-8")
        with pytest.raises(ValueError, match=r"."):
            files.read(place)
