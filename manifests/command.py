"""Commands that take each option once: `@click.command(cls=Command)`, and `@click.group(cls=Group)` for all in a group.

click takes the last of several values, without a word: a policy that a script names beside another would not count.
"""

from __future__ import annotations

from collections import Counter

import click


class Command(click.Command):
    """A command that refuses an option which is given several times and takes one value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line; raises click.UsageError."""
        if not ctx.resilient_parsing:
            _, _, order = self.make_parser(ctx).parse_args(args=list(args))
            for option, times in Counter(order).items():
                if times > 1 and isinstance(option, click.Option) and _takes_one(option):
                    raise click.UsageError(f"{option.opts[0]} takes one value, and is given {times} times", ctx)
        return super().parse_args(ctx, args)


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


def _takes_one(option: click.Option) -> bool:
    """Tell whether a second value would replace the first: a switch that is thrown twice says the same."""
    return not (option.multiple or option.count or (option.is_flag and not option.secondary_opts))
