"""Who a client is: a credential that names its key, and the proof within one session that it holds the key."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Self

from manifests import canonical, fields, signing
from manifests.errors import ManifestCode, ManifestError

MAX_NAME = 128

CREDENTIAL = signing.label("credential")
CLIENT_AUTHENTICATION = signing.label("client authentication")


@dataclass(frozen=True)
class Credential:
    """Signed by the owner, or by a broker key that it delegated: names a client key as an identity."""

    issuer: bytes
    client: bytes
    name: str

    def sign(self, issuer_key: signing.Signer) -> bytes:
        """Return the signed document."""
        return issuer_key.sign_document(CREDENTIAL, {**self.__dict__, "version": 1})

    @classmethod
    def open(cls, document: bytes, issuer: bytes) -> Self:
        """Verify under the issuer's key and decode; raises ManifestError."""
        value = signing.open_versioned(issuer, CREDENTIAL, document, cls.__dataclass_fields__)
        if value["issuer"] != issuer:
            raise ManifestError(ManifestCode.FIELD_INVALID, "the credential names another issuer than its signer")
        return cls(
            issuer=signing.public_key_field(value["issuer"], "issuer"),
            client=signing.public_key_field(value["client"], "client"),
            name=fields.text(value["name"], "name", MAX_NAME),
        )


@dataclass(frozen=True)
class ClientAuthentication:
    """Content of the `authenticate` record: signature over label || h || SHA-512(claims) || client key."""

    client: bytes
    credential: bytes
    signature: bytes

    @classmethod
    def sign(cls, key: signing.Signer, credential: bytes, handshake_hash: bytes, claims: bytes) -> Self:
        """Authenticate a client within one session."""
        signature = key.sign(CLIENT_AUTHENTICATION, cls._body(handshake_hash, claims, key.public))
        return cls(key.public, credential, signature)

    @staticmethod
    def _body(handshake_hash: bytes, claims: bytes, client: bytes) -> bytes:
        return handshake_hash + hashlib.sha512(claims).digest() + client

    def verify(self, handshake_hash: bytes, claims: bytes) -> None:
        """Verify the signature for this session; raises ManifestError.  The credential is checked elsewhere."""
        body = self._body(handshake_hash, claims, self.client)
        signing.verify(self.client, CLIENT_AUTHENTICATION, body, self.signature)

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return canonical.encode({"version": 1, **self.__dict__})

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode; raises ManifestError."""
        names = ("client", "credential", "signature")
        value = fields.versioned_map(canonical.decode(data, max_size=8192), "the authentication", names)
        return cls(
            client=signing.public_key_field(value["client"], "client"),
            credential=fields.bounded_bytes(value["credential"], "credential", 4096),
            signature=fields.fixed_bytes(value["signature"], "signature", signing.SIGNATURE_SIZE),
        )
