"""The TD report inside the paravisor's report, held against the TD quote that was made from it.

Source: Intel TDX Module ABI Specification, "TDREPORT_STRUCT": REPORTMACSTRUCT, TEE_TCB_INFO and TDINFO.

A TD report's MAC can be checked on its own machine alone.  What is trusted is the quote; the report has to say the
same, field by field.  What no quote has is not judged: CPUSVN, MAC and VALID; and, where the quote has a report 1.0
(version 4), TEE_TCB_SVN2 and MRSERVICETD, whose presence TYPE.VERSION tells.  All but the first two are under a hash
of the report itself, so that whoever alters them has to write that hash anew; which he can.
"""

from __future__ import annotations

import hashlib
from typing import Final

from attestation.azure.errors import AzureCode
from attestation.errors import EvidenceError
from attestation.intel.td_abi import TDX, TdQuote
from attestation.layout import Kind, Layout, Row

TD_REPORT: Final = Layout(
    "TD report",
    1024,
    Row(0, 1, "type", Kind.UINT),
    Row(1, 1, "subtype", Kind.ZERO),
    Row(2, 1, "type_version", Kind.UINT),
    Row(3, 13, "reserved1", Kind.ZERO),
    Row(16, 16, "cpu_svn"),
    Row(32, 48, "tee_tcb_info_hash"),
    Row(80, 48, "tee_info_hash"),
    Row(128, 64, "report_data"),
    Row(192, 32, "reserved2", Kind.ZERO),
    Row(224, 32, "mac"),
    Row(256, 8, "valid"),
    Row(264, 16, "tee_tcb_svn"),
    Row(280, 48, "mr_seam"),
    Row(328, 48, "mr_signer_seam"),
    Row(376, 8, "seam_attributes", Kind.UINT),
    Row(384, 16, "tee_tcb_svn2"),
    Row(400, 112, "reserved3", Kind.ZERO),
    Row(512, 8, "td_attributes", Kind.UINT),
    Row(520, 8, "xfam", Kind.UINT),
    Row(528, 48, "mr_td"),
    Row(576, 48, "mr_config_id"),
    Row(624, 48, "mr_owner"),
    Row(672, 48, "mr_owner_config"),
    Row(720, 48, "rtmr0"),
    Row(768, 48, "rtmr1"),
    Row(816, 48, "rtmr2"),
    Row(864, 48, "rtmr3"),
    Row(912, 48, "mr_service_td"),
    Row(960, 64, "reserved4", Kind.ZERO),
    truncated=AzureCode.HCL_MALFORMED,
    reserved=AzureCode.HCL_MALFORMED,
)
TCB_INFO = slice(256, 256 + 239)
TD_INFO = slice(512, 1024)

UNSIGNED: Final = ("cpu_svn", "mac")
"""Fields that nothing here covers: flipped, they go unnoticed."""
SELF_HASHED: Final = ("valid",)
"""Fields that only the report's own hashes cover: altered together with these, they go unnoticed."""
SELF_HASHED_10: Final = ("tee_tcb_svn2", "mr_service_td")
"""Those of them that a quote with a TD report 1.5 has, and one with a report 1.0 has not."""


def check_td_report(raw: bytes, quote: TdQuote) -> None:
    """Return if a TD report (1024 bytes) and zeros say what the quote says.

    Raises EvidenceError `azure-hcl-malformed` or `azure-td-report`.
    """
    if any(raw[TD_REPORT.size :]):
        raise EvidenceError(AzureCode.HCL_MALFORMED, "bytes other than zero follow the TD report")
    report = TD_REPORT.parse(raw[: TD_REPORT.size])
    body = vars(quote.body)
    wanted = {name: value for name, value in body.items() if name in report and value is not None} | {
        "type": TDX,
        "type_version": int(any(report["mr_service_td"])),  # 1: service TDs are bound
        "tee_tcb_info_hash": hashlib.sha384(raw[TCB_INFO]).digest(),
        "tee_info_hash": hashlib.sha384(raw[TD_INFO]).digest(),
    }
    wrong = [name for name, value in wanted.items() if report[name] != value]
    if wrong:
        raise EvidenceError(
            AzureCode.TD_REPORT,
            AzureCode.TD_REPORT.meaning,
            expected="the same in both",
            found=f"other {', '.join(wrong)}",
        )
