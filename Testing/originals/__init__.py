"""Holds the test host and our use of it against the sources of what it stands in for: Slicer, CTK and PythonQt.

Facts are read from a checkout of each, named by the environment variables ``SLICER_SOURCE``, ``CTK_SOURCE`` and
``PYTHONQT_SOURCE``; nothing of them is kept here. What Qt 5 itself has is asked of PyQt5, if the Python that
``QT5_PYTHON`` names has it.
"""
