"""Windows that VTK draws without a screen, and pictures of them."""

import os
import sys

import numpy as np
import vtk
from vtk.util.numpy_support import vtk_to_numpy


def offscreenWindow() -> "vtk.vtkRenderWindow":
    """A render window that is on no screen; with EGL where there is no display."""
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
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
