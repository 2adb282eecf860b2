"""Stage `report`: all results -> reports/index.html, one page that needs no network, and model cards. No torch."""

from pathlib import Path

from stages.running import run_stage


def main() -> None:
    """Write the page and the model cards, and print where the page is."""
    from headstart.base.files import write_bytes
    from headstart.sources.folder import open_source
    from stages.params import load_params, tracked_sections
    from stages.report.card import render_card
    from stages.report.content import read_content
    from stages.report.page import render
    from stages.report.params import Params
    from stages.report.thumbnails import Thumbnails

    params = load_params(Params)
    content = read_content()
    runtime = params.runtime
    thumbnails = Thumbnails(open_source(params.data.path), content.index, runtime.num_workers, runtime.pixels)
    page = render(content, thumbnails, params.report, tracked_sections()).encode()
    write_bytes(Path("reports/index.html"), page)
    for name, track in content.tracks.items():
        card = render_card(content, track, params.report.title)
        write_bytes(Path(f"models/{name}.md"), card.encode("utf-8", "backslashreplace"))
    print(f"report: reports/index.html, {len(page) / 1e6:.1f} MB")
    if thumbnails.missing:
        print(
            f"report: WARNING: {len(thumbnails.missing)} photos are missing or have changed since they were indexed, "
            f"the first is {min(thumbnails.missing)}. The page shows only their names. Restore them, then run: "
            "dvc repro -f -s report"
        )


if __name__ == "__main__":
    run_stage("report", main)
