import * as pulumi from "@pulumi/pulumi";
import { beforeEach, describe, expect, test } from "vitest";
import { ManagedAllocator } from "../../components/allocator/managedAllocator";
import { CmmImage, type CmmImageArgs } from "../../components/image/cmmImage";
import { LmcacheImage } from "../../components/image/lmcacheImage";
import { imageType, mockDigest, record, type Recorder, unknown, unknownOutput, valueOf } from "../support/mocks";
import { builder, programs } from "../support/program";

const program = programs();
const baseImage = `nvcr.io/nvidia/pytorch:26.03-py3@sha256:${"b".repeat(64)}`;
const repository = "example.com/vllm/stages";
const reproducible = "type=image,push=true,oci-mediatypes=true,rewrite-timestamp=true";
const context = expect.stringMatching(/^\.gh200\/contexts\/[0-9a-f]{16}$/) as string;

let recorder: Recorder;
beforeEach(async () => {
    program();
    recorder = await record();
});

/** What every image has, beside what a test names. */
const common = {
    builder: { name: "gh200" },
    platforms: ["linux/arm64"],
    push: false,
    buildOnPreview: false,
    network: "default", // added by the provider's SDK
};

/** `[type, name, parent]` of everything that was registered. */
const tree = () => recorder.registrations.map(({ type, name, parent }) => [type, name, parent]);

describe("ManagedAllocator", () => {
    const type = "gh200-vllm:index:ManagedAllocator";
    const allocator = () => new ManagedAllocator("alloc", { builder, baseImage, repository, buildArgs: { SOURCE_DATE_EPOCH: "1", MAX_JOBS: "72" } });

    test("is one image: the compile step alone, for one architecture", async () => {
        allocator();
        await recorder.settled();
        expect(tree()).toEqual([
            [type, "alloc", ""],
            [imageType, "alloc", `${type} alloc`],
        ]);
        expect(recorder.only(imageType, "alloc").inputs).toEqual({
            ...common,
            target: "build-managed-alloc",
            dockerfile: {
                inline: [
                    "ARG BASE_IMAGE=nvcr.io/nvidia/pytorch:26.03-py3",
                    "FROM ${BASE_IMAGE} AS base",
                    "ARG SOURCE_DATE_EPOCH",
                    "",
                    "FROM base AS build-managed-alloc",
                    "ARG COMPILE_DOMAIN",
                    "ARG CUDA_ARCH_LIST",
                    "COPY managed_alloc.cu /",
                    "RUN nvcc",
                    "",
                ].join("\n"),
            },
            context: { location: context, named: {} },
            buildArgs: { BASE_IMAGE: baseImage, CUDA_ARCH_LIST: "9.0a", SOURCE_DATE_EPOCH: "1", BUILT_FOR: "gh200-vllm/test" },
            tags: [expect.stringMatching(/^example\.com\/vllm\/stages:build-managed-alloc-[0-9a-f]{12}$/)],
            exports: [{ raw: reproducible }],
        });
    });

    test("gives the library's image by digest", async () => {
        const { imageRef, digest } = allocator();
        expect(await valueOf(imageRef)).toBe(`${repository}@${mockDigest("alloc")}`);
        expect(await valueOf(digest)).toBe(mockDigest("alloc"));
    });
});

describe("CmmImage", () => {
    const type = "gh200-vllm:index:CmmImage";
    const stages = ["triton", "triton-kernels", "flashinfer", "lmcache", "flash-attention", "vllm", "infinistore", "managed-alloc"];
    const stageRefs = Object.fromEntries(stages.map((stage) => [`build-${stage}`, pulumi.output(`${repository}@${mockDigest(stage)}`)]));
    const cmm = (overrides: Partial<CmmImageArgs> = {}) =>
        new CmmImage("image", {
            builder,
            baseImage,
            repository,
            stageRefs,
            namedContexts: { wheelhouse: "wheels", locks: "wheels" },
            buildArgs: { SOURCE_DATE_EPOCH: "1", MAX_JOBS: "72" },
            ...overrides,
        });

    test("is the image and its verification, which runs in exactly the pushed digest", async () => {
        cmm();
        await recorder.settled();
        expect(tree()).toEqual([
            [type, "image", ""],
            [imageType, "image", `${type} image`],
            [imageType, "image-verify", `${type} image`],
        ]);
        const { inputs, dependsOn, retainOnDelete } = recorder.only(imageType, "image-verify");
        expect(inputs).toEqual({
            ...common,
            target: "verify",
            dockerfile: { inline: "FROM cmm AS verify\nCOPY checks /checks\nRUN /checks/all\n" },
            context: { location: context, named: { cmm: { location: `docker-image://${repository}@${mockDigest("image")}` } } },
            buildArgs: { BUILT_FOR: "gh200-vllm/test" },
            exports: [{ cacheonly: {} }],
        });
        expect(dependsOn).toEqual([`${imageType} image`]);
        expect(retainOnDelete).toBe(true);
    });

    test("takes every stage by digest, and compiles none of them again", async () => {
        cmm();
        await recorder.settled();
        const { inputs } = recorder.only(imageType, "image");
        expect(inputs).toEqual({
            ...common,
            target: "final",
            dockerfile: { inline: expect.not.stringMatching(/^FROM \S+ AS (build|compile|src)-/m) as string },
            context: {
                location: context,
                named: {
                    wheelhouse: { location: context },
                    ...Object.fromEntries(stages.map((stage) => [`build-${stage}`, { location: `docker-image://${repository}@${mockDigest(stage)}` }])),
                },
            },
            buildArgs: { BASE_IMAGE: baseImage, SOURCE_DATE_EPOCH: "1", BUILT_FOR: "gh200-vllm/test" },
            tags: [expect.stringMatching(/^example\.com\/vllm\/stages:final-[0-9a-f]{12}$/)],
            exports: [{ raw: reproducible }],
        });
    });

    test("gives its reference only when the verification is done", async () => {
        const { imageRef } = cmm();
        expect(await valueOf(imageRef)).toBe(`${repository}@${mockDigest("image")}`);
        const waited = await (imageRef as unknown as { allResources(): Promise<Set<pulumi.Resource>> }).allResources();
        const names = await Promise.all([...waited].map((resource) => valueOf(resource.urn)));
        expect(names.map((urn) => urn.split("::").at(-1))).toContain("image-verify");
    });

    test("shows in a preview what is installed, and no digest that could be wrong", async () => {
        recorder = await record({ preview: true });
        const { imageRef, digest } = cmm({ stageRefs: { ...stageRefs, "build-vllm": unknownOutput() } });
        await recorder.settled();
        const { inputs } = recorder.only(imageType, "image");
        expect(inputs.tags).toEqual([unknown]);
        expect(inputs.context).toMatchObject({ named: { "build-vllm": { location: unknown } } });
        for (const output of [imageRef, digest]) {
            expect(await (output as unknown as { isKnown: Promise<boolean> }).isKnown).toBe(false);
        }
    });
});

describe("LmcacheImage", () => {
    const type = "gh200-vllm:index:LmcacheImage";

    test("installs the stage's own wheel into the same base", async () => {
        const { imageRef } = new LmcacheImage("lmcache", {
            builder,
            baseImage,
            repository,
            lmcacheRef: `docker-image://${repository}@${mockDigest("lmcache-stage")}`,
            namedContexts: { wheelhouse: "wheels" },
            buildArgs: { SOURCE_DATE_EPOCH: "1", CUDA_ARCH_LIST: "9.0a" },
        });
        await recorder.settled();
        expect(tree()).toEqual([
            [type, "lmcache", ""],
            [imageType, "lmcache", `${type} lmcache`],
        ]);
        expect(recorder.only(imageType, "lmcache").inputs).toEqual({
            ...common,
            target: "lmcache",
            dockerfile: {
                inline: [
                    "ARG BASE_IMAGE=nvcr.io/nvidia/pytorch:26.03-py3",
                    "FROM ${BASE_IMAGE} AS lmcache",
                    "ARG SOURCE_DATE_EPOCH",
                    "COPY --from=build-lmcache / /wheels",
                    "COPY serve /",
                    "",
                ].join("\n"),
            },
            context: { location: context, named: { "build-lmcache": { location: `docker-image://${repository}@${mockDigest("lmcache-stage")}` } } },
            buildArgs: { BASE_IMAGE: baseImage, SOURCE_DATE_EPOCH: "1", BUILT_FOR: "gh200-vllm/test" },
            tags: [expect.stringMatching(/^example\.com\/vllm\/stages:lmcache-[0-9a-f]{12}$/)],
            exports: [{ raw: reproducible }],
        });
        expect(await valueOf(imageRef)).toBe(`${repository}@${mockDigest("lmcache")}`);
    });
});
