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
# # Certified bounds: from intervals to CROWN
#
# A cell's counts are noisy, and its coordinates on the map are computed from them. How far can noise
# move them? Not in the trials that we happened to make, but at most, for every noise of a given size?
# This chapter derives bounds that answer this question, with a proof.

# %% tags=["hide-input"]
import importlib.util
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from torch import nn

import rpumap
from rpumap import plotting
from rpumap.chapters.comparison import describe_cells
from rpumap.chapters.display import say
from rpumap.chapters.style import use_style
from rpumap.networks import mlp
from rpumap.plotting import COLORS, INK
from rpumap.preprocessing import library_size
from rpumap.verification import (
    Ball,
    SparseBox,
    auto_lirpa,
    crown,
    crown_ibp,
    ibp,
    projected_gradient,
)

use_style()
draw = np.random.default_rng(0)
adata = rpumap.datasets.pancreas()
print(adata.uns["source"])
source = describe_cells(adata)
prep = rpumap.Preprocessor(n_top_genes=300)
X = prep.fit_transform(adata)
model = rpumap.ParametricUMAP(random_state=0).fit(X)
encoder = model.encoder_.requires_grad_(False)
x, Z = torch.as_tensor(X), model.embedding_
METHODS = {"ibp": ibp, "crown_ibp": crown_ibp, "crown": crown}
# both directions of both coordinates
WAYS = torch.tensor([[-1, 0], [1, 0], [0, -1], [0, 1]])

# %% tags=["hide-input"] mystnb={"image": {"alt": "Top: the map in grey with nested rectangles around six cells; the dotted ones of ibp are by far the largest, the dashed ones of crown_ibp small, the solid ones of crown smallest. Bottom: one of the cells enlarged, with dots of random noise close together, four crosses of an attack further out, and the two smaller boxes around them."}, "figure": {"caption": "Boxes that provably hold a cell under noise, by three methods, on the map (top) and around one of the cells (bottom, and the star at the top; the box of `ibp` is outside the frame). Dots: 500 random changes of the size that the boxes are for. Crosses: the four results of an attack.", "name": "fig-crown-boxes"}}
types = adata.obs["clusters"]
chosen = []  # the cell in the middle of each of the six largest types
for name in types.value_counts().index[:6]:
    members = np.flatnonzero(types == name)
    off_middle = Z[members] - np.median(Z[members], axis=0)
    nearest = np.linalg.norm(off_middle, axis=1).argmin()
    chosen.append(members[nearest])
eps, last = 0.03, chosen[-1]
order = np.argsort(-np.ptp(Z, axis=0))  # the longer side of the map goes across
looks = ((COLORS[1], ":"), (COLORS[0], "--"), (COLORS[5], "-"))
fig, (top, zoom) = plt.subplots(2, 1, figsize=(5, 6.6), height_ratios=(1, 1))
top.scatter(*Z[:, order].T, s=3, color=INK, alpha=0.25, linewidths=0)
boxes_of = {}
for name, (color, style) in zip(METHODS, looks, strict=True):
    ends = rpumap.certify(model, X[chosen], eps, method=name)
    lower, upper = boxes_of[name] = [end[:, order] for end in ends]
    look = {"color": color, "linestyle": style, "linewidth": 1.8}
    plotting.boxes(lower, upper, ax=top, **look)
    plotting.boxes(lower[-1:], upper[-1:], ax=zoom, **look, label=name)
    if name == "crown_ibp":
        edge = 0.1 * (upper - lower)[-1]
        frame = np.stack([lower[-1] - edge, upper[-1] + edge])
zoom.axis(frame.T.ravel())
signs = torch.as_tensor(draw.choice([-1.0, 1.0], (500, 300))).float()
noisy = encoder(x[last] + eps * signs).numpy()[:, order]
moved = projected_gradient(encoder, Ball(x[[last]], eps), WAYS, n_steps=1)
reached = encoder(moved)[:, 0].numpy()[:, order]
look = {"s": 6, "color": INK, "alpha": 0.5, "linewidths": 0}
zoom.scatter(*noisy.T, **look, label="random noise")
zoom.scatter(*reached.T, s=50, color=COLORS[2], marker="x", label="attack")
top.plot(*Z[last, order], "*", color=INK, markersize=7)
handles = zoom.get_legend_handles_labels()
fig.legend(*handles, loc="outside lower center", ncols=3)
title = f"$\\epsilon = {eps}$, {source}"
top.set(title=title, aspect="equal", xticks=[], yticks=[])
across, up = (f"dimension {k + 1}" for k in order)
zoom.set(title=f"{types.iloc[last]} cell", xlabel=across, ylabel=up)
plt.show()

# %% tags=["remove-cell"]
for lower, upper in boxes_of.values():
    for points in (noisy, reached):
        assert ((lower[-1] <= points) & (points <= upper[-1])).all()
assert (np.ptp(noisy, axis=0) < np.ptp(reached, axis=0)).all()
box_sizes = [(upper - lower).mean(1) for lower, upper in boxes_of.values()]
assert (box_sizes[0] > 2 * box_sizes[1]).all()
assert (box_sizes[1] > box_sizes[2]).all()

# %% tags=["remove-input"]
lower, upper = boxes_of["crown"]
ranges = np.ptp(noisy, axis=0), np.ptp(reached, axis=0), upper[-1] - lower[-1]
noise, attacked, proved = (of[0] for of in ranges)
say(f"""
Each z-score of the {types.iloc[last]} cell may change by up to {eps}, all
300 at once. Along {across}, 500 random changes move it over a range of
{noise:.2f} on the map. An attack, which looks for changes with a large effect,
reaches {attacked:.2f}. No change at all of this size can move it over more than
{proved:.2f}: this is the width of the box of `crown`, and it is proved.
""")

# %% [markdown]
# What an attack reaches does occur; what lies outside a box cannot. The most that noise can do lies
# between.
#
# ## What you will learn
#
# After this chapter you can
#
# - bound a small network of ReLUs by hand, by intervals and by linear functions;
# - select the linear function of each ReLU that a bound needs, at any depth, as eq. 13 to 39 of the paper do;
# - tell which norm belongs into the bound for a given ball of inputs;
# - compute boxes for the cells of a fitted map, and judge by an attack how loose they are;
# - decide what to do where two methods disagree, and about rounding.
#
# **You need** a network with ReLUs, as in [Training](03_training), matrix products, inequalities, norms and balls.
#
# A *norm* measures the size of a vector: of $(3, -4)$ the $l_1$ norm is $3 + 4 = 7$, the sum of magnitudes; the $l_2$
# norm is $\sqrt{9 + 16} = 5$, the length; the $l_\infty$ norm is 4, the largest magnitude. A *ball* is the set of all
# points whose difference from a centre has a norm of at most $\epsilon$, its radius: around the origin, $(3, -4)$ lies
# in the $l_\infty$ ball of radius 4, and not in the $l_2$ ball of that radius.
#
# `Fraction` computes with exact fractions. `crown`, `crown_ibp` and `ibp` from {mod}`rpumap.verification`
# made the boxes above. From here on we use each of them only once it is derived.
#
# ## Why trials are no proof
#
# Let $x_0$ be a cell and $f$ the network. We allow every input in a ball,
# $\lVert x - x_0 \rVert_p \le \epsilon$. The paper does not name its norm. We mostly take $p = \infty$:
# each gene may change by up to $\epsilon$, all of them at once. Inputs are z-scores, so $\epsilon = 0.1$ is a tenth of
# a gene's standard deviation. How many molecules is that?

# %% tags=["remove-input"]
median_size = np.median(library_size(adata))
of_cell = median_size / prep.target_sum  # from scaled counts to molecules
gene = prep.genes_.tolist().index("Ins1")
molecules, mean = 0.1 * prep.std_ * of_cell, prep.mean_[gene] * of_cell
say(f"""
The gene `Ins1` makes insulin. Its counts, scaled to {prep.target_sum:,.0f}
molecules a cell, have a standard deviation of {prep.std_[gene]:.0f} over these
{source}; 0.1 of it is {0.1 * prep.std_[gene]:.1f}. In a cell with the median
library size, {median_size:,.0f} molecules, that makes {molecules[gene]:.1f}
molecules of `Ins1`; the mean over cells, scaled alike, is {mean:.1f}. `Ins1`
varies more than most genes: for the median gene, $\\epsilon = 0.1$ is
{np.median(molecules):.2f} of a molecule, and for {(molecules < 1).mean():.0%}
of the 300 genes less than one.
""")

# %% tags=["remove-cell"]
assert molecules[gene] > 3 and np.median(molecules) < 1

# %% [markdown]
# We want numbers $l_j$ and $u_j$ with
#
# $$ l_j \le f_j(x) \le u_j \quad \text{for every } x \text{ in the ball.} $$ (eq-crown-goal)
#
# Together they make a {term}`box` on the map that the cell cannot leave. Why not add noise to the cell many
# times and look? Try a very simple output: the sum of 300 genes with weights $+1$ and $-1$, for
# $\epsilon = 1$. Its largest value is 300, reached when every gene changes in the direction of the sign
# of its weight.

# %%
weights = draw.choice([-1, 1], 300)
trials = draw.choice([-1, 1], (10_000, 300)) @ weights
possible = abs(weights).sum()
print(f"possible: {possible}, of 10,000 random trials: {trials.max()}")

# %% tags=["remove-cell"]
assert trials.max() < 100

# %% [markdown]
# Random changes cancel, and the one corner of the cube that matters is one among $2^{300}$. Trials find
# values that *do* occur. A {term}`certified bound` says which *cannot*.
#
# ## A network small enough to bound by hand
#
# Two inputs, two hidden neurons, one output, and the ball $|x_1| \le 1$, $|x_2| \le 1$ around $x_0 = 0$:
#
# $$
# \begin{aligned}
# y_1 &= 2 x_1 + x_2 + 2 \\
# y_2 &= x_1 + 2 x_2 + 1 \\
# f &= 2 \operatorname{relu}(y_1) - 2 \operatorname{relu}(y_2) .
# \end{aligned}
# $$ (eq-crown-small)
#
# At the centre $f = 2 \cdot 2 - 2 \cdot 1 = 2$. What is its range over the ball? With two inputs we can
# use a fine grid.

# %%
W1, b1 = np.array([[2, 1], [1, 2]]), np.array([2, 1])
w2 = np.array([2, -2])


def small(x):
    return np.maximum(x @ W1.T + b1, 0) @ w2


ticks = np.linspace(-1, 1, 201)
grid = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
values = small(grid)
print(f"on the grid: {values.min():.4f} to {values.max():.4f}")

# %% tags=["remove-cell"]
assert small(np.zeros(2)) == 2
assert np.isclose(values.min(), -2) and np.isclose(values.max(), 6)
assert small(np.array([-1, 1])) == -2 and small(np.array([1, -1])) == 6

# %% [markdown]
# This is a check, not a proof: the grid has gaps, and for 300 genes there is no grid. But it tells us
# the range that a bound has to approach: $-2$ to $6$, at the corners $(-1, 1)$ and $(1, -1)$.
#
# ### First try: intervals
#
# Send intervals through the network instead of numbers. A sum $w_1 x_1 + w_2 x_2 + b$ with
# $|x_i| \le 1$ can deviate from its middle $b$ by $|w_1| + |w_2|$, and no more. So $y_1$ lies in
# $2 \pm 3$ and $y_2$ in $1 \pm 3$. A ReLU maps the ends: $[-1, 5]$ becomes $[0, 5]$, and $[-2, 4]$
# becomes $[0, 4]$. The output is largest when the first is at its top and the second at its bottom,
# $2 \cdot 5 - 2 \cdot 0 = 10$, and smallest the other way round, $2 \cdot 0 - 2 \cdot 4 = -8$. This is
# *interval bound propagation*, IBP {cite:p}`gowal2018ibp`.

# %%
l1, u1 = b1 - abs(W1).sum(1), b1 + abs(W1).sum(1)
low, high = np.maximum(l1, 0), np.maximum(u1, 0)
positive, negative = np.maximum(w2, 0), np.minimum(w2, 0)
lowest = positive @ low + negative @ high
highest = positive @ high + negative @ low
print(f"intervals: {lowest} to {highest}")

# %% tags=["remove-cell"]
assert l1.tolist() == [-1, -2] and u1.tolist() == [5, 4]
assert (lowest, highest) == (-8, 10)

# %% [markdown]
# Right, but loose: 18 wide where the truth is 8. The 10 would need $y_1 = 5$, that is $x = (1, 1)$, and
# $y_2 = -2$, that is $x = (-1, -1)$, at the same time. Intervals *lose the information that both neurons
# see the same cell*.
#
# ### Second try: linear bounds
#
# A function of $x$ keeps that information. If $f(x)$ is below some linear function of $x$,
# we need only that function's maximum, and for a linear function this is easy. The ReLUs are
# the only parts that are not linear. So put each between two linear functions, its *linear relaxation*.
# That is eq. 13 of the paper:
#
# $$
# \alpha_L (y + \beta_L) \;\le\; \operatorname{relu}(y) \;\le\; \alpha_U (y + \beta_U)
# $$ (eq-crown-relaxation)
#
# for $l \le y \le u$.
#
# Where $l \ge 0$, the ReLU *is* linear with slope 1; where $u \le 0$, with slope 0: such a neuron is
# *stable*. Otherwise it is *unstable*: the sign of its input is not fixed over the region. No linear
# function lies closer above its ReLU than the chord from $(l, 0)$ to $(u, u)$. Below it, any linear
# function $s\,y$ with a slope $s$ from 0 to 1 is right. The *adaptive* choice
# leaves the smaller area between the two ({ref}`an exercise <ex-crown-adaptive-slope>`; {numref}`fig-crown-relu`):
#
# $$
# \begin{aligned}
# \alpha_U &= \frac{u}{u - l}, & \beta_U &= -l, \\
# \alpha_L &= \begin{cases} 1 & u > -l \\ 0 & \text{else,} \end{cases} & \beta_L &= 0 .
# \end{aligned}
# $$ (eq-crown-adaptive)
#
# With $l$ clipped to at most 0 and $u$ to at least 0, the formula covers all cases.


# %%
def relaxation(low, high):
    """Return alpha_L, alpha_U and beta_U of the relaxations of ReLUs."""
    below, above = (-low).clip(0), high.clip(0)
    return 1 * (high > -low), above / (above + below), below


# %% tags=["hide-input"] mystnb={"image": {"alt": "Four panels of a ReLU between two linear functions. Input from -1 to 5: chord above, slope 1 below. From -4 to 2: chord above, slope 0 below. From 1 to 5 and from -5 to -1: both lie on the ReLU."}, "figure": {"caption": "A ReLU (grey) between its upper bound (dashed) and its adaptive lower bound (dotted), for four intervals. The shaded area is the error of the relaxation. The upper two neurons are unstable, the lower two stable.", "name": "fig-crown-relu"}}
intervals = (-1, 5), (-4, 2), (1, 5), (-5, -1)
share = {"sharex": True, "sharey": True}
fig, axes = plt.subplots(2, 2, figsize=(5, 4.6), **share)
for ax, ends in zip(axes.flat, intervals, strict=True):
    y = np.linspace(*ends, 200)
    slope_low, slope_high, beta = relaxation(*np.array(ends))
    below, above = slope_low * y, slope_high * (y + beta)
    assert (below <= np.maximum(y, 0) + 1e-12).all()
    assert (np.maximum(y, 0) <= above + 1e-12).all()
    kinked = [-5.5, 0, 5.5], [0, 0, 5.5]
    ax.plot(*kinked, color=INK, linewidth=5, alpha=0.3)
    ax.fill_between(y, below, above, color=COLORS[1], alpha=0.25, linewidth=0)
    ax.plot(y, above, "--", color=COLORS[5], linewidth=2, label="upper bound")
    ax.plot(y, below, ":", color=COLORS[0], linewidth=2.5, label="lower bound")
    ax.set_title("input {} to {}".format(*ends))
    ax.set(xlabel="input $y$", ylabel="output", xticks=[-5, 0, 5])
    ax.label_outer()
handles = axes[0, 0].get_legend_handles_labels()
legend = fig.legend(*handles, loc="outside lower center", ncols=2)

# %% [markdown]
# The first neuron has $l = -1$, $u = 5$, so $\operatorname{relu}(y_1) \le \tfrac56 (y_1 + 1)$; the
# second has $l = -2$, $u = 4$, so $\operatorname{relu}(y_2) \le \tfrac23 (y_2 + 2)$. The lower bound
# is $y$ for both. (`astype(object)` lets NumPy compute with fractions.)

# %%
l1, u1 = (ends.astype(object) * Fraction(1) for ends in (l1, u1))
a_low, a_high, beta = relaxation(l1, u1)
print(f"above: {a_high[0]} (y1 + {beta[0]}), {a_high[1]} (y2 + {beta[1]})")
print(f"below: slopes {a_low[0]} and {a_low[1]}")

# %% tags=["remove-cell"]
assert a_high.tolist() == [Fraction(5, 6), Fraction(2, 3)]
assert beta.tolist() == [1, 2] and a_low.tolist() == [1, 1]

# %% [markdown]
# ### CROWN, backward
#
# Now from the output back to the input. We want an *upper* bound of
# $2 \operatorname{relu}(y_1) - 2 \operatorname{relu}(y_2)$. The first coefficient is positive: use the
# upper bound of the ReLU. The second is negative, and a negative factor reverses an inequality: use the
# *lower* bound. Then insert $y_1$ and $y_2$, and add up:
#
# $$
# \begin{aligned}
# f &\le 2 \cdot \tfrac56 (y_1 + 1) - 2\, y_2 \\
#   &= \tfrac53 (2 x_1 + x_2 + 3) - 2 (x_1 + 2 x_2 + 1) \\
#   &= \tfrac43 x_1 - \tfrac73 x_2 + 3 .
# \end{aligned}
# $$ (eq-crown-upper)
#
# Only in the last step do we look for the worst input: $x_1 = 1$ and $x_2 = -1$, which gives
# $3 + \tfrac43 + \tfrac73 = \tfrac{20}{3}$. For the lower bound all roles are exchanged:
#
# $$
# \begin{aligned}
# f &\ge 2\, y_1 - 2 \cdot \tfrac23 (y_2 + 2) \\
#   &= 2 (2 x_1 + x_2 + 2) - \tfrac43 (x_1 + 2 x_2 + 3) \\
#   &= \tfrac83 x_1 - \tfrac23 x_2 ,
# \end{aligned}
# $$
#
# which is at least $-\tfrac83 - \tfrac23 = -\tfrac{10}{3}$. Here is the same in code. `Lambda` holds
# the coefficients times the slopes that were selected, `row` the coefficients of $x$.


# %%
def small_upper(w):
    """Bound w @ relu(y): coefficients of x, constant, largest value."""
    Lambda = np.where(w > 0, w * a_high, w * a_low)
    row = Lambda @ W1
    constant = Lambda @ (b1 + np.where(w > 0, beta, 0))
    return row, constant, constant + abs(row).sum()


row, constant, upper = small_upper(w2)
minus_row, minus_constant, minus_lower = small_upper(-w2)
print(f"CROWN: {-minus_lower} to {upper}")

# %% tags=["hide-input"]
# the rows and constants of the two derivations above
assert row.tolist() == [Fraction(4, 3), Fraction(-7, 3)] and constant == 3
assert minus_row.tolist() == [Fraction(-8, 3), Fraction(2, 3)]
assert minus_constant == 0
assert upper == Fraction(20, 3) and -minus_lower == Fraction(-10, 3)
# tighter than intervals, not tighter than the truth, and above f everywhere
assert lowest < -minus_lower < -2 and 6 < upper < highest
assert (grid @ row.astype(float) + 3 >= values - 1e-12).all()

# %% [markdown]
# The lower bound came out of the same function: *a lower bound of $f$ is minus an upper bound of
# $-f$*. The range shrank from $[-8, 10]$ to $[-\tfrac{10}{3}, \tfrac{20}{3}]$, the truth being
# $[-2, 6]$. At $(1, -1)$ we can see the remaining error. There $y_1 = 3$, and the chord is
# $\tfrac{10}{3}$ instead of 3. Twice the difference is $\tfrac23$, which is all that separates
# $\tfrac{20}{3}$ from 6.
#
# ## Any depth: eq. 13 to 38
#
# Now $m$ layers of weights. Write $\phi_k = \operatorname{relu}(y^{(k)})$ with
# $y^{(k)} = W^{(k)} \phi_{k-1} + b^{(k)}$ and $\phi_0 = x$, so that
# $f_j = \sum_i W^{(m)}_{ji} \phi_{m-1, i} + b^{(m)}_j$ (eq. 14, 15). Select for each neuron and each output
# the linear function that the sign of the weight requires (eq. 16, 17, 20, 21):
#
# $$
# \lambda_{ji}, \Delta_{ij} = \begin{cases}
#   \alpha_{U,i},\ \beta_{U,i} & W^{(m)}_{ji} \ge 0 \\
#   \alpha_{L,i},\ \beta_{L,i} & W^{(m)}_{ji} < 0 . \end{cases}
# $$ (eq-crown-pick)
#
# Then $W_{ji} \operatorname{relu}(y_i) \le W_{ji} \lambda_{ji} (y_i + \Delta_{ij})$, term by term. With
# $\Lambda_{ji} = W_{ji} \lambda_{ji}$ the sum over $i$ is eq. 22:
#
# $$ f_j \le \sum_i \Lambda^{(m-1)}_{ji} \bigl( y^{(m-1)}_i + \Delta^{(m-1)}_{ij} \bigr) + b^{(m)}_j . $$
#
# Insert $y^{(m-1)} = W^{(m-1)} \phi_{m-2} + b^{(m-1)}$ (eq. 23, 24). What comes out has the form that we
# started from, one layer further down (eq. 31, 33, 35):
#
# $$
# \begin{aligned}
# f_j &\le \sum_r \tilde W^{(m-1)}_{jr}\, \phi_{m-2, r} + \tilde b^{(m-1)}_j , \\
# \tilde W^{(m-1)} &= \Lambda^{(m-1)} W^{(m-1)} , \\
# \tilde b^{(m-1)}_j &= b^{(m)}_j \\
#   & + \sum_i \Lambda^{(m-1)}_{ji} \bigl( b^{(m-1)}_i + \Delta^{(m-1)}_{ij} \bigr) .
# \end{aligned}
# $$ (eq-crown-step)
#
# So do it again, with $\tilde W^{(m-1)}$ instead of $W^{(m)}$, whose *signs* now select the
# linear functions (eq. 25, 26), until $\phi_0 = x$ is reached. That is the whole recursion, eq. 37, and it ends
# in eq. 38:
#
# $$
# \begin{aligned}
# f^U_j(x) &= \tilde W^{(1)}_{j,:}\, x + b^{(m)}_j \\
#   &\quad + \sum_{k=1}^{m-1} \Lambda^{(k)}_{j,:} \bigl( b^{(k)} + \Delta^{(k)}_{:,j} \bigr) .
# \end{aligned}
# $$ (eq-crown-linear)
#
# One thing is missing. The relaxation of a neuron needs its $l$ and $u$. Those of the first layer are
# exact. For a deeper neuron, treat it as the output of the layers before it, and run the same
# procedure. CROWN thus goes forward through the layers, and from each of them backward to the input
# {cite:p}`zhang2018crown`.
#
# Some of the paper's printed equations differ from these by a slip: the page on [notation](../book/notation) lists
# them, and why.
#
# In code, for one cell. `q` is the order of a norm, which the next section explains; for an $l_\infty$
# ball it is 1, the sum of magnitudes as above.


# %%
def upper_bound(rows, offset, hidden, x0, eps, q):
    """Bound rows @ phi + offset, phi the outputs of the last hidden layer."""
    for W, b, (alpha_low, alpha_high, beta_high) in reversed(hidden):
        takes_upper = rows >= 0
        # eq. 20, 25, 37, and eq. 21, 26
        Lambda = rows * torch.where(takes_upper, alpha_high, alpha_low)
        Delta = torch.where(takes_upper, beta_high, 0)
        # eq. 33, 34, and eq. 31, 32
        offset = offset + (Lambda * (b + Delta)).sum(1)
        rows = Lambda @ W
    size = torch.linalg.vector_norm(rows, q, dim=1)
    return rows @ x0 + offset + eps * size


# %%
def crown_by_hand(layers, x0, eps, q=1):
    hidden = []
    for W, b in layers:
        upper = upper_bound(W, b, hidden, x0, eps, q)
        lower = -upper_bound(-W, -b, hidden, x0, eps, q)
        hidden.append((W, b, relaxation(lower, upper)))
    return lower, upper


# %% [markdown]
# The relaxation of the output layer is computed and not used. (A neuron whose input is 0 throughout would divide 0 by 0; the package guards against that.) Do they
# agree with the fractions, and on a random network with four hidden layers with the package?
# {func}`rpumap.verification.crown` bounds many cells at a time, can be differentiated, and
# limits its memory. The formulas are these, in {func}`~rpumap.verification.relax` and
# {func}`~rpumap.verification.upper_bound`. A {class}`~rpumap.verification.bounds.HiddenLayer` and its
# {class}`~rpumap.verification.bounds.Relaxation` hold what the tuple above does, and
# {func}`~rpumap.verification.bounds.linear_layers` reads the weights of a network.


# %%
def network_of(*layers):
    """Build Linear, ReLU, ..., Linear from pairs of weights and biases."""
    modules = []
    for W, b in layers:
        linear = nn.Linear(len(W[0]), len(W), dtype=torch.float64)
        linear.weight.data = torch.as_tensor(np.array(W)).double()
        linear.bias.data = torch.as_tensor(np.array(b)).double()
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def layers_of(network):
    linears = network[::2]
    return [(of.weight.detach(), of.bias.detach()) for of in linears]


# %%
paper_net = network_of((W1, b1), ([w2], [0]))
origin = torch.zeros(1, 2).double()
by_hand = crown_by_hand(layers_of(paper_net), origin[0], 1.0)
assert np.allclose(by_hand, [[-10 / 3], [20 / 3]])

# %%
seed = torch.Generator().manual_seed(0)
deep = mlp(20, (16, 16, 16, 16), 2, seed).double()
for linear in deep[::2]:
    linear.bias.data.normal_(generator=seed)
cells = torch.randn(5, 20, generator=seed).double()
layers = layers_of(deep)
by_hand = [torch.stack(crown_by_hand(layers, cell, 0.1)) for cell in cells]
package = torch.stack(crown(deep, Ball(cells, 0.1)), dim=1)
torch.testing.assert_close(torch.stack(by_hand), package)

# %% [markdown]
# There is a method in between. *CROWN-IBP* takes the hidden intervals from IBP, and goes
# backward once only, from the outputs {cite:p}`zhang2020crownibp`. With a single hidden layer there
# is nothing to save: the first layer's intervals are exact either way, so it equals CROWN. With more
# layers it is cheaper and looser. Below, "small" is {eq}`eq-crown-small`.

# %%
table = {}
with torch.no_grad():
    for name, method in METHODS.items():
        ends = method(paper_net, Ball(origin, 1.0))
        lower, upper = (end.item() for end in ends)
        width = torch.stack(method(deep, Ball(cells, 0.1))).diff(dim=0)
        table[name] = lower, upper, width.mean().item()
columns = ["small: lower", "small: upper", "deep: mean width"]
table = pd.DataFrame(table, index=columns).T
table.round(3)

# %% tags=["remove-cell"]
by_hand = torch.stack(by_hand)
torch.testing.assert_close(by_hand, package, rtol=1e-10, atol=1e-10)
assert np.allclose(table.loc["ibp"][:2], (lowest, highest))
assert np.allclose(table.loc["crown_ibp"][:2], table.loc["crown"][:2])
assert table[columns[2]].is_monotonic_decreasing

# %% [markdown]
# ```{index} ! dual norm
# ```
#
# ## The norm is the dual one: eq. 39
#
# How large can a linear function $\Lambda x$ become on a ball? With $x = x_0 + \epsilon y$ it is
# $\Lambda x_0 + \epsilon\, \Lambda y$, and $y$ runs through the unit ball. So we need
#
# $$
# \max_{\lVert y \rVert_p \le 1} \Lambda y = \lVert \Lambda \rVert_q ,
# \qquad \frac1p + \frac1q = 1 .
# $$ (eq-crown-dual)
#
# This is Hölder's inequality, with equality at some point of the ball, and $q$ is called *dual* to $p$.
# Three cases matter:
#
# - $p = \infty$: every $|y_i| \le 1$, so give each the sign of $\Lambda_i$. The result is
#   $\sum_i |\Lambda_i|$, the norm with $q = 1$.
# - $p = 2$: go one unit along $\Lambda$ itself. The result is its length, $q = 2$.
# - $p = 1$: the $|y_i|$ add up to at most 1. Put all of it on the largest $|\Lambda_i|$: $q = \infty$.
#
# Take the upper function of {eq}`eq-crown-upper`, $\Lambda = (\tfrac43, -\tfrac73)$, and
# measure on a fine outline of each ball ({numref}`fig-crown-dual`).

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three panels with the unit balls of the three norms: square, disc and diamond. A dashed line touches each ball at its furthest point: the corner (1, -1) of the square, a point of the circle in the direction of Lambda, and the corner (0, -1) of the diamond."}, "figure": {"caption": "How far a ball reaches in the direction $\\Lambda = (4/3, -7/3)$ (arrow, shortened). On the dashed line $\\Lambda y$ has the largest value that the ball allows, which is the dual norm in the title. The dot is where it is reached.", "name": "fig-crown-dual"}}
direction, angle = row.astype(float), np.linspace(0, 2 * np.pi, 20_001)
circle = np.stack([np.cos(angle), np.sin(angle)])
arrow = {"arrowstyle": "->", "color": INK, "linewidth": 1.4}
fig, axes = plt.subplots(1, 3, figsize=(5, 2.2), sharey=True)
for ax, p, q in zip(axes, (np.inf, 2, 1), (1, 2, np.inf), strict=True):
    outline = circle / np.linalg.norm(circle, p, axis=0)
    best = outline[:, np.argmax(direction @ outline)]
    dual = np.linalg.norm(direction, q)
    assert np.isclose(direction @ best, dual)
    ax.fill(*outline, color=COLORS[0], alpha=0.3, linewidth=0)
    along = np.array([[-3], [3]]) * direction[::-1] * [-1, 1] + best
    ax.plot(*along.T, "--", color=COLORS[5])
    ax.annotate("", direction / 3, (0, 0), arrowprops=arrow)
    ax.plot(*best, "o", color=COLORS[5], clip_on=False)
    name = {np.inf: r"\infty"}.get(p, p)
    ax.axis([-1.4, 1.4, -1.4, 1.4])
    ax.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1], aspect="equal")
    ax.set_title(f"$l_{{{name}}}$ ball: {dual:.2f}")

# %% [markdown]
# Does it matter? With the norm of our ball itself, $l_\infty$, the upper bound would be
# $3 + \tfrac73 = \tfrac{16}{3}$. But $f(1, -1) = 6$: the point lies in the ball, and its output above the "bound".
# To swap the upper and the lower function of each ReLU is no better: this gives the lower linear function, which is
# at most $\tfrac{10}{3}$.

# %%
wrong_norm = constant + abs(row).max()
swapped = minus_constant + abs(minus_row).sum()
print(f"wrong norm: {wrong_norm}, swapped functions: {swapped}")

# %% tags=["remove-cell"]
assert wrong_norm == Fraction(16, 3) and swapped == Fraction(10, 3)
assert small(np.array([1, -1])) == 6 > wrong_norm > swapped

# %% [markdown]
# With the dual norm the bounds hold over each of the three balls of radius 1:

# %%
table = {}
for norm, p in (("linf", np.inf), ("l2", 2), ("l1", 1)):
    in_ball = np.linalg.norm(grid, p, axis=1) <= 1 + 1e-12
    inside = values[in_ball]
    ends = crown(paper_net, Ball(origin, 1.0, norm))
    lower, upper = (end.item() for end in ends)
    table[norm] = inside.min(), inside.max(), lower, upper
columns = ["grid: lowest", "highest", "crown: lower", "upper"]
table = pd.DataFrame(table, index=columns).T
table.round(2) + 0.0  # no -0

# %% tags=["remove-cell"]
for (_, ends), q in zip(table.iterrows(), (1, 2, np.inf), strict=True):
    smallest, largest, lower, upper = ends
    assert lower <= smallest + 1e-9 and largest <= upper + 1e-9
    by_hand = crown_by_hand(layers_of(paper_net), origin[0], 1.0, q)
    assert np.allclose([[lower], [upper]], by_hand)

# %% [markdown]
# With 300 genes the two norms can differ by a factor of 300. A bound with the wrong one is no bound,
# and looks much tighter than a right one. In the package a {class}`~rpumap.verification.regions.Region` of inputs knows
# this maximum, as its `support`. {class}`~rpumap.verification.Ball` is one,
# {class}`~rpumap.verification.Box` and {class}`~rpumap.verification.SparseBox` are others.
#
# ## CROWN is not always tighter
#
# In the first table CROWN is tighter than IBP. Must it be? Take the smallest network, $f(x) = \operatorname{relu}(x)$,
# for $-1 \le x \le 2$. IBP finds $[0, 2]$, which is exact. CROWN's lower function is $x$ itself, since $2 > 1$, and
# its minimum is $-1$: below any output of a ReLU. With `lower_slope="zero"` the lower function is 0.

# %%
one_relu = network_of(([[1]], [0]), ([[1]], [0]))
interval = Ball(torch.tensor([[0.5]]).double(), 1.5)
found = {"ibp": ibp(one_relu, interval)}
for slope in ("adaptive", "zero"):
    found[slope] = crown(one_relu, interval, lower_slope=slope)
found = {name: [end.item() + 0.0 for end in found[name]] for name in found}
print(found)

# %% tags=["remove-cell"]
assert found == {"ibp": [0, 2], "adaptive": [-1, 2], "zero": [0, 2]}

# %% [markdown]
# With slope zero the three methods always nest: the relaxation keeps each ReLU's output from 0 to
# $u$, as IBP does, so no step can be worse. With the adaptive slope they mostly nest, and the bounds are
# mostly tighter, but neither is certain. Where two bounds disagree, take the larger lower and the smaller
# upper one: both are proved, so the truth lies in the intersection. No method of this family, with
# one linear function above and one below each ReLU, is exact in general {cite:p}`salman2019convex`.
#
# ## Equal to auto_LiRPA
#
# The paper used auto_LiRPA {cite:p}`xu2020lirpa`, a library by authors of CROWN. Where it is installed, we compare
# with it, through {mod}`rpumap.verification.auto_lirpa`.

# %%
if importlib.util.find_spec("auto_LiRPA") is None:
    print(f"auto_LiRPA is not installed here: {auto_lirpa.INSTALL}")
else:
    for norm in ("linf", "l2", "l1"):
        region = Ball(cells, 0.1, norm)
        lower, upper = crown(deep, region)
        their_lower, their_upper = auto_lirpa.bounds(deep, region)
        gaps = abs(lower - their_lower), abs(upper - their_upper)
        gap = torch.stack(gaps).max().item()
        print(f"{norm:>4}: largest difference {gap:.0e}")
        assert gap < 1e-6

# %% [markdown]
# ## How loose are the boxes of the pancreas map?
#
# Now the pancreas cells of {numref}`fig-crown-boxes`, 300 genes, and a map trained with the default
# settings. The attack is {func}`~rpumap.verification.projected_gradient` with a single step: up and down along each
# coordinate, every gene changes by $\epsilon$ in the direction of the sign of its slope at the cell. The coordinates
# that it reaches *do* occur, so the true range is no smaller. The bounds say that it is no larger than theirs. The
# table shows widths, averaged over both coordinates and 500 cells, and divided by the standard deviation of the map.


# %%
def attack(x, eps):
    """Return what one step of the attack reaches, (4, n_cells, 2)."""
    moved = projected_gradient(encoder, Ball(x, eps), WAYS, n_steps=1)
    return encoder(moved)


# %%
sample = x[draw.choice(len(x), 500, replace=False)]
spread, table = torch.as_tensor(Z.std(0)), {}
for eps in (0.02, 0.05, 0.1, 0.2):
    attacked = attack(sample, eps)
    for name, method in METHODS.items():
        lower, upper = method(encoder, Ball(sample, eps))
        inside = (lower - 1e-4 <= attacked) & (attacked <= upper + 1e-4)
        assert inside.all()
        width = ((upper - lower) / spread).mean().item()
        table.setdefault(name, {})[eps] = width
    seen = attacked.amax(0) - attacked.amin(0)
    table.setdefault("attack", {})[eps] = (seen / spread).mean().item()
table = pd.DataFrame(table).rename_axis("eps")
table.round(2)

# %% tags=["remove-cell"]
assert (table.diff(axis=1).iloc[:, 1:] < 0).all(axis=None)

# %% [markdown]
# Read the table from right to left. The attack really does move a cell this far. The true width lies
# between the last two columns, and the smaller $\epsilon$, the closer these are. As $\epsilon$ grows the gap
# grows: more neurons are unstable, each adds the error of its relaxation, and the weights of the later
# layers multiply these errors. CROWN-IBP and IBP have larger errors at every layer.

# %% tags=["remove-input"]
looser = table["crown"] / table["attack"]
width_of_map = float(((Z.max(0) - Z.min(0)) / Z.std(0)).mean())
share = table["crown"] / width_of_map
found = "; ".join(
    f"at {eps} it is {looser[eps]:.1f} times as wide as the attack reaches, "
    f"and {share[eps]:.0%} of the map"
    for eps in table.index
)
say(f"""
The whole map of these {source} is {width_of_map:.1f} standard deviations wide.
The mean box of `crown` grows with $\\epsilon$: {found}.
""")

# %% tags=["remove-cell"]
assert looser.is_monotonic_increasing
assert share[0.2] > 1 / 2 and share[0.02] < 1 / 10

# %% [markdown]
# So at the paper's $\epsilon$ of 0.2 the certificate of this network covers most of the map. It is right, and
# of little use. Note what it does *not* say: that noise of this size would move cells across the
# map. It says that this method cannot exclude it. The network was not trained to be easy to bound;
# [Robust training](08_robust_training) does that.
#
# Move the noise yourself, on this map and on robust ones:
#
# :::{explorer} certificate
# :inset:
#
# *In the book, noise and boxes move here, as on [a page of its own](../book/certificate_explorer).*
# :::
#
# {numref}`fig-crown-boxes` shows the same as the sum of 300 genes: random noise moves the cell only a little, the
# attack much further.
#
# ## What rounding does to a proof
#
# All of this holds for real numbers. A computer rounds each of them, to some seven digits in float32. A
# bound that is only just right may then be wrong. Count the cells whose coordinates, as the network
# itself computes them, lie outside their own box, for very small balls.
#
# `rounding="computed"` corrects this: it works in float64, and moves every bound outward by a limit on all that
# rounding can have done, both to the bound and to the network's own float32 output. A sum of $n$
# products errs by at most about $n u$ times the sum of their magnitudes, where $u$ is half the distance
# from 1 to the next number; {mod}`rpumap.verification.bounds` carries that through the layers.

# %%
Z_sample, table = encoder(sample), {}
for eps in (0.0, 1e-7, 1e-5, 1e-2):
    for mode in (None, "computed"):
        lower, upper = crown(encoder, Ball(sample, eps), rounding=mode)
        outside = (Z_sample < lower) | (Z_sample > upper)
        n_outside, name = outside.any(1).sum().item(), mode or "plain"
        width = (upper - lower).mean().item()
        table.setdefault((name, "outside"), {})[eps] = n_outside
        table.setdefault((name, "width"), {})[eps] = width
table = pd.DataFrame(table).rename_axis("eps")
table.rename(index="{:g}".format).map("{:.3g}".format)

# %% tags=["remove-cell"]
assert table.loc[0.0, ("plain", "outside")] > 0
assert (table["computed", "outside"] == 0).all()

# %% [markdown]
# At radius 0 the plain box is a single point, computed with another order of summation than the
# network's output, and misses it. In larger balls the centre lies well inside its box, and this count
# shows nothing; a worst case on the edge may still lie outside. The correction widens every box by about the width in
# the first row of the last column, which matters less the wider the box. In training, where only the size of a box
# counts, leave `rounding` out; for anything that you call certified, use it. (`"exact"` allows for the bound's own
# rounding only.)
#
# ## What can go wrong
#
# - **A wrong bound looks like a very good one.** Swapped linear functions or the wrong norm made the bounds
#   above *tighter*. Test by an attack that no output lies outside, and compare with another program.
# - **Biases of zero in a test.** A new network has them, and an error in $b + \Delta$ remains unnoticed.
# - **Layers other than Linear and ReLU.** Dropout and batch normalisation behave differently in training;
#   bound the network as it is used. Batch normalisation can be folded ({ref}`an exercise <ex-crown-batch-norm>`).
# - **A box taken for a distribution.** It is a worst case, not a spread to be expected.
# - **A ball that is not like the noise.** Counts cannot fall below zero, and noise depends on a gene's mean. A
#   {class}`~rpumap.verification.Box` with its own ends for each gene describes that better than one $\epsilon$
#   ({ref}`an exercise <ex-crown-one-molecule>`).
#
# ## Take-aways
#
# - Trials show what does occur, bounds what cannot occur. The truth lies between.
# - Intervals lose the information that all neurons see the same cell. CROWN keeps each output between two linear
#   functions of the cell, and looks for the worst input only at the end.
# - The sign of a coefficient selects the upper or the lower function of a ReLU; going backward, the signs change
#   with every layer.
# - The norm in the bound is dual to that of the ball: $l_\infty$ takes the sum of magnitudes.
# - Tighter bounds take more time. With the adaptive slope no order is certain; with slope zero it is.
#
# ## Self-check
#
# **1. Which information do intervals lose?**
#
# :::{dropdown} The sign of each weight
# Not quite. Intervals use the sign: a negative weight takes the lower end of its neuron for the upper end of the sum.
# :::
# :::{dropdown} That all neurons see the same cell
# Right. Each neuron gets its own worst cell, and no single cell need be the worst for all of them. Linear functions of
# the cell can be added before the worst cell is looked for.
# :::
# :::{dropdown} The biases
# Not quite. A bias moves both ends of an interval, and nothing of it is lost.
# :::
#
# **2. The function $3 x_1 - 4 x_2$ is bounded over the $l_1$ ball of radius one half. By how much can it rise above
# its value at the centre?**
#
# :::{dropdown} By 2
# Right. The dual of $l_1$ is $l_\infty$, the largest magnitude, 4. All of the change goes to $x_2$.
# :::
# :::{dropdown} By 2.5
# Not quite. This takes the length of $(3, -4)$, which is 5 and belongs to the $l_2$ ball.
# :::
# :::{dropdown} By 3.5
# Not quite. This takes the $l_1$ norm, the norm of the ball itself. Both inputs cannot change by one half here: the sum
# of their changes is at most one half.
# :::
#
# **3. Under noise of one size, an attack moves a cell over a range of 1. Its certified box is 3 wide. What is known?**
#
# :::{dropdown} Some noise of this size moves the cell over 3
# Not quite. The box is an upper limit. How much of it is the error of the relaxations, it does not say.
# :::
# :::{dropdown} The bound is wrong, since nothing reaches it
# Not quite. A bound is wrong if something lies outside. That an attack does not reach the bound is usual.
# :::
# :::{dropdown} Noise of this size can move it over at least 1, and at most 3
# Right. The attack found inputs that reach 1, and there is a proof for 3. A better attack or a tighter bound narrows
# the gap.
# :::
#
# ## Exercises
#
# :::{exercise} Another ball: paper, easy
# :label: ex-crown-another-ball
#
# Bound {eq}`eq-crown-small` by hand over the $l_1$ ball of radius 1 around 0, with IBP and with
# CROWN. Which of the four bounds is exact?
# :::
#
# :::{solution-start} ex-crown-another-ball
# :label: sol-crown-another-ball
# :class: dropdown
# :::
#
# The rows $(2, 1)$ and $(1, 2)$ have the largest magnitude 2. So $y_1$ lies in $[0, 4]$ and $y_2$ in $[-1, 3]$. IBP:
# from $2 \cdot 0 - 2 \cdot 3 = -6$ to $2 \cdot 4 - 2 \cdot 0 = 8$. The first neuron is always active, so both its
# bounds are $y_1$. The second has the chord $\tfrac34 (y_2 + 1)$, and $y_2$ below it, since $3 > 1$.
#
# Upper: $2 y_1 - 2 y_2 = 2 x_1 - 2 x_2 + 2$, at most $2 + 2 = 4$. Lower: $2 y_1 - \tfrac32 (y_2 + 1)
# = \tfrac52 x_1 - x_2 + 1$, at least $1 - \tfrac52 = -\tfrac32$. At $(1, 0)$ the network gives
# $2 \cdot 4 - 2 \cdot 2 = 4$, so CROWN's upper bound is exact.

# %%
found = {}
for name in ("ibp", "crown"):
    ends = METHODS[name](paper_net, Ball(origin, 1.0, "l1"))
    found[name] = [end.item() for end in ends]
assert np.allclose([*found["ibp"], *found["crown"]], [-6, 8, -3 / 2, 4])
inside = values[abs(grid).sum(axis=1) <= 1 + 1e-12].round(9)
truth = inside.min(), inside.max()
exact = {name: np.isclose(ends, truth) for name, ends in found.items()}
say(f"""
On the grid the values run from {truth[0] + 0.0:.1f} to {truth[1]:.1f}. Is the
lower bound exact, and the upper one? IBP: {exact["ibp"].tolist()}; CROWN:
{exact["crown"].tolist()}.
""")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} The adaptive slope: paper, medium
# :label: ex-crown-adaptive-slope
#
# A neuron is unstable. Show that among lower bounds $s\,y$ with
# $0 \le s \le 1$ the smallest area between the two bounds has $s = 1$ if $u > -l$, and $s = 0$ if $u < -l$.
# :::
#
# :::{solution-start} ex-crown-adaptive-slope
# :label: sol-crown-adaptive-slope
# :class: dropdown
# :::
#
# The upper bound does not depend on $s$. The integral of the lower one from $l$ to $u$ is $s\,(u^2 - l^2) / 2$. The
# area between is smallest where this is largest. It is linear in $s$ with slope $(u^2 - l^2) / 2$, which is positive
# for $u > -l$: take $s = 1$. It is negative for $u < -l$: take $s = 0$. At $u = -l$ every $s$ leaves the same area.
#
# The smallest area is a heuristic. What matters is the bound at the end, and alpha-CROWN chooses each
# slope by gradient descent on it: any slope from 0 to 1 is sound.

# %%
slopes, lines = np.linspace(0, 1, 11), ""
for low, high in ((-1, 5), (-4, 2), (-3, 3)):
    y = np.linspace(low, high, 1001)
    chord = high * (y - low) / (high - low)
    gaps = [(chord - slope * y).mean() for slope in slopes]
    best = slopes[np.isclose(gaps, min(gaps))]
    expected = [1] if high > -low else [0] if high < -low else slopes
    assert np.allclose(best, expected)
    which = "any slope" if len(best) > 1 else f"the slope {best[0]:.0f}"
    lines += f"- from {low} to {high}: {which}\n"
say(f"Of eleven slopes, the smallest area is left by\n\n{lines}")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Batch normalisation: code, medium
# :label: ex-crown-batch-norm
#
# After training it computes $g\,(v - \mu)/s + c$ for each neuron, with fixed
# $\mu, s, g, c$. Let it stand between a linear layer and its ReLU. Make the two one layer, and bound it.
# :::
#
# :::{solution-start} ex-crown-batch-norm
# :label: sol-crown-batch-norm
# :class: dropdown
# :::
#
# With $v = W x + b$ the result is $(g/s)\, W x + (g/s)(b - \mu) + c$: scale the rows of $W$, and change the bias.

# %%
linear, norm = nn.Linear(20, 16).double(), nn.BatchNorm1d(16).double()
norm.running_mean.normal_(generator=seed)
norm.running_var.uniform_(0.5, 2.0, generator=seed)
for parameter in (*linear.parameters(), *norm.parameters()):
    parameter.data.normal_(generator=seed)
norm = norm.eval()  # as it is used after training

# %%
deviation = (norm.running_var + norm.eps).sqrt()
scale = norm.weight / deviation
W = scale[:, None] * linear.weight
b = scale * (linear.bias - norm.running_mean) + norm.bias
W, b = W.detach().numpy(), b.detach().numpy()
folded = network_of((W, b), (np.ones((1, 16)), [0.0]))
longer = nn.Sequential(linear, norm, *folded[1:])
assert torch.allclose(longer(cells), folded(cells))

# %%
signs = torch.randn(1000, 1, 20, generator=seed).double().sign()
noisy = longer((cells + 0.1 * signs).flatten(0, 1)).view(1000, 5, 1)
lower, upper = crown(folded, Ball(cells, 0.1))
assert ((lower <= noisy) & (noisy <= upper)).all()
box, span = upper - lower, noisy.amax(0) - noisy.amin(0)
say(f"""
Both networks give the same outputs. The bounds are {box.mean():.1f} apart in
the mean of the five cells. 1,000 random corners of each ball, through the
network that still has its batch normalisation, span {span.mean():.1f} and lie
between the bounds.
""")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Depth: experiment, medium
# :label: ex-crown-depth
#
# Give `mlp` 1 to 6 hidden layers of 32 neurons, 20 inputs, and bound 20 random cells at
# $\epsilon = 0.05$. How do the mean widths grow with depth, for each method, and why?
# :::
#
# :::{solution-start} ex-crown-depth
# :label: sol-crown-depth
# :class: dropdown
# :::

# %%
widths, unstable = {name: [] for name in METHODS}, {}
for depth in range(1, 7):
    seed = torch.Generator().manual_seed(0)
    network = mlp(20, (32,) * depth, 2, seed)
    points = Ball(torch.randn(20, 20, generator=seed), 0.05)
    for name, method in METHODS.items():
        lower, upper = method(network, points)
        widths[name].append((upper - lower).mean().item())
        # of the last hidden layer, which `crown_ibp` takes from `ibp`
        lower, upper = method(network[:-2], points)
        unstable[name] = ((lower < 0) & (upper > 0)).float().mean().item()
assert unstable["ibp"] > unstable["crown"]

# %%
lines = ""
for name, (first, *_, deepest) in widths.items():
    growth = (deepest / first) ** (1 / 5)
    lines += f"- `{name}`: {first:.2f} with one hidden layer, {deepest:.3g} "
    lines += f"with six, {growth:.1f} times as much with each further layer\n"
say(f"""
{lines}
Of the neurons of the sixth layer {unstable["ibp"]:.0%} are unstable by the
intervals of IBP, and {unstable["crown"]:.0%} by those of CROWN. Loose intervals
in one layer make more neurons of the next one unstable, and its intervals
looser still. CROWN-IBP takes the hidden intervals from IBP, and so shares that
growth.
""")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} One molecule: experiment, hard
# :label: ex-crown-one-molecule
#
# Let genes of a cell lose or gain one molecule, with the library size as it is, but at most 1, 3 or 10 of the 300
# genes. Build this region from the counts of 20 cells as a {class}`~rpumap.verification.SparseBox`. Certify, and
# attack in 5 steps. How wide are the boxes beside what the attack reaches, and why are they so wide?
# :::
#
# :::{solution-start} ex-crown-one-molecule
# :label: sol-crown-one-molecule
# :class: dropdown
# :::
#
# One molecule is the target sum divided by the library size in scaled counts, and no count falls below zero.

# %%
some = draw.choice(len(x), 20, replace=False)
one = prep.target_sum / library_size(adata)[some, None]
scaled = prep.scale(adata)[some]
low = prep.standardize(np.maximum(scaled - one, 0))
high = prep.standardize(scaled + one)


# %%
def unstable_share(region):
    """Of the neurons of the last hidden layer, by CROWN."""
    lower, upper = crown(encoder[:-2], region)
    return ((lower < 0) & (upper > 0)).float().mean().item()


lines, of_ball = "", unstable_share(Ball(x[some], 0.1))
for most in (1, 3, 10):
    region = SparseBox(x[some], low, high, most).to(torch.float32)
    lower, upper = rpumap.certify(model, region=region)
    reached = encoder(projected_gradient(encoder, region, WAYS)).numpy()
    wide = ((upper - lower) / Z.std(0)).mean()
    seen = (np.ptp(reached, axis=0) / Z.std(0)).mean()
    lines += f"- up to {most}: box {wide:.1f}, attack {seen:.1f}, "
    lines += f"{unstable_share(region):.0%} unstable\n"

# %%
steps = high - X[some]
assert np.median(steps) > 0.3
say(f"""
Mean widths in standard deviations of the map, by how many genes may change, and
the share of unstable neurons in the last hidden layer:

{lines}
One molecule moves a z-score by {np.median(steps):.1f} in the median, and by
{steps.max():.0f} at most: far more than 0.1. A ball of that radius, in which
all genes change, makes {of_ball:.0%} of these neurons unstable. Each unstable
neuron adds the error of its relaxation, the larger the wider its interval.
""")

# %% [markdown]
# :::{solution-end}
# :::
#
# ## In practice
#
# - {func}`rpumap.certify` does all this for a fitted model and a NumPy array, in the units of `X`, or for any
#   region; {func}`rpumap.plotting.boxes` draws the result.
# - Use {func}`~rpumap.verification.ibp` for a first look, {func}`~rpumap.verification.crown_ibp` where many bounds
#   are needed, and {func}`~rpumap.verification.crown` with `rounding="computed"` for what you report.
# - Report $\epsilon$ with its norm and units, the method, and the range that an attack reaches beside the bound.
# - Certify with the same preprocessing that the cells were projected with: $\epsilon$ is in the unit of its z-scores.
# - For layers other than Linear and ReLU, {func}`rpumap.verification.auto_lirpa.bounds` calls auto_LiRPA.
#
# ## Further reading
#
# - {cite:t}`zhang2023robust`: the paper, supplement 5.1. {cite:t}`zhang2018crown`: CROWN itself, with other
#   activations and the proofs.
# - {cite:t}`gowal2018ibp`: intervals, and training with them. {cite:t}`zhang2020crownibp`: both together.
# - {cite:t}`salman2019convex`: how tight this family of bounds can be at best.
# - {cite:t}`xu2020lirpa`: the same idea on any computational graph.
