"""The published path, end to end, against servers on the loopback interface: fetch, verify, convert, keep, load; files."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
from pathlib import Path

import pytest
import torch
from support import REFERENCE
from support.encoders import embed, flip
from support.servers import Fault, FileServer

import vie_models as vie
from vie_models import http
from vie_models.weights import catalog
from vie_models.weights.catalog import WeightRecord

TAR = REFERENCE / "checkpoint-3.tar"
CONTENT = TAR.read_bytes()
DIGEST = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)
NAME = "vie_3dresnet.test"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(http, "BACKOFF", 0.0)


@pytest.fixture
def publish(monkeypatch):
    """Adds the checkpoint, as `server` sends it, to the catalog."""

    def add(server: FileServer, sha256: str | None = None) -> WeightRecord:
        record = WeightRecord(
            name=NAME,
            url=f"{server.url}/vie/checkpoint-3.tar",
            sha256=sha256,
            license="none",
            summary="a test",
            model_args={"width": 4},
        )
        monkeypatch.setitem(catalog.CATALOG, NAME, record)
        return record

    return add


@pytest.fixture
def server(publish):
    with FileServer(CONTENT) as server:
        publish(server)
        yield server


def load(cache: Path) -> vie.Encoder:
    return vie.create_model(NAME, cache_dir=cache, progress=False)


def kept(cache: Path) -> list[str]:
    """What is in the cache, but for the lock."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def damaged_tar() -> bytes:
    """The checkpoint with one wrong bit in the kernel of the stem."""
    kernel = vie.read_checkpoint(TAR)["resnet_model/conv3d/kernel"].tobytes()
    content = bytearray(CONTENT)
    content[content.index(kernel) + 5] ^= 1
    return bytes(content)


def other_tar() -> bytes:
    """The same variables in a tar of other bytes."""
    with tarfile.open(TAR) as old, io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as new:
            for member in old:
                member.mtime += 1
                new.addfile(member, old.extractfile(member))
        return file.getvalue()


def start_python(script: str, server: FileServer, cache: Path, **env: str) -> subprocess.Popen:
    """Another process, to which the checkpoint is published as it is to this one."""
    prelude = f"""
        import os, signal, sys, torch
        import vie_models as vie
        from vie_models import http
        from vie_models.weights import catalog, download
        torch.set_num_threads(1)
        http.BACKOFF, download.CHUNK = 0.0, 1 << 14
        catalog.CATALOG[{NAME!r}] = catalog.WeightRecord(
            name={NAME!r}, url={server.url!r} + "/checkpoint-3.tar", license="none", summary="a test",
            model_args={{"width": 4}})
        def load():
            return vie.create_model({NAME!r}, cache_dir={str(cache)!r}, progress=False)
    """
    script = textwrap.dedent(prelude) + textwrap.dedent(script)
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", script], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **env}
    )


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for a minute"
        time.sleep(0.02)


# --- fetched, converted, kept --------------------------------------------------------------------------------------------


def test_published_weights_are_fetched_once_and_equal_the_checkpoint(server, tmp_path, clip, expected):
    model = load(tmp_path)
    assert model.weights is catalog.CATALOG[NAME]
    assert not any(module.training for module in model.modules())
    assert all(p.requires_grad and p.device.type == "cpu" for p in model.parameters())
    assert torch.equal(embed(model, clip), expected)
    assert kept(tmp_path) == [NAME, f"{NAME}.sha256"]
    hashes = json.loads((tmp_path / NAME / "hashes.json").read_text())
    assert hashes["source"] == {"url": catalog.CATALOG[NAME].url, "sha256": DIGEST}
    assert hashes["files"] == {
        name: hashlib.sha256((tmp_path / NAME / name).read_bytes()).hexdigest()
        for name in ("bank.safetensors", "config.json", "model.safetensors")
    }
    assert (tmp_path / f"{NAME}.sha256").read_text().strip() == DIGEST

    server.stop()  # from here on there is no network
    assert torch.equal(embed(load(tmp_path), clip), expected)
    assert len(server.requests) == 1


def test_the_memory_bank_is_the_checkpoints(server, tmp_path):
    bank = vie.load_memory_bank(NAME, cache_dir=tmp_path, progress=False)
    variables = vie.read_checkpoint(TAR)
    assert torch.equal(bank["memory_bank"], torch.tensor(variables["instance/memory_bank"]))
    assert bank["labels"].tolist() == variables["instance/all_labels"].tolist()
    assert bank["labels"].dtype == torch.int64
    load(tmp_path)
    assert len(server.requests) == 1


def test_pretrained_takes_the_models_default_weight_set(server, tmp_path, clip, expected, monkeypatch):
    monkeypatch.delitem(catalog.CATALOG, "vie_3dresnet.k400")
    model = vie.create_model("vie_3dresnet", pretrained=True, cache_dir=tmp_path, progress=False)
    assert model.weights.name == NAME
    assert torch.equal(embed(model, clip), expected)


@pytest.mark.parametrize(
    ("variable", "place"), [("TORCH_HOME", "hub/checkpoints"), ("XDG_CACHE_HOME", "torch/hub/checkpoints")]
)
def test_the_cache_is_where_the_environment_says(variable, place, server, tmp_path, monkeypatch):
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    vie.create_model(NAME, progress=False)
    assert (tmp_path / place / "vie_models" / NAME / "hashes.json").exists()


def test_offline_without_a_copy_says_so_and_asks_nobody(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(vie.WeightsError, match=r"HF_HUB_OFFLINE forbids downloading it.*unset it once"):
        load(tmp_path)
    assert not server.requests


# --- a network that breaks -----------------------------------------------------------------------------------------------

HALF = SIZE // 2
CHANGED = other_tar()


BROKEN: dict[str, tuple[list[Fault], Fault, list[int | None], bytes]] = {
    "broken off once": ([Fault(cut=HALF)], Fault(), [None, HALF], CONTENT),
    "broken off always": ([], Fault(cut=SIZE // 9), [None, *(SIZE // 9 * k for k in range(1, 10))], CONTENT),
    "changed": ([Fault(cut=HALF), Fault(content=CHANGED)], Fault(), [None, HALF], CHANGED),
    "changed, ignored": ([Fault(cut=HALF), Fault(content=CHANGED, if_range=False)], Fault(), [None, HALF, None], CHANGED),
    "no ETag": ([Fault(cut=HALF, etag=False)], Fault(etag=False), [None, None], CONTENT),
    "other range": ([Fault(cut=HALF), Fault(content_range=f"bytes 7-8/{SIZE}")], Fault(), [None, HALF, None], CONTENT),
    "no length": ([], Fault(length=False), [None], CONTENT),
    "server errors": ([Fault(status=500), Fault(status=503), Fault(status=429)], Fault(), 4 * [None], CONTENT),
}
"""Faults of the first answers and of all later ones; the ranges that are asked for; the file that comes."""


@pytest.mark.parametrize("how", BROKEN)
def test_a_download_gets_there(how, server, tmp_path, clip, expected):
    server.faults, server.always, ranges, content = BROKEN[how]
    assert torch.equal(embed(load(tmp_path), clip), expected)
    assert server.ranges == [start if start is None else f"bytes={start}-" for start in ranges]
    assert (tmp_path / f"{NAME}.sha256").read_text().strip() == hashlib.sha256(content).hexdigest()


def test_a_restart_resumes_what_was_kept(server, tmp_path, clip, expected):
    server.faults, server.always = [Fault(cut=HALF)], Fault(status=503)
    with pytest.raises(vie.WeightsError, match=rf"503 Service Unavailable.*{HALF} bytes are kept in .*{NAME}.tar.part"):
        load(tmp_path)
    assert kept(tmp_path) == [f"{NAME}.tar.part", f"{NAME}.tar.part.etag"]
    server.requests.clear()
    server.always = Fault()
    assert torch.equal(embed(load(tmp_path), clip), expected)
    assert server.ranges == [f"bytes={HALF}-"]
    assert server.sent == SIZE - HALF


def test_a_part_that_is_longer_than_the_file_is_begun_anew(server, tmp_path, clip, expected):
    (tmp_path / f"{NAME}.tar.part").write_bytes(CONTENT + b"more")
    (tmp_path / f"{NAME}.tar.part.etag").write_text(f'"{hashlib.md5(CONTENT).hexdigest()}"')
    assert torch.equal(embed(load(tmp_path), clip), expected)
    assert [request.status for request in server.requests] == [416, 200]


@pytest.mark.parametrize(
    ("always", "message", "most"),
    [
        # each answer to a range is useless, each full answer breaks off: bytes arrive, but never more than before
        pytest.param(Fault(cut=HALF, content_range="bytes 0-1/2"), "5 attempts", 12, id="never further"),
        # a cut without a length looks like an end: what came is not a whole tar
        pytest.param(Fault(length=False, cut=HALF), "download a new copy", 1, id="cut without a length"),
        pytest.param(Fault(status=404), r"checkpoint-3.tar: .* 404 Not Found.*checkpoint_path=", 1, id="missing"),
        pytest.param(Fault(html=True), "web page", 1, id="web page"),
        pytest.param(None, r"cannot download http://127.*refused.*proxy", 0, id="nobody there"),
    ],
)
def test_a_download_that_fails(always, message, most, server, tmp_path):
    server.always = always
    if always is None:
        server.stop()
    with pytest.raises(vie.WeightsError, match=message):
        load(tmp_path)
    assert len(server.requests) <= most
    assert not (tmp_path / NAME).exists()
    assert "attempts" in message or kept(tmp_path) == []


# --- content that is not what it should be -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [(damaged_tar(), rf"is not {NAME}: .*resnet_model/conv3d/kernel.*new copy"), (b"not a tar at all" * 1000, "new copy")],
    ids=["a wrong bit", "no tar"],
)
def test_a_damaged_tar_is_not_kept(content, message, server, tmp_path, clip, expected):
    server.content = content
    with pytest.raises(vie.WeightsError, match=message):
        load(tmp_path)
    assert kept(tmp_path) == []
    server.content = CONTENT
    assert torch.equal(embed(load(tmp_path), clip), expected)


def test_the_catalogs_hash_is_kept_to(server, publish, tmp_path, clip, expected):
    publish(server, sha256="0" * 64)
    with pytest.raises(vie.WeightsError, match=rf"checkpoint-3.tar .*expected SHA-256 0{{64}}, found {DIGEST}.*load again"):
        load(tmp_path)
    assert kept(tmp_path) == []
    publish(server, sha256=DIGEST)
    assert torch.equal(embed(load(tmp_path), clip), expected)
    # a later release may know the hash of what an earlier one fetched on trust
    publish(server, sha256="1" * 64)
    with pytest.raises(vie.WeightsError, match=rf"expected SHA-256 1{{64}}, found {DIGEST}.*Delete .*{NAME}"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "bank.safetensors"])
def test_a_changed_byte_in_the_cache_is_found(name, server, tmp_path, clip, expected):
    load(tmp_path)
    path = tmp_path / NAME / name
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    flip(path)
    after = hashlib.sha256(path.read_bytes()).hexdigest()
    message = rf"{name} is not .*expected SHA-256 {before}, found {after}. Delete {tmp_path / NAME} and load again"
    with pytest.raises(vie.WeightsError, match=message):
        vie.load_memory_bank(NAME, cache_dir=tmp_path) if name.startswith("bank") else load(tmp_path)
    shutil.rmtree(tmp_path / NAME)  # the remedy
    assert torch.equal(embed(load(tmp_path), clip), expected)


def test_a_missing_or_unlisted_file_in_the_cache_is_found(server, tmp_path):
    load(tmp_path)
    (tmp_path / NAME / "model.safetensors").unlink()
    with pytest.raises(vie.WeightsError, match=r"model.safetensors is not .*found no file. Delete"):
        load(tmp_path)
    for content in ("", "null", "{}", '{"files": {}}', '{"files": []}'):
        (tmp_path / NAME / "hashes.json").write_text(content)
        with pytest.raises(vie.WeightsError, match=r"hashes.json is damaged .*delete .* and load again"):
            load(tmp_path)


def test_a_publisher_who_replaces_the_file_is_noticed(server, tmp_path, clip, expected):
    load(tmp_path)
    shutil.rmtree(tmp_path / NAME)
    server.content = other_tar()
    found = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(vie.WeightsError, match=rf"expected SHA-256 {DIGEST}, found {found}.*replaced .*delete .*{NAME}.sha256"):
        load(tmp_path)
    assert kept(tmp_path) == [f"{NAME}.sha256"]
    (tmp_path / f"{NAME}.sha256").unlink()  # the remedy, for who trusts the new file
    assert torch.equal(embed(load(tmp_path), clip), expected)


def test_a_folder_of_the_users_is_not_replaced(server, tmp_path):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "notes.txt").write_text("mine")
    with pytest.raises(vie.WeightsError, match=rf"{NAME} .*no hashes.json.*move it away"):
        load(tmp_path)
    assert (tmp_path / NAME / "notes.txt").read_text() == "mine"
    assert not server.requests


# --- disks ---------------------------------------------------------------------------------------------------------------


class SmallDisk:
    """A file system of our own: `with SmallDisk(path, "600k") as disk: disk.remount("size=8m")`."""

    def __init__(self, path: Path, size: str) -> None:
        self.path, self.size = path, size

    def __enter__(self):
        self.path.mkdir()
        try:
            made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", self.path], capture_output=True)
        except FileNotFoundError:
            pytest.skip("there is no mount command to make a small disk with")
        if made.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {made.stderr.decode().strip()}")
        return self

    def __exit__(self, *exc) -> None:
        subprocess.run(["umount", "-l", self.path], check=True)

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.path], check=True)


def test_a_disk_that_runs_full_keeps_what_has_arrived(server, tmp_path, clip, expected):
    server.faults = [Fault(length=False)]  # how much is to come is not known beforehand
    with SmallDisk(tmp_path / "disk", "600k") as disk:
        with pytest.raises(vie.WeightsError, match=r"No space left on device.*0\.0 MB are free. Make room"):
            load(disk.path)
        have = (disk.path / f"{NAME}.tar.part").stat().st_size
        assert have > 500_000
        # still full: not even the note of the ETag could be written anew, and nothing may be lost by trying
        with pytest.raises(vie.WeightsError, match=r"still to come, 0\.0 MB are free. Make room"):
            load(disk.path)
        disk.remount("size=8m")
        assert torch.equal(embed(load(disk.path), clip), expected)
        assert server.ranges == [None, f"bytes={have}-", f"bytes={have}-"]


def test_a_full_disk_never_mixes_two_files(server, tmp_path):
    new = other_tar()
    with SmallDisk(tmp_path / "disk", "600k") as disk:
        server.faults = [Fault(length=False), Fault(content=new)]
        for _ in range(2):  # the second finds another file, and no room for it
            with pytest.raises(vie.WeightsError, match="Make room"):
                load(disk.path)
        disk.remount("size=8m")
        load(disk.path)
        assert (disk.path / f"{NAME}.sha256").read_text().strip() == hashlib.sha256(new).hexdigest()


def test_a_disk_too_small_for_the_conversion(server, tmp_path, clip, expected):
    with SmallDisk(tmp_path / "disk", "1300k") as disk:
        with pytest.raises(vie.WeightsError, match=r"cannot .*MB are free. Make room.*is kept"):
            load(disk.path)
        assert kept(disk.path) == [f"{NAME}.tar"]
        disk.remount("size=8m")
        assert torch.equal(embed(load(disk.path), clip), expected)
    assert len(server.requests) == 1


def test_a_write_that_fails_midway_is_resumed(server, tmp_path, clip, expected):
    script = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
        try:
            load()
        except vie.WeightsError as error:
            print(error)
    """
    output, errors = start_python(script, server, tmp_path).communicate(timeout=120)
    assert "File too large: " in output, errors
    assert "MB are still to come" in output
    assert "MB are free. Make room, or choose another place with TORCH_HOME or cache_dir=" in output
    assert (tmp_path / f"{NAME}.tar.part").read_bytes() == CONTENT[:600_000]
    assert torch.equal(embed(load(tmp_path), clip), expected)
    assert server.ranges == [None, "bytes=600000-"]


@contextlib.contextmanager
def read_only(path: Path):
    """A folder nobody can write to; for root, who can write anywhere, a file system mounted so."""
    if os.geteuid():
        path.mkdir()
        yield path, lambda: path.chmod(0o555)
        path.chmod(0o755)
    else:
        with SmallDisk(path, "8m") as disk:
            yield path, lambda: disk.remount("ro")


def test_a_read_only_cache_is_loaded_from(server, tmp_path, clip, expected):
    with read_only(tmp_path / "shared") as (cache, close):
        load(cache)
        close()
        assert torch.equal(embed(load(cache), clip), expected)


def test_a_read_only_cache_without_the_weights_says_where_else(server, tmp_path):
    with read_only(tmp_path / "shared") as (cache, close):
        close()
        with pytest.raises(vie.WeightsError, match=r"cannot write to .*shared.*TORCH_HOME or cache_dir="):
            load(cache)
    assert not server.requests


# --- several processes, and killed ones ----------------------------------------------------------------------------------


def test_two_processes_at_once_fetch_once(server, tmp_path, clip, expected):
    server.always = Fault(delay=1.0)  # long enough for both to have asked
    torch.save(clip, tmp_path / "clip.pt")
    script = f"""
        clip = torch.load({str(tmp_path / "clip.pt")!r})
        print("ready", flush=True)
        path = sys.stdin.readline().strip()
        with torch.inference_mode():
            torch.save(load()(clip), path)
    """
    cache = tmp_path / "cache"
    processes = [start_python(script, server, cache) for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
    for k, process in enumerate(processes):
        process.stdin.write(f"{tmp_path / str(k)}.pt\n")
        process.stdin.flush()
    for k, process in enumerate(processes):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert torch.equal(torch.load(tmp_path / f"{k}.pt"), expected)
    assert server.sent == SIZE
    assert kept(cache) == [NAME, f"{NAME}.sha256"]


def test_killed_while_fetching(server, tmp_path, clip, expected):
    server.faults = [Fault(stall_at=SIZE // 2)]
    process = start_python("load()", server, tmp_path)
    part = tmp_path / f"{NAME}.tar.part"
    wait_for(lambda: part.exists() and part.stat().st_size > SIZE // 3)
    process.kill()
    process.communicate()
    server.resume.set()
    have = part.stat().st_size
    assert torch.equal(embed(load(tmp_path), clip), expected)
    assert server.ranges == [None, f"bytes={have}-"]
    assert kept(tmp_path) == [NAME, f"{NAME}.sha256"]


def test_killed_while_converting(server, tmp_path, clip, expected):
    script = """
        def write_and_die(path, tensors):
            path.write_bytes(b"half a file")
            os.kill(os.getpid(), signal.SIGKILL)
        from vie_models.weights.tensorflow import convert
        convert.write_tensors = write_and_die
        load()
    """
    process = start_python(script, server, tmp_path)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors
    assert f"{NAME}.tar" in kept(tmp_path)
    assert torch.equal(embed(load(tmp_path), clip), expected)
    assert len(server.requests) == 1
    assert kept(tmp_path) == [NAME, f"{NAME}.sha256"]  # nothing of the killed process is left


# --- sizes and heads ----------------------------------------------------------------------------------------------------


def test_sizes_must_be_those_of_the_weights(server, tmp_path):
    assert vie.create_model(NAME, width=4, cache_dir=tmp_path, progress=False).model_args["width"] == 4
    with pytest.raises(ValueError, match=rf"{NAME} has the sizes .*'width': 4.*, got width=8; leave it out"):
        vie.create_model(NAME, width=8, cache_dir=tmp_path)
    with pytest.raises(ValueError, match="got depth=3"):
        vie.create_model(NAME, depth=3, cache_dir=tmp_path)
    with pytest.raises(ValueError, match="width"):
        vie.create_model("vie_3dresnet", checkpoint_path=TAR, width=8)


@pytest.mark.parametrize("source", ["catalog", "tar"])
@pytest.mark.parametrize("num_classes", [None, 0, 5])
def test_heads_of_published_weights(source, num_classes, server, tmp_path, clip, expected):
    where = {"checkpoint_path": TAR} if source == "tar" else {"pretrained": True, "cache_dir": tmp_path, "progress": False}
    name = "vie_3dresnet" if source == "tar" else NAME
    model = vie.create_model(name, num_classes=num_classes, **where)
    assert model.num_classes == num_classes
    assert not model.training
    output = embed(model, clip)
    assert output.shape == (2, {None: 128, 0: model.num_features}.get(num_classes, num_classes))
    if num_classes is None:
        assert torch.equal(output, expected)
