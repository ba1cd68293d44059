"""Every command on nothing, on broken videos alone, and on some: no success that is none (vie_models/failures.py)."""

import json
import shutil
import subprocess
import sys

import pytest
from support.runs import start
from support.videos import write_list

from vie_models import cli
from vie_models.failures import NothingReadError, TooManyFailuresError, check_failures

pytestmark = pytest.mark.filterwarnings("ignore:.*accuracy on them says nothing:UserWarning")  # of shared lists

SMALL = ["--width", "4", "--batch-size", "2", "--steps", "8", "--workers", "0", "--device", "cpu", "--augment", "workers"]
SMALL += ["--epochs", "None", "--log-every", "4", "--save-every", "8", "--validate-every", "8", "--val-clips", "1"]
PRETEXT = ["--noise", "4", "--background", "2", "--clusters", "2", "--ir-steps", "8"]
BROKEN = {"good": (), "some": (1,), "all": range(8), "nothing": ()}


@pytest.fixture(scope="module")
def worlds(corpus, tmp_path_factory):
    """Folders of eight videos of two classes, of which none, one, all are broken, or that are empty; with lists and a table."""
    found = {}
    for name, broken in BROKEN.items():
        world = found[name] = tmp_path_factory.mktemp(name)
        for folder in ("videos/a", "videos/b"):
            (world / folder).mkdir(parents=True)
        paths = [f"{'ab'[i % 2]}/{i}.mp4" for i in range(8 if name != "nothing" else 0)]
        for i, path in enumerate(paths):
            shutil.copy(corpus / f"{i}.mp4", world / "videos" / path)
            if i in broken:
                (world / "videos" / path).write_bytes(b"no video")
        write_list(world / "list", [f"{path} 20 {i % 2}" for i, path in enumerate(paths)])
        write_list(world / "val", [f"{path} 20 {i % 2}" for i, path in enumerate(paths)])
        write_list(world / "table.csv", ["stimulus", *(f"videos/{path}" for path in paths)])
    return found


def lists(world):
    return ["--train-list", world / "list", "--val-list", world / "val", "--root", world / "videos"]


def commands(world, out):
    """Returns each command that reads many videos, by its name in the tables below."""
    model = "vie_single_tiny"
    untrained = ["vie_single_tiny", *lists(world), "--workers", "0", "--device", "cpu", "--clips", "1", "-o", out]
    return {
        "extract": ["extract", model, world / "videos", "-o", out, "--workers", "0"],
        "extract --list": [
            *["extract", model, "--list", write_list(out.with_suffix(".list"), paths_of(world)), "--root", world / "videos"],
            *["-o", out, "--workers", "2"],
        ],
        "extract --dry-run": ["extract", model, world / "videos", "-o", out, "--dry-run"],
        "predict": ["predict", model, world / "videos", "--clips", "1"],
        "train": ["train", "vie_3dresnet_tiny", *lists(world), "-o", out, *SMALL, *PRETEXT],
        "finetune": ["finetune", "vie_single_tiny", *lists(world), "-o", out, *SMALL],
        "eval linear": ["eval", "linear", "vie_single_tiny", *lists(world), "-o", out, *SMALL],
        "eval knn": ["eval", "knn", *untrained],
        "eval logistic": ["eval", "logistic", *untrained],
        "data folder": ["data", "folder", world / "videos", "-o", out, "--workers", "0"],
        "data pack": ["data", "pack", world / "list", out, "--root", world / "videos", "--short-side", "48", "--workers", "0"],
        "neuro features": ["neuro", "features", model, world / "table.csv", "-o", out.with_suffix(".nc"), "--workers", "0"],
    }


def paths_of(world):
    return [line.split()[0] for line in (world / "list").read_text().splitlines()]


def run(arguments):
    try:
        return cli.main([str(word) for word in arguments])
    except SystemExit as end:  # the parser of flags
        return end.code


@pytest.mark.parametrize(
    "name",
    [
        *("extract", "extract --list", "extract --dry-run", "predict", "train", "finetune", "eval linear", "eval knn"),
        *("eval logistic", "data folder", "data pack", "neuro features"),
    ],
)
def test_a_command_says_what_it_could_not_read(name, worlds, tmp_path, capsys):
    needs = {"neuro features": "netCDF4", "eval logistic": "sklearn"}
    if name in needs:
        pytest.importorskip(needs[name])
    for world, code in (("good", 0), ("some", 3), ("all", 1), ("nothing", 1)):
        out = tmp_path / world
        assert run(commands(worlds[world], out)[name]) == code, (world, capsys.readouterr().err)
        said = capsys.readouterr()
        last = said.err.strip().splitlines()[-1:]
        if code == 1:
            assert last[0].startswith("vie: "), said.err
            assert str(worlds[world]) in last[0] or "/1.mp4" in last[0] or "/0.mp4" in last[0] or "list" in last[0]
            assert not (out / "results.json").exists()
            assert not (out / "checkpoints").exists()
        if world == "some":
            assert "1.mp4" in said.err + said.out or name == "data folder"


def test_a_larger_share_is_allowed_where_it_is_asked_for(worlds, corpus, tmp_path, capsys):
    """Six of eight cannot be read: an error, unless --max-failed says that so many may."""
    world = tmp_path / "world"
    shutil.copytree(worlds["good"], world)
    for i in (0, 1, 2, 3, 4, 5):
        (world / "videos" / f"{'ab'[i % 2]}/{i}.mp4").write_bytes(b"no video")
    for name in ("extract", "train", "eval knn", "data folder", "data pack"):
        assert run(commands(world, tmp_path / name.replace(" ", "-"))[name]) == 1, name
        said = capsys.readouterr().err
        assert "6 of the 8" in said or "of the split" in said or "that were tried" in said
        assert "--max-failed" in said
    for name in ("extract", "train", "eval knn", "data pack"):
        command = [*commands(world, tmp_path / name.replace(" ", "+"))[name], "--max-failed", "0.8"]
        assert run(command) == 3, (name, capsys.readouterr().err)
        assert run([*command[:-1], "1.5"]) == 2
        assert "max_failed" in capsys.readouterr().err


def test_a_wrong_root_is_said_at_once(worlds, tmp_path, capsys):
    for name in ("train", "finetune", "eval linear", "eval knn", "data pack"):
        arguments = [str(word) for word in commands(worlds["good"], tmp_path / "out")[name]]
        arguments[arguments.index("--root") + 1] = str(tmp_path)
        assert run(arguments) == 1
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert f"--root {tmp_path}" in said
        assert str(tmp_path / "a/0.mp4") in said
        assert not (tmp_path / "out" / "checkpoints").exists()


def test_one_video_that_cannot_be_read_fails_its_command(worlds, tmp_path, capsys):
    broken = worlds["all"] / "videos" / "a" / "0.mp4"
    run(["extract", "vie_single_tiny", worlds["good"] / "videos", "-o", tmp_path / "features", "--workers", "0"])
    assert run(["index", tmp_path / "features"]) == 0
    capsys.readouterr()
    assert run(["search", tmp_path / "features", broken]) == 1
    assert str(broken) in capsys.readouterr().err
    assert run(["segment", "vie_single_tiny", broken]) == 1
    assert run(["segment", "vie_single_tiny", tmp_path / "no.mp4"]) == 2


def test_features_of_nothing_are_not_indexed(worlds, tmp_path, capsys):
    run(["extract", "vie_single_tiny", worlds["all"] / "videos", "-o", tmp_path / "features", "--workers", "0"])
    assert len((tmp_path / "features" / "manifest.jsonl").read_text().splitlines()) == 8
    capsys.readouterr()
    assert run(["index", tmp_path / "features"]) == 1
    assert "none of the 8 videos" in capsys.readouterr().err
    for command in (["index"], ["duplicates"], ["cluster", "-o", tmp_path / "c"], ["report"], ["plot"]):
        (tmp_path / "empty").mkdir(exist_ok=True)
        assert run([*command, tmp_path / "empty"]) in (1, 2), command
        assert str(tmp_path / "empty") in capsys.readouterr().err


def test_a_run_whose_validation_cannot_be_read_keeps_its_weights(worlds, tmp_path, capsys):
    """The videos break while it trains: it ends with an error, again and again, and no result; the checkpoint is there."""
    world = tmp_path / "world"
    shutil.copytree(worlds["good"], world)
    out = tmp_path / "out"
    good = [world / "videos" / path for path in paths_of(world)[:2]]
    lines = [f"{path} 20 {i % 2}" for i, path in enumerate(good)] + ["gone0.mp4 9 0", "gone1.mp4 9 1", "gone2.mp4 9 1"]
    write_list(world / "val", lines)
    command = commands(world, out)["finetune"]
    for i in range(3):
        (world / "videos" / f"gone{i}.mp4").write_bytes(b"no video")
    for _ in range(2):
        assert run(command) == 1
        assert "3 of the 5 videos" in capsys.readouterr().err
    assert list((out / "checkpoints").iterdir())
    assert not (out / "results.json").exists()


@pytest.mark.slow
def test_torchrun_extracts_what_it_can_and_fails_when_all_do(worlds, tmp_path):
    """A process whose own videos are all broken does not stop the others."""
    for world, code in (("some", 0), ("all", 1)):
        out = tmp_path / world
        arguments = [str(word) for word in commands(worlds[world], out)["extract"]]
        process = start(arguments[1:], ranks=2, command=("extract",))
        errors = process.communicate()[1]
        assert (process.returncode != 0) == (code != 0), errors
        lines = [line for file in out.glob("manifest*.jsonl") for line in file.read_text().splitlines()]
        assert len(lines) == 8
        assert sum(json.loads(line)["status"] == "failed" for line in lines) == len(BROKEN[world])


def test_the_rule():
    check_failures(0, 8, 0.0, what="videos")
    check_failures(4, 8, 0.5, what="videos")
    with pytest.raises(TooManyFailuresError, match=r"5 of the 8 videos of x .*0\.5.*b\.mp4: gone.*--root y"):
        check_failures(5, 8, 0.5, what="videos of x", first="b.mp4: gone", remedy="paths start from --root y")
    with pytest.raises(NothingReadError, match="none of the 8"):
        check_failures(8, 8, 1.0, what="videos")
    with pytest.raises(NothingReadError):
        check_failures(0, 0, 1.0, what="videos")


def test_an_error_of_the_program_stops_the_job(worlds, tmp_path):
    """It is no damaged video: the job ends with the traceback, whoever decodes."""
    code = """
import sys
from vie_models import cli
from vie_models.video import decode

def bug(self, frame):
    return {}["no such key"]

if "--workers" in sys.argv and sys.argv[sys.argv.index("--workers") + 1] == "0":
    decode.VideoFile._rgb = bug
sys.exit(cli.main(sys.argv[1:]))
"""
    command = [str(word) for word in commands(worlds["good"], tmp_path / "out")["extract"]]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "KeyError: 'no such key'" in done.stderr
    train = [str(word) for word in commands(worlds["good"], tmp_path / "run")["train"]]
    done = subprocess.run([sys.executable, "-c", code, *train], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "KeyError: 'no such key'" in done.stderr
