import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import fc from "fast-check";
import { CmmPlatform } from "../../components/platform/cmmPlatform";
import type { CmmPlatformArgs } from "../../components/platform/cmmPlatformArgs";
import { defaultSources } from "../../components/stages/sources";
import { stageTable } from "../../components/stages/table";
import { imageType, record } from "../support/mocks";
import { commit, settledPlatform } from "../support/platform";
import { repositoryRoot } from "../support/stackFile";

/*
 * The production Dockerfile: what each image's inputs are made of. A pin that changes must change the
 * images of exactly the stages that the table says depend on it, and no other.
 */
const targets = [...stageTable.map(({ target }) => target), "build-managed-alloc"];
const other = "89abcdef0123456789abcdef0123456789abcdef";
const { image, stages, sources } = settledPlatform();

/** A change of one pinned input, and the images that it must change beside the assembled ones. */
interface Change {
    what: string;
    args: Partial<CmmPlatformArgs>;
    changes: string[];
}

const changes: Change[] = [
    ...Object.keys(defaultSources).map((source) => ({
        what: `the commit of ${source}`,
        args: { sources: { ...sources, [source]: { commit: other } } },
        changes: stageTable.filter((stage) => stage.sources.includes(source)).map(({ target }) => target),
    })),
    { what: "the base's digest", args: { image: { ...image, base: { ...image.base, digest: `sha256:${"c".repeat(64)}` } } }, changes: targets },
    {
        what: "the GPU architecture",
        args: { image: { ...image, cudaArchList: "9.0" } },
        changes: targets.filter((target) => !["build-triton-kernels", "build-infinistore"].includes(target)),
    },
    { what: "the jobs of one stage", args: { stages: { ...stages, maxJobs: { "build-vllm": 3 } } }, changes: ["build-vllm"] },
    { what: "where Triton comes from", args: { stages: { ...stages, tritonOrigin: "source" as const } }, changes: ["build-triton"] },
    { what: "the locked packages", args: { stages: { ...stages, locks: "other-locks" } }, changes: stageTable.map(({ target }) => target) },
];

/** Inputs of each stage's image as text, by target; the images themselves get digests by name, whatever their inputs. */
async function inputs(args: Partial<CmmPlatformArgs>): Promise<Record<string, string>> {
    const recorder = await record();
    new CmmPlatform("gh200", settledPlatform(args));
    await recorder.settled();
    return Object.fromEntries(targets.map((target) => [target, JSON.stringify(recorder.only(imageType, `gh200-${target}`).inputs)]));
}

const program = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-inputs-"));
let before: Record<string, string>;
beforeAll(async () => {
    fs.cpSync(path.join(repositoryRoot, "assets"), path.join(program, "assets"), { recursive: true });
    fs.cpSync(path.join(repositoryRoot, "sandbox/wheelhouse/locks"), path.join(program, "other-locks"), { recursive: true });
    process.chdir(program);
    expect(sources!["src-vllm"]).toEqual({ commit });
    before = await inputs({});
});

afterAll(() => {
    process.chdir(repositoryRoot);
    fs.rmSync(program, { recursive: true });
});

test.each(changes)("$what changes exactly the stages that depend on it", async ({ args, changes: expected }) => {
    const after = await inputs(args);
    expect(targets.filter((target) => after[target] !== before[target])).toEqual(targets.filter((target) => expected.includes(target)));
});

test("changes of several sources at once change the union of their stages", async () => {
    await fc.assert(
        fc.asyncProperty(fc.subarray(Object.keys(defaultSources)), async (changed) => {
            const after = await inputs({ sources: { ...sources, ...Object.fromEntries(changed.map((source) => [source, { commit: other }])) } });
            const expected = stageTable.filter((stage) => stage.sources.some((source) => changed.includes(source))).map(({ target }) => target);
            expect(targets.filter((target) => after[target] !== before[target])).toEqual(expected);
        }),
        { numRuns: 6 },
    );
}, 60_000);

test.each([
    ["assets/vllm/build/stages/lmcache", ["build-lmcache"]],
    ["assets/vllm/patches/vllm/0001-opaque-types-only-where-they-hoist.patch", ["build-vllm"]],
    ["assets/vllm/managed_alloc.cu", ["build-managed-alloc"]],
    ["assets/vllm/build/requires/lmcache.txt", ["build-lmcache"]],
    ["assets/vllm/build/common/finish", targets],
    ["assets/vllm/locks/flashinfer.txt", ["build-flashinfer"]],
    ["assets/vllm/locks/triton.txt", ["build-triton"]],
    ["assets/vllm/locks/build.txt", stageTable.map(({ target }) => target)],
    ["assets/vllm/locks/runtime.txt", []],
])("an edited %s changes its own stages alone", async (file, expected) => {
    const text = fs.readFileSync(file, "utf8");
    fs.writeFileSync(file, `${text}\n# edited\n`);
    const after = await inputs({});
    fs.writeFileSync(file, text);
    expect(targets.filter((target) => after[target] !== before[target])).toEqual(expected);
});

test("no label names the commit of a stage that is left out", async () => {
    const recorder = await record();
    new CmmPlatform("gh200", settledPlatform({ stages: { ...stages, disabled: ["build-flash-attention", "build-infinistore"] } }));
    await recorder.settled();
    const { buildArgs } = recorder.only(imageType, "gh200-image").inputs as { buildArgs: Record<string, string> };
    const leftOut = Object.keys(buildArgs).filter((name) => buildArgs[name] === "left-out");
    expect(leftOut.sort()).toEqual(["SRC_FLASH_ATTENTION_REVISION", "SRC_FLASH_ATTN_CUTLASS_REVISION", "SRC_INFINISTORE_REVISION"]);
    expect(buildArgs.SRC_VLLM_REVISION).toBe(commit);
});
