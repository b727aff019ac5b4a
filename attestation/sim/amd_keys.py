"""The simulated AMD's authority keys: RSA of 4096 bits, made once and kept, and signatures that follow from them.

Finding such keys from a seed takes half a minute in Python, so these are drawn at random, on the first use of a
platform's folder, and stored there beside the seed of everything else.  What they sign is the same each time: the salt
of a signature follows from key and message.
"""

from __future__ import annotations

import functools
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from attestation.errors import EvidenceCode, EvidenceError
from attestation.sim import pss
from manifests import canonical, fields
from manifests.errors import ManifestCode, ManifestError
from manifests.files import exists, make_folder, read_bounded, write_atomically

BITS: Final = 4096
FILE: Final = "snp.key"
_NAMES = ("ark", "ask", "asvk")
_SEED_SIZE = 32
_SECRET_MODE = 0o600
_HOME_MODE = 0o700
_MAX_FILE = 64 * 1024


@dataclass(frozen=True)
class AmdKeys:
    """The private keys of one simulated AMD, for all products, and the seed and time of making of all else."""

    seed: bytes = field(repr=False)
    created: int
    ark: rsa.RSAPrivateKey = field(repr=False)
    ask: rsa.RSAPrivateKey = field(repr=False)
    asvk: rsa.RSAPrivateKey = field(repr=False)

    @classmethod
    def generate(cls, created: int, seed: bytes | None = None) -> AmdKeys:
        """Make keys, which takes seconds; `created` in Unix seconds."""
        ark, ask, asvk = (rsa.generate_private_key(65537, BITS) for _ in _NAMES)
        return cls(seed or secrets.token_bytes(_SEED_SIZE), created, ark, ask, asvk)

    @classmethod
    def open(cls, home: Path, now: int) -> AmdKeys:
        """Load the keys of a platform's folder, or make them there; raises EvidenceError or ManifestError."""
        path = Path(home) / FILE
        if not exists(path):
            make_folder(Path(home), mode=_HOME_MODE)
            try:
                write_atomically(path, cls.generate(now).serialize(), mode=_SECRET_MODE, replace=False)
            except ManifestError as error:
                if error.code is not ManifestCode.FILE_EXISTS:  # another process was first: its keys count
                    raise
        return cls.parse(read_bounded(path, _MAX_FILE))

    @classmethod
    def parse(cls, data: bytes) -> AmdKeys:
        """Decode a key file; raises EvidenceError `simulator-state`, or ManifestError `version-unsupported`."""
        try:
            value = canonical.decode(data, max_size=_MAX_FILE)
            fields.versioned_map(value, "the simulated AMD's key file", ("seed", "created", *_NAMES))
            seed = fields.fixed_bytes(value["seed"], "seed", _SEED_SIZE)
            created = fields.number(value["created"], "created", 0)
            keys = [_load(fields.bounded_bytes(value[name], name, _MAX_FILE)) for name in _NAMES]
        except (ManifestError, ValueError) as error:
            if isinstance(error, ManifestError) and error.code is ManifestCode.VERSION_UNSUPPORTED:
                raise
            raise EvidenceError(
                EvidenceCode.SIMULATOR_STATE,
                f"the file holds no keys of a simulated AMD: {error}",
                remedy="remove the folder: a simulated platform can always be made anew",
            ) from None
        return cls(seed, created, *keys)

    def serialize(self) -> bytes:
        """Return the key file's bytes."""
        keys = {
            name: getattr(self, name).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
            for name in _NAMES
        }
        return canonical.encode({"version": 1, "seed": self.seed, "created": self.created, **keys})


def _load(der: bytes) -> rsa.RSAPrivateKey:
    # The file is the simulator's own, and a wrong key in it only makes signatures that nobody accepts.
    key = load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size != BITS:
        raise ValueError("it is no RSA key of 4096 bits")
    return key


@functools.lru_cache(maxsize=256)
def sign_pss(key: rsa.RSAPrivateKey, message: bytes) -> bytes:
    """Return the RSASSA-PSS signature with SHA-384 and a salt that follows from key and message (RFC 8017, 8.1.1)."""
    return pss.sign_pss(key, message, "sha384")
