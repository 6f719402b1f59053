"""`python -m tests.studies.screenshots FOLDER [W...]`: pictures of the page of studies (without W: of a
committed one) at 360 and 1280 pixels, dark, and on paper."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.studies.pages import GPU
from tlc_jax.studies.page.page_file import write_report

LOOKS = {
    "360": {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2},
    "1280": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
}


def main(folder: Path, *studies: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "page.html"
    write_report(studies or [str(GPU)], str(page))
    with sync_playwright() as driver:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=sandbox)
        for name, look in LOOKS.items():
            opened = browser.new_context(**look).new_page()
            opened.goto(page.resolve().as_uri())
            opened.screenshot(path=folder / f"{name}.png", full_page=True)
        opened.emulate_media(media="print", color_scheme="light")
        opened.screenshot(path=folder / "print.png", full_page=True)
        opened.pdf(
            path=folder / "print.pdf",
            format="A4",
            margin=dict.fromkeys(("top", "bottom", "left", "right"), "18mm"),
        )
        browser.close()
    print(f"written to {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
