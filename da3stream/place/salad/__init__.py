"""SALAD: a place descriptor of 8448 values, DINOv2 features gathered by optimal transport.

Izquierdo and Civera, "Optimal Transport Aggregation for Visual Place Recognition", CVPR 2024. Written from a
description of the mathematics; state-dict keys are those of the published `dino_salad.ckpt`. Nothing here
imports torch until one of its modules is imported.
"""
