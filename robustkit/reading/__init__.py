"""What others made, read within bounds: files, JSON, YAML, run folders, and text for a terminal.

In the lowest layer: every file that the user names, or that lies in a folder from elsewhere, is
opened through this package. Errors are of the class that the caller gives, and say the file.
"""

from robustkit.reading.files import (
    JSON_LIMIT,
    LIMIT,
    check_plain_folder,
    check_regular,
    open_bounded,
    open_inside,
    read_bounded,
    read_text,
)
from robustkit.reading.jsonfile import Json, check_kind, parse_json, read_json
from robustkit.reading.text import is_printable, parse_real, printable, typed_path
from robustkit.reading.yamlfile import check_yaml, parse_yaml, read_yaml

__all__ = [
    "JSON_LIMIT",
    "LIMIT",
    "Json",
    "check_kind",
    "check_plain_folder",
    "check_regular",
    "check_yaml",
    "is_printable",
    "open_bounded",
    "open_inside",
    "parse_json",
    "parse_real",
    "parse_yaml",
    "printable",
    "read_bounded",
    "read_json",
    "read_text",
    "read_yaml",
    "typed_path",
]
