"""The checkpoint reader, on a checkpoint that TensorFlow wrote, on ones written here, and on damaged ones."""

import io
import json
import random
import subprocess
import sys
import tarfile
import textwrap
import tracemalloc

import numpy as np
import pytest
import torch
from bundles import entry, field, write_bundle
from conftest import REFERENCE, reference_clip
from test_models import reference_errors

import vie_models as vie
from vie_models.models import MODELS, build_model
from vie_models.weights.tensor_bundle import DTYPES, CheckpointError, read_checkpoint
from vie_models.weights.tensorflow import tf_memory_bank, tf_names, tf_to_state_dict

TAR = REFERENCE / "checkpoint-3.tar"
NAME = "checkpoint-3"


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    """The tar's two files, as bytes: index and data."""
    with tarfile.open(TAR) as tar:
        return {suffix: tar.extractfile(NAME + suffix).read() for suffix in (".index", ".data-00000-of-00001")}


@pytest.fixture(scope="module")
def true_values():
    return {name: np.array(value) for name, value in read_checkpoint(TAR).items()}


# --- what TensorFlow wrote ----------------------------------------------------------------------------------------------


def test_every_variable_of_a_real_checkpoint(true_values):
    expected = json.loads((REFERENCE / "checkpoint-3_variables.json").read_text())
    assert set(true_values) == set(expected)
    for name, (shape, total) in expected.items():
        assert list(true_values[name].shape) == shape
        assert np.abs(true_values[name].astype(np.float64)).sum() == pytest.approx(total, rel=1e-9)


def test_activations_and_bank_of_a_real_checkpoint():
    model = vie.create_model("vie_3dresnet", checkpoint_path=TAR)
    reference = np.load(REFERENCE / "checkpoint-3_activations.npz")
    x = reference_clip(model.clip_spec, seed=3)
    errors = reference_errors(model, x, reference)
    assert len(errors) == 12
    assert max(errors.values()) <= 1e-4, errors
    variables = read_checkpoint(TAR)
    bank = tf_memory_bank(variables)
    np.testing.assert_allclose(bank["memory_bank"].norm(dim=1), reference["bank_norms"], rtol=1e-6)
    np.testing.assert_array_equal(bank["labels"], reference["all_labels"])
    with torch.inference_mode():
        products = model(x) @ bank["memory_bank"].T
    expected = reference["query_dot_products"]
    assert np.abs(products.numpy() - expected).max() <= 1e-4 * np.abs(expected).max()
    assert variables["global_step"] == reference["global_step"] == 3


@pytest.mark.parametrize("form", ["tar", "tar object", "prefix", "index", "folder"])
def test_forms_of_a_checkpoint(form, extracted, true_values, tmp_path):
    for suffix, content in extracted.items():
        (tmp_path / f"{NAME}{suffix}").write_bytes(content)
    source = {
        "tar": TAR,
        "tar object": io.BytesIO(TAR.read_bytes()),
        "prefix": str(tmp_path / NAME),
        "index": tmp_path / f"{NAME}.index",
        "folder": tmp_path,
    }[form]
    found = read_checkpoint(source)
    assert all(np.array_equal(found[name], value) for name, value in true_values.items())
    assert not found["global_step"].flags.writeable


# --- what we wrote ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shards", "gap"), [(1, 0), (3, 0), (1, 3), (4, 1)])
def test_round_trip(tmp_path, shards, gap):
    rng = np.random.default_rng(0)
    variables = {f"dtype/{k}": rng.integers(0, 2, (3, 4)).astype(dtype) for k, dtype in enumerate(DTYPES.values())}
    variables |= {f"scope/{k}/kernel": rng.standard_normal((k % 5, 2)).astype(np.float32) for k in range(300)}
    variables |= {"scalar": np.array(7, np.int64), "ünïcode": np.zeros(1, np.float32), "empty": np.zeros((0, 3), np.float32)}
    found = read_checkpoint(write_bundle(tmp_path / "x", variables, shards=shards, gap=gap))
    assert sorted(found) == sorted(variables)
    for name, value in variables.items():
        assert found[name].dtype == value.dtype
        assert found[name].shape == value.shape
        np.testing.assert_array_equal(found[name], value)


def refused(tmp_path, match, read="v", **options):
    prefix = write_bundle(tmp_path / "x", {"v": np.ones(4, np.float32)}, **options)
    with pytest.raises(CheckpointError, match=match):
        read_checkpoint(prefix)[read]


def test_what_is_not_supported_says_so(tmp_path):
    refused(tmp_path, "compressed", kind=1)
    refused(tmp_path, "big-endian", header=field(1, 1) + field(2, 1))
    refused(tmp_path, "shards", header=field(2, 0))
    for dtype in (7, 14, 20):  # string, bfloat16, resource
        refused(tmp_path, f"DataType {dtype}", entries={"v": entry(dtype, (4,), 0, 0, 16, 0)})
    refused(tmp_path, "slices", entries={"v": entry(1, (4,), 0, 0, 16, 0, extra=field(7, b"\x00"))})


def test_what_does_not_hold_together_is_refused(tmp_path):
    refused(tmp_path, "wants 2 shard", header=field(1, 2))
    refused(tmp_path, "there are 1", entries={"v": entry(1, (4,), 1, 0, 16, 0)})
    refused(tmp_path, "takes 20 bytes, index says 16", entries={"v": entry(1, (5,), 0, 0, 16, 0)})
    refused(tmp_path, "cut short", entries={"v": entry(1, (1 << 40,), 0, 0, 1 << 42, 0)})
    refused(tmp_path, "cut short", entries={"v": entry(1, (4,), 0, 1 << 60, 16, 0)})
    refused(tmp_path, "CRC-32C", entries={"v": entry(1, (4,), 0, 0, 16, 1)})
    refused(tmp_path, "unknown length", entries={"v": entry(1, ((1 << 64) - 1,), 0, 0, 16, 0)})


def test_sources_that_hold_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="no TensorFlow checkpoint at"):
        read_checkpoint(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"exactly one \*.index file, found 0"):
        read_checkpoint(tmp_path)
    packed = tmp_path / "x.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(TAR, "checkpoint.tar")
    with pytest.raises(CheckpointError, match="not an uncompressed tar"):
        read_checkpoint(packed)
    twice = tmp_path / "twice.tar"
    with tarfile.open(twice, "w") as tar:
        tar.add(TAR, "a/x.index")
        tar.add(TAR, "b/x.index")
    with pytest.raises(CheckpointError, match=r"two members named 'x.index'"):
        read_checkpoint(twice)
    linked = tmp_path / "linked.tar"
    with tarfile.open(linked, "w") as tar:
        link = tarfile.TarInfo("x.index")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(CheckpointError, match=r"expected one \*.index"):
        read_checkpoint(linked)


# --- damage -------------------------------------------------------------------------------------------------------------


def outcome(source, true_values) -> str:
    """ "refused", or "right" where every value is what it was; anything else fails the test."""
    try:
        found = dict(read_checkpoint(source))
    except CheckpointError:
        return "refused"
    assert set(found) == set(true_values)
    for name, value in true_values.items():
        assert found[name].dtype == value.dtype
        assert found[name].shape == value.shape
        assert np.array_equal(found[name], value), name
    return "right"


def test_every_flipped_byte_of_the_index(extracted, true_values, tmp_path):
    """Three masks at each position: all are refused but those in the footer's padding, which mean nothing."""
    index, data = (bytearray(content) for content in extracted.values())
    (tmp_path / f"{NAME}.data-00000-of-00001").write_bytes(data)
    file = tmp_path / f"{NAME}.index"
    harmless = set()
    for position in range(len(index)):
        for mask in (0x01, 0x80, 0xFF):
            index[position] ^= mask
            file.write_bytes(index)
            if outcome(file, true_values) == "right":
                harmless.add(position)
            index[position] ^= mask
    assert harmless <= set(range(len(index) - 48 + 4, len(index) - 8))


def damaged(rng: random.Random, content: bytes) -> bytes:
    """One of: a flipped bit, cut short, bytes put in, bytes taken out, bytes zeroed, a stretch swapped with another."""
    content = bytearray(content)
    start = rng.randrange(len(content))
    length = rng.randrange(1, 300)
    kind = rng.randrange(6)
    if kind == 0:
        content[start] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del content[start:]
    elif kind == 2:
        content[start:start] = rng.randbytes(length)
    elif kind == 3:
        del content[start : start + length]
    elif kind == 4:
        content[start : start + length] = bytes(len(content[start : start + length]))
    else:
        other = rng.randrange(len(content))
        stretch = min(length, len(content) - max(start, other))
        content[start : start + stretch], content[other : other + stretch] = (
            content[other : other + stretch],
            content[start : start + stretch],
        )
    return bytes(content)


@pytest.mark.parametrize(("seed", "cases"), [(0, 2_000), pytest.param(1, 20_000, marks=pytest.mark.slow)])
def test_random_damage_to_index_and_data(seed, cases, extracted, true_values, tmp_path):
    rng = random.Random(seed)
    limit = 4 * sum(map(len, extracted.values()))
    seen = {"refused": 0, "right": 0}
    for case in range(cases):
        victim = rng.choice(list(extracted))
        for suffix, content in extracted.items():
            (tmp_path / f"{NAME}{suffix}").write_bytes(damaged(rng, content) if suffix == victim else content)
        if case % 20 == 0:  # it sees Python's and NumPy's allocations, and is slow
            tracemalloc.start()
        seen[outcome(tmp_path / NAME, true_values)] += 1
        if case % 20 == 0:
            assert tracemalloc.get_traced_memory()[1] < limit
            tracemalloc.stop()
    assert seen["refused"] > 0.9 * cases


@pytest.mark.parametrize(("seed", "cases"), [(2, 500), pytest.param(3, 5_000, marks=pytest.mark.slow)])
def test_random_damage_to_the_tar(seed, cases, true_values):
    rng = random.Random(seed)
    whole = TAR.read_bytes()
    for case in range(cases):
        content = bytearray(whole)
        if case % 2:  # headers are a small part of a tar: aim at them
            header = rng.choice([0, 512 * (2 + 5884 // 512)])
            content[header + rng.randrange(512)] ^= 1 << rng.randrange(8)
        else:
            content = bytearray(damaged(rng, whole))
        outcome(io.BytesIO(content), true_values)


# --- the name map -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].reference])
def test_names_are_those_of_the_reference(name):
    listed = json.loads((REFERENCE / "variables.json").read_text())[MODELS[name].reference]
    with torch.device("meta"):
        model = build_model(name)
    names = tf_names(model)
    assert set(names) == {variable for variable, _ in listed}
    assert set(names.values()) == {key for key in model.state_dict() if "num_batches_tracked" not in key}


def test_the_map_is_strict_both_ways(true_values):
    model = build_model("vie_3dresnet", width=4)

    def refuse(variables, match, model=model):
        with pytest.raises(CheckpointError, match=match):
            tf_to_state_dict(variables, model)

    kernel = "resnet_model/conv3d_3/kernel"
    refuse({k: v for k, v in true_values.items() if k != kernel}, f"1 missing .{kernel}")
    refuse(true_values | {"resnet_model/conv3d_99/kernel": np.zeros(1)}, "1 unknown .resnet_model/conv3d_99/kernel")
    refuse(true_values | {kernel: true_values[kernel][..., :2]}, f"{kernel} gives stages.0.0.conv2.weight the shape")
    refuse(true_values, "is its width another", build_model("vie_3dresnet", width=8))
    refuse(true_values, "missing", build_model("vie_slowfast", width=4))
    refuse(true_values, "build vie_3dresnet with num_classes=None", build_model("vie_3dresnet", width=4, num_classes=5))


def test_memory_bank_needs_its_labels(true_values):
    assert tf_memory_bank({}) is None
    with pytest.raises(CheckpointError, match="one label a row"):
        tf_memory_bank({"instance/memory_bank": true_values["instance/memory_bank"]})


# --- memory -------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux counts it")
def test_reading_a_full_size_checkpoint_costs_little_more_than_its_size(tmp_path):
    shapes = json.loads((REFERENCE / "variables.json").read_text())["3dresnet"]
    rng = np.random.default_rng(0)
    variables = {name: rng.random(shape, np.float32) for name, shape in shapes}
    size = sum(value.nbytes for value in variables.values())
    assert size == pytest.approx(133e6, rel=0.01)
    prefix = write_bundle(tmp_path / "full", variables)
    code = f"""
        import pathlib, torch
        from vie_models.models import build_model
        from vie_models.weights.tensor_bundle import read_checkpoint
        from vie_models.weights.tensorflow import tf_to_state_dict
        with torch.device("meta"):
            model = build_model("vie_3dresnet")
        def status(field):  # in bytes
            lines = pathlib.Path("/proc/self/status").read_text().splitlines()
            return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = status("VmRSS")
        state = tf_to_state_dict(read_checkpoint({str(prefix)!r}), model)
        print(status("VmHWM") - before)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    print(f"reading costs {int(done.stdout) / size:.2f} x {size / 1e6:.0f} MB")
    assert size <= int(done.stdout) <= 1.3 * size
