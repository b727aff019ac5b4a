"""Dates that do not hold: all are told, each by its document; and what a root that is not pinned should have been."""

from __future__ import annotations

import pytest

from attestation import evidence
from attestation.appraise import appraise
from attestation.errors import EvidenceCode, FindingCode
from attestation.evidence import Roots
from attestation.intel.collateral import IntelCollateral
from attestation.nitro.verify import RENEWAL
from attestation.policy import load_policy
from attestation.report import Report, examine
from attestation.roots import _MARK, SIMULATION_EXTENSION, Hierarchy
from attestation.validity import DateError, Validity, check_dates
from tests.attestation import kit
from tests.shared import vectors

QUOTE = "sgx/v3-dcapqvl.quote.bin"
COLLATERAL = "sgx/collateral/dcapqvl-00a067110000.json"
VALID = 1752919277
MRENCLAVE = "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"
POLICY = f"""
version = 1
[evidence]
tcb_status = ["ConfigurationAndSWHardeningNeeded"]
advisories_accepted = ["*"]
[sgx]
mrenclave = ["{MRENCLAVE}"]
"""


def spans(*pairs: tuple[int, int]) -> list[Validity]:
    codes = EvidenceCode.CRL_EARLY, EvidenceCode.CRL_EXPIRED
    return [Validity(f"list {place}", *pair, *codes) for place, pair in enumerate(pairs)]


def test_dates_that_hold_raise_nothing() -> None:
    check_dates(spans((0, 10), (9, 10)), 9)
    check_dates([], 0)


def test_the_first_code_decides_before_the_furthest_date() -> None:
    first = Validity("certificate", 0, 90, EvidenceCode.CERTIFICATE_EARLY, EvidenceCode.CERTIFICATE_EXPIRED)
    with pytest.raises(DateError) as caught:
        check_dates([first, *spans((0, 10), (0, 5))], 100)
    assert caught.value.code is EvidenceCode.CERTIFICATE_EXPIRED
    assert [each.what for each in caught.value.failing] == ["certificate", "list 1", "list 0"]


@pytest.mark.parametrize(
    ("now", "failing", "nearest"),
    [
        (100, ["list 1", "list 0", "list 2"], 49),
        (75, ["list 1", "list 0"], 49),
        (60, ["list 1"], 49),
        (5, ["list 2", "list 0", "list 1"], 40),
        (30, ["list 2"], 40),
    ],
)
def test_every_date_is_told_and_the_furthest_decides(now: int, failing: list[str], nearest: int) -> None:
    with pytest.raises(DateError) as caught:
        check_dates(spans((20, 70), (10, 50), (40, 80)), now)
    assert [each.what for each in caught.value.failing] == failing
    assert (caught.value.nearest, caught.value.now) == (nearest, now)
    assert f"({failing[0]})" in str(caught.value.expected)


def real(now: int, **options: object) -> Report:
    held = IntelCollateral.from_json((vectors() / COLLATERAL).read_bytes())
    data = (vectors() / QUOTE).read_bytes()
    return examine(data, now=now, collateral=held, **options)  # type: ignore[arg-type]


def test_a_real_quote_names_all_that_has_expired_since() -> None:
    found = real(1795000000)
    assert [(str(each.code), each.expected) for each in found.refused] == [
        ("crl-expired", "before 2025-07-19T10:23:18Z (revocation list of the PCK CA)"),
        ("crl-expired", "before 2026-04-03T11:21:57Z (revocation list of the root CA)"),
        ("qe-identity-expired", "before 2025-07-19T10:01:19Z (QE identity)"),
        ("tcb-info-expired", "before 2025-07-19T10:56:12Z (TCB info)"),
    ]
    assert {"what": "TCB info", "from": "2025-06-19T10:56:11Z", "until_before": "2025-07-19T10:56:12Z"} in (
        found.to_dict()["collateral"]["documents"]
    )


def test_nothing_from_the_future_is_accepted_by_an_appraisal_of_an_earlier_time() -> None:
    """The oldest of the documents begins 55 minutes before the youngest."""
    held = IntelCollateral.from_json((vectors() / COLLATERAL).read_bytes())
    quote = evidence.parse((vectors() / QUOTE).read_bytes())
    verified = evidence.verify(quote, held, Roots.vendor(), VALID)
    policy = load_policy(POLICY.encode())
    assert verified.issued < verified.begins
    for now, failed in ((verified.begins - 1, [FindingCode.COLLATERAL_DATES]), (verified.begins, []), (VALID, [])):
        assert [each.code for each in appraise(verified, policy, now).failed] == failed
        assert real(now, policy=policy).accepted is (failed == [])


def test_an_expired_nitro_document_names_the_leaf_first_and_asks_for_a_new_document() -> None:
    found = examine((vectors() / "nitro/prod-a.cose.cbor").read_bytes(), now=1767225600)
    assert next(each.expected for each in found.refused) == "before 2025-12-25T16:15:38Z (Nitro leaf certificate)"
    assert len(found.refused) > 1
    assert {each.remedy for each in found.refused} == {RENEWAL}


# ---------------------------------------------------------------------------------------------------------- roots

SIMULATED = kit.platform().pki.root.der
HARDWARE = b"0 no certificate is looked into before it is pinned"


@pytest.mark.parametrize(
    ("roots", "hierarchy", "certificate", "words"),
    [
        (Roots.vendor(), Hierarchy.INTEL, SIMULATED, "simulation = true"),
        (Roots.vendor(), Hierarchy.INTEL, HARDWARE, "treat the evidence as forged"),
        (Roots.vendor(), Hierarchy.TPM, HARDWARE, "[tpm] ak"),
        (Roots.vendor().with_tpm([bytes(32)]), Hierarchy.TPM, HARDWARE, "[tpm] ak"),
        (Roots.simulated_fingerprints(bytes(32)), Hierarchy.AMD, HARDWARE, "without simulation"),
        (
            Roots.vendor().dangerously_replaced({Hierarchy.INTEL: [bytes(32)]}),
            Hierarchy.INTEL,
            HARDWARE,
            "leave dangerous_replacement_roots out",
        ),
    ],
    ids=["simulator", "forged", "tpm", "another tpm", "hardware in a simulation", "replaced"],
)
def test_a_root_that_is_not_pinned_says_what_to_do_by_whose_it_is(
    roots: Roots, hierarchy: Hierarchy, certificate: bytes, words: str
) -> None:
    with kit.refused(EvidenceCode.CHAIN_ROOT) as caught:
        roots.anchor(hierarchy, certificate)
    assert words in str(caught.value.remedy)
    assert caught.value.to_dict()["expected"]
    assert "[" not in caught.value.to_dict()["expected"]


def test_the_simulators_mark_is_found_in_bytes_as_it_is_in_certificates() -> None:
    assert _MARK in SIMULATED
    number = int(SIMULATION_EXTENSION.dotted_string.rpartition(".")[2])
    assert int("".join(f"{byte & 0x7F:07b}" for byte in _MARK[3:]), 2) == number
