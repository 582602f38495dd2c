"""The features that the classical estimator works with: those that all stages share."""

from da3stream.features import MAX_FEATURES, RATIO, Features, extract_features, match_features

__all__ = ["MAX_FEATURES", "RATIO", "Features", "extract_features", "match_features"]
