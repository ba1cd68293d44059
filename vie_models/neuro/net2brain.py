"""Net2Brain: the netset "VIE", which importing this module registers (needs `net2brain`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..video.sampling import ClipRead, Sampling, VideoRead, read_video
from ..video.transforms import clip_transform
from ..weights import create_model
from .layers import NamedLayers

try:
    from net2brain.architectures.netsetbase import NetSetBase
except ImportError as error:
    raise ImportError("needs Net2Brain: see https://github.com/cvai-roig-lab/Net2Brain for how to install it") from error


class VIE(NetSetBase):  # type: ignore[misc]
    """Our encoders: `FeatureExtractor(model_name="vie_single_tiny", netset="VIE", data_path=...)`.

    The features of a video are the averages over its clips, placed as in evaluation; an image is a clip that stands still.
    Layers are those of `model.layer_names`, each [1, C, T', H', W'], and "embedding", [1, D].
    """

    clips = 5
    """Number of clips per video."""

    def __init__(self, model_name: str, device: str) -> None:
        self.supported_data_types = ["image", "video"]
        self.netset_name, self.model_name, self.device = "VIE", model_name, device

    def get_model(self, pretrained: bool) -> NamedLayers:
        """Builds the model, with its published weights or untrained."""
        self.loaded_model = NamedLayers(create_model(self.model_name, pretrained=pretrained)).to(self.device)
        self.layers = list(self.loaded_model.layer_names)
        return self.loaded_model

    def get_preprocessing_function(self, data_type: str) -> Any:
        """Returns the method that makes data of this type the encoder's input."""
        return {"image": self.image_preprocessing, "video": self.video_preprocessing}[data_type]

    def get_feature_cleaner(self, data_type: str) -> Any:
        """Returns the function that Net2Brain calls with the netset and its features."""
        return type(self).clean_extracted_features

    def load_video_data(self, data_path: str) -> list[np.ndarray]:
        """Reads the clips of a video, each uint8 [T, 3, crop, crop]. A video that cannot be read raises VideoError."""
        read = read_video(Path(data_path), Sampling(spec=self.loaded_model.encoder.clip_spec, clips=self.clips))
        clips: list[np.ndarray] = []
        for message in read:
            if isinstance(message, ClipRead):
                clips.append(message.pixels)
            elif not isinstance(message, VideoRead):
                clips.clear()  # reading began again
        return clips

    def video_preprocessing(self, frame: np.ndarray, model_name: str, device: str) -> Tensor:
        """uint8 [T, 3, crop, crop] -> [1, 3, T, crop, crop]."""
        return clip_transform(self.loaded_model.encoder).normalize(torch.from_numpy(frame))[None].to(device)

    def image_preprocessing(self, image: Any, model_name: str, device: str) -> Tensor:
        """PIL image -> [1, 3, 1, crop, crop], repeated by the model."""
        return clip_transform(self.loaded_model.encoder)(np.array(image.convert("RGB"))[None])[None, :, 0].to(device)

    def extraction_function(self, data: Tensor, layers_to_extract: list[str] | None = None) -> dict[str, Tensor]:
        """Returns the activations of the layers asked for, or of all."""
        layers = layers_to_extract or self.layers
        if unknown := sorted(set(layers) - set(self.loaded_model.layer_names)):
            raise ValueError(f"{self.model_name} has no layer {', '.join(unknown)}")
        outputs: dict[str, Tensor] = {}
        handles = [
            self.loaded_model.get_submodule(name).register_forward_hook(
                lambda module, args, output, name=name: outputs.update({name: output})
            )
            for name in layers
        ]
        try:
            with torch.no_grad():
                self.loaded_model(data)
        finally:
            for handle in handles:
                handle.remove()
        return {name: outputs[name] for name in layers}

    def clean_extracted_features(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns the features on the CPU."""
        return {name: value.cpu() for name, value in features.items()}
