"""The command line's frame: quick help, exit statuses, and a quiet end when its reader or its user goes away."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mird.daemon import errors
from mird.daemon.assembly import DEMONSTRATION
from mird.daemon.cli import COMMANDS, EXIT_STATUSES, OUTPUT_EXIT_STATUS, main
from mird.daemon.paths import shipped

HEAVY = ("numpy", "scipy", "onnxruntime", "zmq", "pydantic", "torch", "rich", "soundfile", "pyaudio", "msgpack")

PROGRAM = "import sys; from mird.daemon.cli import main; sys.exit(main())"


@pytest.mark.parametrize("argv", [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)])
def test_help_imports_nothing_heavy(argv: list[str]) -> None:
    program = f"""
import sys
from mird.daemon.cli import main
try:
    main({argv})
except SystemExit as exit:
    assert exit.code == 0, exit.code
print("loaded:", *(name for name in {HEAVY} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].strip() == "loaded:"


def test_help_names_every_command_and_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for command, summary in COMMANDS.items():
        assert re.search(rf"^  {command} +{re.escape(summary)}$", text, re.MULTILINE), command
    documented = {int(number) for number in re.findall(r"^ +(\d+) ", EXIT_STATUSES, re.MULTILINE)}
    tree = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, errors.MirdError)]
    assert len(tree) > 5
    assert {error.exit_status for error in tree} <= documented
    assert {0, 1, 2, 8, 9, 10, 130} <= documented
    for line in EXIT_STATUSES.splitlines():
        assert f"{line}\n" in text


def test_every_command_can_be_described(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit) as raised:
            main([command, "--help"])
        assert raised.value.code == 0
        assert f"usage: mird {command}" in capsys.readouterr().out


def test_without_a_command_the_usage_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: mird COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["confg"], "unknown command 'confg'; did you mean config?"),
        (["qqq"], "unknown command 'qqq'; `mird --help` lists the commands"),
        (["config", "--hop"], "unrecognized arguments: --hop"),
        (["enroll", "--windows", "abc", "a", "b"], "--windows: 'abc': must be a whole number from 1 to 32"),
        (["enroll", "--windows", "33", "a", "b"], "--windows: '33': must be a whole number from 1 to 32"),
        (["--colour", "config"], "unrecognized arguments: --colour"),
    ],
)
def test_a_wrong_command_line_exits_with_2(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(argv)
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["tag", "--", "-x.wav"], ["--", "tag", "--", "-x.wav"]])
def test_what_follows_two_hyphens_is_no_option(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 4
    assert capsys.readouterr().err.startswith("mird: error: -x.wav does not exist")


@pytest.mark.parametrize(
    "argv",
    [
        ["enroll", "--windows", "3", "viola", "/none/a.wav"],
        ["enroll", "viola", "--windows", "3", "/none/a.wav"],
        ["enroll", "viola", "/none/a.wav", "--windows", "3", "/none/b.wav"],
        ["tag", "/none/a.wav", "--json", "/none/b.wav"],
    ],
)
def test_options_may_stand_between_names_and_files(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 4
    assert capsys.readouterr().err.startswith("mird: error: /none/a.wav does not exist")


def test_verbs_describe_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["classes", "threshold"], ["keys", "client"]):
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        text = capsys.readouterr().out
        assert {"Set the score that a class needs.", "Make keys for a client, and let it in."} & set(text.splitlines())
        assert re.search(r"^  NAME  +\w", text, re.MULTILINE)
        assert text.endswith("`mird --help` lists the exit statuses.\n")


def test_an_option_is_written_alike_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    """The value of an option that several commands have has one name."""
    written: dict[str, set[str]] = {}
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        for option, value in re.findall(r"^  (--[a-z-]+)(?: ([^ a-z{[][^ ]*))?(?:  |$)", capsys.readouterr().out, re.M):
            written.setdefault(option, set()).add(value)
    assert len(written) > 60
    del written["--user"]  # systemd's for install-service, the broker's for mqtt
    assert {option: values for option, values in written.items() if len(values) > 1} == {}


def test_an_error_of_ours_is_one_line_and_its_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--config", "/no\nsuch/file"]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "mird: error: settings file /no such/file: No such file or directory\n"


def test_config_shows_each_setting_with_its_origin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIRD_HOP_MS", "50")
    assert main(["config", "--json", "--class-threshold", "Ähre=0.5"]) == 0
    rows = {row["setting"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["hop_ms"] == {"setting": "hop_ms", "value": 50, "origin": "MIRD_HOP_MS"}
    assert rows["top_k"]["origin"] == "default"
    assert rows["class_thresholds.Ähre"]["value"] == 0.5


def test_what_config_prints_is_a_settings_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--hop-ms", "50", "--name", 'a "b"\\', "--class-threshold", "Ähre=0.5"]) == 0
    path = tmp_path / "mird.toml"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    assert main(["config", "--json", "--config", str(path)]) == 0
    values = {row["setting"]: row["value"] for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert values["hop_ms"] == 50
    assert values["name"] == 'a "b"\\'
    assert values["class_thresholds.Ähre"] == 0.5


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_config_shows_a_name_that_is_no_utf_8_escaped(
    form: list[str], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["config", *form, "--source", os.fsdecode(b"file:b\xffad.wav")]) == 0
    assert rb'"file:b\\udcffad.wav"' in capfdbinary.readouterr().out


@pytest.mark.system
def test_a_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "config"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as messages:
        assert messages.read() == ""
    assert process.wait() == 0


@pytest.mark.system
@pytest.mark.parametrize("command", ["run", "listen", "listen --json", "config", "tag x.wav"])
def test_a_closed_output_is_one_line(command: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {command} >&-', sys.executable, PROGRAM],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == OUTPUT_EXIT_STATUS
    assert done.stderr == "mird: error: standard output is closed: redirect it to a file, or to /dev/null\n"


@pytest.mark.system
def test_what_is_quiet_needs_no_output(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" run --quiet --source "file:$2" >&-', sys.executable, PROGRAM, tmp_path],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert done.stderr == f"mird: error: {tmp_path} is a folder: name one audio file in it\n"


@pytest.mark.system
@pytest.mark.parametrize("options", [["config"], ["classes"], ["tag", "--frames", "--json"]])
def test_a_full_disk_is_one_line(options: list[str], tmp_path: Path) -> None:
    demonstration = [shipped(DEMONSTRATION)] if "tag" in options else []
    environment = {**os.environ, **{f"XDG_{name}_HOME": str(tmp_path) for name in ("DATA", "CONFIG")}}
    environment["XDG_RUNTIME_DIR"] = str(tmp_path)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *options, *demonstration],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=environment,
        )
    assert done.returncode == OUTPUT_EXIT_STATUS
    assert done.stderr == "mird: error: output cannot be written: No space left on device; write it elsewhere\n"


@pytest.mark.system
def test_an_interrupt_exits_with_130(tmp_path: Path) -> None:
    fifo = tmp_path / "mird.toml"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "config", "--config", str(fifo)], stderr=subprocess.PIPE, text=True
    )
    with fifo.open("wb"):  # returns once the command has opened it to read: there it waits for us
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate()
    assert process.returncode == 130
    assert messages == ""


def test_the_readme_has_the_exit_statuses_of_the_help() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    for number, meaning in re.findall(r"^ +(\d+) +(.+)$", EXIT_STATUSES, re.MULTILINE):
        assert f"| {number} | {meaning} |" in readme
