"""Slicer's side of a scripted module: it loads the file, makes the module and its window, enters, leaves and reloads it."""

import importlib.util
import sys
from pathlib import Path
from typing import ClassVar

import qt
import slicer

from host.module_manager import addModule
from host.qt.hosted import hosted, qtProperty


class qSlicerScriptedLoadableModule:
    """``slicer.modules.<name>``; what the module's class sets is checked by name and type."""

    PROPERTIES: ClassVar[dict[str, type]] = {
        "title": str,
        "categories": list,
        "dependencies": list,
        "contributors": list,
        "associatedNodeTypes": list,
        "helpText": str,
        "acknowledgementText": str,
        "extensions": dict,
        "icon": qt.QIcon,
        "hidden": bool,
        "index": int,
        "widgetRepresentationCreationEnabled": bool,
    }

    def __init__(self, path: Path) -> None:
        values = vars(self)
        values.update({name: kind() for name, kind in self.PROPERTIES.items()})
        values.update(name=path.stem, path=str(path), index=-1, widgetRepresentationCreationEnabled=True)
        values.update(isInstalled=False, isBuiltIn=False)
        values.update(_logic=slicer.vtkSlicerScriptedLoadableModuleLogic(), _widget=None, _widgets=[], _instance=None)
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        self._logic.SetMRMLScene(slicer.mrmlScene)

    def __setattr__(self, name: str, value: object) -> None:
        if name not in self.PROPERTIES:
            raise AttributeError(f"a module has no property {name!r}, only {sorted(self.PROPERTIES)}")
        if not isinstance(value, self.PROPERTIES[name]):
            raise TypeError(f"a module's {name} is a {self.PROPERTIES[name].__name__}, not {value!r}")
        vars(self)[name] = value

    def logic(self) -> "slicer.vtkSlicerScriptedLoadableModuleLogic":
        """Slicer's C++ logic; the module's own is ``slicer.util.getModuleLogic(name)``."""
        return self._logic

    def mrmlScene(self) -> "slicer.vtkMRMLScene":
        return slicer.mrmlScene

    def widgetRepresentation(self) -> "qSlicerScriptedLoadableModuleWidget | None":
        """The module's window, made at the first call."""
        if self._widget is None:
            vars(self)["_widget"] = self.createNewWidgetRepresentation()
        return self._widget

    def createNewWidgetRepresentation(self) -> "qSlicerScriptedLoadableModuleWidget | None":
        """A further window of the module, set up."""
        if not self.widgetRepresentationCreationEnabled:
            return None
        widget = qSlicerScriptedLoadableModuleWidget()
        widget._setPythonSource(self.path)
        widget._setModule(self)
        # Slicer hands over the scene only after setup().
        widget.setMRMLScene(slicer.mrmlScene)
        self._widgets.append(widget)
        return widget


@hosted
class qSlicerScriptedLoadableModuleWidget(slicer.qSlicerWidget):
    """The panel that a module's window fills."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        layout = qt.QVBoxLayout()
        self.setLayout(layout)
        self._host = {"instance": None, "path": "", "module": None, "entered": False}

    def _setPythonSource(self, path: str) -> None:
        """Make the class ``<module>Widget`` of the file, with this panel as its parent."""
        name = Path(path).stem
        self._host["path"] = path
        self._host["instance"] = getattr(importedModule(Path(path)), f"{name}Widget")(self)
        setattr(slicer.modules, f"{name}Widget", self._host["instance"])

    def _setModule(self, module: qSlicerScriptedLoadableModule) -> None:
        self._host["module"] = module
        self._setUp()

    def _setUp(self) -> None:
        module = self._host["module"]
        self.setObjectName(f"{module.name}ModuleWidget")
        self.setWindowTitle(module.title)
        self.self().setup()

    def reload(self) -> None:
        """Fill the panel anew from the module as it is loaded now."""
        self._setPythonSource(self._host["path"])
        self._setUp()

    def self(self):
        """The module's own Python object."""
        return self._host["instance"]

    def module(self) -> qSlicerScriptedLoadableModule:
        return self._host["module"]

    isEntered = qtProperty("bool", lambda self: self._host["entered"])

    def enter(self) -> None:
        """The user comes to this module."""
        if self.isEntered:
            raise RuntimeError("the module is already entered")
        self._host["entered"] = True
        if hasattr(self.self(), "enter"):
            self.self().enter()

    def exit(self) -> None:
        """The user goes to another module."""
        if not self.isEntered:
            raise RuntimeError("the module was not entered")
        self._host["entered"] = False
        if hasattr(self.self(), "exit"):
            self.self().exit()


def importedModule(path: Path):
    """The Python module of a file, as Slicer imports it: under the file's name."""
    if path.stem in sys.modules:
        return sys.modules[path.stem]
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def registerFolders(repository: Path) -> None:
    """Append the folder of each module to Python's path, as Slicer does with all of them before it imports the first."""
    for path in sorted(repository.glob("*/*.py")):
        if path.stem == path.parent.name and str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))


def loadScriptedModule(path: Path) -> qSlicerScriptedLoadableModule:
    """Make ``slicer.modules.<name>`` from a file; its window is made when it is asked for."""
    pythonModule = importedModule(path)
    module = qSlicerScriptedLoadableModule(path)
    instance = getattr(pythonModule, path.stem)(module)
    vars(module)["_instance"] = instance
    setattr(slicer.modules, f"{path.stem}Instance", instance)
    if not hasattr(pythonModule, f"{path.stem}Widget"):
        module.widgetRepresentationCreationEnabled = False
    loadDependencies(module, path.parents[1])
    if hasattr(instance, "setup"):
        instance.setup()
    addModule(module)
    return module


def loadDependencies(module: qSlicerScriptedLoadableModule, repository: Path) -> None:
    """Load the modules of the repository that this one names; RuntimeError if one of those it names is not there.

    Slicer would not load a module then.
    """
    for name in module.dependencies:
        path = repository / name / f"{name}.py"
        if slicer.app.moduleManager().module(name) is None and path.is_file():
            loadScriptedModule(path)
    missing = [name for name in module.dependencies if slicer.app.moduleManager().module(name) is None]
    if missing:
        raise RuntimeError(f"the module {module.name} needs {missing}, which the test host does not have")
