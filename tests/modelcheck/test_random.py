"""Any graph of any operators with any attributes gets a report: rules meet inputs that nobody would give them."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from manifests.onnx.check import check_model
from manifests.onnx.operators import ALLOWED
from manifests.onnx.rules import RULES
from tests.modelcheck.ordinary import value

EXAMPLES = settings(
    max_examples=100, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
OPERATORS = sorted((domain, name) for domain, names in ALLOWED.items() for name in names)
ATTRIBUTES = sorted(
    {
        name: attribute.type
        for schema in onnx.defs.get_all_schemas_with_history()
        for name, attribute in schema.attributes.items()
    }.items()
)
NUMBERS = (-(1 << 63), -5, -1, 0, 1, 2, 3, 4, 7, 1 << 31, (1 << 63) - 1)
SHAPES: tuple[list[int], ...] = ([], [0], [1], [3], [2, 3], [1, 3, 4], [2, 3, 4, 4], [0, 4], [1, 1, 1, 1, 1])
TYPES = (1, 2, 3, 6, 7, 8, 9, 10, 11, 16)


def attribute(random: Random, name: str, kind: Any) -> Any:
    made = onnx.AttributeProto(name=name, type=int(kind))
    numbers = [random.choice(NUMBERS) for _ in range(random.randrange(5))]
    words = [random.choice([b"", b"NOTSET", b"SAME_UPPER", b"ij,jk->ik", b"stretch", b"\xff"]) for _ in range(2)]
    if kind == onnx.AttributeProto.INT:
        made.i = random.choice(NUMBERS)
    elif kind == onnx.AttributeProto.INTS:
        made.ints.extend(numbers)
    elif kind == onnx.AttributeProto.FLOAT:
        made.f = random.choice([0.0, -1.0, float("nan"), float("inf"), 1e30])
    elif kind == onnx.AttributeProto.FLOATS:
        made.floats.extend(map(float, numbers))
    elif kind == onnx.AttributeProto.STRING:
        made.s = words[0]
    elif kind == onnx.AttributeProto.STRINGS:
        made.strings.extend(words)
    elif kind == onnx.AttributeProto.TENSOR:
        made.t.CopyFrom(tensor(random, "t"))
    elif kind == onnx.AttributeProto.GRAPH:
        made.g.CopyFrom(body(random))
    return made


def tensor(random: Random, name: str) -> Any:
    kind = random.choice((1, 6, 7, 9, 11))
    shape = random.choice(SHAPES[:6])
    numbers = [random.choice(NUMBERS) for _ in range(int(np.prod(shape)))]
    low = (1 << 31) - 1
    plain = [bool(n % 2) if kind == 9 else max(-low, min(low, n)) if kind == 6 else n for n in numbers]
    return helper.make_tensor(name, kind, shape, plain)


def body(random: Random) -> Any:
    tag = f"{random.getrandbits(40):x}"
    inputs = [value(f"i{at}{tag}", None, random.choice(TYPES)) for at in range(random.randrange(4))]
    outputs = [value(f"o{at}{tag}", None) for at in range(1 + random.randrange(3))]
    names = ["x0", "c0", *(item.name for item in inputs)]
    nodes = [
        helper.make_node(random.choice(["Identity", "Add", "Concat"]), random.choices(names, k=2), [item.name])
        for item in outputs
    ]
    return helper.make_graph(nodes, "body", inputs, outputs)


def node(random: Random, names: list[str], at: int) -> Any:
    domain, name = random.choice(OPERATORS)
    inputs = [random.choice([*names, ""]) for _ in range(random.randrange(6))]
    made = helper.make_node(name, inputs, [f"v{at}_{k}" for k in range(1 + random.randrange(3))], domain=domain)
    opset = {"": 20, "ai.onnx.ml": 3}.get(domain)
    own = [item for item in ATTRIBUTES if random.random() < 0.02]
    if opset and onnx.defs.has(name, opset, domain):
        schema = onnx.defs.get_schema(name, opset, domain)
        own += [(key, item.type) for key, item in schema.attributes.items() if item.required or random.random() < 0.5]
    made.attribute.extend(attribute(random, *item) for item in dict(own).items())
    return made


def graph(random: Random) -> bytes:
    inputs = [value(f"x{at}", random.choice(SHAPES), random.choice(TYPES)) for at in range(3)]
    constants = [tensor(random, f"c{at}") for at in range(3)]
    names, nodes = [f"{kind}{at}" for kind in "xc" for at in range(3)], []
    for at in range(1 + random.randrange(4)):
        nodes.append(node(random, names, at))
        names.extend(nodes[-1].output)
    made = helper.make_graph(nodes, "random", inputs, [value(nodes[-1].output[0], None)], constants)
    opsets = [helper.make_opsetid(*item) for item in (("", random.choice([8, 13, 20])), ("ai.onnx.ml", 3), ("com.microsoft", 1))]  # fmt: skip  # noqa: E501
    return bytes(helper.make_model(made, opset_imports=opsets, ir_version=10).SerializeToString())


def test_a_random_graph_gets_a_report() -> None:
    outcomes: dict[str, int] = {}

    @EXAMPLES
    @given(seed=st.integers(0, 1 << 32))
    def run(seed: int) -> None:
        random = Random(seed)
        for _ in range(8):
            report = check_model(graph(random))
            outcome = "passed" if report.passed else str(report.findings[0].code)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1

    run()
    assert outcomes["passed"] > 15
    assert {"onnx-unbounded", "onnx-attribute", "onnx-memory"} <= outcomes.keys()


WITHOUT_RULES = {"SequenceMap", "LinearAttention", "CausalConvWithState"}
BY_THEMSELVES = {"If", "Loop", "Scan", "Constant"}


def test_every_operator_has_a_rule_or_is_known_to_have_none() -> None:
    missing = {name for domain, name in OPERATORS if (domain, name) not in RULES}
    assert missing == WITHOUT_RULES | BY_THEMSELVES
    assert set(RULES) <= set(OPERATORS)


def test_the_operators_are_those_of_the_installed_onnx() -> None:
    schemas = [item for item in onnx.defs.get_all_schemas_with_history() if item.domain in ("", "ai.onnx.ml")]
    for domain in ("", "ai.onnx.ml"):
        known = {item.name for item in schemas if item.domain == domain}
        assert known - ALLOWED[domain] == ({"ImageDecoder"} if not domain else set())
        assert ALLOWED[domain] <= known
