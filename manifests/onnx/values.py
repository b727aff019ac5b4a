"""What is known of a value before any request: bounds of its axes, of its elements, and of the numbers in it.

Everything is an upper bound over all requests that the manifest admits.  Axes and numbers are intervals, ends
included.  Numbers are known of small integer tensors alone, such as shapes; they are what other shapes come from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from manifests.onnx import dtypes

UNBOUNDED = 1 << 200
"""Stands for "no bound"; a product with it stays above everything that is compared with it."""
MAX_CONTENT = 512
"""Elements of a tensor whose numbers are followed one by one; shapes have some ten, other small constants some 250."""

Interval = tuple[Any, Any]
"""Least and greatest: integers, or floats."""
Dims = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Content:
    """Least and greatest value of each element, as arrays of Python numbers of the tensor's shape."""

    low: np.ndarray
    high: np.ndarray

    def __post_init__(self) -> None:
        """Make arrays of single numbers, which NumPy gives as they are for arrays without an axis."""
        for name in ("low", "high"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), object))

    def __eq__(self, other: object) -> bool:
        """Compare shapes and numbers."""
        return (
            isinstance(other, Content) and np.array_equal(self.low, other.low) and np.array_equal(self.high, other.high)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def exact(self) -> bool:
        """Whether every element has one value alone."""
        return bool((self.low == self.high).all())

    def span(self) -> Interval | None:
        """Return the least and the greatest of all elements, or None where there is no element."""
        return (self.low.min(), self.high.max()) if self.low.size else None

    def items(self) -> list[Interval]:
        """Return the intervals of all elements in one row."""
        return list(zip(self.low.ravel().tolist(), self.high.ravel().tolist(), strict=True))


def content_of(items: Iterable[Interval], shape: tuple[int, ...] | None = None) -> Content | None:
    """Return a content of one row, or of a shape; None beyond `MAX_CONTENT` elements."""
    pairs = list(items)
    if len(pairs) > MAX_CONTENT:
        return None
    low, high = (np.array([None, *(pair[end] for pair in pairs)], object)[1:] for end in (0, 1))
    return Content(low, high) if shape is None else Content(low.reshape(shape), high.reshape(shape))


@dataclass(frozen=True)
class Value:
    """A tensor, or a sequence of them (then `elements` counts those of all its tensors)."""

    dtype: int
    dims: Dims | None
    """None where not even the rank is known."""
    elements: int
    """Most elements, which may be less than the product of the axes."""
    content: Content | None = None
    span: Interval | None = None
    """Bounds of every number in it."""
    text: int = 0
    """Most bytes of all texts of a string tensor together."""
    longest: int = 0
    """Most bytes of one text, where that is known."""
    widest: int = UNBOUNDED
    """Greatest length of any axis, where `dims` are not known.  An empty tensor may have one of any length."""
    constant: bool = False
    """The same in every request: computed once, when the model is loaded, and kept."""

    @property
    def bytes(self) -> int:
        """Most bytes in memory."""
        return dtypes.packed_bytes(self.dtype, self.elements) + self.text

    @property
    def bounded(self) -> bool:
        """Whether there is a bound at all."""
        return self.elements < UNBOUNDED

    def axis(self, at: int) -> int:
        """Return the greatest length of an axis, which may count from the end; of any axis where it is not known."""
        if self.dims is None or not -len(self.dims) <= at < len(self.dims):
            return self.longest_axis
        return min(self.dims[at][1], self.elements) if self._no_zero() else self.dims[at][1]

    def _no_zero(self) -> bool:
        """Whether no axis can be empty, so that no axis is longer than there are elements."""
        return self.dims is not None and all(low > 0 for low, _ in self.dims)

    @property
    def longest_axis(self) -> int:
        """Greatest length of any axis."""
        return self.widest if self.dims is None else max((high for _, high in self.dims), default=1)

    def ints(self) -> list[Interval] | None:
        """Return the integers one by one, where they are known."""
        return None if self.content is None or self.dtype not in dtypes.RANGES else self.content.items()

    @property
    def reach(self) -> Interval | None:
        """Least and greatest integer, where they are known."""
        return self.span if self.dtype in dtypes.RANGES else None

    def whole(self) -> list[int] | None:
        """Return the integers, where each has one value alone."""
        return self.exact() if self.dtype in dtypes.RANGES else None

    def exact(self) -> list[Any] | None:
        """Return the numbers, where each has one value alone."""
        if self.content is None or not self.content.exact:
            return None
        items: list[Any] = self.content.low.ravel().tolist()
        return items


def made(dtype: int, dims: Dims | None, elements: int | None = None, **more: Any) -> Value:
    """Return a value of given axes; without `elements` their product bounds it."""
    most = UNBOUNDED if dims is None else math.prod(high for _, high in dims)
    most = min(most, UNBOUNDED)
    return Value(dtype, dims, most if elements is None else min(most, elements), **more)


def fixed(*lengths: int) -> Dims:
    """Return axes of one length each."""
    return tuple((length, length) for length in lengths)


def upto(lengths: Iterable[int]) -> Dims:
    """Return axes of at most these lengths."""
    return tuple((0, length) for length in lengths)


def unknown(dtype: int, elements: int = UNBOUNDED, text: int = 0) -> Value:
    """Return a value of which no more is known than how many elements it has."""
    return Value(dtype, None, elements, text=text)


def shapeless(value: Value, elements: int | None = None) -> Value:
    """Return a value with the elements of another, on axes of which only the longest is known."""
    most = value.elements if elements is None else elements
    longest = value.longest_axis if elements is None else max(most, 1)
    return Value(value.dtype, None, most, text=value.text, longest=value.longest, widest=longest)


def with_content(value: Value, content: Content | None) -> Value:
    """Return a value with numbers in it, if they lie within its type: others wrap around."""
    span = None if content is None else content.span()
    if content is None or not fits(span, value.dtype):
        return replace(value, content=None, span=None)
    return replace(value, content=content, span=span)


def with_span(value: Value, span: Interval | None) -> Value:
    """Return a value with bounds of its numbers, if they lie within its type."""
    if span is None or not fits(span, value.dtype):
        return replace(value, span=None, content=None)
    single = value.dims is not None and all(axis == (1, 1) for axis in value.dims)
    content = content_of([span], (1,) * len(value.dims or ())) if single else None
    return replace(value, span=span, content=content)


def fits(span: Interval | None, dtype: int) -> bool:
    """Tell whether numbers lie within a type; floats are only known to be numbers."""
    if span is None or dtype not in dtypes.RANGES:
        return span is None or not any(isinstance(end, float) and math.isnan(end) for end in span)
    low, high = dtypes.RANGES[dtype]
    return bool(low <= span[0] and span[1] <= high)


def range_of(value: Value) -> Interval | None:
    """Return bounds of the numbers of an integer value: what is known, or else what its type admits."""
    return value.span or dtypes.RANGES.get(value.dtype)


def joined(first: Value, second: Value) -> Value:
    """Return what is true of a value that is one of two."""
    dims: Dims | None = None
    if first.dims is not None and second.dims is not None and len(first.dims) == len(second.dims):
        dims = tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(first.dims, second.dims, strict=True))
    span = None if first.span is None or second.span is None else (
        min(first.span[0], second.span[0]), max(first.span[1], second.span[1])
    )  # fmt: skip
    return Value(
        first.dtype,
        dims,
        max(first.elements, second.elements),
        _joined_content(first, second),
        span,
        max(first.text, second.text),
        max(first.longest, second.longest) if first.longest and second.longest else 0,
        UNBOUNDED if dims is not None else max(first.longest_axis, second.longest_axis),
    )


def _joined_content(first: Value, second: Value) -> Content | None:
    a, b = first.content, second.content
    if a is None or b is None or a.low.shape != b.low.shape:
        return None
    return Content(np.minimum(a.low, b.low), np.maximum(a.high, b.high))


def covers(wide: Value, narrow: Value) -> bool:
    """Tell whether all that is known of `wide` is true of `narrow`: then a loop's state has settled."""
    return joined(wide, narrow) == wide
