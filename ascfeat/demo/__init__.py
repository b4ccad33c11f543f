"""A small procedural scene dataset with three devices, to try everything on."""

from ascfeat.demo.dataset import Made, make
from ascfeat.demo.sounds import SCENES

__all__ = ["SCENES", "Made", "make"]
