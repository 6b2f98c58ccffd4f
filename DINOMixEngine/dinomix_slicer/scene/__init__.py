"""Between the scene's nodes and arrays or files."""
