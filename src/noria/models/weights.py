"""Large models: weights in a file of their own beside the graph, which the processes of a machine map instead of copying."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from noria.kernel import names
from noria.kernel.errors import ServingError

LARGE_BYTES = 64_000_000  # weights of less are copied into each process: they compute a little faster so
SMALL_BYTES = 1024  # a tensor of less stays in the graph
PAGE_BYTES = 4096  # where a tensor may begin, so that it can be mapped
SUFFIX = ".data"  # model.onnx -> model.onnx.data
DIGEST = "noria.weights"  # metadata of the graph: the digest of its weights, so that its own digest stands for both


def beside(graph: Path) -> Path:
    """Where the weights of a graph lie, if they are apart."""
    return graph.with_name(graph.name + SUFFIX)


def save(content: bytes, path: Path) -> int:
    """Write a graph, with its weights in a file beside it when they are large. How many bytes it takes in all.

    Equal graphs give equal files. What is no initializer (the nodes of trees) stays in the graph.
    """
    beside(path).unlink(missing_ok=True)
    if len(content) >= LARGE_BYTES:
        content = _apart(content, beside(path))
    path.write_bytes(content)
    return len(content) + (beside(path).stat().st_size if beside(path).exists() else 0)


def _apart(content: bytes, target: Path) -> bytes:
    """The graph without the weights, which are written to ``target``; as it was, when they are not large."""
    import onnx  # heavy, and not needed to serve
    from onnx import TensorProto, numpy_helper

    made = onnx.load_from_string(content)
    tensors = [t for t in made.graph.initializer if t.data_type != TensorProto.STRING and t.ByteSize() >= SMALL_BYTES]
    if sum(t.ByteSize() for t in tensors) < LARGE_BYTES:
        return content
    with target.open("wb") as file:
        for tensor in tensors:
            values = numpy_helper.to_array(tensor).tobytes()
            file.write(bytes(-file.tell() % PAGE_BYTES))
            told = {"location": target.name, "offset": str(file.tell()), "length": str(len(values))}
            file.write(values)
            kept = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, data_location=TensorProto.EXTERNAL)
            kept.external_data.extend(onnx.StringStringEntryProto(key=key, value=value) for key, value in told.items())
            tensor.CopyFrom(kept)
    made.metadata_props.append(onnx.StringStringEntryProto(key=DIGEST, value=names.digest_file(target)))
    graph: bytes = made.SerializeToString(deterministic=True)
    return graph


def share(options: Any) -> None:
    """Let onnxruntime compute with the weights as they lie in the file: what it packs anew is a copy in each process."""
    options.add_session_config_entry("session.disable_prepacking", "1")


@contextlib.contextmanager
def loading(options: Any, graph: Path, digest: str | None) -> Iterator[None]:
    """Around the making of a session: ``digest`` is that of the weights beside the graph; None when it has them inside.

    Raises ServingError when the file that was mapped may be another than the one that was verified.
    """
    path = beside(graph)
    if digest is not None:
        share(options)
        before = _identity(path)
        if names.digest_file(path) != digest:
            raise ServingError(f"{path.name} does not match its digest; the release is refused", where=str(graph.parent))
    yield
    if digest is not None and _identity(path) != before:
        raise ServingError(f"{path.name} was changed while it was loaded; the release is refused", where=str(graph.parent))
    give_back()


def _identity(path: Path) -> tuple[int, ...]:
    """Changes when the file is replaced or written to: its change time cannot be set."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def give_back() -> None:
    """Return what loading left unused to the system (glibc): a forest takes several times its size while it is read."""
    if os.name == "posix":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
