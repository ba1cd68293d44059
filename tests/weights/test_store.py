"""Checkpoints of the user's own: every form, every head, and what is refused."""

import os
import pickle
import re
import tarfile
from pathlib import Path

import pytest
import torch
from support import REFERENCE
from support.encoders import embed

import vie_models as vie
from vie_models.models import weight_folder as folder

TAR = REFERENCE / "checkpoint-3.tar"


def test_unpublished_weights_say_what_can_be_done():
    with pytest.raises(vie.WeightsError) as caught:
        vie.create_model("vie_slow", pretrained=True)
    for part in (
        "nobody has published weights for vie_slow",
        "create_model('vie_slow')",
        "checkpoint_path=",
        "vie_3dresnet.k400",
    ):
        assert part in str(caught.value)
    with pytest.raises(vie.WeightsError, match=r"(?s)for vie_3dresnet\.imagenet.*vie_3dresnet\.k400"):
        vie.create_model("vie_3dresnet.imagenet")
    with pytest.raises(ValueError, match="unknown model 'vie_resnet', perhaps vie_3dresnet; known models are"):
        vie.create_model("vie_resnet.k400")
    with pytest.raises(vie.WeightsError, match="nobody has published"):
        vie.load_memory_bank("vie_slow")


@pytest.mark.parametrize("name", ["vie_single_tiny", "vie_single_tiny.natural"])
@pytest.mark.parametrize("pretrained", [None, False, True])
def test_what_is_loaded_is_what_was_asked_for(name, pretrained):
    loaded = pretrained if pretrained is not None else "." in name
    given = {} if pretrained is None else {"pretrained": pretrained}
    model = vie.create_model(name, **given)
    assert (model.weights is not None, model.training) == (loaded, not loaded)
    same = torch.equal(model.stem.conv.weight, vie.from_pretrained("vie_single_tiny.natural").stem.conv.weight)
    assert same == loaded


def test_a_weight_set_by_its_name():
    model = vie.from_pretrained("vie_single_tiny.natural", num_classes=3)
    assert (model.weights.name, model.num_classes, model.training) == ("vie_single_tiny.natural", 3, False)
    with pytest.raises(ValueError, match="revision"):
        vie.from_pretrained("vie_single_tiny.natural", revision="v1")


def test_a_weight_set_that_is_not_cached_is_not_fetched(tmp_path):
    with pytest.raises(vie.WeightsError, match="local_files_only"):
        vie.from_pretrained("vie_3dresnet.k400", cache_dir=tmp_path, local_files_only=True)


@pytest.mark.parametrize("name", ["vie_3dresnet", "vie_3dresnet.k400"])
def test_pretrained_and_a_checkpoint_exclude_each_other(name):
    with pytest.raises(ValueError, match="not both"):
        vie.create_model(name, pretrained="." not in name, checkpoint_path=TAR)


@pytest.fixture
def saved(tmp_path):
    """Saves a small model in each way it can be passed as checkpoint_path."""

    def save(name: str, num_classes: int | None) -> dict[str, Path]:
        model = vie.create_model(name, width=8, num_classes=num_classes)
        vie.save_pretrained(model, tmp_path / "folder")
        torch.save(model.state_dict(), tmp_path / "model.pt")
        torch.save({"state_dict": model.state_dict(), "step": 3}, tmp_path / "train.pt")
        return {
            "folder": tmp_path / "folder",
            "safetensors": tmp_path / "folder/model.safetensors",
            "pt": tmp_path / "model.pt",
            "train": tmp_path / "train.pt",
        }

    return save


@pytest.mark.parametrize("route", ["folder", "safetensors", "pt", "train"])
@pytest.mark.parametrize("name", ["vie_slow", "vie_twopathway_slow"])
@pytest.mark.parametrize("had", [None, 0, 7])
@pytest.mark.parametrize("wanted", [None, 0, 7, 5])
def test_heads_of_checkpoints(route, name, had, wanted, saved):
    """The head that was saved if it fits what is asked for, a new one if not; without an answer to "which", no guess."""
    path = saved(name, had)[route]
    if wanted is None and had is not None and route != "folder":  # a folder says what its head is
        with pytest.raises(vie.WeightsError, match=r"head\.(bias|weight).*num_classes"):
            vie.create_model(name, checkpoint_path=path, width=8)
        return
    model = vie.create_model(name, checkpoint_path=path, num_classes=wanted, width=8)
    assert not model.training
    assert model.num_classes == (had if wanted is None else wanted)
    state = folder.read_tensors(saved_path(path))
    same = [key for key, value in model.state_dict().items() if key in state and torch.equal(value, state[key])]
    trunk = [key for key in state if "head." not in key]
    assert set(trunk) <= set(same)
    heads = {key for key in model.state_dict() if "head." in key}
    assert heads.issubset(same) == (wanted in (None, had) or wanted == 0)


def saved_path(path: Path) -> Path:
    parent = path if path.is_dir() else path.parent
    return next(p for p in (parent / "model.safetensors", parent / "folder/model.safetensors") if p.exists())


WRAPPED = {
    "ddp": lambda name: f"module.{name}",
    "compiled": lambda name: f"_orig_mod.{name}",
    "both": lambda name: f"module._orig_mod.{name}",
    "a part": lambda name: re.sub("^stages", "stages._orig_mod", name),
}


@pytest.mark.parametrize("how", WRAPPED)
@pytest.mark.parametrize("route", ["pt", "safetensors", "folder"])
def test_names_of_wrappers_are_taken_off_and_said(how, route, saved, tmp_path):
    path = saved("vie_slow", 7)[route]
    file = saved_path(path) if route != "pt" else path
    state = folder.read_tensors(saved_path(path))
    wrapped = {WRAPPED[how](name): tensor for name, tensor in state.items()}
    torch.save(wrapped, file) if route == "pt" else folder.write_tensors(file, wrapped)
    with pytest.warns(UserWarning, match="_orig_mod" if how != "ddp" else "module"):
        model = vie.create_model("vie_slow", checkpoint_path=path, num_classes=7, width=8)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in state.items())


def test_a_tensor_that_is_there_twice_is_refused(saved):
    path = saved("vie_slow", None)["pt"]
    state = torch.load(path)
    torch.save({**state, "module.head.bias": state["head.bias"] + 1}, path)
    with pytest.raises(vie.WeightsError, match="module"):
        vie.create_model("vie_slow", checkpoint_path=path, width=8)


@pytest.mark.parametrize("kind", ["tar", "folder"])
def test_tensorflow_checkpoints_load(kind, tmp_path, clip, expected):
    with tarfile.open(TAR) as tar:
        tar.extractall(tmp_path, filter="data")
    model = vie.create_model("vie_3dresnet", checkpoint_path=TAR if kind == "tar" else tmp_path)
    assert model.model_args["width"] == 4
    assert model.weights is None
    assert torch.equal(embed(model, clip), expected)


@pytest.mark.parametrize("route", ["folder", "safetensors", "pt", "train"])
def test_wrong_weights_name_the_tensors(route, saved):
    path = saved("vie_slow", None)[route]
    with pytest.raises((vie.WeightsError, ValueError), match=r"217 tensors missing.*fast\.norm|holds vie_slow, not"):
        vie.create_model("vie_slowfast", checkpoint_path=path, width=8)
    with pytest.raises((vie.WeightsError, ValueError), match=r"width"):
        vie.create_model("vie_slow", checkpoint_path=path, width=16)


def test_a_tensorflow_checkpoint_of_another_model():
    with pytest.raises(vie.CheckpointError, match=r"not the variables of vie_slowfast: \d+ missing \(.*\), \d+ unknown \("):
        vie.create_model("vie_slowfast", checkpoint_path=TAR)


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path(os.environ["EVIL"]),))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_with_code_is_refused_and_not_run(legacy, tmp_path, monkeypatch):
    monkeypatch.setenv("EVIL", str(tmp_path / "ran"))
    path = tmp_path / "model.pt"
    torch.save({"state_dict": {}, "evil": Evil()}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises((vie.WeightsError, vie.CheckpointError)):
        vie.create_model("vie_slow", checkpoint_path=path)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises((vie.WeightsError, vie.CheckpointError)):
        vie.create_model("vie_slow", checkpoint_path=path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": [1]}, {"step": 3}], ids=["list", "no dict", "no tensors"])
def test_a_torch_file_that_is_no_state_dict(content, tmp_path):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(vie.WeightsError, match="must hold a state_dict"):
        vie.create_model("vie_slow", checkpoint_path=tmp_path / "model.pt")


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "checkpoint-7"])
def test_a_checkpoint_that_is_not_there(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{name} (is no folder and no file|does not exist)"):
        vie.create_model("vie_slow", checkpoint_path=tmp_path / name)
