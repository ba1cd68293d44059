"""Makes checkpoints/ from the runs of reproduce.moving_textures: `python -m reproduce.checkpoints [--out RUNS]`.

The weights of seed 0 become <model>.textures, with memory bank and card. The two-pathway set refers to its two pathways. The
card of vie_3dresnet.k400 comes from its catalog record. Prints the catalog records of our sets, to be pasted into
vie_models/weights/catalog.py.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import vie_models as vie
from vie_models.evaluate.report import Row, measured_of, read_rows
from vie_models.files import sha256_of
from vie_models.weights.card import CARD, About, Measured, card, write_card
from vie_models.weights.catalog import CATALOG, Metric
from vie_models.weights.folder import BANK, CONFIG, MODEL, hash_of_weights, join, load_folder, read_bank, read_config

from .frozen_textures import frozen_test

HERE = Path(__file__).parent.parent / "checkpoints"
TAG = "textures"
MODELS = ("vie_single_tiny", "vie_3dresnet_tiny", "vie_slowfast_tiny", "vie_twopathway_tiny")
WORLD = "vie data moving-textures ROOT --videos 1536"
SEES = {
    "vie_single_tiny": "one frame, and so what is seen and not how it moves",
    "vie_3dresnet_tiny": "16 successive frames, 0.64 s",
    "vie_slowfast_tiny": "16 frames over 2.4 s, in a slow and a fast pathway",
    "vie_twopathway_tiny": "what its two pathways see: single frames, and 16 frames over 2.4 s",
}
RUN = {"vie_twopathway_tiny": "vie join vie_single_tiny.textures vie_slowfast_tiny.textures vie_twopathway_tiny.textures"}


def about(model: str, commands: list[str], measured: list[Measured]) -> About:
    texts = {
        "licence_text": """Apache-2.0, weights and memory bank. Trained by the authors of vie_models on videos that they
            render.""",
        "summary": f"""A small video encoder that learnt without labels, by Video Instance Embedding (VIE), from rendered
            videos of textured objects that move. It sees {SEES[model]}. It comes with vie_models and is loaded without a
            network.""",
        "training_data": f"""1536 rendered videos, 6 s of 80 x 80 pixels each: 128 scenes of 32 objects (shape and texture),
            each with all of 12 motions, on two cluttered backgrounds, with camera shake (`{WORLD}`, which renders them again).
            Labels were not used in training; the memory bank carries the videos' motions, named in classes.txt.""",
        "procedure": "Both pathways were trained by themselves and put together."
        if model in RUN
        else """Instance recognition (the softmax over the whole bank), then local aggregation, by the recipe of its name;
            training.json has every setting. Trained on one CPU core. Weights and bank were rounded to float16.""",
        "intended_use": """Demonstrations, teaching, tests, and trying out code that will run larger encoders: features,
            nearest neighbours and names come out of it in seconds on a laptop.""",
        "limits": """It has seen rendered toys and nothing else: do not use it for science about natural video. It was
            trained with 64-pixel crops.""",
        "evaluation": """object/val and motion/val: 768 test videos of known objects in 64 new scenes (chance 3.1 % and 8.3
            %); object/held_out: 384 videos of eight objects that training has not seen, named by 384 others (chance 12.5 %);
            motion/held_out: 768 videos of those objects; raw pixels and untrained encoders are in
            docs/moving-textures.md of vie_models. Names by the mean embeddings of the training videos (knn) or by a logistic
            regression on pooled features. Intervals are 95 %, of one run, as if videos of a scene were independent: for objects
            they are too narrow. `python -m reproduce.moving_textures` and `reproduce.transfer` print these numbers.""",
    }
    one_line = {name: " ".join(text.split()) for name, text in texts.items()}
    return About(name=f"{model}.{TAG}", licence="apache-2.0", commands=[WORLD, *commands], measured=measured, **one_line)


def make(model: str, runs: Path, rows: list[Row]) -> None:
    """Makes the weight folder of one of our models and prints its catalog record."""
    folder = HERE / f"{model}.{TAG}"
    shutil.rmtree(folder, ignore_errors=True)
    if model in RUN:
        join(HERE / f"{MODELS[0]}.{TAG}", HERE / f"{MODELS[2]}.{TAG}", folder)
        shutil.copy(HERE / f"{MODELS[0]}.{TAG}" / "classes.txt", folder)
        commands = [RUN[model]]
    else:
        shutil.copytree(runs / "weights" / f"{model}-0", folder)
        training = read_config(folder / "training.json")
        commands = [str(training["command"]), f"vie export RUN {model}.{TAG} --dtype float16"]
    encoder, bank = load_folder(folder), read_bank(folder)
    assert bank is not None
    measured = measured_of(hash_of_weights(encoder), rows)
    write_card(folder, about(model, commands, measured))
    files = {name: sha256_of(folder / name) for name in (CONFIG, MODEL, BANK) if (folder / name).exists()}
    if model in RUN:
        parts = (f"../{MODELS[i]}.{TAG}/{name}" for i in (0, 2) for name in (MODEL, BANK))
        files |= {part: sha256_of(folder / part) for part in parts}
    size = sum((folder / name).stat().st_size for name in files)
    top1 = {label: round(100 * share, 1) for label, share in frozen_test(encoder, bank["memory_bank"]).items()}
    print(f'_textures("{model}", {size}, {files}, {top1}),')


def k400() -> None:
    """Writes the card of the authors' weights, which are not in this repository but downloaded on first use."""
    record = CATALOG["vie_3dresnet.k400"]
    folder = HERE / record.name
    folder.mkdir(parents=True, exist_ok=True)
    model = vie.create_model(record.model)
    text = card(
        About(
            name=record.name,
            licence="other",
            licence_text="The authors state no licence for their weights. vie_models, which reads them, is Apache-2.0.",
            summary="VIE-3DResNet of the authors' release: a 3-D ResNet-18 that learnt from Kinetics-400 without labels.",
            training_data="239,888 videos of Kinetics-400, without their labels.",
            procedure=record.provenance,
            commands=[],
            intended_use="Features of natural videos: self-supervised video research, models of visual cortex, fine-tuning on "
            f"small data sets. The weights are fetched from {record.url} and converted at first use "
            f'(`create_model("{record.name}")`).',
            limits="Its accuracy as we load it has not been measured: the numbers below are the authors'. No hash of the file "
            "is published: that of the first fetch is recorded, and every later one must equal it.",
            measured=[_published(metric) for metric in record.metrics],
        ),
        model,
        {},
        {},
    )  # fmt: skip
    (folder / CARD).write_text(text)
    vie.save_pretrained(model, folder)
    (folder / MODEL).unlink()


def _published(metric: Metric) -> Measured:
    task, dataset, *which = metric.name.split(", ")
    return Measured(dataset=dataset, protocol=", ".join([task, *which]), value=metric.value, source=metric.source)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/moving-textures"), help="output of reproduce.moving_textures")
    parser.add_argument(
        "--results", type=Path, nargs="*", default=[], help="more folders with results, from reproduce.transfer"
    )
    options = parser.parse_args()
    k400()
    rows = read_rows([options.out, *options.results])
    for model in MODELS:
        make(model, options.out, rows)


if __name__ == "__main__":
    main()
