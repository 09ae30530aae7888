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
# # Robust training: a loss that makes the boxes small
#
# [The last chapter](07_crown_derivation) ended with a certificate of little use: at the paper's
# $\epsilon$ of 0.2, the box that provably holds a cell was about as wide as the whole map. But the bounds
# are a differentiable function of the weights. Can training make the boxes small, and leave the map as it
# is?
#
# ## What you will do
#
# - Take one gradient step on a bound by hand, and see the box shrink by the predicted amount.
# - See that a box can have an area of zero and still be three units long.
# - Write robust training in one short function, on top of the training loop of
#   [chapter 3](03_training).
# - Measure on cells how much narrower the boxes become and how much the map loses, and attack the certificates.
# - Find the cells whose label provably cannot change.
#
# ## What you will learn
#
# - Why the bound loss needs a reconstruction loss beside it.
# - How the quality of the map changes with the weight of the bound loss and with $\epsilon$.
# - How much of the gain is a network that moves cells less, and how much is only a tighter proof.
#
# ## What you need
#
# - The idea of CROWN from [the last chapter](07_crown_derivation), not its details. Gradients.

# %% tags=["remove-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("rpumap") is None:  # on Colab
    needed = ["umap-learn", "git+https://github.com/rpumap/rpumap"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *needed], check=True)

# %%
import copy

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.neighbors import NearestNeighbors
from torch import nn

# %%
import rpumap
from rpumap import plotting
from rpumap.chapters.comparison import describe_cells, transfer_labels
from rpumap.chapters.scorecard import judge, report
from rpumap.chapters.style import use_style
from rpumap.metrics import knn_accuracy, trustworthiness
from rpumap.plotting import COLORS, INK
from rpumap.verification import Ball, crown, crown_ibp, labels_are_certain, projected_gradient

use_style()
STEPS = 75  # of each run in the sweep; 500, as in the package, takes minutes

# %% [markdown]
# ## One step by hand
#
# Here is the network of two neurons from the last chapter, with the ball $|x_1|, |x_2| \le 1$. Now
# its output weights are variables, $w_1 = 2$ and $w_2 = -2$:
#
# $$
# f = w_1 \operatorname{relu}(2 x_1 + x_2 + 2) + w_2 \operatorname{relu}(x_1 + 2 x_2 + 1) .
# $$ (eq-robust-small)
#
# CROWN put it between two linear functions. With the weights left open they are
#
# $$
# \begin{aligned}
# f^U &= \tfrac56 w_1 (2 x_1 + x_2 + 3) + w_2 (x_1 + 2 x_2 + 1) , \\
# f^L &= w_1 (2 x_1 + x_2 + 2) + \tfrac23 w_2 (x_1 + 2 x_2 + 3) .
# \end{aligned}
# $$
#
# The worst corner for $f^U$ is $(1, -1)$, for $f^L$ it is $(-1, 1)$. Insert them:
#
# $$
# \begin{aligned}
# u &= \tfrac{10}{3} w_1 , \qquad l = w_1 + \tfrac83 w_2 , \\
# u - l &= \tfrac73 w_1 - \tfrac83 w_2 .
# \end{aligned}
# $$ (eq-robust-width)
#
# With $w = (2, -2)$ the width is 10, as it was, and its gradient is $(\tfrac73, -\tfrac83)$. A step of
# 0.1 against it must shrink the width by $0.1 \cdot (\tfrac{49}{9} + \tfrac{64}{9}) = \tfrac{11.3}{9}$, since
# no sign changes on the way. Automatic differentiation goes through
# {func}`rpumap.verification.crown` as through any other function, so it should give the same.

# %%
small = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
values = [[2, 1], [1, 2]], [2, 1], [[2, -2]], [0]
for tensor, value in zip(small.parameters(), values, strict=True):
    tensor.data = torch.tensor(value).double()
w, origin = small[2].weight, torch.zeros(1, 2).double()


def width_of_box():
    lower, upper = crown(small, Ball(origin, 1.0))
    return (upper - lower).sum()


(gradient,) = torch.autograd.grad(width_of_box(), w)
assert np.isclose(width_of_box().item(), 10) and np.allclose(gradient, [[7 / 3, -8 / 3]])
w.data -= 0.1 * gradient
print(f"width {width_of_box():.4f}, output for the cell {small(origin).item():.2f}")
assert np.isclose(width_of_box().item(), 10 - 11.3 / 9)

# %% [markdown]
# The box shrank. But the cell's own output, 2 before the step, moved as well. And look at {eq}`eq-robust-width` again:
# halve both weights, and the width halves. That is true of every network, whose widths are proportional to
# the last layer's weights. *The easiest way to small boxes is a small map*, and the smallest map is one
# point. Another loss term has to keep the map as it is.
#
# ## The loss: eq. 5 to 8
#
# The paper adds two terms at the very end of training (eq. 8),
#
# $$ \mathcal{L} = \mathcal{L}_\text{UMAP} + \mathcal{L}_b + \mathcal{L}_\text{reconstruction} , $$
#
# the area of the boxes (eq. 5, and eq. 6 for more than two dimensions) and the squared distance that the
# cells have moved (eq. 7):
#
# $$
# \begin{aligned}
# \mathcal{L}_b &= \lambda \sum_i \prod_j \bigl(u_i^{(j)} - l_i^{(j)}\bigr) , \\
# \mathcal{L}_\text{reconstruction} &= \sum_i \lVert z_i - \hat z_i \rVert^2 .
# \end{aligned}
# $$
#
# Here $z_i$ are the cell's coordinates on the map that we start from, which stays fixed, and $\hat z_i$ those under the
# network in training (the printed eq. 7 lacks the hat, see [notation](../book/notation)). We change three more things:
#
# - *Averages instead of sums.* With sums, twice the cells weigh twice as much against the UMAP loss, which
#   is an average over edges, and $\lambda$ would have to be found anew for each data set.
# - *Units.* The paper says that $\lambda$ "takes into account" the size of the map. We measure widths in standard
#   deviations of the map, and squared distances in its variance. Then $\lambda$ is a pure number.
# - *Width instead of area*, as a choice. Why?
#
# The derivative of the area $w_1 w_2$ in one width is the *other* width, so the long side of a thin box is hardly
# shortened. Take a box 5 long and 4 high. Descent on the area
# moves $w_1$ by $-w_2$ and $w_2$ by $-w_1$, which leaves $w_1^2 - w_2^2 = 25 - 16 = 9$
# as it was. So it ends at $w_2 = 0$, $w_1 = 3$, with area zero and a cell that may be anywhere along three units.
# Under the mean width both shrink at the same rate, until both are 0.


# %%
def bound_loss(lower, upper, scale, penalty="width"):
    widths = upper - lower
    if penalty == "area":  # eq. 5 and 6, each width in units of its own axis
        return (widths / scale).prod(1).mean()
    return widths.mean() / scale.square().mean().sqrt()


# %%
def descend(penalty, n_steps=600, rate=0.01):
    path = [torch.tensor([[5.0, 4.0]])]
    for _ in range(n_steps):
        widths = path[-1].clone().requires_grad_()
        loss = bound_loss(torch.zeros(1, 2), widths, torch.ones(2), penalty)
        (slope,) = torch.autograd.grad(loss, widths)
        path.append((widths - rate * slope).detach().clamp(min=0))  # no width below 0
    return torch.cat(path).numpy()


paths = {"area": descend("area"), "width": descend("width", 1200)}
assert np.allclose(paths["area"][:2], [[5, 4], [5 - 0.01 * 4, 4 - 0.01 * 5]])
assert np.allclose(paths["area"][-1], [3, 0], atol=0.03) and not paths["width"][-1].any()
print({name: path[-1].round(1).tolist() for name, path in paths.items()})

# %% [markdown]
# The last widths are printed: 3 by 0 under the area, 0 by 0 under the width. Here the two widths are independent. Those
# of a network depend on the same weights, so whether flat boxes arise in practice has to be measured, below. First the
# units: a map three times as large, with boxes three times as wide, must have the same loss. And our function should
# agree with the package's.

# %%
draw = np.random.default_rng(0)
scale, high = torch.tensor([6.0, 2.0]), torch.as_tensor(draw.random((5, 2)))
for penalty in ("width", "area"):
    loss = bound_loss(-high, high, scale, penalty)
    torch.testing.assert_close(loss, bound_loss(-3 * high, 3 * high, 3 * scale, penalty))
    torch.testing.assert_close(loss, rpumap.losses.bound_loss(-high, high, scale, penalty))

# %% [markdown]
# ## The loop
#
# {func}`rpumap.training.train` takes further `terms` of the loss: functions that it calls in each step with a
# {class}`~rpumap.training.TrainingStep`, which holds the coordinates of the step's cells. So for robust training we
# write two such functions. Two techniques from the literature help {cite:p}`zhang2020crownibp`:
#
# - *Cheap bounds while training.* CROWN-IBP instead of CROWN, for 128 random cells a step. A loose upper bound of a
#   width is enough to reduce it. What we report later are CROWN's bounds.
# - *Warm-up.* $\epsilon$ grows from 0 to its value over the first quarter of the steps,
#   as in training with intervals {cite:p}`gowal2018ibp`. The bounds of an ordinary network are
#   so wide that the bound loss would dominate the rest of the loss.
#
# And a *small learning rate*, 0.003 against 0.01 for `base`: the map is finished, and should change little.


# %%
def loss_terms(base, eps, strength, penalty, reconstruction, generator):
    target = torch.as_tensor(base.embedding_)  # z of eq. 7
    scale = target.std(0)

    def bound(step):
        radius = eps * min(1, (step.number + 1) / (0.25 * STEPS))
        some = torch.randint(len(step.x), (128,), generator=generator)
        lower, upper = crown_ibp(step.encoder, Ball(step.x[some], radius))
        return strength * bound_loss(lower, upper, scale, penalty)

    def stay(step):  # step.z is z-hat of eq. 7
        wanted = target if step.rows is None else target[step.rows]
        moved = (step.z - wanted).square().sum(1).mean() / scale.square().sum()
        return reconstruction * moved

    return {"bound": bound, "reconstruction": stay}


# %%
def robust_training(base, X, eps=0.2, strength=0.3, penalty="width", reconstruction=10.0):
    encoder, generator = copy.deepcopy(base.encoder_), torch.Generator().manual_seed(0)
    terms = loss_terms(base, eps, strength, penalty, reconstruction, generator)
    a, b = rpumap.losses.fit_ab(base.spread, base.min_dist)
    options = {"n_steps": STEPS, "learning_rate": 3e-3, "generator": generator, "terms": terms}
    x, robust = torch.as_tensor(X), copy.copy(base)
    robust.history_ = rpumap.training.train(encoder, x, base.graph_, a=a, b=b, **options)
    robust.encoder_ = encoder
    robust.embedding_ = robust.transform(X)
    return robust


# %% [markdown]
# ## Real cells
#
# We hold out 120 cells of the pancreas and use the rest, the *reference*, to choose genes, to scale, and
# to train. All certificates below are for the 120 held-out cells, which no step of training has seen. `base` is
# an ordinary model, `robust` what {func}`rpumap.robustify` makes of it with its default settings.

# %%
adata = rpumap.datasets.pancreas()
source = describe_cells(adata)
order = draw.permutation(adata.n_obs)
held_out, reference = order[:120], np.sort(order[120:])
preprocessor = rpumap.Preprocessor(n_top_genes=300)
X, X_held = preprocessor.fit_transform(adata[reference]), preprocessor.transform(adata[held_out])
types = adata.obs["clusters"].to_numpy()
labels, labels_held = types[reference], types[held_out]

base = rpumap.ParametricUMAP(random_state=0).fit(X)
models = {"base": base, "robust": rpumap.robustify(base, X, eps=0.2)}

# %% [markdown]
# Now the result. Trustworthiness and accuracy
# are those of the reference (trustworthiness of every third cell, to save time; accuracy with each cell left out of its own vote).
# The boxes are those of the held-out cells.


# %%
def scores(model):
    Z = model.embedding_
    lower, upper = rpumap.certify(model, X_held, eps=0.2)
    widths = (upper - lower).mean(0)
    same = np.corrcoef(Z.T, base.embedding_.T)[[0, 1], [2, 3]]
    return {
        "width": widths.mean(),
        "shape": widths[0] / widths[1],
        "trustworthiness": trustworthiness(X[::3], Z[::3]),
        "accuracy": knn_accuracy(Z, labels),
        "correlation": same.min(),
    }


# %%
table = pd.DataFrame({name: scores(model) for name, model in models.items()})
shrunk = table.loc["width", "base"] / table.loc["width", "robust"]
extent = np.ptp(base.embedding_, axis=0)
lost = table["base"] - table["robust"]
print(f"{source}: boxes {shrunk:.1f} times narrower; map {extent[0]:.1f} by {extent[1]:.1f}")
table.round(3)

# %% tags=["remove-cell"]
assert table.loc["width", "base"] > extent.mean() / 2
assert shrunk > 3 and table.loc["width", "robust"] < extent.mean() / 4
assert lost["trustworthiness"] < 0.015 and lost["accuracy"] < 0.01
assert table.loc["correlation", "robust"] > 0.98

# %% [markdown]
# `width` is the mean over cells and coordinates of the certified widths at $\epsilon = 0.2$. It has gone from
# most of the width of the map to a fraction of it, and the map is almost the same, coordinate by coordinate. If
# trustworthiness falls, then by less than 0.015, and accuracy by less than 0.01. `correlation` is that with the base
# map, in the coordinate where it is smaller. `shape` is the mean width along dimension 1 over that along dimension 2; we
# need it below.
#
# The paper draws such boxes as a sketch (Fig. 5A), with bounds that "showed significant intersections that
# can be reduced". {numref}`fig-robust-boxes` has computed ones, at $\epsilon = 0.1$, since at 0.2 the base model's
# boxes would cover the page. And intersections can be counted.

# %%
RADII = (0.01, 0.02, 0.05, 0.1, 0.2)
boxes, rows = {}, {}
other_type = labels_held[:, None] != labels_held
for name, model in models.items():
    for eps in RADII:
        boxes[name, eps] = lower, upper = rpumap.certify(model, X_held, eps)
        meet = ((lower[:, None] <= upper) & (lower <= upper[:, None])).all(2)
        rows.setdefault(("width", name), {})[eps] = (upper - lower).mean()
        rows.setdefault(("overlap", name), {})[eps] = meet[other_type].mean()
rows = pd.DataFrame(rows).rename_axis("eps").sort_index(axis=1, ascending=[False, True])
rows.astype(float).round(3)

# %% tags=["remove-cell"]
assert (rows.xs("robust", axis=1, level=1) < rows.xs("base", axis=1, level=1)).all(axis=None)
assert rows.loc[0.2, ("overlap", "base")] > 0.9 and rows.loc[0.2, ("overlap", "robust")] < 0.5

# %% [markdown]
# `overlap` is the share of pairs of held-out cells, of two *different types*, whose boxes meet. At $\epsilon = 0.2$ all or
# nearly all boxes of the base model overlap; after robust training a minority of the pairs meets. It cannot fall to zero everywhere: some types are
# neighbours on the map, and their cells mix at any $\epsilon$.

# %% mystnb={"image": {"alt": "Two maps of the same shape in grey. On the base map thirty rectangles, many of which overlap; on the robust map the rectangles around the same cells are smaller, and fewer overlap."}, "figure": {"caption": "Certified boxes of the same 30 held-out cells, coloured by cell type, at $\\epsilon = 0.1$, before (left) and after robust training (right).", "name": "fig-robust-boxes"}}
fig, axes = plt.subplots(1, 2, figsize=(7, 5.4), sharex=True, sharey=True)
codes = adata.obs["clusters"].cat.codes.to_numpy()[held_out]
for ax, (name, model) in zip(axes, models.items(), strict=True):
    ax.scatter(*model.embedding_.T, s=3, color=INK, alpha=0.25, linewidths=0)
    low, high = (ends[:30] for ends in boxes[name, 0.1])
    plotting.boxes(low, high, ax=ax, color=[COLORS[code % 8] for code in codes[:30]])
    ax.set(title=f"{name}, {source}", xlabel="dimension 1", aspect="equal")
text = axes[0].set(ylabel="dimension 2", xticks=[], yticks=[])

# %% [markdown]
# ## Choosing strength and radius
#
# There are two settings: the strength $\lambda$ and the $\epsilon$ of training. We vary both in our own loop, with runs that
# are short to save time, and always judge at $\epsilon = 0.2$. One run repeats the defaults of the package (it is
# in the table twice), and the package's own run of that length must give about the same. The last one leaves out the
# reconstruction. `size` is the standard deviation of the map relative to the base map's.

# %%
runs = {
    "width": [{"strength": s} for s in (0.02, 0.3, 1.0)],
    "area": [{"strength": s, "penalty": "area"} for s in (0.002, 0.05, 0.2)],
    "eps": [{"eps": 0.1}],
    "reconstruction": [{"reconstruction": 0.0}],
}
sweep = {}
for varied, settings in runs.items():
    for options in settings:
        model = robust_training(base, X, **options)
        size = model.embedding_.std(0).mean() / base.embedding_.std(0).mean()
        sweep[varied, next(iter(options.values()))] = {"size": size, **scores(model)}
sweep["eps", 0.2] = sweep["width", 0.3]
sweep = pd.DataFrame(sweep).T.rename_axis(["varied", "value"])
sweep[["size", "width", "shape", "trustworthiness", "accuracy"]].round(3)

# %% tags=["remove-cell"]
package, ours = scores(rpumap.robustify(base, X, n_steps=STEPS)), sweep.loc[("width", 0.3)]
assert abs(np.log(ours["width"] / package["width"])) < np.log(1.2)
assert abs(ours["trustworthiness"] - package["trustworthiness"]) < 0.005

# %% mystnb={"image": {"alt": "Trustworthiness over certified width on a logarithmic axis. Along three lines for width, area and eps, which lie close together, it falls towards narrower boxes on the left. The base model stands far to the right, and the star of the longer training above the lines."}, "figure": {"caption": "Trustworthiness against certified width, for short trainings. Left is more robust, up is better. Along a line the setting in the legend varies. Star: `robust`, from the package's full training.", "name": "fig-robust-tradeoff"}}
fig, ax = plt.subplots(figsize=(5.6, 4))
looks = {"width": (COLORS[0], "o-"), "area": (COLORS[5], "s--"), "eps": (COLORS[2], "^:")}
for varied, (color, style) in looks.items():
    ax.plot("width", "trustworthiness", style, data=sweep.loc[varied], color=color, label=varied)
for name, marker, size in (("base", "D", 7), ("robust", "*", 13)):
    ax.plot(*table.loc[["width", "trustworthiness"], name], marker, color=INK, ms=size, label=name)
ax.set(xscale="log", xlabel="mean certified width, $\\epsilon = 0.2$", ylabel="trustworthiness")
ax.set_xticks([4, 6, 10, 15, 25], [4, 6, 10, 15, 25])
ax.minorticks_off()
legend = ax.legend(title=source, fontsize=9)

# %% [markdown]
# With narrower boxes trustworthiness falls, whichever setting is changed. Which penalty is better? Compare at
# equal width: read off the line of the width penalty what its trustworthiness would be where its boxes are as wide as
# those of the area penalty's middle run.

# %%
by_width, by_area = sweep.loc["width"].sort_values("width"), sweep.loc[("area", 0.05)]
known = np.log(by_width["width"]), by_width["trustworthiness"]
alike = np.interp(np.log(by_area["width"]), *known)
print(f"trustworthiness at equal width: {by_area['trustworthiness']:.3f} area, {alike:.3f} width")

# %% tags=["remove-cell"]
assert abs(by_area["trustworthiness"] - alike) < 0.01
assert 2 / 3 < by_area["shape"] / ours["shape"] < 1.5
for varied in looks:
    trust = sweep.loc[varied].sort_values("width")["trustworthiness"]
    assert trust.iloc[0] < trust.iloc[-1]
assert table.loc["trustworthiness", "robust"] > ours["trustworthiness"]
assert table.loc["width", "robust"] < ours["width"]
assert sweep.loc[("reconstruction", 0.0), "size"] < sweep.loc["width", "size"].min()

# %% [markdown]
# The two penalties are equally good here, within 0.01, and the shapes of their boxes agree within a factor of 1.5: the
# flattening of a box with independent widths did not happen. The widths of a network share almost all of their weights,
# and cannot change so independently. The package uses widths because they cannot fail in that
# way, not because areas do.
#
# What does help is *more steps*. The full training of the package is better than the short run with the same
# settings in both respects. And without reconstruction the map shrinks, as the first section predicted; the narrow
# boxes in that row are partly due to the small map.
#
# ## Labels that cannot change
#
# Is a box of a certain width good or bad? That depends on what lies in it. Suppose a held-out cell gets the label of the
# majority of its $k$ nearest cells on the reference map. If the label is the same at every point of its box, noise
# cannot change it: a *certified label*. To show this for all points at once, give each reference cell $j$ a score at
# each point $p$ of the box, whose middle is $c$ and whose half sides are $h$:
#
# $$
# \lVert p - z_j \rVert^2 - \lVert p - c \rVert^2 + \lVert h \rVert^2 .
# $$ (eq-robust-score)
#
# What is taken off and added is the same for all cells, so the scores have the order of the distances. And $\lVert p
# \rVert^2$ cancels: a score changes linearly with $p$, so that it is least and largest at corners of the box, where it is
# $\sum_a (|c_a - z_{ja}| \mp h_a)^2$ with the sum over the coordinates.
#
# - A reference cell is a neighbour *for certain* if fewer than $k$ others can score as low as its largest score.
# - It is *possible* unless $k$ others score lower for certain, even with their largest scores.
# - A label wins if its certain votes beat any other label's, all undecided votes counted against it.
# - If this fails, cut the box in two and try each half: in smaller boxes fewer votes are undecided.
#
# Six reference cells on a line show it, $k = 3$, with labels a, a, a, b, b, b.

# %%
Z_line = np.array([[0.0], [1.0], [2.0], [8.0], [9.0], [10.0]])
low, high = np.array([[0.5], [-3.0], [3.0]]), np.array([[2.5], [4.7], [6.0]])
from_middle, half = abs((low + high) / 2 - Z_line.T), (high - low) / 2
least, largest = (from_middle - half) ** 2, (from_middle + half) ** 2
assert largest[0, :3].max() == 6.25 and least[0, 3:].min() == 30.25
for cuts, expected in ((0, [True, False, False]), (10, [True, True, False])):
    certain = labels_are_certain(low, high, Z_line, list("aaabbb"), k=3, max_splits=cuts)
    print(f"with {cuts} cuts: {certain.tolist()}")
    assert certain.tolist() == expected
pd.DataFrame({"least": least[1], "largest": largest[1]}, Z_line[:, 0]).T.round(1)

# %% [markdown]
# In the box from 0.5 to 2.5 the three a's score at most 6.25, and the b's at least 30.25: three certain votes. From
# $-3$ to 4.7 (the table; its columns are the coordinates of the cells) cuts are needed: of the whole box we only know
# that the scores of the a's go up to 25, and those of two b's down to 10.9 and 18.5. In its right half the a's at 1 and
# 2 score at most 13.7 and the b at 9 at least 18.5, so that at most one b has a vote. The third box has its middle
# between the groups, and no cutting makes it certain, for the label does change in it.
#
# Now for the 120 held-out cells, whose neighbours are the reference cells. We test the proof with an attack:
# {func}`~rpumap.verification.projected_gradient` moves a cell in eight directions across the map, by five steps that
# change all genes by the signs of the slopes, without leaving the ball. Random corners of the ball are tried as well. No
# certified label may change under any of them.


# %%
angles = torch.arange(8) * torch.pi / 4
WAYS = torch.stack([angles.cos(), angles.sin()], dim=1)


def attack(model, cells, eps):
    inputs = projected_gradient(model.encoder_, Ball(cells, eps), WAYS, n_steps=5)
    return model.encoder_(inputs).detach().numpy()


# %% tags=["hide-input"]
result, reach = {}, {}
for name, model in models.items():
    Z, Z_held = model.embedding_, model.transform(X_held)
    predicted = transfer_labels(Z, labels, Z_held)
    for eps in RADII:
        lower, upper = boxes[name, eps]
        certain = labels_are_certain(lower, upper, Z, labels)
        noise = draw.choice(np.float32([-eps, eps]), (10, *X_held.shape))
        noisy = np.stack([model.transform(X_held + change) for change in noise])
        attacked = attack(model, X_held, eps)
        tried = np.concatenate([noisy, attacked])
        found = transfer_labels(Z, labels, tried.reshape(-1, 2)).reshape(len(tried), -1)
        changed = (found != predicted).any(0)
        assert not (certain & changed).any()
        groups = {"certain": certain, "undecided": ~certain & ~changed, "changed": changed}
        groups["certain, wrong"] = certain & (predicted != labels_held)
        result[name, eps] = {group: members.mean() for group, members in groups.items()}
        corner = np.maximum(upper - Z_held, Z_held - lower)[None]  # the furthest of its box
        moves = {"random noise": noisy - Z_held, "attack": attacked - Z_held, "certificate": corner}
        reach[name, eps] = {
            by: np.linalg.norm(move, axis=2).max(0).mean() for by, move in moves.items()
        }
result, reach = (pd.DataFrame(rows).T.rename_axis(["", "eps"]) for rows in (result, reach))
result.round(3)

# %% tags=["remove-cell"]
gained = result.loc["robust"] - result.loc["base"]
assert (gained.loc[0.02:, "certain"] > 0).all() and (gained.loc[0.02:, "changed"] < 0).all()
assert result.loc[(slice(None), 0.01), "certain"].min() > 0.7
undecided = result["undecided"]
assert undecided["base", 0.05] > 1.5 * undecided["robust", 0.05]
assert result.loc[("robust", 0.2), "changed"] > result.loc[("robust", 0.2), "certain"]

# %% mystnb={"image": {"alt": "Stacked bars for five values of eps, base on the left, robust on the right. For both, the certain share falls and the changed share rises with eps. In the base model nearly nothing is certain from 0.1 on; in the robust model many labels still are at 0.1, and some at 0.2. The undecided share in between is much smaller for the robust model at 0.05, and larger at 0.2."}, "figure": {"caption": "What is known of the labels of the held-out cells: certified, changed by the attack, or neither.", "name": "fig-robust-labels"}}
fig, axes = plt.subplots(1, 2, figsize=(6.6, 3.8), sharey=True)
for ax, name in zip(axes, models, strict=True):
    bars = result.loc[name, ["certain", "undecided", "changed"]]
    bars.plot.bar(stacked=True, ax=ax, color=(COLORS[0], INK, COLORS[1]), rot=0, legend=False)
    ax.set(title=f"{name}, {source}", xlabel="$\\epsilon$", ylabel="share of cells")
legend = fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)

# %% [markdown]
# In {numref}`fig-robust-labels` the certificate and the attack bound the truth from two sides: the label of a
# cell cannot change, or an example shows that it can. What is `undecided` is the gap between the two. At
# $\epsilon = 0.01$ most labels of both models are certain, and from 0.02 on the robust one has more that are. At
# $\epsilon = 0.05$ the base model leaves many more cells undecided than the robust one. At 0.2 its gap is small again,
# but only because the attack changes most labels.
#
# At $\epsilon = 0.2$ the attack changes many labels of the robust map too, and few are certain. An adversary that may
# change 300 genes at once, each in the worst direction, is strong. If you need labels, this table tells you more than the
# width.
#
# `certified_label_fraction(model, X, labels, eps)` does this for the cells of the reference itself, each being left
# out of its own vote.
#
# ## What can go wrong
#
# **A certain label may be wrong.** The last column of the table counts labels that provably cannot change and are wrong. A
# network that places all cells on one point is perfectly robust.
#
# **The certificate improves more than the network.** How far does a cell move, on average: under random noise (the
# furthest of ten trials), under the attack, and at most, as the certificate says?

# %%
gain = reach.loc["base"] / reach.loc["robust"]
columns = {"base": reach.loc["base"], "robust": reach.loc["robust"], "base / robust": gain}
pd.concat(columns).loc[(slice(None), [0.02, 0.2]), :].round(2)

# %% tags=["remove-cell"]
assert (gain > 1).all(axis=None)
assert gain.loc[0.2, "certificate"] > 1.5 * gain.loc[0.2, ["random noise", "attack"]].max()

# %% [markdown]
# The robust network does move its cells less, under all three. But at $\epsilon = 0.2$ the certificate fell by a much larger
# factor than the movement under attack. The attack is only a lower limit, but this suggests that
# most of the base model's box was slack in the proof, and that robust training mainly makes a network on which the proof is
# tight. That is useful, for a bound close to the attack says something. It is not a protection against noise by the same
# factor. And random noise, which does not depend on the network, moves cells far less than the attack in either model.
#
# **The plain model is not one model.** How narrow the boxes become is one half of a comparison. How
# wide they were is the other, and it depends on how the plain model was trained. Train it anew without weight
# decay, and with the paper's learning rate of 0.001 instead of our 0.01.

# %%
plain = {"rate 0.001": {"learning_rate": 1e-3}, "no decay": {"weight_decay": 0.0}}
columns = {
    name: scores(rpumap.ParametricUMAP(random_state=0, **settings).fit(X))
    for name, settings in plain.items()
}
rates = pd.DataFrame(columns).join(table).drop(["shape", "correlation"])
rates.loc["width / robust"] = rates.loc["width"] / table.loc["width", "robust"]
rates.round(3)

# %% tags=["remove-cell"]
assert rates.loc["width", "rate 0.001"] > 1.5 * rates.loc["width", "no decay"]
assert rates.loc["width", "no decay"] > 1.1 * rates.loc["width", "base"]
assert np.ptp(rates.loc["trustworthiness"]) < 0.015

# %% [markdown]
# Three plain maps of about the same trustworthiness, and boxes of very different widths. So a good part of the factor by
# which "regularisation shrinks the boxes" can be due to the plain training. The paper reports neither
# widths nor how the training changes them. (`robust` started from `base`.) Report both widths, say how the plain model was trained, and do not
# quote a factor alone.
#
# **A small radius is not a small ball.** $\epsilon = 0.2$ is small for one gene. But 300 genes at once reach a corner
# that is $0.2 \sqrt{300}$ away from the centre. How does that compare with the distance between cells?

# %%
distance, neighbor = NearestNeighbors(n_neighbors=1).fit(X).kneighbors(X_held)
largest_change = abs(X[neighbor[:, 0]] - X_held).max(1)
print(f"corner of the ball: {0.2 * 300**0.5:.2f}, nearest cell: {np.median(distance):.2f} (median)")
print(f"largest change of a gene to get to the nearest cell: {np.median(largest_change):.2f}")

# %% tags=["remove-cell"]
assert np.median(distance) > 2 * 0.2 * 300**0.5 and np.median(largest_change) > 2 * 0.2

# %% [markdown]
# So the balls of two cells do not meet, as in the left half of the paper's Fig. 5A: between neighbours some gene differs by far
# more than $2\epsilon$. That does not make the ball a good model: the noise of counts does not stay in a ball either. Most
# of what separates a cell from its neighbour may be noise of this kind, in a few genes, by much more than 0.2.
#
# **The certificate is about the network.** It covers changes within the ball, around cells prepared in the same way.
# A batch effect may move all cells together, and by more than $\epsilon$.
# The authors say themselves that it is "not guaranteed" that their regularisation removes one.
#
# **Small boxes on a small map.** Look at the size of the map and the correlations whenever you change the loss or the weight of the
# reconstruction. A width without the size of the map means nothing.
#
# ## The paper's sentences
#
# Two sentences of the paper can be judged here. The rules:
#
# - *"Significant intersections that can be reduced"* (Fig. 5A), at $\epsilon = 0.2$: of pairs of cells of different types, more
#   than half have boxes that meet in the base model, and after robust training less than half as many do.
# - *The reconstruction keeps "the shape of the embedding"* (section 2.4): the correlation with the base map is above
#   0.95 in both coordinates, and trustworthiness and accuracy fall by less than 0.01 each. Beside it stands the short run
#   that had no reconstruction.

# %% tags=["hide-input"]
meet = rows["overlap"].loc[0.2]
stayed = table.loc["correlation", "robust"]
without = sweep.loc[("reconstruction", 0.0), "correlation"]
kept = stayed > 0.95, (lost[["trustworthiness", "accuracy"]] < 0.01).all()
less = meet["base"] > 0.5, meet["robust"] < meet["base"] / 2
report([
    judge(adata, "Certified boxes intersect; regularisation reduces this", "5A",
          "pairs of unlike cells that meet, eps 0.2", meet["robust"],
          "base model", meet["base"], *less),
    judge(adata, "Reconstruction keeps the shape of the embedding", "sec. 2.4",
          "correlation with the base map", stayed, "without reconstruction", without, *kept),
])  # fmt: skip

# %% [markdown]
# One model of each kind, so there is no spread. The first verdict is about one $\epsilon$: at small ones the boxes hardly meet
# in either model, as the table of overlaps shows.
#
# ## Take-aways
#
# - Bounds are differentiable, so training can shrink them. Boxes also shrink with the map, hence the
#   reconstruction loss.
# - Robust training made the boxes at $\epsilon = 0.2$ several times narrower, with a small loss of trustworthiness
#   and little or none of accuracy. Short runs lose more.
# - How wide they are in a plain model depends on its training: on the learning rate, and on weight decay.
# - Area and width lie on nearly the same curve here. More steps give a better curve.
# - A certificate can be turned into a statement about a label. An attack tells how much it leaves undecided.
# - Most of the gain is a tighter proof; a smaller part is a network that moves cells less.
#
# ## On your own
#
# **1. Scale.** Suppose we measured the widths in standard deviations of the *current* map in place of the
# base map. What would the bound loss then say about the last layer's weights being halved?
#
# ```{admonition} Solution
# :class: dropdown
#
# Nothing. Widths and standard deviations both halve (the bias does not matter for either), and their ratio
# stays. So its gradient with respect to the last layer has no component along the weights themselves. With that
# choice shrinking the map does not lower the loss, and the reconstruction is needed for the shape only. With the base
# map's units, used here, it does, and the reconstruction has to prevent it.
# ```
#
# **2. Three dimensions.** A box has the widths 5, 4 and 3. Where does descent on its volume end? And where from
# $(5, 4, 4)$?
#
# ```{admonition} Solution
# :class: dropdown
#
# The volume moves each width by minus the product of the other two. So w1 dw1 = w2 dw2 = w3 dw3, and the
# differences of the squares stay: 25 - 9 = 16 and 16 - 9 = 7. It ends when the smallest is 0, at the widths
# 4, sqrt(7) and 0. From (5, 4, 4), the two equal widths fall to 0 together and the third to 3. They never quite
# arrive: near the end each falls at 3 times its own size, which is an exponential decay.
#
#     widths = torch.tensor([[5.0, 4.0, 3.0]])
#     for _ in range(2000):
#         widths.requires_grad_()
#         loss = bound_loss(torch.zeros(1, 3), widths, torch.ones(3), "area")
#         (slope,) = torch.autograd.grad(loss, widths)
#         widths = (widths - 0.01 * slope).detach().clamp(min=0)
#     print(widths)
# ```
#
# **3. Which $\epsilon$ to train at.** You want certificates at 0.02. Should you train at 0.02? Compare runs with $\epsilon$ of
# 0.02, 0.05 and 0.2 by their width *at 0.02*, and by their trustworthiness.
#
# ```{admonition} Solution
# :class: dropdown
#
#     for eps in (0.02, 0.05, 0.2):
#         model = robust_training(base, X, eps=eps)
#         lower, upper = rpumap.certify(model, X_held, 0.02)
#         print(eps, (upper - lower).mean(), trustworthiness(X, model.embedding_))
#
# At equal strength, a larger training radius gives narrower boxes at 0.02 as well, and a lower
# trustworthiness: the bound loss is simply larger. To choose fairly, raise the strength of the runs with a small
# radius until their trustworthiness is that of the others, and compare the widths then.
# ```
#
# **4. Its own neighbour.** Call `labels_are_certain` for 200 *reference* cells, with their own coordinates in `Z`. What
# is wrong with that, and what does `leave_one_out` need?
#
# ```{admonition} Solution
# :class: dropdown
#
# Each cell is one of its own neighbours, and votes for its own label. So the labels agree with the
# truth more often than those of held-out cells would, which have no vote. (More labels need not be certain: where
# the neighbours disagree with the cell, its own vote makes the majority smaller.) With leave_one_out=True box i belongs to cell i of Z, which then has no vote for it. It needs a box for
# each cell of Z, in order; certified_label_fraction takes care of that. Holding the cells out, as above, is cleaner still.
# ```
#
# ## In practice
#
# - `robust = rpumap.robustify(model, X, eps=0.2)` returns a new model; the old one stays. `robust.history_` holds
#   the two additional terms.
# - Report how the model was trained and, before and after: width with $\epsilon$, norm and method, trustworthiness, accuracy, correlation of the maps.
# - Raise `strength` until a score that you care about starts to fall, then go back one step. Raise `n_steps` before
#   you change other settings.
# - Judge with {func}`rpumap.certify`, which uses CROWN and allows for rounding, on cells held out of training.
# - Certify labels, not widths, if labels are what you will use, and attack what you certify.
#
# On which *genes* does a map depend, and does robust training change that? See [the next chapter](09_gene_impact).
#
# ## Further reading
#
# - {cite:t}`zhang2023robust`: sections 2.4 and 3.5. {cite:t}`zhang2018crown`: the bounds.
# - {cite:t}`gowal2018ibp`: training with intervals, and why the radius is raised slowly.
# - {cite:t}`zhang2020crownibp`: CROWN-IBP, the bound used in training here.
# - {cite:t}`xu2020lirpa`: certified training for any computational graph.
