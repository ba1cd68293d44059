"""Extracts features of videos and prints a summary: `python examples/extract_features.py OUT VIDEOS... [--weights FOLDER]`.

OUT gets one .npz per video and manifest.jsonl. If you stop the script, the same command continues from there.
"""

import argparse
from collections import Counter

import numpy as np

import vie_models as vie


def main() -> None:
    """Extracts features, loads them and prints a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="folder for the features")
    parser.add_argument("videos", nargs="+", help="video files, and folders to search")
    parser.add_argument("--model", default="vie_3dresnet", help="name of a model or weight set")
    parser.add_argument("--weights", help="your own weights, as checkpoint_path of create_model (default: the published ones)")
    parser.add_argument("--layers", nargs="*", default=[], help="layers to extract besides the embedding")
    parser.add_argument("--stride", type=float, help="seconds between sliding windows (default: 5 clips per video instead)")
    args = parser.parse_args()

    model = vie.create_model(args.model, pretrained=args.weights is None, checkpoint_path=args.weights)
    extractor = vie.Extractor(model, layers=args.layers, stride=args.stride)
    records = extractor.extract(args.videos, args.out, progress=True)
    print(", ".join(f"{number} {status}" for status, number in Counter(r.status for r in records).items()))
    for record in records:
        if record.status in ("failed", "damaged"):
            print(f"  {record.name}: {record.reason}")

    features = vie.load_features(args.out)
    for name, array in features.arrays.items():
        print(f"{name}: {list(array.shape)} {array.dtype}")
    embedding, video = features.arrays["embedding"], features.table["name"]
    similarity = embedding @ embedding.T
    same = video[:, None] == video[None]
    print(f"{len(set(video))} videos, {len(video)} clips from {features.table['start'].min():.2f} s on")
    print(f"mean cosine of two clips of one video {similarity[same & ~np.eye(len(video), dtype=bool)].mean():.3f}, ", end="")
    print(f"of different videos {similarity[~same].mean():.3f}" if (~same).any() else "and there is only one video")


if __name__ == "__main__":
    main()
