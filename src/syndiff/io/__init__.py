"""Volumes and files: array and affine in and out, and files that are whole or absent."""
