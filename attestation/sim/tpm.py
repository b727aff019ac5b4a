"""A simulated TPM: quotes in the real format, under an attestation key that a simulated authority certifies.

    tpm = SimulatedTpm(seed, created)
    evidence = tpm.evidence(report_data)                              healthy, with the log of a simulated boot
    evidence = tpm.evidence(report_data, clock=7, safe=False)         any field of the quote, signed as it then stands
    evidence = tpm.evidence(report_data, container={"pcrs": [...]})   any field of the container, as it then is

Everything follows from the seed and the time of making.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from attestation.eventlog.log import parse_event_log
from attestation.eventlog.replay import replay_pcrs
from attestation.intel.pem import encode_chain
from attestation.sim.eventlog import make_log
from attestation.sim.pki import Authority, Lifetimes, derive_key
from attestation.sim.pss import sign_pss
from attestation.sim.rsa_key import derive_rsa_key
from attestation.sim.tpm_pki import authority, certify_key, key_profile, root_profile
from attestation.tpm.abi import FORMAT, VERSION
from attestation.tpm.algorithms import NULL, SIGNING_HASHES, Curve, Hash, KeyType, Scheme
from attestation.tpm.attest import Attest, PcrSelection
from attestation.tpm.marshal import U16, U32, Sized
from attestation.tpm.public import REQUIRED, Attributes, Public, fingerprint
from attestation.tpm.signature import Signature
from manifests import canonical

OWNER = bytes.fromhex("40000001")
"""TPM_RH_OWNER: the attestation key is a primary key of this hierarchy."""
FIRMWARE = 0x2025_1001_0000_0001

_QUOTED = (*range(10), 16, 23)
_CLOCK = 86_400_000
_BUFFER = Sized("", 0, 0xFFFF)
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class SimulatedTpm:
    """One TPM with its attestation key, and the authority that certified it.

    scheme: ECDSA (P-256), RSASSA or RSAPSS (2048 bits), each with SHA-256.  attributes: of the attestation key.
    """

    def __init__(
        self,
        seed: bytes,
        created: int,
        scheme: Scheme = Scheme.ECDSA,
        *,
        attributes: Attributes = REQUIRED | Attributes.USER_WITH_AUTH,
        lifetimes: Lifetimes | None = None,
    ) -> None:
        """Derive the keys, and issue the certificates."""
        self.scheme = scheme
        ecc = scheme is Scheme.ECDSA
        self.key: PrivateKey = derive_key(seed, "tpm ak") if ecc else derive_rsa_key(seed, "tpm ak")
        self.public = Public.parse(_public_area(self.key, scheme, attributes))
        lifetimes = lifetimes or Lifetimes()
        self._seed = seed
        self.root = authority(seed, root_profile(created, lifetimes))
        self.profile = key_profile(created, lifetimes)
        self.chain = (self.certificate(), self.root.der)

    @property
    def root_pem(self) -> bytes:
        """The certificate of the authority, which policies and roots name."""
        return encode_chain(self.root.der)

    @property
    def root_fingerprint(self) -> bytes:
        """SHA-256 of the authority's DER certificate."""
        return hashlib.sha256(self.root.der).digest()

    @property
    def ak_fingerprint(self) -> bytes:
        """SHA-256 of the attestation key's SubjectPublicKeyInfo."""
        return fingerprint(self.key.public_key())

    def certificate(self, issuer: Authority | None = None, **changes: Any) -> bytes:
        """Issue the attestation key's DER certificate; changes: fields of its profile to replace."""
        return certify_key(self._seed, replace(self.profile, **changes), self.key.public_key(), issuer or self.root)

    def collateral(self, now: int) -> None:
        """Return nothing: TPM evidence has no collateral."""

    def evidence(
        self,
        report_data: bytes,
        *,
        log: bytes | None = None,
        pcrs: Mapping[tuple[Hash, int], bytes] | None = None,
        signer: PrivateKey | None = None,
        container: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> bytes:
        """Return a container with a quote over 64 bytes of report data, as their SHA-256.

        log: an event log, by default that of a simulated boot; b"" leaves it out.  pcrs: values by bank and index, by
        default the log's, or zeros, for a dozen PCRs.  signer: another private key.  container: fields of the
        container to replace.  changes: fields of the quote to replace before it is signed.
        """
        log = make_log() if log is None else log
        values = dict(sorted((pcrs or boot_values(log)).items()))
        attest = self.attest(hashlib.sha256(report_data).digest(), values, **changes)
        message = attest.serialize()
        fields = {
            "format": FORMAT,
            "version": VERSION,
            "key": self.public.serialize(),
            "key_chain": list(self.chain),
            "log": log,
            "message": message,
            "parent": OWNER,
            "pcrs": list(values.values()),
            "signature": sign(signer or self.key, self.scheme, message),
        }
        return canonical.encode(fields | dict(container or {}))

    def attest(self, qualifying: bytes, values: Mapping[tuple[Hash, int], bytes], **changes: Any) -> Attest:
        """Return what the TPM signs when it quotes these PCR values (in order of bank and index)."""
        fields: dict[str, Any] = {
            "qualified_signer": self.public.qualified_name(OWNER),
            "extra_data": qualifying,
            "clock": _CLOCK,
            "reset_count": 3,
            "restart_count": 0,
            "safe": True,
            "firmware_version": FIRMWARE,
            "pcr_select": selection_of(values),
            "pcr_digest": Hash.SHA256.digest(*values.values()),
        }
        return Attest(**fields | changes)


def boot_values(log: bytes, bank: Hash = Hash.SHA256) -> dict[tuple[Hash, int], bytes]:
    """Return the values of a dozen PCRs after a log; without one, zeros."""
    replayed = replay_pcrs(parse_event_log(log), bank) if log else {}
    return {(bank, index): replayed.get(index, bytes(bank.size)) for index in _QUOTED}


def selection_of(values: Mapping[tuple[Hash, int], bytes]) -> tuple[PcrSelection, ...]:
    """Return the selection of PCRs that a map of values has, bank by bank."""
    banks = dict.fromkeys(bank for bank, _ in values)
    return tuple(PcrSelection(bank, tuple(index for each, index in values if each is bank)) for bank in banks)


def sign(key: PrivateKey, scheme: Scheme, message: bytes, hash_: Hash = Hash.SHA256) -> bytes:
    """Return the TPMT_SIGNATURE over a message."""
    algorithm = SIGNING_HASHES[hash_]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size = (key.curve.key_size + 7) // 8
        pair = decode_dss_signature(key.sign(message, ec.ECDSA(algorithm, deterministic_signing=True)))
        return Signature(scheme, hash_, tuple(number.to_bytes(size, "big") for number in pair)).serialize()
    if scheme is Scheme.RSAPSS:
        return Signature(scheme, hash_, (sign_pss(key, message, algorithm.name),)).serialize()
    return Signature(scheme, hash_, (key.sign(message, padding.PKCS1v15(), algorithm),)).serialize()


def _public_area(key: PrivateKey, scheme: Scheme, attributes: Attributes) -> bytes:
    """Return the TPM2B_PUBLIC of a signing key."""
    kind = KeyType.ECC if scheme is Scheme.ECDSA else KeyType.RSA
    head = U16.write(kind) + U16.write(Hash.SHA256) + U32.write(int(attributes)) + _BUFFER.write(b"")
    head += U16.write(NULL) + U16.write(scheme) + U16.write(Hash.SHA256)
    if isinstance(key, rsa.RSAPrivateKey):
        modulus = key.public_key().public_numbers().n
        tail = U16.write(key.key_size) + U32.write(0) + _BUFFER.write(modulus.to_bytes(key.key_size // 8, "big"))
    else:
        point = key.public_key().public_numbers()
        tail = U16.write(Curve.NIST_P256) + U16.write(NULL)
        tail += b"".join(_BUFFER.write(number.to_bytes(32, "big")) for number in (point.x, point.y))
    return _BUFFER.write(head + tail)
