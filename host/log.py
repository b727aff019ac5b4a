"""How the agent's log looks: one line per event, which carries the class that the enclaves told.

The class is shown to whoever reads the log.  It is an enclave's own word, so nothing is decided by it.
"""

from __future__ import annotations

import logging

_CLASSES = ("simulated", "hardware")
_told: dict[str, str] = {}


def show_class(route: str, told: object) -> None:
    """Have every line from now on carry what the enclave of a route said of its class; any other word is UNKNOWN."""
    _told[route] = told.upper() if isinstance(told, str) and told in _CLASSES else "UNKNOWN"


class PlainFormatter(logging.Formatter):
    """Lines of time, level, class and message, or of another layout, which may use %(platform)s."""

    def __init__(self, layout: str = "%(asctime)s %(levelname)s %(platform)s%(message)s") -> None:
        """Lay lines out by a format of percent style."""
        super().__init__(layout)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line of a record."""
        record.platform = f"{','.join(sorted(set(_told.values())))} " if _told else ""
        return super().formatMessage(record)
