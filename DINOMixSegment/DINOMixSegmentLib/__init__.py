"""DINOMix Segment: one click from a volume to named organs. The files are listed in ``DINOMixSegment/files.cmake``."""
