"""DINOMix Train: from cases to a model, page by page. The files are listed in ``DINOMixTrain/files.cmake``."""
