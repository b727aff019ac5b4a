"""Azure's evidence: JSON to fields, in the three versions that are in use.

Source: Confidential Containers, guest components and Trustee, attesters and verifiers `az-snp-vtpm` and `az-tdx-vtpm`.

    version 0   {"quote" or "tpm_quote": {"message", "signature", "pcrs"}, "report" or "hcl_report",
                 "vcek" (PEM) or "td_quote"}, byte strings as lists of numbers
    version 1   {"version": 1, "tpm_quote", "hcl_report", "vcek" (DER) or "td_quote"}; the quote's byte strings are hex,
                 all others base64url
    version 2   as 1; the paravisor's user data, too, is what the quote is bound to

Any of them may stand in {"platform": "az-snp" or "az-tdx", "evidence": ...}.  The TPM's signature is the bare one of
RSASSA with SHA-256, and the quote is over the 24 PCRs of the SHA-256 bank.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from attestation import strict_json
from attestation.amd.abi import Report, parse_report
from attestation.azure.errors import AzureCode
from attestation.azure.hcl import MAX_REPORT, HclReport, ReportType
from attestation.azure.runtime import decode_base64url
from attestation.errors import EvidenceError
from attestation.intel import pem
from attestation.intel.abi import strip_padding
from attestation.intel.td_abi import TdQuote, parse_td_quote
from attestation.tpm.abi import SignedQuote
from attestation.tpm.algorithms import Hash, Scheme
from attestation.tpm.attest import MAX_ATTEST
from attestation.tpm.signature import MAX_RSA, Signature
from manifests import fields
from manifests.errors import ManifestError

MAX_EVIDENCE = 256 * 1024
"""Version 0 writes each byte as a number, and takes 36 KB."""
MAX_ENDORSEMENT = 16 * 1024
VERSIONS = (1, 2)
_PCRS = 24

TEES = {ReportType.SNP: "azure-snp", ReportType.TDX: "azure-tdx"}
_PLATFORMS = {"az-snp": ReportType.SNP, "az-tdx": ReportType.TDX}
_ENDORSEMENTS = {"vcek": ReportType.SNP, "td_quote": ReportType.TDX}

_Decoder = Callable[[object, str, int], bytes]


@dataclass(frozen=True)
class AzureEvidence:
    """Parsed evidence; nothing in it is verified.

    version: 0 to 2.  inner: the report or quote of the processor.  vcek: DER; None for TDX.  raw: the JSON text.
    """

    version: int
    quote: SignedQuote
    hcl: HclReport
    inner: Report | TdQuote
    vcek: bytes | None = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def tee(self) -> str:
        """Which of the two: "azure-snp" or "azure-tdx"."""
        return TEES[self.hcl.report_type]

    @property
    def report_data(self) -> bytes:
        """The qualifying data of the vTPM's quote: the processor's own report data only vouches for the vTPM."""
        return self.quote.report_data

    def serialize(self) -> bytes:
        """Return the JSON text that was parsed; other texts mean the same."""
        return self.raw

    def to_dict(self) -> dict[str, Any]:
        """Return every field of every part, as hex."""
        return {
            "tpm_quote": self.quote.to_dict(),
            "hcl_report": self.hcl.to_dict(),
            self.inner.tee: self.inner.to_dict(),
            "vcek": None if self.vcek is None else self.vcek.hex(),
        }


def looks_like(data: bytes, endorsement: bytes) -> bool:
    """Tell whether bytes look like the JSON of Azure's evidence with this endorsement: `vcek` or `td_quote`."""
    return data.lstrip()[:1] == b"{" and b'"%b"' % endorsement in data and b'"pcrs"' in data


def parse_evidence(data: bytes) -> AzureEvidence:
    """Parse evidence of any version.

    Raises EvidenceError with an `azure-...`, `json-...`, `pem-...` or `tpm-...` code, or one of the inner evidence.
    """
    try:
        return _parse(bytes(data))
    except ManifestError as error:
        raise EvidenceError(
            AzureCode.EVIDENCE_MALFORMED,
            f"the evidence of Azure: {error.message}",
            expected=error.expected,
            found=error.found,
        ) from None


def _parse(raw: bytes) -> AzureEvidence:
    value, report_type = _unwrap(_load(raw))
    version = _version(value)
    names = _names(value, version)
    decode = _octets if version == 0 else _base64url
    hcl = HclReport.parse(decode(value[names["report"]], "the paravisor's report", MAX_REPORT))
    endorsed = _ENDORSEMENTS[names["endorsement"]]
    if hcl.report_type is not endorsed or (report_type or endorsed) is not endorsed:
        raise EvidenceError(
            AzureCode.HCL_TEE,
            AzureCode.HCL_TEE.meaning,
            expected=endorsed.name,
            found=f"{hcl.report_type.name}; by the JSON around it, {(report_type or endorsed).name}",
        )
    given = value[names["endorsement"]]
    if endorsed is ReportType.SNP:
        vcek = _pem(given) if version == 0 else _base64url(given, "vcek", MAX_ENDORSEMENT)
        inner: Report | TdQuote = parse_report(hcl.hardware_report)
    else:
        vcek = None
        inner = parse_td_quote(strip_padding(decode(given, "td_quote", MAX_ENDORSEMENT))[0])
    return AzureEvidence(version, _quote(value[names["quote"]], version), hcl, inner, vcek, raw)


def _load(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_EVIDENCE:
        raise _malformed("it is too large", f"at most {MAX_EVIDENCE} bytes", len(raw))
    try:
        value = strict_json.loads(raw.decode("ascii"), max_size=MAX_EVIDENCE)
    except UnicodeDecodeError:
        raise _malformed("it is not ASCII", "ASCII", "other bytes") from None
    return fields.of_type(value, "evidence", dict)


def _unwrap(value: dict[str, Any]) -> tuple[dict[str, Any], ReportType | None]:
    """Return the evidence inside an envelope, and the platform that the envelope names."""
    if "platform" not in value:
        return value, None
    fields.closed_map(value, "the envelope", ("platform", "evidence"))
    name = fields.text(value["platform"], "platform", 16)
    if name not in _PLATFORMS:
        raise _malformed("it names another platform", " or ".join(_PLATFORMS), name)
    return fields.of_type(value["evidence"], "evidence", dict), _PLATFORMS[name]


def _version(value: dict[str, Any]) -> int:
    version = value.get("version", 0)
    if type(version) is not int or ("version" in value and version not in VERSIONS):
        raise EvidenceError(
            AzureCode.EVIDENCE_VERSION,
            AzureCode.EVIDENCE_VERSION.meaning,
            expected=" or ".join(map(str, VERSIONS)),
            found=str(version)[:32],
        )
    return version


def _names(value: dict[str, Any], version: int) -> dict[str, str]:
    """Return how this evidence names its parts, which have to be there, and nothing else."""
    endorsement = "td_quote" if "td_quote" in value else "vcek"
    old = version == 0 and endorsement == "vcek"
    names = {"quote": "quote" if old else "tpm_quote", "report": "report" if old else "hcl_report"}
    names["endorsement"] = endorsement
    fields.closed_map(value, "the evidence", [*names.values(), *(["version"] if version else [])])
    return names


def _quote(value: object, version: int) -> SignedQuote:
    """Read the vTPM's quote; its PCR values are those that its message selects."""
    decode = _octets if version == 0 else _hex
    table = fields.closed_map(value, "the TPM quote", ("message", "signature", "pcrs"))
    message = decode(table["message"], "message", MAX_ATTEST)
    signature = Signature(Scheme.RSASSA, Hash.SHA256, (decode(table["signature"], "signature", MAX_RSA),))
    pcrs = fields.list_of(table["pcrs"], "pcrs", _PCRS)
    return SignedQuote.parse(message, signature, [decode(pcr, "pcrs", Hash.SHA256.size) for pcr in pcrs])


def _octets(value: object, name: str, limit: int) -> bytes:
    """Read a list of numbers."""
    return bytes(fields.number(item, name, 0, 255) for item in fields.list_of(value, name, limit))


def _hex(value: object, name: str, limit: int) -> bytes:
    text = fields.of_type(value, name, str)
    if len(text) > 2 * limit or re.fullmatch(r"(?:[0-9a-f]{2})*", text) is None:
        raise _malformed(f"{name} is not lower-case hex of at most {limit} bytes", "hex", f"{len(text)} characters")
    return bytes.fromhex(text)


def _base64url(value: object, name: str, limit: int) -> bytes:
    data = decode_base64url(fields.of_type(value, name, str))
    if data is None or len(data) > limit:
        raise _malformed(f"{name} is not base64url of at most {limit} bytes", "base64url", "other text")
    return data


def _pem(value: object) -> bytes:
    (der,) = pem.decode_chain(fields.of_type(value, "vcek", str).encode("ascii", "replace"), 1)
    return der


def _malformed(why: str, expected: object, found: object) -> EvidenceError:
    return EvidenceError(
        AzureCode.EVIDENCE_MALFORMED, f"the evidence of Azure is not usable: {why}", expected=expected, found=found
    )
