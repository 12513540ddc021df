"""Builds the compiled kernel where there is a compiler for it; without one the package installs and runs on numpy.

Everything else about the package stands in pyproject.toml.
"""

import os
import shlex
from pathlib import Path

import numpy
from setuptools import Extension, setup

_SOURCES = Path("src", "sona", "kernel", "native")


def _flags(name: str) -> list[str]:
    return shlex.split(os.environ.get(name, ""))


kernel = Extension(
    "sona.kernel._native",
    sources=[str(path) for path in sorted(_SOURCES.glob("*.c"))],
    depends=[str(path) for path in sorted(_SOURCES.glob("*.h"))],
    include_dirs=[numpy.get_include()],
    # -ffp-contract=off: every instruction set gives the same bits.
    extra_compile_args=[
        "-std=c11",
        "-O3",
        "-ffp-contract=off",
        "-fvisibility=hidden",
        "-Wno-psabi",
        *_flags("SONA_CFLAGS"),
    ],
    extra_link_args=_flags("SONA_LDFLAGS"),
    optional=True,
)

setup(ext_modules=[kernel])
