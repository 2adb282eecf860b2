"""The server: only the page that has the token gets answers, and no request opens a path of its own."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from headstart.base.csv_files import write_table
from headstart.review import server
from headstart.review.gate import MAX_BODY_BYTES
from headstart.review.session import Session
from headstart.tables.label_fixes import LabelFix, read_label_fixes, write_label_fixes
from headstart.tables.rows import read_rows, write_rows
from headstart.tables.split import SplitRow
from tests.unit.review.conftest import TOKEN, client_of


def rows_of(client: TestClient, queue: str) -> list[dict[str, object]]:
    """Return the rows of a queue."""
    rows: list[dict[str, object]] = client.get(f"api/queue/{queue}").json()["rows"]
    return rows


@pytest.mark.parametrize("path", ["", "api/state", "thumb/" + "0" * 64, "style.css"])
@pytest.mark.parametrize("token", ["", "the-toke", "the-token2", "THE-TOKEN", "%2e%2e/the-token"])
def test_nothing_is_answered_without_the_token(client: TestClient, token: str, path: str) -> None:
    """An address with another token, or none, is a plain 404."""
    answer = client.get(f"http://127.0.0.1/{token}/{path}")

    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("this address is not valid")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pages_of_other_sites_are_refused(client: TestClient, session: Session, method: str) -> None:
    """A foreign Origin or Host is refused even with the token, and no answer allows another origin."""
    foreign = client.request(method, "api/retrain", headers={"Origin": "http://evil.example"})
    rebound = client.request(method, "api/retrain", headers={"Host": "evil.example"})
    own = client.get("api/state", headers={"Origin": "http://127.0.0.1"})

    assert (foreign.status_code, rebound.status_code, own.status_code) == (403, 400, 200)
    assert session.retrain.status()["state"] == "idle"
    assert not any(name.startswith("access-control") for name in own.headers)


def test_every_answer_has_the_headers(client: TestClient) -> None:
    """Pages, data, pictures and errors carry the policy that lets the page load only from here."""
    digest = rows_of(client, "random")[0]["digest"]
    for path in ("api/state", f"thumb/{digest}", "nothing", "http://127.0.0.1/wrong/"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
    assert "no-store" in client.get("api/state").headers["cache-control"]


@pytest.mark.parametrize("name", ["..%2f..%2fparams.yaml", "%2e%2e/params.yaml", "server.py", "page.html%00", "//x"])
def test_no_path_of_a_client_is_opened(client: TestClient, name: str) -> None:
    """The page's files are known by name; thumbnails and photos by digest only."""
    assert client.get(f"http://127.0.0.1/{TOKEN}/{name}").status_code == 404
    assert client.get(f"thumb/{name}").status_code in (404, 422)
    assert client.get(f"photo/{name}").status_code in (404, 422)


def test_the_page_has_its_files(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page and what lies beside it are served with their media types, which `nosniff` needs."""
    for name in ("page.html", "style.css", "script/grid.js"):
        (tmp_path / "page" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "page" / name).write_text(name)
    monkeypatch.setattr(server, "PAGE", tmp_path / "page")
    client = client_of(session)
    found = {name: client.get(name) for name in ("", "style.css", "script/grid.js")}

    assert [answer.text for answer in found.values()] == ["page.html", "style.css", "script/grid.js"]
    kinds = [answer.headers["content-type"].split(";")[0] for answer in found.values()]
    assert kinds == ["text/html", "text/css", "text/javascript"]


def test_long_bodies_are_refused(client: TestClient, session: Session) -> None:
    """A body of over a megabyte is refused, whether or not it says its length."""

    def parts() -> object:
        for _ in range(MAX_BODY_BYTES // 1000 + 2):
            yield b" " * 1000

    assert client.post("api/decide", content=b" " * (MAX_BODY_BYTES + 1)).status_code == 413
    assert client.post("api/decide", content=parts()).status_code == 413  # type: ignore[arg-type]
    assert not session.decisions.path.exists()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("decide", {"digests": ["../x"], "label": None}),
        ("decide", {"digests": [], "label": None}),
        ("decide", {"digests": ["0" * 64], "label": 3}),
        ("decide", {"digests": ["0" * 64], "label": None, "path": "x"}),
        ("decide", {"digests": ["0" * 64] * 5001, "label": None}),
        ("undo", {"ids": "all"}),
        ("class", {}),
        ("class", []),
    ],
)
def test_a_body_of_another_shape_is_refused(client: TestClient, path: str, body: object) -> None:
    """What is wrong is said in one line."""
    answer = client.post(f"api/{path}", content=json.dumps(body), headers={"Content-Type": "application/json"})

    assert answer.status_code == 422
    assert len(answer.json()["detail"].splitlines()) == 1


def test_thumbnails_and_photos_are_pictures(client: TestClient, root: Path) -> None:
    """A thumbnail may be kept forever, because its address is its content; a photo has the pixels of the file."""
    row = next(row for row in rows_of(client, "random") if str(row["path"]).endswith("png"))
    thumb, photo = client.get(f"thumb/{row['digest']}"), client.get(f"photo/{row['digest']}")
    original = Image.open(root / "data/photos" / str(row["path"])).convert("RGB")

    assert "immutable" in thumb.headers["cache-control"]
    assert Image.open(io.BytesIO(thumb.content)).format == "WEBP"
    assert Image.open(io.BytesIO(photo.content)).convert("RGB").tobytes() == original.tobytes()


def test_a_file_with_other_bytes_is_not_shown(client: TestClient, root: Path) -> None:
    """If the file changed since it was indexed, or is gone, there is a small drawing and status 404, not kept."""
    one, other = rows_of(client, "random")[:2]
    (root / "data/photos" / str(one["path"])).write_bytes((root / "data/photos" / str(other["path"])).read_bytes())
    for address in (f"thumb/{one['digest']}", f"photo/{one['digest']}", "thumb/" + "0" * 64):
        answer = client.get(address)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "image/svg+xml"
        assert answer.headers["cache-control"] == "no-store"


def test_a_decision_goes_into_the_file_and_into_every_queue(client: TestClient, session: Session) -> None:
    """Accepting writes the label that the image has; both pages see who decided; undo takes it back."""
    one = rows_of(client, "suspects")[0]
    answer = client.post(
        "api/decide", json={"digests": [one["digest"]], "label": None, "why": "suspects", "seen": None}
    )
    (fix,) = read_label_fixes(session.decisions.path)
    shown = next(row for row in rows_of(client, "random") if row["digest"] == one["digest"])

    assert answer.json()["conflicts"] == []
    assert (fix.label, fix.why) == (one["label"], "accepted; suspects")
    assert (shown["decision"], shown["by"]) == (one["label"], "Ann")
    state = client.get("api/state").json()
    assert {queue["name"]: queue["num_done"] for queue in state["queues"]}["suspects"] == 1
    undone = client.post("api/undo", json={"ids": [shown["id"]]}).json()
    assert [row["decision"] for row in undone["rows"]] == [None]
    assert read_label_fixes(session.decisions.path) == []


def test_two_tabs_see_each_other(client: TestClient, session: Session) -> None:
    """The second of two tabs that decide on an image gets the first one's decision as a conflict."""
    digest = rows_of(client, "suspects")[0]["digest"]
    other = client_of(session)
    first = client.post("api/decide", json={"digests": [digest], "label": "green"}).json()
    answer = other.post("api/decide", json={"digests": [digest], "label": "drop"}).json()

    assert (answer["rows"], answer["ids"]) == ([], {})
    assert {**answer["conflicts"][0], "when": ""} == {"digest": digest, "theirs": "green", "by": "Ann", "when": ""}
    again = other.post("api/decide", json={"digests": [digest], "label": "green"}).json()
    assert (again["rows"][0]["digest"], again["ids"]) == (digest, {})
    assert client.post("api/undo", json={"ids": [first["ids"][digest]]}).json()["rows"][0]["digest"] == digest


def test_a_page_of_rows_asks_the_file_once(
    client: TestClient, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many rows a queue or an answer has, the file of fixes is asked for its stamp once for all of them."""
    calls: list[str] = []
    stamp = session.decisions.stamp

    def counted() -> tuple[int, ...]:
        calls.append("stamp")
        return stamp()

    monkeypatch.setattr(session.decisions, "stamp", counted)

    assert len(rows_of(client, "random")) == 12
    assert len(calls) == 1


def test_what_cannot_be_decided_is_refused(client: TestClient, session: Session) -> None:
    """An unknown class, image or queue is refused, and so is an image that the split leaves out."""
    digest = rows_of(client, "random")[0]["digest"]
    answers = [
        client.post("api/decide", json={"digests": [digest], "label": "purple"}),
        client.post("api/decide", json={"digests": ["0" * 64], "label": "red"}),
        client.post("api/decide", json={"digests": [digest], "label": "red", "why": "nonsense"}),
    ]

    assert [answer.status_code for answer in answers] == [409, 404, 404]
    assert not session.decisions.path.exists()


def test_an_image_outside_the_split_cannot_be_decided(root: Path) -> None:
    """`split` would reject its fix; an image of the pool can get a label, but has none to accept."""
    split = read_rows(root / "data/split.csv", SplitRow)
    out, pooled = split[0], split[1]
    write_rows(root / "data/split.csv", split[2:], SplitRow)
    write_table(root / "data/pool.csv", ["digest", "path"], [[pooled.digest, pooled.path]])
    session = Session(root, "Ann")
    client = client_of(session)

    refused = client.post("api/decide", json={"digests": [out.digest], "label": "red"})
    assert (refused.status_code, "no part" in refused.json()["detail"]) == (409, True)
    assert client.post("api/decide", json={"digests": [pooled.digest], "label": None}).status_code == 409
    assert client.post("api/decide", json={"digests": [pooled.digest], "label": "red"}).status_code == 200
    session.close()


def test_a_dropped_image_can_be_decided_again(root: Path) -> None:
    """After drop, retrain and undo, an image is neither in the split nor in the file. It can still be decided on."""
    split = read_rows(root / "data/split.csv", SplitRow)
    one = split[0]
    path = Session(root, "Ann").decisions.path
    write_label_fixes(path, [LabelFix(one.digest, one.path, "drop", "Ann")])
    write_rows(root / "data/split.csv", split[1:], SplitRow)
    session = Session(root, "Ann")
    client = client_of(session)
    shown = rows_of(client, "decided")[0]
    client.post("api/undo", json={"ids": [shown["id"]]})

    assert read_label_fixes(path) == []
    assert client.post("api/decide", json={"digests": [one.digest], "label": "drop"}).status_code == 200
    session.close()


@pytest.mark.parametrize("name", ["ünder <b>&amp;", "a,b;\"c'", "=1+1", "日本", "x/y", "%2f", "-"])
def test_a_new_class_can_be_chosen_at_once(client: TestClient, name: str) -> None:
    """Odd letters are kept as they are, in the list of classes and in decisions."""
    digest = rows_of(client, "random")[0]["digest"]
    classes = client.post("api/class", json={"name": name}).json()["classes"]
    answer = client.post("api/decide", json={"digests": [digest], "label": name}).json()

    assert classes == ["blue", "green", "red", name]
    assert answer["rows"][0]["decision"] == name


@pytest.mark.parametrize(
    "name", ["", " ", "drop", "Drop", "red", "RED", "a\nb", "a\0", "\u202e", "</script", "x" * 201]
)
def test_a_name_that_is_no_class_is_refused(client: TestClient, session: Session, name: str) -> None:
    """Empty, taken, unprintable and dangerous names are refused."""
    assert client.post("api/class", json={"name": name}).status_code == 409
    assert not session.decisions.path.exists()


def test_a_bug_is_said_without_its_stack(client: TestClient, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw is a plain 500."""
    monkeypatch.setattr(session, "state", lambda: 1 / 0)
    answer = client.get("api/state")

    assert answer.status_code == 500
    assert answer.json() == {"detail": "the server failed: ZeroDivisionError"}
