"""Other formats than COCO, each made of a run's records."""

from collections.abc import Callable
from pathlib import Path

from groundcli.output.formats.csv import write_csv
from groundcli.output.formats.jsonl import write_jsonl
from groundcli.output.formats.labelstudio import write_labelstudio
from groundcli.output.formats.yolo import write_yolo
from groundcli.output.record import Records

FORMATS: dict[str, Callable[[Path, Records, Callable[[str], str]], None]] = {
    "jsonl": write_jsonl,
    "csv": write_csv,
    "yolo": write_yolo,
    "labelstudio": write_labelstudio,
}
