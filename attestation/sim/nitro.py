"""A simulated Nitro hypervisor: attestation documents in AWS's format, under a root of its own.

    evidence = SimulatedNitro(seed, created).evidence({0: image}, report_data, now)

Every field of a document, its certificates and its signature can be asked for otherwise, so that each refusal of the
verifier can be produced on demand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attestation.intel.pem import encode_chain
from attestation.nitro.document import PCR_SIZE
from attestation.sim.chains import Authority384, Profile384, enrol
from attestation.sim.pki import DAY, YEAR, derive
from attestation.types import cbor, cose

MODULE_ID = "i-00000000000000000-enc0000000000000000"
"""The module of every simulated enclave, in the form of AWS's."""

_REGISTERS = 16
"""As many as AWS's documents show: those above are not locked at the start."""
_MEASURED = (0, 1, 2, 4)
"""Registers that are never zero: image, kernel, application, and parent instance."""
_LEAF_LIFETIME = 3 * 3600
_LEAF_EARLY = 3
"""AWS's certificates begin three seconds before the document that they are made for."""
_ZONE = "simulated.nitro-enclaves"


@dataclass(frozen=True)
class NitroState:
    """debug: enclaves run in debug mode, with image registers of zeros."""

    debug: bool = False


class SimulatedNitro:
    """One parent instance and its hypervisor.  Everything follows from a 32-byte seed and the time of its making."""

    def __init__(self, seed: bytes, created: int, state: NitroState | None = None) -> None:
        """Derive the hierarchy: root, region, zone and instance."""
        self.state = state or NitroState()
        self._seed = seed
        start = created - DAY  # room for clocks that differ
        self.root = enrol(seed, Profile384(_ZONE), None, start, created + 30 * YEAR)
        region = enrol(seed, Profile384(f"region.{_ZONE}", path_length=2), self.root, start, created + 20 * DAY)
        zone = enrol(seed, Profile384(f"zonal.{_ZONE}", path_length=1), region, start, created + 20 * DAY)
        instance = enrol(seed, Profile384(f"instance.{_ZONE}", path_length=0), zone, start, created + 20 * DAY)
        self.authorities = (self.root, region, zone, instance)

    @property
    def root_pem(self) -> bytes:
        """The root certificate."""
        return encode_chain(self.root.der)

    @property
    def root_fingerprint(self) -> bytes:
        """SHA-256 of the DER root certificate: what policies and roots pin."""
        return hashlib.sha256(self.root.der).digest()

    def collateral(self, now: int) -> None:  # noqa: ARG002 - as the other platforms have it
        """Return what verification needs besides the document: nothing."""
        return

    def leaf(self, now: int, module_id: str = MODULE_ID, **profile: Any) -> Authority384:
        """Issue the certificate of one document; keywords change its `Profile384`."""
        name = f"{module_id}.simulated.aws"
        wanted = replace(Profile384(name, authority=False), **profile)
        return enrol(self._seed, wanted, self.authorities[-1], now - _LEAF_EARLY, now + _LEAF_LIFETIME)

    def evidence(
        self,
        registers: Mapping[int, bytes],
        report_data: bytes,
        now: int,
        *,
        chain: Sequence[Authority384] | None = None,
        signer: Authority384 | None = None,
        algorithm: int = cose.ES384,
        tagged: bool = False,
        omit: Sequence[str] = (),
        **changes: Any,
    ) -> bytes:
        """Return the document of an enclave with these registers, made at `now`; `changes` replace its fields.

        chain: the certificates, root first and the signer's last.  signer: whose key signs, if not the last of them.
        omit: fields to leave out.  Registers 0, 1, 2 and 4 that are not given follow from the seed; others are zero.
        """
        chain = chain or (*self.authorities, self.leaf(now, str(changes.get("module_id", MODULE_ID))))
        payload = self._payload(registers, report_data, now, chain) | changes
        for name in omit:
            del payload[name]
        message = cose.Sign1(algorithm, cbor.encode(payload), b"", tagged)
        signature = (signer or chain[-1]).sign_raw(message.signed())
        return cose.Sign1(algorithm, message.payload, signature, tagged).serialize()

    def _payload(
        self, given: Mapping[int, bytes], report_data: bytes, now: int, chain: Sequence[Authority384]
    ) -> dict[int | str, Any]:
        registers = dict.fromkeys(range(_REGISTERS), bytes(PCR_SIZE))
        registers |= {index: derive(self._seed, f"pcr{index}")[:PCR_SIZE] for index in _MEASURED} | dict(given)
        if self.state.debug:
            registers |= dict.fromkeys(range(3), bytes(PCR_SIZE))
        return {
            "module_id": MODULE_ID,
            "digest": "SHA384",
            "timestamp": 1000 * now,
            "pcrs": registers,
            "certificate": chain[-1].der,
            "cabundle": [authority.der for authority in chain[:-1]],
            "public_key": None,
            "user_data": report_data,
            "nonce": None,
        }
