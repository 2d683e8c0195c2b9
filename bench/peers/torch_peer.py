"""PyTorch's side of the bench: does one piece of work at a time, as asked on stdin, and answers on stdout.

    torch_peer.py --about         what there is: {"torch": version, "library": OpenBLAS's file or null}
    torch_peer.py --core LIBRARY  the kernels that this OpenBLAS chooses
    torch_peer.py THREADS         serves requests on so many threads (set OPENBLAS_NUM_THREADS to the same number)

One JSON object a line, both ways. First line out: {"ready": true}. Requests:
  {"task": "gemm", "way": "matmul" | "sgemm", "m": 4096, "n": 128, "k": 128, "batch": 1,
   "transposed": "none" | "left" | "right", "inner": times, ...}
  {"task": "step", "objective": "fm" | "mf" | "mf75" | "imf", "hidden": 128, "layers": 4, "batch": 4096,
   "jvp": "none" | "forward" | "double-backward", ...}
  {"task": "attention", "work": "value" | "jvp" | "vjp" | "hvp", "heads": 8, "n": 1024, "m": 1024, "d": 64, "e": 64,
   "causal": 0 | 1, "jvp": "none" | "forward" | "double-backward", ...}
each with "repeats". Answer: {"seconds": [one for each repeat]} or {"error": text}.
What a request needs (matrices, network, optimizer) is made once and kept: training goes on from request to request.
"""

import ctypes
import json
import signal
import sys
import time
import warnings

signal.signal(signal.SIGINT, signal.SIG_IGN)  # the bench ends this process
warnings.filterwarnings("ignore")

if sys.argv[1] == "--core":
    core = ctypes.CDLL(sys.argv[2]).openblas_get_corename
    core.restype = ctypes.c_char_p
    print(core().decode())
    sys.exit()

import torch

try:
    from functorch import jvp as forward_jvp
except ImportError:
    forward_jvp = None


def openblas():
    """The OpenBLAS that PyTorch has loaded, or None where it uses another BLAS."""
    torch.ones(64, 64) @ torch.ones(64, 64)
    with open("/proc/self/maps") as maps:
        files = {line.split()[-1] for line in maps if "blas" in line}
    for file in sorted(files, key=lambda name: "libopenblas" not in name):
        library = ctypes.CDLL(file)
        if hasattr(library, "openblas_get_corename") and hasattr(library, "cblas_sgemm"):
            return library
    return None


if sys.argv[1] == "--about":
    library = openblas()
    print(json.dumps({"torch": torch.__version__, "library": library and library._name}))
    sys.exit()

torch.set_num_threads(int(sys.argv[1]))


def gemm(request):
    batch, m, n, k = (request[name] for name in ("batch", "m", "n", "k"))
    lead = (batch,) if batch > 1 else ()
    left = torch.randn(*lead, k, m) if request["transposed"] == "left" else torch.randn(*lead, m, k)
    right = torch.randn(*lead, n, k) if request["transposed"] == "right" else torch.randn(*lead, k, n)
    out = torch.empty(*lead, m, n)
    inner = request["inner"]
    if request["way"] == "sgemm":
        return sgemm(left, right, out, request["transposed"], (batch, m, n, k), inner)
    left = left.mT if request["transposed"] == "left" else left
    right = right.mT if request["transposed"] == "right" else right

    def work():
        for _ in range(inner):
            torch.matmul(left, right, out=out)

    return work


def sgemm(left, right, out, transposed, sizes, inner):
    """OpenBLAS itself, without what PyTorch does around it. The arguments are made once."""
    batch, m, n, k = sizes
    call = openblas().cblas_sgemm
    call.restype = None
    integer, one, zero = ctypes.c_int, ctypes.c_float(1), ctypes.c_float(0)
    row_major, plain, turned = integer(101), integer(111), integer(112)
    pointer = lambda x, i, size: ctypes.c_void_p(x.data_ptr() + 4 * i * size)
    calls = [
        (
            row_major,
            turned if transposed == "left" else plain,
            turned if transposed == "right" else plain,
            *(integer(size) for size in (m, n, k)),
            one,
            pointer(left, i, m * k),
            integer(m if transposed == "left" else k),
            pointer(right, i, k * n),
            integer(k if transposed == "right" else n),
            zero,
            pointer(out, i, m * n),
            integer(n),
        )
        for i in range(batch)
    ]
    kept = (left, right, out)  # as long as `work` lives, so do they

    def work():
        for _ in range(inner):
            for arguments in calls:
                call(*arguments)
        return kept

    return work


def checkerboard(count):
    """Points uniform on the dark tiles of a 4 x 4 board over [-2, 2]^2."""
    column = torch.randint(0, 4, (count,))
    row = 2 * torch.randint(0, 2, (count,)) + column % 2
    return torch.stack([column, row], 1) + torch.rand(count, 2) - 2


def network(inputs, hidden, layers):
    sizes = [inputs] + [hidden] * layers
    blocks = []
    for a, b in zip(sizes, sizes[1:]):
        blocks += [torch.nn.Linear(a, b), torch.nn.GELU()]
    return torch.nn.Sequential(*blocks, torch.nn.Linear(hidden, 2))


def double_backward_jvp(f, primals, tangents):
    """J v as the derivative of w -> w^T J, which is linear in w."""
    primals = [x.detach().requires_grad_() for x in primals]
    y = f(*primals)
    w = torch.zeros_like(y, requires_grad=True)
    pulled = torch.autograd.grad(y, primals, w, create_graph=True)
    return y, torch.autograd.grad(pulled, w, tangents, retain_graph=True)[0]


def step(request):
    objective, batch = request["objective"], request["batch"]
    net = network(3 if objective == "fm" else 4, request["hidden"], request["layers"])
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    jvp = forward_jvp if request["jvp"] == "forward" else double_backward_jvp
    if jvp is None:
        raise ImportError("functorch is not installed")
    u = lambda z, r, t: net(torch.cat([z, t, r], 1))
    point_rows = round(0.75 * batch) if objective == "mf75" else 0

    def interval_errors(z, v, r, t):
        tangent = v
        if objective == "imf":
            with torch.no_grad():
                tangent = u(z, t, t)
        value, slope = jvp(u, (z, r, t), (tangent, torch.zeros_like(r), torch.ones_like(t)))
        return (value - (v - (t - r) * slope).detach()) ** 2

    def loss():
        x, e = checkerboard(batch), torch.randn(batch, 2)
        v = e - x
        if objective == "fm":
            t = torch.rand(batch, 1)
            return ((net(torch.cat([(1 - t) * x + t * e, t], 1)) - v) ** 2).mean()
        times = torch.rand(batch, 2)
        times[:point_rows, 1] = times[:point_rows, 0]  # r = t in these rows, which need no JVP
        r, t = times.amin(1, keepdim=True), times.amax(1, keepdim=True)
        z = (1 - t) * x + t * e
        if point_rows == 0:
            return interval_errors(z, v, r, t).mean()
        points, rest = slice(None, point_rows), slice(point_rows, None)
        point_errors = (u(z[points], r[points], t[points]) - v[points]) ** 2
        return torch.cat([point_errors, interval_errors(z[rest], v[rest], r[rest], t[rest])]).mean()

    def work():
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return work


def attention(request):
    """softmax(q k^T / sqrt(d)) v and its derivatives, as bench/attention-work.ts has them."""
    heads, n, m, d, e = (request[name] for name in ("heads", "n", "m", "d", "e"))
    jvp = forward_jvp if request["jvp"] == "forward" else double_backward_jvp
    if jvp is None:
        raise ImportError("functorch is not installed")
    triple = lambda: (torch.randn(heads, n, d), torch.randn(heads, m, d), torch.randn(heads, m, e))
    inputs, directions, cotangent = triple(), triple(), torch.randn(heads, n, e)
    hidden = torch.ones(n, m, dtype=torch.bool).triu(1) if request["causal"] else None

    def attend(q, k, v):
        scores = (q @ k.mT) * d**-0.5
        if hidden is not None:
            scores = scores.masked_fill(hidden, -torch.inf)
        return torch.softmax(scores, -1) @ v

    def value_and_gradients():
        x = [x.detach().requires_grad_() for x in inputs]
        y = attend(*x)
        return y, torch.autograd.grad(y, x, cotangent)

    def hessian_product():
        """The Hessian is symmetric: its product with the directions is the gradient of <gradients, directions>. (Forward
        over reverse fails: softmax's derivative has no forward mode in PyTorch 1.13.)"""
        x = [x.detach().requires_grad_() for x in inputs]
        g = torch.autograd.grad(attend(*x), x, cotangent, create_graph=True)
        return g, torch.autograd.grad(g, x, directions)

    def value():
        with torch.no_grad():
            return attend(*inputs)

    return {
        "value": value,
        "jvp": lambda: jvp(attend, inputs, directions),
        "vjp": value_and_gradients,
        "hvp": hessian_product,
    }[request["work"]]


kinds = {"gemm": gemm, "step": step, "attention": attention}
made = {}


def answer(request):
    repeats = request.pop("repeats")
    name = json.dumps(request, sort_keys=True)
    if name not in made:
        made[name] = kinds[request["task"]](request)
        made[name]()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        made[name]()
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds}


print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    try:
        reply = answer(json.loads(line))
    except Exception as error:
        reply = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(reply), flush=True)
