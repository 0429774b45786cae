"""The root command: quick help, lazy commands, sentences for what is missing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from slipway.cli import main as root


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_help_imports_neither_kopf_nor_a_kubernetes_client() -> None:
    heavy = ["kopf", "kubernetes", "aiohttp", "minio", "pydantic", "prometheus_client"]
    code = (
        "import sys, json, atexit\n"
        f"atexit.register(lambda: print(json.dumps([m for m in {heavy} if m in sys.modules]), file=sys.stderr))\n"
        "sys.argv = ['slipway', '--help']\n"
        "from slipway.cli.main import main\n"
        "main()\n"
    )
    answer = run(code)
    assert answer.returncode == 0
    assert "Usage" in answer.stdout
    assert json.loads(answer.stderr) == []


def test_a_missing_package_is_a_sentence() -> None:
    code = (
        "import sys, types\n"
        "from slipway.cli import main\n"
        "main.COMMANDS['cluster'] = ('slipway.cli.needs_more', 'x')\n"
        "main._exists = lambda name: name == 'cluster'\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'slipway.cli.needs_more':\n"
        "            raise ModuleNotFoundError(\"No module named 'kopf'\", name='kopf')\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.argv = ['slipway', 'cluster', 'up']\n"
        "main.main()\n"
    )
    answer = run(code)
    assert answer.returncode == 2
    assert answer.stderr == (
        "slipway cluster needs the Python package kopf, which is not installed: pip install 'slipway[operator]'.\n"
    )


def test_an_unknown_command_is_refused() -> None:
    answer = run("import sys; sys.argv = ['slipway', 'nope']\nfrom slipway.cli.main import main\nmain()")
    assert answer.returncode == 2
    assert "No such command 'nope'" in answer.stderr


def test_every_command_that_exists_can_be_loaded() -> None:
    for name in filter(root._exists, root.COMMANDS):
        assert root._load(name) is not None


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        root.app(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("slipway 0.")
