"""`strongroom broker policy`: put a release policy in force, show it, check one before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import tomli_w

from attestation.broker import admin
from attestation.broker.console import FILE, json_option, now, open_ledger, show_facts, unlocking, when
from attestation.broker.policy import active_policy, rules_of
from attestation.policy import Policy
from manifests.command import Group


@click.group(cls=Group)
def policy() -> None:
    """Say which enclaves get which keys, and for how many requests."""


@policy.command("set")
@click.argument("file", type=FILE)
@unlocking
@json_option
def set_command(*, file: Path, home: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Put a policy in force, one epoch above the one before; a running `serve` attests anew under it."""
    loaded = admin.read_policy(file)
    with open_ledger(home, passphrase_file) as ledger:
        document = admin.set_policy(ledger, loaded, now())
    show_facts({"epoch": document.epoch, **_summary(loaded)}, as_json=as_json)


@policy.command("show")
@unlocking
@json_option
def show_command(*, home: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Show the policy in force, as its signed document has it."""
    with open_ledger(home, passphrase_file) as ledger:
        active = ledger.look(lambda state: active_policy(state, ledger.keys.signer.public))
    if as_json:
        facts = {"epoch": active.epoch, "time": active.time, "digest": active.digest.hex()}
        click.echo(json.dumps({**facts, "policy": active.policy.to_dict()}, indent=2))
        return
    click.echo(f"# epoch {active.epoch}, set {when(active.time)}\n" + tomli_w.dumps(active.policy.to_dict()), nl=False)


@policy.command("check")
@click.argument("file", type=FILE)
@json_option
def check_command(*, file: Path, as_json: bool) -> None:
    """Tell whether a policy could be set, and what it allows; changes nothing."""
    show_facts(_summary(admin.read_policy(file)), as_json=as_json)


def _summary(loaded: Policy) -> dict[str, Any]:
    rules = rules_of(loaded)
    return {
        "platform": "SIMULATED" if loaded.evidence.simulation else str(rules.platform),
        "enclaves": [item.hex() for table in loaded.tables.values() for item in table.measurements],
        "tcb_status": list(loaded.evidence.tcb_status),
        "models": list(rules.models),
        "min_epoch": rules.min_epoch,
        "lease": rules.lease,
        "heartbeat_seconds": rules.heartbeat_seconds,
        "max_enclaves": rules.max_enclaves,
        "older_epochs": rules.older_epochs,
        **({} if rules.budget is None else rules.budget.to_dict()),
        "policy": loaded.digest.hex(),
    }
