"""Give a finished engine a background that knows more: speech and hum, embedded by the engine itself.

usage: python -m mird.training.background ENGINE.onnx OUT.onnx

`mird train` makes the same background where it fits an encoder; this is for an engine that was trained before it did.
Weights, fingerprint, head and threshold stay: support sets go on to fit.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from mird.kernels.encoder import open_encoder
from mird.kernels.recognizer import Recognizer
from mird.training.export import write_card
from mird.training.fit import representatives
from mird.training.fitting import MADE_NOISES, MADE_SPEECH
from mird.training.noises import made_noises
from mird.training.speech import made_speech

BATCH = 16


def extend(engine: Path, out: Path, seed: int = 0) -> int:
    """Write the engine with a larger background.

    Returns
    -------
    int
        Vectors of the background now.

    Raises
    ------
    EngineError
        `engine` is no encoder of mird's.
    TrainingError
        `out` cannot be written.
    """
    recognizer = Recognizer(open_encoder(engine))
    front_end = recognizer.card.front_end
    rng = np.random.default_rng(seed)
    sounds = [
        made_noises(rng, MADE_NOISES, front_end.window, front_end.rate_hz)["hum"],
        made_speech(rng, MADE_SPEECH, front_end.window, front_end.rate_hz),
    ]
    known = [recognizer.card.background]
    for windows in filter(len, sounds):
        parts = np.array_split(windows, max(1, len(windows) // BATCH))
        known.append(representatives(np.concatenate([recognizer.embed(part) for part in parts])))
    background = np.concatenate(known)
    write_card(onnx.load(str(engine)), replace(recognizer.card, background=background), out)
    return len(background)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    sys.stdout.write(f"{target}: {extend(source, target)} background vectors\n")
