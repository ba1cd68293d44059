"""Measures kNN on raw pixels, as a baseline: `python -m reproduce.raw_pixels --train-list L --val-list L --root R -o OUT`.

Nearest neighbors are found as in `vie eval knn`. The embedding of a clip is four frames, 0.8 s apart, at 16 x 16 pixels, minus
the mean of the training clips, scaled to unit length. Writes results.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import vie_models as vie
from vie_models.bank.voting import knn_of_rows
from vie_models.clip_spec import Placement
from vie_models.datasets.lists import VideoList, class_names, read_list
from vie_models.evaluate.results import Results, write_results
from vie_models.video.clips import PLACES
from vie_models.video.sources import open_video

CLIPS, SIDE = 5, 16
SPEC = vie.ClipSpec(num_frames=4, frame_interval=20)


def pixels(videos: VideoList, placement: Placement = "even") -> Tensor:
    """Returns the pixels of V videos, [V, CLIPS, 4 * SIDE * SIDE * 3], from 0 to 1."""
    place, found = PLACES[placement], []
    for path in videos.paths:
        with open_video(path, SPEC.fps) as video:
            chosen = place(video.num_frames, SPEC, CLIPS)
            clips = torch.stack([torch.as_tensor(frames) for frames in video.read([clip.indices for clip in chosen])])
        frames = F.interpolate(clips.flatten(0, 1).permute(0, 3, 1, 2).float() / 255, (SIDE, SIDE), mode="area")
        found.append(frames.reshape(CLIPS, -1))
    return torch.stack(found)


def evaluate(train_list: Path, val_list: Path, root: Path, out: Path) -> Results:
    """Evaluates kNN on raw pixels, writes results.json to `out` and returns the results."""
    train, val = read_list(train_list, root), read_list(val_list, root)
    known, asked = pixels(train), pixels(val)
    mean = known.mean((0, 1))
    rows = F.normalize((known - mean).mean(1), dim=1)
    num_classes = int(max(train.labels.max(), val.labels.max())) + 1
    scores = knn_of_rows(F.normalize(asked - mean, dim=2), rows, train.labels, 10, 0.07, num_classes).scores
    settings = {"val_list": str(val_list), "weights": "no weights"}
    about = {"task": "knn", "model": "raw pixels", "weights": "none", "settings": settings}
    top = {"knn": scores.topk(min(5, num_classes)).indices}
    results = Results(about, [str(path) for path in val.paths], val.labels, top, class_names(val_list))
    write_results(out, results)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--train-list", "--val-list"):
        parser.add_argument(flag, type=Path, required=True, help="list file with labels")
    parser.add_argument("--root", type=Path, default=Path(), help="folder that paths in the lists are relative to")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for results.json")
    options = parser.parse_args()
    found = evaluate(options.train_list, options.val_list, options.root, options.out).summary("knn")
    print(f"raw pixels: top-1 {100 * found['top1']:.1f} %")


if __name__ == "__main__":
    main()
