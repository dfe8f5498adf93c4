"""Files for tests to read."""

from pathlib import Path


def write(root: Path, files: dict[str, str | bytes]) -> list[str]:
    """Writes files below a folder and gives their names."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(files)
