"""The command line: parse, one library call, render. Nothing here imports NumPy or Pillow at module level."""
