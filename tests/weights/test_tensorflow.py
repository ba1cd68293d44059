"""TensorFlow checkpoints: one that TensorFlow wrote, ones written here, damaged ones; the name map; memory."""

import contextlib
import gzip
import io
import json
import random
import struct
import subprocess
import sys
import tarfile
import textwrap
import tracemalloc

import numpy as np
import pytest
import torch
from support import REFERENCE
from support import bundle_writer as writer
from support.bundle_writer import BFLOAT16, DTYPES, RESOURCE, STRING, bundle_files, entry, tar_header, tar_of, write_bundle
from support.encoders import reference_clip, reference_errors

import vie_models as vie
from vie_models.models import MODELS, build_model
from vie_models.weights import CheckpointError, read_checkpoint, tf_to_state_dict
from vie_models.weights.tensorflow.crc32c import ROW_WORDS, crc32c, masked_crc32c
from vie_models.weights.tensorflow.names import tf_memory_bank, tf_names, tf_width

TAR = REFERENCE / "checkpoint-3.tar"
INDEX, SHARD = "checkpoint-3.index", "checkpoint-3.data-00000-of-00001"
ROW = 4 * ROW_WORDS
ONES = {"v": np.ones(4, np.float32)}
FULL_SIZE = json.loads((REFERENCE / "variables.json").read_text())


@pytest.fixture(scope="module")
def real():
    """Every variable of the real checkpoint."""
    return {name: np.array(value) for name, value in read_checkpoint(TAR).items()}


def assert_same(found, expected) -> None:
    """Names, dtypes, shapes and bytes; one variable at a time, so that reading is all that costs memory."""
    assert list(found) == sorted(expected)
    for name, value in expected.items():
        ours = found[name]
        assert (ours.dtype, ours.shape) == (value.dtype, value.shape), name
        assert ours.tobytes() == value.tobytes(), name


# --- what TensorFlow wrote ----------------------------------------------------------------------------------------------


def test_every_variable_of_a_real_checkpoint(real):
    expected = json.loads((REFERENCE / "checkpoint-3_variables.json").read_text())
    assert set(real) == set(expected)
    for name, (shape, total) in expected.items():
        assert list(real[name].shape) == shape
        assert np.abs(real[name].astype(np.float64)).sum() == pytest.approx(total, rel=1e-9), name


def test_activations_and_bank_of_a_real_checkpoint(real):
    reference = np.load(REFERENCE / "checkpoint-3_activations.npz")
    model = vie.create_model("vie_3dresnet", width=4, checkpoint_path=TAR)
    x = reference_clip(model.clip_spec, seed=3)
    errors = reference_errors(model, x, reference)
    assert set(errors) == {key.split("|")[0] for key in reference.files if "|" in key} >= {"logits", "embedding"}
    assert max(errors.values()) <= 1e-4, errors
    bank, expected = tf_memory_bank(real), reference["query_dot_products"]
    with torch.inference_mode():
        products = (model(x) @ bank["memory_bank"].T).numpy()
    assert np.abs(products - expected).max() <= 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(bank["memory_bank"].norm(dim=1), reference["bank_norms"], rtol=1e-6)
    np.testing.assert_array_equal(bank["labels"], reference["all_labels"])
    assert real["global_step"] == reference["global_step"] == 3
    assert tf_width(real) == 4


# --- CRC-32C ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "expected"),
    [  # RFC 3720, B.4; the check value of CRC catalogs; LevelDB's crc32c_test.cc
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (bytes.fromhex("01c00000" + 12 * "00" + "14000000" + "00000400" + "00000014" + "00000018" + "28" + 7 * "00" + "02")
         + bytes(7), 0xD9963A56),
        (b"123456789", 0xE3069283),
        (b"a", 0xC1D04330),
        (b"", 0),
    ],
)  # fmt: skip
def test_published_crcs(message, expected):
    assert crc32c(message) == expected


def test_crc_equals_the_definition_at_every_length():
    """All prefixes of up to 600 bytes, and lengths around those at which rows begin or the head fills one."""
    message = np.random.default_rng(0).integers(0, 256, 2 * ROW + 9, np.uint8).tobytes()
    lengths = {*range(600), *(k * ROW // 4 + d for k in (1, 2, 4, 5, 8) for d in (-5, -4, -1, 0, 1, 3, 4, 5))}
    crc = 0xFFFFFFFF
    for length in range(len(message) + 1):
        if length in lengths:
            assert crc32c(message[:length]) == crc ^ 0xFFFFFFFF, length
            unaligned = np.frombuffer(b"x" + message[:length], np.uint8)[1:]
            assert crc32c(unaligned) == crc ^ 0xFFFFFFFF, length
        if length < len(message):
            crc ^= message[length]
            for _ in range(8):
                crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    assert max(lengths) < len(message)


def test_masked_crc_is_rotated_and_shifted():
    assert masked_crc32c(b"123456789") == (((0xE3069283 >> 15) | (0xE3069283 << 17)) + 0xA282EAD8) & 0xFFFFFFFF


# --- what we wrote ------------------------------------------------------------------------------------------------------


def small_variables(count: int = 60, most: int = 400) -> dict[str, np.ndarray]:
    """Of every dtype, with scalars and empty ones, under names that share much."""
    rng = np.random.default_rng(0)
    variables = {"ünïcode/é": np.array(7, np.int64), "empty": np.zeros((2, 0, 3), np.float64), "z" * 300: np.float32([1])}
    for k in range(count):
        shape = (int(rng.integers(0, 5)), int(rng.integers(1, most // 4)))[: k % 3]
        values = rng.integers(0, 2, shape) if k % 5 else rng.standard_normal(shape) * 100
        variables[f"scope/layer_{k % 7}/kernel_{k}"] = np.asarray(values).astype(list(DTYPES)[k % len(DTYPES)])
    return variables


@pytest.mark.parametrize("restart_interval", [1, 3, 16])
@pytest.mark.parametrize(("shards", "gap", "per_block"), [(1, 0, 1), (1, 3, 7), (2, 1, 20), (5, 0, 1000), (100, 2, 50)])
def test_round_trip(tmp_path, shards, gap, per_block, restart_interval):
    variables = small_variables(200)
    options = {"shards": shards, "gap": gap, "per_block": per_block, "restart_interval": restart_interval}
    found = read_checkpoint(write_bundle(tmp_path / "ckpt", variables, **options))
    assert_same(found, variables)
    assert not any(value.flags.writeable or not value.flags.aligned for value in found.values())
    assert_same(read_checkpoint(io.BytesIO(tar_of(bundle_files(variables, **options)))), variables)


@pytest.mark.parametrize("form", ["tar", "tar object", "open file", "prefix", "index", "folder", "odd name"])
def test_forms_of_a_checkpoint(form, real, tmp_path):
    name = "[a]*.b-1" if form == "odd name" else "checkpoint-3"  # glob's letters, dots
    with tarfile.open(TAR) as tar:
        for file in (INDEX, SHARD):
            (tmp_path / file.replace("checkpoint-3", name)).write_bytes(tar.extractfile(file).read())
    with TAR.open("rb") as file:
        source = {
            "tar": str(TAR),
            "tar object": io.BytesIO(TAR.read_bytes()),
            "open file": file,
            "index": tmp_path / INDEX,
            "folder": tmp_path,
        }.get(form, tmp_path / name)
        assert_same(read_checkpoint(source), real)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["ustar", "gnu", "pax"])
@pytest.mark.parametrize("folder", ["", "./", "a/b/", "f" * 90 + "/" + "g" * 40 + "/"], ids=["", ".", "a", "long"])
def test_forms_of_a_tar(tmp_path, form, folder):
    (tmp_path / "x.tar").write_bytes(tar_of({**bundle_files(ONES), "README": b"no matter"}, folder, form))
    assert_same(read_checkpoint(tmp_path / "x.tar"), ONES)


def refused(source, match: str, name: str = "v") -> None:
    with pytest.raises(CheckpointError, match=match):
        read_checkpoint(source)[name]


@pytest.mark.parametrize(
    ("match", "options"),
    [
        ("is compressed .type 1.; only raw blocks", {"snappy": [0]}),
        ("big-endian", {"raw": {"": writer.header(1, big_endian=True)}}),
        ("0 shards", {"raw": {"": writer.header(0)}}),
        ("needs 2 shard.*missing: ckpt.data-00000-of-00002, ", {"raw": {"": writer.header(2)}}),
        ("unknown wire type 3", {"raw": {"": b"\x03"}}),
        ("field 1 of the index has the wrong type", {"raw": {"": writer.field(1, b"x")}}),
        ("more than 64 bits", {"raw": {"": b"\x08" + b"\xff" * 10}}),
        ("middle of", {"raw": {"": b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"}}),
        ("v is stored in slices", {"raw": {"v": entry(1, [4], 16, 0, slices=2)}}),
        (f"v has TensorFlow DataType {STRING}", {"raw": {"v": entry(STRING, [4], 16, 0)}}),
        (f"v has TensorFlow DataType {BFLOAT16}", {"raw": {"v": entry(BFLOAT16, [8], 16, 0)}}),
        (f"v has TensorFlow DataType {RESOURCE}", {"raw": {"v": entry(RESOURCE, [], 16, 0)}}),
        ("lies in shard 1, but there are 1 shards", {"raw": {"v": entry(1, [4], 16, 0, shard=1)}}),
        ("takes 20 bytes, but the index says 16", {"raw": {"v": entry(1, [5], 16, 0)}}),
        ("cut short", {"raw": {"v": entry(1, [1 << 40], 1 << 42, 0)}}),
        ("cut short", {"raw": {"v": entry(1, [4], 16, 0, offset=(1 << 64) - 8)}}),
        ("CRC-32C", {"raw": {"v": entry(1, [4], 16, 1)}}),
        ("not booleans", {"raw": {"v": entry(10, [16], 16, masked_crc32c(ONES["v"].tobytes()))}}),
        ("unknown length", {"raw": {"v": entry(1, [(1 << 64) - 1], 16, 0)}}),
        ("no definite shape", {"raw": {"v": writer.field(2, writer.field(3, 1))}}),
        ("NumPy cannot hold", {"raw": {"v": entry(1, [0, 1 << 62, 1 << 62], 0, masked_crc32c(b""))}}),
        ("NumPy cannot hold", {"raw": {"v": entry(1, 65 * [1] + [4], 16, masked_crc32c(ONES["v"].tobytes()))}}),
    ],
)
def test_what_is_wrong_in_an_index_is_named(tmp_path, match, options):
    refused(write_bundle(tmp_path / "ckpt", ONES, **options), match)
    refused(io.BytesIO(tar_of(bundle_files(ONES, **options))), match)


def test_what_is_not_read_may_have_any_dtype(tmp_path):
    found = read_checkpoint(write_bundle(tmp_path / "ckpt", ONES, raw={"text": entry(STRING, [3], 9, 0)}))
    assert set(found) == {"v", "text"}
    np.testing.assert_array_equal(found["v"], ONES["v"])


def test_one_compressed_block_among_many_is_refused(tmp_path):
    refused(write_bundle(tmp_path / "ckpt", small_variables(), per_block=5, snappy=[3]), "compressed")


def test_a_table_whose_blocks_lie_is_refused(tmp_path):
    """Blocks in themselves sound, put together wrongly."""
    path = write_bundle(tmp_path / "ckpt", ONES).with_name("ckpt.index")
    good, empty = path.read_bytes(), writer.block([])
    first = writer.block([(b"", writer.header(1))])

    def made_of(blocks: list[bytes], handles: list[tuple[int, ...]], magic: int = writer.MAGIC, between: bytes = b"") -> None:
        keys = [(bytes([97 + k]), b"".join(map(writer.varint, handle))) for k, handle in enumerate(handles)]
        body, index = b"".join([*blocks, empty, between]), writer.block(keys)
        ends = (len(body) - len(between) - len(empty), len(empty) - 5, len(body), len(index) - 5)
        footer = b"".join(map(writer.varint, ends)).ljust(40, b"\0") + struct.pack("<Q", magic)
        path.write_bytes(body + index + footer)

    def with_crc(block: bytes) -> bytes:
        return block + struct.pack("<I", masked_crc32c(block))

    size = len(first) - 5
    made_of([first], [(0, size)])
    assert len(read_checkpoint(path)) == 0
    made_of([first], [(0, size)], magic=writer.MAGIC ^ 1)
    refused(path, "magic number")
    made_of([first], [(0, size)], between=b"anything")
    refused(path, "footer does not point")
    made_of([first], [(0, size, 1)])
    refused(path, "do not follow one another")
    made_of([first], [(0, size), (0, size)])  # one block twice
    refused(path, "do not follow one another")
    made_of([first, first], [(0, size), (len(first), size)])
    refused(path, "not in order")
    made_of([first, first], [(0, size)])
    refused(path, "do not fill")
    made_of([first], [(0, 1 << 63)])
    refused(path, "no room")
    made_of([], [])
    refused(path, "no bundle header")
    for restarts in (2, 1 << 29, (1 << 32) - 1):
        made_of([with_crc(first[: size - 4] + struct.pack("<I", restarts) + b"\0")], [(0, size)])
        refused(path, "restart points do not fit|middle of")
    made_of([with_crc(b"\1" + first[1:-4])], [(0, size)])
    refused(path, "shares 1 bytes of a 0-byte key")
    path.write_bytes(good[:-48] + b"\xff" * 40 + good[-8:])
    refused(path, "more than 64 bits")
    path.write_bytes(b"")
    refused(path, "fewer than its footer")


def test_sources_that_hold_no_checkpoint(tmp_path):
    for missing in (tmp_path / "nothing", tmp_path / "nothing.index", str(tmp_path / "no" / "folder")):
        with pytest.raises(FileNotFoundError, match="no checkpoint at"):
            read_checkpoint(missing)
    refused(tmp_path, r"exactly one \*.index file, found 0")
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(TAR.read_bytes()))
    refused(tmp_path / "x.tar.gz", "not an uncompressed tar")
    refused(io.BytesIO(b""), "not an uncompressed tar")
    refused(io.BytesIO(TAR.read_bytes()[:100_000]), "needs 1129096 bytes at 7168, but the tar has 100000: it is cut short")
    for name in ("one", "two"):
        write_bundle(tmp_path / name, ONES)
    refused(tmp_path, "found 2; name one of them")
    assert_same(read_checkpoint(tmp_path / "one"), ONES)
    (tmp_path / "two.data-00000-of-00001").unlink()
    refused(tmp_path / "two", "missing: two.data-00000-of-00001")


def test_members_that_are_not_plain_files_are_passed_over(tmp_path):
    """A link could name any file and a sparse member lies otherwise in the tar: neither is taken for the index."""
    files = bundle_files(ONES)
    shard = "ckpt.data-00000-of-00001"
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.GNUTYPE_SPARSE, tarfile.DIRTYPE, tarfile.FIFOTYPE, b"Q"):
        odd = tar_header(b"ckpt.index", kind=kind)
        refused(io.BytesIO(odd + tar_of({shard: files[shard]})), "expected one .*index among.*found 0")
        assert_same(read_checkpoint(io.BytesIO(odd + tar_of(files))), ONES)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        sparse = tarfile.TarInfo("ckpt.index")
        sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "5"}
        sparse.size = 512
        tar.addfile(sparse, io.BytesIO(b"1\n0\n5\n".ljust(512, b"\0")))
    refused(out, "found 0")
    refused(io.BytesIO(tar_of({**files, "b/ckpt.index": b""})), "two members named 'ckpt.index'")
    refused(io.BytesIO(tar_of({**files, "other.index": b""})), "found 2")


NEGATIVE, HUGE, HUGER = ((n % (1 << 96)).to_bytes(12, "big") for n in (-512, (1 << 95) + (1 << 50), (1 << 95) + (1 << 90)))


@pytest.mark.parametrize("kind", [b"0", b"L", b"K", b"x", b"g", b"S", b"Q"])
def test_tar_headers_that_claim_absurd_sizes_cost_nothing(tmp_path, kind):
    """tarfile would give a header the memory that it asks for, go round for ever, or raise what callers do not expect."""
    sound = tar_of(bundle_files(ONES))
    first = tar_header(b"a")
    heads = [first + tar_header(b"x", kind=kind, raw_size=size) for size in (NEGATIVE, HUGE, HUGER, b"77777777777\0")]
    chain = (tar_header(b"x", 512, kind) + b"13 path=abcd\n".ljust(512, b"\0")) * 1200
    cut = writer.with_checksum(tar_header(b"x", 5, kind)[:482] + b"\1" + bytes(29))  # a sparse map that goes on past the end
    for k, content in enumerate([*(head + sound for head in heads), chain + sound, cut, sound[:512] + cut[:400]]):
        path = tmp_path / f"{k}.tar"
        path.write_bytes(content)
        for source in (path, io.BytesIO(content)):
            tracemalloc.start()
            outcome(source, ONES)  # members of an unknown kind may be passed over
            assert tracemalloc.get_traced_memory()[1] < 4_000_000
            tracemalloc.stop()


# --- damage -------------------------------------------------------------------------------------------------------------


def outcome(source, expected) -> str:
    """ "refused", or "right" where every value is what it was; wrong values or another exception fail the test."""
    try:
        found = read_checkpoint(source)
        values = [found[name] for name in sorted(expected)] if list(found) == sorted(expected) else None
    except CheckpointError:
        return "refused"
    assert values is not None, "the names are not the same"
    for (name, value), ours in zip(sorted(expected.items()), values, strict=True):
        assert (ours.dtype, ours.shape, ours.tobytes()) == (value.dtype, value.shape, value.tobytes()), name
    return "right"


def test_every_flipped_byte_of_the_index(real):
    """Two masks at each byte of a real one: all are refused but those in the footer's padding, which mean nothing."""
    file = io.BytesIO(TAR.read_bytes())
    with tarfile.open(fileobj=file) as tar:
        start, size = tar.getmember(INDEX).offset_data, tar.getmember(INDEX).size
    content, harmless = file.getbuffer(), set()
    for position in range(size):
        for mask in (1 << position % 8, 0xFF):
            content[start + position] ^= mask
            if outcome(file, real) == "right":
                harmless.add(position)
            content[start + position] ^= mask
    assert outcome(file, real) == "right"
    assert harmless <= set(range(size - 48 + 4, size - 8))


def damaged(rng: random.Random, content: bytes) -> bytes:
    """Some bytes flipped, cut off, put in, taken out, zeroed, set, copied from elsewhere, or a number put over them."""
    start, other = rng.randrange(len(content)), rng.randrange(len(content))
    end = min(len(content), start + rng.choice([1, 2, 4, 8, 40, 512, 4096]))
    size = end - start
    number = rng.choice([0, 1, 0x7F, 1 << 20, (1 << 31) - 1, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1])
    middle = rng.choice(
        [
            bytes([content[start] ^ 1 << rng.randrange(8)]) + content[start + 1 : end],
            bytes([content[start] ^ rng.randrange(1, 256)]) + content[start + 1 : end],
            rng.randbytes(size),
            rng.randbytes(rng.randrange(600)),  # longer or shorter
            b"",
            bytes(size),
            b"\xff" * size,
            content[other : other + size],
            writer.varint(number),
            number.to_bytes(8, "little"),
            b"%011o\0" % (number % (1 << 33)),
        ]
    )
    if rng.randrange(8) == 0:
        return content[:start] + rng.choice([b"", bytes(len(content) - start)])  # cut short, or not all fetched
    return content[:start] + middle + content[end:]


def blocks_of(index: bytes) -> list[tuple[int, int]]:
    """Start and end of each: a block ends where its CRC holds."""
    blocks, start = [], 0
    for end in range(13, len(index) - 47):
        if end >= start + 13 and masked_crc32c(index[start : end - 4]) == struct.unpack_from("<I", index, end - 4)[0]:
            blocks.append((start, end))
            start = end
    return blocks


def lying_block(rng: random.Random, index: bytes, start: int, end: int) -> bytes:
    """The index with a block damaged inside and its CRC right again: what no accident makes."""
    body = bytearray(index[start : end - 4])
    for _ in range(rng.choice([1, 1, 2, 4])):
        body[rng.randrange(len(body))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    return index[:start] + body + struct.pack("<I", masked_crc32c(body)) + index[end:]


@pytest.mark.parametrize(("seed", "cases"), [(0, 500), pytest.param(1, 20_000, marks=pytest.mark.slow)])
def test_random_damage(tmp_path, seed, cases):
    """To index, shards and tars of all forms: refused or right, at once, for less memory than four times the file."""
    rng = random.Random(seed)
    variables = small_variables(22, most=24_000)
    files = bundle_files(variables, shards=2, gap=1, per_block=4, restart_interval=3)
    long = "f" * 90 + "/" + "g" * 40 + "/"
    tars = [tar_of(files, *args) for args in (("",), (long,), (long, tarfile.PAX_FORMAT))]
    limit = 4 * sum(map(len, files.values()))
    seen = {"refused": 0, "right": 0}
    for case in range(cases):
        if case % 4 == 0:
            victim = rng.choice([*files, "ckpt.index"])
            for name, content in files.items():
                (tmp_path / name).write_bytes(damaged(rng, content) if name == victim else content)
            source = tmp_path / "ckpt"
        elif case % 4 == 1:  # the first headers are a small part of a tar: aim at them
            tar = rng.choice(tars)
            source = damaged(rng, tar[:2048]) + tar[2048:]
        else:
            source = damaged(rng, rng.choice(tars))
        if isinstance(source, bytes):
            (tmp_path / "x.tar").write_bytes(source)
            source = tmp_path / "x.tar" if rng.randrange(2) else io.BytesIO(source)
        tracemalloc.start()
        seen[outcome(source, variables)] += 1
        assert tracemalloc.get_traced_memory()[1] < limit, case
        tracemalloc.stop()
    print(seen)
    assert seen["refused"] > 0.6 * cases


@pytest.mark.parametrize(("seed", "cases"), [(2, 500), pytest.param(3, 10_000, marks=pytest.mark.slow)])
def test_an_index_that_lies_with_good_checksums(seed, cases):
    """It can say anything of names, dtypes and shapes; it cannot make other exceptions, nor cost memory."""
    rng = random.Random(seed)
    files = bundle_files(small_variables(22, most=24_000), per_block=4, restart_interval=4)
    limit = 4 * sum(map(len, files.values()))
    index, blocks = files["ckpt.index"], blocks_of(files["ckpt.index"])
    assert len(blocks) == 9  # data blocks, metaindex, index
    for case in range(cases):
        source = io.BytesIO(tar_of({**files, "ckpt.index": lying_block(rng, index, *rng.choice(blocks))}))
        tracemalloc.start()
        try:
            found = read_checkpoint(source)
        except CheckpointError:
            found = {}
        for name in found:
            with contextlib.suppress(CheckpointError):
                found[name]
        assert tracemalloc.get_traced_memory()[1] < limit, case
        tracemalloc.stop()


def test_a_file_that_shrinks_after_it_was_opened_is_refused(tmp_path):
    found = read_checkpoint(write_bundle(tmp_path / "ckpt", ONES))
    (tmp_path / "ckpt.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(CheckpointError, match="cannot read 4 values"):
        found["v"]
    file = io.BytesIO(tar_of(bundle_files(ONES)))
    found = read_checkpoint(file)
    file.close()
    with pytest.raises(CheckpointError, match="cannot read 4 values"):
        found["v"]


# --- the name map -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, entry in MODELS.items() if entry.reference])
def test_names_are_those_of_the_reference(name):
    with torch.device("meta"):
        model = build_model(name)
    ours = tf_names(model)
    assert sorted(ours) == sorted(variable for variable, _ in FULL_SIZE[MODELS[name].reference])
    assert sorted(ours.values()) == sorted(key for key in model.state_dict() if not key.endswith("num_batches_tracked"))


def test_the_map_passes_over_what_is_not_a_weight(real):
    model = build_model("vie_3dresnet", width=4)
    state = tf_to_state_dict(real, model)
    assert list(state) == list(model.state_dict())
    others = set(real) - set(tf_names(model))
    assert {"global_step", "instance/memory_bank", "instance/all_labels"} <= others
    assert any(name.endswith("/Momentum") for name in others)
    weights = {name: value for name, value in real.items() if name not in others}
    assert all(torch.equal(value, state[key]) for key, value in tf_to_state_dict(weights, model).items())


KERNEL, DENSE = "resnet_model/conv3d_3/kernel", "resnet_model/dense/kernel"


@pytest.mark.parametrize(
    ("match", "args", "change"),
    [
        (f"1 missing .{KERNEL}", {}, {KERNEL: None}),
        ("1 missing .resnet_model/batch_normalization/beta", {}, {"resnet_model/batch_normalization/beta": None}),
        ("1 unknown .resnet_model/conv3d_99/kernel", {}, {"resnet_model/conv3d_99/kernel": np.zeros(1)}),
        ("1 unknown .global_step_2", {}, {"global_step_2": np.zeros(1)}),
        (f"{KERNEL} gives stages.0.0.conv2.weight the shape", {}, {KERNEL: np.zeros((3, 3, 3, 4, 2), np.float32)}),
        (f"{KERNEL} gives stages.0.0.conv2.weight the shape .4, 3, 3, 3.", {}, {KERNEL: np.zeros((3, 3, 3, 4))}),
        (f"{DENSE} gives head.weight the shape .128.", {}, {DENSE: np.zeros(128, np.float32)}),
        (f"{DENSE} gives head.weight the shape ..", {}, {DENSE: np.zeros((), np.float32)}),
        ("does its width differ", {"width": 8}, {}),
        ("build vie_3dresnet with num_classes=None", {"num_classes": 5}, {}),
        ("build vie_3dresnet with num_classes=None", {"num_classes": 0}, {}),
        ("not the variables of vie_slowfast", {"name": "vie_slowfast"}, {}),
    ],
)
def test_the_map_is_strict_both_ways(real, match, args, change):
    with torch.device("meta"):
        model = build_model(**{"name": "vie_3dresnet", "width": 4, **args})
    with pytest.raises(CheckpointError, match=match):
        tf_to_state_dict({name: value for name, value in {**real, **change}.items() if value is not None}, model)


def test_memory_bank_needs_its_labels(real):
    assert tf_memory_bank({}) is None
    for labels in ({}, {"instance/all_labels": real["instance/all_labels"][:-1]}):
        with pytest.raises(CheckpointError, match="one label per row"):
            tf_memory_bank({"instance/memory_bank": real["instance/memory_bank"], **labels})
    with pytest.raises(CheckpointError, match="not the variables of one of the reference's encoders"):
        tf_width({})


# --- memory -------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux counts it")
def test_reading_a_full_size_checkpoint_costs_little_more_than_its_size(tmp_path):
    rng = np.random.default_rng(0)
    variables = {name: rng.random(shape, np.float32) for name, shape in FULL_SIZE["3dresnet"]}
    size = sum(value.nbytes for value in variables.values())
    assert size == pytest.approx(133e6, rel=0.01)
    prefix = write_bundle(tmp_path / "full", variables)
    # VmHWM is ru_maxrss, but begins with the process: ru_maxrss begins with the peak of the parent, which may hide ours
    code = f"""
        import pathlib, torch
        from vie_models.models import build_model
        from vie_models.weights import read_checkpoint, tf_to_state_dict
        with torch.device("meta"):
            model = build_model("vie_3dresnet")
        def status(field):  # bytes
            lines = pathlib.Path("/proc/self/status").read_text().splitlines()
            return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))
        before = status("VmRSS")
        state = tf_to_state_dict(read_checkpoint({str(prefix)!r}), model)
        print(status("VmHWM") - before)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    print(f"reading costs {int(done.stdout) / size:.2f} x {size / 1e6:.0f} MB")
    assert size <= int(done.stdout) <= 1.3 * size
