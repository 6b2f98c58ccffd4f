"""The command line: each verb lives in its own file of ``dinomix.commands`` and is imported only when it is called."""

import errno
import gc
import importlib
import io
import json
import sys
from typing import Any

import click

from dinomix import __version__
from dinomix.errors import DinomixError, printable

VERBS = {
    "demo": "Train, segment and evaluate on generated phantoms; ends with a report.",
    "check": "Find, pair and check cases; write the cohort file.",
    "mend": "Put a label map on its image's grid, into a new file.",
    "train": "Train a model from labeled and unlabeled volumes, or resume a run.",
    "compare": "Compare a run's model with the one it started from.",
    "rank": "Rank unlabeled cases: which to label next, or first.",
    "segment": "Segment images, each on its own grid.",
    "evaluate": "Compare segmentations with references.",
    "measure": "Measure structures: volume, intensity, place; one table for many cases.",
    "benchmark": "Run a published protocol on your copy of its data.",
    "models": "List, install, import, export, remove and verify models.",
    "report": "Write report.html for a run.",
    "worker": "Keep a model warm and segment what another program sends.",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"dinomix.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dinomix")
def group() -> None:
    """Segment organs in 3D scans and adapt the model to your own, from few labels."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0 done, 2 a mistake to mend, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Loading PyTorch makes a million objects, none of them garbage; looked for after each 700, they take a tenth longer.
    gc.set_threshold(10_000)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may hold what a terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        # Commands return nothing; click hands back the code of its Exit.
        left = group.main(args=arguments, prog_name="dinomix", standalone_mode=False)
        code = left if isinstance(left, int) else 0
    except click.ClickException as error:
        code = _fail(arguments, error.format_message(), "See --help.", "usage")
    except DinomixError as error:
        code = _fail(arguments, error.problem, error.remedy, error.code)
    except (KeyboardInterrupt, click.Abort):
        print("Interrupted; what was finished is kept.", file=sys.stderr)
        code = 130
    except ModuleNotFoundError as error:
        package = (error.name or "dinomix").partition(".")[0]
        if package == "dinomix":
            raise
        code = _fail(arguments, f"This needs the package {package}, which is not installed.", INSTALL)
    except OSError as error:
        if error.errno is None:
            raise
        where = f" at {error.filename}" if error.filename else ""
        code = _fail(arguments, f"{error.strerror}{where}.", _REMEDIES.get(error.errno, "Check this path."))
    except MemoryError:
        code = _fail(arguments, "The main memory does not suffice.", "Close other programs, or take a smaller problem.")
    sys.exit(code)


INSTALL = "Install all packages (pip install dinomix); those for segmenting alone do not suffice."
_REMEDIES = {
    errno.ENOSPC: "Free some disk space or choose another output folder, then run the same command again.",
    errno.EDQUOT: "Free some of your disk quota or choose another output folder, then run the same command again.",
    errno.EFBIG: "Choose an output folder on a disk that takes files of this size, then run the same command again.",
    errno.EACCES: "Choose a folder that you may write to.",
    errno.EPERM: "Choose a folder that you may write to.",
    errno.EROFS: "Choose a folder that you may write to.",
    errno.EEXIST: "Choose another name for the output: a file has this one.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ELOOP: "Choose another path: links there lead to each other.",
    errno.ENOTDIR: "Choose another name for the output: a file stands where a folder should.",
}


def _fail(arguments: list[str], problem: str, remedy: str, code: str = "") -> int:
    problem, remedy = printable(problem), printable(remedy)
    line = " ".join(f"{problem} {remedy}".split())
    if "--json" in arguments:
        fields: dict[str, Any] = {"kind": "error", "message": problem, "remedy": remedy, "code": code}
        print(json.dumps(fields), flush=True)
    print(f"Error: {line}", file=sys.stderr)
    return 2
