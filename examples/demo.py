"""From a TensorFlow checkpoint and a video file to features on disk: `python examples/demo.py OUT`.

The video is rendered here. The weights are those of tests/reference/checkpoint-3.tar, which TensorFlow wrote after three
training steps of a narrow 3DResNet: they show that everything is wired, and see nothing.
"""

import sys
from pathlib import Path

import av
import numpy as np

import vie_models as vie
from vie_models.weights.store import convert_tensorflow

CHECKPOINT = Path(__file__).parent.parent / "tests" / "reference" / "checkpoint-3.tar"


def render(path: Path, direction: int) -> None:
    """Four seconds of a bright disc that swings over a pattern, 25 fps, 160 x 120."""
    y, x = np.mgrid[:120, :160]
    background = 90 + 40 * np.sin(x / 9) * np.cos(y / 7)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for t in range(100):
            swing = 40 * np.sin(2 * np.pi * t / 50)
            centre_x, centre_y = (80 + swing, 60) if direction else (80, 60 + swing)
            disc = (x - centre_x) ** 2 + (y - centre_y) ** 2 < 15**2
            image = np.where(disc, 240, background).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.stack([image, image // 2, background.astype(np.uint8)], -1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def main(out: Path) -> None:
    """Renders, converts, embeds, extracts, all into `out`."""
    videos = [out / "videos" / name for name in ("up_down.mp4", "left_right.mp4")]
    videos[0].parent.mkdir(parents=True, exist_ok=True)
    for direction, video in enumerate(videos):
        render(video, direction)

    convert_tensorflow(CHECKPOINT, out / "weights", "vie_3dresnet")
    model = vie.from_pretrained(out / "weights")
    print(f"weights: {CHECKPOINT.name}, width {model.model_args['width']}, three training steps old: for wiring only")

    clip = vie.load_clip(videos[0], model.clip_spec, start=1.0)
    embedding = model(vie.clip_transform(model)(clip)[None])
    print(f"one clip of {videos[0].name}: frames {list(clip.shape)} -> unit embedding {list(embedding.shape)}")

    for record in vie.Extractor(model, layers=["encode_6", "encode_10"]).extract(videos, out / "features"):
        with np.load(out / "features" / record.features) as features:
            shapes = ", ".join(f"{name} {list(features[name].shape)}" for name in features)
        print(f"{record.path}: {record.status}, {record.duration:.2f} s, {record.clips} clips -> {record.features}: {shapes}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
