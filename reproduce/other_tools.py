"""Compares what other tools make of an encoder with its own forward pass: `python -m reproduce.other_tools`.

For every tool that is installed it runs the lines a user would write, on a clip of a rendered video and the weights that come
with the package, and prints a table: version, lines, largest difference to our own values over their largest. "bits" means
that there is none. Brain-Score and thingsvision pin older packages: `make test-neuro` sets up environments for them, in which
the same command runs (`.venv-brainscore/bin/python -m reproduce.other_tools`). Tools that are not installed are listed as such.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import vie_models as vie
from vie_models.datasets.encode import write_mp4
from vie_models.weights.catalog import find_record

from .worlds.moving_textures import FPS, draw_splits, render

MODELS = ["vie_single_tiny", "vie_3dresnet_tiny", "vie_slowfast_tiny", "vie_twopathway_tiny"]
Outputs = dict[str, Tensor]


class Case:
    """An encoder, a video, and what our own lines make of it.

    Attributes:
        video: the file.
        clip: uint8 [T, H, W, 3], resized and cropped.
        x: float32 [1, 3, T, H, W].
        ours: "output", every layer and timm's maps, each [1, ...].
        folder: an empty folder to write to.
    """

    def __init__(self, name: str, video: Path, folder: Path) -> None:
        self.model = vie.create_model(name, pretrained=True)
        self.name, self.video, self.folder = name, video, folder
        frames = vie.load_clip(video, self.model.clip_spec)
        transform = vie.clip_transform(self.model)
        self.clip = transform.crop(frames).movedim(1, -1).contiguous()
        self.x = transform(frames)[None]
        with torch.inference_mode():
            self.ours: Outputs = self.model.forward_layers(self.x, [*self.model.layer_names, "output"])
            maps = self.model.forward_intermediates(self.x, indices=None, intermediates_only=True)
        self.ours |= {f"map {number}": value for number, value in enumerate(maps)}

    @property
    def layers(self) -> list[str]:
        return self.model.layer_names


# --- what users of each tool write ---------------------------------------------------------------------------------------


def with_timm(case: Case) -> Outputs:
    import timm

    model = timm.create_model(f"{case.name}.natural", pretrained=True)
    return {"output": model(case.x)}


def with_timm_features(case: Case) -> Outputs:
    import timm

    net = timm.create_model(f"{case.name}.natural", pretrained=True, features_only=True)
    return {f"map {number}": value for number, value in enumerate(net(case.x))}


def with_torchvision(case: Case) -> Outputs:
    from torchvision.models.feature_extraction import create_feature_extractor

    nodes = {path: layer for layer, path in case.model.layer_modules.items()}
    maps = create_feature_extractor(case.model, nodes)(case.x)
    return {layer: _as_ours(value, case.ours[layer]) for layer, value in maps.items()}


def _as_ours(value: Tensor, ours: Tensor) -> Tensor:
    """Modules of a pathway of single frames give [B*T, C, H, W]; our layers are in order or averaged over the frames."""
    if value.ndim == 5:
        return value
    frames = value.unflatten(0, (1, -1)).transpose(1, 2)
    return frames if ours.shape[2] == frames.shape[2] else frames.mean(2, keepdim=True)


def with_huggingface_hub(case: Case) -> Outputs:
    case.model.save_pretrained(case.folder)
    return {"output": vie.Encoder.from_pretrained(case.folder)(case.x)}


def with_torch_hub(case: Case) -> Outputs:
    root = str(Path(vie.__file__).parent.parent)
    return {"output": torch.hub.load(root, case.name, source="local", pretrained=True)(case.x)}


def with_pt2(case: Case) -> Outputs:
    vie.export_model(case.model, case.folder / "model.pt2", layers=case.layers)
    return torch.export.load(case.folder / "model.pt2").module()(case.clip[None])


def with_aotinductor(case: Case) -> Outputs:
    vie.export_model(case.model, case.folder / "model.pt2", layers=case.layers)
    exported = torch.export.load(case.folder / "model.pt2")
    package = torch._inductor.aoti_compile_and_package(exported, package_path=str(case.folder / "compiled.pt2"))
    return torch._inductor.aoti_load_package(package)(case.clip[None])


def with_onnxruntime(case: Case) -> Outputs:
    import onnxruntime

    vie.export_model(case.model, case.folder / "model.onnx", format="onnx", layers=case.layers)
    session = onnxruntime.InferenceSession(case.folder / "model.onnx")
    found = session.run(None, {"clips": case.clip[None].numpy()})
    return dict(zip(["output", *case.layers], map(torch.from_numpy, found), strict=True))


def with_thingsvision(case: Case) -> Outputs:
    from vie_models.neuro.thingsvision import extractor

    found = extractor(case.model).extract_features(
        batches=[case.x], module_names=[*case.layers, "embedding"], flatten_acts=True, output_type="ndarray"
    )
    found["output"] = found.pop("embedding")
    return {layer: torch.from_numpy(value).reshape(case.ours[layer].shape) for layer, value in found.items()}


def with_brainscore(case: Case) -> Outputs:
    from brainscore_core.supported_data_standards.brainio.stimuli import StimulusSet

    from vie_models.neuro.brainscore import activations_model

    os.environ["RESULTCACHING_DISABLE"] = "1"
    stimuli = StimulusSet([{"stimulus_id": "film"}])
    stimuli.stimulus_paths, stimuli.identifier = {"film": str(case.video)}, None
    wrapper = activations_model(case.model, dtype=np.float32)
    found = wrapper(stimuli, [*case.layers, "embedding"], None).transpose("presentation", "time_bin", "neuroid")
    first = {}
    duration = 1000 * case.model.clip_spec.seconds
    for layer in [*case.layers, "embedding"]:  # time bins come at the frames' rate: take the ones in which a step of ours ends
        values = found[0, :, found["layer"].values == layer]
        ours = case.ours["output" if layer == "embedding" else layer]
        steps = ours.shape[2] if ours.ndim == 5 else 1
        ends = values["time_bin_end"].values
        chosen = [int(np.abs(ends - (step + 1) * duration / steps).argmin()) for step in range(steps)]
        maps = torch.from_numpy(values.values[chosen]).T  # [C*H*W, T']
        first["output" if layer == "embedding" else layer] = (
            maps.unflatten(0, (ours.shape[1], *ours.shape[3:])).movedim(-1, 1)[None].reshape(ours.shape)
            if ours.ndim == 5
            else maps.T
        )
    return first


TOOLS: list[tuple[str, str, str, Callable[[Case], Outputs]]] = [
    ("timm", "timm", 'timm.create_model("NAME.natural", pretrained=True)', with_timm),
    ("timm", "timm", 'timm.create_model("NAME.natural", pretrained=True, features_only=True)', with_timm_features),
    ("torchvision", "torchvision", "create_feature_extractor(model, nodes), all layers", with_torchvision),
    (
        "huggingface_hub",
        "huggingface_hub",
        "model.save_pretrained(FOLDER), Encoder.from_pretrained(FOLDER)",
        with_huggingface_hub,
    ),
    ("torch", "torch.hub", 'torch.hub.load(REPO, "NAME", pretrained=True)', with_torch_hub),
    ("torch", "torch.export", "vie program NAME x.pt2, all layers", with_pt2),
    ("torch", "AOTInductor", "aoti_compile_and_package of that, all layers", with_aotinductor),
    ("onnxruntime", "onnxruntime", "vie program NAME x.onnx --format onnx, all layers", with_onnxruntime),
    ("thingsvision", "thingsvision", "extractor(model).extract_features(batches=...), all layers", with_thingsvision),
    ("brainscore_vision", "Brain-Score vision", "activations_model(model)(stimuli, layers), all layers", with_brainscore),
]
"""Package, name, what the user writes, function."""


def difference(found: Outputs, ours: Outputs) -> float:
    """The largest difference over all outputs, each over its largest value."""
    return max(float((value - ours[name]).abs().max() / ours[name].abs().max()) for name, value in found.items())


def main(models: list[str], only: list[str]) -> None:
    """Prints the table."""
    print("| tool | version | lines | " + " | ".join(models) + " |\n|---|---|---|" + "---|" * len(models))
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "rendered.mp4"
        write_mp4(video, render(draw_splits(4)["train"][0])[: 4 * FPS], FPS)
        cases: dict[str, Any] = {}
        for package, tool, lines, run in TOOLS:
            if only and tool not in only:
                continue
            if importlib.util.find_spec(package) is None:
                print(f"| {tool} | not installed | `{lines}` |" + " |" * len(models))
                continue
            cells = []
            for name in models:
                if name not in cases:
                    cases[name] = Case(find_record(name).model, video, Path(folder) / name)
                cases[name].folder = Path(tempfile.mkdtemp(dir=folder))
                with torch.inference_mode():
                    off = difference(run(cases[name]), cases[name].ours)
                cells.append(f"{off:.1e}" if off else "bits")
            print(f"| {tool} | {importlib.metadata.version(package)} | `{lines}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, help="models with weights that come with the package")
    parser.add_argument("--tools", nargs="+", default=[], choices=[tool for _, tool, _, _ in TOOLS], help="only these tools")
    options = parser.parse_args()
    main(options.models, options.tools)
