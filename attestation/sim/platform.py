"""The simulated platform itself: quotes, collateral, and the folder that holds its one secret.

HOME/platform.key    seed and time of making (mode 0600): everything below follows from it
HOME/root.pem        the root certificate that policies name
HOME/state.toml      what the platform is told to be
HOME/collateral/     fresh collateral, under the name that a directory source looks for
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace
from pathlib import Path

from attestation.collateral import CollateralKey
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel.abi import ECDSA_P256, INTEL_QE_VENDOR, VERSION, Attributes, QuoteHeader, QuoteV3, ReportBody
from attestation.intel.collateral import IntelCollateral
from attestation.intel.pck import PckExtension
from attestation.intel.pem import encode_chain
from attestation.sim import issue
from attestation.sim.pki import SEED_SIZE, Lifetimes, derive, derive_key, make_pki
from attestation.sim.signature import raw_point, sign_raw
from attestation.sim.state import State
from manifests import canonical, fields
from manifests.errors import ManifestCode, ManifestError
from manifests.files import exists, make_folder, read_bounded, write_atomically
from manifests.signing import label

FMSPC = bytes.fromhex("53494d000000")
"""A family that no vendor has: "SIM"."""

_COMPONENTS = (7, 7, 2, 2, 255, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)
_PCE_SVN = 13
_XFRM = 0xE7
"""x87, SSE, AVX and AVX-512, as on a server."""
_AUTH_DATA = bytes(range(32))
"""Intel's quoting enclave mixes in 32 bytes; their values carry no meaning."""
_NO_ENCLAVE = ReportBody(
    cpu_svn=bytes(_COMPONENTS),
    misc_select=0,
    cet_attributes=0,
    isv_ext_prod_id=bytes(16),
    flags=int(Attributes.INIT | Attributes.MODE64BIT),
    xfrm=_XFRM,
    mr_enclave=bytes(32),
    mr_signer=bytes(32),
    config_id=bytes(64),
    isv_prod_id=0,
    isv_svn=0,
    config_svn=0,
    isv_family_id=bytes(16),
    report_data=bytes(64),
)
_SECRET_MODE = 0o600
_HOME_MODE = 0o700
_MAX_FILE = 64 * 1024


class SimulatedPlatform:
    """One machine with its quoting enclave.  Everything follows from a 32-byte seed and the time of its making."""

    def __init__(
        self, seed: bytes, created: int, state: State | None = None, lifetimes: Lifetimes | None = None
    ) -> None:
        """Derive all keys and certificates; the quoting enclave's attestation key is certified at once."""
        self.seed, self.created = seed, created
        self.state = state or State()
        extension = PckExtension(
            ppid=derive(seed, "ppid")[:16],
            components=_COMPONENTS,
            pce_svn=_PCE_SVN,
            cpu_svn=bytes(_COMPONENTS),
            pce_id=bytes(2),
            fmspc=FMSPC,
            sgx_type=0,
        )
        self.pki = make_pki(seed, created, extension, lifetimes or Lifetimes())
        self.mr_signer = hashlib.sha256(raw_point(derive_key(seed, "enclave signer"))).digest()
        self._qe_signer = hashlib.sha256(raw_point(derive_key(seed, "quoting enclave signer"))).digest()
        self._attestation_key = derive_key(seed, "attestation")
        user_data = derive(seed, "platform id")[:16] + bytes(4)
        self._header = QuoteHeader(VERSION, ECDSA_P256, issue.QE_ISV_SVN, _PCE_SVN, INTEL_QE_VENDOR, user_data)
        template = self._certify_attestation_key().serialize()
        self._head, self._size, self._tail = template[:48], template[432:436], template[500:]

    @property
    def root_pem(self) -> bytes:
        """The root certificate."""
        return encode_chain(self.pki.root.der)

    @property
    def root_fingerprint(self) -> bytes:
        """SHA-256 of the DER root certificate: what policies and roots pin."""
        return hashlib.sha256(self.pki.root.der).digest()

    @property
    def collateral_key(self) -> CollateralKey:
        """What the platform's collateral is filed under."""
        return CollateralKey("sgx", FMSPC.hex(), "processor")

    def report_body(
        self, mr_enclave: bytes, *, isv_prod_id: int = 0, isv_svn: int = 0, mr_signer: bytes | None = None
    ) -> ReportBody:
        """Return the report of an enclave with this measurement (32 bytes), in debug mode if the state says so."""
        flags = _NO_ENCLAVE.flags | (Attributes.DEBUG if self.state.debug else 0)
        return replace(
            _NO_ENCLAVE,
            flags=int(flags),
            mr_enclave=mr_enclave,
            mr_signer=self.mr_signer if mr_signer is None else mr_signer,
            isv_prod_id=isv_prod_id,
            isv_svn=isv_svn,
        )

    def quote(self, report_body: ReportBody, report_data: bytes) -> bytes:
        """Return the quote over an enclave's report with these 64 bytes of report data."""
        signed = self._head + replace(report_body, report_data=report_data).serialize()
        return signed + self._size + sign_raw(self._attestation_key, signed) + self._tail

    def collateral(self, now: int) -> IntelCollateral:
        """Issue collateral at `now` (Unix seconds), in the platform's state."""
        return self.collateral_with(issue.spans(self.state, now))

    def collateral_with(self, dates: dict[str, issue.Span]) -> IntelCollateral:
        """Issue collateral with explicit (issued, next update) of each document."""
        return issue.issue(self.pki, self._qe_signer, self.state, dates)

    def _certify_attestation_key(self) -> QuoteV3:
        """Return a quote that lacks body and signature: the rest is the same in all."""
        key = raw_point(self._attestation_key)
        report = replace(
            _NO_ENCLAVE,
            flags=int(Attributes.INIT | Attributes.MODE64BIT | Attributes.PROVISION_KEY),
            mr_enclave=hashlib.sha256(label("simulated quoting enclave")).digest(),
            mr_signer=self._qe_signer,
            isv_prod_id=issue.QE_ISV_PROD_ID,
            isv_svn=issue.QE_ISV_SVN,
            report_data=hashlib.sha256(key + _AUTH_DATA).digest() + bytes(32),
        )
        return QuoteV3(
            header=self._header,
            body=_NO_ENCLAVE,
            signature=bytes(64),
            attestation_key=key,
            qe_report=report,
            qe_report_signature=self.pki.pck.sign_raw(report.serialize()),
            qe_auth_data=_AUTH_DATA,
            certification_data=encode_chain(self.pki.pck.der, self.pki.pck_ca.der, self.pki.root.der) + b"\0",
        )

    # --------------------------------------------------------------------------------------------- folder

    @classmethod
    def open(cls, home: Path, now: int) -> SimulatedPlatform:
        """Load the platform of a folder, or make one there; raises EvidenceError or ManifestError."""
        home = Path(home)
        make_folder(home, mode=_HOME_MODE)
        path = home / "platform.key"
        if not exists(path):
            secret = canonical.encode({"version": 1, "seed": secrets.token_bytes(SEED_SIZE), "created": now})
            _write_first(path, secret)
        platform = cls.load(home)
        write_atomically(home / "root.pem", platform.root_pem)
        return platform

    @classmethod
    def load(cls, home: Path) -> SimulatedPlatform:
        """Load the platform of a folder; raises EvidenceError or ManifestError."""
        home = Path(home)
        seed, created = _read_secret(home / "platform.key")
        return cls(seed, created, _read_state(home))

    def save_state(self, home: Path, state: State) -> None:
        """Set the state, here and in the folder."""
        self.state = state
        write_atomically(Path(home) / "state.toml", state.to_toml().encode("utf-8"))

    def publish(self, home: Path, now: int) -> Path:
        """Write fresh collateral into the folder and return its path."""
        folder = Path(home) / "collateral"
        make_folder(folder, mode=_HOME_MODE)
        path = folder / f"{self.collateral_key}.json"
        write_atomically(path, self.collateral(now).to_json().encode("utf-8"))
        return path


def _write_first(path: Path, secret: bytes) -> None:
    """Write the secret unless another process was first."""
    try:
        write_atomically(path, secret, mode=_SECRET_MODE, replace=False)
    except ManifestError as error:
        if error.code is not ManifestCode.FILE_EXISTS:
            raise


def _read_secret(path: Path) -> tuple[bytes, int]:
    data = read_bounded(path, _MAX_FILE)
    try:
        value = canonical.decode(data, max_size=_MAX_FILE)
        fields.versioned_map(value, f"the platform key {path}", ("seed", "created"))
        return fields.fixed_bytes(value["seed"], "seed", SEED_SIZE), fields.number(value["created"], "created", 0)
    except ManifestError as error:
        if error.code is ManifestCode.VERSION_UNSUPPORTED:
            raise
        raise EvidenceError(
            EvidenceCode.SIMULATOR_STATE,
            f"{path} is not the key of a simulated platform: {error.message}",
            remedy="remove the folder: a simulated platform can always be made anew",
        ) from None


def _read_state(home: Path) -> State:
    path = home / "state.toml"
    if not exists(path):
        return State()
    return State.from_toml(read_bounded(path, _MAX_FILE).decode("utf-8", "replace"))
