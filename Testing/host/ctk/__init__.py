"""The widgets of the ``ctk`` module that this project and Slicer's own Python files use, made anew in PySide6."""

__all__ = []
