"""Preparation: raw scans → slices in [0, 1] and a manifest of every decision (no torch here)."""
