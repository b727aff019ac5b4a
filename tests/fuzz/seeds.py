"""Good inputs to begin with: the conformance corpus, and captured evidence where it is present."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

from attestation.amd.collateral import SnpCollateral
from attestation.azure.abi import AzureEvidence, parse_evidence
from attestation.collateral.kinds import decode
from attestation.intel.collateral import IntelCollateral
from attestation.nitro.document import parse_document
from attestation.tpm.abi import TpmEvidence
from attestation.tpm.abi import parse_evidence as parse_tpm
from tests.vectors.attestation.vector import Vector, read_all

MOST = 12
"""Of one kind: enough to begin with, and quick to load."""
_CAPTURED = {
    "sgx": ("sgx", ".quote.bin"),
    "tdx": ("tdx", ".quote.bin"),
    "snp": ("snp", ".bin"),
    "nitro": ("nitro", ".cbor"),
    "eventlog": ("tdx", ".ccel.bin"),
    "rim": ("nvidia", ".xml"),
    "report": ("nvidia", ".report.hex"),
    "vek": ("snp/certs", ".der"),
}
_MAX_CAPTURED = 64 * 1024


@functools.lru_cache(maxsize=1)
def vectors() -> tuple[Vector, ...]:
    return tuple(read_all())


@functools.lru_cache(maxsize=16)
def accepted(*tees: str) -> tuple[Vector, ...]:
    """Cases that are accepted, of these TEEs or all, raw and not wrapped."""
    return tuple(
        vector
        for vector in vectors()
        if (vector.kind, vector.expect, vector.wrapped) == ("evidence", "accepted", False)
        if not tees or vector.tee in tees
    )


def evidence(tee: str) -> list[bytes]:
    return _some([vector.evidence for vector in accepted(tee)]) + captured(tee)


def any_evidence() -> list[bytes]:
    wrapped = [vector.evidence for vector in vectors() if vector.wrapped and vector.expect == "accepted"]
    firsts = {vector.tee: vector.evidence for vector in accepted()}
    return [*wrapped, *firsts.values()]


def collateral_texts() -> list[bytes]:
    return _some([v.collateral.encode() for v in accepted("sgx", "tdx", "snp") if v.collateral is not None])


def intel_collateral() -> IntelCollateral:
    return next(c for v in accepted("tdx") if isinstance(c := decode((v.collateral or "").encode()), IntelCollateral))


def snp_collateral() -> SnpCollateral:
    return next(c for v in accepted("snp") if isinstance(c := decode((v.collateral or "").encode()), SnpCollateral))


def policies() -> list[bytes]:
    return _some([vector.policy.encode() for vector in accepted()][::7])


def feeds() -> list[bytes]:
    found = [json.loads(_toml(v.policy)["broken_hardware"]) for v in vectors() if "broken_hardware =" in v.policy]
    return _some([json.dumps(feed).encode() for feed in found])


def _toml(policy: str) -> dict[str, str]:
    import tomllib

    table: dict[str, str] = tomllib.loads(policy)["evidence"]
    return table


def tpm() -> list[TpmEvidence]:
    return [parse_tpm(data) for data in evidence("tpm")]


def azure() -> list[AzureEvidence]:
    return [parse_evidence(data) for tee in ("azure-snp", "azure-tdx") for data in evidence(tee)[:4]]


def cose() -> list[bytes]:
    return [parse_document(data).message.payload for data in evidence("nitro")]


def captured(kind: str) -> list[bytes]:
    """Captured files of one kind, where the shared vectors are present."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "vectors"
    folder, ending = _CAPTURED.get(kind, ("", ""))
    root = Path(os.environ.get("STRONGROOM_VECTORS", beside)) / folder
    if not ending or not root.is_dir():
        return []
    paths = [path for path in sorted(root.rglob(f"*{ending}")) if path.stat().st_size <= _MAX_CAPTURED]
    return [path.read_bytes() for path in paths[:6]]


def reports() -> list[bytes]:
    """Captured reports of NVIDIA's devices, which stand there in hex."""
    return [bytes.fromhex(data.decode("ascii")) for data in captured("report")]


def _some(items: list[bytes]) -> list[bytes]:
    return list(dict.fromkeys(items))[:MOST]
