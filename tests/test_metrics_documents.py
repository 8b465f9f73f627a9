"""What documents, panels and rules name is what a daemon exports."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from blixard.metrics.catalog import GROUPS, METRICS, Metric

DOCS = Path(__file__).parents[1] / "docs"
NAME = re.compile(r"\bblixard_[a-z_]+")
TABLE = re.compile(r"(<!-- metrics -->\n).*(<!-- end -->)", re.DOTALL)


def series(metric: Metric) -> set[str]:
    """The names under which Prometheus keeps a metric."""
    if metric.kind != "histogram":
        return {metric.name}
    return {f"{metric.name}_{part}" for part in ("bucket", "sum", "count")}


PROMTOOL = Path("/opt/blixard/promtool")
EXPORTED = {name for metric in METRICS.values() for name in series(metric)}


def table() -> str:
    parts = []
    for group, metrics in GROUPS.items():
        rows = [f"| `{named(each)}` | {each.kind} | {told(each)} |" for each in metrics]
        parts += [f"### {group}", "", "| metric | kind | meaning |", "|---|---|---|", *rows, ""]
    return "\n".join(parts)


def named(metric: Metric) -> str:
    return metric.name + (f"{{{', '.join(metric.labels)}}}" if metric.labels else "")


def told(metric: Metric) -> str:
    return metric.means + (" (by the leader)" if metric.leader_only else "")


def test_every_metric_is_documented() -> None:
    page = (DOCS / "metrics.md").read_text()
    assert TABLE.search(page)
    assert table() in page


def test_documents_panels_and_rules_name_only_what_is_exported() -> None:
    files = sorted(DOCS.glob("monitoring/*"))
    assert len(files) == 3
    for path in files:
        found = set(NAME.findall(path.read_text()))
        assert found
        assert found <= EXPORTED, path.name
    assert set(NAME.findall((DOCS / "metrics.md").read_text())) <= EXPORTED | set(METRICS)


def test_every_panel_has_a_place_and_a_query() -> None:
    panels = json.loads((DOCS / "monitoring/dashboard.json").read_text())["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels) >= 14
    assert all(target["expr"] for panel in panels for target in panel["targets"])


@pytest.mark.skipif(not PROMTOOL.exists(), reason="make test unpacks it")
def test_every_rule_speaks_when_it_shall() -> None:
    rules = DOCS / "monitoring/alerts_test.yml"
    tried = set(re.findall(r"alertname: (\w+)", rules.read_text()))
    assert tried == set(re.findall(r"alert: (\w+)", (DOCS / "monitoring/alerts.yml").read_text()))
    ended = subprocess.run(
        [PROMTOOL, "test", "rules", rules], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
