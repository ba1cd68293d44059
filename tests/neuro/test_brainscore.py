"""Brain-Score vision on a local stimulus set; `make test-neuro` installs it in an environment of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.encoders import NAMES, small
from support.videos import write_video

import vie_models as vie
from vie_models.neuro.windows import EMBEDDING

brainscore = pytest.importorskip("brainscore_vision", reason="brainscore_vision is not installed: `make test-neuro`")


@pytest.fixture
def stimuli(tmp_path, monkeypatch):
    """A stimulus set of two videos of 2.56 s, and one of an image."""
    from brainscore_core.supported_data_standards.brainio.stimuli import StimulusSet

    monkeypatch.setenv("RESULTCACHING_DISABLE", "1")
    noise = np.random.default_rng(0).integers(0, 256, (2, 64, 48, 64, 3), np.uint8)
    paths = {f"film{i}": write_video(tmp_path / f"film{i}.mp4", frames) for i, frames in enumerate(noise)}
    Image.fromarray(noise[0, 0]).save(tmp_path / "picture.png")

    def of(**paths: Path) -> StimulusSet:
        found = StimulusSet([{"stimulus_id": name} for name in paths])
        found.stimulus_paths, found.identifier = {name: str(path) for name, path in paths.items()}, None
        return found

    return of(**paths), of(picture=tmp_path / "picture.png")


ONE_OF_EACH = [name for name in NAMES if not name.endswith(("_tiny", "_small"))]  # the smaller ones have the same graphs


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_activations_on_a_stimulus_set_are_ours(name, stimuli):
    from vie_models.neuro.brainscore import activations_model

    model = small(name, width=4).eval()
    part = "dynamic." if "twopathway" in name else ""
    layers = [f"{part}encode_3", f"{part}encode_10", EMBEDDING]
    wrapper = activations_model(model, dtype=np.float32, batch_size=4)
    assembly = wrapper(stimuli[0], layers, None).transpose("presentation", "time_bin", "neuroid")
    assert list(assembly["stimulus_id"].values) == ["film0", "film1"]
    for p, path in enumerate(stimuli[0].stimulus_paths.values()):
        clip = vie.load_clip(path, model.clip_spec)
        with torch.inference_mode():
            ours = model.forward_layers(vie.clip_transform(model)(clip)[None], [*layers[:2], "output"])
        ours[EMBEDDING] = ours.pop("output")[:, :, None]
        for layer in layers:
            theirs = assembly[p, :, assembly["layer"].values == layer]  # bins at the frames' rate
            spans = theirs["time_bin_end"].values
            maps = ours[layer][0].flatten(2) if ours[layer].ndim == 5 else ours[layer][0, :, :, None]  # [C, T', H*W]
            step = (
                round(1000 * model.clip_spec.num_frames * model.clip_spec.frame_interval / model.clip_spec.fps) / maps.shape[1]
            )
            for k in range(maps.shape[1]):
                values = theirs.values[np.isclose(spans, (k + 1) * step)][0]
                expected = maps[:, k].flatten().numpy()
                assert np.abs(values - expected).max() < 1e-5 + 2e-2 * np.abs(expected).max()  # another decoder


def test_an_image_is_a_clip_that_stands_still(stimuli):
    from vie_models.neuro.brainscore import activations_model

    model = small("vie_3dresnet_tiny").eval()
    wrapper = activations_model(model, dtype=np.float32)
    assembly = wrapper(stimuli[1], ["encode_10", EMBEDDING], None).transpose("presentation", "time_bin", "neuroid")
    image = np.asarray(Image.open(next(iter(stimuli[1].stimulus_paths.values()))))
    x = vie.clip_transform(model)(np.stack([image] * 16))[None]
    with torch.inference_mode():
        ours = model.forward_layers(x, ["encode_10", "output"])
    for layer, values in (("encode_10", ours["encode_10"]), (EMBEDDING, ours["output"])):
        theirs = assembly[0, :, assembly["layer"].values == layer].values
        np.testing.assert_allclose(theirs[0], values.flatten(), rtol=1e-4, atol=1e-5)


def test_the_registry_loads_the_plugin():
    """Copies the plugin to where Brain-Score keeps its models, has it load one there, and runs the plugin's own test."""
    from vie_models.neuro.brainscore import write_plugin

    place = Path(brainscore.__file__).parent / "models" / "vie_models_test"
    shutil.rmtree(place, ignore_errors=True)
    try:
        write_plugin(place)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "BS_INSTALL_DEPENDENCIES": "no"}
        # the plugin's own test, and the tests that Brain-Score runs on every submitted model
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(place / "test.py")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=place, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert brainscore.load_model_bibtex("vie_single_tiny").startswith("@inproceedings{zhuang2020")
        for name in NAMES:
            assert f"model_registry['{name}']" in (place / "__init__.py").read_text()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def test_tables_are_neuroid_assemblies(tmp_path, stimuli):
    from brainscore_core.supported_data_standards.brainio.assemblies import NeuroidAssembly

    from vie_models.neuro import load_stimulus_features, stimulus_features

    (tmp_path / "t.csv").write_text("stimulus\nfilm0.mp4\nfilm1.mp4\n")
    stimulus_features(tmp_path / "t.csv", small("vie_3dresnet_tiny"), tmp_path / "f.nc", layers=["encode_3"], workers=0)
    with load_stimulus_features(tmp_path / "f.nc") as features:
        assembly = NeuroidAssembly(features.load())
        assert assembly.dims == ("presentation", "neuroid", "time_bin")
        np.testing.assert_array_equal(assembly.sel(layer="encode_3").shape, features.shape)
        assert assembly.sel(stimulus_id="film1.mp4").shape == features[1:].shape
