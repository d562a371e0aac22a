"""Evaluation: how near a translator's slices come to the references, and in the right place."""
