"""Finds the videos most similar to a clip: `python examples/nearest_neighbors.py FEATURES NAME OUT.png [--clip 0]`.

FEATURES is a folder that `vie extract` or examples/extract_features.py wrote, and NAME is a video in it. OUT.png shows the
query's frames in the first row. Each row below shows the nearest clip of another video, with its cosine similarity.
"""

import argparse

import numpy as np
from PIL import Image, ImageDraw

import vie_models as vie

FRAMES, SIZE = 6, 112


def row(path: str, times: np.ndarray, caption: str) -> Image.Image:
    """Draws frames of one clip side by side, under a caption."""
    times = times[np.linspace(0, len(times) - 1, FRAMES).round().astype(int)]
    sheet = Image.new("RGB", (FRAMES * SIZE, SIZE + 14), "white")
    ImageDraw.Draw(sheet).text((2, 1), caption, fill="black")
    spec = vie.ClipSpec(num_frames=1)
    for k, time in enumerate(times):
        frame = Image.fromarray(vie.load_clip(path, spec, start=float(time))[0].numpy())
        frame.thumbnail((SIZE, SIZE))
        sheet.paste(frame, (k * SIZE, 14))
    return sheet


def main() -> None:
    """Loads features, compares clips and draws the nearest ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", help="folder of features")
    parser.add_argument("name", help="name of the query video, as in the manifest")
    parser.add_argument("out", help="PNG file to write")
    parser.add_argument("--clip", type=int, default=0, help="index of the query clip in its video")
    parser.add_argument("--layer", default="embedding", help="features to compare")
    parser.add_argument("--neighbors", type=int, default=5, help="number of other videos")
    args = parser.parse_args()

    features = vie.load_features(args.features, [args.layer, "frame_times"])
    table, vectors = features.table, features.arrays[args.layer]
    query = np.flatnonzero((table["name"] == args.name) & (table["clip"] == args.clip))
    if not len(query):
        parser.error(f"no clip {args.clip} of {args.name} in {args.features}; it has {', '.join(sorted(set(table['name'])))}")
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = vectors @ vectors[query[0]]
    nearest = {table["name"][i]: i for i in similarity.argsort()}  # the most similar clip of each video
    others = [i for i in nearest.values() if table["name"][i] != args.name]
    rows = []
    for i in [query[0], *sorted(others, key=lambda i: -similarity[i])[: args.neighbors]]:
        caption = f"cosine {similarity[i]:.3f}: {table['name'][i]}, from {table['start'][i]:.2f} s"
        print(caption)
        rows.append(np.asarray(row(table["path"][i], features.arrays["frame_times"][i], caption)))
    Image.fromarray(np.concatenate(rows)).save(args.out)


if __name__ == "__main__":
    main()
