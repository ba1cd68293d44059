"""thingsvision's extractor, in an environment of its own: its pins conflict with ours."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.encoders import small, small_clip

import vie_models as vie

pytest.importorskip("thingsvision", reason="thingsvision is not installed: `make test-neuro`")


@pytest.mark.parametrize(
    "name", ["vie_single_tiny", "vie_trn", "vie_3dresnet_tiny", "vie_slowfast_tiny", "vie_twopathway_tiny"]
)
def test_features_of_clips_are_ours(name):
    from vie_models.neuro.thingsvision import extractor

    model = small(name, width=4).eval()
    x = small_clip(model, batch=4, size=32)
    layers = [layer for layer in model.layer_names if layer.endswith(("encode_4", "encode_10"))]
    found = extractor(model).extract_features(
        batches=[x[:2], x[2:]], module_names=[*layers, "embedding"], flatten_acts=True, output_type="ndarray"
    )
    with torch.no_grad():
        ours = model.forward_layers(x, [*layers, "output"])
    ours["embedding"] = ours.pop("output")
    for layer, values in ours.items():
        np.testing.assert_allclose(found[layer], values.flatten(1), rtol=1e-5, atol=1e-6)


def test_features_of_a_folder_of_images_are_ours(tmp_path):
    from thingsvision.utils.data import DataLoader, ImageDataset

    from vie_models.neuro.thingsvision import extractor

    model = small("vie_3dresnet_tiny").eval()
    images = np.random.default_rng(0).integers(0, 256, (3, 80, 100, 3), np.uint8)
    (tmp_path / "images").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
    things = extractor(model)
    dataset = ImageDataset(
        root=str(tmp_path / "images"), out_path=str(tmp_path / "out"), backend="pt", transforms=things.get_transformations()
    )
    batches = DataLoader(dataset=dataset, batch_size=2, backend="pt")
    found = things.extract_features(batches=batches, module_name="encode_6", flatten_acts=True, output_type="ndarray")
    x = torch.stack([vie.clip_transform(model)(np.stack([image] * 16)) for image in images])
    with torch.no_grad():
        ours = model.forward_layers(x, "encode_6")["encode_6"]
    np.testing.assert_allclose(found, ours.flatten(1), rtol=1e-5, atol=1e-5)
