"""The run directory: atomic files, the journal, stored submaps and frames. Resuming lives here."""

from da3stream.store.finished import FinishedRun
from da3stream.store.following import FollowedRun
from da3stream.store.opening import RunRequest, open_existing, open_run, read_manifest
from da3stream.store.records import ChunkRecord, PlanRecord, RejectedChunk, ResourceSample
from da3stream.store.run import Run
from da3stream.store.submap_file import FrameMaps

__all__ = [
    "ChunkRecord",
    "FinishedRun",
    "FollowedRun",
    "FrameMaps",
    "PlanRecord",
    "RejectedChunk",
    "ResourceSample",
    "Run",
    "RunRequest",
    "open_existing",
    "open_run",
    "read_manifest",
]
