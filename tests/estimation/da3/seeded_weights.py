"""Deterministic pseudo-random weights for parity tests (own code, numpy + torch only).

    seeded_state_dict({key: shape, ...}) -> {key: float32 tensor}

Every tensor depends on nothing but its key and its shape: a PCG64 generator is
seeded with crc32(key) and fills the shape with float32 standard normals `n`, which
are then scaled by a rule picked from the key's ending and the number of dimensions
(first match wins, see `_rule`).  Use the keys as they stand in an official checkpoint
(with the "model." / "model.da3." / "backbone.model." prefixes): the prefix is part of
the seed.
"""

import re
import zlib
from math import prod, sqrt

import numpy as np
import torch

# (regex searched in the key, (mean, std)) for tensors that are not plain weights
_SPECIAL = [
    (r"\.gamma$", (0.2, 0.02)),  # LayerScale
    (r"\bpos_embed$", (0.0, 0.5)),
    (r"\b(cls_token|camera_token|mask_token)$", (0.0, 0.7)),
    (r"\bdust_bin$", (1.0, 0.1)),
    (r"\.(q_norm|k_norm)\.weight$", (1.5, 0.15)),
    (r"\.fc_fov\.0\.bias$", (0.9, 0.02)),  # field of view about 0.9 rad
]
# extra gain on 1/sqrt(fan_in) weights
_GAIN = [
    (r"\.qkv\.weight$", 1.5),  # attention that is not nearly uniform
    (r"\.fc_fov\.0\.weight$", 0.1),
    (r"\.fc_t\.weight$", 1.5),
    (r"\.fc_qvec\.weight$", 0.6),
    (r"\.scratch\.output_conv2\.2\.weight$", 0.6),  # depth = exp(logit)
    (r"\.sky_output_conv2\.2\.weight$", 1.5),
    (r"\.output_conv2_aux\.\d\.5\.weight$", 0.6),
]
# biases with one preferred direction: quaternion (x y z w) near the identity,
# ray head (dx dy dz ox oy oz conf) looking along +z
_BIAS_MEAN = [
    (r"\.fc_qvec\.bias$", (0.0, 0.0, 0.0, 1.0)),
    (r"\.output_conv2_aux\.\d\.5\.bias$", (0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)),
]


def _fan_in(key, shape):
    if re.search(r"\.resize_layers\.[01]\.weight$", key):  # transposed conv, stride == kernel
        return shape[0]
    return prod(shape[1:])


def _rule(key, shape, n):
    for pat, (mean, std) in _SPECIAL:
        if re.search(pat, key):
            return mean + std * n
    for pat, vec in _BIAS_MEAN:
        if re.search(pat, key) and shape == (len(vec),):
            return np.asarray(vec, np.float32) + 0.05 * n
    if len(shape) >= 2:  # linear and convolution weights
        gain = 1.0
        for pat, g in _GAIN:
            if re.search(pat, key):
                gain = g
                break
        w = n * np.float32(gain / sqrt(_fan_in(key, shape)))
        if re.search(r"\bgs_head\.scratch\.output_conv2\.2\.weight$", key):
            w[36] *= 0.05  # depth offset: keep depth + offset > 0
        if re.search(r"\.sky_output_conv2\.2\.weight$", key):
            w = w - w.mean(axis=1, keepdims=True)  # no common-mode offset
        return w
    if key.endswith("weight"):  # 1-d: normalisation layers
        return 1.0 + 0.1 * n
    return 0.02 * n  # biases


def seeded_array(key, shape):
    shape = tuple(int(s) for s in shape)
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    n = rng.standard_normal(shape, dtype=np.float32)
    return np.asarray(_rule(key, shape, n), dtype=np.float32).reshape(shape)


def seeded_state_dict(shapes):
    return {k: torch.from_numpy(seeded_array(k, s)) for k, s in shapes.items()}


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
