"""`save_pretrained`, `push_to_hub` and `from_pretrained` of an encoder, as users of huggingface_hub's mixin call them."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin, snapshot_download
from support.servers import HubServer
from support.videos import write_video

import vie_models as vie
from vie_models.models.resnet import VIESingle
from vie_models.models.resnet3d import VIE3DResNet
from vie_models.weights.card import CARD
from vie_models.weights.folder import CONFIG, MODEL
from vie_models.weights.publish import publish

FRAME = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    return vie.create_model("vie_single_tiny").eval()


def test_the_mixins_methods_are_there():
    mixin = [name for name in ("from_pretrained", "save_pretrained", "push_to_hub") if hasattr(PyTorchModelHubMixin, name)]
    assert [name for name in mixin if not callable(getattr(vie.Encoder, name))] == []


def test_a_folder_and_its_card(model, tmp_path):
    assert model.save_pretrained(tmp_path / "mine") is None
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {CONFIG, MODEL, CARD}
    card = ModelCard((tmp_path / "mine" / CARD).read_text())
    assert (card.data.license, card.data.library_name) == ("unknown", "vie_models")
    for load in (vie.Encoder.from_pretrained, VIESingle.from_pretrained):
        again = load(tmp_path / "mine")
        assert not again.training
        assert torch.equal(again(FRAME), model(FRAME))
    assert VIESingle.from_pretrained(tmp_path / "mine", num_classes=3)(FRAME).shape == (1, 3)


@pytest.mark.parametrize("num_classes", [None, 3])
def test_the_code_of_a_card_loads_the_folder(num_classes, tmp_path, monkeypatch):
    model = vie.create_model("vie_single_tiny", num_classes=num_classes).eval()
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "video.mp4", np.zeros((30, 64, 80, 3), np.uint8))
    model.save_pretrained("vie_single_tiny.natural")  # also where a set of ours has the name
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "vie_single_tiny.natural" / CARD).read_text(), re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert torch.equal(names["model"](FRAME), model(FRAME))
    assert names["logits" if num_classes else "embedding"].shape == (1, num_classes or 128)


@pytest.mark.parametrize("license", [None, "unknown", "Not stated"])
def test_nothing_is_published_without_a_license(model, tmp_path, license):
    about = {"license": license} if license else {}
    with HubServer() as hub:
        with pytest.raises(vie.WeightsError, match="license"):
            model.push_to_hub("org/name", model_card_kwargs=about, endpoint=hub.url)
        model.save_pretrained(tmp_path, model_card_kwargs=about)
        with pytest.raises(vie.WeightsError, match="license"):
            publish(tmp_path, "org/name", dry_run=True)
        assert hub.requests == []


def test_a_card_is_not_written_over(model, tmp_path):
    (tmp_path / CARD).write_text("my own words")
    model.save_pretrained(tmp_path)
    assert (tmp_path / CARD).read_text() == "my own words"


def test_another_class_says_so(model, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds vie_single_tiny, a VIESingle and not a VIE3DResNet: load it with VIESingle"):
        VIE3DResNet.from_pretrained(tmp_path)


def test_what_is_not_meant_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match=r"model_card_kwargs .*summary.*'licensed'"):
        model.save_pretrained(tmp_path, model_card_kwargs={"licensed": "mit"})
    with pytest.raises(TypeError, match="got private, which only push_to_hub=True uses"):
        model.save_pretrained(tmp_path, private=True)
    with pytest.raises(ValueError, match=r'repo_id must be "org/name", .*got \'\''):
        model.save_pretrained(tmp_path, push_to_hub=True)
    with pytest.raises(TypeError, match="branch"):
        model.push_to_hub("org/name", branch="mine")


def test_pushing_and_loading_back(model, tmp_path):
    with HubServer(token="hf_secret") as hub:
        there = {"endpoint": hub.url, "token": "hf_secret"}
        about = {"license": "mit", "summary": "It has seen nothing."}
        url = model.push_to_hub("org/name", private=True, commit_message="mine", model_card_kwargs=about, **there)
        commit = hub.refs["org/name"]["main"]
        assert url == f"{hub.url}/org/name/commit/{commit}"
        assert hub.tags("org/name") == {"v1": commit}
        folder = snapshot_download("org/name", **there)
        assert torch.equal(vie.Encoder.from_pretrained(folder)(FRAME), model(FRAME))
        card = ModelCard(hub.commits[commit][CARD].decode())
        assert card.data.license == "mit"
        assert "It has seen nothing." in card.text
        assert 'vie.from_pretrained("org/name")' in card.text
        model.save_pretrained(tmp_path / "name", repo_id="org/name", push_to_hub=True, model_card_kwargs=about, **there)
        assert set(hub.tags("org/name")) == {"v1", "v2"}


def test_the_class_method_needs_no_other_import(model, tmp_path):
    model.save_pretrained(tmp_path)
    code = "import sys, vie_models as vie; assert vie.Encoder.from_pretrained(sys.argv[1]).model_name == 'vie_single_tiny'"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
