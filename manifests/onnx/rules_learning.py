"""Operators of ai.onnx.ml, texts, and sequences."""

from __future__ import annotations

from manifests.onnx import dtypes
from manifests.onnx.operators import MICROSOFT, ML
from manifests.onnx.rules import TRANSCENDENTAL, Effect, Op, rule
from manifests.onnx.rules_elementwise import like
from manifests.onnx.values import Value, fixed, made, shapeless, unknown, upto, with_span

_TEXT = 64
"""Bytes of a class's label that are counted for each row."""


def _rows(op: Op) -> tuple[int, int]:
    """Return the bounds of how many rows the input has; one of one axis is one row."""
    dims = op.value(0).dims
    if dims is None:
        return 0, op.value(0).elements
    return dims[0] if len(dims) > 1 else (1, 1)


def _longest(op: Op, name: str) -> int:
    attribute = op.attributes.get(name)
    return max((len(item) for item in attribute.strings), default=0) if attribute is not None else 0


def _classes(op: Op) -> tuple[int, int]:
    """Return how many classes there are, and the bytes of the longest label, 0 where labels are numbers."""
    texts = next((op.size(n) for n in ("classlabels_strings", "cats_strings") if op.size(n)), 0)
    longest = max(_longest(op, "classlabels_strings"), _longest(op, "cats_strings"))
    names = ("classlabels_ints", "classlabels_int64s", "cats_int64s")
    return max([texts, *(op.size(name) for name in names)]), longest + 1 if texts else 0


def _classified(op: Op, work: int) -> Effect:
    rows, (count, text) = _rows(op), _classes(op)
    label = made(dtypes.STRING if text else dtypes.INT64, (rows,), text=text * rows[1])
    scores = made(dtypes.FLOAT, (rows, (0, max(2, count * max(1, count - 1) // 2 if "SVM" in op.node.op_type else 0,
                                               count))))  # fmt: skip
    return Effect([label, scores], work + TRANSCENDENTAL * scores.elements, 2 * scores.bytes)


@rule("LinearClassifier", domain=ML)
def _linear_classifier(op: Op) -> Effect:
    return _classified(op, 2 * _rows(op)[1] * max(op.size("coefficients"), 1))


@rule("LinearRegressor", domain=ML)
def _linear_regressor(op: Op) -> Effect:
    rows, targets = _rows(op), max(1, op.integer("targets", 1))
    return Effect([made(dtypes.FLOAT, (rows, *fixed(targets)))], 2 * rows[1] * max(op.size("coefficients"), targets))


@rule("SVMClassifier", "SVMRegressor", domain=ML)
def _support(op: Op) -> Effect:
    rows = _rows(op)
    vectors = max(op.size("support_vectors"), op.size("coefficients"))
    classes = max(1, _classes(op)[0])
    work = rows[1] * (2 * vectors + (TRANSCENDENTAL + 2 * classes) * max(op.size("coefficients"), 1))
    if op.node.op_type == "SVMClassifier":
        return _classified(op, work)
    return Effect([made(dtypes.FLOAT, (rows, (1, 1)))], work)


@rule("TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble", domain=ML)
def _trees(op: Op) -> Effect:
    rows = _rows(op)
    nodes = max(op.size("nodes_nodeids"), op.size("nodes_splits"), op.size("nodes_featureids"), 1)
    leaves = max(op.size("class_ids"), op.size("target_ids"), op.size("leaf_weights"), 1)
    work = rows[1] * (nodes + 2 * leaves)
    if op.node.op_type == "TreeEnsembleClassifier":
        return _classified(op, work)
    targets = max(1, op.integer("n_targets", 1))
    out = made(op.value(0).dtype if op.node.op_type == "TreeEnsemble" else dtypes.FLOAT, (rows, *fixed(targets)))
    return Effect([out], work, 2 * out.bytes)


@rule("Scaler", "Normalizer", "Imputer", "Binarizer", domain=ML)
def _scaled(op: Op) -> Effect:
    first = op.value(0)
    keeps = op.node.op_type in {"Imputer", "Binarizer"}
    return Effect([like(first, first.dtype if keeps else dtypes.FLOAT)], TRANSCENDENTAL * first.elements)


@rule("LabelEncoder", "CategoryMapper", domain=ML)
def _encoder(op: Op) -> Effect:
    """Give the type of the values that are there, and texts as long as the longest."""
    first = op.value(0)
    texts = max(op.size("values_strings"), op.size("classes_strings"), op.size("cats_strings"))
    long = max(_longest(op, "values_strings"), _longest(op, "cats_strings"), _longest(op, "classes_strings"),
               len(op.text("default_string")), 8)  # fmt: skip
    dtype = _encoded(op, first, texts=bool(texts))
    text = first.elements * long if dtype == dtypes.STRING else 0
    return Effect([Value(dtype, first.dims, first.elements, text=text)], TRANSCENDENTAL * first.elements + first.text)


def _encoded(op: Op, first: Value, *, texts: bool) -> int:
    if op.node.op_type == "CategoryMapper":
        return dtypes.INT64 if first.dtype == dtypes.STRING else dtypes.STRING
    tensor = op.attributes.get("values_tensor")
    if tensor is not None and tensor.t is not None:
        return tensor.t.data_type
    if op.size("values_floats"):
        return dtypes.FLOAT
    if op.size("values_int64s"):
        return dtypes.INT64
    if op.size("classes_strings"):
        return dtypes.INT64 if first.dtype == dtypes.STRING else dtypes.STRING
    return dtypes.STRING if texts else first.dtype


@rule("OneHotEncoder", domain=ML)
def _one_hot(op: Op) -> Effect:
    first, count = op.value(0), max(1, _classes(op)[0])
    dims = None if first.dims is None else (*first.dims, (count, count))
    return Effect([made(dtypes.FLOAT, dims, first.elements * count)], 20 * first.elements + first.elements * count)


@rule("FeatureVectorizer", domain=ML)
def _vectorizer(op: Op) -> Effect:
    width = sum(max(0, size) for size in op.integers("inputdimensions") or [])
    out = made(dtypes.FLOAT, (_rows(op), (0, width)))
    return Effect([out], out.elements)


@rule("ArrayFeatureExtractor", domain=ML)
def _extractor(op: Op) -> Effect:
    first, index = op.value(0), op.value(1)
    if first.dims is None:
        return Effect([unknown(first.dtype, first.elements * index.elements, first.text * max(1, index.elements))])
    head = first.dims[:-1] if len(first.dims) > 1 else fixed(1)
    out = made(first.dtype, (*head, (0, index.elements)), text=first.text * max(1, index.elements) if first.text else 0)
    return Effect([with_span(out, first.span)], out.elements)


@rule("DictVectorizer", "CastMap", "ZipMap", domain=ML)
def _maps(op: Op) -> Effect:
    """Count maps and sequences of maps as their tensors, and 100 bytes for each entry."""
    first = op.value(0)
    if op.node.op_type != "ZipMap":
        width = max(op.size("string_vocabulary"), op.size("int64_vocabulary"), op.integer("max_map", 1), 1)
        return Effect([made(dtypes.FLOAT, (_rows(op), fixed(width)[0]), first.elements * width)], 20 * first.elements)
    text = 100 * first.elements + first.elements * _longest(op, "classlabels_strings")
    return Effect([Value(dtypes.FLOAT, None, first.elements, text=text)], 20 * first.elements)


@rule("TfIdfVectorizer")
def _tfidf(op: Op) -> Effect:
    first = op.value(0)
    attribute = op.attributes.get("ngram_indexes")
    width = int(attribute.ints.max()) + 1 if attribute is not None and len(attribute.ints) else 1
    grams, skips = max(1, op.integer("max_gram_length", 1)), max(0, op.integer("max_skip_count", 0))
    dims = None if first.dims is None else (*first.dims[:-1], *fixed(width))
    rows = first.elements if dims is None else 1
    out = made(dtypes.FLOAT, dims, None) if dims is not None else unknown(dtypes.FLOAT, width * max(1, rows))
    work = 20 * first.elements * grams * (skips + 1) + first.text * grams * (skips + 1) + out.elements
    return Effect([out], work, 64 * first.elements * grams + 8 * out.elements)


@rule("StringSplit")
def _string_split(op: Op) -> Effect:
    first = op.value(0)
    limit = op.integer("maxsplit", 1 << 60) + 1
    pieces = max(1, min(limit, first.text + 1))
    dims = None if first.dims is None else (*first.dims, (0, pieces))
    out = made(dtypes.STRING, dims, first.elements * pieces, text=first.text)
    return Effect([out, like(first, dtypes.INT64)], first.text + out.elements)


@rule("StringNormalizer")
def _normalizer(op: Op) -> Effect:
    """Upper and lower case of a letter differ by at most twice the bytes."""
    first = op.value(0)
    out = Value(first.dtype, first.dims and tuple((0, high) for _, high in first.dims), max(1, first.elements),
                text=2 * first.text, longest=2 * first.longest)  # fmt: skip
    return Effect([out], 20 * first.text)


@rule("Tokenizer", domain=MICROSOFT)
def _tokenizer(op: Op) -> Effect:
    """Count a token for every byte, and rows that are filled up to the longest."""
    first = op.value(0)
    each = (first.longest or first.text) // max(1, op.integer("mincharnum", 1)) + 2
    dims = None if first.dims is None else (*first.dims, (0, each))
    out = made(dtypes.STRING, dims, max(1, first.elements) * each, text=2 * first.text, longest=first.longest)
    return Effect([out], 40 * first.text * max(1, op.size("separators")) + out.elements, 4 * first.text)


@rule("MurmurHash3", domain=MICROSOFT)
def _murmur(op: Op) -> Effect:
    first = op.value(0)
    return Effect([like(first, dtypes.INT32)], 20 * first.elements + first.text)


@rule("CDist", domain=MICROSOFT)
def _distances(op: Op) -> Effect:
    a, b = op.value(0), op.value(1)
    out = made(a.dtype, upto([a.axis(0), b.axis(0)]))
    return Effect([out], 3 * out.elements * max(1, a.axis(1)), a.bytes + b.bytes)


# --------------------------------------------------------------------------------------------- sequences


@rule("SequenceConstruct", "SequenceInsert", "Optional")
def _sequence(op: Op) -> Effect:
    values = [value for value in op.inputs if value is not None][: None if "Construct" in op.node.op_type else 2]
    dtype = values[-1].dtype if values else op.integer("dtype", dtypes.FLOAT)
    total = sum(value.elements for value in values)
    return Effect([Value(dtype, None, total, text=sum(value.text for value in values))], total)


@rule("SequenceEmpty")
def _sequence_empty(op: Op) -> Effect:
    return Effect([Value(op.integer("dtype", dtypes.FLOAT), None, 0)])


@rule("SequenceAt", "SequenceErase", "OptionalGetElement")
def _sequence_part(op: Op) -> Effect:
    first = op.value(0)
    return Effect([shapeless(first)], first.elements)


@rule("ConcatFromSequence")
def _concat_sequence(op: Op) -> Effect:
    first = op.value(0)
    return Effect([shapeless(first)], first.elements)


@rule("SequenceLength", "OptionalHasElement")
def _sequence_length(op: Op) -> Effect:
    dtype = dtypes.INT64 if op.node.op_type == "SequenceLength" else dtypes.BOOL
    out = made(dtype, upto([1]) if dtype == dtypes.BOOL else ())
    return Effect([out])  # a sequence may hold any number of empty tensors: its length has no bound
