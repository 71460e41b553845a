"""Thresholds are chosen on an audited sample, or refused with the sample that is needed."""

import pytest
from tests.unit.miner.mining.seeded import seeded_queries, seeded_texts, task_of

from quarry.errors import FailedPreconditionError, InvalidArgumentError
from quarry.mining.spec import JudgedQuery
from quarry_miner.mining.threshold_calibration import PATHS, Calibrated, calibrate
from quarry_miner.presets.registry import PRESETS, make_preset
from quarry_miner.report.false_negatives import count_needed_draws


def audited(count: int, twins: int) -> tuple[dict[str, str], list[JudgedQuery]]:
    """Queries whose relevant documents are one another's near copies."""
    texts = seeded_texts(300)
    sample = []
    for id, (text, (relevant,)) in seeded_queries(texts, count).items():
        ids = [relevant]
        for number in range(twins):
            ids.append(f"{relevant}-{number}")
            texts[ids[-1]] = f"{texts[relevant]} {text.split()[number % 3]}"
        sample.append(JudgedQuery(id=id, text=text, judgments=dict.fromkeys(ids, 1)))
    return texts, sample


def calibrated(preset: str, count: int, twins: int, target: float, **fixed: float) -> Calibrated:
    texts, sample = audited(count, twins)
    task = task_of(texts, {query.id: (query.text, list(query.judgments)) for query in sample})
    return calibrate(task, preset, fixed, 5, 0, sample, target)


def test_the_upper_bound_at_the_chosen_setting_is_at_most_the_target() -> None:
    found = calibrated("perc-pos", 60, 2, 0.15)
    assert found.found.upper <= 0.15
    assert found.parameters["share"] < 1.0
    assert make_preset("perc-pos", found.parameters)


def test_the_next_looser_setting_would_be_over_the_target() -> None:
    found = calibrated("perc-pos", 60, 2, 0.15)
    told = [step.found.upper for step in found.steps if step.found]
    assert told[-1] > 0.15
    assert all(upper <= 0.15 for upper in told[:-1])


def test_with_no_other_relevant_document_the_loosest_setting_is_taken() -> None:
    found = calibrated("perc-pos", 60, 0, 0.1)
    assert found.parameters == {"share": 1.0}
    assert found.found.share == 0.0


def test_a_constant_that_was_asked_for_stays() -> None:
    assert "share" not in calibrated("semi-hard", 60, 0, 0.1, share=0.9).parameters
    with pytest.raises(InvalidArgumentError, match="no threshold to choose"):
        calibrated("perc-pos", 60, 0, 0.1, share=0.9)


def test_a_sample_that_is_too_small_is_refused_with_the_size_needed() -> None:
    with pytest.raises(FailedPreconditionError, match="too small") as refused:
        calibrated("perc-pos", 2, 0, 0.1)
    assert int(refused.value.metadata["needed_negatives"]) == count_needed_draws(0.1) == 35
    assert int(refused.value.metadata["needed_queries"]) > 2


def test_a_target_that_no_setting_reaches_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PATHS, "topk-abs", {"ceiling": (0.999, 1.0)})  # type: ignore[arg-type]
    with pytest.raises(FailedPreconditionError, match="strictest setting"):
        calibrated("topk-abs", 60, 3, 0.02)


def test_a_preset_without_thresholds_says_which_have_some() -> None:
    with pytest.raises(InvalidArgumentError, match="perc-pos"):
        calibrated("random", 10, 0, 0.1)


def test_every_path_leads_over_constants_of_its_preset() -> None:
    for name, path in PATHS.items():
        for constant, ends in path.items():
            for value in ends:
                assert getattr(make_preset(name, {constant: value}), constant) == value
        assert name in PRESETS
