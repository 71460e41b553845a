"""The verdicts on mining sets in words, for the page and for the terminal alike."""

from collections.abc import Mapping

from quarry.mining.spec import Verdict

VERDICTS: Mapping[Verdict, str] = {
    "GOOD": "Nothing that was measured speaks against training on it.",
    "LOW_COVERAGE": "There is too little to learn from.",
    "FALSE_NEGATIVES": "Too many of its negatives answer their query.",
    "TOO_NEAR_POSITIVE": "Too many of its negatives say nearly what their positive says.",
    "TOO_EASY": "Too many of its negatives are random.",
    "NO_DATA": "There is nothing to train on.",
}
