"""The transport plan against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from da3stream.errors import EstimationError
from da3stream.place.salad.optimal_transport import log_assignment


def scores(clusters: int = 5, patches: int = 12, spread: float = 3.0) -> torch.Tensor:
    return spread * torch.randn(2, clusters, patches, generator=torch.Generator().manual_seed(1))


def test_it_is_three_rounds_of_sinkhorn() -> None:
    """The definition in float64: probabilities over all masses, multiplied by their number at the end."""
    ours = log_assignment(scores(), torch.tensor(1.3))
    clusters, patches = scores().shape[1:]
    log_masses = np.full(clusters + 1, -np.log(clusters + patches))
    log_masses[-1] += np.log(patches - clusters)
    for image, found in zip(scores().double().numpy(), ours, strict=True):
        extended = np.vstack((image, np.full(patches, 1.3)))
        v = np.zeros(patches)
        for _ in range(3):
            u = log_masses - logsumexp(extended + v, axis=1)
            v = -np.log(clusters + patches) - logsumexp(extended + u[:, None], axis=0)
        expected = extended + u[:, None] + v + np.log(clusters + patches)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spread", [0.1, 3.0, 200.0])
def test_every_patch_gives_all_it_has(spread: float) -> None:
    """Far beyond what exp() of float32 can hold, too: the work is done on logarithms."""
    shares = log_assignment(scores(spread=spread), torch.tensor(1.0)).exp()
    torch.testing.assert_close(shares.sum(1), torch.ones(2, 12), rtol=1e-3, atol=1e-3)


def test_a_patch_that_fits_no_cluster_goes_to_the_dustbin() -> None:
    poor = scores()
    poor[:, :, 4] -= 30
    assert (log_assignment(poor, torch.tensor(1.0))[:, -1, 4].exp() > 0.99).all()


@pytest.mark.parametrize("patches", [3, 5])
def test_there_must_be_more_patches_than_clusters(patches: int) -> None:
    with pytest.raises(EstimationError, match=f"got {patches} patches; expected at least 6"):
        log_assignment(scores(patches=patches), torch.tensor(1.0))


def test_one_patch_more_than_clusters_is_enough() -> None:
    assert log_assignment(scores(patches=6), torch.tensor(1.0)).isfinite().all()
