"""Makes checkpoints/ from trained weights: `python -m reproduce.checkpoints DATA WORLD [--training OUT] [--results FOOTAGE]`.

DATA and WORLD are those of reproduce.footage_world; the weights are those of reproduce.footage_training. The weights of seed 0
become <model>.natural, with memory bank and card. A two-pathway set refers to its two pathways. The numbers on a card are what
`python -m reproduce.footage DATA --weights checkpoints/*.natural` found before. The catalog is read from the cards. Then
`python -m reproduce.names DATA --write` adds to the new cards how many votes a name needs.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
from huggingface_hub import ModelCard

from vie_models.models import model_entry
from vie_models.models.weight_folder import read_config
from vie_models.video.packed import open_pack
from vie_models.weights.card import About, Measured, write_card
from vie_models.weights.catalog import CARD
from vie_models.weights.joined import join

from .footage import EMBEDDING
from .footage_tests import read_sets, read_splits, score
from .footage_world import read_table

HERE = Path(__file__).parent.parent / "checkpoints"
TAG = "natural"
SINGLES = ["vie_single_tiny", "vie_3dresnet_tiny", "vie_slowfast_tiny", "vie_single_small", "vie_slowfast_small"]
JOINED = {f"vie_twopathway_{size}": (f"vie_single_{size}", f"vie_slowfast_{size}") for size in ("tiny", "small")}
SEES = {
    "single": "one frame, and so what is seen and not how it moves",
    "3dresnet": "16 successive frames, {seconds:g} s",
    "slowfast": "16 frames over {seconds:g} s, in a slow and a fast pathway",
    "twopathway": "what its two pathways see: single frames, and 16 frames over {seconds:g} s",
}
TESTS = {
    "ucf": "20 UCF101 classes, groups left out",
    "fights": "fights among street scenes",
    "tank": "states of a loading bay",
    "caltech 15": "Caltech-101, 15 to learn from",
    "caltech 30": "Caltech-101, 30 to learn from",
}


def sources(data: Path, world: Path) -> str:
    """A table of what was trained on: source, license and number."""
    tables = {"photos": "photos/photos.csv", "footage": "footage/footage.csv", "ucf101_subset20": "ucf101_subset20/labels.csv"}
    of_path = {f"{folder}/{row['path']}": row for folder, file in tables.items() for row in read_table(data / file)}
    ucf = ("UCF101 (by way of Satyamwork43/Video_App)", "offered for research; no license text")
    counts: Counter[tuple[str, str, str]] = Counter()
    for kind in ("photos", "videos"):
        for row in open_pack(world / "91" / kind).rows:
            found = of_path[row.path.partition("#")[0]]
            source, license = (found["source"], found["licence"]) if "source" in found else ucf
            counts[kind, source, license] += 1
    kinds = {"photos": "photographs", "videos": "videos"}
    lines = [f"| {n} {kinds[kind]} | {source} | {license} |" for (kind, source, license), n in sorted(counts.items())]
    return "\n".join(["| number | source | license as the source states it |", "|---|---|---|", *lines])


def about(model: str, commands: list[str], measured: list[Measured], table: str) -> About:
    sees = SEES[model.split("_")[1]].format(seconds=model_entry(model).clip_spec.seconds)
    texts = {
        "license_text": """Weights and memory bank: free to use for research. Their authors add no conditions of their own, but
            some of the photographs and videos that they learned from are offered for research or non-commercial use alone:
            see the table above. vie_models itself is Apache-2.0.""",
        "summary": f"""A small video encoder that learned without labels, by Video Instance Embedding (VIE), from photographs in
            motion and real footage. It sees {sees}. It comes with vie_models and is loaded without a network.""",
        "procedure": "Both pathways were trained by themselves and put together."
        if model in JOINED
        else """Instance recognition, with the softmax over the whole memory bank, which began with the embeddings of one pass.
            Dynamic encoders begin with clips of 48 pixels and end with clips of 64. training.json has every setting.
            ROOT is WORLD/91 of `python -m reproduce.footage_world DATA WORLD`. The commands give the same bytes with
            one thread (OMP_NUM_THREADS=1) and the same PyTorch on a CPU of the same kind; `python -m
            reproduce.footage_training WORLD` runs them.""",
        "intended_use": """Features of real video on small machines, teaching, tests, and trying out code that will run larger
            encoders.""",
        "limits": """It learned from some thousand pictures, not from Kinetics: larger encoders trained on more know far more.
            Its accuracy on other videos than those below is not known. Photographs show mostly objects; people in action are
            rare.""",
        "evaluation": """Names by the nearest embeddings (kNN), or by logistic regression on the last layer. Of UCF101, groups 8
            to 25 and of the fights every second video were trained on without their labels; docs/reproduction.md has the others
            apart, and beside these numbers raw pixels, untrained encoders and other methods. Intervals are 95 %, over groups of
            recordings, videos or photographs. `python -m reproduce.footage` prints them.""",
    }
    one_line = {name: " ".join(text.split()) for name, text in texts.items()}
    training_data = f"""Photographs and videos of {len(table.splitlines()) - 2} sources, without labels. A photograph became a
video of 3 s by a camera that moves over it, with cut-outs of other photographs in front
(`python -m reproduce.worlds.photo_motion`, level 5). The
memory bank carries the names that the sources give (classes.txt); training did not use them.

{table}"""
    return About(
        name=f"{model}.{TAG}",
        license="other",
        license_name="free for research",
        commands=commands,
        measured=measured,
        training_data=training_data,
        **one_line,
    )


def measured_of(name: str, data: Path, results: Path) -> list[Measured]:
    """What reproduce.footage found for a set."""
    sets, found = read_sets(data), []
    for split in read_splits(data, sets).values():
        file = results / name / f"{split.name}.json"
        if split.name in TESTS and file.exists():
            predictions = json.loads(file.read_text())
            for protocol, key in (("knn", f"knn {EMBEDDING}"), ("logistic", "logistic encode_10")):
                mean, low, high = (100 * x for x in score(np.array(predictions[key]), sets[split.videos], split))
                spread = f"{low:.1f} to {high:.1f}"
                found.append(Measured(dataset=TESTS[split.name], protocol=protocol, value=round(mean, 1), spread=spread))
    return found


def commands_of(weights: Path, model: str, name: str) -> list[str]:
    """The commands that make a set, which is exported to `name`."""
    commands = []
    for run, out in ((f"{model}-first-0", f"{model}-first-0"), (f"{model}-0", name)):
        if (file := weights / run / "training.json").exists():
            commands += [str(read_config(file)["command"]), f"vie export RUN {out} --dtype float16"]
    return commands


def make(model: str, options: argparse.Namespace, table: str) -> None:
    """Makes the weight folder of one of our models, from whose card the catalog takes its record."""
    folder = HERE / f"{model}.{TAG}"
    shutil.rmtree(folder, ignore_errors=True)
    parts = [HERE / f"{part}.{TAG}" for part in JOINED.get(model, ())]
    if parts:
        join(*parts, folder)
        shutil.copy(parts[0] / "classes.txt", folder)
        commands = [f"vie join {parts[0].name} {parts[1].name} {folder.name}"]
    else:
        shutil.copytree(options.training / "weights" / f"{model}-0", folder)
        commands = commands_of(options.training / "weights", model, folder.name)
    measured = measured_of(folder.name, options.data, options.results)
    load = f'vie.create_model("{folder.name}")'
    write_card(folder, about(model, commands, measured, table), load=load)
    card = ModelCard((folder / CARD).read_text())
    card.data["vie_models"] = {**card.data["vie_models"], "measured_by": "reproduce/footage.py"}
    (folder / CARD).write_text(str(card) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of photographs and videos")
    parser.add_argument("world", type=Path, help="folder of reproduce.footage_world")
    parser.add_argument("--training", type=Path, default=Path("runs/footage-training"), help="output of footage_training")
    parser.add_argument("--results", type=Path, default=Path("runs/footage"), help="output of reproduce.footage")
    options = parser.parse_args()
    table = sources(options.data, options.world)
    for model in [*SINGLES, *JOINED]:
        make(model, options, table)


if __name__ == "__main__":
    main()
