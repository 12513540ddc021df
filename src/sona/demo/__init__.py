"""The main job on real input: corpora, simulated clicks, measurement, report."""
