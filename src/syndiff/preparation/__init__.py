"""Preparation: raw scans → slices in [0, 1] and a manifest that records every decision."""
