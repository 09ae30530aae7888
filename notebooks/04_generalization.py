# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Few cells for training, many to place
#
# Mapping a hundred thousand cells takes time, and next month there are more of them. A network can
# be trained on a few and then place the rest on the map. How few are enough, and do held-out cells
# come to lie among cells of their type and in the same space as the training cells?

# %% tags=["hide-input"]
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import cdist
from scipy.stats import hypergeom
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPRegressor

import rpumap
from rpumap.chapters import costs
from rpumap.chapters.comparison import (
    describe_cells,
    fit_umap_learn,
    transfer_labels,
)
from rpumap.chapters.display import (
    markdown_table,
    say,
    show_rules,
    show_verdicts,
)
from rpumap.chapters.gap_scores import crowding
from rpumap.chapters.generalization import (
    FINE,
    FRACTIONS,
    Split,
    displacement,
    separated,
)
from rpumap.chapters.robustness import lose
from rpumap.chapters.scorecard import BOOK, interval, load_results
from rpumap.chapters.settings import DEFAULT
from rpumap.chapters.style import use_style
from rpumap.estimator import embed
from rpumap.metrics import knn_accuracy, trustworthiness
from rpumap.plotting import COLORS, INK, MARKERS, embedding

use_style()
adata = rpumap.datasets.pancreas()
print(adata.uns["source"])
source = describe_cells(adata)
split = Split(adata, DEFAULT, seed=0)
held_out, labels = split.held_out, split.labels
types = list(adata.obs["clusters"].cat.categories)
runs = {fraction: split.train(fraction) for fraction in FRACTIONS}

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four maps of the same held-out cells, one above the other, by networks trained on 5, 10, 30 and 50 per cent of the cells. In each, dots coloured by type lie along one branching band in the same order of types, and crosses for training cells are spread over all of it. With 5 per cent the branches are blurred."}, "figure": {"caption": "One split: networks trained on 5, 10, 30 and 50 % of the cells (crosses), and a quarter of the cells that none of them was trained on (dots). Each map is rotated, or reflected, to agree with the last. Counterpart of figure 2C.", "name": "fig-generalization-maps"}}
fig, axes = plt.subplots(4, 1, figsize=(5, 8.2))
last = PCA(2).fit_transform(runs[0.5][0])  # along the page
for ax, fraction in zip(axes.flat, FRACTIONS, strict=True):
    Z = runs[fraction][0] - runs[fraction][0].mean(axis=0)
    Z = Z @ orthogonal_procrustes(Z, last)[0]
    trained = Z[split.part(fraction)]
    look = {"s": 30, "linewidths": 0.9} if fraction < 0.2 else {"s": 12}
    look = {"marker": "x", "color": INK, "linewidths": 0.5, **look}
    ax.scatter(*trained.T, **look)
    look = {"size": 6, "names": "none", "categories": types}
    embedding(Z[held_out], labels[held_out], ax=ax, **look)
    title = f"{100 * fraction:.0f} %: {len(trained):,} {source}"
    ax.set(xlabel="", ylabel="", title=title)
for color, kind in zip(COLORS, types, strict=True):
    axes[0].scatter([], [], s=30, color=color, label=kind)
axes[0].scatter([], [], s=30, marker="x", color=INK, label="training cell")
look = {"handletextpad": 0.1, "columnspacing": 0.8}
legend = fig.legend(loc="outside lower center", ncols=3, **look)

# %% tags=["remove-input"]
ends, few = (0.05, 0.5), runs[0.05][0]
on_map, in_genes = (
    {f: split.recognised(f, runs[f][k]) for f in ends} for k in (0, 1)
)
among = {f: separated(split, runs[f][0]) for f in ends}
rates = [100 * score[f] for score in (on_map, in_genes, among) for f in ends]
crowded = crowding(few[split.part(0.05)], few[held_out])
say(f"""
On this split ({source}), the 15 nearest training cells name the type of
{rates[0]:.0f} % of the held-out cells when 5 % are trained on, and of
{rates[1]:.0f} % with 50 %; each type counts alike. In gene space, without a
map, it is {rates[2]:.0f} % and {rates[3]:.0f} %. If held-out cells vote among
themselves, so that the number of training cells does not matter, it is
{rates[4]:.0f} % on the map of 5 % and {rates[5]:.0f} % on that of 50 %. Around
a training cell of the 5 % there are {crowded:.2f} times as many other training
cells as around a held-out cell.
""")

# %% [markdown]
# ## What you will learn
#
# After this chapter you can
#
# - place a new cell by hand in three ways, and say which of them can extrapolate;
# - plan a test on held-out cells into which nothing leaks, and derive how much z-scores can leak;
# - score held-out cells, each score beside what it has to be compared with;
# - compute how likely a sample misses a rare type;
# - decide in which space cells of an unknown type can be noticed.
#
# **You need** [Training](03_training), or at least the [quickstart](00_quickstart); means and standard
# deviations.
#
# ## What the paper says
#
# The paper finds that "cell identities were well separated even when training was done with only 5%
# of the full data" (section 3.3, figure 2), though fine structure such as "the diverging development of
# alpha and beta cells" is lost, "a feature that was recovered when 10% of the pancreatic dataset was used".
# And "the full data was projected onto the same space in all test cases", even by z-scores that were
# computed with all cells. We will judge these sentences over splits and tissues.
#
# ## A table, its neighbours, or a function
#
# Three cells have one gene, with values 0, 1 and 3. Training put them at 0, 2 and 6 on a map with
# one dimension. Two new cells come, with values 2 and 5.
#
# **A table** of coordinates, which is all that UMAP optimises, has no row for either of them.
#
# **Neighbours.** Take the mean coordinate of the two nearest training cells. These are the cells at
# 1 and 3 both times, so both new cells get $(2 + 6)/2 = 4$. That agrees with the training cells for
# the first. For the second it does not: a mean never lies outside of the values it is taken of.
#
# **A function.** Let training have learned $z = 2x$. Then the new cells get 4 and 10. The first
# agrees; the second extrapolates. The training cells cannot show whether that is right.

# %%
genes3, map3 = np.array([0.0, 1.0, 3.0]), np.array([0.0, 2.0, 6.0])


def mean_of_nearest(new, genes, coordinates, k):
    nearest = np.argsort(abs(new[:, None] - genes), axis=1)[:, :k]
    return coordinates[nearest].mean(axis=1)


new = np.array([2.0, 5.0])
by_two = mean_of_nearest(new, genes3, map3, k=2)
by_function = np.polyval(np.polyfit(genes3, map3, deg=1), new)
pd.DataFrame({"neighbours": by_two, "function": by_function}, index=new)

# %% tags=["hide-input"]
assert np.allclose(by_two, [4, 4])
assert np.allclose(by_function, [4, 10])

# %% [markdown]
# `UMAP.transform` of umap-learn goes the second way {cite:p}`mcinnes2018umap`. It finds the nearest
# training cells in gene space, starts a new cell at the mean of their coordinates, weighted by the
# edge strengths of [chapter 1](01_fuzzy_graph), and then moves it by attraction and repulsion for
# some epochs, while the training cells stay fixed. So it must keep all training cells, genes
# included. A network keeps its weights only.
#
# Now a bent line, twelve training cells with a little noise, and a gap among them. The function is
# a network with 32 neurons in each of two hidden layers, trained on squared errors.

# %%
draw = np.random.default_rng(0)
genes = np.r_[np.linspace(0, 4, 7), np.linspace(7, 10, 5)]
coordinates = 3 * np.sin(genes / 2) + draw.normal(0, 0.1, 12)
options = {"solver": "lbfgs", "max_iter": 1000, "random_state": 3}
small = MLPRegressor(hidden_layer_sizes=(32, 32), **options)
small.fit(genes[:, None] / 5 - 1, coordinates)
new = np.linspace(-3, 13, 161)
by_network = small.predict(new[:, None] / 5 - 1)
by_neighbors = mean_of_nearest(new, genes, coordinates, k=3)

# %% tags=["hide-input"] mystnb={"image": {"alt": "A wave with twelve dots on its left and right part. The line of the network follows the wave closely, crosses the gap between the dots smoothly and leaves in a straight line at both ends. The line of the neighbours is a staircase, flat at both ends and in steps across the gap."}, "figure": {"caption": "Twelve training cells (dots), the true curve (dotted), and two ways of placing new ones: a network (solid) and the mean of the three nearest (dashed).", "name": "fig-generalization-toy"}}
truth = 3 * np.sin(new / 2)
fig, ax = plt.subplots(figsize=(5, 3.8))
ax.plot(new, truth, ":", color=INK, label="truth")
ax.plot(new, by_network, color=COLORS[0], label="network")
ax.plot(new, by_neighbors, "--", color=COLORS[5], label="3 neighbours")
ax.plot(genes, coordinates, "o", color=INK, label="training cells")
ax.set(xlabel="gene", ylabel="coordinate", title="one gene, invented cells")
legend = fig.legend(loc="outside lower center", ncols=2)

# %% tags=["hide-input"]
errors = np.abs([by_network - truth, by_neighbors - truth])
inside, outside = (new > 0) & (new < 4), (new < 0) | (new > 10)
assert (errors[:, outside].mean(1) > 3 * errors[:, inside].mean(1)).all()

# %% [markdown]
# Among training cells both do well. In the gap the network interpolates smoothly and the neighbours
# in steps ({numref}`fig-generalization-toy`); another seed gives another curve there, since
# no data constrain it. Outside both are wrong, each in its own way. The paper's
# section 3.3 is about the first region: a random sample leaves no large gaps. (Gaps are its next
# section.) But three hundred genes are not one. With tens of thousands of weights and 185 cells, does the
# network overfit? Only held-out cells can show it.
#
# ## A test without leaks
#
# Held-out cells are a valid test only if nothing was learnt from them. They take no part in training, *nor
# in the choice of genes, means and deviations*. All fractions are tested on the same held-out cells, a
# random quarter, and the 5 % are among the 10 %, and so on. So a difference between fractions is not a
# difference between test sets. `Split` of {mod}`rpumap.chapters.generalization` does this. In its place,
# for 5 %, one can write:

# %%
training = split.part(0.05)
prep = rpumap.Preprocessor(n_top_genes=300).fit(adata[training])
X = prep.transform(adata)
Z = DEFAULT.fit(X[training], seed=0).transform(X)
assert np.allclose(Z, runs[0.05][0], atol=1e-3)

# %% tags=["hide-input"]
parts = {fraction: set(split.part(fraction)) for fraction in FRACTIONS}
assert parts[0.05] < parts[0.1] < parts[0.3] < parts[0.5]
assert not parts[0.5] & set(held_out)

# %% [markdown]
# {class}`rpumap.Preprocessor` keeps the genes, means and deviations of the training cells for all others.
#
# ## What to score, and beside what
#
# The first score: the 15 training cells nearest to a held-out cell vote on its type. The share of cells
# of a type that are recognised is its *recall*, and the mean over the types is the **balanced
# accuracy**. In it a type of fifty cells counts as much as one of a thousand.

# %%
voted = transfer_labels(Z[training], labels[training], Z[held_out])
right = pd.Series(voted == labels[held_out], name="recall")
recall = right.groupby(labels[held_out]).mean()
recall.round(2).to_frame()

# %% tags=["hide-input"]
assert np.isclose(recall.mean(), split.recognised(0.05, Z))

# %% [markdown]
# What should it be compared with? Not with 1. If the 15 nearest training cells *in gene space*, with the
# same genes and z-scores, do not name the type either, then the map is not to blame. So "well separated" will
# mean: hardly worse than gene space. That is a baseline, not a limit. A map averages over genes, and
# may give a better vote.
#
# This comparison misses something. With few training cells the vote gets worse in both spaces, and a type with
# fewer than 8 training cells can never have the majority of 15 votes, wherever the map places it. So the map
# of 5 % is judged in a second way too: the 15 nearest *held-out* cells vote, and the baseline is the map of 50 %.
# There are as many held-out cells on both.
#
# Alpha and beta cells are scored in this way as well, by {func}`rpumap.metrics.knn_accuracy`: only held-out cells
# of the two types, each named by the nearest others. What the map of 5 % loses against that of 50 % is compared with
# what gene space loses, whose genes and z-scores also come from 5 %. Two more scores are about space:
#
# - **Crowding.** Count the training cells among the 15 nearest on the map, around training cells and around
#   held-out cells, and divide. If both are spread over the same regions alike, it is 1. If training cells
#   are mostly next to other training cells, it is more.
# - **Displacement.** How far a held-out cell moves if its z-scores come from all cells, in *spreads* of the
#   map (root of its total variance). The distance to the nearest training cell gives the scale.


# %%
def scores(fraction):
    Z, X, _ = runs[fraction]
    fine = held_out[np.isin(labels[held_out], FINE)]
    moved, nearest = displacement(split, fraction, runs[fraction])
    return {
        "training cells vote, map": split.recognised(fraction, Z),
        "training cells vote, gene space": split.recognised(fraction, X),
        "held-out cells vote, map": separated(split, Z),
        "Alpha or Beta, map": knn_accuracy(Z[fine], labels[fine]),
        "Alpha or Beta, gene space": knn_accuracy(X[fine], labels[fine]),
        "crowding": crowding(Z[split.part(fraction)], Z[held_out]),
        "displacement": moved,
        "nearest training cell": nearest,
    }


pd.DataFrame({f"{f:.0%}": scores(f) for f in FRACTIONS}).round(3)

# %% [markdown]
# This is one split. Another one gives other numbers, and only several show which of these differences repeat.
#
# ## How much can leak through z-scores?
#
# Take the genes as given. Let $\mu$, $\sigma$ be mean and deviation of a gene over all $N$ cells, and
# $\mu_S$, $\sigma_S$ over a sample of $n$. The two z-scores of a value $v$ are
# $z_S = (v - \mu_S)/\sigma_S$ and $z = (v - \mu)/\sigma$, so
#
# $$
# z = \frac{\sigma_S}{\sigma}\, z_S + \frac{\mu_S - \mu}{\sigma} .
# $$ (eq-generalization-zscores)
#
# Each gene is stretched by one factor and shifted by one amount, the same for all cells. The mean of
# $n$ cells drawn without replacement misses $\mu$ by
#
# $$
# \frac{\mu_S - \mu}{\sigma} \approx \pm \sqrt{\frac1n \Bigl(1 - \frac nN\Bigr)} ,
# $$ (eq-generalization-shift)
#
# the second factor because the mean of a sample of all cells is exact. For $n = 185$ of 3,696 that is 7 % of
# a standard deviation a gene, and over 300 genes these errors add up to a shift of length
# $0.07\sqrt{300} \approx 1.2$. Compare with the cells:

# %%
shifts = {}
for fraction in FRACTIONS:
    training, X = split.part(fraction), runs[fraction][1]
    shift = X.mean(axis=0) / X.std(axis=0, ddof=1)
    n, nearest = len(training), cdist(X[held_out], X[training]).min(axis=1)
    shifts[f"{fraction:.0%}"] = {
        "shift a gene (root mean square)": np.sqrt((shift**2).mean()),
        "expected": np.sqrt((1 - n / adata.n_obs) / n),
        "length of the shift": np.linalg.norm(shift),
        "to the nearest training cell": np.median(nearest),
    }
shifts = pd.DataFrame(shifts)
shifts.round(3)

# %% tags=["remove-cell"]
by_formula = shifts.iloc[0] / shifts.loc["expected"]
assert by_formula.between(0.7, 1.5).all()
assert (shifts.loc["length of the shift"] < 0.3 * shifts.iloc[3]).all()

# %% [markdown]
# The formula holds roughly. (Genes with rare, large counts deviate more.) The shift is short compared with
# the distance to the nearest training cell. But it has the same direction for all cells, and a network may
# change fast in that direction; on the map it has to be measured. That is the displacement above.
#
# The swap does not change the genes, since those of a trained network are fixed. A larger leak: choose
# genes, means and deviations from all cells, and train on that. Does it improve the score?

# %%
X_all = DEFAULT.scores(DEFAULT.prepare(adata), adata)
leaks = []
for seed in range(4):
    other = Split(adata, DEFAULT, seed)
    clean = other.train(0.05)[0]
    leaky = DEFAULT.fit(X_all[other.part(0.05)], seed).transform(X_all)
    leaks.append([other.recognised(0.05, Z) for Z in (clean, leaky)])
leaks = pd.DataFrame(leaks, columns=["no leak", "all cells"])
leaks.index.name = "split"
leaks.round(3)

# %% tags=["remove-input"]
gained = leaks["all cells"] - leaks["no leak"]
low, high = interval(gained)
found = "It contains 0: genes chosen by the training cells alone serve as well"
if low > 0:
    found = "So the leak raises the score"
elif high < 0:
    found = "So the score falls, and nothing was gained by the leak"
say(f"""
The leak changes the balanced accuracy by {gained.mean():.3f} on average; the
95 % interval over these {len(gained)} splits goes from {low:.3f} to
{high:.3f}. {found}. With few cells of a disease, or genes chosen by how well
they separate the types, a leak can change more.
""")

# %% [markdown]
# ## Other ways to place new cells
#
# **UMAP's own.** umap-learn computes distances of fewer than 4,096 cells one by one in Python. We pass it
# the distances, which is faster. {func}`rpumap.metrics.trustworthiness` asks whether cells that are close on the map
# are close in gene space.

# %%
training, X = split.part(0.05), runs[0.05][1]
far, query = (cdist(X[cells], X[training]) for cells in (training, held_out))
by_umap = fit_umap_learn(far, query, metric="precomputed")
by_net = few[training], few[held_out]
others = {}
for name, pair in {"network": by_net, "UMAP transform": by_umap}.items():
    voted = transfer_labels(pair[0], labels[training], pair[1])
    right = pd.Series(voted == labels[held_out])
    others[name] = {
        "balanced accuracy": right.groupby(labels[held_out]).mean().mean(),
        "trustworthiness": trustworthiness(X[held_out], pair[1]),
        "crowding": crowding(*pair),
    }
pd.DataFrame(others).round(3)

# %% tags=["remove-cell"]
assert others["UMAP transform"]["crowding"] > 2 * others["network"]["crowding"]

# %% tags=["remove-input"]
near = {}
for name, pair in {"network": by_net, "UMAP": by_umap}.items():
    search = NearestNeighbors(n_neighbors=15).fit(np.vstack(pair))
    around = search.kneighbors(return_distance=False)[: len(training)]
    near[name] = 100 * (around < len(training)).mean()
share = 100 * len(training) / (len(training) + len(held_out))
say(f"""
Crowding differs most. Of the training and held-out cells together,
{share:.0f} % are training cells. On the map of UMAP they are {near["UMAP"]:.0f}
% of the cells around a training cell, so the two lie apart from each other; on
that of the network they are {near["network"]:.0f} %.
""")

# %% [markdown]
# **umap-learn's ParametricUMAP** is the other implementation of a network {cite:p}`sainburg2021parametric`. It
# needs TensorFlow, and so it runs in an environment of its own, beside our other [measurements of
# speed](../book/performance). These are published, with the defaults of each and 300 genes chosen from four fifths of
# the real cells; the last fifth is new:

# %% tags=["hide-input"]
bench = json.loads((BOOK / "performance.json").read_text(encoding="utf-8"))
tissues = {"pancreas": "pancreas", "malaria": "malaria parasites"}
methods = {
    "rpumap": ("rpumap", "torch"),
    "ParametricUMAP": ("umap-learn", "tensorflow-cpu"),
    "UMAP": ("umap-learn",),
}


def new_cells(cells, method):
    """Accuracies of new cells, one a seed."""
    wanted = {"data": cells, "method": method}
    rows = [r for r in bench["fits"] if wanted.items() <= r.items()]
    found = [row.get("new_accuracy") for row in rows]
    return [accuracy for accuracy in found if accuracy is not None]


def ahead(method):
    gap = {
        cells: np.median(new_cells(cells, "rpumap"))
        - np.median(new_cells(cells, method))
        for cells in tissues
    }
    return " and ".join(
        f"{gap[cells]:+.3f} on the {name}" for cells, name in tissues.items()
    )


lines, used = [], []
for method, packages in methods.items():
    fit = next(row for row in bench["fits"] if row["method"] == method)
    versions = bench["runs"][fit["run"]]["versions"]
    used.append(", ".join(f"{name} {versions[name]}" for name in packages))
    accuracies = [new_cells(cells, method) for cells in tissues]
    lines.append(
        [method, *(f"{np.median(a):.3f} ({len(a)})" for a in accuracies)]
    )
say(markdown_table(["method", "pancreas", "malaria"], lines))

# %% tags=["remove-input"]
say(f"""
Share of new cells whose type is that of most of their 15 nearest training
cells on the map: median, and in brackets the number of seeds. rpumap less
ParametricUMAP is {ahead("ParametricUMAP")}; rpumap less UMAP, which keeps its
training cells, {ahead("UMAP")}. All have the same split, so these differences
say nothing of how they vary between splits. Versions: {used[0]};
ParametricUMAP of {used[1]}; UMAP of {used[2]}.
""")

# %% [markdown]
# **No map.** If labels are all you want, you need no map. The nearest cells in 30 principal components can
# vote as well:

# %%
training, (Z, X, _) = split.part(0.5), runs[0.5]
pca = PCA(30, random_state=0).fit(X[training])
for name, space in {"map": Z, "components": pca.transform(X)}.items():
    voted = transfer_labels(space[training], labels[training], space[held_out])
    print(f"{name}: {(voted == labels[held_out]).mean():.3f}")

# %% [markdown]
# The published run compares the map with these, and with *ingest* of scanpy {cite:p}`wolf2018scanpy`,
# which takes logarithms, 2,000 genes and 50 components, on two pairs of studies.
#
# ## What it costs
#
# The paper's discussion names two savings. One is time: train on few, place the rest. `training_time` measures
# seconds of the processor from counts to all coordinates, with 5 % and with all:

# %%
seconds = costs.training_time(adata, DEFAULT, seed=0)
pd.DataFrame({"seconds": seconds}, index=["5 %", "all"]).round(1)

# %% tags=["remove-input"]
ratio = seconds[1] / seconds[0]
far_from = "far from twentyfold" if ratio < 10 else "of the order of the cells"
say(f"""
The saving is {ratio:.1f}-fold, {far_from}. Up to some thousand cells the
number of steps does not depend on the number of cells, so what gets shorter is
the graph.
""")

# %% [markdown]
# The other is memory: training in batches "allows one to partition the data". `train_on_parts`
# keeps one of four parts in memory. Each part has a graph of its own, so cells of different parts are never
# compared, and what holds the parts together is the network.

# %%
training, X = split.part(0.5), runs[0.5][1]
with tempfile.TemporaryDirectory() as folder:
    files = costs.write_parts(X[training], 4, Path(folder))
    plan = costs.Plan(files, len(training), 3, DEFAULT, 0)
    Z = embed(costs.train_on_parts(plan), X)
at_once = split.recognised(0.5, runs[0.5][0])
print(f"in parts {split.recognised(0.5, Z):.3f}, at once {at_once:.3f}")

# %% [markdown]
# Whether memory is saved depends on what needs it. Beside the z-scores of the cells there are the graph, the batches and the
# libraries, and with a few thousand cells the z-scores are the smaller part. The published run measures the peak in
# fresh processes, with 18,213 simulated cells of the dentate gyrus.
#
# ## The rules
#
# The unit is a split: its own held-out cells, its own networks on nested parts of the others, and, where needed, two
# networks on all cells. What is compared is compared inside a split, which takes away what makes a split easy or hard for
# all methods. These rules were written before the splits were drawn ([how to read them](../book/scorecard)):

# %% tags=["remove-input"]
show_rules("04_generalization")

# %% [markdown]
# The baseline of the types is gene space, for what it does not separate no map can be asked to. The map of half is compared
# with two maps of all cells, since two seeds do not agree perfectly either.
#
# ## What the splits say
#
# Three data sets take part. The third, the dentate gyrus of figure 2B, is a simulated stand-in
# ({func}`rpumap.datasets.dentate_gyrus`):

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two maps of simulated cells of the dentate gyrus, side by side, by networks trained on 5 and on 30 per cent of them. Training cells are crosses, seven types are coloured dots and the others grey. The types follow each other along the same branches in both."}, "figure": {"caption": "Simulated stand-in for the dentate gyrus, one split: held-out cells (dots) on maps by networks trained on 5 and 30 % of the cells (crosses). Counterpart of figure 2B.", "name": "fig-generalization-gyrus"}}
gyrus = rpumap.datasets.dentate_gyrus(source="simulated")[::4].copy()
of_gyrus = Split(gyrus, DEFAULT, seed=0)
new, kinds = of_gyrus.held_out, of_gyrus.labels.astype(str)
shown = ["RadialGlia", "ImmAstro", "OPC", "Nbl1", "ImmGranule1", "Granule"]
shown += ["other types", "CA1-Sub"]  # the seventh colour is grey
kinds = np.where(np.isin(kinds, shown), kinds, "other types")
fig, axes = plt.subplots(1, 2, figsize=(5, 4.6))
for ax, fraction in zip(axes, (0.05, 0.3), strict=True):
    Z = of_gyrus.train(fraction)[0]
    trained = Z[of_gyrus.part(fraction)]
    ax.scatter(*trained.T, s=9, marker="x", color=INK, linewidths=0.4)
    look = {"ax": ax, "categories": shown, "names": "none", "size": 6}
    embedding(Z[new], kinds[new], **look)
    title = f"{100 * fraction:.0f} %, {describe_cells(gyrus)}"
    ax.set(title=title, xlabel="", ylabel="")
for color, kind in zip(COLORS, shown, strict=True):
    axes[0].scatter([], [], s=30, color=color, label=kind)
axes[0].scatter([], [], s=30, marker="x", color=INK, label="training cell")
look = {"handletextpad": 0.1, "columnspacing": 0.8}
legend = fig.legend(loc="outside lower center", ncols=3, **look)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four panels, pancreas and malaria, in the settings of the paper and with our defaults. Each has three rows of dots for splits: balanced accuracy of held-out cells with 50 and with 5 per cent of the cells on the map and in gene space, and among held-out cells on the maps of 5 and of 50 per cent."}, "figure": {"caption": "Balanced accuracy of held-out cells; a marker is a split, a bar the mean. Filled: on the map. Open: what the rule compares it with, which is gene space, and the map of 50 % where held-out cells vote.", "name": "fig-generalization-splits"}}
results = {
    (row["id"], row["cells"], row["settings"]): row
    for row in load_results()["rows"]
}
names = {
    "twentieth/separated": "5 %,\nheld-out\ncells vote",
    "twentieth/types": "5 %,\ntraining\ncells vote",
    "half/types": "50 %,\ntraining\ncells vote",
}
looks = {
    "map": {"marker": "o", "color": COLORS[0]},
    "compared with": {"marker": "s", "color": COLORS[5], "mfc": "none"},
}
fig, axes = plt.subplots(2, 2, figsize=(5, 5.6), sharex=True, sharey=True)
titles = {"paper": "paper's settings", "default": "our defaults"}
for row, cells in zip(axes, ("pancreas", "malaria"), strict=True):
    for ax, settings in zip(row, titles, strict=True):
        for place, claim in enumerate(names):
            units = np.array(results[claim, cells, settings]["units"])
            for k, look in enumerate(looks.values()):
                y = place + 0.15 - 0.3 * k
                x, look = units[:, k], {"ls": "", "ms": 4.5, **look}
                ax.plot(x, np.full(len(x), y), alpha=0.7, **look)
                ax.plot(x.mean(), y, "|", color=INK, ms=16, mew=2)
        ax.set_yticks(range(len(names)), names.values())
        ax.set_ylim(-0.6, 2.5)
    row[0].set_ylabel(cells)
for column, settings in enumerate(titles):
    axes[0, column].set_title(titles[settings])
    axes[1, column].set_xlabel("balanced accuracy")
for name, look in looks.items():
    ax.plot([], [], ls="", label=name, **look)
handles = ax.get_legend_handles_labels()
legend = fig.legend(*handles, loc="outside lower center", ncols=2)

# %% tags=["remove-input"]
show_verdicts("04_generalization")


# %% tags=["hide-input"]
def means(claim, cells, digits=2):
    row = results[claim, cells, "paper"]
    return f"{row['value']:.{digits}f} / {row['baseline_value']:.{digits}f}"


def verdicts(claim, *cells, settings="paper"):
    found = [results[claim, c, settings]["verdict"] for c in cells]
    return " and ".join(f"*{verdict}*" for verdict in found)


measured = {
    "half/types": "types, 50 %: map / gene space",
    "half/map": "map of half and of all, rank correlation / two maps of all",
    "twentieth/types": "types, 5 %: map / gene space",
    "twentieth/separated": "types among held-out cells: map of 5 % / of 50 %",
    "same-space/5": "crowding, 5 % / mixed at random",
    "zscores/5": "displacement, 5 % / to the nearest training cell",
}
real = ("pancreas", "malaria")
lines = [
    [text, *(means(claim, c, 3 if claim == "zscores/5" else 2) for c in real)]
    for claim, text in measured.items()
]
say("""
**How to read it.** The means behind these effects, on real cells in the
paper's settings:
""")
say(markdown_table(["value / what it is compared with", *real], lines))

# %% tags=["remove-input"]
lost, back = (
    results[f"alpha-beta/{part}", "pancreas", "paper"]
    for part in ("lost", "back")
)
say(f"""
- *Half of the cells*, pancreas and parasites: types
  {verdicts("half/types", *real)}, map {verdicts("half/map", *real)}.
- *Well separated with 5 %*: beside gene space
  {verdicts("twentieth/types", *real)}, among held-out cells
  {verdicts("twentieth/separated", *real)}. The first asks whether the map adds
  to the loss that few training cells cause anyway, the second whether one sees
  less on the picture. An *undecided* effect has its threshold inside the
  interval: {lost["n"]} splits do not tell.
- *Alpha and beta.* From 50 to 5 % the map loses {lost["value"]:.3f} of its
  accuracy and gene space {lost["baseline_value"]:.3f}
  ({verdicts("alpha-beta/lost", "pancreas")}). With 10 % the map gains
  {back["value"]:.3f} and gene space {back["baseline_value"]:.3f}
  ({verdicts("alpha-beta/back", "pancreas")}).
- *Same space*: {verdicts("same-space/5", *real)} with 5 %. *Same place whatever
  the z-scores*: {verdicts("zscores/5", *real)}. The rule asks whether a
  displacement would be seen on the picture, the last line of the table whether
  it exceeds the distance between cells.
""")

# %% tags=["remove-input"]
time = {
    settings: results["time/saved", "dentate_gyrus", settings]
    for settings in ("paper", "default")
}
memory = results["partition/memory", "dentate_gyrus", "paper"]
by_defaults = verdicts("time/saved", "dentate_gyrus", settings="default")
say(f"""
- *Time*, over {time["paper"]["n"]} refits: {time["paper"]["value"]:.1f} s in
  place of {time["paper"]["baseline_value"]:.1f} s in the paper's settings,
  whose number of steps is fixed, and {time["default"]["value"]:.1f} s in place
  of {time["default"]["baseline_value"]:.1f} s with our defaults
  ({verdicts("time/saved", "dentate_gyrus")}, {by_defaults}).
- *Memory* in four parts, in the paper's settings: {memory["value"]:.0f} MB at
  the peak, at once {memory["baseline_value"]:.0f} MB
  ({verdicts("partition/memory", "dentate_gyrus")}); trustworthiness
  {means("partition/trust", "dentate_gyrus", 3)} and accuracy
  {means("partition/accuracy", "dentate_gyrus", 3)}.
- *Labels* of the parasites and of blood, map / principal components:
  {means("transfer/pca", "malaria")} and {means("transfer/pca", "blood")}
  ({verdicts("transfer/pca", "malaria", "blood")}); map / ingest:
  {means("transfer/ingest", "malaria")} and {means("transfer/ingest", "blood")}
  ({verdicts("transfer/ingest", "malaria", "blood")}).
""")

# %% [markdown]
# ## What can go wrong
#
# **Rare types.** A random sample of $n$ out of $N$ cells holds none of a type with $m$ cells with
# probability
#
# $$
# \binom{N - m}{n} \Big/ \binom{N}{n} \approx \Bigl(1 - \frac nN\Bigr)^{m} .
# $$ (eq-generalization-absent)
#
# And with fewer than 8 training cells a type has no majority, though it may still win where the votes are split. For
# 5 % and the two rarest types:

# %%
n, n_cells = len(split.part(0.05)), adata.n_obs
sizes = {"imagined": 20, **pd.Series(labels).value_counts().tail(2)}
rare = pd.DataFrame({"cells of the type": sizes})
m = rare["cells of the type"]
rare["P(none)"] = hypergeom.cdf(0, n_cells, m, n)
rare["P(fewer than 8)"] = hypergeom.cdf(7, n_cells, m, n)
rare.round(4)

# %% tags=["hide-input"]
assert np.allclose(rare["P(none)"], (1 - n / n_cells) ** m, rtol=0.3)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two charts, map above and gene space below: share of held-out cells that are recognised against the number of training cells of their type, on a logarithmic scale, one line a type through four fractions. In both, types with few training cells are rarely recognised, and most types with many often are."}, "figure": {"caption": "How often held-out cells of a type are recognised, against the training cells of that type, in one split; a line joins the four fractions. Left of the dotted line a type cannot have the majority of 15 votes.", "name": "fig-generalization-rare"}}
fig, axes = plt.subplots(2, 1, figsize=(5, 6.6), sharex=True, sharey=True)
recalls = {}
for k, (ax, space) in enumerate(zip(axes, ("map", "gene space"), strict=True)):
    for j, kind in enumerate(types):
        line, own = [], held_out[labels[held_out] == kind]
        for fraction in FRACTIONS:
            training, M = split.part(fraction), runs[fraction][k]
            voted = transfer_labels(M[training], labels[training], M[own])
            n_own = (labels[training] == kind).sum()
            line.append([n_own, (voted == kind).mean()])
        recalls[space, kind] = np.array(line)
        look = {"marker": MARKERS[j % 4], "ls": "-" if j < 4 else "--"}
        look |= {"color": COLORS[j], "markersize": 5, "label": kind}
        ax.plot(*recalls[space, kind].T, **look)
    ax.axvline(7.5, color=INK, ls=":")
    ax.set(ylabel="share recognised", title=f"{space}, {source}")
axes[0].set(xscale="log", ylim=(-0.05, 1.05))
axes[1].set_xlabel("training cells of the type")
lines = axes[0].get_legend_handles_labels()
legend = fig.legend(*lines, loc="outside lower center", ncols=3)

# %% tags=["remove-input"]
missed = [
    kind
    for kind in types
    if max(recalls[s, kind][-1, 1] for s in ("map", "gene space")) < 0.5
]
reading = "No type is missed in more than half of its cells in both spaces."
if missed:
    reading = """More training cells do not help a type whose cells lie among
those of another in these genes. An accuracy over all cells shows little of
this where such a type is rare."""
say(f"""
With 50 % of the cells, types that are recognised in less than half of their
cells, on the map and in gene space:
{" and ".join(f"*{kind}*" for kind in missed) or "none"}. {reading}
""")

# %% [markdown]
# **A type without training cells.** Leave one type out of the 10 % and place it on the map. What is
# it taken for? And can that be detected? New kinds of cells should lie far from all training cells.
# The last rows give the probability that a cell of the hidden type is farther from its nearest
# training cell than another held-out cell is (the area under the ROC curve): 0.5 is chance, 1
# perfect detection.

# %%
unseen = {}
for hidden in ("Ductal", "Epsilon"):
    known = split.part(0.1)[labels[split.part(0.1)] != hidden]
    X = DEFAULT.scores(DEFAULT.prepare(adata[known]), adata)
    Z = DEFAULT.fit(X[known], seed=0).transform(X)
    is_hidden = labels[held_out] == hidden
    voted = transfer_labels(Z[known], labels[known], Z[held_out[is_hidden]])
    guess = pd.Series(voted).value_counts(normalize=True).round(3)
    unseen[hidden] = {"taken for": guess.index[0], "share": guess.iloc[0]}
    for space, M in {"map": Z, "genes": X}.items():
        far = cdist(M[held_out], M[known]).min(axis=1)
        area = roc_auc_score(is_hidden, far)
        unseen[hidden][f"detected, {space}"] = round(area, 3)
pd.DataFrame(unseen)

# %% tags=["remove-cell"]
for column in unseen.values():
    assert column["detected, genes"] > max(0.5, column["detected, map"])

# %% [markdown]
# They get a label of a known type, and the map shows less than the genes, or nothing, of the
# problem. So look for cells of unknown types in gene space. Whether their *coordinates* are
# meaningful is the question of [the next chapter](05_gap_filling).
#
# **Settings chosen by the test.** Trying many settings on the same held-out cells and reporting the best is a
# leak: choose on a second set of held-out cells.
#
# **Another experiment.** All of this holds for cells drawn from the same data. Cells of an experiment with
# smaller library sizes ({func}`rpumap.preprocessing.library_size`) are another case, which a random split does
# not test (the last exercise, and [dropout](06_dropout)). Hold out whole experiments if you have them.
#
# ## Take-aways
#
# - A network is a function, so a new cell has coordinates. Whether they are right, only cells that are
#   held out from everything, gene choice included, can show.
# - Compare with gene space: with few training cells, a vote is worse there too. And look at held-out cells among
#   themselves, for a vote of training cells depends on their number.
# - The network mixes training and new cells much better than UMAP's `transform` does, though not perfectly in every
#   tissue. It needs no training cells once it is trained.
# - Sampling error shifts all z-scores by about $1/\sqrt n$, in the same direction for all cells.
# - Types with few training cells are rarely recognised, and types without any get the label of another.
#   Averages over cells show neither.
#
# ## Self-check
#
# **1. Genes were chosen from all cells, means and deviations from the training cells. Is the score of the
# held-out cells a fair test?**
#
# :::{dropdown} Yes, since no held-out cell took part in the training of the network
# Not quite. The choice of genes is also learnt from data. Here it has used the held-out cells.
# :::
# :::{dropdown} Yes, since genes are chosen without the types of the cells
# Not quite. A choice without types leaks less than one with types, but the genes still follow the held-out
# cells. How much this matters is not known before it is measured.
# :::
# :::{dropdown} No, even if the score would be the same without it
# Right. The test is valid only if nothing was learnt from the held-out cells. That a leak did no harm in one
# data set is a result about that data set.
# :::
#
# **2. With 5 % of the cells, the 15 nearest training cells name fewer types on the map than with 50 %. Does this
# show that the map of 5 % separates the types less?**
#
# :::{dropdown} No, fewer training cells vote, which lowers the score wherever the map places the cells
# Right. Compare with the vote in gene space, which has the same training cells, and let held-out cells vote
# among themselves: there are as many of them on both maps.
# :::
# :::{dropdown} Yes, since the votes are counted on the map
# Not quite. The vote depends on where cells lie *and* on how many training cells of each type there are.
# In gene space it gets worse as well.
# :::
# :::{dropdown} No, since balanced accuracy does not depend on the number of training cells
# Not quite. It gives each type the same weight, but a type with fewer than 8 training cells cannot have the
# majority of 15 votes.
# :::
#
# **3. New cells come to lie in the middle of a known type on the map. Are they of this type?**
#
# :::{dropdown} Yes, since training and new cells are mixed on the map of a network
# Not quite. That they are mixed says that cells of *known* types are spread alike. Cells of an unknown type
# also get coordinates, often among a known one.
# :::
# :::{dropdown} The map cannot tell; compare their distances to the training cells in gene space
# Right. Two coordinates hold less than 300 genes: in the chapter, the hidden types were detected better in gene
# space.
# :::
# :::{dropdown} It depends on whether the network was trained for long enough
# Not quite. The loss contains training cells only. No number of steps tells the network what a cell of another
# type is.
# :::
#
# ## Exercises
#
# :::{exercise} How large a sample?: paper, easy
# :label: ex-generalization-how-large-a-sample
#
# Of 3,696 cells, (a) how many must be sampled for a shift of at most a twentieth of a standard deviation
# a gene, by {eq}`eq-generalization-shift`? (b) How many cells must a type have, so that a sample of 5 % holds at
# least one of them with a probability of 95 %, by {eq}`eq-generalization-absent`?
# :::
#
# :::{solution-start} ex-generalization-how-large-a-sample
# :label: sol-generalization-how-large-a-sample
# :class: dropdown
# :::
#
# (a) Square the condition: $\frac1n - \frac1N \le \frac1{400}$, so $n \ge 1 / (\frac1{400} + \frac1{3696})
# \approx 360.9$, that is 361 cells, a tenth of all.
#
# (b) $(1 - \frac1{20})^m \le \frac1{20}$ means $m \ge \ln \frac1{20} \big/ \ln \frac{19}{20} \approx 58.4$, that is
# 59 cells. The code compares with the formula and with the exact probability.

# %%
n_all, sizes = 3696, np.arange(1, 500)
for_shift = sizes[1 / sizes - 1 / n_all <= 1 / 400][0]
for_type = sizes[(19 / 20) ** sizes <= 1 / 20][0]
assert (for_shift, for_type) == (361, 59)
absent = hypergeom.cdf(0, n_all, sizes, round(n_all / 20))
exact = sizes[absent <= 1 / 20][0]
say(f"""
Exactly, without the approximation, {exact} cells of the type are needed. The
approximation draws with replacement: it lets a cell of another type be drawn
twice.
""")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Alone or together: code, easy
# :label: ex-generalization-alone-or-together
#
# Place five held-out cells by themselves, with the network and with
# umap-learn. Do they get the same coordinates as before?
# :::
#
# :::{solution-start} ex-generalization-alone-or-together
# :label: sol-generalization-alone-or-together
# :class: dropdown
# :::

# %%
training, X, five = split.part(0.05), runs[0.05][1], held_out[:5]
model = DEFAULT.fit(X[training], seed=0)
far, query = (cdist(X[cells], X[training]) for cells in (training, five))
alone_umap = fit_umap_learn(far, query, metric="precomputed")[1]
pairs = {
    "network": (model.transform(X[five]), model.transform(X[held_out])[:5]),
    "umap-learn": (alone_umap, by_umap[1][:5]),
}
spreads = np.sqrt([few.var(axis=0).sum(), by_umap[0].var(axis=0).sum()])
moved = [np.linalg.norm(a - b, axis=1).max() for a, b in pairs.values()]
moved = moved / spreads
assert moved[0] < 1e-4

# %%
exactly = "exactly" if moved[0] == 0 else "but for rounding"
same = "also leaves them where they were"
if moved[1] > 1e-4:
    same = f"moves one of them by {moved[1]:.3f} spreads of its map"
say(f"""
With the network they do, {exactly}: the coordinates depend on the cell and the
weights only. umap-learn {same}. It draws negative samples at random
while it refines the coordinates, so the result for a cell can depend on the
other cells of the table.
""")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Stratify: experiment, medium
# :label: ex-generalization-stratify
#
# Draw the 5 % with each type in its proportion. Does the mean balanced accuracy rise, or
# does its spread between splits shrink? What would you need to know to do this with new data?
# :::
#
# :::{solution-start} ex-generalization-stratify
# :label: sol-generalization-stratify
# :class: dropdown
# :::

# %%
stratified, at_random = [], leaks["no leak"]
for seed in range(len(leaks)):
    other = Split(adata, DEFAULT, seed)
    pool = np.setdiff1d(np.arange(n_cells), other.held_out)
    n = len(other.part(0.05))
    chosen = {"train_size": n, "stratify": labels[pool], "random_state": seed}
    other.order = np.r_[*train_test_split(pool, **chosen), other.held_out]
    stratified.append(other.recognised(0.05, other.train(0.05)[0]))
rise = np.array(stratified) - at_random
low, high = interval(rise)

# %%
change = "falls" if high < 0 else "shows no clear change"
change = "rises" if low > 0 else change
spread = at_random.std(), np.std(stratified, ddof=1)
shrinks = "smaller" if spread[1] < spread[0] else "not smaller"
say(f"""
Over {len(rise)} splits the mean balanced accuracy is {at_random.mean():.3f} for
random samples and {np.mean(stratified):.3f} for stratified ones. It {change}:
the 95 % interval of the difference goes from {low:.3f} to {high:.3f}. The
standard deviation is {spread[0]:.3f} and {spread[1]:.3f}, which is {shrinks},
but so few splits say little about a spread; it can shrink only by what the
numbers of cells of each type contributed. You would need the types of all cells
beforehand; clusters found without training can replace them.
""")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Weak repulsion: experiment, medium
# :label: ex-generalization-weak-repulsion
#
# Repeat the 5 % with `repulsion_strength=0.1`, which makes the branches
# thin. Does it lower the scores of new cells?
# :::
#
# :::{solution-start} ex-generalization-weak-repulsion
# :label: sol-generalization-weak-repulsion
# :class: dropdown
# :::

# %%
training, X, thin = split.part(0.05), runs[0.05][1], {}
for strength in (1.0, 0.1):
    options = {"repulsion_strength": strength}
    Z = DEFAULT.fit(X[training], 0, **options).transform(X)
    thin[strength] = {
        "training cells vote": split.recognised(0.05, Z),
        "held-out cells vote": separated(split, Z),
        "trustworthiness": trustworthiness(X[held_out], Z[held_out]),
    }
thin = pd.DataFrame(thin)
thin.round(3)

# %%
spread = leaks["no leak"].std()
lower = thin.index[thin[0.1] < thin[1.0] - spread]
names_lower = " and ".join(f"*{name}*" for name in lower)
found = f"Lower by more than that: {names_lower}."
if not len(lower):
    found = "None of the three is lower by more than that."
say(f"""
The first score has a standard deviation of {spread:.3f} between splits, as a
scale for differences. {found} A vote depends on the order of cells along a
branch, and a thin branch can keep the order.
""")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} An experiment with fewer counts: experiment, hard
# :label: ex-generalization-an-experiment-with-fewer-counts
#
# Set half of the non-zero counts of the held-out cells to
# zero, and place them by a network that was trained on half of the cells. How much does the vote in gene
# space lose? Does the map lose more? Draw the lost counts several times. ([Dropout](06_dropout) trains against
# such losses.)
# :::
#
# :::{solution-start} ex-generalization-an-experiment-with-fewer-counts
# :label: sol-generalization-an-experiment-with-fewer-counts
# :class: dropdown
# :::

# %%
training, (Z, X, _) = split.part(0.5), runs[0.5]
prep = DEFAULT.prepare(adata[training])
model = DEFAULT.fit(X[training], seed=0)
before = np.array([split.recognised(0.5, M) for M in (Z, X)])
after = []
for seed in range(5):
    poor = DEFAULT.scores(prep, lose(adata[held_out], 0.5, seed))
    after.append([])
    for M, M_poor in ((Z, model.transform(poor)), (X, poor)):
        changed = M.copy()
        changed[held_out] = M_poor
        after[-1].append(split.recognised(0.5, changed))
losses = before - np.array(after)

# %%
low, high = interval(losses[:, 0] - losses[:, 1])
why = "about as much: what is lost is lost with the counts"
if low > 0:
    why = "more: the network, which saw no such cells, adds to the loss"
elif high < 0:
    why = "less: the network averages over genes, which may help"
lost_map, lost_genes = losses.mean(axis=0)
say(f"""
Mean over {len(losses)} draws: the map goes from {before[0]:.3f} to
{before[0] - lost_map:.3f} and gene space from {before[1]:.3f} to
{before[1] - lost_genes:.3f}. The difference of the two losses is
{lost_map - lost_genes:.3f}, with a 95 % interval over the draws from {low:.3f}
to {high:.3f}. So the map loses {why}. All this is one split and one network.
""")

# %% [markdown]
# :::{solution-end}
# :::
#
# ## In practice
#
# - Fit {class}`rpumap.Preprocessor` on the training cells and use it for all others. Keep it with the model.
# - Report the number of training cells of each type beside the accuracy, and the recall of each type.
# - Before you interpret the coordinates of a new cell, look at its distance to the nearest training cell
#   in gene space.
# - If you can choose the cells to train on, take more of the rare ones.
# - With a million cells, train on a random sample of some 100,000 and `transform` them all. The page
#   [Speed, memory and quality](../book/performance) says how long that takes.
#
# ## Further reading
#
# - {cite:t}`zhang2023robust`: the paper, section 3.3 and figure 2.
# - {cite:t}`sainburg2021parametric`: parametric UMAP, also with new points, and its speed.
# - {cite:t}`mcinnes2018umap`: UMAP; the manual of umap-learn explains `transform`.
# - {cite:t}`venna2006local`: trustworthiness, and what it does not measure.
