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

import norms
import products
import steps

torch.set_num_threads(options["threads"])
kinds = {**norms.kinds, **products.kinds, **steps.kinds}


def time_calls(run, calls):
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) * 1e3


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


def read(inputs):
    return {
        name: torch.from_numpy(np.fromfile(given["file"], dtype=np.float32)).reshape(given["shape"])
        for name, given in inputs.items()
    }


def write(results, folder):
    written = {}
    for name, value in results.items():
        file = f"{folder}/{options['name']}.{name}"
        value.detach().contiguous().numpy().astype(np.float32).tofile(file)
        written[name] = {"file": file, "bits": 32}
    return written


prepared = None


def answer(request):
    global prepared
    action = request["action"]
    if action == "prepare":
        prepared = None
        subject = request["subject"]
        prepared = kinds[subject["kind"]](subject, read(request["inputs"]))
        return {"results": write(prepared.results(), request["folder"]) if request["check"] else {}}
    if action == "calibrate":
        return {"ms": calibrate(prepared.run[request["mode"]], request["warm"])}
    if action == "time":
        time_calls(prepared.run[request["mode"]], request["lead"])
        return {"ms": time_calls(prepared.run[request["mode"]], request["calls"]) / request["calls"]}
    prepared = None
    return {}


say({"version": torch.__version__})
for line in sys.stdin:
    try:
        say(answer(json.loads(line)))
    except Exception as error:
        say({"error": str(error).split("\n")[0]})
