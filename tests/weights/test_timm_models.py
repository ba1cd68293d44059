"""What timm's own tests ask of every model (timm, tests/test_models.py), asked of ours with clips instead of images."""

import dataclasses

import pytest
import torch
from support.encoders import NAMES, small, small_clip

import vie_models as vie

timm = pytest.importorskip("timm", reason="timm is not installed")
pytestmark = pytest.mark.skipif(
    int(timm.__version__.split(".")[0]) < 1, reason=f"our models are for timm >= 1.0, here is {timm.__version__}"
)
if int(timm.__version__.split(".")[0]) >= 1:
    import vie_models.timm


def create(name: str, **arguments):
    return timm.create_model(name, width=8, **arguments)


@pytest.mark.parametrize("name", NAMES)
def test_model_default_cfgs(name):
    model = create(name).eval()
    state, cfg = model.state_dict(), model.default_cfg
    assert cfg is model.pretrained_cfg
    x = small_clip(model, 1, cfg["input_size"][-1])
    with torch.no_grad():
        features = model.forward_features(x)
        assert model.forward_head(features, pre_logits=True).shape == (1, model.head_hidden_size)
        model.reset_classifier(0)
        assert model(x).shape == (1, model.num_features)
        model.reset_classifier(0, "")
        maps = model(x)
    assert maps.ndim == 5
    assert tuple(maps.shape[-2:]) == cfg["pool_size"]
    for key in ("classifier", "first_conv"):
        names = (cfg[key],) if isinstance(cfg[key], str) else cfg[key]
        assert [part for part in names if f"{part}.weight" not in state] == []


@pytest.mark.parametrize("name", NAMES)
def test_model_forward_features(name):
    model = create(name, features_only=True).eval()
    info = model.feature_info
    x = small_clip(model.model, 1, 64)
    with torch.no_grad():
        outputs = model(x)
    assert len(outputs) == len(info.channels()) == 5
    for channels, reduction, output in zip(info.channels(), info.reduction(), outputs, strict=True):
        assert output.shape[:2] == (1, channels)
        assert output.shape[-1] == 64 // reduction
        assert not torch.isnan(output).any()
    assert "classifier" not in model.pretrained_cfg
    some = create(name, features_only=True, out_indices=(1, -1))
    assert some.feature_info.reduction() == [4, 32]
    assert some.feature_info.get("reduction_time")[0] == info.get("reduction_time", 1)
    with torch.no_grad():
        assert [output.shape for output in some.eval()(x)] == [outputs[1].shape, outputs[4].shape]


@pytest.mark.parametrize("name", NAMES)
def test_model_forward_intermediates(name):
    model = create(name).eval()
    x = small_clip(model, 1)
    with torch.no_grad():
        features, maps = model.forward_intermediates(x)
        only = model.forward_intermediates(x, indices=[0, 3], intermediates_only=True)
        torch.testing.assert_close(model.forward_head(features), model(x), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(found, maps[number]) for found, number in zip(only, (0, 3), strict=True))
    assert [found.shape[1] for found in maps] == [info["num_chs"] for info in model.feature_info]


def test_model_load_pretrained():
    for name in vie.list_weights("*_tiny.*"):
        model = name.partition(".")[0]
        assert timm.create_model(name, pretrained=True, in_chans=3, num_classes=5).get_classifier().out_features == 5
        features = timm.create_model(model, pretrained=True, features_only=True)
        weights = vie.create_model(model, pretrained=True).state_dict()
        assert all(torch.equal(value, weights[key]) for key, value in features.model.state_dict().items())


def test_unpooled_by_name():
    for arguments in ({"global_pool": ""}, {"global_pool": "", "num_classes": 0}):
        model = create("vie_slow", **arguments).eval()
        with torch.no_grad():
            assert model(small_clip(model, 1, 64)).shape == (1, 64, 4, 2, 2)
    assert model.get_classifier().__class__ is torch.nn.Identity


def test_unpooled_survives_a_weight_folder(tmp_path):
    model = small("vie_slow", num_classes=0, global_pool="").eval()
    vie.save_pretrained(model, tmp_path)
    x = small_clip(model, 1)
    with torch.no_grad():
        assert torch.equal(vie.from_pretrained(tmp_path)(x), model(x))


def test_an_overlay_changes_clips_and_weights(tmp_path):
    saved = small("vie_single_tiny").eval()
    vie.save_pretrained(saved, tmp_path)
    overlay = {"mean": (0.5, 0.5, 0.5), "input_size": (3, 96, 96), "crop_pct": 0.75, "file": str(tmp_path)}
    model = timm.create_model("vie_single_tiny", pretrained=True, pretrained_cfg_overlay=overlay)
    expected = dataclasses.replace(saved.clip_spec, mean=(0.5, 0.5, 0.5), crop=96, resize=128)
    assert model.clip_spec == expected
    assert timm.data.resolve_model_data_config(model)["mean"] == (0.5, 0.5, 0.5)
    assert all(torch.equal(value, saved.state_dict()[key]) for key, value in model.state_dict().items())


def test_device_and_dtype():
    only = dict(in_chans=3, drop_rate=0.0, drop_path_rate=0.0, output_stride=32, pruned=False, global_pool="avg")
    model = create("vie_single", dtype=torch.bfloat16, device="cpu", **only)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_chans": 1}, "in_chans=1: for VIE encoders it must be 3, because .*expand"),
        ({"drop_rate": 0.1}, r"drop_rate=0.1: .* must be 0"),
        ({"img_size": 224}, "img_size=224: .* must be left out, because"),
        ({"act_layer": "silu"}, "does not take act_layer='silu': .* It takes num_classes, clip_spec, width"),
        ({"out_indices": (1,)}, "goes with features_only=True"),
        ({"features_only": True, "out_indices": (7,)}, r"has the maps 0 to 4 .*got \[7\]"),
        ({"features_only": True, "feature_cls": "list"}, "feature_cls='list': .*create_feature_extractor"),
        ({"global_pool": "max"}, "global_pool must be"),
        ({"global_pool": "", "num_classes": 5}, "give num_classes=0"),
    ],
)
def test_other_arguments_are_answered(arguments, message):
    with pytest.raises(ValueError, match=message):
        create("vie_single", **arguments)
