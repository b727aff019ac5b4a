"""`python -m attestation.sim`: the simulator as a process of its own."""

from __future__ import annotations

import sys

import click

from attestation.sim.cli import sim
from manifests.errors import StrongroomError
from manifests.plain import printable_lines


def main() -> int:
    """Run the command; returns its exit status, which for `run` is the enclave's."""
    try:
        sim.main(prog_name="python -m attestation.sim", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except StrongroomError as error:
        click.echo(f"error: {printable_lines(str(error))}", err=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
