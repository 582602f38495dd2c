"""The sections of the page, each from the facts of a run."""
