"""A rendered world for adaptation: six shapes, five styles, one dial."""

from robustkit.data.shapes.scene import CLASSES
from robustkit.data.shapes.styles import STYLES
from robustkit.data.shapes.write import ShapesConfig, rendered

__all__ = ["CLASSES", "STYLES", "ShapesConfig", "rendered"]
