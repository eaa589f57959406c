"""Where things lie in a folder in VOC layout."""

IMAGES, ANNOTATIONS, SPLITS = "JPEGImages", "Annotations", "ImageSets/Main"
LISTED = "classes.txt"  # ours: the classes in their order, one a line
