"""Weight folders of two pathways, model cards, and the way to the Hub, on a local server that answers as the Hub does."""

import json
import os
import re
import shutil
import subprocess
import sys

import huggingface_hub
import pytest
import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load_file, save_file
from support import ROOT
from support.servers import Fault, FileServer, HubServer

import vie_models as vie
from vie_models.cli import main
from vie_models.files import sha256_of
from vie_models.models.weight_folder import BANK, CONFIG, MODEL, read_bank, save_pretrained, write_tensors
from vie_models.weights.card import About, Measured, write_card
from vie_models.weights.catalog import CARD
from vie_models.weights.joined import join
from vie_models.weights.publish import check, publish

ABOUT = {
    "license": "apache-2.0",
    "license_text": "Apache-2.0.",
    "summary": "An encoder that has seen nothing.",
    "training_data": "None.",
    "procedure": "None.",
    "intended_use": "Tests.",
    "limits": "All of them.",
    "commands": ["true"],
}


def make_set(folder, model="vie_single_tiny", seed=0, rows=6):
    """A weight folder in half precision, with a bank and a card."""
    torch.manual_seed(seed)
    save_pretrained(vie.create_model(model).half(), folder)
    bank = torch.nn.functional.normalize(torch.randn(rows, 128), dim=1)
    write_tensors(folder / BANK, {"memory_bank": bank.half(), "labels": torch.arange(rows)})
    measured = [Measured(dataset="toys", protocol="knn", value=12.5, spread="12.0 ± 0.7 (2 runs)")]
    write_card(folder, About(name=folder.name, measured=measured, **ABOUT))
    return folder


@pytest.fixture
def folder(tmp_path):
    return make_set(tmp_path / "vie_single_tiny.test")


@pytest.fixture
def hub(monkeypatch):
    with HubServer(token="hf_secret") as server:
        if huggingface_hub.__version__ < "1":  # not all of it hears of `endpoint`
            for name in ("hf_api", "lfs", "_commit_api"):
                monkeypatch.setattr(f"huggingface_hub.{name}.ENDPOINT", server.url, raising=False)
        yield server


def send(folder, hub, repo="org/toys", **options):
    return publish(folder, repo, endpoint=hub.url, token="hf_secret", **options)


def fetched(hub, repo, revision=None):
    """The encoder that the Hub has."""
    return vie.from_pretrained(snapshot_download(repo, revision=revision, endpoint=hub.url, token="hf_secret"))


def two_pathways(tmp_path):
    static = make_set(tmp_path / "vie_single_tiny.test")
    dynamic = make_set(tmp_path / "vie_slowfast_tiny.test", "vie_slowfast_tiny", 1)
    folder = tmp_path / "vie_twopathway_tiny.test"
    return static, dynamic, folder, join(static, dynamic, folder)


# --- two pathways --------------------------------------------------------------------------------------------------------


def test_a_joined_set_is_its_two_pathways(tmp_path):
    static, dynamic, folder, made = two_pathways(tmp_path)
    assert [path.name for path in folder.iterdir()] == [CONFIG]
    loaded = vie.from_pretrained(folder)
    x = torch.randn(1, 3, 16, 64, 64)
    parts = [vie.from_pretrained(part)(x) for part in (static, dynamic)]
    torch.testing.assert_close(loaded(x), torch.cat(parts, 1) / 2**0.5)
    assert torch.equal(loaded(x), made(x))
    bank = read_bank(folder)
    assert bank["memory_bank"].shape == (6, 256)
    assert (bank["memory_bank"].norm(dim=1) - 1).abs().max() < 1e-3
    assert torch.equal(bank["labels"], torch.arange(6))


def test_pathways_that_do_not_belong_together_are_refused(tmp_path):
    static = make_set(tmp_path / "vie_single_tiny.test")
    with pytest.raises(ValueError, match="no two-pathway model is made of vie_single_tiny"):
        join(static, static, tmp_path / "both")
    dynamic = make_set(tmp_path / "vie_slowfast_tiny.test", "vie_slowfast_tiny", rows=7)
    with pytest.raises(vie.WeightsError, match="must be of the same videos"):
        join(static, dynamic, tmp_path / "both")


def test_a_pathway_that_is_gone_is_named(tmp_path):
    _, dynamic, folder, _ = two_pathways(tmp_path)
    shutil.rmtree(dynamic)
    with pytest.raises(FileNotFoundError, match=r"vie_slowfast_tiny.test/model.safetensors does not exist"):
        vie.from_pretrained(folder)


# --- cards ---------------------------------------------------------------------------------------------------------------


def test_a_card_says_what_the_folder_is(folder):
    from huggingface_hub import ModelCard

    card = ModelCard((folder / CARD).read_text())
    data = card.data.to_dict()
    assert (data["license"], data["library_name"]) == ("apache-2.0", "vie_models")
    assert data["vie_models"]["parameters"] == sum(p.numel() for p in vie.from_pretrained(folder).parameters())
    assert set(data["vie_models"]["sha256"]) == {CONFIG, MODEL, BANK}
    (result,) = card.data.eval_results
    assert (result.dataset_name, result.metric_name, result.metric_value) == ("toys", "knn", 12.5)
    assert "| toys | knn | 12.5 | 12.0 ± 0.7 (2 runs) |" in card.text
    assert "An encoder that has seen nothing." in card.text


def test_the_command_writes_a_card(folder, tmp_path, capsys):
    (folder / CARD).unlink()
    older = {name.replace("license", "licence"): text for name, text in ABOUT.items()}
    (tmp_path / "about.json").write_text(json.dumps(older))
    assert main(["card", str(folder), str(tmp_path / "about.json")]) == 0
    assert "0 measured numbers" in capsys.readouterr().out
    assert check(folder).model_name == "vie_single_tiny"
    (tmp_path / "about.json").write_text(json.dumps({"license": "mit"}))
    assert main(["card", str(folder), str(tmp_path / "about.json")]) == 2
    assert "about.json must have the fields of a card" in capsys.readouterr().err
    (tmp_path / "about.json").write_text("license: mit")
    assert main(["card", str(folder), str(tmp_path / "about.json")]) == 2
    assert "about.json must be a JSON file: " in capsys.readouterr().err
    assert main(["card", str(folder), str(tmp_path / "none.json")]) == 2
    assert "none.json: write the author's statements there" in capsys.readouterr().err


# --- the Hub -------------------------------------------------------------------------------------------------------------


def test_publishing_and_loading_back(folder, hub, tmp_path):
    done = send(folder, hub)
    assert (done.repo_id, done.tag) == ("org/toys", "v1")
    commit = hub.refs["org/toys"]["main"]
    sent, got = {path.name: path.read_bytes() for path in folder.iterdir()}, hub.commits[commit]
    assert set(got) == {*sent, ".gitattributes"}
    assert {name for name in sent if got[name] != sent[name]} == {CARD}
    assert hub.tags("org/toys") == {"v1": commit}
    assert sum("/commit/main" in request for request in hub.requests) == 1, "one commit"
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(fetched(hub, "org/toys", "v1")(x), vie.from_pretrained(folder)(x))


def test_what_was_published_may_be_published_again(folder, hub, tmp_path):
    send(folder, hub)
    first = dict(hub.commits[hub.refs["org/toys"]["main"]])
    for name, content in first.items():
        if name != ".gitattributes":
            (tmp_path / name).write_bytes(content)
    shutil.rmtree(folder)
    assert (tmp_path / CARD).read_text().count("org/toys") == 3
    send(tmp_path, hub)
    assert hub.commits[hub.refs["org/toys"]["main"]] == first


def test_the_command_publishes_what_one_line_loads(folder, hub, tmp_path):
    script = (
        "import sys, torch, vie_models as vie; from vie_models.cli import main; x = torch.ones(1, 3, 64, 64)\n"
        "assert main(['publish', sys.argv[1], '--repo-id', 'org/toys', '--tag', 'first']) == 0\n"
        "assert torch.equal(vie.from_pretrained('org/toys', revision='first')(x), vie.from_pretrained(sys.argv[1])(x))\n"
    )
    ours = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_secret", "HF_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, str(folder)]
    done = subprocess.run(command, env={**os.environ, **ours}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "published as org/toys, first: " in done.stdout
    assert "the download equals the upload: " in done.stdout


def test_a_second_version_replaces_the_files_and_keeps_the_first(folder, hub, tmp_path):
    first = send(folder, hub)
    newer = make_set(tmp_path / "newer" / "vie_single_tiny.test", seed=5)
    (newer / BANK).unlink()
    write_card(newer, About(name="vie_single_tiny.test", **ABOUT))
    assert (first.tag, send(newer, hub).tag) == ("v1", "v2")
    tags = hub.tags("org/toys")
    assert BANK in hub.commits[tags["v1"]]
    assert BANK not in hub.commits[tags["v2"]], "what the new version has not is not left over from the old one"
    with pytest.raises(ValueError, match="org/toys already has a tag v1"):
        send(newer, hub, tag="v1")


@pytest.mark.parametrize(("flags", "private"), [([], None), (["--private"], True)])
def test_who_may_see_a_new_repository(flags, private, folder, monkeypatch):
    """Without a flag, what the organization has set counts."""
    asked = {}
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda api, repo_id, **options: asked.update(options) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["publish", str(folder), "--repo-id", "org/toys", *flags])
    assert asked["private"] is private


def test_a_folder_that_is_not_there_is_named(tmp_path, capsys):
    assert main(["publish", str(tmp_path / "none"), "--repo-id", "org/toys", "--dry-run"]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_a_dry_run_sends_nothing(folder, hub, capsys):
    assert main(["publish", str(folder), "--repo-id", "org/toys", "--dry-run"]) == 0
    assert "all checks pass; would be published as org/toys: README.md (" in capsys.readouterr().out
    assert hub.requests == []


def test_a_joined_set_is_published_whole(hub, tmp_path):
    _, _, folder, model = two_pathways(tmp_path)
    write_card(folder, About(name=folder.name, **ABOUT))
    send(folder, hub, "org/both")
    files = hub.commits[hub.refs["org/both"]["main"]]
    assert set(files) == {CARD, CONFIG, MODEL, BANK, ".gitattributes"}
    assert "pathways" not in json.loads(files[CONFIG])
    x = torch.randn(1, 3, 16, 64, 64)
    assert torch.equal(fetched(hub, "org/both")(x), model(x))


def test_what_the_hub_keeps_otherwise_is_not_tagged(folder, hub):
    hub.spoil = MODEL
    with pytest.raises(
        vie.WeightsError, match=r"model.safetensors in org/toys, commit .*, differs from the file sent: not tagged"
    ):
        send(folder, hub)
    assert hub.tags("org/toys") == {}


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def change_weights(folder, change):
    tensors = load_file(folder / MODEL)
    change(tensors)
    save_file(tensors, folder / MODEL, metadata={"format": "pt"})


def renew_card(folder):
    write_card(folder, About(name=folder.name, **ABOUT))


def infinite(folder):
    change_weights(folder, lambda tensors: tensors["head.bias"].fill_(torch.inf))
    renew_card(folder)


def other_bank(folder):
    write_tensors(folder / BANK, {"memory_bank": torch.ones(6, 128), "labels": torch.arange(6)})
    renew_card(folder)


BROKEN = {
    "no card": (lambda f: (f / CARD).unlink(), "the model card README.md is missing: write one"),
    "no license": (lambda f: edit(f / CARD, "license: apache-2.0\n", ""), "the YAML block of README.md has no license"),
    "a license that is none": (lambda f: edit(f / CARD, "license: apache-2.0", "license: unknown"), "says license 'unknown'"),
    "card of another library": (
        lambda f: edit(f / CARD, "library_name: vie_models", "library_name: timm"),
        "got library_name 'timm'",
    ),
    "no YAML": (lambda f: (f / CARD).write_text("---\n: [\n---\n"), "the YAML block of README.md cannot be read"),
    "other weights": (
        lambda f: change_weights(f, lambda tensors: tensors["head.bias"].add_(1)),
        "SHA-256 of model.safetensors differs: README.md says .*, the folder has .*write the card again",
    ),
    "another file": (lambda f: (f / "notes.txt").write_text("x"), "notes.txt differs: README.md says nothing, the folder has"),
    "a file that is gone": (
        lambda f: (f / BANK).unlink(),
        "bank.safetensors differs: README.md says .*, the folder has no such file",
    ),
    "other clips": (lambda f: edit(f / CONFIG, '"crop": 64', '"crop": 48'), "SHA-256 of config.json differs"),
    "another model": (lambda f: edit(f / CONFIG, "vie_single_tiny", "vie_3dresnet_tiny"), "does not fit vie_3dresnet_tiny"),
    "parameters": (lambda f: edit(f / CARD, "  parameters: ", "  parameters: 1"), "README.md says parameters 1"),
    "infinite": (infinite, "head.bias has infinite or NaN values"),
    "a bank of something else": (other_bank, "rows that are not of unit length"),
    "code": (lambda f: (f / "model.pt").write_bytes(b"x"), "model.pt does not belong in a weight set"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_folder_that_does_not_agree_with_itself_is_refused(folder, hub, how):
    damage, message = BROKEN[how]
    damage(folder)
    with pytest.raises(vie.WeightsError, match=message):
        send(folder, hub)
    assert hub.requests == []


# --- a release, for torch.hub --------------------------------------------------------------------------------------------


def test_the_route_by_a_release(folder, tmp_path):
    """As docs/publishing.md says: the name has the beginning of the hash, which torch.hub checks."""
    content = (folder / MODEL).read_bytes()
    digest = sha256_of(folder / MODEL)[:8]
    with FileServer(content, Fault(), Fault(content=content[:-1] + b"?")) as server:
        url = f"{server.url}/releases/download/v1/vie_single_tiny.test-{digest}.safetensors"
        prefix = re.search(r"-([0-9a-f]{8})\.", url)[1]
        torch.hub.download_url_to_file(url, tmp_path / "weights.safetensors", hash_prefix=prefix, progress=False)
        model = torch.hub.load(str(ROOT), "vie_single_tiny", source="local", checkpoint_path=tmp_path / "weights.safetensors")
        with pytest.raises(RuntimeError, match="invalid hash value"):
            torch.hub.download_url_to_file(url, tmp_path / "other.safetensors", hash_prefix=prefix, progress=False)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(model(x), vie.from_pretrained(folder)(x))
