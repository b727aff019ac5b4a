"""The least policy that names what evidence shows: its code, and whatever else a policy must name in order to load.

It says what the evidence is, and nothing of whether to accept that.  A what-if without a policy is held against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from attestation.policy.model import VERSION
from attestation.policy.tpm import PCRS
from attestation.tpm.algorithms import STRONG
from attestation.verified import Verified


def draft(parts: Iterable[Verified], preset: str) -> dict[str, Any]:
    """Return the map of a policy under a preset, with a table for each of these parts.

    It need not load: evidence may show nothing that a policy could name, such as a quote over PCRs that anyone resets.
    """
    tables: dict[str, Any] = {}
    for part in parts:
        made = _TABLES[part.tee](part)
        tables[part.tee] = _joined(tables[part.tee], made) if part.tee in tables else made
    return {"version": VERSION, "preset": preset, **tables}


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Join the tables of two devices: what either shows."""
    result = dict(first)
    for name, values in second.items():
        result[name] = [*result.get(name, ()), *values]
    return result


def _sgx(part: Any) -> dict[str, Any]:
    body = part.quote.body
    return {
        "mrenclave": [body.mr_enclave.hex()],
        "config_id": [body.config_id.hex()],
        "config_svn": body.config_svn,
        "isv_ext_prod_id": body.isv_ext_prod_id.hex(),
        "isv_family_id": body.isv_family_id.hex(),
    }


def _tdx(part: Any) -> dict[str, Any]:
    body = part.quote.body
    shown = {
        "mrtd": body.mr_td,
        "rtmr1": body.rtmr1,
        "rtmr2": body.rtmr2,
        "mrconfigid": body.mr_config_id,
        "mrowner": body.mr_owner,
        "mrownerconfig": body.mr_owner_config,
        "mrservicetd": body.mr_service_td or bytes(48),
    }
    return {name: [value.hex()] for name, value in shown.items()}


_SNP_IDS: Final = ("measurement", "host_data", "family_id", "image_id", "id_key_digest", "author_key_digest")


def _snp(part: Any) -> dict[str, Any]:
    table: dict[str, Any] = {name: [getattr(part.report, name).hex()] for name in _SNP_IDS}
    table["reported_tcb_min"] = {str(part.product): part.tcb_components}
    if part.endorsement.csp_id is None:
        return table
    return table | {"signing_keys": ["vlek"], "csp_id": [part.endorsement.csp_id]}


def _nitro(part: Any) -> dict[str, Any]:
    """Name the image, and whoever signed it; PCR8 is zero where nobody has."""
    pcrs = part.document.pcrs
    shown = {index: pcrs[index] for index in (0, 8) if index in pcrs and (index == 0 or any(pcrs[index]))}
    return {"pcrs": {f"pcr{index}": [value.hex()] for index, value in shown.items()}}


def _tpm(part: Any) -> dict[str, Any]:
    """Name every PCR of a bank that counts, and the key, whoever vouches for it."""
    banks: dict[str, dict[str, list[str]]] = {}
    for bank, index, value in part.quote.pcrs:
        if bank in STRONG and index < PCRS:
            banks.setdefault(bank.bank, {})[f"pcr{index}"] = [value.hex()]
    return {"ak": [part.key.hex()], "pcrs": banks}


def _nvidia(part: Any) -> dict[str, Any]:
    """Name the device's firmware by its versions and manifests, whichever it shows."""
    opaque = part.device.report.opaque
    shown = {
        "products": [part.product.name],
        "driver_versions": [opaque.driver_version],
        "vbios_versions": [opaque.vbios_version],
        "rim_tags": [rim.tag_id.hex() for rim in part.rims],
    }
    return {name: values for name, values in shown.items() if values and values != [None]}


_TABLES: Final[Mapping[str, Callable[[Any], dict[str, Any]]]] = {
    "sgx": _sgx,
    "tdx": _tdx,
    "snp": _snp,
    "nitro": _nitro,
    "tpm": _tpm,
    "nvidia": _nvidia,
    "azure-snp": lambda _: {},
    "azure-tdx": lambda _: {},
}
"""By TEE, the least table that names one part."""
