"""What kind of model a file holds, told by its content: a suffix may be wrong. Light, and nothing of the file is run."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from noria.kernel.words import plural

HEAD_BYTES = 64 << 10  # of a file that are looked at
PEEKED_BYTES = 64  # of what a compressed file holds
SUFFIXES = {  # where the content does not tell
    ".onnx": "onnx",
    ".txt": "lightgbm",
    ".lgb": "lightgbm",
    ".json": "xgboost",
    ".ubj": "xgboost",
    ".skops": "skops",
    ".joblib": "pickle",
    ".pkl": "pickle",
    ".pickle": "pickle",
    ".cbm": "catboost",
    ".pt2": "pt2",
}
NAMED = {  # kind -> what a person calls it
    "onnx": "an ONNX graph",
    "lightgbm": "a LightGBM model",
    "xgboost": "an XGBoost model",
    "skops": "a skops file",
    "pickle": "a pickle",
    "catboost": "a CatBoost model",
    "pt2": "a program exported by PyTorch",
}
RUNS_CODE = frozenset({"pickle", "pt2"})  # kinds whose loading runs code that the file holds
KNOWN = ".onnx, .txt (LightGBM), .json and .ubj (XGBoost), .cbm (CatBoost), .pt2 (PyTorch), .skops, .joblib, .pkl"

COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x5d\x00\x00": "lzma", b"\x04\x22\x4d\x18": "lz4"}
ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
TORCH_BEFORE_ZIP = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"

TO_ONNX_TORCH = (
    "model.eval(); "
    'torch.onnx.export(model, (torch.zeros(2, K),), "model.onnx", input_names=["rows"], dynamic_axes={"rows": {0: "n"}}, '
    "dynamo=False)"
)
TO_ONNX_KERAS = (  # a model that was loaded says what it takes only once it was called
    'import keras, numpy; model = keras.saving.load_model("{name}"); model(numpy.zeros((2, K), "float32")); '
    'model.export("model.onnx", format="onnx")'
)
TF2ONNX = "pip install tf2onnx; python -m tf2onnx.convert"
TF_OUTPUT = "--output model.onnx, and import that."
AGAIN = "Copy or download it again, and compare its size and sha256 with where it is from."


class FileContent(msgspec.Struct, frozen=True):
    """What a file holds: of a ``kind`` that can be imported, or else ``what`` it is and how to go on from there."""

    kind: str | None = None
    what: str = ""
    hint: str | None = None
    suffix: str = ""  # under which the library reads it; empty: any


def recognise(path: Path) -> FileContent:
    """Told by the first bytes, of an archive by its names. Neither ``kind`` nor ``what`` where they tell nothing."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    tests: tuple[Callable[[Path, bytes], FileContent | None], ...] = (
        _stand_in,
        _archive,
        _torch,
        _pickle,
        _graph,
        _text,
        _binary,
    )
    for test in tests:
        found = test(path, head)
        if found is not None:
            return found
    return FileContent()


def _stand_in(path: Path, head: bytes) -> FileContent | None:
    """What lies where the model should be, because something went wrong before."""
    start = head.lstrip()[:400].lower()
    if head.startswith(b"version https://git-lfs"):
        hint = f"Fetch the file: git lfs pull --include {path.name}"
        return FileContent(what="a pointer of Git LFS, not the model itself", hint=hint)
    if start.startswith((b"<!doctype html", b"<html")):
        return FileContent(what="a web page, not a model: its download was answered by a page, such as a sign-in", hint=AGAIN)
    if start.startswith(b"<?xml") and b"<pmml" in head.lower():
        hint = "Save the model itself, or its ONNX graph, where it was trained; the trees of a PMML cannot be taken back from it."
        return FileContent(what="PMML, which Noria does not read", hint=hint)
    return None


def _archive(path: Path, head: bytes) -> FileContent | None:
    if not head.startswith(b"PK\x03\x04"):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            said = json.loads(archive.read("metadata.json")) if {"metadata.json", "config.json"} <= set(names) else {}
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, RuntimeError):
        return FileContent(what="an archive that is cut off or damaged: its table of contents cannot be read", hint=AGAIN)
    keras = said if isinstance(said, dict) else {}
    ends = {name.rpartition("/")[2] for name in names}
    if "keras_version" in keras or "model.weights.h5" in ends:
        return _keras(path, str(keras.get("keras_version", "")))
    if "schema.json" in names:
        return FileContent("skops")
    if ends & {"archive_format", "serialized_exported_program.json"}:
        return FileContent("pt2")
    if "data.pkl" in ends:
        script = any("/code/" in name for name in names)
        return _torch_file(path, script)
    if names and all(name.endswith(".npy") for name in names):
        return FileContent(what="a file of NumPy arrays (.npz), not a model")
    if "model.ini" in names:
        return FileContent(
            what="a MOJO of H2O, which Noria does not read", hint="Train the model in a library that exports ONNX."
        )
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    hint = "If one of its files is the model: unpack it, and import that file."
    return FileContent(what=f"a zip archive of {plural(len(names), 'file')} ({shown}), not a model", hint=hint)


def _keras(path: Path, version: str) -> FileContent:
    name = "Keras" + (f" {version}" if version else "")
    hint = f"Export it to ONNX where Keras is installed, K being the number of inputs: {TO_ONNX_KERAS.format(name=path.name)}"
    return FileContent(
        what=f"a model of {name}, which Noria does not host: every server would need Keras and its backend", hint=hint
    )


def _torch_file(path: Path, script: bool) -> FileContent:
    if script:
        load = f'model = torch.jit.load("{path.name}")'
        return FileContent(what="a TorchScript program, which Noria does not host", hint=_export(load))
    load = "build the module as in training and load its weights"
    return FileContent(
        what="a file of torch.save, weights or a module: it does not say what is computed with them", hint=_export(load)
    )


def _export(load: str) -> str:
    return f"Export it to ONNX, and import that, K being the number of inputs: {load}; {TO_ONNX_TORCH}"


def _torch(path: Path, head: bytes) -> FileContent | None:
    return _torch_file(path, False) if head.startswith(TORCH_BEFORE_ZIP) else None


def _pickle(path: Path, head: bytes) -> FileContent | None:
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return FileContent("pickle")
    name = next((name for magic, name in COMPRESSED.items() if head.startswith(magic)), "zlib" if head[:2] in ZLIB else None)
    if name is None:
        return None
    inside = read_head(path)
    if inside[:1] == b"\x80" or (name == "lz4" and path.suffix.lower() in (".joblib", ".pkl", ".pickle", ".lz4")):
        return FileContent("pickle")
    if name == "zlib":
        return None
    return FileContent(what=f"compressed by {name}", hint="Unpack it, and import what is in it.")


def read_head(path: Path) -> bytes:
    """The first bytes of what a file holds that may be compressed; nothing where it cannot be read."""
    try:
        with open_unpacked(path) as file:
            return file.read(PEEKED_BYTES)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError):
        return b""


def open_unpacked(path: Path) -> gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile | _Zlib:
    """The file's bytes, of one that is compressed what it holds. Raises ValueError for a compression that Python has not."""
    with path.open("rb") as file:
        head = file.read(6)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(path)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(path)
    if head.startswith((b"\xfd7zXZ", b"\x5d\x00\x00")):
        return lzma.LZMAFile(path)
    return _Zlib(path, head[:2] in ZLIB)


class _Zlib:
    """A file of joblib's own compression, or one that is not compressed."""

    def __init__(self, path: Path, packed: bool) -> None:
        self._file = path.open("rb")
        self._unpack = zlib.decompressobj() if packed else None

    def read(self, size: int) -> bytes:
        if self._unpack is None:
            return self._file.read(size)
        found = b""
        while len(found) < size and not self._unpack.eof:
            given = self._unpack.unconsumed_tail or self._file.read(HEAD_BYTES)
            if not given:
                break
            found += self._unpack.decompress(given, size - len(found))
        return found

    def __enter__(self) -> _Zlib:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _graph(path: Path, head: bytes) -> FileContent | None:
    """ONNX has no magic number: a protobuf that begins with a small version, and then a field of a model."""
    if head[4:8] == b"TFL3":
        hint = f"Convert it: {TF2ONNX} --tflite {path.name} {TF_OUTPUT}"
        return FileContent(what="a TensorFlow Lite model, which Noria does not read", hint=hint)
    begins = len(head) > 2 and head[0] == 0x08 and head[1] < 0x80 and head[2] in (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)
    return FileContent("onnx") if begins else None


def _text(path: Path, head: bytes) -> FileContent | None:
    start = head.lstrip()
    if start.startswith((b"tree\n", b"tree\r\n")):
        return FileContent("lightgbm")
    if start.startswith(b"{L") and b"learner" in head[:64]:
        return FileContent("xgboost", suffix=".ubj")
    if start[:1] not in (b"{", b"["):
        return None
    if b'"learner"' in head:
        return FileContent("xgboost", suffix=".json")
    if b'"nodeid"' in head[:2000]:
        return _dump("XGBoost", "model.json")
    if b'"tree_info"' in head or b'"tree_structure"' in head:
        return _dump("LightGBM", "model.txt")
    if any(key in head or key in _tail(path) for key in (b'"oblivious_trees"', b'"features_info"', b'"model_info"')):
        return FileContent("catboost", suffix=".json")
    return FileContent(what="JSON, and not as XGBoost or CatBoost write a model", hint=f"Known: {KNOWN}")


def _dump(library: str, name: str) -> FileContent:
    what = f"a dump of {library}'s trees, which {library} itself cannot load"
    return FileContent(what=what, hint=f'Save the model instead: booster.save_model("{name}")')


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - HEAD_BYTES))
        return file.read()


def _binary(path: Path, head: bytes) -> FileContent | None:
    if head.startswith(b"CBM1"):
        return FileContent("catboost", suffix=".cbm")
    if head.startswith(b"\x89HDF"):
        hint = f"Where it is a Keras model of K inputs: {TO_ONNX_KERAS.format(name=path.name)}, and import model.onnx."
        return FileContent(what="HDF5, as Keras wrote models once; Noria does not read it", hint=hint)
    if head.startswith(b"binf"):
        hint = 'Load it with the XGBoost that wrote it, and save it again: booster.save_model("model.ubj")'
        return FileContent(what="XGBoost's old binary format, which no XGBoost of today reads", hint=hint)
    if head.startswith(b"PAR1"):
        return FileContent(what="a table (Parquet), not a model", hint="Rows are given as --sample.")
    if head.startswith(b"\x93NUMPY"):
        return FileContent(what="an array of NumPy, not a model")
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100 << 20:
        what = "a file of weights alone (safetensors): it does not say what is computed with them"
        return FileContent(what=what, hint=_export("build the module as in training and load its weights"))
    return None


def folder(path: Path) -> FileContent:
    """What kind of model a folder holds, and which file of it can be imported."""
    if (path / "MLmodel").is_file():
        files = (
            path / name for name in ("model.onnx", "model.cb", "model.cbm", "model.pkl", "model.xgb", "model.ubj", "model.lgb")
        )
        inside = next((file for file in files if file.is_file()), None)
        hint = f"Import the model in it: {path / inside.name}" if inside else "Import the file of the model that lies in it."
        return FileContent(what="a folder, a model of MLflow", hint=hint)
    if (path / "saved_model.pb").is_file():
        hint = f"Convert it: {TF2ONNX} --saved-model {path} {TF_OUTPUT}"
        return FileContent(what="a folder, a SavedModel of TensorFlow, which Noria does not host", hint=hint)
    return FileContent(what="a folder", hint="Name the file of the model in it.")
