"""Measures encoders on real video and photographs: `python -m reproduce.footage DATA --weights NAME_OR_FOLDER ... [--out OUT]`.

Names 20 sorts of action (UCF101, leaving each clip's group out), fights among street scenes (leaving videos out), states of a
loading bay, and objects in photographs (Caltech-101, and classes of mini-ImageNet that training never saw, 15 and 30 to learn
from), by kNN and by logistic regression on the embedding and on layers. `--untrained MODEL` measures an encoder with random
weights, and `--raw-pixels` pixels. Features and predictions are kept in OUT; what is there is not computed again. Prints tables
of everything in OUT.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import get_args

import numpy as np
import torch

import vie_models as vie
from vie_models.clip_spec import Placement
from vie_models.datasets.lists import Paths, VideoList
from vie_models.evaluate.protocols import encoder
from vie_models.features.extractor import Extractor
from vie_models.files import replacing
from vie_models.models import Encoder

from . import raw_pixels
from .footage_tests import Split, Videos, knn_predictions, logistic_predictions, read_sets, read_splits, score

PIXELS = "raw pixels"
EMBEDDING = "embedding"
TESTS = ["ucf", "ucf official", "fights", "tank", "caltech 15", "caltech 30", "unseen 15", "unseen 30"]
LAYERS = ("encode_4", "encode_6", "encode_8", "encode_10")


def load(weights: str) -> Encoder:
    """The encoder of a weight folder or of a published set."""
    return vie.from_pretrained(weights) if Path(weights).is_dir() else vie.create_model(weights, pretrained=True)


def check_placement(out: Path, placement: str) -> None:
    """Keeps one placement of clips in a folder of results. Earlier versions placed them as the paper, and did not say so."""
    file = out / "placement.txt"
    there = file.read_text().strip() if file.exists() else "paper" if any(out.glob("*/*.npz")) else placement
    if there != placement:
        raise SystemExit(f"{out} has features of clips placed by {there!r}, not {placement!r}: choose another folder (--out)")
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{placement}\n")


def outputs(model: Encoder, videos: Videos, options: argparse.Namespace) -> dict[str, np.ndarray]:
    """The embedding and the mean over space and time of layers, float32 [V, C, D] each.

    The layers of two pathways are joined: encode_10 is static.encode_10 beside dynamic.encode_10.
    """
    layers = {layer: [name for name in model.layer_names if name.rpartition(".")[2] == layer] for layer in LAYERS}
    own = [name for names in layers.values() for name in names]
    extractor = Extractor(
        model, layers=own, clips=videos.clips, placement=options.placement, workers=options.workers, batch_size=8
    )  # fmt: skip
    found: dict[int, dict[str, np.ndarray]] = {}
    for number, record, arrays in extractor.results([options.data / path for path in videos.paths]):
        if arrays is None:
            raise SystemExit(f"{videos.paths[number]} cannot be read: {record}")
        found[number] = {layer: np.concatenate([arrays[name] for name in names], 1) for layer, names in layers.items()}
        if model.num_classes is None:
            found[number][EMBEDDING] = arrays[EMBEDDING]
    return {name: np.stack([found[i][name] for i in range(len(found))]) for name in found[0]}


def pixels(videos: Videos, options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Small frames as features, float32 [V, C, D]."""
    paths = Paths(options.data / path for path in videos.paths)
    found = raw_pixels.pixels(VideoList(paths, torch.from_numpy(videos.labels)), options.placement)
    return {PIXELS: found[:, : videos.clips].numpy()}


def measure(name: str, model: Encoder | None, options: argparse.Namespace) -> None:
    """Writes OUT/NAME/SPLIT.json: predictions by every protocol on every output. `model` None: raw pixels."""
    sets = read_sets(options.data, options.toys)
    folder = options.out / name
    folder.mkdir(parents=True, exist_ok=True)
    for split in read_splits(options.data, sets).values():
        file = folder / f"{split.name}.json"
        if (split.name not in options.tests and not split.name.startswith("toy")) or file.exists():
            continue
        videos = sets[split.videos]
        features = folder / f"{split.videos}.npz"
        if not features.exists():
            arrays = pixels(videos, options) if model is None else outputs(model, videos, options)
            with replacing(features) as path, path.open("wb") as stream:
                np.savez(stream, **arrays)
        with np.load(features) as stored:
            arrays = dict(stored)
        found = answers(arrays, videos, split, options.logistic)
        with replacing(file) as path:
            path.write_text(json.dumps(found) + "\n")


def answers(arrays: dict[str, np.ndarray], videos: Videos, split: Split, logistic: list[str]) -> dict[str, list[int]]:
    """Predictions [V] by "PROTOCOL OUTPUT"."""
    found = {}
    for name, values in arrays.items():
        found[f"knn {name}"] = knn_predictions(values, videos, split, standardize=name != EMBEDDING).tolist()
        if name in logistic:
            found[f"logistic {name}"] = logistic_predictions(values, videos, split).tolist()
    return found


def table(options: argparse.Namespace) -> str:
    """Everything in OUT as Markdown, in percent: a table for each protocol and output, a row for each encoder.

    A cell has the mean and standard deviation over seeds, or of one run the 95 % interval over groups. The columns "unseen"
    count the videos alone that training did not see.
    """
    sets = read_sets(options.data, options.toys)
    splits = read_splits(options.data, sets)
    cells: dict[str, dict[str, dict[str, list[tuple[float, ...]]]]] = {}  # protocol, encoder, column: a triple for each seed
    for split in splits.values():
        videos = sets[split.videos]
        for file in sorted(options.out.glob(f"*/{split.name}.json")):
            encoder_name, _, seed = file.parent.name.rpartition("-")
            name = encoder_name if seed.isdigit() else file.parent.name
            for protocol, predictions in json.loads(file.read_text()).items():
                values = np.array(predictions)
                row = cells.setdefault(protocol, {}).setdefault(name, {})
                row.setdefault(split.name, []).append(score(values, videos, split))
                unseen = ~videos.seen & (values >= 0)
                if unseen.any() and not unseen[values >= 0].all():
                    row.setdefault(f"{split.name}, unseen", []).append(score(values, videos, split, unseen))
    tables = []
    for protocol, encoders in sorted(cells.items()):
        names = [
            name for split in splits for name in (split, f"{split}, unseen") if any(name in row for row in encoders.values())
        ]
        lines = [f"| {protocol} | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
        lines += [
            f"| {name} | {' | '.join(_cell(encoders[name].get(column, [])) for column in names)} |" for name in sorted(encoders)
        ]
        tables.append("\n".join(lines))
    return "\n\n".join(tables) + "\n"


def _cell(runs: list[tuple[float, ...]]) -> str:
    """One number of a table, or its mean over several seeds."""
    if not runs:
        return ""
    means = [100 * run[0] for run in runs]
    if len(runs) > 1:
        return f"{statistics.mean(means):.1f} ± {statistics.stdev(means):.1f} ({len(runs)} seeds)"
    return f"{means[0]:.1f} ({100 * runs[0][1]:.1f} to {100 * runs[0][2]:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of photos/, footage/, ucf101_subset20/ and tank_state4/")
    parser.add_argument("--out", type=Path, default=Path("runs/footage"), help="folder for everything")
    parser.add_argument("--weights", nargs="+", default=[], help="weight folders, or names of published sets")
    parser.add_argument("--untrained", nargs="+", default=[], help="models to measure with random weights")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the random weights")
    parser.add_argument("--toys", type=Path, help="folder of worlds.moving_textures: name its objects and motions, too")
    parser.add_argument("--raw-pixels", action="store_true", help="measure raw pixels")
    parser.add_argument("--placement", choices=get_args(Placement), default="even", help="where the clips lie")
    parser.add_argument("--tests", nargs="+", default=TESTS)
    parser.add_argument("--logistic", nargs="*", default=["encode_10", PIXELS], help="outputs for logistic regression")
    parser.add_argument("--workers", type=int, default=2, help="processes that read videos")
    options = parser.parse_args()
    check_placement(options.out, options.placement)
    if options.raw_pixels:
        measure(PIXELS, None, options)
    for weights in options.weights:
        measure(Path(weights).name, load(weights), options)
    for name in options.untrained:
        for seed in options.seeds:
            measure(f"{name}-untrained-{seed}", encoder(name, None, seed), options)
    text = table(options)
    (options.out / "report.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
