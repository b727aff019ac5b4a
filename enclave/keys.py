"""The enclave's own keys, drawn at start: their seeds rest in the arena, their public halves stand in the claims."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_seed_keypair

from enclave.arena import Arena, Secret
from manifests.sealed.recipients import RecipientKey

BOOT_ID_SIZE = 16


@dataclass(frozen=True)
class EnclaveKeys:
    """Receipt key (Ed25519) and HPKE key (X-Wing) of one boot, the boot's random id of 16 bytes, and a secret of 32.

    The secret is for what nobody outside is to foresee, such as the projections of the abuse detectors.
    """

    receipt_public: bytes
    hpke_public: bytes
    boot_id: bytes
    receipt_seed: Secret = field(repr=False)
    hpke_seed: Secret = field(repr=False)
    boot_secret: Secret = field(repr=False)

    @classmethod
    def generate(cls, arena: Arena) -> EnclaveKeys:
        """Draw all keys; raises EnclaveError `arena-full`."""
        receipt_seed = arena.store(os.urandom(32))
        receipt_public, _ = crypto_sign_seed_keypair(bytes(receipt_seed.view))
        hpke = RecipientKey.generate()
        boot_id, hpke_seed = os.urandom(BOOT_ID_SIZE), arena.store(hpke.to_bytes())
        return cls(receipt_public, hpke.public, boot_id, receipt_seed, hpke_seed, arena.store(os.urandom(32)))

    def sign(self, message: bytes) -> bytes:
        """Return the receipt key's Ed25519 signature, 64 bytes, of what is a receipt.

        The seed passes through ordinary memory for this one call, since the library takes nothing else.
        """
        return crypto_sign(message, bytes(self.receipt_seed.view) + self.receipt_public)[:crypto_sign_BYTES]
