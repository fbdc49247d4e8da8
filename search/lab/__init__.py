"""The lab: three exercises on MNIST as a client of the rest, from the command line to the hand-in.

Here: what a student writes (``exercise``), the command line (``entry``, ``cli``), the steps behind it, the images, retraining,
sweeps, ablation, the archive.
Not here: how trials train, run or are chosen; the schema of a results folder; statistics and pages. No other room imports this one.
"""
