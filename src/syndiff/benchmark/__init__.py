"""Time, memory and operations of this package and of a plain rendition of the official code."""
