"""What layers see in time, against what changes when a frame changes."""

import numpy as np
import pytest
import torch
from support.encoders import NAMES, small

from vie_models.cli import main
from vie_models.neuro import layer_windows
from vie_models.neuro.windows import EMBEDDING, frames_seen

LAYERS = ["encode_1", "encode_4", "encode_7", "encode_10"]


def layers_of(model):
    names = LAYERS if "encode_1" in model.layer_names else [f"{part}.{n}" for part in ("static", "dynamic") for n in LAYERS]
    return [*names, EMBEDDING]


ONE_OF_EACH = [name for name in NAMES if not name.endswith(("_tiny", "_small"))]  # the smaller ones have the same graphs


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_changed_frames_change_what_sees_them_and_nothing_else(name):
    model = small(name, width=8).double().eval()
    layers = layers_of(model)
    x = torch.randn(1, 3, model.clip_spec.num_frames, 48, 48, dtype=torch.float64)
    names = ["output" if layer == EMBEDDING else layer for layer in layers]
    with torch.no_grad():
        before = model.forward_layers(x, names)
        changed = {layer: [] for layer in layers}
        for frame in range(x.shape[2]):
            other = x.clone()
            other[:, :, frame] = torch.randn(1, 3, 48, 48)
            after = model.forward_layers(other, names)
            for layer, key in zip(layers, names, strict=True):
                difference = (after[key] - before[key]).abs()[0]
                step = difference.amax((0, 2, 3)) if difference.ndim == 4 else difference.amax()[None]
                changed[layer].append((step > 1e-12 * before[key].abs().max()).numpy())
    for layer, seen in frames_seen(model, layers).items():
        np.testing.assert_array_equal(seen, np.stack(changed[layer], 1), err_msg=layer)


def test_windows_are_times_of_frames():
    model = small("vie_slow")  # 4 frames, 16 apart at 25 fps: frames at 8, 24, 40 and 56 of 64 grid points
    windows = layer_windows(model, ["encode_2", "encode_10"])
    np.testing.assert_array_equal(windows["encode_2"], [[320, 360], [960, 1000], [1600, 1640], [2240, 2280]])
    np.testing.assert_array_equal(windows["encode_10"], [[320, 2280]] * 4)
    faster = layer_windows(model, ["encode_2"], window=0.16)
    np.testing.assert_array_equal(faster["encode_2"], [[0, 40], [40, 80], [80, 120], [120, 160]])
    with pytest.raises(ValueError, match="no layer 'encode_11'"):
        layer_windows(model, ["encode_11"])
    with pytest.raises(ValueError, match="room for its frames"):
        layer_windows(model, ["encode_2"], window=0.1)


def test_the_command_prints_what_each_layer_sees(capsys):
    assert main(["neuro", "windows", "vie_3dresnet_tiny"]) == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line}
    assert lines["encode_3"] == ["8", "80", "360", "40", "640", "320", "280"]
    assert lines["embedding"] == ["1", "640", "320", "0", "640", "320", "320"]
    assert main(["neuro", "layers", "vie_3dresnet_tiny"]) == 2
