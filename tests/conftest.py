"""What every test shares: one thread, and the folder of real corpora where there is one."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
settings.register_profile(
    "graphophone", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("graphophone")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("GRAPHOPHONE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real corpora; the test is skipped where GRAPHOPHONE_DATA names none."""
    folder = os.environ.get("GRAPHOPHONE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("GRAPHOPHONE_DATA names no folder of real corpora")
    return Path(folder)
