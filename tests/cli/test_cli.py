import os
import subprocess
import sys

import vie_models as vie
from vie_models import cli
from vie_models.cli import exit_codes


def test_list_and_info(capsys):
    assert cli.main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == vie.list_models()
    assert cli.main(["info", "vie_3dresnet"]) == 0
    page = capsys.readouterr().out
    for fact in (
        "33.27 M",
        "16.67 GFLOP",
        "encode_10           512 x 1 x 4 x 4",
        "not fetched yet",
        "license   not stated",
        "43.6 %",
    ):
        assert fact in page
    for name in vie.list_models():
        assert cli.main(["info", name]) == 0
    assert "weights     none published yet" in capsys.readouterr().out
    assert cli.main(["info", "vie_3dresnt"]) == exit_codes.EXIT_USAGE
    assert "unknown model 'vie_3dresnt', perhaps vie_3dresnet; known models are" in capsys.readouterr().err
    assert cli.main(["info", "vie_slow.k400"]) == exit_codes.EXIT_FAILED
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "vie: nobody has published weights for vie_slow.k400. You can"
    assert [line[:4] for line in lines[1:]] == ["  - "] * 3


def test_the_console_script_and_its_exit_code():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "vie_models.cli", "info", "vie_nothing"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == exit_codes.EXIT_USAGE
    assert done.stderr.startswith("vie: unknown model 'vie_nothing'")
