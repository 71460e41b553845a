"""What earlier versions wrote under other names is read as what it was."""

from pathlib import Path

import alembic.command
import alembic.config
import sqlalchemy as sa
from tests.unit.registry.small import RESULT
from tests.unit.training.loops import loop_report

from quarry.documents.tables import MIGRATIONS, connect_database, migrate
from quarry.registry.serving import read_history
from quarry.training.loop_spec import LoopReport, VerdictEvidence
from quarry.training.spec import TrainingResult


def test_a_result_says_what_kind_of_model_came_of_it() -> None:
    former = RESULT.model_dump(mode="json")
    former["what"] = former.pop("kind")
    assert TrainingResult.model_validate(former) == RESULT


def test_a_report_of_the_loop_says_how_often_its_evidence_had_decided() -> None:
    report = loop_report("one", evidence=VerdictEvidence(queries=40, earlier_decisions=3))
    former = report.model_dump(mode="json")
    former["evidence"]["spent"] = former["evidence"].pop("earlier_decisions")
    assert LoopReport.model_validate(former) == report


def test_promotions_keep_their_kind(tmp_path: Path) -> None:
    engine = connect_database(tmp_path / "documents.db")
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0008")
        for model, what in (("faq@1", "reranker"), ("faq/ranking@1", "ranking")):
            connection.execute(
                sa.text(
                    "INSERT INTO promotions (collection_id, model, previous, rollback, promoted_by, reason, "
                    "time_us, what) VALUES (1, :model, '', 0, '', '', 0, :what)"
                ),
                {"model": model, "what": what},
            )
    migrate(engine)
    with engine.begin() as connection:
        assert [row.model for row in read_history(connection, 1)] == ["faq@1"]
        assert [row.model for row in read_history(connection, 1, "ranking")] == ["faq/ranking@1"]
        config.attributes["connection"] = connection
        alembic.command.downgrade(config, "0008")
    engine.dispose()
