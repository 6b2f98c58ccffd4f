"""The PyTorch extension's module, as far as others use it. Like the original it installs light-the-torch first."""

import qt  # noqa: F401
import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic


class PyTorchUtilsLogic(ScriptedLoadableModuleLogic):
    def installTorch(
        self,
        askConfirmation=False,
        forceComputationBackend=None,
        torchVersionRequirement=None,
        torchvisionVersionRequirement=None,
    ):
        """Install PyTorch. The original asks only in the application, and imports what it has installed."""
        if askConfirmation:
            raise AttributeError("module 'slicer' has no attribute 'app'")
        slicer.util.pip_install("light-the-torch>=0.5")
        packages = [f"torch{torchVersionRequirement or ''}", f"torchvision{torchvisionVersionRequirement or ''}"]
        backend = [f"--pytorch-computation-backend={forceComputationBackend}"] if forceComputationBackend else []
        slicer.util._executePythonModule("light_the_torch", ["install", *packages, *backend])
