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
    inner = list(command.commands.items())[: 1 if command.what in ("recipe", "model") else None]
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
    assert not re.search(r"\b(PATH|STR)\b", usage)
    assert "{None}" not in text
    assert not re.search(r"default: *(None)?\)", text)
    assert "--checkpoint" not in text
    assert ("--noise" in text) == (words[0] == "train")


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        with pytest.raises(SystemExit) as end:
            cli.main(["--tyro-write-completion", shell, str(folder / shell)])
        assert end.value.code == 0
    return folder


COMPLETED = {
    "vie ex": ["export", "extract"],
    "vie train vie_slow": ["vie_slow", "vie_slowfast", "vie_slowfast_small", "vie_slowfast_tiny"],
    "vie train vie_slow --lr": ["--lr", "--lr-boundaries"],
    "vie program vie_slow x --format ": ["onnx", "pt2"],
    "vie eval knn vie_trn --neig": ["--neighbors"],
    "vie neuro features --proj": ["--project"],
}


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_shells_complete(shell, scripts):
    """tyro's scripts, run by the shells themselves."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    code = f"source {scripts / shell}\n"
    for line in COMPLETED:
        if shell == "fish":
            code += f"echo (complete -C '{line}' | string replace -r '\\t.*' '')\n"
        else:
            words = line.split(" ")
            quoted = " ".join(f"'{word}'" for word in words)
            code += f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; COMP_LINE='{line}'; COMP_POINT={len(line)}; COMPREPLY=()\n"
            code += "$(complete -p vie | sed 's/.*-F \\([^ ]*\\).*/\\1/') vie; "
            code = code.rstrip(" ;").removesuffix(" vie") + '; echo "${COMPREPLY[*]}"\n'
    done = subprocess.run([shell, "-c", code], capture_output=True, text=True, check=True)
    for line, found in zip(COMPLETED.items(), done.stdout.splitlines(), strict=True):
        assert set(line[1]) <= set(found.split()), (line, found, done.stderr)
