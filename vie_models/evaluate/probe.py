"""A probe: logistic regression on features of a frozen encoder, kept in a folder that names videos.

    PROBE/  probe.json          classes, layer, clips and the least confidence
            probe.safetensors   mean and scale of the features [D], weight [K, D] and bias [K]
            encoder/            a VIE encoder, as `vie export` writes it: config.json (with its clip spec), model.safetensors;
                                one of another package is loaded again by its name, and its weights must be the same

V videos, C clips each, D features, K classes.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..bank.ranks import world
from ..clip_spec import Placement
from ..datasets.groups import UCF, groups_of
from ..datasets.lists import VideoList, class_names
from ..encoders import VideoEncoder, load_encoder
from ..models import Encoder
from ..models.weight_folder import hash_of_weights, load_folder, read_tensors, save_pretrained, write_json, write_tensors
from ..weights import WeightsError
from .logistic import Fit, Linear, Threshold, fit
from .outputs import clip_outputs
from .protocols import Reader, encoder, finished, labeled, means, reading, share_of, train_videos
from .results import Results, Withheld
from .settings import Probing

PROBE, TENSORS, ENCODER = "probe.json", "probe.safetensors", "encoder"


@dataclasses.dataclass(frozen=True)
class Probe:
    """A frozen encoder with a linear classifier of its features."""

    model: VideoEncoder
    line: Linear
    classes: list[str]
    """K names; label i is the i-th."""
    layer: str | None
    """The layer that is read, averaged over space and time. None: what the encoder's own head reads."""
    clips: int
    """Number of clips per video that it was fitted with."""
    placement: Placement
    threshold: Threshold
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    """How it was made, as JSON-ready values."""

    def probabilities(self, features: Tensor) -> Tensor:
        """Returns the probability of each class, float32 [..., K], for features [..., D] of clips or videos."""
        return torch.from_numpy(self.line.probabilities(features.double().numpy())).float()

    def save(self, folder: Path) -> None:
        """Writes the probe to a folder. Each file is replaced atomically, probe.json last."""
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(self.model, Encoder):
            save_pretrained(self.model, folder / ENCODER)
        tensors = {name: torch.from_numpy(value).float() for name, value in vars(self.line).items()}
        write_tensors(folder / TENSORS, tensors)
        fields = ("classes", "layer", "clips", "placement")
        content: dict[str, Any] = {name: getattr(self, name) for name in fields}
        content |= {"threshold": dataclasses.asdict(self.threshold), "encoder": hash_of_weights(self.model), **self.about}
        write_json(folder / PROBE, content)


def is_probe(folder: Path) -> bool:
    """Whether a folder holds a probe."""
    return (folder / PROBE).is_file()


def load_probe(folder: Path) -> Probe:
    """Loads a probe, in evaluation mode.

    Raises:
        FileNotFoundError: a file of it is missing.
        WeightsError: its files do not fit together.
    """
    try:
        content = json.loads((folder / PROBE).read_text())
        source = folder / ENCODER if (folder / ENCODER).is_dir() else content["model"]
        model = load_folder(source) if isinstance(source, Path) else load_encoder(source)
        if hash_of_weights(model) != content["encoder"]:
            raise WeightsError(f"{source} is not the encoder that {folder / PROBE} was fitted with: make the probe again")
        tensors = read_tensors(folder / TENSORS)
        line = Linear(**{name: value.double().numpy() for name, value in tensors.items()})
        classes = list(content["classes"])
        if line.weight.shape != (len(classes), len(line.mean)):
            raise WeightsError(
                f"{folder / TENSORS} has weights {list(line.weight.shape)}, but there are {len(classes)} classes"
            )
        threshold = Threshold(**content["threshold"])
        return Probe(_read_out(model), line, classes, content["layer"], content["clips"], content["placement"], threshold)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise WeightsError(f"{folder / PROBE} does not describe a probe ({error!r}): make it again with `vie probe`") from error


def fit_probe(
    config: Probing, model: VideoEncoder | None = None, read: Reader = clip_outputs, *, save: bool = True
) -> tuple[Results, Fit]:
    """Fits a logistic regression to features of train_list, and classifies the videos of val_list. Writes results.json.

    Features are averaged over a video's clips and standardized. `logistic.fit` says how the penalty and the least confidence
    are chosen, by cross-validation that divides no group. Under torchrun, all processes call it.

    Args:
        config: the settings.
        model: the encoder, if it is loaded already; its output is read as it is.
        read: called as `clip_outputs`.
        save: also write the probe, to `config.out`.

    Raises:
        TooManyFailuresError: a larger share of a list than `max_failed` is unreadable, or all of it.
        ValueError: a list has no labels, there is no training list, `group_regex` does not match, or no group can be held out.
        FileNotFoundError: a list or the weights do not exist.
        ImportError: scikit-learn is not installed.
    """
    with world(config.device) as ranks:
        given, model = model, encoder(config.model, config.weights, config.seed) if model is None else model
        weights = hash_of_weights(model)
        val = labeled(config.val_list, config.root, config.max_failed)
        train = train_videos(config, val, ranks)
        groups = groups_of_list(train, config.root, config.group_regex)
        if given is None:
            _read_out(model)
        which, rows = means(model, train, config, ranks, read)
        labels = train.labels[which].numpy()
        num_classes = int(max(labels.max(), val.labels.max())) + 1
        known = [groups[i] for i in which]
        found = ranks.from_first(fit(rows.numpy(), labels, known, num_classes, config.precision) if ranks.is_first else None)
        names = class_names(config.train_list) if config.train_list else None
        classes = [names[i] if names and i < len(names) else str(i) for i in range(num_classes)]
        probe = Probe(
            model,
            found.line,
            classes,
            config.layer,
            config.clips,
            config.placement,
            found.threshold,
            about={
                "model": config.model,
                "weights": None if config.weights is None else str(config.weights),
                "train_list": str(config.train_list),
                "num_videos": len(which),
                "num_groups": len({groups[i] for i in which}),
                "penalty": found.penalty,
                "losses": {str(c): loss for c, loss in found.losses.items()},
                "cross_validation": found.accuracy,
            },
        )
        if save and ranks.is_first:
            probe.save(config.out)
        outputs = read(model, val, share_of(val, ranks), **reading(config, ranks))
        blank = torch.zeros(0, num_classes, device="cpu")
        scores = torch.stack([probe.probabilities(x.mean(0)) for x in outputs.values()]) if outputs else blank
        withheld = Withheld(found.threshold.confidence, np.unique(labels).tolist())
        unread = len(train) - len(which)
        return finished(config, "logistic", weights, val, list(outputs), scores, ranks, unread, withheld), found


def groups_of_list(videos: VideoList, root: Path, pattern: str | None = None) -> list[str]:
    """Returns the group of each video of a list, as `vie data folder` finds it: by a regular expression in its path.

    Without one, by that of UCF101 if all file names have it, or else each video is a group of its own.

    Raises:
        ValueError: a path does not match `pattern`.
    """
    names = [videos.paths.name(i) for i in range(len(videos))]
    if pattern is None:
        return groups_of([Path(name).name for name in names], UCF) or names
    names = [name.removeprefix(f"{root}/") for name in names]
    if (groups := groups_of(names, pattern)) is None:
        odd = next(name for name in names if groups_of([name], pattern) is None)
        raise ValueError(
            f"{pattern!r} is not in {odd!r}: give a regular expression that finds a group in every path of the training list; "
            "with `|.+` at its end, each other video is a group of its own"
        )
    return groups


def _read_out(model: VideoEncoder) -> VideoEncoder:
    """Makes the output of a VIE encoder the features that its head reads."""
    if isinstance(model, Encoder):
        model.reset_classifier(0)
    return model
