"""The filter on stderr: the libraries' noise is kept back, everything else passes at once."""

import os
import subprocess
import sys
import time

import pytest

from mird.daemon.stderr_filter import StderrFilter


def test_noise_is_kept_back_and_the_rest_passes(capfd: pytest.CaptureFixture[str]) -> None:
    with StderrFilter() as noise:
        os.write(2, b"ALSA lib pcm.c:2666:(snd_pcm_open_noupdate) Unknown PCM front\n")
        os.write(2, b"mird: warning: of ours\n")
        os.write(2, b"jack server is not running or cannot be started\n\n")
        os.write(2, b"Expression 'ret' failed in 'src/hostapi/alsa/pa_linux_alsa.c', line: 3665\n")
        os.write(2, b"a line without an end")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "mird: warning: of ours\na line without an end\nafter\n"
    assert len(noise.lines) == 3
    assert noise.lines[0].endswith("Unknown PCM front")


def test_other_threads_lines_do_not_wait_for_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    with StderrFilter():
        os.write(2, b"now\n")
        deadline_s = time.monotonic() + 5.0
        while "now\n" not in capfd.readouterr().err:
            assert time.monotonic() < deadline_s
            time.sleep(0.005)


def test_a_process_that_outlives_the_filter_does_not_hold_it() -> None:
    with StderrFilter():
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert child.poll() is None
    child.communicate(b"\n")


def test_no_descriptor_stays_open_and_a_closed_stderr_is_no_error() -> None:
    script = (
        "import os\n"
        "from mird.daemon.stderr_filter import StderrFilter\n"
        "before = os.listdir('/proc/self/fd')\n"
        "with StderrFilter(): os.write(2, b'ALSA lib x\\n')\n"
        "assert len(os.listdir('/proc/self/fd')) == len(before)\n"
        "os.close(2)\n"
        "with StderrFilter() as noise: pass\n"
        "assert noise.lines == []\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
