import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stageTable } from "../../components/stages/table";
import { repositoryRoot } from "../support/stackFile";
import { LiveSandbox } from "./liveSandbox";
import { PlainBuildx } from "./plainBuildx";

/* The Dockerfiles by themselves: checked by BuildKit, and built with plain buildx as documented, without Pulumi. */
const MINUTE = 60_000;
const out = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-out-"));
let sandbox: LiveSandbox;
let buildx: PlainBuildx;

beforeAll(() => {
    sandbox = new LiveSandbox();
    sandbox.start();
    buildx = new PlainBuildx(sandbox);
}, 60 * MINUTE);

afterAll(() => {
    buildx?.remove();
    sandbox?.down();
    fs.rmSync(out, { recursive: true, force: true });
}, 10 * MINUTE);

describe("BuildKit's own checks", () => {
    test.each([
        ["assets/vllm", "verify"],
        ["assets/lmcache", "lmcache"],
    ])(
        "find nothing in %s",
        (folder, target) => {
            const { status, output } = buildx.run([
                "build",
                "--call=check",
                "--platform=linux/arm64",
                `--target=${target}`,
                `--build-arg=BASE_IMAGE=${buildx.base}`,
                `--build-context=build-lmcache=${out}`,
                folder,
            ]);
            expect(output).toContain("Check complete");
            const warnings = [...output.matchAll(/^WARNING: (\w+)/gm)].map((match) => match[1]);
            // A builder that emulates checks for its own platform, whatever it is told; a GH200's is the image's.
            expect(
                warnings.filter((name) => name !== "InvalidBaseImagePlatform"),
                output,
            ).toEqual([]);
            expect(warnings.length > 0).toBe(status !== 0);
        },
        2 * MINUTE,
    );

    test(
        "would find something: an argument that no stage declares",
        () => {
            const folder = path.join(out, "wrong");
            fs.mkdirSync(folder);
            fs.writeFileSync(path.join(folder, "Dockerfile"), "FROM scratch AS one\nCOPY ${NOWHERE} /\n");
            const { output } = buildx.run(["build", "--call=check", folder]);
            expect(output).toContain("UndefinedVar");
        },
        MINUTE,
    );
});

describe("a compile cache that another Dockerfile wrote on the same daemon", () => {
    const dockerfile = fs.readFileSync(path.join(repositoryRoot, "assets/vllm/Dockerfile"), "utf8");
    /** The very mounts of a compile step, by the Dockerfile itself. */
    const mounts = (target: string) => {
        const step = new RegExp(`AS compile-${target.replace("build-", "")}\\n[^]*?\\nRUN ([^]*?)run-logged`).exec(dockerfile)?.[1] ?? "";
        return [...step.matchAll(/--mount=type=cache\S+/g)].map(([flag]) => flag);
    };
    const run = (name: string, flags: string[], command: string, domain?: string) => {
        const folder = path.join(out, name);
        fs.mkdirSync(folder, { recursive: true });
        fs.writeFileSync(path.join(folder, "Dockerfile"), `ARG BASE_IMAGE\nFROM \${BASE_IMAGE}\nARG COMPILE_DOMAIN=local\nRUN ${flags.join(" ")} ${command}\n`);
        const args = [`--build-arg=BASE_IMAGE=${buildx.base}`, ...(domain === undefined ? [] : [`--build-arg=COMPILE_DOMAIN=${domain}`])];
        return buildx.run(["build", "--progress=plain", "--platform=linux/arm64", ...args, folder]);
    };
    const plant = "mkdir -p /var/cache/gh200/ccache && touch /var/cache/gh200/ccache/planted";
    const found = "ls /var/cache/gh200/ccache/planted";

    test.each(["build-vllm", "build-managed-alloc"])(
        "is not what a step of %s finds",
        (target) => {
            const own = mounts(target);
            expect(own).toHaveLength(2);
            const [domain, another] = [`registry.example/${target}`, "registry.example/try"];
            expect(run("shared", ["--mount=type=cache,id=gh200-compile,target=/var/cache/gh200"], plant)).toMatchObject({ status: 0 });
            expect(run("unnamed", own, plant)).toMatchObject({ status: 0 });
            expect(run("another", own, plant, another)).toMatchObject({ status: 0 });
            const other = target === "build-vllm" ? "build-lmcache" : "build-vllm";
            expect(run("neighbour", mounts(other), plant, domain)).toMatchObject({ status: 0 });
            const { status, output } = run("victim", own, found, domain);
            expect(status).not.toBe(0);
            expect(output).toMatch(/planted'?: No such file/);
            // A domain's next step does find what the one before left. Not the victim's: BuildKit may hold the mount of a step that failed.
            expect(run("first", own, plant, `${domain}-kept`)).toMatchObject({ status: 0 });
            expect(run("next", own, found, `${domain}-kept`)).toMatchObject({ status: 0 });
        },
        5 * MINUTE,
    );

    test(
        "is in no log that is read of the domain",
        () => {
            const { status, output } = buildx.build("build-managed-alloc", ["--build-arg=COMPILE_DOMAIN=registry.example/logs"]);
            expect(status, output.slice(-4000)).toBe(0);
            const folder = path.join(out, "logs");
            const asked = ["--build-arg=COMPILE_DOMAIN=registry.example/logs", `--build-arg=LOGS_AT=${Date.now()}`, "-o", `type=local,dest=${folder}`];
            const logs = buildx.build("logs", asked);
            expect(logs.status, logs.output.slice(-4000)).toBe(0);
            expect(fs.readdirSync(folder)).toEqual(["build-managed-alloc.log"]);
        },
        5 * MINUTE,
    );
});

describe("two builds of the same inputs give the same digest, and so the same wheels:", () => {
    const push = (name: string, target: string, args: string[], folder = "assets/vllm"): { digest: string; output: string } => {
        const metadata = path.join(out, `${name}.json`);
        const image = `type=image,name=${sandbox.facts.registry.address}/vllm/plain,push=true,oci-mediatypes=true,rewrite-timestamp=true`;
        const { status, output } = buildx.build(target, ["--provenance=false", "-o", image, `--metadata-file=${metadata}`, ...args], folder);
        expect(status, output.slice(-4000)).toBe(0);
        const { "containerimage.digest": digest } = JSON.parse(fs.readFileSync(metadata, "utf8")) as Record<string, string>;
        return { digest: digest!, output };
    };

    test.each([...stageTable.map(({ target }) => target), "build-managed-alloc"])(
        "%s",
        (target) => {
            const first = push("first", target, []);
            const again = push("again", target, [`--no-cache-filter=${target.replace("build-", "compile-")}`]);
            expect(again.output).toContain(`[${target}] done in`);
            expect(again.digest).toBe(first.digest);
        },
        10 * MINUTE,
    );

    test(
        "the whole image, with every step of every stage run again",
        () => {
            const first = push("first", "final", []);
            const again = push("again", "final", ["--no-cache"]);
            expect(again.output.match(/^#\d+ \S+ \[build-[\w-]+\] done in/gm)).toHaveLength(stageTable.length + 1);
            expect(again.digest).toBe(first.digest);
        },
        30 * MINUTE,
    );

    test(
        "LMCache's image",
        () => {
            const wheel = `--build-context=build-lmcache=docker-image://${sandbox.facts.registry.address}/vllm/plain@${push("wheel", "build-lmcache", []).digest}`;
            const first = push("first", "lmcache", [wheel], "assets/lmcache");
            expect(push("again", "lmcache", ["--no-cache", wheel], "assets/lmcache").digest).toBe(first.digest);
        },
        10 * MINUTE,
    );
});

describe("plain docker buildx build", () => {
    test(
        "--target build-vllm leaves the stage's wheel, its checksum and what it is made of",
        () => {
            const dest = path.join(out, "vllm");
            const { status, output } = buildx.build("build-vllm", ["-o", `type=local,dest=${dest}`]);
            expect(status, output.slice(-4000)).toBe(0);
            expect(execFileSync("sha256sum", ["--check", "SHA256SUMS"], { cwd: dest, encoding: "utf8" })).toMatch(
                /^wheels\/vllm-0\.19\.0\S*aarch64\.whl: OK$/m,
            );
            const info = JSON.parse(fs.readFileSync(path.join(dest, "build-info.json"), "utf8")) as Record<string, unknown>;
            expect(info).toMatchObject({ stage: "build-vllm", standIn: true, archList: "9.0a", nvcc: "13.2.51" });
            expect(Object.keys(info.sources as object)).toContain("src-vllm");
        },
        10 * MINUTE,
    );

    test(
        "--target verify checks the assembled image as its user will run it",
        () => {
            const { status, output } = buildx.build("verify");
            expect(status, output.slice(-4000)).toBe(0);
            // What the launcher says in the check: it was run, not taken from the cache.
            expect(output).toMatch(/^#\d+ [\d.]+ command +\S+vllm serve model /m);
        },
        30 * MINUTE,
    );

    test.each([
        ["EXPECTED_TORCH", "2.12.0", "base image, PyTorch: 2.11.0a0+standin.nv26.03: not what this image is built for; accepted: 2.12.0*"],
        ["EXPECTED_CUDA", "13.3", "base image, nvcc: 13.2.51: not what this image is built for; accepted: 13.3.*"],
    ])(
        "refuses a base that is not what %s=%s says, before anything is compiled",
        (name, value, line) => {
            const { status, output } = buildx.build("build-managed-alloc", [`--build-arg=${name}=${value}`]);
            expect(status).not.toBe(0);
            expect(output).toContain(line);
            expect(output).not.toContain("[build-managed-alloc] done");
        },
        5 * MINUTE,
    );

    test(
        "refuses a release of vLLM that the source is not, so that no label can lie",
        () => {
            const { status, output } = buildx.build("final", ["--build-arg=VLLM_RELEASE=0.20.0"]);
            expect(status).not.toBe(0);
            expect(output).toContain("VLLM_RELEASE: 0.20.0: the source does not say so");
        },
        10 * MINUTE,
    );

    test(
        "refuses a stage of another commit than the label would name",
        () => {
            const lmcache = path.join(out, "lmcache");
            expect(buildx.build("build-lmcache", ["--build-arg=SRC_LMCACHE_REVISION=one", "-o", `type=local,dest=${lmcache}`]).status).toBe(0);
            const { status, output } = buildx.build("final", [`--build-context=build-lmcache=${lmcache}`]);
            expect(status).not.toBe(0);
            expect(output).toMatch(/build-lmcache: made from src-lmcache one; the label would say [0-9a-f]{40}/);
        },
        20 * MINUTE,
    );

    test(
        "leaves its provenance in the builder's record, with the base by digest and every argument, and no secret",
        () => {
            const listed = buildx.run(["history", "ls", "--format", "{{.Ref}} {{.Name}}", "--no-trunc"]).output.split("\n");
            const reference =
                listed
                    .find((line) => line.endsWith("(build-vllm)"))
                    ?.split(" ")[0]
                    ?.split("/")
                    .pop() ?? "";
            const { status, output } = buildx.run(["history", "inspect", "attachment", reference, "--type", "provenance"]);
            expect(status, output).toBe(0);
            expect(output).toContain(`"sha256": "${buildx.base.split("@sha256:")[1]}"`);
            expect(output).toContain('"context:src-vllm": "local:src-vllm"');
            expect(output).not.toContain(sandbox.password());
        },
        MINUTE,
    );

    test(
        "attests what a build was made of, and names no secret in it",
        () => {
            const dest = path.join(out, "attested.tar");
            const { status, output } = buildx.build("build-managed-alloc", ["--attest=type=provenance,mode=max", "-o", `type=oci,dest=${dest},tar=false`]);
            expect(status, output.slice(-4000)).toBe(0);
            const texts = fs.readdirSync(path.join(dest, "blobs/sha256")).map((name) => fs.readFileSync(path.join(dest, "blobs/sha256", name), "latin1"));
            const provenance = texts.find((text) => text.startsWith("{") && text.includes('"predicateType"'))!;
            expect(provenance).toContain('"target":"build-managed-alloc"');
            expect(provenance).toContain(buildx.base.split("@sha256:")[1]);
            for (const text of texts) {
                expect(text).not.toContain(sandbox.password());
            }
        },
        10 * MINUTE,
    );
});
