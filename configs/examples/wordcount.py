#!/usr/bin/env python3
"""A worker of a mesh in Python, standard library only: counts words.

meshctl starts it once (method: { stdio: [python3, wordcount.py] }) and speaks
JSON-RPC 2.0 with it, one message a line, on stdin and stdout. stderr is logged.

  in   {"jsonrpc":"2.0","id":1,"method":"count","params":{"payload":{"text":"a b"},"caller":"till/t1",...}}
  out  {"jsonrpc":"2.0","id":1,"result":{"lines":1,"words":2,"chars":3}}
  in   {"jsonrpc":"2.0","method":"cancel","params":{"id":1}}      nobody waits for request 1 any more

and this program may call others itself:

  out  {"jsonrpc":"2.0","id":"c1","method":"call","params":{"target":"shop.quote","payload":{},"for":1}}
  in   {"jsonrpc":"2.0","id":"c1","result":{}}   or   {..."error":{"code":-32000,"message":"...","data":{"code":"no_variant"}}}
"""

import itertools
import json
import sys
import threading
from concurrent.futures import Future


class Failure(Exception):
    """A JSON-RPC error, of this program's or as the answer to a call."""

    def __init__(self, code, message, data=None):
        super().__init__(message)
        self.error = {"code": code, "message": message}
        if data is not None:
            self.error["data"] = data


INVALID_PARAMS, UNKNOWN_METHOD, FAILED = -32602, -32601, -32000


class Mesh:
    """Requests come in on stdin, each runs in a thread of its own."""

    def __init__(self, commands):
        self.commands = commands
        self.writing = threading.Lock()
        self.numbers = itertools.count(1)
        self.running = {}  # id -> Request
        self.calls = {}  # id of a call of our own -> Future of its answer

    def write(self, **message):
        line = json.dumps({"jsonrpc": "2.0", **message})  # never has a newline in it
        with self.writing:
            print(line, flush=True)

    def call(self, **params):
        number, answer = f"c{next(self.numbers)}", Future()
        self.calls[number] = answer
        self.write(id=number, method="call", params=params)
        return answer.result()  # meshctl answers each call, if need be with a timeout

    def serve(self):
        for line in sys.stdin:
            message = json.loads(line)
            method, number = message.get("method"), message.get("id")
            if method is None:
                self.answered(message)
            elif method == "cancel" and number is None:
                request = self.running.get(message["params"]["id"])
                if request:
                    request.canceled.set()
            elif number is not None:
                request = self.running[number] = Request(self, number)
                args = (request, method, message["params"])
                threading.Thread(target=self.handle, args=args, daemon=True).start()

    def answered(self, message):
        answer = self.calls.pop(message["id"], None)
        if answer is None:
            return
        error = message.get("error")
        if error:
            answer.set_exception(Failure(error["code"], error["message"], error.get("data")))
        else:
            answer.set_result(message.get("result"))

    def handle(self, request, method, params):
        try:
            command = self.commands.get(method)
            if command is None:
                raise Failure(UNKNOWN_METHOD, f"wordcount has no {method}")
            answer = {"result": command(request, params["payload"])}
        except Failure as e:
            answer = {"error": e.error}
        except Exception as e:  # a bug here must not end the requests of others
            answer = {"error": {"code": FAILED, "message": f"{type(e).__name__}: {e}"}}
        del self.running[request.number]
        if not request.canceled.is_set():
            self.write(id=request.number, **answer)


class Request:
    """What is being answered; canceled is set when nobody waits for it any more."""

    def __init__(self, mesh, number):
        self.mesh, self.number, self.canceled = mesh, number, threading.Event()

    def call(self, target, payload):
        """Calls "worker.command" and returns the result; raises Failure. The call has as
        much time as this request, and ends with it, wherever it runs."""
        return self.mesh.call(**{"target": target, "payload": payload, "for": self.number})


def text_of(payload):
    if not isinstance(payload, dict) or not isinstance(payload.get("text"), str):
        raise Failure(INVALID_PARAMS, 'the payload must be {"text": "..."}')
    return payload["text"]


def count(request, payload):
    text = text_of(payload)
    return {"lines": len(text.splitlines()), "words": len(text.split()), "chars": len(text)}


def slow_count(request, payload):
    """Takes half a second for each word, and stops when nobody waits any more."""
    words = 0
    for _ in text_of(payload).split():
        if request.canceled.wait(0.5):
            print(f"canceled after {words} words", file=sys.stderr, flush=True)
            return None
        words += 1
    return {"words": words}


def estimate(request, payload):
    """What a translation costs: asks the worker shop, wherever it runs."""
    words = len(text_of(payload).split())
    quote = request.call("shop.quote", {"item": "translation", "quantity": words})
    return {"words": words, "price": quote["total"]}


if __name__ == "__main__":
    Mesh({"count": count, "slow_count": slow_count, "estimate": estimate}).serve()
