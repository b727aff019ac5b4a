"""Keep the index of sealed models current without holding up the loop."""

from __future__ import annotations

import asyncio
import logging

from host.models import ModelFolder

_log = logging.getLogger(__name__)

POLL = 2.0
"""Seconds between two looks at the folder; a look costs a few milliseconds for a thousand files."""
REFRESH = 0.25
"""Seconds that must lie between two looks on request, so that fetches of unknown digests cannot keep a disk busy."""


class ModelWatch:
    """Scans a folder of sealed models in a thread, now and then and on request."""

    def __init__(self, folder: ModelFolder) -> None:
        """Watch `folder`; `run` does the work."""
        self.folder = folder
        self._busy = asyncio.Lock()
        self._newest = float("-inf")

    async def refresh(self) -> None:
        """Look at the folder unless that was done a moment ago."""
        loop = asyncio.get_running_loop()
        async with self._busy:
            if loop.time() - self._newest < REFRESH:
                return
            changed = await loop.run_in_executor(None, self.folder.scan)
            self._newest = loop.time()
        if changed:
            self._report()

    def _report(self) -> None:
        folder = self.folder
        _log.info("%d sealed models, %d unusable files", len(folder.models), len(folder.rejected))
        for one in folder.rejected:
            _log.warning("%s cannot be served: %s [%s]", one.path.name, one.message, one.code)
        for copy in folder.duplicates:
            _log.warning("%s is the model that %s serves already", copy.path.name, copy.served.name)

    async def run(self) -> None:
        """Look at the folder every two seconds, until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(POLL)
