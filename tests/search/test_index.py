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

from vie_models.search import build_index, find_duplicates, open_index
from vie_models.search.neighbours import kind_for, ranked
from vie_models.search.store import read_facts

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
    assert index.table.name[21] == "v003.mp4"
    assert (index.table.start[22], index.table.end[22]) == (1.0, 3.0)


@pytest.mark.parametrize("block", [32, 1 << 15])
def test_exact_is_brute_force(features, monkeypatch, block):
    monkeypatch.setattr("vie_models.search.neighbours._BLOCK", block)
    index = build_index(features)
    asked = queries()
    dots, rows = index.nearest_rows(asked, 20)
    for i, query in enumerate(asked):
        best, values = brute_force(index, query, 20)
        assert rows[i].tolist() == best.tolist()
        np.testing.assert_allclose(dots[i], values, rtol=1e-6)
    hits = index.nearest(asked[0], 3)
    assert [hit.row for hit in hits] == rows[0, :3].tolist()
    assert (hits[0].name, hits[0].end - hits[0].start) == (index.table.name[hits[0].row], 2.0)


def test_spans_are_left_out(features, monkeypatch):
    monkeypatch.setattr("vie_models.search.neighbours._BLOCK", 32)
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
    assert np.array_equal(one.table.start, other.table.start)
    assert one.table.name.tolist() == other.table.name.tolist()


def test_growth_equals_a_rebuild(features, tmp_path):
    index = build_index(features)
    assert index.grow() == 0
    write_features(features, names(40, 44))
    assert index.grow() == 28
    again = build_index(features, out=tmp_path / "again")
    same_index(index, again)
    assert index.nearest(queries()[0], 30) == again.nearest(queries()[0], 30)
    same_index(open_index(features), again)
    write_features(features, names(44, 45))
    assert len(build_index(features)) == 45 * 7  # building again is growing


def test_growth_in_the_middle_of_the_names_finds_the_same(features, tmp_path):
    index = build_index(features)
    write_features(features, ["a.mp4", "v0035.mp4"])
    assert index.grow() == 14
    again = build_index(features, out=tmp_path / "again")
    for query in queries():
        found, expected = ([(h.name, h.start, h.similarity) for h in one.nearest(query, 50)] for one in (index, again))
        assert found == expected


def test_equal_rows_are_found_by_name_and_time_however_many_there_are(tmp_path):
    one = np.random.default_rng(3).normal(size=(1, DIM)).astype(np.float32)
    same = np.tile(one, (7, 1))
    features = write_features(tmp_path / "features", names(10, 40), arrays={"embedding": same})
    index = build_index(features)
    write_features(features, names(0, 10), arrays={"embedding": same})
    assert index.grow() == 70
    again = build_index(features, out=tmp_path / "again")
    for some in (index, again):
        hits = some.nearest(one[0], 9)
        assert [(hit.name, hit.start) for hit in hits] == [
            *(("v000.mp4", t) for t in range(7)),
            ("v001.mp4", 0),
            ("v001.mp4", 1),
        ]
        hits = some.nearest(one[0], 2, [("v000.mp4", 0, 5.5)])  # leaves out what starts at 0 to 5 s
        assert [(hit.name, hit.start) for hit in hits] == [("v000.mp4", 6), ("v001.mp4", 0)]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 30, 33])
def test_similarity_does_not_depend_on_the_place_of_a_row(count):
    draws = np.random.default_rng(count)
    row, query = draws.normal(size=(2, 1, 100)).astype(np.float32)
    dots, _ = ranked(np.tile(row, (count, 1)), query, np.arange(count)[None])
    assert set(dots[0].tolist()) == set(ranked(row, query, np.array([[0]]))[0][0].tolist())


def test_videos_without_rows(tmp_path):
    features = write_features(tmp_path / "features", names(0, 3))
    write_features(features, ["a.mp4", "v0005.mp4", "z.mp4"], arrays={"embedding": np.zeros((0, DIM), np.float32)})
    index = build_index(features)
    assert (len(index), index.grow()) == (21, 0)
    assert {hit.name for hit in index.nearest(queries()[0], 50)} == set(names(0, 3))
    assert find_duplicates(index, 0.99) == []


def test_changed_features_are_refused_until_a_rebuild(features):
    build_index(features)
    write_features(features, names(0, 1), clips=3)
    with pytest.raises(ValueError, match=r"features of 1 videos .* such as v000.mp4, .*--rebuild"):
        build_index(features)
    assert len(build_index(features, rebuild=True)) == 276
    (features / "manifest.jsonl").write_text("".join((features / "manifest.jsonl").read_text().splitlines(True)[1:]))
    with pytest.raises(ValueError, match=r"such as v000.mp4, were removed"):
        open_index(features).grow()
    assert len(build_index(features, rebuild=True)) == 273


def test_an_open_index_is_not_disturbed(features):
    index = build_index(features)
    before = np.array(index.rows)
    write_features(features, names(40, 44))
    build_index(features)
    assert np.array_equal(index.rows, before)
    build_index(features, rebuild=True)
    assert np.array_equal(index.rows, before)
    index.rows[0] = 0  # stays in memory
    assert np.array_equal(open_index(features).rows[0], before[0])


KILLED = """
import os, signal, sys
import vie_models.search.{module} as module
from vie_models.search import build_index
def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
module.{name} = kill
build_index(sys.argv[1], kind=sys.argv[2], rebuild=sys.argv[3] == "rebuild")
"""


@pytest.mark.parametrize("what", ["build", "grow", "rebuild"])
@pytest.mark.parametrize(("module", "name"), [("store", "_sync"), ("index", "write_facts"), ("store", "_absolute")])
def test_a_killed_job_leaves_what_was_there(features, what, module, name):
    before = None
    if what != "build":
        before = build_index(features)
        write_features(features, names(40, 44))
    code = KILLED.format(module=module, name=name)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, str(features), "exact", what], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    if before is None:
        with pytest.raises(FileNotFoundError, match="no index in"):
            open_index(features)
    else:
        same_index(open_index(features), before)
    index = build_index(features)
    assert len(index) == (280 if what == "build" else 308)
    same_index(index, build_index(features, out=features.parent / "again"))
    kept = {file.suffix for file in index.folder.iterdir() if not file.name.startswith(".")}
    assert kept == {".json", ".f32", ".f64", ".jsonl"}
    assert len(list(index.folder.glob("rows-*"))) == 1 or what == "build"


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
    index.near.probes = 4000
    assert recall(index.nearest_rows(asked, 10)) > 0.97
    leave_out = expected[1][0, :5]
    assert not set(index.nearest_rows(asked[:1], 10, excluded=leave_out)[1][0].tolist()) & set(leave_out.tolist())

    write_features(features, names(400, 404), clips=10, dim=16)
    assert index.grow() == 40
    assert index.facts.trained_rows == 4000
    new = np.array(index.rows[4020])
    assert index.nearest(new, 1)[0].row == 4020
    if kind == "ivf":  # the lists of the first build, filled anew, are the same
        from vie_models.search.neighbours import Near

        again = Near.open(index.folder / index.facts.near, kind, mapped=False)
        again.clear()
        again.add(index.rows)
        again.probes = index.near.probes
        assert np.array_equal(again.nearest(asked, 50), index.near.nearest(asked, 50))
    (file,) = index.folder.glob("near-*.faiss")
    file.write_bytes(b"\0" * file.stat().st_size)
    with pytest.raises(ValueError, match=r"cannot be read by faiss .*--rebuild"):
        open_index(features)
    assert len(build_index(features, kind=kind, rebuild=True)) == 4040


def test_growth_past_a_million_rows_changes_the_kind(features, monkeypatch):
    pytest.importorskip("faiss", reason="faiss is not installed")
    assert (kind_for(1_000_000), kind_for(1_000_001)) == ("exact", "ivf")
    index = build_index(features)
    monkeypatch.setattr("vie_models.search.neighbours.MOST_EXACT", 300)
    write_features(features, names(40, 44))
    index.grow()
    assert index.kind == "ivf"
    assert index.nearest(np.array(index.rows[300]), 1)[0].row == 300
    write_features(features, names(44, 99))
    index.grow()
    assert index.facts.trained_rows == 99 * 7  # more than twice as many: new lists


def test_without_faiss(features, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"needs faiss: pip install 'vie_models\[search\]'"):
        build_index(features, kind="ivf")
    assert build_index(features).kind == "exact"


def test_a_rebuild_while_an_index_is_opened(features, monkeypatch):
    index = build_index(features)
    read = read_facts

    def rebuilt_meanwhile(folder):
        facts = read(folder)
        if facts.generation == 1:
            build_index(features, rebuild=True)
        return facts

    monkeypatch.setattr("vie_models.search.index.read_facts", rebuilt_meanwhile)
    again = open_index(features)
    assert again.facts.generation == 2
    np.testing.assert_array_equal(again.rows, index.rows)


def test_damage(features):
    index = build_index(features)
    rows = index.facts.file(index.folder, "rows")
    content = rows.read_bytes()
    rows.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"has 35839 bytes, but index.json counts 35840: the index is damaged; remove"):
        open_index(features)
    rows.write_bytes(content)
    videos = index.facts.file(index.folder, "videos")
    videos.write_bytes(videos.read_bytes().replace(b"v001", b"\x001"))
    with pytest.raises(ValueError, match=r"videos-1.jsonl .* damaged"):
        open_index(features)
    facts = index.folder / "index.json"
    good = facts.read_text()
    for bad, reason in (("{", "damaged"), (json.dumps({**json.loads(good), "format": 2}), "format 2"), ("[]", "damaged")):
        facts.write_text(bad)
        with pytest.raises(ValueError, match=reason):
            open_index(features)
    facts.write_text(json.dumps({**json.loads(good), "near": "../../x.faiss"}))
    with pytest.raises(ValueError, match="damaged"):
        open_index(features)
    for key, value in (("rows", None), ("dim", "x"), ("near", 5), ("videos_bytes", -1)):
        facts.write_text(json.dumps({**json.loads(good), key: value}))
        with pytest.raises(ValueError, match="damaged"):
            open_index(features)


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
    with pytest.raises(ValueError, match=r"of kind exact: choose another folder"):
        build_index(features, kind="hnsw")


def test_a_layer_has_an_index_of_its_own(tmp_path):
    layer = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    features = write_features(tmp_path / "features", names(0, 3), arrays={"encode_6": layer})
    assert build_index(features, "encode_6").rows.shape == (21, 4)
    assert open_index(features).facts.array == "encode_6"  # the only one
    build_index(features)
    assert open_index(features).facts.array == "embedding"
    assert open_index(features, "encode_6").facts.array == "encode_6"
    assert open_index(features / "index" / "encode_6").pathways == {}
    with pytest.raises(FileNotFoundError, match="no index of encode_7"):
        open_index(features, "encode_7")
    with pytest.raises(ValueError, match="an index of embedding, got array encode_6"):
        open_index(features / "index" / "embedding", "encode_6")
