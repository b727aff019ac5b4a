"""The front door: the `strongroom` command and the three calls most programs need.

Nothing imports this module.  Sub-commands and the public names are loaded when they are first used, so that
`strongroom --help` and `import strongroom` stay quick.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import click

from manifests.errors import StrongroomError

__all__ = ["Session", "load_policy", "main", "seal"]  # noqa: F822 - three of them are loaded on first use

_PUBLIC = {
    "Session": "attestation.client:Session",
    "load_policy": "attestation.policy:load_policy",
    "seal": "manifests.sealed:seal",
}

_COMMANDS = {
    "attest": ("attestation.cli:attest", "Verify and show attestation evidence."),
    "broker": ("attestation.broker.cli:broker", "Hold model keys and release them to attested enclaves."),
    "demo": ("evaluation.demo.cli:demo", "Seal two models, attest, infer, and watch attacks fail."),
    "host": ("host.cli:host", "Check this machine; bring enclaves up, watch them, and take them down."),
    "infer": ("attestation.client.cli:infer", "Send tensors to an attested enclave."),
    "inspect": ("manifests.cli:inspect", "Show a sealed model and verify its signature; needs no key."),
    "manifest": ("manifests.gramine.cli:manifest", "Render and measure the enclave's manifest."),
    "model": ("manifests.cli:model", "Describe ONNX models before they are sealed."),
    "owner": ("manifests.cli:owner", "Make the owner's key and delegate rights to a broker."),
    "rewrap": ("manifests.cli:rewrap", "Add or replace a recipient of a sealed model."),
    "seal": ("manifests.cli:seal_command", "Seal an ONNX model for its recipients."),
    "sim": ("attestation.sim.cli:sim", "Make and inspect a simulated platform."),
}


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return _load(_PUBLIC[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are run; their one-line help is kept here."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = _load(_COMMANDS[cmd_name][0])
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="strongroom")
def cli() -> None:
    """Serve ONNX models from inside a trusted execution environment on a machine that nobody has to trust."""


def main() -> None:
    """Run the command; errors of ours end it with their exit status and say what to do next."""
    try:
        status = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("Aborted.", err=True)
        sys.exit(1)
    except StrongroomError as error:
        _report(error)
        sys.exit(error.exit_code)
    sys.exit(status if isinstance(status, int) else 0)  # click returns the status of ctx.exit()


def _report(error: StrongroomError) -> None:
    """Print an error: as JSON on standard output where --json was asked for, else in words on standard error."""
    if "--json" in sys.argv:
        click.echo(json.dumps({"error": error.to_dict()}, indent=2))
        return
    click.secho(f"error: {error.message} [{error.code}]", fg="red", err=True)
    for name, value in (("expected", error.expected), ("found", error.found), ("next", error.remedy)):
        if value is not None:
            click.echo(f"  {name}: {value}", err=True)


if __name__ == "__main__":
    main()
