"""Loads this repository with transformers. The encoder itself is that of vie_models, which must be installed.

    from transformers import AutoModel, AutoVideoProcessor

    processor = AutoVideoProcessor.from_pretrained("org/name", trust_remote_code=True)
    model = AutoModel.from_pretrained("org/name", trust_remote_code=True)
    model(**processor("video.mp4", return_tensors="pt")).embedding

`vie publish` writes this file. vie_models itself never imports it.

B batch, C channels, T time, H height, W width, D size of the embedding, N classes.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput
from transformers.video_processing_utils import BaseVideoProcessor

try:
    from vie_models.clip_spec import ClipSpec
    from vie_models.models import Encoder, build_model
    from vie_models.models.encoder import OUTPUT
except ImportError as error:
    raise ImportError(f"this model needs vie_models ({error}): pip install vie_models") from error


class VIEConfig(PretrainedConfig):
    """config.json: the architecture, its sizes and the clips that it takes."""

    model_type = "vie"

    def __init__(
        self,
        architecture: str = "",
        model_args: dict[str, Any] | None = None,
        clip_spec: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.architecture = architecture
        self.model_args = model_args or {}
        self.clip_spec = clip_spec or {}
        self.num_frames = self.clip_spec.get("num_frames")  # pipelines read it
        kwargs.pop("num_frames", None)
        super().__init__(**kwargs)

    def build(self, num_classes: int | None) -> Encoder:
        """Returns an untrained encoder."""
        args = {**self.model_args, "num_classes": num_classes}
        return build_model(self.architecture, clip_spec=ClipSpec.from_dict(self.clip_spec), **args)


@dataclasses.dataclass
class VIEOutput(ModelOutput):
    """What VIEModel returns."""

    embedding: Tensor | None = None
    """[B, D], of unit length; without a head, pooled features."""
    hidden_states: tuple[Tensor, ...] | None = None
    """Each layer's maps [B, C, T, H, W], in the order of `model.encoder.layer_names`."""


@dataclasses.dataclass
class VIEClassifierOutput(ModelOutput):
    """What VIEForVideoClassification returns."""

    loss: Tensor | None = None
    """Cross-entropy, if labels were given."""
    logits: Tensor | None = None
    """[B, N]."""
    hidden_states: tuple[Tensor, ...] | None = None
    """As in VIEOutput."""


class _Wrapped(PreTrainedModel):
    """An encoder of vie_models. Loading is strict, and tensors are stored under the names that vie_models and timm read."""

    config_class = VIEConfig
    base_model_prefix = "encoder"
    main_input_name = "pixel_values"

    def __init__(self, config: VIEConfig, num_classes: int | None) -> None:
        super().__init__(config)
        self.encoder = config.build(num_classes)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leaves what the encoder's builder has drawn, but for a new head, which is built without memory."""
        if module is self.encoder.head and isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """As transformers' own, but weights that do not fit are an error. A new head needs ignore_mismatched_sizes=True."""
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        found = [*info["missing_keys"], *info["unexpected_keys"], *(entry[0] for entry in info["mismatched_keys"])]
        if not (cls is VIEForVideoClassification and kwargs.get("ignore_mismatched_sizes")):
            bad = found
        else:
            bad = [name for name in found if not re.search(r"(^|\.)head\.", name)]
        if bad:
            raise RuntimeError(f"the weights do not fit {model.config.architecture}: {', '.join(sorted(bad)[:4])}")
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()  # to memory that PyTorch aligns, on which the last bits depend
        return (model, info) if output_loading_info else model

    def save_pretrained(self, save_directory: Any, *args: Any, state_dict: Any = None, **kwargs: Any) -> Any:
        """As transformers' own, with the tensors' names of vie_models."""
        state = self.state_dict() if state_dict is None else state_dict
        state = {name.removeprefix("encoder."): value for name, value in state.items()}
        return super().save_pretrained(save_directory, *args, state_dict=state, **kwargs)

    def _run(self, pixel_values: Tensor, output_hidden_states: bool | None) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        x = pixel_values.transpose(1, 2)  # [B, T, 3, H, W] -> [B, 3, T, H, W]
        if not output_hidden_states:
            return self.encoder(x), None
        maps = self.encoder.forward_layers(x, [*self.encoder.layer_names, OUTPUT])
        return maps.pop(OUTPUT), tuple(maps.values())


class VIEModel(_Wrapped):
    """Clips -> embeddings: what the encoder's own `forward` returns."""

    def __init__(self, config: VIEConfig) -> None:
        super().__init__(config, config.model_args.get("num_classes"))

    def forward(
        self, pixel_values: Tensor, output_hidden_states: bool | None = None, return_dict: bool | None = None
    ) -> VIEOutput | tuple[Any, ...]:
        """[B, T, 3, H, W] -> embedding [B, D]."""
        embedding, hidden_states = self._run(pixel_values, output_hidden_states)
        output = VIEOutput(embedding=embedding, hidden_states=hidden_states)
        return output.to_tuple() if return_dict is False else output


class VIEForVideoClassification(_Wrapped):
    """Clips -> logits. A set without a classifier gets a new head: num_labels=N, ignore_mismatched_sizes=True."""

    def __init__(self, config: VIEConfig) -> None:
        if not config.num_labels:
            raise ValueError(
                f"this {config.architecture} has no classifier. Pass num_labels=N and ignore_mismatched_sizes=True for a new "
                "one, to be trained; or load embeddings with AutoModel"
            )
        super().__init__(config, config.num_labels)
        config.model_args = {**config.model_args, "num_classes": config.num_labels}

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> VIEClassifierOutput | tuple[Any, ...]:
        """[B, T, 3, H, W] -> logits [B, N]; with labels, int64 [B], also the loss."""
        logits, hidden_states = self._run(pixel_values, output_hidden_states)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        output = VIEClassifierOutput(loss=loss, logits=logits, hidden_states=hidden_states)
        return output.to_tuple() if return_dict is False else output


class VIEVideoProcessor(BaseVideoProcessor):
    """Videos -> pixel_values [B, T, 3, H, W]: the clip that begins at 0 s, as load_clip and clip_transform make it."""

    model_input_names: ClassVar[list[str]] = ["pixel_values"]
    clip_spec: dict[str, Any]

    def __init__(self, clip_spec: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.clip_spec = clip_spec

    def preprocess(
        self,
        videos: Any,
        *,
        num_frames: int | None = None,
        do_sample_frames: bool | None = None,
        video_metadata: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Takes files, or uint8 frames [T, H, W, 3], or a list of either.

        Args:
            videos: a video file is sampled by time. Frames are sampled too if `video_metadata` gives their fps.
            num_frames: frames of a clip (default: those of the model).
            do_sample_frames: False takes every frame as it is.
            video_metadata: {"fps": ...}, or one for each video.
            **kwargs: as in transformers: do_resize, size, do_center_crop, return_tensors, ...
        """
        spec = ClipSpec.from_dict(self.clip_spec)
        spec = dataclasses.replace(spec, num_frames=num_frames or spec.num_frames)
        if do_sample_frames is None:
            do_sample_frames = self.do_sample_frames
        videos = _as_list(videos)
        metadata = video_metadata if isinstance(video_metadata, list) else [video_metadata] * len(videos)
        if do_sample_frames:
            videos = [_clip(video, spec, about) for video, about in zip(videos, metadata, strict=True)]
        batch = super().preprocess(videos, do_sample_frames=False, **kwargs)
        batch["pixel_values"] = batch.pop("pixel_values_videos")
        return batch

    def rescale_and_normalize(
        self,
        images: Tensor,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: Any,
        image_std: Any,
    ) -> Tensor:
        """In clip_transform's order, for the same bits."""
        x = images.to(torch.float32)
        if do_rescale:
            x = x * rescale_factor
        if do_normalize:
            mean, std = (torch.tensor(values, device=x.device)[:, None, None] for values in (image_mean, image_std))
            x = (x - mean) / std
        return x


def _as_list(videos: Any) -> list[Any]:
    """One video or several, as a list. A list of frames is one video."""
    if isinstance(videos, (str, Path)) or getattr(videos, "ndim", 0) == 4:
        return [videos]
    first = videos[0]
    if isinstance(first, (str, Path)) or getattr(first, "ndim", 0) == 4:
        return list(videos)
    if isinstance(first, (list, tuple)):
        return [np.stack([np.asarray(frame) for frame in video]) for video in videos]
    return [np.stack([np.asarray(frame) for frame in videos])]


def _clip(video: Any, spec: ClipSpec, metadata: Any) -> Tensor:
    from vie_models.video.sources import load_clip

    if isinstance(video, (str, Path)):
        return load_clip(video, spec)
    fps = None if metadata is None else metadata["fps"]
    if fps:
        return load_clip(video, spec, fps=float(fps))
    if len(video) != spec.num_frames:
        raise ValueError(
            f"a clip has {spec.num_frames} frames, got {len(video)}: pass video_metadata={{'fps': ...}} to choose among them, "
            "or do_sample_frames=False to take them all"
        )
    return torch.as_tensor(video, device=None if isinstance(video, torch.Tensor) else "cpu")
