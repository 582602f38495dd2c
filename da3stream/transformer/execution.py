"""How a forward pass is cut into pieces: what it costs, not what comes out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from da3stream.transformer.attention import Attention, fused_attention


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """Sizes of the pieces; smaller ones need less memory beside weights, tokens and results."""

    views: int = 1
    """Views at a time in the transformer, wherever a view can be worked on by itself."""
    head_views: int = 1
    """Views at a time in a dense head, whose maps are the larger the more pixels an image has."""
    heads: int = 8
    """Attention heads at a time in a block that sees all views."""
    attention: Attention = fused_attention

    def sizes(self) -> dict[str, int]:
        """The sizes by name, for reports and the journal."""
        return {"views": self.views, "head_views": self.head_views, "heads": self.heads}

    def halved(self) -> Execution | None:
        """The next smaller pieces; None if these are the smallest."""
        smaller = replace(
            self,
            views=max(1, self.views // 2),
            head_views=max(1, self.head_views // 2),
            heads=max(1, self.heads // 2),
        )
        return None if smaller == self else smaller


def pieces(total: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover `total`."""
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


ON_GPU = Execution(views=8, head_views=4, heads=8)
"""Large enough to keep a GPU busy; a plan of its memory begins here."""


def execution_for(device: torch.device | str) -> Execution:
    """How the work is cut on a device unless somebody knows better."""
    return ON_GPU if torch.device(device).type == "cuda" else Execution()


def trunk_dtype_for(device: torch.device | str) -> torch.dtype:
    """bfloat16 on GPUs that have it, else float16 on GPUs; float32 on the CPU."""
    if torch.device(device).type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
