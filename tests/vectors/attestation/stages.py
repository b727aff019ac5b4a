"""What running a case of any kind has in common: its outcome, and the stage that ended it."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from attestation.collateral import Collateral, CollateralSource, DirectorySource, FixedSource
from attestation.collateral.kinds import decode
from attestation.ear import VerifierId, issue_token
from attestation.evidence import Roots
from attestation.findings import Appraisal
from attestation.intel import pem
from attestation.policy import Policy
from attestation.roots import Hierarchy
from attestation.verified import Verified
from manifests.errors import Fault, StrongroomError
from manifests.signing import Signer
from tests.vectors.attestation.vector import Roots as Named
from tests.vectors.attestation.vector import Vector

OUTCOMES: Final = {
    Fault.REFUSED: "refused",
    Fault.MALFORMED: "malformed",
    Fault.UNSUPPORTED: "unsupported",
    Fault.USAGE: "usage",
    Fault.UNAVAILABLE: "unavailable",
}
_HIERARCHIES: Final = {
    "replacement-intel": Hierarchy.INTEL,
    "replacement-amd": Hierarchy.AMD,
    "replacement-nitro": Hierarchy.NITRO,
    "replacement-nvidia-device": Hierarchy.NVIDIA_DEVICE,
    "replacement-nvidia-rim": Hierarchy.NVIDIA_RIM,
}
VERIFIER: Final = VerifierId("conformance", "corpus 1")
"""Who issues the tokens of the corpus, whatever release makes them."""


@dataclass(frozen=True)
class Outcome:
    """What came of a case, in the words of its file."""

    expect: str
    phase: str | None = None
    codes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    tcb_status: str | None = None
    tee: str | None = None
    version: int | None = None
    token: str | None = None
    registers: str | None = None


class Stopped(Exception):  # noqa: N818 - it carries an outcome, which need not be an error
    """Raised for the stage that ends a case."""

    def __init__(self, phase: str, error: StrongroomError) -> None:
        """Keep the outcome."""
        super().__init__(phase)
        self.outcome = Outcome(OUTCOMES[error.code.fault], phase, (str(error.code),))


def stage(phase: str, action: Any, *arguments: Any, **named: Any) -> Any:
    """Return what a stage gives, or end the case with its error."""
    try:
        return action(*arguments, **named)
    except StrongroomError as error:
        raise Stopped(phase, error) from None


def roots_of(named: Named) -> Roots:
    """The roots that a case trusts."""
    simulated = [content.encode() for kind, content in named if kind == "simulated"]
    roots = Roots.simulated(*simulated) if simulated else Roots.vendor()
    replaced: dict[Hierarchy, list[bytes]] = {}
    for kind, content in named:
        if kind in _HIERARCHIES:
            replaced.setdefault(_HIERARCHIES[kind], []).append(fingerprint(content))
    roots = roots.dangerously_replaced(replaced)
    keys = [bytes.fromhex(content) for kind, content in named if kind == "tpm"]
    return roots.with_tpm(keys) if keys else roots


def fingerprint(certificate: str) -> bytes:
    """Return the SHA-256 of a root's DER."""
    return hashlib.sha256(pem.decode_chain(certificate.encode("ascii"), 1)[0]).digest()


def collateral_of(vector: Vector) -> Collateral | None:
    """The collateral that a case hands over; raises EvidenceError."""
    return None if vector.collateral is None else decode(vector.collateral.encode())


class Store(DirectorySource):
    """A folder in which the corpus looks up the file of the platform's name, and no other (README, `store`)."""

    fetch = CollateralSource.fetch
    fetch_for = CollateralSource.fetch_for
    under = CollateralSource.under


@contextlib.contextmanager
def source_of(vector: Vector) -> Iterator[CollateralSource]:
    """Where a case's collateral is looked up: in its folder, or else whatever is asked for."""
    if vector.collateral is not None:
        yield FixedSource(decode(vector.collateral.encode()))
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, text in vector.store or ():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        yield Store(folder)


def judged(
    vector: Vector,
    policy: Policy,
    appraisal: Appraisal,
    verified: Verified,
    *,
    at: int,
    devices: Verified | None = None,
) -> Outcome:
    """Return the outcome of a case that came as far as its appraisal, and the token that it asks for."""
    statuses = [part.tcb_status for part in verified.parts if part.tcb_status is not None]
    return Outcome(
        expect="accepted" if appraisal.accepted else "refused",
        phase=None if appraisal.accepted else "appraise",
        codes=_codes(appraisal.failed),
        warnings=_codes(appraisal.warnings) if appraisal.accepted else (),
        tcb_status=statuses[0] if statuses else None,
        tee=verified.tee,
        version=verified.version,
        token=_token(vector, policy, appraisal, verified, at, devices) if "signer" in vector.details else None,
    )


def _token(  # noqa: PLR0917 - what a token depends on
    vector: Vector, policy: Policy, appraisal: Appraisal, verified: Verified, at: int, devices: Verified | None
) -> str:
    details = vector.details
    options: dict[str, Any] = {"nonce": bytes.fromhex(details["nonce"])} if "nonce" in details else {}
    options |= {"lifetime": int(details["lifetime"])} if "lifetime" in details else {}
    return str(
        stage(
            "issue",
            issue_token,
            appraisal,
            verified,
            Signer.from_seed(bytes.fromhex(details["signer"])),
            at,
            policy=policy,
            devices=devices,
            audience=details.get("audience"),
            verifier=VERIFIER,
            **options,
        )
    )


def _codes(findings: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(sorted({str(finding.code) for finding in findings}))
