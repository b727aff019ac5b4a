"""What an enclave says of itself, and the record that carries it with its quote."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Self

from attestation.binding import HASH_SIZE, MAX_PATH, InclusionProof
from manifests import canonical, fields, signing
from manifests.errors import ManifestCode, ManifestError

MAX_CLAIMS = 64 * 1024
MAX_EVENT_LOG = 256 * 1024
"""The largest event log that a TPM's evidence carries in a session: firmware reserves 64 to 256 KiB for its log."""
MAX_QUOTE = MAX_EVENT_LOG + 64 * 1024
"""An SGX or TDX quote takes some 5 KiB.  A TPM's evidence has its log, and beside that its key's chain, the quote and
the PCR values."""
MAX_DEVICE_EVIDENCE = 1024 * 1024
"""The largest machine has 8 GPUs and 4 switches, and takes some 180 KiB where those are of one kind each.  If each had
a driver and a VBIOS of its own, their 20 manifests would bring that to some 700 KiB."""
MAX_EVIDENCE = MAX_CLAIMS + MAX_QUOTE + MAX_DEVICE_EVIDENCE + 4 * 1024
"""The whole record: those three, and less than 2 KiB for the proof, the hint and the names of the fields.

Both ends pay for this before either knows the other, so the bound is as tight as real evidence allows.

A client holds at most so much for a server that nobody has attested yet, in place of the 256 MiB of other messages.
What does not fit is refused by the length of its records, before memory is taken for it.

A client that nobody has authenticated gets evidence for a hello of 1,218 bytes.  How much is not its choice: the
measured settings decide what the enclave sends, the same to everybody, and it is some 5 KiB unless they name an event
log or devices.  An address cannot be forged to have it sent to somebody else, because streams are connected first.
The costly parts, a quote and what devices answer, are made once for all who wait, and once in the process's life.
Encoding and encrypting the rest takes milliseconds, for as many sessions at a time as the enclave has threads.  A
client that does not read what it asked for fills a queue in the host, which drops it at a bound of its own.
"""
MAX_OWNERS = 16
HPKE_PUBLIC_SIZE = 1216
"""X-Wing: an ML-KEM-768 encapsulation key (1,184 bytes) and an X25519 public key (32 bytes)."""


@dataclass(frozen=True)
class OwnerState:
    """What the enclave knows of one owner: newest epoch, newest heartbeat and delegation as signed documents.

    `heartbeat` and `delegation` are empty before the first provisioning.
    """

    owner: bytes
    epoch: int
    heartbeat: bytes
    delegation: bytes


@dataclass(frozen=True)
class Claims:
    """What an enclave says of itself under its quote.

    receipt_key: Ed25519 public key, 32 bytes.  hpke_key: X-Wing public key, 1,216 bytes.  boot_id: 16 random
    bytes drawn at start.  admitted: the owners that the measured settings name, or `first` (the first valid
    grant fixes the one owner) or `any`.  gpu_evidence: `binding.device_digest` of GPU evidence, or empty.
    """

    receipt_key: bytes
    hpke_key: bytes
    boot_id: bytes
    admitted: tuple[bytes, ...] | str
    owners: tuple[OwnerState, ...]
    gpu_evidence: bytes = b""

    def encode(self) -> bytes:
        """Return the canonical bytes that the quote covers."""
        return canonical.encode(
            {
                "version": 1,
                "receipt_key": self.receipt_key,
                "hpke_key": self.hpke_key,
                "boot_id": self.boot_id,
                "admitted": self.admitted if isinstance(self.admitted, str) else list(self.admitted),
                "owners": [[o.owner, o.epoch, o.heartbeat, o.delegation] for o in self.owners],
                "gpu_evidence": self.gpu_evidence,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode claims; raises ManifestError."""
        names = ("receipt_key", "hpke_key", "boot_id", "admitted", "owners", "gpu_evidence")
        value = fields.versioned_map(canonical.decode(data, max_size=MAX_CLAIMS), "the record of claims", names)
        gpu = fields.bounded_bytes(value["gpu_evidence"], "gpu_evidence", HASH_SIZE)
        if len(gpu) not in {0, HASH_SIZE}:
            raise ManifestError(ManifestCode.FIELD_INVALID, "gpu_evidence is neither empty nor a digest")
        owners = tuple(cls._owner(item) for item in fields.list_of(value["owners"], "owners", MAX_OWNERS))
        fields.ascending([owner.owner for owner in owners], "owners")
        return cls(
            receipt_key=signing.public_key_field(value["receipt_key"], "receipt_key"),
            hpke_key=fields.fixed_bytes(value["hpke_key"], "hpke_key", HPKE_PUBLIC_SIZE),
            boot_id=fields.fixed_bytes(value["boot_id"], "boot_id", 16),
            admitted=cls._admitted(value["admitted"]),
            owners=owners,
            gpu_evidence=gpu,
        )

    @staticmethod
    def _admitted(value: object) -> tuple[bytes, ...] | str:
        if isinstance(value, str):
            if value not in {"first", "any"}:
                raise ManifestError(ManifestCode.FIELD_INVALID, "admitted is neither keys, 'first' nor 'any'")
            return value
        keys = [signing.public_key_field(item, "admitted") for item in fields.list_of(value, "admitted", MAX_OWNERS)]
        if not keys:
            raise ManifestError(ManifestCode.FIELD_INVALID, "admitted names no owner")
        fields.ascending(keys, "admitted")
        return tuple(keys)

    @staticmethod
    def _owner(value: object) -> OwnerState:
        items = fields.list_of(value, "owner", 4)
        if len(items) != 4:
            raise ManifestError(ManifestCode.FIELD_INVALID, "an owner entry has four items", found=len(items))
        return OwnerState(
            owner=signing.public_key_field(items[0], "owner"),
            epoch=fields.number(items[1], "epoch", 0),
            heartbeat=fields.bounded_bytes(items[2], "heartbeat", 4096),
            delegation=fields.bounded_bytes(items[3], "delegation", 16 * 1024),
        )


@dataclass(frozen=True)
class EvidenceRecord:
    """Content of the `evidence` record: claims and quote as bytes, the inclusion proof, a collateral hint, devices.

    `hint` is free text such as "sgx fmspc=00906ed50000 ca=processor"; it is advice, never trusted.  `devices` is the
    evidence of the enclave's devices, whose digest the claims carry; without devices it is empty, and not transmitted.
    """

    claims: bytes
    quote: bytes
    proof: InclusionProof
    hint: str
    devices: bytes = b""

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        value = {
            "version": 1,
            "claims": self.claims,
            "quote": self.quote,
            "index": self.proof.index,
            "size": self.proof.size,
            "path": list(self.proof.path),
            "hint": self.hint,
        }
        return canonical.encode(value | ({"devices": self.devices} if self.devices else {}))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode an evidence record; raises ManifestError.  Nothing in it is verified."""
        names = ("claims", "quote", "index", "size", "path", "hint")
        decoded = canonical.decode(data, max_size=MAX_EVIDENCE)
        value = fields.versioned_map(decoded, "the evidence", names, ("devices",))
        size = fields.number(value["size"], "size", 1, 1 << MAX_PATH)
        path = fields.list_of(value["path"], "path", MAX_PATH)
        return cls(
            claims=fields.bounded_bytes(value["claims"], "claims", MAX_CLAIMS),
            quote=fields.bounded_bytes(value["quote"], "quote", MAX_QUOTE),
            proof=InclusionProof(
                index=fields.number(value["index"], "index", 0, size - 1),
                size=size,
                path=tuple(fields.fixed_bytes(item, "path", HASH_SIZE) for item in path),
            ),
            hint=fields.text(value["hint"], "hint", 256),
            devices=cls._devices(value["devices"]) if "devices" in value else b"",
        )

    @staticmethod
    def _devices(value: object) -> bytes:
        """Return evidence of devices that is there: an empty one would be a second encoding of none."""
        devices = fields.bounded_bytes(value, "devices", MAX_DEVICE_EVIDENCE)
        if not devices:
            raise ManifestError(ManifestCode.FIELD_INVALID, "devices is there, and empty")
        return devices

    def digest(self) -> bytes:
        """Return SHA-512 of quote and claims: the evidence digest that tickets and receipts carry.

        It covers the devices, too, through the claims.
        """
        return hashlib.sha512(
            signing.label("evidence") + hashlib.sha512(self.quote).digest() + hashlib.sha512(self.claims).digest()
        ).digest()
