"""The nouns everything else is written in.

Arrays are numpy arrays; shapes stand beside each field. Hidden states use Hugging Face's numbering:
index 0 is the embedding, index k the output of decoder layer k, and the last index is taken
*before* the final norm (as vLLM hands it out), in every engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray: TypeAlias = NDArray[np.floating[Any]]
    ImageArray: TypeAlias = NDArray[np.uint8]
else:

    def __getattr__(name):
        """The aliases above, made when they are first imported: the client imports no numpy."""
        if name not in ("FloatArray", "ImageArray"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import numpy as np
        from numpy.typing import NDArray

        made = {"FloatArray": NDArray[np.floating[Any]], "ImageArray": NDArray[np.uint8]}
        globals().update(made)
        return made[name]


Position = Literal["prompt_last", "answer_mean", "answer_last"]
POSITIONS: tuple[Position, ...] = ("prompt_last", "answer_mean", "answer_last")

ConsistencyMode = Literal["never", "auto", "always"]
CONSISTENCY_MODES: tuple[ConsistencyMode, ...] = ("never", "auto", "always")

QuestionMode = Literal["exact", "template", "any"]
"""Which questions are in the domain: see :class:`QuestionDomain`."""
PolicyMode = Literal["certified", "manual"]
SmallSlices = Literal["pooled", "own_or_escalate"]


@dataclass(frozen=True, slots=True)
class Missing:
    """A value that could not be had, and why.

    Args:
        reason: short snake_case word from a small set (it becomes a metric label), such as
            ``not_requested``, ``empty_answer``, ``engine_error``, ``not_collected``.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval (95 % unless said otherwise)."""

    estimate: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Query:
    """One question about one image.

    Args:
        image: RGB, uint8, shape (height, width, 3).
        question: the user's words, as they came.
        max_tokens: most tokens that the answer may have.
        features: the image's :func:`~probes.signals.domain.image_features` where they were
            measured ahead, beside the decoding.
        damage: what is wrong with the image's file, or None.
    """

    image: ImageArray
    question: str
    max_tokens: int = 64
    features: FloatArray | None = None
    damage: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Readout:
    """What the engine is to read while it answers.

    Args:
        layers: hidden-state indices to read.
        positions: at which tokens.
        projections: per layer a matrix (hidden, columns) that the hidden state is multiplied with;
            ``None`` reads the whole hidden state (collection).
        attention_layers: decoder layers (1-based, like hidden-state indices) whose attention to the
            image is read; empty reads none.
        heads: at these layers head by head too.
        question: at these layers from the question's words too.
        lens: the logit lens at ``layers``, last prompt token.
    """

    layers: tuple[int, ...] = ()
    positions: tuple[Position, ...] = ()
    projections: Mapping[int, FloatArray] | None = None
    attention_layers: tuple[int, ...] = ()
    heads: bool = False
    question: bool = False
    lens: bool = False


NOTHING = Readout()
"""Reads nothing: the engine without any signal but its own token probabilities."""


@dataclass(frozen=True, slots=True, eq=False)
class AttentionMaps:
    """Attention to the image tokens, averaged over heads.

    The rows are parts of a softmax over *all* keys, so a row's sum is the mass on the image.

    Args:
        layers: the decoder layers read, shape (layers,).
        prompt_last: from the last prompt token, shape (layers, image_tokens).
        answer_mean: mean over the answer tokens, same shape, or why there is none.
        grid: rows and columns of the image tokens, in raster order.
    """

    layers: tuple[int, ...]
    prompt_last: FloatArray
    answer_mean: FloatArray | Missing
    grid: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class QuestionMaps:
    """Attention from the prompt's words to the image tokens, averaged over heads and words.

    Args:
        layers: the decoder layers read, shape (layers,).
        content: mean over the question's content words, shape (layers, image_tokens).
        boundary: mean over the template's tokens around the question, same shape.
        grid: rows and columns of the image tokens, in raster order.
    """

    layers: tuple[int, ...]
    content: FloatArray
    boundary: FloatArray
    grid: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class LensMargins:
    """Margins of the logits that the final norm and head make of hidden states (the logit lens).

    At the last prompt token, so the last layer's are those of the first answer token.

    Args:
        layers: hidden-state indices, shape (layers,).
        top: largest minus second-largest logit, shape (layers,).
        yes_no: largest logit of a token "yes" minus that of a token "no", same shape, or
            ``no_yes_no_token``.
    """

    layers: tuple[int, ...]
    top: FloatArray
    yes_no: FloatArray | Missing


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What was read while an answer was generated.

    Args:
        logprobs: natural-log probabilities of the answer tokens (end token left out), (tokens,).
        first_token_entropy: entropy of the first answer token's distribution, nats.
        first_token_margin: its largest minus its second-largest logit.
        readouts: per (layer, position) a vector: (columns,) when projected, else (hidden,).
        attention: attention to the image, or why there is none.
        heads: the same head by head, its rows of shape (layers, heads, image_tokens).
        question: attention from the question's words to the image.
        lens: margins of the logit lens.
    """

    logprobs: FloatArray
    first_token_entropy: float
    first_token_margin: float
    readouts: Mapping[tuple[int, Position], FloatArray | Missing] = field(default_factory=dict)
    attention: AttentionMaps | Missing = Missing("not_requested")
    heads: AttentionMaps | Missing = Missing("not_requested")
    question: QuestionMaps | Missing = Missing("not_requested")
    lens: LensMargins | Missing = Missing("not_requested")


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """What the model thinks of a given answer to a query.

    Args:
        logprob: natural-log probability of the answer's tokens, summed; the end is left out.
        greedy: decoding greedily gives exactly this answer.
    """

    logprob: float
    greedy: bool


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """A greedy answer with what was read on the way.

    Args:
        answer: the text, stripped.
        token_ids: the answer's tokens, end token left out.
        finish_reason: ``stop`` (the model ended it) or ``length`` (``max_tokens`` cut it).
        trace: what was read.
        queue_seconds: time before the engine began to work on it.
        generate_seconds: time the engine worked on its batch.
    """

    answer: str
    token_ids: tuple[int, ...]
    finish_reason: Literal["stop", "length"]
    trace: Trace
    queue_seconds: float = 0.0
    generate_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class HiddenStateProbe:
    """The probe's log-odds that the answer is wrong, and the layers it reads."""

    logit: float
    layers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TokenConfidence:
    """Mean log-probability of the answer, entropy (nats) and logit margin of its first token."""

    mean_logprob: float
    first_token_entropy: float
    margin: float


@dataclass(frozen=True, slots=True)
class SelfConsistency:
    """How often sampled answers agree with the greedy one.

    Args:
        agreement: share of the samples equal to the greedy answer, 0 to 1.
        samples: how many were taken.
        stopped_early: the rest could not have changed the decision.
        majority_share: share of the commonest sampled answer.
        entropy: over the distinct sampled answers, nats.
    """

    agreement: float
    samples: int
    stopped_early: bool
    majority_share: float
    entropy: float


@dataclass(frozen=True, slots=True)
class AttentionConcentration:
    """How concentrated the attention to the image is. Compared with, never decided on.

    Args:
        spatial_entropy: -sum m log m over the image tokens, m normalised, nats.
        top30_mass: share of the image's attention on its 30 % most attended tokens.
        image_mass: share of all attention that lies on the image.
        clusters: connected components of those tokens (4 neighbours).
    """

    spatial_entropy: float
    top30_mass: float
    image_mass: float
    clusters: int


@dataclass(frozen=True, slots=True)
class PromptSideAttention:
    """How the question's content words attend to the image. Compared with, never decided on.

    Args:
        peak: largest value of the map, a share of all attention, > 0.
        peak_mass: share of the map's mass at its peak and the eight tokens around it, 0 to 1.
    """

    peak: float
    peak_mass: float


@dataclass(frozen=True, slots=True)
class ImageDomain:
    """Whether one image, as the model read it, looks like those of calibration.

    Args:
        distance: Mahalanobis distance, >= 0, no unit.
        inside: at most the bundle's limit.
    """

    distance: float
    inside: bool


@dataclass(frozen=True, slots=True)
class QuestionKind:
    """The kind of question, as its words tell it; one of the dataset's names of kinds."""

    kind: str


@dataclass(frozen=True, slots=True)
class QuestionDomain:
    """Whether the question is one of those that the gate was trained on.

    Args:
        surprise: of its least expected word under the training questions, >= 0, bits.
        inside: as ``mode`` has it.
        mode: ``any`` bounds the surprise; ``template`` and ``exact`` want a training question, with
            or without other values in its slots.
    """

    surprise: float
    inside: bool
    mode: QuestionMode


DomainPart = Literal["image", "question", "both"]


@dataclass(frozen=True, slots=True)
class Domain:
    """Whether the request looks like what the gate was trained and calibrated on.

    Args:
        images: the image side, one entry per image, at least one.
        question: the question side, or ``no_question_side`` for a bundle of an older format.
    """

    images: tuple[ImageDomain, ...]
    question: QuestionDomain | Missing = Missing("no_question_side")

    @property
    def distance(self) -> float:
        """Of the image that is furthest away."""
        return max(image.distance for image in self.images)

    @property
    def part(self) -> DomainPart | None:
        """Which side is outside; None where none is."""
        image = not all(one.inside for one in self.images)
        question = isinstance(self.question, QuestionDomain) and not self.question.inside
        if image and question:
            return "both"
        return "image" if image else "question" if question else None

    @property
    def inside(self) -> bool:
        """Every side is inside."""
        return self.part is None


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """Whether the answer's text is one that a person could mean.

    Args:
        degenerate: ``empty`` (no word), ``not_words`` (control characters, pieces of the model's
            own markup) or ``repeats`` (a loop); None where it is none of these.
    """

    degenerate: Literal["empty", "not_words", "repeats"] | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the answer owes to the image, or to a part of it.

    Each drop is the answer's log-probability with the image minus that without (nats); flipped
    says that the greedy answer is another one then.

    Args:
        logprob_drop_blank, flipped_blank: the whole image blanked.
        logprob_drop_top30, flipped_top30: its 30 % most attended patches.
        logprob_drop_random30, flipped_random30: 30 % of its patches, drawn at random.
    """

    logprob_drop_blank: float
    flipped_blank: bool
    logprob_drop_top30: float
    flipped_top30: bool
    logprob_drop_random30: float
    flipped_random30: bool


@dataclass(frozen=True, slots=True)
class ImageCondition:
    """Whether the image's file is as it was written.

    Args:
        damaged: a strict decoder finds something wrong with it.
        detail: what; empty where nothing is.
    """

    damaged: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Signals:
    """Every signal of one answer: a number or why it is missing."""

    hidden_state_probe: HiddenStateProbe | Missing
    token_confidence: TokenConfidence | Missing
    self_consistency: SelfConsistency | Missing
    attention: AttentionConcentration | Missing
    evidence: Evidence | Missing
    domain: Domain | Missing
    image: ImageCondition | Missing = Missing("not_recorded")
    question_kind: QuestionKind | Missing = Missing("not_requested")
    answer_form: AnswerForm | Missing = Missing("not_measured")


@dataclass(frozen=True, slots=True)
class RiskAssessment:
    """The calibrated probability that the answer is wrong.

    Args:
        score: 0 to 1, higher is worse, or why there is none.
        stage: 1 without, 2 with self-consistency.
        signals: what it was made from.
    """

    score: float | Missing
    stage: Literal[1, 2]
    signals: Signals


Verdict = Literal["accept", "escalate", "reject"]
Reason = Literal[
    "damaged_image",
    "out_of_domain",
    "degenerate_answer",
    "signal_unavailable",
    "certificate_void",
    "no_certificate",
    "risk_above_reject",
    "risk_above_threshold",
    "audit",
    "risk_below_threshold",
]
"""In the order of :mod:`probes.model.precedence`: where several hold, the first is told."""


Scope = Literal["all", "own", "pooled"]
"""Whose answers a certificate is about: of all slices together, of one slice, of small ones."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with the answer, and why.

    Args:
        decision: accept it, escalate it to a person, or reject it.
        reason: the rule that decided.
        accept_below: risk at or below which an answer is accepted; ``None`` accepts nothing.
        reject_above: risk above which an answer is rejected; ``None`` rejects nothing.
        certificate: id of the certificate that the decision rests on, if any.
        scope: whose answers that is about: ``all``, ``own`` (the slice's) or ``pooled`` (those of
            several slices too small for a test of their own).
    """

    decision: Verdict
    reason: Reason
    accept_below: float | None
    reject_above: float | None
    certificate: str | None
    scope: Scope | None = None


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What a bundle is bound to. Two are the same model only if every field is equal.

    Args:
        name: the model's name, without a path.
        revision: hash of its weights (or the hub's commit).
        family: entry in the engine's table of families.
        layers: decoder layers.
        hidden_size: width of a hidden state.
        dtype: arithmetic, such as ``float32``.
        engine: which engine read the hidden states.
        processor_hash: of the processor's configuration and the tokenizer.
        chat_template_hash: of the prompt's template.
    """

    name: str
    revision: str
    family: str
    layers: int
    hidden_size: int
    dtype: str
    engine: str
    processor_hash: str
    chat_template_hash: str


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How answers were generated when the gate was trained, and are to be when it serves.

    Args:
        max_tokens: most tokens of an answer.
        samples: answers sampled for self-consistency; 0 when it was not collected.
        temperature: of the samples.
        top_p: of the samples.
    """

    max_tokens: int = 64
    samples: int = 10
    temperature: float = 0.7
    top_p: float = 0.9
