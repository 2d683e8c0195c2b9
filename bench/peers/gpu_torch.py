"""PyTorch's side of the bench on a GPU: bench/gpu.ts asks for one piece of work at a time.

    gpu_torch.py --serve [--device cuda]            one JSON object a line, both ways; first out: {"ready": true, ...}
    gpu_torch.py [--device cuda] [--quick]          a list of works of its own; a line with the result of each

A work is {"task": "step" | "tutorial" | "dit" | "gemm", "way": ..., "precision": "float32" | "tf32" | "bfloat16"} and
  step, tutorial   "objective": "fm" | "mf" | "mf75" | "imf", "hidden", "layers", "batch" (tutorial: and "steps")
  dit              "work": "gradients" | "jvp", "batch", "tokens", "width", "heads", "mlp"
  gemm             "m", "n", "k"
and "target", the seconds that one measurement should take. Ways: "eager"; "max-autotune" and "reduce-overhead", by
torch.compile; "graph", a whole step of the former in one CUDA graph. Answer: {"seconds": [of one time], "note": text or
null} or {"error": text}. What a work needs is made once and kept, until another work is asked for in the same way.
"""

import argparse
import json
import math
import os
import signal
import sys
import time
import warnings

signal.signal(signal.SIGINT, signal.SIG_IGN)  # the bench ends this process
warnings.filterwarnings("ignore")
answers = os.fdopen(os.dup(1), "w")  # compilers may print to stdout: only answers go there
os.dup2(2, 1)

import torch
import torch.nn.functional as F

try:
    from torch.func import jvp as forward_jvp
except ImportError:
    from functorch import jvp as forward_jvp  # PyTorch 1.13

parser = argparse.ArgumentParser()
parser.add_argument("--serve", action="store_true")
parser.add_argument("--device", default="cuda")
parser.add_argument("--quick", action="store_true")
options = parser.parse_args()
device = torch.device(options.device)
on_gpu = device.type == "cuda"
if on_gpu and not torch.cuda.is_available():
    sys.exit("PyTorch finds no CUDA device")


def synchronize():
    if on_gpu:
        torch.cuda.synchronize()


def set_precision(precision):
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def cast_for(precision):
    """bfloat16 is PyTorch's mixed precision: products in bfloat16, parameters and optimizer in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def compiled(f, way):
    """f by torch.compile, as the way says."""
    if way == "eager":
        return f
    if not hasattr(torch, "compile"):
        raise RuntimeError("this PyTorch has no torch.compile")
    return torch.compile(f, mode="reduce-overhead" if way == "reduce-overhead" else "max-autotune-no-cudagraphs")


def captured(work):
    """One time of the work as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def checkerboard(count):
    """Points uniform on the dark tiles of a 4 x 4 board over [-2, 2]^2."""
    column = torch.randint(0, 4, (count,), device=device)
    row = 2 * torch.randint(0, 2, (count,), device=device) + column % 2
    return torch.stack([column, row], 1) + torch.rand(count, 2, device=device) - 2


def network(inputs, hidden, layers):
    sizes = [inputs] + [hidden] * layers
    return torch.nn.ModuleList(
        [torch.nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])] + [torch.nn.Linear(hidden, 2)]
    ).to(device)


def forwards(net, x):
    for layer in net[:-1]:
        x = F.gelu(layer(x))
    return net[-1](x)


def jvp_by_hand(net, x, dx):
    """Value and tangent of the network, written out: for where torch.compile does not take a jvp."""
    for layer in net[:-1]:
        a, da = layer(x), F.linear(dx, layer.weight)
        slope = 0.5 * (1 + torch.erf(a * math.sqrt(0.5))) + a * torch.exp(-0.5 * a * a) / math.sqrt(2 * math.pi)
        x, dx = F.gelu(a), slope * da
    return net[-1](x), F.linear(dx, net[-1].weight)


def step_loss(request, net, by_hand):
    """The loss of a fresh batch, as the objective has it."""
    objective, batch = request["objective"], request["batch"]
    point_rows = round(0.75 * batch) if objective == "mf75" else 0
    u = lambda z, r, t: forwards(net, torch.cat([z, t, r], 1))

    def with_slope(z, r, t, tangent):
        if by_hand:
            dt = torch.ones_like(t)
            x, dx = torch.cat([z, t, r], 1), torch.cat([tangent, dt, torch.zeros_like(r)], 1)
            return jvp_by_hand(net, x, dx.detach())
        return forward_jvp(u, (z, r, t), (tangent, torch.zeros_like(r), torch.ones_like(t)))

    def interval_errors(z, v, r, t):
        tangent = v
        if objective == "imf":
            with torch.no_grad():
                tangent = u(z, t, t)
            tangent = tangent.to(z.dtype)  # autocast gives bfloat16
        value, slope = with_slope(z, r, t, tangent)
        return (value - (v - (t - r) * slope).detach()) ** 2

    def loss():
        with cast_for(request["precision"]):
            x, e = checkerboard(batch), torch.randn(batch, 2, device=device)
            v = e - x
            if objective == "fm":
                t = torch.rand(batch, 1, device=device)
                return ((forwards(net, torch.cat([(1 - t) * x + t * e, t], 1)) - v) ** 2).mean()
            times = torch.rand(batch, 2, device=device)
            r, t = times.amin(1, keepdim=True), times.amax(1, keepdim=True)
            if point_rows > 0:  # r = t in these rows, which need no JVP; t is one uniform draw there
                points, rest = slice(None, point_rows), slice(point_rows, None)
                t = torch.cat([times[points, :1], t[rest]])
                r = torch.cat([times[points, :1], r[rest]])
            z = (1 - t) * x + t * e
            if point_rows == 0:
                return interval_errors(z, v, r, t).mean()
            point_errors = (u(z[points], r[points], t[points]) - v[points]) ** 2
            return torch.cat([point_errors, interval_errors(z[rest], v[rest], r[rest], t[rest])]).mean()

    return loss


def step(request):
    way = request["way"]
    net = network(3 if request["objective"] == "fm" else 4, request["hidden"], request["layers"])
    fast = {"fused": True, "capturable": way == "graph"} if on_gpu else {}
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3, **fast)

    def work_with(by_hand):
        loss = compiled(step_loss(request, net, by_hand), way)

        def work():
            optimizer.zero_grad(set_to_none=True)
            loss().backward()
            optimizer.step()

        work()
        return captured(work) if way == "graph" else work

    if way == "eager" or request["objective"] == "fm":
        return work_with(by_hand=False), None
    try:
        return work_with(by_hand=False), None
    except Exception as error:
        print(f"torch.func.jvp under {way}: {error}", file=sys.stderr)
        reset_compiler()
        return work_with(by_hand=True), "its JVP written by hand: torch.func.jvp does not compile here"


def reset_compiler():
    synchronize()
    if hasattr(torch, "compile"):
        torch.compiler.reset()


def dit(request):
    """A block of a diffusion transformer, as bench/gpu/dit.ts has it."""
    batch, tokens, width, heads, mlp = (request[name] for name in ("batch", "tokens", "width", "heads", "mlp"))
    size = width // heads
    normal = lambda *shape: torch.randn(*shape, device=device)
    matrix = lambda rows, columns: normal(rows, columns) / math.sqrt(rows)
    ones = lambda: torch.ones(size, device=device)
    qkv, out = matrix(width, 3 * width), matrix(width, width)
    into, back = matrix(width, 2 * mlp), matrix(mlp, width)
    modulation, bias = matrix(width, 6 * width), normal(6 * width)
    params = [qkv, out, ones(), ones(), into, back, modulation, bias]
    x, c, dx, dc, w = (normal(*shape) for shape in [(batch, tokens, width), (batch, width)] * 2 + [(batch, tokens, width)])
    side = math.isqrt(tokens)
    frequencies = 100.0 ** (-torch.arange(size // 4, device=device) / (size // 4))
    position = torch.stack([torch.arange(tokens, device=device) // side, torch.arange(tokens, device=device) % side], 1)
    angles = (position[:, :, None] * frequencies).reshape(tokens, 1, 2, 1, size // 4)
    cosine, sine = torch.cos(angles), torch.cat([-torch.sin(angles), torch.sin(angles)], 3)

    def rms(y):
        return y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6)

    def turned(y, scale):
        pairs = (rms(y) * scale).reshape(batch, tokens, heads, 2, 2, size // 4)
        return (pairs * cosine + pairs.flip(4) * sine).reshape(batch, tokens, heads, size).transpose(1, 2)

    def attend(q, k, v):
        if request["work"] == "gradients" and hasattr(F, "scaled_dot_product_attention"):
            return F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v)
        return torch.softmax(q.to(v.dtype) @ k.to(v.dtype).mT * size**-0.5, -1).to(v.dtype) @ v

    def block(qkv, out, q_scale, k_scale, into, back, modulation, bias, x, c):
        parts = (c @ modulation + bias)[:, None].chunk(6, -1)
        q, k, v = ((rms(x) * (1 + parts[1]) + parts[0]) @ qkv).reshape(batch, tokens, 3, heads, size).unbind(2)
        y = attend(turned(q, q_scale), turned(k, k_scale), v.transpose(1, 2))
        x = x + parts[2] * (y.transpose(1, 2).reshape(batch, tokens, width) @ out)
        gate, value = ((rms(x) * (1 + parts[4]) + parts[3]) @ into).chunk(2, -1)
        return x + parts[5] * ((F.silu(gate) * value) @ back)

    if request["work"] == "jvp":
        tangent = compiled(lambda x, c, dx, dc: forward_jvp(lambda x, c: block(*params, x, c), (x, c), (dx, dc)), request["way"])

        def work():
            with torch.no_grad(), cast_for(request["precision"]):
                return tangent(x, c, dx, dc)
    else:
        leaves = [p.requires_grad_() for p in [*params, x]]

        def value(*inputs):
            with cast_for(request["precision"]):
                return (block(*inputs, c) * w).sum()

        run = compiled(value, request["way"])

        def work():
            return torch.autograd.grad(run(*leaves), leaves)

    return (captured(work) if request["way"] == "graph" else work), None


def gemm(request):
    m, n, k = (request[name] for name in ("m", "n", "k"))
    dtype = torch.bfloat16 if request["precision"] == "bfloat16" else torch.float32
    a, b = (torch.randn(*shape, device=device, dtype=dtype) for shape in [(m, k), (k, n)])
    out = torch.empty(m, n, device=device, dtype=dtype)
    note = "operands in bfloat16" if request["precision"] == "bfloat16" else None
    return lambda: torch.matmul(a, b, out=out), note


def seconds_of(work, count):
    synchronize()
    start = time.perf_counter()
    for _ in range(count):
        work()
    synchronize()
    return time.perf_counter() - start


kinds = {"step": step, "dit": dit, "gemm": gemm}
made = {}


class Made:
    """A work, ready, with how often it is done in one measurement."""

    def __init__(self, request, target):
        self.name = json.dumps(request, sort_keys=True)
        self.work, self.note = kinds[request["task"]](request)
        seconds_of(self.work, 3)
        count = 1
        while (seconds := seconds_of(self.work, count)) < target / 4 and count < 100_000:
            count *= 2
        self.count = max(1, round(count * target / seconds))


def tutorial(request):
    """A whole training, with all that is made and compiled for it."""
    start = time.perf_counter()
    work, note = step({name: value for name, value in request.items() if name not in ("task", "steps")})
    seconds_of(work, request["steps"])
    return {"seconds": [time.perf_counter() - start], "note": note}


def answer(request):
    request = dict(request)
    target = request.pop("target", 0.1)
    request.pop("repeats", None)
    set_precision(request["precision"])
    if request["task"] == "tutorial":
        return tutorial(request)
    way, name = request["way"], json.dumps(request, sort_keys=True)
    if way not in made or made[way].name != name:
        made.pop(way, None)
        made[way] = Made(request, target)
    entry = made[way]
    return {"seconds": [seconds_of(entry.work, entry.count) / entry.count], "note": entry.note}


def safely(request):
    try:
        return answer(request)
    except Exception as error:
        made.pop(request.get("way"), None)
        text = str(error).strip().split("\n")[0][:200]
        return {"error": f"{type(error).__name__}: {text}"}


def say(line):
    print(json.dumps(line), file=answers, flush=True)


def own_works():
    ways = ["eager", "max-autotune", "reduce-overhead", "graph"] if on_gpu else ["eager"]
    batch = 256 if options.quick else 4096
    precision = "tf32" if on_gpu else "float32"
    for way in ways:
        for objective in ["fm", "mf", "mf75", "imf"]:
            yield {"task": "step", "objective": objective, "hidden": 128, "layers": 4, "batch": batch, "way": way, "precision": precision}
        for work in ["gradients", "jvp"]:
            size = {"batch": 4 if options.quick else 256, "tokens": 64, "width": 384, "heads": 6, "mlp": 1024}
            yield {"task": "dit", "work": work, **size, "way": way, "precision": precision}
    yield {"task": "gemm", "m": 512, "n": 512, "k": 512, "way": "eager", "precision": precision}


if options.serve:
    say({"ready": True, "version": f"PyTorch {torch.__version__}"})
    for line in sys.stdin:
        say(safely(json.loads(line)))
else:
    for request in own_works():
        say({**request, **safely(request)})
