"""Full memory: what counts as such, and what is tried next."""

from __future__ import annotations

import pytest
import torch

from da3stream.errors import EstimationError
from da3stream.transformer.back_off import halve_until_it_fits, is_out_of_memory
from da3stream.transformer.execution import Execution


class Cut:
    """A network as far as the back-off sees it."""

    def __init__(self) -> None:
        self.execution = Execution(heads=2)


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (torch.OutOfMemoryError("any words"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (torch.linalg.LinAlgError("the input matrix is singular"), False),
    ],
)
def test_what_counts_as_full_memory(error: RuntimeError, is_full: bool) -> None:
    assert is_out_of_memory(error) is is_full
    network, attempts = Cut(), []

    def attempt() -> str:
        attempts.append(network.execution.heads)
        if len(attempts) == 1:
            raise error
        return "done"

    if is_full:
        assert halve_until_it_fits(attempt, network, EstimationError) == ("done", Execution(heads=1))
        assert attempts == [2, 1]
    else:
        with pytest.raises(type(error)) as raised:
            halve_until_it_fits(attempt, network, EstimationError)
        assert raised.value is error
        assert attempts == [2]
        assert network.execution.heads == 2


def test_what_never_fits_is_the_caller_s_error_with_the_first_sentences() -> None:
    def attempt() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB. There is 1 GiB. Read our settings.")

    network = Cut()
    with pytest.raises(
        EstimationError, match=r"^CUDA out of memory\. Tried 2 GiB\. There is 1 GiB$"
    ) as raised:
        halve_until_it_fits(attempt, network, EstimationError)
    assert raised.value.__context__ is None
    assert network.execution.halved() is None
