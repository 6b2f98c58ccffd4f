"""The process that segments, and the client that speaks with it."""
