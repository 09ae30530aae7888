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
# # From neighbours to a fuzzy graph
#
# UMAP ignores most distances between cells. It finds a short list of neighbours for each cell,
# turns each list into strengths between 0 and 1, and joins the lists into one graph.
# Why a graph and not the distances themselves, and where does each strength come from?
#
# ## What you will do
#
# - Build the graph of five cells with pencil and paper, down to exact numbers.
# - Write each step in NumPy: neighbours, $\rho$, $\sigma$ by bisection, strengths, symmetrisation.
# - Build the graph of some 3,700 cells, and find it equal to that of umap-learn.
# - Measure on the graph which cell types are connected.
#
# ## What you will learn
#
# - Why distances in many genes say little, and how a length scale per cell helps.
# - How bisection works, and when its equation has no solution.
# - Why the two directed strengths of an edge are joined as probabilities, and a slip in eq. 9 of
#   the paper.
# - What hubs, duplicates, outliers, list length and units do to the graph.
#
# ## What you need
#
# - Exponentials and logarithms, and arrays in NumPy.
# - No earlier chapter. The [quickstart](00_quickstart) shows what the graph is for.

# %% tags=["remove-cell"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("rpumap") is None:  # on Colab
    needed = ["umap-learn", "git+https://github.com/rpumap/rpumap"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *needed], check=True)

# %%
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.stats import spearmanr

import rpumap
from rpumap.chapters.comparison import describe_cells
from rpumap.chapters.style import use_style
from rpumap.plotting import COLORS, INK

use_style()
warnings.filterwarnings("ignore", message="IProgress not found")

# %% [markdown]
# SciPy holds the graph as a sparse matrix, which stores only entries that are not zero. `use_style`
# makes figures readable on light and dark pages. `filterwarnings` hides a warning on progress bars,
# which play no part here.

# %% [markdown]
# ## Why not use the distances?
#
# First, **density differs**. Some cell types are tight clouds, others are loose. A distance of 15
# may be large in one and small in the other, so no single threshold serves both.
#
# Second, **distances concentrate**. Let a cell be a row of $G$ gene values, all independent normal
# noise with mean 0 and variance 1. In each gene the difference of two cells has variance 2, so its
# square has mean 2 and variance 8. The sum over genes has mean $2G$ and variance $8G$. Its standard
# deviation over its mean is
#
# $$
# \frac{\sqrt{8G}}{2G} = \sqrt{\frac{2}{G}} .
# $$ (eq-graph-concentration)
#
# With 300 genes that is 8 %: under noise alone, all pairs of cells are about equally far apart. We
# check with 5,000 random pairs:

# %%
for n_genes in (2, 30, 300):
    a, b = np.random.default_rng(0).normal(size=(2, 5000, n_genes))
    squared = ((a - b) ** 2).sum(axis=1)
    spread, predicted = squared.std() / squared.mean(), np.sqrt(2 / n_genes)
    print(f"{n_genes:3d} genes: relative spread {spread:.3f}, predicted {predicted:.3f}")
    assert abs(spread / predicted - 1) < 0.1

# %% [markdown]
# Real genes are not independent: cells of one type do lie closer together than others.
# But much of every distance is noise. So UMAP keeps a list of near cells only, and scales the
# distances of each cell by a length of its own.

# %% [markdown]
# ## Five cells on a line
#
# Five cells, one gene. A, B, C, D and E have the values 0, 1, 3, 7 and 15: dense on the left,
# sparse on the right. Write $d(x_i, x_j)$ for the distance between cells $i$ and $j$, and $k$ for
# the number of neighbours. As in umap-learn, **$k$ counts the cell itself**. With $k = 4$ every
# cell has three true neighbours. `distance` holds all pairs; sorting each row gives the nearest
# cells, and `take_along_axis` picks their distances in that order.

# %%
names = np.array(list("ABCDE"))
position = np.array([0.0, 1.0, 3.0, 7.0, 15.0])
k = 4

distance = np.abs(position[:, None] - position[None, :])
order = np.argsort(distance, axis=1)[:, :k]
near = np.take_along_axis(distance, order, axis=1)
for name, row, far in zip(names, order, near, strict=True):
    print(name, "finds", ", ".join(f"{names[j]} at {d:g}" for j, d in zip(row, far, strict=True)))

# %% [markdown]
# D heads E's list, but E is not on D's. Being a neighbour is not symmetric; we deal with that
# below.
#
# ### rho: the distance to the nearest neighbour
#
# Let $\rho_i$ be the distance from cell $i$ to its nearest neighbour. We measure the others from
# there: the **gap** of neighbour $j$ is $g_{ij} = \max(0, d(x_i, x_j) - \rho_i)$. The maximum
# matters only beside exact copies of a cell, which we meet later.

# %%
rho = near[:, 1]
gap = near[:, 1:] - rho[:, None]
assert rho.tolist() == [1, 1, 2, 4, 8]
assert gap.tolist() == [[0, 2, 6], [0, 1, 5], [0, 1, 2], [0, 2, 3], [0, 4, 6]]
pd.DataFrame({"rho": rho, "gaps": gap.tolist()}, index=names)

# %% [markdown]
# ### Strength: a gap becomes a number between 0 and 1
#
# The strength of the edge from cell $i$ to its neighbour $j$ falls off exponentially with the
# gap, measured in units of a length $\sigma_i$ of the cell's own:
#
# $$
# p_{j|i} = \exp\!\left(-\frac{g_{ij}}{\sigma_i}\right) .
# $$ (eq-graph-strength)
#
# Read $p_{j|i}$ as the probability that $j$ is a neighbour of $i$, judged from the list of $i$. The
# nearest always gets $e^0 = 1$. A set with members by degrees is called *fuzzy*, hence the graph's
# name.
#
# ### sigma: a length scale for each cell
#
# With a small $\sigma_i$ only the nearest neighbour counts, with a large one all count alike. UMAP
# sets the same fuzzy number of neighbours for every cell: it adds up the strengths of cell $i$, and
# solves for $\sigma_i$,
#
# $$
# \begin{aligned}
# S_i(\sigma) &= \sum_{j=2}^{k} e^{-g_{ij}/\sigma} , \\
# S_i(\sigma_i) &= \log_2 k ,
# \end{aligned}
# $$ (eq-graph-sigma)
#
# where $j$ runs over the list of $i$ but for the cell itself. The target $\log_2 k$ is a choice
# {cite:p}`mcinnes2018umap`. (The paper that this book follows does not say how $\sigma$ is found:
# it takes the graph from umap-learn.) With $k = 4$ the target is exactly 2.
#
# **Is there a solution, and only one?** A term with a gap above zero grows with $\sigma$, from 0
# towards 1. A term without a gap is 1. If $n_0$ gaps are zero, $S_i$ grows from $n_0$ towards
# $k-1$. So there is exactly one solution if $n_0 < \log_2 k < k-1$, and none if there are too many
# ties. The right-hand side holds for every $k \ge 3$.
#
# ### Two cases solved by hand
#
# Cell C has gaps 0, 1, 2. With $x = e^{-1/\sigma}$, {eq}`eq-graph-sigma` reads $1 + x + x^2 = 2$.
# The positive root of $x^2 + x = 1$ is $x = (\sqrt 5 - 1)/2 = 0.618$, the inverse of the golden
# ratio $\varphi$, hence $\sigma = 1/\ln\varphi = 2.0781$. With gaps $0, g, g$ it is easier still:
# $1 + 2e^{-g/\sigma} = 2$ gives $\sigma = g/\ln 2$. Most gaps give no such formula, but the
# crossing of a monotone curve is easy to find.

# %% [markdown]
# ## Bisection
#
# Guess $\sigma = 1$. If the sum is below the target, raise the lower end `low` to the guess. If
# above, bring down the upper end `high`. The next guess is the middle of the two; while there is no
# upper end yet, double. Stop when the sum is within $10^{-5}$ of the target. Start, doubling and
# tolerance are umap-learn's. The list `trace` records every step.


# %%
def bisect(gap, target, steps=64, tolerance=1e-5):
    low, high, sigma, trace = 0.0, np.inf, 1.0, []
    for _ in range(steps):
        total = np.exp(-gap / sigma).sum()
        trace.append((low, high, sigma, total))
        if abs(total - target) < tolerance:
            break
        if total > target:
            high = sigma
        else:
            low = sigma
        sigma = 2 * sigma if np.isinf(high) else (low + high) / 2
    return sigma, trace


sigma_c, trace = bisect(gap[2], target=np.log2(k))
pd.DataFrame(trace, columns=["low", "high", "sigma", "sum"], index=range(1, len(trace) + 1))

# %% [markdown]
# Once there is an upper end, each step halves the interval: ten steps gain three decimal digits.
# Against pencil and paper, for cell C and for gaps 0, 3, 3:

# %%
by_hand = 1 / np.log((1 + np.sqrt(5)) / 2)
equal_gaps, _ = bisect(np.array([0.0, 3.0, 3.0]), target=2)
assert abs(sigma_c - by_hand) < 1e-4 and abs(equal_gaps - 3 / np.log(2)) < 1e-3
print(f"C: {sigma_c:.4f}; gaps 0, 3, 3: {equal_gaps:.4f}")

# %% [markdown]
# The figure draws $S$ for cell C, and the first six guesses on it.

# %% mystnb={"image": {"alt": "A rising curve of the sum of strengths over sigma crosses a dashed horizontal line at 2. Six numbered points on the curve jump to both sides of the crossing and close in on it."}, "figure": {"caption": "Bisection for cell C. The sum of strengths grows from 1 towards 3 with sigma and crosses the target, 2, once. Numbers count the guesses.", "name": "fig-graph-bisection"}}
grid = np.linspace(0.2, 4.6, 200)
fig, ax = plt.subplots(figsize=(6, 3.6))
ax.plot(grid, np.exp(-gap[2][:, None] / grid).sum(axis=0), label="sum of strengths")
ax.axhline(np.log2(k), linestyle="--", color=COLORS[1], label="target, $\\log_2 4$")
ax.plot(by_hand, np.log2(k), "x", color=INK, markersize=10, label="solution by hand")
for step, (_, _, sigma, total) in enumerate(trace[:6], start=1):
    ax.plot(sigma, total, "o", color=COLORS[5])
    shift = (-10, 5) if total > np.log2(k) else (5, -13)
    ax.annotate(step, (sigma, total), xytext=shift, textcoords="offset points")
ax.set(xlabel="sigma", ylabel="sum of strengths", title="Bisection for cell C")
ax.legend(loc="lower right")
plt.show()

# %% [markdown]
# Now all five cells. The unit does not matter: multiply all distances of a cell by $c$, and $\rho$,
# gaps and $\sigma$ are multiplied by $c$ too, so that {eq}`eq-graph-strength` stays. D and E show
# it. E's distances, 8, 12 and 14, are twice D's 4, 6 and 7. So $\sigma_E = 2\sigma_D$, and both
# give the same strengths, although E lies in a sparser region.

# %%
sigma = np.array([bisect(row, np.log2(k))[0] for row in gap])
strength = np.exp(-gap / sigma[:, None])
assert np.allclose(strength.sum(axis=1), 2, atol=1e-5)
assert np.isclose(sigma[4], 2 * sigma[3]) and np.allclose(strength[4], strength[3], atol=1e-4)

directed = np.zeros((5, 5))
np.put_along_axis(directed, order[:, 1:], strength, axis=1)
pd.DataFrame(directed, index=names, columns=names).round(3).assign(rho=rho, sigma=sigma.round(3))

# %% [markdown]
# Row $i$ of `directed` holds the strengths $p_{j|i}$ of cell $i$: `put_along_axis` writes them into
# the columns of the neighbours.
#
# ### A slip in eq. 9 of the paper
#
# Eq. 9 of the paper prints the exponent as $(-d - \rho)\,\sigma^{-1}$. With a minus before $\rho$,
# the nearest neighbour gets $e^{-2\rho/\sigma}$ instead of 1. We read it as $-(d - \rho)$, as in
# {eq}`eq-graph-strength`. How much does the sign matter?

# %%
printed = np.exp((-near[:, 1:] - rho[:, None]) / sigma[:, None])
assert printed.max() < 1 and np.allclose(printed, strength * np.exp(-2 * rho / sigma)[:, None])
pd.DataFrame({"nearest, corrected": strength[:, 0], "nearest, printed": printed[:, 0]}, index=names)

# %% [markdown]
# The printed formula never reaches 1: all strengths of cell $i$ shrink by the factor
# $e^{-2\rho_i/\sigma_i}$. On a line that is mild; in 300 genes it will not be.

# %% [markdown]
# ## Two strengths for one edge
#
# A and C are on each other's lists: $p_{C|A} = 0.682$ and $p_{A|C} = 0.618$. E lists D with
# strength 1, while D does not list E. We want one number an edge. Read the two as probabilities of
# independent events, "there is an edge from A to C" and "there is one from C to A", and let the
# edge exist if *either* happens:
#
# $$
# \begin{aligned}
# p_{ij} &= p_{j|i} + p_{i|j} - p_{j|i}\,p_{i|j} \\
# &= 1 - (1 - p_{j|i})(1 - p_{i|j}) .
# \end{aligned}
# $$ (eq-graph-union)
#
# This is eq. 10 of the paper, the *fuzzy union*. The second line proves two properties. It is
# **symmetric**, as swapping $i$ and $j$ swaps the brackets. It **stays in [0, 1]**: both brackets
# lie there, so does their product, and so does 1 minus that. As neither bracket exceeds 1, $p_{ij}$
# is at least as large as each of the two: an edge of strength 1 in one direction has strength 1.

# %%
graph = directed + directed.T - directed * directed.T
assert np.array_equal(graph, graph.T) and graph.min() >= 0 and graph.max() <= 1
assert (graph >= np.maximum(directed, directed.T) - 1e-12).all()
pd.DataFrame(graph, index=names, columns=names).round(3)

# %% [markdown]
# Only A and E are not connected. From here on UMAP uses this table only.

# %% [markdown]
# ## From five cells to thousands
#
# The cells are of the developing mouse pancreas {cite:p}`bastidasponce2019`, eight types on a
# branching path. Where the file is not found, simulated cells take their place, as the output and
# every title then say. `Preprocessor` follows section 2.3 of the paper: 300 highly variable genes,
# equal library sizes (total counts per cell), z-scores (minus the gene's mean, over its standard
# deviation). `X` has a row per cell and a column per gene; `code` numbers the cell types from 0, in
# the order of the lineage.

# %%
adata = rpumap.datasets.pancreas()
prep = rpumap.Preprocessor(n_top_genes=300)
X = prep.fit_transform(adata)

types = adata.obs["clusters"].cat.categories
code = adata.obs["clusters"].cat.codes.to_numpy()
about_cells = describe_cells(adata)
print(f"{X.shape[0]} {about_cells}, {X.shape[1]} genes, {len(types)} cell types")

# %% [markdown]
# ### Exact neighbours by one matrix product
#
# Expand the square: $\lVert x_i - x_j\rVert^2 = \lVert x_i\rVert^2 + \lVert x_j\rVert^2 - 2\,x_i
# \cdot x_j$. The last term, for all pairs, is one matrix product, the operation that processors do
# fastest. Subtracting large numbers can leave a small negative rest, so we compute with 64 bits and
# clip at zero. The diagonal is set to −1, so that a cell comes first on its own list.
# `argpartition` finds the $k$ smallest of each row; only those are then sorted.


# %%
def exact_neighbors(X, k):
    X = X.astype(np.float64)
    norm = (X**2).sum(axis=1)
    squared = norm[:, None] + norm[None, :] - 2 * X @ X.T
    np.fill_diagonal(squared, -1.0)
    indices = np.argpartition(squared, k, axis=1)[:, :k]
    near = np.take_along_axis(squared, indices, axis=1)
    rank = np.argsort(near, axis=1)
    indices, near = (np.take_along_axis(a, rank, axis=1) for a in (indices, near))
    return indices, np.sqrt(np.maximum(near, 0)).astype(np.float32)


k = 15
own_indices, own_distances = exact_neighbors(X, k)
indices, distances = rpumap.graph.nearest_neighbors(X, n_neighbors=k)
assert np.allclose(own_distances, distances, rtol=1e-5, atol=1e-4)
print(f"same neighbour at the same rank: {(own_indices == indices).mean():.2%}")

# %% [markdown]
# The package's `nearest_neighbors` finds the same distances. The work grows with the square of the
# number of cells, so that beyond some size an *approximate* search is faster. The paper uses
# {term}`NNDescent` {cite:p}`dong2011nndescent`: start from rough lists, compare every cell with the
# neighbours of its neighbours, keep the nearest, and repeat until the lists hardly change. Each
# cell is compared with few others, and a neighbour may be missed. The code is compiled anew in
# every process, which takes close to a minute.
#
# So the package has another way, an {term}`inverted file` {cite:p}`jegou2011product`: *k*-means forms
# groups, and each group is compared with the cells nearest to its centre, as many as it takes
# to find 97.5 % of the true neighbours of a few hundred cells. `method="auto"` takes it beyond 20,000
# cells of 300 genes (`rpumap.graph.EXACT_LIMIT`), and searches exactly below.
#
# ### All cells at once
#
# A loop over cells is easy to read and slow. In the fast form, `low`, `high` and `sigma` hold one
# entry per cell, every `if` becomes a `np.where`, and cells that are done keep their `sigma`. The
# slow form stays as the reference, and both must agree.


# %%
def bisect_all(gap, target, steps=64, tolerance=1e-5):
    low, high, sigma = np.zeros(len(gap)), np.full(len(gap), np.inf), np.ones(len(gap))
    for _ in range(steps):
        total = np.exp(-gap / sigma[:, None]).sum(axis=1)
        done = np.abs(total - target) < tolerance
        if done.all():
            break
        high = np.where(~done & (total > target), sigma, high)
        low = np.where(~done & (total <= target), sigma, low)
        guess = np.where(np.isinf(high), 2 * sigma, (low + high) / 2)
        sigma = np.where(done, sigma, guess)
    return sigma


# %%
gap = np.maximum(distances[:, 1:] - distances[:, 1:2], 0).astype(np.float64)
start = time.perf_counter()
slow = np.array([bisect(row, np.log2(k))[0] for row in gap])
middle = time.perf_counter()
fast = bisect_all(gap, np.log2(k))
print(f"loop {middle - start:.2f} s, all at once {time.perf_counter() - middle:.2f} s")
assert np.allclose(slow, fast, rtol=1e-6)

# %% [markdown]
# Three functions of the package do these steps: `smooth_knn_dist` gives $\rho$ and $\sigma$,
# `membership_strengths` {eq}`eq-graph-strength` and `symmetrize` {eq}`eq-graph-union`. They agree
# with what we have derived:

# %%
rho, sigma = rpumap.graph.smooth_knn_dist(distances)
directed = rpumap.graph.membership_strengths(indices, distances, rho, sigma)
graph = rpumap.graph.symmetrize(directed)
print(f"{graph.nnz // 2:,} edges, {graph.nnz / len(X) ** 2:.2%} of all pairs of cells")

derived, row = np.exp(-gap / fast[:, None]), np.arange(len(X))[:, None]
assert np.array_equal(rho, distances[:, 1]) and np.allclose(sigma, fast, rtol=1e-5)
assert np.allclose(directed[row, indices[:, 1:]].toarray(), derived, atol=1e-5)
assert abs(directed + directed.T - directed.multiply(directed.T) - graph).max() < 1e-6

# %% [markdown]
# And umap-learn? Its public function `fuzzy_simplicial_set` takes ready neighbours, and returns
# the graph, $\sigma$ and $\rho$. As the neighbours are given, nothing is random.

# %%
from umap.umap_ import fuzzy_simplicial_set

theirs, their_sigma, their_rho = fuzzy_simplicial_set(
    X, k, random_state=None, metric="euclidean", knn_indices=indices, knn_dists=distances
)
differences = {"graph": theirs - graph, "sigma": their_sigma - sigma, "rho": their_rho - rho}
largest = {name: abs(values).max() for name, values in differences.items()}
assert max(largest.values()) < 1e-5
print("largest difference:", ", ".join(f"{name} {value:.1e}" for name, value in largest.items()))

# %% [markdown]
# ### What the sign does in 300 genes
#
# Back to eq. 9. The neighbours of a cell are almost equally far, so $\sigma$ is small compared with
# $\rho$ and the factor $e^{-2\rho/\sigma}$ is close to zero. Could one keep the printed formula by
# solving {eq}`eq-graph-sigma` anew, with $d + \rho$ for the gap? We try, and also without $\rho$.

# %%
d, r, target = distances[:, 1:].astype(float), rho[:, None].astype(float), np.log2(k)
formulas = {
    "corrected": np.exp(-(d - r) / fast[:, None]),
    "as printed": np.exp((-d - r) / fast[:, None]),
    "as printed, sigma anew": np.exp((-d - r) / bisect_all(d + r, target)[:, None]),
    "without rho, sigma anew": np.exp(-d / bisect_all(d, target)[:, None]),
}
assert (formulas["corrected"][:, 0] == 1).all() and formulas["as printed"].max() < 1
print(f"median of last over first distance on a list: {np.median(d[:, -1] / d[:, 0]):.2f}")
print(f"{'median strength of the':25s}{'nearest':>10s}{'farthest':>10s}")
for name, p in formulas.items():
    print(f"{name:25s}{np.median(p[:, 0]):10.2g}{np.median(p[:, -1]):10.2g}")

# %% [markdown]
# As printed, all strengths are close to zero. With $\sigma$ solved anew the sum is right, but near
# and far neighbours count almost alike; so it is without $\rho$. Subtracting $\rho$ is what turns
# nearly equal distances into clearly different strengths.

# %% [markdown]
# ## What the graph says about the cells
#
# ### Each type has its own density
#
# The figure shows $\rho$ and $\sigma$ by type: median, middle half (thick), and 10th to 90th
# percentile (thin), all from `groupby` with `quantile`. On logarithmic axes equal steps are equal
# factors.

# %% mystnb={"image": {"alt": "Two panels, rho above and sigma below, with a horizontal interval for each of eight cell types. The intervals overlap, and their medians differ."}, "figure": {"caption": "The distance $\\rho$ to the nearest neighbour and the length scale $\\sigma$ of the cells, by type: median, middle half, and 10th to 90th percentile.", "name": "fig-graph-rho-sigma"}}
table = pd.DataFrame({"rho": rho, "sigma": sigma, "type": adata.obs["clusters"].array})
levels = table.groupby("type", observed=False).quantile([0.1, 0.25, 0.5, 0.75, 0.9]).unstack()
fig, axes = plt.subplots(2, 1, figsize=(6, 6))
for ax, name in zip(axes, ("rho", "sigma"), strict=True):
    p10, p25, p50, p75, p90 = levels[name].to_numpy().T
    ax.hlines(types, p10, p90, color=COLORS)
    ax.hlines(types, p25, p75, color=COLORS, linewidth=5)
    ax.scatter(p50, types, color=COLORS[: len(types)], s=90, edgecolor="white", zorder=3)
    ax.set(xscale="log", xlabel=name)
    ax.invert_yaxis()
    ax.xaxis.set(major_formatter="{x:g}", minor_formatter="{x:g}")
axes[0].set_title(f"rho and sigma by cell type, {about_cells}")
plt.show()

# %%
middle, low, high = (levels.xs(q, axis=1, level=1) for q in (0.5, 0.1, 0.9))
ratios = {"between types": middle.max() / middle.min(), "inside a type": (high / low).median()}
pd.DataFrame(ratios).round(2)

# %% [markdown]
# Types differ: the first column is the largest median over the smallest. So do cells of one type:
# the second is the 90th over the 10th percentile in a typical type. No fixed threshold fits all. A
# length scale per cell does, but from here on UMAP does not know which type was dense. How tight a
# cluster looks on a map is no measure of how alike its cells are.
#
# ### Does the graph respect cell types?
#
# Labels were not used to make the graph. What share of the strength joins cells of one type, and
# which types does the rest join? `member` is a table of 0 and 1, a row per cell and a column per
# type; `member.T @ graph @ member` adds up the strengths between each pair of types. For
# comparison: if edges were drawn at random, the share inside a type would be the chance that two
# random cells agree, $\sum_c f_c^2$, with $f_c$ the frequency of type $c$.

# %%
member = csr_matrix((np.ones(len(code)), (np.arange(len(code)), code)))
between = (member.T @ graph @ member).toarray()
share = between / between.sum(axis=1, keepdims=True)

within = np.trace(between) / between.sum()
beside = np.abs(np.subtract.outer(range(len(types)), range(len(types)))) <= 1
by_chance = (np.bincount(code) ** 2).sum() / len(code) ** 2
print(f"strength inside a type: {within:.1%} of all; with random edges {by_chance:.1%}")
print(f"inside a type or one step away: {between[beside].sum() / between.sum():.1%}")

# %% tags=["remove-cell"]
assert within > 2 * by_chance

# %% mystnb={"image": {"alt": "Heat map of cell types against cell types in lineage order. The large percentages stand on the diagonal or beside it; far from it stand small ones and zeros."}, "figure": {"caption": "Where the edges of each type go, in percent of the strength of its row. Types stand in lineage order.", "name": "fig-graph-types"}}
fig, ax = plt.subplots(figsize=(6, 5.2))
ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
for (row, column), value in np.ndenumerate(share):
    ink = "white" if value > 0.6 else "#303030"
    ax.text(column, row, f"{100 * value:.0f}", ha="center", va="center", color=ink)
ax.set_xticks(range(len(types)), types, rotation=45, ha="right")
ax.set_yticks(range(len(types)), types)
ax.set(xlabel="to type", ylabel="from type", title=f"Strength between types, %, {about_cells}")
plt.show()

# %% [markdown]
# On the real cells we measured, with the cell above, that 95 % of the strength lies on the diagonal
# and right beside it: each type is connected to the types before and after it in the lineage, and
# the graph was made without knowing that order. (The last four are branches.) Where a row spreads,
# labels cut through a continuum.
#
# ### The neighbourhood of one cell
#
# Take an Ngn3 low EP cell, in passage from duct to endocrine cell, with about twenty edges: the one
# in the middle of the figure. The stronger an edge, the thicker its line and the nearer the other
# cell. Dashed: only the other cell lists this one.

# %% tags=["hide-input"] mystnb={"image": {"alt": "A star: one cell in the middle, about twenty cells around it coloured by type, tied to it by lines of different widths, some solid and some dashed. Strongly tied cells are close to the middle."}, "figure": {"caption": "One cell and all its edges. Near and thick: strong. Dashed: only the outer cell lists the inner one.", "name": "fig-graph-one-cell"}}
candidates = np.flatnonzero(code == types.get_loc("Ngn3 low EP"))
cell = candidates[np.argmin(np.abs(np.diff(graph.indptr)[candidates] - 20))]
by_type = np.argsort(code[graph[cell].indices], kind="stable")
neighbors, weights = graph[cell].indices[by_type], graph[cell].data[by_type]
angle = np.linspace(0, 2 * np.pi, len(neighbors), endpoint=False)
x, y = (1.3 - weights) * np.cos(angle), (1.3 - weights) * np.sin(angle)

fig, ax = plt.subplots(figsize=(6, 5.6))
for x_j, y_j, j, weight in zip(x, y, neighbors, weights, strict=True):
    style = "-" if directed[cell, j] > 0 else "--"
    ax.plot([0, x_j], [0, y_j], style, color=INK, linewidth=0.8 + 4 * weight, zorder=1)
for c in np.unique(code[neighbors]):
    here = code[neighbors] == c
    ax.scatter(x[here], y[here], s=70, color=COLORS[c], label=types[c], zorder=2)
ax.scatter(0, 0, s=220, color=COLORS[code[cell]], edgecolor="white", zorder=3)
ax.set(title=f"{len(neighbors)} edges of one cell, {about_cells}", aspect="equal")
ax.axis("off")
ax.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, 0))
plt.show()

# %% [markdown]
# (Differences of `indptr`, where rows of a sparse matrix begin, count edges.) The list of this cell
# has 14 others; all further edges come from cells that list it. What share of the directed edges
# has a reverse edge, and how many edges are weaker than 0.1?

# %%
both, weak = directed.multiply(directed.T).nnz / directed.nnz, (graph.data < 0.1).mean()
print(
    f"in both directions: {both:.0%}; median strength {np.median(graph.data):.2f}; weak: {weak:.0%}"
)

# %% [markdown]
# ## What can go wrong
#
# ### Hubs
#
# Every cell lists 14 others. On how many lists is the cell itself? `bincount` counts.

# %% mystnb={"image": {"alt": "Histogram with a logarithmic vertical axis of how often a cell is listed by others. Most cells are listed a few times, and a long thin tail of cells far more often. A dashed line marks 14."}, "figure": {"caption": "On how many lists of other cells each cell is. Dashed: the mean, 14 by construction. The tail holds the hubs.", "name": "fig-graph-hubs"}}
listed = np.bincount(indices[:, 1:].ravel(), minlength=len(X))
fig, ax = plt.subplots(figsize=(6, 3.4))
ax.hist(listed, bins=60)
ax.axvline(k - 1, linestyle="--", color=COLORS[1])
ax.set(yscale="log", xlabel="times listed", ylabel="cells")
ax.set_title(f"How often a cell is listed by others, {about_cells}")
plt.show()

# %%
to_mean = ((X - X.mean(axis=0)) ** 2).sum(axis=1)
library = rpumap.preprocessing.library_size(adata)
print(f"never listed: {(listed == 0).sum()} cells; most often: {listed.max()} times")
print(f"rank correlation with distance to the mean: {spearmanr(listed, to_mean)[0]:+.2f}")
print(f"rank correlation with library size:         {spearmanr(listed, library)[0]:+.2f}")

# %% [markdown]
# This is **hubness**, and it comes with many dimensions. Write $\mu$ for the mean of all $n$ cells.
# Averaged over all cells $x_j$, the squared distance from a cell $x_i$ is
#
# $$
# \begin{aligned}
# & \frac1n \sum_j \lVert x_i - x_j\rVert^2 \\
# & = \lVert x_i - \mu\rVert^2 \\
# & \quad + \frac1n \sum_j \lVert x_j - \mu\rVert^2 ,
# \end{aligned}
# $$ (eq-graph-hubs)
#
# as the mixed term $-2\,(x_i-\mu)\cdot\frac1n\sum_j (x_j-\mu)$ is zero. A cell near the mean is
# close to *all* others, and so is listed often. On the real cells we measured rank correlations of
# −0.66 and +0.42, with the cell above: deeply sequenced cells carry less noise, and are hubs more
# often.
#
# ### Duplicates
#
# Copies of a cell have distance 0. The rule, which the package shares with umap-learn, is that
# $\rho$ is the smallest distance *above* zero. Then copies have $d < \rho$, and the maximum in the
# gap keeps their strength at 1. But copies are ties, and too many ties leave {eq}`eq-graph-sigma`
# without a solution: $\sigma$ runs to 0, and is held at a thousandth of the mean distance of the
# list (of all lists, where $\rho$ is 0). Here is a toy with $k = 5$ and the target
# $\log_2 5 = 2.32$:

# %%
lists = ["no copies", "one copy", "two copies", "all copies"]
toy = np.float32([[0, 1, 2, 3, 5], [0, 0, 1, 2, 3], [0, 0, 0, 1, 2], [0, 0, 0, 0, 0]])
toy_rho, toy_sigma = rpumap.graph.smooth_knn_dist(toy)
toy_strength = np.exp(-np.maximum(toy[:, 1:] - toy_rho[:, None], 0) / toy_sigma[:, None])
assert np.allclose(toy_strength.sum(axis=1), [np.log2(5), np.log2(5), 3, 4], atol=1e-4)
assert toy_rho[3] == 0 and np.isclose(toy_sigma[2], toy[2].mean() / 1000)
pd.DataFrame(toy_strength, index=lists).round(3).assign(rho=toy_rho, sigma=toy_sigma.round(4))

# %% [markdown]
# With one copy there is a solution. Two copies and the nearest other cell are three ties, more than
# 2.32, and the last neighbour gets strength 0. (With $k = 15$ the target is 3.91, and there is a
# solution with two copies.) In the last row the cell is connected to its copies only; `fuzzy_graph`
# warns then.
#
# ### Outliers
#
# E lists D with strength 1, although D is eight times as far from E as B is from A. The pancreas
# cell with the largest $\rho$ also has such an edge. The graph does not show that a cell is far
# from all others; $\rho$ does.

# %%
outlier = int(rho.argmax())
assert directed[outlier].max() == 1
print(f"outlier: {types[code[outlier]]}, rho {rho[outlier]:.1f}, median {np.median(rho):.1f}")

# %% [markdown]
# ### The number of neighbours
#
# Shorter lists are the first columns of a longer one, so one search serves three graphs.
# {func}`~rpumap.graph.fuzzy_graph` does all steps after the search, and `connected_components`
# counts the connected components, called pieces below.


# %%
def describe(indices, distances):
    g = rpumap.graph.fuzzy_graph(indices, distances).tocoo()
    same = code[g.row] == code[g.col]
    pieces, inside = connected_components(g)[0], g.data[same].sum() / g.data.sum()
    return {"edges": g.nnz // 2, "pieces": pieces, "inside types": inside}


longest = rpumap.graph.nearest_neighbors(X, n_neighbors=50)
results = {n: describe(*(part[:, :n] for part in longest)) for n in (5, 15, 50)}
pd.DataFrame(results).T.rename_axis("n_neighbors").round(3)

# %% tags=["remove-cell"]
assert results[5]["pieces"] >= results[15]["pieces"] >= results[50]["pieces"]

# %% [markdown]
# Short lists keep fine detail, and may break the graph into pieces, whose relative positions on a
# map mean nothing. Long lists join more and blur small types: a list longer than its type must
# contain cells of others. Fifteen is umap-learn's default, and the book's.
#
# ### Units, and constant genes
#
# A gene that never varies adds nothing to any distance. One with a large variance can dominate
# all others. We compare raw counts, the paper's z-scores, and z-scores of logarithms, which most
# analyses use today. `top 5` is the share of the five most variable genes in the total variance,
# and hence in the mean squared distance.

# %%
raw = adata[:, prep.genes_].X.toarray().astype(np.float32)
logs = rpumap.Preprocessor(n_top_genes=300, log1p=True).fit_transform(adata)
results = {}
for name, values in {"raw counts": raw, "z-scores": X, "z-scores of logs": logs}.items():
    found, far = rpumap.graph.nearest_neighbors(values, n_neighbors=k)
    variance = np.sort(values.var(axis=0))
    results[name] = {"top 5": variance[-5:].sum() / variance.sum()} | describe(found, far)
    results[name]["rho, library"] = spearmanr(far[:, 1], library)[0]
print("most variable in raw counts:", ", ".join(prep.genes_[np.argsort(-raw.var(axis=0))[:5]]))
pd.DataFrame(results).T.round(3)

# %% tags=["remove-cell"]
assert results["raw counts"]["top 5"] > results["z-scores"]["top 5"]

# %% [markdown]
# On the real cells we measured, with the cell above: five genes make up 82 % of the variance of raw
# counts and under 2 % of that of z-scores. Yet the strength inside types is 76 % in both, as those
# five happen to be hormones, which mark types well. Logarithms raise it to 79 %. The last column, a
# rank correlation, shows a problem: in z-scores, cells with few counts have distant neighbours, as
# dividing by a small library size amplifies their noise.

# %% [markdown]
# ## Take-aways
#
# - Distances in many genes concentrate: each cell needs a length scale of its own.
# - $\rho$ subtracts what the distances of a list have in common; $\sigma$ scales the rest to a fixed
#   sum of strengths.
# - The sum grows with $\sigma$, so bisection finds the one solution. Ties can leave none.
# - The fuzzy union joins the two directed strengths of an edge and stays within 0 and 1.
# - Eq. 9 of the paper needs $-(d-\rho)$. As printed, the strengths of real cells would be close to 0.
# - The graph does not keep density, and connects every outlier.

# %% [markdown]
# ## On your own
#
# **1. Equal gaps.** A cell's list holds its nearest neighbour and $k - 2$ others, all with the
# same gap $g$. Solve {eq}`eq-graph-sigma` for $\sigma$. What is it for $k = 15$ and $g = 1$?
#
# ```{admonition} Solution
# :class: dropdown
#
# The equation is $1 + (k-2)\,e^{-g/\sigma} = \log_2 k$, so $e^{-g/\sigma} = (\log_2 k - 1)/(k-2)$
# and $\sigma = g / \ln\frac{k-2}{\log_2 k - 1}$. For $k = 15$ and $g = 1$ this is
# $1/\ln(13/2.907) = 0.668$. Check: `bisect(np.array([0.0] + 13 * [1.0]), np.log2(15))[0]`.
# ```
#
# **2. Both instead of either.** Replace the union by the *intersection*, $p_{j|i}\,p_{i|j}$: an
# edge exists only if it exists in both directions. How many edges remain, and how many cells have
# none?
#
# ```{admonition} Solution
# :class: dropdown
#
# Run `both_ways = directed.multiply(directed.T).tocsr()`, then `both_ways.nnz // 2` and
# `(np.diff(both_ways.indptr) == 0).sum()`. Cells on no list lose all their edges. The union
# keeps every cell in the graph. umap-learn can mix both by its argument `set_op_mix_ratio`.
# ```
#
# **3. How good is NNDescent?** Find the neighbours with `method="nndescent"`, and compute the
# *recall*: the share of the true neighbours that it finds. The first call takes its time. Then try
# `"ivf"`.
#
# ```{admonition} Solution
# :class: dropdown
#
# Run `approx, _ = rpumap.graph.nearest_neighbors(X, k, method="nndescent", random_state=0)`, then
# `np.mean([len(np.intersect1d(a[1:], b[1:])) for a, b in zip(approx, indices)]) / (k - 1)`. On the
# real cells we measured, with these lines, a recall of 0.994. The first call took 50 s of processor
# time, nearly all of it compilation; the exact search took 2 s.
# ```

# %% [markdown]
# ## In practice
#
# {class}`~rpumap.estimator.ParametricUMAP` builds this graph in `fit` and keeps it as `graph_`. By
# hand:
#
# ```python
# indices, distances = rpumap.graph.nearest_neighbors(X, n_neighbors=15)
# graph = rpumap.graph.fuzzy_graph(indices, distances)
# ```
#
# Neighbours that you have already are passed as `neighbors=(indices, distances)`. Look for
# duplicates, at the largest $\rho$ and at the number of pieces, and try `Preprocessor(log1p=True)`.
# [The next chapter](02_loss_derivation) makes a map agree with such a graph.

# %% [markdown]
# ## Further reading
#
# - {cite:t}`mcinnes2018umap`: the graph and the topology behind it.
# - {cite:t}`zhang2023robust`: the paper that this book follows; eq. 9 and 10.
# - {cite:t}`dong2011nndescent`: approximate neighbours from neighbours of neighbours.
# - {cite:t}`damrich2021umap`: what the strengths do, and do not do, to the final map.
