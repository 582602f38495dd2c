"""Inputs for parity tests, and multipliers of the package's seeded weights."""

import re

import numpy as np
import torch

from da3stream.transformer.seeded_weights import seeded_array


def seeded_state_dict(shapes):
    return {key: torch.from_numpy(seeded_array(key, shape)) for key, shape in shapes.items()}


# Multipliers for the "tiny_*_eps" fixture: they shrink activations to the size of sqrt(eps), so that a
# wrong LayerNorm epsilon anywhere changes the outputs by > 1e-3.
_EPS_MULT = [
    (r"patch_embed\.proj\.|pos_embed$|cls_token$|camera_token$", 1e-3),
    (r"backbone\.pretrained\.blocks\.\d+\.ls2\.gamma$", 1e-3),
    (r"backbone\.pretrained\.blocks\.\d+\.attn\.qkv\.", 2e-3),
    (r"backbone\.pretrained\.norm\.", 2e-3),
    (r"cam_enc\.pose_branch\.fc2\.", 2e-3),
    (r"cam_enc\.token_norm\.", 2e-3),
    (r"cam_enc\.trunk\.\d+\.ls[12]\.gamma$", 2e-3),
    (r"cam_enc\.trunk_norm\.", 1e-3),
    (r"output_conv2_aux\.3\.0\.", 2e-3),
]


def eps_multiplier(key):
    for pat, f in _EPS_MULT:
        if re.search(pat, key):
            return f
    return 1.0


def seeded_images(seed, n, height, width, shift=0.15):
    """(n, H, W, 3) uint8: overlapping crops of one smooth random texture (plane waves) plus noise."""
    rng = np.random.Generator(np.random.PCG64(seed))
    k = 24
    freq = rng.normal(0.0, 9.0, (k, 2))
    phase = rng.uniform(0.0, 2 * np.pi, (k, 3))
    amp = rng.normal(0.0, 1.0, (k, 3)) / np.sqrt(k)
    y = (np.arange(height) + 0.5) / max(height, width)
    x = (np.arange(width) + 0.5) / max(height, width)
    out = np.empty((n, height, width, 3), np.uint8)
    for i in range(n):
        dy, dx = shift * i * rng.uniform(0.5, 1.5, 2)
        rows, columns = y[None, :, None] + dy, x[None, None, :] + dx
        arg = freq[:, 0, None, None] * rows + freq[:, 1, None, None] * columns
        img = np.zeros((height, width, 3))
        for j in range(k):
            img += amp[j] * np.cos(arg[j][..., None] + phase[j])
        img = img * 0.35 + 0.5 + rng.normal(0.0, 0.02, img.shape)
        out[i] = np.clip(np.round(img * 255.0), 0, 255).astype(np.uint8)
    return out


def normalise(images_u8):
    """uint8 (n, H, W, 3) -> float32 (1, n, 3, H, W), ImageNet mean/std, all arithmetic in float32."""
    x = torch.from_numpy(np.ascontiguousarray(images_u8)).permute(0, 3, 1, 2).contiguous().float().div(255)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    return x.sub(mean).div(std)[None]
