"""What must be installed before anything can be computed."""
