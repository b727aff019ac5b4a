"""The check of a model, whole: read, compared with the rules of its form, and bounded in cost.

Done by `strongroom model check`, by sealing, and again by the enclave before the runtime sees a byte of the model.
Total: any bytes give a report.  Time and memory are bounded by the bounds of bounds.py, not by what a model claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from manifests.errors import Fault
from manifests.model import ModelManifest
from manifests.onnx import dtypes
from manifests.onnx.cost import Cost, Evaluator
from manifests.onnx.errors import OnnxCode, OnnxError
from manifests.onnx.findings import Finding, Findings
from manifests.onnx.inputs import assumed, described
from manifests.onnx.messages import Graph, Model
from manifests.onnx.operators import plain_domain
from manifests.onnx.permits import GraphPermits
from manifests.onnx.reader import read_model
from manifests.onnx.requests import RequestBounds, bound_requests
from manifests.onnx.structure import Structure
from manifests.onnx.tensors import Places
from manifests.onnx.values import Value

_NOTHING = GraphPermits()


@dataclass(frozen=True)
class Report:
    """What a check found.  `cost` is None where the form was refused already."""

    findings: tuple[Finding, ...]
    count: int
    """All findings, those that are not listed too."""
    operators: Mapping[str, int] = field(default_factory=dict)
    """How often each operator is used, by "domain:Operator"."""
    ir_version: int = 0
    opsets: Mapping[str, int] = field(default_factory=dict)
    nodes: int = 0
    tensors: int = 0
    cost: Cost | None = None
    permits: GraphPermits = _NOTHING
    requests: RequestBounds | None = None
    """Bounds of requests by their shapes, where `require_model` was asked and the manifest states a limit."""

    @property
    def passed(self) -> bool:
        """Whether there is nothing to refuse."""
        return not self.count

    def error(self, *, named: bool = True) -> OnnxError:
        """Return the first finding as an error; without names of the model's own unless they are `named`.

        An enclave's answer reaches the owner's broker, whose logs outlive it.  It names the rule that a model broke,
        and the owner finds the place with `strongroom model check`.
        """
        first = self.findings[0]
        if not named:
            return OnnxError(first.code, first.code.meaning)
        place = f" ({first.place})" if first.place else ""
        more = f"; and {self.count - 1} more, which `strongroom model check` lists" if self.count > 1 else ""
        return OnnxError(first.code, f"{first.message}{place}{more}", expected=first.expected, found=first.found)

    def with_finding(self, finding: Finding) -> Report:
        """Return the report with one more finding, of another check."""
        return replace(self, findings=(*self.findings, finding), count=self.count + 1)

    @property
    def fault(self) -> Fault:
        """Whose fault a failed check is: malformed bytes or manifest, or else the first finding's."""
        malformed = any(finding.code.fault is Fault.MALFORMED for finding in self.findings)
        return Fault.MALFORMED if malformed else self.findings[0].code.fault

    def to_dict(self) -> dict[str, Any]:
        """Give the form that `--json` prints."""
        cost = self.cost
        return {
            "passed": self.passed,
            "ir_version": self.ir_version,
            "opsets": {domain or "ai.onnx": version for domain, version in self.opsets.items()},
            "nodes": self.nodes,
            "tensors": self.tensors,
            "operators": dict(sorted(self.operators.items())),
            "request": None if cost is None else {"memory": cost.memory, "work": cost.work},
            "limits": {"memory": self.permits.memory, "work": self.permits.work},
            "resident": None if cost is None else cost.resident,
            "count": self.count,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def check_model(
    data: bytes | bytearray | memoryview,
    *,
    manifest: ModelManifest | None = None,
    parts: Mapping[str, int] | None = None,
) -> Report:
    """Check a model at the limits of its manifest, or at those of a draft.

    data: the graph's bytes.  parts: bytes of each part of the sealed model that may hold external data, by name.
    """
    findings = Findings()
    try:
        model = read_model(data)
    except OnnxError as error:
        findings.take(error)
        return Report(tuple(findings.listed), findings.count)
    permits = (manifest.graph if manifest is not None else None) or _NOTHING
    structure = Structure(model, frozenset(permits.operators), findings, Places({} if parts is None else parts))
    structure.check()
    cost = None if findings.count else _cost(model, structure, manifest, permits, findings)
    return Report(
        findings=tuple(findings.listed),
        count=findings.count,
        operators=structure.used,
        ir_version=model.ir_version,
        opsets={plain_domain(item.domain): item.version for item in model.opset_import},
        nodes=sum(structure.used.values()),
        tensors=len(_graph_of(model).initializer) + len(_graph_of(model).sparse_initializer),
        cost=cost,
        permits=permits,
    )


def require_model(
    data: bytes | bytearray | memoryview, manifest: ModelManifest, parts: Mapping[str, int], *, named: bool = True
) -> Report:
    """Check a model, and raise OnnxError with the first finding's code where it does not pass."""
    report = check_model(data, manifest=manifest, parts=parts)
    if not report.passed:
        raise report.error(named=named)
    bounds = bound_requests(data, manifest, parts)
    check_smallest(bounds)
    return replace(report, requests=bounds)


def _graph_of(model: Model) -> Graph:
    assert model.graph is not None  # noqa: S101 - the reader refuses a model without a graph
    return model.graph


def _cost(
    model: Model, structure: Structure, manifest: ModelManifest | None, permits: GraphPermits, findings: Findings
) -> Cost | None:
    """Follow the model at its limits and compare; raises nothing."""
    graph = _graph_of(model)
    inputs = assumed(graph) if manifest is None else described(manifest)
    if not _check_inputs(graph, inputs, findings):
        return None
    opsets = {plain_domain(item.domain): item.version for item in model.opset_import}
    try:
        cost = Evaluator(structure.functions, permits, findings).model(graph, inputs, opsets)
    except OnnxError as error:
        findings.take(error)
        return None
    for code, what, found, most in (
        (OnnxCode.RESIDENT, "the loaded model takes more bytes than its limit", cost.resident, permits.memory),
        (OnnxCode.MEMORY, "one request may take more bytes than its limit", cost.memory, permits.memory),
        (OnnxCode.WORK, "one request may take more operations than its limit", cost.work, permits.work),
    ):
        if found > most:
            findings.add(code, what, "", f"at most {most}", found if found < 1 << 63 else "more than 2^63")
    return cost


def check_smallest(bounds: RequestBounds | None) -> None:
    """Refuse a limit of a request's memory that nothing fits; raises OnnxError `onnx-memory`."""
    if bounds is not None and bounds.least > bounds.limit:
        raise OnnxError(
            OnnxCode.MEMORY,
            "not even the smallest request fits max_request_memory",
            expected=f"at least {bounds.least}",
            found=bounds.limit,
        )


def _check_inputs(graph: Graph, inputs: Mapping[str, Value], findings: Findings) -> bool:
    """Compare names and types of the graph's inputs with those that are described."""
    before = findings.count
    given = {tensor.name for tensor in graph.initializer} | {item.values.name for item in graph.sparse_initializer}
    for value in graph.input:
        if value.name in given:
            continue
        found = inputs.get(value.name)
        tensor = None if value.type is None else value.type.tensor_type
        if found is None or tensor is None or tensor.elem_type != found.dtype:
            findings.add(
                OnnxCode.INTERFACE, "the manifest describes no input of this name and type", f"input {value.name!r}",
                expected=[f"{name!r} of {dtypes.NAMES[item.dtype]}" for name, item in inputs.items()],
                found=dtypes.NAMES.get(0 if tensor is None else tensor.elem_type, "no tensor"),
            )  # fmt: skip
        elif not found.bounded:
            findings.add(OnnxCode.UNBOUNDED, "the input has no rank", f"input {value.name!r}")
    return findings.count == before
