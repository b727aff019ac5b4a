"""Optional parts of the enclave: libraries that decode texts, pictures and sound for a model's steps, and draw noise.

Each is a module of its own here, and the only one that imports its library.  It is loaded where the measured settings
name it, before the enclave refuses all further imports; its files are in the rendered manifest, and so in the
measurement, of such an enclave alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeAlias

from enclave.errors import EnclaveCode, EnclaveError
from enclave.spelling import Words
from enclave.validate import Tensors
from manifests.steps import ComponentStep

Step: TypeAlias = Callable[[Tensors], Tensors]
Parts: TypeAlias = Mapping[str, bytearray]
"""Plain parts of a sealed model by name; they are wiped once the model is loaded."""

WHOLE, BOXES, PIECES = "\0whole", "\0boxes", "\0pieces"
"""The enclave's own tensors, beside a model's, whose names are printable: a decoded picture, boxes, what is cut out."""


class Component(Protocol):
    """What a module of a component offers."""

    def compile(self, step: ComponentStep, parts: Parts) -> Step:
        """Return the function for a step; raises EnclaveError `model-unusable` for a part that cannot be used."""

    def words(self, name: str, parts: Parts, size: int, context: int) -> Words:
        """Return the vocabulary that the part of this name holds, of at most `size` tokens; raises as `compile`.

        Of the component `text` alone.
        """

    def rehearse(self) -> None:
        """Do all that a request can ask for once, so that the library has loaded all that it loads."""


def load_components(names: Iterable[str]) -> dict[str, Component]:
    """Import the modules of these components; raises EnclaveError `enclave-start-failed`."""
    return {name: _load(name) for name in names}


def _load(name: str) -> Component:
    try:
        module: Component = importlib.import_module(f"enclave.components.{name}")
    except ImportError:
        raise EnclaveError(
            EnclaveCode.START_FAILED,
            f"the library of the component {name!r} is not installed",
            remedy="install strongroom with the extra `components`, or render the manifest without it",
        ) from None
    return module
