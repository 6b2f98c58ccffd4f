"""The classes that a module's file derives from; nothing of them can be used without the application."""


class ScriptedLoadableModule:
    pass


class ScriptedLoadableModuleWidget:
    pass


class ScriptedLoadableModuleLogic:
    def __init__(self, parent=None):
        pass


class ScriptedLoadableModuleTest:
    pass
