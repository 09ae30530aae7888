"""The file of a reference map: arrays and a JSON header, checked, written whole, never executed.

It is a safetensors file (https://github.com/huggingface/safetensors): the length of a header, the
header, which is JSON, and the bytes of the arrays. The metadata of the header have one entry,
``rpumap``, whose text is a JSON object with three texts:

``format``
    ``"rpumap reference map, version 2"``; version 1 is read as well.
``header``
    JSON: what is no array, such as the names of genes and labels.
``sha256``
    Checksum of ``header`` and of all arrays, in hexadecimal digits; see :func:`checksum`.

Reading decodes JSON and copies numbers. Nothing in a file can name a class or a function.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

ENTRY = "rpumap"
VERSION = 2
FORMAT = "rpumap reference map, version "
LARGEST_FILE = 256 * 2**20  # bytes; a map of 300 genes takes less than one MiB


class ReferenceFileError(ValueError):
    """A file that is no reference map, is damaged, or was written by a newer version."""


def checksum(header: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Compute the SHA-256 of a header and of arrays, in the order of their names.

    Parameters
    ----------
    header : str
    arrays : mapping of str to ndarray

    Returns
    -------
    str
        64 hexadecimal digits, of the header in UTF-8 and of the name, type, shape and bytes
        (little-endian, row by row) of each array.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.reference.file import checksum
    >>> checksum("{}", {"a": np.zeros(3)})[:8]
    '1874ad48'
    """
    digest = hashlib.sha256(header.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"\n{name} {little.dtype.name} {little.shape}\n".encode())
        digest.update(little.tobytes())
    return digest.hexdigest()


def write_file(
    path: str | os.PathLike, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Write a file, whole or not at all (see :func:`replace_file`).

    Parameters
    ----------
    path : path-like
        Where; a file that is there is replaced. Its folder must be there.
    header : mapping
        Of what JSON can hold.
    arrays : mapping of str to ndarray

    Raises
    ------
    OSError
        If it cannot be written. What was there before is left as it was.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from rpumap.reference.file import read_file, write_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_file(f"{folder}/a.rpumap", {"of": "cells"}, {"x": np.arange(3.0)})
    ...     read_file(f"{folder}/a.rpumap")
    ({'of': 'cells'}, {'x': array([0., 1., 2.])})
    """
    from safetensors.numpy import save

    text = json.dumps(header, allow_nan=False, ensure_ascii=False)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    about = {"format": f"{FORMAT}{VERSION}", "header": text, "sha256": checksum(text, arrays)}
    replace_file(path, save(arrays, {ENTRY: json.dumps(about, ensure_ascii=False)}))


def read_file(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read and check what `write_file` wrote.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    header : dict
    arrays : dict of ndarray
        Own copies, which can be changed.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
        If there is no file that can be read.
    ReferenceFileError
        If it is not a reference map, is damaged, or is of a newer version than this package reads.
    """
    from safetensors import SafetensorError, deserialize

    data = _bytes(Path(path))
    try:
        tensors = dict(deserialize(data))
        about = _metadata(data)
        arrays = {name: _array(tensor) for name, tensor in tensors.items()}
    except (SafetensorError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ReferenceFileError(_no_map(path, data, error)) from None
    _check_version(path, about)
    if about.get("sha256") != checksum(about.get("header", ""), arrays):
        raise ReferenceFileError(
            f"{path} is damaged: its checksum is not that of its content. Copy or download it again"
        )
    try:
        header = json.loads(about["header"])
    except (ValueError, RecursionError) as error:
        raise ReferenceFileError(f"the header of {path} cannot be read: {error}") from None
    if not isinstance(header, dict):
        raise ReferenceFileError(f"the header of {path} is no JSON object")
    return header, arrays


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise ReferenceFileError(
            f"{path} is larger than {LARGEST_FILE // 2**20} MiB: it is no reference map"
        )
    return data


def _metadata(data: bytes) -> dict[str, str]:
    """Return our entry in the metadata of a safetensors file, whose layout was checked before."""
    length = int.from_bytes(data[:8], "little")
    entries = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    about = json.loads(entries.get(ENTRY, "{}"))
    if not isinstance(about, dict) or not all(isinstance(text, str) for text in about.values()):
        raise ValueError(f"its entry {ENTRY!r} is no JSON object of texts")
    return about


NUMBERS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U16": "<u2"}


def _array(tensor: Mapping[str, Any]) -> np.ndarray:
    array = np.frombuffer(tensor["data"], NUMBERS[tensor["dtype"]]).reshape(tensor["shape"])
    return array.astype(array.dtype.newbyteorder("="))


def _check_version(path: str | os.PathLike, about: Mapping[str, str]) -> None:
    found = re.fullmatch(re.escape(FORMAT) + "([1-9][0-9]{0,8})", about.get("format", ""))
    if not found:
        raise ReferenceFileError(
            f"{path} is a safetensors file, but holds no reference map: ReferenceMap.save writes "
            "them"
        )
    if int(found[1]) > VERSION:
        raise ReferenceFileError(
            f"{path} has version {found[1]} of the format, and this package reads versions up to "
            f"{VERSION}: update rpumap"
        )


BEGINNINGS = {
    b"\x89HDF": "an HDF5 file, as AnnData writes: read it with anndata.read_h5ad, then map it",
    b"PK\x03\x04": "a zip archive, perhaps a model saved with torch.save: these are not opened",
    b"\x80\x02": "a pickle, which could run code: pickles are not opened",
    b"\x80\x03": "a pickle, which could run code: pickles are not opened",
    b"\x80\x04": "a pickle, which could run code: pickles are not opened",
    b"\x80\x05": "a pickle, which could run code: pickles are not opened",
    b"\x1f\x8b": "compressed with gzip: decompress it first",
}


def _no_map(path: str | os.PathLike, data: bytes, error: Exception) -> str:
    if not data:
        return f"{path} is empty"
    for beginning, what in BEGINNINGS.items():
        if data.startswith(beginning):
            return f"{path} is no reference map but {what}"
    return (
        f"{path} is no reference map, or is damaged or cut short ({error}): ReferenceMap.save "
        "writes them. If it was one, copy or download it again"
    )


def replace_file(path: str | os.PathLike, data: bytes) -> None:
    """Write bytes, so that at any instant the old file or the new one is there, whole.

    Parameters
    ----------
    path : path-like
        Where; a file that is there is replaced, and a link stays one. Its folder must be there.
    data : bytes

    Raises
    ------
    OSError
        If it cannot be written. What was there before is left as it was.

    Notes
    -----
    The bytes go to a new file in the same folder, are forced onto the disk, and the new file then
    takes the name of the old one in one step of the file system.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rpumap.reference.file import replace_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a"
    ...     replace_file(path, b"old")
    ...     replace_file(path, b"new")
    ...     path.read_bytes()
    b'new'
    """
    path = Path(path).resolve()  # through links, so that a link stays one
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with new.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, new)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the new name is to be on the disk too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
