"""The outcomes of a turn in words, for its page and for the terminal alike."""

from quarry.training.loop_spec import LoopOutcome


def describe_outcome(outcome: LoopOutcome, model: str, compared_with: str, model_verdict: str) -> str:
    """Describes the outcome in a sentence, for whoever reads nothing else.

    Args:
        compared_with: what served before; empty: no re-ranker.
        model_verdict: of the model; empty if there is none.
    """
    before = compared_with or "the order without a re-ranker"
    match outcome:
        case "PROMOTED":
            return f"{model} is better than {before}, and serves now."
        case "IMPROVED_NOT_PROMOTED":
            return f"{model} is better than {before}, and waits to be promoted."
        case "NOT_BETTER" if model_verdict == "REGRESSED":
            return f"{model} is worse than {before}; nothing has changed."
        case "NOT_BETTER" if model_verdict == "INSUFFICIENT_DATA":
            return f"Nobody can tell yet whether {model} is better than {before}; nothing has changed."
        case "NOT_BETTER":
            return f"{model} is not proven better than {before}; nothing has changed."
        case "BAD_EXAMPLES":
            return "What was mined is not to be trained on; nothing has changed."
        case "NOT_ENOUGH_FEEDBACK":
            return "There is too little new feedback; nothing was done."
        case "FAILED":
            return "The turn did not come to its end; nothing has changed."


def describe_next_command(outcome: LoopOutcome, collection: str, model: str) -> str:
    """Describes the command to type next, which stands between backticks."""
    match outcome:
        case "PROMOTED":
            return f"{model} serves; `quarry model rollback {collection}` takes it back"
        case "IMPROVED_NOT_PROMOTED":
            return f"`quarry model promote {model}` makes it serve"
        case "NOT_BETTER":
            return f"when more feedback has come, type `quarry loop {collection} --once`"
        case "BAD_EXAMPLES":
            mine = f"quarry mine {collection} --from-feedback --out examples.parquet --report examples.html"
            return f"`{mine}` shows what is wrong with the examples"
        case "NOT_ENOUGH_FEEDBACK":
            return f"`quarry loop {collection} --once --force` turns all the same"
        case "FAILED":
            return f"`quarry loop {collection} --once` goes on with it, or begins it anew"
