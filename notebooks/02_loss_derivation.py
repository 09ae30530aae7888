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
# # The loss: attraction and repulsion
#
# The last chapter turned cells into a graph: which cells are close, and how strongly they are
# connected. How do we measure how badly an embedding represents that graph? The answer, the loss,
# has two terms: one pulls neighbours together, one pushes non-neighbours apart.
#
# ## What you will do
#
# - Compute the loss of an embedding of three points by hand, with exact numbers.
# - Follow the paper from its eq. 12 to eq. 1, 2, 3 and 4, and correct its slips on the way.
# - Derive the two forces by hand, and let automatic differentiation check them.
# - Lay out twenty points under six versions of the loss.
# - Measure, on cells, which similarities the sampled loss leads to.
#
# ## What you will learn
#
# - Why cross-entropy is the loss for predicted probabilities.
# - How `min_dist` becomes the constants $a$ and $b$, and how to avoid NaN.
# - Why a few random pairs can stand in for all of them, and what changes when they do.
# - How the probability-based and the graph-based loss differ.
#
# ## What you need
#
# - [The fuzzy graph](01_fuzzy_graph), or at least its result: edge strengths $p_{ij}$.
# - Derivatives and logarithms (natural ones throughout). NumPy, and a little PyTorch.

# %% tags=["remove-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("rpumap") is None:  # on Colab
    needed = ["umap-learn", "git+https://github.com/rpumap/rpumap"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *needed], check=True)

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy.optimize import curve_fit
from scipy.special import xlogy
from scipy.stats import spearmanr
from torch.nn.functional import softplus

import rpumap
from rpumap.chapters.comparison import describe_cells
from rpumap.chapters.style import use_style
from rpumap.plotting import COLORS, INK

use_style()

# %% [markdown]
# SciPy fits curves and evaluates $x \log y$ at $x = 0$. PyTorch differentiates, and pandas prints
# tables. `use_style` makes figures readable on light and dark pages.
#
# ## Two probabilities for each pair
#
# First, a recall. The last chapter gave every cell $i$ an edge to each of its neighbours $j$, with
# a strength computed from their distance $d(x_i, x_j)$, the distance $\rho_i$ to the nearest
# neighbour and a length scale $\sigma_i$. These are eq. 9 of the paper, with the sign before
# $\rho_i$ corrected, and eq. 10. (Numbers like "eq. 9" are the paper's, numbers in brackets this
# chapter's. The page on [notation](../book/notation) lists all symbols.)
#
# $$
# \begin{aligned}
# p_{j|i} &= \exp\!\left(-\frac{\max(0,\, d(x_i, x_j) - \rho_i)}{\sigma_i}\right) \\
# p_{ij} &= p_{j|i} + p_{i|j} - p_{j|i}\,p_{i|j} .
# \end{aligned}
# $$
#
# Read $p_{ij}$ as a probability. With probability $p_{ij}$ the two cells are neighbours; with
# probability $1 - p_{ij}$ they are not. Pairs without an edge have $p_{ij} = 0$.
#
# An embedding gives cell $i$ the coordinates $z_i$. It defines a second probability, the
# *similarity* $q_{ij}$: points that are close are neighbours with a high probability. It depends on
# the distance $d_{ij} = \lVert z_i - z_j \rVert$ through eq. 11 of the paper, with two constants
# $a$ and $b$:
#
# $$ q_{ij} = \frac{1}{1 + a\, d_{ij}^{2b}} . $$
#
# So each pair has a predicted probability $q$. The usual loss of a prediction is $-\log q$ if the
# pair turns out to be neighbours and $-\log(1 - q)$ if it does not. A certain prediction that is
# right has loss 0; a certain prediction that is wrong has an infinite loss. If the pair is a pair
# of neighbours with probability $p$, the expected loss is
#
# $$ -\,p \log q - (1 - p) \log(1 - q) , $$ (eq-loss-cross-entropy)
#
# the {term}`cross-entropy`. It is lowest at $q = p$ (exercise 1). Even there it is above zero,
# unless $p$ is 0 or 1: it equals the *entropy* $-p \log p - (1 - p) \log(1 - p)$. The part that
# depends on the embedding is the difference of the two. Summed over pairs, that is eq. 12 of the
# paper:
#
# $$
# C = \sum_{i,j} p_{ij} \log \frac{p_{ij}}{q_{ij}}
#   + (1 - p_{ij}) \log \frac{1 - p_{ij}}{1 - q_{ij}} .
# $$

# %% [markdown]
# ## Three points by hand
#
# Put three points on a line at 0, 1 and 3, and let $a = b = 1$. The distances are 1, 2 and 3, so
# the similarities are $q_{12} = 1/2$, $q_{23} = 1/5$ and $q_{13} = 1/10$. Let the strengths be
# given: $p_{12} = 1$, $p_{23} = 1/2$, $p_{13} = 0$. With the convention $0 \log 0 = 0$, and each
# pair counted once,
#
# $$
# \begin{aligned}
# C &= \underbrace{\log 2}_{12}
#   + \underbrace{\tfrac12 \log \tfrac{5}{2} + \tfrac12 \log \tfrac{5}{8}}_{23}
#   + \underbrace{\log \tfrac{10}{9}}_{13} \\
#   &= \log \tfrac{25}{9} \approx 1.022 .
# \end{aligned}
# $$
#
# Below, `xlogy(x, y)` is $x \log y$ with that convention built in. Plain NumPy would give NaN
# for the pair with $p = 0$. `first` and `second` list the ends of the pairs.

# %%
position = np.array([0.0, 1.0, 3.0])
first, second = np.array([0, 1, 0]), np.array([1, 2, 2])
p3 = np.array([1, 1 / 2, 0])
q3 = 1 / (1 + (position[first] - position[second]) ** 2)
assert np.allclose(q3, [1 / 2, 1 / 5, 1 / 10])

eq12 = (xlogy(p3, p3 / q3) + xlogy(1 - p3, (1 - p3) / (1 - q3))).sum()
assert np.isclose(eq12, np.log(25 / 9))
print(f"eq. 12 for three points: {eq12:.4f}")

# %% [markdown]
# ## From eq. 12 to eq. 1 and eq. 2
#
# The logarithm of a quotient is a difference, so eq. 12 splits into a part with $q$ and a part
# without. This is eq. 1:
#
# $$
# \begin{aligned}
# C = {}& \sum_{i,j} p_{ij} \log p_{ij} + (1 - p_{ij}) \log(1 - p_{ij}) \\
#   & - \sum_{i,j} \bigl[\, p_{ij} \log q_{ij} + (1 - p_{ij}) \log(1 - q_{ij}) \,\bigr] .
# \end{aligned}
# $$
#
# The first line is minus the entropy of the graph. It does not depend on the coordinates, so we
# drop it. What remains is eq. 2:
#
# $$
# \mathcal{L} = - \sum_{i,j} \bigl[\, p_{ij} \log q_{ij}
#   + (1 - p_{ij}) \log(1 - q_{ij}) \,\bigr] .
# $$
#
# The printed equations need two corrections. First, the paper writes the second sum of eq. 1 over the
# edges only. The algebra needs all pairs; otherwise non-neighbours have no loss. Second, eq. 2 and
# eq. 3 lack the square bracket. One can then read the minus sign as that of the first term. Here
# is each version for the three points; `near` and `far` are the two terms of the cross-entropy.

# %%
entropy = -(xlogy(p3, p3) + xlogy(1 - p3, 1 - p3)).sum()
near, far = -xlogy(p3, q3), -xlogy(1 - p3, 1 - q3)
eq2 = (near + far).sum()
assert np.isclose(eq12, eq2 - entropy) and np.isclose(entropy, np.log(2))
assert np.isclose(eq2, np.log(50 / 9))

edges_only, no_bracket = (near + far)[p3 > 0].sum(), (near - far).sum()
assert np.isclose(edges_only, np.log(5)) and np.isclose(no_bracket, np.log(3.6))
print(f"eq. 2 {eq2:.3f}, over edges only {edges_only:.3f}, without the bracket {no_bracket:.3f}")

# %% [markdown]
# Does a bracket matter? Plot both readings for one pair.

# %% mystnb={"image": {"alt": "Two panels. Left: three convex curves of the loss against the similarity q, for p of 0, one half and 1, each lowest where q equals p. Right: the same without the bracket; the curves for p of 0 and one half fall without limit as q approaches 1."}, "figure": {"caption": "Loss of one pair against its similarity $q$. Left: eq. 2; dots mark the lowest loss, at $q = p$. Right: eq. 2 with the minus sign on the first term only. For every $p$ below 1 it falls without limit as $q$ nears 1.", "name": "fig-loss-cross-entropy"}}
similarity = np.linspace(0.002, 0.998, 499)
fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.2), sharey=True)
for p_pair, style, color in zip((0, 0.5, 1), ("-", "--", "-."), COLORS[:3], strict=True):
    pull, push = -p_pair * np.log(similarity), -(1 - p_pair) * np.log(1 - similarity)
    axes[0].plot(similarity, pull + push, style, color=color, label=f"$p = {p_pair}$")
    axes[1].plot(similarity, pull - push, style, color=color)
    best = np.argmin(pull + push)
    assert abs(similarity[best] - p_pair) < 0.003
    axes[0].plot(similarity[best], (pull + push)[best], "o", color=color, clip_on=False)
axes[0].set(xlabel="similarity $q$", ylabel="loss of the pair", title="eq. 2", ylim=(-4, 4))
axes[1].set(xlabel="similarity $q$", title="eq. 2, no bracket")
axes[0].legend(loc="lower left")
plt.show()

# %% [markdown]
# On the left each curve is lowest at $q = p$. On the right the loss of a pair with $p < 1$ has no
# lower limit as the two points approach each other: $\log(1 - q) \to -\infty$ as $q \to 1$.
# Minimising that formula moves all points to one position, as we will see below. The authors cannot
# have meant it: their eq. 4 has the right signs.
#
# ## From distance to similarity: eq. 11
#
# Why $1/(1 + a\,d^{2b})$? The curve that we would like is simpler to state. Two points closer than
# `min_dist` should count as touching, so $q = 1$. Beyond it, $q$ should fall off exponentially over
# a length called `spread`. This target curve has a kink, so UMAP fits the smooth curve of eq. 11 to
# it by least squares, on 300 distances up to three spreads.


# %%
def target_curve(d, min_dist, spread=1.0):
    return np.where(d < min_dist, 1.0, np.exp(-(d - min_dist) / spread))


def curve(d, a, b):
    return 1 / (1 + a * d ** (2 * b))


distance = np.linspace(0, 3, 300)
fitted = {m: curve_fit(curve, distance, target_curve(distance, m))[0] for m in (0.1, 0.5, 0.99)}
a, b = map(float, fitted[0.1])

warnings.filterwarnings("ignore", message="IProgress not found")  # it is about progress bars
from umap.umap_ import find_ab_params

for min_dist, ab in fitted.items():
    assert np.allclose(ab, find_ab_params(1.0, min_dist))
    assert np.allclose(ab, rpumap.losses.fit_ab(1.0, min_dist))
pd.DataFrame(fitted, index=["a", "b"]).rename_axis(columns="min_dist").round(4)

# %% mystnb={"image": {"alt": "Two target curves, flat at 1 up to min_dist and then falling exponentially, drawn dotted, with smooth fitted curves over them for min_dist 0.1 and 0.99."}, "figure": {"caption": "The target curve (dotted) and eq. 11 fitted to it (lines), for two values of `min_dist` and a spread of 1.", "name": "fig-loss-curve"}}
fig, ax = plt.subplots(figsize=(5, 3.2))
for m, color, style in ((0.1, COLORS[0], "-"), (0.99, COLORS[5], "--")):
    ax.plot(distance, target_curve(distance, m), ":", color=color, linewidth=2.2)
    ax.plot(distance, curve(distance, *fitted[m]), style, color=color, label=f"min_dist {m}")
ax.set(
    xlabel="distance on the map $d$", ylabel="similarity $q$", title="eq. 11 and the target curve"
)
ax.legend()
plt.show()

# %% [markdown]
# The fit equals umap-learn's `find_ab_params` and the package's {func}`~rpumap.losses.fit_ab`. From
# here on, $a$ and $b$ are those of `min_dist` 0.1.
#
# ### An identity for both terms of the loss
#
# Write $a\,d^{2b} = e^{t}$, that is
#
# $$ t = \log a + b \log d^2 . $$
#
# Then $q = 1/(1 + e^{t})$. This is the logistic function, `sigmoid`, of $-t$. So $t$ is the log
# odds that two points are *not* neighbours: negative when they are close, positive when far. Both
# terms of the loss become one well-known function, $\operatorname{softplus}(t) = \log(1 + e^{t})$:
#
# $$
# \begin{aligned}
# -\log q &= \operatorname{softplus}(t) \\
# -\log(1 - q) &= \operatorname{softplus}(-t) .
# \end{aligned}
# $$
#
# The second follows from $1 - q = e^{t}/(1 + e^{t}) = 1/(1 + e^{-t})$. One problem remains. At
# $d = 0$ the log odds are $-\infty$, the repulsion is infinite, and its gradient has no
# direction. We do as umap-learn does: its repulsive step divides by $d^2 + 0.001$. We put that
# 0.001, called $\varepsilon$, into the log odds themselves, so that loss and gradient agree:
# $t = \log a + b \log(d^2 + \varepsilon)$.

# %%
EPSILON = 1e-3


def log_odds(squared):
    """Log odds t that two points are not neighbours, from their squared distance."""
    return np.log(a) + b * torch.log(squared + EPSILON)


def safe(squared):
    """Attraction and repulsion of a pair, through softplus."""
    t = log_odds(squared)
    return softplus(t), softplus(-t)


def naive(squared, least=0.0):
    """Attraction and repulsion by the formulas as printed, q held in range if asked."""
    q = 1 / (1 + a * squared.sqrt() ** (2 * b))
    q = q.clamp(least, 1 - least)
    return -torch.log(q), -torch.log(1 - q)


# %% [markdown]
# Compare them in 32-bit floating point, in which networks are trained, for points at distance `z`
# from the origin. `torch.autograd.grad` gives the slope of each term. `clamp` cuts $q$ to the range
# from $10^{-4}$ to $1 - 10^{-4}$, which is a common patch.

# %%
formulas = {"naive": naive, "clipped": lambda squared: naive(squared, 1e-4), "safe": safe}
far_away, table = (0.0, 1e-5, 1.0, 1e6), {}
for term, pair in enumerate(("attraction", "repulsion")):
    for name, formula in formulas.items():
        z = torch.tensor(far_away, requires_grad=True)
        value = formula(z.square())[term]
        table[pair, name, "value"] = value.tolist()
        table[pair, name, "slope"] = torch.autograd.grad(value.sum(), z)[0].tolist()
table = pd.DataFrame(table, index=map("{:g}".format, far_away)).T + 0.0  # turns -0 into 0
assert np.isfinite(table.xs("safe", level=1)).all(axis=None)
table.map("{:.2g}".format)

# %% [markdown]
# The naive form fails where points meet: NaN slopes, infinite values. Such pairs do occur: a cell
# may be drawn as its own negative sample, and two cells may share all their counts. One NaN makes
# every weight of a network NaN. Clipping stays NaN at distance zero. And its slope is zero at large
# distances, so a neighbour that is far away is never pulled back. The softplus form is finite in
# every row, and its slope for a far neighbour is not zero.
#
# ## Two forces, by hand
#
# How does a term of the loss move a point? By the chain rule we need two derivatives. The slope of
# softplus is the logistic function, so
#
# $$
# \begin{aligned}
# \frac{d}{dt}\operatorname{softplus}(t) &= \frac{1}{1 + e^{-t}} = 1 - q \\
# \frac{d}{dt}\operatorname{softplus}(-t) &= -\frac{1}{1 + e^{t}} = -q .
# \end{aligned}
# $$
#
# And since $d_{ij}^2 = \lVert z_i - z_j \rVert^2$ has the gradient $2 (z_i - z_j)$,
#
# $$ \nabla_{z_i} t = \frac{2b\,(z_i - z_j)}{d_{ij}^2 + \varepsilon} . $$
#
# Multiply. The gradients of the two terms with respect to $z_i$ are
#
# $$
# \nabla_{z_i} (-\log q_{ij}) = \frac{2b\,(1 - q_{ij})}{d_{ij}^2 + \varepsilon}\,(z_i - z_j)
# $$ (eq-loss-attraction)
#
# $$
# \nabla_{z_i} \bigl(-\log (1 - q_{ij})\bigr)
#   = -\frac{2b\,q_{ij}}{d_{ij}^2 + \varepsilon}\,(z_i - z_j) .
# $$ (eq-loss-repulsion)
#
# Gradient descent steps *against* the gradient. So {eq}`eq-loss-attraction` moves $z_i$ towards
# $z_j$: attraction. And {eq}`eq-loss-repulsion` moves it away: repulsion.
#
# For a whole embedding, let every pair have a weight $A_{ij}$ on its attraction and $R_{ij}$ on its
# repulsion. Every loss in this chapter is given by these two matrices.


# %%
def pull_and_push(squared):
    """Coefficients of (z_i - z_j) in the two gradients, both positive."""
    q = torch.sigmoid(-log_odds(squared))
    return 2 * b * (1 - q) / (squared + EPSILON), 2 * b * q / (squared + EPSILON)


def loss(z, A, R):
    """Sum of A times attraction and R times repulsion, each pair counted once."""
    t = log_odds((z[:, None] - z[None, :]).square().sum(-1))
    return (A * softplus(t) + R * softplus(-t)).triu(1).sum()


def gradient(z, A, R):
    """Gradient of the loss by hand, for symmetric A and R."""
    difference = z[:, None] - z[None, :]
    pull, push = pull_and_push(difference.square().sum(-1))
    return ((A * pull - R * push)[..., None] * difference).sum(1)


# %% [markdown]
# `z[:, None] - z[None, :]` holds the difference of every pair, and `triu(1)` keeps each pair once.
# The test: eight points, two of them on one spot and one far out, with random weights. Our
# gradient must equal that of automatic differentiation. `gradcheck` is a second, independent
# check: it changes each coordinate a little and takes finite differences.

# %%
draw = torch.Generator().manual_seed(0)
z = torch.randn(8, 2, dtype=torch.float64, generator=draw)
z[1], z[7] = z[0], torch.tensor([1e3, 0.0])
A, R = torch.rand(2, 8, 8, dtype=torch.float64, generator=draw)
A, R = A + A.T, R + R.T

z.requires_grad_(True)
automatic = torch.autograd.grad(loss(z, A, R), z)[0]
by_hand = gradient(z, A, R)
off = (automatic - by_hand).abs().max()
print(f"largest slope {by_hand.abs().max():.2f}, largest difference {off:.0e}")
assert off < 1e-12 and torch.autograd.gradcheck(lambda z: loss(z, A, R), z)

# %% [markdown]
# ### Where the forces balance
#
# Let one pair have attraction weight 1 and repulsion weight $w$. The forces cancel where
# $1 - q = w q$, which is $q = 1/(1 + w)$, or $e^{t} = w$. Solved for the distance,
#
# $$ d^\ast = \sqrt{(w / a)^{1/b} - \varepsilon} . $$ (eq-loss-balance)
#
# The paper's $\eta$, the *negative sample strength*, multiplies $w$. The next figure shows the
# length of both forces, which is the coefficient times $d$.

# %% mystnb={"image": {"alt": "Force against distance on logarithmic axes. Attraction rises, levels off near distance one half and falls. Three repulsion curves for weights 1, 0.1 and 0.01 fall steeply with distance; each crosses the attraction at a dot, the nearer the smaller the weight."}, "figure": {"caption": "The two forces between a pair of points. Dots mark the balance of {eq}`eq-loss-balance`: left of its dot a pair is pushed apart, right of it pulled together.", "name": "fig-loss-forces"}}
d = torch.logspace(-2.3, 1, 400, dtype=torch.float64)
pull, push = pull_and_push(d.square())
fig, ax = plt.subplots(figsize=(5.6, 3.8))
ax.loglog(d, pull * d, color=COLORS[0], linewidth=2, label="attraction")
for w, style in ((1, "-"), (0.1, "--"), (0.01, ":")):
    balance = ((w / a) ** (1 / b) - EPSILON) ** 0.5
    label = f"repulsion, $w = {w}$: $d^* = {balance:.2f}$"
    ax.loglog(d, w * push * d, style, color=COLORS[5], label=label)
    at_pull, at_push = pull_and_push(torch.tensor(balance).square())
    assert np.isclose(at_pull, w * at_push)
    ax.plot(balance, at_pull * balance, "o", color=INK, zorder=3)
ax.set(xlabel="distance on the map $d$", ylabel="force", title="Attraction and repulsion")
ax.set_ylim(1e-4, 60)
ax.legend()
plt.show()

# %% [markdown]
# ## A sample instead of a sum: eq. 3 and eq. 4
#
# Eq. 2 runs over all pairs: with $n$ cells, $n^2$ terms a step, nearly all of them for
# non-neighbours. So the paper draws a list of edges, and makes negative samples out of the same
# list. We try it on a small graph: twenty cells on a branching lineage, a stem of eight and two
# branches of six, in ten dimensions with some noise.

# %%
rng = np.random.default_rng(1)
branch = np.repeat([0, 1, 2], [8, 6, 6])
cells = rng.normal(0, 0.35, (20, 10))  # noise
cells[:8, 0] += np.arange(8)  # the stem runs along the first axis
cells[8:, 0] += 7.5  # both branches start at its end
cells[8:14, 1] += np.arange(1, 7)  # one along the second axis
cells[14:, 2] += np.arange(1, 7)  # one along the third

indices, distances = rpumap.graph.nearest_neighbors(cells, n_neighbors=4)
P = rpumap.graph.fuzzy_graph(indices, distances).toarray().astype(np.float64)
edges = np.argwhere(P > 0)  # both directions of each edge
p = P[tuple(edges.T)]
s, k = P.sum(1), (P > 0).sum(1)  # strength and number of edges of each cell
S, M = P.sum(), len(edges)
print(f"{M} directed edges, strengths {p.min():.2f} to {p.max():.2f}, S = {S:.1f}")

# %% [markdown]
# Four symbols come with it: $s_i = \sum_j p_{ij}$, the strength of a cell; $S = \sum_i s_i$;
# $k_i$, its number of edges; and $M = \sum_i k_i$. Edges are listed in both directions.
#
# **Drawing neighbours.** There are two ways to have the right average.
#
# - Draw every edge equally often and weight its attraction by $p_{ij}$. The average over the list is
#   $\frac1M \sum p_{ij} (-\log q_{ij})$. This is the *probability-based* way, eq. 3.
# - Draw an edge as often as its strength says, with probability $p_{ij}/S$, and count it as
#   certain, $p = 1$. The average is $\frac1S \sum p_{ij} (-\log q_{ij})$. This is how the package
#   reads the *graph-based* way, eq. 4, and how UMAP itself draws its edges.
#
# Both equal the first term of eq. 2, up to a constant that only rescales the loss. The paper does
# not say how its list is drawn. If edges were drawn uniformly *and* counted as one, their
# strengths would not be used at all.
#
# **Drawing non-neighbours.** Now take the drawn list, and pair each head with the tail of another
# edge: permute the tails. These pairs are the {term}`negative samples <Negative sample>`. A fast
# permutation is a shift by one row, by two, up to $m = 5$. Why is that random enough? The edges
# were drawn independently. So the head of one and the tail of another are independent too, whatever
# fixed rearrangement one takes. A shift even has an advantage: no edge keeps its own tail. The pair
# $(i, j)$ comes up with probability $s_i s_j / S^2$, or $k_i k_j / M^2$ under uniform drawing. Few
# such pairs are edges (we will count them), so set $p = 0$ for all. This is eq. 3, its brackets in
# place:
#
# $$
# \begin{aligned}
# \mathcal{L} = {}& - \sum_{(i,j) \in E} \bigl[\, p_{ij} \log q_{ij}
#     + (1 - p_{ij}) \log(1 - q_{ij}) \,\bigr] \\
#   & - \eta \sum_{(i,j) \notin E} \log(1 - q_{ij}) .
# \end{aligned}
# $$
#
# $E$ is the drawn list and $\notin E$ its permuted copies, $m$ for each edge. The paper's sum over
# negative samples keeps its $p_{ij}$, which is zero there. Set $p_{ij} = 1$ on the edges, and the
# second term of the first line goes. This is eq. 4:
#
# $$
# \mathcal{L} = - \sum_{(i,j) \in E} \log q_{ij} - \eta \sum_{(i,j) \notin E} \log(1 - q_{ij}) .
# $$
#
# In code, for fixed coordinates `z20`, the first two principal components of the twenty cells.
# `attract` and `repel` hold both terms of every pair; `np.roll` shifts the list.

# %%
centred = cells - cells.mean(0)
z20 = torch.as_tensor(centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T)
squared = (z20[:, None] - z20[None, :]).square().sum(-1)
attract, repel = (term.numpy() for term in safe(squared))


def sampled_loss(weighting, n_edges, rng, m=5):
    """Both terms of eq. 3 or eq. 4 for a freshly drawn list, averaged over the edges."""
    chance = p / S if weighting == "graph" else np.full(M, 1 / M)
    drawn = rng.choice(M, n_edges, p=chance)
    heads, tails = edges[drawn].T
    positive = attract[heads, tails]
    if weighting == "probability":
        positive = p[drawn] * positive + (1 - p[drawn]) * repel[heads, tails]
    negative = sum(repel[heads, np.roll(tails, shift)].mean() for shift in range(1, m + 1))
    return positive.mean(), negative


# %% [markdown]
# Draw 400 lists of 1,000 edges each and compare their mean with the sums over all pairs. The
# difference should be within a few standard errors.

# %%
on_edges = P * attract + (P > 0) * (1 - P) * repel
expected = {
    "graph": ((P * attract).sum() / S, 5 * s @ repel @ s / S**2),
    "probability": (on_edges.sum() / M, 5 * k @ repel @ k / M**2),
}
table = {}
for weighting, exact in expected.items():
    runs = np.array([sampled_loss(weighting, 1000, rng) for _ in range(400)])
    error = runs.std(0) / np.sqrt(len(runs))
    assert (np.abs(runs.mean(0) - exact) < 4 * error).all()
    for column, term in enumerate(("edges", "negative samples")):
        table[weighting, term] = runs.mean(0)[column], error[column], exact[column]
pd.DataFrame(table, index=["sampled", "standard error", "all pairs"]).T.round(4)

# %% [markdown]
# ## What the sample really minimises
#
# The sampled loss has an exact average. But is that average eq. 2? The attraction is. The
# repulsion is not. Multiply the averages above by $S$ (graph-based) or $M$ (probability-based),
# and read off the weight $R_{ij}$ that each pair has on its repulsion:
#
# $$
# \begin{aligned}
# \text{eq. 2:} \quad & R_{ij} = 1 - p_{ij} \\
# \text{eq. 4:} \quad & R_{ij} = r_{ij} = \eta m\, s_i s_j / S \\
# \text{eq. 3:} \quad & R_{ij} = (1 - p_{ij})\,[\text{edge}] + \eta m\, k_i k_j / M
# \end{aligned}
# $$
#
# The attraction has $A_{ij} = p_{ij}$ throughout, and $[\text{edge}]$ is 1 on edges, 0
# elsewhere. In eq. 2 the repulsion weights add up to nearly $n^2$. In eq. 4 they add up to
# $\eta m S$: with $\eta = 1$, five negative samples for each edge. $S$ grows only like $n$. So the
# more cells, the weaker the repulsion that UMAP applies compared with the one in its definition.
# {cite:t}`damrich2021umap` showed this for umap-learn, which draws its negative samples uniformly.
#
# What follows? By the balance of forces, the loss of a pair with weights $A$ and $R$ is lowest at
# $q^\ast = A/(A + R)$. Call it the *target* of the pair:
#
# $$
# \begin{aligned}
# \text{eq. 2:} \quad & q^\ast = p_{ij} \\
# \text{eq. 4:} \quad & q^\ast = p_{ij} / (p_{ij} + r_{ij}) \\
# \text{eq. 3:} \quad & q^\ast = p_{ij} / (1 + r'_{ij})
# \end{aligned}
# $$ (eq-loss-target)
#
# with $r'_{ij} = \eta m\, k_i k_j / M$ in the last. In a large data set $r$ and $r'$ are small.
# Then the target of eq. 3 is still $q \approx p$, but that of eq. 4 is $q \approx 1$ on every edge
# that is much stronger than $r$. The strength then hardly determines how close two cells should be,
# only how strong their attraction is. This is the main difference between the two weightings.
#
# ## Twenty points under six losses
#
# We run plain gradient descent with the gradient by hand and the weights just derived, no network,
# no sampling. All runs start from the principal components, and the step shrinks linearly to zero.
# Twenty points have few non-neighbours, so $\eta = 1$ would give weights near those of eq. 2. We
# take $\eta = 0.1$.

# %%
P20, edge = torch.as_tensor(P), torch.as_tensor(P > 0).double()  # edge: 1 on edges
r4 = torch.as_tensor(0.1 * 5 * np.outer(s, s) / S)
r3 = torch.as_tensor(0.1 * 5 * np.outer(k, k) / M)
losses = {
    "attraction alone": (P20, 0 * P20),
    "repulsion alone": (0 * P20, 1 - P20),
    "eq. 2, no bracket": (P20, P20 - 1),
    "eq. 2": (P20, 1 - P20),
    "eq. 3": (P20, edge * (1 - P20) + r3),
    "eq. 4": (P20, r4),
}


# %%
def descend(A, R, z, n_steps=4000, rate=0.03):
    for step in range(n_steps):
        z = z - rate * (1 - step / n_steps) * gradient(z, A, R)
    return z


layouts = {name: descend(A, R, z20) for name, (A, R) in losses.items()}

# %% mystnb={"image": {"alt": "Six small maps of twenty points in three branch colours, joined by edges. Attraction alone and eq. 2 without its bracket shrink to a spot, repulsion alone stretches the tree, and eq. 2, 3 and 4 show three branches."}, "figure": {"caption": "Twenty points of a branching lineage under six losses. Line width is edge strength; each title gives the largest distance on the map. Colours are the stem and two branches.", "name": "fig-loss-toy"}}
fig, axes = plt.subplots(2, 3, figsize=(6.4, 4.8))
once = edges[edges[:, 0] < edges[:, 1]]
for ax, (name, layout) in zip(axes.flat, layouts.items(), strict=True):
    centre = (layout - (layout.amax(0) + layout.amin(0)) / 2).numpy()
    for i, j in once:
        ax.plot(*centre[[i, j]].T, color=INK, linewidth=0.3 + 2 * P[i, j], alpha=0.6)
    ax.scatter(*centre.T, s=22, color=[COLORS[c] for c in branch], zorder=2)
    width = torch.cdist(layout, layout).max().item()
    reach = max(1.0, 0.6 * width)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
    ax.set_title(f"{name}\n{width:.1f} wide", fontsize=11)
    ax.spines[["top", "right"]].set_visible(True)
plt.show()

# %% [markdown]
# `once` lists each edge in one direction only. Does a map show the strengths? Compute the rank
# correlation of strength with length on the map: -1 if every stronger edge is shorter.

# %%
strength = P[tuple(once.T)]
table = {}
for name in ("eq. 2", "eq. 3", "eq. 4"):
    length = (layouts[name][once[:, 0]] - layouts[name][once[:, 1]]).norm(dim=1).numpy()
    table[name] = np.median(length), spearmanr(strength, length).statistic
table = pd.DataFrame(table, index=["median length", "rank correlation"]).T
table.round(2)

# %% tags=["remove-cell"]
assert (table.idxmin() == ["eq. 4", "eq. 3"]).all() and (table["rank correlation"] < 0).all()

# %% [markdown]
# Attraction alone moves all points to one position. Repulsion alone stretches every edge, until the
# points are so far apart that the force is close to zero. Eq. 2 without its bracket collapses, as
# predicted: its second term is lower for closer points. The three correct losses keep the branches.
# Eq. 3 orders edges best: its rank correlation is the strongest. Eq. 4 draws edges shortest. It
# still draws weak edges longer than strong ones, though their targets differ less than in eq. 3:
# the attraction of a weak edge is small compared with the repulsion from all other points.
#
# ## The same in the package
#
# {mod}`rpumap.losses` holds what you have just derived. {func}`~rpumap.losses.umap_loss` takes the
# ends of a drawn list, one column an edge, and returns both terms as `sampled_loss` does. Its
# `repulsion_strength` is $\eta$.

# %%
t = rpumap.losses.log_odds(squared, a, b)
assert torch.equal(t, log_odds(squared))
assert np.allclose(rpumap.losses.attraction(t), attract)
assert np.allclose(rpumap.losses.repulsion(t), repel)

for weighting, chance in (("graph", p / S), ("probability", np.full(M, 1 / M))):
    drawn = np.random.default_rng(5).choice(M, 500, p=chance)  # as in the call below
    heads, tails = edges[drawn].T
    strengths = torch.as_tensor(p[drawn]) if weighting == "probability" else None
    terms = rpumap.losses.umap_loss(z20[heads].T, z20[tails].T, a, b, p=strengths)
    assert np.allclose(terms, sampled_loss(weighting, 500, np.random.default_rng(5)))
    print("{}: edges {:.4f}, negative samples {:.4f}".format(weighting, *terms))

# %% [markdown]
# ## Real cells
#
# Now a whole data set: the developing mouse pancreas of {cite:t}`bastidasponce2019`, or, where the
# file is not found, simulated cells. Genes and graph are made as in the last chapter.

# %%
adata = rpumap.datasets.pancreas()
X = rpumap.Preprocessor(n_top_genes=300).fit_transform(adata)
graph = rpumap.graph.fuzzy_graph(*rpumap.graph.nearest_neighbors(X, n_neighbors=15))
about_cells = describe_cells(adata)
edge_list = graph.tocoo()
p, heads, tails = edge_list.data.astype(np.float64), edge_list.row, edge_list.col
n, M, S = len(X), len(p), p.sum()
s, k = np.bincount(heads, p, n), np.bincount(heads, minlength=n)

uniform, permuted, itself = M / n**2, (s[heads] * s[tails]).sum() / S**2, (s @ s) / S**2
print(f"{about_cells}: {n} cells, {M} directed edges, mean strength {p.mean():.2f}")
print(f"edges among pairs: {uniform:.2%} drawn uniformly, {permuted:.2%} permuted")
print(f"permuted pairs of a cell with itself: {itself:.2%}")

# %% tags=["remove-cell"]
assert uniform < permuted < 0.1

# %% [markdown]
# `bincount` sums the strengths of each cell, and counts its edges. The assumption behind the
# negative samples holds: few random pairs are edges. It holds less well for permuted edges than for
# uniform pairs. The reason is hubs. A cell with many edges comes up often as a head and often as a
# tail, so two hubs are paired often, and they are likelier to be joined than two random cells. A
# cell drawn as its own negative sample has no effect: its repulsion is constant, and its force
# zero.
#
# What is the target of each loss on these edges? Compute {eq}`eq-loss-target` with $\eta = 1$ and
# $m = 5$, and the mean weight of the repulsion of a non-neighbour.

# %%
r = 5 * s[heads] * s[tails] / S
r_uniform = 5 * k[heads] * k[tails] / M
targets = {
    "eq. 2: $p$": p,
    "eq. 3: $p / (1 + r')$": p / (1 + r_uniform),
    "eq. 4: $p / (p + r)$": p / (p + r),
}
print(f"mean weight of a non-neighbour: {1 - S / n**2:.3f} in eq. 2, {5 * S / n**2:.4f} in eq. 4")
table = {name[:5]: (np.median(q), (q > 0.9).mean()) for name, q in targets.items()}
pd.DataFrame(table, index=["median target", "share above 0.9"]).T.round(2)

# %% tags=["remove-cell"]
assert 5 * S / n**2 < 0.5 * (1 - S / n**2)
assert np.median(p / (p + r)) > 2 * np.median(p)

# %% mystnb={"image": {"alt": "Three outlined histograms of the target similarity of every edge. Those of eq. 2 and eq. 3 have most edges below one half; that of eq. 4 piles up close to 1."}, "figure": {"caption": "The similarity $q^\\ast$ at which the loss of each edge is lowest, under the full loss (eq. 2) and under the two sampled losses.", "name": "fig-loss-targets"}}
fig, ax = plt.subplots(figsize=(5.6, 3.5))
for (name, target), color, style in zip(targets.items(), COLORS[:3], ("--", ":", "-"), strict=True):
    share, bins = np.histogram(target, 25, range=(0, 1))
    ax.stairs(share / M, bins, color=color, linestyle=style, linewidth=2, label=name)
ax.set(xlabel="target similarity $q^*$", ylabel="share of edges")
ax.set_title(f"Targets of the edges, {about_cells}")
ax.legend(loc="upper center")
plt.show()

# %% [markdown]
# The strengths themselves are mostly small, and the targets of eq. 3 are close to them. The targets
# of eq. 4 are close to 1 for most pairs with an edge, however weak the edge. They depend on
# *whether* two cells are neighbours, and hardly on *how strong* their edge is.
# {cite:t}`damrich2021umap` found the same of umap-learn. The printed weights show what else
# sampling changes: most of the repulsion of eq. 2 is left out. Minimising eq. 2 itself would be a
# different method.
#
# ## What can go wrong
#
# - **Comparing losses.** They are on one scale only for the same $\eta$, $m$ and weighting. A lower
#   number need not be a better embedding.
# - **A lost bracket or exponent.** A test with exact numbers, like the three points, finds it.
# - **NaN.** Keep squared distances throughout, as `log_odds` does.
#
# ```{admonition} In other implementations
# :class: note
#
# The formulas are short, and yet easy to get wrong. In the ParametricUMAP of umap-learn, since
# its pull request 856, a log-sigmoid is applied to what is already a log probability. The
# similarity that enters the loss is then q / (1 + q), never more than one half, and
# `repulsion_strength` has no effect. The repulsion of two points at the same position is log 2 at most. In parametric-umap 0.2.0 the
# similarity lacks the power 2b. NaN losses reported for several programs come from the slope of a
# norm at distance zero.
# ```
#
# ## Take-aways
#
# - The loss is the cross-entropy between the edge strengths $p_{ij}$ and the similarities $q_{ij}$ of
#   the embedding. Eq. 2 is eq. 12 without a constant.
# - With $t = \log a + b \log(d^2 + \varepsilon)$, the attraction of a pair is
#   $\operatorname{softplus}(t)$ and its repulsion $\operatorname{softplus}(-t)$. No overflow, no
#   NaN.
# - The gradient of attraction is $2b(1-q)(z_i - z_j)/(d^2 + \varepsilon)$, that of repulsion the same
#   with $-q$ in place of $1 - q$.
# - On average, sampling keeps the attraction of eq. 2 exactly. It scales the repulsion down by a
#   factor that grows with the number of cells.
# - The target of an edge is $q \approx p$ under eq. 3. Under eq. 4 it is near 1 for most edges, weak
#   ones included.
#
# ## On your own
#
# **1. The minimum.** Show that the cross-entropy {eq}`eq-loss-cross-entropy` is lowest at $q = p$,
# and that its excess over that minimum is one term of eq. 12.
#
# ```{admonition} Solution
# :class: dropdown
#
# The derivative with respect to q is -p/q + (1 - p)/(1 - q). It is zero when p (1 - q) = q (1 - p),
# that is at q = p. The second derivative, p/q² + (1 - p)/(1 - q)², is positive, so this is the
# minimum. There the cross-entropy is -p log p - (1 - p) log(1 - p), the entropy. Subtract it: what remains
# is p log(p/q) + (1 - p) log((1 - p)/(1 - q)), which is a term of eq. 12. Hence eq. 12 is never
# negative, and is zero only for an embedding with q = p for every pair.
# ```
#
# **2. The closest neighbours.** An edge has strength 1, and its repulsion weight is $r = 0.01$. At
# which distance is its loss lowest, for `min_dist` 0.1 and for 0.5? Which setting shows single
# cells apart, if the map is 20 wide?
#
# ```{admonition} Solution
# :class: dropdown
#
# By {eq}`eq-loss-balance` with w = r/p = 0.01:
#
#     for m in (0.1, 0.5):
#         a_m, b_m = fitted[m]
#         print(m, ((0.01 / a_m) ** (1 / b_m) - 0.001) ** 0.5)
#
# prints 0.050 for min_dist 0.1 and 0.216 for 0.5. At 20 units across and 400 dots on a screen, one
# dot is 0.05 units: the first merges linked cells into one dot, the second keeps them four apart.
# ```
#
# **3. Uniform negative samples.** Suppose that the tails of the negatives were drawn uniformly from
# all $n$ cells. Find the weight $r_{ij}$ for the graph-based way. Which cell is repelled more than
# under permutation: a hub or a cell with weak edges?
#
# ```{admonition} Solution
# :class: dropdown
#
# The head is cell i with probability s_i / S, the tail is cell j with probability 1/n. Multiplied
# by m S, the ordered pair has weight m s_i / n. The pair also comes up as (j, i), and the force
# does not depend on the order, so the mean of both counts: r_ij = m (s_i + s_j) / (2n). Under
# permutation it is m s_i s_j / S. A cell with weak edges (small s_i) among average cells
# (s_j = S/n) has m s_i / n
# under permutation and m (s_i + S/n) / (2n), which is more, when drawn uniformly. Between hubs it
# is the other way round: the product exceeds the mean. The sum of all weights is m S in both.
# ```
#
# **4. Strength of repulsion.** Lay out the twenty points under eq. 4 with $\eta$ of 0.02, 0.1 and 1. How
# do the width of the map and the length of a median edge change? Explain the direction.
#
# ```{admonition} Solution
# :class: dropdown
#
# Scale the matrix of weights, which holds eta = 0.1 already:
#
#     for eta in (0.02, 0.1, 1.0):
#         layout = descend(P20, eta / 0.1 * r4, z20)
#         edge_length = (layout[once[:, 0]] - layout[once[:, 1]]).norm(dim=1)
#         print(eta, torch.cdist(layout, layout).max().item(), edge_length.median().item())
#
# The map is 1.5, 3.0 and 8.6 wide, and a median edge 0.17, 0.35 and 0.94 long. The loss of
# one pair alone is lowest at e^t = r / p, which grows with eta, so its distance grows about like eta to the power
# 1/(2b). A whole map, in which all pairs attract or repel each other, grows in the same direction.
# ```
#
# ## In practice
#
# - Start with the graph-based loss and $\eta = 1$. This is closest to umap-learn.
#   `rpumap.ParametricUMAP(weighting="probability")` selects eq. 3.
# - Raise `min_dist` to keep linked cells apart, and vary `repulsion_strength` between tight
#   and spread-out branches. {cite:t}`boehm2022attraction` describe a spectrum of such settings that
#   joins several methods.
# - Read small distances on a graph-based map with caution: its targets hardly depend on the
#   strength of an edge.
# - Watch both terms of the loss, which `history_` keeps, rather than their sum only.
#
# ## Further reading
#
# - {cite:t}`zhang2023robust`: the paper whose equations this chapter follows.
# - {cite:t}`mcinnes2018umap`: the theory behind the cross-entropy, and the sampled algorithm.
# - {cite:t}`sainburg2021parametric`: the same loss with a network in place of free points.
# - {cite:t}`damrich2021umap`: what UMAP's sampled loss really minimises.
# - {cite:t}`boehm2022attraction`: neighbour embeddings as a balance of two forces.
#
# Next, in [Training](03_training), a network computes the coordinates, and stochastic gradient
# descent changes its weights.
