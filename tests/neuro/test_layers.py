"""Encoders with layers as submodules."""

import pytest
import torch
from support.encoders import NAMES, small, small_clip

from vie_models.neuro.layers import NamedLayers


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith(("_tiny", "_small"))])
def test_hooks_see_what_forward_layers_returns(name):
    model = small(name, width=4).eval()
    x = small_clip(model, size=32)
    layers = NamedLayers(model)
    seen = {}
    for layer in layers.layer_names:
        layers.get_submodule(layer).register_forward_hook(lambda m, a, output, layer=layer: seen.update({layer: output}))
    with torch.no_grad():
        output = layers(x)
        expected = model.forward_layers(x, [*model.layer_names, "output"])
    torch.testing.assert_close(output, expected["output"])
    expected["embedding"] = expected.pop("output")
    assert list(seen) == list(expected)
    for layer, values in expected.items():
        torch.testing.assert_close(seen[layer], values)


def test_an_image_is_a_clip_that_stands_still():
    model = small("vie_3dresnet_tiny").eval()
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(NamedLayers(model)(image), model(torch.stack([image] * 16, 2)))
