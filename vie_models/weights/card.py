"""The model card of a weight set, README.md of its Hub repository: prose for people, and facts that `publish` checks.

The facts stand in the YAML block at its top: license, library, measured numbers (`model-index`, as the Hub reads them), and
under `vie_models` the architecture, the number of parameters and the SHA-256 of every other file.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..clip_spec import ClipSpec
from ..files import replacing, sha256_of
from ..models import Encoder
from ..models.cost import count_flops, count_parameters, output_size
from .errors import WeightsError
from .folder import load_folder, write_whole

CARD = "README.md"
USE, FILES = "## Use", "## Files"
"""Headings of the sections that `write_published_card` replaces."""
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


def card(about: About, model: Encoder, sha256: Mapping[str, str], sizes: Mapping[str, int], load: str) -> str:
    """The text of a card.

    Args:
        about: what only its author knows.
        model: the encoder, on any device.
        sha256: of each file beside the card, in hexadecimal.
        sizes: their lengths in bytes.
        load: Python that loads them, with vie_models as `vie`.
    """
    from huggingface_hub import EvalResult, ModelCardData

    data = ModelCardData(
        license=about.license,
        library_name="vie_models",
        pipeline_tag="video-classification",
        tags=["video", "self-supervised", "video-instance-embedding", "feature-extraction"],
        model_name=about.name,
        eval_results=[
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
        or None,
        vie_models=facts(model, sha256),
    )
    spec = model.clip_spec
    lines = [
        "---",
        data.to_yaml().strip(),
        "---",
        f"# {about.name}",
        about.summary,
        USE,
        "```python",
        "import torch, vie_models as vie",
        f"model = {load}",
        *_embed(model),
        "```",
        "## Model",
        *_table(["", ""], [
            ["architecture", model.model_name],
            ["sizes", ", ".join(f"{key}={value}" for key, value in model.model_args.items() if value is not None)],
            ["parameters", f"{count_parameters(model):,}"],
            ["cost", f"{gflops(model)} GFLOP a clip (a multiply-add counts as two)"],
            ["clip", _clip(spec)],
            ["output", f"{output_size(model)}-d unit embedding; {model.num_features} pooled features"],
        ]),
        "## Intended use",
        about.intended_use,
        "## Limits",
        about.limits,
        "## Training data",
        about.training_data,
        "## Training",
        about.procedure,
        *(["```", *about.commands, "```"] if about.commands else []),
        "## Evaluation",
        *_evaluation(about),
        FILES,
        *_files(sha256, sizes),
        "## License and citation",
        about.license_text,
        "```bibtex",
        CITATION,
        "```",
    ]  # fmt: skip
    return _spaced(lines)


def write_card(folder: Path, about: About, *, load: str | None = None) -> None:
    """Writes README.md of a weight folder; the hashes in it are those of the files as they are published (see write_whole).

    Its code loads this folder, or what `load` says; `write_published_card` makes it load the repository.
    """
    load = load or f"vie.from_pretrained({json.dumps(folder.as_posix())})"
    with tempfile.TemporaryDirectory() as made:
        write_whole(folder, Path(made))
        files = [path for path in sorted(Path(made).iterdir()) if path.name != CARD]
        sha256 = {path.name: sha256_of(path) for path in files}
        text = card(about, load_folder(folder), sha256, {path.name: path.stat().st_size for path in files}, load)
    with replacing(folder / CARD) as path:
        path.write_text(text)


def write_published_card(folder: Path, repo_id: str, model: Encoder) -> None:
    """Brings README.md of a folder to be published up to date: how to load it from `repo_id`, and its files' hashes."""
    from huggingface_hub import ModelCard

    files = [path for path in sorted(folder.iterdir()) if path.name != CARD]
    sha256 = {path.name: sha256_of(path) for path in files}
    published = ModelCard((folder / CARD).read_text())
    published.data["vie_models"] = {**published.data["vie_models"], "sha256": sha256}
    text = str(published)
    text = _with_section(text, USE, use(repo_id, model))
    text = _with_section(text, FILES, _files(sha256, {path.name: path.stat().st_size for path in files}))
    with replacing(folder / CARD) as path:
        path.write_text(text)


def use(where: str, model: Encoder) -> list[str]:
    """Lines of Markdown: code that loads the set in a Hub repository ("org/name"), and embeds or classifies a video, in each of
    the ways there are.
    """
    embed = _output(model)
    lines = [
        "With vie_models:",
        "```python",
        "import torch, vie_models as vie",
        f'model = vie.from_pretrained("{where}")',
        *_embed(model),
        "```",
        "With timm 1.0 or newer:",
        "```python",
        "import timm, torch, vie_models as vie",
        f'model = timm.create_model("hf-hub:{where}", pretrained=True).eval()',
        *_embed(model),
        "```",
        "With torch.hub, from a clone of vie_models:",
        "```python",
        "import torch",
        f'model, transform = torch.hub.load("path/to/vie_models", "vie_embedder", "{where}", source="local")',
        f"frames = torch.zeros({model.clip_spec.num_frames}, 240, 320, 3, dtype=torch.uint8)  # your clip [T, H, W, 3]",
        "with torch.inference_mode():",
        f"    {embed} = model(transform(frames)[None])  # {_shape(model)}",
        "```",
        "With transformers, which runs the code in this repository; that code needs vie_models too:",
        "```python",
        "import torch",
        f"from transformers import {_auto(model)}, AutoVideoProcessor",
        f'model = {_auto(model)}.from_pretrained("{where}", trust_remote_code=True)',
        f'processor = AutoVideoProcessor.from_pretrained("{where}", trust_remote_code=True)',
        "with torch.inference_mode():",
        f'    {embed} = model(**processor("video.mp4", return_tensors="pt")).{embed}  # {_shape(model)}',
        "```",
    ]
    if model.num_classes:
        lines += [
            "```python",
            "from transformers import pipeline",
            f'classify = pipeline("video-classification", "{where}", trust_remote_code=True)',
            'classify("video.mp4")  # [{"score": ..., "label": ...}, ...]',
            "```",
        ]
    return lines


def _auto(model: Encoder) -> str:
    return "AutoModelForVideoClassification" if model.num_classes else "AutoModel"


def _output(model: Encoder) -> str:
    return "logits" if model.num_classes else "embedding"


def _embed(model: Encoder) -> list[str]:
    return [
        'clip = vie.load_clip("video.mp4", model.clip_spec)  # uint8 [T, H, W, 3]',
        "with torch.inference_mode():",
        f"    {_output(model)} = model(vie.clip_transform(model)(clip)[None])  # {_shape(model)}",
    ]


def _shape(model: Encoder) -> str:
    return f"[1, {output_size(model)}]" + (", unit length" if model.num_classes is None else "")


def _with_section(text: str, heading: str, lines: Sequence[str]) -> str:
    """Replaces what stands under a heading of a card, up to the next one."""
    before, _, rest = text.partition(f"\n{heading}\n")
    if not rest:
        raise WeightsError(f"{CARD} has no section {heading!r}: write the card again (vie card)")
    after = rest.find("\n## ")
    return f"{before}\n{heading}\n\n{_spaced(lines)}{rest[after:]}"


def _files(sha256: Mapping[str, str], sizes: Mapping[str, int]) -> list[str]:
    return _table(["file", "bytes", "SHA-256"], [[name, f"{sizes[name]:,}", digest] for name, digest in sha256.items()])


def facts(model: Encoder, sha256: Mapping[str, str]) -> dict[str, Any]:
    """What stands under `vie_models` in a card."""
    return {
        "architecture": model.model_name,
        "parameters": count_parameters(model),
        "gflops": gflops(model),
        "sha256": dict(sha256),
    }


def gflops(model: Encoder) -> float:
    """Cost of one clip in 1e9 floating-point operations, to three digits."""
    return float(f"{count_flops(model) / 1e9:.3g}")


def _clip(spec: ClipSpec) -> str:
    apart = f"{spec.num_frames} frames, {spec.frame_interval} apart at {spec.fps:g} fps ({spec.seconds:g} s)"
    frames = "1 frame" if spec.num_frames == 1 else apart
    return f"{frames}; short side {spec.resize}, center crop {spec.crop} pixels"


def _evaluation(about: About) -> list[str]:
    columns = ["videos", "protocol", "top-1 of these weights, %"]
    rows = [[one.dataset, one.protocol, f"{one.value:g}", one.spread, one.source] for one in about.measured]
    titles = [*columns, "mean ± standard deviation over seeds, or 95 % interval", "source"]
    keep = [i for i in range(len(titles)) if i < len(columns) or any(row[i] for row in rows)]
    table = _table([titles[i] for i in keep], [[row[i] for i in keep] for row in rows]) if rows else ["Not known."]
    return [*table, *([about.evaluation] if about.evaluation else [])]


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (titles, ["---"] * len(titles), *rows)]


def _spaced(lines: Sequence[str]) -> str:
    """With an empty line between blocks: around headings, paragraphs, tables and listings."""
    text, listing = "", False
    for before, line in zip(["", *lines], lines, strict=False):
        together = listing or (before.startswith("|") and line.startswith("|"))
        text += line if not text else ("\n" if together else "\n\n") + line
        listing ^= line.startswith("```") or line == "---"
    return text + "\n"
