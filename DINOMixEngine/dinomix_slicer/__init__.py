"""Between Slicer and the engine: nodes to arrays and back, the worker process, installing what it needs."""
