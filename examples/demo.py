"""From videos to features, names and neighbours, with weights that come with the package: `python examples/demo.py OUT`.

Renders six videos of moving objects. A two-pathway encoder, trained without labels on 1536 such videos, extracts their
features, names their motions by votes of its memory bank, and finds the nearest training videos: by appearance (static pathway)
and by motion (dynamic pathway). OUT/neighbours.png shows the neighbours, whose videos are rendered again for it.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import vie_models as vie
from vie_models.datasets.encode import write_mp4
from vie_models.datasets.moving_textures import FPS, MOTIONS, OBJECTS, SIZE, Factors, draw_splits, render
from vie_models.evaluate.predict import predict

MODEL = "vie_twopathway_tiny"
NEIGHBOURS, FRAMES, GAP = 2, 4, 10


def strip(factors: Factors, caption: str) -> Image.Image:
    """Draws frames of a video side by side, 0.6 s apart, under a caption and what the video shows."""
    frames = render(factors)[:: int(0.6 * FPS)][:FRAMES]
    sheet = Image.new("RGB", (FRAMES * SIZE + GAP, SIZE + 28), "white")
    text = f"{caption}\n{OBJECTS[factors.thing]}, {MOTIONS[factors.motion]}"
    ImageDraw.Draw(sheet).multiline_text((0, 0), text, fill="black")
    sheet.paste(Image.fromarray(np.concatenate(list(frames), axis=1)), (0, 28))
    return sheet


def main(out: Path) -> None:
    """Renders videos, extracts features, names motions and draws neighbours; writes everything to `out`."""
    model = vie.create_model(MODEL, pretrained=True)
    bank = vie.load_memory_bank(MODEL)["memory_bank"]
    splits = draw_splits(len(bank))
    test, n = splits["val"], len(MOTIONS)  # sorted by scene; each scene has all motions
    shown = [next(f for f in test[n * i : n * (i + 1)] if f.motion == 2 * i) for i in range(n // 2)]
    videos = [out / "videos" / f"{i}.mp4" for i in range(len(shown))]
    videos[0].parent.mkdir(parents=True, exist_ok=True)
    for path, factors in zip(videos, shown, strict=True):
        write_mp4(path, render(factors), FPS)

    records = vie.Extractor(model, layers=["static.encode_10", "dynamic.encode_10"]).extract(videos, out / "features")
    embeddings = torch.stack([torch.from_numpy(np.load(out / "features" / r.features)["embedding"]).mean(0) for r in records])
    print(f"features of {sum(record.clips for record in records)} clips of {len(videos)} videos: {out / 'features'}")

    for found in sorted(predict(videos, MODEL), key=lambda found: found.path):
        factors = shown[int(Path(found.path).stem)]
        names = ", ".join(f"{name} {100 * share:.0f} %" for name, share in found.names[:3])
        print(f"{Path(found.path).name} shows {OBJECTS[factors.thing]}, {MOTIONS[factors.motion]}; votes: {names}")

    halves = {"static": slice(0, 128), "dynamic": slice(128, 256)}
    rows = []
    for i, factors in enumerate(shown):
        row = [strip(factors, f"{i}.mp4")]
        for pathway, half in halves.items():
            similarity = bank[:, half] @ embeddings[i, half]
            row += [strip(splits["train"][k], f"nearest, {pathway}") for k in similarity.topk(NEIGHBOURS).indices.tolist()]
        rows.append(np.concatenate([np.asarray(image) for image in row], axis=1))
    Image.fromarray(np.concatenate(rows)).save(out / "neighbours.png")
    print(f"nearest training videos by appearance and by motion: {out / 'neighbours.png'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
