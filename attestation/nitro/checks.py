"""The checks of a Nitro appraisal, in the order in which they are reported."""

from __future__ import annotations

from collections.abc import Iterator

from attestation.findings import Finding, Phase, check, one_of
from attestation.nitro.errors import NitroFinding
from attestation.nitro.verify import NitroVerified
from attestation.policy.nitro import NitroPolicy


def nitro_checks(verified: NitroVerified, policy: NitroPolicy) -> Iterator[Finding]:
    """Hold the module and the enclave's registers against the policy."""
    document = verified.document
    yield check(
        NitroFinding.MODULE_ID,
        passed=not policy.module_ids or document.module_id in policy.module_ids,
        expected=one_of(policy.module_ids),
        found=document.module_id,
        remedy="use an enclave that [nitro] module_ids names",
        phase=Phase.PLATFORM,
    )
    yield check(
        NitroFinding.DEBUG,
        passed=policy.debug or not document.debug,
        expected="either" if policy.debug else "not in debug mode",
        found="in debug mode" if document.debug else "not in debug mode",
        dangerous=document.debug,
        remedy="start the enclave without --debug-mode: its console shows the parent everything that it writes",
    )
    named = {int(name.removeprefix("pcr")): allowed for name, allowed in policy.pcrs}
    for index in sorted(named):
        yield _register(f"pcr{index}", document.pcrs.get(index), named[index])


def _register(name: str, found: bytes | None, allowed: tuple[bytes, ...]) -> Finding:
    return check(
        NitroFinding.PCR,
        passed=found in allowed,
        expected=f"{name}: {one_of(allowed)}",
        found=f"{name}: {'not in the document' if found is None else found.hex()}",
        remedy=f"compare {name} with what the image's build printed; a changed byte of the image changes its registers",
    )
