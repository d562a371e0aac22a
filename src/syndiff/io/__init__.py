"""Read and write volumes (array and affine) and other files; every write is atomic."""
