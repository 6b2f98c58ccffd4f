"""Writes down what VTK and MRML report as errors, which Slicer only logs, so that a test can fail because of them."""

import vtk

messages: list[str] = []


@vtk.calldata_type(vtk.VTK_STRING)
def _onError(caller, event, text: str) -> None:
    messages.append(" ".join(text.split()))


def watch() -> None:
    """Start writing down."""
    vtk.vtkOutputWindow.GetInstance().AddObserver("ErrorEvent", _onError)
