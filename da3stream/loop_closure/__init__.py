"""From similar frames to verified loops."""
