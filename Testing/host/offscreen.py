"""Windows that VTK draws without a screen, and pictures of them."""

import contextlib
import importlib
import os
import sys

import numpy as np
import vtk
from vtk.util.numpy_support import vtk_to_numpy


def offscreenWindow() -> "vtk.vtkRenderWindow":
    """A render window that is on no screen; with EGL where there is no display."""
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
        # Mesa and torch's triton each bring an LLVM of their own. With Mesa's first, a later import of torch would crash; the
        # other way round both work.
        with contextlib.suppress(ImportError):
            importlib.import_module("triton")
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(True)
    return window


def pictureOf(window: "vtk.vtkRenderWindow", width: int, height: int) -> np.ndarray:
    """Draw the window at that size. Returns an array (height, width, 3) of uint8, top row first."""
    window.SetSize(width, height)
    window.Render()
    grabber = vtk.vtkWindowToImageFilter()
    grabber.SetInput(window)
    grabber.SetInputBufferTypeToRGB()
    grabber.ReadFrontBufferOff()
    grabber.Update()
    image = grabber.GetOutput()
    columns, rows, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, 3)[::-1].copy()
