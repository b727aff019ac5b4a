"""Writes the golden files of the present version, once: `python -m tests.receipts.make_golden`."""

from __future__ import annotations

import json

import tomli_w

from attestation.policy import load_policy
from attestation.receipts.checks import Held
from attestation.receipts.show import report_map
from attestation.receipts.verify import examine
from tests.receipts import kit
from tests.receipts.test_format import GOLDEN, LASTING


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    policy = {
        "version": 1,
        "evidence": {"simulation": True, "simulated_root": kit.platform().root_fingerprint.hex()}
        | {"tcb_status": ["UpToDate"]},
        "sgx": {"mrenclave": [kit.MRENCLAVE.hex()]},
        "service": {"owners": [kit.OWNER.hex()]},
    }
    (GOLDEN / "v1.policy.toml").write_text(tomli_w.dumps(policy), encoding="utf-8")
    (GOLDEN / "v1.receipt").write_bytes(kit.bundle().encode())
    held = Held.of(kit.bundle())
    told = report_map(examine(held, load_policy(GOLDEN / "v1.policy.toml"), kit.NOW), held)
    found = {name: told[name] for name in LASTING}
    (GOLDEN / "v1.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
