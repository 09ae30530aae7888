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
# # Quickstart: a map that new cells can be placed on
#
# You have a few thousand cells, each measured in hundreds of genes, and you want a picture. UMAP draws one. But next month more cells arrive, and UMAP has no coordinates for them: it stores one point for each cell it has seen, and nothing else. *Parametric* UMAP stores a small neural network instead, a function from gene values to coordinates. It can be evaluated for any cell.
#
# ## What you will do
#
# - Load the cells of a developing mouse pancreas and prepare them.
# - Train a parametric UMAP on four fifths of them.
# - Place the remaining fifth on the finished map.
# - Measure how good the picture is.
#
# ## What you will learn
#
# - The five lines that make up an analysis with `rpumap`.
# - Why placing a new cell takes one pass through a network, and no new graph.
# - Which two scores this book uses for a picture, and how to read them.
#
# ## What you need
#
# - About five minutes, and Python as far as calling functions.
# - No graphics card. On two ordinary processor cores the training below takes seconds.

# %% tags=["remove-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("rpumap") is None:  # on Colab
    needed = ["umap-learn", "git+https://github.com/rpumap/rpumap"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *needed], check=True)

# %%
import numpy as np

import rpumap
from rpumap import plotting
from rpumap.chapters.comparison import describe_cells, transfer_labels
from rpumap.chapters.style import use_style
from rpumap.metrics import knn_accuracy, trustworthiness

use_style()

# %% [markdown]
# ## The cells
#
# At day 15.5 of its development, the mouse pancreas makes its hormone-producing cells. Duct-like progenitors switch on the gene *Neurog3* (long called *Ngn3*), pass through a short-lived endocrine progenitor state, and end as alpha, beta, delta or epsilon cells, which make glucagon, insulin, somatostatin and ghrelin {cite:p}`bastidasponce2019`. All stages are present at once, so a good picture should show a path that branches.

# %%
adata = rpumap.datasets.pancreas()
about_cells = describe_cells(adata)
print(adata.uns["source"])
print(f"{adata.n_obs:,} {about_cells}, {adata.n_vars:,} genes")
adata.obs["clusters"].value_counts(sort=False)

# %% [markdown]
# If the line above says *simulated*, the real file was not found on this computer, and you are looking at a stand-in: counts drawn at random along a tree with the same cell types. Every step below works the same way. `rpumap.datasets.pancreas(source="real")` downloads the real cells.
#
# `adata` is an `AnnData` table, the usual container for single-cell data: one row a cell, one column a gene, and in `adata.X` the number of molecules counted.
#
# ## From counts to numbers a network can use
#
# Counts need three steps before cells can be compared. Most genes say nothing about cell type, so we keep the 300 that vary most. Some cells were sampled more deeply than others, so each cell is scaled to the same total of 10,000 counts. And a gene with large counts would dominate every distance, so each gene is turned into a z-score: its distance from the mean, in standard deviations. This is the recipe of the paper that the book follows {cite:p}`zhang2023robust`.
#
# We hold out every fifth cell. These cells stand for next month's sample, so nothing may be learnt from them: genes, means and standard deviations come from the other cells alone.

# %%
is_new = np.arange(adata.n_obs) % 5 == 0
prep = rpumap.Preprocessor(n_top_genes=300)
X = prep.fit_transform(adata[~is_new])
X_new = prep.transform(adata[is_new])
print("cells to train on:", X.shape, "  new cells:", X_new.shape)

# %% [markdown]
# ## The map
#
# Two things happen in `fit`. First the cells are joined into a graph: each one is linked to its nearest neighbours in the space of 300 genes ([chapter 1](01_fuzzy_graph)). Then a network with two hidden layers of 128 units learns coordinates in which linked cells are close together and unlinked cells are apart ([chapters 2](02_loss_derivation) and [3](03_training)).

# %%
model = rpumap.ParametricUMAP(random_state=0)
Z = model.fit_transform(X)
loss = model.history_["loss"]
print(f"loss per edge: {loss[0]:.2f} at the start, {loss[-1]:.2f} at the end")

# %% mystnb={"image": {"alt": "Scatter plot of the training cells in two dimensions, coloured by cell type. Ductal cells at one end lead through the two Ngn3 stages and the pre-endocrine cells to the alpha, beta, delta and epsilon cells."}, "figure": {"caption": "The map of the training cells. Each dot is a cell; the network saw its genes, never its label.", "name": "fig-quickstart-map"}}
labels = adata.obs["clusters"]
ax = plotting.embedding(Z, labels[~is_new], title=f"Parametric UMAP, {about_cells}")

# %% [markdown]
# The labels were not used in training; they only choose the colours. That neighbouring types share a border, and that the path forks after the pre-endocrine cells, was found in the counts.
#
# Two warnings belong to every such picture. The axes have no meaning and no unit: only which cells are near each other counts. And the sizes of gaps and clusters must not be compared, because UMAP evens out density by design.
#
# ## New cells
#
# Now the fifth that we held out. Placing these cells on the map needs no graph, no training, and none of the training cells: only the network.

# %%
Z_new = model.transform(X_new)
print("coordinates of the new cells:", Z_new.shape)

# %% mystnb={"image": {"alt": "The same map with the training cells in pale grey and the new cells as coloured dots. The new cells lie on the region of their own type."}, "figure": {"caption": "New cells (coloured) placed on the map of the training cells (grey).", "name": "fig-quickstart-new"}}
title = f"New cells, {about_cells}"
ax = plotting.embedding(Z_new, labels[is_new], size=9, title=title)
grey = ax.scatter(*Z.T, s=3, color="#8F8F8F", alpha=0.25, linewidths=0, zorder=0)
# %% [markdown]
# And because the network is a function of one cell, a cell's coordinates do not depend on the other cells that are passed with it. One cell alone gets the same coordinates as in the whole table, to the last bit:

# %%
alone = model.transform(X_new[:1])
assert np.array_equal(alone, Z_new[:1])
print("first new cell:", alone[0], "of type", labels[is_new].iloc[0])

# %% [markdown]
# ## How good is it?
#
# How the picture looks is no measure of its quality. The book uses two scores throughout.
#
# *Trustworthiness* {cite:p}`venna2001` measures whether a cell's 15 neighbours on the map are also near it in gene space. It is 1 if all of them are, and about 0.5 if the map is random. *15-NN accuracy* is the share of cells whose type is guessed right from their 15 neighbours on the map. For the new cells we guess from the training cells around them, as you would do in practice: `transfer_labels` does it.

# %%
guess = transfer_labels(Z, labels[~is_new], Z_new)
print(f"trustworthiness, training cells: {trustworthiness(X, Z):.3f}")
print(f"trustworthiness, new cells:      {trustworthiness(X_new, Z_new):.3f}")
print(f"15-NN accuracy, training cells:  {knn_accuracy(Z, labels[~is_new]):.3f}")
print(f"15-NN accuracy, new cells:       {(guess == labels[is_new]).mean():.3f}")

# %% tags=["remove-cell"]
most_common = labels.value_counts(normalize=True).max()
assert (guess == labels[is_new]).mean() > 2 * most_common

# %% [markdown]
# A new cell's type is guessed right at least twice as often as if we had always guessed the commonest type; a hidden cell of this chapter checks that. Compare the two pairs of numbers as well. The drop from training cells to new cells is the generalisation gap. [Chapter 3](03_training) puts the same scores on the classical UMAP.
#
# ## Take-aways
#
# - `Preprocessor` turns counts into z-scores and remembers how; `ParametricUMAP` turns z-scores into coordinates and remembers how.
# - New cells go through the same two steps, `transform` and `transform`. Nothing is refitted.
# - Judge a map by a score of its neighbourhoods, and never by the shapes of its clusters.
#
# ## On your own
#
# 1. Train with `random_state=1`. What changes on the map, and what does not?
#
# ```{admonition} Solution
# :class: dropdown
# The whole map may turn, mirror or bend, because the loss depends on distances between points only. The neighbourhoods, and with them both scores, stay about the same.
# ```
#
# 2. Give `prep.transform` a table in which half a dozen of the 300 genes are missing, such as `adata[:, adata.var_names != prep.genes_[0]]`. What does it do, and is it right?
#
# ```{admonition} Solution
# :class: dropdown
# It warns, and holds each missing gene at its training mean, a z-score of 0. That is the least harmful guess for a gene about which nothing is known. Beyond half of the genes it refuses.
# ```
#
# 3. Set `n_neighbors=50`. Which of the small groups suffers?
#
# ```{admonition} Solution
# :class: dropdown
# Print `adata.obs["clusters"].value_counts()` first. A group with about 70 cells, such as Delta, can hardly fill a neighbourhood of 50 on its own, so its cells are tied to other types and may merge with them on the map.
# ```
#
# ## In practice
#
# Use your own counts in the same way: an `AnnData` with raw counts in `X` and gene names in `var_names`. Keep `prep` and `model` together, because one is of no use without the other.
#
# Counts are noisy. How far can noise move a cell on the map? For a network the answer can be computed, not only sampled: around each point there is a box that the cell provably cannot leave while its gene values stay within given limits. These certified boxes are the second half of robust parametric UMAP, and later chapters build them from scratch.
#
# ## Further reading
#
# - {cite:t}`zhang2023robust`: the method of this book.
# - {cite:t}`mcinnes2018umap`: UMAP. {cite:t}`sainburg2021parametric`: its parametric form.
# - {cite:t}`bastidasponce2019`: the biology of these cells.
