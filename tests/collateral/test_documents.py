"""The documents of the vendors, as services send them: read in their one form, or refused."""

from __future__ import annotations

import warnings
from binascii import b2a_base64
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from attestation.amd.signatures import split_signed
from attestation.collateral.answers import check_address
from attestation.collateral.documents import (
    Document,
    Fetched,
    certificate,
    certificate_chain,
    revocation_list,
    signed_json,
)
from attestation.collateral.errors import FetchCode
from attestation.errors import EvidenceCode
from attestation.intel import pem
from attestation.sim.pki import revocation_list as crl_of_pki
from attestation.strict_x509 import parse_certificate
from tests.amd import kit as amd
from tests.attestation.kit import NOW, outcome, platform, refused
from tests.attestation.year0 import FAR, in_the_year_0
from tests.collateral.kit import DAY, signed
from tests.shared import vectors
from tests.vectors.attestation import snp

URL = "https://service.example/document"
HELD = platform().collateral(NOW)
CHAIN = {"issuers": quote(HELD.tcb_info_issuer_chain.decode())}
AMD = snp.MILAN.collateral(NOW)
ASK, ARK = pem.decode_chain(AMD.chain, 2)

LIST = revocation_list(URL)
LISTED = revocation_list(URL, "Issuers")
ONE = certificate(URL)
TWO = certificate_chain(URL)
JSON = signed_json(URL, "tcbInfo", "Issuers")
ALL = [LIST, LISTED, ONE, TWO, JSON]


def crl_pem() -> bytes:
    return x509.load_der_x509_crl(HELD.pck_crl).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    "body",
    [
        HELD.pck_crl,
        HELD.pck_crl.hex().encode(),
        HELD.pck_crl.hex().upper().encode() + b"\n",
        crl_pem(),
        b"\n" + crl_pem(),
    ],
    ids=["der", "hex", "upper hex", "pem", "pem with a line"],
)
def test_a_revocation_list_is_read_in_every_form_that_services_send(body: bytes) -> None:
    fetched = LIST.read(body, {})
    assert fetched.body == HELD.pck_crl
    assert (fetched.issued, fetched.expires) == (NOW - 3600, NOW - 3600 + 30 * DAY)


def test_signed_json_is_kept_bit_for_bit_with_its_signature_and_issuers() -> None:
    fetched = JSON.read(signed("tcbInfo", HELD.tcb_info, HELD.tcb_info_signature), CHAIN)
    assert fetched.body == HELD.tcb_info
    assert fetched.signature == HELD.tcb_info_signature
    assert fetched.chain == HELD.tcb_info_issuer_chain
    assert fetched.expires == NOW - 3600 + 30 * DAY + 1
    spaced = b' {\n "tcbInfo" : %s , "signature" : "%s" }\n' % (HELD.tcb_info, HELD.tcb_info_signature.hex().encode())
    assert JSON.read(spaced, CHAIN) == fetched


def span(der: bytes) -> tuple[int, int]:
    """Return when a certificate is valid, by the reader that verification has."""
    tbs, algorithm, _ = split_signed(der, EvidenceCode.CERTIFICATE_MALFORMED)
    fields = parse_certificate(tbs, algorithm)
    return fields.start, fields.end + 1


def test_certificates_are_read_from_der_and_pem_into_one_form() -> None:
    for form in (AMD.vek, pem.encode_chain(AMD.vek), b"\n" + pem.encode_chain(AMD.vek).strip()):
        fetched = ONE.read(form, {})
        assert fetched.body == AMD.vek
        assert (fetched.issued, fetched.expires) == span(AMD.vek)
    windows = AMD.chain.replace(b"\n", b"\r\n")
    wide = b"".join(
        b"-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n" % b2a_base64(der) for der in (ASK, ARK)
    )
    for chain in (AMD.chain, windows, wide, b"\n\n" + AMD.chain):
        fetched = TWO.read(chain, {})
        assert fetched.body == AMD.chain == pem.encode_chain(ASK, ARK)
        assert fetched.issued == max(span(ASK)[0], span(ARK)[0])
        assert fetched.expires == min(span(ASK)[1], span(ARK)[1])


SNP = "snp/certs"
REAL_KEYS = (
    *("v2-milan-coco.vcek.der", "v2-milan-gosev.vcek.der", "v2-milan-sevcrate.vcek.der", "v3-genoa-msft.vcek.pem"),
    *("v3-milan-dstack.vcek.pem", "v3-milan-msft.vcek-2025-12.pem", "v3-milan-msft.vcek.pem"),
    *("v3-milan-vlek-coco.vlek.der", "v5-genoa-attrs.vcek.der", "v5-turin-msft.vcek.pem"),
)


def test_no_captured_certificate_of_a_key_is_left_out() -> None:
    assert {path.name for path in (vectors() / SNP).iterdir() if "ask_ark" not in path.name} == set(REAL_KEYS)


@pytest.mark.parametrize("name", REAL_KEYS)
def test_real_certificates_with_the_serial_number_0_are_read_without_a_warning(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fetched = ONE.read((vectors() / SNP / name).read_bytes(), {})
    tbs, algorithm, _ = split_signed(fetched.body, EvidenceCode.CERTIFICATE_MALFORMED)
    assert parse_certificate(tbs, algorithm).serial == 0
    assert (fetched.issued, fetched.expires) == span(fetched.body)


@pytest.mark.parametrize("product", ["milan", "genoa", "turin"])
def test_real_chains_are_read_without_a_warning(product: str) -> None:
    ask, ark, asvk = amd.certificates(f"certs/{product}_ask_ark_asvk.pem")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for chain in (pem.encode_chain(ask, ark), pem.encode_chain(asvk, ark)):
            assert TWO.read(chain, {}).body == chain
        with refused(FetchCode.CONTENT):
            TWO.read((vectors() / SNP / f"{product}_ask_ark_asvk.pem").read_bytes(), {})


def list_of_the_year_0() -> bytes:
    root = platform().pki.root
    late = crl_of_pki(root, [], NOW, FAR)
    return in_the_year_0(late, lambda tbs: root.key.sign(tbs, ec.ECDSA(hashes.SHA256())))


def of_the_year(year: bytes, der: bytes) -> bytes:
    """A certificate of AMD's authorities with another year in the GeneralizedTime that it ends at; signed no more."""
    assert der.count(b"\x18\x0f2050") == 1
    return der.replace(b"\x18\x0f2050", b"\x18\x0f" + year)


def test_what_is_read_of_a_certificate_is_its_dates_alone() -> None:
    """The signature is for verification: a year that a calendar has is read, from the same bytes but for the year."""
    for authority in (ASK, ARK):
        assert ONE.read(of_the_year(b"2051", authority), {}).expires - ONE.read(authority, {}).expires == 365 * DAY


BROKEN: list[tuple[Document, bytes, dict[str, str]]] = [
    (LIST, b"", {}),
    (LIST, b"garbage", {}),
    (LIST, HELD.pck_crl[:-1], {}),
    (LIST, HELD.pck_crl.hex()[:-2].encode(), {}),
    (LIST, HELD.tcb_info_issuer_chain, {}),
    (LISTED, HELD.pck_crl, {}),
    (LISTED, HELD.pck_crl, {"issuers": "%00"}),
    (LISTED, HELD.pck_crl, {"issuers": CHAIN["issuers"] * 2}),
    (ONE, b"", {}),
    (ONE, HELD.tcb_info_issuer_chain, {}),
    (ONE, HELD.pck_crl, {}),
    (ONE, of_the_year(b"0000", ARK), {}),
    (ONE, pem.encode_chain(of_the_year(b"0000", ARK)), {}),
    (LIST, list_of_the_year_0(), {}),
    (TWO, pem.encode_chain(ASK, of_the_year(b"0000", ARK)), {}),
    (TWO, pem.encode_chain(of_the_year(b"0000", ASK), ARK), {}),
    (TWO, pem.encode_chain(pem.decode_chain(HELD.tcb_info_issuer_chain, 2)[0]), {}),
    (TWO, HELD.tcb_info_issuer_chain[:-40], {}),
    (ONE, pem.decode_chain(HELD.tcb_info_issuer_chain, 2)[0], {}),  # a certificate, but none of AMD's
    (ONE, AMD.vek[:-1], {}),
    (ONE, AMD.vek + b"\0", {}),
    (ONE, AMD.vek[:4] + AMD.vek, {}),
    (TWO, pem.encode_chain(AMD.vek), {}),
    (TWO, AMD.vek, {}),
    (TWO, HELD.tcb_info_issuer_chain, {}),
    (TWO, AMD.chain[:-40], {}),
    (TWO, AMD.chain.replace(b"\n-----END", b"!\n-----END"), {}),
    (TWO, AMD.chain.replace(b"\n-----END", b"=\n-----END"), {}),
    (TWO, AMD.chain + b"-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n", {}),
    (JSON, b"", CHAIN),
    (JSON, b"{}", CHAIN),
    (JSON, signed("enclaveIdentity", HELD.qe_identity, HELD.qe_identity_signature), CHAIN),
    (JSON, signed("tcbInfo", HELD.tcb_info, HELD.tcb_info_signature[:-1]), CHAIN),
    (JSON, signed("tcbInfo", HELD.tcb_info, HELD.tcb_info_signature)[:-1], CHAIN),
    (JSON, signed("tcbInfo", HELD.tcb_info, HELD.tcb_info_signature) + b"{}", CHAIN),
    (JSON, signed("tcbInfo", HELD.tcb_info, HELD.tcb_info_signature), {}),
    (JSON, signed("tcbInfo", b"{}", bytes(64)), CHAIN),
    (JSON, signed("tcbInfo", b"[]", bytes(64)), CHAIN),
    (JSON, signed("tcbInfo", b'{"issueDate":"x","nextUpdate":"y"}', bytes(64)), CHAIN),
    (JSON, signed("tcbInfo", b"[" * 5000, bytes(64)), CHAIN),
    (JSON, b'{"tcbInfo":"\xff"}', CHAIN),
]


@pytest.mark.parametrize(("document", "body", "headers"), BROKEN, ids=range(len(BROKEN)))
def test_what_is_no_such_document_is_refused(document: Document, body: bytes, headers: dict[str, str]) -> None:
    with refused(FetchCode.CONTENT) as caught:
        document.read(body, headers)
    assert URL in caught.value.message
    assert caught.value.remedy is not None


@given(st.binary(max_size=200) | st.text(max_size=50).map(str.encode), st.text(max_size=50))
def test_any_bytes_are_a_document_or_refused(body: bytes, header: str) -> None:
    for document in ALL:
        verdict: Any = outcome(lambda chosen=document: chosen.read(body, {"issuers": header}))
        assert verdict is FetchCode.CONTENT or isinstance(verdict, Fetched)


def test_every_document_has_an_address_and_a_bound() -> None:
    for document in ALL:
        check_address(document.request.url)
        assert 0 < document.request.limit <= 8 * 1024 * 1024
