"""Made-up captures with exact truth: a rendered video for the demo, simulated submaps for tests."""
