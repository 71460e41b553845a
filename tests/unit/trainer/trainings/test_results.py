"""What a training writes down of what it rests on."""

from tests.unit.training.samples import spec

from quarry.training.spec import ModelRef
from quarry_trainer.data.dataset import BadExamplesError, Examples
from quarry_trainer.data.drop_reasons import DropReason
from quarry_trainer.trainings.results import refuse


def test_a_result_says_whose_feedback_and_which_teacher_it_learned_from() -> None:
    """Or a purge of that feedback would not name what learned from it."""
    asked = spec(teacher=ModelRef(name="faq@1", folder="/models/1"))
    made = refuse(asked, BadExamplesError("none"), 0.0, Examples((), False, "h", (100, 200)))
    assert (made.feedback_start_us, made.feedback_end_us, made.teacher) == (100, 200, "faq@1")
    judged = refuse(spec(), BadExamplesError("none"), 0.0, Examples((), False, "h"))
    assert (judged.feedback_start_us, judged.feedback_end_us, judged.teacher) == (None, None, "")


def test_what_was_dropped_is_in_the_details_and_in_the_advice() -> None:
    examples = Examples((), False, "h")
    assert "dropped" not in refuse(spec(), BadExamplesError("none"), 0.0, examples).evaluation.details
    examples.dropped.add(DropReason.UNKNOWN_POSITIVE, "q1", "d7")
    report = refuse(spec(), BadExamplesError("none"), 0.0, examples).evaluation
    assert report.details["dropped"] == {"unknown_positive": {"count": 1, "examples": ["q1/d7"]}}
    assert report.advice[1] == (
        "of the examples these were not learned from: 1 groups whose positive the collection lacks (q1/d7)"
    )
