"""colmap/: a folder that COLMAP triangulates and adjusts, and that trainers of 3D Gaussians read.

writer        the images, cameras and dense points, block by block; calls the worker
pairs         which images are matched
worker        a child process: matching -> triangulation -> refinement -> model
model         the model and the database on disk
"""

from da3stream.writers.colmap.writer import ColmapWriter

__all__ = ["ColmapWriter"]
