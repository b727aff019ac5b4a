"""Who a session's client is: anonymous, or a client key that an owner or its broker has named."""

from __future__ import annotations

from dataclasses import dataclass

from attestation.types import ClientAuthentication, Credential
from enclave.errors import EnclaveCode, EnclaveError
from enclave.owners import Owners
from manifests import canonical, fields
from manifests.errors import ManifestCode, ManifestError
from manifests.signing import KEY_SIZE, split_document

MAX_IDENTITY = 512


@dataclass(frozen=True)
class Identity:
    """A named client: `owner` is whose models it is known to; `client` its key (32 bytes each); `name` its name."""

    owner: bytes
    client: bytes
    name: str

    def encode(self) -> bytes:
        """Return the bytes that a ticket carries."""
        return canonical.encode([self.owner, self.client, self.name])

    @classmethod
    def decode(cls, data: bytes) -> Identity | None:
        """Read what a ticket carries; empty is anonymous."""
        return cls(*canonical.decode(data, max_size=MAX_IDENTITY)) if data else None


def authenticate(content: bytes, handshake_hash: bytes, claims: bytes, owners: Owners) -> Identity | None:
    """Verify a client's authentication and return its identity; a key without credential is anonymous.

    Raises ManifestError for what is malformed or does not verify, EnclaveError `credential-refused` for a credential
    of an issuer that this enclave does not know, or for another key.
    """
    proof = ClientAuthentication.decode(content)
    proof.verify(handshake_hash, claims)
    if not proof.credential:
        return None
    issuer = _issuer(proof.credential)
    owner = owners.issuers().get(issuer)
    if owner is None:
        raise EnclaveError(EnclaveCode.CREDENTIAL_REFUSED, "the credential's issuer is neither owner nor broker here")
    credential = Credential.open(proof.credential, issuer)
    if credential.client != proof.client:
        raise EnclaveError(EnclaveCode.CREDENTIAL_REFUSED, "the credential names another client key")
    return Identity(owner, credential.client, credential.name)


def _issuer(document: bytes) -> bytes:
    """Return the issuer that an unverified credential names, to look its key up."""
    try:
        body = canonical.decode(split_document(document)[0], max_size=len(document))
        fields.check_version(body, "the credential")
        return fields.fixed_bytes(fields.of_type(body, "credential", dict).get("issuer"), "issuer", KEY_SIZE)
    except ManifestError as error:
        if error.code is ManifestCode.VERSION_UNSUPPORTED:
            raise
        raise EnclaveError(EnclaveCode.CREDENTIAL_REFUSED, f"the credential is malformed: {error.message}") from None
