"""Models that stay in memory between requests, so that a second one has nothing to load."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dinomix.errors import DinomixError
from dinomix.events import Emit
from dinomix.inference.memory import network_within
from dinomix.inference.options import Numbers
from dinomix.models.folder import Model, load_model
from dinomix.models.manifest import FILES, MANIFEST
from dinomix.models.networks import Network

KEPT = 2
Stamp = tuple[tuple[str, int, int], ...]


@dataclass
class WarmModel:
    """A loaded model, its network, and how fast it was found to be.

    Attributes:
        stamp: names, sizes and times of the folder's files when it was read.
        window_seconds: device's name, the numbers and the runtime's name -> seconds of one window.
    """

    model: Model
    network: Network
    stamp: Stamp
    window_seconds: dict[tuple[str, Numbers, str], float] = field(default_factory=dict)


class WarmModels:
    """The models used last, by folder. A folder that changed is read anew; one that is gone is an error."""

    def __init__(self) -> None:
        self._models: OrderedDict[Path, WarmModel] = OrderedDict()
        self._kept = KEPT

    def get_all(self, paths: Sequence[Path], emit: Emit) -> list[WarmModel]:
        """The models in some folders, all of which stay in memory; as ``get``."""
        self._kept = max(KEPT, len(set(paths)))
        return [self.get(path, emit) for path in paths]

    def get(self, path: Path, emit: Emit) -> WarmModel:
        """The model in a folder, read and verified, as ``emit`` announces, unless that was done already.

        Raises:
            DinomixError: there is no such folder, or it is damaged.
        """
        warm = self._models.pop(path, None)
        stamp = _stamp(path)
        if warm is None or warm.stamp != stamp:
            emit("progress", stage="loading the model", step=0, total=1, eta=None)
            model = load_model(path)
            warm = WarmModel(model, network_within(model, None), stamp)
            self._keep(path, warm)  # also where the job was cancelled meanwhile
            emit("progress", stage="loading the model", step=1, total=1, eta=0.0)
        else:
            self._keep(path, warm)
        return warm

    def _keep(self, path: Path, warm: WarmModel) -> None:
        self._models[path] = warm
        while len(self._models) > self._kept:
            self._models.popitem(last=False)


def _stamp(folder: Path) -> Stamp:
    try:
        states = [(name, (folder / name).stat()) for name in (MANIFEST, *FILES)]
    except OSError as error:
        raise DinomixError(
            f"The model folder {folder} is not there any more, or is not whole.",
            "Choose another model, or put the folder back.",
        ) from error
    return tuple((name, state.st_size, state.st_mtime_ns) for name, state in states)
