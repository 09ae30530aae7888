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
# # Filling a gap
#
# Cells change gradually, but an experiment may miss a stage, and the map of the rest then has a gap.
# If the missing stage turns up later, does a network that never saw this *type* of cell place it in the
# gap, between its neighbours? And if it does, what has the network learned?

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor

import rpumap
from rpumap import plotting
from rpumap.chapters.comparison import describe_cells, fit_umap_learn
from rpumap.chapters.display import say, show_rules, show_verdicts
from rpumap.chapters.gap_scores import (
    gap_between,
    path_position,
    type_overlap,
)
from rpumap.chapters.gaps import CASES, HoldOut, development, measure_gaps
from rpumap.chapters.generalization import SPLIT_SEED
from rpumap.chapters.scorecard import load_results
from rpumap.chapters.settings import DEFAULT
from rpumap.chapters.style import use_style
from rpumap.plotting import COLORS, INK

use_style()
adata = rpumap.datasets.pancreas()
print(adata.uns["source"])
source = describe_cells(adata)
case = CASES["pancreas"][0]
run = HoldOut(adata, DEFAULT, case.hidden, seed=0)
seen, unseen = run.training, ~run.training
left, right = run.of(case.left), run.of(case.right)
whole = HoldOut(adata, DEFAULT, (), seed=SPLIT_SEED)  # a map that saw all
types = list(adata.obs["clusters"].cat.categories)


def panel(ax, run, Z, title, show_unseen=True):
    look = {"ax": ax, "names": "none", "categories": types}
    old, new = run.training, ~run.training
    plotting.embedding(Z[old], run.kinds[old], marker="x", size=8, **look)
    look |= {"marker": "o", "size": 6 * show_unseen}
    plotting.embedding(Z[new], run.kinds[new], **look)
    ax.set(title=title, xlabel="", ylabel="")


def name_types(fig):
    for color, kind in zip(COLORS, types, strict=True):
        fig.axes[0].scatter([], [], color=color, s=30, label=kind)
    look = {"handletextpad": 0.1, "columnspacing": 0.8}
    fig.legend(loc="outside lower center", ncols=3, **look)


# %% tags=["hide-input"] mystnb={"image": {"alt": "Two copies of one map. Left, training cells only, as crosses: Ductal and Ngn3 low cells on one side, Pre-endocrine and hormone cells on the other, and a gap between them. Right: the unseen Ngn3 high cells as dots, many of them in the gap."}, "figure": {"caption": "The network was trained without the Ngn3 high cells. Left: the training cells (crosses) leave a gap. Right: the same map after the unseen cells (dots) were projected. Counterpart of figure 3B and C.", "name": "fig-gap-before-after"}}
fig, axes = plt.subplots(1, 2, figsize=(5, 4.4))
panel(axes[0], run, run.Z, f"before, {source}", show_unseen=False)
panel(axes[1], run, run.Z, "after")
name_types(fig)


# %% tags=["remove-input"]
def share_inside(Z):
    return gap_between(Z, left, right)[2][unseen].mean()


inside, inside_whole = share_inside(run.Z), share_inside(whole.Z)
inside_line = share_inside(np.where(seen[:, None], run.Z, run.by_line))
meaning = "so the share alone does not tell what a network has learned"
if inside_line < inside:
    meaning = "and what is beyond that is left to be explained"
say(f"""
The network never saw one of the {unseen.sum()} Ngn3 high cells, and places
{100 * inside:.0f} % of them in the gap. On a map that was trained on all cells,
{100 * inside_whole:.0f} % of them lie between the same two types. But a linear
fit to the network's map, which can know no biology, places
{100 * inside_line:.0f} % of them in the gap, {meaning}.
""")

# %% [markdown]
# ## What you will learn
#
# After this chapter you can
#
# - show that the training loss does not decide what happens in a gap, and say what continuity guarantees;
# - compute the position of a cell along a gap, and score a placement in three ways;
# - judge a network beside a linear fit, the nearest cell, UMAP's own `transform` and chance;
# - make doublets, and decide whether a cell in a gap is evidence of an intermediate type.
#
# **You need** [Training](03_training), medians, quantiles, and rank correlation.
# [Generalization](04_generalization) asks the easier question about held-out cells of *known* types.
#
# ## What the paper says
#
# The paper leaves types of the dentate gyrus out (section 3.4, figure 3): it saw "a clear gap region", while the
# "relative position of the rest of the cell types remained similar"; "surprisingly", the missing types "were projected
# to where they belong", in another case too, and when several were missing, "almost perfectly". Hence "gap
# regions within the embedding represent unobserved, intermediate cell types", and the network "appeared to
# have learned something about the biology".
#
# ## Three cells by hand
#
# Take two genes, one that fades and one that rises. An early cell has $(4, 0)$, a late cell $(0, 4)$.
# The stage between them, $(3, 2)$, was missed. Let the map have one axis, with the early cell at 0
# and the late one at 4. Here are three functions that a network with ReLUs can represent:
#
# $$
# \begin{aligned}
# f_1(x) &= \tfrac12\,(4 - x_1 + x_2) \\
# f_2(x) &= \operatorname{relu}(x_2 - x_1) \\
# f_3(x) &= x_2 + 5\,\operatorname{relu}(x_1 + x_2 - 4) .
# \end{aligned}
# $$ (eq-gap-three)
#
# All three place the early and the late cell exactly. Where do they place the missed cell? And where
# does the simplest rule place it, which takes the coordinate of the nearest training cell?

# %%
cells = np.array([[4, 0], [3, 2], [0, 4], [2, 2]])
x1, x2 = cells.T
on_map = {"f1": (4 - x1 + x2) / 2, "f2": np.maximum(0, x2 - x1)}
on_map["f3"] = x2 + 5 * np.maximum(0, x1 + x2 - 4)
to_early, to_late = (((cells - cells[end]) ** 2).sum(1) for end in (0, 2))
on_map["nearest"] = np.where(to_early <= to_late, 0, 4)
stages = ["early", "missed", "late", "half and half"]
by_hand = pd.DataFrame(on_map, index=stages).T
by_hand

# %% tags=["hide-input"]
assert (by_hand["early"] == 0).all() and (by_hand["late"] == 4).all()
assert by_hand["missed"].tolist() == [1.5, 0, 7, 0]

# %% [markdown]
# $f_1$ fills the gap. $f_2$ places the missed cell on top of the early one, because its only neuron is
# inactive there. $f_3$ places it beyond the late cell: its neuron is inactive for *both* training
# cells, so training does not constrain its weight of 5. The loss is the same for all three.
# **Nothing in training decides what happens in a gap.**
#
# ### What continuity guarantees
#
# Something does hold for every network. Go in gene space from an early cell $x_A$ to a late one
# $x_B$ on the straight line
#
# $$
# x(w) = (1 - w)\, x_A + w\, x_B
# $$ (eq-gap-mixture)
#
# with $w$ from 0 to 1. A network $f$ is continuous: small steps in gene space are small steps on the map. So $f(x(w))$ is a
# continuous path from $z_A = f(x_A)$ to $z_B = f(x_B)$. Measure along the line from $z_A$ to $z_B$ by
#
# $$ t(z) = \frac{(z - z_A) \cdot (z_B - z_A)}{\lVert z_B - z_A \rVert^2} . $$ (eq-gap-along)
#
# Then $t(f(x(0))) = 0$ and $t(f(x(1))) = 1$, and by the intermediate value theorem $t$ takes
# *every* value between. Some input lands at each position of the gap, whatever the network has
# learned. Three things do not follow: that the path is straight (it may lead round the gap), that $t$
# grows evenly with $w$ (it may hardly change over most of the path, as with $f_2$), and that real cells
# lie on that line: $(3, 2)$ does not, $(2, 2)$ does.
#
# The coordinate of the nearest training cell is not a continuous function of the input. It jumps, and
# the gap stays empty. `transform` of umap-learn starts from a weighted mean of the coordinates of the
# nearest training cells, and then minimises the UMAP loss with the training cells held fixed. Its list
# of neighbours changes in jumps too.
#
# ## A curve with its middle missing
#
# Now with training. Made-up points lie on two thirds of a circle, and the map is their position along the curve,
# from 0 to 1. The middle is left out. Three small networks with different starts learn from
# the rest, next to a linear fit and the nearest neighbour.

# %%
draw = np.random.default_rng(0)
position = np.sort(draw.uniform(size=200))
angle = 4 / 3 * np.pi * position
arc = 2 * np.column_stack([np.cos(angle), np.sin(angle)])
arc += 0.05 * draw.normal(size=(200, 2))
missed = (position > 0.35) & (position < 0.65)

# %%
methods = {"nearest": KNeighborsRegressor(1), "linear": LinearRegression()}
options = {"hidden_layer_sizes": (32, 32), "solver": "lbfgs", "max_iter": 2000}
for seed in range(3):
    methods[f"network {seed}"] = MLPRegressor(random_state=seed, **options)
found, crossing = {}, {}
for name, method in methods.items():
    found[name] = method.fit(arc[~missed], position[~missed]).predict(arc)
    between = (found[name] > 0.35) & (found[name] < 0.65)
    crossing[name] = between[missed].mean()
pd.Series(crossing, name="share in the gap").round(2).to_frame()

# %% tags=["remove-cell"]
nets = ["network 0", "network 1", "network 2"]
assert crossing["nearest"] == 0 and min(crossing[net] for net in nets) > 0.5
error = {name: abs(z - position)[~missed].mean() for name, z in found.items()}
assert error["linear"] > max(error[net] for net in nets)
differ = np.ptp([found[net] for net in nets], axis=0)
assert differ[missed].mean() > 3 * differ[~missed].mean()

# %% tags=["hide-input"] mystnb={"image": {"alt": "Above: points on two thirds of a circle, the middle stretch drawn as open circles. Below: found against true position. In the missing stretch the nearest neighbour makes one step, and three networks cross it on different lines that agree elsewhere. The linear fit rises in the middle and bends back at both ends."}, "figure": {"caption": "Above: a curve whose middle (open circles) is left out of training. Below: where five functions place the points; on the thin diagonal found and true position agree. The missing stretch is shaded.", "name": "fig-gap-curve"}}
fig, (points, lines) = plt.subplots(2, 1, figsize=(5, 7.4))
points.plot(*arc[~missed].T, ".", color=INK)
points.plot(*arc[missed].T, "o", mfc="none", color=COLORS[5])
title = "made-up points on a curve"
points.set(xlabel="gene 1", ylabel="gene 2", aspect="equal", title=title)
styles = [":", "--", "-", "-.", (0, (5, 1))]
for (name, z), style in zip(found.items(), styles, strict=True):
    lines.plot(position, z, linestyle=style, label=name, linewidth=2)
lines.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
lines.axvspan(0.35, 0.65, color=INK, alpha=0.15, linewidth=0)
lines.set(xlabel="true position", ylabel="found position")
lines.set_title("where they are placed")
legend = fig.legend(loc="outside lower center", ncols=2)

# %% [markdown]
# The nearest neighbour makes one jump. The networks cross the gap, each in its own way: they agree
# where there were points, and only there. The linear fit crosses it too, although it has learned
# only one direction; its error on the training points is larger. It is the baseline that a network has to
# beat.
#
# ## One network, step by step
#
# {class}`~rpumap.chapters.gaps.HoldOut` leaves types out of everything: genes, means, deviations and neighbours come
# from the training cells alone. Its network is that of {numref}`fig-gap-before-after`. What counts as success?
#
# Measure $t$ by {eq}`eq-gap-along` between the medians of the two flanks, the types before and after, and the distance
# *aside* of that line in the same unit. The flanks have a width, so the gap is what lies between them: it begins
# where only 5 % of the left flank's cells lie further on, and ends where only 5 % of the right
# flank's have been passed. Then:
#
# - **inside**: the share of unseen cells between these two ends, and at most 0.5 aside.
# - **place**: the types of a cell's 15 nearest *training* cells, compared with those around it on a map that saw all:
#   $\sum_k \min(p_k, q_k)$ of their shares, 0 if nothing agrees and 1 if all does.
# - **order**: the rank correlation of $t$ with how far a cell has developed.
#
# How far a cell has developed is known for simulated cells. For real ones we need a model: scanpy's
# *diffusion pseudotime* {cite:p}`haghverdi2016dpt,wolf2018scanpy`, how far a random walk among all cells in gene space
# is from a chosen first cell, here the Ductal cell at the end of the first diffusion component. It uses
# the missing cells, but none of the maps. Agreement with it is no proof.

# %%
time = development(adata, DEFAULT, "pancreas")


def place(run, Z, judged):
    old, true = run.training, whole.Z
    ends = true[old], Z[old], run.kinds[old]
    return type_overlap(*ends, true[judged], Z[judged]).mean()


def score(Z):
    t, _, inside = gap_between(Z, left, right)
    order = spearmanr(t[unseen], time[unseen]).statistic
    share = inside[unseen].mean()
    return {"inside": share, "place": place(run, Z, unseen), "order": order}


pd.DataFrame({"network": score(run.Z)}).T.round(2)

# %% [markdown]
# Is that much? The upper reference is *another map that saw all*, with another seed than the first: two maps of the
# same cells do not agree fully either. The others keep the network's map of the training cells and
# choose coordinates for the unseen cells by other means: a *linear* regression from 30 principal components to the map, the
# *nearest* training cell in gene space, and *chance*, anywhere in the rectangle that the training cells fill. The last
# is umap-learn, with a map of its own and its own `transform`.


# %%
def instead(Z_unseen, Z_seen=run.Z[seen]):
    Z = np.empty_like(run.Z)
    Z[seen], Z[unseen] = Z_seen, Z_unseen
    return Z


X_seen, Z_seen = run.X[seen], run.Z[seen]
nearest = KNeighborsRegressor(1).fit(X_seen, Z_seen).predict(run.X[unseen])
pca = PCA(30, random_state=0).fit(X_seen)
linear = LinearRegression().fit(pca.transform(X_seen), Z_seen)
by_line = instead(linear.predict(pca.transform(run.X[unseen])))
corners = Z_seen.min(axis=0), Z_seen.max(axis=0)
anywhere = draw.uniform(*corners, (unseen.sum(), 2))

# %% tags=["remove-cell"]
assert np.allclose(by_line[unseen], run.by_line[unseen], atol=1e-3)

# %%
Z_umap, new_umap = fit_umap_learn(X_seen, run.X[unseen])
maps = {
    "another map that saw all": HoldOut(adata, DEFAULT, (), seed=0).Z,
    "network": run.Z,
    "linear": by_line,
    "nearest": instead(nearest),
    "umap-learn": instead(new_umap, Z_umap),
    "chance": instead(anywhere),
}
scores = pd.DataFrame({name: score(Z) for name, Z in maps.items()}).T
scores.round(2)

# %% tags=["remove-input"]
of = scores.loc
percent = (100 * scores["inside"]).round().astype(int)
better = scores.columns[of["network"] > of["linear"]]
beaten = "in none of the three scores"
if len(better):
    beaten = "in " + " and ".join(f"*{name}*" for name in better)
say(f"""
*Nearest* and *umap-learn* place cells among the training cells that they
resemble most. That is right for recognising known types: their place is
{of["nearest", "place"]:.2f} and {of["umap-learn", "place"]:.2f}, beside
{of["network", "place"]:.2f} of the network. But it need not fill the gap:
{percent["nearest"]} % and {percent["umap-learn"]} % are inside, beside
{percent["network"]} %. *Chance* has {percent["chance"]} % inside, since a gap
may be large, but a place of {of["chance", "place"]:.2f} and an order of
{of["chance", "order"]:.2f}: the first score alone means little. *Linear* is the
baseline to beat: {percent["linear"]} % inside, a place of
{of["linear", "place"]:.2f} and an order of {of["linear", "order"]:.2f}, beside
{of["network", "order"]:.2f} of the network. This network exceeds it {beaten}.
""")

# %% [markdown]
# This bears on "learned something about the biology". If a linear fit fills the gap as well as the network, then
# the reason lies in the cells: intermediates lie between their neighbours in gene space, and a
# continuous map that keeps the neighbours apart must use the space between them. Only what the network
# does better than the linear fit could be more than that.
#
# ```{index} ! doublet
# ```
#
# ## Doublets are not intermediate
#
# The paper shows that some intermediate cells are placed in a gap. Who finds cells in a gap needs the converse: that what lies
# there is intermediate. The paper does not say so, and tries no other cells; this test is ours. We have two kinds.
#
# The **control** is an unseen end state. Alpha cells develop beside Beta cells, not between
# the precursors and Beta cells. We count how many land between the medians of those two, $0 < t < 1$, at most 0.5 aside; and how
# many do so on a map that saw them.


# %%
def share_between(run, Z, kinds, start, end):
    ends = Z[run.of(start)], Z[run.of(end)]
    t, aside = path_position(Z[run.of(kinds)], *ends)
    return ((t > 0) & (t < 1) & (aside <= 0.5)).mean()


control = HoldOut(adata, DEFAULT, ["Alpha"], seed=0)
ends = ["Alpha"], ["Pre-endocrine"], ["Beta"]
alpha_between = share_between(control, control.Z, *ends)
alpha_whole = share_between(whole, whole.Z, *ends)

# %% [markdown]
# **Doublets** are two cells in one droplet: their counts add up. No such cell exists. Take one cell of
# either flank, add, and scale to the usual library size. The input of the network is then nearly the
# mixture of {eq}`eq-gap-mixture`, so continuity applies again.


# %%
def doublets(run, left, right, seed, weight=1, n=500):
    draw = np.random.default_rng(seed)
    one, two = (draw.choice(np.flatnonzero(side), n) for side in (left, right))
    counts, size = adata.X, adata.obs["library_size"].to_numpy()
    pairs = AnnData(counts[one] + weight * counts[two], var=adata.var)
    pairs.obs["library_size"] = size[one] + weight * size[two]
    return run.model.transform(run.prep.transform(pairs))


# %%
pairs = doublets(run, left, right, seed=0)
sides = [np.append(side, np.zeros(len(pairs))) for side in (left, right)]
_, _, pairs_inside = gap_between(np.vstack([run.Z, pairs]), *sides)
pairs_inside = pairs_inside[-len(pairs) :].mean()

# %% tags=["hide-input"]
assert np.array_equal(pairs, run.doublets(left, right, seed=0))

# %% tags=["remove-input"]
say(f"""
Of the doublets, {100 * pairs_inside:.0f} % lie in the gap, beside
{100 * inside:.0f} % of the unseen Ngn3 high cells. Of the unseen Alpha cells,
{100 * alpha_between:.0f} % lie between precursors and Beta cells, beside
{100 * alpha_whole:.0f} % on the map that saw them. A reader of the map would
take these for a step on the way to Beta. **A position in a gap is a reason to
look at the genes of a cell, not a proof of what it is.**
""")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four maps with training cells as crosses and unseen cells as dots. Top left: without three stages, the unseen ones reach from Ductal to hormone cells. Top right: without Alpha cells, which are placed near other hormone cells and precursors. Bottom: without Ngn3 high cells; a linear fit places them in the gap, umap-learn on the training cells or at their edge."}, "figure": {"caption": "Top: three stages left out, and the control, an end state left out. Bottom: the case of {numref}`fig-gap-before-after` with the linear fit, and with umap-learn on a map of its own. Crosses: training cells; dots: unseen cells.", "name": "fig-gap-more"}}
many = HoldOut(adata, DEFAULT, CASES["pancreas"][2].hidden, seed=0)
fig, axes = plt.subplots(2, 2, figsize=(5, 6.2))
panel(axes[0, 0], many, many.Z, "three stages left out")
panel(axes[0, 1], control, control.Z, "Alpha left out")
panel(axes[1, 0], run, by_line, "Ngn3 high, linear fit")
panel(axes[1, 1], run, maps["umap-learn"], "Ngn3 high, umap-learn")
name_types(fig)
title = fig.suptitle(source)

# %% [markdown]
# ## The dentate gyrus, simulated
#
# The paper leaves out the neuroblasts, Nbl1 and Nbl2, which lead from the
# precursors nIPC to the immature granule cells. Its cells do not come with this book. What we have is a stand-in:
# cells drawn at random along the published lineage ({func}`rpumap.datasets.dentate_gyrus`). They show that the procedure
# works, and are no evidence about the hippocampus.

# %%
gyrus = rpumap.datasets.dentate_gyrus(source="simulated")[::8].copy()
neuroblasts = CASES["dentate_gyrus"][0]
stand_in = HoldOut(gyrus, DEFAULT, neuroblasts.hidden, seed=0)
flanks = stand_in.of(neuroblasts.left), stand_in.of(neuroblasts.right)
t_gyrus, _, _ = gap_between(stand_in.Z, *flanks)

# %% tags=["hide-input"] mystnb={"image": {"alt": "A map of simulated cells with the names of five types. Training cells are grey. The unseen Nbl1, blue dots, and Nbl2, orange triangles, lie between nIPC and ImmGranule1 or at their edges."}, "figure": {"caption": "A network trained without Nbl1 and Nbl2, as in figure 3C, on simulated cells. Grey: training cells. Blue dots: unseen Nbl1. Orange triangles: unseen Nbl2.", "name": "fig-gap-dentate"}}
fig, ax = plt.subplots(figsize=(5, 4.8))
old = stand_in.Z[stand_in.training]
ax.scatter(*old.T, s=4, color=INK, alpha=0.25, linewidths=0)
for kind, color, marker in zip(neuroblasts.hidden, COLORS, "o^", strict=False):
    look = {"color": color, "marker": marker, "label": kind, "alpha": 0.7}
    ax.scatter(*stand_in.Z[stand_in.of([kind])].T, s=12, linewidths=0, **look)
some = stand_in.of(["nIPC", "OPC", "ImmGranule1", "Granule", "CA"])
look = {"names": "on data", "size": 0, "title": describe_cells(gyrus)}
ax = plotting.embedding(stand_in.Z[some], stand_in.kinds[some], ax=ax, **look)
legend = fig.legend(loc="outside lower center", ncols=2, markerscale=1.6)

# %% tags=["remove-input"]
first, second = (
    np.median(t_gyrus[stand_in.of([kind])]) for kind in neuroblasts.hidden
)
order = "The order agrees." if first < second else "The order does not agree."
say(f"""
The paper adds that Nbl1 lies on the side of the radial glia and Nbl2 on that of
the granule cells. Here the median of $t$ is {first:.2f} for Nbl1 and
{second:.2f} for Nbl2, with 0 at nIPC and 1 at ImmGranule1. {order}
""")

# %% [markdown]
# One sentence of section 3.4 we leave aside: that ImmGranule2 "connect the ImmAstro cluster to the rest".
# Immature granule cells become granule cells, immature astrocytes come from glia; the sentence probably
# means another cluster.
#
# ## A closed cycle
#
# Malaria parasites in the blood {cite:p}`howick2019` pass from ring to trophozoite to schizont, which bursts into new rings:
# a cycle. The cells are real ({func}`rpumap.datasets.malaria`), and enter the published run only. We leave out the early and the late trophozoites, IDC4 and IDC5, between the late rings (IDC3) and the
# schizonts (IDC6). This is a harder test than the pancreas, and a better one:
#
# - *There are two ways round.* On a branch, the flanks are connected through the missing stage alone. On a cycle they
#   are also connected through all the stages that were seen, and a continuous path may take either way. A network that sends
#   the trophozoites round through the other stages is as continuous as one that closes the cycle.
# - *Nothing keeps the two ends facing each other.* What is left is an open curve, which a map
#   may straighten. Then the line between the flanks does not run where the missing stages were, and fewer cells can be
#   *inside*. That is why the share is compared with that of a map that saw all.
# - *The order is not ours.* The authors computed an angle around the cycle for each cell, their `clock_pseudotime`. (It
#   comes from the same counts, so agreement with it is no proof either.)
#
# ## The rules
#
# The unit of repeat is a network with its seed, and ten of them are judged. One
# function measures a unit: here five networks, three that did not see some types and two that saw all. It gives each value with
# its baseline. The cell below the table checks that it agrees with what we found step by step.

# %%
unit = measure_gaps(adata, DEFAULT, seed=0, name="pancreas")
pd.DataFrame(unit, index=["value", "baseline"]).T.round(3)

# %% tags=["hide-input"]
assert np.isclose(unit["gap-fill/inside"], [inside, inside_whole]).all()
assert np.isclose(unit["gap-fill/place"][0], scores.loc["network", "place"])
assert np.isclose(unit["gap-fill/order"][0], scores.loc["network", "order"])
assert np.isclose(unit["biology"][1], scores.loc["linear", "place"])

# %% [markdown]
# For the place, the baseline is two maps that saw all: what is left out cannot be expected to agree better
# than these. For `biology` it is the linear fit, for `doublets` the doublets.
# These rules were written before the ten networks were trained ([how to read them](../book/scorecard)). `doublets` is ours, all
# others are claims of the paper; `gap-next` is its figure 3D and `gap-many` 3E, where each type that was left out is judged:

# %% tags=["remove-input"]
show_rules("05_gap_filling")

# %% [markdown]
# ## What ten networks say
#
# Pancreas and malaria are real cells; `dentate_gyrus` stands for the simulated stand-in.

# %% tags=["hide-input"]
results = {
    (row["id"], row["cells"], row["settings"]): row
    for row in load_results()["rows"]
}
LOOKS = {
    "network": ("o", COLORS[0]),
    "saw all": ("s", INK),
    "doublets or linear fit": ("^", COLORS[5]),
}
# The claim whose units hold the marks, and whether value (0) or baseline (1).
PARTS = {
    "inside": (("gap-fill/inside", 0), ("gap-fill/inside", 1), ("doublets", 1)),
    "place": (("gap-fill/place", 0), ("gap-fill/place", 1), ("biology", 1)),
    "order": (("gap-fill/order", 0), None, ("gap-fill/order", 1)),
}
TISSUES = ("pancreas", "malaria", "dentate_gyrus")


def told(claim, cells, settings="paper"):
    row = results[claim, cells, settings]
    numbers = f"{row['value']:.2f} beside {row['baseline_value']:.2f}"
    return f"{numbers} ({row['verdict']})"


def both(claim, settings="paper"):
    pancreas, cycle = (told(claim, cells, settings) for cells in TISSUES[:2])
    return f"{pancreas} on the pancreas and {cycle} on the cycle"


def draw_units(ax, at, mark, look, cells, settings):
    """Draw ten networks beside each other, and their mean as a bar."""
    shape, color = look
    y = np.array(results[mark[0], cells, settings]["units"])[:, mark[1]]
    x = at + np.linspace(-0.08, 0.08, len(y))
    ax.plot(x, y, shape, color=color, markersize=4, alpha=0.7)
    ax.plot([at - 0.1, at + 0.1], [y.mean()] * 2, color=color)


# %% tags=["hide-input"] mystnb={"image": {"alt": "Six panels: shares inside the gap, agreement of types, and order, in the paper's settings on the left and with our defaults on the right. In each, for pancreas, malaria and the simulated dentate gyrus, ten dots for the network stand beside ten squares for maps that saw all and ten triangles for what else it is compared with: doublets or the linear fit."}, "figure": {"caption": "Each mark is one of ten networks (blue dots) or what it is compared with: a map that saw all (dark squares); in the top row doublets, below the linear fit (red-brown triangles). The bar is the mean. Higher is better, except for doublets.", "name": "fig-gap-ten"}}
fig, axes = plt.subplots(3, 2, figsize=(5, 7.6), sharex=True, sharey="row")
titles = {"paper": "paper's settings", "default": "our defaults"}
for row, (part, marks) in zip(axes, PARTS.items(), strict=True):
    row[0].set_ylabel(part)
    for ax, settings in zip(row, titles, strict=True):
        for at, cells in enumerate(TISSUES):
            for k, look in enumerate(LOOKS.values()):
                if marks[k] is not None:
                    where = at + 0.25 * (k - 1)
                    draw_units(ax, where, marks[k], look, cells, settings)
for ax, title in zip(axes[0], titles.values(), strict=True):
    ax.set_title(title)
for ax in axes[-1]:
    ax.set_xticks(range(3), ("pancreas", "malaria", "simulated\ngyrus"))
    ax.tick_params("x", rotation=45)
for name, (shape, color) in LOOKS.items():
    ax.plot([], [], shape, color=color, label=name)
handles = ax.get_legend_handles_labels()
look = {"handletextpad": 0.1, "columnspacing": 0.8}
legend = fig.legend(*handles, loc="outside lower center", ncols=3, **look)

# %% tags=["remove-input"]
show_verdicts("05_gap_filling")

# %% tags=["remove-input"]
say(f"""
**How to read it**, with the value, its baseline and the verdict in the paper's
settings.

*Is there a gap?* Its width, beside that of the widest gap on a map that saw
all, is {both("gap-open")}. *Do the others stay where they were?* The rank
correlation is {both("gap-rest")}; the baseline says how far two maps of the
same cells differ.
""")

# %% tags=["remove-input"]
say(f"""
*Do unseen types go where they belong?* Inside: {both("gap-fill/inside")}. The
baseline need not be near 1, since cells of a type may lie among the flanks even
if they are seen; the rule asks for half of it. Place:
{both("gap-fill/place")}. Where the place falls short of two maps that saw all,
cells are next to other types than they should be, even if they are inside the
gap. Order: {both("gap-fill/order")}; it has to exceed 0.5, and the linear fit
is there to compare. On the cycle, the median $t$ of the later of the two unseen
stages is {told("gap-fill/sides", "malaria")} of the earlier.
""")

# %% tags=["remove-input"]
say(f"""
In another case, without the Pre-endocrine cells, the place is
{told("gap-next/place", "pancreas")}. With three stages missing it is
{told("gap-many/Ngn3 low EP", "pancreas")},
{told("gap-many/Ngn3 high EP", "pancreas")} and
{told("gap-many/Pre-endocrine", "pancreas")}, in order of development: "almost
perfectly" would need all three to hold.
""")

# %% tags=["remove-input"]
say(f"""
*Has it learned biology?* The place, beside that of the linear fit, is
{both("biology")}; with our defaults {both("biology", "default")}. Where this
does not hold, a linear fit explains as much. Where it holds, the network does
better than a linear fit, as other smooth curves might too: knowledge of biology
would need that, and more.
""")

# %% tags=["remove-input"]
say(f"""
*Do doublets stay out?* The share of unseen cells inside, beside that of
doublets, is {both("doublets")}. Where this does not hold, a cell in the gap may
as well be a doublet. Where it holds, the share of doublets still tells how many
would be taken for an intermediate stage.

On the simulated dentate gyrus the place is
{told("gap-fill/place", "dentate_gyrus")}, and with the linear fit
{told("biology", "dentate_gyrus")}.
""")

# %% [markdown]
# ## What can go wrong
#
# - **The gap closes.** The graph gives every training cell its nearest neighbours, however far away they
#   are. If flanks resemble each other, or few cells are left, edges cross the gap and close it.
# - **Inactive neurons.** A gene that only the missing type uses is constant in training, perhaps not
#   even among the 300 chosen. Its weights are then as good as random, like the 5 of $f_3$.
# - **Large z-scores.** Means and deviations come from the training cells. A gene that hardly varied
#   there gives an unseen cell a value far outside, and the output of the network grows with it.
# - **Data leaks.** Genes and z-scores chosen with the missing cells tell the network about them.
# - **One score alone.** Random coordinates lie in gaps, cells on top of a flank agree in types, and
#   cells beside the map may be in perfect order.
# - **One network.** The loss does not say where to place a type that it never saw. Two seeds
#   may fill the same gap differently: see the spread of the dots in {numref}`fig-gap-ten`.
#
# ## Take-aways
#
# - Training does not decide what happens in a gap. Continuity makes a path cross it; that the path is
#   straight and even is chance, or a property of the data.
# - Filling a gap is by itself no sign of biological knowledge: a linear fit is the baseline to beat.
# - UMAP's `transform` places cells among those it knows. That is a different answer, not a worse one.
# - Unseen end states and doublets can also be placed between two types. Look at the genes of a cell in a
#   gap before you name it.
# - Judge placement by several scores, against chance, nearest neighbour, a linear fit, and a network
#   that saw all.
#
# ## Self-check
#
# **1. Two networks have the same training loss. One places an unseen stage in the gap, the other on a training
# type. Which of them was trained badly?**
#
# :::{dropdown} The one that leaves the gap empty
# Not quite. The loss contains pairs of training cells only. It is the same, so training has done its work in both.
# :::
# :::{dropdown} Neither, for the loss says nothing about inputs that lie in the gap
# Right. That is what $f_1$, $f_2$ and $f_3$ show: equal on the training cells, different between them.
# :::
# :::{dropdown} This cannot happen, since a network is continuous
# Not quite. Continuity makes the path from an early to a late cell cross the gap. It does not say where on this path
# the change takes place, nor that the unseen cells lie on it.
# :::
#
# **2. A network places nine of ten unseen cells in the gap. What has to be known before this counts as learned
# biology?**
#
# :::{dropdown} What a linear fit of the same map does with them
# Right. If a linear fit places as many of them there, then it is enough that intermediate cells lie between
# their neighbours in gene space.
# :::
# :::{dropdown} Whether UMAP's own transform places fewer of them there
# Not quite. It places cells among those that they resemble most, so it is easy to exceed in this score.
# :::
# :::{dropdown} Whether the unseen cells also keep their order
# Not quite. Order is a score worth having, but a linear fit can keep it too. Each score needs its baseline.
# :::
#
# **3. On your map some cells lie halfway between two types, far from all training cells. What are they?**
#
# :::{dropdown} An intermediate stage, since maps of a network are continuous
# Not quite. Mixtures of the two types come to lie there for the same reason.
# :::
# :::{dropdown} A failure of the network, since cells belong next to those that they resemble most
# Not quite. That is the rule of `transform`. A cell that resembles none of the training cells well has no
# such place.
# :::
# :::{dropdown} This is open: a stage, doublets or an end state that was not in training
# Right. The map shows a position. Look for genes that neither type has, and remove doublets first.
# :::
#
# ## Exercises
#
# :::{exercise} Another kink: paper, easy
# :label: ex-gap-another-kink
#
# Find a function with one ReLU that is right for the early and the late cell of
# {eq}`eq-gap-three`, and places the missed cell on top of the *late* one. Where does it place $(2, 2)$?
# :::
#
# :::{solution-start} ex-gap-another-kink
# :label: sol-gap-another-kink
# :class: dropdown
# :::
#
# Mirror $f_2$: $4 - \operatorname{relu}(x_1 - x_2)$ gives the early, missed and late cell the coordinates 0, 3 and 4.
# Nearly. The neuron has to be inactive for $(3, 2)$ too, so make it steeper and start it later:
# $4 - \operatorname{relu}(2 x_1 - x_2 - 4)$ gives 0, 4 and 4. The mixture $(2, 2)$ goes to 4 as well. Along the mixture
# $x_1 = 4 (1 - w)$ and $x_2 = 4 w$, the neuron is active for $2 x_1 - x_2 > 4$, that is $w < \tfrac13$: the whole gap is
# crossed in the third of the path that is next to the early cell.

# %%
mirrored = 4 - np.maximum(0, x1 - x2)
steeper = 4 - np.maximum(0, 2 * x1 - x2 - 4)
w = np.linspace(0, 1, 7)
along = 4 - np.maximum(0, 8 * (1 - w) - 4 * w - 4)
late = np.allclose(along[w > 0.3], 4)
checks = mirrored[:3].tolist(), steeper.tolist(), late
assert checks == ([0, 3, 4], [0, 4, 4, 4], True)
pd.DataFrame({"w": w, "coordinate": along}).round(2).T

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Write the score: code, medium
# :label: ex-gap-write-the-score
#
# With NumPy alone, compute which cells are *inside* from {eq}`eq-gap-along` and the text after it, and compare with
# `gap_between`. How does the share of the unseen cells change if the gap is taken from median to median, $0 < t < 1$?
# :::
#
# :::{solution-start} ex-gap-write-the-score
# :label: sol-gap-write-the-score
# :class: dropdown
# :::


# %%
def inside_gap(Z, left, right, widths=True):
    z_a, z_b = np.median(Z[left], axis=0), np.median(Z[right], axis=0)
    line = z_b - z_a
    t = (Z - z_a) @ line / (line @ line)
    off = Z - z_a - t[:, None] * line
    aside = np.linalg.norm(off, axis=1) / np.linalg.norm(line)
    begin = np.quantile(t[left], 0.95) if widths else 0
    end = np.quantile(t[right], 0.05) if widths else 1
    return (t > begin) & (t < end) & (aside <= 0.5)


ours = inside_gap(run.Z.astype(float), left, right)
assert np.array_equal(ours, gap_between(run.Z, left, right)[2])

# %%
wider = inside_gap(run.Z.astype(float), left, right, widths=False)
flanks = wider[left].mean(), wider[right].mean()
say(f"""
Between the 95 % and 5 % quantiles lie {100 * ours[unseen].mean():.0f} % of the
unseen cells, from median to median {100 * wider[unseen].mean():.0f} %. But then
{100 * flanks[0]:.0f} % and {100 * flanks[1]:.0f} % of the training cells of the
flanks are inside as well: about half of a flank lies on that side of its
median, so this share says little about a gap.
""")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} How fast can a coordinate change?: paper, medium
# :label: ex-gap-how-fast-can-a-coordinate-change
#
# The weights of a network with two hidden layers are $W_1, W_2, W_3$.
# Show that two cells at a distance $\delta$ in gene space are at most
# $\lVert W_1 \rVert \lVert W_2 \rVert \lVert W_3 \rVert\, \delta$ apart on the map (largest singular
# values). How loose is that for our network?
# :::
#
# :::{solution-start} ex-gap-how-fast-can-a-coordinate-change
# :label: sol-gap-how-fast-can-a-coordinate-change
# :class: dropdown
# :::
#
# A matrix of weights stretches a difference by at most its largest singular value. Biases cancel in differences. A ReLU
# never increases one: $|\operatorname{relu}(u) - \operatorname{relu}(v)| \le |u - v|$ in each coordinate, hence in
# length. Chain the layers. For our network we compare with what happens from an unseen cell to the training cell
# nearest to it:

# %%
weights = [p.detach().numpy() for p in run.model.encoder_.parameters()]
norms = [np.linalg.norm(W, 2) for W in weights if W.ndim == 2]
bound = np.prod(norms)
near = KNeighborsRegressor(1).fit(X_seen, X_seen).predict(run.X[unseen])
in_genes = np.linalg.norm(run.X[unseen] - near, axis=1)
on_the_map = np.linalg.norm(run.Z[unseen] - nearest, axis=1)
largest = (on_the_map / in_genes).max()
assert largest <= bound * 1.001
say(f"""
The product of the three is {bound:.1f}. Between these pairs, distances are
multiplied by {largest:.2f} at most, so the bound is {bound / largest:.0f} times
as large. A cell close to a training cell is placed near it, and $f_3$ needs a
large weight to place the missed cell far away.
""")

# %% [markdown]
# [CROWN](07_crown_derivation) computes tighter bounds.
#
# :::{solution-end}
# :::
#
# :::{exercise} More doublets: experiment, medium
# :label: ex-gap-more-doublets
#
# Make doublets of Alpha and Beta cells, with the network of the control.
# Do they lie between Beta cells and where Alpha cells were placed? What if you triple the counts of the Beta cells?
# :::
#
# :::{solution-start} ex-gap-more-doublets
# :label: sol-gap-more-doublets
# :class: dropdown
# :::

# %%
alpha, beta, spots = control.of(["Alpha"]), control.of(["Beta"]), {}
for weight in (1, 3):
    two = doublets(control, alpha, beta, seed=0, weight=weight)
    ends = [np.append(side, np.zeros(len(two))) for side in (alpha, beta)]
    t, _, _ = gap_between(np.vstack([control.Z, two]), *ends)
    spots[weight] = np.quantile(t[-len(two) :], [0.1, 0.5, 0.9])
pd.DataFrame(spots, index=["a tenth below", "median", "a tenth above"]).round(2)

# %%
low, middle, high = spots[1]
between = "lies" if 0 < middle < 1 else "does not lie"
shift = "further towards" if spots[3][1] > middle else "no nearer to"
say(f"""
With 0 at the Alpha cells and 1 at the Beta cells, the median doublet is at
{middle:.2f}, so it {between} between them. A tenth of the doublets are below
{low:.2f} and a tenth above {high:.2f}: the cells of both types are spread out
themselves. With three times the counts the median is {spots[3][1]:.2f}, {shift}
the Beta cells: then $w$ is near 3/4 in the formula for mixtures. Where droplets
hold cells of different sizes, $w$ differs from doublet to doublet.
""")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Fewer flank cells: experiment, hard
# :label: ex-gap-fewer-flank-cells
#
# Leave out the Ngn3 high cells *and* the Ngn3 low ones. Which scores of the Ngn3 high cells do you
# expect to change, and may you compare them with those before?
# :::
#
# :::{solution-start} ex-gap-fewer-flank-cells
# :label: sol-gap-fewer-flank-cells
# :class: dropdown
# :::
#
# All three can change. The left flank is gone, so *inside* and *order* need another one, the Ductal cells, and with it
# another gap. *Place* counts only the types that were seen, which are fewer.

# %%
fewer = HoldOut(adata, DEFAULT, ["Ngn3 low EP", "Ngn3 high EP"], seed=0)
judged, ductal = fewer.of(["Ngn3 high EP"]), fewer.of(["Ductal"])
again = maps["another map that saw all"]
rows = {}
for name, Z in {"network": fewer.Z, "saw all": again}.items():
    t, _, within = gap_between(Z, ductal, right)
    rows[name] = {
        "inside": within[judged].mean(),
        "place": place(fewer, Z, judged),
        "order": spearmanr(t[judged], time[judged]).statistic,
    }
rows = pd.DataFrame(rows).T
rows.round(2)

# %%
now, then = rows["place"], scores["place"].iloc[[1, 0]]
gaps = [of.iloc[1] - of.iloc[0] for of in (then, now)]
closer = "closer to" if gaps[1] < gaps[0] else "no closer to"
say(f"""
The place of the Ngn3 high cells was {then.iloc[0]:.2f}, beside
{then.iloc[1]:.2f} of two maps that saw all. Now it is {now.iloc[0]:.2f}, beside
{now.iloc[1]:.2f}, so it is {closer} its baseline than before. Baselines change
too, as there are fewer types to disagree about. Scores of different cases must
not be compared with each other, only with their own baselines.
""")

# %% [markdown]
# :::{solution-end}
# :::
#
# ## In practice
#
# - To find new stages, look at gaps, and at cells that lie far from all others
#   ({func}`~rpumap.chapters.gap_scores.isolation`). To name known types, use neighbours in
#   gene space or UMAP's `transform`.
# - Remove doublets before you read anything into a gap.
# - Test your own data as here: leave out a type you know, project it, and compare with the baselines. If it
#   fails for a known type, do not trust it for an unknown one.
# - Confirm an intermediate by its genes: is there a marker that neither flank has? A mixture has none.
# - Train several seeds and say how far they agree.
#
# ## Further reading
#
# - {cite:t}`zhang2023robust`: section 3.4 and figure 3, the claims tested here.
# - {cite:t}`sainburg2021parametric`: what parametric UMAP does with new points.
# - {cite:t}`hochgerner2018dentate`: the cells of the dentate gyrus and how they follow each other.
# - {cite:t}`bastidasponce2019`: the pancreas at the stage seen here.
# - {cite:t}`howick2019`: the cycle of the parasites.
#
# So far the counts were as measured. What if many of them were lost? Next:
# [dropout](06_dropout).
