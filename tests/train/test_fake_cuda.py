"""Training on a CUDA device that is not there: it computes what the CPU computes, and no step waits for the device."""

import functools
import json

import numpy as np
import pytest
import torch
from support import runs
from support.fake_cuda import fake_cuda
from support.ranks import on_ranks
from support.runs import assert_same_end, losses, newest

import vie_models as vie
from vie_models.bank import MemoryBank, World, kmeans, knn
from vie_models.evaluate.predict import load_predictor
from vie_models.models import precision
from vie_models.models.precision import check_convolutions, cudnn_fault
from vie_models.train import Run, pretrain
from vie_models.train.loading import Batch
from vie_models.video.color_jitter import change_colors, change_colors_affinely, draw_colors
from vie_models.video.transforms import clip_transform, train_transform

CUDA = torch.device("cuda:0")
OBJECTIVES = {
    "IR": dict(ir_steps=100),
    "exact IR": dict(ir_steps=100, noise=0),
    "LA": dict(ir_steps=0),
    "jitter on the device": dict(ir_steps=100, augment="device"),
    "affine jitter on the device": dict(ir_steps=100, augment="device", augmentation="affine_jitter"),
    "in parts": dict(ir_steps=100, accumulate=2),
    "supervised": dict(objective="supervised"),
    "rotation": dict(objective="rotation"),
    "order": dict(objective="order"),
    "readout": dict(objective="readout"),
}
KERNELS = 900
"""More than any objective's step needs: about 45 for each convolution with its norm, and those of a jitter on the device."""


# Width 4 has strided 1x1 convolutions of 4 channels. With channels last, PyTorch 2.14 crashes in them on a CPU with AVX2 alone.
config, transfer_config = (functools.partial(make, width=8) for make in (runs.config, runs.transfer_config))


def of(settings: dict, corpus, out, device: str):
    make = transfer_config if "objective" in settings else config
    return make(corpus, out, dtype="float32", **{**settings, "device": device})


def clips(run: Run, step: int) -> Batch:
    """Smooth clips, the same ones on any device."""
    spec, draws = run.model.clip_spec, torch.Generator().manual_seed(step)
    shape = (run.config.batch_size, spec.num_frames, 3, spec.crop, spec.crop)
    frames = torch.randint(256, shape, dtype=torch.uint8, generator=draws)
    recipe = train_transform(spec, run.config.augmentation).recipe
    drawn = [draw_colors(draws) for _ in range(len(frames))] if recipe != "random_crop" else None
    colors = torch.tensor(drawn, dtype=torch.float64) if run.config.augment == "device" else None
    return Batch(frames, torch.randperm(len(run.videos), generator=draws)[: len(frames)], [], colors)


def two_steps(run: Run) -> tuple[float, torch.Tensor]:
    """Returns the mean loss of two steps, and by how much they changed the weights."""
    before = flat(run)
    for step in range(2):
        batch = clips(run, step)
        run.train_step(batch.pin_memory() if run.ranks.device.type == "cuda" else batch)
    return run.metrics()["loss"], flat(run) - before


def flat(run: Run) -> torch.Tensor:
    return torch.cat([p.detach().cpu().flatten() for p in run.model.parameters()])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_on_the_device_is_the_cpus_and_waits_for_nothing(corpus, tmp_path, name):
    settings = OBJECTIVES[name]
    loss, change = two_steps(Run(of({**settings, "channels_last": True}, corpus, tmp_path, "cpu")))
    with fake_cuda() as device:
        run = Run(of(settings, corpus, tmp_path, "cuda"), World(device=CUDA))
        found = two_steps(run)
        batch = clips(run, 2).pin_memory()  # the constants are there now, and LA has its clusters
        device.reset()
        run.train_step(batch)
        assert not device.waits
        assert sum(device.kernels.values()) < KERNELS
        others = (batch.indices.nbytes + batch.frames.nbytes, 20_000)  # of noise, views and changes of colors
        assert device.copied < sum(others)
    assert found[0] == pytest.approx(loss, rel=1e-3)
    assert (found[1] - change).norm() < 0.05 * change.norm()  # clips are normalized in another order, and ReLUs have kinks


@pytest.mark.parametrize("change", [change_colors, change_colors_affinely])
def test_colors_of_a_batch_change_in_a_few_passes(change):
    draws = torch.Generator().manual_seed(0)
    frames = torch.randint(256, (16 * 2, 3, 24, 24), dtype=torch.uint8, generator=draws)
    colors = torch.tensor([draw_colors(draws) for _ in range(16)], dtype=torch.float64)
    expected = frames.clone()
    change(expected, colors)
    with fake_cuda() as device:
        ours = frames.pin_memory().to(CUDA, non_blocking=True)
        device.reset()
        change(ours, colors)
        assert not device.waits
        kernels = sum(device.kernels.values())
        ours = ours.cpu()
    assert kernels < (450 if change is change_colors else 15)  # 16 groups of changes in sequence; one affine map
    assert (ours.int() - expected.int()).abs().max() <= 1
    assert (ours != expected).float().mean() < 1e-3


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_clips_are_normalized_in_one_kernel(dtype, layout):
    transform = clip_transform(vie.create_model("vie_3dresnet_tiny"))
    frames = torch.randint(256, (2, 4, 3, 16, 16), dtype=torch.uint8)
    expected = transform.normalize(frames)
    with fake_cuda() as device:
        ours = frames.pin_memory().to(CUDA, non_blocking=True)
        transform.normalize(ours)
        device.reset()
        found = transform.normalize(ours, dtype, layout)
        assert (found.dtype, sum(device.kernels.values()), sum(device.waits.values())) == (dtype, 1, 0)
        assert found.is_contiguous(memory_format=layout)
        found = found.cpu()
    np.testing.assert_allclose(found.float(), expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-6)


def test_the_bank_kmeans_and_votes():
    v = torch.nn.functional.normalize(torch.randn(12, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    indices = torch.tensor([0, 1, 39, 2, 1, -1, 3, 0, 5, 6, -1, 7])
    labels = torch.arange(40) % 3

    def results(device: torch.device) -> list:
        bank = MemoryBank(40, 16, seed=1, world=World(device=device))
        for _ in range(2):
            bank.update(indices.to(device), v.to(device))
        rows = indices.clamp(min=0).to(device)
        nearest = bank.nearest(v.to(device), 9)
        dots = bank.dots(v.to(device), nearest[1])
        clusters = kmeans(bank.rows, 5, iterations=4)
        votes = knn(v.view(4, 3, 16), bank, labels, k=5)
        found = [bank.rows, bank.gather(rows), bank.all_dots(v.to(device)), *nearest, dots, clusters.labels, votes.scores]
        return [x.cpu() for x in found]

    expected = results(torch.device("cpu"))
    with fake_cuda():
        found = results(CUDA)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_run_is_stopped_and_goes_on(corpus, tmp_path):
    """Reading, pinned copies, checkpoints, validation, the bank filled first; then the same from a checkpoint."""
    changes = dict(
        steps=5,
        ir_steps=2,
        val_list=corpus / "val",
        validate_every=3,
        val_clips=1,
        model="vie_single_tiny",
        bank_start="embeddings",
        dtype="float32",
    )
    plain = pretrain(config(corpus, tmp_path / "cpu", **changes), progress=False)
    with fake_cuda():
        changes["device"] = "cuda"
        whole = pretrain(config(corpus, tmp_path / "whole", **changes), progress=False)
        pretrain(config(corpus, tmp_path / "parts", **{**changes, "steps": 3}), progress=False)
        parts = pretrain(config(corpus, tmp_path / "parts", **changes), progress=False)
    assert_same_end(whole, parts)
    np.testing.assert_allclose(losses(whole), losses(plain), rtol=1e-3)
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [line["gpu_gib"] for line in lines if "loss" in line] == [1.0] * 5
    assert [line["knn_top1"] for line in lines if "knn_top1" in line] == [
        line["knn_top1"] for line in map(json.loads, (plain / "metrics.jsonl").read_text().splitlines()) if "knn_top1" in line
    ]
    assert newest(whole)[0]["config"]["channels_last"]


def test_a_gpu_trains_in_bfloat16_unless_the_run_began_otherwise(corpus, tmp_path):
    with fake_cuda():
        run = Run(config(corpus, tmp_path / "new", device="cuda", dtype="auto"), World(device=CUDA))
        assert (run.config.dtype, run.config.channels_last) == ("bfloat16", True)
        assert run.optimizer.defaults["fused"]
    pretrain(config(corpus, tmp_path / "run", steps=1), progress=False)
    with fake_cuda():
        assert Run(config(corpus, tmp_path / "run", device="cuda", steps=2), World(device=CUDA)).config.dtype == "float32"


@pytest.mark.parametrize(
    ("changes", "mode"),
    [
        ({}, "reduce-overhead"),
        ({"accumulate": 2}, None),
        ({"device": "cpu"}, None),
        ({"model": "vie_single", "width": 64}, None),
    ],
)
def test_small_encoders_compile_into_cuda_graphs(corpus, tmp_path, monkeypatch, changes, mode):
    modes = []
    monkeypatch.setattr(torch, "compile", lambda network, mode=None: modes.append(mode) or network)
    settings = dict(model="vie_single_tiny", device="cuda", dtype="float32", compile=True) | changes
    with fake_cuda():
        Run(config(corpus, tmp_path, **settings), World(device=settings["device"]))
    assert modes == [mode]


def test_the_precision_check_draws_its_noise_on_the_device(monkeypatch):
    monkeypatch.setattr(precision, "PASSED", set())
    model = vie.create_model("vie_3dresnet_tiny")
    with fake_cuda() as device:
        model.to(CUDA)
        device.reset()
        check_convolutions(model, 2, torch.bfloat16, channels_last=True)
        assert device.copied == 0
    assert len(precision.PASSED) > 5


@pytest.mark.parametrize(
    ("version", "named"), [(90701, None), (90800, "9.8.0"), (91002, "9.10.2"), (91500, None), (8902, None)]
)
def test_faulty_releases_of_cudnn_are_named(version, named):
    fault = cudnn_fault(version)
    assert (fault is None) if named is None else (named in fault and "--dtype float32" in fault)


def test_extraction_and_prediction(corpus, pretrained):
    model = vie.create_model("vie_single_tiny", pretrained=True)
    expected = vie.Extractor(model, workers=0).features(corpus / "3.mp4")[0]
    with fake_cuda():
        ours = vie.Extractor(vie.create_model("vie_single_tiny", pretrained=True), workers=0, device="cuda")
        found = ours.features(corpus / "3.mp4")[0]
        (named,) = load_predictor(pretrained).predict([corpus / "3.mp4"])
    np.testing.assert_allclose(found["embedding"], expected["embedding"], atol=1e-5)
    (on_cpu,) = load_predictor(pretrained).predict([corpus / "3.mp4"], device="cpu")
    assert named.reason is None
    assert named.confidence == pytest.approx(on_cpu.confidence)


@pytest.mark.parametrize("name", ["vie_single_tiny", "vie_3dresnet_tiny", "vie_slowfast_tiny"])
def test_a_gpu_extracts_with_a_fused_copy_and_channels_last(name):
    model = vie.create_model(name, pretrained=True).eval()
    layers = [*model.layer_names[:2], model.layer_names[-1]]
    spec, draws = model.clip_spec, np.random.default_rng(0)
    clip = draws.integers(0, 256, (spec.num_frames, 3, spec.crop, spec.crop), np.uint8)

    def outputs(device: str):
        extractor = vie.Extractor(
            vie.create_model(name, pretrained=True), layers=layers, pool=None, device=device, batch_size=1
        )
        seen, maps = [], extractor.network.forward_layers
        extractor.network.forward_layers = lambda x, names: seen.append(x) or maps(x, names)
        found = {key: value.inner if value.is_cuda else value for key, value in extractor.forward([clip]).items()}
        return extractor, found, seen[0]

    on_cpu, expected, _ = outputs("cpu")
    assert on_cpu.network is on_cpu.model  # nothing is made for the CPU: its features stay the same to the last bit
    with fake_cuda():
        on_gpu, found, x = outputs("cuda")
        ran, given = on_gpu.network, on_gpu.model
        assert (ran.fused, given.fused) == (True, False)
        assert x.is_contiguous(memory_format=torch.channels_last_3d)
        convs = [m.weight for m in ran.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Conv3d)]
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        assert all(weight.is_contiguous(memory_format=formats[weight.ndim]) for weight in convs)
        assert on_gpu.settings() == on_cpu.settings()
        with torch.no_grad():
            next(given.parameters()).add_(1)
        assert on_gpu.settings() == on_cpu.settings()  # the weights that run, not the model's new ones
    assert set(found) == {*layers, "output"}
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=0, atol=1e-4 * float(value.abs().max()))


def agreements(ranks: World, corpus, out) -> tuple[list[int], dict]:
    """Returns in which of 20 steps the run should stop: its rank 1 reads no video in step 3, and is told to stop in step 12."""
    run = Run(config(corpus, out, steps=100, log_every=1000, save_every=1000), ranks)
    run._on_gpu, said = True, []
    for step in range(20):
        failures = [(7, "no video")] if (ranks.rank, step) == (1, 3) else []
        said.append(run.agree(Batch(None, None, failures), stop=ranks.rank == 1 and step >= 12, say=lambda _: None))
        run.step += 1
    return [k for k, stop in enumerate(said) if stop], run._failed


def test_several_gpus_agree_every_tenth_step(corpus, tmp_path):
    (tmp_path / "run").mkdir()
    for stops, failed in on_ranks(2, agreements, corpus, tmp_path / "run"):
        assert stops == [19]
        assert {index: one["step"] for index, one in failed.items()} == {7: 3}
