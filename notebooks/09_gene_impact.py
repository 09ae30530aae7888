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
# # What a gene does to the map
#
# Which genes determine where a cell lies on the map? The network is a function of the genes, so it can be
# differentiated, and the paper compares a plain map with a regularised one in this way. How much of each map is left
# when the gene that matters most is noisy, and how far can a cell move when counts are lost?

# %% tags=["hide-input"]
import copy
import itertools
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy.stats import spearmanr

import rpumap
from rpumap import plotting
from rpumap.chapters.comparison import describe_cells
from rpumap.chapters.display import curve, say, show_rules, show_verdicts
from rpumap.chapters.robustness import DOSE, DOSES, DRAWS, NEAR_ZERO, Pair
from rpumap.chapters.scorecard import load_results
from rpumap.chapters.settings import DEFAULT
from rpumap.chapters.style import use_style
from rpumap.dropout import drop_counts, dropout_box
from rpumap.plotting import COLORS, INK
from rpumap.preprocessing import library_size
from rpumap.sensitivity import jacobian, network_jacobian, perturb
from rpumap.verification import Ball, Box, SparseBox, crown, projected_gradient

use_style()
adata = rpumap.datasets.pancreas()
print(adata.uns["source"])
source = describe_cells(adata)
pair = Pair(adata, DEFAULT, seed=0)
base, genes = pair.models["base"], pair.prep.genes_
impact = dict(pair.impact)
top = {name: int(g.argmax()) for name, g in impact.items()}

# %% tags=["hide-input"] mystnb={"image": {"alt": "Share of the accuracy left against the size of the noise, 1 to 30 standard deviations, on a logarithmic axis. Noise in one gene takes away accuracy slowly; each map in its own top gene loses about as much as the other, and the regularised map loses less in the top gene of the plain map. Noise in all genes takes away most of the accuracy of both at much smaller sizes."}, "figure": {"caption": "Noise in one gene, and in all: share of the accuracy left on held-out cells, for a plain and a regularised network. The top gene is that of the highest impact. Counterpart of figure 5D.", "name": "fig-impact-doses"}}
DARK, LIGHT = INK, COLORS[1]
first, own = top["base"], top["robust"]
tests = {
    "plain, its top gene": ("base", first, DARK, "s-"),
    "regularised, its own top gene": ("robust", own, LIGHT, "^-"),
    "regularised, top gene of the plain map": ("robust", first, LIGHT, "o--"),
    "plain, all genes": ("base", None, DARK, "s:"),
    "regularised, all genes": ("robust", None, LIGHT, "^:"),
}
doses = {
    label: {scale: pair.kept(name, scale, gene) for scale in DOSES}
    for label, (name, gene, *_) in tests.items()
}
fig, ax = plt.subplots(figsize=(5, 5.2))
for label, (*_, color, style) in tests.items():
    kept = doses[label]
    ax.plot(kept.keys(), kept.values(), style, color=color, label=label)
ax.set(xscale="log", xlabel="noise (standard deviations of a gene)")
ax.set(ylabel="share of the accuracy left", ylim=(0, 1.05))
ax.set_xticks(DOSES, [f"{dose:g}" for dose in DOSES])
ax.set_title(f"Noise in z-scores ({source})")
ax.minorticks_off()
legend = fig.legend(loc="outside lower center", ncols=1)

# %% tags=["remove-input"]
at_dose = [kept[DOSE] for kept in doses.values()]
say(f"""
The top gene of the plain map is *{genes[first]}*, that of the regularised map
*{genes[own]}* ({source}). Noise of {DOSE:g} standard deviations in its top gene
leaves the plain map {at_dose[0]:.0%} of its accuracy. The regularised map keeps
{at_dose[2]:.0%} under the same noise, but {at_dose[1]:.0%} if the noise is in
its *own* top gene. Noise in all genes leaves {at_dose[3]:.0%} and
{at_dose[4]:.0%}.
""")

# %% tags=["remove-cell"]
assert abs(at_dose[0] - at_dose[1]) < 0.1 < at_dose[2] - at_dose[3]
assert at_dose[2] > at_dose[0] and max(at_dose[3:]) < 0.5

# %% [markdown]
# ## What you will learn
#
# After this chapter you can
#
# - derive the Jacobian of a ReLU network by hand, and say for which changes of a cell it holds;
# - compute the impact of genes, and decide what a high or a low value does not show;
# - predict from the norm of the ball which genes keep their impact under regularisation;
# - derive the box that holds every loss of a given share of a cell's library;
# - compare random losses, an attack and a certificate, and say what each of them proves.
#
# **You need** [training](03_training) of a network, certified {term}`boxes <box>` as the
# [CROWN chapter](07_crown_derivation) derives them, matrix products and the chain rule.
#
# ## What the paper claims
#
# The paper finds that for the regularised model the distribution of gene impact "has a sharp peak near zero that is
# much taller", that the plain one has "a much bigger variance" (figure 5B), and that "perturbing the one gene with the
# highest gene impact can severely decrease the quality of the embedding", while "the same input" had "little effect" on
# the regularised one. Noise in all genes gave "a loss of structure in both cases" (figure 5D). How large the noise was, it
# does not say. The answer depends on it, so {numref}`fig-impact-doses` shows many sizes.
#
# ## A small network by hand
#
# Two genes, two neurons, two coordinates on the map. The neurons receive
#
# $$ y_1 = x_1 - x_2, \qquad y_2 = x_1 + x_2 - 2 , $$
#
# each is cut off at zero by its {term}`ReLU`, $h = \max(0, y)$, and the coordinates are
#
# $$ z_1 = 2 h_1 + h_2, \qquad z_2 = h_1 - h_2 . $$
#
# Take the cell $x = (3, 1)$. Both neurons receive 2, so both are active. Near this cell the ReLUs do
# nothing, and the network is a linear map: $z_1 = 2 y_1 + y_2 = 3 x_1 - x_2 - 2$ and
# $z_2 = y_1 - y_2 = -2 x_2 + 2$. Gene 1 moves the first coordinate by 3 for each unit, and the second not
# at all.
#
# The cell $(1, 2)$ has $y = (-1, 1)$. The first neuron is inactive, and stays so under small changes.
# What is left is $z_1 = y_2$ and $z_2 = -y_2$. For $(0, 1)$ both are inactive, and the cell does not move
# at all. The table of derivatives, $J_{jg} = \partial z_j / \partial x_g$, is called the *Jacobian*:
#
# $$
# \begin{aligned}
# J(3, 1) &= \begin{pmatrix} 3 & -1 \\ 0 & -2 \end{pmatrix}, \\
# J(1, 2) &= \begin{pmatrix} 1 & 1 \\ -1 & -1 \end{pmatrix}, \\
# J(0, 1) &= \begin{pmatrix} 0 & 0 \\ 0 & 0 \end{pmatrix} .
# \end{aligned}
# $$
#
# ## The general case
#
# We removed the inactive neurons, and multiplied the weights that remain. Let the diagonal matrix $D^{(k)}$ have a 1
# for each active neuron of layer $k$ and a 0 for each inactive one. By the chain rule, with $m$ layers of weights,
#
# $$
# \begin{aligned}
# J(x) = {}& W^{(m)} D^{(m-1)} W^{(m-1)} \\
#   & \cdots D^{(1)} W^{(1)} .
# \end{aligned}
# $$ (eq-impact-jacobian)
#
# Only the $D$ depend on the cell. Where no neuron changes its sign they are constant. So a ReLU
# network is piecewise linear, and the Jacobian describes the piece in which a cell lies. At
# a boundary, $y = 0$ exactly, there is no derivative. PyTorch takes 0 there, and so do we.
#
# In code we multiply from the left. Then the product has only two rows for each cell, however wide
# the layers are.


# %%
def closed_form(encoder, x):
    """Jacobian of each cell, for Linear, ReLU, ..., Linear."""
    active, h = [], x
    for layer in encoder[:-1]:
        h = layer(h)
        if isinstance(layer, torch.nn.ReLU):
            active.append((h > 0).to(h))
    J = encoder[-1].weight.expand(len(x), -1, -1)
    for layer, d in zip(encoder[-3::-2], reversed(active), strict=True):
        J = (J * d[:, None, :]) @ layer.weight
    return J.detach()


# %%
small = rpumap.networks.mlp(2, (2,), 2)
by_hand = ([[1, -1], [1, 1]], [0, -2], [[2, 1], [1, -1]], [0, 0])
for parameter, numbers in zip(small.parameters(), by_hand, strict=True):
    parameter.data = torch.tensor(numbers, dtype=torch.float32)
J = closed_form(small, torch.tensor([[3.0, 1], [1, 2], [0, 1]]))
assert J.tolist() == [[[3, -1], [0, -2]], [[1, 1], [-1, -1]], [[0, 0], [0, 0]]]

# %% [markdown]
# `encoder[-3::-2]` walks over the linear layers from the last but one down to the first, and `d[:, None, :]`
# removes the columns of inactive neurons. In the package this function is
# {func}`rpumap.sensitivity.network_jacobian`. We compare both with automatic differentiation, on the two networks of
# the figure, `base` (plain) and `robust` (regularised): `jacrev` differentiates one cell and `vmap` repeats it.


# %%
def autograd(network, x):
    return torch.func.vmap(torch.func.jacrev(network))(x).detach()


def difference(J, other):
    return ((J - other).abs().max() / other.abs().max()).item()


hundred, apart = torch.as_tensor(pair.X[:100]).double(), {}
for name, model in pair.models.items():
    network = copy.deepcopy(model.encoder_).double()
    J = closed_form(network, hundred)
    others = {"autograd": autograd(network, hundred)}
    others["package"] = network_jacobian(network, hundred)
    apart[name] = {way: difference(J, found) for way, found in others.items()}
pd.DataFrame(apart)  # largest differences, relative to the largest slope

# %% tags=["hide-input"]
assert max(max(ways.values()) for ways in apart.values()) < 1e-12

# %% [markdown]
# ## One number a gene
#
# The paper sums $\lvert \partial \vec U / \partial x_{ig} \rvert$ over the cells. The bars enclose a pair of
# derivatives, and may mean its length or the sum of the two magnitudes ([Notation](../book/notation)). We take
# the length, which does not change when the map is rotated:
#
# $$
# \text{impact}_g = \sum_i \left\lVert \frac{\partial z_i}{\partial x_{ig}} \right\rVert_2 .
# $$ (eq-impact-impact)
#
# In the small network gene 1 has columns of length 3, $\sqrt 2$ and 0, so its impact is about 4.41. {func}`rpumap.gene_impact`
# computes this for a fitted model, from the derivatives that {func}`rpumap.sensitivity.jacobian` gives cell by cell, and
# `impact` is its mean over the cells that trained the networks: how far one standard
# deviation of the gene would move a cell, if the linear pieces were large enough. The *spread* of a map is the
# root mean square distance of its cells from their centre.


# %%
def spread(model):
    return np.sqrt(model.embedding_.var(axis=0).sum())


near_zero = NEAR_ZERO * np.median(impact["base"])


# %%
def summarise(name):
    g = impact[name]
    return {
        "spread of the map": spread(pair.models[name]),
        "mean": g.mean(),
        "median": np.median(g),
        "sd": g.std(),
        "sd / mean": g.std() / g.mean(),
        "near zero": (g < near_zero).mean(),
        "top 10": np.sort(g)[-10:].sum() / g.sum(),
    }


summary = pd.DataFrame({name: summarise(name) for name in pair.models})
summary.round(3)

# %% tags=["remove-input"]
slopes = {name: jacobian(m, pair.X) for name, m in pair.models.items()}
sums = {name: np.abs(J).sum(axis=1).mean(axis=0) for name, J in slopes.items()}
ranks = [spearmanr(sums[name], impact[name]).statistic for name in sums]
b, r = summary["base"], summary["robust"]
say(f"""
"Near zero" is the share of genes below a quarter of the plain map's median
impact, "top 10" what the ten strongest genes hold of the total. Regularisation
lowers the median from {b["median"]:.3f} to {r["median"]:.3f}. The standard
deviation goes from {b["sd"]:.3f} to {r["sd"]:.3f}, but relative to the mean
from {b["sd / mean"]:.2f} to {r["sd / mean"]:.2f}: impact is not reduced alike
in all genes. With the sum of magnitudes in place of the length, the ranks of
the genes would hardly differ (rank correlations {ranks[0]:.3f} and
{ranks[1]:.3f}).
""")

# %% tags=["remove-cell"]
for name, g in impact.items():
    lengths = np.linalg.norm(slopes[name], axis=1)
    assert np.allclose(g, lengths.mean(axis=0))
assert r["median"] < b["median"]
assert (r > 1.3 * b)[["sd / mean", "top 10"]].all()
assert min(ranks) > 0.95

# %% [markdown]
# Why? Look at one linear piece, where $z = Jx + c$. Regularisation makes the certified box small that holds for all
# changes of at most $\epsilon$ in every gene. On this piece, coordinate $j$ can change by
#
# $$ \max_{\lvert \delta_g \rvert \le \epsilon} \sum_g J_{jg}\, \delta_g
#    = \epsilon \sum_g \lvert J_{jg} \rvert . $$ (eq-impact-sum)
#
# This sum of magnitudes is the penalty by which the lasso selects variables: each unit of slope adds
# the same, so a gene keeps its slope if this lowers the rest of the loss by more, which means that the map needs
# the gene.
#
# ## Which genes keep their impact?
#
# To judge the genes without biological knowledge typed in, compute for each the share of its variance that lies
# *between* the labelled types (the $\eta^2$ of an analysis of variance), and name the type where its mean is highest.
# The network never saw the labels.

# %%
frame = pd.DataFrame(pair.X, columns=genes, dtype=float)
means = frame.groupby(pair.labels).mean()
sizes = pd.Series(pair.labels).value_counts().loc[means.index]
between = means.pow(2).mul(sizes, axis=0).sum() / frame.pow(2).sum()
shares = {name: g / g.sum() for name, g in impact.items()}
by_gene = pd.DataFrame(shares, index=genes)
by_gene["between"], by_gene["highest in"] = between, means.idxmax()
by_gene.sort_values("base", ascending=False).head(8).round(3)

# %% tags=["remove-input"]
ties = {name: spearmanr(g, between).statistic for name, g in impact.items()}
say(f"""
The columns `base` and `robust` are shares of the total impact. The rank
correlation of impact with the share between types is {ties["base"]:.2f} on the
plain map and {ties["robust"]:.2f} on the regularised one, as the argument
predicts: the plain map also depends on genes that do not separate the types.
""")

# %% tags=["remove-cell"]
assert ties["robust"] > ties["base"] > 0

# %% [markdown]
# ## Noise in one gene, noise in all
#
# In {numref}`fig-impact-doses`, normal noise is added to the z-scores of held-out cells, and their 15 nearest
# training cells on the map vote on their type. What counts is the share of the accuracy that is left, mean over five
# draws of the noise by {func}`rpumap.sensitivity.perturb`. `pair.kept` computes this:

# %%
noisy = [perturb(pair.X_held, DOSE, first, draw) for draw in range(DRAWS)]
left = np.mean([pair.accuracy(base, cells) for cells in noisy])
left /= pair.accuracy(base, pair.X_held)
assert np.isclose(left, pair.kept("base", DOSE, first))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three rows of two maps, plain on the left and regularised on the right: undisturbed, with noise in the top gene of the plain map, and with noise in all genes. In the middle row some cells of the plain map leave their groups while most stay; in the last row the groups are mixed on both maps."}, "figure": {"caption": "Held-out cells on both maps: undisturbed, with noise of 10 standard deviations in the top gene of the plain map, and in all genes. All panels of a map have one scale; cells outside it are not shown. The paper's form of figure 5D.", "name": "fig-impact-perturbed"}}
what = {
    "undisturbed": pair.X_held,
    f"{genes[first]}, sd {DOSE:g}": noisy[0],
    f"all genes, sd {DOSE:g}": perturb(pair.X_held, DOSE, random_state=0),
}
fig, axes = plt.subplots(3, 2, figsize=(5, 8.4))
names = dict(zip(pair.models, ("plain", "regularised"), strict=True))
kinds = adata.obs["clusters"].cat.categories
shade = dict(zip(kinds, COLORS, strict=False))
order = np.random.default_rng(0).permutation(len(pair.X_held))
shades = [shade[kind] for kind in pair.labels_held[order]]
for column, (name, model) in zip(axes.T, pair.models.items(), strict=True):
    centre = model.embedding_.mean(axis=0)
    limit = 1.2 * np.abs(model.embedding_ - centre).max()
    for ax, (title, cells) in zip(column, what.items(), strict=True):
        Z = model.transform(cells[order]) - centre
        ax.scatter(*Z.T, s=5, c=shades, linewidths=0)
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
        ax.set(xticks=[], yticks=[], ylabel=title if name == "base" else "")
    column[0].set_title(names[name])
for kind, color in shade.items():
    axes[0, 0].scatter([], [], s=30, color=color, label=kind)
fig.legend(loc="outside lower center", ncols=3, handletextpad=0.1)
title = fig.suptitle(f"Noise in z-scores ({source})")

# %% [markdown]
# The control with all genes matters: a network that ignores its input is perfectly robust and useless. The other
# control is a random gene, another one in each of five draws. Beside the accuracy we measure how far cells move, in spreads
# of the map; this does not depend on labels.


# %%
def moved(name, scale, chosen):
    model, steps = pair.models[name], []
    for draw, gene in enumerate(chosen):
        disturbed = perturb(pair.X_held, scale, gene, draw)
        step = model.transform(disturbed) - model.transform(pair.X_held)
        steps.append(np.linalg.norm(step, axis=1).mean())
    return np.mean(steps) / spread(model)


others = np.setdiff1d(np.arange(len(genes)), list(top.values()))
random = np.random.default_rng(0).choice(others, DRAWS)


# %%
def under_noise(name):
    highest, size = int(impact[name].argmax()), spread(pair.models[name])
    return {
        "own top gene, sd 10": moved(name, DOSE, [highest] * DRAWS),
        "top gene of base, sd 10": moved(name, DOSE, [first] * DRAWS),
        "random gene, sd 10": moved(name, DOSE, random),
        "all genes, sd 1": moved(name, 1.0, [None] * DRAWS),
        "all genes, sd 10": moved(name, DOSE, [None] * DRAWS),
        "largest impact / spread": impact[name].max() / size,
    }


table = pd.DataFrame({name: under_noise(name) for name in pair.models})
table.round(3)

# %% tags=["remove-input"]
ratio = table["robust"] / table["base"]
less = (impact["robust"] / impact["base"])[first]
less *= spread(base) / spread(pair.models["robust"])
in_own, in_first = "own top gene, sd 10", "top gene of base, sd 10"
say(f"""
Noise in *{genes[first]}* moves the regularised map {ratio[in_first]:.2f} times
as far as the plain one; the impact of this gene, in spreads, is {less:.2f}
times that on the plain map. (The gradient looks at the intact cells, and such
noise takes them to other linear pieces.) This test favours the regularised map,
since the gene was chosen on the other. Noise in its own top gene moves it
{ratio[in_own]:.2f} times as far as the plain map is moved by its own.
""")

# %% tags=["remove-cell"]
assert max(less, ratio[in_first], ratio["all genes, sd 1"]) < 0.95
assert ratio[in_own] > 0.95
assert (table.loc[in_own] > 2 * table.loc["random gene, sd 10"]).all()

# %% [markdown]
# There is a reason: the penalty {eq}`eq-impact-sum` counts only the sum over genes. It allows a few genes of high impact,
# as long as the others have little.
#
# ## Robust to what?
#
# Against noise in a single gene, we should train with such noise. Let the changes add up to at most
# $\epsilon$ in magnitude (an $l_1$ ball). Then on one linear piece
#
# $$ \max_{\sum_g \lvert \delta_g \rvert \le \epsilon} \sum_g J_{jg}\, \delta_g
#    = \epsilon \max_g \lvert J_{jg} \rvert , $$ (eq-impact-max)
#
# for the worst change puts everything on the gene with the largest slope. Now only the largest
# slope adds to the loss. {func}`rpumap.robustify` takes this ball too. We allow 3 standard deviations in total.

# %%
one_gene = rpumap.robustify(base, pair.X, eps=3.0, norm="l1", n_steps=200)
pair.models["one-gene"] = one_gene
impact["one-gene"] = rpumap.gene_impact(one_gene, pair.X) / len(pair.X)
table["one-gene"] = under_noise("one-gene").values()
table.round(3)

# %% tags=["remove-input"]
own_kept = {
    name: np.mean([pair.kept(name, dose, int(g.argmax())) for dose in DOSES])
    for name, g in impact.items()
}
say(f"""
Under noise in its own top gene the map trained against noise in one gene moves
least, {table.loc[in_own, "one-gene"]:.2f} spreads. Under mild noise in all
genes the map trained against small changes everywhere does. Each is robust to
what it was trained for. The share of the accuracy that is left under noise in
the own top gene, mean over the sizes of the opening figure, is
{own_kept["base"]:.2f} (`base`), {own_kept["robust"]:.2f} (`robust`) and
{own_kept["one-gene"]:.2f} (`one-gene`).
""")

# %% tags=["remove-cell"]
steepest = table.loc["largest impact / spread"]
assert table.loc[in_own].idxmin() == "one-gene" == steepest.idxmin()
assert table.loc["all genes, sd 1"].idxmin() == "robust"

# %% [markdown]
# ## The rules
#
# The unit of repeat is a plain network and the regularised one that starts from it, ten of each, each pair on a split of its
# own; draws of the noise are averaged within a pair. The rules were written before those networks were trained
# ([how to read them](../book/scorecard)):

# %% tags=["remove-input"]
show_rules("09_gene_impact")

# %% [markdown]
# For figure 5B the baseline is the plain network itself, since the claims compare two distributions. For figure 5D it is
# the same map without noise, for `own` the plain map under the same treatment: each in the gene that it depends on most.
#
# ## What ten networks say

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four panels, pancreas and malaria in the settings of the paper and with our defaults. In each, the share of genes whose impact is smaller, against impact on a logarithmic axis, for plain and regularised networks. A curve further to the left has more genes of small impact."}, "figure": {"caption": "Distribution of gene impact: the share of the genes (vertical) whose impact is smaller than a value (horizontal, in map units per standard deviation), at seven quantiles. Mean and 95 % interval over ten networks. Counterpart of figure 5B, without bins.", "name": "fig-impact-distribution"}}
both_cells = "pancreas", "malaria"
both_settings = {"paper": "paper's settings", "default": "our defaults"}
panels = list(itertools.product(both_cells, both_settings))
looks = {"plain": (DARK, "s-"), "regularised": (LIGHT, "^--")}
fig, axes = plt.subplots(2, 2, figsize=(5, 5.6), sharex=True, sharey=True)
for ax, (cells, settings) in zip(axes.flat, panels, strict=True):
    published = curve("impact", cells, settings)
    for network, (color, style) in looks.items():
        line = published[published["network"] == network]
        ax.plot(line["mean"], line["at"], style, color=color, label=network)
        ends = line["low"].clip(lower=1e-6), line["high"]
        ax.fill_betweenx(line["at"], *ends, color=color, alpha=0.25)
    ax.set(xscale="log", ylim=(0, 1))
    ax.set_title(f"{cells},\n{both_settings[settings]}")
    ax.set_xticks([0.01, 0.1, 1], ["0.01", "0.1", "1"])
    ax.minorticks_off()
for ax in axes[1]:
    ax.set_xlabel("map units per sd")
fig.supylabel("share of the genes below", size="medium")
handles = axes[0, 0].get_legend_handles_labels()
legend = fig.legend(*handles, loc="outside lower center", ncols=2)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four panels, pancreas and malaria in the settings of the paper and with our defaults: share of the accuracy left against the size of the noise in one gene. All lines fall as the noise grows. In each panel a line for the plain network in its top gene, one for the regularised in its own, and one for the regularised in the top gene of the plain one."}, "figure": {"caption": "As the opening figure, over ten networks: mean and 95 % interval of the share of the accuracy that is left under noise in one gene.", "name": "fig-impact-doses-published"}}
treated = {
    "plain, its top gene": ("plain", "dose-own"),
    "regularised, its own top gene": ("regularised", "dose-own"),
    "regularised, top gene of the plain map": ("regularised", "dose-same"),
}
fig, axes = plt.subplots(2, 2, figsize=(5, 6.2), sharex=True, sharey=True)
for ax, (cells, settings) in zip(axes.flat, panels, strict=True):
    for label, (network, which) in treated.items():
        *_, color, style = tests[label]
        line = curve(which, cells, settings)
        line = line[line["network"] == network]
        ax.plot(line["at"], line["mean"], style, color=color, label=label)
        ends = line["low"], line["high"]
        ax.fill_between(line["at"], *ends, color=color, alpha=0.2, linewidth=0)
    ax.set(xscale="log", ylim=(0.4, 1.05))
    ax.set_title(f"{cells},\n{both_settings[settings]}")
    ax.set_xticks([1, 3, 10, 30], ["1", "3", "10", "30"])
    ax.minorticks_off()
for ax in axes[1]:
    ax.set_xlabel("noise (sd of the gene)")
fig.supylabel("share of the accuracy left", size="medium")
handles = axes[0, 0].get_legend_handles_labels()
legend = fig.legend(*handles, loc="outside lower center", ncols=1)

# %% tags=["remove-input"]
show_verdicts("09_gene_impact")

# %% tags=["remove-input"]
results = {
    (row["id"], row["cells"], row["settings"]): row
    for row in load_results()["rows"]
}


def found(claim, digits=2):
    rows = {cells: results[claim, cells, "paper"] for cells in both_cells}
    return " and ".join(
        f"{row['value']:.{digits}f} beside {row['baseline_value']:.{digits}f} "
        f"({cells})"
        for cells, row in rows.items()
    )


def verdict(claim):
    each = [results[claim, cells, "paper"]["verdict"] for cells in both_cells]
    if each[0] == each[1]:
        return f"*{each[0]}*"
    return f"*{each[0]}* (pancreas), *{each[1]}* (malaria)"


def alone(claim):
    each = [results[claim, cells, "paper"]["value"] for cells in both_cells]
    return f"{each[0]:.0%} (pancreas) and {each[1]:.0%} (malaria)"


def ratio_of_variances(settings):
    claim = "impact-variance/larger"
    each = [results[claim, cells, settings] for cells in both_cells]
    pancreas, malaria = (row["effect_value"] for row in each)
    return f"{pancreas:.2f} (pancreas) and {malaria:.2f} (malaria)"


say(f"""
How to read it, in the paper's settings, the regularised networks beside the
plain ones:

- *A much taller peak near zero.* The median impact is
  {found("impact-peak/moved", 3)}: {verdict("impact-peak/moved")}. The share of
  genes near zero is {found("impact-peak/taller")}:
  {verdict("impact-peak/taller")}.
- *A bigger variance without regularisation.* The ratio of the variances is
  {ratio_of_variances("paper")}. Above 1: {verdict("impact-variance/larger")}.
  Above 2: {verdict("impact-variance/much")}. With our defaults the ratio is
  {ratio_of_variances("default")}. The penalty lowers a sum of slopes, which
  need not lower their variance.
- *Severe harm.* Noise of {DOSE:g} standard deviations in its top gene leaves
  the plain map {alone("top-gene/severe")} of its accuracy:
  {verdict("top-gene/severe")}.
- *Little effect of the same noise.* The regularised map keeps
  {alone("top-gene/little")}: {verdict("top-gene/little")}. Under noise in the
  own top gene of each map, over all sizes, it keeps {found("top-gene/own", 3)}:
  {verdict("top-gene/own")}.
- *Loss of structure with noise in all genes.* The plain map keeps
  {alone("all-genes/base")}: {verdict("all-genes/base")}. The regularised map
  keeps {alone("all-genes/robust")}: {verdict("all-genes/robust")}.
""")

# %% [markdown]
# What holds at 10 standard deviations need not hold at another size: read the whole curve.
#
# ## One lost count, by hand
#
# Noise in z-scores is only a model. The noise of single-cell data is above all {term}`dropout`: molecules
# that were there and were not counted. Its range is known, because a count lies between zero and
# what was seen. That is a box, and the bounds of the [CROWN chapter](07_crown_derivation) hold for
# all its points at once.
#
# Take one cell and one gene. Of $L$ molecules in the cell, $c$ are of the gene, whose mean and
# standard deviation over the training cells are $\mu$ and $s$. Seen and lost, its z-scores are
#
# $$ x = \frac{10^4\, c / L - \mu}{s}, \qquad x_0 = \frac{0 - \mu}{s} . $$ (eq-impact-lost)
#
# We pick the held-out cell that the gradient says this loss would move furthest on the plain map.

# %%
prep = pair.prep
floor = -prep.mean_ / prep.std_  # z-scores of a count of zero
held = {name: jacobian(m, pair.X_held) for name, m in pair.models.items()}
slope = np.linalg.norm(held["base"][:, :, first], axis=1)
cell = int((slope * (pair.X_held[:, first] - floor[first])).argmax())

one = pair.held_out[[cell]]
count, size = one[:, genes[first]].X.sum(), library_size(one)[0]
z_score = (1e4 * count / size - prep.mean_[first]) / prep.std_[first]
print(f"{size:.0f} molecules, {count:.0f} of them of {genes[first]}")
print(f"z-score as seen {z_score:.2f}, if all are lost {floor[first]:.2f}")

# %%
low, high = dropout_box(prep, one, [genes[first]])
route = high + np.linspace(0, 1, 200)[:, None] * (low - high)

# %% tags=["hide-input"]
assert np.isclose(z_score, pair.X_held[cell, first], rtol=1e-4)
assert (low != high).sum() == 1 and np.isclose(low[0, first], floor[first])

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels, plain and regularised. In each, a piecewise linear path starts at a dot inside a certified rectangle; a dashed straight line from the same dot, the prediction by the gradient, departs from it."}, "figure": {"caption": "One gene's counts are taken from one cell, bit by bit. Solid: where the network places the cell. Dashed: where the gradient at the start predicts it. Rectangle: certified. In map units, relative to the intact cell; the panels have different scales.", "name": "fig-impact-lost"}}
fig, axes = plt.subplots(1, 2, figsize=(5, 3.4))
paths, boxes = {}, {}
for ax, (name, title) in zip(axes, names.items(), strict=True):
    path = paths[name] = pair.models[name].transform(route)
    box = boxes[name] = rpumap.certify(pair.models[name], region=Box(low, high))
    corners = (corner - path[0] for corner in box)
    slopes_here = held[name][cell, :, first]
    tangent = np.outer([0, 1], slopes_here * (low - high)[0, first])
    plotting.boxes(*corners, ax=ax, linewidth=1, label="certified")
    ax.plot(*(path - path[0]).T, linewidth=2, color=COLORS[0], label="network")
    ax.plot(*tangent.T, "--", linewidth=2, color=COLORS[1], label="gradient")
    ax.plot(0, 0, "o", color=COLORS[0])
    ax.set(xlabel="dimension 1", title=title)
axes[0].set_ylabel("dimension 2")
fig.suptitle(f"Losing {genes[first]} ({source})")
handles = ax.get_legend_handles_labels()
legend = fig.legend(*handles, loc="outside lower center", ncols=3)

# %% tags=["hide-input"]
for name, (lowest, highest) in boxes.items():
    assert ((lowest <= paths[name]) & (paths[name] <= highest)).all()

# %% [markdown]
# The path bends wherever the cell passes from one linear piece of the network to the next. The gradient
# describes the first piece only. The rectangle holds for the whole path.
#
# ## Any k counts
#
# We do not know which counts were lost, and there are far too many choices to try. The box with
# every gene anywhere from "lost" to "seen" covers them all, but few cells lose everything. A limit
# $k$ on how many genes are affected is more useful, and needs one change in CROWN. The worst
# case of a linear bound over a box is a sum of one term a gene. If only $k$ genes may change, it is
# the sum of the $k$ largest terms. {class}`~rpumap.verification.SparseBox` is this region.
#
# A certificate is an upper limit of the truth. Trying losses gives a lower one, and the Jacobian
# helps to choose them: the loss of gene $g$ pulls the cell by about $J_{:g}\,(x_{0g} - x_g)$. For each
# of 16 directions, lose the $k$ counts that pull hardest that way, and keep the worst of the 16, beside 16 choices at
# random.


# %%
def reach(name, x, region):
    """Distances from cells to the far corners of their certified boxes."""
    Z = pair.models[name].transform(x)
    lower, upper = rpumap.certify(pair.models[name], region=region)
    corner = np.maximum(upper - Z, Z - lower)
    return np.linalg.norm(corner, axis=1) / spread(pair.models[name])


def moved_most(name, x, low, scores, k):
    """How far cells move when their k counts of highest score are lost."""
    model, steps = pair.models[name], []
    for score in scores:
        lost = (score > 0) & (score >= np.sort(score, axis=1)[:, [-k]])
        step = model.transform(np.where(lost, low, x)) - model.transform(x)
        steps.append(np.linalg.norm(step, axis=1) / spread(model))
    return np.max(steps, axis=0)


# %% tags=["hide-input"]
few, x = pair.held_out[:90], pair.X_held[:90]
low, _ = dropout_box(prep, few)
angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
at_random = np.random.default_rng(0).random((16, *x.shape))
ways = {}
for k, name in itertools.product((1, 5, 20), pair.models):
    pull = held[name][:90] * (low - x)[:, None]
    towards = [
        np.cos(angle) * pull[:, 0] + np.sin(angle) * pull[:, 1]
        for angle in angles
    ]
    ways[f"any {k}", name] = {
        "random": moved_most(name, x, low, at_random * (low < x), k),
        "chosen": moved_most(name, x, low, towards, k),
        "certified": reach(name, x, SparseBox(x, low, x, k)),
    }
lost = pd.DataFrame(
    {
        key: {way: cells.mean() for way, cells in of.items()}
        for key, of in ways.items()
    }
).T
above_zero = (low < x).sum(axis=1).mean()
print(f"counts above zero among the {len(genes)}, per cell: {above_zero:.0f}")

# %% tags=["hide-input"]
for of in ways.values():
    assert (np.maximum(of["random"], of["chosen"]) <= of["certified"]).all()

# %% tags=["hide-input"] mystnb={"image": {"alt": "For losses of any 1, 5 and 20 genes and three networks, a vertical line from a triangle, the worst loss found, up to a bar, the certified limit, on a logarithmic axis; dots for random losses lie lowest. The bars of the plain network are highest; when 20 counts are lost the lines are longest."}, "figure": {"caption": "How far lost counts move a cell, as a mean over 90 held-out cells. Dot: worst of 16 random losses. Triangle: worst of 16 losses chosen by gradient. Bar: certified. The true worst case lies on the line.", "name": "fig-impact-dropout"}}
fig, ax = plt.subplots(figsize=(5, 4.6))
markers = {"random": "o", "chosen": "^", "certified": "_"}
looks = {"base": (DARK, "-"), "robust": (LIGHT, "--")}
looks["one-gene"] = COLORS[4], ":"
for m, (name, (color, style)) in enumerate(looks.items()):
    part = lost.xs(name, level=1)
    at = np.arange(len(part)) + 0.24 * (m - 1)
    ends = part["chosen"], part["certified"]
    ax.vlines(at, *ends, color=color, linestyle=style, linewidth=2, label=name)
    for way, marker in markers.items():
        ax.plot(at, part[way], marker, color=color, markersize=8)
for way, marker in markers.items():
    ax.plot([], [], marker, color=INK, markersize=8, label=way)
ax.set(yscale="log", ylabel="moved (spreads of the map)")
ax.set(xlabel="genes that lost their counts")
ax.set_xticks(range(len(part)), part.index)
ax.set_title(f"Sampled and certified ({source})")
legend = fig.legend(loc="outside lower center", ncols=3)

# %% tags=["remove-input"]
found_most, most = lost["chosen"].unstack(), lost["certified"].unstack()
slack = (lost["certified"] / lost[["random", "chosen"]].max(axis=1)).unstack()
divided, divided_found = (
    of.loc["any 5", "base"] / of.loc["any 5", "robust"]
    for of in (most, found_most)
)
say(f"""
The certified limit is {slack.loc["any 1", "base"]:.1f} times the worst single
loss that was found on the plain map, and {slack.loc["any 1", "robust"]:.1f}
times on the regularised one; for 20 counts {slack.loc["any 20", "base"]:.0f}
and {slack.loc["any 20", "robust"]:.0f} times. The more counts may be lost, the
more neurons are unstable, and each of them loosens the bound. A limit of
{most.loc["any 20", "base"]:.1f} spreads (20 counts on the plain map) says
nothing, since the whole map is hardly wider. For 5 counts regularisation
divides the limit by {divided:.1f}, the worst loss found only by
{divided_found:.1f}: much of its gain is a tighter proof.
""")

# %% tags=["remove-cell"]
assert (most.idxmax(axis=1) == "base").all()
assert most.loc["any 20", "base"] > 1.5
assert (slack.loc["any 1"] < slack.loc["any 20"]).all()
assert (slack["robust"] < slack["base"]).all()
assert divided > divided_found

# %% [markdown]
# ## A share of the library
#
# So far the library size was held fixed, which is right for counts that went missing from the table. A molecule that
# was never counted is missing from $L$ too, and *all* other genes rise a little: no limit $k$ helps. Three boxes are
# possible. The first holds $L$ fixed, as above. With `library_size_falls=True`,
# {func}`~rpumap.dropout.dropout_box` lets the 300 genes lose counts and $L$ fall with them, but keeps all counts of
# other genes. With `library_loss=s`, at most a share $s$ of the library is lost, of whatever genes. Then
#
# $$
# \begin{gathered}
# \frac{c_g - t}{L - t} \;\le\; \frac{c'_g}{L'} \;\le\; \frac{c_g}{(1 - s) L}, \\
# t = \min(c_g, s L) ,
# \end{gathered}
# $$ (eq-impact-share)
#
# smallest if only counts of the gene itself are lost, largest if only others are ($1$ at most). Take the cell with the counts 6,
# 0, 2, 1, 1 and $s = 0.2$: two of its ten molecules are lost. The first gene holds between 4/8 and 6/8 of what is left, the third
# between 0/8 and 2/8, the fourth between 0/9 and 1/8.

# %%
five_genes = pd.DataFrame(index=list("abcde"))
counts = np.array([[4, 1, 2, 1, 2], [6, 0, 1, 2, 1], [2, 2, 3, 0, 3]])
three_cells = AnnData(counts, var=five_genes)
tiny = rpumap.Preprocessor(n_top_genes=5, target_sum=1).fit(three_cells)
ten_molecules = AnnData(np.array([[6, 0, 2, 1, 1]]), var=five_genes)
box = dropout_box(tiny, ten_molecules, library_loss=0.2)
ends = np.vstack(box) * tiny.std_ + tiny.mean_  # not z-scores, but shares
ends = pd.DataFrame(ends, index=["least", "most"], columns=five_genes.index)
ends.abs().round(3)

# %% tags=["hide-input"]
by_hand = np.array([[4, 0, 0, 0, 0], [6, 0, 2, 1, 1]]) / 8
assert np.allclose(ends, by_hand, atol=1e-6)

# %% [markdown]
# Now the dropout of the paper's figure 4, over the whole table. Its share of the library is known here, for each cell.
# (`transform` warns that the 300 genes hold an unusual share of the library; that is what we study.)


# %%
def loses(ratio):
    left = drop_counts(few, ratio, random_state=0)
    share = 1 - library_size(left) / library_size(few)
    with warnings.catch_warnings(action="ignore"):
        return share, prep.transform(left)


def outside(z, box):
    return 1 - ((box[0] <= z) & (z <= box[1])).all(axis=1).mean()


# %%
shares, leaves = {}, {}
fixed = dropout_box(prep, few)
panel_only = dropout_box(prep, few, library_size_falls=True)
for ratio in (0.2, 0.8):
    shares[ratio], z = loses(ratio)
    bounded = dropout_box(prep, few, library_loss=shares[ratio])
    leaves[f"{ratio:.0%} lost"] = {
        "library fixed": outside(z, fixed),
        "panel only": outside(z, panel_only),
        "share bounded": outside(z, bounded),
    }
pd.DataFrame(leaves).T.map("{:.0%} outside".format)

# %% tags=["remove-input"]
mild, harsh = leaves["20% lost"], leaves["80% lost"]
say(f"""
The dropout of 80 % of the entries takes {np.median(shares[0.8]):.0%} of the
library of a typical cell ({source}), and that of 20 % takes
{np.median(shares[0.2]):.1%}: most of its molecules belong to genes that are not
in the table, and stay. With the library size held fixed
{mild["library fixed"]:.0%} of the cells are outside their box already at 20 %:
all their other genes rise. If counts outside the panel are taken as kept,
{mild["panel only"]:.0%} leave the box at 20 % and {harsh["panel only"]:.0%} at
80 %; nothing certified over it holds for them. With the share bounded, no cell
does.
""")

# %% tags=["remove-cell"]
assert mild["share bounded"] == 0 == harsh["share bounded"]
assert harsh["panel only"] > 0.9 < mild["library fixed"]

# %% [markdown]
# With that box figure 4's dropout can be certified. Beside the certified limit we show how far cells
# really move, and how far an attack can move them *inside the box*
# ({func}`~rpumap.verification.projected_gradient`). The last is no loss of counts, but tells whether a better proof for this box
# could help.


# %%
def attacked(name, x, region):
    model, angles = pair.models[name], np.arange(8) * np.pi / 4
    towards = np.c_[np.cos(angles), np.sin(angles)]
    towards = torch.as_tensor(towards, dtype=torch.float32)
    region = region.to(torch.float32)
    found = projected_gradient(model.encoder_, region, towards)
    steps = [model.transform(z.numpy()) - model.transform(x) for z in found]
    return np.linalg.norm(steps, axis=2).max(axis=0) / spread(model)


# %%
def certificates(name, loss):
    region = Box(*dropout_box(prep, few, library_loss=loss))
    return reach(name, x, region), attacked(name, x, region)


def by_dropout(name, ratio):
    (share, z), model = loses(ratio), pair.models[name]
    step = np.linalg.norm(model.transform(z) - model.transform(x), axis=1)
    return np.median(share), np.median(step) / spread(model)


# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels, plain and regularised: distance in spreads of the map against the share of the library that is lost, both on logarithmic axes. The certified limit is highest, an attack inside the box follows it at some distance, and the movement by random losses lies far below. A dotted level marks one spread, which the certified limit passes at a small share."}, "figure": {"caption": "How far a cell can move if at most a share of its library is lost: certified, by an attack inside the same box, and by dropout as in the paper's figure 4, of 1 to 80 % of the entries. Medians over 90 held-out cells. Dotted: the spread of the map.", "name": "fig-impact-share"}}
grid = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.05, 0.1, 0.2, 0.8)
cases = {f"share {share:g}": share for share in grid}
cases |= {f"{ratio:.0%} dropout": share for ratio, share in shares.items()}
limits = {
    name: {case: certificates(name, share) for case, share in cases.items()}
    for name in names
}
medians = {
    name: pd.DataFrame(of, index=["certified", "attack in box"]).map(np.median)
    for name, of in limits.items()
}
ratios = (0.01, 0.03, 0.1, 0.2, 0.4, 0.8)
fig, axes = plt.subplots(1, 2, figsize=(5, 4.4), sharey=True)
for ax, name in zip(axes, names, strict=True):
    certified, attack = medians[name].to_numpy()[:, : len(grid)]
    truly = zip(*(by_dropout(name, r) for r in ratios), strict=True)
    ax.plot(grid, certified, "s-", color=COLORS[5], label="certified")
    ax.plot(grid, attack, "^--", color=COLORS[1], label="attack inside the box")
    ax.plot(*truly, "o-.", color=COLORS[0], label="random losses")
    ax.axhline(1, color=INK, linestyle=":")
    ax.set(xscale="log", yscale="log", title=names[name])
    ax.set_xlabel("share of the library")
axes[0].set_ylabel("moved (spreads of the map)")
fig.suptitle(f"Lost molecules ({source})")
handles = ax.get_legend_handles_labels()
legend = fig.legend(*handles, loc="outside lower center", ncols=2)

# %% tags=["hide-input"]
for of in limits.values():
    assert all((attack <= certified).all() for certified, attack in of.values())

# %% tags=["hide-input"]
figure4 = {}
for name in names:
    parts = medians[name].T
    for ratio in shares:
        moves = by_dropout(name, ratio)[1]
        parts.loc[f"{ratio:.0%} dropout", "dropout moved"] = moves
    figure4[name] = parts.loc["share 0.05":]
pd.concat(figure4, axis=1).map(
    lambda number: "–" if np.isnan(number) else f"{number:.2f}"
)

# %% tags=["remove-input"]
molecules = np.median(library_size(few))
says = {
    name: max(
        (
            s
            for s in grid
            if medians[name].loc["certified", f"share {s:g}"] < 0.5
        ),
        default=0,
    )
    for name in names
}
plain, regular = (figure4[name].loc["80% dropout"] for name in names)
mild, mild_regular = (figure4[name].loc["20% dropout"] for name in names)
say(f"""
80 % dropout moves a typical cell by {plain["dropout moved"]:.2f} spreads on the
plain map and {regular["dropout moved"]:.2f} on the regularised one. Certified
are {plain["certified"]:.1f} and {regular["certified"]:.1f} spreads: true, and
too wide to say anything. So are the {mild["certified"]:.1f} and
{mild_regular["certified"]:.1f} spreads for 20 % dropout, which moves it by
{mild["dropout moved"]:.2f} and {mild_regular["dropout moved"]:.2f}, and all
limits for shares of 5 % and more. (If genes outside the table lose as much, as
in chapter 6, 80 % dropout is a share of about 0.8.) The largest share in the
figure whose limit stays below half a spread is {says["base"]:g} on the plain
map and {says["robust"]:g} on the regularised one: in a library of
{molecules:.0f} molecules, {says["base"] * molecules:.1f} and
{says["robust"] * molecules:.1f} of them.

A better proof alone would not help: inside the box of 80 % dropout the attack
moves a cell by {plain["attack in box"]:.1f} and {regular["attack in box"]:.1f}
spreads. The box is too large. It lets every gene lose as many molecules as may
be lost in all, at the same time as all others. A region that limits the sum
over the genes would be needed.
""")

# %% tags=["remove-cell"]
for parts in figure4.values():
    assert parts["certified"].min() > 1.5 and parts["attack in box"].min() > 0.7
    assert parts["dropout moved"].max() < 1

# %% [markdown]
# ## What can go wrong
#
# **A gradient of zero is not "no effect".** In the small network gene 1 has no slope at the
# cell $(0, 1)$, and still moves it when raised far enough (the first exercise).
#
# **One standard deviation is not one size.** A gene seen in few cells has a small $s$, and one
# of its molecules is worth many standard deviations. Impact per unit then understates it. The box of
# {eq}`eq-impact-lost` is in counts, and does not.
#
# **The wrong box.** A certificate holds for its region and for nothing else. Say what became of the library size and of
# genes outside the panel, and test that the losses you have in mind lie inside.
#
# **One pair of networks.** Which gene is on top differs from training to training. Draws of noise do not show that.
#
# ## Take-aways
#
# - The Jacobian of a ReLU network is a product of weight matrices without the inactive neurons,
#   {eq}`eq-impact-jacobian`. It holds on one linear piece.
# - Robust training over an $l_\infty$ ball penalises the sum of a cell's slopes. It removes the impact of
#   genes that the map does not need, and leaves some with a high one.
# - How robust a map looks to noise in one gene depends on whose top gene it is, and on the size of the noise. $l_1$
#   training is made for this noise.
# - Random losses understate the worst case and certificates overstate it. Losses chosen by gradient show
#   how wide the gap is.
# - With the share of the library bounded, the box holds every loss of figure 4. It is too large for a certificate of
#   such losses to say anything.
#
# ## Self-check
#
# **1. At some cell, the column of a gene in the Jacobian is zero. What follows?**
#
# :::{dropdown} The gene has no effect on where this cell lies
# Not quite. A larger change of the gene can activate a neuron, and then the cell moves. The Jacobian describes one linear
# piece.
# :::
# :::{dropdown} The impact of the gene is zero
# Not quite. Impact sums the lengths of the columns over all cells, and other cells lie on other pieces.
# :::
# :::{dropdown} Small enough changes of the gene do not move this cell
# Right. As long as no neuron changes its sign the network is linear there, with a slope of zero for this gene.
# :::
#
# **2. Noise in the top gene of a plain map moves a regularised map less than the plain one. What does this show?**
#
# :::{dropdown} The regularised map depends less on this gene
# Right. The gene was chosen because the plain map depends on it most. The regularised map has another top gene, in which
# it has to be tested as well.
# :::
# :::{dropdown} The regularised map is more robust to noise in any one gene
# Not quite. The penalty over an $l_\infty$ ball counts the sum of the slopes, and a few genes may keep a steep one.
# :::
# :::{dropdown} Regularisation lowers the largest impact of all genes
# Not quite. That would need a penalty on the largest slope, as over an $l_1$ ball. This test looks at one gene only.
# :::
#
# **3. Over a box of lost counts, an attack moves a cell by one spread of the map, and the certified limit is four. Which
# statement is proved?**
#
# :::{dropdown} Some loss of counts moves the cell by one spread
# Not quite. The box also holds points that no loss of counts leads to, since it bounds each gene alone, and the attack may
# have found one of those.
# :::
# :::{dropdown} The largest movement over the box lies between one and four spreads
# Right. The attack shows a point of the box, and the certificate holds for all of its points.
# :::
# :::{dropdown} The certificate is wrong, as the attack would have found a larger movement
# Not quite. An attack follows the gradient and may miss the worst point. It can refute a certificate only by exceeding it.
# :::
#
# ## Exercises
#
# :::{exercise} Inactive neurons: paper, easy
# :label: ex-gene-inactive-neurons
#
# The Jacobian of the small network is zero at the cell $(0, 1)$. By how much must gene
# 1 rise before the cell moves? Where is the cell when gene 1 has risen by 3?
# :::
#
# :::{solution-start} ex-gene-inactive-neurons
# :label: sol-gene-inactive-neurons
# :class: dropdown
# :::
#
# With $x_2 = 1$ both neurons receive $x_1 - 1$: they become active at $x_1 = 1$, after a rise by 1. At $x_1 = 3$ both
# give 2, so $z_1 = 2 \cdot 2 + 2 = 6$ and $z_2 = 0$. The cell started at $(0, 0)$: it has moved by 6, and the gradient
# said 0.

# %%
with torch.no_grad():
    Z = small(torch.tensor([[0.0, 1], [1, 1], [3, 1]]))
assert Z.tolist() == [[0, 0], [0, 0], [6, 0]]

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} A linear map: paper, easy
# :label: ex-gene-a-linear-map
#
# Let the network have no hidden layer, $z = Wx + b$. Compute the certified
# width of coordinate $j$ for $l_\infty$, $l_2$ and $l_1$ balls of radius $\epsilon$. For which of them does
# training prefer one gene of slope 1 to ten of slope 1/2?
# :::
#
# :::{solution-start} ex-gene-a-linear-map
# :label: sol-gene-a-linear-map
# :class: dropdown
# :::
#
# There is one linear piece, so the bounds are exact: the width is $2 \epsilon$ times the sum of magnitudes, the Euclidean
# length, and the largest magnitude of row $j$, the dual norms. For one gene of slope 1 all three are 1. For ten of slope 1/2
# they are $5$, $\sqrt{10} / 2 \approx 1.58$ and $1/2$. So the first two prefer the one gene, and the $l_1$ ball
# prefers the ten.


# %%
def width(slopes, norm):
    row = torch.nn.Linear(len(slopes), 1)
    row.weight.data[:] = torch.tensor(slopes)
    ball = Ball(torch.zeros(1, len(slopes)), 1.0, norm)
    lower, upper = crown(torch.nn.Sequential(row), ball)
    return (upper - lower).item() / 2


norms = "linf", "l2", "l1"
one = [width([1.0], norm) for norm in norms]
ten = [width([0.5] * 10, norm) for norm in norms]
assert np.allclose([one, ten], [[1, 1, 1], [5, 10**0.5 / 2, 1 / 2]])

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Any two of four: paper, medium
# :label: ex-gene-any-two
#
# A network without hidden layers has one output, $z = 3 x_1 - 2 x_2 + x_3 - x_4$. The cell is $x = (2, 3, 1, 4)$, and
# counts of zero have the value 0 in each gene. How much can $z$ rise if any one gene loses its counts, if any two do, and if
# all may? Which of these does a {class}`~rpumap.verification.SparseBox` give, and which a
# {class}`~rpumap.verification.Box`?
# :::
#
# :::{solution-start} ex-gene-any-two
# :label: sol-gene-any-two
# :class: dropdown
# :::
#
# A lost gene changes $z$ by minus its slope times its value: $-6$, $6$, $-1$ and $4$. Any one: 6, by gene 2. Any two: 10, by
# genes 2 and 4. All: 10 as well, since the other two losses lower $z$ and need not happen. `SparseBox` with $k = 1$ and
# $k = 2$ gives the first two, and `Box` the third. There is one linear piece, so the bounds are exact.

# %%
row = torch.nn.Linear(4, 1)
row.weight.data[:] = torch.tensor([3.0, -2, 1, -1])
x4, none = torch.tensor([[2.0, 3, 1, 4]]), torch.zeros(1, 4)
network = torch.nn.Sequential(row)
regions = [SparseBox(x4, none, x4, 1), SparseBox(x4, none, x4, 2)]
regions.append(Box(none, x4))
rise = [(crown(network, r)[1] - network(x4)).item() for r in regions]
assert np.allclose(rise, [6, 10, 10], atol=1e-4)

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Three molecules of ten: paper, medium
# :label: ex-gene-three-of-ten
#
# The cell with the counts 6, 0, 2, 1, 1 loses at most three of its ten molecules. Compute by {eq}`eq-impact-share` the ends
# of the box, in shares of what is left. Name a point of this box that no loss leads to.
# :::
#
# :::{solution-start} ex-gene-three-of-ten
# :label: sol-gene-three-of-ten
# :class: dropdown
# :::
#
# With $s = 0.3$, seven molecules are left if all three are lost. The first gene can lose three: 3/7 at least, and 6/7 if
# only others are lost. The third has two to lose: 0 at least, and 2/7 at most. The fourth and the fifth: 0 at least, and
# 1/7 at most. All upper ends at once would be 6/7, 0, 2/7, 1/7 and 1/7, which add up to 10/7: no cell has
# such shares. The box bounds each gene alone.

# %%
box = dropout_box(tiny, ten_molecules, library_loss=0.3)
ends = np.vstack(box) * tiny.std_ + tiny.mean_
by_hand = np.array([[3, 0, 0, 0, 0], [6, 0, 2, 1, 1]]) / 7
assert np.allclose(ends, by_hand, atol=1e-6)

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Other units: code, medium
# :label: ex-gene-other-units
#
# Someone halves all values of one gene, and nothing else, before
# training, and happens to find the same map. What happens to that gene's impact? Is it now more important? Change the first
# layer of a copy of `base.encoder_` so that it gives the same map, and measure.
# :::
#
# :::{solution-start} ex-gene-other-units
# :label: sol-gene-other-units
# :class: dropdown
# :::
#
# To give the same coordinates from half the values, the gene's column of the first weight matrix must be twice as large. By
# the chain rule its column of $J$ doubles, and so does its impact.

# %%
other = copy.deepcopy(base.encoder_).double()
halved = hundred.clone()
halved[:, first] /= 2
before = network_jacobian(other, hundred).norm(dim=1).mean(dim=0)[first]
Z = other(hundred)
other[0].weight.data[:, first] *= 2
same = torch.allclose(other(halved), Z)
after = network_jacobian(other, halved).norm(dim=1).mean(dim=0)[first]
assert same and torch.isclose(after, 2 * before)
say(f"""
The impact rises from {before:.3f} to {after:.3f}, and the map depends on the
gene as before. Impacts can be compared between genes only because z-scores put
all genes on one scale, and only as far as one standard deviation is the right
unit for both.
""")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Ten at once: experiment, medium
# :label: ex-gene-ten-at-once
#
# Perturb the ten genes of highest impact together, with the noise per gene chosen so that
# the total variance is that of one gene with standard deviation 10. Is that worse than one gene alone?
# :::
#
# :::{solution-start} ex-gene-ten-at-once
# :label: sol-gene-ten-at-once
# :class: dropdown
# :::
#
# Variances add up, so each of the ten gets $10 / \sqrt{10}$. On one linear piece the mean square displacement is the sum
# over genes of slope² times variance. Spread over ten genes it is the mean of ten squared slopes, so it cannot exceed that of
# the steepest of them. Large noise leaves the piece, and we compare mean distances, so this is a guide and no theorem here.

# %%
lines, is_worse = [], []
for name, g in impact.items():
    ten = np.argsort(-g)[:10]
    together = moved(name, DOSE / 10**0.5, [ten] * DRAWS)
    alone_moved = table.loc[in_own, name]
    is_worse.append(together > alone_moved)
    two = f"ten genes {together:.2f}, its top gene {alone_moved:.2f}"
    lines.append(f"- `{name}`: {two}")
say("Moved, in spreads, each in its own genes:\n\n" + "\n".join(lines))
say(f"Ten genes are worse on {sum(is_worse)} of the {len(lines)} maps.")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} The paper's penalty: experiment, hard
# :label: ex-gene-the-paper-s-penalty
#
# `robustify` by default penalises the widths of the boxes, the paper their areas. What does
# that change in the variance of impact, and in the variance relative to the mean? Which of the two penalties leaves a larger
# share of the total impact to the ten strongest genes? (The training takes some ten seconds.)
# :::
#
# :::{solution-start} ex-gene-the-paper-s-penalty
# :label: sol-gene-the-paper-s-penalty
# :class: dropdown
# :::
#
# An area is a product of two widths, each of which is a sum of magnitudes on one piece. The paper does not state the
# weight of its penalty, on which the result depends; the verdicts above are about our choice of it.

# %%
area = rpumap.robustify(base, pair.X, eps=0.2, penalty="area")
g = rpumap.gene_impact(area, pair.X) / len(pair.X)
sds = b["sd"], r["sd"], g.std()
relative = b["sd / mean"], r["sd / mean"], g.std() / g.mean()
tops = b["top 10"], r["top 10"], np.sort(g)[-10:].sum() / g.sum()
texts = [
    f"{of[0]:.3f}, {of[1]:.3f}, {of[2]:.3f}" for of in (sds, relative, tops)
]
more = "areas" if tops[2] > tops[1] else "widths"
say(f"""
On the plain map, with widths and with areas, the standard deviation of impact
is {texts[0]}; relative to the mean it is {texts[1]}. The ten strongest genes
hold {texts[2]} of the total: more with {more}.
""")

# %% [markdown]
# :::{solution-end}
# :::
#
# ## In practice
#
# - Decide which noise you expect, and choose the region for it: `norm="linf"` for a little noise everywhere,
#   `norm="l1"` for an error in single genes, a box of counts for dropout.
# - Use {func}`rpumap.gene_impact` to find genes worth a second look, and
#   {func}`~rpumap.sensitivity.perturb` to see what they do: the gradient holds for small changes only.
# - A box of lost counts comes from {func}`~rpumap.dropout.dropout_box`. Pass it, or a
#   {class}`~rpumap.verification.SparseBox` between its ends, to {func}`rpumap.certify` as `region=`.
# - Before reading biology from impact, refit with other seeds and keep the genes that recur.
# - A certificate is about the network, not about the cell: it says that the *coordinates* cannot change much, not
#   that the label is right.
#
# ## Further reading
#
# - {cite:t}`zhang2023robust`: section 3.5 and figure 5.
# - {cite:t}`zhang2018crown`: bounds by linear functions, for several norms.
# - {cite:t}`xu2020lirpa`: the same for any network, with further kinds of perturbation.
