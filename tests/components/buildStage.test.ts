import * as fs from "node:fs";
import * as pulumi from "@pulumi/pulumi";
import { beforeEach, describe, expect, test } from "vitest";
import { BuildStage, type BuildStageArgs } from "../../components/stages/buildStage";
import { imageType, mockDigest, record, type Recorder, unknown, unknownOutput, valueOf } from "../support/mocks";
import { builder, programs } from "../support/program";
import { laterRefusal } from "../support/refusal";

const program = programs();
const stageType = "gh200-vllm:index:BuildStage";
const revision = "0123456789abcdef0123456789abcdef01234567";

let recorder: Recorder;
beforeEach(async () => {
    program();
    recorder = await record();
});

function stage(overrides: Partial<BuildStageArgs> = {}): BuildStage {
    return new BuildStage("lmcache", {
        builder,
        dockerfile: "assets/vllm/Dockerfile",
        target: "build-lmcache",
        repository: "example.com/vllm/stages",
        namedContexts: { "src-lmcache": `https://example.com/lmcache.git#${revision}`, wheelhouse: "wheels", "src-vllm": "unused" },
        buildArgs: { MAX_JOBS: "31", CUDA_ARCH_LIST: "9.0a", SRC_LMCACHE_REVISION: revision, SRC_VLLM_REVISION: revision, BASE_IMAGE: "base@sha256:0" },
        ...overrides,
    });
}

/** Inputs of the only image. */
async function inputs(overrides: Partial<BuildStageArgs> = {}) {
    stage(overrides);
    await recorder.settled();
    return recorder.only(imageType, "lmcache").inputs;
}

describe("contexts and arguments that are known only later", () => {
    const address = `https://git.example.com/lmcache.git#${revision}`;
    const later = { "src-lmcache": pulumi.output(address), wheelhouse: "wheels" };

    test("arrive as if they had been named, and a private source with its token", async () => {
        const found = await inputs({
            namedContexts: later,
            buildArgs: { MAX_JOBS: pulumi.output("31") },
            gitTokens: { "git.example.com": "hunter2", "other.example.com": "hunter3" },
        });
        expect(found.context).toMatchObject({ named: { "src-lmcache": { location: address } } });
        expect(found.buildArgs).toMatchObject({ MAX_JOBS: "31" });
        expect(found.secrets).toEqual({ secret: { "GIT_AUTH_TOKEN.git.example.com": "hunter2" } });
        expect(found.ignoreSecretsInDiffCalculation).toEqual(["GIT_AUTH_HEADER.git.example.com", "GIT_AUTH_TOKEN.git.example.com"]);
    });

    test("are unknown in a preview, and nothing else of the image is", async () => {
        recorder = await record({ preview: true });
        const found = await inputs({ namedContexts: { ...later, "src-lmcache": unknownOutput() }, buildArgs: { MAX_JOBS: unknownOutput() } });
        expect(found.context).toMatchObject({ named: { "src-lmcache": { location: unknown }, wheelhouse: { location: expect.any(String) as string } } });
        expect(found.buildArgs).toMatchObject({ MAX_JOBS: unknown, BUILT_FOR: "gh200-vllm/test" });
        expect(found.target).toBe("build-lmcache");
    });

    test.each([
        ["wheels", "is a folder that is known only later, and its files are hashed when the program is written; accepted: a folder as text, or an output"],
        ["http://git.example.com/a.git#main", "is no git address; accepted: "],
    ])("are held to the same: %s", async (location, wrong) => {
        expect(await laterRefusal(() => stage({ namedContexts: { ...later, "src-lmcache": pulumi.output(location) } }))).toEqual([
            expect.stringContaining(`namedContexts.src-lmcache: ${location}: ${wrong}`),
        ]);
    });
});

test("a stage is one component with one image, and nothing else", async () => {
    stage();
    await recorder.settled();
    expect(recorder.registrations.map(({ type, name, parent }) => [type, name, parent])).toEqual([
        [stageType, "lmcache", ""],
        [imageType, "lmcache", `${stageType} lmcache`],
    ]);
});

test("neither another name of the stack nor of the builder is a change of its image", async () => {
    stage();
    await recorder.settled();
    expect(recorder.only(imageType, "lmcache").ignoreChanges).toEqual(["buildArgs.BUILT_FOR", "builder.name"]);
});

test("its image has exactly these inputs", async () => {
    const contextHash = /^\.gh200\/contexts\/[0-9a-f]{16}$/;
    expect(await inputs()).toEqual({
        builder: { name: "gh200" },
        dockerfile: {
            inline: [
                "ARG BASE_IMAGE=nvcr.io/nvidia/pytorch:26.03-py3",
                "FROM ${BASE_IMAGE} AS base",
                "ARG SOURCE_DATE_EPOCH",
                "",
                "FROM base AS compile-lmcache",
                "ARG COMPILE_DOMAIN",
                "ARG SRC_LMCACHE_REVISION",
                "ARG CUDA_ARCH_LIST",
                "ARG MAX_JOBS",
                "COPY --from=wheelhouse / /wheelhouse",
                "COPY --from=src-lmcache / /src",
                "RUN make",
                "",
                "FROM scratch AS build-lmcache",
                "COPY --from=compile-lmcache /wheels /",
                "",
            ].join("\n"),
        },
        context: {
            location: expect.stringMatching(contextHash) as string,
            named: {
                "src-lmcache": { location: `https://example.com/lmcache.git#${revision}` },
                wheelhouse: { location: expect.stringMatching(contextHash) as string },
            },
        },
        target: "build-lmcache",
        buildArgs: { BASE_IMAGE: "base@sha256:0", MAX_JOBS: "31", CUDA_ARCH_LIST: "9.0a", SRC_LMCACHE_REVISION: revision, BUILT_FOR: "gh200-vllm/test" },
        platforms: ["linux/arm64"],
        network: "default", // added by the provider's SDK
        push: false,
        buildOnPreview: false,
        tags: [expect.stringMatching(/^example\.com\/vllm\/stages:build-lmcache-[0-9a-f]{12}$/) as string],
        exports: [{ raw: "type=image,push=true,oci-mediatypes=true,rewrite-timestamp=true" }],
        cacheFrom: [{ registry: { ref: "example.com/vllm/stages-cache:build-lmcache" } }],
        cacheTo: [{ registry: { ref: "example.com/vllm/stages-cache:build-lmcache", mode: "max", imageManifest: true, ociMediaTypes: true } }],
    });
});

describe("its image has not", () => {
    test("exec, ssh, secrets or registries: credentials are its platform's or provider's to give", async () => {
        const given = await inputs();
        for (const key of ["exec", "ssh", "secrets", "registries", "load", "noCache", "pull"]) {
            expect(given).not.toHaveProperty(key);
        }
    });

    test("an empty text anywhere, which would silently skip the preview", async () => {
        expect(JSON.stringify(await inputs())).not.toContain('""');
    });

    test("a cache in the registry where none is wanted", async () => {
        const given = await inputs({ registryCache: false });
        expect(given).not.toHaveProperty("cacheFrom");
        expect(given).not.toHaveProperty("cacheTo");
    });

    test("a build argument that the stage does not declare", async () => {
        expect((await inputs()).buildArgs).not.toHaveProperty("SRC_VLLM_REVISION");
    });

    test("anything of the builder's certificates", async () => {
        expect(JSON.stringify(await inputs())).not.toMatch(/KEY|CERT/);
    });
});

test("it stays in the registry when it is deleted, and its builder is made ready by a hook before each build", async () => {
    stage();
    await recorder.settled();
    const image = recorder.only(imageType, "lmcache");
    expect(image.retainOnDelete).toBe(true);
    const hook = "BuildStage lmcache/lmcache:builder";
    expect(image.hooks).toEqual({ beforeCreate: [hook], beforeUpdate: [hook], onError: [expect.stringMatching(/:failure$/)] });
    expect(recorder.hookNames()).toEqual([hook]);
});

test("its outputs name the image by digest", async () => {
    const built = stage();
    expect(await valueOf(built.digest)).toBe(mockDigest("lmcache"));
    expect(await valueOf(built.imageRef)).toBe(`example.com/vllm/stages@${mockDigest("lmcache")}`);
    expect(await valueOf(built.contentHash)).toMatch(/^[0-9a-f]{12}$/);
});

test("a preview shows every input, and the digest as unknown", async () => {
    recorder = await record({ preview: true });
    const built = stage();
    await recorder.settled();
    const image = recorder.only(imageType, "lmcache");
    expect(JSON.stringify(image.inputs)).not.toContain(unknown);
    expect(image.inputs.tags).toEqual([expect.stringMatching(/:build-lmcache-[0-9a-f]{12}$/)]);
    expect(await (built.digest as unknown as { isKnown: Promise<boolean> }).isKnown).toBe(false);
    expect(await (built.imageRef as unknown as { isKnown: Promise<boolean> }).isKnown).toBe(false);
});

describe("the tag and the content hash", () => {
    const hash = (overrides: Partial<BuildStageArgs> = {}) => valueOf(stage(overrides).contentHash);

    test("are the same in another folder", async () => {
        const first = await hash();
        program();
        expect(await hash()).toBe(first);
    });

    test("stay when another stage's recipe changes", async () => {
        const first = await hash();
        edit("assets/vllm/Dockerfile", "FROM base AS compile-vllm\n", "FROM base AS compile-vllm\nRUN more\n");
        expect(await hash()).toBe(first);
    });

    test.each<[string, () => Partial<BuildStageArgs>]>([
        ["its own recipe", () => edit("assets/vllm/Dockerfile", "FROM base AS compile-lmcache\n", "FROM base AS compile-lmcache\nRUN more\n")],
        ["a file of a named context", () => edit("wheels/pip.conf", "[global]", "[install]")],
        ["a build argument that it declares", () => ({ buildArgs: { MAX_JOBS: "30" } })],
        ["the commit of its source", () => ({ namedContexts: { "src-lmcache": "https://example.com/lmcache.git#0" } })],
    ])("change with %s", async (_claim, change) => {
        const first = await hash();
        expect(await hash(change())).not.toBe(first);
    });
});

test("inputs that are Outputs are taken as they are", async () => {
    const given = await inputs({ repository: pulumi.output("example.com/other"), buildArgs: { MAX_JOBS: pulumi.output("2") } });
    expect(given.tags).toEqual([expect.stringMatching(/^example\.com\/other:build-lmcache-/)]);
    expect(given.buildArgs).toEqual({ MAX_JOBS: "2", BUILT_FOR: "gh200-vllm/test" });
});

test("a target that does not exist is refused before anything is registered", () => {
    expect(() => stage({ target: "build-nothing" })).toThrow(/^target: build-nothing: is no stage of the Dockerfile; accepted: base, compile-triton, /);
});

function edit(file: string, from: string, to: string): Partial<BuildStageArgs> {
    const before = fs.readFileSync(file, "utf8");
    expect(before).toContain(from);
    fs.writeFileSync(file, before.replace(from, to));
    return {};
}

describe("a private git context", () => {
    const address = `https://git.example.com:3000/lmcache.git?submodules=false#${revision}`;
    const namedContexts = { "src-lmcache": address, wheelhouse: "wheels" };

    test("gets its host's token as a secret of the build's session, and no other host's", async () => {
        const found = await inputs({ namedContexts, gitTokens: { "git.example.com:3000": "hunter2", "other.example.com": "hunter3" } });
        expect(found.secrets).toEqual({ secret: { "GIT_AUTH_TOKEN.git.example.com:3000": "hunter2" } });
        expect(found.ignoreSecretsInDiffCalculation).toEqual(["GIT_AUTH_HEADER.git.example.com:3000", "GIT_AUTH_TOKEN.git.example.com:3000"]);
        const { secrets: _, ...rest } = found;
        expect(JSON.stringify(rest)).not.toMatch(/hunter/);
    });

    test("gets a whole header where the value is one", async () => {
        const found = await inputs({ namedContexts, gitTokens: { "git.example.com:3000": "Bearer hunter2" } });
        expect(found.secrets).toEqual({ secret: { "GIT_AUTH_HEADER.git.example.com:3000": "Bearer hunter2" } });
    });

    test("of a stage that reads folders alone gets nothing", async () => {
        const found = await inputs({ namedContexts: { "src-lmcache": "wheels", wheelhouse: "wheels" }, gitTokens: { "git.example.com:3000": "hunter2" } });
        expect(JSON.stringify(found)).not.toMatch(/hunter|GIT_AUTH/);
    });
});
