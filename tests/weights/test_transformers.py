"""What is published loads in every way that its card shows: vie_models, timm, torch.hub and transformers, bit for bit."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support import ROOT
from support.servers import HubServer
from support.videos import write_video

import vie_models as vie
from vie_models.weights.card import CARD, USE, use
from vie_models.weights.folder import CONFIG, read_config
from vie_models.weights.transformers_files import CLASSES, CODE, classes, write_transformers_files

CODE_FILE = Path(vie.__file__).parent / "weights" / "hub_code" / CODE
needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed (pip install transformers)"
)
SETS = {"embed": ("vie_twopathway_tiny", None), "classify": ("vie_3dresnet_tiny", 3)}
"""Model and number of classes."""


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    frames = np.random.default_rng(0).integers(0, 256, (40, 90, 121, 3), np.uint8)
    return write_video(tmp_path_factory.mktemp("video") / "video.mp4", frames)


def make(name: str) -> vie.Encoder:
    torch.manual_seed(1)
    model, num_classes = SETS[name]
    return vie.create_model(model, num_classes=num_classes).eval()


def clip_of(model: vie.Encoder, video: Path) -> torch.Tensor:
    """[1, 3, T, H, W]."""
    return vie.clip_transform(model)(vie.load_clip(video, model.clip_spec))[None]


# --- the snippets of a card ----------------------------------------------------------------------------------------------

RUN = """
import re, sys, torch
cards, threads = sys.argv[1:-1], int(sys.argv[-1])
torch.set_num_threads(threads)
for card in cards:
    want = torch.load(card + ".pt")
    snippets = re.findall(r"```python\\n(.*?)```", open(card).read(), re.S)
    ways = []
    for code in snippets:
        names = {}
        exec(compile(code, card, "exec"), names)
        way = re.search("torch.hub|timm|transformers|vie_models", code)[0]
        if "classify" in names:
            scores = {one["label"]: one["score"] for one in names["classify"]("video.mp4")}
            assert scores == {f"LABEL_{i}": p for i, p in enumerate(want["y"].softmax(1)[0].tolist())}, scores
            continue
        result = names.get("embedding", names.get("logits"))
        if way != "torch.hub":  # whose clip is a placeholder
            assert torch.equal(result, want["y"]), (way, (result - want["y"]).abs().max())
        x = want["x"].transpose(1, 2) if way == "transformers" else want["x"]
        with torch.inference_mode():
            y = names["model"](x)
        y = y[0] if way == "transformers" else y
        assert torch.equal(y, want["y"]), (way, (y - want["y"]).abs().max())
        ways.append(way)
    assert ways == ["vie_models", "timm", "torch.hub", "transformers"], ways
    assert ("classify" in names) == (want["y"].shape[1] == 3)
"""


@needs_transformers
def test_every_way_to_load_gives_the_same_bits(video, tmp_path):
    """From a folder, from a Hub, and from its cache once the Hub is gone."""
    pytest.importorskip("timm", minversion="1.0.9", reason="timm 1.0.9 or newer is needed for local-dir:")
    pytest.importorskip("huggingface_hub", minversion="1.0", reason="publish hears of `endpoint` everywhere from 1.0 on")
    (tmp_path / "path/to").mkdir(parents=True)
    (tmp_path / "path/to/vie_models").symlink_to(ROOT)
    (tmp_path / "video.mp4").symlink_to(video)
    names = {"local": [], "hub": []}
    with HubServer() as hub:
        for name in SETS:
            model = make(name)
            x = clip_of(model, video)
            with torch.inference_mode():
                want = {"x": x, "y": model(x)}
            model.push_to_hub(f"org/{name}", model_card_kwargs={"license": "mit"}, endpoint=hub.url)
            published = hub.commits[hub.refs[f"org/{name}"]["main"]]
            (tmp_path / name).mkdir()
            for file, content in published.items():
                (tmp_path / name / file).write_bytes(content)
            section = published[CARD].decode().partition(f"\n{USE}\n")[2].partition("\n## ")[0]
            for kind, text in (
                ("hub", section),
                ("local", "\n".join(use(f"./{name}", model)).replace("hf-hub:", "local-dir:")),
            ):
                card = tmp_path / f"{name}_{kind}.md"
                card.write_text(text)
                torch.save(want, f"{card}.pt")
                names[kind].append(str(card))
        home = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_ENDPOINT": hub.url}
        run(names["hub"], tmp_path, **home)
        assert any(request.startswith("GET") and request.endswith(CODE) for request in hub.requests)
    run(names["local"], tmp_path, **home, HF_HUB_OFFLINE="1")
    run(names["hub"], tmp_path, **home, HF_HUB_OFFLINE="1")


def run(cards: list[str], folder: Path, **env: str) -> None:
    command = [sys.executable, "-c", RUN, *cards, str(torch.get_num_threads())]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p or str(ROOT) for p in sys.path), **env}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


# --- what is written -----------------------------------------------------------------------------------------------------


def test_files_are_added_and_ours_stay(tmp_path):
    model = make("classify")
    vie.save_pretrained(model, tmp_path)
    before = read_config(tmp_path / CONFIG)
    (tmp_path / CLASSES).write_text("a\nb\nc\n")
    write_transformers_files(tmp_path, model)
    after = read_config(tmp_path / CONFIG)
    assert before.items() <= after.items()
    assert after["id2label"] == {"0": "a", "1": "b", "2": "c"}
    assert (tmp_path / CODE).read_bytes() == CODE_FILE.read_bytes()
    assert torch.equal(vie.from_pretrained(tmp_path).state_dict()["head.weight"], model.state_dict()["head.weight"])


def test_names_of_another_number_of_classes_are_not_the_classifiers(tmp_path):
    (tmp_path / CLASSES).write_text("a\nb\n")
    assert classes(tmp_path, 3) == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert classes(tmp_path, 0) == []


def test_nothing_in_the_package_imports_transformers():
    """But for the file that is copied."""
    importing = re.compile(r"^\s*(from|import) transformers", re.M)
    found = {path.name for path in Path(vie.__file__).parent.rglob("*.py") if importing.search(path.read_text())}
    assert found == {CODE}


# --- in transformers' hands ----------------------------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Folders as they are published."""
    pytest.importorskip("transformers", reason="transformers is not installed (pip install transformers)")
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folders = {}
    for name in SETS:
        folders[name] = tmp_path / name
        vie.save_pretrained(make(name), folders[name])
        write_transformers_files(folders[name], make(name))
    yield folders
    sys.path[:] = [entry for entry in sys.path if entry != str(tmp_path / "modules")]
    for module in [name for name in sys.modules if name.split(".")[0] == "transformers_modules"]:
        del sys.modules[module]


def test_hidden_states_are_the_layers(published, video):
    from transformers import AutoModel

    model, theirs = make("embed"), AutoModel.from_pretrained(published["embed"], trust_remote_code=True)
    x = clip_of(model, video)
    with torch.inference_mode():
        output = theirs(x.transpose(1, 2), output_hidden_states=True)
        maps = model.forward_layers(x, model.layer_names)
        assert torch.equal(output.embedding, model(x))
    assert all(torch.equal(a, b) for a, b in zip(output.hidden_states, maps.values(), strict=True))
    assert theirs(x.transpose(1, 2), return_dict=False)[0].shape == (1, 256)


def test_the_processor_makes_our_clips(published, video):
    from transformers import AutoImageProcessor, AutoVideoProcessor

    model = make("embed")
    x = clip_of(model, video).transpose(1, 2)
    processor = AutoVideoProcessor.from_pretrained(published["embed"], trust_remote_code=True)
    assert torch.equal(processor([str(video)] * 2, return_tensors="pt")["pixel_values"], torch.cat([x, x]))
    frames = vie.load_clip(video, model.clip_spec)
    for given in (frames, frames.numpy(), list(frames.numpy()), [list(frames.numpy())]):
        assert torch.equal(processor(given, return_tensors="pt")["pixel_values"], x)
    everything = vie.load_clip(video, vie.ClipSpec(num_frames=40))
    sampled = processor(everything, video_metadata={"fps": 25}, return_tensors="pt")["pixel_values"]
    assert torch.equal(sampled, x)
    assert processor(everything, do_sample_frames=False, return_tensors="pt")["pixel_values"].shape[1] == 40
    with pytest.raises(ValueError, match=r"a clip has 16 frames, got 40: pass video_metadata"):
        processor(everything)
    images = AutoImageProcessor.from_pretrained(published["embed"])  # of VideoMAE, without our code
    assert type(images).__name__.startswith("VideoMAEImageProcessor")
    torch.testing.assert_close(images(list(frames.numpy()), return_tensors="pt")["pixel_values"], x, atol=2e-6, rtol=0)


def test_a_new_classifier_is_made_only_if_asked_for(published):
    from transformers import AutoModelForVideoClassification

    def load(name, **options):
        return AutoModelForVideoClassification.from_pretrained(published[name], trust_remote_code=True, **options)

    with pytest.raises(ValueError, match="this vie_twopathway_tiny has no classifier"):
        load("embed")
    for name in SETS:
        with pytest.raises(RuntimeError, match=r"do not fit|ignore_mismatched_sizes"):
            load(name, num_labels=5)
        model = load(name, num_labels=5, ignore_mismatched_sizes=True)
        x = torch.randn(2, 16, 3, 64, 64)
        output = model(x, labels=torch.tensor([0, 4]))
        output.loss.backward()
        assert output.logits.shape == (2, 5)
        model.eval().save_pretrained(published[name].with_name("tuned"))  # vie_models reads it
        ours = vie.from_pretrained(published[name].with_name("tuned"))
        with torch.inference_mode():
            assert torch.equal(ours(x.transpose(1, 2)), model(x).logits)


def test_weights_that_do_not_fit_are_an_error(published):
    from safetensors.torch import load_file, save_file
    from transformers import AutoModel

    file = published["embed"] / "model.safetensors"
    tensors = load_file(file)
    del tensors["static.norm.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(RuntimeError, match=r"the weights do not fit vie_twopathway_tiny: encoder\.static\.norm\.weight"):
        AutoModel.from_pretrained(published["embed"], trust_remote_code=True)


@needs_transformers
def test_without_vie_models_the_code_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "vie_models.clip_spec", None)
    with pytest.raises(ImportError, match=r"this model needs vie_models .*: pip install vie_models"):
        runpy.run_path(str(CODE_FILE))
