"""The Net2Brain netset, in an environment of its own: Net2Brain is not on PyPI, and pins timm 0.4."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.videos import gray_levels, write_video

import vie_models as vie

base = pytest.importorskip("net2brain.architectures.netsetbase", reason="net2brain is not installed; it is not on PyPI")


def test_features_are_ours(tmp_path):
    """Goes the way of Net2Brain's FeatureExtractor: load, preprocess, extract, clean, combine."""
    import vie_models.neuro.net2brain  # noqa: F401

    netset = base.NetSetBase.initialize_netset("vie_single_tiny", "VIE", "cpu")
    netset.get_model(True)
    noise = np.random.default_rng(0).integers(0, 128, (60, 96, 128, 3), np.uint8)
    video = write_video(tmp_path / "a.mp4", gray_levels(60, 96, 128) // 2 + noise)
    Image.fromarray(noise[0]).save(tmp_path / "a.png")
    layers = ["encode_4", "embedding"]

    def features(kind, items):
        preprocess, clean = netset.get_preprocessing_function(kind), netset.get_feature_cleaner(kind)
        found = [netset.extraction_function(preprocess(item, "vie_single_tiny", "cpu"), layers) for item in items]
        return getattr(netset, f"combine_{kind}_data")([clean(netset, one) for one in found])

    model = vie.create_model("vie_single_tiny", pretrained=True)
    arrays, _ = vie.Extractor(model, layers=["encode_4"], pool=None, workers=0).features(video)
    found = features("video", netset.load_video_data(str(video)))
    for layer in layers:
        np.testing.assert_allclose(found[layer][0], arrays[layer].mean(0), rtol=1e-4, atol=1e-5)
    found = features("image", netset.load_image_data(str(tmp_path / "a.png")))
    with torch.no_grad():
        ours = model.forward_layers(vie.clip_transform(model)(noise[:1])[None], "encode_4")
    torch.testing.assert_close(found["encode_4"], ours["encode_4"])
