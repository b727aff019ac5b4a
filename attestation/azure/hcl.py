"""The report of Azure's paravisor (HCL, OpenHCL), which a guest reads from its vTPM: bytes to fields and back.

Source: OpenHCL, `openhcl_attestation_protocol`, module `igvm_attest::get` (IgvmAttestRequestHeader,
IgvmAttestRequestData, IgvmAttestReportType); Azure, "vTPM attestation of confidential VMs", NV index 0x01400001.  All
integers are little-endian.

    report = header (32) | hardware report (1184) | request data header (20) | runtime data | zeros

The hardware report is an SEV-SNP report, or a TD report (1024 bytes) and zeros.  Runtime data is JSON; its SHA-256 is
what the hardware report carries.  The NV index is larger than the report, and filled up with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from attestation.azure.errors import AzureCode
from attestation.errors import EvidenceError
from attestation.layout import Kind, Layout, Row

MAGIC = b"HCLA"
VERSIONS = (1, 2)
"""The older and the newer paravisor; nothing else differs."""
AK_CERTIFICATE = 2
"""request_type: the report that goes with the attestation key."""
SHA256 = 1
"""report_data_hash_type."""
DATA_VERSION = 1
HARDWARE_REPORT = 1184
MAX_REPORT = 16 * 1024
"""The NV index has 2600 bytes."""

HEADER = Layout(
    "paravisor's report header",
    32,
    Row(0, 4, "signature"),
    Row(4, 4, "version", Kind.UINT),
    Row(8, 4, "report_size", Kind.UINT),
    Row(12, 4, "request_type", Kind.UINT),
    Row(16, 4, "status", Kind.UINT),
    Row(20, 12, "reserved", Kind.ZERO),
    truncated=AzureCode.HCL_MALFORMED,
    reserved=AzureCode.HCL_MALFORMED,
)
DATA_HEADER = Layout(
    "request data header",
    20,
    Row(0, 4, "data_size", Kind.UINT),
    Row(4, 4, "version", Kind.UINT),
    Row(8, 4, "report_type", Kind.UINT),
    Row(12, 4, "report_data_hash_type", Kind.UINT),
    Row(16, 4, "variable_data_size", Kind.UINT),
    truncated=AzureCode.HCL_MALFORMED,
    reserved=AzureCode.HCL_MALFORMED,
)
_FIXED = HEADER.size + HARDWARE_REPORT + DATA_HEADER.size


class ReportType(IntEnum):
    """Whose hardware report it is."""

    SNP = 2
    TDX = 4


@dataclass(frozen=True)
class HclReport:
    """A parsed report; nothing in it is verified.

    version: 1 or 2.  hardware_report: 1184 bytes.  runtime_data: the JSON text that the hardware report vouches for.
    padding: zero bytes behind it.
    """

    version: int
    report_type: ReportType
    hardware_report: bytes = field(repr=False)
    runtime_data: bytes = field(repr=False)
    padding: int

    @classmethod
    def parse(cls, data: bytes) -> HclReport:
        """Decode a report that uses up `data`, but for zeros; raises EvidenceError with an `azure-hcl-...` code."""
        if not _FIXED <= len(data) <= MAX_REPORT:
            raise _malformed("it has another size", f"{_FIXED} to {MAX_REPORT} bytes", len(data))
        header = HEADER.parse(data[: HEADER.size])
        request = DATA_HEADER.parse(data[HEADER.size + HARDWARE_REPORT : _FIXED])
        _check(header, request)
        end = _FIXED + request["variable_data_size"]
        if len(data) < end or any(data[end:]):
            raise _malformed("its runtime data is cut short, or followed by more than zeros", f"{end} bytes", len(data))
        return cls(
            version=header["version"],
            report_type=ReportType(request["report_type"]),
            hardware_report=data[HEADER.size : HEADER.size + HARDWARE_REPORT],
            runtime_data=data[_FIXED:end],
            padding=len(data) - end,
        )

    def serialize(self) -> bytes:
        """Return the report's bytes."""
        header, request = self._headers()
        hardware = self.hardware_report
        return (
            HEADER.serialize(header)
            + hardware
            + DATA_HEADER.serialize(request)
            + self.runtime_data
            + bytes(self.padding)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return every field by name, as the hex of its bytes; runtime data as text."""
        header, request = self._headers()
        return {
            "header": HEADER.to_hex(header),
            "request_data": DATA_HEADER.to_hex(request),
            "runtime_data": self.runtime_data.decode("ascii", "backslashreplace"),
        }

    def _headers(self) -> tuple[dict[str, Any], dict[str, Any]]:
        data_size = DATA_HEADER.size + len(self.runtime_data)
        header = {
            "signature": MAGIC,
            "version": self.version,
            "report_size": HEADER.size + HARDWARE_REPORT + data_size,
            "request_type": AK_CERTIFICATE,
            "status": 0,
        }
        request = {
            "data_size": data_size,
            "version": DATA_VERSION,
            "report_type": self.report_type,
            "report_data_hash_type": SHA256,
            "variable_data_size": len(self.runtime_data),
        }
        return header, request


def _check(header: dict[str, Any], request: dict[str, Any]) -> None:
    """Hold both headers against the one kind of report that is handled, and their sizes against each other."""
    if header["signature"] != MAGIC:
        raise _malformed("it does not begin as one", MAGIC.decode(), header["signature"].hex())
    for name, found, known in (
        ("version", header["version"], VERSIONS),
        ("request type", header["request_type"], (AK_CERTIFICATE,)),
        ("status", header["status"], (0,)),
        ("version of its request data", request["version"], (DATA_VERSION,)),
        ("report type", request["report_type"], tuple(ReportType)),
        ("hash of its runtime data", request["report_data_hash_type"], (SHA256,)),
    ):
        if found not in known:
            raise EvidenceError(
                AzureCode.HCL_UNSUPPORTED,
                f"the paravisor's report is of a kind that is not handled: {name}",
                expected=" or ".join(str(int(each)) for each in known),
                found=found,
            )
    size = DATA_HEADER.size + request["variable_data_size"]
    if request["data_size"] != size or header["report_size"] != HEADER.size + HARDWARE_REPORT + size:
        raise _malformed("its sizes contradict each other", size, request["data_size"])


def _malformed(why: str, expected: object, found: object) -> EvidenceError:
    return EvidenceError(
        AzureCode.HCL_MALFORMED, f"the paravisor's report is not usable: {why}", expected=expected, found=found
    )
