import io
import json
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

import vie_models as vie
from vie_models.encoders import Layout, WrappedModule
from vie_models.encoders.names import parse_name

SPEC = vie.ClipSpec(num_frames=4, fps=5, resize=20, crop=16)
NOISE = np.random.default_rng(0).integers(0, 256, (30, 24, 40, 3), dtype=np.uint8)


class Small(nn.Module):
    """Clips [B, 3, T, H, W] -> [B, 5]; a ReLU changes the output of `conv` in place."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 8, 3, stride=2, padding=1, groups=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(8, 5)
        self.unused = nn.Linear(1, 1)

    def forward(self, x):
        return self.head(self.act(self.conv(x)).mean((2, 3, 4)))


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small()


def test_any_module_with_a_clip_spec(small):
    extractor = vie.Extractor(small, clip_spec=SPEC, layers=["conv", "head"], pool=None, clips=2, workers=0)
    arrays, record = extractor.features(NOISE, fps=5)
    assert record.status == "ok"
    for i, times in enumerate(arrays["frame_times"]):
        x = vie.clip_transform(SPEC)(NOISE[np.round(times * 5).astype(int)])[None]
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(arrays["conv"][i]), small.conv(x)[0])
            torch.testing.assert_close(torch.from_numpy(arrays["embedding"][i]), small(x)[0])
    assert arrays["head"].shape == (2, 5, 1, 1, 1)


def test_what_a_module_lacks_is_named(small):
    with pytest.raises(ValueError, match="clip_spec="):
        vie.Extractor(small)
    with pytest.raises(ValueError, match="conv"):
        vie.Extractor(small, clip_spec=SPEC, layers=["con"])
    with pytest.raises(ValueError, match="unused"):
        vie.Extractor(small, clip_spec=SPEC, layers=["unused"], workers=0).features(NOISE, fps=5)
    with pytest.raises(ValueError, match="read="):
        vie.Extractor(small.conv, clip_spec=SPEC, workers=0).features(NOISE, fps=5)
    with pytest.raises(TypeError, match="dict"):
        vie.Extractor({})
    with pytest.raises(ValueError, match="vie_single_tiny"):
        vie.Extractor(vie.create_model("vie_single_tiny"), clip_spec=SPEC)


@pytest.mark.parametrize("time_last", [False, True])
def test_tokens_lie_on_their_grid(time_last):
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Identity()

        def forward(self, x):  # one CLS token, and a token a pixel of each frame
            tokens = (x.permute(0, 3, 4, 2, 1) if time_last else x.permute(0, 2, 3, 4, 1)).flatten(1, 3)
            return self.body(torch.cat([tokens.mean(1, keepdim=True), tokens], 1))[:, 0]

    model = WrappedModule(Tokens(), SPEC, layout=Layout(grid=(4, 16, 16), prefix=1, time_last=time_last))
    x = torch.randn(2, 3, 4, 16, 16)
    assert torch.equal(model.forward_layers(x, ["body"])["body"], x)


def test_resume_refuses_other_weights(small, tmp_path):
    from support.videos import write_video

    video = write_video(tmp_path / "a.mp4", NOISE[:, :, :32])
    vie.Extractor(small, clip_spec=SPEC, workers=0).extract(video, tmp_path / "out")
    vie.Extractor(small, clip_spec=SPEC, workers=0).extract(video, tmp_path / "out")
    nn.init.zeros_(small.head.bias)
    with pytest.raises(ValueError, match="weights="):
        vie.Extractor(small, clip_spec=SPEC, workers=0).extract(video, tmp_path / "out")
    (line,) = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert json.loads(line)["settings"]["model"].endswith("Small")


def test_names_have_options():
    found = parse_name("timm:local-dir:/a,b/c,frames=8,fps=2.5,untrained")
    assert found is not None
    assert (found.package, found.name) == ("timm", "local-dir:/a,b/c")
    assert (found.clip, found.seed) == ({"num_frames": 8, "fps": 2.5}, 0)
    assert parse_name("vie_single_tiny") is None
    assert parse_name("C:/model.pt2") is None
    with pytest.raises(ValueError, match="frames"):
        parse_name("timm:resnet18,frames=many")


@pytest.mark.parametrize("pixels", ["uint8", "float32"])
def test_programs(pixels, tmp_path):
    torch.manual_seed(0)
    model = vie.create_model("vie_single_tiny").eval()
    vie.export_model(model, tmp_path / "model.pt2", layers=["encode_4"], pixels=pixels)
    program = vie.load_encoder(str(tmp_path / "model.pt2"))
    settings = {"layers": ["encode_4"], "pool": None, "clips": 3, "batch_size": 2, "workers": 0}
    own, _ = vie.Extractor(model, **settings).features(NOISE, fps=25)
    found, _ = vie.Extractor(program, **settings).features(NOISE, fps=25)
    for name in ("embedding", "encode_4"):
        np.testing.assert_allclose(found[name], own[name], rtol=0, atol=1e-5 * np.abs(own[name]).max())


class Bomb:
    def __reduce__(self):
        return print, ("boom",)


def test_programs_are_not_unpickled(tmp_path, capsys):
    vie.export_model(vie.create_model("vie_single_tiny"), tmp_path / "model.pt2")
    with zipfile.ZipFile(tmp_path / "model.pt2") as archive, zipfile.ZipFile(tmp_path / "bad.pt2", "w") as bad:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith("sample_inputs/model.pt"):
                buffer = io.BytesIO()
                torch.save(Bomb(), buffer)
                content = buffer.getvalue()
            bad.writestr(name, content)
    with pytest.raises(ValueError, match=r"bad\.pt2"):
        vie.load_encoder(str(tmp_path / "bad.pt2"))
    assert "boom" not in capsys.readouterr().out
    (tmp_path / "text.pt2").write_text("no program")
    with pytest.raises(ValueError, match=r"text\.pt2"):
        vie.load_encoder(str(tmp_path / "text.pt2"))
    with pytest.raises(FileNotFoundError, match=r"none\.pt2"):
        vie.load_encoder("none.pt2")
