"""The documents of the vendors, as services send them: read in their one form, or refused."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

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
from attestation.intel import pem
from attestation.sim.pki import Profile, certify
from attestation.sim.pki import revocation_list as crl_of_pki
from tests.attestation.kit import FAR, NOW, in_the_year_0, outcome, platform, refused
from tests.collateral.kit import DAY, signed

URL = "https://service.example/document"
HELD = platform().collateral(NOW)
CHAIN = {"issuers": quote(HELD.tcb_info_issuer_chain.decode())}

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


def test_certificates_are_read_from_der_and_pem_into_one_form() -> None:
    der, root = pem.decode_chain(HELD.tcb_info_issuer_chain, 2)
    assert ONE.read(der, {}).body == der
    assert ONE.read(pem.encode_chain(der), {}).body == der
    windows = HELD.tcb_info_issuer_chain.replace(b"\n", b"\r\n")
    for chain in (HELD.tcb_info_issuer_chain, windows, b"\n\n" + HELD.tcb_info_issuer_chain):
        fetched = TWO.read(chain, {})
        assert fetched.body == HELD.tcb_info_issuer_chain == pem.encode_chain(der, root)
    leaf = x509.load_der_x509_certificate(der)
    assert fetched.expires == int(leaf.not_valid_after_utc.timestamp()) + 1


def lately(sign: str) -> bytes:
    """A certificate and a list of the simulated PKI, which end in 2060."""
    pki = platform().pki
    if sign == "list":
        return crl_of_pki(pki.root, [], NOW, FAR)
    return certify(Profile("PCK Processor CA"), pki.root.key, pki.root, serial=7, start=NOW, end=FAR).der


def year_0(kind: str) -> bytes:
    key = platform().pki.root.key
    return in_the_year_0(lately(kind), lambda tbs: key.sign(tbs, ec.ECDSA(hashes.SHA256())))


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
    (ONE, year_0("certificate"), {}),
    (ONE, pem.encode_chain(year_0("certificate")), {}),
    (LIST, year_0("list"), {}),
    (TWO, pem.encode_chain(year_0("certificate"), pem.decode_chain(HELD.tcb_info_issuer_chain, 2)[1]), {}),
    (TWO, pem.encode_chain(pem.decode_chain(HELD.tcb_info_issuer_chain, 2)[0]), {}),
    (TWO, HELD.tcb_info_issuer_chain[:-40], {}),
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
