"""From a signal to numbers: extractors, the pipeline a model carries, the cache, standardisation.

>>> from graphophone import features
>>> features.list_extractors('*165')
['functionals165']

An extractor turns one signal into `[frames, dims]` (or, for utterance statistics, `[dims]`); a
:class:`FeaturePipeline` adds decimation and metadata columns and runs over whole corpora, in parallel and
through a :class:`FeatureCache`; a :class:`Standardizer` is fitted on the training part of what comes out.
"""

from __future__ import annotations

from graphophone.features.base import (
    EXTRACTORS,
    Extractor,
    FeatureError,
    create_extractor,
    list_extractors,
)
from graphophone.features.cache import CacheInfo, CacheWarning, FeatureCache
from graphophone.features.pipeline import ExtractionStats, FeaturePipeline, FeatureSet
from graphophone.features.standardize import Standardizer

__all__ = [
    "EXTRACTORS",
    "CacheInfo",
    "CacheWarning",
    "ExtractionStats",
    "Extractor",
    "FeatureCache",
    "FeatureError",
    "FeaturePipeline",
    "FeatureSet",
    "Standardizer",
    "create_extractor",
    "list_extractors",
]
