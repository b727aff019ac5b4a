"""Small models for content, each trained here within a second or two: topics of texts, written digits, pitches."""

from __future__ import annotations

import functools
import inspect
import os
import random
import re
import shutil
import socket
import statistics
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer

from tests.testkit.files import trained_tokenizer

DOCUMENT = Path(__file__).parents[2] / "docs" / "processing.md"
TOPICS = {"numbers": (statistics, random, np.linalg), "files": (os, shutil, zipfile, Path, socket)}
MAX_TOKENS = 64
SAMPLES = 4000
PITCHES = {"low": 250.0, "middle": 500.0, "high": 1500.0}


def blocks(language: str) -> list[str]:
    """The code of this language in docs/processing.md."""
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@functools.cache
def sentences() -> tuple[tuple[str, str], ...]:
    """Texts that ship with Python, each with the topic of the module that it documents."""
    found = []
    for topic, modules in TOPICS.items():
        for module in modules:
            for _, member in inspect.getmembers(module, callable):
                text = inspect.getdoc(member) or ""
                found += [(line.strip(), topic) for line in text.split("\n") if len(line.split()) > 4]
    return tuple(dict.fromkeys(found))


@functools.cache
def topics() -> tuple[bytes, bytes]:
    """Return (ONNX, tokenizer.json): logistic regression over the number of times that each token occurs."""
    texts = [text for text, _ in sentences()]
    data = trained_tokenizer(texts, 800)
    tokenizer = Tokenizer.from_str(data.decode())
    tokenizer.enable_truncation(MAX_TOKENS)
    counts = np.zeros((len(texts), tokenizer.get_vocab_size()), np.float32)
    for row, encoding in zip(counts, tokenizer.encode_batch(texts), strict=True):
        np.add.at(row, encoding.ids, 1)
    names = list(TOPICS)
    trained = LogisticRegression(max_iter=200).fit(counts, [names.index(topic) for _, topic in sentences()])
    weights = np.stack([-trained.coef_[0], trained.coef_[0]], axis=1).astype(np.float32) / 2
    bias = np.array([-trained.intercept_[0], trained.intercept_[0]], np.float32) / 2
    return bag_of_tokens(weights, bias), data


def bag_of_tokens(weights: np.ndarray, bias: np.ndarray) -> bytes:
    """y = the sum of the weights of all tokens that are no padding, plus a bias."""
    nodes = [
        helper.make_node("Gather", ["w", "input_ids"], ["each"]),
        helper.make_node("Cast", ["attention_mask"], ["m"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["m", "two"], ["mask"]),
        helper.make_node("Mul", ["each", "mask"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "b"], ["logits"]),
    ]
    initial = {"w": weights, "b": bias, "one": np.array([1]), "two": np.array([2])}
    inputs = [(name, TensorProto.INT64, ["n", "t"]) for name in ("input_ids", "attention_mask")]
    return model(nodes, inputs, [("logits", TensorProto.FLOAT, ["n", 2])], initial)


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any], initial: dict[str, np.ndarray]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "content",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
        [numpy_helper.from_array(value, name) for name, value in initial.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


def topics_review() -> dict[str, Any]:
    return {
        "labels": list(TOPICS),
        "axes": {"n": {"minimum": 1, "maximum": 8}},
        "inputs": [{"name": "text", "dtype": "string", "shape": ["n"], "max_text": 2000}],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": ["n", 2]}],
        "pre": [
            {
                "kind": "tokenize",
                "input": "text",
                "tokenizer": "tokenizer.json",
                "max_length": MAX_TOKENS,
                "mask": "attention_mask",
            }
        ],
        "post": [
            {"kind": "softmax", "output": "logits", "axis": -1},
            {"kind": "top_k", "output": "logits", "k": 2},
            {"kind": "label", "output": "logits_indices"},
        ],
    }


@functools.cache
def digits() -> bytes:
    pixels, classes = load_digits(return_X_y=True)
    trained = LogisticRegression(max_iter=300).fit(pixels[:1500], classes[:1500])
    made = to_onnx(trained, pixels[:1].astype(np.float32), options={"zipmap": False}, target_opset=17)
    assert isinstance(made, onnx.ModelProto)
    return bytes(made.SerializeToString())


def digits_review() -> dict[str, Any]:
    """The very manifest that docs/processing.md shows."""
    return tomllib.loads(blocks("toml")[0])


def private_review() -> dict[str, Any]:
    """Digits whose scores have noise, under labels alone; five answers to each client."""
    review = digits_review()
    noise = {
        "kind": "noise",
        "output": "probabilities",
        "epsilon": 1.0,
        "sensitivity": 0.05,
        "minimum": 0.0,
        "maximum": 1.0,
        "max_epsilon": 5.0,
    }
    return review | {"name": "private", "post": [noise, {"kind": "label_only", "output": "probabilities"}]}


def digit(number: int) -> tuple[np.ndarray, int]:
    """Return a picture that the model was not trained on, in 255 shades, and what it shows."""
    pixels, classes = load_digits(return_X_y=True)
    shades = np.round(pixels[1500 + number].reshape(8, 8) * 255 / 16).astype(np.uint8)
    return shades, int(classes[1500 + number])


def pitches() -> bytes:
    """y = the power of a recording around each pitch."""
    time = np.arange(SAMPLES) / 8000
    waves = [turn(2 * np.pi * hertz * time) for hertz in PITCHES.values() for turn in (np.sin, np.cos)]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["parts"]),
        helper.make_node("Mul", ["parts", "parts"], ["squares"]),
        helper.make_node("Reshape", ["squares", "shape"], ["pairs"]),
        helper.make_node("ReduceSum", ["pairs", "two"], ["power"], keepdims=0),
    ]
    initial = {"w": np.stack(waves, 1).astype(np.float32), "shape": np.array([1, 3, 2]), "two": np.array([2])}
    inputs = [("x", TensorProto.FLOAT, [1, SAMPLES])]
    return model(nodes, inputs, [("power", TensorProto.FLOAT, [1, 3])], initial)


def pitches_review() -> dict[str, Any]:
    return {
        "labels": list(PITCHES),
        "axes": {"bytes": {"minimum": 1, "maximum": 1 << 20}},
        "inputs": [{"name": "recording", "dtype": "uint8", "shape": ["bytes"]}],
        "pre": [
            {
                "kind": "audio",
                "input": "recording",
                "output": "x",
                "rate": 8000,
                "max_seconds": 1,
                "samples": SAMPLES,
                "truncate": True,
            }
        ],
        "post": [{"kind": "argmax", "output": "power"}, {"kind": "label", "output": "power"}],
    }
