"""The build checks can fail: each is given what it exists to catch."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


def tool(name: str) -> ModuleType:
    path = ROOT / "tools" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestSymbols:
    @pytest.fixture(autouse=True)
    def _needs_a_compiler(self) -> None:
        if not (shutil.which("g++") and shutil.which("nm")):
            pytest.skip("g++ and nm are needed to make an object with a fault in it")

    def problems(self, tmp_path: Path, source: str, *flags: str) -> list[str]:
        body, target = tmp_path / "body.isa.cpp", tmp_path / "body.isa.o"
        body.write_text(source)
        subprocess.run(["g++", "-std=c++17", "-O2", *flags, "-c", str(body), "-o", str(target)], check=True)
        return list(tool("check_symbols").check_object(target, "avx2"))

    def test_a_clean_object(self, tmp_path: Path) -> None:
        source = (
            'namespace { int f(int x) { return x + 1; } }\nextern "C" int fr_f_avx2(int x) { return f(x); }'
        )
        assert self.problems(tmp_path, source) == []

    @pytest.mark.parametrize(
        ("source", "complaint"),
        [
            ('extern "C" int fr_f(int x) { return x; }', "exports fr_f (T)"),
            ('extern "C" int fr_f_avx512(int x) { return x; }', "exports fr_f_avx512 (T)"),
            ("int helper(int x) { return x; }", "exports _Z6helperi (T)"),
            ('extern "C" { int fr_state_avx2 = 1; }', "exports fr_state_avx2 (D)"),
            ("template <class T> T g(T x) { return x; }\ntemplate int g<int>(int);", "the weak symbol _Z1gIiET_S0_"),
            ("inline int count;\nint *fr_p_avx2() { return &count; }", "the weak symbol count"),
            ('extern "C" int *fr_f_avx2() { return new int[9]; }', "calls _Znam, which allocates"),
            ('extern "C" int fr_f_avx2(int x) { if (x) throw x; return 0; }', "calls __cxa_throw, which throws"),
            (
                "#include <vector>\n#include <algorithm>\n"
                'extern "C" void fr_f_avx2(std::vector<int> &v) { v.push_back(1); std::sort(v.begin(), v.end()); }',
                "the weak symbol _ZNSt6vector",
            ),
        ],
        ids=["no suffix", "other suffix", "helper", "data", "template", "variable", "new", "throw", "containers"],
    )  # fmt: skip
    def test_a_fault_is_named(self, source: str, complaint: str, tmp_path: Path) -> None:
        assert any(complaint in problem for problem in self.problems(tmp_path, source)), self.problems(
            tmp_path, source
        )

    def test_openmp(self, tmp_path: Path) -> None:
        loop = "#pragma omp parallel for\nfor (int i = 0; i < n; ++i) x[i] = 0;"
        source = f'extern "C" void fr_f_avx2(float *x, int n) {{\n{loop} }}'
        assert any(
            "needs an OpenMP runtime" in problem for problem in self.problems(tmp_path, source, "-fopenmp")
        )
        library = tmp_path / "libx.so"
        subprocess.run(
            ["g++", "-shared", "-fopenmp", "-o", str(library), str(tmp_path / "body.isa.o")], check=True
        )
        assert any("libgomp" in problem for problem in tool("check_symbols").check_extension(library))

    def test_nothing_to_check_is_no_success(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert tool("check_symbols").main(str(tmp_path)) == 2
        assert "holds no objects" in capsys.readouterr().out


FILES = {
    *("fastrec/__init__.py", "fastrec/py.typed", "kernels/cuda/__init__.py", "kernels/cuda/a.cu"),
    *("kernels/cpu/a.pyx", "kernels/cpu/a.isa.cpp", "tests/test_a.py", ".ci/run"),
}
WHEEL = {
    *("fastrec/__init__.py", "fastrec/py.typed", "fastrec/_kernels/a.cpython-311.so"),
    *("fastrec/_kernels/cuda/__init__.py", "fastrec/_kernels/cuda/a.cu"),
    *("fastrec-0.dist-info/RECORD", "fastrec-0.dist-info/licenses/LICENSE"),
}


class TestWheel:
    def problems(self, tmp_path: Path, names: set[str]) -> list[str]:
        with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
            for name in names:
                archive.writestr(name, "")
        return list(tool("check_wheel").check_wheel(tmp_path / "a.whl", FILES))

    def test_complete(self, tmp_path: Path) -> None:
        assert self.problems(tmp_path, WHEEL) == []

    @pytest.mark.parametrize("name", sorted(WHEEL - {"fastrec-0.dist-info/RECORD"}))
    def test_missing(self, name: str, tmp_path: Path) -> None:
        (problem,) = self.problems(tmp_path, WHEEL - {name})
        assert problem.startswith("missing: ")

    @pytest.mark.parametrize("name", ["kernels/cpu/a.isa.cpp", "tests/test_a.py", "fastrec/_kernels/b.so"])
    def test_too_much(self, name: str, tmp_path: Path) -> None:
        (problem,) = self.problems(tmp_path, WHEEL | {name})
        assert problem == f"does not belong: {name.removesuffix('.so')}"

    def test_sdist(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("")
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
            for name in FILES - {".ci/run", "tests/test_a.py"} | {"PKG-INFO", "build/a.cpp"}:
                archive.add(tmp_path / "x", f"fastrec-0/{name}")
        wrong = tool("check_wheel").check_sdist(tmp_path / "a.tar.gz", FILES)
        assert wrong == ["missing: tests/test_a.py", "does not belong: build/a.cpp"]


class TestReadme:
    def test_blocks_are_numbered_by_language(self, tmp_path: Path) -> None:
        page = tmp_path / "README.md"
        page.write_text("```sh\nmake\n```\n```python\nx = 1\n```\n```sh\nmake test\nls\n```\n")
        block = tool("readme").block
        assert block("sh", 2, page) == "make test\nls\n"
        assert block("python", 1, page) == "x = 1\n"
        with pytest.raises(SystemExit, match="has 2 blocks of sh; there is no number 3"):
            block("sh", 3, page)

    @pytest.mark.parametrize(("number", "job"), [(1, "fastrec bench"), (2, "pytest")])
    def test_the_page_opens_with_two_commands_of_one_line(self, number: int, job: str) -> None:
        (line,) = tool("readme").block("sh", number).splitlines()
        assert ".venv" in line
        assert "pip install" in line
        assert line.rstrip().endswith(job)


class TestCuda:
    """tools/check_cuda.py, where NVRTC is installed (the extra `dev` brings it)."""

    @pytest.fixture
    def check(self) -> ModuleType:
        module = tool("check_cuda")
        if module.library() is None:
            pytest.skip("NVRTC is not installed (pip install nvidia-cuda-nvrtc)")
        return module

    def run(self, check: ModuleType, monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> str:
        from fastrec._core import cuda

        (folder / "a.cu").write_text(text)
        monkeypatch.setattr(cuda, "files", lambda package: folder)
        cuda.source.cache_clear()
        try:
            return "\n".join(
                line for line, failed in check.check(check.Compiler(check.library()), "a.cu") if failed
            )
        finally:
            cuda.source.cache_clear()

    def test_a_clean_source(self, check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        text = 'extern "C" __global__ void f(float *x) { x[threadIdx.x] *= 2.0f; }\n'
        assert self.run(check, monkeypatch, tmp_path, text) == ""

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ('extern "C" __global__ void f(float *x) { *x = y; }', 'identifier "y" is undefined'),
            ('extern "C" __global__ void f(float *x) { int unused; *x = 1; }', "unused"),
            ("// variants: FR_A=1,2\n#if FR_A == 2\n#error two\n#endif\n", "FR_A=2"),
            (
                'extern "C" __global__ void __launch_bounds__(1024, 2) f(float *x) {\n  float y[64];\n'
                "#pragma unroll\n  for (int i = 0; i < 64; ++i) y[i] = x[i * 99 + threadIdx.x];\n"
                "#pragma unroll\n  for (int i = 0; i < 64; ++i) x[i + threadIdx.x * 64] = y[63 - i] * y[i];\n}",
                "spilled",
            ),
        ],
    )
    def test_what_must_fail(
        self, check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, complaint: str
    ) -> None:
        assert complaint in self.run(check, monkeypatch, tmp_path, text)
