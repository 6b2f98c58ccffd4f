"""Translation, which Slicer 5.10 cannot do outside the application."""


def tr(text):
    raise ImportError("cannot import name 'app' from 'slicer'")


translate = tr
