"""What scores measure: size or need; and what the standardised score costs.

``python benchmarks/bench_scores.py`` (half a CPU minute) prints

- the CPU time of ``scores.excess`` for 10,000 clients and 1,000 labels,
- what the scores find where a need that is independent of size was planted,
- how much of each ranking sample size explains on texts, and on the same texts shuffled between
  the clients, whose numbers of texts stay. ``--titles FILE.csv`` adds the article titles.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise

import numpy as np

from hasa_opt import scores, tasks

NAMES = ("jensen_shannon", "excess", "debiased")


def zipf(n_labels: int) -> np.ndarray:
    """Shares that fall as one over the rank."""
    shares = 1 / np.arange(1, n_labels + 1)
    return shares / shares.sum()


def speed(n_clients: int = 10_000, n_labels: int = 1_000) -> None:
    """Clients that do not differ, of 5 to 5,000 tokens."""
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.uniform(np.log(5), np.log(5000), n_clients)).astype(int)
    counts = np.array([rng.multinomial(size, zipf(n_labels)) for size in sizes])
    plain = scores.jensen_shannon(counts)
    started = time.process_time()
    found = scores.excess(counts)
    seconds = time.process_time() - started
    print(f"{n_clients} clients that do not differ, {n_labels} labels: {seconds:.1f} CPU seconds")
    print("  tokens        clients   excess: mean   spread")
    edges = (5, 10, 50, 500, 5000)
    for low, high in pairwise(edges):
        own = found[(sizes >= low) & (sizes < high)]
        name = f"{low} to {high - 1}"
        print(f"  {name:12} {own.size:8} {own.mean():14.2f} {own.std():8.2f}")
    shares = [scores.explained_by_size(own, sizes) for own in (plain, found)]
    print(f"  ranking explained by size: {shares[0]:.1%} before, {shares[1]:.1%} after\n")


def planted(seeds: int = 10) -> None:
    """Clients with a share of foreign tokens, drawn independently of their size."""
    print("rank correlation with a planted need, and with size, of 40 clients (30 to 3,000 tokens)")
    print("  labels  alpha" + "".join(f"{name:>22}" for name in NAMES))
    for n_labels in (10, 100, 1000):
        for alpha in (1.0, 0.1):
            found = np.mean([_planted(seed, n_labels, alpha) for seed in range(seeds)], axis=0)
            cells = "".join(f"{need:14.2f} {size:7.2f}" for need, size in found)
            print(f"  {n_labels:6} {alpha:6} {cells}")
    print()


def _planted(seed: int, n_labels: int, alpha: float) -> list[tuple[float, float]]:
    rng = np.random.default_rng([seed, n_labels])
    sizes = np.exp(rng.uniform(np.log(30), np.log(3000), 40)).astype(int)
    need, common = rng.uniform(0, 0.6, 40), zipf(n_labels)
    foreign = [(1 - own) * common + own * rng.permutation(common) for own in need]
    counts = np.array([rng.multinomial(*pair) for pair in zip(sizes, foreign, strict=True)])
    found = [scores.SCORES[name](counts, alpha=alpha) for name in NAMES]
    return [(rank_correlation(own, need), rank_correlation(own, sizes)) for own in found]


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's."""
    ranks = scores.rank_normalize(one), scores.rank_normalize(other)
    return float(np.corrcoef(*ranks)[0, 1])


def texts(task: tasks.Task, shuffles: int = 40) -> None:
    """Scores of real texts, and of the same texts shuffled between the clients."""
    counted, owners = _tokens(task)

    def counts(order: np.ndarray) -> np.ndarray:
        return np.stack([counted[order == row].sum(axis=0) for row in range(len(task))])

    true = counts(owners)
    assert (true == task.counts.toarray()).all()
    rng = np.random.default_rng(0)
    shuffled = [counts(rng.permutation(owners)) for _ in range(shuffles)]
    sizes = true.sum(axis=1)
    print(f"{task.name}: rank correlation with the number of tokens, of {len(task)} clients")
    print("  score             as it is    shuffled   (mean of 40)")
    for name in NAMES:
        score = scores.SCORES[name]
        dealt = [rank_correlation(score(own), own.sum(axis=1)) for own in shuffled]
        print(f"  {name:15} {rank_correlation(score(true), sizes):10.2f} {np.mean(dealt):11.2f}")
    dealt = np.mean([scores.jensen_shannon(own) for own in shuffled], axis=0)
    alike = np.corrcoef(scores.jensen_shannon(true), dealt)[0, 1] ** 2
    chance = np.array([scores.excess(own) for own in shuffled])
    print(f"  squared correlation of jensen_shannon, as it is and shuffled: {alike:.0%}")
    print(f"  excess, shuffled: mean {chance.mean():.2f}, spread {chance.std(axis=0).mean():.2f}")
    print("  client                   tokens  jensen_shannon  shuffled   excess  debiased")
    columns = [sizes, *(scores.SCORES[name](true) for name in NAMES), dealt]
    for row, (size, plain, sure, beyond, mean) in enumerate(zip(*columns, strict=True)):
        name = task.client_names[row]
        print(f"  {name:24} {size:6} {plain:15.4f} {mean:9.4f} {sure:8.1f} {beyond:9.4f}")
    print()


def _tokens(task: tasks.Task) -> tuple[np.ndarray, np.ndarray]:
    """Histogram of each training text, ``(n_texts, n_labels)``, and the client that owns it."""
    histograms, owners = [], []
    for row, split in enumerate(task.train):
        for inputs, targets in zip(split.inputs.numpy(), split.targets.numpy(), strict=True):
            length = int((inputs != 0).sum())
            last = max(int(targets[length - 1]), 1)  # -1 is a word outside: token 1 in the counts
            tokens = np.append(inputs[:length], last)
            histograms.append(np.bincount(tokens, minlength=task.n_outputs))
            owners.append(row)
    return np.array(histograms, dtype=np.int32), np.array(owners)


def main() -> None:
    """Print all three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--titles", help="CSV file with the columns title and publication")
    given = parser.parse_args()
    speed()
    planted()
    texts(tasks.load("docstrings"))
    if given.titles:
        texts(tasks.titles(given.titles))


if __name__ == "__main__":
    main()
