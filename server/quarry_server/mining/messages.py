"""The answers of mining jobs, as messages."""

from quarry.mining.estimate import RelevanceReport
from quarry.mining.spec import MiningSummary
from quarry.v1 import mining_service_pb2 as pb
from quarry_server.common.values import to_timestamp

_CLICK_MODELS = {
    "ctr": pb.CLICK_MODEL_CTR,
    "coec": pb.CLICK_MODEL_COEC,
    "sdbn": pb.CLICK_MODEL_SDBN,
    "pbm": pb.CLICK_MODEL_PBM,
    "ubm": pb.CLICK_MODEL_UBM,
    "affine": pb.CLICK_MODEL_AFFINE,
}
_VERDICTS = {
    "GOOD": pb.MINING_VERDICT_GOOD,
    "LOW_COVERAGE": pb.MINING_VERDICT_LOW_COVERAGE,
    "FALSE_NEGATIVES": pb.MINING_VERDICT_FALSE_NEGATIVES,
    "TOO_NEAR_POSITIVE": pb.MINING_VERDICT_TOO_NEAR_POSITIVE,
    "TOO_EASY": pb.MINING_VERDICT_TOO_EASY,
    "NO_DATA": pb.MINING_VERDICT_NO_DATA,
}


def to_set_message(summary: MiningSummary, report: str = "") -> pb.MiningSet:
    return pb.MiningSet(
        name=summary.name,
        collection=summary.collection,
        preset=summary.preset,
        create_time=to_timestamp(summary.create_time_us),
        verdict=_VERDICTS[summary.verdict],
        advice=summary.advice,
        pairs=summary.pairs,
        coverage=summary.coverage,
        rows=summary.rows,
        false_negatives=summary.false_negatives,
        false_negatives_lower=summary.false_negatives_lower,
        false_negatives_upper=summary.false_negatives_upper,
        rungs=summary.rungs,
        members=summary.members,
        simulated=summary.simulated,
        report_json=report,
        data_hash=summary.data_hash,
    )


def to_relevance_message(report: RelevanceReport) -> pb.EstimateRelevanceResponse:
    return pb.EstimateRelevanceResponse(
        model=_CLICK_MODELS[report.model],
        impressions=report.impressions,
        clicks=report.clicks,
        simulated=report.simulated,
        examination=[pb.RankEstimate(**one.model_dump()) for one in report.examination],
        estimates=[pb.RelevanceEstimate(**one.model_dump()) for one in report.estimates],
        log_likelihood=report.log_likelihood,
        perplexity=[pb.RankPerplexity(rank=r, perplexity=p) for r, p in sorted(report.perplexity.items())],
        agreement=report.agreement,
        agreement_pairs=report.agreement_pairs,
        notes=report.notes,
    )
