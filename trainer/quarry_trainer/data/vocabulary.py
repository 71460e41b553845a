"""Checks that a teacher knows the language of the texts: its scores of others are noise."""

from collections.abc import Sequence

from quarry.models.tokenization import TextTokenizer
from quarry_trainer.data.dataset import TextGroup
from quarry_trainer.data.example_rows import BadExamplesError

MOST_UNKNOWN = 0.5
"""Of the characters. Where a teacher reads less than half of a text, its scores are about something else."""


def check_vocabulary(groups: Sequence[TextGroup], tokenizer: TextTokenizer) -> None:
    """Checks the queries and passages of the groups, each distinct text once, by a teacher's tokenizer.

    Raises:
        BadExamplesError: over ``MOST_UNKNOWN`` of them is unknown to it.
    """
    texts = dict.fromkeys(text for group in groups for text in (group.query, *group.passages))
    share = tokenizer.measure_unknown_share(list(texts))
    if share > MOST_UNKNOWN:
        raise BadExamplesError(
            f"the teacher's vocabulary lacks {share:.0%} of the text of the queries and passages, over "
            f"{MOST_UNKNOWN:.0%}: it was made for another language, and its scores would teach noise"
        )
