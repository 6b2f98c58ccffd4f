"""``slicer.app.moduleManager()`` and what hangs on it."""

import slicer

from host.emitter import Emitter


class ModuleFactoryManager(Emitter):
    """Knows which modules are loaded."""

    signals = ("modulesLoaded(QStringList)", "moduleLoaded(QString)")

    def __init__(self) -> None:
        super().__init__()
        self.modules: dict[str, object] = {}

    def loadedModuleNames(self) -> list[str]:
        return sorted(self.modules)

    moduleNames = registeredModuleNames = instantiatedModuleNames = loadedModuleNames

    def isLoaded(self, name: str) -> bool:
        return name in self.modules

    isRegistered = isInstantiated = isLoaded

    def moduleInstance(self, name: str):
        return self.modules.get(name)


class ModuleManager(Emitter):
    """Hands out modules by name; ``add`` is the host's own."""

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
        return self._factoryManager.modules.get(name)

    def add(self, module) -> None:
        """Make a module known as ``slicer.modules.<name in lower case>`` and announce it."""
        self._factoryManager.modules[module.name] = module
        setattr(slicer.modules, module.name.lower(), module)
        setattr(slicer.moduleNames, module.name, module.name)
        self.emit("moduleLoaded(QString)", module.name)
        self._factoryManager.emit("moduleLoaded(QString)", module.name)

    def unload(self, name: str) -> None:
        """Announce and forget a module."""
        self.emit("moduleAboutToBeUnloaded(QString)", name)
        del self._factoryManager.modules[name]
        delattr(slicer.modules, name.lower())
        delattr(slicer.moduleNames, name)
