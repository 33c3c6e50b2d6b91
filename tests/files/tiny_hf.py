"""Tiny Hugging Face models with random weights and tokenizers of a few words, written as their own library writes them."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import explorer
from explorer.files.data import Source
from explorer.files.mapping import task_of
from explorer.files.propose import propose

LABELS = ["bad", "fair", "good"]
WORDS = "the a cat dog sat ran on mat road good bad very it was is not red blue small big".split()
BERT = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}
GPT2 = {
    "vocab_size": 64,
    "n_positions": 32,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 4,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def texts(n: int, seed: int = 0) -> list[str]:
    """Sentences of 3 to 9 of the words."""
    g = torch.Generator().manual_seed(seed)
    return [
        " ".join(WORDS[i] for i in torch.randint(0, len(WORDS), (3 + k % 7,), generator=g).tolist()) for k in range(n)
    ]


def word_pieces(folder: Path) -> None:
    """A WordPiece vocabulary, as BERT's, as vocab.txt and tokenizer.json."""
    from transformers import BertTokenizer

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s", "##ed"]
    (folder / "vocab.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    BertTokenizer(vocab={name: i for i, name in enumerate(names)}).save_pretrained(folder)


def byte_pairs(folder: Path) -> None:
    """A byte-level BPE, as GPT-2's, trained on the words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.train_from_iterator(texts(50), trainers.BpeTrainer(vocab_size=64, special_tokens=["<|endoftext|>"]))
    PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|endoftext|>", bos_token="<|endoftext|>"
    ).save_pretrained(folder)
    model = json.loads(made.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = [one if isinstance(one, str) else " ".join(one) for one in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")


def bert(folder: Path, head: str = "SequenceClassification", shard: str | None = None, **more: Any) -> Any:
    """A tiny BERT with three labels in ``folder``; the model."""
    import transformers

    torch.manual_seed(0)
    labels = {0: "bad", 1: "fair", 2: "good"}
    config = transformers.BertConfig(
        **BERT | {"id2label": labels, "label2id": {v: k for k, v in labels.items()}} | more
    )
    model = getattr(transformers, f"BertFor{head}" if head else "BertModel")(config).eval()
    spread(model)
    model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    word_pieces(folder)
    return model


def gpt2(folder: Path, **more: Any) -> Any:
    """A tiny GPT-2 in ``folder``; the model."""
    import transformers

    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2 | more)).eval()
    spread(model)
    model.save_pretrained(folder)
    byte_pairs(folder)
    return model


@torch.no_grad()
def spread(model: Any) -> None:
    """Weights large enough for answers that differ."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, 0.3)


def zipped(folder: Path, place: str = "model/") -> Path:
    """The folder as a zip, its files below ``place``."""
    path = folder.parent / f"{folder.name}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, place + file.name)
    return path


def labelled(n: int = 60) -> Source:
    return Source("table", {"text": np.asarray(texts(n)), "label": np.asarray([LABELS[i % 3] for i in range(n)])})


def judged(subject: explorer.Subject, source: Source, device: str, **more: Any) -> explorer.Subject:
    """The subject with the task that its own reader proposes, on the device."""
    reader = subject.card["reader"]
    task = task_of(source, replace(propose(source, reader), validation=0.5, **more), reader)
    return explorer.Subject(subject.module.to(device), task, subject.name, card=subject.card)
