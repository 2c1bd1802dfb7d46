"""Colours of a May-Gruenwald-Giemsa smear, and how they vary from slide to slide.

Colours are 8-bit RGB as the analyser's camera would show them on its cream background.

Source: medians over 60 images per class of Acevedo et al. 2020, Data in Brief 30:105474, rounded by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CREAM: Final = (254, 228, 202)
"""Empty background under the usual white balance."""

LAVENDER: Final = (222, 220, 236)
"""Empty background under the bluish white balance of about one slide in eight."""

LAVENDER_SHARE: Final = 0.12

RED_CELL_DENSITY: Final = (0.214, 0.317, 0.184)
"""Optical density (natural logarithm) per channel of the thick rim of a red cell."""


@dataclass(frozen=True, slots=True)
class Ink:
    """The darkest and the lightest colour of one stained structure."""

    dark: tuple[int, int, int]
    light: tuple[int, int, int]


NEUTROPHIL_NUCLEUS: Final = Ink((68, 24, 132), (168, 126, 172))
NEUTROPHIL_CYTOPLASM: Final = Ink((194, 152, 172), (226, 188, 190))
NEUTROPHIL_GRANULE: Final = (158, 92, 150)

EOSINOPHIL_NUCLEUS: Final = Ink((84, 36, 134), (152, 98, 158))
EOSINOPHIL_CYTOPLASM: Final = Ink((196, 158, 176), (216, 190, 198))
EOSINOPHIL_GRANULE: Final = Ink((180, 88, 102), (216, 136, 126))

BASOPHIL_NUCLEUS: Final = Ink((84, 40, 140), (130, 78, 156))
BASOPHIL_CYTOPLASM: Final = Ink((190, 138, 176), (218, 172, 192))
BASOPHIL_GRANULE: Final = Ink((52, 18, 108), (104, 30, 120))
BASOPHIL_HALO: Final = (226, 164, 190)

LYMPHOCYTE_NUCLEUS: Final = Ink((62, 24, 122), (112, 62, 138))
LYMPHOCYTE_CYTOPLASM: Final = Ink((112, 112, 172), (164, 158, 200))

MONOCYTE_NUCLEUS: Final = Ink((86, 34, 138), (144, 92, 164))
MONOCYTE_CYTOPLASM: Final = Ink((138, 122, 168), (184, 164, 190))
MONOCYTE_DUST: Final = (140, 92, 160)

IG_NUCLEUS: Final = Ink((76, 28, 134), (136, 80, 156))
PROMYELOCYTE_CYTOPLASM: Final = Ink((132, 128, 184), (182, 170, 204))
MYELOCYTE_CYTOPLASM: Final = Ink((170, 142, 178), (210, 176, 190))
METAMYELOCYTE_CYTOPLASM: Final = Ink((202, 164, 176), (226, 192, 192))
PRIMARY_GRANULE: Final = (92, 22, 108)

ERYTHROBLAST_NUCLEUS: Final = Ink((46, 20, 106), (126, 72, 138))
BASOPHILIC_CYTOPLASM: Final = Ink((84, 78, 152), (116, 110, 172))
POLYCHROMATIC_CYTOPLASM: Final = Ink((138, 122, 164), (160, 142, 174))
ORTHOCHROMATIC_CYTOPLASM: Final = Ink((190, 154, 164), (204, 170, 174))

PLATELET_BODY: Final = Ink((160, 128, 180), (196, 168, 198))
PLATELET_GRANULE: Final = (98, 48, 146)


@dataclass(frozen=True, slots=True)
class Stain:
    """How strongly one slide is stained, and the white balance of its camera.

    Attributes:
        strength: float32 (3,), exponent on each channel's transmittance; 1 leaves the palette unchanged.
        balance: float32 (3,), the camera's factor on each channel.
    """

    strength: NDArray[np.float32]
    balance: NDArray[np.float32]

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Stain:
        """Returns the stain of one picture: mostly ordinary, sometimes weak, strong or bluish."""
        strength = rng.normal(1.0, 0.08) * rng.normal(1.0, 0.03, 3)
        bluish = rng.uniform(0.7, 1.0) if rng.random() < LAVENDER_SHARE else abs(rng.normal(0.0, 0.04))
        balance = 1 + bluish * (np.array(LAVENDER) / np.array(CREAM) - 1)
        return cls(strength.astype(np.float32), balance.astype(np.float32))

    def of(self, colour: tuple[int, int, int]) -> NDArray[np.float32]:
        """Returns `colour` as this stain and camera show it, float32 (3, 1, 1), 0 to 255."""
        empty = np.array(CREAM, np.float32)
        shown = self.balance * empty * (np.array(colour, np.float32) / empty) ** self.strength
        return shown[:, None, None]
