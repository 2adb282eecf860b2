"""The server's page in a real browser: it shows the classes of dropped photos, and hostile names as text."""

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from headstart.backbone.params import BackboneParams
from headstart.predict.model import load
from tests.conftest import write_photos
from tests.support.browser import launched, needs_browser
from tests.support.bundles import make_bundle, written
from tests.support.serving import serving

HOSTILE = "<img src=x onerror=alert(1)>"
CLASSES = ("red", "green", "<b>blue</b>")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: BackboneParams) -> Path:
    """A bundle with a class whose name is markup."""
    made = make_bundle(tiny_backbone, track="finetune", classes=CLASSES)
    return written(tmp_path_factory.mktemp("bundle") / "b", made)


@pytest.fixture(scope="module")
def address(bundle: Path) -> Iterator[str]:
    """Start the server, and stop it at the end."""
    words = ["serve", str(bundle), "--port", "0", "--device", "cpu", "--max-bytes", "20000"]
    with serving(words, bundle) as (_, found):
        yield found


@pytest.fixture(params=["light", "dark"])
def page(address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Open the page at the size of a phone; it must not contact other sites or write to the console."""
    problems: list[str] = []
    with launched() as chromium:
        opened = chromium.new_page(viewport={"width": 390, "height": 844}, color_scheme=request.param)
        opened.on("console", lambda message: problems.append(message.text))
        opened.on("pageerror", lambda error: problems.append(str(error)))
        opened.on("request", lambda sent: problems.append(sent.url))
        opened.goto(address)
        yield opened
    assert [one for one in problems if not one.startswith((address, "data:", f"blob:{address}"))] == []


DROP = """(text) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], "dropped.png"));
  window.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, cancelable: true }));
}"""


@needs_browser
def test_a_dropped_photo_gets_its_class(page: Page, bundle: Path, tmp_path: Path) -> None:
    """Each photo shows class, bars, heat map and training images; names that look like markup are shown as text."""
    write_photos(tmp_path / "photos")
    red = tmp_path / "photos" / "red" / "1.png"
    hostile = shutil.copy(red, tmp_path / HOSTILE)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    large = tmp_path / "large.png"
    large.write_bytes(b"x" * 20_000)
    page.focus("#files")
    page.set_input_files("#files", [hostile, str(bad), str(large)])
    expect(page.locator("#state")).to_have_text("3 files answered", timeout=60_000)
    good, quarantined, refused = page.locator("#rows > li").all()
    (one,) = load(bundle).predict([red])

    expect(good.locator("h2")).to_have_text(one.predicted)
    assert HOSTILE in good.inner_text()
    assert [line.split() for line in good.locator(".bars li").all_inner_texts()] == [
        [label, f"{probability:.3f}"] for label, probability in one.top(3)
    ]
    assert good.locator(".pictures img").count() == 2
    assert good.locator(".nearest li").count() == 5
    assert page.locator("#rows b, #rows img[src=x]").count() == 0
    assert "not an image of a known format" in quarantined.inner_text()
    assert "larger than" in refused.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.click("#clear")
    assert page.locator("#rows > li").count() == 0
    page.evaluate(DROP, base64.b64encode(red.read_bytes()).decode())
    expect(page.locator("#state")).to_have_text("1 file answered", timeout=60_000)
    expect(page.locator("#rows > li h2")).to_have_text(one.predicted)
    with page.expect_response(lambda response: "coverage=0.9" in response.url) as new_answer:
        page.select_option("#coverage", "0.9")
    expect(page.locator("#rows > li h2")).to_have_text(new_answer.value.json()["images"][0]["predicted"])
    assert page.locator("#rows > li").count() == 1
    assert f"Orange marks the places that speak for {one.predicted}" in page.locator("#rows > li").inner_text()
