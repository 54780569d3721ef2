"""Assets of dbt: every model is one, its tests are its checks, all are built by one dbt process.

Which slices wait, and what time itself touches, lib/build.py knows: where nothing waits dbt is not started.
The models are in dbt_project; the manifest and the lineage of columns are made before, by `penguin manifest`, never
while this loads. Unit tests are checks of their model as well, run by the job `rules`: they prove the SQL, not the
data.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject, dbt_assets
from dagster_dbt.asset_utils import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY

from penguin_pipelines.errors import BuildFailed, PenguinError
from penguin_pipelines.lib import build, dbt, lineage
from penguin_pipelines.resources import OWNERS, TierResource, failure
from penguin_pipelines.settings import exported

GROUPS = ("staging", "intermediate", "campaigns", "mailboxes", "billing", "infrastructure", "queue", "operations")

KINDS = {"materialized_view": {"matview"}, "view": {"view"}, "seed": {"seed"}}
STANDING = {"view", "seed"}
"""Kinds that are not built again while their definition is that of the last build."""

OF_DBT = {
    "not_null": "Fails if a value is missing.",
    "unique": "Fails if two rows have the same value.",
    "accepted_values": "Fails if a value is none of those in its name.",
    "relationships": "Warns if a value is not found where it points to.",
}
"""What the tests that come with dbt say of themselves; ours do it in dbt_project."""

# Unit tests prove the SQL, not the data; they have a job of their own.
BUILD = ["build", "--exclude-resource-type", "unit_test"]

# Marts are only built when something touched them, but the nightly run touches the last week of every one.
FRESH = dg.FreshnessPolicy.time_window(warn_window=timedelta(hours=26), fail_window=timedelta(hours=50))


_KEYS: dict[str, dg.AssetKey] = {}
LINEAGE: lineage.Lineage = json.loads(dbt.LINEAGE.read_text())["models"] if dbt.LINEAGE.exists() else {}
ORIGINS = lineage.origins(LINEAGE)


class Translator(DagsterDbtTranslator):
    """How a node of dbt looks to Dagster: a source is the asset that fills it, a model is [layer, model]."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        name = dbt_resource_props["name"]
        if dbt_resource_props["resource_type"] == "source":
            return dg.AssetKey([dbt_resource_props["source_name"], name])
        # The views for tenants bear the names of the views that they show; the alias is that name.
        return dg.AssetKey([_layer(dbt_resource_props), dbt_resource_props.get("alias") or name])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        chosen = super().get_group_name(dbt_resource_props)
        layer = _layer(dbt_resource_props)
        return chosen or (layer if layer in GROUPS else "operations")

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        props = self.get_resource_props(manifest, unique_id)
        if props["resource_type"] == "source":
            return spec
        # Slices and bookmarks steer the build; nobody materializes them.
        deps = [dep for dep in spec.deps if dep.asset_key.path[0] != "ops"]
        kind = KINDS.get(props["config"]["materialized"], set())
        return spec.replace_attributes(
            deps=deps,
            owners=OWNERS,
            kinds={"dbt", "postgres", *kind},
            metadata={**spec.metadata, **self._lineage(manifest, unique_id)},
            freshness_policy=FRESH if _layer(props) == "marts" and not kind else None,
        )

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetCheckSpec | None:
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        return spec and spec._replace(description=_fails_if(manifest, unique_id))

    def _lineage(self, manifest: Mapping[str, Any], unique_id: str) -> dict[str, Any]:
        """What each column is made of: for machines, and as a table, because the UI of plain Dagster draws no graph."""
        columns = LINEAGE.get(unique_id)
        if not columns:
            return {}
        keys = {parent: self._key(manifest, parent) for made_of in columns.values() for parent, _ in made_of}
        graph = {
            column: [dg.TableColumnDep(keys[parent], name) for parent, name in made_of]
            for column, made_of in columns.items()
        }
        table = [
            {
                "column": column,
                "made of": _shown((keys[parent], name) for parent, name in made_of),
                "in the sources": _shown((self._key(manifest, p), name) for p, name in ORIGINS(unique_id, column)),
            }
            for column, made_of in columns.items()
        ]
        return {
            "dagster/column_lineage": dg.TableColumnLineage(graph),
            "columns and what they are made of": dg.MetadataValue.table([dg.TableRecord(row) for row in table]),
        }

    def _key(self, manifest: Mapping[str, Any], unique_id: str) -> dg.AssetKey:
        if unique_id not in _KEYS:
            _KEYS[unique_id] = self.get_asset_key(self.get_resource_props(manifest, unique_id))
        return _KEYS[unique_id]


def _shown(columns: Iterable[tuple[dg.AssetKey, str]]) -> str:
    return ", ".join(sorted(f"{'.'.join(key.path)}.{name}" for key, name in columns))


def _fails_if(manifest: Mapping[str, Any], unique_id: str) -> str:
    """What a test says of itself: in the comment that it opens with, or as the macro that it is made of."""
    props = manifest["nodes"][unique_id]
    generic = props.get("test_metadata")
    if generic:
        return OF_DBT.get(generic["name"]) or manifest["macros"][f"macro.penguin.test_{generic['name']}"]["description"]
    comment = itertools.takewhile(lambda line: line.startswith("--"), props["raw_code"].splitlines())
    return " ".join(line.removeprefix("--").strip() for line in comment if "depends_on" not in line)


def _layer(props: Mapping[str, Any]) -> str:
    """First folder below models/; a seed has none, but the schema of a layer."""
    return props["fqn"][1] if props["resource_type"] == "model" else props["schema"]


def _exposures(manifest: Mapping[str, Any]) -> list[dg.AssetSpec]:
    """Who reads the marts: each exposure of dbt as an asset that nothing here makes, below what it reads."""
    translator = Translator()
    return [
        dg.AssetSpec(
            ["exposures", exposure["name"]],
            deps=[
                translator.get_asset_key(manifest["nodes"][node])
                for node in exposure["depends_on"]["nodes"]
                if node in manifest["nodes"]
            ],
            description=exposure["description"],
            owners=OWNERS,
            group_name="operations",
            kinds={exposure["type"]},
        )
        for exposure in manifest["exposures"].values()
    ]


class Rebuild(dg.Config):
    """What a run of the warehouse builds beside what changes touched."""

    recompute_days: int = 0


def _manifest() -> dict[str, Any]:
    if not dbt.MANIFEST.exists():
        raise BuildFailed(f"There is no dbt manifest at {dbt.MANIFEST}; make it with: penguin manifest")
    return json.loads(dbt.MANIFEST.read_text())


def _require_current_manifest() -> None:
    """dbt reads the models as they are now; one that is not known here would end the run in the middle."""
    stamp = dbt.MANIFEST.with_suffix(".sha256")
    if not stamp.exists() or stamp.read_text() != dbt.fingerprint():
        raise BuildFailed("The dbt project is newer than its manifest; make it anew with: penguin manifest")


MANIFEST = _manifest()
NODES: Mapping[str, Any] = MANIFEST["nodes"]
TOUCHED = {node for node in NODES if NODES[node]["name"] in build.TOUCHED}
exposures = _exposures(MANIFEST)


@dbt_assets(
    manifest=MANIFEST,
    project=DbtProject(dbt.PROJECT),
    name="dbt_warehouse",
    dagster_dbt_translator=Translator(),
    pool="dbt",
)
def dbt_warehouse(
    context: dg.AssetExecutionContext, config: Rebuild, olap: TierResource, dbt_cli: DbtCliResource
) -> Iterator[Any]:
    # A part reads what was touched and leaves it for the others: only a build of everything counts as done.
    part = context.is_subset
    checks = {key: _node(context.assets_def.get_spec_for_check_key(key)) for key in context.selected_asset_check_keys}
    try:
        _require_current_manifest()
        if not context.selected_asset_keys:
            with build.checking(olap.url, home=olap.home) as claim:
                yield from _events(context, dbt_cli, claim, ["test", *_only(checks.values())])
            return
        with build.claimed(olap.url, home=olap.home, part=part, recompute_days=config.recompute_days) as claim:
            if not claim.due:
                context.log.info("nothing touched, dbt not started")
                yield from _as_before(context, checks, "Nothing was touched since the evaluation before.")
            elif part:
                specs = context.assets_def.specs_by_key
                models = {*TOUCHED, *(_node(specs[key]) for key in context.selected_asset_keys)}
                judged = {key: node for key, node in checks.items() if _models_of(node) <= models}
                yield from _events(context, dbt_cli, claim, [*BUILD, *_only([*models, *judged.values()])])
                left = checks.keys() - judged
                yield from _as_before(context, left, "As before: it reads assets that this run did not build.")
            elif claim.views_stand:
                yield from _events(context, dbt_cli, claim, [*BUILD, "--select", " ".join(build.HOLDS_ROWS)])
                yield from _observed(context)
            else:
                yield from _events(context, dbt_cli, claim, BUILD)
            if claim.due:
                yield from _still_proved(context)
    except PenguinError as error:
        raise failure([error]) from error


def _events(
    context: dg.AssetExecutionContext, dbt_cli: DbtCliResource, claim: build.Claim, arguments: Sequence[str]
) -> Iterator[Any]:
    """Runs dbt and tells what it tells of the selected assets and checks. The invocation is given the context when it
    has begun: before, it would choose by itself what dbt builds."""
    with exported(claim.environment):
        invocation = dbt_cli.cli(
            arguments, manifest=MANIFEST, dagster_dbt_translator=Translator(), target_path=claim.target
        )
    invocation.context = context
    wanted = {key.to_python_identifier() for key in context.selected_asset_keys}
    # Columns cost a second in all; their lineage is known from the text of the models.
    for event in invocation.stream().fetch_column_metadata(with_column_lineage=False):
        if not isinstance(event, dg.Output) or event.output_name in wanted:
            yield event


def _node(spec: dg.AssetSpec | dg.AssetCheckSpec) -> str:
    return spec.metadata[DAGSTER_DBT_UNIQUE_ID_METADATA_KEY]


def _models_of(test: str) -> set[str]:
    return {node for node in NODES[test]["depends_on"]["nodes"] if node in NODES}


def _only(nodes: Iterable[str]) -> list[str]:
    """Arguments of dbt for these nodes and no other."""
    return ["--indirect-selection", "empty", "--select", " ".join(sorted(".".join(NODES[n]["fqn"]) for n in nodes))]


def _observed(context: dg.AssetExecutionContext) -> Iterator[dg.AssetObservation]:
    """Not a materialization: nothing was made. A run that planned it and said nothing would leave a reader guessing."""
    for key in sorted(context.selected_asset_keys):
        if STANDING & context.assets_def.specs_by_key[key].kinds:
            yield dg.AssetObservation(key, description="Stands as it was built: its definition has not changed since.")


def _unit_test_keys() -> dict[dg.AssetCheckKey, dbt.UnitTest]:
    return {dg.AssetCheckKey(dg.AssetKey(test.model), test.name): test for test in dbt.unit_tests()}


UNIT_TESTS = _unit_test_keys()


@dg.multi_asset_check(
    name="dbt_unit_tests",
    specs=[
        dg.AssetCheckSpec(key.name, asset=key.asset_key, description=test.description, metadata={"kind": "unit test"})
        for key, test in UNIT_TESTS.items()
    ],
    can_subset=True,
    pool="dbt",
)
def dbt_unit_tests(context: dg.AssetCheckExecutionContext, olap: TierResource) -> Iterator[dg.AssetCheckResult]:
    wanted = [key for key in UNIT_TESTS if key in context.selected_asset_check_keys]
    names = None if len(wanted) == len(UNIT_TESTS) else [key.name for key in wanted]
    try:
        _require_current_manifest()
        proofs = build.prove(olap.url, home=olap.home, names=names, report=context.log.info)
    except PenguinError as error:
        raise failure([error]) from error
    for key in wanted:
        proof = proofs.get(key.name, build.Proof(False, "dbt did not run it.", 0.0))
        yield dg.AssetCheckResult(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=proof.passed,
            description=None if proof.passed else proof.message,
            metadata={"seconds": round(proof.seconds, 2), "project": dbt.fingerprint()},
        )


def _still_proved(context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckEvaluation]:
    """The last outcomes of the unit tests of what was built, while the project is the one that they ran on: new rows do
    not change what the SQL does, and the UI calls a check that is older than its asset not evaluated."""
    project = dg.MetadataValue.text(dbt.fingerprint())
    specs = context.assets_def.specs_by_key
    built = {key for key in context.selected_asset_keys if not STANDING & specs[key].kinds}
    for key in sorted(key for key in UNIT_TESTS if key.asset_key in built):
        last = _last(context, key)
        if last and last.metadata.get("project") == project:
            yield dg.AssetCheckEvaluation(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=last.passed,
                description=last.description or "As before: the models are the same.",
                metadata=last.metadata,
                blocking=False,
            )


def _as_before(
    context: dg.AssetExecutionContext, keys: Iterable[dg.AssetCheckKey], why: str
) -> Iterator[dg.AssetCheckResult]:
    """The last outcome of each check again: the same data give the same result, and a check that a run planned and did
    not evaluate would stand in the UI as not passed."""
    for key in sorted(keys):
        last = _last(context, key)
        if last:
            yield dg.AssetCheckResult(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=last.passed,
                severity=last.severity,
                description=why,
                metadata=last.metadata,
            )


def _last(context: dg.AssetExecutionContext, key: dg.AssetCheckKey) -> dg.AssetCheckEvaluation | None:
    for record in context.instance.event_log_storage.get_asset_check_execution_history(key, limit=5):
        event = record.event.dagster_event if record.event else None
        if event and isinstance(event.event_specific_data, dg.AssetCheckEvaluation):
            return event.event_specific_data
    return None
