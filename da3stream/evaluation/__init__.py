"""How far an estimated trajectory is from the truth.

    estimate, truth = load_trajectory("out/"), load_trajectory("groundtruth.txt")
    print(evaluate(estimate, truth).ate.rmse)

Pictures of trajectories are in `da3stream.evaluation.plot`, which alone needs OpenCV.
"""

from da3stream.evaluation.association import Association, associate
from da3stream.evaluation.load import load_trajectory
from da3stream.evaluation.metrics import ErrorStatistics, Evaluation, evaluate
from da3stream.evaluation.pose_sequence import PoseSequence

__all__ = [
    "Association",
    "ErrorStatistics",
    "Evaluation",
    "PoseSequence",
    "associate",
    "evaluate",
    "load_trajectory",
]
