"""Opening a recording: names that are no text, and formats without a header."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mird.daemon.errors import SourceError
from mird.daemon.recording import open_recording, read_blocks

RATE_HZ = 44_100
NO_TEXT = os.fsdecode(b"b\xffad.wav")


def test_a_name_that_is_no_utf_8_is_opened_and_can_be_said(tmp_path: Path) -> None:
    tone = 0.1 * np.sin(np.arange(RATE_HZ, dtype=np.float32))
    soundfile.write(tmp_path / "good.wav", tone, RATE_HZ, subtype="FLOAT")
    (tmp_path / "good.wav").rename(tmp_path / NO_TEXT)
    with open_recording(tmp_path / NO_TEXT) as recording:
        assert recording.frames == RATE_HZ
        with pytest.raises(SourceError, match=r"b\\udcffad.wav is cut short") as caught:
            list(read_blocks(recording, RATE_HZ, 0, RATE_HZ + 1))
    str(caught.value).encode()
    with pytest.raises(SourceError, match="does not exist") as caught:
        open_recording(tmp_path / f"no{NO_TEXT}")
    str(caught.value).encode()


def test_a_format_without_a_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.raw").write_bytes(bytes(RATE_HZ))
    with pytest.raises(SourceError, match=r"x\.raw has no header that tells its rate"):
        open_recording(tmp_path / "x.raw")
