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
# You have mapped and labelled many cells. A colleague has a few hundred, from another day, with fewer
# counts and some genes missing, and asks what they are. A network can place them. But which labels can be
# trusted, and which cells do not belong on this map at all?

# %% tags=["remove-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("rpumap") is None:  # on Colab
    needed = ["umap-learn", "git+https://github.com/rpumap/rpumap"]
    needed += ["anndata>=0.12", "dask", "xarray"]  # of rpumap[lazy]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *needed], check=True)

# %% tags=["hide-input"]
import json
import os
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
    draw, counts = np.random.default_rng(seed), cells.X.toarray().astype(int)
    others = np.maximum(library_size(cells) - counts.sum(axis=1), 0).astype(int)
    result = cells.copy()
    result.X = csr_matrix(draw.binomial(counts, share).astype(np.float32))
    result.obs["library_size"] = result.X.sum(axis=1).A1 + draw.binomial(others, share)
    return result


colleague = thinned(rest, share=0.5)
lacking = ref.preprocessor_.genes_[::10]
colleague = colleague[:, ~colleague.var_names.isin(lacking)].copy()
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # which genes are missing: shown below
    ref.map(colleague)
    scaled = ref.preprocessor_.scale(colleague)


def kind_of(verdict):
    return "between two types" if verdict.startswith("between") else verdict


kinds = colleague.obs["rpumap_verdict"].astype(str).map(kind_of).to_numpy()
truth = colleague.obs["clusters"].astype(str).to_numpy()
right = colleague.obs["rpumap_label"].astype(str).to_numpy() == truth

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four panels with the same map in grey. In each, the colleague's cells of one verdict are coloured: certain cells lie inside the regions of types, likely ones everywhere, those between two types along borders, and those not in the reference are few and scattered."}, "figure": {"caption": "The colleague's cells on the map of the atlas (grey), by verdict.", "name": "fig-reference-verdicts"}}
shown = ["certain", "likely", "between two types", "not in the reference"]
fig, axes = plt.subplots(2, 2, figsize=(6, 6), sharex=True, sharey=True)
for ax, verdict, color in zip(axes.flat, shown, COLORS, strict=False):
    ax.scatter(*ref.model_.embedding_.T, s=3, color=INK, alpha=0.25, linewidths=0)
    ax.scatter(*colleague.obsm["X_umap"][kinds == verdict].T, s=6, color=color, linewidths=0)
    ax.set(xticks=[], yticks=[])
    ax.set_title(f"{verdict}\n{(kinds == verdict).mean():.0%} of {source}", fontsize=11)

# %% tags=["remove-input"]
by_kind = pd.Series(right).groupby(kinds).mean()
each = ", ".join(f"{by_kind[kind]:.1%} of those *{kind}*" for kind in shown[:3] if kind in by_kind)
say(f"""
The atlas has {atlas.n_obs:,} cells ({source}). The colleague's {colleague.n_obs:,} have half of the counts, and
{len(lacking)} of the {len(ref.preprocessor_.genes_)} genes of the map are missing. Of their labels {right.mean():.1%} are
right: {each}. The verdicts sort the labels by how far to trust them. All of these cells have a type that is in the atlas,
so the {(kinds == "not in the reference").mean():.0%} that are called new are false alarms: cells with fewer counts look
stranger.
""")

# %% [markdown]
# **You will** calibrate a threshold by hand, with nineteen numbers; fit, save, load and use a reference map; read
# its verdicts; leave a type out; and see what holds, and what does not, between real studies.
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
# Nothing distinguishes the new cell, so its place in that order is equally likely to be any of the $n + 1$. The
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
assert quantile(distances, 0.05) == 19
assert quantile(distances[:18], 0.05) == np.inf
# a new cell falls into each of the twenty gaps with the same probability
gaps = np.arange(20) + 0.5
assert np.isclose((gaps > quantile(distances, 0.05)).mean(), 0.05)

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
to_types = np.log([[1.0, 4.0], [2.0, 2.2], [5.0, 5.0]])
strangeness = to_types - to_types[:, ::-1]
assert (strangeness <= 0).tolist() == [[True, False], [True, False], [True, True]]
assert (strangeness <= 0.2).tolist() == [[True, False], [True, True], [True, True]]

# %% [markdown]
# ## Where to measure distances
#
# Not on the map. [Chapter 4](04_generalization) showed that a new type is hard to notice there: two coordinates have no
# room for "elsewhere". And not among all genes, where noise adds up. A `ReferenceMap` has an *index*: logarithms of
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
# scaled is ref.preprocessor_.scale(colleague), with NaN for genes that are missing
z = np.nan_to_num((np.log1p(scaled) - index.mean) / index.std)
ratios = []
for number, space in enumerate(index.spaces):
    place = z @ space.projection
    distance = np.linalg.norm(place[:, None] - space.cells[None], axis=2)
    nearest = np.argsort(distance, axis=1)[:, : index.k]
    if number == 0:
        votes = np.eye(len(index.names))[index.codes[nearest]].mean(axis=1)
        label = votes.argmax(axis=1)
    d = np.take_along_axis(distance, nearest, axis=1).mean(axis=1)
    ratios.append(d / space.usual[label])
novelty = np.sqrt(ratios[0] * ratios[1]) / index.threshold

# %% tags=["hide-input"]
assert np.allclose(novelty, colleague.obs["rpumap_novelty"], rtol=1e-3)
assert np.allclose(votes.max(axis=1), colleague.obs["rpumap_confidence"])

# %% [markdown]
# ## Train once, share one file
#
# A fifth of the atlas is held out of everything: of genes, z-scores, network and index. These cells calibrate the
# thresholds, and say how good the reference is. `fit` trains the network robustly, against noise and then against lost
# counts, for a reason that comes below. `save` writes one file.

# %%
folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "pancreas.rpumap"
ref.save(path)
print(f"{path.stat().st_size / 1000:.0f} kB")
say(ref.card().split("## How good")[0].replace("# Reference map", "**Reference map**"))

# %% [markdown]
# The file holds the network, 2,000 cells at most as 10 and 20 components and two coordinates each, and a header in JSON. No
# counts are in it, so it says little of any single cell; but share it only if you may share the data. It is a
# safetensors file: numbers and text. A pickle can run any code when it is loaded, and breaks when a
# library changes; this file can do neither. A checksum finds damage, and the version of the format is part of it. The
# colleague needs nothing else, and opens it in a fresh process:

# %%
colleague_file = Path(folder.name) / "colleague.h5ad"
adata_of_colleague = colleague.copy()
del adata_of_colleague.obsm["X_umap"], adata_of_colleague.uns["rpumap"]
adata_of_colleague.write_h5ad(colleague_file)
code = f"""
import warnings, numpy as np, rpumap, anndata
warnings.simplefilter("ignore")
query = anndata.read_h5ad({str(colleague_file)!r})
rpumap.ReferenceMap.load({str(path)!r}).map(query)
np.save({str(Path(folder.name) / "Z.npy")!r}, query.obsm["X_umap"])
"""
subprocess.run([sys.executable, "-c", code], check=True)
assert np.array_equal(np.load(Path(folder.name) / "Z.npy"), colleague.obsm["X_umap"])

# %% [markdown]
# The coordinates have the same bits. `map` writes them into `obsm["X_umap"]`, so that `sc.pl.umap(query,
# color="rpumap_label")` just works, and says in `uns["rpumap"]` what it did and what it noticed:

# %%
done = colleague.uns["rpumap"]
for name in ("n_genes_found", "n_genes", "eps", "share_map_and_index_disagree"):
    print(f"{name}: {done[name]:.3g}")
for remark in done["remarks"]:
    print("-", remark[:150])

# %% [markdown]
# Genes are found by name, in any order. If names differ by the version of an Ensembl id or by case, the error says so and
# shows names of both sides; `match="version"`, `match="case"` or `gene_names=` then tell which genes are the same. Nothing is
# guessed. Logarithms, z-scores and other transformed values are refused, as the reference scales counts itself.
#
# ## What a certificate adds
#
# A *certain* label is one that the index and the map agree on, and that provably stays on the map for all changes of the
# genes by up to $\epsilon$ standard deviations ([chapter 8](08_robust_training)). How does the share of such cells fall with
# $\epsilon$, and what are their labels worth?

# %%
certified = {}
for eps in (0.01, 0.02, 0.05, 0.1, 0.2):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        obs = ref.map(colleague.copy(), eps=eps).obs
    certain = (obs["rpumap_verdict"] == "certain").to_numpy()
    score = right[certain].mean() if certain.any() else np.nan
    certified[eps] = {"certain": certain.mean(), "right, of these": score}
certified = pd.DataFrame(certified).T.rename_axis("eps")
certified.round(3)

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
say(f"""
On these cells ({source}) *{best}* is found best: {missing.loc[best, "sensitivity"]:.0%} of its cells are called new, and
{missing.loc[best, "false alarms"]:.0%} of the others. *{worst}* is found worst, {missing.loc[worst, "sensitivity"]:.0%}:
its area is {missing.loc[worst, "auroc"]:.2f}. A type whose neighbours in development stay in the reference lies close to them,
in few components and in units of their scatter, and nothing marks it as new. **That few cells are flagged does not show that
all of them belong.**
""")

# %% [markdown]
# ## Between studies
#
# All that was exchangeable so far: atlas and colleague come from one experiment, and the promise of
# {eq}`eq-reference-rank` needs no more. Cells of another laboratory, with another chemistry, are *not* drawn from the same
# population. Two pairs of real studies show how much that matters: blood cells sorted by antibodies {cite:p}`zheng2017`
# as reference, and those of another donor as query; malaria parasites by droplets {cite:p}`howick2019` and by
# plates {cite:p}`reid2018`, whose counts are of reads, not of molecules. Their files cannot be shared here, so these are
# published results, written by `python book/measure_reference.py`:

# %% tags=["hide-input"]
published_million = json.loads((BOOK / "lazy.json").read_text(encoding="utf-8"))
published = json.loads((BOOK / "reference.json").read_text(encoding="utf-8"))
rows = pd.DataFrame(published["rows"])
studies = rows[rows["what"] == "between studies"]
columns = ["index", "map, plain", "map, robust", "flagged", "coverage", "certain"]
columns += ["certain and right"]


def mean_and_spread(values):
    return f"{values.mean():.3f} ± {values.std():.3f}"


of_pair = {cells: of for cells, of in studies.groupby("cells")}
lines = [[name, *(mean_and_spread(of[name]) for of in of_pair.values())] for name in columns]
say(markdown_table(["share of the query", *of_pair], lines))

# %% tags=["remove-input"]
of_missing = rows[rows["what"] == "missing type"].groupby("cells")
cd34 = of_missing.get_group("CD34+")
gain = (studies["map, robust"] - studies["map, plain"]).groupby(studies["cells"]).mean()
by_type = ", ".join(
    f"{kind} {of['auroc'].mean():.2f} ({of['sensitivity'].mean():.0%})"
    for kind, of in of_missing
    if kind != "CD34+"
)
say(f"""
Means and standard deviations over {studies["seed"].nunique()} seeds of the reference, which all map the same query: how much
another query would differ they do not tell. Robust training raises the accuracy on the map by {gain["blood"]:.3f} for blood and
by {gain["malaria"]:.3f} for the parasites. So it pays where the paper never looked. The index still names types better than
the map does. It flags {studies.loc[studies["cells"] == "blood", "flagged"].mean():.1%} of the blood cells and
{studies.loc[studies["cells"] == "malaria", "flagged"].mean():.1%} of the parasites, all of known types, where 5 % were promised
for cells of the same experiment. The conformal sets suffer most: those of the blood cells hold the true type in
{studies.loc[studies["cells"] == "blood", "coverage"].mean():.0%} of the cells. Where types lie far apart, a promise of 90 % is
kept by sets that are empty for a tenth of the cells, those that are less clear than the others. In another study more are
less clear, and their label is still right.

Types left out of the real pancreas, area and share found: {by_type}. In the reverse direction of the blood cells, CD34+
progenitors have no type in the reference: {cd34["sensitivity"].mean():.0%} of them are flagged, at
{cd34["false alarms"].mean():.1%} false alarms, with an area of {cd34["auroc"].mean():.2f}.
""")

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
    return f"{of[name].mean():.3f} → {of[name + ', corrected'].mean():.3f}"


lines = [[cells, *(without_and_with(of, name) for name in names)] for cells, of in of_case.items()]
say(markdown_table(["query", *names], lines))

# %% tags=["remove-input"]
change = {
    cells: (of["map, robust, corrected"] - of["map, robust"]).mean()
    for cells, of in of_case.items()
}
say(f"""
Accuracy without the correction → with it. On the robust map it changes, from top to bottom: {", ".join(f"{by:+.3f}" for by in change.values())}.
Factors of genes are what it was made for, as both halves have the same types in the same shares. Real studies differ in
these shares as well, and there it does harm. Robust training helps with both. So the correction is not the default: what it assumes
cannot be seen from the query. On the unchanged half the conformal sets hold the true type of
{of_case["factors 0.0"]["coverage"].mean():.1%} of the cells, where 90 % were promised.
""")
assert all((of["map, robust"] - of["map, plain"]).mean() > 0 for of in of_case.values())
assert max(change["blood"], change["malaria"]) < 0

# %% [markdown]
# ## More cells than memory
#
# A query may lie in a file that is larger than the memory. `anndata.experimental.read_lazy` opens it without reading the
# counts; `map` then looks at a few cells, for errors and warnings, and puts dask arrays into the table: recipes, computed when
# asked for, block by block, on the threads of this machine or on the workers of a cluster. Here with as many cells as suit
# this machine:

# %%
n_many = 10_000 * min(os.cpu_count() or 1, 10)
drawn = np.random.default_rng(1).integers(rest.n_obs, size=n_many)
obs = rest.obs.iloc[drawn].set_axis([f"cell{i}" for i in range(n_many)])
many = AnnData(rest.X[drawn], obs=obs, var=rest.var)
many.write_h5ad(Path(folder.name) / "many.h5ad")
lazy = ref.map(read_lazy(Path(folder.name) / "many.h5ad"), method=None)
lazy.obsm["X_umap"]

# %%
start = time.perf_counter()
is_new = lazy.obs["rpumap_novelty"].data > 1
Z, share = dask.compute(lazy.obsm["X_umap"], is_new.mean())
rate = n_many / (time.perf_counter() - start)
assert Z.shape == (n_many, 2)
print(f"{n_many:,} cells, {share:.1%} new")

# %% tags=["remove-input"]
million = {(row["what"], row["scheduler"]): row for row in published_million["rows"]}
say(f"""
At {rate:,.0f} cells a second, a million would take {1e6 / rate / 60:.1f} minutes on the machine that ran this page. Published
results for {published_million["cells"]:,} simulated cells in a file (`python tests/benchmarks/bench_lazy.py`), rates beside
those of the same steps on cells in memory: coordinates, labels and novelty {million["map", "threads"]["ratio"]:.2f} times as fast
on the threads of two cores, boxes by CROWN-IBP {million["boxes", "threads"]["ratio"]:.2f} times, with at most
{max(row["GiB"] for row in million.values() if "GiB" in row):.1f} GiB of memory. Two worker processes of a cluster gave the same
numbers, although one was killed half way.
""")

# %% [markdown]
# ## The atlas grows
#
# A fixed map has no place for a type that it never saw: the network puts such cells among others. A new fit makes room, and
# moves everything else, so that last year's figure no longer holds. `extend` trains the network further on old and new cells
# together, while the reconstruction loss of [chapter 8](08_robust_training) holds the old ones at their coordinates. They
# are *landmarks*. Here Beta cells come late:

# %%
prep = rpumap.Preprocessor()
late = atlas.obs["clusters"].to_numpy() == "Beta"
X = prep.fit_transform(atlas[~late].copy())
X_new = prep.transform(atlas[late].copy())
before = rpumap.ParametricUMAP(random_state=0).fit(X)
extended = rpumap.extend(before, X, X_new)
anew = rpumap.ParametricUMAP(random_state=0).fit(np.concatenate([X, X_new]))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three maps of the same cells, with the late Beta cells coloured: placed by the old network they lie among other cells; extended, they have a place of their own while the other cells are where they were; in a new fit they have a place too, but the whole map looks different."}, "figure": {"caption": "Late cells (colour) on the old map, on the extended one, and on a new one.", "name": "fig-reference-extend"}}
placed = np.concatenate([before.embedding_, before.transform(X_new)])
maps = {"placed": placed, "extended": extended.embedding_, "fitted anew": anew.embedding_}
scale, is_late = before.embedding_.std(), np.arange(len(placed)) >= len(X)
fig, axes = plt.subplots(1, 3, figsize=(8, 3))
fig.suptitle(source)
for ax, (name, Z) in zip(axes, maps.items(), strict=True):
    ax.scatter(*Z[~is_late].T, s=2, color=INK, alpha=0.3, linewidths=0)
    ax.scatter(*Z[is_late].T, s=2, color=COLORS[1], linewidths=0)
    ax.set(xticks=[], yticks=[], title=name)

# %% tags=["remove-input"]
drift = {
    n: np.median(np.linalg.norm(Z - placed, axis=1)[~is_late]) / scale for n, Z in maps.items()
}
trust = {n: rpumap.metrics.trustworthiness(np.concatenate([X, X_new]), Z) for n, Z in maps.items()}
say(f"""
The old cells move by {drift["extended"]:.2f} standard deviations of the map (median), and by {drift["fitted anew"]:.2f} in a new
fit, turned and mirrored as it may be. Trustworthiness of all cells: {trust["placed"]:.3f} placed, {trust["extended"]:.3f}
extended, {trust["fitted anew"]:.3f} fitted anew.
""")

# %% [markdown]
# ## What can go wrong
#
# **Another technology.** If more than half of a query is flagged, `map` warns. Then single verdicts mean little: either
# the cells differ as a whole, or the counts are not what they should be.
#
# **A correction that hides.** Where both sides have the same types in other shares, `correct=True` moves the cells: if the
# query has one type only, its mean is that type, and z-scores make it look like an average of all. Exercise 2 shows it.
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
# - Read labels in the space of genes, and the place on the map. Where both agree, and provably stay so, trust most.
# - A threshold from held-out cells keeps its promise for cells of the same experiment, whatever their distribution, and
#   only for those.
# - "Not in the reference" finds types that lie apart. A type between others goes unnoticed.
# - Robust training makes maps of other studies better, beyond what its certificates say.
# - Share a file that cannot run code, with a card that says how good it is.
#
# ## On your own
#
# **1. Fewer counts.** Map the colleague's cells with a tenth of their counts. What happens to labels, novelty and
# certainty?

# %% tags=["hide-cell"] jupyter={"source_hidden": true, "outputs_hidden": true} mystnb={"code_prompt_show": "Solution 1", "code_prompt_hide": "Solution 1"}
shallow = thinned(rest, share=0.1)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)
    obs = ref.map(shallow).obs
still = (obs["rpumap_label"].astype(str) == obs["clusters"].astype(str)).mean()
verdicts = obs["rpumap_verdict"].astype(str).map(kind_of).value_counts(normalize=True)
say(f"""
{still:.1%} of the labels are right, beside {right.mean():.1%} with half of the counts. {verdicts.get("certain", 0):.0%} are
certain, and {verdicts.get("not in the reference", 0):.0%} are called new: a shallow cell is far from all others, so that
novelty also measures depth. Compare the library sizes of query and reference before you believe in a new type.
""")

# %% [markdown]
# **2. One type only.** Keep the Beta cells of the query alone, and map them with and without `correct=True`.

# %% tags=["hide-cell"] jupyter={"source_hidden": true, "outputs_hidden": true} mystnb={"code_prompt_show": "Solution 2", "code_prompt_hide": "Solution 2"}
beta = rest[rest.obs["clusters"] == "Beta"].copy()
shares = {}
for correct in (False, True):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        obs = ref.map(beta, correct=correct, method=None).obs
    shares[correct] = (obs["rpumap_label"].astype(str) == "Beta").mean()
say(f"""
{shares[False]:.0%} are called Beta without the correction and {shares[True]:.0%} with it. Their own mean is taken off, so that
what all of them share, being Beta cells, is gone. The correction assumes similar shares of the same types.
""")

# %% [markdown]
# **3. Keep the promise.** Map the held-out half of the atlas as it is, without loss of counts and genes. Is the
# rate of false alarms near 5 %? Which standard error has such a rate, with as many calibration cells?

# %% tags=["hide-cell"] jupyter={"source_hidden": true, "outputs_hidden": true} mystnb={"code_prompt_show": "Solution 3", "code_prompt_hide": "Solution 3"}
obs = ref.map(rest.copy(), method=None).obs
alarms, n_calibration = (obs["rpumap_novelty"] > 1).mean(), ref.quality_.n_cells
error = (0.05 * 0.95 * (1 / n_calibration + 1 / rest.n_obs)) ** 0.5
say(f"""
{alarms:.1%} are flagged. The threshold is a quantile of {n_calibration} cells, and the rate is counted in {rest.n_obs:,}
others: its standard error is about {error:.1%}. The promise is about the average over references; a single one can be off by
twice that.
""")
folder.cleanup()

# %% [markdown]
# ## In practice
#
# - `ref = rpumap.ReferenceMap().fit(adata, labels="cell_type")`, then `ref.save("atlas.rpumap")`. Raw counts, in `X` or
#   in `layer=`; a file may be backed.
# - `ref = rpumap.ReferenceMap.load("atlas.rpumap")`, then `ref.map(query)`, which writes into `query`. Read
#   `uns["rpumap"]["remarks"]` first.
# - Use *certain* labels as they are, check *likely* ones by marker genes, and report *between A and B* as that.
# - `ref.certify(query, eps)` gives the boxes themselves, `rpumap.reference.export_onnx(ref, path)` a graph for programs
#   without Python. A neighbour graph that you trust, of corrected batches perhaps: `fit(adata, labels, graph="connectivities")`.
# - Look at the flagged cells by type of label, depth and doublet score before you announce a new type.
# - Say which reference, which version, how many genes were found, and $\epsilon$.
#
# ## Further reading
#
# - {cite:t}`vovk2005algorithmic`: conformal prediction, and what exchangeable means.
# - {cite:t}`lotfollahi2022scarches` and {cite:t}`kang2021symphony`: mapping that models batches.
# - {cite:t}`zheng2017`, {cite:t}`howick2019` and {cite:t}`reid2018`: the cells of the published results.
