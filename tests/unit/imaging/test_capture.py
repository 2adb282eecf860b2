"""The capture of a photo: camera and time from EXIF; what is not understood is nothing."""

import io
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from headstart.imaging.capture import Capture, read_capture
from tests.support.source import ROOT

NOTHING = Capture("", "")


def photo(
    file_format: str = "JPEG", *, main: dict[int, Any] | None = None, details: dict[int, Any] | None = None
) -> bytes:
    """Return an image file with EXIF tags of the main folder and of EXIF's own."""
    exif = Image.Exif()
    exif.update(main or {})
    exif.get_ifd(ExifTags.IFD.Exif).update(details or {})
    file = io.BytesIO()
    Image.new("RGB", (9, 8), (200, 40, 40)).save(file, file_format, exif=exif.tobytes())
    return file.getvalue()


CANON: dict[int, Any] = {ExifTags.Base.Make: "Canon ", ExifTags.Base.Model: "EOS\n5D"}
TAKEN: dict[int, Any] = {ExifTags.Base.DateTimeOriginal: "2024:05:01 23:59:58"}


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_format_with_exif_names_camera_and_time(file_format: str) -> None:
    """Make, model and serial number are the camera, in one line; the time has its fraction."""
    details = TAKEN | {ExifTags.Base.SubsecTimeOriginal: "25", ExifTags.Base.BodySerialNumber: "X1"}

    found = read_capture(photo(file_format, main=CANON, details=details))
    assert found == Capture("Canon EOS 5D X1", "2024-05-01T23:59:58.250000")


def test_the_first_file_of_a_process_is_read() -> None:
    """Camera and time are found although no other file was opened before, so that no plugin of Pillow is loaded."""
    code = (
        "import sys; from headstart.imaging.capture import read_capture; print(read_capture(sys.stdin.buffer.read()))"
    )
    data = photo(main=CANON, details=TAKEN)
    found = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True, cwd=ROOT)

    assert found.stdout.decode().strip() == "Capture(camera='Canon EOS 5D', taken='2024-05-01T23:59:58')"


def test_parts_may_be_missing() -> None:
    """A file may name only the camera or only the time; a file without EXIF says nothing."""
    assert read_capture(photo(main=CANON)) == Capture("Canon EOS 5D", "")
    assert read_capture(photo(details=TAKEN)) == Capture("", "2024-05-01T23:59:58")
    assert read_capture(photo()) == NOTHING


def test_only_the_time_of_the_exposure_counts() -> None:
    """The time of the last edit, its fraction and the time zone change nothing."""
    edited: dict[int, Any] = {ExifTags.Base.DateTime: "2025:01:01 00:00:00"}
    zone: dict[int, Any] = {ExifTags.Base.OffsetTimeOriginal: "+02:00", ExifTags.Base.SubsecTime: "99"}

    assert read_capture(photo(main=edited)) == NOTHING
    assert read_capture(photo(main=edited, details=TAKEN | zone)) == read_capture(photo(details=TAKEN))


@pytest.mark.parametrize(
    "text",
    ["", "0000:00:00 00:00:00", "    :  :     :  :  ", "2024:02:30 10:00:00", "2024:05:01", "2024:05:01 24:00:00",
     "2024:05:01 10:00:00 UTC", "yesterday", 7],
)  # fmt: skip
def test_a_time_that_is_none_is_no_time(text: str | int) -> None:
    """Unset, impossible, incomplete and foreign times are as good as none, and the camera stays."""
    found = read_capture(photo(main=CANON, details={ExifTags.Base.DateTimeOriginal: text}))

    assert found == Capture("Canon EOS 5D", "")


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [("5", ".500000"), ("05", ".050000"), ("1234567", ".123456"), ("  ", ""), ("-5", ""), ("5a", ""), ("²", "")],
)
def test_the_fraction_is_of_a_second(fraction: str, expected: str) -> None:
    """The digits are those after the point; anything else is ignored, and the second stays."""
    found = read_capture(photo(details=TAKEN | {ExifTags.Base.SubsecTimeOriginal: fraction}))

    assert found.taken == "2024-05-01T23:59:58" + expected


@given(st.integers(0, 400), st.binary(min_size=1, max_size=6), st.integers(1, 700))
def test_damaged_exif_is_no_error(place: int, junk: bytes, end: int) -> None:
    """Changed or missing bytes anywhere give an answer, in one line, with a time that is complete or empty."""
    data = bytearray(photo(main=CANON, details=TAKEN | {ExifTags.Base.SubsecTimeOriginal: "25"}))
    data[place : place + len(junk)] = junk

    for damaged in (bytes(data), bytes(data[:end])):
        found = read_capture(damaged)
        assert found.camera.isprintable()
        assert found.taken == "" or len(found.taken) in (19, 26)


def test_long_names_are_cut() -> None:
    """A text of many kilobytes does not get into the index."""
    found = read_capture(photo(main={ExifTags.Base.Model: "x" * 30_000}))

    assert found.camera == "x" * 200
