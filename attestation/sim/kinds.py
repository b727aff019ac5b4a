"""Evidence of every TEE from one simulated platform's folder, with all that it takes to verify it.

    made = make(home, "snp", report_data, now)

Intel's and the TPM's keys follow from the platform's one secret, AMD's lie in a file beside it.  Each TEE is in the
platform's state as far as it has such a thing: debug mode, and for SGX, TDX and SEV-SNP the status of the TCB.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from attestation.amd.verified import OUT_OF_DATE, UP_TO_DATE
from attestation.azure.hcl import ReportType
from attestation.sim.amd_keys import AmdKeys
from attestation.sim.azure import BOOTED, SimulatedAzure, td_report_of
from attestation.sim.eventlog import make_log
from attestation.sim.nitro import NitroState, SimulatedNitro
from attestation.sim.nvidia import Device, SimulatedNvidia
from attestation.sim.pki import DAY, derive_key
from attestation.sim.platform import SimulatedPlatform
from attestation.sim.ratls import ratls_certificate
from attestation.sim.snp import SimulatedSnp, SnpState
from attestation.sim.tdx import SimulatedTdx, TdxState
from attestation.sim.tpm import SimulatedTpm, boot_values
from attestation.tpm.algorithms import Hash
from manifests.signing import label

_WORKLOAD = hashlib.sha384(label("simulated workload")).digest()
"""What every simulated guest, domain and image measures as: 48 bytes, of which SGX takes 32."""
_ZEROS = "00" * 48


@dataclass(frozen=True)
class Made:
    """Evidence, and what a verifier needs.

    name: of its file.  root: PEM certificate that policies name.  collateral: as JSON; None where there is none.
    tables: of a policy that accepts it in the healthy state, by TEE.  bound: whether it carries the report data that
    was asked for, and not something of its own.
    """

    evidence: bytes = field(repr=False)
    name: str
    root: bytes = field(repr=False)
    tables: Mapping[str, Any]
    collateral: str | None = field(default=None, repr=False)
    bound: bool = True

    def policy(self) -> dict[str, Any]:
        """Return a policy that accepts it, for a folder where the root is `root.pem`."""
        evidence = {"simulation": True, "simulated_root": "root.pem", "tcb_status": [UP_TO_DATE]}
        return {"version": 1, "evidence": evidence, **self.tables}


@dataclass(frozen=True)
class _Bench:
    """What evidence is made with."""

    home: Path
    platform: SimulatedPlatform
    report_data: bytes
    now: int

    @property
    def debug(self) -> bool:
        return self.platform.state.debug

    def tdx(self) -> SimulatedTdx:
        state = TdxState(**dataclasses.asdict(self.platform.state))
        return SimulatedTdx(self.platform.seed, self.platform.created, state)

    def snp(self) -> SimulatedSnp:
        behind = self.platform.state.tcb_status == OUT_OF_DATE
        state = SnpState(tcb_status=OUT_OF_DATE if behind else UP_TO_DATE, debug=self.debug)
        return SimulatedSnp(AmdKeys.open(self.home, self.now), state=state)

    def quote(self, report_data: bytes) -> bytes:
        return self.platform.quote(self.platform.report_body(_WORKLOAD[:32]), report_data)


def make(home: Path, tee: str, report_data: bytes, now: int) -> Made:
    """Make evidence of one of `TEES` at `now` (Unix seconds), bound to 64 bytes, on the platform of a folder.

    Makes the platform where there is none.  Raises EvidenceError or ManifestError.
    """
    return _MAKERS[tee](_Bench(Path(home), SimulatedPlatform.open(home, now), report_data, now))


def _sgx(bench: _Bench) -> Made:
    platform = bench.platform
    return Made(bench.quote(bench.report_data), "quote.bin", platform.root_pem, _SGX, _json(platform, bench))


def _ratls(bench: _Bench) -> Made:
    der = ratls_certificate(derive_key(bench.platform.seed, "ra-tls"), bench.quote)
    platform = bench.platform
    return Made(der, "certificate.der", platform.root_pem, _SGX, _json(platform, bench), bound=False)


def _tdx(bench: _Bench) -> Made:
    machine = bench.tdx()
    data = machine.evidence(_WORKLOAD, bench.report_data)
    return Made(data, "quote.bin", machine.root_pem, _TDX, _json(machine, bench))


def _snp(bench: _Bench) -> Made:
    machine = bench.snp()
    data = machine.evidence(_WORKLOAD, bench.report_data)
    return Made(data, "report.bin", machine.root_pem, _snp_tables(machine), _json(machine, bench))


def _nitro(bench: _Bench) -> Made:
    """AWS's regional certificates live for weeks, so that the hierarchy is of the present day."""
    parent = SimulatedNitro(bench.platform.seed, bench.now - bench.now % DAY, NitroState(bench.debug))
    data = parent.evidence({0: _WORKLOAD}, bench.report_data, bench.now)
    return Made(data, "document.cbor", parent.root_pem, {"nitro": {"pcrs": {"pcr0": [_WORKLOAD.hex()]}}})


def _tpm(bench: _Bench) -> Made:
    tpm = SimulatedTpm(bench.platform.seed, bench.platform.created)
    values = boot_values(make_log())
    pcrs = {f"pcr{index}": [values[Hash.SHA256, index].hex()] for index in (4, 7)}
    return Made(tpm.evidence(bench.report_data), "evidence.bin", tpm.root_pem, {"tpm": {"pcrs": {"sha256": pcrs}}})


def _azure_tdx(bench: _Bench) -> Made:
    machine = bench.tdx()

    def quote(data: bytes) -> bytes:
        return machine.evidence(_WORKLOAD, data)

    vm = SimulatedAzure(bench.platform.seed, ReportType.TDX, lambda data: td_report_of(quote(data)), quote)
    tables = _TDX | _VTPM | {"azure-tdx": {}}
    return Made(vm.evidence(bench.report_data), "evidence.json", machine.root_pem, tables, _json(machine, bench))


def _azure_snp(bench: _Bench) -> Made:
    machine = bench.snp()
    held = machine.collateral(bench.now)
    vm = SimulatedAzure(
        bench.platform.seed, ReportType.SNP, lambda data: machine.evidence(_WORKLOAD, data), lambda _: held.vek
    )
    tables = _snp_tables(machine) | _VTPM | {"azure-snp": {}}
    without = dataclasses.replace(held, vek=b"").to_json()  # the evidence brings the key's certificate along
    return Made(vm.evidence(bench.report_data), "evidence.json", machine.root_pem, tables, without)


def _nvidia(bench: _Bench) -> Made:
    machine, device = SimulatedNvidia(bench.platform.seed, bench.platform.created), Device()
    table = {
        "products": [device.product],
        "driver_versions": [device.driver_version],
        "vbios_versions": [device.vbios_version],
        "device_serials": [machine.serial(device).hex()],
    }
    return Made(machine.evidence(bench.report_data, device), "evidence.bin", machine.root_pem, {"nvidia": table})


def _json(machine: SimulatedPlatform | SimulatedTdx | SimulatedSnp, bench: _Bench) -> str:
    return machine.collateral(bench.now).to_json()


def _snp_tables(machine: SimulatedSnp) -> dict[str, Any]:
    floors = {str(machine.product): machine.reported.to_dict()}
    return {"snp": {"measurement": [_WORKLOAD.hex()], "reported_tcb_min": floors, "policy_allowed": ["SMT"]}}


_SGX: Final = {"sgx": {"mrenclave": [_WORKLOAD[:32].hex()]}}
_TDX: Final = {"tdx": {"mrtd": [_WORKLOAD.hex()], "rtmr1": [_ZEROS], "rtmr2": [_ZEROS]}}
_VTPM: Final = {"tpm": {"pcrs": {"sha256": {"pcr7": [BOOTED[7].hex()]}}}}

_MAKERS: Final[Mapping[str, Callable[[_Bench], Made]]] = {
    "sgx": _sgx,
    "tdx": _tdx,
    "snp": _snp,
    "nitro": _nitro,
    "tpm": _tpm,
    "azure-snp": _azure_snp,
    "azure-tdx": _azure_tdx,
    "ratls": _ratls,
    "nvidia": _nvidia,
}

TEES: Final = tuple(_MAKERS)
"""Whose evidence can be made."""
