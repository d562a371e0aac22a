"""Does the anatomy stay where it is? Offset, foreground and way back, without a reference."""
