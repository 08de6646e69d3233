import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ImageRelease, type ImageReleaseArgs } from "../../components/image/imageRelease";
import { imageType, mockDigest, record, type Recorder, valueOf } from "../support/mocks";
import { builder, programs } from "../support/program";

const program = programs();
const type = "gh200-vllm:index:ImageRelease";
const digest = `sha256:0123456789abcdef${"0".repeat(48)}`;
const imageRef = `atl.vultrcr.com/vllm/gh200-vllm-cmm-stages@${digest}`;

let recorder: Recorder;
beforeEach(async () => {
    program();
    recorder = await record();
});
afterEach(() => vi.unstubAllGlobals());

function release(overrides: Partial<ImageReleaseArgs> = {}): ImageRelease {
    return new ImageRelease("release", {
        builder,
        imageRef,
        digest,
        repository: "atl.vultrcr.com/vllm/gh200-vllm-cmm",
        tag: "cmm-cmm",
        sourceDateEpoch: "1775088000",
        ...overrides,
    });
}

test("a release is the verified image again, under a tag that moves and one that does not", async () => {
    release();
    await recorder.settled();
    expect(recorder.registrations.map(({ type: token, name, parent }) => [token, name, parent])).toEqual([
        [type, "release", ""],
        [imageType, "release", `${type} release`],
    ]);
    const image = recorder.only(imageType, "release");
    expect(image.inputs).toEqual({
        builder: { name: "gh200" },
        dockerfile: { inline: "FROM release\n" },
        context: {
            location: expect.stringMatching(/^\.gh200\/contexts\/[0-9a-f]{16}$/) as string,
            named: { release: { location: `docker-image://${imageRef}` } },
        },
        buildArgs: { SOURCE_DATE_EPOCH: "1775088000" },
        platforms: ["linux/arm64"],
        network: "default", // added by the provider's SDK
        tags: ["atl.vultrcr.com/vllm/gh200-vllm-cmm:cmm-cmm", "atl.vultrcr.com/vllm/gh200-vllm-cmm:cmm-cmm-0123456789ab"],
        exports: [{ raw: "type=image,push=true,oci-mediatypes=true,rewrite-timestamp=true" }],
        push: false,
        buildOnPreview: false,
    });
    expect(image.retainOnDelete).toBe(true);
    expect(image.hooks).toEqual({
        beforeCreate: ["release:stand-in", "release:builder"],
        beforeUpdate: ["release:stand-in", "release:builder"],
    });
});

test("its outputs are the two tags, and what is deployed by digest", async () => {
    const released = release();
    expect(await valueOf(released.releaseRef)).toBe("atl.vultrcr.com/vllm/gh200-vllm-cmm:cmm-cmm");
    expect(await valueOf(released.fixedRef)).toBe("atl.vultrcr.com/vllm/gh200-vllm-cmm:cmm-cmm-0123456789ab");
    expect(await valueOf(released.deployRef)).toBe(`atl.vultrcr.com/vllm/gh200-vllm-cmm@${mockDigest("release")}`);
});

test("its inputs hold no credentials of the registry", async () => {
    release({ username: "pusher", password: "hunter2" });
    await recorder.settled();
    expect(JSON.stringify(recorder.registrations)).not.toMatch(/hunter2|pusher/);
});

describe("before the push, the image's own labels", () => {
    /** Answers every request with a manifest, its configuration and these labels. */
    function registryWith(labels: Record<string, string>) {
        const request = vi.fn((url: string) =>
            Promise.resolve(
                Response.json(url.includes("/manifests/") ? { config: { digest: "sha256:c" } } : { config: { Labels: labels } }),
            ),
        );
        vi.stubGlobal("fetch", request);
        return request;
    }

    const hook = async (overrides: Partial<ImageReleaseArgs> = {}) => {
        release(overrides);
        await recorder.settled();
        return recorder.runHook("release:stand-in");
    };

    test("refuse a release name outside this machine for stand-ins", async () => {
        registryWith({ "ai.vllm.gh200.stand-in": "true" });
        expect(await hook()).toMatch(/^gh200-vllm:registry\.address: atl\.vultrcr\.com\/vllm\/gh200-vllm-cmm: the image is made of stand-ins /);
    });

    test("let a real image pass, read with the registry's credentials", async () => {
        const request = registryWith({});
        expect(await hook({ username: "pusher", password: "word" })).toBe("");
        expect(request.mock.calls.map(([url]) => url)).toEqual([
            `https://atl.vultrcr.com/v2/vllm/gh200-vllm-cmm-stages/manifests/${digest}`,
            "https://atl.vultrcr.com/v2/vllm/gh200-vllm-cmm-stages/blobs/sha256:c",
        ]);
        expect((request.mock.calls as unknown as [string, RequestInit][])[0]![1].headers).toMatchObject({
            Authorization: `Basic ${Buffer.from("pusher:word").toString("base64")}`,
        });
    });

    test("are not asked for where the registry is this machine's own", async () => {
        const request = registryWith({ "ai.vllm.gh200.stand-in": "true" });
        expect(await hook({ repository: "localhost:5000/vllm/gh200-vllm-cmm" })).toBe("");
        expect(request).not.toHaveBeenCalled();
    });

    test("that cannot be read end the push", async () => {
        vi.stubGlobal("fetch", () => Promise.resolve(new Response("", { status: 404, statusText: "Not Found" })));
        expect(await hook()).toContain("answered 404 Not Found");
    });
});
