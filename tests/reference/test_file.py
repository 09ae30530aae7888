"""The file: whole or not at all, checked, and never executed."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from rpumap.reference.file import (
    ENTRY,
    FORMAT,
    VERSION,
    ReferenceFileError,
    checksum,
    read_file,
    write_file,
)

HEADER = {"genes": ["Ins1", "Gcg"], "threshold": 0.1}
ARRAYS = {"x": np.arange(6.0).reshape(2, 3), "y": np.arange(4, dtype="int32")}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("file") / "a.rpumap"
    write_file(path, HEADER, ARRAYS)
    return path.read_bytes()


def test_what_is_written_is_read(tmp_path):
    write_file(tmp_path / "a.rpumap", HEADER, ARRAYS)
    header, arrays = read_file(str(tmp_path / "a.rpumap"))
    assert header == HEADER
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    assert [path.name for path in tmp_path.iterdir()] == ["a.rpumap"]


def test_a_link_stays_a_link_and_permissions_stay(tmp_path):
    write_file(tmp_path / "real.rpumap", HEADER, ARRAYS)
    (tmp_path / "real.rpumap").chmod(0o640)
    (tmp_path / "link.rpumap").symlink_to("real.rpumap")
    write_file(tmp_path / "link.rpumap", {"new": 1}, ARRAYS)
    assert (tmp_path / "link.rpumap").is_symlink()
    assert read_file(tmp_path / "real.rpumap")[0] == {"new": 1}
    assert (tmp_path / "real.rpumap").stat().st_mode & 0o777 == 0o640


def test_every_truncation_is_refused(written, tmp_path):
    path = tmp_path / "cut.rpumap"
    for length in range(len(written)):
        path.write_bytes(written[:length])
        with pytest.raises(ReferenceFileError):
            read_file(path)


def test_every_changed_byte_is_noticed(written, tmp_path):
    path = tmp_path / "changed.rpumap"
    for place in range(len(written)):
        for flip in (1, 0x80):
            changed = bytearray(written)
            changed[place] ^= flip
            path.write_bytes(changed)
            with pytest.raises(ReferenceFileError):
                read_file(path)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_refused(tmp_path_factory, data, with_length):
    path = tmp_path_factory.getbasetemp() / "any.rpumap"
    path.write_bytes(len(data).to_bytes(8, "little") + data if with_length else data)
    with pytest.raises(ReferenceFileError):
        read_file(path)


def test_a_pickle_is_named_and_not_opened(tmp_path):
    marker = tmp_path / "executed"

    class Bomb:
        def __reduce__(self):
            return Path.touch, (marker,)

    (tmp_path / "bomb.rpumap").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ReferenceFileError, match="a pickle, which could run code"):
        read_file(tmp_path / "bomb.rpumap")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"PK\x03\x04", "zip"),
        (b"hello", "no reference"),
    ],
)
def test_other_files_are_named(tmp_path, data, message):
    (tmp_path / "other").write_bytes(data)
    with pytest.raises(ReferenceFileError, match=message):
        read_file(tmp_path / "other")


def test_missing_files_and_folders_are_what_python_says(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "none.rpumap")
    with pytest.raises(IsADirectoryError):
        read_file(tmp_path)


def test_other_safetensors_and_newer_versions_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    path.write_bytes(save({"x": np.zeros(2)}))
    with pytest.raises(ReferenceFileError, match="holds no reference map"):
        read_file(path)
    text = json.dumps(HEADER)
    about = {"format": f"{FORMAT}{VERSION + 1}", "header": text, "sha256": checksum(text, ARRAYS)}
    path.write_bytes(save(ARRAYS, {ENTRY: json.dumps(about)}))
    with pytest.raises(ReferenceFileError, match="update rpumap"):
        read_file(path)


@pytest.mark.parametrize("header", ["[1]", "{", "[" * 100_000, '{"a": 1e999999}'[:5]])
def test_a_header_that_is_no_object_is_refused(tmp_path, header):
    about = {"format": f"{FORMAT}1", "header": header, "sha256": checksum(header, ARRAYS)}
    (tmp_path / "a.rpumap").write_bytes(save(ARRAYS, {ENTRY: json.dumps(about)}))
    with pytest.raises(ReferenceFileError, match="header"):
        read_file(tmp_path / "a.rpumap")


@pytest.mark.parametrize("entry", ["", "[]", "3", '{"format": 3}', "{", "[" * 100_000])
def test_an_entry_that_is_no_table_of_texts_is_refused(tmp_path, entry):
    (tmp_path / "a.rpumap").write_bytes(save(ARRAYS, {ENTRY: entry}))
    with pytest.raises(ReferenceFileError):
        read_file(tmp_path / "a.rpumap")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.rpumap"
    write_file(path, HEADER, ARRAYS)
    before = path.read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_file(path, {"new": 1}, ARRAYS)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["a.rpumap"]


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_a_killed_write_leaves_a_whole_file(tmp_path):
    path = tmp_path / "a.rpumap"
    code = (
        "import sys, itertools, numpy as np\n"
        "from rpumap.reference.file import write_file\n"
        "for i in itertools.count():\n"
        "    write_file(sys.argv[1], {'i': i}, {'x': np.full(200_000, float(i))})\n"
        "    i or print('begun', flush=True)\n"
    )
    rng = np.random.default_rng(0)
    for _ in range(5):
        command = [sys.executable, "-c", code, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout.readline()
            time.sleep(rng.uniform(0, 0.05))
            writer.send_signal(signal.SIGKILL)
        header, arrays = read_file(path)
        assert (arrays["x"] == header["i"]).all()
