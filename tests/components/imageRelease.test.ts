import { createHash } from "node:crypto";
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
    expect(image).toMatchObject({ retainOnDelete: true, ignoreChanges: ["builder.name"] });
    expect(image.hooks).toEqual({
        beforeCreate: ["ImageRelease release/labels", "ImageRelease release/release:builder"],
        beforeUpdate: ["ImageRelease release/labels", "ImageRelease release/release:builder"],
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
    const real = { "ai.vllm.gh200.torch": "2.11.0a0", "ai.vllm.gh200.cuda": "13.2", "ai.vllm.gh200.vllm": "0.19.0" };
    const releaseTag = "/vllm/gh200-vllm-cmm/manifests/cmm-cmm";

    const digestOf = (text: string) => `sha256:${createHash("sha256").update(text).digest("hex")}`;

    /** An image's manifest and configuration by digest; the manifest's comes first. */
    function documents(labels: Record<string, string>): [digest: string, text: string][] {
        const config = JSON.stringify({ config: { Labels: labels } });
        const manifest = JSON.stringify({ config: { digest: digestOf(config) } });
        return [manifest, config].map((text) => [digestOf(text), text]);
    }

    let verified: string;
    /** A registry with the verified image, and with the one that has the release name now, if any. */
    function registryWith(labels: Record<string, string>, released?: Record<string, string>) {
        const [image, named] = [documents(labels), released && documents(released)];
        verified = image[0]![0];
        const served = new Map([...image, ...(named ?? [])]);
        const request = vi.fn((url: string) => {
            const text = url.endsWith(releaseTag) ? named?.[0]?.[1] : served.get(url.split("/").at(-1) ?? "");
            return Promise.resolve(text === undefined ? new Response("", { status: 404, statusText: "Not Found" }) : new Response(text));
        });
        vi.stubGlobal("fetch", request);
        return request;
    }

    const hook = async (overrides: Partial<ImageReleaseArgs> = {}) => {
        release({ imageRef: `atl.vultrcr.com/vllm/gh200-vllm-cmm-stages@${verified}`, ...overrides });
        await recorder.settled();
        return recorder.runHook("ImageRelease release/labels");
    };

    test("refuse a release name outside this machine for stand-ins", async () => {
        registryWith({ ...real, "ai.vllm.gh200.stand-in": "true" });
        expect(await hook()).toMatch(/^registry\.address: atl\.vultrcr\.com\/vllm\/gh200-vllm-cmm: the image is made of stand-ins /);
    });

    test("let a real image pass, read with the registry's credentials", async () => {
        const request = registryWith(real);
        expect(await hook({ username: "pusher", password: "word" })).toBe("");
        expect(request.mock.calls.map(([url]) => url)).toEqual([
            `https://atl.vultrcr.com/v2/vllm/gh200-vllm-cmm-stages/manifests/${verified}`,
            `https://atl.vultrcr.com/v2/vllm/gh200-vllm-cmm-stages/blobs/${documents(real)[1]![0]}`,
            `https://atl.vultrcr.com/v2${releaseTag}`,
        ]);
        expect((request.mock.calls as unknown as [string, RequestInit][])[0]![1].headers).toMatchObject({
            Authorization: `Basic ${Buffer.from("pusher:word").toString("base64")}`,
        });
    });

    test("let a stand-in pass where the registry is this machine's own", async () => {
        registryWith({ ...real, "ai.vllm.gh200.stand-in": "true" });
        expect(await hook({ repository: "localhost:5000/vllm/gh200-vllm-cmm" })).toBe("");
    });

    test("refuse changes that no commit holds, wherever the registry is", async () => {
        const revision = `${"a".repeat(40)}-dirty`;
        registryWith({ ...real, "ai.vllm.gh200.source.vllm": revision });
        expect(await hook({ repository: "localhost:5000/vllm/gh200-vllm-cmm" })).toBe(
            `label ai.vllm.gh200.source.vllm: ${revision}: is built from changes that no commit holds, and gets no release name; accepted: a commit; ` +
                "commit them in the checkout of sources.src-vllm",
        );
    });

    test.each([
        ["ai.vllm.gh200.torch", "2.8.1", "is older than rule 1 allows; accepted: 2.9 or newer"],
        ["ai.vllm.gh200.cuda", "12.9", "is older than rule 1 allows; accepted: 13 or newer"],
        ["ai.vllm.gh200.vllm", "0.18.0", "is older than rule 1 allows; accepted: 0.18.1 or newer"],
    ])("refuse %s %s", async (label, value, why) => {
        registryWith({ ...real, [label]: value });
        expect(await hook()).toBe(`label ${label}: ${value}: ${why}`);
    });

    test("refuse an image without a version, which any version could be", async () => {
        const { "ai.vllm.gh200.vllm": _, ...rest } = real;
        registryWith(rest);
        expect(await hook()).toMatch(/^label ai\.vllm\.gh200\.vllm: is missing/);
    });

    test("refuse an image that is older than the one that has the release name, and let a newer one pass", async () => {
        registryWith(real, { ...real, "ai.vllm.gh200.vllm": "0.19.1" });
        expect(await hook()).toBe("label ai.vllm.gh200.vllm: 0.19.0: is older than 0.19.1, which is released; accepted: 0.19.1 or newer");
        registryWith({ ...real, "ai.vllm.gh200.vllm": "0.20.0" }, real);
        recorder = await record();
        expect(await hook()).toBe("");
    });

    test("that cannot be read end the push", async () => {
        vi.stubGlobal("fetch", () => Promise.resolve(new Response("", { status: 404, statusText: "Not Found" })));
        expect(await hook()).toContain("answered 404 Not Found");
    });
});
