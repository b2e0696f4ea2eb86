"""CMU-MOSI: opinions on films, said into a camera (Zadeh et al., 2016), with ready vectors of three modalities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from graphophone.corpora.base import Corpus, CorpusError, corpus_folder
from graphophone.corpora.given import Given
from graphophone.corpora.table import read_table
from graphophone.corpora.vectors import choose_modalities, read_vectors
from graphophone.modalities import MODALITIES

CLASSES = ("negative", "positive")
"""Names of the labels 0 and 1 of the table."""
TABLE, VECTORS = "utterances.csv", "features.npz"
_COLUMNS = ("utterance", "video", "position", "split", "text", "label")


def load(root: Path, *, modalities: Sequence[str] | str = MODALITIES) -> Corpus:
    """CMU-MOSI: utterances of opinion videos, negative or positive, as ready vectors with transcripts.

    There are no recordings: vectors of text (convolutional, 100 numbers), audio (openSMILE functionals, 73) and video
    (3D convolutional, 100) as Poria et al. (2017) made them are given, and `given` is the extractor for them. ``split``
    is the published one, 62 videos for training and 31 for testing; a validation part is carved by the protocol
    ``official`` out of whole training videos. Every video has one speaker, but who is seen in several is not told:
    there is no column ``speaker``. Further columns: ``dialogue`` (the video), ``position`` (from 1), ``node``.

    Args:
        root: Folder with ``utterances.csv`` (utterance, video, position, split, text, label) and ``features.npz`` (an
            array ``[utterances, numbers]`` per modality, row by row).
        modalities: Which vectors to take: any of text, audio, video, as a list or with commas between.

    Raises:
        CorpusError: If a file is missing or damaged, or they do not belong together.
    """
    folder = corpus_folder(root, "mosi")
    wanted = choose_modalities("mosi", modalities)
    for name in (TABLE, VECTORS):
        if not (folder / name).is_file():
            raise CorpusError(f"corpus 'mosi': {folder / name} is not there; give the folder that holds it as root")
    frame, rows, problems = read_table(folder / TABLE)
    if problems:  # a row less, and all that follow have the vectors of their neighbours
        raise CorpusError(f"{folder / TABLE}: {problems[0]}")
    missing = [column for column in _COLUMNS if column not in frame]
    if missing:
        raise CorpusError(f"{folder / TABLE}: no column {missing[0]!r}; it needs {', '.join(_COLUMNS)}")
    vectors = read_vectors(folder / VECTORS, len(frame), wanted)
    names = dict(enumerate(CLASSES))
    table = pd.DataFrame(
        {
            "id": frame["utterance"],
            "text": frame["text"],
            "label": frame["label"].map({str(number): name for number, name in names.items()}).fillna(frame["label"]),
            "dialogue": frame["video"],
            "position": frame["position"],
            "split": frame["split"],
            "node": np.arange(len(frame)),
        }
    )
    return Corpus.from_table(
        table,
        name="mosi",
        classes=CLASSES,
        rows=rows,
        languages=("en",),
        licence="for research",
        url="http://multicomp.cs.cmu.edu/resources/cmu-mosi-dataset/",
        citation=(
            "A. Zadeh, R. Zellers, E. Pincus, L.-P. Morency: MOSI: multimodal corpus of sentiment intensity and "
            "subjectivity analysis in online opinion videos. arXiv:1606.06259, 2016. Vectors: S. Poria, E. Cambria, "
            "D. Hazarika, N. Mazumder, A. Zadeh, L.-P. Morency: Context-dependent sentiment analysis in user-generated "
            "videos. ACL 2017, 873-883. https://doi.org/10.18653/v1/P17-1081"
        ),
        given=Given.side_by_side(vectors),
    )
