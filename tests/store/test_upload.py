"""A run in a storage is whole, or does not look it; the same command again goes on and mends."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import fsspec
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from acquire.cli.after import storage_options
from acquire.cli.app import main
from acquire.errors import ConfigError, StoreError
from acquire.store.after import Upload, consolidate_run, upload_run
from acquire.store.after import target as targets

BUCKET = "archive"
ROOT = "run.zarr/zarr.json"


class Storage:
    """An S3 server on loopback."""

    def __init__(self, address: str) -> None:
        self.options = {
            "endpoint_url": address,
            "key": "nobody",
            "secret": "nothing",
            "client_kwargs": {"region_name": "us-east-1"},
        }
        self.client = boto3.client(
            "s3",
            endpoint_url=address,
            aws_access_key_id="nobody",
            aws_secret_access_key="nothing",
            region_name="us-east-1",
        )

    def url(self, folder: str) -> str:
        return f"s3://{BUCKET}/{folder}"

    def names(self, folder: str) -> set[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=f"{folder}/"
        )
        found = (o["Key"] for page in pages for o in page.get("Contents", ()))
        return {key.removeprefix(f"{folder}/") for key in found}

    def get(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def upload(self, run: Path, folder: str, **named: Any) -> Upload:
        return upload_run(run, self.url(folder), options=self.options, **named)


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    found = Storage(f"http://{host}:{port}")
    with closing(found.client):
        found.client.create_bucket(Bucket=BUCKET)
        yield found
    server.stop()


_READER = """
import json, sys
import numpy, xarray, zarr

there, here, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
assert "acquire" not in sys.modules
with xarray.open_datatree(there, engine="zarr", storage_options=options) as copy:
    with xarray.open_datatree(here, engine="zarr") as original:
        xarray.testing.assert_identical(copy.load(), original.load())
path = "/images/overview/full/haadf"
array = zarr.open_array(there + path, mode="r", storage_options=options)
numpy.testing.assert_array_equal(array[:], zarr.open_array(here + path, mode="r")[:])
"""


def local_names(run: Path) -> set[str]:
    return {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}


@pytest.mark.process
def test_a_run_in_s3_opens_by_its_url_with_standard_readers(
    small_run: Path, storage: Storage
) -> None:
    consolidate_run(small_run)
    (small_run / "reserve.bin").write_bytes(b"ballast")
    told: list[tuple[int, int]] = []
    done = storage.upload(small_run, "whole", progress=lambda *of: told.append(of))
    names = local_names(small_run) - {"reserve.bin"}
    assert storage.names("whole") == names | {"SHA256SUMS"}
    assert set(done.sent) == names
    assert done.sent[-1] == ROOT
    assert told[-1] == (done.nbytes, done.nbytes)
    places = [f"{storage.url('whole')}/run.zarr", str(small_run / "run.zarr")]
    read = subprocess.run(
        [sys.executable, "-c", _READER, *places, json.dumps(storage.options)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert read.returncode == 0, read.stderr
    for line in storage.get("whole/SHA256SUMS").decode().splitlines():
        wanted, name = line.split("  ")
        assert hashlib.sha256(storage.get(f"whole/{name}")).hexdigest() == wanted
    again = storage.upload(small_run, "whole")
    assert again.sent == ()
    assert again.files == len(names)


def interrupt_after(files: int) -> Callable[[int, int], None]:
    left = files

    def progress(done: int, total: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    return progress


def test_an_interrupted_upload_does_not_look_like_a_run_and_goes_on(
    small_run: Path, storage: Storage
) -> None:
    with pytest.raises(KeyboardInterrupt):
        storage.upload(small_run, "cut", progress=interrupt_after(20))
    there = storage.names("cut")
    assert 20 <= len(there) < len(local_names(small_run))
    assert ROOT not in there
    done = storage.upload(small_run, "cut")
    assert set(done.sent) == local_names(small_run) - there
    assert done.mended == ()


def test_what_was_damaged_there_is_found_and_sent_again(small_run: Path, storage: Storage) -> None:
    storage.upload(small_run, "rotten")
    shard = "run.zarr/images/overview/full/haadf/c.0.0.0"
    good = storage.get(f"rotten/{shard}")
    storage.put(f"rotten/{shard}", good[:-1] + bytes([good[-1] ^ 1]))
    storage.put("rotten/recipe.yaml", b"short")
    storage.client.delete_object(Bucket=BUCKET, Key="rotten/run.zarr/holder/time/c.0")
    done = storage.upload(small_run, "rotten")
    assert set(done.mended) == {shard, "recipe.yaml"}
    assert set(done.sent) == {shard, "recipe.yaml", "run.zarr/holder/time/c.0"}
    assert storage.get(f"rotten/{shard}") == good


def test_large_files_go_in_parts_and_are_known_by_their_parts(
    small_run: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = 5 * 2**20  # the least that S3 takes
    monkeypatch.setattr(targets, "_PART_BYTES", part)
    large = small_run / "truth.jsonl"
    large.write_bytes(np.random.default_rng(0).bytes(2 * part + 100))
    storage.upload(small_run, "large")
    facts = storage.client.head_object(Bucket=BUCKET, Key="large/truth.jsonl")
    assert facts["ETag"].endswith('-3"')
    read: list[str] = []
    real = targets.Target._sha256

    def reading(self: targets.Target, name: str) -> str:
        read.append(name)
        return real(self, name)

    monkeypatch.setattr(targets.Target, "_sha256", reading)
    assert storage.upload(small_run, "large").sent == ()
    assert read == [], "the ETag alone says that it is right"
    assert storage.upload(small_run, "large", read_back=True).sent == ()
    assert sorted(read) == sorted(local_names(small_run))


def test_a_storage_without_checksums_is_read_back(small_run: Path) -> None:
    url = f"memory://{small_run.name}-{id(small_run)}"
    files = fsspec.filesystem("memory")
    upload_run(small_run, url)
    path = f"{url.removeprefix('memory:/')}/{ROOT}"
    good = files.cat_file(path)
    files.pipe_file(path, good.replace(b"completed", b"Completed"))
    done = upload_run(small_run, url)
    assert done.mended == (ROOT,)
    assert files.cat_file(path) == good


def test_what_the_storage_changes_on_the_way_is_noticed(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = targets.Target.send

    def send_wrongly(self: targets.Target, file: Path, name: str) -> None:
        real(self, file, name)
        if name == "station.toml":
            (tmp_path / "copy" / name).write_bytes(b"x" * file.stat().st_size)

    with monkeypatch.context() as patch:
        patch.setattr(targets.Target, "send", send_wrongly)
        with pytest.raises(StoreError, match=r"1 files did not arrive.*station\.toml"):
            upload_run(small_run, f"file://{tmp_path}/copy")
    assert not (tmp_path / "copy" / ROOT).exists(), "it does not look whole"
    assert upload_run(small_run, f"file://{tmp_path}/copy").mended == ("station.toml",)


def test_segments_go_along_and_before_the_run(small_run: Path, tmp_path: Path) -> None:
    shutil.copytree(small_run, small_run / "continued-1")
    done = upload_run(small_run, str(tmp_path / "copy"))
    assert done.sent[-2:] == (f"continued-1/{ROOT}", ROOT)
    assert local_names(tmp_path / "copy") == local_names(small_run) | {"SHA256SUMS"}


def test_runs_that_are_not_over_not_whole_or_of_another_place_are_refused(
    small_run: Path, maker: Any, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/copy"
    writer = maker.open(tmp_path / "live")
    with pytest.raises(StoreError, match="in use"):
        upload_run(tmp_path / "live", url)
    shutil.copytree(tmp_path / "live", tmp_path / "cut")
    writer.close(maker.report())
    with pytest.raises(StoreError, match=r"cut off.*hotstage recover"):
        upload_run(tmp_path / "cut", url)
    assert not (tmp_path / "copy").exists()
    upload_run(tmp_path / "live", url)
    with pytest.raises(StoreError, match="holds something else"):
        upload_run(small_run, url)
    with pytest.raises(StoreError, match="lies in the run itself"):
        upload_run(small_run, f"file://{small_run}/copy")
    with pytest.raises(StoreError, match="Protocol not known"):
        upload_run(small_run, "s4://archive/run")
    (small_run / "run.zarr/holder/time/c.0").unlink()
    with pytest.raises(StoreError, match=r"is not whole: .*holder/time"):
        upload_run(small_run, f"{url}-2")
    assert upload_run(small_run, f"{url}-2", verify=False).sent
    (small_run / "journal.jsonl").unlink()
    with pytest.raises(StoreError, match=r"journal\.jsonl cannot be read"):
        upload_run(small_run, f"{url}-3", verify=False)


def test_an_address_where_nobody_answers_is_told_as_such(small_run: Path, storage: Storage) -> None:
    with pytest.raises(StoreError, match=r"s3://nowhere/run did not take journal\.jsonl"):
        upload_run(small_run, "s3://nowhere/run", options=storage.options)


def test_the_command_copies_and_says_so(
    small_run: Path, storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        f"--option={text}"
        for text in (
            f"endpoint_url={storage.options['endpoint_url']}",
            "key=nobody",
            "secret=nothing",
            "client_kwargs.region_name=us-east-1",
        )
    ]
    assert main(["consolidate", str(small_run)]) == 0
    assert main(["upload", str(small_run), storage.url("command"), *options]) == 0
    said = capsys.readouterr().out
    assert "and checked" in said
    assert ROOT in storage.names("command")
    assert main(["upload", str(small_run), storage.url("command"), "--option", "key"]) == 1
    assert "write KEY=VALUE" in capsys.readouterr().err


def test_options_nest_and_keep_words_as_words() -> None:
    texts = ["key=123", "anon=true", "client_kwargs.region_name=eu", "client_kwargs.verify=false"]
    assert storage_options(texts) == {
        "key": "123",
        "anon": True,
        "client_kwargs": {"region_name": "eu", "verify": False},
    }
    for wrong in (["=1"], ["a.=1"], ["a=1", "a.b=2"], ["a.b=2", "a=1"]):
        with pytest.raises(ConfigError, match="--option"):
            storage_options(wrong)
