"""``slicer.app.moduleManager()`` and what hangs on it."""

import slicer

from host.emitter import Emitter


class ModuleFactoryManager(Emitter):
    """Knows which modules are loaded."""

    signals = ("modulesLoaded(QStringList)", "moduleLoaded(QString)")

    def __init__(self) -> None:
        super().__init__()
        self._modules: dict[str, object] = {}

    def loadedModuleNames(self) -> list[str]:
        return sorted(self._modules)

    registeredModuleNames = instantiatedModuleNames = loadedModuleNames

    def isLoaded(self, name: str) -> bool:
        return name in self._modules

    isRegistered = isInstantiated = isLoaded

    def moduleInstance(self, name: str):
        return self._modules.get(name)


class ModuleManager(Emitter):
    """Hands out modules by name."""

    signals = ("moduleLoaded(QString)", "moduleAboutToBeUnloaded(QString)")

    def __init__(self) -> None:
        super().__init__()
        self._factoryManager = ModuleFactoryManager()

    def factoryManager(self) -> ModuleFactoryManager:
        return self._factoryManager

    def modulesNames(self) -> list[str]:
        return self._factoryManager.loadedModuleNames()

    def module(self, name: str):
        """The module, or None."""
        return self._factoryManager._modules.get(name)


def addModule(module) -> None:
    """Make a module known as ``slicer.modules.<name in lower case>`` and announce it."""
    manager = slicer.app.moduleManager()
    manager.factoryManager()._modules[module.name] = module
    setattr(slicer.modules, module.name.lower(), module)
    setattr(slicer.moduleNames, module.name, module.name)
    manager._emit("moduleLoaded(QString)", module.name)
    manager.factoryManager()._emit("moduleLoaded(QString)", module.name)


def unloadModule(name: str) -> None:
    """Announce and forget a module."""
    manager = slicer.app.moduleManager()
    manager._emit("moduleAboutToBeUnloaded(QString)", name)
    del manager.factoryManager()._modules[name]
    delattr(slicer.modules, name.lower())
    delattr(slicer.moduleNames, name)
