"""Images and their labels: loading, splitting, augmenting, batching.

Beside models, above jobs, compute and runs; knows no network.
Images in memory are uint8 (N,C,H,W), or float32 in [0,1] where they lie between the 256 levels;
`to_unit` is the only conversion from the first to the second.
"""

from robustkit.compute.tensorfiles import read_only
from robustkit.data.arrays import map_array, write_array
from robustkit.data.augment import AUGMENTATIONS, check_views, crop_flip, fixed_views
from robustkit.data.conversion import as_image_set
from robustkit.data.evaluation_sets import EvaluationSet, open_evaluation, open_files
from robustkit.data.imageset import ImageSet, channel_stats, to_unit
from robustkit.data.loading import load, read_image_file
from robustkit.data.pictures import find_images, read_images, survey
from robustkit.data.sampling import batches, sample, stratified_sample, stratified_split
from robustkit.data.sources.base import SOURCES
from robustkit.data.sources.folder import imagenet_wnids
from robustkit.data.splits import Splits, packed, unpacked

__all__ = [
    "AUGMENTATIONS",
    "SOURCES",
    "EvaluationSet",
    "ImageSet",
    "Splits",
    "as_image_set",
    "batches",
    "channel_stats",
    "check_views",
    "crop_flip",
    "find_images",
    "fixed_views",
    "imagenet_wnids",
    "load",
    "map_array",
    "open_evaluation",
    "open_files",
    "packed",
    "read_image_file",
    "read_images",
    "read_only",
    "sample",
    "stratified_sample",
    "stratified_split",
    "survey",
    "to_unit",
    "unpacked",
    "write_array",
]
