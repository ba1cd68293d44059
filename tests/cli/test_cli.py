"""The command line as a whole: help, lists of names, wrong words, completion, exit codes."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import torch

import vie_models as vie
from vie_models import cli
from vie_models.cli import exit_codes
from vie_models.cli.arguments import Group
from vie_models.models import build_model
from vie_models.models.cost import count_parameters
from vie_models.models.registry import NUM_PARAMETERS
from vie_models.train.recipes import FINETUNE, RECIPES, recipe


def test_list(capsys):
    assert cli.main(["list"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["model", "parameters", "weights", "accuracy"]
    assert list(dict.fromkeys(row.split()[0] for row in rows)) == vie.list_models()
    assert [name for row in rows for name in row.split() if name in vie.list_weights()] == vie.list_weights()
    assert re.search(r"^vie_3dresnet +33\.27 M +vie_3dresnet\.k400 +32\.3 %", "\n".join(rows), re.M)


@pytest.mark.parametrize("name", vie.list_models())
def test_the_number_of_parameters_is_the_models(name):
    with torch.device("meta"):
        assert NUM_PARAMETERS[name] == count_parameters(build_model(name))


def test_info(capsys):
    assert cli.main(["info", "vie_3dresnet"]) == 0
    page = capsys.readouterr().out
    for fact in ("33.27 M", "16.67 GFLOP", "512 x 1 x 4 x 4", "not fetched yet", "not stated", "43.6 %"):
        assert fact in page
    assert cli.main(["info", "vie_twopathway_slow"]) == 0
    assert "none published yet" in capsys.readouterr().out
    assert cli.main(["info", "vie_slow.k400"]) == exit_codes.EXIT_FAILED
    lines = capsys.readouterr().err.splitlines()
    assert "vie_slow.k400" in lines[0]
    assert [line[:4] for line in lines[1:]] == ["  - "] * 3


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["trian"], "train"),
        (["train", "vie_slo"], "vie_slow"),
        (["finetune", "vie_slo"], "vie_slow"),
        (["data", "ucf11"], "ucf101"),
        (["eval", "linar"], "linear"),
        (["neuro", "window"], "windows"),
        (["info", "vie_3dresnt"], "vie_3dresnet"),
    ],
)
def test_an_unknown_name_is_a_wrong_argument(words, nearest, capsys):
    assert cli.main(words) == exit_codes.EXIT_USAGE
    error = capsys.readouterr().err
    assert repr(words[-1]) in error
    assert f"perhaps {nearest};" in error


@pytest.mark.parametrize(
    "words",
    [["train", "vie_slow", "--lr", "fast"], ["extract"], ["eval", "knn", "vie_slo"], ["list", "--no-such-flag"], ["data"]],
)
def test_wrong_words_end_with_exit_code_2(words):
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == exit_codes.EXIT_USAGE


def test_the_console_script_and_its_exit_code():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "vie_models.cli", "info", "vie_nothing"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == exit_codes.EXIT_USAGE
    assert done.stderr.startswith("vie: unknown model 'vie_nothing'")


def test_flags_change_a_recipe_and_nothing_else():
    given = ["--train-list", "list", "-o", "run"]
    for name in RECIPES:
        config = cli.parse(["train", name, *given, "--seed", "7"])
        assert config.to_dict() == recipe(name, out="run", train_list="list", seed=7).to_dict()
    config = cli.parse(["finetune", "vie_twopathway", *given])
    assert (config.model, config.objective, config.batch_size) == ("vie_twopathway", "supervised", 64)
    config = cli.parse(["finetune", "vie_slow", *given, "--epochs", "None", "--steps", "5"])
    assert (config.epochs, config.steps, config.batch_size, config.lr) == (None, 5, FINETUNE["batch_size"], FINETUNE["lr"])
    assert cli.parse(["eval", "linear", "vie_slow", *given, "--layers", "encode_6"]).layers == ("encode_6",)


def leaves(words, command):
    """The words that lead to each command, of recipes and models those of one."""
    if not isinstance(command, Group):
        return [words]
    inner = list(command.commands.items())[: 1 if command.differ_in_settings else None]
    return [found for name, one in inner for found in leaves([*words, name], one)]


@pytest.mark.parametrize("words", leaves([], Group("command", "", cli.COMMANDS)), ids=" ".join)
def test_help(words, capsys, monkeypatch):
    """It names every argument by what it is, and says no default that says nothing."""
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        cli.main([*words, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    usage = text.splitlines()[0].removeprefix(f"usage: vie {' '.join(words)}")
    assert not re.search(r"\b(PATH|STR|INT)\b", re.sub(r"\[-([^][]|\[[^][]*\])*\]", "", usage))  # but for optional flags
    assert "{None}" not in text
    assert not re.search(r"default: *(None)?\)", text)
    assert "--checkpoint" not in text
    assert ("--noise" in text) == (words[0] == "train")


COMPLETED = {
    "vie ex": ["export", "extract"],
    "vie train vie_slow --lr": ["--lr", "--lr-boundaries"],
    "vie program vie_slow x --format ": ["onnx", "pt2"],
    "vie eval li": ["linear"],
    "vie eval linear vie_trn --lay": ["--layers"],
    "vie extract vie_slow a.mp4 --pool ": ["avg", "none"],
    "vie eval knn vie_trn --neig": ["--neighbors"],
    "vie neuro features --proj": ["--project"],
}
PROBES = {
    "bash": "COMP_WORDS=({words}); COMP_CWORD={last}; COMPREPLY=(); _tyro_vie vie; echo ${{COMPREPLY[*]}}\n",
    "fish": "echo (complete -C '{line}' | string replace -r '\\t.*' '')\n",
    "zsh": "words=({words}); CURRENT=$(({last} + 1)); _tyro_vie\n",
}
BEFORE = {"zsh": "compdef() {}; _describe() { print -- ${(P)2%%:*} }; words=(vie ''); CURRENT=2; "}
"""zsh completes in an interactive shell alone, so what it shows the completions with is replaced."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("completion")


@pytest.mark.parametrize("shell", PROBES)
def test_shells_complete(shell, folder):
    """tyro's scripts, run by the shells themselves."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    with pytest.raises(SystemExit) as end:
        cli.main(["--tyro-write-completion", shell, str(folder / shell)])
    assert not end.value.code
    if shell == "zsh" and "CURRENT - 1" not in (folder / shell).read_text():
        pytest.skip("tyro before 1.0.17 completes the next word in zsh")
    code = f"{BEFORE.get(shell, '')}source {folder / shell}{' > /dev/null' if shell == 'zsh' else ''}\n"
    for line in COMPLETED:
        words = line.split(" ")
        code += PROBES[shell].format(line=line, words=" ".join(f"'{word}'" for word in words), last=len(words) - 1)
    done = subprocess.run([shell, "-c", code], capture_output=True, text=True, check=True)
    for (line, expected), found in zip(COMPLETED.items(), done.stdout.splitlines(), strict=True):
        assert sorted(found.split()) == expected, (line, done.stderr)
