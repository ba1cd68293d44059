"""Weight folders and Hub repositories: what is saved loads again, bit for bit; what is broken says so."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from support import ROOT
from support.encoders import embed, small_clip
from support.servers import HubServer, LocalServer

import vie_models as vie

# --- folders -------------------------------------------------------------------------------------------------------------


def build(name: str) -> vie.Encoder:
    """A model quick enough for every name, with running statistics that are not those of a new one."""
    model = vie.create_model(name) if name.endswith("_tiny") else vie.create_model(name, width=8)
    embed(model, small_clip(model))
    return model.eval()


@pytest.mark.parametrize("name", vie.list_models())
def test_folders_round_trip_bit_for_bit(name, tmp_path):
    model = build(name)
    model.clip_spec = dataclasses.replace(model.clip_spec, fps=12.5)
    vie.save_pretrained(model, tmp_path)
    again = vie.from_pretrained(tmp_path)
    assert not again.training
    assert (again.model_name, again.model_args, again.clip_spec) == (name, model.model_args, model.clip_spec)
    assert {k: v.dtype for k, v in again.state_dict().items()} == {k: v.dtype for k, v in model.state_dict().items()}
    assert all(p.requires_grad == q.requires_grad for p, q in zip(model.parameters(), again.parameters(), strict=True))
    x = small_clip(model)
    assert torch.equal(embed(again, x), embed(model, x))
    by_path = vie.create_model(name, checkpoint_path=tmp_path)
    assert torch.equal(embed(by_path, x), embed(model, x))


@pytest.mark.parametrize("num_classes", [0, 7])
def test_folders_keep_their_head(num_classes, tmp_path):
    model = vie.create_model("vie_single_tiny", num_classes=num_classes).eval()
    vie.save_pretrained(model, tmp_path)
    x = small_clip(model)
    assert torch.equal(embed(vie.from_pretrained(tmp_path), x), embed(model, x))
    assert embed(vie.from_pretrained(tmp_path, num_classes=3), x).shape == (2, 3)
    assert embed(vie.from_pretrained(tmp_path, num_classes=0), x).shape == (2, model.num_features)


@pytest.fixture
def saved_folder(tmp_path):
    vie.save_pretrained(vie.create_model("vie_single_tiny"), tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_without_one_of_its_files(name, saved_folder):
    (saved_folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} does not exist: a weight folder holds"):
        vie.from_pretrained(saved_folder)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        vie.from_pretrained(tmp_path / "nowhere")


def without_hub(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("the Hub was asked")

    for name in ("hf_hub_download", "get_hf_file_metadata"):
        monkeypatch.setattr(f"huggingface_hub.{name}", refuse)


PATHS = ["checkpoints/mine", "./mine", "../mine", "mine/", "a/b/mine", "/mine", "~/mine", "a\\b", Path("org/name")]


@pytest.mark.parametrize("name", PATHS, ids=str)
def test_what_is_written_as_a_path_never_asks_the_hub(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    without_hub(monkeypatch)
    with pytest.raises(FileNotFoundError, match=f"{re.escape(str(name))} is no folder"):
        vie.from_pretrained(name)
    if "/" in str(name):
        with pytest.raises(FileNotFoundError, match="no folder"):
            torch.hub.load(str(ROOT), "vie_embedder", name, source="local")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("checkpoints/vie_single_tiny.natural", "the weight set vie_single_tiny.natural is loaded by this name alone"),
        ("vie_single_tiny.naturl", "vie_single_tiny.natural"),
        ("vie_slow", "create_model"),
    ],
)
def test_a_missing_folder_has_a_remedy(name, remedy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    without_hub(monkeypatch)
    with pytest.raises(FileNotFoundError, match=f"{name} is no folder.*{remedy}"):
        vie.from_pretrained(name)
    with pytest.raises(FileNotFoundError, match=f"{name} is no folder.*{remedy}"):
        vie.create_model("vie_single_tiny", checkpoint_path=name)


class Silent(LocalServer):
    """Hears a question, and breaks off."""

    asked = 0

    def answer(self, handler):
        self.asked += 1
        handler.close_connection = True


def test_a_hub_that_does_not_answer_is_asked_once(tmp_path):
    """As for a name that may be a folder's, without a network."""
    script = """
        with pytest.raises(FileNotFoundError, match="no folder weights/mine here"):
            vie.from_pretrained("weights/mine")
    """
    with Silent() as hub:
        run_with_hub(script, hub, tmp_path / "hf")
        assert hub.asked == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b"{}",
        '{"architecture": "vie_single_tiny"}',
        {"architecture": "vit"},
        {"architecture": None},
        {"architecture": []},
        {"model_args": None},
        {"model_args": {"depth": 3}},
        {"model_args": {"width": "wide"}},
        {"model_args": {"width": -1}},
        {"model_args": {"width": 0}},
        {"model_args": {"num_classes": -1}},
        {"clip_spec": None},
        {"clip_spec": {}},
        {"clip_spec": {"num_frames": 0}},
        {"clip_spec": {"num_frames": 1, "codec": "h264"}},
        {"clip_spec": {"num_frames": 1, "fps": "fast"}},
        {"clip_spec": {"num_frames": 1, "mean": 0.5}},
    ],
    ids=str,
)
def test_a_config_that_describes_no_encoder(content, saved_folder):
    path = saved_folder / "config.json"
    if isinstance(content, dict):
        content = json.dumps({**json.loads(path.read_text()), **content})
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(vie.WeightsError, match=r"config.json does not describe a VIE encoder|model.safetensors does not fit"):
        vie.from_pretrained(saved_folder)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_safetensors(keep, saved_folder):
    path = saved_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(vie.WeightsError, match=r"model.safetensors is not a readable safetensors file.*again"):
        vie.from_pretrained(saved_folder)


def test_a_folder_with_weights_of_another_width_names_a_tensor(saved_folder):
    path = saved_folder / "config.json"
    path.write_text(path.read_text().replace('"width": 16', '"width": 32'))
    with pytest.raises(
        vie.WeightsError, match=r"does not fit vie_single_tiny .*of another shape \(.* is \[.*\] in the file and \["
    ):
        vie.from_pretrained(saved_folder)


# --- the Hub -------------------------------------------------------------------------------------------------------------


def run_with_hub(script: str, hub: HubServer, home: Path, *args: object) -> None:
    """Runs `script` in a process whose Hub is ours: huggingface_hub reads HF_ENDPOINT when it is imported."""
    prelude = """
        import sys, torch, pytest
        from pathlib import Path
        import huggingface_hub.utils as hub
        import vie_models as vie
    """
    env = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
    }
    env.pop("HF_TOKEN", None)
    script = textwrap.dedent(prelude) + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", script, *map(str, args)], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def as_repository(path: Path) -> dict[str, bytes]:
    return {name: (path / name).read_bytes() for name in ("config.json", "model.safetensors")}


def test_hub_revisions_tokens_caches_and_damage(tmp_path):
    for width in (8, 16):
        vie.save_pretrained(vie.create_model("vie_single_tiny", width=width), tmp_path / str(width))
    vie.save_pretrained(vie.create_model("vie_single_tiny", width=8, num_classes=7), tmp_path / "classes")
    with HubServer(token="secret") as hub:
        hub.put("org/net", as_repository(tmp_path / "8"))
        commit = hub.put("org/net", as_repository(tmp_path / "16"), revision="v2")
        hub.put("org/net", as_repository(tmp_path / "classes"), revision="classes")
        hub.put("org/net", {"config.json": (tmp_path / "8/config.json").read_bytes()}, revision="half")
        script = """
            commit, cache = sys.argv[1], sys.argv[2]
            def width(**options):
                return vie.from_pretrained("org/net", **{"token": "secret", **options}).model_args["width"]

            assert width() == 8
            assert width(revision="v2") == 16
            assert width(revision=commit) == 16
            model = vie.from_pretrained("org/net", token="secret", revision="classes")
            assert model.num_classes == 7
            assert vie.from_pretrained("org/net", token="secret", revision="classes", num_classes=3).num_classes == 3
            assert width(revision="v2", cache_dir=cache) == 16
            assert list(Path(cache).glob("models--org--net/snapshots/*/model.safetensors"))

            for error, name, options in (
                (hub.RepositoryNotFoundError, "org/nothing", {"token": "secret"}),
                (hub.RepositoryNotFoundError, "org/net", {"token": "wrong", "cache_dir": cache + "2"}),
                (hub.RevisionNotFoundError, "org/net", {"token": "secret", "revision": "v3"}),
                (hub.EntryNotFoundError, "org/net", {"token": "secret", "revision": "half"}),
                (hub.LocalEntryNotFoundError, "org/net", {"local_files_only": True, "cache_dir": cache + "3"}),
            ):
                with pytest.raises(error) as caught:
                    vie.from_pretrained(name, **options)
                assert error is not hub.RepositoryNotFoundError or f"no folder {name}" in str(caught.value)
        """
        run_with_hub(script, hub, tmp_path / "hf", commit, tmp_path / "cache")

    # the Hub is gone now
    cache = tmp_path / "hf/hub/models--org--net"
    script = """
        cache, shared = Path(sys.argv[1]), Path(sys.argv[1]).parent / "blobs/ab"
        def load():
            return vie.from_pretrained("org/net", local_files_only=True)

        x = torch.randn(1, 3, 1, 64, 64)
        with torch.inference_mode():
            assert torch.equal(load()(x), vie.from_pretrained(sys.argv[2])(x))

        commit = (cache / "refs/main").read_text()
        for name in ("config.json", "model.safetensors"):
            path = cache / "snapshots" / commit / name
            content = path.read_bytes()
            path.resolve().write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            expected = path.resolve().name
            message = f"{name} is not what it should be: expected {expected}, found .*Delete .*{expected}"
            with pytest.raises(vie.WeightsError, match=message):
                load()
            path.resolve().write_bytes(content)

        # huggingface_hub >= 2 keeps large files where several repositories share them, under names of its own
        blob = path.resolve()
        shared.mkdir(parents=True)
        blob.rename(shared / ("ab" * 32))
        blob.symlink_to(shared / ("ab" * 32))
        load()
        (shared / ("ab" * 32)).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(vie.WeightsError, match=f"expected {blob.name}, found .*Delete {shared / ('ab' * 32)}"):
            load()
    """
    run_with_hub(script, hub, tmp_path / "hf", cache, tmp_path / "8")
