"""More cases than a window can show at once: what a check of them says, and a ranking of them."""

import json
from pathlib import Path

CHECK = """
import json
for n in range(1000):
    print(json.dumps({"kind": "case", "name": f"case{n}", "role": "labeled", "image": f"/i{n}", "label": f"/l{n}",
        "size": [10, 10, 10], "spacing": [1, 1, 1], "orientation": "RAS", "patient": "p", "voxels": {"a": 9}}))
print(json.dumps({"kind": "names", "names": [{"name": "a", "cases": 1000, "matched": "a"}]}))
print(json.dumps({"kind": "cohort", "path": "x"}))
"""
"""A program that says what the engine says of 1,000 good cases."""


def rankedRun(run: Path) -> None:
    """Make the folder of a run of which 3,000 cases are ranked."""
    (run / "ranking").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    cases = [
        {"name": f"case {n}", "image": f"{n}.nii.gz", "score": 0.5, "classes": {"liver": 0.5, "spleen": None},
         "pseudo_label": f"ranking/{n}.seg.nrrd"} for n in range(3000)
    ]  # fmt: skip
    (run / "ranking" / "ranking.json").write_text(json.dumps({"by": "disagreement", "cases": cases}))
