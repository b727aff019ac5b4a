"""The checks of a Nitro appraisal, in the order in which they are reported."""

from __future__ import annotations

from collections.abc import Iterator

from attestation.findings import Finding, Phase, check, named, one_of
from attestation.nitro.errors import NitroFinding
from attestation.nitro.verify import NitroVerified
from attestation.policy.nitro import NitroPolicy

_IMAGE, _SIGNER = 0, 8
"""Registers of the image, and of the certificate that signed it."""


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
    registers = {int(name.removeprefix("pcr")): allowed for name, allowed in policy.pcrs}
    if not registers.keys() & {_IMAGE, _SIGNER}:
        registers[_IMAGE] = ()  # a table that names neither image nor signer admits nothing
    for index in sorted(registers):
        yield _register(f"pcr{index}", document.pcrs.get(index), registers[index])


def _register(name: str, found: bytes | None, allowed: tuple[bytes, ...]) -> Finding:
    return check(
        NitroFinding.PCR,
        passed=found in allowed,
        expected=f"{name}: {named(allowed)}",
        found=f"{name}: {'not in the document' if found is None else found.hex()}",
        remedy=f"compare {name} with what the image's build printed; a changed byte of the image changes its registers",
    )
