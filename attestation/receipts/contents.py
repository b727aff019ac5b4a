"""Contents of requests in files, to be compared with what a receipt commits to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from attestation.client.files import read_outputs, read_tensor
from attestation.client.models import TensorInfo
from attestation.receipts.checks import Held
from attestation.types.receipt_errors import ReceiptCode, ReceiptError
from attestation.wire.commitments import Direction, Tensor, sent
from attestation.wire.messages import TensorSpec


def read_contents(held: Held, inputs: Sequence[str], output: Path | None) -> Held:
    """Return what is held with the tensors of these files (NAME=FILE; a .npz) to be compared.

    Raises ReceiptError `receipt-withheld` for a tensor that nothing opens, ClientError `tensor-invalid`, ManifestError.
    """
    contents: dict[Direction, list[Tensor]] = {Direction.INPUT: [], Direction.OUTPUT: []}
    for text in inputs:
        name, separator, path = text.partition("=")
        if not separator or not name or not path:
            raise click.UsageError(f"--input takes NAME=FILE, not {text!r}")
        spec = _opened(held, Direction.INPUT, name)
        declared = TensorInfo(spec.name, spec.dtype, spec.shape)
        contents[Direction.INPUT] += sent({name: read_tensor(name, Path(path), declared)})
    if output is not None:
        tensors = read_outputs(output)
        for name in tensors:
            _opened(held, Direction.OUTPUT, name)
        contents[Direction.OUTPUT] += sent(tensors)
    return replace(held, contents=contents)


def _opened(held: Held, way: Direction, name: str) -> TensorSpec:
    specs = {each.spec.name: each.spec for each in held.openings.get(way, ()) if each.spec is not None}
    if name not in specs:
        raise ReceiptError(
            ReceiptCode.WITHHELD, f"nothing here opens an {way} {name!r} to compare it with", expected=sorted(specs)
        )
    return specs[name]
