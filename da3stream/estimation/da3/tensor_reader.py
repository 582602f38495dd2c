"""Tensors of safetensors files, one at a time through one buffer."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import torch
from torch import Tensor

from da3stream.errors import WeightsError
from da3stream.estimation.da3.safetensors_file import FETCH_AGAIN, TensorRecord

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class TensorReader:
    """Reads tensors of a checkpoint; a context manager.

    All of them pass through one buffer of the size of the largest: buffers of their own, allocated in turn
    with what is kept, leave holes in the heap that take as much memory again as the network.

    Args:
        records: name -> where it lies, from `read_headers`.
    """

    def __init__(self, records: Mapping[str, TensorRecord]) -> None:
        self._records = records
        self._files = ExitStack()
        self._streams: dict[Path, BinaryIO] = {}
        largest_bytes = max(record.stop - record.start for record in records.values())
        self._buffer = torch.empty(largest_bytes, dtype=torch.uint8)

    def __enter__(self) -> TensorReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._files.close()

    def read(self, name: str) -> Tensor:
        """A tensor as stored, on the CPU, in memory that the next call writes over.

        Raises:
            WeightsError: it cannot be read, or no trained network would hold it: NaN, infinities, a matrix of
                zeros. These are the traces of a download or a disk gone wrong.
        """
        record = self._records[name]
        stored_bytes = self._buffer[: record.stop - record.start]
        self._read_into(stored_bytes, name, record)
        stored = stored_bytes.view(_DTYPES[record.kind]).reshape(record.shape)
        if stored.numel():
            _check(stored, name, record)
        return stored

    def _read_into(self, target: Tensor, name: str, record: TensorRecord) -> None:
        view, done = target.numpy().data, 0
        try:
            stream = self._opened(record.file)
            stream.seek(record.start)
            while done < len(view):
                count: int = stream.readinto(view[done:])  # type: ignore[attr-defined]
                if not count:
                    raise WeightsError(f"{record.file} ends inside {name}: it changed while it was read")
                done += count
        except OSError as error:
            raise WeightsError(f"{record.file} cannot be read: {error.strerror or error}") from error

    def _opened(self, file: Path) -> BinaryIO:
        if file not in self._streams:
            self._streams[file] = self._files.enter_context(file.open("rb", buffering=0))
        return self._streams[file]


def _check(stored: Tensor, name: str, record: TensorRecord) -> None:
    low, high = map(float, torch.aminmax(stored))
    if not (abs(low) < float("inf") and abs(high) < float("inf")):
        raise WeightsError(
            f"{name} in {record.file} holds NaN or infinities: it is damaged", hint=FETCH_AGAIN
        )
    if low == high == 0 and len(record.shape) >= 2:
        raise WeightsError(f"{name} in {record.file} is all zero: it is damaged", hint=FETCH_AGAIN)
