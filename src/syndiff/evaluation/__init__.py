"""Evaluation: the error and the displacement of translated slices relative to the references."""
