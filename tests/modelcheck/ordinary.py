"""Models as people make them: each must pass the check."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from manifests.sealed.exporters import to_onnx

RANDOM = np.random.default_rng(5)
ROWS = RANDOM.normal(size=(80, 6)).astype(np.float32)
CLASSES = (ROWS[:, 0] + ROWS[:, 1] > 0).astype(int) + (ROWS[:, 2] > 0.5)
POSITIVE = np.abs(ROWS)
NUMBERS = ROWS @ np.arange(6) + 1
TEXTS = np.array(["one two three", "two three four", "five six", "one six seven", "nine"] * 16)
WORDS = np.array([["red", "big"], ["blue", "small"], ["red", "small"], ["green", "big"]] * 20)

Make = Callable[[], bytes]


def _fitted(estimator: Any, x: np.ndarray, y: np.ndarray | None, example: Any = None) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = estimator.fit(x) if y is None else estimator.fit(x, y)
        return bytes(to_onnx(fitted, x[:1] if example is None else example).SerializeToString())


def classifiers() -> dict[str, Any]:
    from sklearn import (
        calibration,
        discriminant_analysis,
        ensemble,
        linear_model,
        multiclass,
        naive_bayes,
        neighbors,
        neural_network,
        svm,
        tree,
    )

    return {
        "LogisticRegression": linear_model.LogisticRegression(),
        "LogisticRegressionCV": linear_model.LogisticRegressionCV(cv=2),
        "SGDClassifier": linear_model.SGDClassifier(loss="log_loss"),
        "Perceptron": linear_model.Perceptron(),
        "RidgeClassifier": linear_model.RidgeClassifier(),
        "LinearSVC": svm.LinearSVC(),
        "SVC": svm.SVC(probability=True),
        "SVC without probabilities": svm.SVC(),
        "NuSVC": svm.NuSVC(nu=0.1),
        "DecisionTreeClassifier": tree.DecisionTreeClassifier(),
        "ExtraTreeClassifier": tree.ExtraTreeClassifier(),
        "RandomForestClassifier": ensemble.RandomForestClassifier(20),
        "ExtraTreesClassifier": ensemble.ExtraTreesClassifier(20),
        "GradientBoostingClassifier": ensemble.GradientBoostingClassifier(n_estimators=10),
        "HistGradientBoostingClassifier": ensemble.HistGradientBoostingClassifier(max_iter=10),
        "AdaBoostClassifier": ensemble.AdaBoostClassifier(n_estimators=5),
        "BaggingClassifier": ensemble.BaggingClassifier(n_estimators=5),
        "VotingClassifier": ensemble.VotingClassifier(
            [("a", linear_model.LogisticRegression()), ("b", tree.DecisionTreeClassifier())],
            voting="soft",
            flatten_transform=False,
        ),
        "StackingClassifier": ensemble.StackingClassifier(
            [("a", linear_model.LogisticRegression()), ("b", tree.DecisionTreeClassifier())]
        ),
        "KNeighborsClassifier": neighbors.KNeighborsClassifier(3),
        "KNeighborsClassifier by distance": neighbors.KNeighborsClassifier(3, weights="distance", metric="manhattan"),
        "RadiusNeighborsClassifier": neighbors.RadiusNeighborsClassifier(radius=50.0),
        "NearestCentroid": None,
        "MLPClassifier": neural_network.MLPClassifier((8, 4), max_iter=20),
        "GaussianNB": naive_bayes.GaussianNB(),
        "BernoulliNB": naive_bayes.BernoulliNB(),
        "OneVsRestClassifier": multiclass.OneVsRestClassifier(linear_model.LogisticRegression()),
        "OneVsOneClassifier": multiclass.OneVsOneClassifier(linear_model.LogisticRegression()),
        "CalibratedClassifierCV": calibration.CalibratedClassifierCV(linear_model.LogisticRegression(), cv=2),
        "LinearDiscriminantAnalysis": discriminant_analysis.LinearDiscriminantAnalysis(),
        "QuadraticDiscriminantAnalysis": discriminant_analysis.QuadraticDiscriminantAnalysis(),
    }


def regressors() -> dict[str, Any]:
    from sklearn import (
        cross_decomposition,
        ensemble,
        gaussian_process,
        linear_model,
        neighbors,
        neural_network,
        svm,
        tree,
    )

    return {
        "LinearRegression": linear_model.LinearRegression(),
        "Ridge": linear_model.Ridge(),
        "Lasso": linear_model.Lasso(),
        "ElasticNet": linear_model.ElasticNet(),
        "BayesianRidge": linear_model.BayesianRidge(),
        "HuberRegressor": linear_model.HuberRegressor(),
        "SGDRegressor": linear_model.SGDRegressor(),
        "TheilSenRegressor": linear_model.TheilSenRegressor(),
        "RANSACRegressor": linear_model.RANSACRegressor(),
        "PoissonRegressor": None,
        "SVR": svm.SVR(),
        "NuSVR": svm.NuSVR(),
        "LinearSVR": svm.LinearSVR(),
        "DecisionTreeRegressor": tree.DecisionTreeRegressor(),
        "RandomForestRegressor": ensemble.RandomForestRegressor(20),
        "ExtraTreesRegressor": ensemble.ExtraTreesRegressor(20),
        "GradientBoostingRegressor": ensemble.GradientBoostingRegressor(n_estimators=10),
        "HistGradientBoostingRegressor": ensemble.HistGradientBoostingRegressor(max_iter=10),
        "AdaBoostRegressor": ensemble.AdaBoostRegressor(n_estimators=5),
        "BaggingRegressor": ensemble.BaggingRegressor(n_estimators=5),
        "VotingRegressor": ensemble.VotingRegressor([("a", linear_model.Ridge()), ("b", svm.SVR())]),
        "KNeighborsRegressor": neighbors.KNeighborsRegressor(3),
        "MLPRegressor": neural_network.MLPRegressor(hidden_layer_sizes=(8, 4), max_iter=20),
        "GaussianProcessRegressor": gaussian_process.GaussianProcessRegressor(),
        "PLSRegression": cross_decomposition.PLSRegression(2),
    }


def transformers() -> dict[str, Any]:
    from sklearn import (
        cluster,
        decomposition,
        ensemble,
        feature_selection,
        impute,
        kernel_approximation,
        mixture,
        preprocessing,
        random_projection,
    )

    return {
        "StandardScaler": preprocessing.StandardScaler(),
        "MinMaxScaler": preprocessing.MinMaxScaler(),
        "MaxAbsScaler": preprocessing.MaxAbsScaler(),
        "RobustScaler": preprocessing.RobustScaler(),
        "Normalizer": preprocessing.Normalizer(),
        "Binarizer": preprocessing.Binarizer(),
        "PolynomialFeatures": preprocessing.PolynomialFeatures(2),
        "PowerTransformer": preprocessing.PowerTransformer(),
        "QuantileTransformer": preprocessing.QuantileTransformer(n_quantiles=10),
        "KBinsDiscretizer": preprocessing.KBinsDiscretizer(3, encode="ordinal"),
        "SimpleImputer": impute.SimpleImputer(),
        "KNNImputer": impute.KNNImputer(),
        "PCA": decomposition.PCA(2),
        "TruncatedSVD": decomposition.TruncatedSVD(2),
        "IncrementalPCA": decomposition.IncrementalPCA(2),
        "SelectKBest": feature_selection.SelectKBest(k=2),
        "VarianceThreshold": feature_selection.VarianceThreshold(),
        "GaussianRandomProjection": random_projection.GaussianRandomProjection(2),
        "Nystroem": kernel_approximation.Nystroem(n_components=4),
        "KMeans": cluster.KMeans(3, n_init=1),
        "MiniBatchKMeans": cluster.MiniBatchKMeans(3, n_init=1),
        "GaussianMixture": mixture.GaussianMixture(2),
        "IsolationForest": ensemble.IsolationForest(n_estimators=5),
    }


UNCONVERTED = frozenset(
    {"NearestCentroid", "PoissonRegressor", "RadiusNeighborsClassifier", "Nystroem", "HistGradientBoostingClassifier",
     "HistGradientBoostingRegressor"}
)  # fmt: skip
"""What skl2onnx does not convert, or not in the form above."""


def estimators() -> dict[str, Make]:
    made = {**classifiers(), **transformers()}
    found: dict[str, Make] = {
        name: functools.partial(_fitted, estimator, ROWS, CLASSES)
        for name, estimator in made.items()
        if name not in UNCONVERTED
    }
    found |= {
        name: functools.partial(_fitted, estimator, ROWS, NUMBERS)
        for name, estimator in regressors().items()
        if name not in UNCONVERTED
    }
    return {f"sklearn {name}": make for name, make in found.items()} | pipelines()


def pipelines() -> dict[str, Make]:
    from sklearn import compose, decomposition, feature_extraction, linear_model, naive_bayes, preprocessing
    from sklearn.pipeline import FeatureUnion, make_pipeline

    text = feature_extraction.text
    scaled = make_pipeline(preprocessing.StandardScaler(), decomposition.PCA(3), linear_model.LogisticRegression())
    union = make_pipeline(
        FeatureUnion([("a", preprocessing.StandardScaler()), ("b", decomposition.PCA(2))]), linear_model.Ridge()
    )
    columns = make_pipeline(
        compose.ColumnTransformer([("a", preprocessing.StandardScaler(), [0, 1]), ("b", "passthrough", [2, 3])]),
        linear_model.LogisticRegression(),
    )
    words = np.array([["one two"]])
    return {
        "sklearn pipeline of scaler, PCA and logistic regression": lambda: _fitted(scaled, ROWS, CLASSES),
        "sklearn union of features": lambda: _fitted(union, ROWS, NUMBERS),
        "sklearn column transformer": lambda: _fitted(columns, ROWS, CLASSES),
        "sklearn one-hot encoder of words": lambda: _fitted(preprocessing.OneHotEncoder(), WORDS, None),
        "sklearn ordinal encoder of words": lambda: _fitted(preprocessing.OrdinalEncoder(), WORDS, None),
        "sklearn words to naive Bayes": lambda: _fitted(
            make_pipeline(text.CountVectorizer(), naive_bayes.MultinomialNB()), TEXTS, CLASSES, words
        ),
        "sklearn TF-IDF to logistic regression": lambda: _fitted(
            make_pipeline(text.TfidfVectorizer(), linear_model.LogisticRegression()), TEXTS, CLASSES, words
        ),
        "sklearn hashes of characters": lambda: _fitted(
            text.CountVectorizer(analyzer="char", ngram_range=(1, 2)), TEXTS, None, words
        ),
        "sklearn multinomial naive Bayes": lambda: _fitted(naive_bayes.MultinomialNB(), POSITIVE, CLASSES),
        "sklearn complement naive Bayes": lambda: _fitted(naive_bayes.ComplementNB(), POSITIVE, CLASSES),
    }


# ----------------------------------------------------------------------------------------- made with onnx.helper


class Builder:
    """Collects nodes; every call gives the name of its output."""

    def __init__(self, opset: int = 17) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.opset = opset

    def __call__(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        names = [f"v{len(self.nodes)}_{at}" for at in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=f"n{len(self.nodes)}", **attributes))
        return names[0]

    def weight(self, *shape: int) -> str:
        return self.constant(RANDOM.normal(size=shape).astype(np.float32))

    def ints(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))

    def constant(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def model(self, inputs: list[Any], output: str, dims: list[Any], dtype: int = TensorProto.FLOAT) -> bytes:
        self.nodes.append(helper.make_node("Identity", [output], ["y"]))
        graph = helper.make_graph(
            self.nodes, "built", inputs, [helper.make_tensor_value_info("y", dtype, dims)], self.weights
        )
        opset = helper.make_opsetid("", self.opset)
        return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString())


def value(name: str, dims: list[Any], dtype: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, dims)


def transformer(layers: int = 2, width: int = 64, heads: int = 4) -> bytes:
    """Embedding, attention with a reshape from the input's own shape, normalisation, as PyTorch exports it."""
    b = Builder()
    x = b("Gather", b.weight(100, width), "tokens")
    shape = b("Shape", "tokens")
    batch, steps = (b("Gather", shape, b.constant(np.array(at, np.int64))) for at in (0, 1))
    parts = [b("Unsqueeze", item, b.ints(0)) for item in (batch, steps)]
    split = b("Concat", *parts, b.ints(heads), b.ints(width // heads), axis=0)
    merged = b("Concat", *parts, b.ints(width), axis=0)
    for _ in range(layers):
        q, k, v = (b("Reshape", b("MatMul", x, b.weight(width, width)), split) for _ in range(3))
        q, v = (b("Transpose", item, perm=[0, 2, 1, 3]) for item in (q, v))
        scores = b("Div", b("MatMul", q, b("Transpose", k, perm=[0, 2, 3, 1])), b.constant(np.float32(4).reshape(1)))
        seen = b("MatMul", b("Softmax", scores, axis=-1), v)
        seen = b("MatMul", b("Reshape", b("Transpose", seen, perm=[0, 2, 1, 3]), merged), b.weight(width, width))
        x = b("LayerNormalization", b("Add", x, seen), b.weight(width), b.weight(width))
        inner = b("Relu", b("MatMul", x, b.weight(width, 4 * width)))
        x = b("LayerNormalization", b("Add", x, b("MatMul", inner, b.weight(4 * width, width))), b.weight(width))
    return b.model([value("tokens", ["batch", "steps"], TensorProto.INT64)], x, ["batch", "steps", width])


def decoder(heads: int = 4, width: int = 64) -> bytes:
    """One step of a decoder with a cache of keys and values, and a causal mask made of Range and Less."""
    b, size = Builder(), width // heads
    x = b("Gather", b.weight(100, width), "tokens")
    q, k, v = (
        b("Transpose", b("Reshape", b("MatMul", x, b.weight(width, width)), shape), perm=[0, 2, 1, 3])
        for shape in [b.ints(0, 0, heads, size)] * 3
    )  # fmt: skip
    keys, values = b("Concat", "past_k", k, axis=2), b("Concat", "past_v", v, axis=2)
    zero = b.constant(np.array(0, np.int64))
    total = b("Gather", b("Shape", keys), b.constant(np.array(2, np.int64)))
    new = b("Gather", b("Shape", "tokens"), b.constant(np.array(1, np.int64)))
    before = b("Sub", total, new)
    one = b.constant(np.array(1, np.int64))
    columns = b("Unsqueeze", b("Range", zero, total, one), b.ints(0))
    rows = b("Unsqueeze", b("Add", b("Range", zero, new, one), before), b.ints(1))
    allowed = b("LessOrEqual", columns, rows)
    mask = b("Where", allowed, b.constant(np.float32(0).reshape(1)), b.constant(np.float32(-1e9).reshape(1)))
    scores = b("Add", b("MatMul", q, b("Transpose", keys, perm=[0, 1, 3, 2])), mask)
    seen = b("Transpose", b("MatMul", b("Softmax", scores, axis=-1), values), perm=[0, 2, 1, 3])
    y = b("MatMul", b("Reshape", seen, b.ints(0, 0, width)), b.weight(width, 100))
    cache = [value(name, ["batch", heads, "past", size]) for name in ("past_k", "past_v")]
    return b.model([value("tokens", ["batch", "steps"], TensorProto.INT64), *cache], y, ["batch", "steps", 100])


def recurrent(kind: str = "LSTM") -> bytes:
    b, gates = Builder(), {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    y = b(kind, "x", b.weight(1, gates * 16, 8), b.weight(1, gates * 16, 16), hidden_size=16)
    return b.model([value("x", ["steps", "batch", 8])], b("Squeeze", y, b.ints(1)), ["steps", "batch", 16])


def convolutional() -> bytes:
    b = Builder()
    x = b("Relu", b("Conv", "x", b.weight(8, 3, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2]))
    x = b("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    scale = [b.constant(np.abs(RANDOM.normal(size=8)).astype(np.float32)) for _ in range(4)]
    x = b("BatchNormalization", x, *scale)
    x = b("Flatten", b("GlobalAveragePool", x))
    return b.model([value("x", ["batch", 3, 224, 224])], b("Gemm", x, b.weight(8, 10)), ["batch", 10])


def upsampling() -> bytes:
    b = Builder()
    scales = b.constant(np.array([1, 1, 2, 2], np.float32))
    x = b("Resize", "x", "", scales, mode="nearest")
    x = b("ConvTranspose", x, b.weight(4, 2, 2, 2), strides=[2, 2])
    x = b("Pad", x, b.ints(0, 0, 1, 1, 0, 0, 1, 1))
    return b.model([value("x", ["batch", 4, 64, "width"])], x, ["batch", 2, "h", "w"])


def detection() -> bytes:
    """Non-maximum suppression, whose output depends on the data."""
    b = Builder()
    limits = b.ints(20), b.constant(np.array([0.5], np.float32)), b.constant(np.array([0.1], np.float32))
    chosen = b("NonMaxSuppression", "boxes", "scores", *limits)
    return b.model(
        [value("boxes", [1, 1000, 4]), value("scores", [1, 5, 1000])], chosen, ["found", 3], TensorProto.INT64
    )


def counting_loop() -> bytes:
    """A Loop of ten iterations whose state has the same shape throughout."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["state", "x"], ["next"])],
        "body",
        [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("state", ["n", 4])],
        [value("go_on", [], TensorProto.BOOL), value("next", ["n", 4])],
    )
    b = Builder()
    y = b("Loop", b.constant(np.array(10, np.int64)), "", "x", body=body)
    return b.model([value("x", ["n", 4])], y, ["n", 4])


def branching() -> bytes:
    branches = {
        name: helper.make_graph([helper.make_node(kind, ["x"], [kind])], name, [], [value(kind, ["n", 4])])
        for name, kind in (("then_branch", "Relu"), ("else_branch", "Neg"))
    }  # fmt: skip
    b = Builder()
    sums = b("Squeeze", b("ReduceSum", "x", keepdims=0))
    y = b("If", b("Greater", sums, b.constant(np.array(0, np.float32))), **branches)
    return b.model([value("x", ["n", 4])], y, ["n", 4])


def quantised() -> bytes:
    b = Builder()
    scale, zero = b.constant(np.array(0.1, np.float32)), b.constant(np.array(3, np.uint8))
    x = b("QuantizeLinear", "x", scale, zero)
    weights = b.constant(RANDOM.integers(0, 255, (8, 4)).astype(np.uint8))
    y = b("QLinearMatMul", x, scale, zero, weights, scale, zero, scale, zero)
    return b.model([value("x", ["n", 8])], b("DequantizeLinear", y, scale, zero), ["n", 4])


def with_function() -> bytes:
    """A model with a function of its own that calls another."""
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    twice = helper.make_function("own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], opset)
    four = helper.make_function(
        "own", "Four", ["a"], ["b"],
        [helper.make_node("Twice", ["a"], ["t"], domain="own"), helper.make_node("Twice", ["t"], ["b"], domain="own")],
        opset,
    )  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("Four", ["x"], ["y"], domain="own")], "g", [value("x", ["n", 4])], [value("y", ["n", 4])]
    )
    model = helper.make_model(graph, opset_imports=opset, functions=[twice, four], ir_version=10)
    return bytes(model.SerializeToString())


def magika() -> bytes:
    return (files("magika") / "models" / "standard_v3_3" / "model.onnx").read_bytes()


def networks() -> dict[str, Make]:
    return {
        "magika's classifier of files": magika,
        "a transformer": transformer,
        "a decoder with a cache": decoder,
        "an LSTM": recurrent,
        "a GRU": functools.partial(recurrent, "GRU"),
        "a plain recurrent network": functools.partial(recurrent, "RNN"),
        "a convolutional network": convolutional,
        "an upsampling network": upsampling,
        "a detector of boxes": detection,
        "a counting loop": counting_loop,
        "two branches": branching,
        "a quantised product": quantised,
        "functions of its own": with_function,
    }


@functools.cache
def made(name: str) -> bytes:
    """Return one of all models, made once for all tests of a process."""
    return ALL[name]()


ALL: dict[str, Make] = {**networks(), **estimators()}
