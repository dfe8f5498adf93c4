"""Other formats than COCO, each made of a run's records."""

from collections.abc import Callable, Iterator
from pathlib import Path

from groundcli.output.coco import Record
from groundcli.output.formats.csv import write_csv
from groundcli.output.formats.jsonl import write_jsonl
from groundcli.output.formats.labelstudio import write_labelstudio
from groundcli.output.formats.yolo import write_yolo

FORMATS: dict[str, Callable[[Path, Callable[[], Iterator[Record]], Callable[[str], str]], None]] = {
    "jsonl": write_jsonl,
    "csv": write_csv,
    "yolo": write_yolo,
    "labelstudio": write_labelstudio,
}
