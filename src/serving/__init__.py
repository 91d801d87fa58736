"""What is served tells nobody: onnxruntime would report to its makers from its import on."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
