"""Image files to pictures: whatever a photograph is kept in becomes upright 8-bit RGB."""

import io
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from posixpath import splitext
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from groundcli.errors import BadInput, first_line

# HEIC is listed so that a phone's photographs are reported, with the way out, and not passed over in silence.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".heic", ".heif"}
)
# Nothing else is tried, whatever a file is called: of Pillow's other formats EPS is a program, which Ghostscript would
# run. JPEG takes in MPO, the stereo pictures of cameras.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
MAX_PIXELS = 178_956_970  # from here on Pillow itself refuses: 13,377 x 13,377, half a gigabyte as RGB
STRIP = 1 << 22  # pixels whose values are in memory at a time, where they take more room than RGB
EIGHT_BITS = np.rint(np.arange(1 << 16) / 257).astype(np.uint8)  # of 16, where 65535 is white

# Pillow warns of large photographs and of broken EXIF; both are used all the same, so there is nothing to tell.
warnings.filterwarnings("ignore", module=r"PIL\.")


def is_image(name: str | Path) -> bool:
    """Whether a file's name ends as an image's does; its content isn't looked at."""
    return splitext(name)[1].lower() in IMAGE_SUFFIXES


def open_image(file: Path | io.BytesIO) -> Image.Image:
    """Opens a picture, of which only the header is read: all pictures from outside are opened here.

    Raises BadInput where the file is empty or no file; and nearly any Exception where it is missing, or its content
    isn't what a file of one of `FORMATS` holds.
    """
    if isinstance(file, Path):
        status = file.stat()
        if stat.S_ISDIR(status.st_mode):
            raise BadInput(f"{file}: a folder, not an image")
        if not stat.S_ISREG(status.st_mode):
            raise BadInput(f"{file}: not a file")  # a pipe would be waited for
        if not status.st_size:
            raise BadInput(f"{file}: the file is empty (0 bytes)")
    Image.init()  # all formats that this Pillow has: older ones lack AVIF
    return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])


def decode(file: Path | io.BytesIO) -> Image.Image:
    """The picture in a file, upright, of mode RGB.

    Palettes and CMYK are converted, 16-bit greyscale is scaled to 8 bits, transparency is laid on white, of an
    animation the first frame is taken. EXIF orientation is applied, so rows run from the top of the scene to its
    bottom. Raises BadInput where it is missing, empty, cut short, no image or larger than `MAX_PIXELS`.
    """
    name = "the image" if isinstance(file, io.BytesIO) else str(file)
    try:
        with open_image(file) as image:
            return _rgb(image)
    except BadInput:
        raise
    except FileNotFoundError:
        raise BadInput(f"{name}: no such file") from None
    except UnidentifiedImageError:
        hint = "convert it to JPEG first" if name.lower().endswith((".heic", ".heif")) else "replace or remove it"
        raise BadInput(f"{name}: not an image that can be read; {hint}") from None
    except Image.DecompressionBombError:
        raise BadInput(f"{name}: more than {MAX_PIXELS:,} pixels; make it smaller first") from None
    except MemoryError:
        raise BadInput(f"{name}: memory does not suffice for it; make it smaller first") from None
    except Exception as error:  # a broken file makes Pillow's decoders raise nearly anything
        if isinstance(error, OSError) and error.errno:  # the system's, not a decoder's
            raise BadInput(f"{name}: can't be read ({error.strerror}); check its permissions") from None
        reason = first_line(error) or type(error).__name__
        raise BadInput(f"{name}: the image is damaged or cut short ({reason}); replace it") from error


def as_image(value: Any) -> Image.Image:
    """A picture from memory -> an upright picture of mode RGB, as `decode` makes of files.

    It may be a picture of Pillow in any mode; an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, or of floats
    from 0 to 1; a tensor of torch, (C, H, W) with C of 1, 3 or 4; a file's bytes; or a binary file. Raises TypeError
    for what can't be a picture, BadInput for bytes that are none, and for a picture without pixels.
    """
    if isinstance(value, Image.Image):
        if not all(value.size):
            raise BadInput("the image has no pixels")
        return _rgb(value.copy())
    if isinstance(value, bytes | bytearray | memoryview) or hasattr(value, "read"):
        data = value.read() if hasattr(value, "read") else bytes(value)
        if not isinstance(data, bytes):
            raise TypeError("expected a binary file, opened with mode 'rb'")
        return decode(io.BytesIO(data))
    if hasattr(value, "detach"):  # torch's, which isn't imported here
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()  # numpy has no bfloat16
        if value.ndim == 3:
            value = value.transpose(1, 2, 0)
    if not isinstance(value, np.ndarray):
        raise TypeError(f"expected an image's path, picture, array, tensor, bytes or file, not {type(value).__name__}")
    if value.ndim == 3 and value.shape[2] == 1:
        value = value[..., 0]
    if not value.size or not (value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (3, 4))):
        raise TypeError(f"expected an array (H, W), (H, W, 3) or (H, W, 4), or a tensor (C, H, W), not {value.shape}")
    if value.dtype.kind in "bf":
        if not (np.isfinite(value).all() and value.min() >= 0 and value.max() <= 1):
            raise TypeError("expected floats from 0 to 1; numbers up to 255 have to be uint8")
        value = np.rint(value * 255).astype(np.uint8)
    elif value.dtype != np.uint8:
        raise TypeError(f"expected an array of uint8, or of floats from 0 to 1, not {value.dtype}")
    return _rgb(Image.fromarray(np.ascontiguousarray(value)))


def resize(image: Image.Image, side: int) -> np.ndarray:
    """A picture of mode RGB -> (side, side, 3) uint8: bilinear with antialiasing, without keeping the aspect ratio."""
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def _rgb(image: Image.Image) -> Image.Image:
    """The picture upright, of mode RGB; it may be turned in place."""
    image.load()
    with suppress(Exception):  # a broken EXIF block doesn't spoil the pixels
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):
        return Image.fromarray(EIGHT_BITS[np.asarray(image)]).convert("RGB")
    if image.mode in {"I", "F"}:
        return _stretch(image)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB") or image
    if image.has_transparency_data:
        return _in_strips(image, _on_white)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))


def _stretch(image: Image.Image) -> Image.Image:
    """32-bit pixels have no agreed white: their own range becomes 0 to 255."""
    low, high = np.inf, -np.inf
    for _, strip in _strips(image):
        values = _values(strip)
        low, high = min(low, values.min()), max(high, values.max())
    scale = 255 / (high - low) if high > low else 0
    return _in_strips(image, lambda strip: Image.fromarray(np.rint((_values(strip) - low) * scale).astype(np.uint8)))


def _values(image: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(image, dtype=np.float64))


def _in_strips(image: Image.Image, make: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """A picture of mode RGB that is made strip by strip, as numbers of all its pixels can take gigabytes."""
    made = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        made.paste(make(strip).convert("RGB"), (0, top))
    return made


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))
