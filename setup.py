"""Packaging of mird: five folders, installed as subpackages of the namespace package `mird`."""

from pathlib import Path

from setuptools import setup

VERSION = "0.1.0"

FOLDERS = ("daemon", "kernels", "training", "clients", "configs")

DATA = {
    "mird.clients": ["web/*", "examples/*.py", "examples/javascript/*.js*"],
    "mird.kernels": ["cuda/*.cu"],
    "mird.configs": [
        "models/*.onnx",
        "models/*.md",
        "support/*.mird",
        "demo/*.csv",
        "demo/*.flac",
        "demo/*.md",
        "schema/*.json",
        "recipes/*.toml",
        "systemd/*",
        "suites/*.toml",
        "*.toml",
    ],
}

DEPENDENCIES = [
    "numpy>=1.26",
    "scipy>=1.11.4",
    "onnxruntime>=1.18",
    "pyaudio>=0.2.14",
    "pyzmq>=25.1.2",
    "prometheus-client>=0.20",
    "msgpack>=1.0.7",
    "pydantic-settings>=2.7",
    "soundfile>=0.12.1",
    "soxr>=0.5",
    "rich>=13.7",
]

EXTRAS = {
    # What `mird train` and the export need. The default install has no torch.
    "train": ["torch>=2.6", "onnx>=1.17", "onnxscript>=0.1", "mido>=1.3"],
    # Faster transforms for the scalogram on a CPU; ducc0 is under the GPL.
    "fast": ["ducc0>=0.36"],
    # The scalogram on an NVIDIA GPU, with the parts of CUDA that it needs.
    "cuda": ["cupy-cuda13x[ctk]>=14.0"],
    # The encoder on an NVIDIA GPU: compiled by TensorRT-RTX, whose package is whole, or by TensorRT, for the GPUs of
    # data centres too, whose package fetches most of itself from NVIDIA.
    "tensorrt-rtx": ["tensorrt-rtx>=1.7", "onnx>=1.17", "cupy-cuda13x[ctk]>=14.0"],
    "tensorrt": ["tensorrt>=11.0", "onnx>=1.17", "cupy-cuda13x[ctk]>=14.0"],
    # The bridges: what mird hears, to stage gear and home automation; `live` is all of them.
    "osc": ["python-osc>=1.9"],
    "midi": ["python-rtmidi>=1.5.8"],
    "mqtt": ["paho-mqtt>=2.1"],
    "watch": ["textual>=1.0"],
    "web": ["starlette>=0.40", "uvicorn>=0.35", "websockets>=13"],
    # The pictures of an evaluation's report.
    "report": ["matplotlib>=3.8", "scikit-learn>=1.4"],
    # Another encoder engine on a CPU, taken where it is faster.
    "openvino": ["openvino>=2025.0"],
    # What the benchmarks measure with, and the peers that they compare with.
    "bench": [
        "fcwt>=0.1",
        "librosa>=0.10",
        "psutil>=5.9",
        "pyfftw>=0.14",
        "PyWavelets>=1.6",
        "ssqueezepy>=0.6",
    ],
    "test": [
        "ducc0>=0.36",
        "hypothesis>=6.100",
        "import-linter>=2.1",
        "jsonschema>=4.21",
        "matplotlib>=3.8",
        "mypy>=1.15",
        "openvino>=2025.0",
        "nvidia-cuda-nvrtc>=13.0",
        "paho-mqtt>=2.1",
        "psutil>=5.9",
        "python-osc>=1.9",
        "python-rtmidi>=1.5.8",
        "pytest>=8.2",
        "pytest-timeout>=2.3",
        "ruff>=0.9",
        "selenium>=4.20",
        "scikit-learn>=1.4",
        "setuptools>=77",
        "tensorboard>=2.16",
        "starlette>=0.40",
        "tensorrt-rtx>=1.7",
        "textual>=1.0",
        "uvicorn>=0.35",
        "websockets>=13",
    ],
}

EXTRAS["live"] = [each for bridge in ("osc", "midi", "mqtt", "watch", "web") for each in EXTRAS[bridge]]

setup(
    name="mird",
    version=VERSION,
    description="A daemon that names the musical instruments it hears, live, and learns a new one from a single clip",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The mird authors",
    license="MIT",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Environment :: No Input/Output (Daemon)",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Multimedia :: Sound/Audio :: Analysis",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=[f"mird.{folder}" for folder in FOLDERS],
    package_dir={f"mird.{folder}": folder for folder in FOLDERS},
    package_data={f"mird.{folder}": ["py.typed", *DATA.get(f"mird.{folder}", [])] for folder in FOLDERS},
    include_package_data=False,
    zip_safe=False,
    install_requires=DEPENDENCIES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["mird = mird.daemon.cli:main"]},
)
