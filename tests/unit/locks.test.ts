import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { expect, test } from "vitest";
import { repositoryRoot } from "../support/stackFile";
import { temporaryFolders } from "../support/temporaryFolder";

/* The hash-locked lists against what they must fit; nothing is fetched. tests/upstream/locks.test.ts asks the real index. */
const temporaryFolder = temporaryFolders();
const assets = path.join(repositoryRoot, "assets");
const pytorch = path.join(assets, "vllm/build/lock/pytorch.txt");
const locks = ["vllm", "lmcache"].flatMap((image) => {
    const folder = path.join(assets, image, "locks");
    return fs.readdirSync(folder).map((name) => path.join(folder, name));
});
const names = (lock: string): string[] => [...fs.readFileSync(lock, "utf8").matchAll(/^([\w.-]+)==/gm)].map(([, name]) => name!);

interface Unmet {
    requirement: string;
    locked: string | null;
}
const unmet = (lock: string, ...requirements: string[]): Unmet[] =>
    JSON.parse(execFileSync("python3", [path.join(repositoryRoot, "tests/support/unmet.py"), lock, ...requirements], { encoding: "utf8" })) as Unmet[];
/** Packages that the lock has in a version that the base's PyTorch was not made with. */
const besidePytorch = (lock: string): Unmet[] => unmet(lock, pytorch).filter(({ locked }) => locked !== null);

test.each(locks)("%s has nothing in another version than the base's PyTorch was made with", (lock) => {
    expect(besidePytorch(lock)).toEqual([]);
});

test.each([
    ["nvidia-nvshmem-cu13==3.6.5", "nvidia-nvshmem-cu13==3.4.5"],
    ["nvidia-cudnn-cu13==9.20.0.48", "nvidia-cudnn-cu13==9.19.0.56"],
    ["cuda-bindings==12.9.4", "cuda-bindings<14,>=13.0.3"],
    ["triton==3.6.1", "triton==3.6.0"],
    ["Setuptools==82.0.0", "setuptools<82"],
])("%s in a lock is found", (pin, requirement) => {
    const lock = path.join(temporaryFolder(), "lock.txt");
    fs.writeFileSync(lock, `${pin} \\\n    --hash=sha256:0\n`);
    expect(besidePytorch(lock)).toEqual([{ requirement, locked: pin.split("==")[1] }]);
});

test("every lock of the script is resolved beside what PyTorch requires", () => {
    expect(fs.readFileSync(path.join(assets, "vllm/build/lock/lock"), "utf8")).toMatch(/uv" pip compile [\s\S]*--constraints pytorch\.txt/);
});

test.each(locks)("%s names no package of another CUDA than 13", (lock) => {
    expect(names(lock).filter((name) => /-cu(?!13)\d+$|-cuda(?!13)\d+x?$/.test(name))).toEqual([]);
});

/** What pip-install refuses before it does anything else. It is not run on a real lock here: it forgets packages of the machine that it runs on. */
const script = path.join(assets, "vllm/build/common/pip-install");
const ofTheBase = new RegExp(/^if grep -niE '(.*)' /m.exec(fs.readFileSync(script, "utf8"))![1]!, "im");

test.each([
    "torch",
    "torchvision",
    "cuda-toolkit",
    "nvidia-cublas",
    "nvidia-cuda-runtime",
    "nvidia-cudnn-cu13",
    "nvidia-cufft",
    "nvidia-nccl-cu13",
    "nvidia-nvjitlink",
])("a lock that names %s, which the base owns, is not installed", (name) => {
    const lock = path.join(temporaryFolder(), "lock.txt");
    fs.writeFileSync(lock, `${name}==1.0 --hash=sha256:0\n`);
    expect(fs.readFileSync(lock, "utf8")).toMatch(ofTheBase);
    const { status, stdout, stderr } = spawnSync(script, [lock], { encoding: "utf8" });
    expect(stderr).toContain(`${lock}: names what the base image owns; accepted: anything else; add it to overrides.txt and run lock/lock`);
    expect(stdout).toBe(`1:${name}==1.0 --hash=sha256:0\n`);
    expect(status).toBe(1);
});

test.each(locks)("%s names nothing of the base's", (lock) => {
    expect(fs.readFileSync(lock, "utf8")).not.toMatch(ofTheBase);
});

const requires = path.join(assets, "vllm/build/requires");
const lists = fs.readdirSync(requires).map((name) => path.join(requires, name));
const text = (name: string): string => fs.readFileSync(path.join(assets, "vllm/build/lock", name), "utf8");
/** What overrides.txt leaves out of every lock: the base's, a stage's wheel, or left out with its reason. */
const elsewhere = [...text("overrides.txt").matchAll(/^([\w.-]+); sys_platform == "never"$/gm)].map(([, name]) => name!);
const missing = (lock: string, ...from: string[]): Unmet[] =>
    unmet(lock, ...from).filter(({ requirement }) => !elsewhere.some((name) => new RegExp(`^${name}\\b(?!-)`).test(requirement)));

test("the image's packages are resolved from all that the stages' wheels ask for, and meet it", () => {
    for (const list of lists) {
        expect(text("runtime.in")).toContain(`-r ../requires/${path.basename(list)}\n`);
    }
    expect(missing(path.join(assets, "vllm/locks/runtime.txt"), ...lists)).toEqual([]);
    expect(lists.length).toBe(6);
});

test("LMCache's own image has what its wheel asks for", () => {
    expect(text("lmcache.in")).toContain("-r ../requires/lmcache.txt\n");
    expect(missing(path.join(assets, "lmcache/locks/lmcache.txt"), path.join(requires, "lmcache.txt"))).toEqual([]);
});

test("a package that a wheel asks for and no lock has is found", () => {
    const lock = path.join(temporaryFolder(), "lock.txt");
    const whole = fs.readFileSync(path.join(assets, "vllm/locks/runtime.txt"), "utf8");
    fs.writeFileSync(lock, whole.replace(/^setuptools-scm==.*\n/m, "").replace(/^numba==0.61.2/m, "numba==0.62.0"));
    expect(missing(lock, ...lists)).toEqual([
        { requirement: "setuptools_scm>=8", locked: null },
        { requirement: "numba==0.61.2", locked: "0.62.0" },
    ]);
});
