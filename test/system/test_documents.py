#!/usr/bin/env python3
"""The examples of PROTOCOL.md do what they say, pasted as they are."""
import json
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

from broker import die_with_parent
from harness import TOP, Skip, case, check, check_equal, check_in, main

HERE = os.path.dirname(os.path.realpath(__file__))


def examples(language, port):
    with open(os.path.join(TOP, "proto/PROTOCOL.md")) as file:
        text = file.read()
    blocks = re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)
    check(blocks, f"no {language} example in PROTOCOL.md")
    return [block.replace("7654", str(port)) for block in blocks]


def paste(env, program, text, more=""):
    done = subprocess.run([program, "-"], input=(text + more).encode(), cwd=env.tmp,
                          capture_output=True, timeout=40, preexec_fn=die_with_parent,
                          env=dict(os.environ, NODE_PATH=os.path.join(HERE, "node_modules")))
    check_equal(done.returncode, 0, f"{done.stderr.decode()[-1500:]}; exit code")
    return done.stdout.decode()


@case()
def curl_as_pasted(env):
    broker = env.broker(data_dir=env.path("godwit-data"))
    whole, signed = examples("sh", broker.port)
    out = paste(env, "bash", "set -e\n" + whole)
    check('"refused":' not in out, out)
    check_in("customer-7", out, "what was pulled")
    check_in('"accepted"', out, "what was settled")
    check_in("green", out, "health")
    lane = broker.http().get("/v1/groups/billing").json["lanes"][0]
    check_equal(int(lane["acked"]), 3, "acked")
    out = paste(env, "bash", f"set -e; U=http://{broker.address}\n" + signed)
    check_equal([t["name"] for t in json.loads(out)["topics"]], ["orders"], "topics, signed")


@case()
def javascript_as_pasted(env):
    if shutil.which("node") is None or not os.path.isdir(os.path.join(HERE, "node_modules/ws")):
        raise Skip("no node, or npm could not install ws")
    broker = env.broker(data_dir=env.path("godwit-data"))
    http = broker.http()
    http.make_topic("orders")
    http.make_group("billing", "orders")
    script, = examples("js", broker.port)
    secret = broker.credentials()["secret"]
    around = ("globalThis.WebSocket = require('ws');\n"
              f"globalThis.prompt = () => {json.dumps(secret)};\n")
    out = paste(env, "node", around + script,
                "\nsetTimeout(() => process.exit(0), 2000).unref();"
                "\nsetTimeout(() => ws.close(), 1500);\n")
    check("refused" not in out, out)
    check_equal(int(http.get("/v1/groups/billing").json["lanes"][0]["acked"]), 1, "acked")


main()
