import subprocess
import sys

import pytest


@pytest.mark.claims
def test_importing_networks_is_light():
    heavy = {"sklearn", "matplotlib", "orbax", "torch", "tensorboardX", "tqdm", "grain"}
    code = f"import sys, jaxdl.nn, jaxdl.losses, jaxdl.metrics; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
