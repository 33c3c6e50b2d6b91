"""Texts as a language model takes them: token indices and an attention mask, by the tokenizer that came with the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..core.errors import LoadError, TaskError, cause
from ..core.message import say
from .folder import Folder
from .limits import parse_json

T = TypeVar("T")
FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "special_tokens_map.json")
LONGEST = 4096  # tokens of a sample, whatever the model allows


@dataclass(frozen=True, eq=False)
class Reader:
    """What a model with a tokenizer makes of texts.

    tokenizer: a ``tokenizers.Tokenizer``, or None where none came along. pad: index that fills up samples; longest: tokens that a
    sample may have. head: what the model answers (classification, regression, tokens, language_model or agreement). classes: names.
    """

    tokenizer: Any
    pad: int
    longest: int
    head: str
    classes: tuple[str, ...] = ()

    def _encoded(self, texts: Sequence[Any], words: bool = False) -> list[Any]:
        if self.tokenizer is None:
            raise TaskError(
                say(
                    "this model came without a tokenizer that is read here; accepted: token indices, or the model with its tokenizer.json"
                )
            )
        return guarded(lambda: self.tokenizer.encode_batch(list(texts), is_pretokenized=words))

    def read(self, texts: Sequence[str], length: int) -> dict[str, Tensor]:
        """{"input_ids", "attention_mask"}: int64 [N, length], filled up on the right; a longer text is cut."""
        return self._padded(self._encoded(texts), self._length(length))

    def read_words(
        self, samples: Sequence[Sequence[str]], tags: Sequence[Sequence[int]], length: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Texts in words, and the class of each word at its first token (-100 elsewhere): (inputs, int64 [N, length])."""
        found, length = self._encoded(samples, words=True), self._length(length)
        targets = torch.full((len(found), length), -100)
        for i, (one, classes) in enumerate(zip(found, tags, strict=True)):
            before = None
            for j, word in enumerate(one.word_ids[:length]):
                if word is not None and word != before:
                    targets[i, j] = classes[word]
                before = word
        return self._padded(found, length), targets

    def encode(self, text: str) -> dict[str, Tensor]:
        """One text, as long as it is."""
        ids = self._encoded([text])[0].ids[: self.longest]
        if not ids:
            raise TaskError(say("an empty text; accepted: at least one token"))
        return {"input_ids": torch.tensor(ids), "attention_mask": torch.ones(len(ids), dtype=torch.int64)}

    def decode(self, inputs: Any) -> str:
        """The text of a sample, or of token indices, with its special tokens."""
        ids = inputs
        if isinstance(inputs, Mapping):
            ids = inputs["input_ids"][inputs["attention_mask"].bool()]
        if self.tokenizer is None:
            return " ".join(map(str, ids.reshape(-1).tolist()))
        return str(guarded(lambda: self.tokenizer.decode(ids.reshape(-1).tolist(), skip_special_tokens=False)))

    def _length(self, length: int) -> int:
        if not 0 < length <= self.longest:
            raise TaskError(
                say("length {length}; accepted: 1 to {longest} tokens", length=length, longest=self.longest)
            )
        return length

    def _padded(self, found: Sequence[Any], length: int) -> dict[str, Tensor]:
        ids = torch.full((len(found), length), self.pad)
        mask = torch.zeros((len(found), length), dtype=torch.int64)
        for i, one in enumerate(found):
            mine = one.ids if len(one.ids) <= length else _cut(one, length)
            if not mine:
                raise TaskError(say("sample {index} has no token; accepted: texts that are not empty", index=i))
            ids[i, : len(mine)] = torch.tensor(mine)
            mask[i, : len(mine)] = 1
        return {"input_ids": ids, "attention_mask": mask}


def _cut(one: Any, length: int) -> list[int]:
    """The first tokens, and the special ones that stand behind the text."""
    special, ids = one.special_tokens_mask, list(one.ids)
    tail = 0
    while tail < len(ids) and special[len(ids) - 1 - tail]:
        tail += 1
    tail = tail if tail < length else 0
    return ids[: length - tail] + ids[len(ids) - tail :]


def guarded(run: Callable[[], T]) -> T:
    """What a tokenizer does; its panics, which are no Exception, become a :class:`TaskError`, too."""
    try:
        return run()
    except Exception as error:
        raise TaskError(say("the tokenizer fails ({cause})", cause=cause(error, 160))) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise TaskError(say("the tokenizer fails ({cause})", cause=cause(error, 160))) from None


def tokenizer_of(folder: Folder, model_type: str) -> Any:
    """The tokenizer of a model's folder, from its JSON or its vocabulary alone; None where there is no file of either kind.

    Raises :class:`LoadError` for damaged ones and for those that name code of their own.
    """
    settings = _json(folder, "tokenizer_config.json")
    if "auto_map" in settings:
        raise LoadError(
            say(
                "{path}: its tokenizer names code of its own (auto_map in tokenizer_config.json); refused",
                path=folder.path,
            )
        )
    try:
        made = guarded(lambda: _made(folder, model_type, settings))
    except TaskError as error:
        raise LoadError(
            say("{path}: the tokenizer cannot be read: {error}", path=folder.path, error=error.message)
        ) from None
    if made is not None:
        made.no_truncation()
        made.no_padding()
    return made


def _json(folder: Folder, name: str) -> dict[str, Any]:
    if name not in folder.names:
        return {}
    found = parse_json(folder.read(name, folder.limits.header), folder.where(name), folder.limits)
    if not isinstance(found, dict):
        raise LoadError(say("{path}: {name} is no JSON object", path=folder.path, name=name))
    return found


def _made(folder: Folder, model_type: str, settings: Mapping[str, Any]) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    most = folder.limits.header
    if "tokenizer.json" in folder.names:
        _json(folder, "tokenizer.json")  # its nesting, before another parser sees it
        return Tokenizer.from_str(folder.read("tokenizer.json", most).decode("utf-8"))
    if "vocab.txt" in folder.names and model_type in ("bert", "distilbert", "electra"):
        words = folder.read("vocab.txt", most).decode("utf-8").splitlines()
        vocabulary = {word: i for i, word in enumerate(words)}
        made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        made.normalizer = normalizers.BertNormalizer(
            lowercase=bool(settings.get("do_lower_case", True)), strip_accents=settings.get("strip_accents"),
            handle_chinese_chars=bool(settings.get("tokenize_chinese_chars", True)),
        )  # fmt: skip
        made.pre_tokenizer, made.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
        ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
        made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
        made.add_special_tokens([name for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if name in vocabulary])
        return made
    if {"vocab.json", "merges.txt"} <= folder.names and model_type in ("gpt2", "gpt_neo"):
        lines = folder.read("merges.txt", most).decode("utf-8").splitlines()
        pairs = [line.partition(" ") for line in lines if line and not line.startswith("#version")]
        merges = [(first, second) for first, _, second in pairs]
        made = Tokenizer(models.BPE(vocab=_json(folder, "vocab.json"), merges=merges))
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        return made
    return None
