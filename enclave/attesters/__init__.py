"""Attesters: where quotes come from.  The measured settings name one; nothing is ever probed for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from enclave.attesters.base import Attester
from enclave.attesters.gramine import GramineAttester
from enclave.attesters.nitro import NitroAttester
from enclave.attesters.simulator import SimulatorAttester
from enclave.attesters.tsm import TsmAttester
from enclave.errors import EnclaveCode, EnclaveError

ATTESTERS: Mapping[str, Callable[[], Attester]] = {
    "simulator": SimulatorAttester.inherited,
    "gramine": GramineAttester,
    "tdx": lambda: TsmAttester("tdx"),
    "snp": lambda: TsmAttester("snp"),
    "nitro": NitroAttester,
}


def open_attester(name: str) -> Attester:
    """Return the attester of that name; raises EnclaveError `enclave-start-failed` where the machine lacks it."""
    if name not in ATTESTERS:
        raise EnclaveError(EnclaveCode.START_FAILED, "the settings name an attester that does not exist", found=name)
    return ATTESTERS[name]()
