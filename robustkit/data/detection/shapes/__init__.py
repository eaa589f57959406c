"""A rendered world for adaptation: six shapes, five styles, one dial."""

from robustkit.data.detection.shapes.scene import CLASSES
from robustkit.data.detection.shapes.styles import STYLES
from robustkit.data.detection.shapes.write import ShapesConfig, rendered

__all__ = ["CLASSES", "STYLES", "ShapesConfig", "rendered"]
