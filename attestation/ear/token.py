"""A token whose signature and dates hold, and the claims that it carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from attestation.ear.ar4si import Claim, Tier
from attestation.ear.errors import EarCode, EarError
from attestation.validity import rfc3339

PROFILE: Final = "tag:ietf.org,2026:rats/ear#04"
"""draft-ietf-rats-ear-04, section 3."""
EXTENSION_PROFILE: Final = "urn:uuid:0b0d0f3e-63a5-4f0e-8c1e-5d6f6f1f7a52"
"""The profile of the appraisals inside: the claim `ear_strongroom_appraisal`, version 1."""
EXTENSION: Final = "ear_strongroom_appraisal"

POLICY_PREFIX: Final = "strongroom-policy-sha-512:"

SIMULATED: Final = "SIMULATED"
HARDWARE: Final = "hardware"


@dataclass(frozen=True)
class Token:
    """What a trusted verifier says of evidence.  That it says so is no yes: call `require()`.

    key: Ed25519 public key that signed, 32 bytes.  issued and expires: Unix seconds, expires exclusive.  status: of the
    whole.  tee: which evidence.  vector: by claim of AR4SI, -128 to 127.  accepted: whether the policy accepted the
    evidence.  simulated: from the anchor that it reached.  policy: SHA-512 of the policy's meaning, in hex.
    appraisal: what the verifier adds: measurement, report data, codes of failed and warned checks, ...
    """

    key: bytes
    issued: int
    expires: int
    audience: str | None
    nonce: bytes | None
    verifier: dict[str, str]
    status: Tier
    tee: str
    vector: dict[Claim, int]
    accepted: bool
    simulated: bool
    policy: str
    appraisal: dict[str, Any]

    @property
    def platform(self) -> str:
        """How verdicts name the platform: `SIMULATED` is loud on purpose."""
        return SIMULATED if self.simulated else HARDWARE

    def require(self, *, simulation: bool = False, warnings: bool = False) -> None:
        """Return only if the token says that the evidence was accepted; raises EarError.

        simulation: demand a simulated platform, and ONLY that.  warnings: also take what passed because the policy
        permits something dangerous by name.  A simulated platform is contraindicated whatever its policy says, so that
        nobody takes it for hardware; of its token only the policy's verdict counts.
        """
        if self.simulated is not simulation:
            raise EarError(
                EarCode.SIMULATED,
                f"the token is of a {self.platform} platform",
                expected=SIMULATED if simulation else HARDWARE,
                found=self.platform,
                remedy="ask for the class of platform that you mean; the two are never mixed",
            )
        statuses = {Tier.AFFIRMING, Tier.WARNING} if warnings else {Tier.AFFIRMING}
        if not self.accepted or not (simulation or self.status in statuses):
            self._refuse()

    def _refuse(self) -> None:
        remedy = "have the verifier say what these checks found; docs/codes.md explains the codes"
        if self.accepted:  # and no warning was to be accepted
            remedy = "demand --warnings (warnings=True) if you accept what its policy names as dangerous: " + remedy
        codes = [*self.appraisal["failed"], *self.appraisal["warned"]]
        raise EarError(
            EarCode.STATUS,
            f"the token says of this {self.platform} evidence: {self.status.value}",
            expected=Tier.AFFIRMING.value,
            found=f"{self.status.value}: {', '.join(codes) or 'no check is named'}",
            remedy=remedy,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything for programs; byte strings as hex, times as RFC 3339."""
        return {
            "accepted": self.accepted,
            "platform": self.platform,
            "simulated": self.simulated,
            "status": self.status.value,
            "tee": self.tee,
            "trustworthiness_vector": {str(claim): value for claim, value in self.vector.items()},
            "issued": rfc3339(self.issued),
            "expires": rfc3339(self.expires),
            "key": self.key.hex(),
            "audience": self.audience,
            "nonce": None if self.nonce is None else self.nonce.hex(),
            "verifier": self.verifier,
            "policy": self.policy,
            "appraisal": self.appraisal,
        }
