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
from rpumap.chapters.display import say
from rpumap.chapters.style import use_style
from rpumap.plotting import COLORS, INK, MARKERS

use_style()

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two curves over the rank of a neighbour, from the nearest to the fourteenth. The distance, in multiples of the nearest, stays close to 1. The strength falls from 1 towards 0."}, "figure": {"caption": "The 14 nearest neighbours of a pancreas cell, from near to far: distance in multiples of that of the nearest, and strength of the edge in the graph. Lines are medians over all cells, bands reach from the 10th to the 90th percentile.", "name": "fig-graph-strengths"}}
adata = rpumap.datasets.pancreas()
about_cells = describe_cells(adata)
types = adata.obs["clusters"].cat.categories
code = adata.obs["clusters"].cat.codes.to_numpy()
X = rpumap.Preprocessor(n_top_genes=300).fit_transform(adata)
indices, distances = rpumap.graph.nearest_neighbors(X, n_neighbors=15)
rho, sigma = rpumap.graph.smooth_knn_dist(distances)
directed = rpumap.graph.membership_strengths(indices, distances, rho, sigma)
cells = np.arange(len(X))[:, None]
relative = {
    "distance / that of the nearest": distances[:, 1:] / distances[:, 1:2],
    "strength": directed[cells, indices[:, 1:]].toarray(),
}

rank = np.arange(1, 15)
fig, ax = plt.subplots(figsize=(5, 3.9))
for number, (name, values) in enumerate(relative.items()):
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9], axis=0)
    look = {"color": COLORS[5 * number], "linestyle": ["-", "--"][number]}
    ax.fill_between(rank, low, high, color=look["color"], alpha=0.2, lw=0)
    ax.plot(rank, middle, marker=MARKERS[2 * number], **look, label=name)
ax.set(xlabel="rank of the neighbour", ylim=(0, None))
ax.set_title(f"Neighbours of a cell: {about_cells}")
legend = fig.legend(loc="outside lower center", ncols=2)

# %% tags=["remove-input"]
last = [np.median(values[:, -1]) for values in relative.values()]
graph = rpumap.graph.fuzzy_graph(indices, distances).tocoo()
same = code[graph.row] == code[graph.col]
say(f"""
The 14th neighbour of a typical cell ({about_cells}, medians) is only
{last[0]:.2f} times as far as the first, yet the strength of its edge is
{last[1]:.2f} instead of 1. In the graph that these strengths make,
{graph.data[same].sum() / graph.data.sum():.0%} of the strength joins cells of
the same type, although no label was used.
""")

# %% tags=["remove-cell"]
assert last[0] < 1.5 and last[1] < 0.3

# %% [markdown]
# ## What you will learn
#
# After this chapter you can
#
# - explain why distances in many genes are not used as they are;
# - compute the graph of a few cells by hand: neighbours, $\rho$, $\sigma$, strengths, and their
#   union;
# - find $\sigma$ by bisection, and tell when its equation has no solution;
# - check a graph of thousands of cells, and a formula of a paper, against a second computation;
# - decide on the length of lists and on units, and find hubs, copies and outliers.
#
# **You need** exponentials and logarithms, and arrays in NumPy. No earlier chapter; the
# [quickstart](00_quickstart) shows what the graph is for.
#
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
spreads = {}
for n_genes in (2, 30, 300):
    a, b = np.random.default_rng(0).normal(size=(2, 5000, n_genes))
    squared = ((a - b) ** 2).sum(axis=1)
    spreads[n_genes] = squared.std() / squared.mean(), np.sqrt(2 / n_genes)
columns = ["relative spread", "predicted"]
pd.DataFrame(spreads, index=columns).T.rename_axis("genes").round(3)

# %% tags=["remove-input"]
a, b = np.random.default_rng(0).integers(len(X), size=(2, 5000))
squared = ((X[a] - X[b]) ** 2).sum(axis=1)
alike = squared[code[a] == code[b]].mean() / squared[code[a] != code[b]].mean()
say(f"""
For 5,000 random pairs of our {about_cells} the relative spread is
{squared.std() / squared.mean():.2f}. Their genes are not independent noise:
cells of one type have {alike:.2f} of the mean squared distance of cells of
different types.
""")

# %% tags=["remove-cell"]
assert all(abs(spread / rule - 1) < 0.1 for spread, rule in spreads.values())
assert alike < 1

# %% [markdown]
# So distances do tell which cells are alike, but noise adds to each of them. UMAP
# therefore keeps a list of near cells only, and scales the distances of each cell by a length of
# its own.

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
    found = zip(names[row], far, strict=True)
    print(name, "finds", ", ".join(f"{n} at {d:g}" for n, d in found))

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
pd.DataFrame({"rho": rho, "gaps": gap.tolist()}, index=names)

# %% tags=["remove-cell"]
by_hand = [[0, 2, 6], [0, 1, 5], [0, 1, 2], [0, 2, 3], [0, 4, 6]]
assert rho.tolist() == [1, 1, 2, 4, 8] and gap.tolist() == by_hand

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
# {cite:p}`mcinnes2018umap`. (The paper takes the graph from umap-learn, and does not say how
# $\sigma$ is found.) With $k = 4$ the target is exactly 2.
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


# %%
sigma_c, trace = bisect(gap[2], target=np.log2(k))
table = pd.DataFrame(trace, columns=["low", "high", "sigma", "sum"])
table.set_index(table.index + 1).round(5)

# %% [markdown]
# Once there is an upper end, each step halves the interval: ten steps gain three decimal digits.
# Against pencil and paper, for cell C and for gaps 0, 3, 3:

# %%
golden = (1 + np.sqrt(5)) / 2
by_hand = np.array([1 / np.log(golden), 3 / np.log(2)])
equal_gaps, _ = bisect(np.array([0.0, 3.0, 3.0]), target=2)
print(f"C: {sigma_c:.4f}; gaps 0, 3, 3: {equal_gaps:.4f}")
assert np.allclose([sigma_c, equal_gaps], by_hand, atol=1e-3)

# %% [markdown]
# {numref}`fig-graph-bisection` draws $S$ for cell C, and the first six guesses on it.

# %% tags=["hide-input"] mystnb={"image": {"alt": "A rising curve of the sum of strengths over sigma crosses a dashed horizontal line at 2. Six numbered points on the curve jump to both sides of the crossing and close in on it."}, "figure": {"caption": "Bisection for cell C. The sum of strengths grows from 1 towards 3 with sigma and crosses the target, 2, once. Numbers count the guesses.", "name": "fig-graph-bisection"}}
grid = np.linspace(0.2, 4.6, 200)
curve = np.exp(-gap[2][:, None] / grid).sum(axis=0)
fig, ax = plt.subplots(figsize=(5, 4.2))
ax.plot(grid, curve, label="sum of strengths")
ax.axhline(np.log2(k), linestyle="--", color=COLORS[1], label="target")
for step, (_, _, guess, total) in enumerate(trace[:6], start=1):
    ax.plot(guess, total, "o", color=COLORS[5], label="guess" * (step == 1))
    shift = (-10, 6) if total > np.log2(k) else (5, -14)
    ax.annotate(step, (guess, total), xytext=shift, textcoords="offset points")
ax.plot(by_hand[0], np.log2(k), "x", color=INK, markersize=10, label="by hand")
ax.set(xlabel="sigma", ylabel="sum of strengths", title="Bisection for cell C")
legend = fig.legend(loc="outside lower center", ncols=2)

# %% [markdown]
# Now all five cells. The unit does not matter: multiply all distances of a cell by $c$, and $\rho$,
# gaps and $\sigma$ are multiplied by $c$ too, so that {eq}`eq-graph-strength` stays. D and E show
# it. E's distances, 8, 12 and 14, are twice D's 4, 6 and 7. So $\sigma_E = 2\sigma_D$, and both
# give the same strengths, although E lies in a sparser region.

# %%
sigma = np.array([bisect(row, np.log2(k))[0] for row in gap])
strength = np.exp(-gap / sigma[:, None])

directed = np.zeros((5, 5))
np.put_along_axis(directed, order[:, 1:], strength, axis=1)
table = pd.DataFrame(directed, index=names, columns=names)
table.assign(rho=rho, sigma=sigma).round(3)

# %% tags=["hide-input"]
assert np.allclose(strength.sum(axis=1), 2, atol=1e-5)
assert np.isclose(sigma[4], 2 * sigma[3])
assert np.allclose(strength[4], strength[3], atol=1e-4)

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
nearest = {"corrected": strength[:, 0], "as printed": printed[:, 0]}
pd.DataFrame(nearest, index=names).rename_axis("nearest").round(3)

# %% tags=["hide-input"]
factor = np.exp(-2 * rho / sigma)[:, None]
assert printed.max() < 1 and np.allclose(printed, strength * factor)

# %% [markdown]
# The printed formula never reaches 1: all strengths of cell $i$ shrink by the factor
# $e^{-2\rho_i/\sigma_i}$. Here the nearest keeps 0.1 to 0.7. In 300 genes almost
# nothing will be left.

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
pd.DataFrame(graph, index=names, columns=names).round(3)

# %% tags=["hide-input"]
assert np.array_equal(graph, graph.T)
assert graph.min() >= 0 and graph.max() <= 1
assert (graph >= np.maximum(directed, directed.T) - 1e-12).all()

# %% tags=["remove-cell"]
missing = np.argwhere(np.triu(graph == 0, 1))
assert missing.tolist() == [[0, 4]]  # A and E
assert np.allclose(directed[[0, 2], [2, 0]], [0.682, 0.618], atol=5e-4)

# %% [markdown]
# Only A and E are not connected. From here on UMAP uses this table only.

# %% [markdown]
# ## From five cells to thousands
#
# The cells are of the developing mouse pancreas {cite:p}`bastidasponce2019`, of eight types.
# Where the file is not found, simulated cells take their place, as the output and
# every title then say. {class}`~rpumap.Preprocessor` follows section 2.3 of the paper: 300 highly
# variable genes, equal library sizes (total counts per cell), z-scores (minus the gene's mean, over
# its standard deviation). `X` has a row per cell and a column per gene; `code` numbers the cell
# types from 0, in the order of the lineage.

# %%
adata = rpumap.datasets.pancreas()
prep = rpumap.Preprocessor(n_top_genes=300)
X = prep.fit_transform(adata)

types = adata.obs["clusters"].cat.categories
code = adata.obs["clusters"].cat.codes.to_numpy()
about_cells = describe_cells(adata)
print(f"{X.shape[0]:,} {about_cells}, {X.shape[1]} genes, {len(types)} types")

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
    indices = np.take_along_axis(indices, rank, axis=1)
    near = np.take_along_axis(near, rank, axis=1)
    return indices, np.sqrt(np.maximum(near, 0)).astype(np.float32)


# %%
k = 15
own_indices, own_distances = exact_neighbors(X, k)
indices, distances = rpumap.graph.nearest_neighbors(X, n_neighbors=k)
agree = (own_indices == indices).mean()
print(f"same neighbour at the same rank: {agree:.2%}")
assert np.allclose(own_distances, distances, rtol=1e-5, atol=1e-4)

# %% [markdown]
# {func}`rpumap.graph.nearest_neighbors` of the package finds the same distances. The work grows with
# the square of the number of cells, so that beyond some size an *approximate* search is faster. The
# paper uses {term}`NNDescent` {cite:p}`dong2011nndescent`: start from rough lists, compare every
# cell with the neighbours of its neighbours, keep the nearest, and repeat until the lists hardly
# change ({numref}`ex-graph-nndescent`). Each cell is compared with few others, and a neighbour may
# be missed. The code is compiled anew in every process, which can take half a minute or more.
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
    low, high = np.zeros(len(gap)), np.full(len(gap), np.inf)
    sigma = np.ones(len(gap))
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
end = time.perf_counter()
print(f"loop {middle - start:.2f} s, all at once {end - middle:.2f} s")
assert np.allclose(slow, fast, rtol=1e-6)

# %% [markdown]
# Three functions of the package do these steps: {func}`rpumap.graph.smooth_knn_dist` gives $\rho$
# and $\sigma$, {func}`rpumap.graph.membership_strengths` {eq}`eq-graph-strength` and
# {func}`rpumap.graph.symmetrize` {eq}`eq-graph-union`. They return a *sparse* matrix of SciPy, which
# stores only entries that are not zero.

# %%
rho, sigma = rpumap.graph.smooth_knn_dist(distances)
directed = rpumap.graph.membership_strengths(indices, distances, rho, sigma)
graph = rpumap.graph.symmetrize(directed)
part = graph.nnz / len(X) ** 2
print(f"{graph.nnz // 2:,} edges, {part:.2%} of all pairs of cells")

# %% [markdown]
# They agree with what we have derived:

# %% tags=["hide-input"]
derived = np.exp(-gap / fast[:, None])
found = directed[np.arange(len(X))[:, None], indices[:, 1:]].toarray()
union = directed + directed.T - directed.multiply(directed.T)
assert np.array_equal(rho, distances[:, 1])
assert np.allclose(sigma, fast, rtol=1e-5)
assert np.allclose(found, derived, atol=1e-5)
assert abs(union - graph).max() < 1e-6

# %% [markdown]
# And umap-learn? Its public function `fuzzy_simplicial_set` takes ready neighbours, and returns
# the graph, $\sigma$ and $\rho$. As the neighbours are given, nothing is random.

# %%
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a progress bar may be missing
    from umap.umap_ import fuzzy_simplicial_set

given = {"knn_indices": indices, "knn_dists": distances, "metric": "euclidean"}
theirs = fuzzy_simplicial_set(X, k, random_state=None, **given)
differences = {
    "graph": abs(theirs[0] - graph).max(),
    "sigma": abs(theirs[1] - sigma).max(),
    "rho": abs(theirs[2] - rho).max(),
}
print("largest differences:", {n: f"{d:.0e}" for n, d in differences.items()})
assert max(differences.values()) < 1e-5

# %% [markdown]
# ### What the sign does in 300 genes
#
# Back to eq. 9. The neighbours of a cell are almost equally far, so $\sigma$ is small compared with
# $\rho$ and the factor $e^{-2\rho/\sigma}$ is close to zero. Could one keep the printed formula by
# solving {eq}`eq-graph-sigma` anew, with $d + \rho$ for the gap? We try, and also without $\rho$.

# %%
d, r = distances[:, 1:].astype(float), rho[:, None].astype(float)
with_sum, without = (bisect_all(g, np.log2(k))[:, None] for g in (d + r, d))
formulas = {
    "corrected": np.exp(-(d - r) / fast[:, None]),
    "as printed": np.exp((-d - r) / fast[:, None]),
    "as printed, sigma anew": np.exp((-d - r) / with_sum),
    "without rho, sigma anew": np.exp(-d / without),
}
ends = {name: np.median(p, axis=0)[[0, -1]] for name, p in formulas.items()}
columns = ["nearest", "farthest"]
table = pd.DataFrame(ends, index=columns).T.rename_axis("median strength")
table.map("{:.2g}".format)

# %% tags=["remove-cell"]
assert (formulas["corrected"][:, 0] == 1).all()
assert formulas["as printed"].max() < 1 and max(ends["as printed"]) < 0.01
for name in ("as printed, sigma anew", "without rho, sigma anew"):
    assert ends[name][1] > 0.5 * ends[name][0]
assert ends["corrected"][1] < 0.3

# %% [markdown]
# As printed, all strengths are close to zero. With $\sigma$ solved anew the sum is right, but near
# and far neighbours count almost alike; so it is without $\rho$. Subtracting $\rho$ is what turns
# nearly equal distances into clearly different strengths.

# %% [markdown]
# ## What the graph says about the cells
#
# ### Each type has its own density
#
# {numref}`fig-graph-rho-sigma` shows $\rho$ and $\sigma$ by type: median, middle half (thick), and
# 10th to 90th percentile (thin).

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels, rho above and sigma below, with a horizontal interval for each of eight cell types. The intervals overlap, and their medians differ."}, "figure": {"caption": "The distance $\\rho$ to the nearest neighbour and the length scale $\\sigma$ of the cells, by type: median, middle half, and 10th to 90th percentile.", "name": "fig-graph-rho-sigma"}}
table = pd.DataFrame({"rho": rho, "sigma": sigma, "type": types[code]})
levels = [0.1, 0.25, 0.5, 0.75, 0.9]
levels = table.groupby("type").quantile(levels).unstack().loc[types]
ticks = {"rho": [12, 14, 16, 18], "sigma": [0.3, 0.5, 0.7, 1]}
fig, axes = plt.subplots(2, 1, figsize=(5, 5.6))
for ax, name in zip(axes, ticks, strict=True):
    p10, p25, p50, p75, p90 = levels[name].to_numpy().T
    ax.hlines(types, p10, p90, color=COLORS)
    ax.hlines(types, p25, p75, color=COLORS, linewidth=5)
    look = {"color": COLORS[: len(types)], "edgecolor": "white"}
    ax.scatter(p50, types, s=90, zorder=3, **look)
    ax.set(xscale="log", xlabel=name)
    ax.invert_yaxis()
    ax.set_xticks(ticks[name], ticks[name])
    ax.set_xticks([], minor=True)
title = axes[0].set_title(f"rho and sigma by type: {about_cells}")

# %%
middle, low, high = (levels.xs(q, axis=1, level=1) for q in (0.5, 0.1, 0.9))
between, inside = middle.max() / middle.min(), (high / low).median()
pd.DataFrame({"between types": between, "inside a type": inside}).round(2)

# %% tags=["remove-cell"]
assert (between > 1.1).all() and (inside > 1.1).all()

# %% [markdown]
# Types differ: the first column is the largest median over the smallest. So do cells of one type:
# the second is the 90th over the 10th percentile in a typical type. No fixed threshold fits all. A
# length scale per cell does, but from here on UMAP does not know which type was dense. How tight a
# cluster looks on a map is no measure of how alike its cells are.
#
# ### Does the graph respect cell types?
#
# What share of the strength joins cells of one type, and which types does the rest join? `member` is a table of 0 and 1, a row per cell and a column per
# type; `member.T @ graph @ member` adds up the strengths between each pair of types. For
# comparison: if edges were drawn at random, the share inside a type would be the chance that two
# random cells agree, $\sum_c f_c^2$, with $f_c$ the frequency of type $c$.

# %%
member = csr_matrix((np.ones(len(code)), (np.arange(len(code)), code)))
between = (member.T @ graph @ member).toarray()
share = between / between.sum(axis=1, keepdims=True)

within = np.trace(between) / between.sum()
by_chance = (np.bincount(code) ** 2).sum() / len(code) ** 2
print(f"inside a type: {within:.1%}; with random edges {by_chance:.1%}")

# %% tags=["remove-cell"]
assert within > 2 * by_chance

# %% tags=["hide-input"] mystnb={"image": {"alt": "Heat map of cell types against cell types in lineage order. The large percentages stand on the diagonal or beside it; far from it stand small ones and zeros."}, "figure": {"caption": "Where the edges of each type go, in percent of the strength of its row. Types stand in lineage order.", "name": "fig-graph-types"}}
fig, ax = plt.subplots(figsize=(5, 4.9))
ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
for (row, column), value in np.ndenumerate(share):
    ink = "white" if value > 0.6 else INK
    text = f"{100 * value:.0f}"
    ax.text(column, row, text, ha="center", va="center", color=ink)
ax.set_xticks(range(len(types)), types, rotation=45, ha="right")
ax.set_yticks(range(len(types)), types)
ax.set(xlabel="to type", ylabel="from type")
title = ax.set_title(f"Strength, %: {about_cells}")

# %% tags=["remove-input"]
step = np.abs(np.subtract.outer(range(len(types)), range(len(types))))
close = between[step <= 1].sum() / between.sum()
spread = [types[row] for row in np.argsort(np.diag(share))[:2]]
say(f"""
{close:.0%} of the strength ({about_cells}) lies on the diagonal and right
beside it. So the edges lead from a type to itself and to the types before and
after it in the lineage, whose order was not used to make the graph. (The last
four types are branches.) The rows that spread most are {" and ".join(spread)}.
""")

# %% tags=["remove-cell"]
assert close > 0.8

# %% [markdown]
# Where a row spreads, labels cut through a continuum, or groups of cells overlap in these genes.
#
# ### The neighbourhood of one cell
#
# Take an Ngn3 low EP cell, in passage from duct to endocrine cell, with about twenty edges: the one
# in the middle of {numref}`fig-graph-one-cell`. The stronger an edge, the thicker its line and the
# nearer the other cell. Dashed: only the other cell lists this one.

# %% tags=["hide-input"] mystnb={"image": {"alt": "A star: one cell in the middle, about twenty cells around it coloured by type, tied to it by lines of different widths, some solid and some dashed. Strongly tied cells are close to the middle."}, "figure": {"caption": "One cell and all its edges. Near and thick: strong. Dashed: only the outer cell lists the inner one.", "name": "fig-graph-one-cell"}}
some = np.flatnonzero(code == types.get_loc("Ngn3 low EP"))
cell = some[np.argmin(np.abs(np.diff(graph.indptr)[some] - 20))]
by_type = np.argsort(code[graph[cell].indices], kind="stable")
neighbors = graph[cell].indices[by_type]
weights = graph[cell].data[by_type]
angle = np.linspace(0, 2 * np.pi, len(neighbors), endpoint=False)
x, y = (1.3 - weights) * np.cos(angle), (1.3 - weights) * np.sin(angle)

fig, ax = plt.subplots(figsize=(5, 5))
for x_j, y_j, j, weight in zip(x, y, neighbors, weights, strict=True):
    line = "-" if directed[cell, j] > 0 else "--"
    width = 0.8 + 4 * weight
    ax.plot([0, x_j], [0, y_j], line, color=INK, linewidth=width, zorder=1)
for c in np.unique(code[neighbors]):
    here = code[neighbors] == c
    look = {"color": COLORS[c], "marker": MARKERS[c % len(MARKERS)]}
    ax.scatter(x[here], y[here], s=80, label=types[c], zorder=2, **look)
own = {"color": COLORS[code[cell]], "marker": MARKERS[code[cell] % 4]}
ax.scatter(0, 0, s=240, edgecolor="white", zorder=3, **own)
ax.set(title=f"{len(neighbors)} edges of a cell: {about_cells}", aspect="equal")
ax.axis("off")
legend = fig.legend(loc="outside lower center", ncols=3)

# %% tags=["remove-cell"]
assert 17 <= len(neighbors) <= 23
assert 0 < sum(directed[cell, j] > 0 for j in neighbors) < len(neighbors)

# %% [markdown]
# The list of this cell has 14 others; all further edges come from cells that list it. What share of the directed edges
# has a reverse edge, and how many edges are weaker than 0.1?

# %%
both = directed.multiply(directed.T).nnz / directed.nnz
weak = (graph.data < 0.1).mean()
print(f"in both directions: {both:.0%} of the directed edges")
print(f"median strength {np.median(graph.data):.2f}; below 0.1: {weak:.0%}")

# %% [markdown]
# ## What can go wrong
#
# ### Hubs
#
# Every cell lists 14 others. On how many lists is the cell itself? `bincount` counts.

# %%
listed = np.bincount(indices[:, 1:].ravel(), minlength=len(X))
print(f"never listed: {(listed == 0).sum()} cells")
print(f"most often listed: {listed.max()} times")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Histogram with a logarithmic vertical axis of how often a cell is listed by others. Most cells are listed a few times, and a long thin tail of cells far more often. A dashed line marks 14."}, "figure": {"caption": "On how many lists of other cells each cell is. Dashed: the mean, 14 by construction. The tail holds the hubs.", "name": "fig-graph-hubs"}}
fig, ax = plt.subplots(figsize=(5, 3.3))
ax.hist(listed, bins=60)
ax.axvline(k - 1, linestyle="--", color=COLORS[1])
ax.set(yscale="log", ylim=(0.6, None), xlabel="times listed", ylabel="cells")
title = ax.set_title(f"How often a cell is listed: {about_cells}")

# %% [markdown]
# This is **hubness**, and it comes with many dimensions ({numref}`ex-graph-hubs`). Write $\mu$ for
# the mean of all $n$ cells. Averaged over all cells $x_j$, the squared distance from a cell $x_i$ is
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
# close to *all* others, and so should be listed often. Do the cells agree, and which cells are near
# the mean? Rank correlations tell:

# %%
to_mean = ((X - X.mean(axis=0)) ** 2).sum(axis=1)
library = rpumap.preprocessing.library_size(adata)
with_distance = spearmanr(listed, to_mean)[0]
with_library = spearmanr(listed, library)[0]
print(f"times listed and distance to the mean: {with_distance:+.2f}")
print(f"times listed and library size:         {with_library:+.2f}")

# %% tags=["remove-input"]
near_mean = "Cells near the mean are listed more often, as derived."
if with_distance > -0.3:
    near_mean = "The distance to the mean says little here."
deep = "So are cells with many counted molecules: they carry less noise."
if with_library < 0.2:
    deep = "How many molecules of a cell were counted plays a small part."
say(f"{near_mean} {deep}")

# %% [markdown]
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
toy = [[0, 1, 2, 3, 5], [0, 0, 1, 2, 3], [0, 0, 0, 1, 2], [0, 0, 0, 0, 0]]
toy = np.float32(toy)
toy_rho, toy_sigma = rpumap.graph.smooth_knn_dist(toy)
toy_gap = np.maximum(toy[:, 1:] - toy_rho[:, None], 0)
toy_strength = np.exp(-toy_gap / toy_sigma[:, None])
table = pd.DataFrame(toy_strength, index=lists, columns=range(1, 5))
table.assign(rho=toy_rho, sigma=toy_sigma).round(3)

# %% tags=["hide-input"]
sums = [np.log2(5), np.log2(5), 3, 4]
assert np.allclose(toy_strength.sum(axis=1), sums, atol=1e-4)
assert toy_rho[3] == 0 and np.isclose(toy_sigma[2], toy[2].mean() / 1000)

# %% [markdown]
# With one copy there is a solution. Two copies and the nearest other cell are three ties, more than
# $2.32$, and the last neighbour gets strength 0. (With $k = 15$ the target is $3.91$, and there is
# a solution with two copies.) In the last row the cell is connected to its copies only;
# `fuzzy_graph` warns then.
#
# ### Outliers
#
# E lists D with strength 1, although D is eight times as far from E as B is from A. The pancreas
# cell with the largest $\rho$ also has such an edge. The graph does not show that a cell is far
# from all others; $\rho$ does.

# %%
outlier = int(rho.argmax())
assert directed[outlier].max() == 1
print(f"outlier: {types[code[outlier]]}, rho {rho[outlier]:.1f}")
print(f"median of rho: {np.median(rho):.1f}")

# %% [markdown]
# ### The number of neighbours
#
# Shorter lists are the first columns of a longer one, so one search serves three graphs.
# {func}`rpumap.graph.fuzzy_graph` does all steps after the search, and `connected_components`
# counts the connected components, called pieces below.


# %%
def describe(indices, distances):
    g = rpumap.graph.fuzzy_graph(indices, distances).tocoo()
    same = code[g.row] == code[g.col]
    pieces, _ = connected_components(g)
    inside = g.data[same].sum() / g.data.sum()
    return {"edges": g.nnz // 2, "pieces": pieces, "inside types": inside}


longest = rpumap.graph.nearest_neighbors(X, n_neighbors=50)
lengths = {n: describe(*(a[:, :n] for a in longest)) for n in (5, 15, 50)}
table = pd.DataFrame.from_dict(lengths, orient="index")
table.rename_axis("n_neighbors").round(3)

# %% tags=["remove-cell"]
pieces = [lengths[n]["pieces"] for n in (5, 15, 50)]
assert pieces == sorted(pieces, reverse=True)
mixed = [lengths[n]["inside types"] for n in (5, 15, 50)]
assert mixed == sorted(mixed, reverse=True)

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
# and hence in the mean squared distance; `rho, library` is the rank correlation of $\rho$ with the
# library size.

# %%
raw = adata[:, prep.genes_].X.toarray().astype(np.float32)
log_prep = rpumap.Preprocessor(n_top_genes=300, log1p=True)
logs = log_prep.fit_transform(adata)
units = {}
values_of = {"raw counts": raw, "z-scores": X, "z-scores of logs": logs}
for name, values in values_of.items():
    found, far = rpumap.graph.nearest_neighbors(values, n_neighbors=k)
    variance = np.sort(values.var(axis=0))
    units[name] = describe(found, far)
    units[name]["top 5"] = variance[-5:].sum() / variance.sum()
    units[name]["rho, library"] = spearmanr(far[:, 1], library)[0]
table = pd.DataFrame(units, index=["top 5", "inside types", "rho, library"])
table.T.round(3)

# %% tags=["remove-input"]
top = prep.genes_[np.argsort(-raw.var(axis=0))[:5]]
five, inside, size = (
    [units[name][column] for name in units]
    for column in ("top 5", "inside types", "rho, library")
)
best = list(units)[int(np.argmax(inside))]
problem = "close to zero or positive."
if size[1] < -0.2:
    problem = """
negative: cells with few counts have distant neighbours, as dividing by a small
library size amplifies their noise."""
say(f"""
Five genes ({", ".join(top)}) make up {five[0]:.0%} of the variance of raw
counts and {five[1]:.1%} of that of z-scores. The strength inside types is
{inside[0]:.0%} with raw counts, {inside[1]:.0%} with z-scores and
{inside[2]:.0%} with z-scores of logarithms; it is largest with {best}. In
z-scores the last column is {problem}
""")

# %% tags=["remove-cell"]
assert five[0] > 5 * five[1]
assert set(top) <= {"Gcg", "Ghrl", "Iapp", "Ins1", "Ins2", "Pyy", "Sst", "Ppy"}

# %% [markdown]
# That few genes dominate need not be bad for labels, if these genes happen to mark types, as
# hormones do here. But it is then the choice of a unit that decides on the neighbours.

# %% [markdown]
# ## Take-aways
#
# - Distances in many genes concentrate: each cell needs a length scale of its own.
# - $\rho$ subtracts what the distances of a list have in common; $\sigma$ scales the rest to a fixed
#   sum of strengths.
# - The sum grows with $\sigma$, so bisection finds the one solution. Ties can leave none.
# - The fuzzy union joins the two directed strengths of an edge and stays within 0 and 1.
# - Eq. 9 of the paper needs $-(d-\rho)$. As printed, the strengths of our cells would be close to 0.
# - The graph does not keep density, and connects every outlier.

# %% [markdown]
# ## Self-check
#
# **1. All distances of a cell are doubled. What happens to the strengths on its list?**
#
# :::{dropdown} They fall, as the exponential of a larger distance is smaller
# Not quite. The exponent is a gap over $\sigma$, and both are doubled.
# :::
# :::{dropdown} They stay
# Right. $\rho$, gaps and $\sigma$ all double, so the quotient stays. This is why the graph does not
# know which cells lie in a dense region.
# :::
# :::{dropdown} The nearest stays at 1, and the others fall
# Not quite. That would lower their sum, but $\sigma$ is chosen such that the sum is $\log_2 k$.
# :::
#
# **2. A cell lies far from all others. How can you see it?**
#
# :::{dropdown} By its $\rho$
# Right. $\rho$ is the distance to the nearest neighbour, and is subtracted before the graph is made.
# :::
# :::{dropdown} By its weak edges
# Not quite. The nearest neighbour has strength 1 on its list however far it is, and the sum of the
# list is the same for every cell. The union can only raise them.
# :::
# :::{dropdown} By a missing edge: it is on no list of others
# Not quite. Many cells are on no list, as hubs take their places; and it has edges by its own list,
# one of them of strength 1.
# :::
#
# **3. A cell has many exact copies. Why may no $\sigma$ solve its equation?**
#
# :::{dropdown} Because the sum of its strengths cannot reach a target that high
# Not quite. For large $\sigma$ the sum comes close to $k - 1$, which is above $\log_2 k$.
# :::
# :::{dropdown} Because the sum does not grow with $\sigma$
# Not quite. It does, as long as one gap is above zero. It is where it starts that matters.
# :::
# :::{dropdown} Because each copy adds 1 to the sum for every $\sigma$
# Right. The sum starts at the number of ties $n_0$. If that is above $\log_2 k$ already, no
# $\sigma$ brings it down.
# :::

# %% [markdown]
# ## Exercises
#
# :::{exercise} Equal gaps: paper, easy
# :label: ex-graph-equal-gaps
#
# A cell's list holds its nearest neighbour and $k - 2$ others, all with the same gap $g$. Solve
# {eq}`eq-graph-sigma` for $\sigma$. What is it for $k = 15$ and $g = 1$?
# :::
#
# :::{solution-start} ex-graph-equal-gaps
# :label: sol-graph-equal-gaps
# :class: dropdown
# :::
#
# The equation is $1 + (k-2)\,e^{-g/\sigma} = \log_2 k$, so $e^{-g/\sigma} = (\log_2 k - 1)/(k-2)$
# and $\sigma = g / \ln\frac{k-2}{\log_2 k - 1}$. For $k = 15$ and $g = 1$ this is
# $1/\ln(13/2.907) = 0.668$.

# %%
by_formula = 1 / np.log(13 / (np.log2(15) - 1))
by_bisection, _ = bisect(np.array([0.0] + 13 * [1.0]), np.log2(15))
assert np.isclose(by_formula, by_bisection, atol=1e-4)
say(f"By the formula {by_formula:.4f}, by bisection {by_bisection:.4f}.")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Both instead of either: code, easy
# :label: ex-graph-intersection
#
# Replace the union by the *intersection*, $p_{j|i}\,p_{i|j}$: an edge exists only if it exists in
# both directions. How many edges remain, and how many cells have none?
# :::
#
# :::{solution-start} ex-graph-intersection
# :label: sol-graph-intersection
# :class: dropdown
# :::

# %%
both_ways = directed.multiply(directed.T).tocsr()
kept = both_ways.nnz / graph.nnz
alone = np.diff(both_ways.indptr) == 0
assert alone[listed == 0].all()
say(f"""
{both_ways.nnz // 2:,} of {graph.nnz // 2:,} edges remain, {kept:.0%}, and
{alone.sum():,} cells have none ({about_cells}). Among these are all
{(listed == 0).sum()} cells that are on no list. The union keeps every cell in
the graph. umap-learn can mix both by its argument `set_op_mix_ratio`.""")

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Hubs without cell types: experiment, medium
# :label: ex-graph-hubs
#
# Are hubs a matter of these cells, or of the number of genes? Draw as many cells as there are in
# `X` from independent normal noise with 2, 30 and 300 genes. How often is the most listed cell
# listed, and is it again near the mean?
# :::
#
# :::{solution-start} ex-graph-hubs
# :label: sol-graph-hubs
# :class: dropdown
# :::

# %%
hubs = {}
for n_genes in (2, 30, 300):
    noise = np.random.default_rng(0).normal(size=(len(X), n_genes))
    found, _ = rpumap.graph.nearest_neighbors(noise, n_neighbors=k)
    times = np.bincount(found[:, 1:].ravel(), minlength=len(X))
    off = ((noise - noise.mean(axis=0)) ** 2).sum(axis=1)
    hubs[n_genes] = times.max(), (times == 0).sum(), spearmanr(times, off)[0]
columns = ["most often", "never listed", "rank correlation"]
table = pd.DataFrame(hubs, index=columns).T.rename_axis("genes").round(2)
assert hubs[300][0] > hubs[30][0] > hubs[2][0] and hubs[300][2] < -0.5
say(f"""
The most listed cell is on {hubs[2][0]} lists with 2 genes, and on
{hubs[300][0]} with 300. Hubs need no cell types, only dimensions. With 300
genes the cells that are listed often are those near the mean.""")
table

# %% [markdown]
# :::{solution-end}
# :::
#
# :::{exercise} Neighbours of neighbours: code, hard
# :label: ex-graph-nndescent
#
# Write the core of NNDescent. Start from random lists of 14 cells. In each round, compare every
# cell with the cells on the lists of those on its own list, and keep the nearest 14. What share of
# the true neighbours (the *recall*) do the lists hold after each of six rounds, and with what share
# of all cells is a cell compared? (About five seconds.)
# :::
#
# :::{solution-start} ex-graph-nndescent
# :label: sol-graph-nndescent
# :class: dropdown
# :::


# %%
def improve(lists):
    better, n_compared = np.empty_like(lists), 0
    for cell, own in enumerate(lists):
        others = np.union1d(own, lists[own])
        others = others[others != cell]
        far = ((X[others] - X[cell]) ** 2).sum(axis=1)
        better[cell] = others[np.argpartition(far, 13)[:14]]
        n_compared += len(others)
    return better, n_compared / len(X) ** 2


# %%
approx = np.random.default_rng(0).integers(len(X), size=(len(X), 14))
recall, compared = [], []
for _ in range(6):
    approx, part = improve(approx)
    pairs = zip(approx, indices[:, 1:], strict=True)
    recall.append(np.mean([np.isin(a, b).mean() for a, b in pairs]))
    compared.append(part)
assert recall == sorted(recall)
say(f"""
The recall after each round is {", ".join(f"{r:.2f}" for r in recall)}. A cell
is compared with at most {max(compared):.1%} of all cells in a round, and with
{compared[-1]:.1%} in the last. The recall stops short of 1: a true neighbour
that is on no list of a neighbour is never met. NNDescent therefore also looks
at the cells that list a cell.""")

# %% [markdown]
# :::{solution-end}
# :::

# %% [markdown]
# ## In practice
#
# {class}`rpumap.ParametricUMAP` builds this graph in `fit` and keeps it as `graph_`. By
# hand:
#
# ```python
# indices, distances = rpumap.graph.nearest_neighbors(X, n_neighbors=15)
# graph = rpumap.graph.fuzzy_graph(indices, distances)
# ```
#
# Neighbours that you have already are passed as `neighbors=(indices, distances)`, and a graph of
# another program as `fit(X, graph=...)`. {func}`rpumap.graph.check_neighbors` and
# {func}`rpumap.graph.check_graph` say what is wrong with them. Look for duplicates, at the largest
# $\rho$ and at the number of pieces, and try `Preprocessor(log1p=True)`.
# [The next chapter](02_loss_derivation) makes a map agree with such a graph.

# %% [markdown]
# ## Further reading
#
# - {cite:t}`mcinnes2018umap`: the graph and the topology behind it.
# - {cite:t}`zhang2023robust`: the paper that this book follows; eq. 9 and 10.
# - {cite:t}`dong2011nndescent`: approximate neighbours from neighbours of neighbours.
# - {cite:t}`damrich2021umap`: what the strengths do, and do not do, to the final map.
