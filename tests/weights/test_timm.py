"""timm finds our models: by name, in a local folder, on the Hub."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch
from support import ROOT
from support.encoders import small_clip
from support.servers import HubServer

import vie_models as vie


def run_python(script: str, *args: object, **env: str) -> None:
    """Runs `script` in a process of its own; an assertion that fails there fails here."""
    script = textwrap.dedent(script)
    command = [sys.executable, "-c", script, *map(str, args)]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_importing_vie_models_imports_nothing_heavy():
    run_python("""
        import sys
        import vie_models
        heavy = {"timm", "torchvision", "av", "huggingface_hub", "vie_models.train", "tyro"} & set(sys.modules)
        assert not heavy, heavy
    """)


def test_importing_vie_models_works_without_timm():
    run_python("""
        import sys
        sys.modules["timm"] = None  # as if it were not installed
        import vie_models
        assert vie_models.create_model("vie_single_tiny").model_name == "vie_single_tiny"
    """)


def test_an_old_timm_is_named(tmp_path):
    package = tmp_path / "timm"  # timm 0.4 has a registry, but none for tags and other packages' configurations
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '0.4.12'\n")
    (package / "models/__init__.py").write_text("def register_model(build): raise AssertionError('it is not for us')\n")
    run_python(
        """
        import vie_models
        vie_models.create_model('vie_single_tiny')
        try:
            import vie_models.timm
        except ImportError as error:
            assert "0.4.12" in str(error)
            assert "timm>=1.0" in str(error)
        else:
            raise AssertionError("it was registered")
        """,
        PYTHONPATH=f"{tmp_path}:{ROOT}",
    )


timm = pytest.importorskip("timm", reason="timm is not installed")
MAJOR = int(timm.__version__.split(".")[0])
needs_timm_1 = pytest.mark.skipif(MAJOR < 1, reason=f"our models are for timm >= 1.0, here is {timm.__version__}")
timm_hub = getattr(timm.models, "_hub", None)
needs_local_dir = pytest.mark.skipif(
    not hasattr(timm_hub, "load_model_config_from_path"), reason=f"timm {timm.__version__} does not know local-dir:"
)
needs_timm_hub = pytest.mark.skipif(
    MAJOR < 1 or not timm_hub.has_hf_hub(), reason=f"timm {timm.__version__} cannot use this huggingface_hub"
)

if MAJOR >= 1:
    import vie_models.timm


@needs_timm_1
def test_timm_lists_every_model_and_the_published_weights():
    assert timm.list_models("vie*") == vie.list_models()
    assert set(vie.list_weights()) <= set(timm.list_models("vie*", pretrained=True))


@needs_timm_1
def test_timm_builds_by_name():
    model = timm.create_model("vie_3dresnet_tiny", num_classes=7)
    assert isinstance(model, vie.Encoder)
    assert model.training
    assert model(small_clip(model)).shape == (2, 7)
    assert timm.create_model("vie_3dresnet_tiny").num_classes is None
    assert timm.create_model("vie_3dresnet", width=8).model_args["width"] == 8
    with pytest.raises(vie.WeightsError, match="nobody has published weights for vie_slow"):
        timm.create_model("vie_slow", pretrained=True)


@pytest.fixture
def saved(tmp_path):
    """A folder, a clip, and what the model saved there makes of the clip."""

    def save(name: str, **args):
        model = vie.create_model(name, **args).eval()
        vie.save_pretrained(model, tmp_path / "folder")
        x = small_clip(model)
        with torch.inference_mode():
            return tmp_path / "folder", x, model(x)

    return save


@needs_local_dir
@pytest.mark.parametrize("name", vie.list_models("*_tiny"))
def test_timm_loads_local_folders(name, saved):
    folder, x, y = saved(name, width=8)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    untrained = timm.create_model(f"local-dir:{folder}").eval()
    for found in (model, untrained):
        assert (found.model_name, found.model_args["width"]) == (name, 8)
    with torch.inference_mode():
        assert torch.equal(model.eval()(x), y)
        assert not torch.equal(untrained(x), y)


@needs_local_dir
@pytest.mark.parametrize(
    ("had", "wanted", "gives"), [(None, 7, 7), (None, 0, 0), (7, 5, 5), (7, 7, 7), (7, None, 7), (0, 3, 3)]
)
def test_timm_may_change_the_head_of_a_local_folder(had, wanted, gives, saved):
    folder, x, y = saved("vie_single_tiny", num_classes=had)
    for pretrained in (True, False):
        model = timm.create_model(f"local-dir:{folder}", pretrained=pretrained, num_classes=wanted).eval()
        assert model.num_classes == gives
        with torch.inference_mode():
            z = model(x)
        assert z.shape == (2, gives or model.num_features)
        assert not (pretrained and gives == had) or torch.equal(z, y)


@needs_local_dir
def test_timm_reports_a_folder_that_does_not_fit(saved):
    folder, *_ = saved("vie_single_tiny", width=8)
    with pytest.raises(ValueError, match=r"'width': 8.*got width=16"):
        timm.create_model(f"local-dir:{folder}", pretrained=True, width=16)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "clip_spec": {"num_frames": 1, "codec": "h264"}}))
    with pytest.raises(vie.WeightsError, match="unknown ClipSpec field"):
        timm.create_model(f"local-dir:{folder}", pretrained=True)


@needs_timm_hub
def test_timm_loads_from_the_hub(saved, tmp_path):
    folder, x, y = saved("vie_3dresnet_tiny", width=8)
    torch.save({"x": x, "y": y, "threads": torch.get_num_threads()}, tmp_path / "want.pt")
    files = {name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors")}
    script = """
        import sys, torch, timm, vie_models.timm
        want, cache = torch.load(sys.argv[1]), sys.argv[2]
        torch.set_num_threads(want["threads"])
        for name in ("hf-hub:neuroai/net", "hf_hub:neuroai/net@v1"):
            model = timm.create_model(name, pretrained=True).eval()
            with torch.inference_mode():
                assert torch.equal(model(want["x"]), want["y"])
            assert model.model_args["width"] == 8
        assert timm.create_model("hf-hub:neuroai/net", pretrained=True, num_classes=7).num_classes == 7
        model = timm.create_model("hf-hub:neuroai/net", cache_dir=cache).eval()
        assert model.model_args["width"] == 8 and not torch.equal(model(want["x"]), want["y"])
    """
    with HubServer() as hub:
        hub.put("neuroai/net", files)
        hub.put("neuroai/net", files, revision="v1")
        env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        run_python(script, tmp_path / "want.pt", tmp_path / "cache", **env)
