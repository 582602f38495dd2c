"""da3stream: monocular video in, camera poses, depth, a point cloud and a COLMAP model out."""
