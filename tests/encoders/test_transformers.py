"""Models of transformers, of small random configurations: their features equal the package's own pipeline."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

import vie_models as vie

transformers = pytest.importorskip("transformers", minversion="5.24")
NOISE = np.random.default_rng(0).integers(0, 256, (70, 90, 161, 3), dtype=np.uint8)
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
VIDEO = {"image_size": 32, "patch_size": 8, **SMALL}
SIZES = {"size": {"shortest_edge": 37}, "crop_size": {"height": 32, "width": 32}}


@dataclasses.dataclass(frozen=True)
class Case:
    """A family: what is saved, and how its package embeds a clip."""

    model: str
    config: dict
    processor: str
    sizes: dict
    layer: str
    shape: tuple[int, ...]
    embed: Callable
    """(model, pixel values) -> [1, D], or [T, D] for images."""


VIDEOMAE = Case(
    "VideoMAE",
    {**VIDEO, "num_frames": 4, "tubelet_size": 2},
    "VideoMAEVideoProcessor",
    SIZES,
    "encoder.layer.1",
    (32, 2, 4, 4),
    lambda model, x: model(x).last_hidden_state.mean(1),
)
CASES = {
    "videomae": VIDEOMAE,
    "videomae with the processor of images": dataclasses.replace(VIDEOMAE, processor="VideoMAEImageProcessor"),
    "vjepa2": Case(
        "VJEPA2",
        {
            **SMALL,
            "crop_size": 32,
            "patch_size": 8,
            "frames_per_clip": 4,
            "mlp_ratio": 2.0,
            "pred_hidden_size": 24,
            "pred_num_attention_heads": 4,
            "pred_num_hidden_layers": 2,
            "num_pooler_layers": 1,
        },
        "VJEPA2VideoProcessor",
        {"crop_size": 32},
        "encoder.layer.1",
        (32, 2, 4, 4),
        lambda model, x: model.get_vision_features(x).mean(1),
    ),
    "timesformer": Case(
        "Timesformer",
        {**VIDEO, "num_frames": 4},
        "TimesformerVideoProcessor",
        SIZES,
        "encoder.layer.1",
        (32, 4, 4, 4),
        lambda model, x: model(x).last_hidden_state[:, 0],
    ),
    "vivit": Case(
        "Vivit",
        {**SMALL, "image_size": 32, "num_frames": 4, "tubelet_size": [2, 8, 8]},
        "VivitVideoProcessor",
        SIZES,
        "layers.1",
        (32, 2, 4, 4),
        lambda model, x: model(x).last_hidden_state[:, 0],
    ),
    "xclip": Case(
        "XCLIP",
        {
            "vision_config": {
                **VIDEO,
                "num_frames": 4,
                "mit_hidden_size": 16,
                "mit_intermediate_size": 24,
                "mit_num_attention_heads": 2,
            },
            "text_config": SMALL,
            "projection_dim": 16,
            "prompt_num_attention_heads": 2,
        },
        "VideoMAEImageProcessor",
        SIZES,
        "vision_model.encoder.layers.1",
        (32, 4, 4, 4),
        lambda model, x: model.get_video_features(x).pooler_output,
    ),
    "clip": Case(
        "CLIP",
        {"vision_config": VIDEO, "text_config": SMALL, "projection_dim": 16},
        "CLIPImageProcessor",
        SIZES,
        "vision_model.encoder.layers.1",
        (32, 3, 4, 4),
        lambda model, x: model.get_image_features(x).pooler_output,
    ),
    "siglip": Case(
        "Siglip",
        {"vision_config": VIDEO, "text_config": SMALL},
        "SiglipImageProcessor",
        {"size": {"height": 32, "width": 32}},
        "vision_model.encoder.layers.1",
        (32, 3, 4, 4),
        lambda model, x: model.get_image_features(x).pooler_output,
    ),
    "dinov2": Case(
        "Dinov2",
        VIDEO,
        "BitImageProcessor",
        SIZES,
        "encoder.layer.1",
        (32, 3, 4, 4),
        lambda model, x: model(x).pooler_output,
    ),
    "dinov2_with_registers": Case(
        "Dinov2WithRegisters",
        {**VIDEO, "num_register_tokens": 4},
        "BitImageProcessor",
        SIZES,
        "encoder.layer.1",
        (32, 3, 4, 4),
        lambda model, x: model(x).pooler_output,
    ),
    "dinov3_vit": Case(
        "DINOv3ViT",
        {**VIDEO, "num_register_tokens": 4},
        "DINOv3ViTImageProcessor",
        {"size": {"height": 32, "width": 32}},
        "model.layer.1",
        (32, 3, 4, 4),
        lambda model, x: model(x).pooler_output,
    ),
    "dinov3_convnext": Case(
        "DINOv3ConvNext",
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "image_size": 32},
        "DINOv3ViTImageProcessor",
        {"size": {"height": 32, "width": 32}},
        "model.stages.1",
        (16, 3, 4, 4),
        lambda model, x: model(x).pooler_output,
    ),
}


def save(case, folder):
    torch.manual_seed(0)
    config = getattr(transformers, f"{case.model}Config")(**case.config)
    model = getattr(transformers, f"{case.model}Model")(config).eval()
    for parameter in model.parameters():  # as initialized, many weights are so small that features hardly differ
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    processor = getattr(transformers, case.processor)(**case.sizes)
    processor.save_pretrained(folder)
    return model, processor


@pytest.mark.parametrize("name", CASES)
def test_features_are_those_of_transformers(name, tmp_path):
    case = CASES[name]
    model, processor = save(case, tmp_path)
    images = case.shape[1] == 3  # as CASES have them
    encoder = vie.load_encoder(f"hf:{tmp_path},{'frames=3' if images else 'interval=2'},fps=10")
    spec = encoder.clip_spec
    extractor = vie.Extractor(encoder, layers=[case.layer], pool=None, clips=2, batch_size=2, workers=0)
    arrays, _ = extractor.features(NOISE, fps=spec.fps)
    assert arrays[case.layer].shape == (2, *case.shape)
    for i, times in enumerate(arrays["frame_times"]):
        clip = list(NOISE[np.round(times * spec.fps).astype(int)])
        x = next(iter(processor(clip, return_tensors="pt").values()))
        with torch.inference_mode():
            expected = case.embed(model, x).mean(0).numpy()
        np.testing.assert_allclose(arrays["embedding"][i], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_rate_that_no_config_gives_is_said(tmp_path):
    save(CASES["videomae"], tmp_path / "videomae")
    with pytest.warns(UserWarning, match="interval=4, fps=25"):
        spec = vie.load_encoder(f"hf:{tmp_path / 'videomae'}").clip_spec
    assert (spec.num_frames, spec.frame_interval, spec.fps) == (4, 4, 25)
    save(CASES["xclip"], tmp_path / "xclip")
    with pytest.raises(ValueError, match="fps="):
        vie.load_encoder(f"hf:{tmp_path / 'xclip'}")


def test_what_is_not_known_is_refused(tmp_path):
    transformers.BertConfig(**SMALL).save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="bert"):
        vie.load_encoder(f"hf:{tmp_path / 'bert'}")
    _, processor = save(CASES["dinov2"], tmp_path / "dinov2")
    processor.resample = 0
    processor.save_pretrained(tmp_path / "dinov2")
    with pytest.raises(ValueError, match="resample"):
        vie.load_encoder(f"hf:{tmp_path / 'dinov2'}")


def test_weights_that_are_not_there_are_not_made_up(tmp_path):
    model, _ = save(CASES["videomae"], tmp_path)
    state = {key: value for key, value in model.state_dict().items() if "layer.1.attention" not in key}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ValueError, match=r"layer\.1\.attention"):
        vie.load_encoder(f"hf:{tmp_path},fps=5")


def test_shapes_are_known_without_weights(tmp_path):
    from vie_models.models.cost import layer_shapes, output_size

    save(CASES["clip"], tmp_path)
    for outline in (True, False):
        encoder = vie.load_encoder(f"hf:{tmp_path},frames=2", outline=outline)
        assert output_size(encoder) == 16
        assert layer_shapes(encoder, ["vision_model.encoder.layers.1"]) == {"vision_model.encoder.layers.1": [32, 2, 4, 4]}
