"""Captured TPM quotes give their catalogued verdicts.

None of them is a whole container: keylime's has a bare key, dstack's no signature, and Azure's no key.  So each is
held against the part of the verification that it can reach.
"""

from __future__ import annotations

import json
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from attestation import evidence
from attestation.azure.abi import AzureEvidence
from attestation.azure.runtime import RuntimeClaims
from attestation.errors import EvidenceCode
from attestation.roots import Hierarchy, Roots
from attestation.tpm.abi import SignedQuote
from attestation.tpm.algorithms import Hash, Scheme
from attestation.tpm.attest import Attest
from attestation.tpm.errors import TpmCode
from attestation.tpm.public import spki
from attestation.tpm.signature import PublicKey, Signature
from attestation.tpm.verify import check_quote
from tests.attestation.kit import refused
from tests.shared import vectors


def read(name: str) -> bytes:
    return (vectors() / "tpm" / name).read_bytes()


def rows() -> dict[str, dict[str, object]]:
    catalogue = json.loads((vectors() / "catalogue.json").read_text(encoding="utf-8"))
    return {row["id"]: row for row in catalogue["rows"]}


def keylime() -> tuple[bytes, Signature, list[bytes], PublicKey]:
    """Message, signature, PCR values and key.  tpm2-tools writes its PCR file as the structures lie in memory."""
    raw = read("keylime-sim.quotepcr.out")
    selections, count = struct.calcsize("<I") + 16 * 8, 4
    assert struct.unpack_from("<I", raw, selections) == (1,)
    at = selections + count
    (values,) = struct.unpack_from("<I", raw, at)
    digests = [raw[at + 4 + 66 * index :][:66] for index in range(values)]
    pcrs = [digest[2:][: struct.unpack_from("<H", digest)[0]] for digest in digests]
    key = load_pem_public_key(read("keylime-sim.akpub.pem"))
    assert isinstance(key, rsa.RSAPublicKey)
    return read("keylime-sim.quote.out"), Signature.parse(read("keylime-sim.quotesig.out")), pcrs, key


def azure_keys() -> dict[str, rsa.RSAPublicKey]:
    found = {}
    for path in sorted(vectors().glob("azure-*/*evidence*.json")):
        parsed = evidence.parse(path.read_bytes())
        assert isinstance(parsed, AzureEvidence)
        found[f"{path.parent.name}/{path.name}"] = RuntimeClaims.parse(parsed.hcl.runtime_data).ak
    return found


def test_no_catalogued_quote_is_left_out() -> None:
    assert {name for name in rows() if name.startswith("TPM-")} == {"TPM-1", "TPM-3", "TPM-4"}


def test_keylimes_quote_verifies_under_its_key_over_its_pcrs() -> None:
    message, signature, pcrs, key = keylime()
    quote = SignedQuote.parse(message, signature, pcrs)
    check_quote(quote, key)
    assert (signature.scheme, signature.hash) == (Scheme.RSASSA, Hash.SHA256)
    assert [(bank.bank, index) for bank, index, _ in quote.pcrs] == [("sha256", n) for n in (15, 16, 22)]
    assert quote.attest.extra_data.hex() == "db1db298db6d60e6385b7231743e9c3056a18003"
    assert (quote.attest.clock, quote.attest.safe) == (5994, True)
    assert quote.attest.firmware_version == 0x2016051100162800
    assert message == quote.attest.serialize()


def test_keylimes_key_has_no_root_of_trust_until_a_policy_names_it() -> None:
    *_, key = keylime()
    with refused(EvidenceCode.CHAIN_ROOT):
        Roots.vendor().anchor(Hierarchy.TPM, spki(key))


def test_keylimes_quote_is_refused_with_other_pcrs_or_another_signature() -> None:
    message, signature, pcrs, key = keylime()
    with refused(TpmCode.PCR_DIGEST):
        check_quote(SignedQuote.parse(message, signature, [bytes([1]) * 32, *pcrs[1:]]), key)
    broken = Signature(signature.scheme, signature.hash, (signature.value[0][:-1] + b"\0",))
    with refused(TpmCode.SIGNATURE):
        check_quote(SignedQuote.parse(message, broken, pcrs), key)


def test_dstacks_quote_parses_and_serialises_to_itself() -> None:
    data = read("dstack-sample.tpms_attest.bin")
    attest = Attest.parse(data)
    assert attest.serialize() == data
    assert attest.extra_data.hex() == "12345678"
    assert attest.pcr_select[0].indices == (0, 1, 2)
    assert (attest.clock, attest.reset_count, attest.restart_count) == (88986095, 16, 0)


def test_azures_lone_quote_is_refused_under_every_key_of_azures_evidence() -> None:
    message = read("azure-noak.tpm-quote.msg")
    attest = Attest.parse(message)
    assert attest.extra_data == b"challenge"
    assert attest.pcr_select[0].indices == (0, 1, 2, 3, 4, 5, 6, 7, 14)
    signature = Signature(Scheme.RSASSA, Hash.SHA256, (read("azure-noak.tpm-quote.sig"),))
    keys = azure_keys()
    assert len(keys) == 7
    for key in keys.values():
        with refused(TpmCode.SIGNATURE):
            signature.verify(key, message)


@pytest.mark.parametrize("name", ["TPM-1", "TPM-3", "TPM-4"])
def test_the_catalogued_fields_are_those_that_were_decoded(name: str) -> None:
    file = {"TPM-1": "keylime-sim.quote.out", "TPM-3": "dstack-sample.tpms_attest.bin"}
    attest = Attest.parse(read(file.get(name, "azure-noak.tpm-quote.msg")))
    text = json.dumps(rows()[name])
    for value in (attest.qualified_signer, attest.extra_data, attest.pcr_digest):
        assert value.hex() in text
