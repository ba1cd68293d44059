"""Features of a folder of videos, and a look at them: `python examples/extract_features.py OUT VIDEOS... [--weights FOLDER]`.

OUT gets one .npz a video and manifest.jsonl. Call it again to go on where it was stopped.
"""

import argparse
from collections import Counter

import numpy as np

import vie_models as vie


def main() -> None:
    """Extracts, loads, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="folder to write to")
    parser.add_argument("videos", nargs="+", help="video files, and folders to be searched")
    parser.add_argument("--model", default="vie_3dresnet", help="a model or weight set by name")
    parser.add_argument("--weights", help="your own: what create_model takes as checkpoint_path (default: the published ones)")
    parser.add_argument("--layers", nargs="*", default=[], help="layers beside the embedding, averaged over space and time")
    parser.add_argument("--stride", type=float, help="sliding windows, so many seconds apart, in place of 5 clips a video")
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
    print(f"of two videos {similarity[~same].mean():.3f}" if (~same).any() else "and there is only one video")


if __name__ == "__main__":
    main()
