"""What every test has: settings, state and sockets in folders of its own, and the rule about skips in CI."""

import os
from collections.abc import Iterator
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


def pytest_configure(config: pytest.Config) -> None:
    """Apply the rule about skips where ``CI`` is set."""
    if os.environ.get("CI"):
        config.pluginmanager.register(SkipFails(), "skip-fails")


@pytest.fixture(scope="session", autouse=True)
def folders_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep this user's settings, support set and daemon out of the tests, and theirs out of this user's folders."""
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
