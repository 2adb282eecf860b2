"""Views: the centre of a picture, its mirror image, and crops that the seed draws."""

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from headstart.imaging.transform import Transform, View, make_views, view_of

PLAIN = Transform(64, 64, squash=False, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)


def test_views_begin_with_the_centre_and_its_mirror() -> None:
    """The first view is the centre and the second its mirror image; the seed draws the others."""
    image = Image.effect_noise((90, 70), 60).convert("RGB")
    centre, mirror = (view.pixels(image, PLAIN) for view in make_views(2, 0))

    assert (centre == PLAIN.pixels(image)).all()
    assert (mirror == centre[:, ::-1]).all()
    assert make_views(6, 3)[:2] == make_views(2, 0)
    assert make_views(6, 3)[:4] == make_views(4, 3)
    assert make_views(6, 3) != make_views(6, 4)


@given(st.integers(1, 64), st.integers(0, 2**32 - 1))
def test_views_stay_inside_and_are_written_out(num_views: int, seed: int) -> None:
    """Every crop lies inside the picture, covers at least a third of it, and can be read back from the spec."""
    views = make_views(num_views, seed)
    image = Image.new("RGB", (37, 91), (9, 8, 7))

    assert len(views) == num_views
    for view in views:
        assert view_of(view.spec()) == view
        assert view.pixels(image, PLAIN).shape == (64, 64, 3)
        if view.box is not None:
            left, top, right, bottom = view.box
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
            assert (right - left) * (bottom - top) > 0.3


def test_a_crop_is_that_part_of_the_picture() -> None:
    """A view with a box shows the crop of the picture, or its mirror image."""
    image = Image.effect_noise((128, 128), 60).convert("RGB")
    part = image.crop((32, 0, 96, 64))

    assert (View((0.25, 0.0, 0.75, 0.5), mirror=False).pixels(image, PLAIN) == PLAIN.pixels(part)).all()
    assert (View((0.25, 0.0, 0.75, 0.5), mirror=True).pixels(image, PLAIN) == PLAIN.pixels(part)[:, ::-1]).all()
