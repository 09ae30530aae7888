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
# [The last chapter](01_fuzzy_graph) turned cells into a graph: which cells are close, and how
# strongly they are connected. How do we measure how badly an embedding represents that graph? The
# loss does it by two terms: one pulls neighbours together, one pushes non-neighbours apart. What does
# each of them do to a map, and what changes if only a sample of the pairs is used?

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy.optimize import curve_fit, minimize_scalar
from scipy.special import xlogy
from scipy.stats import spearmanr
from torch.nn.functional import softplus

import rpumap
from rpumap.chapters.comparison import describe_cells
from rpumap.chapters.display import say
from rpumap.chapters.style import use_style
from rpumap.plotting import COLORS, INK, MARKERS

use_style()

# %% tags=["hide-input"] mystnb={"image": {"alt": "Six small maps of twenty points, joined by edges: dots for the stem, triangles and squares for two branches. Attraction alone and eq. 2 without its bracket shrink to a spot, repulsion alone stretches the tree, and eq. 2, 3 and 4 show three branches."}, "figure": {"caption": "Twenty points of a branching lineage (dots: the stem; triangles and squares: two branches) under six losses: each of the two terms alone; eq. 2 of the paper {cite:p}`zhang2023robust` as it is printed, without a bracket, and with it; and its two sampled versions, eq. 3 and eq. 4. Line width is edge strength; each title gives the largest distance on the map.", "name": "fig-loss-toy"}}
branch = np.repeat([0, 1, 2], [8, 6, 6])
cells = np.random.default_rng(1).normal(0, 0.35, (20, 10))  # noise
cells[:8, 0] += np.arange(8)  # the stem runs along the first axis
cells[8:, 0] += 7.5  # both branches start at its end
cells[8:14, 1] += np.arange(1, 7)  # one along the second axis
cells[14:, 2] += np.arange(1, 7)  # one along the third
neighbors = rpumap.graph.nearest_neighbors(cells, n_neighbors=4)
P = rpumap.graph.fuzzy_graph(*neighbors).toarray().astype(np.float64)

centred = cells - cells.mean(0)
components = np.linalg.svd(centred, full_matrices=False)[2][:2]
z20 = torch.as_tensor(centred @ components.T)  # where descent starts

p20, on_edge = torch.as_tensor(P), torch.as_tensor(P > 0).double()
s20, k20 = p20.sum(1), on_edge.sum(1)
r3 = 0.5 * torch.outer(k20, k20) / k20.sum()
r4 = 0.5 * torch.outer(s20, s20) / s20.sum()
names = ["attraction alone", "repulsion alone", "eq. 2, no bracket"]
names += ["eq. 2", "eq. 3", "eq. 4"]
pulls = torch.stack([p20, 0 * p20, p20, p20, p20, p20])
pushes = [0 * p20, 1 - p20, p20 - 1, 1 - p20, on_edge * (1 - p20) + r3, r4]
pushes = torch.stack(pushes)

maps = z20.repeat(6, 1, 1).requires_grad_()
for step in range(4000):
    squared = (maps[:, :, None] - maps[:, None]).square().sum(-1)
    t = rpumap.losses.log_odds(squared, *rpumap.losses.fit_ab())
    total = (pulls * softplus(t) + pushes * softplus(-t)).triu(1).sum()
    (slope,) = torch.autograd.grad(total, maps)
    maps.data -= 0.03 * (1 - step / 4000) * slope
opening = dict(zip(names, maps.detach(), strict=True))
once = np.argwhere(np.triu(P) > 0)  # each edge in one direction

fig, axes = plt.subplots(2, 3, figsize=(5, 4.4))
for ax, (name, layout) in zip(axes.flat, opening.items(), strict=True):
    middle = (layout.amax(0) + layout.amin(0)) / 2
    centre = (layout - middle).numpy()
    for i, j in once:
        ends = centre[[i, j]].T
        ax.plot(*ends, color=INK, linewidth=0.3 + 2 * P[i, j], alpha=0.6)
    for kind in range(3):
        look = {"color": COLORS[kind], "marker": MARKERS[kind], "zorder": 2}
        ax.scatter(*centre[branch == kind].T, s=20, **look)
    width = torch.cdist(layout, layout).max().item()
    reach = max(1.0, 0.6 * width)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    ax.set(xticks=[], yticks=[], title=f"{name}\n{width:.1f} wide")
    ax.spines[["top", "right"]].set_visible(True)
plt.show()

# %% tags=["remove-input"]
wide = {name: torch.cdist(z, z).max().item() for name, z in opening.items()}
strengths = P[tuple(once.T)]
order = {}
for name in ("eq. 2", "eq. 3", "eq. 4"):
    lengths = (opening[name][once[:, 0]] - opening[name][once[:, 1]]).norm(
        dim=1
    )
    order[name] = spearmanr(strengths, lengths.numpy()).statistic
best = min(order, key=order.get)
say(f"""
Attraction alone moves all points to one position: the map is
{wide["attraction alone"]:.1f} wide. Repulsion alone stretches every edge
({wide["repulsion alone"]:.1f}). Eq. 2 without its bracket collapses too
({wide["eq. 2, no bracket"]:.1f}). With both terms, and the right signs, three
maps show the stem and its two branches. They differ in size, and in how well
lengths show strengths: the rank correlation between the strength of an edge
and its length is {order["eq. 2"]:.2f} under eq. 2, {order["eq. 3"]:.2f} under
eq. 3 and {order["eq. 4"]:.2f} under eq. 4. It is closest to -1, where every
stronger edge would be shorter, under {best}.
""")

# %% [markdown]
# ## What you will learn
#
# After this chapter you can
#
# - compute the loss of a small embedding by hand, and correct the slips in the paper's eq. 1 to 3;
# - derive the forces of attraction and repulsion, and check a gradient by automatic differentiation;
# - write both terms so that neither their values nor their slopes become infinite or NaN;
# - derive which weight a way of sampling puts on each pair, and which similarity results;
# - decide between the probability-based and the graph-based weighting.
#
# **You need** [the fuzzy graph](01_fuzzy_graph), or at least its result, the edge strengths $p_{ij}$;
# derivatives and logarithms (natural ones throughout); NumPy, and a little PyTorch.
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
# the {term}`cross-entropy`. It is lowest at $q = p$ ({ref}`exercise <ex-loss-minimum>`). Even there it is above zero,
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
# for the pair with $p = 0$.

# %%
position = np.array([0.0, 1.0, 3.0])
first, second = np.array([0, 1, 0]), np.array([1, 2, 2])
p3 = np.array([1, 1 / 2, 0])
q3 = 1 / (1 + (position[first] - position[second]) ** 2)

certain = xlogy(p3, p3 / q3)
eq12 = (certain + xlogy(1 - p3, (1 - p3) / (1 - q3))).sum()
print(f"eq. 12 for three points: {eq12:.4f}")

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Show the check", "code_prompt_hide": "Hide the check"}
assert np.allclose(q3, [1 / 2, 1 / 5, 1 / 10])
assert np.isclose(eq12, np.log(25 / 9))

# %% [markdown]
# ## From eq. 12 to eq. 1 and eq. 2
#
# The logarithm of a quotient is a difference, so eq. 12 splits into a part with $q$ and a part
# without. This is eq. 1:
#
# $$
# \begin{aligned}
# C = {}& \sum_{i,j} p_{ij} \log p_{ij} + (1 - p_{ij}) \log(1 - p_{ij}) \\
#   & - \sum_{i,j} p_{ij} \log q_{ij} \\
#   & - \sum_{i,j} (1 - p_{ij}) \log(1 - q_{ij}) .
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
edges_only = (near + far)[p3 > 0].sum()
no_bracket = (near - far).sum()
print(f"eq. 2: {eq2:.3f}, and eq. 12 plus entropy: {eq12 + entropy:.3f}")
print(f"over edges only {edges_only:.3f}, no bracket {no_bracket:.3f}")

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Show the check", "code_prompt_hide": "Hide the check"}
assert np.isclose(eq12, eq2 - entropy) and np.isclose(entropy, np.log(2))
assert np.isclose(eq2, np.log(50 / 9)) and np.isclose(edges_only, np.log(5))
assert np.isclose(no_bracket, np.log(3.6))

# %% [markdown]
# Plot both readings for one pair.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels. Left: three convex curves of the loss against the similarity q, for p of 0, one half and 1, each lowest where q equals p. Right: the same without the bracket; the curves for p of 0 and one half fall without limit as q approaches 1."}, "figure": {"caption": "Loss of one pair against its similarity $q$. Left: eq. 2; dots mark the lowest loss, at $q = p$. Right: eq. 2 with the minus sign on the first term only. For every $p$ below 1 it falls without limit as $q$ nears 1.", "name": "fig-loss-cross-entropy"}}
similarity = np.linspace(0.002, 0.998, 499)
fig, axes = plt.subplots(1, 2, figsize=(5, 3.4), sharey=True)
looks = zip((0, 0.5, 1), ("-", "--", "-."), COLORS[:3], strict=True)
for p_pair, style, color in looks:
    pull = -p_pair * np.log(similarity)
    push = -(1 - p_pair) * np.log(1 - similarity)
    both, label = pull + push, f"$p = {p_pair}$"
    axes[0].plot(similarity, both, style, color=color, label=label)
    axes[1].plot(similarity, pull - push, style, color=color)
    best = np.argmin(both)
    assert abs(similarity[best] - p_pair) < 0.003
    dot = {"color": color, "clip_on": False}
    axes[0].plot(similarity[best], both[best], "o", **dot)
axes[0].set(ylabel="loss of the pair", title="eq. 2", ylim=(-4, 4))
axes[1].set(title="eq. 2, no bracket")
for ax in axes:
    ax.set(xlabel="similarity $q$", xticks=(0, 0.5, 1))
fig.legend(loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# On the left each curve is lowest at $q = p$. On the right the loss of a pair with $p < 1$ has no
# lower limit as the two points approach each other: $\log(1 - q) \to -\infty$ as $q \to 1$.
# Minimising that formula moves all points to one position, as {numref}`fig-loss-toy` shows. The authors cannot
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
fitted = {}
for m in (0.1, 0.5, 0.99):
    fitted[m], _ = curve_fit(curve, distance, target_curve(distance, m))
a, b = map(float, fitted[0.1])
fits = pd.DataFrame(fitted, index=["a", "b"])
fits.rename_axis(columns="min_dist").round(4)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Show the check", "code_prompt_hide": "Hide the check"}
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about progress bars
    from umap.umap_ import find_ab_params

for min_dist, ab in fitted.items():
    assert np.allclose(ab, find_ab_params(1.0, min_dist))
    assert np.allclose(ab, rpumap.losses.fit_ab(1.0, min_dist))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two target curves, flat at 1 up to min_dist and then falling exponentially, drawn dotted, with smooth fitted curves over them for min_dist 0.1 and 0.99."}, "figure": {"caption": "The target curve (dotted) and eq. 11 fitted to it (lines), for two values of `min_dist` and a spread of 1.", "name": "fig-loss-curve"}}
fig, ax = plt.subplots(figsize=(5, 3.4))
for m, color, style in ((0.1, COLORS[0], "-"), (0.99, COLORS[5], "--")):
    wanted, label = target_curve(distance, m), f"min_dist {m}"
    ax.plot(distance, wanted, ":", color=color, linewidth=2.2)
    ax.plot(
        distance, curve(distance, *fitted[m]), style, color=color, label=label
    )
ax.set(xlabel="distance on the map $d$", ylabel="similarity $q$")
ax.set_title("eq. 11 and the target curve")
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
# constant, called $\varepsilon$, into the log odds themselves, so that loss and gradient agree:
# $t = \log a + b \log(d^2 + \varepsilon)$.

# %%
EPSILON = 1e-3


def log_odds(squared):
    """Log odds t of no edge, from the squared distance of two points."""
    return np.log(a) + b * torch.log(squared + EPSILON)


def safe(squared):
    """Attraction and repulsion of a pair, through softplus."""
    t = log_odds(squared)
    return softplus(t), softplus(-t)


# %% [markdown]
# For comparison, both terms as they are printed. `clamp` cuts $q$ to a range, which is a common patch:
# from $10^{-4}$ to $1 - 10^{-4}$ below.


# %%
def naive(squared, least=0.0):
    """Attraction and repulsion of a pair, without softplus."""
    q = 1 / (1 + a * squared.sqrt() ** (2 * b))
    q = q.clamp(least, 1 - least)
    return -torch.log(q), -torch.log(1 - q)


def clipped(squared):
    return naive(squared, least=1e-4)


# %% [markdown]
# Compare them in 32-bit floating point, in which networks are trained, for points at distance `z`
# from the origin. `torch.autograd.grad` gives the slope of each term.

# %%
far_away, table = (0.0, 1e-5, 1e6), {}
for k, term in enumerate(("attraction", "repulsion")):
    for formula in (naive, clipped, safe):
        z = torch.tensor(far_away, requires_grad=True)
        value = formula(z.square())[k]
        slope = torch.autograd.grad(value.sum(), z)[0]
        row = [value[0].item(), *slope.tolist()]
        table[f"{term}, {formula.__name__}"] = row
columns = ["value at 0", *(f"slope at {at:g}" for at in far_away)]
table = pd.DataFrame(table, index=columns).T + 0.0  # turns -0 into 0
table.map("{:.2g}".format)

# %% tags=["remove-cell"]
safe_rows = table.loc[["attraction, safe", "repulsion, safe"]]
assert np.isfinite(safe_rows).all(axis=None)
assert safe_rows.iloc[0, -1] > 0
assert table["slope at 0"].isna().sum() == 4
assert table.loc["attraction, clipped", "slope at 1e+06"] == 0

# %% [markdown]
# The naive form fails where points meet: infinite values and NaN slopes. Such pairs do occur: a cell
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
# \begin{aligned}
# & \nabla_{z_i} (-\log q_{ij}) \\
# & \quad = \frac{2b\,(1 - q_{ij})}{d_{ij}^2 + \varepsilon}\,(z_i - z_j)
# \end{aligned}
# $$ (eq-loss-attraction)
#
# $$
# \begin{aligned}
# & \nabla_{z_i} \bigl(-\log (1 - q_{ij})\bigr) \\
# & \quad = -\frac{2b\,q_{ij}}{d_{ij}^2 + \varepsilon}\,(z_i - z_j) .
# \end{aligned}
# $$ (eq-loss-repulsion)
#
# Gradient descent steps *against* the gradient. So {eq}`eq-loss-attraction` moves $z_i$ towards
# $z_j$: attraction. And {eq}`eq-loss-repulsion` moves it away: repulsion.
#
# For a whole embedding, let every pair have a weight $A_{ij}$ on its attraction and $R_{ij}$ on its
# repulsion. Every loss in this chapter is given by these two matrices. `z[:, None] - z[None, :]` holds
# the difference of every pair, and `triu(1)` keeps each pair once.


# %%
def pull_and_push(squared):
    """Coefficients of (z_i - z_j) in the two gradients, both positive."""
    q, over = torch.sigmoid(-log_odds(squared)), squared + EPSILON
    return 2 * b * (1 - q) / over, 2 * b * q / over


def gradient(z, A, R):
    """Gradient of the loss by hand, for symmetric A and R."""
    difference = z[:, None] - z[None, :]
    pull, push = pull_and_push(difference.square().sum(-1))
    return ((A * pull - R * push)[..., None] * difference).sum(1)


# %%
def loss(z, A, R):
    """A times attraction plus R times repulsion, each pair counted once."""
    t = log_odds((z[:, None] - z[None, :]).square().sum(-1))
    return (A * softplus(t) + R * softplus(-t)).triu(1).sum()


# %% [markdown]
# The test: eight points, two of them on one spot and one far out, with random weights. Our
# gradient must equal that of automatic differentiation. (A second check, folded, takes finite
# differences.)

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
print(f"largest slope {by_hand.abs().max():.2f}, difference {off:.0e}")
assert off < 1e-12

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Show the check", "code_prompt_hide": "Hide the check"}
assert torch.autograd.gradcheck(lambda z: loss(z, A, R), z)

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

# %% tags=["hide-input"] mystnb={"image": {"alt": "Force against distance on logarithmic axes. Attraction rises, levels off near distance one half and falls. Three repulsion curves for weights 1, 0.1 and 0.01 fall steeply with distance; each crosses the attraction at a dot, the nearer the smaller the weight."}, "figure": {"caption": "The two forces between a pair of points. Dots mark the balance of {eq}`eq-loss-balance`: left of its dot a pair is pushed apart, right of it pulled together.", "name": "fig-loss-forces"}}
d = torch.logspace(-2.3, 1, 400, dtype=torch.float64)
pull, push = pull_and_push(d.square())
fig, ax = plt.subplots(figsize=(5, 4.4))
ax.loglog(d, pull * d, color=COLORS[0], linewidth=2, label="attraction")
for w, style in ((1, "-"), (0.1, "--"), (0.01, ":")):
    balance = ((w / a) ** (1 / b) - EPSILON) ** 0.5
    label = f"repulsion, $w = {w}$: $d^* = {balance:.2f}$"
    ax.loglog(d, w * push * d, style, color=COLORS[5], label=label)
    at_pull, at_push = pull_and_push(torch.tensor(balance).square())
    assert np.isclose(at_pull, w * at_push)
    ax.plot(balance, at_pull * balance, "o", color=INK, zorder=3)
ax.set(xlabel="distance on the map $d$", ylabel="force", ylim=(1e-4, 60))
ax.set_title("Attraction and repulsion")
fig.legend(loc="outside lower center")
plt.show()

# %% [markdown]
# ## A sample instead of a sum: eq. 3 and eq. 4
#
# Eq. 2 runs over all pairs: with $n$ cells, $n^2$ terms a step, nearly all of them for
# non-neighbours. So the paper draws a list of edges, and makes negative samples out of the same
# list. We try it on the small graph of {numref}`fig-loss-toy`: twenty cells on a branching lineage, in
# ten dimensions, with some noise. `P` holds its strengths.

# %%
edges = np.argwhere(P > 0)  # both directions of each edge
p = P[tuple(edges.T)]
s, k = P.sum(1), (P > 0).sum(1)  # strength and number of edges of a cell
S, M = P.sum(), len(edges)
print(f"{M} directed edges, strengths {p.min():.2f} to {p.max():.2f}")
print(f"their sum S is {S:.1f}")

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
# \mathcal{L} = {}& - \sum_{(i,j) \in E} \bigl[\, p_{ij} \log q_{ij} \\
#   & \qquad + (1 - p_{ij}) \log(1 - q_{ij}) \,\bigr] \\
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
squared = (z20[:, None] - z20[None, :]).square().sum(-1)
attract, repel = (term.numpy() for term in safe(squared))


def sampled_loss(weighting, n_edges, rng, m=5):
    """Both terms of eq. 3 or eq. 4, averaged over a freshly drawn list."""
    chance = p / S if weighting == "graph" else np.full(M, 1 / M)
    drawn = rng.choice(M, n_edges, p=chance)
    heads, tails = edges[drawn].T
    positive = attract[heads, tails]
    if weighting == "probability":
        no_edge = (1 - p[drawn]) * repel[heads, tails]
        positive = p[drawn] * positive + no_edge
    shifted = [np.roll(tails, shift) for shift in range(1, m + 1)]
    return positive.mean(), sum(repel[heads, j].mean() for j in shifted)


# %% [markdown]
# Draw 400 lists of 1,000 edges each and compare their mean with the sums over all pairs. The
# difference should be within a few standard errors.

# %%
on_edges = P * attract + (P > 0) * (1 - P) * repel
expected = {
    "graph": ((P * attract).sum() / S, 5 * s @ repel @ s / S**2),
    "probability": (on_edges.sum() / M, 5 * k @ repel @ k / M**2),
}
rng, table = np.random.default_rng(1), {}
for weighting, exact in expected.items():
    runs = np.array([sampled_loss(weighting, 1000, rng) for _ in range(400)])
    error = runs.std(0) / np.sqrt(len(runs))
    for column, term in enumerate(("edges", "negatives")):
        found = runs[:, column].mean(), error[column], exact[column]
        table[f"{weighting}, {term}"] = found
table = pd.DataFrame(table, index=["sampled", "std. error", "all pairs"]).T
table.round(4)

# %% tags=["remove-cell"]
off = (table["sampled"] - table["all pairs"]).abs()
assert (off < 4 * table["std. error"]).all()

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
# We make the opening figure again, with the gradient by hand and the weights just derived: plain
# gradient descent, no network, no sampling. All runs start from the principal components, and the step
# shrinks linearly to zero. Twenty points have few non-neighbours, so $\eta = 1$ would give weights near
# those of eq. 2. We take $\eta = 0.1$.

# %%
P20 = torch.as_tensor(P)
edge = (P20 > 0).double()  # 1 on edges
r_graph = torch.as_tensor(0.1 * 5 * np.outer(s, s) / S)
r_uniform = torch.as_tensor(0.1 * 5 * np.outer(k, k) / M)
losses = {
    "attraction alone": (P20, 0 * P20),
    "repulsion alone": (0 * P20, 1 - P20),
    "eq. 2, no bracket": (P20, P20 - 1),
    "eq. 2": (P20, 1 - P20),
    "eq. 3": (P20, edge * (1 - P20) + r_uniform),
    "eq. 4": (P20, r_graph),
}


# %%
def descend(A, R, z, n_steps=4000, rate=0.03):
    for step in range(n_steps):
        z = z - rate * (1 - step / n_steps) * gradient(z, A, R)
    return z


layouts = {name: descend(A, R, z20) for name, (A, R) in losses.items()}

# %% tags=["remove-cell"]
for name, layout in layouts.items():
    assert torch.allclose(layout, opening[name], atol=1e-3), name

# %% [markdown]
# The six maps equal those of {numref}`fig-loss-toy`, which automatic differentiation made. Does a map
# show the strengths? `once` lists each edge in one direction only.

# %%
once = edges[edges[:, 0] < edges[:, 1]]
strength, (i, j) = P[tuple(once.T)], once.T
table = {}
for name in ("eq. 2", "eq. 3", "eq. 4"):
    length = (layouts[name][i] - layouts[name][j]).norm(dim=1).numpy()
    order = spearmanr(strength, length).statistic
    table[name] = np.median(length), order
table = pd.DataFrame(table, index=["median length", "rank correlation"]).T
table.round(2)

# %% tags=["remove-cell"]
assert (table.idxmin() == ["eq. 4", "eq. 3"]).all()
assert (table["rank correlation"] < 0).all()

# %% [markdown]
# Repulsion alone stretches every edge, until the points are so far apart that the force is close to
# zero. Eq. 2 without its bracket collapses, as predicted: its second term is lower for closer points. Of
# the correct losses, eq. 3 orders edges best, and eq. 4 draws them shortest. Eq. 4 still draws weak edges
# longer than strong ones, though their targets differ less than in eq. 3: the attraction of a weak edge
# is small compared with the repulsion from all other points.
#
# ## The same in the package
#
# {mod}`rpumap.losses` holds what you have just derived: {func}`~rpumap.losses.log_odds`,
# {func}`~rpumap.losses.attraction` and {func}`~rpumap.losses.repulsion`, both of them together as
# {func}`~rpumap.losses.cross_entropy`, and $q$ as {func}`~rpumap.losses.similarity`.
# {func}`~rpumap.losses.umap_loss` takes the ends of a drawn list, one column an edge, and returns both
# terms as `sampled_loss` does. Its `repulsion_strength` is $\eta$.

# %%
chances = {"graph": p / S, "probability": np.full(M, 1 / M)}
by_package = {}
for weighting, chance in chances.items():
    drawn = np.random.default_rng(5).choice(M, 500, p=chance)
    heads, tails = edges[drawn].T
    certain = weighting == "graph"
    of_edges = None if certain else torch.as_tensor(p[drawn])
    ends = z20[heads].T, z20[tails].T
    terms = rpumap.losses.umap_loss(*ends, a, b, p=of_edges)
    by_package[weighting] = torch.stack(terms)
    print("{}: edges {:.4f}, negatives {:.4f}".format(weighting, *terms))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Show the check", "code_prompt_hide": "Hide the check"}
t = rpumap.losses.log_odds(squared, a, b)
assert torch.equal(t, log_odds(squared))
assert np.allclose(rpumap.losses.attraction(t), attract)
assert np.allclose(rpumap.losses.repulsion(t), repel)
q = rpumap.losses.similarity(squared, a, b)
assert np.allclose(-torch.log(q), attract)
both = rpumap.losses.cross_entropy(P20, t)
assert np.allclose(both, P * attract + (1 - P) * repel)
for weighting, terms in by_package.items():
    again = sampled_loss(weighting, 500, np.random.default_rng(5))
    assert np.allclose(terms, again)

# %% [markdown]
# ## The targets of a whole data set
#
# Now the cells of the developing mouse pancreas of {cite:t}`bastidasponce2019`, or, where the file is
# not found, simulated ones in their place. Genes and graph are made as in the last chapter.

# %%
adata = rpumap.datasets.pancreas()
X = rpumap.Preprocessor(n_top_genes=300).fit_transform(adata)
neighbors = rpumap.graph.nearest_neighbors(X, n_neighbors=15)
edge_list = rpumap.graph.fuzzy_graph(*neighbors).tocoo()
p, heads, tails = edge_list.data, edge_list.row, edge_list.col
p = p.astype(np.float64)
n, M, S = len(X), len(p), p.sum()
s, k = np.bincount(heads, p, n), np.bincount(heads, minlength=n)
about_cells = describe_cells(adata)
print(f"{n} {about_cells}, {M} directed edges, mean p {p.mean():.2f}")

# %%
uniform = M / n**2
permuted = (s[heads] * s[tails]).sum() / S**2
itself = (s @ s) / S**2
print(f"edges among pairs that are drawn uniformly: {uniform:.2%}")
print(f"edges among permuted pairs: {permuted:.2%}")
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
targets = {
    "eq. 2: $p$": p,
    "eq. 3: $p / (1 + r')$": p / (1 + 5 * k[heads] * k[tails] / M),
    "eq. 4: $p / (p + r)$": p / (p + r),
}
table = {}
for name, q in targets.items():
    table[name[:5]] = np.median(q), (q > 0.9).mean()
columns = ["median target", "share above 0.9"]
weak, full = 5 * S / n**2, 1 - S / n**2
print(f"a non-neighbour weighs {full:.3f} in eq. 2, {weak:.4f} in eq. 4")
table = pd.DataFrame(table, index=columns).T
table.round(2)

# %% tags=["remove-cell"]
assert weak < 0.5 * full
assert table.loc["eq. 4", "median target"] > 0.8
assert table["median target"][:2].max() < 0.4

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three outlined histograms of the target similarity of every edge. Those of eq. 2 and eq. 3 have most edges below one half; that of eq. 4 piles up close to 1."}, "figure": {"caption": "The similarity $q^\\ast$ at which the loss of each edge is lowest, under the full loss (eq. 2) and under the two sampled losses.", "name": "fig-loss-targets"}}
fig, ax = plt.subplots(figsize=(5, 3.6))
looks = zip(targets.items(), COLORS[:3], ("--", ":", "-"), strict=True)
for (name, target), color, style in looks:
    share, bins = np.histogram(target, 25, range=(0, 1))
    look = {"color": color, "linestyle": style, "linewidth": 2}
    ax.stairs(share / M, bins, label=name, **look)
ax.set(xlabel="target similarity $q^*$", ylabel="share of edges")
ax.set_title(f"Targets of the edges, {about_cells}")
ax.legend(loc="upper center")
plt.show()

# %% [markdown]
# The strengths themselves are mostly small, and the targets of eq. 3 are close to them. The targets
# of eq. 4 are close to 1 for most pairs with an edge, and depend on *whether* two cells are neighbours
# more than on *how strong* their edge is. {cite:t}`damrich2021umap` found the same of umap-learn. The
# printed weights show what else sampling changes: most of the repulsion of eq. 2 is left out.
# Minimising eq. 2 itself would be a different method.
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
# `repulsion_strength` has no effect. In parametric-umap 0.2.0 the similarity lacks the power 2b. NaN
# losses reported for several programs come from the slope of a norm at distance zero.
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
# ## Self-check
#
# **1. An edge has strength 0.3. At which similarity is its term of eq. 2 lowest, and what is the loss there?**
#
# :::{dropdown} At $q = 1$, where the loss is 0: the ends of an edge should be close
# Not quite. At $q = 1$ the second term, which has weight 0.7, is infinite. Only an edge of strength 1 is
# best drawn as short as possible.
# :::
# :::{dropdown} At $q = 0.3$, where the loss is 0: the predicted probability is the right one
# Not quite. It is lowest there, but a right probability is not a certain prediction. The
# entropy of the edge remains; it is what eq. 2 has more than eq. 12.
# :::
# :::{dropdown} At $q = 0.3$, where the loss is above 0
# Right. The term is lowest at $q = p$, and its value there is the entropy of the edge. No embedding can
# lower it, so it does not matter for the map.
# :::
#
# **2. Why does it not help against NaN to cut $q$ to a range such as $10^{-4}$ to $1 - 10^{-4}$?**
#
# :::{dropdown} The logarithm of the cut value is still infinite
# Not quite. The values are finite once $q$ is cut. It is the slope that is NaN.
# :::
# :::{dropdown} The slope is a product along the chain rule, and one factor is infinite at distance zero
# Right. $d$ is the root of $d^2$, and the slope of a root is infinite at zero. Cutting comes later and
# contributes a factor 0, and zero times infinity is NaN. The softplus form never takes the root.
# :::
# :::{dropdown} 32-bit numbers cannot represent $10^{-4}$
# Not quite. They represent it to seven digits. In 64 bits the slope at distance zero is NaN as well.
# :::
#
# **3. You train by eq. 4 on ten times as many cells, with the same $\eta$ and $m$. What becomes of the repulsion?**
#
# :::{dropdown} Compared with that of eq. 2 it becomes about ten times smaller
# Right. Each drawn edge comes with $m$ negative samples, however many cells there are, so their weights
# add up to $\eta m S$, which grows like $n$. Those of eq. 2 add up to nearly $n^2$.
# :::
# :::{dropdown} Nothing: the average of the sample is the sum over all pairs
# Not quite. This holds for the attraction. The average of the negative samples is a sum over all
# pairs too, but with other weights.
# :::
# :::{dropdown} It grows, because there are more non-neighbours
# Not quite. It would in eq. 2. The sample has the same number of negative samples for each edge.
# :::
#
# ## Exercises
#
# :::{exercise} The minimum: paper, easy
# :label: ex-loss-minimum
#
# Show that the cross-entropy {eq}`eq-loss-cross-entropy` is lowest at $q = p$, and that its excess over
# that minimum is one term of eq. 12.
# :::
#
# :::{solution-start} ex-loss-minimum
# :label: sol-loss-minimum
# :class: dropdown
# :::
#
# The derivative with respect to $q$ is $-p/q + (1 - p)/(1 - q)$. It is zero when
# $p (1 - q) = q (1 - p)$, that is at $q = p$. The second derivative, $p/q^2 + (1 - p)/(1 - q)^2$, is
# positive, so this is the minimum. There the cross-entropy is $-p \log p - (1 - p) \log(1 - p)$, the
# entropy. Subtract it: what remains is $p \log(p/q) + (1 - p) \log((1 - p)/(1 - q))$, which is a term of
# eq. 12. Hence eq. 12 is never negative, and is zero only for an embedding with $q = p$ for every pair.
# A search for the minimum agrees:


# %%
def pair_loss(q, p):
    return -p * np.log(q) - (1 - p) * np.log(1 - q)


for p_pair in (0.1, 0.5, 0.8):
    found = minimize_scalar(pair_loss, args=(p_pair,), bounds=(0.01, 0.99))
    assert abs(found.x - p_pair) < 1e-4
    q_other = 0.3
    excess = pair_loss(q_other, p_pair) - found.fun
    term = p_pair * np.log(p_pair / q_other)
    term += (1 - p_pair) * np.log((1 - p_pair) / (1 - q_other))
    assert np.isclose(excess, term)

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} The closest neighbours: code, easy
# :label: ex-loss-closest
#
# An edge has strength 1, and its repulsion weight is $r = 0.01$. At which distance is its loss lowest, for
# `min_dist` 0.1 and for 0.5? Which setting shows single cells apart, if the map is 20 units wide and is
# drawn 400 dots wide?
# :::
#
# :::{solution-start} ex-loss-closest
# :label: sol-loss-closest
# :class: dropdown
# :::
#
# By {eq}`eq-loss-balance` with $w = r/p$:

# %%
apart = {}
for m in (0.1, 0.5):
    a_m, b_m = fitted[m]
    apart[m] = ((0.01 / a_m) ** (1 / b_m) - EPSILON) ** 0.5
dots = {m: distance * 400 / 20 for m, distance in apart.items()}
say(f"""
The distances are {apart[0.1]:.3f} for min_dist 0.1 and
{apart[0.5]:.3f} for 0.5, which is {dots[0.1]:.1f} and {dots[0.5]:.1f} dots.
The first merges the two cells into one dot, the second shows them
apart.
""")
assert dots[0.1] < 1.5 < 3 < dots[0.5]

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Strength of repulsion: experiment, medium
# :label: ex-loss-eta
#
# Lay out the twenty points under eq. 4 with $\eta$ of $0.02$, $0.1$ and $1$. How do the width of the map and the
# length of a median edge change? Explain the direction.
# :::
#
# :::{solution-start} ex-loss-eta
# :label: sol-loss-eta
# :class: dropdown
# :::
#
# The matrix `r_graph` of weights was computed with $\eta = 0.1$. Scale it.

# %%
width, median = {}, {}
for eta in (0.02, 0.1, 1.0):
    layout = descend(P20, eta / 0.1 * r_graph, z20)
    width[eta] = torch.cdist(layout, layout).max().item()
    lengths = (layout[once[:, 0]] - layout[once[:, 1]]).norm(dim=1)
    median[eta] = lengths.median().item()
    print(f"eta {eta}: width {width[eta]:.1f}, edge {median[eta]:.2f}")
assert sorted(width.values()) == list(width.values())
assert sorted(median.values()) == list(median.values())

# %% [markdown]
# Both grow with the repulsion. The loss of one pair alone is lowest at $e^t = r / p$, which grows with
# $\eta$, so its distance grows about like $\eta$ to the power $1/(2b)$. A whole map, in which all pairs
# attract or repel each other, grows in the same direction.
#
# :::{solution-end}
# :::
#
# :::{exercise} Uniform negative samples: paper, hard
# :label: ex-loss-uniform
#
# Suppose that the tails of the negative samples were drawn uniformly from all $n$ cells. Find the weight
# $r_{ij}$ for the graph-based way. Which cell is repelled more than under permutation: a hub or a cell with
# weak edges?
# :::
#
# :::{solution-start} ex-loss-uniform
# :label: sol-loss-uniform
# :class: dropdown
# :::
#
# The head is cell $i$ with probability $s_i / S$, the tail is cell $j$ with probability $1/n$.
# Multiplied by $m S$, the ordered pair has weight $m s_i / n$. The pair also comes up as $(j, i)$, and
# the force does not depend on the order, so the mean of both counts: $r_{ij} = m (s_i + s_j) / (2n)$.
# Under permutation it is $m s_i s_j / S$. Summed over $j$, cell $i$ is repelled with
# $m (s_i + S/n) / 2$ when tails are drawn uniformly, and with $m s_i$ under permutation. The first is more
# where $s_i < S/n$: for a cell with weak edges. For a hub it is less. The sum over all cells is $m S$
# in both. Check the formula on the twenty points, by drawing.

# %%
rng, n_draws = np.random.default_rng(0), 200_000
s20 = P.sum(1)
head = rng.choice(20, n_draws, p=s20 / s20.sum())
tail = rng.integers(20, size=n_draws)
count = np.zeros((20, 20))
np.add.at(count, (head, tail), 5 * s20.sum() / n_draws)
drawn, derived = (count + count.T) / 2, 5 * (s20[:, None] + s20) / 40
permuted = 5 * np.outer(s20, s20) / s20.sum()
assert abs(drawn / derived - 1).max() < 0.25
assert np.isclose(derived.sum(), permuted.sum())

# %%
more = derived.sum(1) > permuted.sum(1)
assert (more == (s20 < s20.mean())).all()
say(f"""
{more.sum()} of the 20 cells have weaker edges than the mean cell. They
are repelled more when tails are drawn uniformly, the others less.
""")

# %% [markdown]
# :::{solution-end}
# :::
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
