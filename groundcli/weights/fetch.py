"""Published weights -> the store, from where they were published: over HTTPS, and no more than was published."""

import http.client
import shutil
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import groundcli
from groundcli.errors import GroundcliError, UsageError, first_line
from groundcli.files import sha256
from groundcli.weights.imports import import_weights
from groundcli.weights.store import PARTIAL, PUBLISHED, Published, fetchable, here, store

Report = Callable[[str, int, int | None], None]  # takes a file's name, the bytes that are here, and all its bytes

# Nothing is asked for elsewhere, whatever a server redirects to. GitHub knows timm by its later owner too, and hands
# out releases from places of their own; so does the Hugging Face hub its large files (its "Downloading behind a proxy
# or firewall" lists them, but for the older bridge).
PLACES = (
    "https://download.pytorch.org/models/",
    "https://github.com/rwightman/pytorch-image-models/releases/",
    "https://github.com/huggingface/pytorch-image-models/releases/",
    "https://objects.githubusercontent.com/",
    "https://release-assets.githubusercontent.com/",
    "https://huggingface.co/timm/",
    "https://us.aws.cdn.hf.co/",
    "https://us.gcp.cdn.hf.co/",
    "https://cdn-lfs-us-1.hf.co/",
    "https://cdn-lfs-eu-1.hf.co/",
    "https://cas-bridge.xethub.hf.co/",
    "https://s3-us-west-2.amazonaws.com/allennlp/models/elmo/",
)
ALLOWANCE = 1.1  # times the published size, which is rounded
TRIES = 5
TIMEOUT = 30  # seconds without a byte
DROPPED = (URLError, ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException)


def fetch(name: str, report: Report) -> str:
    """Downloads a published part and imports it; `report` is called as bytes come. Says what was done, for people.

    Raises:
        UsageError: nothing of this name was published.
        GroundcliError: it can't be downloaded, or what came isn't it.
    """
    if name in here():
        return f"{name}: already here, {here()[name]}"
    if name not in fetchable():
        raise UsageError(f"{name}: nothing of this name was published; {', '.join(fetchable())} can be fetched")
    part = PUBLISHED[name]
    folder = store() / f"{name}.download{PARTIAL}"
    for url in part.urls:
        _download(url, folder, part, report)
    try:
        imported = str(import_weights(folder / part.file, part.name))
        digest = sha256(folder / part.file)
    finally:
        shutil.rmtree(folder)
    return imported if part.sha256 else f"{imported}; no SHA-256 was published, the download's is {digest}"


def _download(url: str, folder: Path, part: Published, report: Report) -> None:
    """Downloads a file into a folder, beginning where an earlier call or try ended."""
    path = folder / url.rpartition("/")[2]
    partial = path.with_name(path.name + PARTIAL)
    reason = ""
    for i in range(TRIES):
        if path.exists():
            return
        try:
            time.sleep(0 if i == 0 else 2.0 ** (i - 2))
            _continue(url, partial, int(ALLOWANCE * part.megabytes * 1e6), report)
            partial.replace(path)
        except HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            if error.code < 500:
                break  # asking again would change nothing
        except DROPPED as error:
            reason = str(getattr(error, "reason", "")) or first_line(error) or type(error).__name__
    else:
        reason += f", {TRIES} times"
    raise GroundcliError(
        f"{part.name}: {url} can't be downloaded ({reason}); run the same command again to go on, or {part.by_hand}"
    )


def _continue(url: str, partial: Path, most: int, report: Report) -> None:
    """Asks for what a partial file lacks; starts again where the server gives only the whole."""
    start = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": f"groundcli/{groundcli.__version__}"}
    if start:
        headers["Range"] = f"bytes={start}-"
    _check_place(url)
    try:
        response = build_opener(_Redirects).open(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code != 416 or not start:
            raise
        if error.headers["Content-Range"] == f"bytes */{start}":
            return  # it was whole already
        partial.unlink()
        raise ConnectionError("the server has less than is here already") from None
    with response:
        done = start if response.status == 206 else 0
        length = response.headers["Content-Length"] or ""
        total = done + int(length) if length.isdigit() else None
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("ab" if done else "wb") as file:
            report(partial.stem, done, total)
            while max(done, total or 0) <= most and (block := response.read(1 << 18)):
                done += file.write(block)
                report(partial.stem, done, total)
    if max(done, total or 0) > most:
        partial.unlink()
        raise GroundcliError(f"{url}: more than the {most:,} bytes that were published; it was deleted")
    if total is not None and done < total:
        raise ConnectionError(f"the connection was dropped after {done:,} of {total:,} bytes")


class _Redirects(HTTPRedirectHandler):
    """Follows servers to listed places only."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        _check_place(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_place(url: str) -> None:
    if not url.startswith(PLACES):
        raise GroundcliError(f"{url}: not one of the places that weights are published at; nothing was asked for there")
