"""Attesters: where quotes, and evidence of devices, come from.  The settings name them; nothing is ever probed for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from enclave.attesters.base import Attester, DeviceAttester
from enclave.attesters.gramine import GramineAttester
from enclave.attesters.nitro import NitroAttester
from enclave.attesters.nvidia import NvidiaDevices
from enclave.attesters.simulator import SimulatorAttester
from enclave.attesters.tpm import TpmAttester
from enclave.attesters.tsm import TsmAttester
from enclave.errors import EnclaveCode, EnclaveError
from manifests.gramine.settings import DeviceSettings, EnclaveSettings, TpmSettings

ATTESTERS: Mapping[str, Callable[[EnclaveSettings], Attester]] = {
    "simulator": lambda _settings: SimulatorAttester.inherited(),
    "gramine": lambda _settings: GramineAttester(),
    "tdx": lambda _settings: TsmAttester("tdx"),
    "snp": lambda _settings: TsmAttester("snp"),
    "nitro": lambda _settings: NitroAttester(),
    "tpm": lambda settings: TpmAttester(_required(settings.tpm)),
}

DEVICE_ATTESTERS: Mapping[str, Callable[[DeviceSettings], DeviceAttester]] = {"nvidia": NvidiaDevices}


def open_attester(settings: EnclaveSettings) -> Attester:
    """Return the attester that the settings name; raises EnclaveError `enclave-start-failed` where it is missing."""
    return ATTESTERS[settings.attester](settings)


def open_devices(settings: EnclaveSettings) -> DeviceAttester | None:
    """Return who asks the devices that the settings name; None where they name none.

    Raises EnclaveError `enclave-start-failed` where the machine lacks what that takes.
    """
    return None if settings.devices is None else DEVICE_ATTESTERS[settings.devices.attester](settings.devices)


def _required(tpm: TpmSettings | None) -> TpmSettings:
    if tpm is None:  # the settings see to it
        raise EnclaveError(EnclaveCode.START_FAILED, "the attester tpm needs the settings' table [tpm]")
    return tpm
