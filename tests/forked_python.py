"""``python -u -m submitit.core._submit`` without its imports: each job is forked from one process that has them.

All that submitit does is done: its controller starts a process, which reads the pickled work from the job's folder and
writes the pickled outcome there. What is left out is the interpreter's start and the import of torch and transformers.
"""

import json
import os
import shlex
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

BACKLOG, LONGEST = 64, 2**20


@contextmanager
def forking(address):
    """While entered, the command it gives is to submitit what ``python`` is, once for each job."""
    serve = [sys.executable, __file__, "serve", str(address)]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, start_new_session=True) as server:
        try:
            assert server.stdout.readline() == b"ready\n"
            yield shlex.join([sys.executable, "-S", __file__, "job", str(address)])
        finally:
            os.killpg(server.pid, 9)


def serve(address):
    import scipy.stats  # noqa: F401
    import sklearn.metrics  # noqa: F401
    from submitit.core.submission import submitit_main

    import mtdnn.experiment  # noqa: F401

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(BACKLOG)
        print("ready", flush=True)
        while True:
            asked, _ = listening.accept()
            said, files, _, _ = socket.recv_fds(asked, LONGEST, 2)
            environment, arguments = json.loads(said)
            if child := os.fork():
                for file in files:
                    os.close(file)
                threading.Thread(target=tell, args=(asked, child), daemon=True).start()
                continue
            os.dup2(files[0], 1), os.dup2(files[1], 2)
            os.environ.clear(), os.environ.update(environment)
            sys.argv = arguments[2:]  # after -u -m
            status = 1
            try:
                submitit_main()
                status = 0
            finally:
                os._exit(status)


def tell(asked, child):
    _, status = os.waitpid(child, 0)
    asked.sendall(bytes([os.waitstatus_to_exitcode(status) & 255]))
    asked.close()


def job(address, *arguments):
    """The process that submitit starts; it ends as the forked one does."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(address)
        socket.send_fds(asking, [json.dumps([dict(os.environ), arguments]).encode()], [1, 2])
        sys.exit((asking.recv(1) or b"\1")[0])


if __name__ == "__main__":
    {"serve": serve, "job": job}[sys.argv[1]](*sys.argv[2:])
