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
# You have a few thousand cells, each measured in hundreds of genes, and you want a picture. UMAP draws one. But next month more cells arrive, and there are no coordinates for them: what UMAP computes is a table with one row for each cell it was given. *Parametric* UMAP trains a small neural network instead, a function from gene values to coordinates, which can be evaluated for any cell. Where does it place cells that it was not trained on?

# %%
import numpy as np
import pandas as pd

import rpumap
from rpumap import plotting
from rpumap.chapters.comparison import describe_cells, transfer_labels
from rpumap.chapters.display import say
from rpumap.chapters.style import use_style
from rpumap.metrics import knn_accuracy, trustworthiness

use_style()

# %% tags=["hide-input"] mystnb={"image": {"alt": "Scatter plot in two dimensions. Training cells are pale grey dots, new cells larger dots in eight colours, one for each cell type. The new cells lie on the grey ones, and most colours keep to a region of their own."}, "figure": {"caption": "New cells of a mouse pancreas (coloured by type) on a map that was trained on other cells (grey). The network saw genes, never labels.", "name": "fig-quickstart-new"}}
adata = rpumap.datasets.pancreas()
about_cells = describe_cells(adata)
labels = adata.obs["clusters"]
is_new = np.arange(adata.n_obs) % 5 == 0
prep = rpumap.Preprocessor(n_top_genes=300)
X = prep.fit_transform(adata[~is_new])
X_new = prep.transform(adata[is_new])
model = rpumap.ParametricUMAP(random_state=0)
Z = model.fit_transform(X)
Z_new = model.transform(X_new)

title = f"New cells on the map: {about_cells}"
ax = plotting.embedding(Z_new, labels[is_new], size=9, title=title)
grey = ax.scatter(*Z.T, s=3, color="#8F8F8F", alpha=0.25, linewidths=0)
grey.set_zorder(0)

# %% tags=["remove-input"]
guess = transfer_labels(Z, labels[~is_new], Z_new)
right = pd.Series(guess == labels[is_new].to_numpy())
recall = right.groupby(labels[is_new].to_numpy()).mean().sort_values()
say(f"""
The network was trained on {len(Z):,} {about_cells}, and then placed
{len(Z_new):,} others on the map. If the 15 training cells nearest to a new
cell vote on its type, they name the right one for {right.mean():.0%} of them:
from {recall.iloc[0]:.0%} ({recall.index[0]}) to {recall.iloc[-1]:.0%}
({recall.index[-1]}), depending on the type.
""")

# %% tags=["remove-cell"]
in_figure = Z_new.copy()
assert len(recall) == 8
assert right.mean() > 2 * labels.value_counts(normalize=True).max()

# %% [markdown]
# ## What you will learn
#
# After this chapter you can
#
# - prepare counts so that nothing is learnt from cells that are held out;
# - train a parametric UMAP, and place new cells on it without training again;
# - explain why the coordinates of a new cell depend on no other new cell;
# - compute two scores of a map, for training cells and for new ones, and say what each compares.
#
# **You need** Python as far as calling functions, and the package [installed](../book/own_data). No graphics card: on two ordinary processor cores, training takes seconds.
#
# ## The cells
#
# The folded cell above the figure ran all steps at once. Now we take them one by one.
#
# At day 15.5 of its development, the mouse pancreas makes its hormone-producing cells. Duct-like progenitors switch on the gene *Neurog3* (long called *Ngn3*), pass through a short-lived endocrine progenitor state (EP), and end as alpha, beta, delta or epsilon cells, which make glucagon, insulin, somatostatin and ghrelin {cite:p}`bastidasponce2019`. All stages are present at once. A good map places each stage beside the next, and we shall measure whether ours does.

# %%
adata = rpumap.datasets.pancreas()
about_cells = describe_cells(adata)
print(adata.uns["source"])
print(f"{adata.n_obs:,} {about_cells}, {adata.n_vars:,} genes")
adata.obs["clusters"].value_counts(sort=False)

# %% [markdown]
# If the first line says *simulated*, the file of the published cells was not found on this computer. You are then looking at a stand-in: counts drawn at random along a tree with the same cell types. Every step below works the same way. {func}`rpumap.datasets.pancreas` downloads the published cells if you call it with `source="real"`.
#
# `adata` is an `AnnData` table, the usual container for single-cell data: one row a cell, one column a gene, and in `adata.X` the number of molecules counted.
#
# ## From counts to numbers a network can use
#
# Counts need three steps before cells can be compared. Most genes say little about cell type, so we keep the 300 that vary most. Some cells were sampled more deeply than others, so the counts of each cell are scaled to the same total, 10,000. And a gene with large counts would dominate every distance, so each gene is turned into a z-score: its distance from the mean, in standard deviations. This is the recipe of the paper that the book follows {cite:p}`zhang2023robust`, and {class}`rpumap.Preprocessor` does it.
#
# We hold out every fifth cell. These cells stand for next month's sample, so nothing may be learnt from them: genes, means and standard deviations come from the other cells alone. `fit_transform` learns them and applies them; `transform` only applies them.

# %%
is_new = np.arange(adata.n_obs) % 5 == 0
prep = rpumap.Preprocessor(n_top_genes=300)
X = prep.fit_transform(adata[~is_new])
X_new = prep.transform(adata[is_new])
print("training cells:", X.shape, "  new cells:", X_new.shape)

# %% [markdown]
# ## The map
#
# Two things happen when {class}`rpumap.ParametricUMAP` is fitted. First the cells are joined into a graph: each one is linked to its nearest neighbours in the space of 300 genes ([chapter 1](01_fuzzy_graph)). Then a network with two hidden layers of 128 neurons learns coordinates in which linked cells are close together and cells without a link are apart ([chapters 2](02_loss_derivation) and [3](03_training)). How well it does so is one number, the *loss*, which training makes small.

# %%
model = rpumap.ParametricUMAP(random_state=0)
Z = model.fit_transform(X)
loss = model.history_["loss"]
print(f"loss: {loss[0]:.2f} at the start, {loss[-1]:.2f} at the end")

# %% [markdown]
# `Z` has a row for each training cell, and two columns. {func}`rpumap.plotting.embedding` draws it.

# %% mystnb={"image": {"alt": "Scatter plot of the training cells in two dimensions, coloured by eight cell types. Most types fill a region of their own; the Ngn3 low EP cells lie among the ductal cells."}, "figure": {"caption": "The map of the training cells. Each dot is a cell.", "name": "fig-quickstart-map"}}
labels = adata.obs["clusters"]
title = f"Training cells: {about_cells}"
ax = plotting.embedding(Z, labels[~is_new], title=title)

# %% [markdown]
# The labels were not used in training; they only choose the colours. Which types are beside each other was therefore found in the counts. To see it in numbers, take the 15 nearest cells on the map of every cell. What share of them is of the same type, and which other type is the most frequent?

# %%
kind = labels[~is_new].to_numpy()
near, _ = rpumap.graph.nearest_neighbors(Z, n_neighbors=16)
pairs = np.repeat(kind, 15), kind[near[:, 1:]].ravel()
shares = pd.crosstab(*pairs, normalize="index").loc[labels.cat.categories]
own = pd.Series({name: shares.loc[name, name] for name in shares.index})
other = {name: row.drop(name).idxmax() for name, row in shares.iterrows()}
pd.DataFrame({"same type": own.round(2), "most frequent other": other})

# %% tags=["remove-input"]
stages = ["Ductal", "Ngn3 low EP", "Ngn3 high EP", "Pre-endocrine"]
fates = ["Beta", "Alpha", "Delta", "Epsilon"]
links = [*zip(stages, stages[1:], strict=False)]
links += [(stages[-1], fate) for fate in fates]
beside = {frozenset(link) for link in links}
fits = [name for name in other if frozenset((name, other[name])) in beside]
rest = [f"{name} ({other[name]})" for name in other if name not in fits]
exceptions = f" Exceptions: {', '.join(rest)}." if rest else ""
say(f"""
For {len(fits)} of {len(other)} types the most frequent other type is the stage
before or after it in the lineage.{exceptions}
""")

# %% tags=["remove-cell"]
assert len(fits) > len(other) / 2
assert other["Ngn3 low EP"] == "Ductal"
assert own["Ngn3 low EP"] < shares.loc["Ngn3 low EP", "Ductal"]
assert (own > 0.5).sum() == 7

# %% [markdown]
# ## New cells
#
# Now the fifth that we held out. Placing these cells on the map needs no graph, no training, and none of the training cells: only the network.

# %%
Z_new = model.transform(X_new)
print("coordinates of the new cells:", Z_new.shape)

# %% tags=["remove-cell"]
assert np.array_equal(Z_new, in_figure)

# %% [markdown]
# These are the coloured dots of {numref}`fig-quickstart-new`. Because the network is a function of one cell, the coordinates of a cell do not depend on the cells that are passed with it. One cell alone gets the same coordinates as in the whole table, to the last bit:

# %%
alone = model.transform(X_new[:1])
assert np.array_equal(alone, Z_new[:1])
print("first new cell:", alone[0], "of type", labels[is_new].iloc[0])

# %% [markdown]
# ## How good is it?
#
# How the picture looks is no measure of its quality. The book uses two scores throughout.
#
# *Trustworthiness* {cite:p}`venna2001` compares the map with gene space: are the 15 neighbours of a cell on the map also near it in the 300 genes? It is 1 if all of them are, and about 0.5 if the map is random. {func}`rpumap.metrics.trustworthiness` needs no labels.
#
# *15-NN accuracy* compares the map with labels: it is the share of cells whose type is guessed right from their 15 neighbours on the map ({func}`rpumap.metrics.knn_accuracy`). For the new cells we guess from the training cells around them, as you would do in practice: `transfer_labels` does it.

# %%
guess = transfer_labels(Z, labels[~is_new], Z_new)
accuracy, accuracy_new = knn_accuracy(Z, kind), (guess == labels[is_new]).mean()
scores = {
    "training cells": [trustworthiness(X, Z), accuracy],
    "new cells": [trustworthiness(X_new, Z_new), accuracy_new],
}
names = ["trustworthiness", "15-NN accuracy"]
pd.DataFrame(scores, index=names).round(3)

# %% tags=["remove-input"]
commonest = labels[~is_new].value_counts(normalize=True).max()
drop = 100 * (accuracy - accuracy_new)
side = "below" if drop > 0 else "above"
say(f"""
Always guessing the commonest type would be right for {commonest:.0%} of the
cells. The accuracy of the new cells is {abs(drop):.1f} percentage points {side}
that of the training cells.
""")

# %% [markdown]
# The difference between training cells and new cells is the *generalisation gap*. ([Chapter 4](04_generalization) measures it with care. The two values of trustworthiness are not quite comparable: among fewer cells, 15 neighbours reach further.) [Chapter 3](03_training) computes the same scores for the classical UMAP.

# %% tags=["remove-cell"]
other_prep = rpumap.Preprocessor(n_top_genes=300)
Z_wrong = model.transform(other_prep.fit_transform(adata[is_new]))
wrong = transfer_labels(Z, labels[~is_new], Z_wrong)
assert set(other_prep.genes_) != set(prep.genes_)
assert (wrong == labels[is_new]).mean() < accuracy_new / 2

# %% [markdown]
# ## What can go wrong
#
# - **Reading axes.** They have no meaning and no unit: only which cells are near each other counts.
# - **Comparing sizes.** UMAP evens out density by design, so the sizes of clusters and of the gaps between them say little.
# - **Preparing new cells anew.** A second `Preprocessor` that is fitted to the new cells chooses other genes, in another order, with other means and standard deviations. The network then sees numbers of another kind, and places the cells wrongly without any message.
# - **Cells of an unknown type.** A function has a value for every input, so these cells get coordinates as well ({numref}`ex-quickstart-unseen`).
#
# ## Take-aways
#
# - `Preprocessor` turns counts into z-scores and remembers how; `ParametricUMAP` turns z-scores into coordinates and remembers how.
# - New cells go through the same two steps, `transform` and `transform`. Nothing is fitted again.
# - Judge a map by scores of its neighbourhoods on cells that it was not trained on, and not by the shapes of its clusters.
#
# ## Self-check
#
# **1. Next month's cells are to be placed on the map. Why are the means and standard deviations not computed anew from all cells?**
#
# :::{dropdown} Because it would take too long
# Not quite. It takes a second or two. The question is what the numbers mean.
# :::
# :::{dropdown} Because a z-score does not depend on which cells the mean is taken of
# Not quite. It does: the same count is above one mean and below another.
# :::
# :::{dropdown} Because the network was trained on z-scores by the old ones
# Right. To the network, 1 means "one standard deviation of the training cells above their mean". With other means the same cell would get other coordinates; and if the new cells had a part in those means, they would no longer be a test.
# :::
#
# **2. What does the network need to place a new cell?**
#
# :::{dropdown} The z-scores of this cell
# Right. It is a function of them, with weights that training has fixed.
# :::
# :::{dropdown} The nearest training cells in gene space
# Not quite. They were needed to train the network. Other programs place a new cell by its neighbours; this one evaluates a function.
# :::
# :::{dropdown} The other new cells, because the graph must contain them
# Not quite. The graph is made in `fit`, of training cells. `transform` builds none, and one cell alone gets the same coordinates as in a table.
# :::
#
# **3. A map has a trustworthiness near 1 and a low 15-NN accuracy. What may be the reason?**
#
# :::{dropdown} The map is random
# Not quite. Then the trustworthiness would be about 0.5.
# :::
# :::{dropdown} Cells of different labels are neighbours in gene space as well
# Right. Trustworthiness compares the map with gene space, and accuracy with labels. A map that is true to the genes mixes types that the genes mix.
# :::
# :::{dropdown} The map has lost neighbours that the cells have in gene space
# Not quite. Those on the map are true ones if the trustworthiness is near 1; that some are missing would not mix the labels of those that are left.
# :::
#
# ## Exercises
#
# :::{exercise} Z-scores by hand: paper, easy
# :label: ex-quickstart-z-scores
#
# Three training cells have counts of two genes: 1 and 9, 4 and 16, 9 and 21. Scale each cell to a total of 10, and compute mean and standard deviation of each gene (with $n - 1$ in the denominator). Which z-scores does a new cell get that has the counts 2 and 3?
# :::
#
# :::{solution-start} ex-quickstart-z-scores
# :label: sol-quickstart-z-scores
# :class: dropdown
# :::
#
# The totals are 10, 20 and 30. After scaling, the first gene has the values 1, 2 and 3, with mean 2 and standard deviation 1, and the second 9, 8 and 7, with mean 8 and standard deviation 1. The new cell has a total of 5, so it is scaled to 4 and 6. Its z-scores are $4 - 2 = 2$ and $6 - 8 = -2$. That fewer of its molecules were counted plays no part.

# %%
counts = np.array([[1.0, 9.0], [4.0, 16.0], [9.0, 21.0]])
scaled = 10 * counts / counts.sum(axis=1, keepdims=True)
new = np.array([2.0, 3.0])
mean, std = scaled.mean(axis=0), scaled.std(axis=0, ddof=1)
z = (10 * new / new.sum() - mean) / std
assert np.allclose(z, [2, -2])
say(f"By computer: {z[0]:.0f} and {z[1]:.0f}.")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Six missing genes: code, easy
# :label: ex-quickstart-missing
#
# Another laboratory did not measure the first six of the 300 genes. Remove them from the new cells, and give the rest to `prep.transform`. What does it do with the missing genes, and how much does it change the accuracy of the new cells?
# :::
#
# :::{solution-start} ex-quickstart-missing
# :label: sol-quickstart-missing
# :class: dropdown
# :::

# %%
import warnings

measured = ~adata.var_names.isin(prep.genes_[:6])
with warnings.catch_warnings(record=True) as messages:
    warnings.simplefilter("always")
    X_less = prep.transform(adata[is_new, measured])
assert (X_less[:, :6] == 0).all() and np.allclose(X_less[:, 6:], X_new[:, 6:])
less = transfer_labels(Z, labels[~is_new], model.transform(X_less))
rates = [(found == labels[is_new]).mean() for found in (guess, less)]
say(f"""
It warns: "{messages[0].message}". A mean is a z-score of 0, a cautious guess
for a gene about which nothing is known. The accuracy is {rates[0]:.1%} with all
genes and {rates[1]:.1%} without the six. (If more than half of the genes are
missing, `transform` refuses.)""")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Another seed: experiment, easy
# :label: ex-quickstart-seed
#
# Train with `random_state=1`, which starts from other random weights. What changes on the map, and what does not? (About five seconds.)
# :::
#
# :::{solution-start} ex-quickstart-seed
# :label: sol-quickstart-seed
# :class: dropdown
# :::

# %%
again = rpumap.ParametricUMAP(random_state=1)
Z_again = again.fit_transform(X)
found = transfer_labels(Z_again, labels[~is_new], again.transform(X_new))
scores_again = [trustworthiness(X, Z_again), (found == labels[is_new]).mean()]
moved = np.linalg.norm(Z_again - Z, axis=1).mean()
width = np.linalg.norm(Z - Z.mean(axis=0), axis=1).mean()
assert abs(scores_again[1] - accuracy_new) < 0.05
before = scores["training cells"][0]
say(f"""
Coordinates change: a cell moves by {moved:.1f} on average, where the average
distance from the middle of the map is {width:.1f}. The loss depends on
distances between cells only, so a map may come out turned or mirrored, and it
may bend in other ways. Neighbourhoods change little: the trustworthiness of the
training cells is {scores_again[0]:.3f} (before: {before:.3f}) and the accuracy
of the new cells {scores_again[1]:.3f} ({accuracy_new:.3f}).""")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Longer lists of neighbours: experiment, medium
# :label: ex-quickstart-neighbors
#
# Set `n_neighbors=50`. Which of the eight types would you expect to suffer, and which do? Compare, for each type, how many of its new cells get the right type from the map. (About six seconds.)
# :::
#
# :::{solution-start} ex-quickstart-neighbors
# :label: sol-quickstart-neighbors
# :class: dropdown
# :::
#
# A type with about as many training cells as a list has entries can hardly fill the lists of its cells. They are then linked to cells of other types, and may come to lie among those. So one would expect the smallest type to suffer.

# %%
longer = rpumap.ParametricUMAP(n_neighbors=50, random_state=0)
Z_longer = longer.fit_transform(X)
found = transfer_labels(Z_longer, labels[~is_new], longer.transform(X_new))
truth = labels[is_new].to_numpy()
table = pd.DataFrame({"15": guess == truth, "50": found == truth, "cells": 1})
table = table.groupby(truth).sum()
table

# %%
change = (table["50"] - table["15"]).sort_values()
small = table["cells"].idxmin()
as_expected = "as expected" if change[small] < 0 else "against expectation"
say(f"""
The number of cells that get the right type changes by {change.iloc[0]:+d}
({change.index[0]}) to {change.iloc[-1]:+d} ({change.index[-1]}). That of the
smallest type, {small}, changes by {change[small]:+d} of {table["cells"].min()},
{as_expected}. These are so few cells that another seed may reverse it. A claim
about a rare type needs several splits (chapter 4).""")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} A type that the map has never seen: experiment, hard
# :label: ex-quickstart-unseen
#
# Train without the alpha cells, then place the new alpha cells on this map. Among which types do they come to lie? Could you tell from their coordinates that something is wrong? (About five seconds.)
# :::
#
# :::{solution-start} ex-quickstart-unseen
# :label: sol-quickstart-unseen
# :class: dropdown
# :::

# %%
known = (labels != "Alpha").to_numpy()
partial = rpumap.ParametricUMAP(random_state=0)
Z_known = partial.fit_transform(X[known[~is_new]])
Z_alpha = partial.transform(X_new[~known[is_new]])
votes = transfer_labels(Z_known, labels[~is_new & known], Z_alpha)
named = pd.Series(votes).value_counts(normalize=True)

# %%
from scipy.spatial import cKDTree

nearest = cKDTree(Z_known).query
usual = np.quantile(nearest(partial.transform(X_new[known[is_new]]))[0], 0.95)
far = (nearest(Z_alpha)[0] > usual).mean()
say(f"""
They are taken for {", ".join(f"{k} ({v:.0%})" for k, v in named.items())}.
{far:.0%} of them lie farther from the nearest training cell than 95 % of the
other new cells do; it would be 5 % if they were placed like these. So the map
gives away {"few" if far < 0.25 else "some"} of them. To see that a cell is of
no known type, go back to its genes: chapter 10 measures novelty.""")

# %% [markdown]
# :::{solution-end}
# :::
#
# ## In practice
#
# Use your own counts in the same way: an `AnnData` with raw counts in `X` and gene names in `var_names`. [Install and use on your own data](../book/own_data) has the details. Keep `prep` and `model` together, because one is of no use without the other; a [reference map](10_reference_mapping) keeps both in one file.
#
# Counts are noisy. How far can noise move a cell on the map? For a network the answer can be computed, not only sampled: around each point there is a box that the cell provably cannot leave while its gene values stay within given limits. These certified boxes are the second half of robust parametric UMAP, and later chapters build them from scratch.
#
# ## Further reading
#
# - {cite:t}`zhang2023robust`: the method of this book.
# - {cite:t}`mcinnes2018umap`: UMAP. {cite:t}`sainburg2021parametric`: its parametric form.
# - {cite:t}`bastidasponce2019`: the biology of these cells.
