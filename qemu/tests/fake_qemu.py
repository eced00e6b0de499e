#!/usr/bin/env python3
"""Plays QEMU: connects to the sockets it is told, greets, and does what the
file 'play' beside it says, a JSON list of [verb, value] pairs."""
import json, os, re, socket, sys, threading

folder = os.path.dirname(os.path.abspath(__file__))
paths = dict(re.findall(r"socket,id=(\w+),server=off,path=(\S+)", " ".join(sys.argv)))


def connect(name):
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(paths[name])
    return stream


console, control = connect("console"), connect("control")
control.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\n')


ready = threading.Event()


def serve():
    for line in control.makefile("r"):
        command = json.loads(line)["execute"]
        control.sendall(b'{"return": {}}\n')
        ready.set()
        if command == "quit" and "deaf" not in play_verbs:
            with open(os.path.join(folder, "quit"), "w"):
                pass
            os._exit(0)


with open(os.path.join(folder, "play")) as file:
    play = json.load(file)
play_verbs = [verb for verb, _ in play]
threading.Thread(target=serve, daemon=True).start()

for verb, value in play:
    if verb not in ("complain", "fail"):
        ready.wait()
    if verb == "say":
        console.sendall(value.encode())
    elif verb == "event":
        control.sendall((json.dumps({"event": value}) + "\n").encode())
    elif verb == "complain":
        print(value, file=sys.stderr, flush=True)
    elif verb == "exit" or verb == "fail":
        os._exit(value)
threading.Event().wait()
