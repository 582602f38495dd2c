"""The viewer in the browser: a run directory, finished or still being written, as a scene to walk through.

    store.FollowedRun -> MapState -> keyframes -> LevelOfDetail -> MapScene, Panel

The viewer only reads the run directory and needs no lock. What it shows hangs on keyframes: a node of the
scene is a keyframe's camera, with its points in camera coordinates below it. A loop that moves the map, an
alignment and the switch to the state before the optimisation change poses and scales of nodes; no point is
sent again.
"""
