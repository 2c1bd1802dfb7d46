"""The Dag file as Airflow reads it, and runs that deliver, find nothing, and are told off by a receiver."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dags.reading import read_by_airflow
from tests.exchange.conftest import Exchange, exchange
from tests.exchange.hl7_receiver import acknowledged
from tests.monitoring.webhook import listening

__all__ = ["exchange"]

PARSED = """
import json, os, sys
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(Path(sys.argv[1]).parent)
without = bag.dags["send_results"]
os.environ["BLOODCELL_EXCHANGE_FILE"] = sys.argv[1]
dag = DagBag(Path(sys.argv[1]).parent).dags["send_results"]
(task,) = dag.tasks
print(json.dumps({
    "errors": bag.import_errors,
    "schedules": [dag.timetable.expression, type(without.timetable).__name__],
    "runs": [dag.catchup, dag.max_active_runs],
    "doc": dag.doc_md,
    "task": [task.task_id, task.pool, task.queue, task.retries, type(task.on_failure_callback[0]).__name__],
}))
"""

RUN = """
import json, sys
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
dag = DagBag(Path(sys.argv[1]).parent).dags["send_results"]
ended = []
for _ in range(int(__import__("os").environ["RUNS"])):
    run = dag.test(run_after=None, use_executor=False)
    ended += [str(ti.state) for ti in run.get_task_instances()]
print(json.dumps(ended))
"""


def test_the_file_parses_to_one_task_every_minute_if_there_is_an_exchange_file(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    parsed = read_by_airflow("send_results", tmp_path_factory.mktemp("airflow"), PARSED)
    assert {path for path in parsed["errors"] if path.endswith("send_results.py")} == set()
    assert "Doing it again is safe" in parsed["doc"]
    assert parsed["schedules"] == ["* * * * *", "NullTimetable"]
    assert (parsed["runs"], parsed["task"]) == ([False, 1], ["send", "default_pool", "default", 0, "AlarmNotifier"])


def test_runs_deliver_then_find_nothing_and_a_rejection_raises_the_alarm(
    exchange: Exchange, airflow_home: Path
) -> None:
    variables = exchange.settings.as_variables()
    exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    assert read_by_airflow("send_results", airflow_home, RUN, RUNS="2", **variables) == ["success", "skipped"]
    assert len(exchange.receiver.received) == 1
    exchange.slide("S-2")
    exchange.laboratory.sign("S-2", 1)
    exchange.receiver.answer = lambda message: [acknowledged(message, "AE", "unknown order")]
    with listening() as webhook:
        variables["BLOODCELL_ALARM_URL"] = webhook.url
        assert read_by_airflow("send_results", airflow_home, RUN, RUNS="1", **variables) == ["failed"]
    (message,) = webhook.messages
    assert message["reason"].startswith("lis: 0 messages delivered, 1 rejected. A person has to look at what was")
