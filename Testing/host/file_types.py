"""``slicer.app.coreIOManager()``: the few file types that the tests need, over Slicer's real logics and storage nodes.

Stricter than Slicer: a file type, an extension or a property that is not known here is an error, never a guess.
"""

from collections.abc import Callable
from pathlib import Path

import qt
import slicer
import vtk

VOLUME_EXTENSIONS = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd", ".dcm")
SEGMENTATION_EXTENSIONS = (".seg.nrrd", ".seg.nhdr")
SEQUENCE_EXTENSIONS = (".seq.nrrd", ".seq.mrb")
TRANSFORM_EXTENSIONS = (".h5", ".tfm")
SCENE_EXTENSIONS = (".mrml", ".mrb")

# The storage nodes of the package do not know ITK's file formats by themselves, so what may be written is said here.
WRITABLE_EXTENSIONS = {
    "VolumeFile": (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd"),
    "SegmentationFile": SEGMENTATION_EXTENSIONS,
    "SequenceFile": SEQUENCE_EXTENSIONS,
    "TransformFile": TRANSFORM_EXTENSIONS,
    "TableFile": (".tsv", ".csv", ".schema.tsv"),
    "TextFile": (".txt", ".json"),
    "ModelFile": (".vtk", ".vtp", ".stl", ".obj"),
}

# Node class -> the name of the writer, most special class first, as ``fileWriterFileType`` answers.
WRITERS = {
    "vtkMRMLSegmentationNode": "SegmentationFile",
    "vtkMRMLSequenceNode": "SequenceFile",
    "vtkMRMLVolumeNode": "VolumeFile",
    "vtkMRMLTransformNode": "TransformFile",
    "vtkMRMLTableNode": "TableFile",
    "vtkMRMLTextNode": "TextFile",
    "vtkMRMLModelNode": "ModelFile",
}

# File type -> the properties that its reader knows beside "fileName" and "name".
PROPERTIES = {
    "VolumeFile": {
        "labelmap",
        "center",
        "singleFile",
        "autoWindowLevel",
        "discardOrientation",
        "show",
        "colorNodeID",
        "fileNames",
    },
    "SegmentationFile": {"autoOpacities", "colorNodeID"},
    "SequenceFile": {"show", "colorNodeID"},
    "TransformFile": set(),
    "SceneFile": {"clear"},
}


class FileTypes:
    """Reads and writes files of the types in ``PROPERTIES``."""

    def __init__(self, applicationLogic: "slicer.vtkSlicerApplicationLogic") -> None:
        self._applicationLogic = applicationLogic
        self._readers: dict[str, Callable] = {
            "VolumeFile": self._readVolume,
            "SegmentationFile": self._readSegmentation,
            "SequenceFile": self._readSequence,
            "TransformFile": self._readTransform,
            "SceneFile": self._readScene,
        }

    def fileType(self, fileName: str | Path) -> str:
        """The type that Slicer would choose by the file's name."""
        name = str(fileName).lower()
        for fileType, extensions in (
            ("SceneFile", SCENE_EXTENSIONS),
            ("SegmentationFile", SEGMENTATION_EXTENSIONS),
            ("SequenceFile", SEQUENCE_EXTENSIONS),
            ("VolumeFile", VOLUME_EXTENSIONS),
            ("TransformFile", TRANSFORM_EXTENSIONS),
        ):
            if name.endswith(extensions):
                return fileType
        raise ValueError(f"the test host knows no file type for {fileName}")

    def registeredFileReaderCount(self, fileType: str) -> int:
        return int(fileType in self._readers)

    def fileWriterFileType(self, node: "slicer.vtkMRMLNode", extension: str = "") -> str:
        for className, fileType in WRITERS.items():
            if node.IsA(className):
                return fileType
        raise ValueError(f"the test host knows no writer for a {node.GetClassName()}")

    def loadNodes(
        self,
        fileType: str,
        properties: dict,
        loadedNodes: "vtk.vtkCollection | None" = None,
        userMessages: "slicer.vtkMRMLMessageCollection | None" = None,
    ) -> bool:
        """Read one file into the scene and add its nodes to ``loadedNodes``. False, with messages, if it cannot be read."""
        if fileType not in self._readers:
            raise ValueError(f"the test host has no reader for {fileType}, only for {sorted(self._readers)}")
        unknown = set(properties) - PROPERTIES[fileType] - {"fileName", "name"}
        if unknown:
            raise ValueError(f"the reader of {fileType} knows no property {sorted(unknown)}")
        messages = userMessages if userMessages is not None else slicer.vtkMRMLMessageCollection()
        path = str(properties["fileName"])
        if not Path(path).exists():
            messages.AddMessage(vtk.vtkCommand.ErrorEvent, f"{path} does not exist")
            return False
        nodes = self._readers[fileType](path, properties, messages)
        for node in nodes or []:
            if loadedNodes is not None:
                loadedNodes.AddItem(node)
        return nodes is not None

    def loadScene(self, fileName: str | Path, clear: bool = True, userMessages=None) -> bool:
        return self.loadNodes("SceneFile", {"fileName": str(fileName), "clear": clear}, None, userMessages)

    def loadFile(self, fileName: str | Path, userMessages=None) -> bool:
        return self.loadNodes(self.fileType(fileName), {"fileName": str(fileName)}, None, userMessages)

    def saveNodes(self, fileType: str, properties: dict, userMessages=None) -> bool:
        """Write a node through a storage node of its own, or the scene if ``fileType`` is "SceneFile"."""
        messages = userMessages if userMessages is not None else slicer.vtkMRMLMessageCollection()
        if fileType == "SceneFile":
            return self._writeScene(str(properties["fileName"]), messages)
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        if node is None:
            raise ValueError(f"no node {properties['nodeID']} is in the scene")
        path = str(properties["fileName"])
        if not path.lower().endswith(WRITABLE_EXTENSIONS[fileType]):
            raise ValueError(f"a {node.GetClassName()} cannot be written as {Path(path).name}")
        if node.GetStorageNode() is None and not node.AddDefaultStorageNode(path):
            raise RuntimeError(f"{node.GetName()} has nothing to store")
        storage = node.GetStorageNode()
        storage.SetFileName(path)
        storage.SetURI(None)
        storage.SetUseCompression(int(properties.get("useCompression", storage.GetUseCompression())))
        success = bool(storage.WriteData(node))
        messages.AddMessages(storage.GetUserMessages())
        return success

    def saveScene(self, fileName: str | Path, screenShot=None, userMessages=None) -> bool:
        return self.saveNodes("SceneFile", {"fileName": str(fileName)}, userMessages)

    def openSaveDataDialog(self) -> bool:
        """The window that saves what was changed; a test answers it and does the saving. Whether it was accepted."""
        dialog = qt.QDialog()
        dialog.windowTitle = "Save Scene and Unsaved Data"
        return bool(dialog.exec_())

    def addDefaultStorageNodes(self) -> None:
        """Give every node with data a storage node, as Slicer does before it saves a scene."""
        scene = slicer.mrmlScene
        for index in range(scene.GetNumberOfNodes()):
            node = scene.GetNthNode(index)
            if node.IsA("vtkMRMLStorableNode") and node.GetSaveWithScene():
                node.AddDefaultStorageNode()

    def _logic(self, moduleName: str) -> "slicer.vtkSlicerModuleLogic":
        return self._applicationLogic.GetModuleLogic(moduleName)

    def _readVolume(self, path: str, properties: dict, messages) -> "list | None":
        options = sum(
            bit
            for bit, key in (
                (1, "labelmap"),
                (2, "center"),
                (4, "singleFile"),
                (8, "autoWindowLevel"),
                (16, "discardOrientation"),
            )
            if properties.get(key)
        )
        files = None
        if "fileNames" in properties:
            files = vtk.vtkStringArray()
            for name in properties["fileNames"]:
                files.InsertNextValue(str(name))
        name = properties.get("name") or Path(path).name.split(".")[0]
        node = self._logic("Volumes").AddArchetypeVolume(path, name, options, files)
        if node is None:
            messages.AddMessage(vtk.vtkCommand.ErrorEvent, f"{path} cannot be read as a volume")
            return None
        setColor(node, properties)
        if properties.get("show", True):
            self._showVolume(node)
        return [node]

    def _showVolume(self, node: "slicer.vtkMRMLVolumeNode") -> None:
        selection = self._applicationLogic.GetSelectionNode()
        if node.IsA("vtkMRMLLabelMapVolumeNode"):
            selection.SetActiveLabelVolumeID(node.GetID())
        else:
            selection.SetActiveVolumeID(node.GetID())
        self._applicationLogic.PropagateVolumeSelection()

    def _readSegmentation(self, path: str, properties: dict, messages) -> "list | None":
        colors = slicer.mrmlScene.GetNodeByID(properties["colorNodeID"]) if "colorNodeID" in properties else None
        node = self._logic("Segmentations").LoadSegmentationFromFile(
            path, properties.get("autoOpacities", True), properties.get("name", ""), colors, messages
        )
        return [node] if node is not None else None

    def _readSequence(self, path: str, properties: dict, messages) -> "list | None":
        node = self._logic("Sequences").AddSequence(path, messages)
        if node is None:
            return None
        if properties.get("name"):
            node.SetName(slicer.mrmlScene.GetUniqueNameByString(properties["name"]))
        if not properties.get("show", True):
            return [node]
        browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{node.GetName()} browser")
        browser.SetAndObserveMasterSequenceNodeID(node.GetID())
        self._logic("Sequences").UpdateProxyNodesFromSequences(browser)
        proxy = browser.GetProxyNode(node)
        if proxy is not None and proxy.IsA("vtkMRMLVolumeNode"):
            setColor(proxy, properties)
            self._showVolume(proxy)
        return [node, browser]

    def _readTransform(self, path: str, properties: dict, messages) -> "list | None":
        node = self._logic("Transforms").AddTransform(path, slicer.mrmlScene, messages)
        return [node] if node is not None else None

    def _readScene(self, path: str, properties: dict, messages) -> "list | None":
        scene = slicer.mrmlScene
        clear = properties.get("clear", False)
        before = {scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())}
        if path.lower().endswith(".mrb"):
            success = scene.ReadFromMRB(path, clear, messages)
        else:
            scene.SetURL(path)
            success = scene.Connect(messages) if clear else scene.Import(messages)
        if not success:
            return None
        after = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
        return after if clear else [node for node in after if node.GetID() not in before]

    def _writeScene(self, path: str, messages) -> bool:
        scene = slicer.mrmlScene
        if path.lower().endswith(".mrb"):
            return bool(scene.WriteToMRB(path, None, messages))
        if path.lower().endswith(".mrml"):
            scene.SetURL(path)
            scene.SetRootDirectory(str(Path(path).parent))
            return bool(scene.Commit(path, messages))
        return bool(self._applicationLogic.SaveSceneToSlicerDataBundleDirectory(path, None, messages))


def setColor(node: "slicer.vtkMRMLVolumeNode", properties: dict) -> None:
    """Show ``node`` with the color table that the reader was asked for."""
    if "colorNodeID" in properties and node.GetDisplayNode() is not None:
        node.GetDisplayNode().SetAndObserveColorNodeID(properties["colorNodeID"])
