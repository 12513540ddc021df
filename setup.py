"""Builds the compiled kernel where there is a compiler for it; without one the package installs and runs on numpy.

Everything else about the package stands in pyproject.toml. `SONA_CFLAGS` and `SONA_LDFLAGS` are added to what the
compiler and the linker get; with either, a kernel that does not build is an error.
"""

import os
import shlex
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

_SOURCES = Path("src", "sona", "kernel", "native")
_ASKED = {name: shlex.split(os.environ.get(name, "")) for name in ("SONA_CFLAGS", "SONA_LDFLAGS")}
# -ffp-contract=off: every instruction set gives the same bits.
_FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-Wno-psabi"]


class BuildKernel(build_ext):
    """Builds with GCC and Clang alone: the kernel uses their vectors."""

    def build_extension(self, ext: Extension) -> None:
        """Build `ext`, or say why not."""
        if self.compiler.compiler_type == "msvc":
            raise CompileError("the kernel needs GCC or Clang, not MSVC; SONA runs on numpy here")
        super().build_extension(ext)


kernel = Extension(
    "sona.kernel._native",
    sources=[path.as_posix() for path in sorted(_SOURCES.glob("*.c"))],
    depends=[path.as_posix() for path in sorted(_SOURCES.glob("*.h"))],
    include_dirs=[numpy.get_include()],
    extra_compile_args=[*_FLAGS, *_ASKED["SONA_CFLAGS"]],
    extra_link_args=_ASKED["SONA_LDFLAGS"],
    optional=not any(_ASKED.values()),
)

setup(ext_modules=[kernel], cmdclass={"build_ext": BuildKernel})
