"""The page of `mird web` in a real Chromium, with a real daemon that hears a file in real time."""

import base64
import io
import math
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from mird.clients.subscriber import Subscriber
from mird.daemon.messages import Frame

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Demonstration, User

pytestmark = pytest.mark.system

RATE_HZ = 44_100
PATIENCE_S = 40.0
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
    "--window-size=1280,900",
)
MARKUP = "<img src=x onerror=alert(1)>"

STARTS_MS = {"trumpet": 0, "piano": 8_000}
"""Where in the concert they begin."""

ROUND_MS, SOUNDING_MS = 12_000, 3_500
"""Length of the concert, which is played over and over, and of each sound in it."""

WATCH_LABEL = """
window.seen = [];
const label = document.querySelector('[data-channel="1"] .label');
new MutationObserver(() => window.seen.push([Date.now(), label.textContent]))
  .observe(label, {childList: true, characterData: true, subtree: true});
"""

DROP = """
const [name, base64] = arguments;
const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], name, {type: "audio/wav"}));
const zone = document.getElementById("drop");
zone.dispatchEvent(new DragEvent("dragover", {bubbles: true, cancelable: true, dataTransfer: transfer}));
zone.dispatchEvent(new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: transfer}));
"""

BRIGHT = """
const canvas = document.querySelector("canvas");
const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
let bright = 0;
for (let i = 0; i < pixels.length; i += 4) bright += pixels[i] > 150;
return bright / (pixels.length / 4);
"""


class Page:
    """A page of `mird web` in a browser of its own."""

    def __init__(self, driver: webdriver.Chrome, address: str) -> None:
        self.driver = driver
        self.address = address

    def text(self, selector: str) -> str:
        found = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return str(found[0].get_property("textContent")) if found else ""

    def script(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, condition: Callable[[], Any], what: str = "") -> Any:
        """Wait until something is so."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            assert time.monotonic() < deadline_s, f"{what or 'never so'}; report: {self.text('#teach-report')!r}"
            time.sleep(0.05)
        return found

    def until_text(self, selector: str, *wanted: str) -> None:
        self.until(lambda: any(each in self.text(selector) for each in wanted), f"{selector} has no {wanted}")

    def fill(self, selector: str, text: str) -> None:
        field = self.driver.find_element(By.CSS_SELECTOR, selector)
        field.clear()
        field.send_keys(text)

    def press(self, selector: str) -> None:
        """Press a button by the keyboard."""
        self.driver.find_element(By.CSS_SELECTOR, selector).send_keys(Keys.ENTER)

    def classes(self) -> list[str]:
        """Names as the list shows them."""
        names: list[str] = self.script(
            "return [...document.querySelectorAll('#classes li')].map((li) => li.dataset.name)"
        )
        return names


@contextmanager
def _browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    with tempfile.TemporaryDirectory(prefix="mird-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        for switch in (*SWITCHES, f"--user-data-dir={folder}"):
            options.add_argument(switch)
        driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        try:
            yield driver
        finally:
            driver.quit()


def _bell(seconds: float) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """Like no instrument that is known: frequency modulation at an odd ratio."""
    t = np.arange(round(RATE_HZ / 3)) / RATE_HZ
    index = 9 * np.exp(-t / 0.08) + 2
    strike = np.sin(2 * np.pi * 820 * t + index * np.sin(2 * np.pi * 1160 * t)) * np.exp(-t / 0.25)
    return np.resize(0.3 * strike, round(seconds * RATE_HZ)).astype(np.float32)


@pytest.fixture(scope="module")
def concert(lasting_user: "User", demonstration: "Demonstration") -> Path:
    """Trumpet, bell, piano: four seconds of each, the last half second a pause."""
    samples, rate_hz = soundfile.read(demonstration.path, dtype="float32")
    assert rate_hz == RATE_HZ
    spans = {label: (start_s, end_s) for start_s, end_s, label in demonstration.spans}
    trumpet, piano = (samples[round(spans[label][0] * RATE_HZ) :] for label in ("trumpet", "piano"))
    sounds = [part[: round(3.5 * RATE_HZ)] for part in (trumpet, _bell(3.5), piano)]
    pause = np.zeros(RATE_HZ // 2, np.float32)
    path = lasting_user.folder / "concert.wav"
    soundfile.write(path, np.concatenate([part for sound in sounds for part in (sound, pause)]), RATE_HZ)
    return path


class Server:
    """`mird web`, which can be started anew at the same address."""

    def __init__(self, user: "User") -> None:
        self._user = user
        self._process: subprocess.Popen[str] | None = None
        self.address = ""

    def start(self) -> None:
        port = self.address.rpartition(":")[2].rstrip("/") or "0"
        self._process = self._user.start("web", "--listen", f"127.0.0.1:{port}")
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        _, errors = self._process.communicate(timeout=PATIENCE_S)
        assert (self._process.returncode, errors) == (0, "")


@pytest.fixture(scope="module")
def web(lasting_user: "User") -> Iterator[Server]:
    """A running `mird web`."""
    server = Server(lasting_user)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def page(web: Server) -> Iterator[Page]:
    with _browser() as driver:
        driver.get(web.address)
        yield Page(driver, web.address)
        complaints = [line for line in driver.get_log("browser") if not re.search("/live|/enroll", line["message"])]  # type: ignore[no-untyped-call]
        assert complaints == []


def test_without_a_daemon_it_says_so_and_waits(page: Page) -> None:
    page.until_text("#notice", "The daemon is silent; this page goes on when it does. Start one with: mird run")
    assert page.text("#state") == "no daemon"


def test_the_tag_follows_the_sound_and_the_rest_is_shown(page: Page, lasting_user: "User", concert: Path) -> None:
    with lasting_user.daemon("--source", f"file:{concert}", "--loop", "--name", "stage"):
        page.until_text('[data-channel="1"] .label', "trumpet", "piano")
        page.script(WATCH_LABEL)
        _until_live(page)
        assert page.text("#source") == "stage"
        assert not page.driver.find_element(By.ID, "teach-where").is_displayed()  # there is but one channel
        with Subscriber(lasting_user.publish, ("frame",)) as subscriber:
            frame = subscriber.recv(PATIENCE_S)
        assert isinstance(frame, Frame)
        began_ms = frame.capture_utc_ns / 1e6 - 1e3 * frame.sample_end / RATE_HZ
        # Both in one round; a machine that is busy meanwhile gets two or three of them.
        page.until(lambda: _lateness_ms(page, began_ms) < 1_000, "both are named within a second of their begin")
        assert page.script(BRIGHT) > 0.02
        ticks = [tick.text for tick in page.driver.find_elements(By.CSS_SELECTOR, ".axis span")]
        assert ticks == ["50 Hz", "100 Hz", "200 Hz", "500 Hz", "1 kHz", "2 kHz", "5 kHz", "10 kHz"]
        assert re.fullmatch(r"-\d+ dBFS", page.text(".dbfs"))
        page.until(lambda: "piano" in page.text("#history") and "trumpet" in page.text("#history"))
        page.until_text("#announcer", "percent")
        assert re.fullmatch(r"\d+ ms, p99 \d+ ms", page.text("#latency"))
        assert len(page.classes()) == 40
        _teach(page)
        _tune(page)
        _two_at_once(page)


def _lateness_ms(page: Page, began_ms: float) -> float:
    """How long after they began trumpet and piano were both named, in the quickest round; infinite before one."""
    rounds: dict[float, dict[str, float]] = {}
    for at_ms, label in page.script("return window.seen"):
        if label in STARTS_MS:
            number, since_ms = divmod(at_ms - began_ms - STARTS_MS[label], ROUND_MS)
            if since_ms < SOUNDING_MS:
                rounds.setdefault(number, {}).setdefault(label, since_ms)
    return min((max(late.values()) for late in rounds.values() if len(late) == len(STARTS_MS)), default=math.inf)


def _teach(page: Page) -> None:
    """A clip that is dropped, a name with markup, what was just heard, a correction, and all of it taken back."""
    clip = io.BytesIO()
    soundfile.write(clip, _bell(2.0), RATE_HZ, format="WAV")
    page.fill("#teach-name", "spring bell")
    page.script(DROP, "bell.wav", base64.b64encode(clip.getvalue()).decode())
    page.until_text("#teach-report", "spring bell: ")
    page.until(lambda: "spring bell" in page.classes())
    page.until_text('[data-channel="1"] .label', "spring bell")

    page.script(DROP, "no.wav", base64.b64encode(b"no audio" * 20).decode())
    page.until_text("#teach-report", "no.wav is no audio that libsndfile reads")
    assert "bad" in str(page.driver.find_element(By.ID, "teach-report").get_attribute("class"))

    n_elements = page.script("return document.querySelectorAll('img, b').length")
    page.fill("#teach-name", MARKUP)
    page.fill("#teach-seconds", "2")
    page.driver.find_element(By.ID, "teach-seconds").send_keys(Keys.ENTER)
    page.until(lambda: MARKUP in page.classes())
    page.until_text("#teach-report", f"{MARKUP}: ")
    page.until(lambda: MARKUP in page.text(".top") or MARKUP in page.text("#history"), "the name is shown as text")
    assert page.script("return document.querySelectorAll('img, b').length") == n_elements
    page.press("#undo")
    page.until(lambda: MARKUP not in page.classes())

    page.until(lambda: "spring bell" in page.text("#history"))
    page.press("#history li button")
    page.fill("#correct-name", "hurdy-gurdy")
    page.driver.find_element(By.ID, "correct-name").send_keys(Keys.ENTER)
    page.until(lambda: "hurdy-gurdy" in page.classes())
    page.until(lambda: not page.driver.find_element(By.ID, "correct").is_displayed())
    page.press("#undo")
    page.until(lambda: "hurdy-gurdy" not in page.classes())


def _tune(page: Page) -> None:
    """A threshold by the keyboard, and an instrument that is forgotten."""
    slider = page.driver.find_element(By.CSS_SELECTOR, '#classes li[data-name="viola"] input')
    before = float(str(slider.get_property("value")))
    slider.send_keys(Keys.ARROW_RIGHT * 3)
    page.until_text("#teach-report", f"viola counts as heard from {before + 0.03:.2f} on")
    page.until(lambda: page.driver.find_elements(By.CSS_SELECTOR, '#classes li.own[data-name="viola"]'))
    page.fill("#filter", "spring")
    page.press('#classes li[data-name="spring bell"] .forget')
    page.until(lambda: "spring bell" not in page.classes())
    page.fill("#filter", "v")
    page.driver.find_element(By.ID, "filter").clear()


def _two_at_once(page: Page) -> None:
    """The overlay in a second tab, transparent, while the page sleeps behind it; then the page catches up."""
    driver = page.driver
    first = driver.current_window_handle
    page.script("window.hid = 0; addEventListener('visibilitychange', () => (window.hid += document.hidden))")
    driver.switch_to.new_window("tab")
    driver.get(page.address + "overlay?align=right&size=9")
    page.until(lambda: page.text(".tag.shown .label") in ("trumpet", "piano"))
    assert page.script("return getComputedStyle(document.body).backgroundColor") == "rgba(0, 0, 0, 0)"
    driver.execute_cdp_cmd("Emulation.setDefaultBackgroundColorOverride", {"color": {"r": 0, "g": 0, "b": 0, "a": 0}})
    assert page.script("return document.querySelectorAll('.tag').length") == 1
    driver.close()
    driver.switch_to.window(first)
    assert page.script("return window.hid") == 1
    before = page.text("#history li:first-child .when")
    page.until(lambda: page.text("#history li:first-child .when") != before)


def _until_live(page: Page) -> None:
    page.until(lambda: (page.text("#notice"), page.text("#state")) == ("", "live"), "it listens")


def test_it_survives_the_daemon_and_mird_web(page: Page, web: Server, lasting_user: "User", concert: Path) -> None:
    page.until_text("#notice", "The daemon is silent")
    assert page.text('[data-channel="1"] .label') not in ("trumpet", "piano")
    with lasting_user.daemon("--source", f"file:{concert}", "--loop", "--name", "stage") as daemon:
        page.until_text('[data-channel="1"] .label', "trumpet", "piano")
        _until_live(page)
        web.stop()
        page.until_text("#notice", "No connection to mird web; trying again.")
        web.start()
        page.until_text('[data-channel="1"] .label', "trumpet", "piano")
        _until_live(page)
        daemon.send_signal(signal.SIGSTOP)
        try:
            page.until_text("#notice", "The daemon is silent")
            page.driver.refresh()
            page.until_text("#notice", "The daemon is silent")
            page.until_text("#source", "stage")
            assert page.text("#state") == "no daemon"
        finally:
            daemon.send_signal(signal.SIGCONT)
        _until_live(page)


def test_it_fits_a_phone_and_the_dark(page: Page) -> None:
    driver = page.driver
    grounds = {}
    for scheme in ("dark", "light"):
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        grounds[scheme] = page.script("return getComputedStyle(document.body).backgroundColor")
    brightness = {scheme: sum(map(int, re.findall(r"\d+", ground)[:3])) for scheme, ground in grounds.items()}
    assert brightness["dark"] < 150 < 600 < brightness["light"]
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert page.script("return document.documentElement.scrollWidth") <= 360
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_keyboard_reaches_everything(page: Page) -> None:
    reached = set()
    page.script("document.querySelector('.skip').focus()")
    for _ in range(200):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        element = page.driver.switch_to.active_element
        reached.add(str(element.get_attribute("id") or element.get_attribute("class")))
        if "undo" in reached and "forget" in reached:
            break
    assert {"teach-name", "teach-seconds", "teach-live", "choose", "filter", "undo", "wrong", "forget"} <= reached
