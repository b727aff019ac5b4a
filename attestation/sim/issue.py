"""The simulated vendor's publications: TCB info, QE identity and revocation lists, in the state that is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attestation.intel.collateral import IntelCollateral
from attestation.intel.pem import encode_chain
from attestation.intel.tcb import TcbStatus
from attestation.sim.pki import DAY, Authority, Pki, revocation_list
from attestation.sim.state import DOCUMENTS, UNLISTED, State
from attestation.validity import rfc3339

LIFETIME = 30 * DAY
"""As Intel's: new TCB info every month at the latest."""
_AGE = 3600

QE_ISV_SVN = 8
QE_ISV_PROD_ID = 1

_BELOW_NEWEST = {str(TcbStatus.OUT_OF_DATE), str(TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED), str(TcbStatus.REVOKED)}

Span = tuple[int, int]


def spans(state: State, now: int) -> dict[str, Span]:
    """Return (issued, next update) of each document, as the state wants them at `now`."""
    result = {}
    for name in DOCUMENTS:
        start = now - _AGE
        if name in state.expired:
            start = now - LIFETIME - DAY
        elif name in state.early:
            start = now + DAY
        result[name] = (start, start + LIFETIME)
    return result


@dataclass(frozen=True)
class Publication:
    """What a vendor publishes beside certificates, and who signs it.  Change a field to make a deviation.

    tcb_info, qe_identity: the documents without their dates.  signer: of both.
    """

    tcb_info: Mapping[str, Any]
    qe_identity: Mapping[str, Any]
    signer: Authority


def issue(pki: Pki, qe_signer: bytes, state: State, dates: Mapping[str, Span]) -> IntelCollateral:
    """Issue SGX collateral in `state`; `dates` as of `spans`, `qe_signer` is the quoting enclave's MRSIGNER."""
    identity = qe_identity("QE", QE_ISV_PROD_ID, qe_signer, state)
    return publish(pki, Publication(_tcb_info(pki, state), identity, pki.tcb_signing), state, dates)


def publish(pki: Pki, publication: Publication, state: State, dates: Mapping[str, Span]) -> IntelCollateral:
    """Sign and date a publication, and the revocation lists that go with it."""
    info = _document(publication.tcb_info, dates["tcb-info"])
    identity = _document(publication.qe_identity, dates["qe-identity"])
    signers = encode_chain(publication.signer.der, pki.root.der)
    authorities = {"pck-ca": pki.pck_ca, "tcb-signing": pki.tcb_signing}
    revoked = [a.certificate.serial_number for name, a in authorities.items() if name in state.revoked]
    leaves = [pki.pck.certificate.serial_number] if "pck" in state.revoked else []
    return IntelCollateral(
        pck_crl_issuer_chain=encode_chain(pki.pck_ca.der, pki.root.der),
        root_ca_crl=revocation_list(pki.root, revoked, *dates["root-crl"]),
        pck_crl=revocation_list(pki.pck_ca, leaves, *dates["pck-crl"]),
        tcb_info_issuer_chain=signers,
        tcb_info=info,
        tcb_info_signature=publication.signer.sign_raw(info),
        qe_identity_issuer_chain=signers,
        qe_identity=identity,
        qe_identity_signature=publication.signer.sign_raw(identity),
    )


def _document(body: Mapping[str, Any], span: Span) -> bytes:
    kind = {name: body[name] for name in ("id", "version") if name in body}
    dates = {"issueDate": rfc3339(span[0]), "nextUpdate": rfc3339(span[1])}
    return json.dumps(kind | dates | dict(body), separators=(",", ":")).encode("ascii")


def _tcb_info(pki: Pki, state: State) -> dict[str, Any]:
    platform = pki.extension
    newer = (platform.components[0] + 1, *platform.components[1:])

    def tcb(components: tuple[int, ...]) -> dict[str, Any]:
        return {"sgxtcbcomponents": [{"svn": svn} for svn in components], "pcesvn": platform.pce_svn}

    return {
        "id": "SGX",
        "version": 3,
        "fmspc": platform.fmspc.hex().upper(),
        "pceId": platform.pce_id.hex().upper(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": state.evaluation_number,
        "tcbLevels": levels(state.tcb_status, tcb(newer), tcb(platform.components), state.advisories),
    }


def qe_identity(name: str, product: int, qe_signer: bytes, state: State) -> dict[str, Any]:
    """Return the identity of a quoting enclave, whose id is `name`, without dates."""
    return {
        "id": name,
        "version": 2,
        "tcbEvaluationDataNumber": state.evaluation_number,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": qe_signer.hex().upper(),
        "isvprodid": product,
        "tcbLevels": levels(state.qe_status, {"isvsvn": QE_ISV_SVN + 1}, {"isvsvn": QE_ISV_SVN}, ()),
    }


def levels(
    status: str, newer: dict[str, Any], own: dict[str, Any], advisories: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Return the levels, newest first, that give the platform's own security versions this status."""
    up_to_date = {"tcb": newer, "tcbDate": "2025-05-14T00:00:00Z", "tcbStatus": str(TcbStatus.UP_TO_DATE)}
    if status == UNLISTED:
        return [up_to_date]
    level: dict[str, Any] = {"tcb": own, "tcbDate": "2024-11-13T00:00:00Z", "tcbStatus": status}
    if advisories:
        level["advisoryIDs"] = list(advisories)
    return [up_to_date, level] if status in _BELOW_NEWEST else [level]
