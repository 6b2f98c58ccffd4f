"""Where the organs of the phantom lie and what shape they have.

Coordinates are mm: x to the patient's left, y to the back, z to the head, 0 in the middle of the body in front of the
second lumbar vertebra. Sizes follow an adult: liver about 1500 ml, an adrenal gland about 7 ml.
"""

from dataclasses import dataclass, replace

import numpy as np

from dinomix.demo.shapes import Distances, Points, Shape, ellipsoid, moved, sheet, tube, union, without

SYNAPSE_ORGANS = {
    1: "spleen",
    2: "kidney_right",
    3: "kidney_left",
    4: "gallbladder",
    5: "esophagus",
    6: "liver",
    7: "stomach",
    8: "aorta",
    9: "inferior_vena_cava",
    10: "portal_vein_and_splenic_vein",
    11: "pancreas",
    12: "adrenal_gland_right",
    13: "adrenal_gland_left",
}


@dataclass(frozen=True)
class Body:
    """The trunk of one case.

    ``half_width`` and ``half_depth`` in mm; ``fat`` and ``wall`` are the thickness of the fat under the skin and of the
    abdominal wall as fractions of the way from the skin to the middle.
    """

    half_width: float
    half_depth: float
    fat: float
    wall: float

    def depth(self, points: Points) -> Distances:
        """0 in the middle of the body, 1 on the skin."""
        across, along = np.abs(points[:, 0] / self.half_width), np.abs(points[:, 1] / self.half_depth)
        return (across**2.4 + along**2.4) ** np.float32(1 / 2.4)

    def cavity(self, points: Points) -> Distances:
        return (self.depth(points) - (1 - self.fat - self.wall)) * self.half_depth

    def lungs(self, points: Points) -> Distances:
        """Both lung bases above the domes of the diaphragm."""
        return np.maximum(np.maximum(diaphragm(points) - points[:, 2], self.cavity(points) + 2), _mediastinum(points))


def diaphragm(points: Points) -> Distances:
    """Height z of the diaphragm above each point."""
    x, y = points[:, 0], points[:, 1]
    right = 118 - ((x + 62) / 9.5) ** 2 - ((y + 8) / 10) ** 2
    left = 108 - ((x - 66) / 9.5) ** 2 - ((y + 2) / 10) ** 2
    return np.maximum(right, left)


def _mediastinum(points: Points) -> Distances:
    """Negative beside the heart, esophagus and spine."""
    heart = ellipsoid((18, -38, 150), (58, 46, 52))(points)
    return np.maximum(-heart, 24 - np.abs(points[:, 0] - 4) - 0.25 * np.abs(points[:, 1]))


HEART = ellipsoid((18, -38, 150), (56, 44, 42))

AORTA = tube([(10, 30, 150), (8, 27, 80), (5, 24, 20), (3, 24, -50), (1, 27, -150)], [12, 11, 10, 9, 8.5])
IVC = tube([(-20, 2, 112), (-23, 12, 85), (-24, 17, 40), (-22, 20, -40), (-18, 24, -150)],
           [13, 12.5, 12.5, 12, 11.5], flatten=0.8)  # fmt: skip
ESOPHAGUS = tube([(2, 20, 150), (10, 14, 118), (18, 8, 98), (32, 3, 86)], [9, 9.5, 9, 9], flatten=0.8)
STOMACH = tube([(62, 22, 84), (66, 0, 66), (62, -30, 36), (36, -52, 10), (6, -50, 6), (-14, -44, 12)],
               [27, 30, 26, 20, 16, 11])  # fmt: skip
SPLEEN = without(ellipsoid((99, 34, 55), (35, 55, 62), (12, 0, -18)), STOMACH,
                 ellipsoid((60, 34, 42), (34, 34, 48)), gap=2)  # fmt: skip
PANCREAS = tube([(-30, -14, -14), (-28, -19, 2), (-8, -25, 14), (20, -18, 24), (48, 2, 36), (76, 20, 46)],
                [12, 17, 10.5, 11.5, 11.5, 7])  # fmt: skip
PORTAL_AND_SPLENIC_VEIN = tube(
    [(-58, -8, 44), (-36, -8, 36), (-14, -9, 22), (16, -5, 27), (46, 12, 40), (78, 27, 50)], [6, 7.5, 8, 6, 5, 4.5]
)
GALLBLADDER = tube([(-36, -36, 18), (-44, -52, 2), (-50, -62, -20)], [6, 12.5, 15])
ADRENAL_RIGHT = union(
    sheet([(-37, 22), (-40, 32), (-41, 50)], 40, 66, 4.8, lean=-0.15),
    sheet([(-40, 32), (-52, 46)], 40, 64, 4.8, lean=-0.15),
)
ADRENAL_LEFT = union(
    sheet([(36, 14), (37, 24), (33, 42)], 26, 52, 4.8, lean=-0.15),
    sheet([(37, 24), (50, 39)], 26, 52, 4.8, lean=-0.15),
)

HEPATIC_VESSELS = (
    tube([(-22, 8, 96), (-50, -2, 84), (-82, 4, 62), (-104, 16, 40)], [6, 5, 4, 2.5]),
    tube([(-22, 4, 98), (-40, -22, 82), (-58, -46, 56)], [6, 4.5, 2.5]),
    tube([(-20, 0, 98), (-6, -28, 86), (18, -50, 76)], [5.5, 4.5, 2.5]),
    tube([(-56, -8, 44), (-78, -10, 42), (-98, -22, 46)], [5.5, 4.5, 2.5]),
    tube([(-54, -8, 44), (-40, -34, 58), (-16, -52, 66)], [5, 4, 2.5]),
)

DUODENUM = tube([(-18, -44, 12), (-46, -34, 10), (-56, -16, -12), (-44, -6, -36), (-4, -6, -44), (26, -14, -28)],
                [11, 12, 12, 11, 10, 10])  # fmt: skip
COLON = union(
    tube([(-96, 10, -150), (-94, 2, -80), (-90, -14, -36)], [21, 20, 18]),
    tube([(-86, -28, -36), (-54, -66, -48), (0, -76, -58), (52, -68, -38), (92, -18, 8)], [17, 16, 15, 15, 15]),
    tube([(92, -10, 4), (100, 14, -50), (98, 16, -150)], [15, 12, 12]),
)


def kidney(side: int, x: float, y: float, z: float) -> Shape:
    """A bean whose hilum, filled with fat, faces the spine; ``side`` is -1 for the right one."""
    turn = (-8.0, 9.0 * side, 28.0 * side)
    sinus = union(ellipsoid((x - side * 13, y - 9, z), (9, 8, 19), turn),
                  ellipsoid((x - side * 25, y - 17, z), (13, 9, 15), turn), blend=8)  # fmt: skip
    return without(ellipsoid((x, y, z), (29, 27, 55), turn), sinus)


def liver(body: Body, kidney_right: Shape) -> Shape:
    """Right lobe under the right dome of the diaphragm, left lobe across the midline, caudate lobe beside the IVC."""
    lobes = union(
        ellipsoid((-72, -4, 56), (70, 86, 76)),
        ellipsoid((-94, 2, 4), (38, 62, 66)),
        ellipsoid((-2, -56, 72), (80, 36, 38), (0, -10, 6)),
        ellipsoid((-16, -4, 64), (20, 18, 26)),
        blend=22,
    )
    carved = without(lobes, ellipsoid((-54, 46, -8), (42, 40, 66)), kidney_right, ellipsoid((6, 44, 60), (40, 36, 400)),
                     ellipsoid((-34, -30, -4), (34, 34, 38)), GALLBLADDER, STOMACH, IVC, ADRENAL_RIGHT)  # fmt: skip

    def distances(points: Points) -> Distances:
        under_diaphragm = (points[:, 2] - diaphragm(points) + 6) * np.float32(0.7)
        return np.maximum(np.maximum(carved(points), body.cavity(points) + 2), under_diaphragm)

    return distances


@dataclass(frozen=True)
class Organ:
    """``lumps``: mm by which the surface is uneven."""

    id: int
    shape: Shape
    center: tuple[float, float, float]
    lumps: float = 0.0


def organs(body: Body, rng: np.random.Generator) -> list[Organ]:
    """The 13 organs, each a little elsewhere, larger or smaller in every case.

    Organs later in the list lie over those before them where they meet.
    """
    right = _jittered(kidney(-1, -62, 38, -8), (-62, 38, -8), rng)
    left = _jittered(kidney(1, 64, 36, 6), (64, 36, 6), rng)
    listed = [
        Organ(6, liver(body, right), (-60, 0, 50), 2.5),
        Organ(7, _below_diaphragm(STOMACH, body), (50, -15, 45), 3.0),
        Organ(1, _below_diaphragm(SPLEEN, body), (100, 30, 58), 1.5),
        Organ(2, right, (-62, 38, -8), 1.0),
        Organ(3, left, (64, 36, 6), 1.0),
        Organ(11, PANCREAS, (10, -10, 20), 2.5),
        Organ(4, GALLBLADDER, (-44, -52, 0), 0.5),
        Organ(9, IVC, (-22, 15, 0), 0.5),
        Organ(8, AORTA, (5, 25, 0), 0.3),
        Organ(10, PORTAL_AND_SPLENIC_VEIN, (5, 0, 35), 0.5),
        Organ(5, ESOPHAGUS, (14, 10, 110), 0.5),
        Organ(12, ADRENAL_RIGHT, (-42, 35, 52), 0.3),
        Organ(13, ADRENAL_LEFT, (40, 28, 38), 0.3),
    ]
    # The liver lies against its neighbors, and the kidneys have been moved already.
    return [
        organ if organ.id in (2, 3, 6) else replace(organ, shape=_jittered(organ.shape, organ.center, rng))
        for organ in listed
    ]


def _below_diaphragm(shape: Shape, body: Body) -> Shape:
    def distances(points: Points) -> Distances:
        limit = np.maximum(body.cavity(points) + 2, (points[:, 2] - diaphragm(points) + 6) * np.float32(0.7))
        return np.maximum(shape(points), limit)

    return distances


def _jittered(shape: Shape, center: tuple[float, float, float], rng: np.random.Generator) -> Shape:
    shift, scale, turn = rng.normal(0, 2.2, 3), rng.uniform(0.9, 1.1), rng.normal(0, 3, 3)
    return moved(shape, center, shift.tolist(), scale, turn.tolist())
