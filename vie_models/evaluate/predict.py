"""Names what happens in videos: by a probe, by a fine-tuned encoder, or by the memory bank that comes with weights.

V videos, C clips each, K names, N bank rows, D dimensions.
"""

from __future__ import annotations

import abc
import csv
import dataclasses
import functools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..bank.voting import knn_of_rows
from ..clip_spec import Placement
from ..datasets.lists import CLASSES
from ..encoders import VideoEncoder
from ..features.extractor import Extractor
from ..files import replacing
from ..models import list_models
from ..models.weight_folder import BANK, CONFIG, load_folder, read_bank
from ..video.sources import path_or_url
from ..weights import list_weights
from ..weights.cache import fetch, load_record
from ..weights.catalog import CARD, find_record
from .probe import PROBE, Probe, is_probe, load_probe

CLIPS, NEIGHBORS, TEMPERATURE = 5, 10, 0.07
"""With these the threshold of a weight set is measured."""
UNMEASURED = 0.9
"""Threshold where none was measured."""
SHOWN = 5
"""Names of a video, at most."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """The names of one clip."""

    start: float
    """Seconds after the video's first frame."""
    end: float
    """The same."""
    probabilities: dict[str, float]
    """Of every name. Of a memory bank: its share of all votes, which rows without a name have, too."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The names of one video."""

    path: str
    """Path or address of the video."""
    names: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    """Names whose probability reaches the threshold, at most five, most probable first. Empty if none does."""
    confidence: float | None = None
    """The highest probability that a name has, also if it does not reach the threshold."""
    probabilities: dict[str, float] = dataclasses.field(default_factory=dict)
    """Of every name, for the whole video, as in `Clip`."""
    clips: list[Clip] = dataclasses.field(default_factory=list)
    """The names of each clip."""
    nearest: float | None = None
    """Of a memory bank: cosine similarity of a clip and the row nearest to it, averaged over the clips."""
    reason: str | None = None
    """Why the video could not be read, or None."""


class Predictor(abc.ABC):
    """An encoder, and what gives names for its outputs."""

    model: VideoEncoder
    names: list[str]
    """K names."""
    layer: str | None = None
    """The layer whose averages are read; None: the encoder's output."""
    clips: int = CLIPS
    """Number of clips per video that it was made for."""
    placement: Placement = "even"
    """Where they lie."""

    @property
    @abc.abstractmethod
    def threshold(self) -> float:
        """The probability from which on a name is given."""

    @abc.abstractmethod
    def about(self) -> str:
        """Says in lines of text which names are known, and where the threshold comes from."""

    @abc.abstractmethod
    def probabilities(self, values: Tensor) -> tuple[Tensor, Tensor, float | None]:
        """Returns the probability of each name for the clips of a video [C, K] and for the whole video [K], and `nearest`.

        Args:
            values: outputs for the clips, [C, D].
        """

    def predict(
        self,
        videos: Sequence[str | os.PathLike[str]],
        *,
        clips: int | None = None,
        threshold: float | None = None,
        device: str | None = None,
        workers: int | None = None,
    ) -> Iterator[Prediction]:
        """Yields a prediction for each video, in the order in which they finish.

        Args:
            videos: paths or http(s) addresses of the videos.
            clips: number of clips per video. Default: as it was made for.
            threshold: probability from which on a name is given, in [0, 1]. Default: its own.
            device: of the encoder. Default: the one it is on.
            workers: number of processes that decode. Default: as in `Extractor`.

        Raises:
            ValueError: `threshold` is out of range.
        """
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be a probability, from 0 to 1, got {threshold}")
        least = self.threshold if threshold is None else threshold
        paths = [path_or_url(path) for path in videos]
        extractor = Extractor(
            self.model,
            layers=[] if self.layer is None else [self.layer],
            clips=clips or self.clips,
            placement=self.placement,
            device=device,
            workers=workers,
        )
        for number, record, arrays in extractor.results(paths):
            path = str(paths[number])
            if arrays is None:
                yield Prediction(path, reason=record.reason)
                continue
            of_clips, of_video, nearest = self.probabilities(torch.from_numpy(arrays[self.layer or "embedding"]))
            ends = zip(arrays["start"].tolist(), arrays["end"].tolist(), of_clips, strict=True)
            best = [(self.names[i], float(of_video[i])) for i in of_video.topk(min(SHOWN, len(self.names))).indices.tolist()]
            yield Prediction(
                path=path,
                names=[(name, share) for name, share in best if share >= least and share > 0],
                confidence=best[0][1],
                probabilities=self._named(of_video),
                clips=[Clip(start, end, self._named(row)) for start, end, row in ends],
                nearest=nearest,
            )

    def _named(self, row: Tensor) -> dict[str, float]:
        return dict(zip(self.names, row.tolist(), strict=True))


@dataclasses.dataclass(frozen=True)
class BankPredictor(Predictor):
    """An encoder and its memory bank with named rows. The rows nearest to a clip vote, also those without a name."""

    model: VideoEncoder
    rows: Tensor
    """Unit embeddings of the training videos, float32 [N, D]."""
    labels: Tensor
    """Their labels, int64 [N]; -1 for a row without a name."""
    names: list[str]
    """Name of each label that occurs, or its number where it has no name."""
    measured: dict[str, Any] | None = None
    """What `python -m reproduce.names` found for this bank, as its card says: `agreement`, the least with which names are right
    often enough, and how often they are. None: not measured."""
    neighbors: int = NEIGHBORS
    """Number of rows that vote for each clip."""
    temperature: float = TEMPERATURE
    """A row votes with weight exp(dot / temperature)."""

    @functools.cached_property
    def known(self) -> list[str]:
        """The names that some row has."""
        return [self.names[i] for i in self.labels[self.labels >= 0].unique().tolist()]

    @property
    def threshold(self) -> float:
        """As measured for the weights; 0.9 for a bank that was not, and for other neighbors or another temperature."""
        if self.measured is None or (self.neighbors, self.temperature) != (NEIGHBORS, TEMPERATURE):
            return UNMEASURED
        return float(self.measured["agreement"])

    def about(self) -> str:
        where = "not measured for this bank" if self.threshold == UNMEASURED else "as measured for it: see docs/weights.md"
        return f"a memory bank of {len(self.rows)} rows knows {_listed(self.known)}\nits threshold is {where}"

    def shares(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Asks the bank about videos.

        Args:
            values: embeddings of the videos' clips, [V, C, D].

        Returns:
            Each name's share of all votes, float64 [V, K], which rows without a name have too; and the cosine similarity of a
            clip and the row nearest to it, averaged over the clips, [V].
        """
        number = len(self.names)
        nameless = torch.where(self.labels < 0, number, self.labels)
        found = knn_of_rows(values, self.rows, nameless, self.neighbors, self.temperature, number + 1)
        return (found.scores / found.scores.sum(1, keepdim=True))[:, :number], found.nearest.mean(1)

    def probabilities(self, values: Tensor) -> tuple[Tensor, Tensor, float | None]:
        (of_video,), (nearest,) = self.shares(values[None])
        return self.shares(values[:, None])[0], of_video, float(nearest)


class ProbePredictor(Predictor):
    """A probe. The probabilities of a video are those of its mean feature.

    Args:
        probe: the probe.
    """

    def __init__(self, probe: Probe) -> None:
        self.probe, self.model, self.names = probe, probe.model, probe.classes
        self.layer, self.clips, self.placement = probe.layer, probe.clips, probe.placement

    @property
    def threshold(self) -> float:
        """The probe's own, from training videos that were held out."""
        return self.probe.threshold.confidence

    def about(self) -> str:
        right = self.probe.threshold
        return (
            f"a probe knows {_listed(self.names)}\nits threshold comes from training videos that were held out: "
            f"{100 * right.precision:.0f} % of the names from there on were right"
            + (", half of the videos being of unknown classes" if right.unknown_named is not None else "")
        )

    def probabilities(self, values: Tensor) -> tuple[Tensor, Tensor, float | None]:
        return self.probe.probabilities(values), self.probe.probabilities(values.mean(0)), None


@dataclasses.dataclass(frozen=True)
class ClassifierPredictor(Predictor):
    """A fine-tuned encoder. The probabilities of a video are the means over its clips, as in the validation of a run."""

    model: VideoEncoder
    names: list[str]

    @property
    def threshold(self) -> float:
        """0.9: it is not measured."""
        return UNMEASURED

    def about(self) -> str:
        return f"a fine-tuned encoder knows {_listed(self.names)}\nits threshold is not measured"

    def probabilities(self, values: Tensor) -> tuple[Tensor, Tensor, float | None]:
        of_clips = values.softmax(1)
        return of_clips, of_clips.mean(0), None


def load_predictor(
    weights: str | os.PathLike[str],
    *,
    classes: Path | None = None,
    neighbors: int | None = None,
    temperature: float | None = None,
) -> Predictor:
    """Loads what gives names.

    Args:
        weights: a probe of `vie probe`; a fine-tuned encoder, exported; a weight folder with bank.safetensors; or the name of a
            published weight set, or of a model that has one.
        classes: text file whose line i names label i. Default: the classes.txt in the folder, or else numbers.
        neighbors: of a memory bank: number of rows that vote for each clip. Default: 10.
        temperature: of a memory bank: a row votes with weight exp(dot / temperature). Default: 0.07.

    Raises:
        FileNotFoundError: there is no such folder or set, it has nothing that gives names, or `classes` does not exist.
        ValueError: an argument does not suit the weights.
        WeightsError: a file of it is damaged, or nobody has published the set.
    """
    given = {name: value for name, value in {"neighbors": neighbors, "temperature": temperature}.items() if value is not None}
    folder = Path(weights)
    if is_probe(folder):
        _only_for_banks(given, f"{folder} is a probe")
        if classes is not None:
            raise ValueError(f"{folder} is a probe, which has names of its own: leave classes out")
        return ProbePredictor(load_probe(folder))
    if str(weights) in list_weights() or (str(weights) in list_models() and not folder.exists()):
        published = find_record(*str(weights).split("."))
        model, folder = load_record(published), fetch(published)
    elif folder.is_dir() and (folder / CONFIG).exists():
        model = load_folder(folder)
    else:
        raise FileNotFoundError(
            f"no weights {'in ' if folder.is_dir() else ''}{weights}: give the folder of a probe (`vie probe`), of an export "
            f"(`vie export`), or the name of a published set, such as {next(iter(list_weights()), 'vie_3dresnet.k400')}"
        )
    bank = read_bank(folder)
    if bank is None and not model.num_classes:
        raise FileNotFoundError(
            f"{folder} has no {PROBE}, no {BANK} and no head with classes, so nothing gives names: fit a probe with "
            f"`vie probe {model.model_name} --weights {weights} ...`"
        )
    file = classes or (folder / CLASSES if (folder / CLASSES).exists() else None)
    names = file.read_text().splitlines() if file else []
    number = int(bank["labels"].max()) + 1 if bank is not None else model.num_classes or 0
    names = (names + [str(i) for i in range(len(names), number)])[:number]
    if bank is None:
        _only_for_banks(given, f"{folder} has a fine-tuned head")
        return ClassifierPredictor(model, names)
    return BankPredictor(model, bank["memory_bank"], bank["labels"], names, measured_names(folder), **given)  # type: ignore[arg-type]


def _only_for_banks(given: dict[str, float], what: str) -> None:
    if given:
        raise ValueError(f"{', '.join(given)} belong to a memory bank, and {what}: leave them out")


def measured_names(folder: Path) -> dict[str, Any] | None:
    """What the card of a weight folder says of the names that its bank gives (`vie_models: names:`); None if nothing."""
    if not (folder / CARD).exists():
        return None
    from huggingface_hub import ModelCard

    of_card = ModelCard((folder / CARD).read_text()).data.to_dict().get("vie_models") or {}
    found: dict[str, Any] | None = of_card.get("names")
    return found


def write_predictions(file: Path, found: Sequence[Prediction], names: Sequence[str]) -> None:
    """Writes predictions to a .json file (a list of objects), or to a .csv file.

    The CSV has a row for each video, in which `clip` is empty, and below it one for each clip: path, clip, start and end in
    seconds, name (that of the video, empty if none reaches the threshold), best (the most probable name in any case),
    confidence (its probability), reason, and one column per name with its probability.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as path, path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        if _format(file) == "json":
            json.dump([dataclasses.asdict(one) for one in found], stream, indent=1)
            stream.write("\n")
            return
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["path", "clip", "start", "end", "name", "best", "confidence", "reason", *names])
        for one in found:
            name = one.names[0][0] if one.names else ""
            if one.reason is not None:
                writer.writerow([one.path, "", "", "", "", "", "", one.reason, *[""] * len(names)])
                continue
            spans = [("", one.clips[0].start, one.clips[-1].end, name, one.probabilities)]
            spans += [(str(i), clip.start, clip.end, "", clip.probabilities) for i, clip in enumerate(one.clips)]
            for number, start, end, given, shares in spans:
                best = max(names, key=lambda name: shares[name])
                writer.writerow([one.path, number, start, end, given, best, shares[best], "", *(shares[n] for n in names)])


def check_format(file: Path) -> None:
    """Raises ValueError unless predictions can be written to such a file."""
    if _format(file) not in ("csv", "json"):
        raise ValueError(f"predictions are written as .csv or .json, got {file}")


def _format(file: Path) -> str:
    return file.suffix.lower().removeprefix(".")


def _listed(names: Sequence[str], most: int = 50) -> str:
    more = [f"{len(names) - most} more"] * (len(names) > most)
    return f"{len(names)} names: {', '.join([*names[:most], *more])}"
