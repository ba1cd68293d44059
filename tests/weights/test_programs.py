"""Programs equal their encoder in the runtimes that they are for, for any number of clips, and say what they are."""

import dataclasses
import json

import pytest
import torch
from support.encoders import NAMES, small

import vie_models as vie
from vie_models.cli import main
from vie_models.weights import programs

FEW = ("vie_trn", "vie_3dresnet", "vie_twopathway")
"""Models in which every kind of layer is. The others take their turn among the slow tests."""


@pytest.fixture
def model(request):
    name = getattr(request, "param", "vie_slowfast")
    encoder = small(name).eval()
    encoder.clip_spec = dataclasses.replace(encoder.clip_spec, resize=40, crop=32)
    return encoder


def frames(model, batch=3):
    spec = model.clip_spec
    return torch.randint(0, 256, (batch, spec.num_frames, spec.crop, spec.crop, 3), dtype=torch.uint8)


def expected(model, clips, layers):
    transform = vie.clip_transform(model)
    with torch.no_grad():
        return model.forward_layers(transform.normalize(clips.movedim(-1, 2)), ["output", *layers])


def load(format, path):
    """Returns the program as a function, and its metadata."""
    if format == "onnx":
        for package in ("onnx", "onnxscript"):
            pytest.importorskip(package, reason=f"{package} is not installed")
        runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
        session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        described = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}

        def run(clips):
            return dict(zip(names, map(torch.from_numpy, session.run(None, {"clips": clips.numpy()})), strict=True))

        return run, described
    extra = {programs.METADATA: ""}
    program = torch.export.load(path, extra_files=extra).module()
    return program, json.loads(extra[programs.METADATA])


def check(model, format, path, layers=(), pixels="uint8"):
    described = vie.export_model(model, path, format=format, layers=layers, pixels=pixels)
    run, found = load(format, path)
    assert found == json.loads(json.dumps(described))
    assert vie.ClipSpec.from_dict(found["clip_spec"]) == model.clip_spec
    clips = frames(model)
    wanted = expected(model, clips, layers)
    given = clips if pixels == "uint8" else clips / 255
    for batch in (3, 1):
        outputs = run(given[:batch])
        assert list(outputs) == list(wanted) == list(found["outputs"])
        for name, values in outputs.items():
            assert list(values.shape[1:]) == found["outputs"][name][1:]
            torch.testing.assert_close(values, wanted[name][:batch], rtol=0, atol=1e-5 * float(wanted[name].abs().max()))
    return run


@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in NAMES], indirect=True
)
def test_onnx_runtime(model, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    check(model, "onnx", tmp_path / "model.onnx", model.layer_names[5::4])


@pytest.mark.parametrize("model", FEW, indirect=True)
def test_torch_export(model, tmp_path):
    run = check(model, "pt2", tmp_path / "model.pt2", model.layer_names[::6], pixels="float32")
    with pytest.raises(Exception, match=r"shape|size"):
        run(frames(model)[:, :, 1:] / 255)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


def test_the_encoder_is_not_changed(model, tmp_path):
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    vie.export_model(model, tmp_path / "model.pt2")
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_what_cannot_be_written_is_refused(model, tmp_path, monkeypatch):
    for arguments, message in (
        (dict(format="tflite"), "format must be one of pt2, onnx, got 'tflite'"),
        (dict(pixels="int8"), "pixels must be one of uint8, float32, got 'int8'"),
        (dict(format="onnx"), r"must be named \*.onnx, got model.pt2"),
        (dict(layers=["encode_11"]), "has no layer 'encode_11'"),
        (dict(layers=["output"]), "every program returns"),
    ):
        with pytest.raises(ValueError, match=message):
            vie.export_model(model, tmp_path / "model.pt2", **arguments)
    monkeypatch.setattr(programs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"ONNX needs onnx and onnxscript: pip install 'vie_models\[export\]'"):
        vie.export_model(model, tmp_path / "model.onnx", format="onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path, capsys):
    small_model = small("vie_single_tiny").eval()
    vie.save_pretrained(small_model, tmp_path / "weights")
    words = ["program", "vie_single_tiny", str(tmp_path / "model.pt2"), "--layers", "encode_10"]
    assert main([*words, "--weights", str(tmp_path / "weights")]) == 0
    assert "clips [B, 1, 64, 64, 3] uint8 -> output [B, 128], encode_10 [B, 64, 1, 2, 2]" in capsys.readouterr().out
    program, described = load("pt2", tmp_path / "model.pt2")
    clips = frames(small_model, 2)
    torch.testing.assert_close(program(clips)["output"], expected(small_model, clips, [])["output"])
    assert (described["model"], described["weights"]) == ("vie_single_tiny", None)
