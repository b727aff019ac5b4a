"""Where a deployment keeps its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Where everything lies below the deployment's folder."""

    home: Path

    @property
    def passphrase(self) -> Path:
        """The passphrase of all key files."""
        return self.home / "passphrase"

    @property
    def owner_key(self) -> Path:
        """The owner's key file; its card is beside it."""
        return self.home / "owner.key"

    @property
    def owner_card(self) -> Path:
        """The owner's public key."""
        return self.home / "owner.pub"

    @property
    def broker(self) -> Path:
        """The broker's home."""
        return self.home / "broker"

    @property
    def delegation(self) -> Path:
        """The owner's delegation to the broker."""
        return self.home / "delegation"

    @property
    def models(self) -> Path:
        """The folder of sealed models, which the host serves."""
        return self.home / "models"

    @property
    def platform(self) -> Path:
        """The simulated platform's folder."""
        return self.home / "platform"

    @property
    def enclave(self) -> Path:
        """The folder of the rendered manifest."""
        return self.home / "enclave"

    @property
    def manifest(self) -> Path:
        """The rendered manifest."""
        return self.enclave / "enclave.manifest"

    @property
    def host(self) -> Path:
        """The host agent's home."""
        return self.home / "host"

    @property
    def client_policy(self) -> Path:
        """The policy of clients."""
        return self.home / "client.toml"

    @property
    def release_policy(self) -> Path:
        """The policy of the broker."""
        return self.home / "release.toml"

    def sealed(self, name: str) -> Path:
        """Return the sealed file of a model."""
        return self.models / f"{name}.sealed"

    def log(self, part: str) -> Path:
        """Return the log of a process."""
        return self.home / f"{part}.log"

    def of_the_host(self) -> list[Path]:
        """Return every file that the host's operator holds: sealed models, the agent's folder, its log."""
        below = [path for folder in (self.models, self.host, self.enclave) for path in sorted(folder.rglob("*"))]
        return [path for path in (*below, self.log("host")) if path.is_file()]
