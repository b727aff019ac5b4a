"""The front door: the `strongroom` command and the three calls most programs need.

Nothing imports this module.  Sub-commands and the public names are loaded when they are first used, so that
`strongroom --help` and `import strongroom` stay quick.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from manifests.errors import ErrorCode, Fault, StrongroomError, shown
from manifests.plain import printable_lines

if TYPE_CHECKING:  # an installed user's checker reads strongroom-stubs, which says the same
    from attestation.client import Session
    from attestation.policy import load_policy
    from manifests.sealed import seal

__all__ = ["Session", "load_policy", "main", "seal"]

_PUBLIC = {
    "Session": "attestation.client:Session",
    "load_policy": "attestation.policy:load_policy",
    "seal": "manifests.sealed:seal",
}

_COMMANDS = {
    "attest": ("attestation.cli:attest", "Verify, explain and show attestation evidence."),
    "broker": ("attestation.broker.cli:broker", "Hold model keys and release them to attested enclaves."),
    "collateral": ("attestation.collateral.cli:collateral", "Fetch, import and inspect the vendors' collateral."),
    "demo": ("evaluation.demo.cli:demo", "Seal two models, attest, infer, and watch attacks fail."),
    "generate": ("attestation.client.generate_cli:generate", "Have an attested language model go on with a text."),
    "host": ("host.cli:host", "Check this machine; bring enclaves up, watch them, and take them down."),
    "infer": ("attestation.client.cli:infer", "Send tensors to an attested enclave."),
    "inspect": ("manifests.cli:inspect", "Show a sealed model and verify its signature; needs no key."),
    "manifest": ("manifests.gramine.cli:manifest", "Render and measure the enclave's manifest."),
    "model": ("manifests.cli:model", "Describe and check ONNX models before they are sealed."),
    "owner": ("manifests.cli:owner", "Make keys of owners, recipients and clients; show public keys."),
    "receipt": (
        "attestation.receipts.cli:receipt",
        "Verify, show and disclose receipts; needs no network.",
    ),
    "rewrap": ("manifests.cli:rewrap", "Add or replace a recipient of a sealed model."),
    "seal": ("manifests.cli:seal_command", "Seal an ONNX model for its recipients."),
    "sim": ("attestation.sim.cli:sim", "Make and inspect a simulated platform."),
}


class CommandCode(ErrorCode):
    """Codes of the command itself."""

    USAGE = "usage", Fault.USAGE, "the command line is wrong", "see --help"
    OUTPUT_FAILED = (
        "output-failed",
        Fault.UNAVAILABLE,
        "what the command prints cannot be written",
        "free some space, or send the output elsewhere",
    )
    INTERNAL = (
        "internal",
        Fault.INTERNAL,
        "the program met a defect of its own",
        "please report it, with the command you ran",
    )


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return _load(_PUBLIC[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _ReaderGone(Exception):  # noqa: N818 - the reader has seen enough, which is nobody's error
    """Whoever read what the command prints has gone away: click would end with 1, the status of a defect."""


@contextlib.contextmanager
def _printing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise _ReaderGone from None


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are run; their one-line help is kept here."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Read the command line; help is printed here."""
        with _printing():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _printing():
            return super().invoke(ctx)

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
    """Run the command; whatever goes wrong ends it with a code, an exit status, and what to do next."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to fail
    sys.exit(_run())


_READER_GONE = 128 + signal.SIGPIPE
"""As a shell has it for a program whose reader, such as `head -1`, has seen enough: what was said is no verdict."""


def _run() -> int:
    try:
        status = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except click.Abort:
        click.echo("Aborted.", err=True)
        return 128 + signal.SIGINT
    except click.ClickException as error:
        return _report_usage(error)
    except StrongroomError as error:
        return _report(error)
    except (_ReaderGone, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter would try once more
        return _report(StrongroomError(CommandCode.OUTPUT_FAILED, f"the output cannot be written: {error.strerror}"))
    except Exception as error:  # noqa: BLE001 - the last line of defence; an exception's text may hold what is secret
        return _report(_defect(error))
    return status if isinstance(status, int) else 0  # click returns the status of ctx.exit()


def _defect(error: Exception) -> StrongroomError:
    """Name a defect of ours by its place and type alone."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{type(error).__name__} at {os.path.basename(frame.filename)}:{frame.lineno}"  # noqa: PTH119 - a name, no path
    return StrongroomError(CommandCode.INTERNAL, f"the program has a defect: {place}")


def _report_usage(error: click.ClickException) -> int:
    """Report a wrong command line; click words it best for people."""
    if "--json" not in sys.argv:
        error.message = printable_lines(error.message)  # a name that a script passed on may be anybody's
        error.show()
        return error.exit_code
    return _report(StrongroomError(CommandCode.USAGE, error.format_message()))


def _report(error: StrongroomError) -> int:
    """Print an error: as JSON on standard output where --json was asked for, else in words on standard error."""
    with contextlib.suppress(OSError):
        if "--json" in sys.argv and error.code is not CommandCode.OUTPUT_FAILED:
            click.echo(json.dumps({"error": error.to_dict()}, indent=2))
            return error.exit_code
        click.secho(f"error: {_lines(error.message)} [{error.code}]", fg="red", err=True)
        for name, value in (("expected", error.expected), ("found", error.found), ("next", error.remedy)):
            if value is not None:
                click.echo(f"  {name}: {_lines(shown(value))}", err=True)
    return error.exit_code


def _lines(text: str) -> str:
    """Return a text of strangers with every further line indented: none passes for one of ours."""
    return printable_lines(text).replace("\n", "\n    ")


if __name__ == "__main__":
    main()
