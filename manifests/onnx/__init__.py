"""Checks of ONNX models before anything runs them: own reader, structural checks, bounds of a request's cost."""
