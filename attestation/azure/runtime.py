"""Runtime data of Azure's paravisor: the vTPM's keys and the VM's configuration, vouched for by the processor.

Source: Azure, "vTPM attestation of confidential VMs" ("runtime claims"); keys are JWKs (RFC 7517, RFC 7518, 6.3).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from attestation import strict_json
from attestation.azure.errors import AzureCode
from attestation.errors import EvidenceError
from attestation.tpm.public import check_rsa_size

AK_NAME = "HCLAkPub"
_EXPONENT = "AQAB"
_MAX_KEYS = 16
_USER_DATA = 64
MAX_RUNTIME_DATA = 16 * 1024


@dataclass(frozen=True)
class RuntimeClaims:
    """What the paravisor says.

    ak: the vTPM's attestation key.  configuration: of the VM, as it stands.  user_data: 64 bytes that the guest left in
    the vTPM's NV index 0x01400002 when the report was made.
    """

    ak: rsa.RSAPublicKey = field(repr=False)
    configuration: dict[str, Any]
    user_data: bytes

    @classmethod
    def parse(cls, data: bytes) -> RuntimeClaims:
        """Decode runtime data that is authentic; raises EvidenceError `json-malformed` or `azure-runtime-claims`."""
        try:
            text = data.decode("ascii")
        except UnicodeDecodeError:
            raise _unusable("it is not ASCII") from None
        value = strict_json.loads(text, max_size=MAX_RUNTIME_DATA)
        if not isinstance(value, dict) or not isinstance(value.get("vm-configuration"), dict):
            raise _unusable("it has no configuration of the VM")
        return cls(_attestation_key(value.get("keys")), value["vm-configuration"], _user_data(value.get("user-data")))

    @property
    def vm_id(self) -> str | None:
        """The VM's id, in upper case; None where the paravisor does not say."""
        value = self.configuration.get("vmUniqueId")
        return value.upper() if isinstance(value, str) else None

    def flag(self, name: str) -> bool | None:
        """Return a boolean of the configuration; None where the paravisor does not say."""
        value = self.configuration.get(name)
        return value if isinstance(value, bool) else None

    def to_dict(self) -> dict[str, Any]:
        """Return what is said of the VM, for programs."""
        return {"vm_configuration": self.configuration, "user_data": self.user_data.hex()}


def decode_base64url(text: str) -> bytes | None:
    """Return the bytes of base64url (RFC 4648, 5), padded or not; None for anything but their one encoding."""
    body = text.rstrip("=")
    if re.fullmatch(r"[A-Za-z0-9_-]*", body) is None or len(text) not in {len(body), len(body) + -len(body) % 4}:
        return None
    try:
        data = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    except binascii.Error:
        return None
    return data if base64.urlsafe_b64encode(data).decode("ascii").rstrip("=") == body else None


def _attestation_key(keys: object) -> rsa.RSAPublicKey:
    named = keys if isinstance(keys, list) and len(keys) <= _MAX_KEYS else []
    found = [key for key in named if isinstance(key, dict) and key.get("kid") == AK_NAME]
    if len(found) != 1:
        raise _unusable(f"it names {len(found)} keys {AK_NAME}")
    key = found[0]
    modulus = decode_base64url(key["n"]) if isinstance(key.get("n"), str) else None
    if key.get("kty") != "RSA" or key.get("e") != _EXPONENT or not modulus or modulus[0] == 0:
        raise _unusable(f"{AK_NAME} is no RSA key with exponent 65537")
    number = int.from_bytes(modulus, "big")
    check_rsa_size(number.bit_length())
    try:
        return rsa.RSAPublicNumbers(65537, number).public_key()
    except ValueError:
        raise _unusable(f"{AK_NAME} is no RSA key") from None


def _user_data(value: object) -> bytes:
    if not isinstance(value, str) or re.fullmatch(rf"(?:[0-9a-fA-F]{{2}}){{{_USER_DATA}}}", value) is None:
        raise _unusable(f"its user data is not {_USER_DATA} bytes of hex")
    return bytes.fromhex(value)


def _unusable(why: str) -> EvidenceError:
    return EvidenceError(AzureCode.RUNTIME_CLAIMS, f"the runtime data is not usable: {why}")
