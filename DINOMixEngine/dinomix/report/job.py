"""The record of one call of ``segment``: what went in, what came out, what was said, so that a result can be traced."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dinomix import __version__
from dinomix.errors import DinomixError
from dinomix.events import Emit
from dinomix.files import read_table, sha256, write_json
from dinomix.inference.outputs import Output
from dinomix.inference.several_models import Models
from dinomix.models.folder import Model

FORMAT, VERSION = "dinomix-job", 1


class Job:
    """Listens to the events of a call, and writes them down case by case."""

    def __init__(self, models: Models, settings: dict[str, Any]) -> None:
        """``settings``: plain JSON data."""
        self.models, self.settings = models, settings
        self.device: dict[str, Any] = {}
        self.begun = _now()
        self._cases: dict[str, dict[str, Any]] = {}
        self._notices: list[str] = []
        self._files: list[str] = []

    def listening(self, emit: Emit) -> Emit:
        """``emit``, overheard."""

        def heard(kind: str, **fields: Any) -> None:
            self._hear(kind, fields)
            emit(kind, **fields)

        return heard

    def _hear(self, kind: str, fields: dict[str, Any]) -> None:
        case = self._cases.setdefault(fields["case"], {"notices": []}) if "case" in fields else None
        match kind:
            case "device":
                self.device = {"device": fields["device"], "reason": fields["reason"]}
            case "runtime" if case is not None:
                case |= {"runtime": fields["runtime"]}
            case "written":
                self._files.append(fields["path"])
            case "notice":
                (case["notices"] if case is not None else self._notices).append(fields["message"])
            case "finished" if case is not None:
                case |= {"status": "segmented", "seconds": round(fields["seconds"], 3)}
            case "error" if case is not None:
                case |= {"status": "failed", "error": {k: fields.get(k, "") for k in ("message", "remedy", "code")}}

    def failed(self, output: Output, error: DinomixError) -> None:
        """The one case of a call failed, which its error says."""
        told = {"message": error.problem, "remedy": error.remedy, "code": error.code}
        self._hear("error", {"case": output.name_of_file, **told})

    def write(self, path: Path, outputs: list[Output]) -> None:
        """Write all that is known by now; the files' hashes are those of this moment."""
        write_json(path, {
            "format": FORMAT,
            "version": VERSION,
            "dinomix": __version__,
            "begun": self.begun,
            "ended": _now(),
            **self._models(),
            "settings": self.settings,
            **self.device,
            "notices": self._notices,
            "cases": [self._told(output) for output in outputs],
            "further_files": self._files,
        })  # fmt: skip

    def _models(self) -> dict[str, Any]:
        """The first model, and where there are several, the others; with the structures that are each one's own."""
        names = dict(zip(self.models.labels.ids, self.models.labels.names, strict=True))
        first, *more = (
            _described(model, [names[id] for id in ids.values()])
            for model, ids in zip(self.models.models, self.models.ids, strict=True)
        )
        told: dict[str, Any] = {"model": first}
        if more:
            told["further_models"] = more
        if self.models.found_by is not None:
            told["found_by"] = _described(self.models.found_by, list(self.models.inside))
        return told

    def _told(self, output: Output) -> dict[str, Any]:
        heard = self._cases.get(output.name_of_file, {"notices": []})
        there = output.path.is_file()
        return {
            "name": output.name_of_file,
            "images": [str(image.absolute()) for image in output.images],
            "images_sha256": output.images_sha256() if all(image.exists() for image in output.images) else None,
            "labels": str(output.path.absolute()) if there else None,
            "labels_sha256": sha256(output.path) if there else None,
            "status": "kept" if there else "not begun",
            **heard,
        }


def _described(model: Model, structures: list[str]) -> dict[str, Any]:
    return {
        "path": str(model.path.absolute()),
        "sha256_of_manifest": model.fingerprint,
        "structures": structures,
    }


def check_record(path: Path, overwrite: bool) -> None:
    """Raises DinomixError where the record would take the place of another file, before anything is computed."""
    if path.is_dir():
        raise DinomixError(f"{path} is a folder.", "Give the name of a file, such as manifest.json.", "output")
    if not path.exists() or overwrite:
        return
    try:
        is_record = read_table(path).get("format") == FORMAT
    except (OSError, ValueError):
        is_record = False
    if not is_record:  # that of the same batch, before it goes on, is written again
        raise DinomixError(f"{path} exists.", "Add --overwrite to replace it, or choose another name.", "exists")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
