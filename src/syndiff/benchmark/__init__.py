"""How fast, how much memory, how many operations: ours and a plain rendition of the official."""
