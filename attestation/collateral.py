"""What a vendor publishes about its platforms, and where it is kept.

A file has the JSON shape of the `dcap-qvl` project: certificate chains as PEM text, revocation lists and signatures
as hex, TCB info and QE identity as strings that hold the exact bytes under their signature.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from attestation import strict_json
from attestation.errors import EvidenceCode, EvidenceError
from manifests.errors import ManifestCode, ManifestError
from manifests.files import exists, naming, read_bounded

MAX_COLLATERAL = 32 * 1024 * 1024
"""Revocation lists may grow to megabytes, and hex doubles them."""

_TEXTS = frozenset({"tcb_info", "qe_identity"})
_CHAINS = frozenset({"pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain"})


@dataclass(frozen=True)
class Collateral:
    """Collateral of one SGX platform family; nothing in it is verified.

    Chains are PEM text (issuer first, root last), revocation lists DER, signatures r || s (64 bytes).  tcb_info and
    qe_identity are the exact JSON bytes that their signatures cover.
    """

    pck_crl_issuer_chain: bytes = field(repr=False)
    root_ca_crl: bytes = field(repr=False)
    pck_crl: bytes = field(repr=False)
    tcb_info_issuer_chain: bytes = field(repr=False)
    tcb_info: bytes = field(repr=False)
    tcb_info_signature: bytes = field(repr=False)
    qe_identity_issuer_chain: bytes = field(repr=False)
    qe_identity: bytes = field(repr=False)
    qe_identity_signature: bytes = field(repr=False)

    @classmethod
    def from_json(cls, data: bytes | str) -> Collateral:
        """Decode a collateral file; raises EvidenceError `json-malformed` or `collateral-malformed`."""
        value = strict_json.loads(_text(data), max_size=MAX_COLLATERAL)
        names = [item.name for item in fields(cls)]
        if not isinstance(value, dict) or value.keys() != set(names):
            raise _malformed("its fields are not the nine of collateral", sorted(names))
        return cls(**{name: _decode(name, value[name]) for name in names})

    def to_json(self) -> str:
        """Encode to the text of a collateral file."""
        return json.dumps({item.name: _encode(item.name, getattr(self, item.name)) for item in fields(self)}, indent=1)


def _text(data: bytes | str) -> str:
    try:
        return data if isinstance(data, str) else data.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed("it is not UTF-8") from None


def _decode(name: str, value: Any) -> bytes:
    if not isinstance(value, str):
        raise _malformed(f"{name} is not a string")
    try:
        if name in _TEXTS or name in _CHAINS:
            return value.encode("utf-8")
        if re.fullmatch(r"(?:[0-9a-fA-F]{2})*", value) is None:
            raise _malformed(f"{name} is not hex")
        return bytes.fromhex(value)
    except UnicodeEncodeError:
        raise _malformed(f"{name} is not text") from None


def _encode(name: str, value: bytes) -> str:
    return value.decode("utf-8") if name in _TEXTS or name in _CHAINS else value.hex()


def _malformed(why: str, expected: object = None) -> EvidenceError:
    return EvidenceError(EvidenceCode.COLLATERAL_MALFORMED, f"the collateral is not usable: {why}", expected=expected)


@dataclass(frozen=True)
class CollateralKey:
    """What collateral is filed under: TEE, platform family (hex), and the CA that certifies its platforms.

    It comes from evidence that is not verified yet, so each part is held to its form before it names a file.
    """

    tee: str
    fmspc: str
    ca: str

    def __post_init__(self) -> None:
        """Refuse anything but an SGX platform family of either CA."""
        usable = self.tee == "sgx" and self.ca in {"processor", "platform"}
        if not usable or re.fullmatch(r"[0-9a-f]{12}", self.fmspc) is None:
            raise EvidenceError(EvidenceCode.COLLATERAL_KEY, "the key names no collateral", found=repr(self.fmspc[:32]))

    def __str__(self) -> str:
        return f"{self.tee}-{self.fmspc}-{self.ca}"


class CollateralSource(ABC):
    """Somewhere that collateral comes from.  Nothing that it returns is trusted."""

    def fetch(self, key: CollateralKey) -> Collateral:
        """Return the collateral filed under `key`; raises EvidenceError `collateral-missing` and others."""
        data = self._fetch(key)
        if data is None:
            raise EvidenceError(
                EvidenceCode.COLLATERAL_MISSING,
                f"no collateral is held for {key}",
                expected=str(key),
                remedy="fetch the vendor's collateral for this platform and put it there",
            )
        return Collateral.from_json(data)

    @abstractmethod
    def _fetch(self, key: CollateralKey) -> bytes | None:
        """Return the JSON bytes for `key`, or None where there are none."""


class DirectorySource(CollateralSource):
    """A folder with files named `{tee}-{fmspc}-{ca}.json`: needs no network."""

    def __init__(self, folder: Path | str) -> None:
        """Read from `folder`, at each fetch anew."""
        self.folder = Path(folder)

    def _fetch(self, key: CollateralKey) -> bytes | None:
        path = self.folder / f"{key}.json"
        return read_bounded(path, MAX_COLLATERAL) if exists(path) else None


class FileSource(CollateralSource):
    """One collateral file, for whichever platform is asked for; verification tells if it is the wrong one."""

    def __init__(self, path: Path | str) -> None:
        """Read from `path`, at each fetch anew."""
        self.path = Path(path)

    def _fetch(self, key: CollateralKey) -> bytes | None:  # noqa: ARG002 - one file serves every key
        return read_bounded(self.path, MAX_COLLATERAL)


class FixedSource(CollateralSource):
    """Collateral that is already in memory, such as the bundle that travels with evidence."""

    def __init__(self, collateral: Collateral) -> None:
        """Hand out this collateral."""
        self._data = collateral.to_json().encode("utf-8")

    def _fetch(self, key: CollateralKey) -> bytes | None:  # noqa: ARG002 - one bundle serves every key
        return self._data


def open_source(path: Path | str) -> CollateralSource:
    """Return the source for a folder or a file; raises ManifestError `file-unavailable`."""
    path = Path(path)
    with naming(path):
        if path.is_dir():
            return DirectorySource(path)
        if path.is_file():
            return FileSource(path)
    raise ManifestError(
        ManifestCode.FILE_UNAVAILABLE, f"{path} is neither a folder nor a file", remedy="name collateral that exists"
    )
