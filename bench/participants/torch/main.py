"""Answers the bench's requests for torch, one JSON object a line; the twin of ../serve.js."""
import json
import os
import sys
import time

options = json.loads(sys.argv[1])
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever prints does not come between the answers


def say(answer):
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


try:
    import numpy as np
    import torch
except ImportError as error:
    say({"absent": f"{error}; on Debian: apt install python3-torch"})
    sys.exit(0)

import elements
import norms
import products
import steps

cuda = options.get("cuda", False) and torch.cuda.is_available()
device = "cuda" if cuda else "cpu"
if "threads" in options:
    torch.set_num_threads(options["threads"])
# Products and convolutions in float32 proper, which is what they are compared with, by the fastest algorithm for their shape.
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.backends.cudnn.benchmark = True
kinds = {**elements.kinds, **norms.kinds, **products.kinds, **steps.kinds}


def finish():
    if cuda:
        torch.cuda.synchronize()


def time_calls(run, calls):
    start = time.perf_counter()
    for _ in range(calls):
        run()
    finish()
    return (time.perf_counter() - start) * 1e3


def time_kernels(run, calls):
    """By the device's own clock, from the first kernel to the last."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    run()
    finish()
    begin.record()
    for _ in range(calls):
        run()
    end.record()
    finish()
    return begin.elapsed_time(end) / calls


def calibrate(run, warm):
    calls, spent, rounds = 1, 0.0, 0
    while rounds < 3 or spent < warm:
        last = time_calls(run, calls)
        spent += last
        rounds += 1
        at = calls
        if last > 4 * warm:
            break
        if last < warm / 8:
            calls *= 2
    return last / at


def read(inputs, dtype):
    return {
        name: torch.from_numpy(np.fromfile(given["file"], dtype=np.float32)).reshape(given["shape"]).to(device, dtype)
        for name, given in inputs.items()
    }


def type_of(subject):
    return getattr(torch, subject.get("dtype", "float32"))


def write(results, folder):
    written = {}
    for name, value in results.items():
        file = f"{folder}/{options['name']}.{name}"
        value.detach().cpu().contiguous().numpy().astype(np.float32).tofile(file)
        written[name] = {"file": file, "bits": 32}
    return written


def largest_error(results, expected):
    """As in ../../verify.js: the largest difference, relative to the largest value."""
    worst = {"error": 0.0, "name": ""}
    for name, got in results.items():
        want = expected[name].detach().reshape(-1).double()
        got = got.detach().to(want.device).reshape(-1).double()
        error = float((got - want).abs().max() / want.abs().max().clamp(min=1e-300))
        if not error <= worst["error"]:
            worst = {"error": error if error == error else 1e300, "name": name}
    return worst


def compare(request):
    """Results of others, and torch's own, against torch's in float64."""
    subject = request["subject"]
    expected = kinds[subject["kind"]](subject, read(request["inputs"], torch.float64)).results()
    given = {
        name: torch.from_numpy(np.fromfile(place["file"], dtype=np.float64 if place["bits"] == 64 else np.float32))
        for name, place in request["results"].items()
    }
    own = kinds[subject["kind"]](subject, read(request["inputs"], type_of(subject))).results()
    return {"given": largest_error(given, expected), "own": largest_error(own, expected)}


prepared = None


def answer(request):
    global prepared
    action = request["action"]
    if action == "compare":
        return compare(request)
    if action == "prepare":
        prepared = None
        subject = request["subject"]
        prepared = kinds[subject["kind"]](subject, read(request["inputs"], type_of(subject)))
        return {"results": write(prepared.results(), request["folder"]) if request["check"] else {}}
    if action == "calibrate":
        return {"ms": calibrate(prepared.run[request["mode"]], request["warm"])}
    if action == "time":
        time_calls(prepared.run[request["mode"]], request["lead"])
        return {"ms": time_calls(prepared.run[request["mode"]], request["calls"]) / request["calls"]}
    if action == "kernel":
        return {"ms": time_kernels(prepared.run[request["mode"]], request["calls"])}
    prepared = None
    return {}


say({"version": torch.__version__, "about": {"cuda": torch.cuda.get_device_name() if cuda else None}})
for line in sys.stdin:
    try:
        say(answer(json.loads(line)))
    except Exception as error:
        say({"error": str(error).split("\n")[0]})
