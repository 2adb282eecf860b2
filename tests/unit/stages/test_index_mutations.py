"""Files that were damaged anywhere never stop the index: each is a row."""

import io

import pillow_heif
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart.base.helpers import Helpers
from headstart.imaging.effort import Limits
from headstart.imaging.formats import format_names
from headstart.sources.folder import Folder
from headstart.tables.index import USABLE
from stages.index.examination import examine
from tests.unit.stages.test_index_gallery import GALLERY, OTHER, RGB, encode

MAX_PIXELS = 20_000
pillow_heif.register_heif_opener()


def samples() -> list[bytes]:
    """Return small files of every format and of every kind of pixel."""
    image = Image.fromarray(RGB)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker of cameras"
    kinds = ("AVIF", "HEIF", "PNG", "TIFF", "WEBP")
    made = [encode(image, kind, exif=exif.tobytes()) for kind in (*kinds, "JPEG")]
    made += [encode(image, kind, save_all=True, append_images=[OTHER]) for kind in kinds]
    made.append(encode(image, "BMP"))
    return [*made, *(data for _, data, *_ in GALLERY if data)]


SAMPLES = samples()
HELPERS = Helpers(1)
# A mutation puts bytes at a place, in tenths of a percent of the file, over as many or none of the file's own.
MUTATIONS = st.lists(st.tuples(st.integers(0, 1000), st.binary(max_size=8), st.integers(0, 12)), min_size=1, max_size=6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # as in a run: a warning is no error there
@settings(max_examples=1500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(SAMPLES), MUTATIONS, st.booleans())
def test_a_mutated_file_is_a_row(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, mutations: list[tuple[int, bytes, int]], in_header: bool
) -> None:
    """Whatever bytes change, come or go, the file is used or quarantined with a reason, within bounds."""
    changed = bytearray(data)
    for thousandth, new, num_old in mutations:
        place = min(len(changed), 400) * thousandth // 1000 if in_header else len(changed) * thousandth // 1000
        changed[place : place + num_old] = new
    folder = tmp_path_factory.getbasetemp()
    (folder / "mutated.png").write_bytes(changed)
    row = examine(Folder(folder), "mutated.png", Limits(MAX_PIXELS, 60.0), HELPERS)

    if row.status in USABLE:
        assert row.format in format_names()
        assert 0 < row.width * row.height <= MAX_PIXELS
    else:
        assert (row.status, row.width, row.height) == ("quarantined", 0, 0)
        assert row.reason
    assert len(row.digest) == 64


def test_the_mutations_start_from_every_format() -> None:
    """The property is tried on every format that is read."""
    formats = set()
    for data in SAMPLES:
        try:
            formats.add(str(Image.open(io.BytesIO(data)).format))
        except OSError:  # some of the gallery are no images from the start
            continue

    assert formats >= set(format_names())
