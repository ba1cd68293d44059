"""What other people's tools do to encoders: torch.fx, torchvision's feature extraction, timm's maps, vmap, gradients."""

import pytest
import torch
from support.encoders import NAMES, small, small_clip
from torch import fx
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names


@pytest.mark.parametrize("name", NAMES)
def test_torch_fx_traces_an_encoder_whole(name):
    model = small(name).eval()
    x = small_clip(model)
    traced = fx.symbolic_trace(model)
    called = {node.target for node in traced.graph.nodes if node.op == "call_module"}
    assert set(model.layer_modules.values()) <= called
    with torch.no_grad():
        assert torch.equal(traced(x), model(x))
    with pytest.raises(ValueError, match=r"takes clips \[B, 3, T, H, W\], got"):
        traced(x[:, :1])
    out = fx.symbolic_trace(model.train())(x)
    out.sum().backward()
    assert model.get_submodule(model.layer_modules[model.layer_names[-1]]).weight.grad.abs().sum() > 0


def test_a_traced_single_takes_frames_too_and_a_traced_trn_four():
    single, trn = (fx.symbolic_trace(small(name).eval()) for name in ("vie_single", "vie_trn"))
    x = torch.randn(2, 3, 1, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(single(x[:, :, 0]), single(x))
    with pytest.raises(ValueError, match="exactly 4 frames, got T = 1"):
        trn(x)


@pytest.mark.parametrize("name", NAMES)
def test_torchvision_finds_the_layers_by_their_modules(name):
    model = small(name).eval()
    x = small_clip(model)
    trained, evaluated = get_graph_node_names(model)
    assert trained == evaluated
    nodes = {path: layer for layer, path in model.layer_modules.items()}
    extractor = create_feature_extractor(model, {**nodes, evaluated[-1]: "output"})
    seen = {}
    for path, layer in nodes.items():
        model.get_submodule(path).register_forward_hook(lambda m, i, out, layer=layer: seen.update({layer: out}))
    with torch.no_grad():
        found, seen["output"] = extractor(x), model(x)
    assert set(found) == set(seen)
    assert all(torch.equal(found[layer], seen[layer]) for layer in seen)


# --- maps of stages, timm's way --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_maps_of_stages_are_what_feature_info_says(name):
    model = small(name).eval()
    x = small_clip(model, size=64)
    features, maps = model.forward_intermediates(x)
    (last,) = model.forward_intermediates(x, 1, norm=True, intermediates_only=True)
    for found, expected in zip(flat(features), flat(model.forward_features(x)), strict=True):
        assert torch.equal(found, expected)
    for info, found in zip(model.feature_info, maps, strict=True):
        steps = 1 if info["reduction_time"] is None else -(-x.shape[2] // info["reduction_time"])
        side = 64 // info["reduction"]
        assert found.shape == (2, info["num_chs"], steps, side, side)
        assert all(model.get_submodule(path) for path in info["module"].split("+"))
    names = [layer for layer in model.layer_names if layer.endswith("encode_10")]
    ends = model.forward_layers(x, names)
    assert torch.equal(last, torch.cat([ends[layer].expand(-1, -1, last.shape[2], -1, -1) for layer in names], 1))
    if "twopathway" not in name:
        seen = []
        for info in model.feature_info:
            model.get_submodule(info["module"]).register_forward_hook(lambda m, i, out: seen.append(out))
        model.forward_intermediates(x)
        for found, output in zip(maps, seen, strict=True):
            assert torch.equal(found, model._clip_maps(output, 2))


def flat(features) -> list[torch.Tensor]:
    return [features] if isinstance(features, torch.Tensor) else [x for part in features for x in flat(part)]


def test_forward_intermediates_takes_timms_arguments():
    model = small("vie_3dresnet").eval()
    x = small_clip(model)
    model.stages[2].register_forward_hook(lambda *_: pytest.fail("ran a stage that nobody wanted"))
    with torch.no_grad():
        first, third = model.forward_intermediates(x, [-3, 0, 2], intermediates_only=True)  # in order, each once
        stopped, same = model.forward_intermediates(x, indices=(0, 2), stop_early=True)
        assert torch.equal(stopped, third)
        assert torch.equal(same[0], first)
        (last,) = model.forward_intermediates(x, [2], output_fmt="NHWC", stop_early=True)[1]
        assert torch.equal(last, third.movedim(1, -1))
    for arguments, message in (
        (dict(indices=[5]), r"has the maps 0 to 4 .*got \[5\]"),
        (dict(indices=6), "last 1 to 5 maps, got 6"),
        (dict(output_fmt="NLC"), "output_fmt must be"),
        (dict(indices=["encode_2"]), "for named layers use forward_layers"),
        (dict(indices=[]), "has the maps 0 to 4"),
    ):
        with pytest.raises(ValueError, match=message):
            model.forward_intermediates(x, **arguments)


@pytest.mark.parametrize("name", NAMES)
def test_unpooled_maps_average_to_pooled_features(name):
    model = small(name, num_classes=0, global_pool="").eval()
    x = small_clip(model)
    with torch.no_grad():
        maps = model(x)
        model.reset_classifier(0, "avg")
        pooled = model(x)
    assert maps.ndim == 5
    if "trn" in name:  # which joins its frames in time order
        assert torch.equal(maps.mean((3, 4)).transpose(1, 2).flatten(1), pooled)
    else:
        torch.testing.assert_close(maps.mean((2, 3, 4)), pooled)
    with pytest.raises(ValueError, match="give num_classes=0"):
        model.reset_classifier(5, "")
    with pytest.raises(ValueError, match="global_pool must be"):
        model.reset_classifier(0, "max")


# --- functions and gradients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_vmap_over_clips_and_over_models(name):
    models = [small(name).eval() for _ in range(2)]
    x = small_clip(models[0])
    with torch.no_grad():
        torch.testing.assert_close(torch.func.vmap(models[0])(x[:, None]), models[0](x)[:, None], rtol=1e-4, atol=1e-5)
        parameters, buffers = torch.func.stack_module_state(models)
        run = torch.func.vmap(lambda p, b: torch.func.functional_call(models[0], (p, b), (x,)))
        found = run(parameters, buffers)
        torch.testing.assert_close(found, torch.stack([model(x) for model in models]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_attributions_add_up(name):
    """As captum's integrated gradients do: from a gray clip to the clip, they sum to the change of a logit."""
    model = small(name, num_classes=3).eval().double()
    x, gray = small_clip(model, 1, 32).double() / 4, 0.0
    positions = (torch.arange(24, dtype=torch.float64) + 0.5) / 24
    total = torch.zeros_like(x)
    for position in positions:
        point = (gray + position * (x - gray)).requires_grad_()
        total += torch.autograd.grad(model(point)[0, 1], point)[0]
    with torch.no_grad():
        change = model(x)[0, 1] - model(x * gray)[0, 1]
    assert float((total / 24 * (x - gray)).sum()) == pytest.approx(float(change), rel=0.05, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_layers_through_hooks(name):
    """As for Grad-CAM: the activation of a named layer, and the gradient of a logit there."""
    model = small(name, num_classes=3).eval()
    layer = model.layer_names[-3]
    kept = {}
    model.get_submodule(model.layer_modules[layer]).register_forward_hook(lambda m, i, out: kept.update(maps=out))
    logit = model(small_clip(model, 1))[0, 1]
    (gradient,) = torch.autograd.grad(logit, kept["maps"])
    assert gradient.shape == kept["maps"].shape
    assert gradient.abs().sum() > 0
