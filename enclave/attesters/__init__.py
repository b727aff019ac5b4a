"""Attesters: where quotes come from.  The measured settings name one; nothing is ever probed for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from enclave.attesters.base import Attester
from enclave.attesters.gramine import GramineAttester
from enclave.attesters.nitro import NitroAttester
from enclave.attesters.simulator import SimulatorAttester
from enclave.attesters.tpm import TpmAttester
from enclave.attesters.tsm import TsmAttester
from enclave.errors import EnclaveCode, EnclaveError
from manifests.gramine.settings import EnclaveSettings, TpmSettings

ATTESTERS: Mapping[str, Callable[[EnclaveSettings], Attester]] = {
    "simulator": lambda _settings: SimulatorAttester.inherited(),
    "gramine": lambda _settings: GramineAttester(),
    "tdx": lambda _settings: TsmAttester("tdx"),
    "snp": lambda _settings: TsmAttester("snp"),
    "nitro": lambda _settings: NitroAttester(),
    "tpm": lambda settings: TpmAttester(_required(settings.tpm)),
}


def open_attester(settings: EnclaveSettings) -> Attester:
    """Return the attester that the settings name; raises EnclaveError `enclave-start-failed` where it is missing."""
    return ATTESTERS[settings.attester](settings)


def _required(tpm: TpmSettings | None) -> TpmSettings:
    if tpm is None:  # the settings see to it
        raise EnclaveError(EnclaveCode.START_FAILED, "the attester tpm needs the settings' table [tpm]")
    return tpm
