import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { expect, test } from "vitest";
import { sliceDockerfile } from "../../components/internal/dockerfile";
import { defaultSources } from "../../components/stages/sources";
import { stageTable } from "../../components/stages/table";
import { repositoryRoot } from "../support/stackFile";

/* The production Dockerfile against the tables that the program drives it by; no recipe is run. */
const folder = path.join(repositoryRoot, "assets", "vllm");
const text = fs.readFileSync(path.join(folder, "Dockerfile"), "utf8");
const targets = [...stageTable.map(({ target }) => target), "build-managed-alloc"];
const sources = Object.keys(defaultSources);
const stageNames = [...text.matchAll(/^FROM \S+ AS (\S+)/gim)].map((match) => match[1]!);

test("every source of the table takes the place of a stage, and every such stage has a source", () => {
    expect(stageNames.filter((name) => name.startsWith("src-")).sort()).toEqual([...sources].sort());
});

test.each(targets)("%s fetches nothing by itself, and reads files that exist", (target) => {
    const slice = sliceDockerfile(text, target, [...sources, "locks", "wheelhouse"]);
    expect(slice.text).not.toMatch(/^FROM \S+ AS src-/im);
    expect(slice.contextPaths.filter((file) => !fs.existsSync(path.join(folder, file)))).toEqual([]);
    expect(slice.contextPaths).not.toContain(".");
});

test.each([...targets, "final"])("%s carries the time that it is told, so that it has the same digest whenever it is built", (target) => {
    expect(sliceDockerfile(text, target, [...sources, "locks", "wheelhouse"]).args).toContain("SOURCE_DATE_EPOCH");
});

test("every compiled stage reads a source of its own, and the allocator none", () => {
    for (const target of targets) {
        const { provided } = sliceDockerfile(text, target, [...sources, "locks", "wheelhouse"]);
        expect(
            Object.keys(provided).some((name) => name.startsWith("src-")),
            target,
        ).toBe(target !== "build-managed-alloc");
    }
});

test("each stage reads exactly the sources and installs exactly the locks that the table names", () => {
    const pip = (slice: string) => [...slice.matchAll(/\/locks\/(\w+)\.txt/g)].map((match) => match[1]!);
    for (const { target, sources: named, locks } of stageTable) {
        const slice = sliceDockerfile(text, target, [...sources, "locks", "wheelhouse"]);
        expect(
            Object.keys(slice.provided)
                .filter((name) => name.startsWith("src-"))
                .sort(),
            target,
        ).toEqual([...named].sort());
        const recipe = slice.contextPaths.filter((file) => file.startsWith("build/stages/")).map((file) => fs.readFileSync(path.join(folder, file), "utf8"));
        expect([...new Set([slice.text, ...recipe].flatMap(pip))].sort(), target).toEqual([...locks].sort());
        expect(slice.provided.locks, target).toEqual([...locks].sort().map((lock) => `${lock}.txt`));
    }
});

test("built without the program, the Dockerfiles take the table's commits, and its refs where there is none", () => {
    const lmcache = fs.readFileSync(path.join(repositoryRoot, "assets/lmcache/Dockerfile"), "utf8");
    for (const [name, { commit, ref }] of Object.entries(defaultSources)) {
        const revision = `ARG SRC_${name.slice(4).replaceAll("-", "_").toUpperCase()}_REVISION=${commit ?? ref}\n`;
        expect(text).toContain(revision);
        expect(lmcache.includes(revision), name).toBe(name === "src-lmcache");
    }
});

test("a label of the image names the commit of every source", () => {
    const labels = Object.fromEntries([...text.matchAll(/ai\.vllm\.gh200\.source\.([\w-]+)=\$\{(\w+)\}/g)].map((match) => [`src-${match[1]}`, match[2]]));
    expect(labels).toEqual(Object.fromEntries(sources.map((name) => [name, `${name.replaceAll("-", "_").toUpperCase()}_REVISION`])));
});

test("the check of a stage's wheels knows the table's", () => {
    const script =
        "import json, re; text = open('build/common/check-wheels').read(); print(json.dumps(eval(re.search(r'EXPECTED = (\\{.*?\\n\\})', text, re.S).group(1))))";
    const expected = JSON.parse(execFileSync("python3", ["-c", script], { cwd: folder, encoding: "utf8" })) as object;
    expect(expected).toEqual(Object.fromEntries(stageTable.map(({ target, wheels }) => [target, wheels])));
});

test("the final image compiles nothing: it takes every stage of the table as it was built", () => {
    const slice = sliceDockerfile(text, "final", [...targets, "locks", "wheelhouse"]);
    expect(slice.text).not.toMatch(/^FROM \S+ AS (src|compile|build)-/im);
    expect(
        Object.keys(slice.provided)
            .filter((name) => name.startsWith("build-"))
            .sort(),
    ).toEqual([...targets].sort());
});

test("the verification runs in the assembled image and has no other base", () => {
    const slice = sliceDockerfile(text, "verify", ["cmm"]);
    expect(slice.provided).toEqual({ cmm: ["."] });
    expect(slice.text.match(/^FROM .*$/gim)).toEqual([expect.stringMatching(/^FROM cmm AS verify$/i)]);
});

test.each(targets)("%s takes turns by a mount that holds nothing, and finds again what its own target and domain left alone", (target) => {
    const { text: slice, args } = sliceDockerfile(text, target, [...sources, "locks", "wheelhouse"]);
    expect(slice.match(/--mount=type=cache\S*/g)).toEqual([
        "--mount=type=cache,id=gh200-compile,sharing=locked,target=/run/gh200-turn",
        `--mount=type=cache,id=gh200-cache-\${COMPILE_DOMAIN}-${target},target=/var/cache/gh200`,
    ]);
    expect(args).toContain("COMPILE_DOMAIN");
    expect(text.split("/run/gh200-turn")).toHaveLength(targets.length + 1);
});

test("the logs of every target are read from where it leaves them", () => {
    const { text: slice } = sliceDockerfile(text, "logs", []);
    const mounts = [...slice.matchAll(/--mount=type=cache,id=(\S+),target=\S+/g)].map((match) => match[1]);
    expect(mounts.sort()).toEqual(targets.map((target) => `gh200-cache-\${COMPILE_DOMAIN}-${target}`).sort());
});

test("ccache knows a compiler by its content: whoever else writes the cache can give another one the same time and size", () => {
    expect(text).toMatch(/^ENV CCACHE_DIR=\S+ CCACHE_COMPILERCHECK=content$/m);
});
