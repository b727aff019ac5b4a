"""Intel's PCS and PCCS, and AMD's KDS: what is asked for, and that what comes verifies evidence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import quote as percent

import pytest

from attestation import evidence
from attestation.amd.abi import SigningKey
from attestation.amd.tcb import Product
from attestation.appraise import appraise
from attestation.collateral import CollateralKey
from attestation.collateral import errors as codes
from attestation.collateral.documents import Document, Fetched
from attestation.collateral.errors import FetchCode
from attestation.collateral.fetcher import Fetcher
from attestation.collateral.held import fetch_into
from attestation.collateral.vendors import VendorSource
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel.collateral import IntelCollateral
from attestation.roots import Roots
from attestation.sim.tdx import SimulatedTdx
from tests.attestation import kit
from tests.attestation.kit import CREATED, NOW, SEED, refused
from tests.collateral.kit import (
    DAY,
    FMSPC,
    IDENTITY,
    KEY,
    PCK_CRL,
    ROOT_CRL,
    TCB,
    client,
    serve_amd,
    serve_intel,
    signed,
    snp,
    source,
)
from tests.collateral.service import Reply, Service

SGX_KEY = CollateralKey.parse(KEY)


class Recorder(Fetcher):
    """Remembers what is asked for, and finds nothing."""

    def __init__(self) -> None:
        super().__init__(client())
        self.urls: list[str] = []

    def fetch(self, document: Document) -> Fetched:
        self.urls.append(document.request.url)
        return Fetched(b"", 0, 0, b"", b"")


# ------------------------------------------------------------------------------------------------ Intel


def test_collateral_of_sgx_comes_from_a_pccs_as_it_was_published(service: Service) -> None:
    held = serve_intel(service)
    assert source(service).fetch(SGX_KEY) == held
    assert service.paths == [PCK_CRL, ROOT_CRL, TCB, IDENTITY]


def test_fetched_collateral_verifies_evidence(service: Service, tmp_path: Path) -> None:
    serve_intel(service)
    quote = evidence.parse(kit.sim_quote())
    collateral = evidence.collateral_for(quote, source(service, tmp_path))
    verified = evidence.verify(quote, collateral, kit.sim_roots(), NOW)
    assert verified.tcb_status == "UpToDate"


def test_collateral_of_tdx_comes_from_tdx_addresses(service: Service) -> None:
    simulated = SimulatedTdx(SEED, CREATED)
    held = serve_intel(service, simulated.collateral(NOW), "tdx")
    quote = evidence.parse(simulated.evidence(bytes(48), bytes(64)))
    collateral = evidence.collateral_for(quote, source(service))
    assert collateral == held
    assert [path for path in service.paths if path.startswith("/tdx/")] == [
        f"/tdx/certification/v4/tcb?fmspc={FMSPC.upper()}",
        "/tdx/certification/v4/qe/identity",
    ]
    assert evidence.verify(quote, collateral, Roots.simulated(simulated.root_pem), NOW).tee == "tdx"


def test_a_second_fetch_asks_for_nothing(service: Service, tmp_path: Path) -> None:
    serve_intel(service)
    fetcher = source(service, tmp_path / "cache")
    first = fetch_into(tmp_path, SGX_KEY, fetcher, kit.sim_roots()).read_bytes()
    assert fetcher.fetch(SGX_KEY).to_json().encode() == first
    assert len(service.asked) == 4


def test_a_revalidation_sends_tags_and_gets_no_bodies(service: Service, tmp_path: Path) -> None:
    serve_intel(service)
    first, _ = source(service, tmp_path).fetch_verified(SGX_KEY, lambda _: None)
    again = source(service, tmp_path, now=lambda: NOW + 1, max_age=0)
    assert again.fetch(SGX_KEY) == first
    assert all("If-None-Match" in headers for _, headers in service.asked[4:])
    assert len(service.asked) == 8


def test_a_revocation_in_the_cache_is_not_asked_away(service: Service, tmp_path: Path) -> None:
    serve_intel(service, kit.platform(revoked=("pck-ca",)).collateral(NOW))
    fetcher = source(service, tmp_path / "cache")
    fetcher.fetch_verified(SGX_KEY, lambda _: None)  # as for a platform below another authority
    serve_intel(service, kit.platform().collateral(NOW - DAY))
    with refused(EvidenceCode.CERTIFICATE_REVOKED):
        fetch_into(tmp_path, SGX_KEY, source(service, tmp_path / "cache"), kit.sim_roots())
    assert not list(tmp_path.glob("*.json"))


def forge_tcb_info(service: Service) -> None:
    """Have the service send TCB info that nobody signed, and that says to be new, and valid for very long."""
    held = kit.platform().collateral(NOW)
    said = {"issueDate": "2098-01-01T00:00:00Z", "nextUpdate": "2099-01-01T00:00:00Z"}
    body = json.dumps(json.loads(held.tcb_info) | said, separators=(",", ":")).encode()
    headers = {"TCB-Info-Issuer-Chain": percent(held.tcb_info_issuer_chain.decode())}
    service.replies[TCB] = Reply(signed("tcbInfo", body, bytes(64)), headers=headers, media="application/json")


@pytest.mark.parametrize("max_age", [None, 0])
def test_a_forged_answer_does_not_outlive_its_call(service: Service, tmp_path: Path, max_age: int | None) -> None:
    serve_intel(service)
    forge_tcb_info(service)
    cache = tmp_path / "cache"
    with pytest.raises(EvidenceError):
        fetch_into(tmp_path, SGX_KEY, source(service, cache, max_age=max_age), kit.sim_roots())
    assert not cache.exists()
    held = serve_intel(service)
    filed = fetch_into(tmp_path, SGX_KEY, source(service, cache, max_age=max_age), kit.sim_roots())
    assert filed.read_text(encoding="utf-8") == held.to_json()


@pytest.mark.parametrize("max_age", [None, 0])
def test_a_cache_that_was_poisoned_is_done_without(service: Service, tmp_path: Path, max_age: int | None) -> None:
    serve_intel(service)
    forge_tcb_info(service)
    cache = tmp_path / "cache"
    later = {"now": lambda: NOW + 73 * 365 * DAY, "max_age": max_age}
    source(service, cache).fetch_verified(SGX_KEY, lambda _: None)  # as if somebody had written to the folder
    held = serve_intel(service)
    for options in ({"max_age": max_age}, later):
        filed = fetch_into(tmp_path, SGX_KEY, source(service, cache, **options), kit.sim_roots())
        assert filed.read_text(encoding="utf-8") == held.to_json()


UNCHANGED = Reply(b"", 304, length="")


def lie(service: Service) -> None:
    """Have the service say of every document that it is unchanged, whatever ETag it is asked with."""
    service.replies |= dict.fromkeys((PCK_CRL, ROOT_CRL, TCB, IDENTITY), UNCHANGED)


def findings(collateral: IntelCollateral, now: int, **terms: int) -> list[str]:
    verified = evidence.verify(evidence.parse(kit.sim_quote()), collateral, kit.sim_roots(), now)
    return [str(each.code) for each in appraise(verified, kit.policy(evidence=terms), now).failed]


def test_an_unchanged_that_lies_gets_a_stale_document_with_its_own_dates_and_a_finding(
    service: Service, tmp_path: Path
) -> None:
    """Newer documents are there; who says that there are none holds them back, and no more."""
    held = serve_intel(service)
    verify = partial(evidence.authenticate, roots=kit.sim_roots())
    source(service, tmp_path).fetch_verified(SGX_KEY, verify)
    lie(service)
    for days in (1, 10):
        later = NOW + days * DAY
        stale, _ = source(service, tmp_path, now=lambda later=later: later, max_age=0).fetch_verified(SGX_KEY, verify)
        assert stale == held, "the document that was verified, with the dates that are signed in it"
        assert findings(stale, later, max_collateral_age=DAY // 2) == ["collateral-age"]
        assert findings(stale, later, tcb_evaluation_min=18) == ["tcb-evaluation"]
        assert findings(stale, later) == [], "a policy that asks for nothing newer"
    assert all("If-None-Match" in headers for _, headers in service.asked[4:])


def test_an_unchanged_that_lies_ends_with_the_document(service: Service, tmp_path: Path) -> None:
    serve_intel(service)
    verify = partial(evidence.authenticate, roots=kit.sim_roots())
    source(service, tmp_path).fetch_verified(SGX_KEY, verify)
    lie(service)
    ended = source(service, tmp_path, now=lambda: NOW + 400 * DAY)
    with refused(FetchCode.STATUS) as caught:
        ended.fetch_verified(SGX_KEY, verify)
    assert caught.value.found == "status 304"
    assert "If-None-Match" not in service.asked[-1][1]


@pytest.mark.parametrize("field", ["body", "headers"])
def test_an_unchanged_revives_nothing_that_somebody_wrote_into_the_cache(
    service: Service, tmp_path: Path, field: str
) -> None:
    """An older or another body under the ETag does not verify, or is as old as it is; a chain likewise."""
    held = serve_intel(service)
    verify = partial(evidence.authenticate, roots=kit.sim_roots())
    source(service, tmp_path).fetch_verified(SGX_KEY, verify)
    others = {path: json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()}
    tcb, identity = (
        next(path for path, one in others.items() if name in one["url"]) for name in ("/tcb?", "/identity")
    )
    tcb.write_text(json.dumps(others[tcb] | {field: others[identity][field]}), encoding="utf-8")
    honest = dict(service.replies)

    def unchanged(path: str) -> Callable[[Mapping[str, str]], Reply]:
        behaviour = honest[path]
        assert isinstance(behaviour, Reply | Callable)
        plain = behaviour if isinstance(behaviour, Reply) else behaviour({})
        return lambda asked: UNCHANGED if "If-None-Match" in asked else plain

    service.replies |= {path: unchanged(path) for path in (PCK_CRL, ROOT_CRL, TCB, IDENTITY)}
    fetched, _ = source(service, tmp_path, now=lambda: NOW + DAY, max_age=0).fetch_verified(SGX_KEY, verify)
    assert fetched == held


def test_a_forged_answer_leaves_what_was_kept(service: Service, tmp_path: Path) -> None:
    held = serve_intel(service)
    cache = tmp_path / "cache"
    fetch_into(tmp_path, SGX_KEY, source(service, cache), kit.sim_roots())
    before = {path.name: path.read_bytes() for path in cache.iterdir()}
    forge_tcb_info(service)
    with pytest.raises(EvidenceError):
        fetch_into(tmp_path, SGX_KEY, source(service, cache, max_age=0, now=lambda: NOW + 1), kit.sim_roots())
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == before
    assert source(service, cache).fetch(SGX_KEY) == held


def test_intels_own_service_has_the_roots_list_elsewhere() -> None:
    for options, root in (
        ({}, "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"),
        (
            {"pccs": "https://api.trustedservices.intel.com/"},
            "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
        ),
        ({"pccs": "https://pccs.example:8081"}, "https://pccs.example:8081/sgx/certification/v4/rootcacrl"),
    ):
        recorder = Recorder()
        VendorSource(recorder, **options).fetch(CollateralKey("tdx", "00806f050000", "platform"))
        base = options.get("pccs", "https://api.trustedservices.intel.com").rstrip("/")
        assert recorder.urls == [
            f"{base}/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
            root,
            f"{base}/tdx/certification/v4/tcb?fmspc=00806F050000",
            f"{base}/tdx/certification/v4/qe/identity",
        ]


def test_early_tcb_info_is_asked_for_by_name() -> None:
    recorder = Recorder()
    VendorSource(recorder, early=True).fetch(SGX_KEY)
    assert [url.rpartition("/v4/")[2] for url in recorder.urls[2:]] == [
        "tcb?fmspc=53494D000000&update=early",
        "qe/identity?update=early",
    ]


@pytest.mark.parametrize("missing", [PCK_CRL, ROOT_CRL, TCB, IDENTITY])
def test_a_platform_that_the_service_does_not_know_has_no_collateral(service: Service, missing: str) -> None:
    serve_intel(service)
    del service.replies[missing]
    with refused(EvidenceCode.COLLATERAL_MISSING):
        source(service).fetch(SGX_KEY)


@pytest.mark.parametrize("spoilt", [PCK_CRL, ROOT_CRL, TCB, IDENTITY])
def test_one_spoilt_document_spoils_all(service: Service, spoilt: str) -> None:
    serve_intel(service)
    service.replies[spoilt] = Reply(b"garbage", media="application/json")
    with refused(FetchCode.CONTENT):
        source(service).fetch(SGX_KEY)


@pytest.mark.parametrize("option", ["pccs", "kds"])
def test_an_address_without_tls_is_refused_at_once(option: str) -> None:
    with refused(FetchCode.ADDRESS):
        VendorSource(Fetcher(client()), **{option: "http://pccs.example"})


# ------------------------------------------------------------------------------------------------ AMD


@pytest.mark.usefixtures("amd_keys")
@pytest.mark.parametrize("product", list(Product))
def test_the_certificate_of_a_chip_is_asked_for_by_its_id_and_every_version(service: Service, product: Product) -> None:
    simulated = snp(product)
    names = {"fmc": "fmcSPL", "bootloader": "blSPL", "tee": "teeSPL", "snp": "snpSPL", "microcode": "ucodeSPL"}
    query = "&".join(f"{names[name]}={value}" for name, value in simulated.reported.to_dict().items())
    held = serve_amd(service, simulated, query)
    report = evidence.parse(simulated.evidence(bytes(48), bytes(64), version=3))
    collateral = evidence.collateral_for(report, source(service))
    assert collateral == held
    assert service.paths[0] == f"/vcek/v1/{product.label}/{simulated.hwid.hex()}?{query}"
    assert len(simulated.hwid) == (8 if product is Product.TURIN else 64)
    assert evidence.verify(report, collateral, Roots.simulated(simulated.root_pem), NOW).tee == "snp"


@pytest.mark.usefixtures("amd_keys")
def test_a_report_that_does_not_name_its_product_finds_its_certificate(service: Service) -> None:
    simulated = snp(Product.GENOA)
    names = {"bootloader": "blSPL", "tee": "teeSPL", "snp": "snpSPL", "microcode": "ucodeSPL"}
    query = "&".join(f"{names[name]}={value}" for name, value in simulated.reported.to_dict().items())
    held = serve_amd(service, simulated, query)
    report = evidence.parse(simulated.evidence(bytes(48), bytes(64), version=2))
    assert evidence.collateral_for(report, source(service)) == held
    assert service.paths[0].startswith("/vcek/v1/Milan/")
    assert service.paths[1].startswith("/vcek/v1/Genoa/")


@pytest.mark.usefixtures("amd_keys")
def test_the_certificate_of_a_lent_key_comes_from_its_machine(service: Service) -> None:
    simulated = snp(signing_key=SigningKey.VLEK)
    held = simulated.collateral(NOW)
    service.replies |= {"/vlek/v1/Milan/cert_chain": Reply(held.chain), "/vlek/v1/Milan/crl": Reply(held.crl)}
    with refused(FetchCode.NOT_SERVED) as caught:
        source(service).fetch(simulated.collateral_key)
    assert "--vlek" in str(caught.value.remedy)
    assert source(service, vlek=held.vek).fetch(simulated.collateral_key) == held


@pytest.mark.usefixtures("amd_keys")
def test_a_product_without_a_revocation_list_leaves_it_to_the_policy(service: Service) -> None:
    simulated = snp()
    names = ("blSPL", "teeSPL", "snpSPL", "ucodeSPL")
    query = "&".join(f"{name}={value}" for name, value in zip(names, simulated.reported.versions, strict=True))
    held = serve_amd(service, simulated, query)
    del service.replies["/vcek/v1/Milan/crl"]
    fetched = source(service).fetch(simulated.collateral_key)
    assert (fetched.crl, fetched.vek) == (b"", held.vek)
    service.replies["/vcek/v1/Milan/crl"] = Reply(status=500)
    with refused(FetchCode.STATUS):
        source(service).fetch(simulated.collateral_key)


def test_amds_own_address_is_asked() -> None:
    recorder = Recorder()
    VendorSource(recorder).fetch(CollateralKey("snp", "turin", f"vcek-{'ab' * 8}-0102030400000005"))
    assert recorder.urls == [
        f"https://kdsintf.amd.com/vcek/v1/Turin/{'ab' * 8}?fmcSPL=1&blSPL=2&teeSPL=3&snpSPL=4&ucodeSPL=5",
        "https://kdsintf.amd.com/vcek/v1/Turin/cert_chain",
        "https://kdsintf.amd.com/vcek/v1/Turin/crl",
    ]


def test_the_codes_have_remedies_in_the_docs() -> None:
    page = Path(__file__).resolve().parents[2].joinpath("docs", "collateral.md").read_text(encoding="utf-8")
    assert [str(code) for code in codes.FetchCode if f"`{code}`" not in page] == []
