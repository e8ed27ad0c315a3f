"""What a file holds, told by its content: files that the libraries themselves write, and no bytes that end in a trace."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.models.frameworks import file_kinds

MODEL = {"weights": np.arange(5), "name": "x" * 500}
PACK: dict[str, Callable[[bytes], bytes]] = {"plain": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "zlib": zlib.compress}
PACK |= {"xz": lzma.compress, "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE)}
KEEP = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120)


def told(tmp_path: Path, data: bytes, name: str = "model.bin") -> file_kinds.FileContent:
    (tmp_path / name).write_bytes(data)
    return file_kinds.recognise(tmp_path / name)


def archive(**files: bytes | str) -> bytes:
    """A zip; `__` in a name stands for a slash."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, data in files.items():
            made.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("packing", PACK)
def test_a_pickle_of_any_protocol_and_packing(tmp_path: Path, protocol: int, packing: str) -> None:
    data = pickle.dumps(MODEL, protocol=protocol)
    assert told(tmp_path, PACK[packing](data)).kind == "pickle"
    with file_kinds.open_unpacked(tmp_path / "model.bin") as file:
        assert b"".join(iter(lambda: file.read(100), b"")) == data


@pytest.mark.parametrize("compress", [0, 1, 9, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_what_joblib_writes(tmp_path: Path, compress: int | tuple[str, int]) -> None:
    path = tmp_path / "model"
    joblib.dump(MODEL, path, compress=compress)
    assert file_kinds.recognise(path).kind == "pickle"


@pytest.mark.parametrize("packing", [name for name in PACK if name not in ("plain", "zlib")])
def test_something_else_that_is_packed(tmp_path: Path, packing: str) -> None:
    found = told(tmp_path, PACK[packing](b"no pickle at all"))
    assert (found.kind, found.what, found.hint) == (None, f"compressed by {packing}", "Unpack it, and import what is in it.")


@pytest.mark.parametrize(
    ("data", "kind", "what"),
    [
        (b"", None, ""),
        (b"x", None, ""),
        (b"version https://git-lfs.github.com/spec/v1\n", None, "a pointer of Git LFS, not the model itself"),
        (b"  <!DOCTYPE HTML>", None, "a web page, not a model"),
        (b"<?xml version='1'?><PMML>", None, "PMML, which Noria does not read"),
        (b"tree\nversion=v4\n", "lightgbm", ""),
        (b"tree\r\nversion=v4\r\n", "lightgbm", ""),
        (b'{"learner": {}}', "xgboost", ""),
        (b"{L\0\0\0\0\0\0\0\x07learner", "xgboost", ""),
        (b'[{"nodeid": 0}]', None, "a dump of XGBoost's trees"),
        (b'{"tree_info": []}', None, "a dump of LightGBM's trees"),
        (b'{"oblivious_trees": []}', "catboost", ""),
        (b"{" + b" " * 200_000 + b'"model_info": {}}', "catboost", ""),
        (b'{"a": 1}', None, "JSON, and not as XGBoost or CatBoost write a model"),
        (b"CBM1....", "catboost", ""),
        (b"\x89HDF\r\n", None, "HDF5, as Keras wrote models once"),
        (b"binf....", None, "XGBoost's old binary format"),
        (b"\x08\x0a\x12\x05", "onnx", ""),
        (b"....TFL3", None, "a TensorFlow Lite model"),
        ((8).to_bytes(8, "little") + b'{"a": 1}', None, "a file of weights alone (safetensors)"),
    ],
)
def test_each_kind_by_its_first_bytes(tmp_path: Path, data: bytes, kind: str | None, what: str) -> None:
    found = told(tmp_path, data)
    assert found.kind == kind
    assert found.what.startswith(what)
    assert bool(found.what) == bool(what)


def test_tables_and_arrays_are_no_models(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3))
    np.savez(tmp_path / "a.npz", x=np.arange(3))
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    said = [file_kinds.recognise(tmp_path / name).what for name in ("a.npy", "a.npz", "a.parquet")]
    assert said == [
        "an array of NumPy, not a model",
        "a file of NumPy arrays (.npz), not a model",
        "a table (Parquet), not a model",
    ]


@pytest.mark.parametrize(
    ("data", "kind", "what"),
    [
        (archive(**{"schema.json": "{}"}), "skops", ""),
        (archive(m__archive_format="pt2"), "pt2", ""),
        (archive(**{"m__data.pkl": "x"}), None, "a file of torch.save, weights or a module"),
        (archive(**{"m__data.pkl": "x", "m__code__a.py": ""}), None, "a TorchScript program"),
        (archive(**{"metadata.json": '{"keras_version": "3.5"}', "config.json": "{}"}), None, "a model of Keras 3.5"),
        (archive(**{"model.weights.h5": ""}), None, "a model of Keras, which Noria does not host"),
        (archive(**{"model.ini": ""}), None, "a MOJO of H2O"),
        (archive(a="", b="", c="", d=""), None, "a zip archive of 4 files (a, b, c, ...), not a model"),
        (archive(), None, ""),
    ],
)
def test_archives_by_their_names(tmp_path: Path, data: bytes, kind: str | None, what: str) -> None:
    found = told(tmp_path, data)
    assert (found.kind, found.what.startswith(what)) == (kind, True)


@pytest.mark.parametrize(
    "metadata", ["", "{", "5", "null", "[]", '"keras_version"', '["keras_version"]', '{"keras_version": [1]}', "[" * 9000]
)
def test_an_archive_whose_metadata_is_odd_is_told_all_the_same(tmp_path: Path, metadata: str) -> None:
    found = told(tmp_path, archive(**{"metadata.json": metadata, "config.json": "{}"}))
    assert found.kind is None
    assert found.what


def test_an_archive_that_is_cut_or_damaged_anywhere_is_told(tmp_path: Path) -> None:
    whole = archive(**{"metadata.json": json.dumps({"keras_version": "3"}), "config.json": "{}", "schema.json": "{}"})
    for at in range(4, len(whole), 2):
        assert told(tmp_path, whole[:at]).what.startswith("an archive that is cut off or damaged")
        flipped = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        found = told(tmp_path, flipped)
        assert found.kind or found.what


@KEEP
@given(
    head=st.sampled_from(
        [
            b"",
            b"PK\x03\x04",
            b"\x80\x04",
            b"\x1f\x8b",
            b"BZh",
            b"\xfd7zXZ",
            b"\x78\x9c",
            b"{",
            b"\x08\x07\x12",
            b"\x04\x22\x4d\x18",
        ]
    ),
    rest=st.binary(max_size=80),
)
def test_no_bytes_end_in_a_trace(tmp_path: Path, head: bytes, rest: bytes) -> None:
    found = told(tmp_path, head + rest)
    assert found.kind in (None, *file_kinds.NAMED)
    assert isinstance(file_kinds.read_head(tmp_path / "model.bin"), bytes)


@pytest.mark.parametrize(
    ("files", "what", "hint"),
    [
        ((), "a folder", "Name the file of the model in it."),
        (("MLmodel",), "a folder, a model of MLflow", "Import the file of the model that lies in it."),
        (("MLmodel", "model.pkl", "model.onnx"), "a folder, a model of MLflow", "Import the model in it: {}/model.onnx"),
        (("saved_model.pb",), "a folder, a SavedModel of TensorFlow", "Convert it: "),
    ],
)
def test_folders(tmp_path: Path, files: tuple[str, ...], what: str, hint: str) -> None:
    for name in files:
        (tmp_path / name).touch()
    found = file_kinds.folder(tmp_path)
    assert found.what.startswith(what)
    assert (found.hint or "").startswith(hint.format(tmp_path))
