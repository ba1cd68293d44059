"""The index: it finds what brute force finds, grows as it is built, and is never left broken."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from support import ROOT
from support.features import names, write_features

import vie_models.search.index
from vie_models.search import build_index, find_duplicates, open_index
from vie_models.search.neighbors import rank

DIM = 32


@pytest.fixture
def features(tmp_path):
    return write_features(tmp_path / "features", names(0, 40))


def queries(count=5, dim=DIM):
    return np.random.default_rng(9).normal(size=(count, dim)).astype(np.float32)


def brute_force(index, query, k, kept=None):
    rows, query = np.array(index.rows, np.float64), query.astype(np.float64)
    dots = rows @ (query / np.linalg.norm(query))
    if kept is not None:
        dots[~kept] = -np.inf
    best = np.argsort(-dots, kind="stable")[:k]
    return best, dots[best]


def test_rows_are_the_features_with_unit_length(features):
    index = build_index(features)
    assert (len(index), index.kind, index.rows.dtype) == (280, "exact", np.float32)
    with np.load(features / "v003.mp4.npz") as file:
        expected = file["embedding"] / np.linalg.norm(file["embedding"], axis=1, keepdims=True)
    np.testing.assert_allclose(index.rows[21:28], expected, rtol=1e-6)
    assert index.videos[index.video[21]].name == "v003.mp4"
    assert (index.start[22], index.end[22]) == (1.0, 3.0)


@pytest.mark.parametrize("block", [32, 1 << 15])
def test_exact_is_brute_force(features, monkeypatch, block):
    monkeypatch.setattr("vie_models.search.neighbors._BLOCK", block)
    index = build_index(features)
    asked = queries()
    dots, rows = index.nearest_rows(asked, 20)
    for i, query in enumerate(asked):
        best, values = brute_force(index, query, 20)
        assert rows[i].tolist() == best.tolist()
        np.testing.assert_allclose(dots[i], values, rtol=1e-6)
    hits = index.nearest(asked[0], 3)
    assert [hit.row for hit in hits] == rows[0, :3].tolist()
    assert (hits[0].name, hits[0].end - hits[0].start) == (index.videos[index.video[hits[0].row]].name, 2.0)


def test_spans_are_left_out(features, monkeypatch):
    monkeypatch.setattr("vie_models.search.neighbors._BLOCK", 32)
    index = build_index(features)
    query = np.array(index.rows[24])  # of v003, from 3 to 5 s
    assert index.nearest(query, 1)[0].row == 24
    kept = np.ones(280, bool)
    kept[[*range(7), 23, 24, 25]] = False  # row 23 lasts from 2 to 4 s; 22 ends where the span begins
    hits = index.nearest(query, 280, [("v003.mp4", 3.0, 5.0), ("v000.mp4", -np.inf, np.inf)])
    assert sorted(hit.row for hit in hits) == np.flatnonzero(kept).tolist()
    best, values = brute_force(index, query, 5, kept)
    assert [hit.row for hit in hits[:5]] == best.tolist()
    np.testing.assert_allclose([hit.similarity for hit in hits[:5]], values, rtol=1e-6)


def test_a_pathway_is_half_of_a_row(features):
    index = build_index(features)
    rows = np.array(index.rows)
    query = queries(1)[0]
    dots, found = index.nearest_rows(query[None], 5, pathway="dynamic")
    half = rows[:, DIM // 2 :] @ (query[DIM // 2 :] / np.linalg.norm(query[DIM // 2 :])) * np.sqrt(2)
    assert found[0].tolist() == np.argsort(-half)[:5].tolist()
    np.testing.assert_allclose(dots[0], np.sort(half)[::-1][:5], rtol=1e-5)
    with pytest.raises(ValueError, match="pathway must be one of"):
        index.nearest_rows(query[None], 5, pathway="both")


def same_index(one, other):
    assert np.array_equal(one.rows, other.rows)
    assert np.array_equal(one.start, other.start)
    assert one.videos == other.videos


def test_a_new_build_takes_in_what_is_new(features):
    build_index(features)
    write_features(features, ["a.mp4", "v0035.mp4", *names(40, 44)])
    index = build_index(features)
    assert len(index) == 46 * 7
    assert [video.name for video in index.videos] == sorted(video.name for video in index.videos)
    same_index(open_index(features), index)


def test_equal_rows_are_found_by_name_and_time_however_many_there_are(tmp_path):
    one = np.random.default_rng(3).normal(size=(1, DIM)).astype(np.float32)
    same = np.tile(one, (7, 1))
    index = build_index(write_features(tmp_path / "features", names(0, 40), arrays={"embedding": same}))
    hits = index.nearest(one[0], 9)
    assert [(hit.name, hit.start) for hit in hits] == [*(("v000.mp4", t) for t in range(7)), ("v001.mp4", 0), ("v001.mp4", 1)]
    hits = index.nearest(one[0], 2, [("v000.mp4", 0, 5.5)])  # leaves out what starts at 0 to 5 s
    assert [(hit.name, hit.start) for hit in hits] == [("v000.mp4", 6), ("v001.mp4", 0)]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 30, 33])
def test_similarity_does_not_depend_on_the_place_of_a_row(count):
    draws = np.random.default_rng(count)
    row, query = draws.normal(size=(2, 1, 100)).astype(np.float32)
    dots, _ = rank(np.tile(row, (count, 1)), query, np.arange(count)[None])
    assert set(dots[0].tolist()) == set(rank(row, query, np.array([[0]]))[0][0].tolist())


def test_videos_without_rows(tmp_path):
    features = write_features(tmp_path / "features", names(0, 3))
    write_features(features, ["a.mp4", "v0005.mp4", "z.mp4"], arrays={"embedding": np.zeros((0, DIM), np.float32)})
    index = build_index(features)
    assert len(index) == 21
    assert {hit.name for hit in index.nearest(queries()[0], 50)} == set(names(0, 3))
    assert find_duplicates(index, 0.99) == []


def test_an_open_index_is_not_disturbed(features):
    index = build_index(features)
    before = np.array(index.rows)
    write_features(features, names(40, 44))
    build_index(features)
    assert np.array_equal(index.rows, before)
    build_index(features)
    assert np.array_equal(index.rows, before)
    index.rows[0] = 0  # stays in memory
    assert np.array_equal(open_index(features).rows[0], before[0])


KILLED = """
import os, signal, sys
import vie_models.search.index as module
from vie_models.search import build_index
def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
module.{name} = kill
build_index(sys.argv[1], kind="exact")
"""


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("name", ["_absolute", "replacing", "_remove_files"])
def test_a_killed_build_leaves_what_was_there(features, first, name):
    before = None
    if not first:
        before = build_index(features)
        write_features(features, names(40, 44))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", KILLED.format(name=name), str(features)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    if name == "_remove_files":  # the new one was complete
        assert len(open_index(features)) == (280 if first else 308)
    elif before is None:
        with pytest.raises(FileNotFoundError, match="no index in"):
            open_index(features)
    else:
        same_index(open_index(features), before)
    index = build_index(features)
    assert len(index) == (280 if first else 308)
    kept = sorted(file.name.partition("-")[0] for file in index.folder.iterdir() if not file.name.startswith("."))
    assert kept == ["index.json", "rows", "times", "videos"]


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_faiss(tmp_path, kind):
    pytest.importorskip("faiss", reason="faiss is not installed")
    features = write_features(tmp_path / "features", names(0, 400), clips=10, dim=16)
    index, exact = build_index(features, kind=kind), build_index(features, out=tmp_path / "exact")
    assert index.kind == kind
    asked = queries(20, 16)
    expected = exact.nearest_rows(asked, 10)

    def recall(found):
        return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found[1].tolist(), expected[1].tolist(), strict=True)])

    found = index.nearest_rows(asked, 10)
    assert recall(found) > 0.5  # of random rows, the hardest
    both = found[1][0] == expected[1][0]
    assert (found[0][0][both] == expected[0][0][both]).all()  # similarities are exact
    index.faiss.probes = 4000
    assert recall(index.nearest_rows(asked, 10)) > 0.97
    leave_out = expected[1][0, :5]
    assert not set(index.nearest_rows(asked[:1], 10, excluded=leave_out)[1][0].tolist()) & set(leave_out.tolist())

    (file,) = index.folder.glob("neighbors-*.faiss")
    file.write_bytes(b"\0" * file.stat().st_size)
    with pytest.raises(ValueError, match=r"is not an index of faiss .*vie index"):
        open_index(features)
    assert len(build_index(features, kind=kind)) == 4000


def test_many_rows_change_the_kind(features, monkeypatch):
    pytest.importorskip("faiss", reason="faiss is not installed")
    assert build_index(features).kind == "exact"
    monkeypatch.setattr("vie_models.search.index.MAX_EXACT", 279)
    index = build_index(features)
    assert index.kind == "ivf"
    assert index.nearest(np.array(index.rows[200]), 1)[0].row == 200


def test_without_faiss(features, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"needs faiss: pip install 'vie_models\[search\]'"):
        build_index(features, kind="ivf")
    assert build_index(features).kind == "exact"


def test_a_build_that_ends_while_an_index_is_opened(features, monkeypatch):
    index = build_index(features)
    read = vie_models.search.index._read_header
    headers = []

    def built_meanwhile(folder):
        headers.append(read(folder))
        if len(headers) == 1:
            build_index(features)
        return headers[-1] if len(headers) > 2 else headers[0]

    monkeypatch.setattr("vie_models.search.index._read_header", built_meanwhile)
    np.testing.assert_array_equal(open_index(features).rows, index.rows)


def test_damage(features):
    index = build_index(features)

    def refused(file, content, reason):
        good = file.read_bytes()
        file.write_bytes(content(good))
        with pytest.raises(ValueError, match=rf"(?s)damaged .*{reason}.*vie index"):
            open_index(features)
        file.write_bytes(good)

    (rows,), (videos,) = index.folder.glob("rows-*"), index.folder.glob("videos-*")
    refused(rows, lambda content: content[:-1], "")
    refused(rows, lambda content: b"\0" * len(content), "")
    refused(videos, lambda content: content.replace(b"v001", b"\x001"), "")
    refused(videos, lambda content: content.partition(b"\n")[2], "273 rows of videos")
    header = index.folder / "index.json"
    for content in (b"{", b"[]", b"{}"):
        refused(header, lambda _, content=content: content, "")
    for key, value, reason in (("format", 1, "another version"), ("build", "../../x", "build is"), ("surplus", 1, "surplus")):
        refused(header, lambda good, key=key, value=value: json.dumps({**json.loads(good), key: value}).encode(), reason)
    same_index(open_index(features), index)


def test_what_cannot_be_indexed(tmp_path, features):
    with pytest.raises(FileNotFoundError, match="is it the output folder of `vie extract`"):
        build_index(tmp_path)
    with pytest.raises(FileNotFoundError, match="`vie index FEATURES` makes one"):
        open_index(features)
    with pytest.raises(ValueError, match="has no encode_6"):
        build_index(features, "encode_6")
    with pytest.raises(ValueError, match="kind must be auto"):
        build_index(features, kind="lsh")
    maps = write_features(tmp_path / "maps", names(0, 2), arrays={"encode_6": np.zeros((7, 4, 1, 2, 2), np.float32)})
    with pytest.raises(ValueError, match=r"whole maps, \[4, 1, 2, 2\] per clip, .*--pool avg"):
        build_index(maps, "encode_6")
    broken = write_features(tmp_path / "nan", names(0, 2), arrays={"embedding": np.full((7, 4), np.nan, np.float32)})
    with pytest.raises(ValueError, match=r"v000.mp4 is not finite"):
        build_index(broken)
    index = build_index(features)
    with pytest.raises(ValueError, match="k must be >= 1, got 0"):
        index.nearest(queries()[0], 0)
    with pytest.raises(ValueError, match=r"a query must be \[32\]"):
        index.nearest(np.zeros(3))
    with pytest.raises(ValueError, match="zero or not finite"):
        index.nearest(np.zeros(32))


def test_a_layer_has_an_index_of_its_own(tmp_path):
    layer = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    features = write_features(tmp_path / "features", names(0, 3), arrays={"encode_6": layer})
    assert build_index(features, "encode_6").rows.shape == (21, 4)
    assert open_index(features).array == "encode_6"  # the only one
    build_index(features)
    assert open_index(features).array == "embedding"
    assert open_index(features, "encode_6").array == "encode_6"
    assert open_index(features / "index" / "encode_6").pathways == {}
    with pytest.raises(FileNotFoundError, match="no index of encode_7"):
        open_index(features, "encode_7")
    with pytest.raises(ValueError, match="an index of embedding, got array encode_6"):
        open_index(features / "index" / "embedding", "encode_6")
