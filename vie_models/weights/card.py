"""The model card of a weight set, README.md of its Hub repository: prose for people, and data that `publish` checks.

The data stand in the YAML block at its top: license, library, measured numbers (`model-index`, as the Hub reads them), and
under `vie_models` the architecture, the number of parameters and the SHA-256 of every other file.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import replacing, sha256_of
from ..models import Encoder, WeightsError
from ..models.cost import count_flops, count_parameters, output_size
from ..models.weight_folder import load_folder
from .catalog import CARD
from .joined import write_published

TEMPLATE = Path(__file__).with_name("card.md")
CITATION = """@inproceedings{zhuang2020unsupervised,
  title = {Unsupervised Learning from Video with Deep Neural Embeddings},
  author = {Zhuang, Chengxu and She, Tianwei and Andonian, Alex and Sobol Mark, Max and Yamins, Daniel},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2020}
}"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """One number of a card: an accuracy in percent."""

    dataset: str
    protocol: str
    value: float
    """Of these weights."""
    spread: str = ""
    """Mean and spread over runs that differ in their seed, in words."""
    source: str = ""
    """Who measured it, where it was not measured here."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """What a card says that is not in the files themselves. Each text is Markdown."""

    name: str
    """`model.tag`."""
    license: str
    """The Hub's identifier ("apache-2.0"); "other" where it is none of those."""
    license_name: str | None = None
    """Name of another license."""
    license_text: str
    """What it means here, in a sentence."""
    summary: str
    training_data: str
    procedure: str
    """How they were trained."""
    commands: Sequence[str]
    """Those that make these weights again."""
    intended_use: str
    limits: str
    measured: Sequence[Measured] = ()
    evaluation: str = ""
    """What is to be said of the numbers."""


def stated(fields: Mapping[str, Any], source: object) -> About:
    """Makes an `About` of its author's statements. ValueError names `source` if they are not the fields of a card."""
    american = {name.replace("licence", "license"): value for name, value in fields.items()}  # as 0.2 spelled it
    try:
        return About(**american)
    except TypeError as error:
        known = ", ".join(field.name for field in dataclasses.fields(About))
        raise ValueError(f"{source} must have the fields of a card ({known}): {error}") from error


def write_card(folder: Path, about: About, *, load: str | None = None) -> None:
    """Writes README.md of a weight folder; the hashes in it are those of the files as they are published (`write_published`).

    Its code loads this folder, or what `load` says; `write_published_card` makes it load the repository.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    model = load_folder(folder)
    with tempfile.TemporaryDirectory() as made:
        write_published(folder, Path(made))
        checked = checked_data(model, Path(made))
        sizes = {path.name: path.stat().st_size for path in Path(made).iterdir()}
    results = [
        EvalResult(
            task_type="video-classification",
            dataset_type=one.dataset.lower().replace(" ", "-"),
            dataset_name=one.dataset,
            metric_type="accuracy",
            metric_name=one.protocol,
            metric_value=one.value,
        )
        for one in about.measured
    ]
    data = ModelCardData(
        license=about.license,
        license_name=about.license_name,
        library_name="vie_models",
        pipeline_tag="video-classification",
        tags=["video", "self-supervised", "video-instance-embedding", "feature-extraction"],
        model_name=about.name,
        eval_results=results or None,
        vie_models=checked,
    )
    card = ModelCard.from_template(
        data,
        template_str=TEMPLATE.read_text(),
        about=about,
        checked=checked,
        sizes=sizes,
        load=load or f"vie.from_pretrained({json.dumps(folder.as_posix())})",
        citation=CITATION,
        **_use(model),
    )
    with replacing(folder / CARD) as path:
        path.write_text(str(card) + "\n")


def write_published_card(folder: Path, repo_id: str, model: Encoder) -> None:
    """Makes the code in README.md of a folder to be published load the set from `repo_id`."""
    import jinja2

    template = jinja2.Template(TEMPLATE.read_text())
    section = "".join(template.blocks["use"](template.new_context({"repo_id": repo_id, **_use(model)})))
    before, use, rest = (folder / CARD).read_text().partition("\n## Use\n")
    if not use:
        raise WeightsError(f"{CARD} has no section 'Use': write the card again (vie card)")
    with replacing(folder / CARD) as path:
        path.write_text(before + use + section + rest[rest.find("\n## ") :])


def checked_data(model: Encoder, folder: Path) -> dict[str, Any]:
    """Returns what stands under `vie_models` in the card of a folder as it is published, and `publish.check` compares."""
    return {
        "architecture": model.model_name,
        "parameters": count_parameters(model),
        "gflops": float(f"{count_flops(model) / 1e9:.3g}"),
        "sha256": {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.name != CARD},
    }


def _use(model: Encoder) -> dict[str, Any]:
    """Returns what the template says of an encoder."""
    spec = model.clip_spec
    many = f"{spec.num_frames} frames, {spec.frame_interval} apart at {spec.fps:g} fps ({spec.seconds:g} s)"
    return {
        "model": model,
        "sizes_of_model": ", ".join(f"{key}={value}" for key, value in model.model_args.items() if value is not None),
        "frames": "1 frame" if spec.num_frames == 1 else many,
        "output": "logits" if model.num_classes else "embedding",
        "output_size": output_size(model),
    }
