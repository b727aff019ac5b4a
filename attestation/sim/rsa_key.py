"""RSA keys from a seed, for the parts that only RSA plays: a TPM's keys, and vendors' authorities.

For simulated platforms alone: the search is the plain one, and its time depends on the key.
"""

from __future__ import annotations

import functools
import math

from cryptography.hazmat.primitives.asymmetric import rsa

from attestation.sim.pki import derive

EXPONENT = 65537
_SIEVE = 4096
_SMALL = tuple(n for n in range(3, _SIEVE, 2) if all(n % d for d in range(3, math.isqrt(n) + 1, 2)))
_WITNESSES = _SMALL[:8]
"""Bases of the Miller-Rabin test; a random composite of 1024 bits passes one of them with less than 2**-40."""


@functools.lru_cache(maxsize=32)
def derive_rsa_key(seed: bytes, name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return the RSA key of `bits` bits that belongs to `name` under this seed."""
    p, q = (_prime(seed, f"{name} {half}", bits // 2) for half in ("p", "q"))
    d = pow(EXPONENT, -1, math.lcm(p - 1, q - 1))
    public = rsa.RSAPublicNumbers(EXPONENT, p * q)
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), public
    )
    return numbers.private_key()


def _prime(seed: bytes, name: str, bits: int) -> int:
    """Return the first prime from a start that follows from the name; its two highest bits are set."""
    blocks = (derive(seed, f"rsa {name} {index}") for index in range(bits // 512 + 1))
    start = int.from_bytes(b"".join(blocks)[: bits // 8], "big") | 3 << bits - 2 | 1
    residues = [(prime, start % prime) for prime in _SMALL]
    step = 0
    while True:
        candidate = start + step
        if all((residue + step) % prime for prime, residue in residues) and _suits(candidate):
            return candidate
        step += 2


def _suits(candidate: int) -> bool:
    """Whether a number is prime, and fits the exponent."""
    if math.gcd(candidate - 1, EXPONENT) != 1:
        return False
    odd, twos = candidate - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_passes(candidate, base, odd, twos) for base in _WITNESSES)


def _passes(candidate: int, base: int, odd: int, twos: int) -> bool:
    """Tell whether a base is no witness that the number is composite (Miller-Rabin)."""
    power = pow(base, odd, candidate)
    if power in {1, candidate - 1}:
        return True
    for _ in range(twos - 1):
        power = power * power % candidate
        if power == candidate - 1:
            return True
    return False
