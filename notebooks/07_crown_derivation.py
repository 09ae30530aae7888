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
#
# ## What you will do
#
# - See ten thousand random trials miss the worst case by far.
# - Bound a network of two neurons by hand, first loosely, then tightly, in exact fractions.
# - Follow the paper from its eq. 13 to eq. 39, correct its slips, and write it for any depth.
# - Draw boxes around cells of the pancreas that provably hold them under all noise of a given size.
#
# ## What you will learn
#
# - Which information intervals lose, and which linear bounds keep.
# - Why the norm in the bound is not the norm of the ball.
# - When a method that should be tighter is not, and what rounding does to a proof.
#
# ## What you need
#
# - A network with ReLUs, as in [Training](03_training). Matrix products and inequalities.

# %% tags=["remove-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("rpumap") is None:  # on Colab
    needed = ["umap-learn", "git+https://github.com/rpumap/rpumap"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *needed], check=True)

# %%
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
from rpumap.chapters.style import use_style
from rpumap.networks import mlp
from rpumap.plotting import COLORS, INK
from rpumap.verification import Ball, auto_lirpa, crown, crown_ibp, ibp, projected_gradient

use_style()

# %% [markdown]
# `Fraction` computes with exact fractions. `crown`, `crown_ibp` and `ibp` from {mod}`rpumap.verification`
# are what we are going to derive; we use them only after that.
#
# ## Why trials are no proof
#
# Let $x_0$ be a cell and $f$ the network. We allow every input in a ball,
# $\lVert x - x_0 \rVert_p \le \epsilon$. The paper does not name its norm. We mostly take $p = \infty$:
# each gene may change by up to $\epsilon$, all of them at once. (Inputs are z-scores, so $\epsilon = 0.1$ is a tenth of a gene's standard deviation.) We want numbers $l_j$ and $u_j$ with
#
# $$ l_j \le f_j(x) \le u_j \quad \text{for every } x \text{ in the ball.} $$ (eq-crown-goal)
#
# Together they make a {term}`box` on the map that the cell cannot leave. Why not add noise to the cell many
# times and look? Try a very simple output: the sum of 300 genes with weights $+1$ and $-1$, for
# $\epsilon = 1$. Its largest value is 300, reached when every gene changes in the direction of the sign
# of its weight.

# %%
draw = np.random.default_rng(0)
weights = draw.choice([-1, 1], 300)
trials = draw.choice([-1, 1], (10_000, 300)) @ weights
print(f"possible: {abs(weights).sum()}, of 10,000 random trials: {trials.max()}")
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
W1, b1, w2 = np.array([[2, 1], [1, 2]]), np.array([2, 1]), np.array([2, -2])


def small(x):
    return np.maximum(x @ W1.T + b1, 0) @ w2


assert small(np.zeros(2)) == 2
ticks = np.linspace(-1, 1, 201)
grid = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
values = small(grid)
print(f"on the grid: {values.min():.4f} to {values.max():.4f}")
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
assert l1.tolist() == [-1, -2] and u1.tolist() == [5, 4]

low, high = np.maximum(l1, 0), np.maximum(u1, 0)
positive, negative = np.maximum(w2, 0), np.minimum(w2, 0)
ibp_hand = positive @ low + negative @ high, positive @ high + negative @ low
assert ibp_hand == (-8, 10)

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
# \quad \text{for } l \le y \le u .
# $$ (eq-crown-relaxation)
#
# Where $l \ge 0$, the ReLU *is* linear with slope 1; where $u \le 0$, with slope 0: such a neuron is
# *stable*. Otherwise it is *unstable*: the sign of its input is not fixed over the region. No linear
# function lies closer above its ReLU than the chord from $(l, 0)$ to $(u, u)$. Below it, any linear
# function $s\,y$ with a slope $s$ from 0 to 1 is right. The *adaptive* choice
# leaves the smaller area between the two (exercise 2; {numref}`fig-crown-relu`):
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
    """Return alpha_L, alpha_U and beta_U of the linear relaxations of ReLUs."""
    below, above = (-low).clip(0), high.clip(0)
    return 1 * (high > -low), above / (above + below), below


# %% mystnb={"image": {"alt": "Four panels of a ReLU between two linear functions. Input from -1 to 5: chord above, slope 1 below. From -4 to 2: chord above, slope 0 below. From 1 to 5 and from -5 to -1: both lie on the ReLU."}, "figure": {"caption": "A ReLU (grey) between its upper bound (dashed) and its adaptive lower bound (dotted), for four intervals. The shaded area is the error of the relaxation. The upper two neurons are unstable, the lower two stable.", "name": "fig-crown-relu"}}
fig, axes = plt.subplots(2, 2, figsize=(6.4, 5), sharex=True, sharey=True)
for ax, ends in zip(axes.flat, ((-1, 5), (-4, 2), (1, 5), (-5, -1)), strict=True):
    y = np.linspace(*ends, 200)
    slope_low, slope_high, beta = relaxation(*np.array(ends))
    below, above = slope_low * y, slope_high * (y + beta)
    assert (below <= np.maximum(y, 0) + 1e-12).all()
    assert (np.maximum(y, 0) <= above + 1e-12).all()
    ax.plot([-5.5, 0, 5.5], [0, 0, 5.5], color=INK, linewidth=5, alpha=0.4)
    ax.fill_between(y, below, above, color=COLORS[1], alpha=0.25, linewidth=0)
    ax.plot(y, above, "--", color=COLORS[5], linewidth=2, label="upper bound")
    ax.plot(y, below, ":", color=COLORS[0], linewidth=2.5, label="lower bound")
    ax.set_title("input from {} to {}".format(*ends))
    ax.set(xlabel="input $y$", ylabel="output")
    ax.label_outer()
legend = axes[0, 0].legend(loc="upper left")

# %% [markdown]
# The first neuron has $l = -1$, $u = 5$, so $\operatorname{relu}(y_1) \le \tfrac56 (y_1 + 1)$; the
# second has $l = -2$, $u = 4$, so $\operatorname{relu}(y_2) \le \tfrac23 (y_2 + 2)$. The lower bound
# is $y$ for both. (`astype(object)` lets NumPy compute with fractions.)

# %%
l1, u1 = (ends.astype(object) * Fraction(1) for ends in (l1, u1))
a_low, a_high, beta = relaxation(l1, u1)
assert a_high.tolist() == [Fraction(5, 6), Fraction(2, 3)] and beta.tolist() == [1, 2]
assert a_low.tolist() == [1, 1]

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
    """Bound w @ relu(y) from above: coefficients of x, constant, and largest value."""
    Lambda = np.where(w > 0, w * a_high, w * a_low)
    row, constant = Lambda @ W1, Lambda @ (b1 + np.where(w > 0, beta, 0))
    return row, constant, constant + abs(row).sum()


row, constant, upper = small_upper(w2)
assert row.tolist() == [Fraction(4, 3), Fraction(-7, 3)] and constant == 3
minus_row, minus_constant, minus_lower = small_upper(-w2)
assert minus_row.tolist() == [Fraction(-8, 3), Fraction(2, 3)] and minus_constant == 0
assert upper == Fraction(20, 3) and -minus_lower == Fraction(-10, 3)
assert ibp_hand[0] < -minus_lower < -2 and 6 < upper < ibp_hand[1]
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
# \tilde b^{(m-1)}_j &= b^{(m)}_j + \sum_i \Lambda^{(m-1)}_{ji} \bigl( b^{(m-1)}_i
#   + \Delta^{(m-1)}_{ij} \bigr) .
# \end{aligned}
# $$ (eq-crown-step)
#
# So do it again, with $\tilde W^{(m-1)}$ instead of $W^{(m)}$, whose *signs* now select the
# linear functions (eq. 25, 26), until $\phi_0 = x$ is reached. That is the whole recursion, eq. 37, and it ends
# in eq. 38:
#
# $$
# f^U_j(x) = \tilde W^{(1)}_{j,:}\, x + b^{(m)}_j + \sum_{k=1}^{m-1} \Lambda^{(k)}_{j,:}
#   \bigl( b^{(k)} + \Delta^{(k)}_{:,j} \bigr) .
# $$ (eq-crown-linear)
#
# One thing is missing. The relaxation of a neuron needs its $l$ and $u$. Those of the first layer are
# exact. For a deeper neuron, treat it as the output of the layers before it, and run the same
# procedure. CROWN thus goes forward through the layers, and from each of them backward to the input
# {cite:p}`zhang2018crown`.
#
# Some of the printed equations differ from these by a slip: 18, 19, 27 to 29, 36 and 39, and the ends of
# the sums in 22 to 36. Eq. 38 writes $\Lambda^{(0)}$ for $\tilde W^{(1)}$, and its sum runs up to $m$. The page on
# [notation](../book/notation) lists what is wrong in each.
#
# In code, for one cell. `q` is the order of a norm, which the next section explains; for an $l_\infty$
# ball it is 1, the sum of magnitudes as above.


# %%
def upper_bound(rows, offset, hidden, x0, eps, q):
    """Bound rows @ phi + offset, phi the outputs of the last hidden layer."""
    for W, b, (alpha_low, alpha_high, beta_high) in reversed(hidden):
        Lambda = rows * torch.where(rows >= 0, alpha_high, alpha_low)  # eq. 20, 25, 37
        Delta = torch.where(rows >= 0, beta_high, 0)  # eq. 21, 26
        offset = offset + (Lambda * (b + Delta)).sum(1)  # eq. 33, 34
        rows = Lambda @ W  # eq. 31, 32
    return rows @ x0 + offset + eps * torch.linalg.vector_norm(rows, q, dim=1)


def crown_by_hand(layers, x0, eps, q=1):
    hidden = []
    for W, b in layers:
        upper = upper_bound(W, b, hidden, x0, eps, q)
        lower = -upper_bound(-W, -b, hidden, x0, eps, q)
        hidden.append((W, b, relaxation(lower, upper)))
    return lower, upper


# %% [markdown]
# These are two short functions. The relaxation of the output layer is computed and not used, which saves an
# `if`. (A neuron whose input is 0 throughout would divide 0 by 0; the package guards against that.) Do they
# agree with the fractions, and on a random network with four hidden layers with the package?
# {func}`rpumap.verification.crown` bounds many cells at a time, can be differentiated, and
# limits its memory; the formulas are these, in {func}`~rpumap.verification.relax` and
# {func}`~rpumap.verification.upper_bound`.


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
    return [(linear.weight.detach(), linear.bias.detach()) for linear in network[::2]]


# %%
paper_net, origin = network_of((W1, b1), ([w2], [0])), torch.zeros(1, 2).double()
by_hand = crown_by_hand(layers_of(paper_net), origin[0], 1.0)
assert np.allclose(by_hand, [[-10 / 3], [20 / 3]])

seed = torch.Generator().manual_seed(0)
deep = mlp(20, (16, 16, 16, 16), 2, seed).double()
for linear in deep[::2]:
    linear.bias.data.normal_(generator=seed)
cells = torch.randn(5, 20, generator=seed).double()
by_hand = [torch.stack(crown_by_hand(layers_of(deep), cell, 0.1)) for cell in cells]
package = torch.stack(crown(deep, Ball(cells, 0.1)), dim=1)
torch.testing.assert_close(torch.stack(by_hand), package, rtol=1e-10, atol=1e-10)

# %% [markdown]
# There is a method in between. *CROWN-IBP* takes the hidden intervals from IBP, and goes
# backward once only, from the outputs {cite:p}`zhang2020crownibp`. With a single hidden layer there
# is nothing to save: the first layer's intervals are exact either way, so it equals CROWN. With more
# layers it is cheaper and looser.

# %%
METHODS = {"ibp": ibp, "crown_ibp": crown_ibp, "crown": crown}
table = {}
with torch.no_grad():
    for name, method in METHODS.items():
        lower, upper = (ends.item() for ends in method(paper_net, Ball(origin, 1.0)))
        wide = torch.stack(method(deep, Ball(cells, 0.1))).diff(dim=0).mean().item()
        table[name] = lower, upper, wide
columns = ["2-2-1: lower", "2-2-1: upper", "deep: mean width"]
table = pd.DataFrame(table, index=columns).T
assert np.allclose(table.loc["ibp"][:2], ibp_hand)
assert np.allclose(table.loc["crown_ibp"][:2], table.loc["crown"][:2])
table.round(3)

# %% tags=["remove-cell"]
assert table[columns[2]].is_monotonic_decreasing

# %% [markdown]
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
# The paper prints $\lVert \Lambda \rVert_\infty$ and calls it the maximum absolute value. That is right
# for $p = 1$ only. Take the upper function of {eq}`eq-crown-upper`, $\Lambda = (\tfrac43, -\tfrac73)$, and
# measure on a fine outline of each ball ({numref}`fig-crown-dual`).

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three panels with the unit balls of the three norms: square, disc and diamond. A dashed line touches each ball at its furthest point: the corner (1, -1) of the square, a point of the circle in the direction of Lambda, and the corner (0, -1) of the diamond."}, "figure": {"caption": "How far a ball reaches in the direction $\\Lambda = (4/3, -7/3)$ (arrow, shortened). On the dashed line $\\Lambda y$ has the largest value that the ball allows, which is the dual norm in the title. The dot is where it is reached.", "name": "fig-crown-dual"}}
direction, angle = row.astype(float), np.linspace(0, 2 * np.pi, 20_001)
circle = np.stack([np.cos(angle), np.sin(angle)])
arrow = {"arrowstyle": "->", "color": INK}
fig, axes = plt.subplots(1, 3, figsize=(6.4, 2.9))
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
    ax.set_title(f"$l_{{{name}}}$ ball: {dual:.2f}", fontsize=11)

# %% [markdown]
# Does it matter? For our ball the printed eq. 39 gives $3 + \tfrac73 = \tfrac{16}{3}$. But $f(1, -1) = 6$: the
# point lies in the ball, and its output above the "bound". The printed eq. 19, which swaps the upper and the
# lower function of each ReLU, is no better: it gives the lower linear function, which is at most
# $\tfrac{10}{3}$.

# %%
printed_39 = constant + abs(row).max()
printed_19 = minus_constant + abs(minus_row).sum()
assert printed_39 == Fraction(16, 3) and printed_19 == Fraction(10, 3)
assert small(np.array([1, -1])) == 6 > printed_39 > printed_19
for norm, p, q in (("linf", np.inf, 1), ("l2", 2, 2), ("l1", 1, np.inf)):
    lower, upper = (ends.item() for ends in crown(paper_net, Ball(origin, 1.0, norm)))
    in_ball = np.linalg.norm(grid, p, axis=1) <= 1 + 1e-12
    inside = values[in_ball].round(9) + 0.0  # no -0
    assert lower <= inside.min() and inside.max() <= upper + 1e-9
    by_hand = crown_by_hand(layers_of(paper_net), origin[0], 1.0, q)
    assert np.allclose([[lower], [upper]], by_hand)
    print(f"{norm:>4}: grid {inside.min():5.2f} to {inside.max():.2f}", end=", ")
    print(f"crown {lower:5.2f} to {upper:.2f}")

# %% [markdown]
# With 300 genes the two norms can differ by a factor of 300. A bound with the wrong one is no bound,
# and looks much tighter than a right one.
#
# ## CROWN is not always tighter
#
# In the table CROWN is tighter than IBP. Must it be? Take the smallest network, $f(x) = \operatorname{relu}(x)$, for
# $-1 \le x \le 2$. IBP finds $[0, 2]$, which is exact. CROWN's lower function is $x$ itself, since $2 > 1$, and
# its minimum is $-1$: below any output of a ReLU. With `lower_slope="zero"` the lower function is 0.

# %%
one_relu = network_of(([[1]], [0]), ([[1]], [0]))
middle = torch.tensor([[0.5]]).double()
for name, options in (("adaptive", {}), ("zero", {"lower_slope": "zero"})):
    ends = [end.item() + 0.0 for end in crown(one_relu, Ball(middle, 1.5), **options)]
    print(f"crown, {name}: {ends}")
    assert ends == ([0, 2] if options else [-1, 2])
assert [end.item() for end in ibp(one_relu, Ball(middle, 1.5))] == [0, 2]

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
    print("auto_LiRPA is not installed here; see rpumap.verification.auto_lirpa.INSTALL.")
else:
    for norm in ("linf", "l2", "l1"):
        region = Ball(cells, 0.1, norm)
        theirs = torch.stack(auto_lirpa.bounds(deep, region))
        gap = (torch.stack(crown(deep, region)) - theirs).abs().max().item()
        print(f"{norm:>4}: largest difference {gap:.0e}")
        assert gap < 1e-6

# %% [markdown]
# ## Real cells
#
# Now the pancreas cells of the earlier chapters, 300 genes, and a map trained with the default
# settings. The adversary is {func}`~rpumap.verification.projected_gradient` with a single step: up and down along each
# coordinate, every gene changes by $\epsilon$ in the direction of the sign of its slope at the cell. The coordinates
# that it reaches *do* occur, so the true range is no smaller. The bounds say that it is no larger than theirs. The
# table shows widths, averaged over both coordinates and 500 cells, and divided by the standard deviation of the map.

# %%
adata = rpumap.datasets.pancreas()
source = describe_cells(adata)
X = rpumap.Preprocessor(n_top_genes=300).fit_transform(adata)
model = rpumap.ParametricUMAP(random_state=0).fit(X)
x, Z, encoder = torch.as_tensor(X), model.embedding_, model.encoder_.requires_grad_(False)


# %%
WAYS = torch.tensor([[-1, 0], [1, 0], [0, -1], [0, 1]])  # both directions of both coordinates


def attack(x, eps):
    """Return the coordinates after the one-step attack, (4, n_cells, 2)."""
    return encoder(projected_gradient(encoder, Ball(x, eps), WAYS, n_steps=1))


# %%
sample = x[draw.choice(len(x), 500, replace=False)]
spread, table = torch.as_tensor(Z.std(0)), {}
for eps in (0.02, 0.05, 0.1, 0.2):
    attacked = attack(sample, eps)
    seen = attacked.amax(0) - attacked.amin(0)
    for name, method in METHODS.items():
        lower, upper = method(encoder, Ball(sample, eps))
        assert (lower - 1e-4 <= attacked).all() and (attacked <= upper + 1e-4).all()
        table.setdefault(name, {})[eps] = ((upper - lower) / spread).mean().item()
    table.setdefault("adversary", {})[eps] = (seen / spread).mean().item()
table = pd.DataFrame(table).rename_axis("eps")
print(f"mean width, {source}")
table.round(2)

# %% tags=["remove-cell"]
assert (table.diff(axis=1).iloc[:, 1:] < 0).all(axis=None)

# %% [markdown]
# Read the table from right to left. The adversary really does move a cell this far. The true width lies
# between the last two columns, and the smaller $\epsilon$, the closer these are. As $\epsilon$ grows the gap
# grows: more neurons are unstable, each adds the error of its relaxation, and the weights of the later
# layers multiply these errors. CROWN-IBP and IBP have larger errors at every layer.

# %%
looser = table["crown"] / table["adversary"]
width_of_map = float(((Z.max(0) - Z.min(0)) / Z.std(0)).mean())
print(f"the whole map is {width_of_map:.1f} standard deviations wide")
for eps, ratio in looser.items():
    share = table.loc[eps, "crown"] / width_of_map
    print(f"eps {eps}: crown {ratio:.1f} times the adversary, {share:.0%} of the map")

# %% tags=["remove-cell"]
assert looser.is_monotonic_increasing
assert table.loc[0.2, "crown"] > width_of_map / 2 and table.loc[0.02, "crown"] < width_of_map / 10

# %% [markdown]
# So at the paper's $\epsilon$ of 0.2 the certificate of this network covers most of the map. It is right, and
# of little use. Note what it does *not* say: that noise of this size would move cells across the
# map. It says that this method cannot exclude it. The network was not trained to be easy to bound;
# [Robust training](08_robust_training) does that.
#
# For a picture, take the cell in the middle of each of the six largest types, and a small $\epsilon$.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Top: the map in grey with nested rectangles around six cells; the dotted ones of ibp are by far the largest, the dashed ones of crown_ibp small, the solid ones of crown smallest. Bottom: one of the cells enlarged, with dots of random noise close together, four crosses further out, and the two smaller boxes around them."}, "figure": {"caption": "Boxes that provably hold a cell under noise, by three methods, on the map (top) and around one of the cells (bottom; the box of `ibp` is outside the frame). Dots: random corners of the ball. Crosses: the four results of the adversary.", "name": "fig-crown-boxes"}}
types = adata.obs["clusters"]
chosen = []
for name in types.value_counts().index[:6]:
    members = np.flatnonzero(types == name)
    off_middle = np.linalg.norm(Z[members] - np.median(Z[members], axis=0), axis=1)
    chosen.append(members[off_middle.argmin()])
eps, last = 0.03, chosen[-1]
looks = ((COLORS[1], ":"), (COLORS[0], "--"), (COLORS[5], "-"))
fig, (top, zoom) = plt.subplots(2, 1, figsize=(5.6, 8.6), height_ratios=(1.1, 1))
top.scatter(*Z.T, s=3, color=INK, alpha=0.25, linewidths=0)
for (name, method), (color, style) in zip(METHODS.items(), looks, strict=True):
    lower, upper = (ends.numpy() for ends in method(encoder, Ball(x[chosen], eps)))
    look = {"color": color, "linestyle": style, "linewidth": 1.8}
    plotting.boxes(lower, upper, ax=top, **look)
    plotting.boxes(lower[-1:], upper[-1:], ax=zoom, **look, label=name)
    if name == "crown_ibp":
        edge = 0.1 * (upper - lower)[-1]
        zoom.axis(np.stack([lower[-1] - edge, upper[-1] + edge]).T.ravel())
signs = torch.as_tensor(draw.choice([-1.0, 1.0], (500, 300))).float()
noisy = encoder(x[last] + eps * signs).numpy()
attacked = attack(x[[last]], eps)[:, 0].numpy()
assert ((lower[-1] <= noisy) & (noisy <= upper[-1])).all()
assert (np.ptp(noisy, axis=0) < np.ptp(attacked, axis=0)).all()
zoom.scatter(*noisy.T, s=6, color=INK, alpha=0.6, linewidths=0, label="random noise")
zoom.scatter(*attacked.T, s=50, color=COLORS[2], marker="x", label="adversary")
handles = zoom.get_legend_handles_labels()
fig.legend(*handles, loc="outside lower center", ncols=3, fontsize=9)
top.set(title=f"$\\epsilon = {eps}$, {source}", aspect="equal", xticks=[], yticks=[])
zoom.set(title=f"{types.iloc[last]} cell", xlabel="dimension 1", ylabel="dimension 2")
plt.show()

# %% [markdown]
# {numref}`fig-crown-boxes` shows the same as the sum of 300 genes: random noise moves the cell only a little, and the
# adversary moves it much further.
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
        outside = ((Z_sample < lower) | (Z_sample > upper)).any(1).sum().item()
        width = (upper - lower).mean().item()
        table.setdefault((mode or "plain", "outside"), {})[eps] = outside
        table.setdefault((mode or "plain", "width"), {})[eps] = width
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
#   above *tighter*. Test with an adversary that no output lies outside, and compare with another program.
# - **Biases of zero in a test.** A new network has them, and an error in $b + \Delta$ remains unnoticed.
# - **Layers other than Linear and ReLU.** Dropout and batch normalisation behave differently in training;
#   bound the network as it is used. Batch normalisation can be folded (exercise 3).
# - **A box taken for a distribution.** It is a worst case, not a spread to be expected.
# - **A ball that is not like the noise.** Counts cannot fall below zero, and noise depends on a gene's mean. A
#   {class}`~rpumap.verification.Box` with its own ends for each gene describes that better than one $\epsilon$.
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
# ## On your own
#
# **1. Another ball.** Bound {eq}`eq-crown-small` by hand over the $l_1$ ball of radius 1 around 0, with IBP and with
# CROWN. Which of the four bounds is exact?
#
# ```{admonition} Solution
# :class: dropdown
#
# The rows (2, 1) and (1, 2) have largest magnitude 2. So y1 lies in [0, 4] and y2 in [-1, 3]. IBP: from
# 2*0 - 2*3 = -6 to 2*4 - 2*0 = 8. The first neuron is always active, so both its bounds are y1. The second has
# the chord (3/4)(y2 + 1), and y2 below it, since 3 > 1.
#
# Upper: 2 y1 - 2 y2 = 2 x1 - 2 x2 + 2, at most 2 + 2 = 4. Lower: 2 y1 - (3/2)(y2 + 1)
# = (5/2) x1 - x2 + 1, at least 1 - 5/2 = -3/2. At (1, 0) the network gives 2*4 - 2*2 = 4, so CROWN's upper
# bound is exact. The table of the three norms shows the same numbers.
# ```
#
# **2. The adaptive slope.** A neuron is unstable. Show that among lower bounds $s\,y$ with
# $0 \le s \le 1$ the smallest area between the two bounds has $s = 1$ if $u > -l$, and $s = 0$ if $u < -l$.
#
# ```{admonition} Solution
# :class: dropdown
#
# The upper bound does not depend on s. The integral of the lower one from l to u is s (u² - l²) / 2. The area
# between is smallest where this is largest. It is linear in s with slope (u² - l²) / 2, which is positive
# for u > -l: take s = 1. It is negative for u < -l: take s = 0. At u = -l every s leaves the same area.
# The smallest area is a heuristic. What matters is the bound at the end, and alpha-CROWN chooses each
# slope by gradient descent on it: any slope from 0 to 1 is sound.
# ```
#
# **3. Batch normalisation.** After training it computes $g\,(v - \mu)/s + c$ for each neuron, with fixed
# $\mu, s, g, c$. Let it stand between a linear layer and its ReLU. Make the two one layer, and bound it.
#
# ```{admonition} Solution
# :class: dropdown
#
# With v = W x + b the result is (g/s) W x + (g/s)(b - mu) + c: scale the rows of W, and change the bias.
#
#     linear, norm = nn.Linear(20, 16).double(), nn.BatchNorm1d(16).double()
#     norm.running_mean.normal_(); norm.running_var.uniform_(0.5, 2.0); norm.eval()
#     scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
#     shift = norm.bias - scale * norm.running_mean
#     W, b = scale[:, None] * linear.weight, scale * linear.bias + shift
#     W, b = W.detach().numpy(), b.detach().numpy()
#     folded = network_of((W, b), (np.ones((1, 16)), [0.0]))
#     longer = nn.Sequential(linear, norm, *folded[1:])
#     assert torch.allclose(longer(cells), folded(cells))
#     print(crown(folded, Ball(cells, 0.1)))
# ```
#
# **4. Depth.** Give `mlp` 1 to 6 hidden layers of 32 neurons, 20 inputs, and bound 20 random cells at
# $\epsilon = 0.05$. How do the mean widths grow with depth, for each method?
#
# ```{admonition} Solution
# :class: dropdown
#
#     for depth in range(1, 7):
#         seed = torch.Generator().manual_seed(0)
#         network = mlp(20, (32,) * depth, 2, seed)
#         points = torch.randn(20, 20, generator=seed)
#         for name, method in METHODS.items():
#             lower, upper = method(network, Ball(points, 0.05))
#             print(depth, name, (upper - lower).mean().item())
#
# IBP grows about threefold with each layer, from 1.3 to 291, and CROWN-IBP, from the second layer on,
# even faster: 0.41 to 168. CROWN hardly grows, 0.41 to 0.62. At this radius few neurons are unstable as long as the
# intervals are tight. Loose intervals in one layer make those of the next layer looser still.
# ```
#
# ## In practice
#
# - `rpumap.certify(model, X, eps)` does all this for a fitted model and a NumPy array, in the units of `X`.
# - Use {func}`~rpumap.verification.ibp` for a first look, {func}`~rpumap.verification.crown_ibp` where many bounds
#   are needed, and {func}`~rpumap.verification.crown` with `rounding="computed"` for what you report.
# - Report $\epsilon$ with its norm and units, the method, and an adversary's range beside the bound.
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
