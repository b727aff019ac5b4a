"""Attesters: where quotes come from.  The measured settings name one; nothing is ever probed for."""

from __future__ import annotations

from enclave.attesters.base import Attester
from enclave.errors import EnclaveCode, EnclaveError


def open_attester(name: str) -> Attester:
    """Return the attester of that name; raises EnclaveError `enclave-start-failed`."""
    if name == "simulator":
        from enclave.attesters.simulator import SimulatorAttester

        return SimulatorAttester.inherited()
    raise EnclaveError(EnclaveCode.START_FAILED, "the settings name an attester that does not exist", found=name)
