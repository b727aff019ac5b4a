"""The bounds of a model's form: each far above what exporters write, each checked before anything grows with it."""

from __future__ import annotations

MAX_MODEL = (1 << 31) - 1
"""Bytes of a protobuf message; larger models keep their weights in external data."""
MAX_MESSAGES = 64
"""Messages within messages.  ONNX Runtime's own reader stops at 100; eight subgraphs take 27."""
MAX_FIELDS = 1 << 21
"""Fields of all messages; a repeated number that is not packed counts once for a run.  Some seconds of reading."""
MAX_NUMBERS = 1 << 26
"""Numbers in attributes, such as the thresholds of a forest: 512 MiB in memory."""

MAX_NODES = 1 << 16
"""Nodes of all graphs and functions; language models of 100 layers have some ten thousand."""
MAX_TENSORS = 1 << 16
"""Initializers, and tensors within attributes."""
MAX_ATTRIBUTES = 1 << 18
MAX_VALUES = 1 << 18
"""Descriptions of inputs, outputs and values in between."""
MAX_GRAPHS = 4096
"""Main graph and subgraphs: two for each If."""
MAX_FUNCTIONS = 1024
MAX_STRINGS = 1 << 20
"""Names and texts in attributes: vocabularies have some hundred thousand words."""
MAX_ENTRIES = 1 << 18
"""Entries of metadata; PyTorch writes several at every node."""

MAX_NAME = 2048
"""Bytes of one name; exporters put the path of modules into it, some hundred characters."""
MAX_TEXT = 64 << 20
"""Bytes of all names and of all texts in attributes together."""
MAX_NOTES = 64 << 20
"""Bytes of documentation and metadata together; PyTorch writes stack traces, some KiB at every node."""

MAX_SUBGRAPHS = 8
"""Subgraphs within subgraphs; exporters write two or three."""
MAX_RANK = 64
"""Axes of a tensor.  NumPy has 64; ONNX Runtime's kernels are made for eight or so."""
MAX_EXPANDED = MAX_NODES
"""Nodes that are looked at when functions are expanded and loops unrolled: bounds the time of a check."""
MAX_FOLLOWED = 1 << 20
"""Values, and numbers in them, that one check follows: some microseconds and some eighty bytes each.  Models of 10,000
nodes take a tenth of it."""
MAX_FINDINGS = 100
"""Findings that are listed; the rest is counted."""

MAX_AXIS = 1 << 40
"""Elements that a tensor may claim to have, and its axes.  Products beyond 2^63 wrap in other readers."""
