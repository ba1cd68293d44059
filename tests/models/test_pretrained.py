"""`save_pretrained`, `push_to_hub` and `from_pretrained` of an encoder, which are those of huggingface_hub's mixin."""

import pytest
import torch
from huggingface_hub import ModelCard
from support.servers import HubServer

import vie_models as vie
from vie_models.models.resnet import VIESingle
from vie_models.models.resnet3d import VIE3DResNet
from vie_models.models.weight_folder import CONFIG, MODEL

FRAME = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    return vie.create_model("vie_single_tiny").eval()


def test_a_folder_and_its_card(model, tmp_path):
    assert model.save_pretrained(tmp_path, model_card_kwargs={"model_name": "Mine"}) is None
    assert {path.name for path in tmp_path.iterdir()} == {CONFIG, MODEL, "README.md"}
    card = ModelCard((tmp_path / "README.md").read_text())
    assert card.data.library_name == "vie_models"
    assert "# Mine" in card.text
    for load in (vie.from_pretrained, vie.Encoder.from_pretrained, VIESingle.from_pretrained):
        again = load(tmp_path)
        assert not again.training
        assert torch.equal(again(FRAME), model(FRAME))
        assert load(tmp_path, num_classes=3)(FRAME).shape == (1, 3)


def test_a_card_is_not_written_over(model, tmp_path):
    (tmp_path / "README.md").write_text("my own words")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "my own words"


def test_what_is_not_meant_is_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"holds vie_single_tiny, .* VIESingle\.from_pretrained"):
        VIE3DResNet.from_pretrained(tmp_path)
    for cls in (vie.Encoder, VIESingle):
        with pytest.raises(TypeError, match="depth"):
            cls.from_pretrained(tmp_path, depth=3)
    with pytest.raises(ValueError, match="fused"):
        model.fuse().save_pretrained(tmp_path / "fused")


def test_pushing_and_loading_back(model, tmp_path, monkeypatch):
    with HubServer(token="hf_secret") as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        for name in ("hf_api", "lfs", "_commit_api", "file_download"):
            monkeypatch.setattr(f"huggingface_hub.{name}.ENDPOINT", hub.url, raising=False)
        url = model.push_to_hub("org/name", private=True, commit_message="mine", token="hf_secret")
        commit = hub.refs["org/name"]["main"]
        assert url == f"{hub.url}/org/name/commit/{commit}"
        assert {CONFIG, MODEL, "README.md"} <= set(hub.commits[commit])
        (tmp_path / "got").mkdir()
        for name in (CONFIG, MODEL):
            (tmp_path / "got" / name).write_bytes(hub.commits[commit][name])
        assert torch.equal(vie.from_pretrained(tmp_path / "got")(FRAME), model(FRAME))
