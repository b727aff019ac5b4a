"""What it takes for a refused check of an SEV-SNP report to pass: floors, lists of names, keys and agents.

Each is made of the verified report itself, since what a check shows is for people.  `attestation.whatif` tries each,
and has what else one field of the table decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from attestation.amd.abi import GUEST_POLICY_KNOWN, GuestPolicy, PlatformInfo
from attestation.amd.errors import SnpFinding
from attestation.amd.tcb import Tcb
from attestation.amd.verified import SnpVerified, dotted, names
from attestation.changes import Change, Floors, Without
from attestation.policy.snp import SnpPolicy


def snp_changes(code: str, verified: SnpVerified, policy: SnpPolicy) -> Iterator[Change]:
    """Yield the changes of [snp] under which one refused check passes; none where no change of a policy helps."""
    maker = _MAKERS.get(code)
    if maker is not None:
        yield from maker(code, verified, policy)


_Maker = Callable[[str, SnpVerified, SnpPolicy], Iterator[Change]]


def _change(code: str, field: str, value: Any, text: str) -> Change:
    return Change(code, "snp", field, value, f"[snp] {text}")


def _floors(code: str, field: str, found: Tcb, floors: Mapping[str, int]) -> Change:
    """Lower the floors of a product to what was found."""
    product = str(found.product)
    written = ", ".join(f"{name} = {least}" for name, least in floors.items())
    return Change(code, "snp", field, Floors(tuple(floors.items()), product), f"[snp.{field}.{product}] {written}")


def _product(code: str, verified: SnpVerified, _: SnpPolicy) -> Iterator[Change]:
    """Admit the product from the TCB on that was found: floors are what admits one."""
    reported = verified.tcb.reported
    yield _floors(code, "reported_tcb_min", reported, reported.to_dict())


def _tcb(name: str) -> _Maker:
    """Lower those floors of one TCB version that it does not reach."""
    field = f"{name}_tcb_min"

    def make(code: str, verified: SnpVerified, policy: SnpPolicy) -> Iterator[Change]:
        found: Tcb = getattr(verified.tcb, name)
        have, floors = found.to_dict(), dict(dict(getattr(policy, field)).get(str(found.product), ()))
        yield _floors(code, field, found, {part: have[part] for part, least in floors.items() if have[part] < least})

    return make


def _version(field: str, found: Callable[[SnpVerified], tuple[int, ...]]) -> _Maker:
    """Lower the floor of a version with dots."""

    def make(code: str, verified: SnpVerified, _: SnpPolicy) -> Iterator[Change]:
        value = dotted(found(verified))
        yield _change(code, field, value, f'{field} = "{value}"')

    return make


def _mitigations(code: str, verified: SnpVerified, policy: SnpPolicy) -> Iterator[Change]:
    """Require those mitigations alone that were in place at launch and are."""
    report = verified.report
    kept = policy.mitigations_required & (report.launch_mit_vector or 0) & (report.current_mit_vector or 0)
    yield _change(code, "mitigations_required", kept, f"mitigations_required = {kept}")


def _required(field: str, found: Callable[[SnpVerified], list[str]]) -> _Maker:
    """Take off a list of required names those that were not found."""

    def make(code: str, verified: SnpVerified, policy: SnpPolicy) -> Iterator[Change]:
        shown = found(verified)
        missing = tuple(name for name in getattr(policy, field) if name not in shown)
        yield _change(code, field, Without(missing), f"{field}: remove {_quoted(missing)}")

    return make


def _unknown_bits(code: str, verified: SnpVerified, _: SnpPolicy) -> Iterator[Change]:
    bits = verified.report.policy & ~GUEST_POLICY_KNOWN
    yield _change(code, "policy_bits_allowed", bits, f"policy_bits_allowed: add the bits of {bits:#x}")


def _signing_key(code: str, verified: SnpVerified, _: SnpPolicy) -> Iterator[Change]:
    """Name the kind of key; one that is lent stands in a policy beside whom it is lent to, and has a check for that."""
    word = verified.report.signing_key.name.lower()
    yield _change(code, "signing_keys", (word,), f"signing_keys: add {_quoted((word,))}")


def _provider(code: str, verified: SnpVerified, _: SnpPolicy) -> Iterator[Change]:
    """Name the cloud provider, which a policy does beside the kind of key."""
    provider = verified.endorsement.csp_id
    if provider is not None:
        yield _change(code, "csp_id", (provider,), f"csp_id: add {_quoted((provider,))}")


def _author(code: str, verified: SnpVerified, _: SnpPolicy) -> Iterator[Change]:
    """Name the author's key; a digest of a key that vouches for nothing is never accepted, nor the reverse."""
    digest = verified.report.author_key_digest
    if verified.report.author_key_enabled == any(digest):
        yield _change(code, "author_key_digest", (digest,), f"author_key_digest: add {_quoted((digest.hex(),))}")


def _agent(code: str, verified: SnpVerified, policy: SnpPolicy) -> Iterator[Change]:
    """Admit the agent that there is: agents at all, and this one by its id."""
    agent = verified.report.report_id_ma
    if not policy.migration_agent:
        yield _change(code, "migration_agent", value=True, text="migration_agent = true")
    if agent not in policy.report_id_ma:
        text = f"report_id_ma: add {_quoted((agent.hex(),))}"
        yield _change(code, "report_id_ma", (agent,), text)


def _quoted(words: tuple[str, ...]) -> str:
    return ", ".join(f'"{word}"' for word in words)


_MAKERS: Final[Mapping[str, _Maker]] = {
    SnpFinding.PRODUCT: _product,
    SnpFinding.REPORTED_TCB: _tcb("reported"),
    SnpFinding.COMMITTED_TCB: _tcb("committed"),
    SnpFinding.LAUNCH_TCB: _tcb("launch"),
    SnpFinding.FIRMWARE: _version("firmware_min", lambda verified: verified.report.committed_firmware),
    SnpFinding.POLICY_ABI: _version("policy_abi_min", lambda verified: verified.report.policy_abi),
    SnpFinding.MITIGATIONS: _mitigations,
    SnpFinding.PLATFORM_REQUIRED: _required(
        "platform_info_required", lambda verified: names(PlatformInfo, verified.report.platform_info)
    ),
    SnpFinding.POLICY_REQUIRED: _required(
        "policy_required", lambda verified: names(GuestPolicy, verified.report.policy)
    ),
    SnpFinding.POLICY_UNKNOWN: _unknown_bits,
    SnpFinding.SIGNING_KEY: _signing_key,
    SnpFinding.CSP_ID: _provider,
    SnpFinding.AUTHOR_KEY: _author,
    SnpFinding.MIGRATION_AGENT: _agent,
}

SNP_CODES: Final = frozenset(_MAKERS)
"""The checks that a change is made for here."""
