"""A checkpoint in memory: prepares prompts, answers batches. Knows nothing of threads or queues."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, GenerationConfig

from probes.types import (
    NOTHING,
    AnswerScore,
    FloatArray,
    Generation,
    Missing,
    ModelIdentity,
    Query,
    Readout,
    Trace,
)
from service.engines.base import EngineError, QueryRefused
from service.engines.decoding import (
    ForcedTokens,
    NucleusSampler,
    RowLimits,
    TokenScores,
    cut,
)
from service.engines.families import Family, family_of, image_token_id
from service.engines.identity import identify
from service.engines.patch_boxes import Grid
from service.engines.processors import load_processor, process
from service.engines.questions import Questions
from service.engines.transformers.lens import Lens
from service.engines.transformers.prompts import Prompt, collate, image_columns, word_rows
from service.engines.transformers.taps import Taps
from service.engines.transformers.traces import (
    NOT_REQUESTED,
    attention_maps,
    hidden_readouts,
    question_maps,
)
from service.engines.words import Words, find_words


@dataclass(frozen=True, slots=True, eq=False)
class Greedy:
    prompt: Prompt
    readout: Readout
    words: Words | Missing = NOT_REQUESTED
    kind: str = "greedy"
    rows: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    prompt: Prompt
    numbers: FloatArray
    temperature: float
    top_p: float
    kind: str = "sample"

    @property
    def rows(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """An answer to be scored."""

    prompt: Prompt
    token_ids: tuple[int, ...]
    kind: str = "given"
    rows: int = 1


Work = Greedy | Samples | Given
Answers = Generation | tuple[str, ...] | AnswerScore


class Checkpoint:
    """The model in memory. ``prepare`` runs on the pool, ``run`` on the worker thread only."""

    def __init__(self, model: Any, processor: Any, identity: ModelIdentity) -> None:
        self.lost = False
        self.identity = identity
        self._model, self._processor = model.eval(), processor
        self._device = model.device
        self._family: Family = family_of(model.config, processor)
        self._questions = Questions(processor, self._family)
        self._image_token = image_token_id(model.config)
        self.taps = Taps(model)
        self._lens = Lens(model, self._processor.tokenizer)
        ends = model.generation_config.eos_token_id
        if ends is None:
            ends = self._processor.tokenizer.eos_token_id
        self._ends = frozenset([ends] if isinstance(ends, int) else ends or ())
        pad = self._processor.tokenizer.pad_token_id
        self._pad: int = min(self._ends, default=0) if pad is None else pad
        # Nothing of the checkpoint's sampling settings may leak into the answers.
        model.generation_config = GenerationConfig(
            do_sample=False, eos_token_id=sorted(self._ends), pad_token_id=self._pad
        )
        self._context: int | None = getattr(
            model.config.get_text_config(), "max_position_embeddings", None
        )
        warm_up = Query(np.zeros((64, 64, 3), np.uint8), "?", max_tokens=2)
        self.run([Greedy(self.prepare(warm_up, time.perf_counter()), NOTHING)])

    @classmethod
    def load(cls, source: str, device: str, dtype: str) -> Checkpoint:
        """The checkpoint of a folder or hub name. Raises EngineError."""
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if dtype == "auto" and device == "cpu":
            dtype = "float32"
        if dtype == "float32":
            # TF32 keeps 10 bits of the mantissa: readings would differ from the CPU's by 1e-3.
            torch.set_float32_matmul_precision("highest")
            torch.backends.cudnn.allow_tf32 = False
        try:
            processor = load_processor(source)
            model: Any = AutoModelForImageTextToText.from_pretrained(
                source, dtype=dtype, use_safetensors=True, attn_implementation="sdpa"
            )
            model = model.to(device)
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            raise EngineError(f"model: {source} cannot be loaded: {error}") from error
        family = family_of(model.config, processor)
        identity = identify(
            source,
            model.config,
            processor,
            dtype=str(model.dtype).removeprefix("torch."),
            family=family.name,
            engine="transformers",
        )
        return cls(model, processor, identity)

    def prepare(self, query: Query, entered: float) -> Prompt:
        """The query's tensors, on the host. Raises QueryRefused."""
        question = self._questions.plain(query.question)
        prompt = self._family.prompt(self._processor, question)
        inputs = process(self._processor, query.image, prompt)
        tokens = inputs["input_ids"].shape[1]
        if self._context is not None and tokens + query.max_tokens > self._context:
            raise QueryRefused(
                f"question: {tokens} prompt tokens and max_tokens {query.max_tokens} exceed the "
                f"model's {self._context}; shorten the question"
            )
        positions = (inputs["input_ids"][0] == self._image_token).nonzero().squeeze(-1)
        return Prompt(
            inputs=inputs,
            question=question,
            image_positions=positions,
            grid=self._family.grid(self._model.config, inputs, len(positions)),
            max_tokens=query.max_tokens,
            entered=entered,
        )

    def words(self, prompt: Prompt) -> Words | Missing:
        """The question's words among the prompt's tokens."""
        token_ids = prompt.inputs["input_ids"][0].tolist()
        end = int(prompt.image_positions.max()) + 1 if len(prompt.image_positions) else 0
        return find_words(self._processor.tokenizer, token_ids, end, prompt.question)

    def check_answer(self, token_ids: Sequence[int], max_tokens: int) -> None:
        """Raise ValueError for tokens that no answer has."""
        known = self._model.config.get_text_config().vocab_size
        if len(token_ids) > max_tokens:
            raise ValueError(f"token_ids: {len(token_ids)}, but max_tokens is {max_tokens}")
        wrong = [one for one in token_ids if not 0 <= one < known or one in self._ends]
        if wrong:
            raise ValueError(f"token_ids: {wrong[0]} is no token of an answer")

    def patch_boxes(self, image_size: tuple[int, int], grid: Grid) -> FloatArray | Missing:
        """Left, top, right, bottom of each image token in pixels of the image."""
        return self._family.patch_boxes(self._model.config, self._processor, image_size, grid)

    def run(self, batch: Sequence[Work]) -> Sequence[Answers]:
        """Answer a batch of one kind."""
        try:
            with torch.inference_mode():
                greedy = [work for work in batch if isinstance(work, Greedy)]
                if greedy:
                    return self._generate(greedy)
                given = [work for work in batch if isinstance(work, Given)]
                if given:
                    return self._score(given)
                return self._sample([work for work in batch if isinstance(work, Samples)])
        except torch.AcceleratorError:
            self.lost = True  # the device does not come back within this process
            raise

    def _generate(self, batch: Sequence[Greedy]) -> list[Generation]:
        started = time.perf_counter()
        prompts = [work.prompt for work in batch]
        readouts = [work.readout for work in batch]
        inputs = collate(prompts, self._pad, self._device, self._model.dtype)
        scores = TokenScores()
        words = [work.words for work in batch]
        rows = word_rows(prompts, words, self._device)
        with self.taps.read(readouts, image_columns(prompts, self._device), rows) as reading:
            tokens = self._decode(inputs, [prompt.max_tokens for prompt in prompts], scores)
        answers = [
            cut(row, prompt.max_tokens, self._ends)
            for row, prompt in zip(tokens, prompts, strict=True)
        ]
        states = [len(ids) if ended else max(len(ids) - 1, 0) for ids, ended in answers]
        hidden = hidden_readouts(reading, readouts, states)
        image_tokens = [len(prompt.image_positions) for prompt in prompts]
        grids = [prompt.grid for prompt in prompts]
        attention = attention_maps(reading, readouts, states, image_tokens, grids)
        question = question_maps(reading, readouts, words, image_tokens, grids)
        lens = self._lens.margins(reading, readouts)
        logprobs = torch.stack(scores.logprobs, 1).cpu().numpy()
        first = torch.stack([scores.entropy, scores.margin], 1).tolist()
        finished = time.perf_counter()
        return [
            Generation(
                answer=self._text(ids),
                token_ids=ids,
                finish_reason="stop" if ended else "length",
                trace=Trace(
                    logprobs=logprobs[row, : len(ids)],
                    first_token_entropy=first[row][0],
                    first_token_margin=first[row][1],
                    readouts=hidden[row],
                    attention=attention[row][0],
                    heads=attention[row][1],
                    question=question[row],
                    lens=lens[row],
                ),
                queue_seconds=started - prompts[row].entered,
                generate_seconds=finished - started,
            )
            for row, (ids, ended) in enumerate(answers)
        ]

    def _sample(self, batch: Sequence[Samples]) -> list[tuple[str, ...]]:
        """One prefill per request; its cache is repeated for each of the request's samples."""
        prompts = [work.prompt for work in batch]
        inputs = collate(prompts, self._pad, self._device, self._model.dtype)
        prefill = self._model.generate(
            **inputs, max_new_tokens=1, return_dict_in_generate=True, output_logits=True
        )
        owners = [at for at, work in enumerate(batch) for _ in range(work.rows)]
        owner = torch.tensor(owners, device=self._device)
        limits = [prompts[at].max_tokens for at in owners]
        sampler = self._sampler(batch, owner)
        first = sampler.draw(prefill.logits[0][owner])
        cache = prefill.past_key_values
        cache.batch_select_indices(owner)
        inner = self._model.model
        if getattr(inner, "rope_deltas", None) is not None:
            # M-RoPE: the model itself remembers, per row, how far positions and columns differ.
            inner.rope_deltas = inner.rope_deltas[owner]
        following = {
            "input_ids": torch.cat([inputs["input_ids"][owner], first[:, None]], 1),
            "attention_mask": torch.cat(
                [inputs["attention_mask"][owner], torch.ones_like(first)[:, None]], 1
            ),
            "past_key_values": cache,
        }
        head = first.tolist()
        left = [
            0 if token in self._ends else limit - 1
            for token, limit in zip(head, limits, strict=True)
        ]
        rest = self._decode(following, left, sampler) if max(left) else [[]] * len(head)
        texts = [
            self._text(cut([token, *row], limit, self._ends)[0])
            for token, row, limit in zip(head, rest, limits, strict=True)
        ]
        return [
            tuple(text for text, mine in zip(texts, owners, strict=True) if mine == at)
            for at in range(len(batch))
        ]

    def _score(self, batch: Sequence[Given]) -> list[AnswerScore]:
        """The answers are decoded as greedy ones are, only that their tokens are given."""
        prompts = [work.prompt for work in batch]
        inputs = collate(prompts, self._pad, self._device, self._model.dtype)
        forced = ForcedTokens([work.token_ids for work in batch], self._ends, self._device)
        # One step more for the end, unless the limit ends the answer.
        steps = [min(len(work.token_ids) + 1, work.prompt.max_tokens) for work in batch]
        self._decode(inputs, steps, forced)
        logprobs = torch.stack(forced.logprobs, 1).cpu().numpy()
        chosen = torch.stack(forced.chosen, 1).cpu().numpy()
        return [
            AnswerScore(
                logprob=float(logprobs[row, : len(work.token_ids)].sum()),
                greedy=bool(chosen[row, : steps[row]].all()),
            )
            for row, work in enumerate(batch)
        ]

    def _sampler(self, batch: Sequence[Samples], owner: Tensor) -> NucleusSampler:
        steps = max(work.numbers.shape[1] for work in batch)
        numbers = np.concatenate(
            [np.pad(work.numbers, ((0, 0), (0, steps - work.numbers.shape[1]))) for work in batch]
        )
        settings = torch.tensor([[work.temperature, work.top_p] for work in batch])
        per_row = settings.to(self._device)[owner]
        return NucleusSampler(
            torch.from_numpy(numbers.astype(np.float32)).to(self._device),
            per_row[:, :1],
            per_row[:, 1:],
        )

    def _decode(
        self, inputs: Mapping[str, Any], limits: Sequence[int], scores: Any
    ) -> list[list[int]]:
        """New tokens of each row; what follows a row's end or limit is padding."""
        prompt = inputs["input_ids"].shape[1]
        rows = torch.tensor(limits, device=self._device)
        tokens: Tensor = self._model.generate(
            **inputs,
            max_new_tokens=max(limits),
            logits_processor=[scores],
            stopping_criteria=[RowLimits(prompt, rows)],
        )
        new: list[list[int]] = tokens[:, prompt:].tolist()
        return new

    def _text(self, ids: Sequence[int]) -> str:
        text: str = self._processor.tokenizer.decode(ids, skip_special_tokens=True)
        return text.strip()
