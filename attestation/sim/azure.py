"""Azure's wrapping of simulated evidence: a vTPM, and a paravisor's report around a processor's report.

The processor's part comes from the caller, as two functions of report data, so that SEV-SNP and TDX are wrapped alike:

    snp = SimulatedAzure(seed, ReportType.SNP, report, lambda _: vcek)
    tdx = SimulatedAzure(seed, ReportType.TDX, lambda data: td_report_of(quote(data)), quote)
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from attestation.azure.hcl import HARDWARE_REPORT, HclReport, ReportType
from attestation.azure.td_report import TCB_INFO, TD_INFO, TD_REPORT
from attestation.eventlog.replay import started_pcrs
from attestation.intel.td_abi import TDX, parse_td_quote
from attestation.layout import Kind
from attestation.sim.rsa_key import derive_rsa_key
from attestation.sim.tpm import FIRMWARE, selection_of, sign
from attestation.tpm.algorithms import Hash, Scheme
from attestation.tpm.attest import Attest
from attestation.tpm.public import fingerprint
from attestation.tpm.signature import Signature

_NV_SIZE = 2600
"""Of the index from which a guest reads the paravisor's report."""
BOOTED: Mapping[int, bytes] = {
    index: Hash.SHA256.digest(bytes(32), Hash.SHA256.digest(b"simulated boot, PCR %d" % index)) for index in range(10)
}
"""What a boot leaves in the vTPM's PCRs 0 to 9; the others hold what they begin with: zeros, and 17 to 22 ones."""
_USER_DATA = 64
CONFIGURATION: Mapping[str, Any] = {
    "console-enabled": False,
    "secure-boot": True,
    "tpm-enabled": True,
    "vmUniqueId": "53494D55-4C41-5445-4400-000000000001",
}


class SimulatedAzure:
    """One confidential VM with its vTPM.

    report: from report data (64 bytes) to the hardware report, at most 1184 bytes.  endorsement: from report data to
    the DER VCEK, or the TD quote.
    """

    def __init__(
        self,
        seed: bytes,
        report_type: ReportType,
        report: Callable[[bytes], bytes],
        endorsement: Callable[[bytes], bytes],
    ) -> None:
        """Derive the vTPM's keys."""
        self.report_type = report_type
        self.key = derive_rsa_key(seed, "azure vtpm ak")
        self._report, self._endorsement = report, endorsement

    @property
    def ak_fingerprint(self) -> bytes:
        """SHA-256 of the vTPM key's SubjectPublicKeyInfo."""
        return fingerprint(self.key.public_key())

    def evidence(
        self,
        report_data: bytes,
        *,
        version: int = 1,
        pcrs: Mapping[int, bytes] | None = None,
        claims: Mapping[str, Any] | None = None,
        hcl: Mapping[str, Any] | None = None,
        parts: Mapping[str, bytes] | None = None,
        **changes: Any,
    ) -> bytes:
        """Return evidence as JSON, whose quote is over 64 bytes of report data, as their SHA-256.

        pcrs: values by index, the others as `BOOTED` has them.  claims: members of the runtime data to replace.  hcl:
        fields of the paravisor's report to replace, after it was vouched for.  parts: "vcek" or "td_quote", to replace.
        changes: fields of the vTPM's quote, before it is signed.
        """
        qualifying = hashlib.sha256(report_data).digest()
        runtime = self.runtime_data(**{"user-data": _user_data(qualifying, version)} | dict(claims or {}))
        bound = hashlib.sha256(runtime).digest() + bytes(32)
        hardware = self._report(bound).ljust(HARDWARE_REPORT, b"\0")
        report = HclReport(1, self.report_type, hardware, runtime, 0)
        report = dataclasses.replace(report, padding=_NV_SIZE - len(report.serialize()))
        name = "vcek" if self.report_type is ReportType.SNP else "td_quote"
        endorsement = (parts or {}).get(name) or self._endorsement(bound)
        value: dict[str, Any] = {
            "version": version,
            "tpm_quote": self._quote(qualifying, pcrs or {}, changes),
            "hcl_report": _base64url(dataclasses.replace(report, **(hcl or {})).serialize()),
            name: _base64url(endorsement),
        }
        return json.dumps(value).encode("ascii")

    def runtime_data(self, **claims: Any) -> bytes:
        """Return the runtime data that names the vTPM's key."""
        modulus = self.key.public_key().public_numbers().n.to_bytes(self.key.key_size // 8, "big")
        key = {"kid": "HCLAkPub", "key_ops": ["sign"], "kty": "RSA", "e": "AQAB", "n": _base64url(modulus)}
        value = {"keys": [key], "vm-configuration": dict(CONFIGURATION), "user-data": "00" * _USER_DATA}
        return json.dumps(value | claims, separators=(",", ":")).encode("ascii")

    def _quote(self, qualifying: bytes, pcrs: Mapping[int, bytes], changes: Mapping[str, Any]) -> dict[str, Any]:
        shown = {**started_pcrs(Hash.SHA256), **BOOTED, **pcrs}
        values = {(Hash.SHA256, index): value for index, value in shown.items()}
        fields: dict[str, Any] = {
            "qualified_signer": b"\x00\x0b" + hashlib.sha256(self.ak_fingerprint).digest(),
            "extra_data": qualifying,
            "clock": 1_798_044,
            "reset_count": 2,
            "restart_count": 0,
            "safe": True,
            "firmware_version": FIRMWARE,
            "pcr_select": selection_of(values),
            "pcr_digest": Hash.SHA256.digest(*values.values()),
        }
        message = Attest(**fields | dict(changes)).serialize()
        return {
            "message": message.hex(),
            "signature": Signature.parse(sign(self.key, Scheme.RSASSA, message)).value[0].hex(),
            "pcrs": [value.hex() for value in values.values()],
        }


def td_report_of(quote: bytes, **changes: Any) -> bytes:
    """Return the TD report (1024 bytes) from which a TD quote can have been made; changes: fields to replace."""
    body = vars(parse_td_quote(quote).body)
    values: dict[str, Any] = {row.name: bytes(row.size) if row.kind is Kind.BYTES else 0 for row in TD_REPORT.rows}
    values |= {name: value for name, value in body.items() if name in values and value is not None}
    values |= {"type": TDX, "type_version": int(any(values["mr_service_td"])), "valid": b"\xff\x01\x03" + bytes(5)}
    raw = TD_REPORT.serialize(values)
    for name, part in (("tee_tcb_info_hash", raw[TCB_INFO]), ("tee_info_hash", raw[TD_INFO])):
        values[name] = hashlib.sha384(part).digest()
    return TD_REPORT.serialize(values | changes)


def _user_data(qualifying: bytes, version: int) -> str:
    return (qualifying if version > 1 else b"").ljust(_USER_DATA, b"\0").hex().upper()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")
