"""Encoders of other packages: their features equal the package's own pipeline on the same frames."""

import numpy as np
import pytest
import torch
from PIL import Image

import vie_models as vie

NOISE = np.random.default_rng(0).integers(0, 256, (40, 90, 161, 3), dtype=np.uint8)


def features(encoder, layers=(), clips=2):
    """Returns the arrays of the noise, and the frames of each clip, uint8 [T, H, W, 3]."""
    fps = encoder.clip_spec.fps
    arrays, _ = vie.Extractor(encoder, layers=layers, pool=None, clips=clips, batch_size=2, workers=0).features(NOISE, fps=fps)
    return arrays, [NOISE[np.round(times * fps).astype(int)] for times in arrays["frame_times"]]


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def check_timm(name, layer, shape):
    timm = pytest.importorskip("timm", minversion="1.0")
    encoder = vie.load_encoder(f"timm:{name},untrained,frames=3")
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=encoder.module))
    arrays, clips = features(encoder, [layer, "frames"])
    assert arrays[layer].shape == (2, *shape)
    for i, clip in enumerate(clips):
        with torch.inference_mode():
            own = encoder.module(torch.stack([transform(Image.fromarray(frame)) for frame in clip]))
        close(arrays["embedding"][i], own.mean(0).numpy())
        close(arrays["frames"][i][..., 0, 0], own.mT.numpy())


def test_timm():
    check_timm("resnet18", "layer2.1", (128, 3, 28, 28))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nosuch", "has no model 'nosuch': "),
        ("resnet19", "has no model 'resnet19', perhaps resnet1"),
        ("resnet18.nosuch", r"Invalid pretrained tag \(nosuch\).*timm.list_pretrained"),
    ],
)
def test_what_timm_does_not_have_is_said(name, reason):
    with pytest.raises(ValueError, match=reason):
        vie.load_encoder(f"timm:{name}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("vit_tiny_patch16_224", "blocks.3", (192, 3, 14, 14)),
        ("swin_tiny_patch4_window7_224", "layers.1", (192, 3, 28, 28)),
        ("vit_small_patch14_dinov2", "blocks.3", (384, 3, 37, 37)),
        ("convnext_atto", "stages.1", (80, 3, 28, 28)),
    ],
)
def test_more_of_timm(name, layer, shape):
    check_timm(name, layer, shape)


def check_torchvision(name, layer, shape, options=""):
    from torchvision import models

    encoder = vie.load_encoder(f"torchvision:{name},untrained{options}")
    transform = models.get_model_weights(name).DEFAULT.transforms()
    arrays, clips = features(encoder, [layer], clips=1)
    assert arrays[layer].shape == (1, *shape)
    own = transform(torch.from_numpy(clips[0]).permute(0, 3, 1, 2))
    with torch.inference_mode():
        own = encoder.module(own if encoder.layout.images else own[None]).mean(0)
    close(arrays["embedding"][0], own.numpy())


def test_torchvision():
    check_torchvision("r3d_18", "layer2.1", (128, 8, 28, 28))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer", "shape", "options"),
    [
        ("r2plus1d_18", "layer4", (512, 2, 7, 7), ""),
        ("mc3_18", "layer2", (128, 16, 28, 28), ""),
        ("s3d", "features.4", (192, 8, 28, 28), ",frames=16"),
        ("mvit_v2_s", "blocks.3", (384, 8, 14, 14), ""),
        ("swin3d_t", "features.1", (192, 16, 28, 28), ""),
        ("resnet18", "layer1.0.bn2", (64, 1, 56, 56), ""),
        ("vit_b_16", "encoder.layers.encoder_layer_3", (768, 1, 14, 14), ""),
        ("swin_t", "features.1", (192, 1, 28, 28), ""),
    ],
)
def test_more_of_torchvision(name, layer, shape, options):
    check_torchvision(name, layer, shape, options)


def test_the_clips_are_those_of_the_package():
    spec = vie.load_encoder("torchvision:r3d_18", outline=True).clip_spec
    assert (spec.num_frames, spec.fps, spec.resize, spec.crop, spec.antialias) == (16, 15, (128, 171), 112, False)
    pytest.importorskip("timm", minversion="1.0")
    spec = vie.load_encoder("timm:resnet18.a1_in1k,frames=4,interval=2,fps=5", outline=True).clip_spec
    assert (spec.num_frames, spec.frame_interval, spec.fps, spec.resize, spec.interpolation) == (4, 2, 5, 235, "bicubic")
