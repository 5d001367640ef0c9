"""Compile Kotlin and the generated R.java to Java 8 class files, which API 24 and both dexers support."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from downloads import fetch, fetch_one
from steps import BUILD, JDK, PROJECT, Stamp, emptied, files_under, java, run, tool

from skinedge.system.progress import note

MAIN = (PROJECT / "core" / "src" / "main" / "kotlin", PROJECT / "app" / "src" / "main" / "kotlin")
FLAGS = (
    "-no-stdlib",
    "-no-reflect",
    "-jvm-target=1.8",
    "-Xjdk-release=8",
    "-Xnullability-annotations=@android.annotation:ignore",
    # dx does not support invokedynamic
    "-Xlambdas=class",
    "-Xsam-conversions=class",
    "-Xstring-concat=inline",
)


def tflite_classes() -> list[Path]:
    """Return the Java classes of the inference library, extracted from its AARs."""
    return [_unpacked(aar, "classes.jar", BUILD / f"{aar.stem}.jar") for aar in fetch("tflite")]


def libraries() -> list[Path]:
    """Return the libraries that are packaged into the app."""
    return [*tflite_classes(), fetch_one("kotlin-stdlib")]


def compile_resources_class(generated: Path) -> Path:
    """Compile aapt2's R.java to a jar."""
    return compile_java(generated, [], BUILD / "r.jar")


def compile_java(sources: Path, classpath: Sequence[Path], jar: Path) -> Path:
    """Compile a folder of Java sources to a jar, unless it is up to date."""
    files = files_under(sources)
    stamp = Stamp(jar, [*files, *classpath])
    if not stamp.is_current():
        out = emptied(BUILD / f"{jar.stem}-classes")
        joined = ":".join(str(path) for path in [out, *classpath])
        javac, archiver = (tool(name, JDK) for name in ("javac", "jar"))
        run([javac, "--release", "8", "-Xlint:-options", "-cp", joined, "-d", out, *files])
        run([archiver, "--create", "--file", jar, "-C", out, "."])
        stamp.set()
    return jar


def compile_app(r_jar: Path) -> Path:
    """Compile the app and its core to a jar, against the Android API and the app's libraries only."""
    return compile_kotlin(MAIN, [fetch_one("android"), *libraries(), r_jar], BUILD / "app.jar")


def compile_kotlin(sources: Sequence[Path], classpath: Sequence[Path], jar: Path) -> Path:
    """Compile folders of Kotlin sources to a jar, unless it is up to date; warnings are errors."""
    stamp = Stamp(jar, [*files_under(*sources), *classpath], *FLAGS)
    if not stamp.is_current():
        note(f"compiling {jar.name}")
        jar.parent.mkdir(parents=True, exist_ok=True)
        jar.unlink(missing_ok=True)
        joined = ":".join(str(path) for path in classpath)
        compiler = [*fetch("kotlin"), fetch_one("kotlin-stdlib")]
        main = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"
        java(compiler, main, *FLAGS, "-Werror", "-classpath", joined, "-d", jar, *sources)
        stamp.set()
    return jar


def _unpacked(archive: Path, member: str, out: Path) -> Path:
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive) as opened:
            out.write_bytes(opened.read(member))
    return out


def native_library(abi: str) -> Path:
    """Extract the AAR's libtensorflowlite_jni.so of an ABI: arm64-v8a, armeabi-v7a, x86 or x86_64."""
    aar = fetch("tflite")[0]
    return _unpacked(aar, f"jni/{abi}/libtensorflowlite_jni.so", BUILD / "jni" / abi / "libtensorflowlite_jni.so")
