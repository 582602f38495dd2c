"""Which patch belongs to which cluster, as a transport plan with a dustbin for patches that say nothing.

Izquierdo and Civera, 2024, section 3.2; the dustbin is that of Sarlin et al., "SuperGlue", 2020; Cuturi,
"Sinkhorn Distances", 2013, in the log domain.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from da3stream.errors import EstimationError

ROUNDS = 3


def log_assignment(scores: Tensor, dustbin: Tensor) -> Tensor:
    """Logarithm of the share of each patch that goes to each cluster.

    With n patches and m clusters, every cluster can take a mass of 1 and the dustbin n - m, while every patch
    has a mass of 1 to give. The last half step is the patches' one, so their shares sum to 1 exactly.

    Args:
        scores: (images, m, n) float32, the higher the better a patch fits a cluster.
        dustbin: () score of the dustbin, the same for all patches.

    Returns:
        (images, m + 1, n) float32, the dustbin last.

    Raises:
        EstimationError: there are not more patches than clusters, so nothing is left for the dustbin.
    """
    images, clusters, patches = scores.shape
    if patches <= clusters:
        raise EstimationError(
            "the images are too small for SALAD",
            got=f"{patches} patches",
            expected=f"at least {clusters + 1}",
            hint="Use images of 126 x 126 pixels or more",
        )
    bin_scores = dustbin.float().expand(images, 1, patches)
    extended = torch.cat((scores.float(), bin_scores), dim=1)
    log_rows = extended.new_zeros(clusters + 1, 1)
    log_rows[-1] = math.log(patches - clusters)
    return _sinkhorn(extended, log_rows)


def _sinkhorn(scores: Tensor, log_rows: Tensor) -> Tensor:
    """Scale exp(scores) (images, rows, columns) so that columns sum to 1, rows nearly to exp(log_rows)."""
    by_column = scores.new_zeros(len(scores), 1, scores.shape[2])
    for _ in range(ROUNDS):
        by_row = log_rows - torch.logsumexp(scores + by_column, dim=2, keepdim=True)
        by_column = -torch.logsumexp(scores + by_row, dim=1, keepdim=True)
    return scores + by_row + by_column
