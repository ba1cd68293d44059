"""`vie doctor`: on a healthy machine, and with one thing after another broken."""

import av
import torch

from vie_models import cli
from vie_models.models import precision


def doctor(capsys, expected_code):
    """Returns the status and the finding of each thing that was looked at, and all remedies."""
    assert cli.main(["doctor"]) == expected_code
    lines = capsys.readouterr().out.splitlines()
    remedies = [line.partition("remedy: ")[2] for line in lines if line.startswith(" ")]
    return {line[5:25].strip(): (line[:5].strip(), line[25:]) for line in lines if not line.startswith(" ")}, remedies


def test_a_healthy_machine(capsys):
    found, remedies = doctor(capsys, 0)
    half = {name for name in found if "float16" in name}
    assert found.keys() >= {"video codecs", "weights cache", "Hub cache"}
    assert half
    assert len(remedies) == sum(status == "warn" for status, _ in found.values())
    assert {status for name, (status, _) in found.items() if name not in half} == {"ok"}


def test_what_is_broken_has_a_remedy(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file" / "torch"))  # not even root can write there
    monkeypatch.setattr(av, "codecs_available", {"h264", "vp9", "mpeg4"})

    def wrong(*args):
        raise precision.WrongArithmeticError("sums differ. Use float32")

    monkeypatch.setattr(precision, "check_convolutions", wrong)
    found, remedies = doctor(capsys, 1)
    assert found["weights cache"][0] == "bad"
    assert str(tmp_path / "file") in found["weights cache"][1]
    assert found["video codecs"] == ("warn", "this FFmpeg cannot decode hevc, av1")
    assert all(what == ("warn", "sums differ") for name, what in found.items() if "float16" in name)
    assert any("TORCH_HOME" in remedy for remedy in remedies)


def test_a_gpu_that_pytorch_is_not_built_for(capsys, monkeypatch):
    monkeypatch.setattr("vie_models.cli.doctor._half_precision", lambda: [])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Old GPU")
    ones = torch.ones

    def no_kernel(*sizes, device=None):
        if device is not None:
            raise RuntimeError("no kernel image")
        return ones(*sizes)

    monkeypatch.setattr(torch, "ones", no_kernel)
    found, _ = doctor(capsys, 1)
    assert found["GPU 0"][0] == "bad"
    assert "Old GPU" in found["GPU 0"][1]
    assert "no kernel image" in found["GPU 0"][1]
