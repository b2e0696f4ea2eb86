"""Reports and comparisons of models on sounds: tags, and classes without a validation part."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from graphophone.evaluation.comparison import compare, write_comparison
from graphophone.evaluation.measures import SOUNDS, SPEECH, TAGS, measures_of
from graphophone.evaluation.report import write_report
from graphophone.evaluation.results import ResultsError, RunResults, measures_of_folder

MakeRun = Callable[..., Path]
Check = Callable[[Path], Any]


def test_report_of_tags(make_sound_run: MakeRun, check: Check) -> None:
    folder = make_sound_run(classes=200, items=150, empty=2)
    page = check(write_report(folder))
    results = RunResults.read(folder)
    assert results.summary is not None
    by_hand = []
    for seed in (0, 1):
        table = pd.read_csv(folder / "folds" / f"official-seed{seed}" / "predictions.csv", keep_default_na=False)
        given = [set(cell.split(";")) for cell in table["labels"]]
        y = np.array([[name in tags for name in results.classes[:198]] for tags in given])
        p = table[[f"p_{name}" for name in results.classes[:198]]].to_numpy()
        by_hand.append(average_precision_score(y, p))
    overall = results.summary["map"]
    assert overall["mean"] == pytest.approx(np.mean(by_hand))
    assert (
        f"On FSD50K (51,197 items, 200 tags), LHGNN reaches a mean average precision (mAP) of {overall['mean']:.3f}"
        in page.text
    )
    assert f"95 % interval over 2 seeds {max(overall['low'], 0):.3f} to {min(overall['high'], 1):.3f}" in page.text
    assert "2 classes have no positive test item" in page.text
    assert "sound 198 and sound 199" in page.text
    # Beside the paper: comparable where both are from scratch.
    assert page.row("LHGNN, lhgnn-sounds")[1] == f"{overall['mean']:.3f} ± {overall['sd']:.3f}"
    assert page.row("LHGNN, from scratch")[1] == "0.573"
    assert page.row("LHGNN, from scratch")[-1].endswith("Both are trained from scratch.")
    assert page.row("LHGNN")[-1].startswith("Not comparable.")
    assert "It starts from weights trained on ImageNet; this run is trained from scratch." in page.row("LHGNN")[-1]
    assert page.row("Mean average precision (mAP)")[1] == f"{overall['mean']:.3f}"
    first = results.summary["pooled"]["per_class"][0]
    assert page.row("sound 000")[1] == f"{first['ap']:.3f}"
    assert page.row("sound 000")[-1] == f"{first['support']:,}"
    assert page.row("sound 199")[1:3] == ["–", "–"]
    assert "confusion" not in page.source
    assert "UA" not in page.text.split()
    assert len(page.images) == 4
    for name in ("precision", "support", "thresholds", "curves"):
        assert mpl.image.imread(folder / "figures" / f"{name}.png").size
    assert any("loss and mean average precision (mAP) over epochs" in image for image in page.images)


def test_very_many_tags_with_commas_in_their_names(make_sound_run: MakeRun, check: Check) -> None:
    names = [f"Speech {i:03d}, synthesizer" for i in range(527)]
    folder = make_sound_run(corpus="audioset", classes=names, items=60, seeds=(0,), empty=9)
    page = check(write_report(folder))
    assert "Speech 010, synthesizer; Speech 011, synthesizer and 515 more, all of them in the table" in page.text
    assert "Speech 518, synthesizer; Speech 519, synthesizer" in page.text  # without a positive test item
    cells = [row[1] for row in page.rows if row[:1] and row[0].startswith("Speech ") and len(row) == 7]
    assert len(cells) == 527
    assert cells[:518] == sorted(cells[:518], reverse=True)
    assert cells[518:] == ["–"] * 9
    assert "Every class, best first." in page.text
    assert len(page.source) < 500_000


def test_tags_of_a_folder_without_validation(make_sound_run: MakeRun, check: Check) -> None:
    folder = make_sound_run(
        corpus="folder", classes=["<b>", "c & d", "e"], items=60, folds=2, seeds=(0,),
        validated=False, equal=True, recipe={"training.averaging": "epochs", "training.average_first": 11},
    )  # fmt: skip
    page = check(write_report(folder))
    assert "one seed, so without an interval" in page.text
    assert "No items were held out for validation, so nothing was selected." in page.text
    assert "The weights are the mean of those of epochs 11 to 20." in page.text
    assert "Epoch kept" not in page.text
    assert "Validation" not in page.text
    assert "on validation items" not in page.text
    assert "weights kept" not in page.source
    assert "No result on folder with these classes is known" in page.text
    assert page.row("fold1")[1] == "60"
    assert page.row("<b>")[1] != "–"
    assert "SD over 2 folds" in page.text


def test_ranking_without_an_error_has_no_d_prime(make_sound_run: MakeRun, check: Check) -> None:
    page = check(write_report(make_sound_run(classes=3, items=40, seeds=(0,), skill=40.0, equal=True)))
    assert page.row("Mean average precision (mAP)")[1] == "1.000"
    assert page.row("d′, from the mean area")[1] == "–"
    assert "the ranking has no error" in page.text


def test_classes_of_sounds_without_validation(make_sound_run: MakeRun, check: Check) -> None:
    folder = make_sound_run(
        "esc", kind="classification", corpus="esc50", classes=50, items=100, folds=5, seeds=(0,), validated=False,
        equal=True, recipe={"model.size": "ti"}, run={"model": {"name": "lhgnn", "parameters": 3_100_000}},
    )  # fmt: skip
    page = check(write_report(folder))
    results = RunResults.read(folder)
    assert results.summary is not None
    assert not results.validated
    accuracy = 100 * results.summary["wa"]["mean"]
    assert f"LHGNN reaches an accuracy of {accuracy:.1f} % (one seed, so without an interval). Guessing" in page.text
    assert "weighted accuracy" not in page.text.replace("unweighted", "").replace("Unweighted", "")
    assert "There were no validation items, so nothing was selected. What is tested is the last epoch." in page.text
    assert "speaker" not in page.text.lower()
    assert "voice" not in page.text
    assert page.row("LHGNN")[1] == "96.2 ± 0.3"
    assert page.row("LHGNN")[-1].startswith("Not comparable.")
    assert "31 million parameters there, 3.1 here." in page.row("LHGNN")[-1]
    assert page.rows.index(page.row("LHGNN")) < page.rows.index(page.row("PANN"))  # its own result comes first
    assert page.row("Accuracy")[1] == f"{accuracy:.1f}"
    assert page.row("Mean average precision (mAP)")[1] == f"{results.summary['map']['mean']:.3f}"
    frequent = [row for row in page.rows if row[:1] == ["True class"]]
    assert frequent == [["True class", "Recognised as", "Times", "Of the class, %"]]
    assert "Every class as a table" in page.text


def test_no_figure_of_lhgnn_is_shown_for_esc_10(make_sound_run: MakeRun, check: Check) -> None:
    folder = make_sound_run(
        kind="classification", corpus="esc10", classes=10, items=40, folds=5, seeds=(0,), validated=False, equal=True
    )
    page = check(write_report(folder))
    assert "96.2" not in page.text
    assert "No result of LHGNN on ESC-10 is published" in page.text
    assert page.row("ComParE 2016 functionals (6,373) + linear SVM")[1] == "86.0"
    assert "best comparable result, ComParE" in page.text


def test_a_run_under_way(make_sound_run: MakeRun, check: Check) -> None:
    folder = make_sound_run(classes=4, seeds=(0,), validated=False)
    (folder / "folds" / "official-seed0" / "metrics.json").unlink()
    results = RunResults.read(folder)
    assert results.measures is TAGS
    assert not results.validated  # from the sizes of the parts
    page = check(write_report(folder))
    assert "no training has finished yet" in page.text
    assert any("Learning curves of 1 training: loss" in image for image in page.images)


def test_what_a_run_is_judged_by(make_sound_run: MakeRun, make_run: MakeRun) -> None:
    assert measures_of_folder(make_sound_run("a", classes=2, items=20, seeds=(0,))) is TAGS
    esc = make_sound_run("b", kind="classification", corpus="esc50", classes=2, items=20, seeds=(0,))
    assert measures_of_folder(esc) is SOUNDS
    assert measures_of_folder(make_run(seeds=(0,), folds=1)) is SPEECH
    clips = {"task": {"name": "clip_classification"}}
    assert measures_of({"corpus": {"name": "folder", "speakers": 0}}, clips) is SOUNDS
    assert measures_of({"corpus": {"name": "ravdess", "speakers": 24}}, clips) is SPEECH
    assert measures_of({}, {"task": {"name": "clip_tagging"}}) is TAGS
    assert measures_of({}) is SPEECH


# ---------------------------------------------------------------- several runs


def test_comparison_of_tags(make_sound_run: MakeRun, check: Check, tmp_path: Path) -> None:
    folders = [
        make_sound_run(f"cluster-{name}", classes=8, items=100, skill=skill, recipe={"model.cluster": name})
        for name, skill in (("kmeans", 1.0), ("fcm", 2.5))
    ]
    table = compare(folders)
    assert table.attrs["measures"] is TAGS
    assert table["model.cluster"].tolist() == ["kmeans", "fcm"]
    assert table["map"].is_monotonic_increasing
    assert table["validation_map"].notna().all()
    assert {"mauc", "dprime", "lwlrap", "micro_f1", "macro_f1", "map_sd"} <= set(table)
    assert "ua" not in table
    for folder, row in zip(folders, table.to_dict("records"), strict=True):
        summary = RunResults.read(folder).summary
        assert summary is not None
        assert row["map"] == pytest.approx(summary["map"]["mean"])
    page = check(write_comparison(folders, tmp_path / "clusters.html"))
    assert "Validation items choose cluster = fcm" in page.text
    row = page.row("cluster-kmeans")
    assert row[4] == "0.544"  # Table V
    assert "Table V) are on FSD50K" in page.text
    assert page.row("cluster = fcm")[1].startswith("+0.")


def test_comparison_without_validation_chooses_nothing(make_sound_run: MakeRun, check: Check, tmp_path: Path) -> None:
    folders = [
        make_sound_run(
            f"kernel-{name}", kind="classification", corpus="esc10", classes=10, items=40, folds=5, seeds=(0,),
            validated=False, equal=True, skill=skill, recipe={"model.kernel": name},
        )
        for name, skill in (("local", 0.6), ("higher", 0.3), ("both", 1.2))
    ]  # fmt: skip
    assert compare(folders)["validation_ua"].isna().all()
    page = check(write_comparison(folders, tmp_path / "kernels.html"))
    assert "The highest accuracy on test items" in page.text
    assert "is that of kernel = both. No validation results were kept, so nothing is chosen." in page.text
    assert "shaded" not in page.text
    assert 'class="ours"' not in page.source
    assert "Each run against kernel = local" in page.text
    assert [page.row(f"kernel-{name}")[4] for name in ("local", "higher", "both")] == ["0.531", "0.501", "0.573"]
    assert "Validation" not in page.text.replace("No validation", "")
    held = make_sound_run(
        "kernel-held", kind="classification", corpus="esc10", classes=10, items=40, folds=5, seeds=(0,), equal=True
    )
    page = check(write_comparison([folders[0], held], tmp_path / "mixed.html"))
    assert page.row("kernel-held")[1] == "–"  # its recipe leaves the kernel open
    assert "Not all runs have validation results, so nothing is chosen." in page.text
    assert page.row("kernel-local")[-5] == "–"  # its cell under validation UA


def test_a_setting_that_a_recipe_leaves_open(make_sound_run: MakeRun, check: Check, tmp_path: Path) -> None:
    folders = [
        make_sound_run(f"run-{name}", classes=3, items=30, seeds=(0,), recipe=recipe)
        for name, recipe in (("own", {"model.kernel": "local"}), ("open", {}))
    ]
    page = check(write_comparison(folders, tmp_path / "open.html"))
    assert "kernel = default" in page.text
    assert page.row("run-open")[4] == "0.573"  # the default is the published model


def test_runs_of_two_kinds_are_not_compared(make_sound_run: MakeRun, make_run: MakeRun, tmp_path: Path) -> None:
    tags = make_sound_run("tags", classes=3, items=30, seeds=(0,))
    labels = make_run("labels", seeds=(0,), folds=1)
    for order in ([tags, labels], [labels, tags]):
        with pytest.raises(ResultsError, match=r"tags gives tags and .*labels one label per item") as error:
            compare(order)
        assert "\n" not in str(error.value)
    with pytest.raises(ResultsError, match="one kind"):
        write_comparison([tags, labels], tmp_path)
    sounds = make_sound_run("sounds", kind="classification", corpus="esc10", classes=4, items=20, seeds=(0,))
    assert compare([sounds, labels]).attrs["measures"] is SPEECH


def test_old_metrics_without_a_kind_are_read(make_run: MakeRun) -> None:
    folder = make_run(seeds=(0,), folds=1)
    path = folder / "folds" / "fold0-seed0" / "metrics.json"
    metrics = json.loads(path.read_text("utf-8"))
    for key in ("kind", "map", "mauc"):
        del metrics[key]
    path.write_text(json.dumps(metrics), "utf-8")
    assert compare([folder])["map"].notna().all()  # made anew from the predictions
