"""ONNX models are refused with what to do instead; the page on them has a model that JAX cannot see into."""

import pytest

import jxai


class ModelProto:
    __module__ = "onnx.onnx_ml_pb2"  # where onnx has it


def test_an_onnx_model_is_refused_with_what_to_do():
    with pytest.raises(
        ValueError, match=r"is a onnx\.onnx_ml_pb2\.ModelProto.*no importer of ONNX is reliable: adapt the model that was exported, or .*pure_callback"
    ):
        jxai.adapt(ModelProto())
