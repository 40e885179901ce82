"""Compares a run's measurements with the papers: plain JSON, with intervals.

Correlations are with being *right*, of the raw metric; AUROCs are of risks, higher is riskier, in
the direction that a signal's proponents claim. All of it on the test split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.data.columns import StoreView
from probes.data.shards import Column
from probes.data.store import Store
from probes.judge.side_by_side import BASELINE, judge
from probes.labels.rule import rule_name
from probes.model.bundle import Bundle
from probes.reproduce.ablation import Condition
from probes.signals.attention import ATTENTION_METRICS, HEAD_METRICS
from probes.signals.catalogue import ATTENTION_SIGNS
from probes.signals.evidence import MASKINGS
from probes.signals.prompt_side import PROMPT_SIDE_METRICS
from probes.stats import metrics
from probes.stats.bootstrap import cluster_bootstrap, paired_difference
from probes.stats.paired import compare, mean_interval
from probes.types import FloatArray, Interval, Missing

BoolArray = NDArray[np.bool_]
POSITION_NAMES = ("prompt_last", "answer_mean")
ALL = "all"


class Comparison:
    """The test split of one run.

    Args:
        rows: of the store, in the order of the measurements.
        resamples: of the bootstrap.
    """

    def __init__(self, store: Store, rows: NDArray[np.intp], resamples: int) -> None:
        self._store = store
        self._rows = rows
        self._resamples = resamples
        self.wrong = store.wrong[rows]
        self.groups = store.groups[rows]
        records = [store.records[row] for row in rows]
        self.kinds = np.array([record.kind for record in records], dtype=np.str_)
        self.yes_no = np.array(
            [rule_name(record.rule) == "yes_no" for record in records], dtype=bool
        )

    def parts(self) -> dict[str, BoolArray]:
        """All answers, and those of each kind of question."""
        everything = np.ones(len(self._rows), dtype=bool)
        kinds = {str(kind): self.kinds == kind for kind in np.unique(self.kinds)}
        return {ALL: everything, **kinds}

    def pools(self) -> dict[str, BoolArray]:
        """All answers, those to yes/no questions, and the others."""
        return {ALL: self.parts()[ALL], "yes_no": self.yes_no, "open": ~self.yes_no}

    def relate(
        self, values: Mapping[str, FloatArray], signs: Mapping[str, int], rows: BoolArray
    ) -> dict[str, dict[str, Any]]:
        """Per name: R with being right (clustered, and Fisher's), and AUROC of the signed risk.

        Args:
            values: by name, of the rows alone, (m,).
            signs: 1 where a higher value means more risk, else -1.
            rows: (n,), m of them true.
        """
        wrong, groups = self.wrong[rows], self.groups[rows]
        if not 0 < wrong.sum() < wrong.size:
            return {name: dict.fromkeys(("r", "fisher", "auroc"), ONE_CLASS) for name in values}
        found = cluster_bootstrap(
            {"r": metrics.point_biserial}, values, ~wrong, groups, self._resamples
        )
        risks = {name: signs[name] * value for name, value in values.items()}
        ranked = cluster_bootstrap({"auroc": metrics.auroc}, risks, wrong, groups, self._resamples)
        return {
            name: {
                "r": found[name]["r"],
                "fisher": _fisher(found[name]["r"], int(wrong.size)),
                "auroc": ranked[name]["auroc"],
            }
            for name in values
        }

    def attention(self, pooled: Column) -> list[dict[str, Any]]:
        """Every metric of the attention averaged over layers, per position and kind of question.

        Args:
            pooled: (m, 2 positions, 1, metrics).
        """
        found = []
        for kind, part in self.parts().items():
            rows = part & pooled.present
            mine = pooled.values[part[pooled.present]].astype(np.float64)
            for at, position in enumerate(POSITION_NAMES):
                if not rows.any():
                    continue
                values = {name: mine[:, at, 0, m] for m, name in enumerate(ATTENTION_METRICS)}
                related = self.relate(values, ATTENTION_SIGNS, rows)
                found += [
                    {"kind": kind, "position": position, "metric": name,
                     "answers": int(rows.sum()), **row}
                    for name, row in related.items()
                ]  # fmt: skip
        return found

    def per_layer(
        self, column: Column, names: Sequence[str], signs: Mapping[str, int]
    ) -> list[dict[str, Any]]:
        """R and AUROC of a column (m, layers, metrics), layer by layer from 1."""
        found = []
        for layer in range(column.values.shape[1] if column.present.any() else 0):
            mine = column.values[:, layer].astype(np.float64)
            values = {name: mine[:, at] for at, name in enumerate(names)}
            related = self.relate(values, signs, column.present)
            found += [{"layer": layer + 1, "metric": name, **row} for name, row in related.items()]
        return found

    def prompt_side(self, column: Column) -> list[dict[str, Any]]:
        """Prompt-side attention: concentrated is claimed to mean right."""
        return self.per_layer(column, PROMPT_SIDE_METRICS, dict.fromkeys(PROMPT_SIDE_METRICS, -1))

    def margins(self, column: Column) -> list[dict[str, Any]]:
        """Margins of the logit lens, pooled and for yes/no and other questions."""
        found = []
        for pool, part in self.pools().items():
            rows = part & column.present
            if not rows.any():
                continue
            mine = column.values[part[column.present]].astype(np.float64)
            values = {str(at + 1): mine[:, at] for at in range(mine.shape[1])}
            related = self.relate(values, dict.fromkeys(values, -1), rows)
            found += [{"pool": pool, "layer": int(at), **row} for at, row in related.items()]
        return found

    def heads(self, column: Column) -> list[dict[str, Any]]:
        """AUROC of every head from the answer's tokens, (m, 2, layers, heads, metrics)."""
        wrong = self.wrong[column.present]
        if not 0 < wrong.sum() < wrong.size:
            return []
        answer = column.values[:, 1].astype(np.float64)
        places = [
            (layer, head, m)
            for layer in range(answer.shape[1])
            for head in range(answer.shape[2])
            for m in range(len(HEAD_METRICS))
        ]
        risks = {
            str(at): ATTENTION_SIGNS[HEAD_METRICS[m]] * answer[:, layer, head, m]
            for at, (layer, head, m) in enumerate(places)
        }
        found = cluster_bootstrap(
            {"auroc": metrics.auroc},
            risks,
            wrong,
            self.groups[column.present],
            max(1, self._resamples // 5),
        )
        return [
            {"layer": layer + 1, "head": head, "metric": HEAD_METRICS[m], **found[str(at)]}
            for at, (layer, head, m) in enumerate(places)
        ]

    def evidence(self, drops: Column, flipped: Column) -> list[dict[str, Any]]:
        """Visual evidence as a signal: little lost means riskier, and so does no flip."""
        found = []
        for pool, part in self.pools().items():
            rows = part & drops.present
            if not rows.any():
                continue
            mine = part[drops.present]
            for at, masking in enumerate(MASKINGS):
                values = {
                    "logprob_drop": drops.values[mine, at].astype(np.float64),
                    "flipped": flipped.values[mine, at].astype(np.float64),
                }
                related = self.relate(values, {"logprob_drop": -1, "flipped": -1}, rows)
                share = mean_interval(values["flipped"], self.groups[rows], self._resamples)
                found.append({"pool": pool, "masking": masking, "share_flipped": share, **related})
        return found

    def masking(self, wrong: Column, again: Column) -> list[dict[str, Any]]:
        """Accuracy with parts of the image away, against the whole image and one another.

        Args:
            wrong: whether the answer with the whole image is, (n,).
            again: with each masking, (m, maskings).
        """
        table = dict(zip(MASKINGS, again.values.T, strict=True)) if again.present.any() else {}
        found = []
        for kind, part in self.parts().items():
            rows, mine = part & again.present, part[again.present]
            if not (rows.any() and table):
                continue
            sides = {
                "whole": wrong.values[rows],
                **{name: one[mine] for name, one in table.items()},
            }
            pairs = [("whole", masking) for masking in MASKINGS]
            pairs += [("random30", "top30"), ("bottom30", "top30")]
            for before, after in pairs:
                lost = compare(sides[before], sides[after], self.groups[rows], self._resamples)
                found.append({"kind": kind, "before": before, "after": after, "lost": lost})
        return found

    def ablation(
        self, rows: NDArray[np.intp], wrong: BoolArray, tried: Sequence[Condition]
    ) -> list[dict[str, Any]]:
        """Top neurons against none, and against random ones.

        Args:
            rows: which of the test answers were asked again.
            wrong: per condition, (m, conditions).
        """
        whole, groups = self.wrong[rows], self.groups[rows]
        found = []
        for at, top in enumerate(tried):
            if top.chosen != "top":
                continue
            others = [
                k
                for k, one in enumerate(tried)
                if one.chosen == "random"
                and (one.held, len(one.neurons)) == (top.held, len(top.neurons))
            ]
            random = wrong[:, others]
            more = wrong[:, at].astype(float) - random.mean(axis=1)
            losses = random.mean(axis=0) - whole.mean()
            found.append(
                {
                    "neurons": len(top.neurons),
                    "held": top.held,
                    "top": compare(whole, wrong[:, at], groups, self._resamples),
                    "random_draws": len(others),
                    "random": mean_interval(random.mean(axis=1) - whole, groups, self._resamples),
                    "random_least": float(losses.min()),
                    "random_most": float(losses.max()),
                    "top_above_random": mean_interval(more, groups, self._resamples),
                }
            )
        return found

    def signals(self, bundle: Bundle) -> dict[str, Any]:
        """AUROC of the main signals per pool, and the probe against others on the same answers."""
        found: dict[str, Any] = {}
        view = StoreView(self._store, bundle)
        for pool, part in self.pools().items():
            mask = np.zeros(len(self._store.records), dtype=bool)
            mask[self._rows[part]] = True
            wrong = self._store.wrong[mask]
            if not 0 < wrong.sum() < wrong.size:
                found[pool] = ONE_CLASS
                continue
            judged = judge(view, mask)
            wrong, groups = self._store.wrong[judged.rows], self._store.groups[judged.rows]
            table: dict[str, Any] = dict(
                cluster_bootstrap(
                    {"auroc": metrics.auroc, "point_biserial": metrics.point_biserial},
                    judged.scores,
                    wrong,
                    groups,
                    self._resamples,
                )
            )
            for row in table.values():
                row["fisher"] = _fisher(row["point_biserial"], int(wrong.size))
            probe = judged.scores["hidden_state_probe"]
            for other in (BASELINE, "self_consistency"):
                if other in judged.scores:
                    table["hidden_state_probe"][f"above_{other}"] = paired_difference(
                        metrics.auroc, probe, judged.scores[other], wrong, groups, self._resamples
                    )
            found[pool] = {"answers": int(wrong.size), "signals": table}
        return found


ONE_CLASS = Missing("one_class")


def _fisher(r: Interval | Missing, answers: int) -> Interval | Missing:
    return r if isinstance(r, Missing) else metrics.fisher_interval(r.estimate, answers)
