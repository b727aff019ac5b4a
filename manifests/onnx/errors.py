"""Codes of the check of ONNX models."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault, ManifestError

_EXPORT = "export the model again with its framework's own exporter"
_LIMIT = "simplify the model; docs/model-check.md lists the bounds and their reasons"


class OnnxCode(ErrorCode):
    """Codes of the check that every ONNX model passes before it is sealed, and again before it is loaded."""

    # The bytes.
    MALFORMED = "onnx-malformed", Fault.MALFORMED, "the bytes are not an ONNX model in protobuf's format", _EXPORT
    INCOMPLETE = "onnx-incomplete", Fault.MALFORMED, "the model lacks its graph, its IR version or its opsets", _EXPORT
    TEXT = "onnx-text", Fault.MALFORMED, "a name is not UTF-8 text", _EXPORT
    GROUP = "onnx-group", Fault.MALFORMED, "the model uses a wire type that ONNX does not have", _EXPORT
    VARINT = (
        "onnx-varint",
        Fault.MALFORMED,
        "a number is written longer than it needs, or lies beyond its type",
        _EXPORT,
    )
    UNKNOWN_FIELD = "onnx-unknown-field", Fault.MALFORMED, "a message has a field that ONNX does not have", _EXPORT
    DUPLICATE_FIELD = (
        "onnx-duplicate-field",
        Fault.REFUSED,
        "a field that is there once has two values, of which readers choose differently",
        _EXPORT,
    )
    DEPTH = "onnx-depth", Fault.REFUSED, "messages are nested deeper than any exporter nests them", _LIMIT
    SIZE = "onnx-size", Fault.REFUSED, "the model has more bytes, fields or numbers than are read", _LIMIT
    COUNT = "onnx-count", Fault.REFUSED, "the model has more nodes, tensors, attributes or names than are read", _LIMIT
    NAME = "onnx-name", Fault.REFUSED, "a name is too long, or absent where one is needed", "give it a shorter name"
    METADATA = (
        "onnx-metadata",
        Fault.REFUSED,
        "documentation and metadata are larger than any exporter writes",
        "remove doc_string and metadata_props from the model",
    )
    # Versions and operators.
    IR_VERSION = (
        "onnx-ir-version",
        Fault.REFUSED,
        "the IR version is not one that the runtime reads",
        "convert the model with onnx.version_converter, or export it for an IR version between 3 and 14",
    )
    OPSET = (
        "onnx-opset",
        Fault.REFUSED,
        "an operator set is imported twice, or in a version that the runtime does not have",
        "export the model for opset 7 to 28 of ai.onnx, and 1 to 5 of ai.onnx.ml",
    )
    DOMAIN = (
        "onnx-domain",
        Fault.REFUSED,
        "a node is of an operator set that the model does not import",
        "add the operator set to the model's opset_import",
    )
    OPERATOR = (
        "onnx-operator",
        Fault.REFUSED,
        "an operator is not one of those that every model may use",
        'name it in the model manifest: [graph] operators = ["domain:Operator"]',
    )
    OPERATOR_NEVER = (
        "onnx-operator-never",
        Fault.REFUSED,
        "an operator loads code or files, and is refused whatever the manifest says",
        "export the model without it",
    )
    TRAINING = (
        "onnx-training",
        Fault.REFUSED,
        "the model carries training information or places parts on devices",
        "export the model for inference on one device",
    )
    # Functions and subgraphs.
    FUNCTION = "onnx-function", Fault.REFUSED, "a function is defined twice, or hides an operator of ONNX", _EXPORT
    FUNCTION_RECURSION = "onnx-function-recursion", Fault.REFUSED, "a function calls itself", "inline the function"
    EXPANSION = (
        "onnx-expansion",
        Fault.REFUSED,
        "expanded functions and unrolled loops have more nodes than are looked at",
        _LIMIT,
    )
    FOLLOWED = (
        "onnx-followed",
        Fault.REFUSED,
        "the graph computes with more constants and shapes than are followed",
        "fold constants before the export (onnxsim, or the exporter's own option); docs/model-check.md has the bound",
    )
    NESTING = "onnx-nesting", Fault.REFUSED, "subgraphs are nested deeper than any exporter nests them", _LIMIT
    # Names and their order.
    DUPLICATE_NAME = "onnx-duplicate-name", Fault.REFUSED, "a name is given twice where each is given once", _EXPORT
    UNDEFINED = "onnx-undefined-input", Fault.REFUSED, "a node takes a value that nothing gives", _EXPORT
    CYCLE = "onnx-cycle", Fault.REFUSED, "nodes wait for each other in a circle", _EXPORT
    OUTPUT = "onnx-output-missing", Fault.REFUSED, "nothing gives an output of a graph", _EXPORT
    TYPE = "onnx-type", Fault.REFUSED, "an input or output has no type, or one that ONNX does not have", _EXPORT
    ATTRIBUTE = (
        "onnx-attribute",
        Fault.REFUSED,
        "an attribute has no type, a value of another type, or one that no kernel can work with",
        _EXPORT,
    )
    LOCALE = (
        "onnx-locale",
        Fault.REFUSED,
        "texts are changed in case by the rules of a locale that the enclave does not have",
        "export with skl2onnx's options={TfidfVectorizer: {'locale': 'C.UTF-8'}}, or fit with lowercase=False",
    )
    INTERFACE = (
        "onnx-interface",
        Fault.REFUSED,
        "the graph takes other inputs than the manifest describes",
        "correct the manifest; `strongroom model draft` writes one that fits",
    )
    # Tensors.
    TENSOR_TYPE = "onnx-tensor-type", Fault.REFUSED, "a tensor has no element type, or one of no known size", _EXPORT
    TENSOR_NEGATIVE = "onnx-tensor-negative", Fault.REFUSED, "a tensor has an axis of negative length", _EXPORT
    TENSOR_OVERFLOW = "onnx-tensor-overflow", Fault.REFUSED, "a tensor claims more elements than can exist", _EXPORT
    TENSOR_LENGTH = (
        "onnx-tensor-length",
        Fault.REFUSED,
        "a tensor's data have another length than its shape and type say",
        _EXPORT,
    )
    TENSOR_PLACE = (
        "onnx-tensor-place",
        Fault.REFUSED,
        "a tensor has its data in two places, or in one that does not fit its type",
        _EXPORT,
    )
    SPARSE = (
        "onnx-sparse",
        Fault.REFUSED,
        "a sparse tensor's indices lie outside its shape, repeat, or are out of order",
        _EXPORT,
    )
    # External data.
    EXTERNAL_ENTRY = (
        "onnx-external-entry",
        Fault.REFUSED,
        "external data is described by unknown, repeated, missing or unreadable entries",
        "save the model again with onnx.save_model(..., save_as_external_data=True)",
    )
    EXTERNAL_PATH = (
        "onnx-external-path",
        Fault.REFUSED,
        "external data is named by a path that could lead elsewhere",
        "name the file as it lies beside the model, without '..' or a leading '/'",
    )
    EXTERNAL_PART = (
        "onnx-external-part",
        Fault.REFUSED,
        "external data lies in a file that is no part of the sealed model",
        "put the file beside the model, or name it with --part",
    )
    EXTERNAL_RANGE = (
        "onnx-external-range",
        Fault.REFUSED,
        "external data begins or ends outside its file",
        "fetch the model's files again: they do not belong together",
    )
    EXTERNAL_OVERLAP = (
        "onnx-external-overlap",
        Fault.REFUSED,
        "two tensors share a part of their external data",
        "save the model again with onnx.save_model(..., save_as_external_data=True)",
    )
    EXTERNAL_ATTRIBUTE = (
        "onnx-external-attribute",
        Fault.REFUSED,
        "an attribute's tensor has external data, which the runtime would look for on disk",
        "keep external data to initializers",
    )
    # What a request may cost.
    DIVISION = (
        "onnx-division",
        Fault.REFUSED,
        "an integer division may divide the least integer by -1, which ends the process",
        "keep -1 out of the divisor, by Max or Clip before it, or by `minimum` of an input in the manifest",
    )
    LOOP = (
        "onnx-loop",
        Fault.REFUSED,
        "the number of iterations of a loop cannot be bounded",
        "give the loop a constant trip count, or its bound in the manifest: [graph] max_iterations",
    )
    UNBOUNDED = (
        "onnx-unbounded",
        Fault.REFUSED,
        "the size of a value cannot be bounded at the manifest's limits",
        "compute the shape from the inputs' shapes, or give the bound in the manifest: [graph.bounds]",
    )
    RESIDENT = (
        "onnx-resident",
        Fault.REFUSED,
        "the model takes more memory when it is loaded than its limit",
        "simplify the model, or raise [graph] max_memory in the manifest",
    )
    MEMORY = (
        "onnx-memory",
        Fault.REFUSED,
        "one request at the manifest's limits may take more memory than its limit",
        "lower the bounds of the axes in the manifest, or raise [graph] max_memory",
    )
    WORK = (
        "onnx-work",
        Fault.REFUSED,
        "one request at the manifest's limits may take more operations than its limit",
        "lower the bounds of the axes in the manifest, or raise [graph] max_work",
    )


class OnnxError(ManifestError):
    """Raised by the check; the first finding's code is the error's."""
