"""Measure what many learners at once need: kernels that run the core of a notebook.

Run `python tools/try_kernels.py FILE.json` on Linux, with nothing else running. It
starts one kernel and then 30 of them (`--kernels`), as a server for a class would, and
lets all run the core of notebook 00 at the same time. It keeps the seconds from the
start of the kernels until the last cell of the last one, the memory of all kernels at
that moment, with shared pages counted once, and the errors.

A server of The Littlest JupyterHub gives each learner a Jupyter server as well, whose
memory is measured alone and given per learner.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import psutil
from jupyter_client.manager import start_new_kernel

from pixelprior.benchmark.sampling import machine
from pixelprior.files import write_texts

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
TIMEOUT = 900  # seconds that a cell may take


def of_the_course(name: str):
    """The module of notebooks/ with this name."""
    spec = importlib.util.spec_from_file_location(name, NOTEBOOKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def core_cells(name: str) -> list[str]:
    """The code of the core sections of a notebook, with the stub of its exercise."""
    reading = of_the_course("reading")
    import nbformat

    (path,) = NOTEBOOKS.glob(f"{name}_*.ipynb")
    notebook = nbformat.read(path, as_version=4)
    return [
        cell.source
        for section in reading.sections(notebook)
        if section.core
        for cell in section.cells
        if cell.cell_type == "code"
    ]


def bytes_of(processes: list[psutil.Process]) -> int:
    """The memory of processes and their children; a page that several share is divided
    between them (PSS)."""
    family = [
        each for process in processes for each in (process, *process.children(True))
    ]
    return sum(each.memory_full_info().pss for each in family)


def measure(cells: list[str], count: int, folder: str) -> dict:
    """Start kernels, run the cells in all of them at once, and stop them."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:

        def start(_):
            return start_new_kernel(startup_timeout=300, cwd=folder, env=environment)

        started_kernels = [pool.submit(start, number) for number in range(count)]
        try:
            kernels = [each.result() for each in started_kernels]
            ready = time.perf_counter() - started

            def run(kernel):
                client = kernel[1]
                errors = []
                for cell in cells:
                    reply = client.execute_interactive(
                        cell, timeout=TIMEOUT, output_hook=lambda message: None
                    )
                    if reply["content"]["status"] != "ok":
                        errors.append(reply["content"].get("evalue", "no reply"))
                return errors

            errors = [each for found in pool.map(run, kernels) for each in found]
            seconds = time.perf_counter() - started
            processes = [psutil.Process(k.provisioner.pid) for k, _ in kernels]
            used = bytes_of(processes)
        finally:
            wait(started_kernels)  # one that failed keeps no other from being stopped
            for each in started_kernels:
                if not each.exception():
                    manager, client = each.result()
                    client.stop_channels()
                    manager.shutdown_kernel(now=True)
    return {
        "kernels": count,
        "seconds_to_start": ready,
        "seconds": seconds,
        "bytes": used,
        "errors": errors,
    }


def bytes_of_a_server(folder: str) -> int:
    """The memory of a Jupyter server of one learner before a notebook is opened."""
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--port=0", "--IdentityProvider.token=pixelprior"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, cwd=folder, **quiet)
    try:
        time.sleep(15)
        return bytes_of([psutil.Process(server.pid)])
    finally:
        server.kill()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--kernels", nargs="+", type=int, default=[1, 30])
    parser.add_argument("--notebook", default="00")
    arguments = parser.parse_args()
    cells = core_cells(arguments.notebook)
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "machine": machine("cpu") | {"memory": psutil.virtual_memory().total},
            "notebook": arguments.notebook,
            "cells": len(cells),
            "server_bytes": bytes_of_a_server(folder),
            "runs": [],
        }
        for count in arguments.kernels:
            found["runs"].append(measure(cells, count, folder))
            print(json.dumps(found["runs"][-1]), flush=True)
    texts = {arguments.file.name: json.dumps(found, indent=1)}
    write_texts(arguments.file.parent, texts)


if __name__ == "__main__":
    main()
