"""Tokens: a text in words or characters, the words of many texts, and their ids."""

from __future__ import annotations

import html
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import regex
import torch
from torch import Tensor

from hasa_opt.errors import InputError

__all__ = ["TOKENIZERS", "Tokenizer", "Tokens", "encoded", "tokenize", "vocabulary"]

# A letter or digit, then letters, digits, joiners and marks; not those of emoji and keycaps.
_RUN = r"[\p{L}\p{N}_][\w--[\p{Me}\ufe0e\ufe0f]]*"
_JOINTS = "['\u00b7\u05f3\u05f4]"  # apostrophe, Catalan dot, Hebrew marks: inside a word alone
_WORD = regex.compile(f"{_RUN}(?:{_JOINTS}{_RUN})*", regex.VERSION1)
_CHARACTER = regex.compile(r"(?=[\p{L}\p{N}])\X")
# One form of the apostrophe; soft hyphens, word joiners and byte-order marks part no word.
_WITHIN_WORDS = str.maketrans({"\u2019": "'", "\u00ad": "", "\u2060": "", "\ufeff": ""})
_TAG = regex.compile(r"</?[a-z][^<>]*>")

Tokens: TypeAlias = tuple[str, ...]
Tokenizer: TypeAlias = str | Callable[[str], Iterable[str]]


def _plain(text: str) -> str:
    """Lower-case text without HTML markup, in Unicode's compatible form."""
    plain = unicodedata.normalize("NFKC", html.unescape(text)).translate(_WITHIN_WORDS).lower()
    return str(_TAG.sub(" ", plain))


TOKENIZERS: dict[str, Callable[[str], list[str]]] = {
    "words": lambda text: _WORD.findall(_plain(text)),
    "characters": lambda text: _CHARACTER.findall(_plain(text)),
}
"""Name to function from a text to its tokens."""


def tokenize(text: str, *, max_tokens: int = 12, tokenizer: Tokenizer = "words") -> Tokens:
    """Split a text into lower-case tokens, without punctuation and HTML markup.

    Parameters
    ----------
    text : str
    max_tokens : int
        Tokens after these are cut off.
    tokenizer : {"words", "characters"} or function
        Words are runs of letters and digits with their combining marks, of any script.
        Characters, for texts without blanks between words, are single letters and digits with
        their marks. A function is given the text as it is and returns its tokens.

    Returns
    -------
    tuple of str

    Raises
    ------
    InputError
        For another name, or a function that does not return strings.

    Examples
    --------
    >>> tokenize("A <em>Beginner\u2019s</em> Guide &amp; More")
    ('a', "beginner's", 'guide', 'more')
    >>> tokenize("Tokyo 24", tokenizer="characters")
    ('t', 'o', 'k', 'y', 'o', '2', '4')
    >>> tokenize("a-b c", tokenizer=str.split)
    ('a-b', 'c')
    """
    if not callable(tokenizer):
        if tokenizer not in TOKENIZERS:
            known = ", ".join(map(repr, TOKENIZERS))
            raise InputError(f"tokenizer {tokenizer!r} is not known: give {known} or a function")
        return tuple(TOKENIZERS[tokenizer](text)[:max_tokens])
    tokens = tokenizer(text)
    if isinstance(tokens, str) or not isinstance(tokens, Iterable):
        raise InputError(f"tokenizer gives {tokens!r} for {text!r}: it must return a list of str")
    kept = tuple(tokens)[:max_tokens]
    for token in kept:
        if not isinstance(token, str) or not token or not _is_encodable(token):
            raise InputError(f"tokenizer gives the token {token!r} for {text!r}: give strings")
    return kept


def _is_encodable(token: str) -> bool:
    """Whether UTF-8 can hold a token; it cannot hold half of a surrogate pair."""
    return not any(unicodedata.category(sign) == "Cs" for sign in token)


def vocabulary(train: Sequence[Sequence[Tokens]], min_count: int) -> list[str]:
    """Words of the training texts, the most frequent first, ties in alphabetical order."""
    counts = Counter(word for texts in train for tokens in texts for word in tokens)
    kept = [word for word, count in counts.items() if count >= min_count]
    return sorted(kept, key=lambda word: (-counts[word], word))


def encoded(
    texts: Sequence[Tokens], ids: Mapping[str, int], missing: int, padding: int, length: int
) -> Tensor:
    """Ids of the words of each text, ``(n_texts, length)`` int64, filled up with padding."""
    table = torch.full((len(texts), length), padding, dtype=torch.int64)
    for row, tokens in enumerate(texts):
        found = [ids.get(word, missing) for word in tokens]
        table[row, : len(found)] = torch.tensor(found, dtype=torch.int64)
    return table
