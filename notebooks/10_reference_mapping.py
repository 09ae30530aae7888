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
# # Reference maps: their cells on your map
#
# You have mapped and labelled many cells. A colleague has others, with fewer counts and some genes missing, and asks
# what they are. A network can place them on the map, but which labels can be trusted, and which cells do not belong on
# this map at all?

# %% tags=["hide-input"]
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import dask
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.experimental import read_lazy
from scipy.sparse import csr_matrix
from scipy.spatial.distance import cdist

import rpumap
from rpumap.chapters.comparison import describe_cells
from rpumap.chapters.display import markdown_table, say
from rpumap.chapters.mapping import missing_type
from rpumap.chapters.scorecard import BOOK
from rpumap.chapters.style import use_style
from rpumap.plotting import COLORS, INK
from rpumap.preprocessing import library_size
from rpumap.reference.label_index import quantile

use_style()
adata = rpumap.datasets.pancreas()
print(adata.uns["source"])
source = describe_cells(adata)
half = np.random.default_rng(0).permutation(adata.n_obs) < adata.n_obs // 2
atlas, rest = adata[half].copy(), adata[~half].copy()
ref = rpumap.ReferenceMap().fit(atlas, labels="clusters")


def thinned(cells, share, seed=0):
    """Cells as if only a share of their molecules had been counted."""
    draw = np.random.default_rng(seed)
    counts = cells.X.toarray().astype(int)
    others = np.maximum(library_size(cells) - counts.sum(axis=1), 0)
    result = cells.copy()
    left = draw.binomial(counts, share)
    result.X = csr_matrix(left.astype(np.float32))
    left_of_others = draw.binomial(others.astype(int), share)
    result.obs["library_size"] = left.sum(axis=1) + left_of_others
    return result


def mapped(query, **settings):
    """Map cells, without the warnings about genes and counts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return ref.map(query, **settings)


def kinds_of(query):
    """Verdicts, without the names of the two types of "between"."""
    verdicts = query.obs["rpumap_verdict"].astype(str)
    between = verdicts.str.startswith("between")
    return verdicts.mask(between, "between two types").to_numpy()


def is_right(query):
    """Whether a cell got the label of its own type."""
    labels = query.obs["rpumap_label"].astype(str)
    return (labels == query.obs["clusters"].astype(str)).to_numpy()


colleague = thinned(rest, share=0.5)
lacking = ref.preprocessor_.genes_[::10]
colleague = colleague[:, ~colleague.var_names.isin(lacking)].copy()
mapped(colleague)
kinds, right = kinds_of(colleague), is_right(colleague)
new = "not in the reference"

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four panels with the same map in grey, each with the colleague's cells of one verdict on top: certain, likely, between two types, not in the reference. Certain and likely cells fill different parts of the groups; cells of the other two verdicts are few or none."}, "figure": {"caption": "The colleague's cells on the map of the atlas (grey), by verdict.", "name": "fig-reference-verdicts"}}
shown = ["certain", "likely", "between two types", new]
fig, axes = plt.subplots(2, 2, figsize=(5, 5.4), sharex=True, sharey=True)
for ax, verdict, color in zip(axes.flat, shown, COLORS, strict=False):
    Z, some = colleague.obsm["X_umap"], kinds == verdict
    grey = {"color": INK, "alpha": 0.25, "linewidths": 0}
    ax.scatter(*ref.model_.embedding_.T, s=3, **grey)
    ax.scatter(*Z[some].T, s=6, color=color, linewidths=0)
    ax.set(xticks=[], yticks=[])
    ax.set_title(f"{verdict}\n{some.mean():.0%} of {source}")

# %% tags=["remove-input"]
by_kind = pd.Series(right).groupby(kinds).mean()
each = ", ".join(
    f"{by_kind[kind]:.1%} of those *{kind}*"
    for kind in shown[:3]
    if kind in by_kind
)
n_genes = len(ref.preprocessor_.genes_)
say(f"""
The atlas has {atlas.n_obs:,} cells ({source}). The colleague's
{colleague.n_obs:,} have half of the counts, and {len(lacking)} of the {n_genes}
genes of the map are missing. Of their labels {right.mean():.1%} are right:
{each}. The verdicts sort the labels by how far to trust them. All of these
cells have a type that is in the atlas, so the {(kinds == new).mean():.0%} that
are called new are false alarms.
""")

# %% tags=["remove-cell"]
in_order = [by_kind[kind] for kind in shown[:3] if kind in by_kind]
assert in_order == sorted(in_order, reverse=True)
assert np.isin(kinds, shown[2:]).mean() < 0.25

# %% [markdown]
# ## What you will learn
#
# After this chapter you can
#
# - derive a threshold that keeps its promise from a few held-out cells, and tell when there are too few;
# - compute the novelty of a cell and its conformal set of labels from its distances to reference cells;
# - share a {class}`rpumap.ReferenceMap` as one file, and decide by its verdicts which labels to use;
# - decide for which queries the promise does not hold, and when a correction does harm;
# - add cells of a new type to a map, and measure what this changes for the others.
#
# **You need** [few cells, many to place](04_generalization) for the map, and the idea of a certificate from
# [robust training](08_robust_training).
#
# ## A threshold from nineteen cells
#
# How far from all others may a cell be before we call it new? Hold some reference cells out, measure how far *they* are
# from the rest, and put the threshold so that few of them are beyond. How few, exactly?
#
# Take $n$ calibration cells and one new cell, all drawn from the same population. Put their $n + 1$ distances in order.
# Nothing distinguishes the new cell, so its rank in that order is equally likely to be any of the $n + 1$. The
# probability that it comes after the $r$-th smallest of the calibration distances is therefore
#
# $$
# P(d_\text{new} > d_{(r)}) = \frac{n + 1 - r}{n + 1} .
# $$ (eq-reference-rank)
#
# It is at most $\alpha$ for $r = \lceil (1 - \alpha)(n + 1) \rceil$. With $\alpha = 0.05$ and 19 calibration cells,
# $r = \lceil 0.95 \cdot 20 \rceil = 19$: the largest distance is the threshold. With 18 cells, $r = 19$ does not
# exist, and no threshold keeps the promise. Whatever the distances look like, nothing else is
# assumed. This is *conformal prediction* {cite:p}`vovk2005algorithmic`.

# %%
distances = np.arange(1.0, 20.0)
gaps = np.arange(20) + 0.5  # a new cell is as likely in each of them
with_19, with_18 = (quantile(distances[:n], 0.05) for n in (19, 18))
beyond = (gaps > with_19).mean()
print(f"threshold of 19 cells: {with_19:g}, new cells beyond: {beyond:.0%}")
print(f"threshold of 18 cells: {with_18:g}")

# %% tags=["hide-input"]
assert with_19 == 19 and with_18 == np.inf and np.isclose(beyond, 0.05)

# %% [markdown]
# The same step turns *labels* into sets. Give each label a score that says how strange it would be for a cell, here the
# logarithm of the distance to the nearest reference cells of that label, minus the least of these for other
# labels. Take the quantile of the scores of the *true* labels of the calibration cells, with $\alpha = 0.1$. Now the set
# of all labels with a score up to that quantile holds the true one with a probability of 90 % at least.
#
# Three cells show it. Their distances to types A and B are 1 and 4, 2 and 2.2, 5 and 5. If the quantile is 0, the
# first gets {A}, since $\log 1 - \log 4 < 0 < \log 4 - \log 1$. The second gets {A} too, and the third both. With a
# quantile of 0.2 the second would get both: $\log 2.2 - \log 2$ is 0.1.

# %%
three_cells = np.log([[1.0, 4.0], [2.0, 2.2], [5.0, 5.0]])
strangeness = three_cells - three_cells[:, ::-1]
strangeness = pd.DataFrame(strangeness, columns=["A", "B"])
sets = {f"quantile {q:g}": strangeness <= q for q in (0, 0.2)}
sets = pd.concat(sets, axis=1)
sets

# %% tags=["hide-input"]
by_hand = [[1, 0, 1, 0], [1, 0, 1, 1], [1, 1, 1, 1]]
assert sets.astype(int).to_numpy().tolist() == by_hand

# %% [markdown]
# ## Where to measure distances
#
# Not on the map. [Chapter 4](04_generalization) showed that a new type is hard to notice there: the network gives its
# cells coordinates among those of other types. And not among all genes, where noise adds up.
# A `ReferenceMap` has an *index*: logarithms of
# the scaled counts, z-scores, and few principal components, in units of the scatter within types. Let $C$ be the
# covariance of the components within types, pooled over the types, and $C = V \Lambda V^\top$. Multiplied by $V
# \Lambda^{-1/2}$, the cells of an average type scatter by 1 in each direction, so that a distance counts where types differ
# and not where cells of one type vary anyway. How many components? The further ones tell some types apart, and are mostly
# depth and noise between studies. So the index has two spaces, of 10 and of 20 components. The first gives the label.
#
# A cell is *novel* if the mean distance $d$ to its $k$ nearest stored cells is large *for the type that they
# vote for*, since some types are more scattered than others. With $d_t$ the median of the stored cells of type $t$ to
# theirs, in each of the spaces, novelty is the geometric mean of the ratios, relative to a threshold $\tau$:
#
# $$
# \nu = \frac1\tau \sqrt{\frac{d^{(10)}}{d^{(10)}_t} \, \frac{d^{(20)}}{d^{(20)}_t}} ,
# $$ (eq-reference-novelty)
#
# with $\tau$ from {eq}`eq-reference-rank` for the root of calibration cells. Above 1 the verdict is *not in the reference*.
# Here is the whole computation for the colleague's cells, beside the package:

# %%
index = ref.index_
with warnings.catch_warnings(action="ignore"):
    scaled = ref.preprocessor_.scale(colleague)  # NaN: genes that are missing
z = np.nan_to_num((np.log1p(scaled) - index.mean) / index.std)


def nearest(z, space):
    """Mean distance to the k nearest stored cells, and which these are."""
    d = cdist(z @ space.projection, space.cells)
    found = np.argsort(d, axis=1)[:, : index.k]
    return np.take_along_axis(d, found, axis=1).mean(axis=1), found


# %%
d10, found = nearest(z, index.spaces[0])
d20, _ = nearest(z, index.spaces[1])
votes = np.eye(len(index.names))[index.codes[found]].mean(axis=1)
label = votes.argmax(axis=1)
usual10, usual20 = (space.usual[label] for space in index.spaces)
novelty = np.sqrt(d10 / usual10 * d20 / usual20) / index.threshold

# %% tags=["hide-input"]
assert np.allclose(novelty, colleague.obs["rpumap_novelty"], rtol=1e-3)
assert np.allclose(votes.max(axis=1), colleague.obs["rpumap_confidence"])

# %% [markdown]
# ## Train once, share one file
#
# {class}`rpumap.ReferenceMap` holds a fifth of the atlas out of everything: of genes, z-scores, network and index. These
# cells calibrate the thresholds, and their scores in `quality_`
# ({class}`~rpumap.reference.reference_map.Quality`) say how good the reference is.
# `fit` trains the network robustly, against noise and then against lost
# counts, for a reason that comes below. `save` writes one file.

# %%
folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "pancreas.rpumap"
ref.save(path)
print(f"{path.stat().st_size / 1000:.0f} kB")
card = ref.card().replace("# Reference map", "**Reference map**")
say(card.split("## How good")[0])

# %% [markdown]
# The file holds the network, 2,000 cells at most as 10 and 20 components and two coordinates each, and a header in JSON. No
# counts are in it, so it says little of any single cell; but share it only if you may share the data. It is a
# safetensors file: numbers and text. A pickle can run any code when it is loaded, and breaks when a
# library changes; this file can do neither. A checksum finds damage, and the version of the format is part of it. The
# colleague needs nothing else, and opens it in a fresh process:

# %%
colleague_file = Path(folder.name) / "colleague.h5ad"
sent = colleague.copy()
del sent.obsm["X_umap"], sent.uns["rpumap"]
sent.write_h5ad(colleague_file)
found_file = Path(folder.name) / "Z.npy"
code = f"""
import warnings, numpy as np, rpumap, anndata
warnings.simplefilter("ignore")
query = anndata.read_h5ad({str(colleague_file)!r})
rpumap.ReferenceMap.load({str(path)!r}).map(query)
np.save({str(found_file)!r}, query.obsm["X_umap"])
"""
subprocess.run([sys.executable, "-c", code], check=True)
assert np.array_equal(np.load(found_file), colleague.obsm["X_umap"])

# %% [markdown]
# The coordinates are the same to the last bit. `map` writes them into `obsm["X_umap"]`, so that `sc.pl.umap(query,
# color="rpumap_label")` just works, and says in `uns["rpumap"]` what it did and what it noticed:

# %%
done = colleague.uns["rpumap"]
for name in ("n_genes_found", "n_genes", "eps", "share_not_in_reference"):
    print(f"{name}: {done[name]:.3g}")
for remark in done["remarks"]:
    print("-", remark[:150])

# %% [markdown]
# Genes are found by name, in any order. If names differ by the version of an Ensembl id or by case, the error says so and
# shows names of both sides; `match="version"`, `match="case"` or `gene_names=` then tell which genes are the same. No
# name is matched unless you say so.
# Logarithms, z-scores and other transformed values are refused, as the reference scales counts itself.
#
# ## What a certificate adds
#
# A *certain* label is one that the index and the map agree on, and that provably stays on the map for all changes of the
# genes by up to $\epsilon$ standard deviations ([chapter 8](08_robust_training)). How does the share of such cells fall with
# $\epsilon$, and how many of their labels are right? (`mapped` calls `ref.map` and silences its warnings, and `kinds_of`
# reads the verdicts; both stand in the first folded cell.)

# %%
certified = {}
for eps in (0.01, 0.02, 0.05, 0.1, 0.2):
    certain = kinds_of(mapped(colleague.copy(), eps=eps)) == "certain"
    score = right[certain].mean() if certain.any() else np.nan
    certified[eps] = {"certain": certain.mean(), "right, of these": score}
certified = pd.DataFrame(certified).T.rename_axis("eps")
certified.round(3)

# %% tags=["remove-cell"]
assert certified["certain"].is_monotonic_decreasing
assert certified["right, of these"].dropna().is_monotonic_increasing

# %% [markdown]
# The larger the change that a label survives, the fewer cells have such a label, and the more often it is right. That is no
# theorem: a certificate says that a label *stays*, not that it is true. But cells deep inside a type
# survive more than those at its border, and borders are where labels go wrong.
#
# ## A type that the atlas lacks
#
# Leave one type out of the reference, and map its cells beside held-out cells of the others. The area under the
# ROC curve is the probability that a cell of the missing type has a higher novelty than another one: 0.5 is
# chance, and 1 perfect. `missing_type` does it, without a network, as novelty needs none.

# %%
missing = {}
for kind in ("Alpha", "Beta", "Ductal", "Pre-endocrine", "Ngn3 high EP"):
    missing[kind] = missing_type(adata, "clusters", kind, seed=0)
missing = pd.DataFrame(missing).T
missing.round(3)

# %% tags=["remove-input"]
best, worst = missing["auroc"].idxmax(), missing["auroc"].idxmin()
found_best, found_worst = missing.loc[best], missing.loc[worst]
say(f"""
On these cells ({source}) *{best}* is found best:
{found_best["sensitivity"]:.0%}
of its cells are called new, and {found_best["false alarms"]:.0%} of the others.
*{worst}* is found worst, {found_worst["sensitivity"]:.0%}: its area is
{found_worst["auroc"]:.2f}. A type whose neighbours in development stay in the
reference lies close to them, in few components and in units of their scatter,
and nothing marks it as new. **That few cells are flagged does not show that all
of them belong.**
""")

# %% [markdown]
# ## Between studies
#
# All that was exchangeable so far: atlas and colleague come from one experiment, and the promise of
# {eq}`eq-reference-rank` needs no more. Cells of another laboratory, with another chemistry, are *not* drawn from the same
# population. Two pairs of real studies show how much that matters: blood cells ({func}`rpumap.datasets.pbmc`) sorted by
# antibodies {cite:p}`zheng2017` as reference, and those of another donor as query; malaria parasites
# ({func}`rpumap.datasets.malaria`) by droplets {cite:p}`howick2019` and by plates {cite:p}`reid2018`, whose counts are
# of reads, not of molecules. Their files cannot be shared here, so these are
# published results, written by `python book/measure_reference.py`:

# %% tags=["hide-input"]
published = (BOOK / "reference.json").read_text(encoding="utf-8")
rows = pd.DataFrame(json.loads(published)["rows"])
studies = rows[rows["what"] == "between studies"]
columns = ["index", "map, plain", "map, robust", "flagged", "coverage"]
columns += ["certain", "certain and right"]


def mean_and_spread(values):
    return f"{values.mean():.3f} ± {values.std():.3f}"


of_pair = {cells: of for cells, of in studies.groupby("cells")}
lines = [
    [name, *(mean_and_spread(of[name]) for of in of_pair.values())]
    for name in columns
]
say(markdown_table(["share of the query", *of_pair], lines))

# %% tags=["remove-input"]
of_missing = rows[rows["what"] == "missing type"].groupby("cells")
cd34 = of_missing.get_group("CD34+")[["sensitivity", "false alarms", "auroc"]]
cd34 = cd34.mean()
means = {cells: of[columns].mean() for cells, of in of_pair.items()}
blood, malaria = means["blood"], means["malaria"]
gain = {
    cells: of["map, robust"] - of["map, plain"] for cells, of in means.items()
}
by_type = ", ".join(
    f"{kind} {of['auroc'].mean():.2f} ({of['sensitivity'].mean():.0%})"
    for kind, of in of_missing
    if kind != "CD34+"
)
say(f"""
Means and standard deviations over {studies["seed"].nunique()} seeds of the
reference, which all map the same query: how much another query would differ
they do not tell. Robust training raises the accuracy on the map by
{gain["blood"]:.3f} for blood and by {gain["malaria"]:.3f} for the parasites. So
it pays where the paper never looked. The index still names types better than
the map does. It flags {blood["flagged"]:.1%} of the blood cells and
{malaria["flagged"]:.1%} of the parasites, all of known types, where 5 % were
promised for cells of the same experiment. The conformal sets suffer most: those
of the blood cells hold the true type in {blood["coverage"]:.0%} of the cells.
Where types lie far apart, a promise of 90 % is kept by sets that are empty for
a tenth of the cells, those that are less clear than the others. In another
study more are less clear, and their label is still right.

Types left out of the real pancreas, area and share found: {by_type}. In the
reverse direction of the blood cells, CD34+ progenitors have no type in the
reference: {cd34["sensitivity"]:.0%} of them are flagged, at
{cd34["false alarms"]:.1%} false alarms, with an area of {cd34["auroc"]:.2f}.
""")

# %% tags=["remove-cell"]
for of in means.values():
    assert of["map, plain"] < of["map, robust"] < of["index"]
    assert of["flagged"] > 0.05
assert blood["coverage"] < 0.9 < blood["index"]

# %% [markdown]
# ## Correct the query, or train the map?
#
# There is another way to meet a study that counts differently: `map(query, correct=True)` takes means and deviations of genes
# from the query itself. Which of the two helps more? The table has the pairs of studies, and halves of the real pancreas, one
# of which got a factor for each gene, with logarithms of standard deviation 0 (no change), 0.3, 0.6 or 1:

# %% tags=["hide-input"]
corrections = rows[rows["what"].isin(["between studies", "gene factors"])]
of_case = {
    cells if what == "between studies" else f"factors {cells}": of
    for (what, cells), of in corrections.groupby(["what", "cells"], sort=False)
}
names = ["map, plain", "map, robust", "index"]


def without_and_with(of, name):
    before, after = of[name].mean(), of[name + ", corrected"].mean()
    return f"{before:.3f} → {after:.3f}"


lines = [
    [cells, *(without_and_with(of, name) for name in names)]
    for cells, of in of_case.items()
]
say(markdown_table(["query", *names], lines))

# %% tags=["remove-input"]
change = {
    cells: (of["map, robust, corrected"] - of["map, robust"]).mean()
    for cells, of in of_case.items()
}
by = ", ".join(f"{value:+.3f}" for value in change.values())
unchanged = of_case["factors 0.0"]["coverage"].mean()
say(f"""
Accuracy without the correction → with it. On the robust map it changes, from
top to bottom: {by}. Factors of genes are what it was made for, as both halves
have the same types in the same shares. Real studies differ in these shares as
well, and there it does harm. Robust training helps with both. So the correction
is not the default: what it assumes cannot be seen from the query. On the
unchanged half the conformal sets hold the true type of {unchanged:.1%} of the
cells, where 90 % were promised.
""")

# %% tags=["remove-cell"]
for of in of_case.values():
    assert (of["map, robust"] - of["map, plain"]).mean() > 0
assert max(change["blood"], change["malaria"]) < 0 < change["factors 1.0"]

# %% [markdown]
# ## More cells than memory
#
# A query may lie in a file that is larger than the memory. `anndata.experimental.read_lazy` opens it without reading the
# counts; `map` then looks at a few cells, for errors and warnings, and puts dask arrays into the table: recipes, computed when
# asked for, block by block, on the threads of this machine or on the workers of a cluster. Here with as many cells as suit
# this machine:

# %%
n_many = 10_000 * min(os.cpu_count() or 1, 10)
many_file = Path(folder.name) / "many.h5ad"
drawn = np.random.default_rng(1).integers(rest.n_obs, size=n_many)
obs = rest.obs.iloc[drawn].set_axis([f"cell{i}" for i in range(n_many)])
AnnData(rest.X[drawn], obs=obs, var=rest.var).write_h5ad(many_file)
lazy = ref.map(read_lazy(many_file), method=None)
lazy.obsm["X_umap"]

# %%
start = time.perf_counter()
is_new = lazy.obs["rpumap_novelty"].data > 1
Z, share = dask.compute(lazy.obsm["X_umap"], is_new.mean())
rate = n_many / (time.perf_counter() - start)
print(f"coordinates: {Z.shape}, called new: {share:.1%}")

# %% tags=["remove-cell"]
assert Z.shape == (n_many, 2)

# %% tags=["remove-input"]
published = json.loads((BOOK / "lazy.json").read_text(encoding="utf-8"))
million = {(row["what"], row["scheduler"]): row for row in published["rows"]}
by_map, by_boxes = million["map", "threads"], million["boxes", "threads"]
most_memory = max(row["GiB"] for row in million.values() if "GiB" in row)
say(f"""
At {rate:,.0f} cells a second, a million would take {1e6 / rate / 60:.1f}
minutes on the machine that ran this page. Published results for
{published["cells"]:,} simulated cells in a file
(`python tests/benchmarks/bench_lazy.py`), rates beside those of the same steps
on cells in memory: coordinates, labels and novelty {by_map["ratio"]:.2f} times
as fast on the threads of two cores, boxes by CROWN-IBP
{by_boxes["ratio"]:.2f} times, with at most {most_memory:.1f} GiB of memory. Two
worker processes of a cluster gave the same numbers, although one was killed
half way.
""")

# %% [markdown]
# ## The atlas grows
#
# On a fixed map the network puts cells of a type that it never saw among others. A new fit separates them, and
# moves everything else, so that last year's figure no longer holds. {func}`rpumap.extend` trains the network further on
# its training cells and the new ones together, while the reconstruction loss of [chapter 8](08_robust_training) holds the training cells at their coordinates. They
# are *landmarks*. Here Beta cells come late:

# %%
prep = rpumap.Preprocessor()
late = atlas.obs["clusters"].to_numpy() == "Beta"
X = prep.fit_transform(atlas[~late].copy())
X_new = prep.transform(atlas[late].copy())
before = rpumap.ParametricUMAP(random_state=0).fit(X)
extended = rpumap.extend(before, X, X_new)
anew = rpumap.ParametricUMAP(random_state=0).fit(np.concatenate([X, X_new]))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three maps of the same cells, with the late Beta cells coloured: placed by the network that never saw them they lie among other cells; extended, most of them form a part of their own while the other cells are where they were; in a new fit they form such a part too, but the whole map looks different."}, "figure": {"caption": "Late cells (colour): placed on the fixed map, on the extended one, and on a new one. The upper panels have one scale; cells outside it are not shown.", "name": "fig-reference-extend"}}
placed = np.concatenate([before.embedding_, before.transform(X_new)])
maps = {"placed": placed, "extended": extended.embedding_}
maps["fitted anew"] = anew.embedding_
scale, is_late = before.embedding_.std(), np.arange(len(placed)) >= len(X)
fig, axes = plt.subplots(2, 2, figsize=(5, 5))
fig.suptitle(f"Beta cells come late ({source})")
for ax, (name, Z) in zip(axes.flat, maps.items(), strict=False):
    ax.scatter(*Z[~is_late].T, s=3, color=INK, alpha=0.25, linewidths=0)
    ax.scatter(*Z[is_late].T, s=3, color=COLORS[1], linewidths=0)
    ax.set(xticks=[], yticks=[], title=name)
low, high = extended.embedding_.min(axis=0), extended.embedding_.max(axis=0)
margin = 0.05 * (high - low)
for ax in axes[0]:
    ax.set_xlim(low[0] - margin[0], high[0] + margin[0])
    ax.set_ylim(low[1] - margin[1], high[1] + margin[1])
last = axes[1, 1]
last.scatter([], [], s=30, color=INK, alpha=0.25, label="other cells")
last.scatter([], [], s=30, color=COLORS[1], label="late cells")
last.axis("off")
legend = last.legend(loc="center")

# %% tags=["remove-input"]
drift = {
    name: np.median(np.linalg.norm(Z - placed, axis=1)[~is_late]) / scale
    for name, Z in maps.items()
}
all_cells = np.concatenate([X, X_new])
trust = {
    name: rpumap.metrics.trustworthiness(all_cells, Z)
    for name, Z in maps.items()
}
say(f"""
The training cells move by {drift["extended"]:.2f} standard deviations of the
map (median), and by {drift["fitted anew"]:.2f} in a new fit, turned and
mirrored as it may be. Trustworthiness of all cells: {trust["placed"]:.3f}
placed, {trust["extended"]:.3f} extended, {trust["fitted anew"]:.3f} fitted
anew.
""")

# %% tags=["remove-cell"]
assert drift["extended"] < 0.1 < drift["fitted anew"]
assert trust["placed"] < min(trust["extended"], trust["fitted anew"])

# %% [markdown]
# ## What can go wrong
#
# **Another technology.** If more than half of a query is flagged, `map` warns. Then single verdicts mean little: either
# the cells differ as a whole, or the counts are not what they should be.
#
# **A correction that hides.** Where both sides have the same types in other shares, `correct=True` moves the cells: if the
# query has one type only, its mean is that type, and z-scores make it look like an average of all. An exercise shows it.
# `map` warns whenever it is used.
#
# **Batches inside the reference.** The index takes scatter within types as it finds it. If the reference mixes studies, that
# scatter holds their differences, and novelty gets less sensitive.
#
# **When to use something else.** A reference map places cells by a fixed function. It does not model batches, and does
# not learn from the query. If your query differs much from the reference, or you want one embedding of several studies,
# use a method that models them: scArches {cite:p}`lotfollahi2022scarches` trains a few weights on the query, and Symphony
# {cite:p}`kang2021symphony` corrects a query for known batches, cluster by cluster. Both need more than a file and a
# laptop's minute, and neither gives certificates.
#
# ## Take-aways
#
# - Read labels in the space of genes, and coordinates on the map. Trust a label most where both agree and the label
#   provably stays.
# - A threshold from held-out cells keeps its promise for cells of the same experiment, whatever their distribution, and
#   only for those.
# - "Not in the reference" finds types that lie apart. A type between others goes unnoticed.
# - Robust training makes maps of other studies better, beyond what its certificates say.
# - Share a file that cannot run code, with a card that says how good it is.
#
# ## Self-check
#
# **1. The threshold of novelty was calibrated on held-out cells of the atlas, for 5 % of false alarms. For which cells does
# this hold?**
#
# :::{dropdown} For all cells of a type that the atlas has
# Not quite. Cells of such a type from another laboratory may lie further away as a whole, and more of them are flagged.
# :::
# :::{dropdown} For cells that are drawn from the same population as the calibration cells
# Right. Only then is the rank of a new cell among them equally likely to be any. The form of the distribution does not
# matter.
# :::
# :::{dropdown} For each type of the atlas by itself
# Not quite. The rate is about all cells together. A type whose cells are more scattered may exceed it, and another one
# stay below.
# :::
#
# **2. A query has no more flagged cells than promised. What follows?**
#
# :::{dropdown} All of its types are in the reference
# Not quite. Cells of a missing type that lies between others get a low novelty, as they are close to cells of these.
# :::
# :::{dropdown} The labels of the other cells are right
# Not quite. Novelty tells how far a cell lies from the reference, not on which side of a border between two types.
# :::
# :::{dropdown} Nothing suggests that the cells differ as a whole, but a type may still be missing
# Right. A shift of all cells would raise their novelty. The absence of flags is no evidence about types that lie among
# others.
# :::
#
# **3. A label is *certain* for $\epsilon$ equal to a twentieth of a standard deviation. What is proved?**
#
# :::{dropdown} No change of the genes by so much, each or all, changes the label on the map
# Right. The certificate is about the network and a ball of inputs. That the label is the right one is a matter of
# experience, as the table of certificates shows.
# :::
# :::{dropdown} The label is right with a probability of 95 %
# Not quite. A certificate holds no probability. The conformal sets promise something of this kind, for cells of the same
# population.
# :::
# :::{dropdown} The label would be the same with half of the counts
# Not quite. A loss of half of the counts changes many genes by more than that, and the ball does not hold it.
# :::
#
# ## Exercises
#
# :::{exercise} How many calibration cells?: paper, easy
# :label: ex-reference-how-many
#
# At most 1 % of new cells shall exceed the threshold. How many calibration cells are needed at least? With 250 of
# them, which of their distances is the threshold, and with which probability is it exceeded?
# :::
#
# :::{solution-start} ex-reference-how-many
# :label: sol-reference-how-many
# :class: dropdown
# :::
#
# The rank $r = \lceil 0.99 (n + 1) \rceil$ must not exceed $n$. This needs $0.99 (n + 1) \le n$, that is $n \ge 99$. With
# 250 cells, $r = \lceil 248.49 \rceil = 249$: the second largest distance. It is exceeded with the probability
# $(251 - 249) / 251 = 2 / 251$, which is 0.8 %.

# %%
thresholds = [quantile(np.arange(1.0, n + 1), 0.01) for n in (98, 99, 250)]
assert thresholds == [np.inf, 99, 249]

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Three labels: paper, easy
# :label: ex-reference-three-labels
#
# The distances of a cell to types A, B and C are 1, 2 and 4. Which labels are in its set if the quantile is 0, 1 or
# 2? For which quantiles is the set empty?
# :::
#
# :::{solution-start} ex-reference-three-labels
# :label: sol-reference-three-labels
# :class: dropdown
# :::
#
# The scores are $\log 1 - \log 2 = -\log 2 \approx -0.69$ for A, $\log 2 - \log 1 \approx 0.69$ for B, and $\log 4 - \log 1
# \approx 1.39$ for C. So the sets are {A}, {A, B} and {A, B, C}. Below $-\log 2$ the set is empty: such a quantile
# comes from calibration cells that lie more clearly in one type.

# %%
logs = np.log([1.0, 2.0, 4.0])
scores = [logs[t] - np.delete(logs, t).min() for t in range(3)]
sizes = [int((np.array(scores) <= q).sum()) for q in (-0.7, 0, 1, 2)]
assert sizes == [0, 1, 2, 3]

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Fewer counts: experiment, easy
# :label: ex-reference-fewer-counts
#
# Map the cells of `rest` with a tenth of their counts and with all genes. What happens to labels, novelty and
# certainty, compared with the colleague's cells?
# :::
#
# :::{solution-start} ex-reference-fewer-counts
# :label: sol-reference-fewer-counts
# :class: dropdown
# :::

# %%
shallow = mapped(thinned(rest, share=0.1))
now = kinds_of(shallow)
more = "more" if (now == new).mean() > (kinds == new).mean() else "not more"
say(f"""
{is_right(shallow).mean():.1%} of the labels are right, beside
{right.mean():.1%} with half of the counts. {(now == "certain").mean():.0%} are
certain, beside {(kinds == "certain").mean():.0%}, and
{(now == new).mean():.0%} are called new, beside {(kinds == new).mean():.0%}:
{more} than before. The counts of a shallow cell vary more around their means,
so that novelty also measures depth. Compare the library sizes of query and
reference before you believe in a new type.
""")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} One type only: experiment, medium
# :label: ex-reference-one-type-only
#
# Keep the Beta cells of `rest` alone, and map them with and without `correct=True`. How many keep their label, and why?
# :::
#
# :::{solution-start} ex-reference-one-type-only
# :label: sol-reference-one-type-only
# :class: dropdown
# :::

# %%
beta = rest[rest.obs["clusters"] == "Beta"].copy()
kept = {
    correct: is_right(mapped(beta, correct=correct, method=None)).mean()
    for correct in (False, True)
}
fewer = "fewer" if kept[True] < kept[False] else "not fewer"
say(f"""
{kept[False]:.0%} are called Beta without the correction and {kept[True]:.0%}
with it: {fewer}. Their own mean is taken off, so that what all of them share,
being Beta cells, is gone. The correction assumes similar shares of the same
types.
""")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Keep the promise: experiment, medium
# :label: ex-reference-keep-the-promise
#
# Map the held-out half `rest` as it is, without loss of counts and genes. Is the
# rate of false alarms near 5 %? Which standard error has such a rate, with as many calibration cells?
# :::
#
# :::{solution-start} ex-reference-keep-the-promise
# :label: sol-reference-keep-the-promise
# :class: dropdown
# :::

# %%
intact = mapped(rest.copy(), method=None)
alarms = (intact.obs["rpumap_novelty"] > 1).mean()
n_held = ref.quality_.n_cells
error = (0.05 * 0.95 * (1 / n_held + 1 / rest.n_obs)) ** 0.5
is_near = "less" if abs(alarms - 0.05) < 2 * error else "more"
say(f"""
{alarms:.1%} are flagged. The threshold is a quantile of {n_held} cells, and the
rate is counted in {rest.n_obs:,} others: its standard error is about
{error:.1%}. The rate differs from 5 % by {is_near} than twice that. The promise
is about the average over references; a single one can be off by twice the
standard error.
""")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} A promise for each type: code, hard
# :label: ex-reference-each-type
#
# Which share of the cells of `intact`, of the last exercise, is flagged among those with each label? Use half of these
# cells, drawn at random, to calibrate a threshold of novelty for each label by `quantile`, count in the other half, and
# average over 200 draws. Why by label and not by true type? How many cells does a label need?
# :::
#
# :::{solution-start} ex-reference-each-type
# :label: sol-reference-each-type
# :class: dropdown
# :::
#
# The true type of a query cell is not known, its label is. Among cells of one label, a new one is as exchangeable with the
# calibration cells as among all. At 5 % a label needs 19 of them; with fewer the threshold is infinite, and none of
# its cells are ever flagged.

# %%
called = intact.obs["rpumap_label"].astype(str).to_numpy()
novelties = intact.obs["rpumap_novelty"].to_numpy()
draw, rates = np.random.default_rng(2), []
for _ in range(200):
    calibrates = draw.random(len(called)) < 0.5
    for name in np.unique(called):
        own = quantile(novelties[calibrates & (called == name)], 0.05)
        tested = novelties[~calibrates & (called == name)]
        rates.append((name, (tested > 1).mean(), (tested > own).mean()))
rates = pd.DataFrame(rates, columns=["label", "one threshold", "own"])
rates = rates.groupby("label").mean()
rates.round(3)

# %%
one, own = rates["one threshold"], rates["own"]
assert own.max() < 0.06
say(f"""
With one threshold, from {one.min():.1%} ({one.idxmin()}) to {one.max():.1%}
({one.idxmax()}) of the cells are flagged, and with thresholds of their own from
{own.min():.1%} to {own.max():.1%}.
""")
folder.cleanup()

# %% [markdown]
# :::{solution-end}
# :::
#
# ## In practice
#
# - `ref = rpumap.ReferenceMap().fit(adata, labels="cell_type")`, then `ref.save("atlas.rpumap")`. Raw counts, in `X` or
#   in `layer=`; a file may be backed.
# - `ref = rpumap.ReferenceMap.load("atlas.rpumap")`, then `ref.map(query)`, which writes into `query`. Read
#   `uns["rpumap"]["remarks"]` first.
# - Use *certain* labels as they are, check *likely* ones by marker genes, and report *between A and B* as that.
# - `ref.certify(query, eps)` gives the boxes themselves, {func}`rpumap.reference.export_onnx` a graph for programs
#   without Python, and {func}`rpumap.explorer.export` a web page on which others [drop their cells](../book/map_your_cells)
#   and that sends nothing anywhere. A neighbour graph that you trust, of corrected batches perhaps: `fit(adata, labels, graph="connectivities")`.
# - Look at the flagged cells by type of label, depth and doublet score before you announce a new type.
# - Say which reference, which version, how many genes were found, and $\epsilon$.
#
# ## Further reading
#
# - {cite:t}`vovk2005algorithmic`: conformal prediction, and what exchangeable means.
# - {cite:t}`lotfollahi2022scarches` and {cite:t}`kang2021symphony`: mapping that models batches.
# - {cite:t}`zheng2017`, {cite:t}`howick2019` and {cite:t}`reid2018`: the cells of the published results.
