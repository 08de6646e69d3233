import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { expect, test } from "vitest";
import { repositoryRoot } from "../support/stackFile";
import { temporaryFolders } from "../support/temporaryFolder";

/* What a stage does before it compiles: a source that asks for more than the image has is refused, from its metadata alone. */
const temporaryFolder = temporaryFolders();
const script = path.join(repositoryRoot, "assets/vllm/build/common/check-requires");
/** The toolchain has `packaging`; here pip's own copy of it serves. */
const packaging = execFileSync("python3", ["-c", "import os, pip._vendor; print(os.path.dirname(pip._vendor.__file__))"], { encoding: "utf8" }).trim();

/** A source whose build system can name its requirements and cannot compile. */
function source(asks: string[], listed: string[]): { status: number | null; stderr: string } {
    const folder = temporaryFolder();
    const metadata = ["Metadata-Version: 2.1", "Name: engine", "Version: 1.0", "Provides-Extra: bench", ...asks.map((line) => `Requires-Dist: ${line}`), ""];
    fs.writeFileSync(path.join(folder, "pyproject.toml"), '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n');
    fs.writeFileSync(
        path.join(folder, "backend.py"),
        [
            "import os",
            "def prepare_metadata_for_build_wheel(folder, config_settings=None):",
            '    os.mkdir(os.path.join(folder, "engine-1.0.dist-info"))',
            `    open(os.path.join(folder, "engine-1.0.dist-info", "METADATA"), "w").write(${JSON.stringify(metadata.join("\n"))})`,
            '    return "engine-1.0.dist-info"',
            "def build_wheel(folder, config_settings=None, metadata_directory=None):",
            '    raise SystemExit("compiled")',
        ].join("\n"),
    );
    fs.writeFileSync(path.join(folder, "engine.txt"), ["# What the engine asks for.", ...listed, ""].join("\n"));
    const { status, stderr } = spawnSync("python3", [script, path.join(folder, "engine.txt")], {
        cwd: folder,
        encoding: "utf8",
        env: { ...process.env, PYTHONPATH: packaging, PIP_CONSTRAINT: "", PIP_DISABLE_PIP_VERSION_CHECK: "1" },
    });
    return { status, stderr };
}

test.each([
    ["what is listed", ["numpy<=2.2.6", "redis"], ["numpy<=2.2.6", "redis"]],
    ["less than what is listed", ["redis"], ["numpy<=2.2.6", "redis"]],
    ["the same in other words", ["Setuptools_SCM >= 8,<11 ; python_version > '3'"], ["setuptools-scm<11,>=8"]],
    ["more for an extra only", ["redis", 'pandas; extra == "bench"'], ["redis"]],
    ["more for another machine only", ["redis", 'pywin32; sys_platform == "win32"'], ["redis"]],
    ["nothing at all", [], ["redis"]],
])("a source that asks for %s is compiled", (_, asks, listed) => {
    expect(source(asks, listed)).toEqual({ status: 0, stderr: "" });
});

test.each([
    ["a package that is not listed", ["redis", "setuptools_scm>=8"], ["redis"], "setuptools_scm>=8"],
    ["another version", ["numpy>=2.3"], ["numpy<=2.2.6"], "numpy>=2.3"],
    ["an extra that is not listed", ["fastapi[standard]"], ["fastapi"], "fastapi[standard]"],
])("a source that asks for %s is refused before it is compiled", (_, asks, listed, named) => {
    const { status, stderr } = source(asks, listed);
    expect(stderr).toBe(
        `engine: requires ${named}: the image's packages were not resolved for it; accepted: what is listed in engine.txt; ` +
            "add it to assets/vllm/build/requires and run assets/vllm/build/lock/lock\n",
    );
    expect(status).toBe(1);
});

test("all that a source asks for too much is named at once", () => {
    const { stderr } = source(["one", "two", "three"], ["two"]);
    expect(stderr.match(/requires (\w+):/g)).toEqual(["requires one:", "requires three:"]);
});

test("every recipe that compiles a source asks first", () => {
    const stages = path.join(repositoryRoot, "assets/vllm/build/stages");
    for (const name of fs.readdirSync(stages).filter((stage) => !["triton", "managed-alloc"].includes(stage))) {
        const recipe = fs.readFileSync(path.join(stages, name), "utf8");
        const builds = recipe.match(/^python3 (-m pip wheel|setup\.py) .*$/gm)!;
        const checked = recipe.match(new RegExp(`^python3 /build/check-requires /requires/${name}\\.txt\npython3 (-m pip wheel|setup\\.py) `, "gm"));
        expect(checked?.length, name).toBe(builds.length);
    }
});
