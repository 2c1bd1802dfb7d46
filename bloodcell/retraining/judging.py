"""The models of a validation run over the same cells, and each candidate is judged by its gates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bloodcell.evaluation.comparison_records import Predictions
from bloodcell.evaluation.model_comparison import compare
from bloodcell.inference.model_output import calls_of
from bloodcell.registry.bundle import images_of
from bloodcell.registry.registered_models import open_registered
from bloodcell.retraining.gates import judge_gates
from bloodcell.retraining.holdout_cells import holdout_cells, n_attempts
from bloodcell.retraining.validation_page import ValidationFacts
from bloodcell.retraining.validation_summary import summary_markdown
from bloodcell.storage.runs import code_version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bloodcell.evaluation.comparison_records import Comparison, Role
    from bloodcell.inference.model_output import ModelOutput
    from bloodcell.registry.bundle import Bundle
    from bloodcell.registry.promotion_proof import Gate
    from bloodcell.retraining.holdout_cells import HoldoutCells
    from bloodcell.retraining.validation_plan import ValidationPlan
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database
    from bloodcell.storage.store import Store


@dataclass(frozen=True, slots=True)
class Judgement:
    """A candidate, compared and judged.

    Attributes:
        model_id: The candidate.
        variant: Its variant.
        comparison: Its figures beside those of the champion and the challengers.
        gates: Its gates, judged.
        facts: Where the candidate comes from.
    """

    model_id: str
    variant: str
    comparison: Comparison
    gates: tuple[Gate, ...]
    facts: ValidationFacts

    @property
    def summary(self) -> str:
        """The judgement in a screenful of Markdown."""
        return summary_markdown(self.comparison, self.gates, self.facts)


def judge_candidates(
    database: Database,
    store: Store,
    settings: Settings,
    plan: ValidationPlan,
    on_progress: Callable[[int, int], None] | None,
) -> list[Judgement]:
    """Returns each candidate's judgement; every image is decoded once for all models.

    Raises:
        BundleError: A bundle is missing, incomplete or altered.
        StoreUnavailableError: Images cannot be read.
    """
    bundles = {model_id: open_registered(store, model_id) for model_id in plan.model_ids}
    trained_on = images_of(*bundles.values())
    cells = database.transact(lambda c: holdout_cells(c, plan.dataset_digest, trained_on))
    n_earlier = database.transact(lambda c: n_attempts(c, plan.dataset_digest, plan.candidates))
    outputs = outputs_of(bundles, cells, store, settings, on_progress)
    return [_judge(settings, plan, candidate, cells, n_earlier, bundles, outputs) for candidate in plan.candidates]


def _judge(
    settings: Settings,
    plan: ValidationPlan,
    candidate: str,
    cells: HoldoutCells,
    n_earlier: int,
    bundles: Mapping[str, Bundle],
    outputs: Mapping[str, ModelOutput],
) -> Judgement:
    roles: list[tuple[str, Role]] = [(candidate, "candidate")]
    roles += [(plan.champion_id, "champion")] if plan.champion_id else []
    roles += [(plan.anchor_id, "anchor")] if plan.anchor_id and plan.anchor_id != candidate else []
    named = {model_id for model_id, _ in roles}
    roles += [(model_id, "challenger") for model_id in bundles if model_id not in named]
    comparison = compare_on(cells, bundles, outputs, roles)
    facts = ValidationFacts(
        training_run_id=str(plan.training_run_id or "by hand"),
        requested_by=plan.requested_by,
        triggered_by=plan.triggered_by,
        reason=plan.reason,
        base=plan.base,
        seed=plan.seed,
        epochs=plan.epochs,
        dataset_digest=plan.dataset_digest,
        labels_until=cells.labels_until,
        splits=cells.splits,
        left_out=cells.left_out,
        n_attempts=n_earlier + len(plan.candidates),
        code_version=code_version(),
        validated_at=datetime.now(UTC),
    )
    variant = bundles[candidate].manifest.variant
    return Judgement(candidate, variant, comparison, judge_gates(comparison, settings), facts)


def outputs_of(
    bundles: Mapping[str, Bundle],
    cells: HoldoutCells,
    store: Store,
    settings: Settings,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, ModelOutput]:
    """Returns model id -> its output for the cells that judge, and then for those out of scope."""
    from bloodcell.inference.predicting import predict_all

    return predict_all(
        list(bundles.values()),
        cells.images + cells.out_of_scope,
        lambda image: store.read_image(image.sha256),
        settings,
        on_progress,
    )


def compare_on(
    cells: HoldoutCells,
    bundles: Mapping[str, Bundle],
    outputs: Mapping[str, ModelOutput],
    roles: Sequence[tuple[str, Role]],
) -> Comparison:
    """Returns the models of `roles`, (model id, role), compared on these cells; `outputs` are those of `outputs_of`."""
    return compare(
        cells.holdout,
        [_predictions(bundles[model_id], role, outputs[model_id], len(cells.images)) for model_id, role in roles],
    )


def _predictions(bundle: Bundle, role: Role, output: ModelOutput, n_cells: int) -> Predictions:
    """Returns a model's calls of the first `n_cells`, the hold-out, and of the cells out of scope that follow."""
    calls = calls_of(bundle, output)
    return Predictions(
        model_id=bundle.model_id,
        variant=bundle.title,
        role=role,
        probabilities=output.probabilities[:n_cells],
        unclassified=calls.unclassified[:n_cells],
        novelty=output.novelty[:n_cells],
        out_of_scope_unclassified=calls.unclassified[n_cells:],
        out_of_scope_novelty=output.novelty[n_cells:],
        novelty_threshold=bundle.manifest.novelty_threshold,
    )
