# Types of the front door, for the programs that import it.  A module by itself cannot say that it is typed (PEP 561:
# that takes a package with a marker), so `strongroom.py` has this stub package beside it.

from attestation.client import Session as Session
from attestation.policy import load_policy as load_policy
from manifests.sealed import seal as seal

__all__ = ["Session", "load_policy", "main", "seal"]

def main() -> None: ...
