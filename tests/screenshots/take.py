"""Takes the README's pictures: the page, the overlay and the terminal view, of a real daemon that hears two channels.

usage: python tests/screenshots/take.py [--out tests/screenshots]

Channel 1 is the demonstration, channel 2 the same with the instruments in another order. The pictures are reduced to a
few colours, so that each has less than 150 kB.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from mird.clients.control import ControlClient
from mird.clients.watch import Watch
from mird.daemon.assembly import DEMONSTRATION
from mird.daemon.paths import shipped

PROGRAM = Path(sys.executable).with_name("mird")
SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
OFFSET_S = 11.0
MAX_BYTES = 150_000
N_COLOURS = 128
STAGE = "linear-gradient(100deg, #3a2f4b, #1b2338 55%, #12131c) no-repeat 0 0 / 100vw 100vh"
"""Behind the overlay, in the place of a video."""


@contextmanager
def concert(folder: Path) -> Iterator[tuple[str, str, str]]:
    """A daemon and a `mird web`: the page's address, and those that the daemon publishes and is controlled at."""
    samples, rate_hz = soundfile.read(shipped(DEMONSTRATION), dtype="float32")
    sound = folder / "concert.wav"
    soundfile.write(sound, np.stack([samples, np.roll(samples, -round(OFFSET_S * rate_hz))], axis=1), rate_hz)
    publish, control = f"ipc://{folder}/publish", f"ipc://{folder}/control"
    environment = os.environ | {"XDG_DATA_HOME": str(folder), "MIRD_PUBLISH": publish, "MIRD_CONTROL": control}
    daemon: list[str | Path] = [PROGRAM, "run", "--quiet", "--loop", "--log-level", "error"]
    daemon += ["--source", f"file:{sound}", "--name", "stage"]
    with (
        subprocess.Popen(daemon, env=environment, stdin=subprocess.DEVNULL) as listening,
        subprocess.Popen(
            [PROGRAM, "web", "--listen", "127.0.0.1:0"], env=environment, stdout=subprocess.PIPE, text=True
        ) as serving,
    ):
        try:
            assert serving.stdout is not None
            yield serving.stdout.readline().strip(), publish, control
        finally:
            serving.terminate()
            listening.terminate()


@contextmanager
def browser(folder: Path) -> Iterator[webdriver.Chrome]:
    """A headless Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for switch in (*SWITCHES, f"--user-data-dir={folder}/chromium"):
        options.add_argument(switch)
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        yield driver
    finally:
        driver.quit()


def shape(driver: webdriver.Chrome, width: int, height: int, *, dark: bool = True) -> None:
    """Size of the window, and the colours that its user likes."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def save(png: bytes, path: Path, n_colours: int = N_COLOURS) -> None:
    """Write a picture with so many colours, or with all of them where that is 0."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    if n_colours:
        picture = picture.quantize(n_colours, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    if path.stat().st_size > MAX_BYTES:
        raise SystemExit(f"{path} has more than {MAX_BYTES} bytes")


def until_named(driver: webdriver.Chrome, selector: str) -> None:
    """Wait until an instrument begins on every channel, and two seconds more: notes are longer."""
    script = (
        f"const all = [...document.querySelectorAll('{selector}')].map((each) => each.textContent);"
        "return all.length > 1 && all.every((text) => !['', '–', 'silence', 'unknown'].includes(text))"  # noqa: RUF001
    )
    deadline_s = time.monotonic() + 60
    for named in (False, True):
        while driver.execute_script(script) is not named:
            if time.monotonic() > deadline_s:
                raise SystemExit("no instrument was named")
            time.sleep(0.1)
    time.sleep(2.0)


async def watch(publish: str, control: str) -> str:
    """The terminal view as SVG, after some seconds."""

    def ask(verb: str, **arguments: Any) -> dict[str, Any]:
        with ControlClient(control) as daemon:
            return daemon.request(verb, **arguments)

    app = Watch(publish, ask)
    async with app.run_test(size=(80, 24)):
        await asyncio.sleep(12.0)
        for named in (False, True):  # the begin of a sound, on both
            while any((level["label"] in ("silence", "unknown")) is named for level in ask("levels")["channels"]):
                await asyncio.sleep(0.1)
        await asyncio.sleep(1.5)
        return app.export_screenshot()


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, metavar="FOLDER")
    out: Path = parser.parse_args().out
    with (
        tempfile.TemporaryDirectory(prefix="mird-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        concert(Path(folder)) as (address, publish, control),
        browser(Path(folder)) as driver,
    ):
        shape(driver, 1200, 800)
        driver.get(address)
        time.sleep(13.0)  # the picture fills
        until_named(driver, ".card .label")
        save(driver.get_screenshot_as_png(), out / "page.png")
        shape(driver, 390, 780, dark=False)
        time.sleep(1.0)
        save(driver.get_screenshot_as_png(), out / "phone.png")
        shape(driver, 960, 320)
        driver.get(f"{address}overlay?size=15")
        driver.execute_script(f"document.documentElement.style.background = '{STAGE}'")
        until_named(driver, ".tag.shown .label")
        save(driver.get_screenshot_as_png(), out / "overlay.png", n_colours=0)
        drawing = Path(folder) / "watch.svg"
        drawing.write_text(asyncio.run(watch(publish, control)), encoding="utf-8")
        shape(driver, 1000, 640)
        driver.get(drawing.as_uri())
        save(driver.get_screenshot_as_png(), out / "watch.png")


if __name__ == "__main__":
    main()
