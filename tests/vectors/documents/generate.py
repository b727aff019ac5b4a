"""Write the golden documents and files of version 1: `python -m tests.vectors.documents.generate`.

Keys follow from fixed seeds; the key file's salt and nonce are random.  Files of a released version are never
written anew; a new version gets a folder of its own.
"""

from __future__ import annotations

import json
from pathlib import Path

from attestation.binding import InclusionProof
from attestation.client.epochs import EpochMemory
from attestation.policy.feed import sign_feed
from attestation.sim.platform import SimulatedPlatform
from attestation.sim.state import State
from attestation.types import (
    Claims,
    Credential,
    Delegation,
    EvidenceRecord,
    Grant,
    Heartbeat,
    OwnerState,
    PlatformClass,
    Revocation,
    Right,
    document_digest,
)
from attestation.types.identity import ClientAuthentication
from manifests import canonical
from manifests.keyfile import Cost, write_key_file
from manifests.signing import Signer

FOLDER = Path(__file__).parent / "v1"
OWNER, BROKER, CLIENT = (Signer.from_seed(bytes([number]) * 32) for number in (1, 2, 3))
PASSPHRASE = b"correct horse"
CHEAP = Cost(1, 8192)
"""The least that is admitted: the file is to be read quickly, and protects nothing."""
PLATFORM_SEED, CREATED = bytes(range(32)), 1_700_000_000
STATE = State(tcb_status="OutOfDate", advisories=("SIM-SA-1",), expired=("tcb-info",), debug=True, evaluation_number=9)
EPOCHS = {(OWNER.public, ""): 4, (OWNER.public, "tumour"): 7, (BROKER.public, "tumour"): 2}

DELEGATION = Delegation(OWNER.public, BROKER.public, (Right.PROVISION, Right.REVOKE), ("magika", "tumour"), 3)
_NAMED = document_digest(DELEGATION.sign(OWNER))
GRANT = Grant(
    owner=OWNER.public,
    delegation=_NAMED,
    model=b"\x10" * 64,
    name="tumour",
    epoch=7,
    handshake_hash=b"\x11" * 64,
    serial=b"\x12" * 16,
    lease=1000,
    platform=PlatformClass.SIMULATED,
    audit_head=b"\x13" * 64,
    time=CREATED,
)
HEARTBEAT = Heartbeat(OWNER.public, _NAMED, b"\x14" * 32, b"\x15" * 16, CREATED + 60, 4, ((b"\x10" * 64, 500),))
REVOCATION = Revocation(OWNER.public, _NAMED, "tumour", 8, (b"\x10" * 64,), CREATED + 120)
CREDENTIAL = Credential(OWNER.public, CLIENT.public, "ward 7")
CLAIMS = Claims(
    receipt_key=BROKER.public,
    hpke_key=b"\x16" * 1216,
    boot_id=b"\x15" * 16,
    admitted=(OWNER.public,),
    owners=(OwnerState(OWNER.public, 4, HEARTBEAT.sign(BROKER), DELEGATION.sign(OWNER)),),
    gpu_evidence=b"\x17" * 64,
)
EVIDENCE = EvidenceRecord(CLAIMS.encode(), b"quote", InclusionProof(1, 2, (b"\x18" * 64,)), "sgx fmspc=53494d000000")
AUTHENTICATION = ClientAuthentication.sign(CLIENT, CREDENTIAL.sign(OWNER), b"\x11" * 64, CLAIMS.encode())

LIST = {
    "version": 1,
    "serial": 7,
    "issued": "2023-11-14T22:13:20Z",
    "expires": "2023-12-14T22:13:20Z",
    "entries": [
        {
            "id": "SR-1",
            "date": "2023-11-01T00:00:00Z",
            "reason": "its attestation key was read off the memory bus",
            "tees": ["sgx"],
            "platforms": {"fmspc": ["53494d000000"]},
        }
    ],
}

POLICY = f"""version = 1

[evidence]
simulation = true
simulated_root = "{"ab" * 32}"
tcb_status = ["UpToDate", "OutOfDate"]
advisories_accepted = ["SIM-SA-1"]

[sgx]
mrenclave = ["{"cd" * 32}"]
debug = true

[service]
owners = ["{OWNER.public.hex()}"]
min_epoch = 3

[release]
models = ["tumour"]
lease = 1000
"""


def documents() -> dict[str, bytes]:
    """Return every document by name, as its bytes."""
    return {
        "delegation": DELEGATION.sign(OWNER),
        "grant": GRANT.sign(BROKER),
        "heartbeat": HEARTBEAT.sign(BROKER),
        "revocation": REVOCATION.sign(BROKER),
        "credential": CREDENTIAL.sign(OWNER),
        "claims": CLAIMS.encode(),
        "evidence": EVIDENCE.encode(),
        "authentication": AUTHENTICATION.encode(),
    }


def main() -> None:
    """Write the folder; refuses to replace one that is there."""
    FOLDER.mkdir()
    record = {name: document.hex() for name, document in documents().items()}
    (FOLDER / "documents.json").write_text(json.dumps(record, indent=1) + "\n")
    (FOLDER / "policy.toml").write_text(POLICY)
    (FOLDER / "broken-hardware.json").write_text(sign_feed(LIST, BROKER) + "\n")
    public = {"strongroom-owner": OWNER.public}
    write_key_file(FOLDER / "owner-key.json", "owner", OWNER.seed(), PASSPHRASE, public=public, cost=CHEAP)
    memory = EpochMemory(FOLDER / "epochs.json")
    for (owner, name), epoch in EPOCHS.items():
        memory.observe(owner, name, epoch)
    (FOLDER / "epochs.json.lock").unlink()
    home = FOLDER / "platform"
    home.mkdir()
    secret = {"version": 1, "seed": PLATFORM_SEED, "created": CREATED}
    (home / "platform.key").write_bytes(canonical.encode(secret))
    SimulatedPlatform.load(home).save_state(home, STATE)


if __name__ == "__main__":
    main()
