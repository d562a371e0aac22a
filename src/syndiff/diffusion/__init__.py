"""Diffusion processes: a few large steps (SynDiff), many small steps (DDPM)."""
