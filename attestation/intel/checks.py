"""The checks of an SGX appraisal, in the order in which they are reported."""

from __future__ import annotations

from collections.abc import Iterator

from attestation.errors import FindingCode
from attestation.findings import Finding, check, one_of
from attestation.intel.abi import Attributes, ReportBody
from attestation.intel.machine_checks import bit_text, machine_checks, mask_check
from attestation.intel.verified import SgxVerified
from attestation.policy import SgxPolicy
from attestation.policy.schema import accepts_danger

_BASIC_XFRM = 0x3
"""x87 and SSE are always enabled in an enclave (SDM volume 3D, "XFRM")."""

_REQUIRED = ((FindingCode.INIT, Attributes.INIT), (FindingCode.MODE64, Attributes.MODE64BIT))


def sgx_checks(verified: SgxVerified, policy: SgxPolicy) -> Iterator[Finding]:
    """Hold the machine and the enclave's report against the policy."""
    yield from machine_checks(verified, policy)
    yield from _measurements(verified.quote.body, policy)
    yield from _versions(verified.quote.body, policy)
    yield from _named_attributes(verified.quote.body, policy)
    yield from _masks(verified.quote.body, policy)
    yield from _configuration(verified.quote.body, policy)


def _measurements(body: ReportBody, policy: SgxPolicy) -> Iterator[Finding]:
    """Hold both measurements; an empty list leaves its one open only where the other list decides."""
    for code, found, allowed, other in (
        (FindingCode.MRENCLAVE, body.mr_enclave, policy.mrenclave, policy.mrsigner),
        (FindingCode.MRSIGNER, body.mr_signer, policy.mrsigner, policy.mrenclave),
    ):
        passed = found in allowed if allowed else bool(other)
        yield check(code, passed=passed, expected=one_of(allowed), found=found.hex())


def _versions(body: ReportBody, policy: SgxPolicy) -> Iterator[Finding]:
    product, least = policy.isv_prod_id, policy.isv_svn_min
    yield check(
        FindingCode.ISV_PROD_ID,
        passed=product is None or body.isv_prod_id == product,
        expected="any" if product is None else product,
        found=body.isv_prod_id,
    )
    yield check(FindingCode.ISV_SVN, passed=body.isv_svn >= least, expected=f"at least {least}", found=body.isv_svn)


def _named_attributes(body: ReportBody, policy: SgxPolicy) -> Iterator[Finding]:
    for code, bit in _REQUIRED:
        present = bool(body.flags & bit)
        yield check(code, passed=present, expected="set", found=bit_text(present=present))
    for code, bit, allowed in (
        (FindingCode.DEBUG, Attributes.DEBUG, policy.debug),
        (FindingCode.PROVISION_KEY, Attributes.PROVISION_KEY, policy.provision_key),
        (FindingCode.EINITTOKEN_KEY, Attributes.EINITTOKEN_KEY, policy.einittoken_key),
    ):
        present = bool(body.flags & bit)
        yield check(
            code,
            passed=allowed or not present,
            expected="either" if allowed else "not set",
            found=bit_text(present=present),
            dangerous=present,
        )


def _masks(body: ReportBody, policy: SgxPolicy) -> Iterator[Finding]:
    judged = Attributes.INIT | Attributes.MODE64BIT | Attributes.DEBUG
    judged |= Attributes.PROVISION_KEY | Attributes.EINITTOKEN_KEY
    yield mask_check(FindingCode.ATTRIBUTES, body.flags & ~int(judged), policy.attributes_mask)
    basic = body.xfrm & _BASIC_XFRM == _BASIC_XFRM
    for code, field, found, also in (
        (FindingCode.XFRM, "xfrm_allowed", body.xfrm, basic),
        (FindingCode.MISCSELECT, "miscselect_allowed", body.misc_select, True),
        (FindingCode.CET_ATTRIBUTES, "cet_attributes_allowed", body.cet_attributes, True),
    ):
        dangerous = accepts_danger(policy, field, found)
        yield mask_check(code, found, getattr(policy, field), also=also, dangerous=dangerous)


def _configuration(body: ReportBody, policy: SgxPolicy) -> Iterator[Finding]:
    yield check(
        FindingCode.CONFIG_ID,
        passed=body.config_id in policy.config_id,
        expected=one_of(policy.config_id),
        found=body.config_id.hex(),
    )
    yield _config_svn(body, policy)
    for code, found, expected in (
        (FindingCode.ISV_EXT_PROD_ID, body.isv_ext_prod_id.hex(), policy.isv_ext_prod_id.hex()),
        (FindingCode.ISV_FAMILY_ID, body.isv_family_id.hex(), policy.isv_family_id.hex()),
    ):
        yield check(code, passed=found == expected, expected=expected, found=found)


def _config_svn(body: ReportBody, policy: SgxPolicy) -> Finding:
    """Hold the configuration's version against the one that is named, or the floor in its place."""
    found, least = body.config_svn, policy.config_svn_min
    passed = found == policy.config_svn if least is None else found >= least
    expected = policy.config_svn if least is None else f"at least {least}"
    return check(FindingCode.CONFIG_SVN, passed=passed, expected=expected, found=found)
