"""Operators that every model may use: those of the standard domains, without those that ask for more than tensors.

From the operator schemas of ONNX 1.23 (opsets 28 and ai.onnx.ml 5), which a test compares with the installed package.
Left out, and so refused unless the manifest names them: ImageDecoder, which decompresses a stranger's file.
"""

from __future__ import annotations

from typing import Final

ONNX = ""
"""The domain ai.onnx, as models write it."""
ML = "ai.onnx.ml"
MICROSOFT = "com.microsoft"
"""ONNX Runtime's own operators; nearly all of them need the manifest's word."""

MIN_IR, MAX_IR = 3, 14
"""ONNX Runtime 1.32 refuses 15.  Before 3 there were no operator sets; nothing has exported that since 2017."""
OPSETS: Final = {ONNX: (7, 28), ML: (1, 5)}
"""ONNX Runtime 1.32 has no kernels for operators older than opset 7, and refuses ai.onnx.ml 6."""

_STANDARD = """
Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization
Bernoulli BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast CastLike CausalConvWithState
Ceil Celu CenterCropPad Clip Col2Im Compress Concat ConcatFromSequence Constant ConstantOfShape Conv ConvInteger
ConvTranspose Cos Cosh CumProd CumSum DFT DeformConv DepthToSpace DequantizeLinear Det Div Dropout
DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu
Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HammingWindow
HannWindow HardSigmoid HardSwish Hardmax Identity If InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization
LeakyRelu Less LessOrEqual LinearAttention Log LogSoftmax Loop LpNormalization LpPool MatMul MatMulInteger Max MaxPool
MaxRoiPool MaxUnpool Mean MeanVarianceNormalization MelWeightMatrix Min Mish Mod Mul Multinomial Neg
NegativeLogLikelihoodLoss NonMaxSuppression NonZero Not OneHot Optional OptionalGetElement OptionalHasElement Or PRelu
Pad Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization RNN RandomNormal RandomNormalLike RandomUniform
RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
ReduceProd ReduceSum ReduceSumSquare RegexFullMatch Relu Reshape Resize ReverseSequence RoiAlign RotaryEmbedding Round
STFT Scan Scatter ScatterElements ScatterND Selu SequenceAt SequenceConstruct SequenceEmpty SequenceErase
SequenceInsert SequenceLength SequenceMap Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax
SoftmaxCrossEntropyLoss Softplus Softsign SpaceToDepth Split SplitToSequence Sqrt Squeeze StringConcat
StringNormalizer StringSplit Sub Sum SwiGLU Swish Tan Tanh TensorScatter TfIdfVectorizer ThresholdedRelu Tile TopK
Transpose Trilu Unique Unsqueeze Upsample Where Xor
"""
_LEARNING = """
ArrayFeatureExtractor Binarizer CastMap CategoryMapper DictVectorizer FeatureVectorizer Imputer LabelEncoder
LinearClassifier LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble
TreeEnsembleClassifier TreeEnsembleRegressor ZipMap
"""
_MICROSOFT = "CDist MurmurHash3 Tokenizer"
"""skl2onnx writes them for text vectorizers, hashers and neighbours, which have no standard operators."""
ALLOWED: Final = {
    ONNX: frozenset(_STANDARD.split()),
    ML: frozenset(_LEARNING.split()),
    MICROSOFT: frozenset(_MICROSOFT.split()),
}

NEVER: Final = frozenset({"EPContext", "PyOp", "PythonOp", "PythonOpGrad", "ATen", "TorchEmbedding", "OpaqueOperator"})
"""Operators of any domain that load compiled code, call an interpreter, or read files that they name."""


def plain_domain(domain: str) -> str:
    """Return a domain in its one form: "ai.onnx" is another way to write the empty one."""
    return ONNX if domain == "ai.onnx" else domain


def written(domain: str, operator: str) -> str:
    """Return an operator as a manifest names it, such as "com.microsoft:Gelu"."""
    return f"{plain_domain(domain) or 'ai.onnx'}:{operator}"
