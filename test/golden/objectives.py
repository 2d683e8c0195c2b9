"""Writes objectives.json: losses of interval objectives and their gradients by PyTorch in float64.

Written from the definitions, each orientation by itself. Targets are computed with a frozen copy of the network.
Derivatives along time are taken in reverse mode, dimension by dimension, of the flow map or of the consistency function
as a whole. Rows with r = t regress the network on the conditional velocity.

usage: python3 objectives.py
"""

import json
from pathlib import Path

import torch

torch.set_default_dtype(torch.float64)
torch.manual_seed(20)
n, equal, hidden = 6, 2, 4


# ---- Networks: [z, r, t] through two hidden layers.


def make_net(activation, shape):
    size = torch.Size(shape).numel()
    widths = [size + 2, hidden, hidden, size]
    params = []
    for fan_in, fan_out in zip(widths, widths[1:]):
        params += [torch.randn(fan_in, fan_out) / fan_in**0.5, 0.3 * torch.randn(fan_out)]
    return {
        "activation": activation,
        "shape": shape,
        "params": params,
        "data": 0.8 * torch.randn(n, *shape) + 0.4,
        "noise": torch.randn(n, *shape),
    }


def apply(net, params, z, r, t):
    act = torch.tanh if net["activation"] == "tanh" else torch.nn.functional.gelu
    x = torch.cat([z.reshape(len(z), -1), r, t], 1)
    x = act(x @ params[0] + params[1])
    x = act(x @ params[2] + params[3])
    return (x @ params[4] + params[5]).reshape(z.shape)


def by_time(y, time):
    """dy/dtime, row by row, for y of which each row depends on its own time alone."""
    flat = y.reshape(len(y), -1)
    columns = [torch.autograd.grad(flat[:, j].sum(), time, create_graph=True)[0] for j in range(flat.shape[1])]
    return torch.cat(columns, 1).reshape(y.shape)


# ---- The error vectors of the rows with r < t: of [z, v at any time], the field, the frozen field, and the points.


def alpha_flow(later, path, u, frozen, p, c, along):
    r, t, alpha = p["r"], p["t"], p["alpha"]
    if later:
        z, v = path(t)
        s = alpha * r + (1 - alpha) * t
        target = alpha * v + (1 - alpha) * frozen(z - c(t - s) * v, r, s)
    else:
        z, v = path(r)
        s = alpha * t + (1 - alpha) * r
        target = alpha * v + (1 - alpha) * frozen(z + c(s - r) * v, s, t)
    return (u(z, r, t) - target) / alpha**0.5


def split_mean_flow(later, path, u, frozen, p, c, along):
    r, s, t = p["r"], p["s"], p["t"]
    if later:
        z, _ = path(t)
        near = frozen(z, s, t)
        far = frozen(z - c(t - s) * near, r, s)
        displacement = c(t - s) * near + c(s - r) * far
    else:
        z, _ = path(r)
        near = frozen(z, r, s)
        far = frozen(z + c(s - r) * near, s, t)
        displacement = c(s - r) * near + c(t - s) * far
    return u(z, r, t) - displacement / c(t - r)


def shortcut(later, path, u, frozen, p, c, along):
    r, t = p["r"], p["t"]
    d = (t - r) / 2
    known = torch.where(d > 2.0 ** -along["levels"], d, torch.zeros_like(d))  # the size that the network is told
    if later:
        z, _ = path(t)
        one = frozen(z, t - known, t)
        two = frozen(z - c(d) * one, t - d - known, t - d)
    else:
        z, _ = path(r)
        one = frozen(z, r, r + known)
        two = frozen(z + c(d) * one, r + d, r + d + known)
    return u(z, r, t) - (one + two) / 2


def lagrangian_self_distillation(later, path, u, frozen, p, c, along):
    r, t = p["r"], p["t"]
    if later:
        z, _ = path(t)
        end = r.clone().requires_grad_()
        landed = z - c(t - end) * u(z, end, t)
    else:
        z, _ = path(r)
        end = t.clone().requires_grad_()
        landed = z + c(end - r) * u(z, r, end)
    speed = by_time(landed, end)
    end = end.detach()
    if along.get("stopTarget", True):
        return speed - frozen(landed.detach(), end, end)
    return speed - u(landed, end, end)


def consistency(later, path, u, frozen, p, c, along):
    r, t, rho = p["r"], p["t"], p["rho"]
    time = (t if later else r).clone().requires_grad_()
    z, v = path(time)
    if later:
        average = frozen(z, r, time)
        f = z - c(time) * average
    else:
        average = frozen(z, time, t)
        f = z + c(1 - time) * average
    change = by_time(f, time)
    # What remains of df/dt without v - u is the part with the derivative of u.
    g = ((v - average) + rho * (change - (v - average))).detach()
    size = along.get("tangentNormalization", 0.1)
    if size is not False:
        g = g / (g.reshape(n, -1).norm(dim=1).reshape(c(t).shape) + size)
    return u(z.detach(), r, t) - (average.detach() + g)


objectives = {
    "alphaFlow": alpha_flow,
    "splitMeanFlow": split_mean_flow,
    "shortcut": shortcut,
    "lagrangianSelfDistillation": lagrangian_self_distillation,
    "consistency": consistency,
}


# ---- Points.


def times(names):
    drawn = torch.sort(torch.rand(n, len(names)), 1).values
    drawn[:equal] = drawn[:equal, :1]
    return {name: drawn[:, i : i + 1] for i, name in enumerate(names)}


def dyadic(levels):
    """Intervals of all sizes, in the rows that are no points."""
    found = times(["r", "t"])
    for i in range(equal, n):
        parts = 2 ** [levels - 1, 0, levels - 2, 1][i - equal]
        part = int(torch.randint(parts, [1]))
        found["r"][i], found["t"][i] = part / parts, (part + 1) / parts
    return found


def points_of(name, later, given, options):
    if name == "splitMeanFlow":
        return times(["r", "s", "t"])
    if name == "shortcut":
        return dyadic(options.get("levels", 7))
    if name == "consistency":
        time = torch.rand(n, 1)
        return {"r": torch.zeros(n, 1), "t": time, **given} if later else {"r": time, "t": torch.ones(n, 1), **given}
    return {**times(["r", "t"]), **given}


def tensors(points):
    return {name: x if torch.is_tensor(x) else torch.tensor(x) for name, x in points.items()}


# ---- Losses.


def loss_and_raw(net, params, name, later, options, points, weighting):
    def path(s):
        s = c(s)
        start, end = (net["data"], net["noise"]) if later else (net["noise"], net["data"])
        return (1 - s) * start + s * end, end - start

    def c(column):
        return column.reshape(n, *[1] * len(net["shape"]))

    constants = [p.detach() for p in params]
    u = lambda z, r, t: apply(net, params, z, r, t)
    frozen = lambda z, r, t: apply(net, constants, z, r, t)
    error = objectives[name](later, path, u, frozen, points, c, {"levels": 7, **options})
    if name != "consistency":
        z, v = path(points["t"])
        is_point = c(points["r"] == points["t"])
        error = torch.where(is_point, u(z, points["t"], points["t"]) - v, error)
    squared = (error**2).reshape(n, -1).sum(1)
    raw = squared.mean() / torch.Size(net["shape"]).numel()
    if weighting is None:
        return raw, raw
    return (squared / (squared.detach() + weighting["offset"]) ** weighting["power"]).mean(), raw


variants = [
    ("alphaFlow", {}, {"alpha": 1.0}),
    ("alphaFlow", {}, {"alpha": 0.5}),
    ("alphaFlow", {}, {"alpha": 0.1}),
    ("splitMeanFlow", {}, {}),
    ("shortcut", {}, {}),
    ("shortcut", {"levels": 3}, {}),
    ("lagrangianSelfDistillation", {}, {}),
    ("lagrangianSelfDistillation", {"stopTarget": False}, {}),
    ("consistency", {}, {"rho": 1.0}),
    ("consistency", {"tangentNormalization": False}, {"rho": 1.0}),
    ("consistency", {"tangentNormalization": 0.4}, {"rho": 0.25}),
    ("consistency", {}, {"rho": 0.0}),
]
nets = [make_net("tanh", [2]), make_net("gelu", [3, 1])]
cases = []
for index, net in enumerate(nets):
    for name, options, given in variants:
        for orientation in ("data-to-noise", "noise-to-data"):
            later = orientation == "data-to-noise"
            points = tensors(points_of(name, later, given, options))
            for weighting in (None, {"power": 0.75, "offset": 0.05}):
                if weighting is not None and (index == 0 or given.get("alpha", 0.5) != 0.5):
                    continue
                params = [p.clone().requires_grad_() for p in net["params"]]
                loss, raw = loss_and_raw(net, params, name, later, options, points, weighting)
                gradient = torch.autograd.grad(loss, params)
                cases.append(
                    {
                        "net": index,
                        "objective": name,
                        "orientation": orientation,
                        "options": options,
                        "weighting": weighting,
                        "points": {key: x.squeeze(-1).tolist() if x.dim() > 0 else x.item() for key, x in points.items()},
                        "loss": loss.item(),
                        "raw": raw.item(),
                        "gradient": [x for g in gradient for x in g.flatten().tolist()],
                    }
                )

lists = lambda value: [x.tolist() for x in value] if isinstance(value, list) and torch.is_tensor(value[0]) else value
described = [{k: v.tolist() if torch.is_tensor(v) else lists(v) for k, v in net.items()} for net in nets]
row = lambda values: "[\n" + ",\n".join(json.dumps(value) for value in values) + "\n]"
text = f'{{"nets": {row(described)},\n"cases": {row(cases)}}}\n'
Path(__file__).with_name("objectives.json").write_text(text)
print(len(cases), "cases,", len(text), "bytes")
