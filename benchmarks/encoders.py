"""Times extraction with other packages' encoders against a loop written by hand, on your videos.

Both decode each video once, with as many processes, and embed the same clips in batches of the same size. The loop decodes
with the same function as extraction; then it does what a user of the package writes: timm's transform of each picture, or the
processor of transformers for each clip, and the model on a batch. Weights are random. "over the loop" is the median over rounds
of extraction's time divided by the loop's.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import vie_models as vie
from vie_models.video.clips import PLACES
from vie_models.video.sources import open_video

from .measure import Table, add_common, medians, ratio, report, turns

MODELS = ("timm:vit_small_patch16_224,untrained,frames=4,interval=5", "hf:videomae")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", nargs="+", type=Path, help="video files to extract from")
    add_common(parser, rounds=3)
    parser.add_argument("--models", nargs="+", default=MODELS, help="models to run; hf:videomae has random weights")
    parser.add_argument("--clips", type=int, default=5, help="clips per video")
    parser.add_argument("--copies", type=int, default=12, help="videos per extraction: links to the files")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode")
    parser.add_argument("--batch-size", type=int, default=4, help="clips per forward pass")


def small_videomae(folder: Path) -> None:
    """Saves a VideoMAE of the size of ViT-S, with random weights."""
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536, "num_hidden_layers": 12}
    transformers.VideoMAEModel(transformers.VideoMAEConfig(**sizes)).save_pretrained(folder)
    transformers.VideoMAEVideoProcessor().save_pretrained(folder)


class Clips(Dataset[torch.Tensor]):
    """The clips of each video, prepared as a user of the package does: [clips, T, 3, H, W]."""

    def __init__(self, name: str, encoder: Any, paths: list[Path], clips: int) -> None:
        self.paths, self.clips, self.spec = paths, clips, encoder.clip_spec
        if name.startswith("timm:"):
            import timm

            self.prepare = timm.data.create_transform(**timm.data.resolve_data_config({}, model=encoder.module))
        else:
            import transformers

            self.prepare = transformers.AutoVideoProcessor.from_pretrained(name.removeprefix("hf:").partition(",")[0])
        self.pictures = name.startswith("timm:")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> torch.Tensor:
        with open_video(self.paths[number], self.spec.fps, threads=1) as video:
            wanted = [clip.indices for clip in PLACES["even"](video.num_frames, self.spec, self.clips)]
            return torch.stack([self.prepared(np.asarray(frames)) for frames in video.read(wanted)])

    def prepared(self, clip: np.ndarray) -> torch.Tensor:
        if self.pictures:
            return torch.stack([self.prepare(Image.fromarray(frame)) for frame in clip])
        return self.prepare(list(clip), return_tensors="pt")["pixel_values"][0]


def by_hand(name: str, encoder: Any, paths: list[Path], options: argparse.Namespace) -> None:
    """PyTorch's DataLoader prepares videos; a loop embeds batches of clips and saves them."""
    loader = DataLoader(Clips(name, encoder, paths, options.clips), batch_size=None, num_workers=options.workers)
    waiting: list[torch.Tensor] = []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for number, clips in enumerate(loader):
            waiting += clips
            last = number == len(paths) - 1
            while len(waiting) >= options.batch_size or (last and waiting):
                x = torch.stack(waiting[: options.batch_size]).to(options.device)
                del waiting[: options.batch_size]
                if encoder.layout.images:
                    found = encoder.module(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(1)
                else:
                    found = encoder.module(x).last_hidden_state.mean(1)
                np.save(Path(folder) / f"{number}-{len(waiting)}.npy", found.cpu().numpy())


def ours(encoder: Any, paths: list[Path], options: argparse.Namespace) -> None:
    settings = {"clips": options.clips, "workers": options.workers, "batch_size": options.batch_size, "device": options.device}
    with tempfile.TemporaryDirectory() as folder:
        records = vie.Extractor(encoder, **settings).extract(paths, folder)
    assert all(record.status == "ok" for record in records)


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    table = Table(
        f"Extraction, {options.clips} clips of each of {options.copies} videos, {options.workers} workers",
        ["model", "by hand, s", "extraction, s", "over the loop"],
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        links = [folder / f"{i:03d}{options.videos[i % len(options.videos)].suffix}" for i in range(options.copies)]
        for i, link in enumerate(links):
            link.symlink_to(options.videos[i % len(options.videos)].resolve())
        for model in options.models:
            word = model
            if model == "hf:videomae":
                small_videomae(folder / "videomae")
                word = f"hf:{folder / 'videomae'},interval=4"
            encoder = vie.load_encoder(word).to(options.device)
            jobs = {
                "by hand": lambda word=word, encoder=encoder: by_hand(word, encoder, links, options),
                "extraction": lambda encoder=encoder: ours(encoder, links, options),
            }
            seconds = turns(jobs, options.rounds, options.device, warmup=1)
            middle = medians(seconds)
            table.rows.append([model, middle["by hand"], middle["extraction"], ratio(seconds, "extraction", "by hand")])
            print(table.rows[-1], flush=True)
    report("encoders", options.device, [table], options.out)
