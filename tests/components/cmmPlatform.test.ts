import * as fs from "node:fs";
import * as path from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { platformArgs, platformProviders } from "../../components/config/platformArgs";
import { loadConfig } from "../../components/config/load";
import { inputName } from "../../components/internal/errors";
import { CmmPlatform } from "../../components/platform/cmmPlatform";
import type { CmmPlatformArgs } from "../../components/platform/cmmPlatformArgs";
import { TestRepository } from "../support/gitServer";
import { imageType, mockDigest, record, type Recorder, type Registration, unknown, unknownOutput, valueOf } from "../support/mocks";
import { baseDigest, commit, settledPlatform } from "../support/platform";
import { programs } from "../support/program";
import { laterRefusal, refusal } from "../support/refusal";
import { writeTree } from "../support/temporaryFolder";
import { stackConfig } from "../support/stackFile";

const program = programs();
const stages = ["build-triton", "build-triton-kernels", "build-flashinfer", "build-lmcache", "build-flash-attention", "build-vllm", "build-infinistore"];
const stageRepository = "atl.vultrcr.com/vllm/gh200-vllm-cmm-stages";

/** A whole platform, settled once, for the tests that only look at it. */
let whole: Recorder;
beforeAll(async () => {
    program();
    whole = await record();
    platform();
    await whole.settled();
});

let recorder: Recorder;
beforeEach(async () => {
    program();
    recorder = await record();
});
afterEach(() => {
    vi.restoreAllMocks();
    vi.unstubAllGlobals();
    vi.unstubAllEnvs();
});

const { image, stages: stagesArgs } = settledPlatform();
const platform = (overrides: Partial<CmmPlatformArgs> = {}) => new CmmPlatform("gh200", settledPlatform(overrides));
const images = (of = recorder) => of.ofType(imageType).map(({ name }) => name);
const ours = (of = recorder) => of.registrations.filter(({ type }) => type.startsWith("gh200-vllm:"));

test("a platform is the source document's story: builder, seven stages, allocator, image, release, node, server", () => {
    expect(
        ours(whole)
            .map(({ type, name }) => `${type.replace("gh200-vllm:index:", "")} ${name}`)
            .sort(),
    ).toEqual(
        [
            "CmmPlatform gh200",
            "RemoteBuilder gh200-builder",
            ...stages.map((stage) => `BuildStage gh200-${stage}`),
            "ManagedAllocator gh200-build-managed-alloc",
            "CmmImage gh200-image",
            "LmcacheImage gh200-lmcache-image",
            "ImageRelease gh200-release",
            "Gh200Node gh200-node",
            "VllmServer gh200-vllm",
        ].sort(),
    );
    for (const component of ours(whole).filter(({ name }) => name !== "gh200")) {
        expect(component.parent, component.name).toBe("gh200-vllm:index:CmmPlatform gh200");
    }
});

test("images are built one at a time, in the source document's order", () => {
    expect(images(whole)).toEqual([
        ...stages.map((stage) => `gh200-${stage}`),
        "gh200-build-managed-alloc",
        "gh200-image",
        "gh200-image-verify",
        "gh200-lmcache-image",
        "gh200-release",
    ]);
    expect(whole.mostAtOnce(imageType)).toBe(1);
});

describe("a part of the platform", () => {
    const { node: _node, serving: _serving, ...buildAlone } = settledPlatform();

    test("is the build alone, without a node and a server", async () => {
        const made = new CmmPlatform("gh200", buildAlone);
        await recorder.settled();
        expect(images()).toEqual(images(whole));
        expect(ours().filter(({ type }) => /Gh200Node|VllmServer/.test(type))).toEqual([]);
        expect(recorder.registrations.filter(({ type }) => type.startsWith("kubernetes:"))).toEqual([]);
        expect(await valueOf(pulumi.all([made.endpoint, made.memoryPlan, made.memoryPicture, made.kubeletAdvice]))).toEqual(["", [], "", []]);
        expect(await valueOf(made.deployRef)).toContain(mockDigest("gh200-release"));
        const built = (of: Recorder) => of.ofType(imageType).map(({ inputs, dependsOn }) => ({ inputs, dependsOn }));
        expect(built(recorder)).toEqual(built(whole));
    });

    test("is the server alone, of an image that is there", async () => {
        const use = `atl.vultrcr.com/vllm/another@${mockDigest("there")}`;
        new CmmPlatform("gh200", {
            registry: buildAlone.registry,
            image: { use },
            node: { egmEnabled: false, coherentMode: "driver" },
            serving: { model: "m" },
        });
        await recorder.settled();
        expect(images()).toEqual([]);
        expect(recorder.ofType("kubernetes:apps/v1:Deployment")).toHaveLength(1);
    });

    describe("of an image that is there", () => {
        const use = `atl.vultrcr.com/vllm/another@${mockDigest("there")}`;
        const adopt = (image: string) =>
            new CmmPlatform("gh200", {
                registry: buildAlone.registry,
                image: { use: image },
                node: { egmEnabled: false, coherentMode: "driver" },
                serving: { model: "m", modelRevision: commit },
            });
        const unreadable = /image\.use: atl\.vultrcr\.com\/vllm\/another@sha256:\S+: is not in its registry; accepted: an image that is there$/;
        beforeEach(() => vi.stubGlobal("fetch", () => Promise.resolve(new Response("", { status: 404 }))));

        test("has its labels read before the first thing is made", async () => {
            adopt(use);
            await recorder.settled();
            const hook = "CmmPlatform gh200/registry";
            for (const { type, name, hooks } of recorder.registrations.filter(({ type: token }) => token.startsWith("kubernetes:"))) {
                expect([hooks.beforeCreate, hooks.beforeUpdate], `${type} ${name}`).toEqual([expect.arrayContaining([hook]), expect.arrayContaining([hook])]);
            }
            expect(await recorder.runHook(hook)).toMatch(unreadable);
        });

        test.each([
            ["and in a preview that was asked to look", "true", [expect.stringMatching(unreadable)]],
            ["and in no other", "", []],
        ])("%s", async (_, variable, lines) => {
            vi.stubEnv("GH200_PREVIEW_REGISTRY", variable);
            const warn = vi.spyOn(pulumi.log, "warn").mockResolvedValue();
            recorder = await record({ preview: true });
            adopt(use);
            await recorder.settled();
            const said = warn.mock.calls.map(([text]) => String(text)).filter((text) => text.includes("image.use"));
            expect(said).toEqual(lines);
        });

        test("of another registry than builds are pushed to", () => {
            const lines = refusal(() => adopt(`evil.example.com/vllm/another@${mockDigest("there")}`));
            expect(lines).toEqual([
                expect.stringMatching(/image\.use: evil\.example\.com\S+: is of another registry than builds are pushed to; accepted: an image below/),
            ]);
        });

        test("of a namespace whose name only begins like it", () => {
            expect(refusal(() => adopt(`atl.vultrcr.com/vllm-evil/another@${mockDigest("there")}`))).toHaveLength(1);
        });
    });

    test("is refused where it would serve on no node", () => {
        expect(refusal(() => new CmmPlatform("gh200", { ...buildAlone, serving: { model: "m" } }))).toEqual([
            "node: is missing, and serving needs one to run on; accepted: egmEnabled and coherentMode of the node at least",
        ]);
    });
});

describe("a stage that an image takes the place of", () => {
    const reference = `registry.example.com/team/vllm@${mockDigest("prebuilt")}`;

    test.each([
        ["by its name", reference],
        ["of the same program", pulumi.output(reference)],
    ])("%s is not built, and everything else is as before", async (_, prebuilt) => {
        platform({ stages: { ...stagesArgs, prebuilt: { "build-vllm": prebuilt } } });
        await recorder.settled();
        expect(images()).toEqual(images(whole).filter((name) => name !== "gh200-build-vllm"));
        const { context, buildArgs } = recorder.only(imageType, "gh200-image").inputs as { context: { named: object }; buildArgs: object };
        expect(context.named).toMatchObject({
            "build-vllm": { location: `docker-image://${reference}` },
            "build-triton": { location: `docker-image://${stageRepository}@${mockDigest("gh200-build-triton")}` },
        });
        expect(buildArgs).toEqual({ ...(whole.only(imageType, "gh200-image").inputs.buildArgs as object) });
        expect(recorder.mostAtOnce(imageType)).toBe(1);
    });

    test.each([
        [
            { "build-vllm": "registry.example.com/team/vllm:latest" },
            /^stages\.prebuilt\.build-vllm: registry\.example\.com\/team\/vllm:latest: is no image by digest/,
        ],
        [{ "build-flash": reference }, /^stages\.prebuilt\.build-flash: is an unknown key/],
    ])("is refused as %j", (prebuilt, line) => {
        expect(refusal(() => platform({ stages: { ...stagesArgs, prebuilt } }))).toEqual([expect.stringMatching(line)]);
    });
});

describe("a stage that a team adds", () => {
    const additional = { "build-plugin": { dockerfile: "plugin/Dockerfile", memoryPerJobGiB: 10, buildArgs: { FLAVOUR: "plain" } } };
    const added = async (more: object = {}) => {
        writeTree(process.cwd(), {
            "plugin/Dockerfile":
                "ARG BASE_IMAGE\nFROM ${BASE_IMAGE} AS make\nARG MAX_JOBS FLAVOUR\nCOPY setup.py /\nFROM scratch AS build-plugin\nCOPY --from=make /out /\n",
            "plugin/setup.py": "",
        });
        platform({ stages: { ...stagesArgs, additional, ...more } });
        await recorder.settled();
    };

    test("is built after the seven, and gathered into the image", async () => {
        const whole = await record();
        platform();
        await whole.settled();
        recorder = await record();
        await added();
        const before = images(whole);
        const at = before.indexOf("gh200-build-managed-alloc");
        expect(images()).toEqual([...before.slice(0, at), "gh200-build-plugin", "gh200-build-managed-alloc", "gh200-additional", ...before.slice(at + 1)]);
        expect(recorder.only(imageType, "gh200-build-plugin").inputs.buildArgs).toMatchObject({ MAX_JOBS: "9", FLAVOUR: "plain" });
        const { dockerfile, context } = recorder.only(imageType, "gh200-additional").inputs as { dockerfile: { inline: string }; context: { named: object } };
        expect(dockerfile.inline).toContain("COPY --from=build-plugin / /build-plugin/");
        expect(context.named).toEqual({ "build-plugin": { location: `docker-image://${stageRepository}@${mockDigest("gh200-build-plugin")}` } });
        expect((recorder.only(imageType, "gh200-image").inputs as { context: { named: object } }).context.named).toMatchObject({
            additional: { location: `docker-image://${stageRepository}@${mockDigest("gh200-additional")}` },
        });
        // The seven have not moved.
        for (const name of before.filter((image) => image.startsWith("gh200-build-"))) {
            expect(recorder.only(imageType, name).inputs, name).toEqual(whole.only(imageType, name).inputs);
        }
        expect(recorder.mostAtOnce(imageType)).toBe(1);
    });

    test("is built where the order says", async () => {
        await added({ order: ["build-plugin", "build-vllm"] });
        expect(images().slice(0, 3)).toEqual(["gh200-build-plugin", "gh200-build-vllm", "gh200-build-triton"]);
    });

    test("takes contexts and arguments of other resources, which a preview may not know", async () => {
        const library = pulumi.interpolate`docker-image://registry.example.com/team/library@${mockDigest("library")}`;
        const plugin = (LIBRARY: pulumi.Input<string>) => ({
            "build-plugin": { dockerfile: "library/Dockerfile", namedContexts: { library: LIBRARY }, buildArgs: { LIBRARY } },
        });
        writeTree(process.cwd(), { "library/Dockerfile": "FROM scratch AS build-plugin\nARG LIBRARY\nCOPY --from=library / /\n" });
        const given = () => recorder.only(imageType, "gh200-build-plugin").inputs as { buildArgs: object; context: { named: object } };
        await added({ additional: plugin(library) });
        const known = await valueOf(library);
        expect(given()).toMatchObject({ buildArgs: { LIBRARY: known }, context: { named: { library: { location: known } } } });
        recorder = await record({ preview: true });
        await added({ additional: plugin(unknownOutput<string>()) });
        expect(given()).toMatchObject({ buildArgs: { LIBRARY: unknown }, context: { named: { library: { location: unknown } } } });
        expect(images()).toContain("gh200-image");
    });

    test("takes the jobs that it is given", async () => {
        await added({ maxJobs: { "build-plugin": 2 } });
        expect(recorder.only(imageType, "gh200-build-plugin").inputs.buildArgs).toMatchObject({ MAX_JOBS: "2" });
    });

    test("is refused with everything that is wrong with it", () => {
        writeTree(process.cwd(), { Dockerfile: "FROM scratch AS build-big\n" });
        const wrong = {
            "build-vllm": { dockerfile: "Dockerfile" },
            "Build X": { dockerfile: "Dockerfile" },
            locks: { dockerfile: "Dockerfile" },
            "build-big": { dockerfile: "Dockerfile", memoryPerJobGiB: 200, buildArgs: { MAX_JOBS: "64" } },
            "build-lost": { dockerfile: "lost/Dockerfile" },
        };
        const order = ["build-tritn", "build-triton", "build-triton"];
        expect(refusal(() => platform({ stages: { ...stagesArgs, additional: wrong, order, maxJobs: { "build-nobody": 2 } } }))).toEqual([
            "stages.additional.build-vllm: is a stage of the image already; accepted: another name: build- and lower-case letters, digits and dashes",
            "stages.additional.Build X: is no name of a stage; accepted: another name: build- and lower-case letters, digits and dashes",
            "stages.additional.locks: is no name of a stage; accepted: another name: build- and lower-case letters, digits and dashes",
            "stages.additional.build-big.buildArgs.MAX_JOBS: is what the builder's memory bounds; accepted: stages.maxJobs.build-big",
            "stages.additional.build-lost.dockerfile: lost/Dockerfile: does not exist; accepted: a path relative to the program",
            expect.stringMatching(/^stages\.order: build-tritn: is no stage; accepted: build-triton, .*build-infinistore, build-vllm, Build X, .*build-lost$/),
            expect.stringMatching(/^stages\.order: build-triton: stands there twice; accepted: /),
            expect.stringMatching(/^stages\.maxJobs\.build-nobody: is no stage; accepted: build-triton, /),
            expect.stringMatching(
                /^stages\.builderMemoryGiB: \d+: build-big needs 208\.0 GiB: 1 job of 200 GiB and 8 GiB for the system; accepted: 208\.0 or more$/,
            ),
        ]);
        expect(refusal(() => platform({ stages: { ...stagesArgs, additional: { "build-x": { dockerfile: "/x/Dockerfile" } } } }))).toEqual([
            "stages.additional.build-x.dockerfile: /x/Dockerfile: is absolute; accepted: a path relative to the program",
        ]);
        const later = { dockerfile: pulumi.output("Dockerfile") as never, minutes: pulumi.output(1) as never, buildArgs: { JOBS: 2 as never } };
        expect(refusal(() => platform({ stages: { ...stagesArgs, additional: { "build-x": later } } }))).toEqual([
            "stages.additional.build-x.dockerfile: is known only later; accepted: a value that is known when the program is written",
            "stages.additional.build-x.buildArgs.JOBS: 2: is no string; accepted: a string",
            "stages.additional.build-x.minutes: is known only later; accepted: a value that is known when the program is written",
        ]);
    });
});

describe("an image that is built again", () => {
    const digestOf = (name: string) => ({ [name]: mockDigest(name) });
    const another = `sha256:${"f".repeat(64)}`;

    test("and comes out as expected is released and deployed, and said by its digest", async () => {
        const expectedDigests = { ...digestOf("gh200-image"), ...digestOf("gh200-lmcache-image"), ...digestOf("gh200-release") };
        const made = platform({ expectedDigests });
        await recorder.settled();
        expect(images()).toContain("gh200-release");
        expect(await valueOf(made.imageDigests)).toEqual(expectedDigests);
    });

    test("and comes out as another is neither released nor deployed", async () => {
        const lines = await laterRefusal(() => platform({ expectedDigests: { "gh200-image": another } }));
        expect(lines).toEqual([
            expect.stringContaining(
                `gh200-image: ${mockDigest("gh200-image")}: came out as another image than before, from the same sources; accepted: ${another}; `,
            ),
        ]);
        expect(images()).not.toContain("gh200-release");
        expect(recorder.ofType("kubernetes:apps/v1:Deployment")).toEqual([]);
    });

    test("is not deployed where the registry gives another release than was pushed", async () => {
        await laterRefusal(() => platform({ expectedDigests: { "gh200-release": another } }));
        expect(recorder.ofType("kubernetes:apps/v1:Deployment")).toEqual([]);
    });

    test("is refused by no preview, which builds nothing", async () => {
        recorder = await record({ preview: true });
        platform({ expectedDigests: { "gh200-image": another } });
        await recorder.settled();
        expect(recorder.ofType("kubernetes:apps/v1:Deployment")).toHaveLength(1);
    });
});

test("the deployment is registered after the release, and runs exactly its digest", () => {
    const order = whole.registrations.map(({ type, name }) => `${type} ${name}`);
    const deployment = whole.only("kubernetes:apps/v1:Deployment", "gh200-vllm");
    expect(order.indexOf("kubernetes:apps/v1:Deployment gh200-vllm")).toBeGreaterThan(order.indexOf(`${imageType} gh200-release`));
    expect(deployment.dependsOn).toContain(`${imageType} gh200-release`);
    expect(JSON.stringify(deployment.inputs)).toContain(`"image":"atl.vultrcr.com/vllm/gh200-vllm-cmm@${mockDigest("gh200-release")}"`);
});

test("the release carries the pipeline parameters' name and the verified image", () => {
    const release = whole.only(imageType, "gh200-release");
    expect(release.inputs.tags).toEqual([
        "atl.vultrcr.com/vllm/gh200-vllm-cmm:cmm-cmm",
        `atl.vultrcr.com/vllm/gh200-vllm-cmm:cmm-cmm-${mockDigest("gh200-image").slice("sha256:".length, "sha256:".length + 12)}`,
    ]);
    expect(release.inputs.context).toMatchObject({
        named: { release: { location: `docker-image://${stageRepository}@${mockDigest("gh200-image")}` } },
    });
    expect(release.dependsOn).toEqual(expect.arrayContaining([`${imageType} gh200-image`, `${imageType} gh200-image-verify`]));
});

describe("the compile caches are of the domain of whoever may push the release", () => {
    const domains = (of: Recorder) => [
        ...new Set(of.ofType(imageType).flatMap(({ inputs }) => (inputs.buildArgs as Record<string, string> | undefined)?.COMPILE_DOMAIN ?? [])),
    ];

    test("its repository", () => expect(domains(whole)).toEqual(["atl.vultrcr.com/vllm/gh200-vllm-cmm"]));

    test.each<[string, Partial<CmmPlatformArgs>, string]>([
        ["another release's, for another one", { image: { ...image, imageTag: "try" } }, "atl.vultrcr.com/vllm/try"],
        ["without the port of this machine's registry, which is another every time", { registry: { address: "localhost:5001/vllm" } }, "vllm/gh200-vllm-cmm"],
    ])("%s", async (_, overrides, domain) => {
        platform(overrides);
        await recorder.settled();
        expect(domains(recorder)).toEqual([domain]);
    });
});

describe("every image", () => {
    const each = (claim: (registration: Registration) => void) => {
        expect(images(whole)).toHaveLength(12);
        whole.ofType(imageType).forEach(claim);
    };

    test("is kept in the registry, built by the one builder after its hook, never in a preview", () =>
        each(({ name, inputs, retainOnDelete, hooks }) => {
            expect(retainOnDelete, name).toBe(true);
            expect(inputs, name).toMatchObject({ builder: { name: "gh200-vllm-test" }, push: false, buildOnPreview: false, platforms: ["linux/arm64"] });
            expect(hooks.beforeCreate, name).toContainEqual(expect.stringMatching(new RegExp(`^CmmPlatform gh200/.*/${name}:builder$`)));
            expect(hooks.beforeUpdate, name).toEqual(hooks.beforeCreate);
        }));

    test("runs no command of the machine, and holds no empty text and no secret but the registry's", () =>
        each(({ name, inputs: { registries, ...inputs } }) => {
            expect(registries, name).toMatchObject([{ password: { secret: "registry password" } }]);
            const text = JSON.stringify(inputs);
            expect(inputs, name).not.toHaveProperty("exec");
            expect(text, name).not.toContain('"push":true');
            expect(text, name).not.toMatch(/:""/);
            expect(text, name).not.toMatch(/builder key|registry password/);
        }));

    test("names its base by digest, where it has one, and every source by its full commit", () =>
        each(({ name, inputs }) => {
            const args = inputs.buildArgs as Record<string, string>;
            expect(args.BASE_IMAGE ?? `nvcr.io/nvidia/pytorch:26.03-py3@${baseDigest}`, name).toBe(`nvcr.io/nvidia/pytorch:26.03-py3@${baseDigest}`);
            const named = (inputs.context as { named?: Record<string, { location: string }> }).named ?? {};
            for (const { location } of Object.values(named)) {
                expect(location, name).toMatch(/^(docker-image:\/\/\S+@sha256:[0-9a-f]{64}|https:\/\/\S+#[0-9a-f]{40}|\.gh200\/contexts\/[0-9a-f]{16})$/);
            }
        }));
});

test("each stage gets its own jobs, architecture and revision, and no other stage's", () => {
    const args = (target: string) => whole.only(imageType, `gh200-${target}`).inputs.buildArgs;
    const common = {
        BUILT_FOR: "gh200-vllm/test",
        BASE_IMAGE: `nvcr.io/nvidia/pytorch:26.03-py3@${baseDigest}`,
        SOURCE_DATE_EPOCH: "1775088000",
        CUDA_ARCH_LIST: "9.0a",
        COMPILE_DOMAIN: "atl.vultrcr.com/vllm/gh200-vllm-cmm",
    };
    expect(args("build-vllm")).toEqual({ ...common, MAX_JOBS: "13", SRC_VLLM_REVISION: commit });
    expect(args("build-lmcache")).toEqual({ ...common, MAX_JOBS: "31", SRC_LMCACHE_REVISION: commit });
    expect(args("build-flash-attention")).toEqual({ ...common, MAX_JOBS: "13", SRC_FLASH_ATTENTION_REVISION: commit });
});

test("the stages of the image come by digest", () => {
    expect(whole.only(imageType, "gh200-image").inputs.context).toMatchObject({
        named: Object.fromEntries(
            [...stages, "build-managed-alloc"].map((stage) => [stage, { location: `docker-image://${stageRepository}@${mockDigest(`gh200-${stage}`)}` }]),
        ),
    });
    expect(whole.only(imageType, "gh200-lmcache-image").inputs.context).toMatchObject({
        named: { "build-lmcache": { location: `docker-image://${stageRepository}@${mockDigest("gh200-build-lmcache")}` } },
    });
});

test("its outputs say what is deployed, from what, and what the memory is promised to", async () => {
    const { deployRef, releaseRef, lmcacheRef, stageDigests, endpoint, memoryPlan } = platform();
    expect(await valueOf(deployRef)).toBe(`atl.vultrcr.com/vllm/gh200-vllm-cmm@${mockDigest("gh200-release")}`);
    expect(await valueOf(releaseRef)).toBe("atl.vultrcr.com/vllm/gh200-vllm-cmm:cmm-cmm");
    expect(await valueOf(lmcacheRef)).toBe(`${stageRepository}@${mockDigest("gh200-lmcache-image")}`);
    expect(await valueOf(stageDigests)).toEqual(Object.fromEntries([...stages, "build-managed-alloc"].map((stage) => [stage, mockDigest(`gh200-${stage}`)])));
    expect(await valueOf(endpoint)).toBe("http://gh200-vllm.vllm.svc:8000");
    expect((await valueOf(memoryPlan))[0]).toMatch(/^profile driver: Linux sees 478\.6 GiB/);
});

describe("a registry that the same program makes", () => {
    const address = "registry.example.com:5000/team";
    const registry = { address: pulumi.output(address), username: "pusher", password: "word" };
    const made = (name: string, of = recorder) => of.only(imageType, name).inputs;

    test("is where every image goes, and where the pods pull from, as if it had been named", async () => {
        const { releaseRef } = platform({ registry });
        await recorder.settled();
        const asOutput = recorder;
        expect(await valueOf(releaseRef)).toBe(`${address}/gh200-vllm-cmm:cmm-cmm`);
        expect(JSON.stringify(recorder.only("kubernetes:core/v1:Secret", "gh200-vllm-pull").inputs)).toContain("registry.example.com:5000");
        recorder = await record();
        platform({ registry: { ...registry, address } });
        await recorder.settled();
        for (const name of images()) {
            expect(made(name, asOutput), name).toEqual(made(name));
        }
        expect(asOutput.mostAtOnce(imageType)).toBe(1);
    });

    test("is unknown in a preview until it is made, and the whole plan is there", async () => {
        vi.spyOn(pulumi.log, "warn").mockResolvedValue();
        recorder = await record({ preview: true });
        platform({ registry: { ...registry, address: unknownOutput<string>() } });
        await recorder.settled();
        expect(images()).toEqual(images(whole));
        expect(made("gh200-build-vllm").tags).toEqual([unknown]);
        expect(recorder.ofType("kubernetes:apps/v1:Deployment")).toHaveLength(1);
        expect(JSON.stringify(recorder.registrations)).not.toContain("toJSON");
    });

    test("is refused once it is known to be none", async () => {
        expect(await laterRefusal(() => platform({ registry: { ...registry, address: pulumi.output("team") } }))).toEqual([
            expect.stringContaining("registry.address: team: is no registry and namespace; accepted: HOST/NAMESPACE"),
        ]);
    });

    test("is refused where an update would ask it before it makes anything, or would run stand-ins from it", () => {
        const use = `${address}/a@${mockDigest("there")}`;
        const asked = { ...registry, pullUsername: "puller", pullPassword: "word" };
        expect(refusal(() => platform({ registry: asked, image: { ...image, use } }))).toEqual(
            [`registry.pullUsername: puller`, `image.use: ${use.slice(0, 77)}...`].map(
                (head) =>
                    `${head}: is asked for at the registry before anything is made, and registry.address is known only later; accepted: with registry.address as text: HOST/NAMESPACE`,
            ),
        );
        expect(refusal(() => platform({ registry, serving: { ...settledPlatform().serving!, acceptStandIn: true } }))).toEqual([
            expect.stringMatching(/^serving\.acceptStandIn: true: would run stand-ins from a registry that is known only later; /),
        ]);
    });
});

describe("what a platform is made of", () => {
    const { node: _node, serving: _serving, ...buildAlone } = settledPlatform();
    const nameOf = async (made?: pulumi.Resource) => (made === undefined ? undefined : (await valueOf(made.urn)).split("::").at(-1));

    test("is there for what comes after it", async () => {
        const { stages: built, image: cmm, lmcacheImage, release, node, server } = platform();
        expect(Object.keys(built)).toEqual([...stages, "build-managed-alloc"]);
        expect(await Promise.all([built["build-vllm"], cmm, lmcacheImage, release, node, server].map(nameOf))).toEqual([
            "gh200-build-vllm",
            "gh200-image",
            "gh200-lmcache-image",
            "gh200-release",
            "gh200-node",
            "gh200-vllm",
        ]);
        expect(await nameOf(server!.workload)).toBe("gh200-vllm");
    });

    test("is what was asked for, and nothing else", async () => {
        const { node, server } = new CmmPlatform("gh200", buildAlone);
        await recorder.settled();
        expect([node, server]).toEqual([undefined, undefined]);
        recorder = await record();
        const { stages: built, image: cmm, lmcacheImage, release } = platform({ image: { ...image, use: `atl.vultrcr.com/vllm/a@${mockDigest("there")}` } });
        await recorder.settled();
        expect([built, cmm, lmcacheImage, release]).toEqual([{}, undefined, undefined, undefined]);
    });
});

describe("a stage that is left out", () => {
    const disabled = ["build-flash-attention", "build-infinistore"];
    beforeEach(async () => {
        platform({ stages: { ...stagesArgs, disabled } });
        await recorder.settled();
    });

    test("is no resource, and the others keep their order, one at a time", () => {
        expect(images().slice(0, 6)).toEqual([
            ...stages.filter((stage) => !disabled.includes(stage)).map((stage) => `gh200-${stage}`),
            "gh200-build-managed-alloc",
        ]);
        expect(recorder.mostAtOnce(imageType)).toBe(1);
    });

    test("is not compiled inside the image in its place", () => {
        const { inputs } = recorder.only(imageType, "gh200-image");
        expect((inputs.dockerfile as { inline: string }).inline).not.toMatch(/^FROM \S+ AS (compile|src)-/m);
    });
});

describe("a source with changes that no commit holds", () => {
    const sources = { ...settledPlatform().sources, "src-lmcache": { path: "lmcache" } };
    const checkout = () => {
        const { work, ...repository } = new TestRepository(path.resolve("lmcache.git"), { "setup.py": "one\n" });
        fs.renameSync(work, "lmcache");
        return repository;
    };

    test("is built and deployed by digest, for development, without a release name; one line says so", async () => {
        const warn = vi.spyOn(pulumi.log, "warn").mockResolvedValue();
        checkout();
        fs.writeFileSync("lmcache/setup.py", "two\n");
        const { deployRef, releaseRef } = platform({ sources });
        await recorder.settled();
        expect(warn.mock.calls.map(([text]) => text)).toEqual([
            "sources.src-lmcache: lmcache: has changes that no commit holds; the image gets no release name and is deployed by digest, for development; commit them to release it",
        ]);
        expect(images()).not.toContain("gh200-release");
        expect(await valueOf(deployRef)).toBe(`${stageRepository}@${mockDigest("gh200-image")}`);
        expect(await valueOf(releaseRef)).toBe("");
        const { buildArgs } = recorder.only(imageType, "gh200-build-lmcache").inputs as { buildArgs: Record<string, string> };
        expect(buildArgs.SRC_LMCACHE_REVISION).toMatch(/^[0-9a-f]{40}-dirty$/);
    });

    test("is released like any other once they are committed, under that commit", async () => {
        checkout();
        platform({ sources });
        await recorder.settled();
        expect(images()).toContain("gh200-release");
        const { buildArgs } = recorder.only(imageType, "gh200-build-lmcache").inputs as { buildArgs: Record<string, string> };
        expect(buildArgs.SRC_LMCACHE_REVISION).toMatch(/^[0-9a-f]{40}$/);
    });
});

test("stages that do not fit the builder end a preview too, before its first resource", async () => {
    recorder = await record({ preview: true });
    expect(refusal(() => platform({ stages: { ...stagesArgs, maxJobs: { "build-vllm": 20 } } }))).toEqual([
        expect.stringMatching(/^stages\.maxJobs\.build-vllm: 20: build-vllm needs 146\.0 GiB: 20 jobs of 6\.9 GiB/),
    ]);
    await recorder.settled();
    expect(recorder.registrations).toEqual([]);
});

test("a preview says what each stage is expected to take; an update does not repeat it", async () => {
    const info = vi.spyOn(pulumi.log, "info").mockResolvedValue();
    platform();
    await recorder.settled();
    const plans = () => info.mock.calls.filter(([text]) => text.startsWith("a build from nothing"));
    expect(plans()).toHaveLength(0);
    recorder = await record({ preview: true });
    platform();
    await recorder.settled();
    expect(plans()).toHaveLength(1);
    expect(plans()[0]![0]).toContain("stage 6 of 7, build-vllm");
});

test("an image that exists already is deployed, and nothing is built", async () => {
    const use = `atl.vultrcr.com/vllm/gh200-vllm-cmm@sha256:${"c".repeat(64)}`;
    const { deployRef, releaseRef, lmcacheRef, stageDigests } = platform({ builder: {}, image: { ...image, use } });
    await recorder.settled();
    expect(images()).toEqual([]);
    expect(
        ours()
            .map(({ name }) => name)
            .sort(),
    ).toEqual(["gh200", "gh200-node", "gh200-vllm"]);
    expect(await valueOf(pulumi.all([deployRef, releaseRef, lmcacheRef, stageDigests]))).toEqual([use, use, "", {}]);
    expect(JSON.stringify(recorder.only("kubernetes:apps/v1:Deployment", "gh200-vllm").inputs)).toContain(`"image":"${use}"`);
});

describe("what is still open", () => {
    test("ends an update before its first resource", async () => {
        expect(refusal(() => platform({ builder: {} }))).toEqual([expect.stringMatching(/^builder\.endpoint: is unset/)]);
        await recorder.settled();
        expect(recorder.registrations.map(({ name }) => name)).toEqual([]);
    });

    test("is one warning of a preview, a line each, beside what an update would do all the same, which shows the whole plan", async () => {
        const warn = vi.spyOn(pulumi.log, "warn").mockResolvedValue();
        recorder = await record({ preview: true });
        platform({ builder: {}, image: { ...image, base: { name: "nvcr.io/nvidia/pytorch:26.03-py3" } } });
        await recorder.settled();
        expect(warn.mock.calls.map(([text]) => text.split("\n").map((line) => line.split(": ")[0]))).toEqual([
            ["an update of this stack is refused until these are settled:", "builder.endpoint", "image.base"],
            [inputName("registry.pullUsername")],
        ]);
        expect(images()).toHaveLength(12);
    });
});

test("a preview of the committed gh200 stack registers the whole graph, without a builder, registry or cluster", async () => {
    const warn = vi.spyOn(pulumi.log, "warn").mockResolvedValue();
    recorder = await record({ preview: true });
    pulumi.runtime.setAllConfig(stackConfig("gh200"));
    const config = loadConfig();
    new CmmPlatform("gh200", platformArgs(config), { providers: platformProviders(config) });
    await recorder.settled();
    expect(warn.mock.calls.map(([text]) => String(text).split("\n")[0])).toEqual([
        "an update of this stack is refused until these are settled:",
        "the memory plan is declared, not proven:",
        "gh200-vllm:serving.modelRevision: is unset, so that each start takes whatever Qwen/Qwen2.5-7B-Instruct leads to; accepted: a commit of the model's repository",
    ]);
    expect(warn.mock.calls[1]![0]).toContain("acknowledged (node.acknowledgeDeclaredExceedsMeasured): what is declared may be more than was measured");
    expect(images()).toHaveLength(12);
    expect(recorder.ofType("kubernetes:apps/v1:Deployment")).toHaveLength(1);
    expect(JSON.stringify(recorder.only("kubernetes:apps/v1:Deployment", "gh200-vllm").inputs)).toContain(`"image":"${unknown}"`);
    expect(recorder.only("pulumi:providers:kubernetes", "cluster").inputs).toMatchObject({ clusterIdentifier: "gh200" });
});

test("every image gets the registry's password as a secret, for its host alone, and the provider has none", async () => {
    const config = {
        ...stackConfig("gh200"),
        "gh200-vllm:registry": '{"address":"atl.vultrcr.com/vllm","username":"pusher"}',
        "gh200-vllm:registryPassword": "hunter2",
    };
    pulumi.runtime.setAllConfig(config, ["gh200-vllm:registryPassword"]);
    platformProviders(loadConfig());
    platform({ registry: { address: "atl.vultrcr.com/vllm", username: "pusher", password: pulumi.secret("hunter2") } });
    await recorder.settled();
    expect(recorder.only("pulumi:providers:docker-build", "builds").inputs).toEqual({ host: "" });
    expect(recorder.ofType(imageType).length).toBe(12);
    for (const { name, inputs } of recorder.ofType(imageType)) {
        expect(inputs.registries, name).toEqual([{ address: "atl.vultrcr.com", username: "pusher", password: { secret: "hunter2" } }]);
    }
});

describe("pods that pull as", () => {
    const registry = { address: "atl.vultrcr.com/vllm", username: "pusher", password: "word" };
    const puller = { ...registry, pullUsername: "puller", pullPassword: pulumi.secret("hunter2") };
    const pullSecret = () => JSON.stringify(recorder.only("kubernetes:core/v1:Secret", "gh200-vllm-pull").inputs);
    const warnings = async (overrides: Partial<CmmPlatformArgs>) => {
        const warn = vi.spyOn(pulumi.log, "warn").mockResolvedValue();
        recorder = await record({ preview: true });
        platform(overrides);
        await recorder.settled();
        return warn.mock.calls.map(([text]) => String(text));
    };

    test("the user who pushes are warned of in a preview, which says what that risks", async () => {
        expect(await warnings({ registry })).toEqual([
            `${inputName("registry.pullUsername")}: is unset, so that the pods' pull secret holds what pusher may push with: whoever reads it could replace a release; accepted: a user who may pull alone`,
        ]);
    });

    test.each<[string, Partial<CmmPlatformArgs>]>([
        ["a user of their own", { registry: puller }],
        ["whom an existing secret says", { registry, serving: { ...settledPlatform().serving, existingPullSecret: "theirs" } }],
        ["nobody", { registry: { address: registry.address } }],
        ["the user who pushes to this machine's own registry", { registry: { ...registry, address: "localhost:5000/vllm" } }],
    ])("%s are not", async (_, overrides) => expect(await warnings(overrides)).toEqual([]));

    test("a user of their own have a secret that cannot push, and before anything is made the registry is asked", async () => {
        platform({ registry: puller });
        await recorder.settled();
        const held = Buffer.from(`puller:hunter2`).toString("base64");
        expect(pullSecret()).toContain(held);
        expect(JSON.stringify(recorder.ofType("kubernetes:core/v1:Secret"))).not.toContain(Buffer.from("pusher:word").toString("base64"));
        const hook = "CmmPlatform gh200/registry";
        for (const { type, name, hooks } of recorder.registrations.filter(({ type: token }) => !token.startsWith("gh200-vllm:"))) {
            expect([hooks.beforeCreate, hooks.beforeUpdate], `${type} ${name}`).toEqual([expect.arrayContaining([hook]), expect.arrayContaining([hook])]);
        }
        const request = vi.fn(() => Promise.resolve(new Response("", { status: 401 })));
        vi.stubGlobal("fetch", request);
        const line = `${inputName("registry.pullUsername")}: puller: is refused by atl.vultrcr.com; accepted: a user whom the registry takes, with that user's password`;
        expect([await recorder.runHook(hook), await recorder.runHook(hook)]).toEqual([line, line]);
        expect(request).toHaveBeenCalledTimes(1);
    });

    test.each<[string, object, string]>([
        [
            "the user who pushes by another name for it",
            { pullUsername: "pusher", pullPassword: "word" },
            "is the user who pushes; accepted: a user who may pull alone",
        ],
        [
            "a user without a password",
            { pullUsername: "puller" },
            "has no password; accepted: registryPullPassword, a secret of the stack, or registry.pullPassword",
        ],
        ["a password without a user", { pullPassword: "hunter2" }, "is missing, though its password is there; accepted: the user whose password it is"],
    ])("%s is refused", (_, more: { pullUsername?: string }, why) => {
        const value = more.pullUsername === undefined ? "" : `${more.pullUsername}: `;
        const lines = refusal(() => platform({ registry: { ...registry, ...more } }));
        expect(lines.map((line) => line.replace(/^gh200-vllm:/, ""))).toEqual([`registry.pullUsername: ${value}${why}`]);
    });
});

describe("known holes of what is built", () => {
    const lines = [
        "lmcache 0.4.4: CVE-2026-105192, CVE-2026-107204, CVE-2026-107205, CVE-2026-107206, CVE-2026-107207; no release is named that mends all",
        "starlette 1.0.0: CVE-2026-48710, PYSEC-2026-248, PYSEC-2026-249; mended in 1.3.1",
    ];
    async function previewed(overrides: Partial<CmmPlatformArgs> = {}): Promise<{ told: string[]; output: string[] }> {
        writeTree(process.cwd(), {
            "assets/vllm/Dockerfile": `ARG LMCACHE_RELEASE=0.4.4\n${fs.readFileSync("assets/vllm/Dockerfile", "utf8")}`,
            "assets/vllm/locks/runtime.txt": "starlette==1.0.0 \\\n    --hash=sha256:0\n",
            "assets/lmcache/locks/lmcache.txt": "starlette==1.0.0 \\\n    --hash=sha256:0\n",
        });
        const warn = vi.spyOn(pulumi.log, "warn").mockResolvedValue();
        recorder = await record({ preview: true });
        const made = platform(overrides);
        await recorder.settled();
        return { told: warn.mock.calls.map(([text]) => String(text)).filter((text) => text.includes("known holes")), output: await valueOf(made.knownHoles) };
    }

    test("are named in a preview, each version once, and in the stack's outputs", async () => {
        const { told, output } = await previewed();
        expect(output).toEqual(lines);
        expect(told).toEqual([["what is built has known holes (advisories as of 2026-12-01; docs/security.md):", ...lines].join("\n")]);
    });

    test.each<[string, Partial<CmmPlatformArgs>]>([
        ["stand-ins, on this machine", { registry: { address: "localhost:5000/vllm" } }],
        ["an image that others built", { image: { use: `atl.vultrcr.com/vllm/a@${mockDigest("a")}` } }],
    ])("are not said of %s", async (_, overrides) => expect(await previewed(overrides)).toEqual({ told: [], output: [] }));
});
