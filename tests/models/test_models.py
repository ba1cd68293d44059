"""Every registered name keeps the contract of encoder.py; the full-size ones equal the reference."""

import copy
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from support import REFERENCE
from support.encoders import NAMES, reference_clip, reference_errors, small, small_clip
from support.reference import seeded_variables
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import vie_models as vie
from vie_models.models import MODELS, build_model
from vie_models.models import conv as conv_module
from vie_models.models.blocks import MaxPoolSame, NormAct
from vie_models.models.blocks import conv as vie_conv
from vie_models.weights.tensorflow.names import tf_to_state_dict

REFERENCE_NAMES = [name for name in NAMES if MODELS[name].reference]


def embedding_size(name: str) -> int:
    return 256 if "twopathway" in name else 128


# --- fidelity ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["packed", "plain", "fused"])
@pytest.mark.parametrize("name", REFERENCE_NAMES)
def test_activations_equal_the_reference(name, way, monkeypatch):
    monkeypatch.setattr(conv_module, "LEAST_WORK", math.inf if way == "plain" else 0)
    reference = np.load(REFERENCE / f"{MODELS[name].reference}.npz")
    model = build_model(name).eval()
    model.load_state_dict(tf_to_state_dict(seeded_variables(MODELS[name].reference), model))
    x = reference_clip(model.clip_spec, 0, frames=name == "vie_single")  # channels last in memory
    if way == "fused":
        model = model.fuse()
    errors = reference_errors(model, x.contiguous() if way == "plain" else x, reference)
    assert len(errors) == (20 if "twopathway" in name else 12)
    assert max(errors.values()) <= 1e-4, errors


# --- the contract --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_forward_embeds_on_the_sphere(name):
    model = small(name).eval()
    with torch.inference_mode():
        y = model(small_clip(model))
    assert y.shape == (2, embedding_size(name))
    torch.testing.assert_close(y.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("name", NAMES)
def test_forward_is_head_of_features(name):
    model = small(name).eval()
    x = small_clip(model)
    with torch.inference_mode():
        features = model.forward_features(x)
        assert torch.equal(model(x), model.forward_head(features))
        pooled = model.forward_head(features, pre_logits=True)
        assert pooled.shape == (2, model.num_features)
        no_head = small(name, num_classes=0).eval()
        no_head.load_state_dict({k: v for k, v in model.state_dict().items() if "head." not in k})
        assert torch.equal(no_head(x), pooled)


@pytest.mark.parametrize("name", NAMES)
def test_classifier_can_be_reset(name):
    model = small(name)
    for num_classes, size in ((5, 5), (0, model.num_features), (None, embedding_size(name)), (3, 3)):
        model.reset_classifier(num_classes)
        assert model.eval()(small_clip(model, 1)).shape == (1, size)
    assert set(model.state_dict()) == set(small(name, num_classes=3).state_dict())
    with pytest.raises(ValueError, match="num_classes"):
        model.reset_classifier(-1)


@pytest.mark.parametrize("num_classes", [None, 4])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_trainable_parameter(name, num_classes):
    model = small(name, num_classes=num_classes).train()
    out = model(small_clip(model))
    (out * torch.randn_like(out)).sum().backward()
    trainable = {k: p for k, p in model.named_parameters() if p.requires_grad}
    assert [k for k, p in trainable.items() if p.grad is None or not p.grad.abs().sum() > 0] == []
    frozen = set(dict(model.named_parameters())) - set(trainable)
    slowfast_in_two = num_classes and "twopathway" in name and "slow" not in name
    assert frozen == ({"dynamic.fast.norm.weight", "dynamic.fast.norm.bias"} if slowfast_in_two else set())


@pytest.mark.parametrize("name", NAMES)
def test_intermediates_are_what_the_named_modules_give(name):
    model = small(name).eval()
    x = small_clip(model, batch=2)
    seen = {}
    for layer, path in model.layer_modules.items():
        model.get_submodule(path).register_forward_hook(lambda m, i, out, layer=layer: seen.update({layer: out}))
    with torch.inference_mode():
        maps = model.forward_layers(x, reversed(model.layer_names))
    assert list(maps) == model.layer_names[::-1]
    for layer, values in maps.items():
        assert values.ndim == 5
        assert values.shape[0] == 2
        static = "single" in name or layer.startswith("static.")
        frames = seen[layer].unflatten(0, (2, -1)).transpose(1, 2) if values.shape != seen[layer].shape else seen[layer]
        assert torch.equal(values, frames.mean(2, keepdim=True) if static else frames)
    assert torch.equal(model.forward_layers(x, "output")["output"], model(x))
    with pytest.raises(ValueError, match="no layer 'encode_11'"):
        model.forward_layers(x, ["encode_11"])
    assert all(len(m._forward_hooks) <= 1 for m in model.modules()), "a hook of forward_layers was left behind"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 33, 47), (5, 64, 50), (20, 32, 40)])
def test_any_sensible_size(name, shape):
    model = small(name).eval()
    time, height, width = shape
    if "trn" in name:
        time = model.clip_spec.num_frames
    with torch.inference_mode():
        y = model(torch.randn(1, 3, time, height, width))
    assert torch.isfinite(y).all()


def test_single_takes_frames_and_averages_clips():
    model = small("vie_single", num_classes=0).eval()
    x = torch.randn(2, 3, 4, 40, 40)
    with torch.inference_mode():
        frames = torch.stack([model(x[:, :, t]) for t in range(4)])
        torch.testing.assert_close(model(x), frames.mean(0))
        torch.testing.assert_close(model(x[:, :, :1]), frames[0])


def test_trn_depends_on_the_order_of_frames_and_wants_four():
    model = small("vie_trn").eval()
    x = torch.randn(1, 3, 4, 40, 40)
    with torch.inference_mode():
        assert not torch.allclose(model(x), model(x.flip(2)))
    with pytest.raises(ValueError, match="exactly 4 frames, got T = 5"):
        model(torch.randn(1, 3, 5, 40, 40))


def test_slowfast_shows_the_slow_pathway_every_fourth_frame():
    model = small("vie_slowfast").eval()
    seen = {}
    model.slow.stem.register_forward_pre_hook(lambda m, args: seen.update(slow=args[0]))
    x = torch.randn(1, 3, 16, 32, 32)
    model(x)
    assert torch.equal(seen["slow"], x[:, :, [0, 4, 8, 12]])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 16, 32, 32), r"\[B, 3, T, H, W\], got \[3, 16, 32, 32\]"),
        (torch.zeros(1, 1, 4, 32, 32), r"\[B, 3, T, H, W\], got"),
        (torch.zeros(1, 3, 4, 32, 32, dtype=torch.uint8), "uint8"),
    ],
)
def test_wrong_input_is_named(name, x, message):
    if x.ndim == 4 and "single" in name:
        x, message = x[0], r"got \[16, 32, 32\]"
    with pytest.raises(ValueError, match=message):
        small(name)(x)


def test_unknown_names_and_sizes_are_refused():
    with pytest.raises(ValueError, match="unknown model 'vie_resnet', perhaps vie_3dresnet; known models are vie_3dresnet"):
        build_model("vie_resnet")
    with pytest.raises(ValueError, match="vie_single has no size fast_width; it has width"):
        build_model("vie_single", fast_width=4)
    with pytest.raises(ValueError, match="width must be"):
        build_model("vie_single", width=0)


@pytest.mark.parametrize("name", NAMES)
def test_parameter_groups_hold_every_parameter_once(name):
    model = small(name)
    groups = {g["name"]: g for g in model.parameter_groups(1e-4)}
    assert sorted(id(p) for g in groups.values() for p in g["params"]) == sorted(id(p) for p in model.parameters())
    norms = {id(p) for m in model.modules() if isinstance(m, NormAct) for p in m.parameters()}
    assert {id(p) for p in groups["norms"]["params"]} == norms
    assert {g: groups[g]["weight_decay"] for g in groups} == {"weights": 1e-4, "biases": 0.0, "norms": 0.0}
    assert model.parameter_groups(1e-4, bias_weight_decay=1e-4)[1]["weight_decay"] == 1e-4
    torch.optim.SGD(model.parameter_groups(1e-4), lr=0.03, momentum=0.9)


@pytest.mark.parametrize("name", NAMES)
def test_grad_checkpointing_changes_memory_alone(name):
    plain = small(name).train()
    saving = copy.deepcopy(plain)
    saving.set_grad_checkpointing()
    x = small_clip(plain)
    for model in (plain, saving):
        model(x)[:, 0].sum().backward()
    for (key, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), key
    for key, value in plain.state_dict().items():
        assert torch.equal(value, saving.state_dict()[key]), f"{key}: a recomputed block must not count as another step"


def test_two_pathway_is_its_two_pathways():
    static, dynamic = small("vie_single").eval(), small("vie_slowfast", width=16).eval()
    model = vie.two_pathway(static, dynamic)
    assert model.model_name == "vie_twopathway"
    x = small_clip(model)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), torch.cat([static(x), dynamic(x)], 1) / 2**0.5)
        pooled = [m.forward_layers(x, "encode_10")["encode_10"].mean((2, 3, 4)) for m in (static, dynamic)]
        torch.testing.assert_close(model.forward_head(model.forward_features(x), pre_logits=True), torch.cat(pooled, 1))
    again = build_model(model.model_name, **model.model_args)
    again.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match=r"no two-pathway model is made of vie_slow \+ vie_single"):
        vie.two_pathway(small("vie_slow"), small("vie_single"))
    with pytest.raises(ValueError, match="with its embedding head"):
        vie.two_pathway(small("vie_single", num_classes=0), small("vie_slow"))


def test_two_pathway_runs_only_the_pathway_that_is_asked_for():
    model = small("vie_twopathway").eval()
    model.dynamic.forward_features = None
    assert list(model.forward_layers(small_clip(model), ["static.encode_2"])) == ["static.encode_2"]


@pytest.mark.parametrize("n", range(1, 20))
def test_max_pool_pads_as_tensorflow_does(n):
    x = torch.randn(1, 2, n, n)
    total = max((-(-n // 2) - 1) * 2 + 3 - n, 0)
    padded = nn.functional.pad(x, (total // 2, total - total // 2) * 2, value=-torch.inf)
    assert torch.equal(MaxPoolSame((3, 3), (2, 2))(x), nn.functional.max_pool2d(padded, 3, 2))


def test_state_dict_keys_are_an_interface():
    """They are what weight files hold: changing one breaks everybody's."""
    keys = json.loads((Path(__file__).parent / "state_dict_keys.json").read_text())
    one, slowfast = keys["one pathway"], keys["slowfast"]
    for name in NAMES:
        if MODELS[name].two_pathway:
            dynamic = one if "slow" in name else slowfast
            expected = [f"static.{key}" for key in one] + [f"dynamic.{key}" for key in dynamic]
        else:
            expected = slowfast if "slowfast" in name else one
        assert sorted(build_model(name).state_dict()) == sorted(expected), name


# --- what people do with modules -----------------------------------------------------------------------------------------


GRAPHS = [name for name in NAMES if not name.endswith(("_tiny", "_small"))]
"""Tiny and small models have the graphs of these, with fewer channels."""


@pytest.mark.parametrize("name", GRAPHS)
def test_export(name):
    model = small(name).eval()
    x = small_clip(model)
    exported = torch.export.export(model, (x,), strict=False).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", GRAPHS)
def test_compile_without_graph_breaks(name):
    """Through AOT autograd, which traces the whole graph; code generation is checked on one model below."""
    torch._dynamo.reset()
    model = small(name)
    x = small_clip(model)
    for mode in (model.eval, model.train):
        mode()
        state = copy.deepcopy(model.state_dict())
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        out = compiled(x)
        out[:, 0].sum().backward()
        model.load_state_dict(state)
        torch.testing.assert_close(out, model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", GRAPHS)
def test_compile_with_inductor(name):
    torch._dynamo.reset()
    model = small(name).eval()
    x = small_clip(model)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, fullgraph=True)(x), model(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_bf16_autocast(name):
    model = small(name).eval()
    x = small_clip(model)
    with torch.no_grad():
        exact = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            y = model(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y.norm(dim=1), torch.ones(2))
    assert (nn.functional.cosine_similarity(y, exact) > 0.99).all()


@pytest.mark.parametrize("name", NAMES)
def test_memory_format_changes_no_result(name):
    model = small(name).eval()
    x = small_clip(model)
    other = copy.deepcopy(model)
    if "single" not in name and "trn" not in name and "twopathway" not in name:
        other = other.to(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        torch.testing.assert_close(other(x.to(memory_format=torch.channels_last_3d)), model(x), rtol=1e-4, atol=1e-5)


# --- packed convolutions -------------------------------------------------------------------------------------------------


def packed(conv) -> bool:
    return conv._packed is not None


@pytest.fixture
def _pack_all(monkeypatch):
    """Packs the convolutions of small encoders too."""
    monkeypatch.setattr(conv_module, "LEAST_WORK", 0)


def needs_packing(dtype):
    reason = f"on this processor, this PyTorch has no packed convolution in {dtype} that works"
    return pytest.mark.skipif(not conv_module._packing_works(dtype), reason=reason)


@pytest.mark.usefixtures("_pack_all")
@pytest.mark.parametrize("dtype", [pytest.param(d, marks=needs_packing(d)) for d in (torch.float32, torch.bfloat16)])
@pytest.mark.parametrize("change", ["optimizer", "data", "lesion", "swap", "mirror", "one value", "load"])
def test_a_packed_weight_never_outlives_its_values(change, dtype):
    """Also not where PyTorch counts no version: weights edited through .data, as moving averages and lesion studies do."""
    model = small("vie_slow").eval().to(dtype)
    x = small_clip(model).to(dtype)
    with torch.inference_mode():
        before = model(x)
    conv = model.stages[1][0].conv1
    assert packed(conv)
    if change == "optimizer":
        model(x)[:, 0].sum().backward()
        torch.optim.SGD(model.parameters(), lr=10.0).step()
    elif change == "data":
        conv.weight.data.mul_(1.5)
    elif change == "lesion":
        conv.weight.data[3] = 0
    elif change == "swap":
        conv.weight.data.copy_(conv.weight.data.flip(0).clone())
    elif change == "mirror":
        conv.weight.data.copy_(conv.weight.data.flip(-1).clone())
    elif change == "one value":
        conv.weight.data[3, 1, 0, 1, 1] += 2
    else:
        model.load_state_dict(small("vie_slow").state_dict())
    with torch.inference_mode():
        after = model(x)
        fresh = pickle.loads(pickle.dumps(model))  # carries no packed weight
        assert not packed(fresh.stages[1][0].conv1)
        assert torch.equal(after, fresh(x))
    assert not torch.equal(before, after)


@pytest.mark.usefixtures("_pack_all")
@needs_packing(torch.float32)
def test_only_plain_inference_is_packed():
    model = small("vie_3dresnet").eval()
    x = small_clip(model)
    conv = model.stages[0][0].conv1
    model(x)
    assert not packed(conv), "gradients are wanted"
    with torch.no_grad():
        model.train()(x)
        assert not packed(conv), "training"
        model.eval()
        with torch.autocast("cpu", torch.bfloat16):
            model(x)
        with FlopCounterMode(display=False) as counter:
            model(x)
        assert counter.get_total_flops() > 0
        assert not packed(conv)
        model(x)
        assert packed(conv)
        torch.testing.assert_close(torch.func.vmap(model)(x[None]), model(x)[None])
        for shape in ((1, 3, 16, 48, 48), (2, 3, 8, 40, 56)):  # another input shape wants another layout
            y = torch.randn(shape)
            torch.testing.assert_close(model(y), pickle.loads(pickle.dumps(model))(y))
        assert not packed(model.train().stages[0][0].conv1)


@needs_packing(torch.float32)
def test_only_calls_of_much_work_are_packed():
    x = torch.randn(1, 32, 2, 20, 20)  # 32 * 32 * 27 * 800 multiplications, a quarter of them with stride 2 in space
    for stride, expected in (((1, 1, 1), True), ((1, 2, 2), False)):
        conv = vie_conv(32, 32, (3, 3, 3), stride).eval()
        with torch.no_grad():
            y = conv(x)
        assert packed(conv) == expected
        torch.testing.assert_close(y, conv(x).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("_pack_all")
@pytest.mark.parametrize("frames", [1, 5, 8])
@pytest.mark.parametrize("channels", [1, 4, 7, 16])
def test_a_stem_with_few_channels_equals_the_convolution(channels, frames):
    x = torch.randn(2, 3, frames, 21, 18)
    for conv, given in ((vie_conv(3, channels, (5, 7, 7), (1, 2, 2)), x), (vie_conv(3, channels, (7, 7), (2, 2)), x[:, :, 0])):
        conv.eval()
        with torch.no_grad():
            y = conv(given)
        assert conv._packed is None
        torch.testing.assert_close(y, conv(given).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 8, 9])
def test_pools_axis_by_axis_and_at_once_are_equal(size):
    for kernel, stride in (((3, 3, 3), (2, 2, 2)), ((1, 3, 3), (1, 2, 2)), ((3, 3), (2, 2))):
        pool = MaxPoolSame(kernel, stride)
        x = torch.randn(2, 4, *(size + k for k in range(len(kernel))))
        x.view(-1)[0] = float("nan")
        for given in (x, x.contiguous(memory_format=torch.channels_last if len(kernel) == 2 else torch.channels_last_3d)):
            with torch.no_grad():
                y = pool(given)
            assert torch.equal(y.nan_to_num(99), pool(given.requires_grad_()).detach().nan_to_num(99))


# --- fused copies ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_pack_all")
@pytest.mark.parametrize("name", NAMES)
def test_a_fused_copy_gives_the_same_and_leaves_the_encoder_alone(name):
    model = small(name).eval()
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d)):
        torch.nn.init.normal_(norm.running_mean)
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = small_clip(model)
    fused = model.fuse()
    assert fused.fused
    assert not model.fused
    assert not any(p.requires_grad for p in fused.parameters())
    with torch.no_grad():
        for twin in (fused, fused.fuse(), copy.deepcopy(fused)):
            for _ in range(2):  # with the weights just packed, and as they are kept
                maps = twin.forward_layers(x, [*model.layer_names, "output"])
        for layer, expected in model.forward_layers(x, [*model.layer_names, "output"]).items():
            torch.testing.assert_close(maps[layer], expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_fused_copy_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="save the encoder that it was made of"):
        vie.save_pretrained(small("vie_single").eval().fuse(), tmp_path)
