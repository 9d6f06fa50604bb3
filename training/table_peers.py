"""Other networks in the paper's tables: their vectors of the same clips answer the same tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mird.training.baselines import Peers
from mird.training.contenders import SAME_INSTRUMENT
from mird.training.errors import TrainingError
from mird.training.features import MFCC, relative
from mird.training.fit import fit_whitening
from mird.training.manifest import Recording
from mird.training.measure import PEER_SHRINKAGE, WHITENED
from mird.training.protocol import Outcome, cosine_score, run_rounds


class TablePeers:
    """Compared by cosine, standardised and whitened on every instrument that a cell does not test.

    Parameters
    ----------
    peers : Peers
    folder : Path
        What the paths of ``peers`` are relative to.
    recordings : sequence of Recording
        Of all classes.

    Attributes
    ----------
    names : tuple of str
    digests : dict by name of str
        Of each network's vectors.

    Raises
    ------
    TrainingError
        If there is no network.
    """

    def __init__(self, peers: Peers, folder: Path, recordings: Sequence[Recording]) -> None:
        # MFCC statistics are in every table already.
        self.names = tuple(name for name in peers.names if name != MFCC)
        if not self.names:
            raise TrainingError(f"--peers: no network in it; there is {', '.join(peers.names) or 'nothing'} alone")
        self._peers, self._folder = peers, folder
        self.digests = {name: self._digest(name) for name in self.names}
        self._pool = [row for row in dict.fromkeys(recordings) if row.is_instrument]

    def outcomes(
        self, tasks: NDArray[np.int64], recordings: Sequence[Recording], testing: Sequence[str], n_rounds: int
    ) -> Mapping[str, Outcome]:
        """What every system makes of tasks, whose numbers, shape (n, 3), are of ``recordings``.

        Raises
        ------
        TrainingError
            If a network has no vector of a clip that is asked for, or of too few to be standardised on.
        """
        known = [row for row in self._pool if SAME_INSTRUMENT.get(row.label, row.label) not in testing]
        used = sorted({int(i) for i in tasks.ravel()})
        found = {}
        for name in self.names:
            pool = [(row, vector) for row in known if (vector := self._vector(row, name)) is not None]
            if len(pool) < 2:
                raise TrainingError(f"peer {name}: has vectors of {len(pool)} clips of instruments that are not tested")
            fitted = np.stack([vector for _, vector in pool])
            mean, deviation = fitted.mean(0), fitted.std(0) + 1e-6
            labels, sources = [row.label for row, _ in pool], [row.source for row, _ in pool]
            whitening = fit_whitening(fitted, labels, sources, PEER_SHRINKAGE)
            asked = np.zeros((len(recordings), fitted.shape[1]), np.float32)
            for i in used:
                vector = self._vector(recordings[i], name)
                if vector is None:
                    raise TrainingError(
                        f"peer {name}: has no vector of {recordings[i].path}; leave out --peers, or give what it has "
                        "not heard with --rendered, which is for training alone"
                    )
                asked[i] = vector
            found[name] = run_rounds(tasks, cosine_score((asked - mean) / deviation), n_rounds)
            white = np.zeros((len(recordings), whitening.matrix.shape[1]), np.float32)
            white[used] = whitening.apply(asked[used])
            found[name + WHITENED] = run_rounds(tasks, cosine_score(white), n_rounds)
        return found

    def _vector(self, recording: Recording, name: str) -> NDArray[np.float32] | None:
        """Of the first window that the network was given of a recording."""
        path = relative(recording.path, self._folder)
        start = min(self._peers.starts.get(path, (0,)))
        return self._peers.vectors.get((path, start), {}).get(name)

    def _digest(self, name: str) -> str:
        found = hashlib.sha256()
        for key in sorted(self._peers.vectors):
            vector = self._peers.vectors[key].get(name)
            if vector is not None:
                found.update(repr(key).encode() + vector.tobytes())
        return found.hexdigest()[:16]
