"""Extracts features of many videos to one file per video, with a manifest that lists every video.

Worker processes decode and crop. The model runs in this process, on batches of clips that may come from different videos. Every
batch has the same size (the last one is padded), so features do not depend on which clips share a batch.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..clip_spec import ClipSpec, Placement
from ..devices import to_channels_last, to_device
from ..encoders.load import as_encoder
from ..encoders.protocol import OUTPUT, VideoEncoder, device_of
from ..files import identity
from ..models import Encoder
from ..models.precision import WrongArithmeticError, check_convolutions
from ..models.weight_folder import hash_of_weights
from ..progress import Progress
from ..video.frames import VideoError
from ..video.reader import VideoReader
from ..video.sampling import Sampling, read_open_video
from ..video.sources import PathOrURL, Source, open_video
from ..video.transforms import clip_transform
from .folder import FeatureFolder, Format, VideoRecord
from .inputs import Input, feature_name, find_inputs
from .pipeline import EmbeddedVideo, Pipeline

Arrays = dict[str, np.ndarray]
Result = tuple[VideoRecord, Arrays | None]
"""A video and its features: see `Extractor.features`. None if it failed."""


class Extractor:
    """Extracts embeddings and layer activations of videos with an encoder.

    Args:
        model: the encoder: one of VIE, any other with what `VideoEncoder` lists, the name of one (see `load_encoder`), or any
            module that takes clips [B, 3, T, H, W] (see `WrappedModule`), with its `clip_spec`. It is set to evaluation mode,
            and moved to `device` if that is given. On a GPU, a VIE encoder runs as a copy with the weights that it has now:
            fused (see `Encoder.fuse`), with channels last.
        clip_spec: the clips of a module that has no `clip_spec` of its own.
        layers: names of layers to extract besides the embedding (see `model.layer_names`; those of a module are the names that
            `named_modules()` gives).
        pool: "avg" averages each layer over space and time, [C]; None keeps whole feature maps, [C, T, H, W].
        clips: number of clips per video (default: 5, or sliding windows if `stride` is given).
        placement: where the clips lie: "even", evenly spaced from the start of the video to its end; "paper", as in the paper's
            evaluation of the model.
        window: length of a sliding window in seconds (default: the model's clip); its T frames are spread evenly over it.
        stride: seconds from the start of one sliding window to the start of the next.
        batch_size: number of clips per forward pass (default: 4 on CPU, 32 on other devices).
        workers: number of processes that decode (default: one per core, at most 16). With 0, this process decodes one video
            after the other. A single video is always decoded in this process.
        threads: number of threads per decoder (default: 1 in a worker; with workers=0, the decoder chooses).
        dtype: torch.float32, or torch.bfloat16 or torch.float16 for autocast; features are always float32. If convolutions in
            half precision give wrong results on this machine (this is tested), the extractor warns and uses float32.
        device: device that runs the model (default: the device it is on).
        compile: compile the model with torch.compile.
        time_limit: seconds without progress in a video after which its worker is stopped and the video counts as failed.

    Raises:
        ValueError: an argument has an invalid value; the message says which values are valid.
    """

    def __init__(
        self,
        model: VideoEncoder | nn.Module | str,
        *,
        clip_spec: ClipSpec | None = None,
        layers: Sequence[str] = (),
        pool: Literal["avg"] | None = "avg",
        clips: int | None = None,
        placement: Placement = "even",
        window: float | None = None,
        stride: float | None = None,
        batch_size: int | None = None,
        workers: int | None = None,
        threads: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device | None = None,
        compile: bool = False,
        time_limit: float = 300.0,
    ) -> None:
        if clips is None and stride is None:
            clips = 5
        model = as_encoder(model, clip_spec)
        if OUTPUT in model.check_layers(layers):
            raise ValueError(f'layers must not have "{OUTPUT}", the embedding, which is always there; leave it out')
        if pool not in ("avg", None):
            raise ValueError(f"pool must be 'avg' or None, got {pool!r}")
        if dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise ValueError(f"dtype must be torch.float32, bfloat16 or float16, got {dtype}")
        for name, value, minimum in (("batch_size", batch_size, 1), ("workers", workers, 0), ("threads", threads, 1)):
            if value is not None and value < minimum:
                raise ValueError(f"{name} must be >= {minimum}, got {value}")
        if not time_limit > 0:
            raise ValueError(f"time_limit must be > 0 seconds, got {time_limit}")
        self.sampling = Sampling(spec=model.clip_spec, clips=clips, placement=placement, window=window, stride=stride)
        self.model, self.layers, self.pool = model.eval(), list(dict.fromkeys(layers)), pool
        if device is not None:
            self.model.to(device)
        self.device = device_of(model)
        self.network, self.layout = model, torch.contiguous_format
        self._weights: str | None = None
        """The hash of the weights of a copy, because the model's may change after it was made."""
        if self.device.type == "cuda" and isinstance(model, Encoder):
            self.network, self.layout = _for_gpu(model), torch.channels_last_3d
            self._weights = hash_of_weights(model)
        self.dtype, self.time_limit, self.threads = dtype, time_limit, threads
        self.batch_size = batch_size or (4 if self.device.type == "cpu" else 32)
        share = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # torchrun's processes share the machine's cores
        self.workers = max(min(_cores() // share, 16), 1) if workers is None else workers
        if dtype != torch.float32:
            try:
                last = self.layout == torch.channels_last_3d
                check_convolutions(self.network, self.batch_size, dtype, gradients=False, channels_last=last)
            except WrongArithmeticError as error:
                warnings.warn(f"computing features in float32: {error}", stacklevel=2)
                self.dtype = torch.float32
        self._normalize = clip_transform(model).normalize
        self._run = torch.compile(self._maps) if compile else self._maps
        self._frozen = compile and self.device.type == "cpu"

    def features(self, source: Source, *, fps: float | None = None) -> tuple[Arrays, VideoRecord]:
        """Extracts the features of one video; decodes it in this process.

        Args:
            source: a video file (path, http(s) address, bytes or binary file object), a folder of `%06d.jpg` frames, or an
                array of frames, uint8 [T, H, W, 3].
            fps: frame rate of an array (required) or of a folder of frames (default: 25); not allowed for video files.

        Returns:
            (arrays, record). The arrays are `embedding` [clips, D]; one array per layer, [clips, C] or [clips, C, T, H, W];
            `start` and `end` [clips] and `frame_times` [clips, T], in seconds after the video's first frame; and `looped`
            [clips], which is true where a clip reached the end of the video and started again. A clip ends
            `clip_spec.seconds` (or a window's length) after its start, but at most at the end of the video.

        Raises:
            FileNotFoundError: the file does not exist.
            VideoError: no frame can be decoded.
            ValueError: `fps` is missing for an array, or given for a video file.
        """
        with open_video(source, self.sampling.spec.fps, source_fps=fps, threads=self.threads) as video:
            read = read_open_video(video, self.sampling)
            ((_, embedded),) = Pipeline(self.forward, self.batch_size).run((0, message) for message in read)
        record, arrays = self._result(embedded, feature_name(str(video.name)), str(video.name))
        assert arrays is not None
        return arrays, record

    def extract(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        out_dir: str | os.PathLike[str],
        *,
        root: str | os.PathLike[str] | None = None,
        format: Format = "npz",
        shard: tuple[int, int] = (0, 1),
        progress: bool = False,
    ) -> list[VideoRecord]:
        """Writes one file of features per readable video, and one manifest line per video.

        You can stop it at any time. Called again, it continues where it stopped: it keeps finished features and tries failed
        videos again.

        Args:
            paths: video files, their http(s) addresses, and folders. Files are tried whatever their name. Folders are searched
                for files with a video suffix and for folders of `%06d.jpg` frames. Features of a file go to
                OUT/<file name>.npz, those of a video found in a folder to OUT/<path in that folder>.npz, and those of an
                address to OUT/<host>/<path>.npz. Each .npz holds the arrays that `features` returns.
            out_dir: folder for the features and the manifest.
            root: folder that contains all paths; relative paths start there. Features go to OUT/<path in root>.npz.
            format: "npz", or "parquet" for one row per clip (needs the extra `parquet`; pooled layers only).
            shard: (i, N) processes part i of N of the videos. All N jobs may write to one folder.
            progress: show a progress bar, or a line a minute where there is no terminal.

        Returns:
            The records of all videos of this shard, in order. A bad video stops nothing: its record says why it failed.

        Raises:
            NothingReadError: there is no video.
            ValueError: two videos would get the same file, a path lies outside `root`, or `out_dir` has features made with
                other settings or weights, or from another file of the same name.
            BlockingIOError: another run is writing to `out_dir`.
        """
        self.check_format(format)
        out_dir = Path(out_dir)
        inputs = find_inputs(paths, None if root is None else Path(root), out_dir)
        with FeatureFolder(out_dir, self.settings(), format, shard) as folder:
            mine = inputs[shard[0] :: shard[1]]
            return fill_folder(folder, mine, lambda to_do: self.results([found.path for found in to_do]), progress=progress)

    def check_format(self, format: Format) -> None:
        """Raises ValueError for features that such a file cannot hold."""
        if format == "parquet" and self.layers and self.pool is None:
            raise ValueError("Parquet holds pooled layers only: use pool='avg' or format='npz'")

    def settings(self) -> dict[str, Any]:
        """Returns everything that the features depend on, as values that JSON can hold."""
        return {"weights": self._weights or hash_of_weights(self.model), **self.options()}

    def options(self) -> dict[str, Any]:
        """Returns the settings without the hash of the weights."""
        return {
            "model": self.model.model_name,
            "clip_spec": json.loads(json.dumps(self.sampling.spec.to_dict())),
            "clips": self.sampling.clips,
            "placement": None if self.sampling.clips is None else self.sampling.placement,
            "window": self.sampling.window,
            "stride": self.sampling.stride,
            "layers": self.layers,
            "pool": self.pool,
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    def results(self, paths: Sequence[PathOrURL]) -> Iterator[tuple[int, VideoRecord, Arrays | None]]:
        """Yields (index of the path, record, arrays as `features` returns them) of each video, in the order they finish.

        The arrays are None if the video failed.
        """
        settings, versions = self.settings(), {**_versions(), **self.model.source}
        with VideoReader(
            paths,
            self.sampling,
            workers=min(self.workers, len(paths)) if len(paths) > 1 else 0,
            threads=self.threads,
            time_limit=self.time_limit,
            ahead=2 * self.batch_size,
        ) as reader:
            alone = reader.paused if self.device.type == "cpu" else contextlib.nullcontext
            for number, embedded in Pipeline(self.forward, self.batch_size, alone).run(reader):
                path = paths[number]
                record, arrays = self._result(embedded, feature_name(path), str(path))
                with contextlib.suppress(OSError):  # the record already gives the reason
                    record.size, record.fingerprint = identity(path)
                record.settings, record.versions = settings, versions
                yield number, record, arrays

    def _result(self, video: EmbeddedVideo | VideoError, name: str, path: str) -> Result:
        """Returns the record of a video, without its size, and its arrays."""
        if isinstance(video, VideoError):
            return VideoRecord(name, path, "failed", video.reason), None
        assert video.end
        fps = self.sampling.spec.fps
        arrays = {"embedding" if name == OUTPUT else name: np.stack(values) for name, values in video.outputs.items()}
        arrays |= {name: np.array([getattr(clip, name) for clip in video.clips]) for name in ("start", "end", "looped")}
        arrays["frame_times"] = np.array([clip.indices for clip in video.clips]) / fps
        record = VideoRecord(
            name,
            path,
            "damaged" if video.end.damage else "ok",
            video.end.damage,
            clips=len(video.clips),
            looped=sum(clip.looped for clip in video.clips),
            duration=video.end.num_frames / fps,
            video=video.end.metadata,
        )
        return record, arrays

    def forward(self, clips: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Runs the model on at most `batch_size` clips, each uint8 [T, 3, crop, crop], padded to a full batch.

        Returns {"output": [batch_size, D], layer: [batch_size, C] or [batch_size, C, T, H, W]}, on the device.
        """
        pixels = torch.from_numpy(np.stack([*clips, *[clips[-1]] * (self.batch_size - len(clips))]))
        half = torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
        # without freezing, compiled code converts the layout of every weight at every call
        freezing = torch._inductor.config.patch(freezing=True) if self._frozen else contextlib.nullcontext()
        with torch.inference_mode(), half, freezing:
            return self._run(self._normalize(to_device(pixels, self.device), memory_format=self.layout))

    def outputs(self, clips: Iterable[np.ndarray], name: str = OUTPUT) -> Iterator[np.ndarray]:
        """Yields what `forward` returns by a name for clips, each uint8 [T, 3, crop, crop]: float32 [n, ...] for each batch."""
        to_come = iter(clips)
        while batch := list(itertools.islice(to_come, self.batch_size)):
            yield self.forward(batch)[name][: len(batch)].float().cpu().numpy()

    def _maps(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.network.forward_layers(x, [*self.layers, OUTPUT])
        if self.pool is None:
            return maps
        return {name: value if value.ndim == 2 else value.mean((2, 3, 4)) for name, value in maps.items()}


def _for_gpu(model: Encoder) -> Encoder:
    """Returns a copy, fused and with weights in channels last, that gives the same numbers to rounding."""
    fused = model.fuse()
    to_channels_last(fused)
    return fused


def fill_folder(
    folder: FeatureFolder,
    inputs: Sequence[Input],
    embed: Callable[[Sequence[Input]], Iterable[tuple[int, VideoRecord, Arrays | None]]],
    *,
    progress: bool = False,
) -> list[VideoRecord]:
    """Writes the features and the record of every input that the folder does not have yet.

    Args:
        folder: the folder, entered.
        inputs: what was found.
        embed: yields (number, record, arrays) of each of some inputs, in any order. The arrays are None for a video that
            failed, or whose features it has written itself.
        progress: show a progress bar, or a line a minute where there is no terminal.

    Returns:
        The records of all inputs, in order.
    """
    records: dict[int, VideoRecord] = {}
    for number, found in enumerate(inputs):
        if done := folder.finished(found.name, found.path):
            records[number] = done
        elif not found.is_video:
            reason = "its name has no video suffix; pass the file itself to try it"
            records[number] = VideoRecord(found.name, str(found.path), "skipped", reason)
            folder.write(records[number])
    to_do = [number for number in range(len(inputs)) if number not in records]
    made = failures = 0
    with Progress(len(to_do), "video", show=progress) as bar:
        for i, record, arrays in embed([inputs[number] for number in to_do]):
            record.name = inputs[to_do[i]].name
            folder.write(record, arrays)
            records[to_do[i]] = record
            made, failures = made + record.clips, failures + (record.status == "failed")
            bar.note(f"{made / max(bar.seconds, 1e-9):.1f} clips/s, {failures} failed")
            bar.update()
    return [records[number] for number in sorted(records)]


def _versions() -> dict[str, str]:
    from ..version import __version__

    versions = {"vie_models": __version__, "torch": torch.__version__}
    with contextlib.suppress(ModuleNotFoundError):  # packs and folders of frames are read without it
        import av

        versions |= {"av": av.__version__, "libavcodec": ".".join(map(str, av.library_versions["libavcodec"]))}
    return versions


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
