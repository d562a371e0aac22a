"""Checks that a translation keeps the anatomy in place: offset, outline and way back.

No reference image is needed.
"""
