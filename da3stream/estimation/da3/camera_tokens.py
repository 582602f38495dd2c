"""Cameras in and out of the transformer: the encoder of known ones, the decoder of predicted ones."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from da3stream.estimation.da3.config import ModelConfig
from da3stream.estimation.da3.pose_encoding import Cameras, encode_cameras
from da3stream.transformer.blocks import Block, Mlp
from da3stream.transformer.execution import Execution

NORM_EPSILON = 1e-5
ENCODER_BLOCKS = 4


class CameraEncoder(nn.Module):
    """Known cameras -> one token a view."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.pose_branch = Mlp(9, width // 2, width)
        self.token_norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.trunk = nn.ModuleList(
            Block(width, config.camera_encoder_heads, norm_epsilon=NORM_EPSILON)
            for _ in range(ENCODER_BLOCKS)
        )
        self.trunk_norm = nn.LayerNorm(width, eps=NORM_EPSILON)

    def forward(self, cameras: Cameras, height_px: int, width_px: int) -> Tensor:
        """Cameras (batch, views, ...) of images of this size -> (batch, views, C)."""
        tokens = self.token_norm(self.pose_branch(encode_cameras(cameras, height_px, width_px)))
        for block in self.trunk:
            cast(Block, block).update(tokens, None, Execution(views=len(tokens)))
        return self.trunk_norm(tokens)


class CameraDecoder(nn.Module):
    """The camera features of the last layer -> pose encodings (pose_encoding.py)."""

    def __init__(self, feature_width: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Linear(feature_width, feature_width),
            nn.ReLU(),
            nn.Linear(feature_width, feature_width),
            nn.ReLU(),
        )
        self.fc_t = nn.Linear(feature_width, 3)
        self.fc_qvec = nn.Linear(feature_width, 4)
        self.fc_fov = nn.Sequential(nn.Linear(feature_width, 2), nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        """(batch, views, 2C) -> (batch, views, 9)."""
        hidden = self.backbone(features)
        parts = (self.fc_t(hidden), self.fc_qvec(hidden), self.fc_fov(hidden))
        return torch.cat(parts, dim=-1)
