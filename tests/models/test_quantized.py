"""What quantization to int8 changes: little, in the head and in 2-D convolutions."""

import copy

import pytest
import torch
import torch.nn.functional as F
from support.encoders import NAMES, small, small_clip

import vie_models as vie


def pictures(count: int) -> torch.Tensor:
    """[count, 3, 1, 64, 64]: soft fields of colors, which differ more than noise does."""
    return F.interpolate(torch.randn(count, 3, 1, 4, 4), size=(1, 64, 64), mode="trilinear")


def change(found: torch.Tensor, expected: torch.Tensor) -> float:
    """How far outputs moved, over how far they lie from their mean."""
    return float((found - expected).norm() / (expected - expected.mean(0)).norm())


@pytest.mark.parametrize("name", NAMES)
def test_a_dynamically_quantized_head(name):
    """By PyTorch's own function, which torchao's quantize_ replaces."""
    quantize = pytest.importorskip("torch.ao.quantization", reason="this PyTorch has moved it to torchao").quantize_dynamic
    if torch.backends.quantized.engine == "none":
        pytest.skip("this PyTorch has no engine for int8")
    model = small(name, num_classes=10).eval()
    torch.nn.init.normal_(model.head.weight)
    x = small_clip(model, 4)
    quantized = quantize(model, {torch.nn.Linear}, dtype=torch.qint8)
    with torch.no_grad():
        expected, found = model(x), quantized(x)
    assert not isinstance(quantized.head, torch.nn.Linear)
    assert not torch.equal(found, expected)
    assert F.cosine_similarity(found, expected).min() > 0.999


def test_torchao_quantizes_the_head():
    torchao = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    model = vie.create_model("vie_single_tiny", pretrained=True)
    x = pictures(16)
    quantized = copy.deepcopy(model)
    torchao.quantize_(quantized, torchao.Int8DynamicActivationInt8WeightConfig())
    with torch.no_grad():
        expected, found = model(x), quantized(x)
    assert 0 < change(found, expected) < 0.1


def test_pt2e_quantizes_convolutions():
    pt2e = pytest.importorskip("torchao.quantization.pt2e.quantize_pt2e", reason="torchao is not installed")
    x86 = pytest.importorskip("torchao.quantization.pt2e.quantizer.x86_inductor_quantizer", reason="torchao is too old")
    model = vie.create_model("vie_single_tiny", pretrained=True)
    x = pictures(16)
    program = torch.export.export(model, (x,), strict=True).module()  # not strict, torchao finds no convolutions
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = pt2e.prepare_pt2e(program, quantizer)
    with torch.no_grad():
        prepared(x)
        quantized = pt2e.convert_pt2e(prepared)
        x = pictures(16)
        expected, found = model(x), quantized(x)
    assert (
        sum("dequantize_per_channel" in str(node.target) for node in quantized.graph.nodes) == 22
    )  # 21 convolutions, the head
    assert 0 < change(found, expected) < 0.2
