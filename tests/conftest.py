"""What every test has: settings, state and sockets in folders of its own, and the rule about skips in CI."""

import faulthandler
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SkipFails:
    """Makes a run fail that skipped a test for anything but the lack of a GPU: a green CI has run them all."""

    def __init__(self) -> None:
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that was skipped while it was set up or ran."""
        if report.skipped and not hasattr(report, "wasxfail") and "gpu" not in report.keywords:
            self.skipped.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a module that was skipped as a whole."""
        if report.skipped:
            self.skipped.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run that was good otherwise."""
        if self.skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name what was skipped."""
        for name in self.skipped:
            terminalreporter.write_line(f"SKIPPED IN CI, where only tests marked gpu may be: {name}", red=True)


class StuckCleanUp:
    """Ends a run whose clean-up hangs: a test's time runs out once, and what is waited for after that never ends.

    pytest's own `faulthandler_exit_on_timeout` is called off by the first exception.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._stderr = os.dup(2)  # while nothing captures it yet

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Iterator[None]:
        """Tell where it hangs, and end the run."""
        faulthandler.dump_traceback_later(self._patience_s, file=self._stderr, exit=True)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def pytest_configure(config: pytest.Config) -> None:
    """Bound the clean-up of tests, and apply the rule about skips where ``CI`` is set."""
    config.pluginmanager.register(StuckCleanUp(float(config.getini("timeout"))), "stuck-clean-up")
    if os.environ.get("CI"):
        config.pluginmanager.register(SkipFails(), "skip-fails")


@pytest.fixture(scope="session", autouse=True)
def folders_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep this user's settings, support set and daemon out of the tests, and theirs out of this user's folders."""
    if os.access("/run/mird/control", os.W_OK):
        pytest.exit("a mird runs as a system service here, and the tests would change it; stop it first", 1)
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as environment:
        for variable in list(os.environ):
            if variable.startswith("MIRD_") and variable != "MIRD_RECORDINGS":
                environment.delenv(variable)
        for variable in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY"):
            environment.delenv(variable, raising=False)
        for variable in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
            folder = home / variable.removeprefix("XDG_").lower()
            folder.mkdir(mode=0o700)
            environment.setenv(variable, str(folder))
        yield


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of recordings that ``MIRD_RECORDINGS`` names; for tests marked ``recordings``."""
    folder = os.environ.get("MIRD_RECORDINGS")
    if not folder:
        pytest.skip("MIRD_RECORDINGS names no folder of recordings")
    return Path(folder).resolve(strict=True)


def quickest(measure: Callable[[], float], below_s: float) -> float:
    """The least of up to three times, for a bound that a pause of the machine breaks as well."""
    least_s = measure()
    for _ in range(2):
        if least_s < below_s:
            break
        least_s = min(least_s, measure())
    return least_s


class NullSink:
    """A PulseAudio server of its own with one null sink: what is played into it can be recorded from it.

    ALSA's default device leads to it, for whoever has `environment`: so PortAudio captures real sound through a real
    sound server, without a sound card and without touching the user's.

    Parameters
    ----------
    folder : Path
        An empty folder with a short path, for its socket.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: subprocess.Popen[bytes] | None = None
        (folder / "asound.conf").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
        self.environment = {
            "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
            "PULSE_COOKIE": str(folder / "cookie"),
            "PULSE_RUNTIME_PATH": str(folder),
            "PULSE_SERVER": f"unix:{folder}/native",
        }

    @property
    def pid(self) -> int:
        """Process of the server."""
        assert self._server is not None
        return self._server.pid

    def start(self, n_channels: int = 2, rate_hz: int = 44_100) -> None:
        """Start the server, and wait until it answers."""
        command = ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1"]
        command += ["--disable-shm=yes"]
        command += ["-L", f"module-native-protocol-unix socket={self._folder}/native auth-anonymous=1"]
        command += ["-L", f"module-null-sink sink_name=mird channels={n_channels} rate={rate_hz}"]
        environment = os.environ | self.environment | {"HOME": str(self._folder), "XDG_RUNTIME_DIR": str(self._folder)}
        with (self._folder / "log").open("wb") as log:
            self._server = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline_s = time.monotonic() + 60.0
        while subprocess.run(["pactl", "info"], env=environment, capture_output=True, check=False).returncode != 0:
            if self._server.poll() is not None or time.monotonic() > deadline_s:
                self.kill()
                raise RuntimeError(f"pulseaudio did not start:\n{(self._folder / 'log').read_text()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill the server, as a crash or an unplugged interface would; it can be started again."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def play(self, path: Path) -> None:
        """Play a recording into the sink, and wait until it is through."""
        subprocess.run(["paplay", str(path)], env=os.environ | self.environment, check=True, timeout=60.0)

    @contextmanager
    def playing(self, path: Path) -> Iterator[None]:
        """Play a recording while something else is done; what is left of it at the end is cut off."""
        with subprocess.Popen(["paplay", str(path)], env=os.environ | self.environment) as player:
            try:
                yield
            finally:
                player.kill()


@pytest.fixture
def null_sink() -> Iterator[NullSink]:
    """A running null sink, which ALSA's default device leads to in this process and its children; mark: pulseaudio."""
    missing = [program for program in ("pulseaudio", "pactl", "paplay") if shutil.which(program) is None]
    plugin = "alsa-lib/libasound_module_pcm_pulse.so"
    if not [*Path("/usr").glob(f"lib*/{plugin}"), *Path("/usr").glob(f"lib*/*/{plugin}")]:
        missing.append("ALSA's plugin for PulseAudio (libasound2-plugins)")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="mird-", dir="/tmp") as folder, pytest.MonkeyPatch.context() as environment:
        sink = NullSink(Path(folder))
        for variable, value in sink.environment.items():
            environment.setenv(variable, value)
        sink.start()
        try:
            yield sink
        finally:
            sink.kill()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a folder `build` left over from before would bring deleted modules back."""
    copy = tmp_path_factory.mktemp("copy")
    folders = ("daemon", "kernels", "training", "clients", "configs")
    for name in (*folders, "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        source = Path(__file__).parents[1] / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    out = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    subprocess.run(
        [*pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", out, copy], check=True
    )
    (built,) = out.glob("mird-*.whl")
    return built
