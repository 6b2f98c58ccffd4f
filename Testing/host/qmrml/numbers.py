"""Sliders and spin boxes that know the scene. The host shows no units."""

import qt

from host.ctk.numbers import ctkDoubleSpinBox, ctkRangeWidget, ctkSliderWidget
from host.qmrml.widget import checkedScene
from host.qt.hosted import hosted, stored


class _WithScene:
    def __init__(self, parent: qt.QWidget | None = None) -> None:
        self._scene = None
        super().__init__(parent)

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene) -> None:
        self._scene = checkedScene(scene)


@hosted
class qMRMLSliderWidget(_WithScene, ctkSliderWidget):
    setters = ("quantity",)
    quantity = stored("quantity", "QString", "")


@hosted
class qMRMLSpinBox(_WithScene, ctkDoubleSpinBox):
    setters = ("quantity",)
    quantity = stored("quantity", "QString", "")


@hosted
class qMRMLRangeWidget(_WithScene, ctkRangeWidget):
    setters = ("quantity",)
    quantity = stored("quantity", "QString", "")
