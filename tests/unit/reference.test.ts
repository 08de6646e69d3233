import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
    isDigestReference,
    isLoopbackRegistry,
    isRegistryAddress,
    isRepositoryPath,
    isTaggedReference,
    namesHost,
    normalised,
    registryHost,
    releaseReference,
    releaseRepository,
    releaseTag,
} from "../../components/image/reference";
import { stackConfig } from "../support/stackFile";

describe("the release's name", () => {
    const config = stackConfig("gh200");
    const registry = JSON.parse(config["gh200-vllm:registry"]!) as { address: string };
    const image = JSON.parse(config["gh200-vllm:image"]!) as { imageTag: string; vllmVersion: string; imageSuffix: string };
    const name = { ...image, registry: registry.address };

    test("is the source document's for the pipeline parameters of Pulumi.gh200.yaml", () => {
        expect(releaseReference(name)).toBe("atl.vultrcr.com/vllm/gh200-vllm-cmm:cmm-cmm");
        expect(releaseRepository(name)).toBe("atl.vultrcr.com/vllm/gh200-vllm-cmm");
        expect(releaseTag(name)).toBe("cmm-cmm");
    });

    test("has no separator of its own before the suffix", () => {
        expect(releaseTag({ ...name, vllmVersion: "v0.19.0", imageSuffix: "" })).toBe("v0.19.0");
        expect(releaseTag({ ...name, vllmVersion: "v0.19.0", imageSuffix: "_a" })).toBe("v0.19.0_a");
    });
});

test.each([
    ["atl.vultrcr.com/vllm/gh200-vllm-cmm:cmm-cmm", "atl.vultrcr.com"],
    ["localhost:5000/a/b@sha256:00", "localhost:5000"],
    ["[::1]:5000/a", "[::1]:5000"],
    ["atl.vultrcr.com", "atl.vultrcr.com"],
    ["localhost:5000", "localhost:5000"],
    ["nvidia/cuda:13.0", "docker.io"],
    ["ubuntu:24.04", "docker.io"],
    ["ubuntu", "docker.io"],
    ["Registry/a", "Registry"],
])("credentials for %s belong to %s", (reference, host) => {
    expect(registryHost(reference)).toBe(host);
});

describe("a stand-in may be pushed", () => {
    test.each(["localhost/vllm", "localhost:5000/vllm", "127.0.0.1/vllm", "127.0.0.1:5000/vllm", "127.1.2.3/vllm", "[::1]:5000/vllm"])("to %s", (reference) => {
        expect(isLoopbackRegistry(reference)).toBe(true);
    });
    test.each([
        "atl.vultrcr.com/vllm",
        "localhost.example.com/vllm",
        "mylocalhost/vllm",
        "example.com/localhost/vllm",
        "127.0.0.1.example.com/vllm",
        "128.0.0.1/vllm",
        "localhost:5000.example.com/vllm",
        "[::2]/vllm",
        "",
    ])("not to %j", (reference) => {
        expect(isLoopbackRegistry(reference)).toBe(false);
    });
});

/* The cases of distribution/reference's own tests (reference_test.go, normalize_test.go), and those that people type. */
describe("the grammar of names", () => {
    test.each([
        "atl.vultrcr.com/vllm",
        "r.example:5000/a/b",
        "localhost/a",
        "[::1]:5000/a",
        "[2001:db8::1]/a",
        "docker.io/me",
        "ATL.Vultrcr.com/v",
        "r.example/a__b--c.d",
        "10.0.0.1:65535/x",
    ])("takes %s for a registry's address", (text) => {
        expect([isRegistryAddress(text), namesHost(text)]).toEqual([true, true]);
    });

    test.each([
        "https://atl.vultrcr.com/vllm",
        "atl.vultrcr.com",
        "atl.vultrcr.com/",
        "atl.vultrcr.com/vllm/",
        "/vllm",
        "r.example//a",
        "r.example/Vllm",
        "r.example:0/a",
        "r.example:65536/a",
        "r.example:99999/a",
        "r.example:/a",
        "::1:5000/a",
        "[::1:5000/a",
        "r.example./a",
        ".r.example/a",
        "-r.example/a",
        "r.example/a:tag",
        "r.example/a@sha256:00",
        "user@r.example/a",
        " r.example/a",
        "r.example/a ",
        "r.example/a b",
        "r.example/-a",
        "r.example/a..b",
        "r.example/a_",
        `r.example/${"a".repeat(256)}`,
        "",
    ])("refuses %j as one", (text) => {
        expect(isRegistryAddress(text)).toBe(false);
    });

    test("knows a name without a host for Docker Hub's", () => {
        expect(["nvidia/cuda", "ubuntu", "registry/vllm"].map(namesHost)).toEqual([false, false, false]);
    });

    test.each(["nvcr.io/nvidia/pytorch:26.03-py3", "nvidia/cuda:13.0.1-devel", "ubuntu:24.04", "[::1]:5000/a:b", "localhost:5000/a:b", "r.example/a:B_c.d-1"])(
        "takes %s for NAME:TAG",
        (text) => {
            expect(isTaggedReference(text)).toBe(true);
        },
    );

    test.each([
        "ubuntu",
        "a:b/c",
        "https://nvcr.io/a:b",
        "Ubuntu:24.04",
        "a:-b",
        "a:",
        ":b",
        "a b:c",
        "a:b@sha256:1",
        `a:${"b".repeat(129)}`,
        "r.example:5000/a",
        "r.example/a:b/c",
    ])("refuses %j as one", (text) => {
        expect(isTaggedReference(text)).toBe(false);
    });

    test("of digests takes a tag beside one, and nothing shorter, longer or upper", () => {
        const digest = `sha256:${"0a".repeat(32)}`;
        expect(["r.example/a", "nvidia/cuda", "ubuntu", "r.example:5000/a:b", "[::1]:5000/a"].map((name) => isDigestReference(`${name}@${digest}`))).toEqual(
            Array(5).fill(true),
        );
        expect(
            [
                `r.example/a@${digest}0`,
                `r.example/a@${digest.slice(0, -1)}`,
                `r.example/a@${digest.toUpperCase()}`,
                `r.example/A@${digest}`,
                `https://r.example/a@${digest}`,
                `@${digest}`,
                digest,
            ].map(isDigestReference),
        ).toEqual(Array(7).fill(false));
    });

    test.each([
        ["ubuntu:24.04", { host: "docker.io", repository: "library/ubuntu", reference: "24.04" }],
        ["nvidia/cuda", { host: "docker.io", repository: "nvidia/cuda", reference: "" }],
        ["docker.io/ubuntu:24.04", { host: "docker.io", repository: "library/ubuntu", reference: "24.04" }],
        ["[::1]:5000/a/b:c", { host: "[::1]:5000", repository: "a/b", reference: "c" }],
        ["localhost:5000/a@sha256:00", { host: "localhost:5000", repository: "a", reference: "sha256:00" }],
    ])("reads %s as Docker does", (text, parts) => {
        expect(normalised(text)).toEqual(parts);
    });

    test("of repositories takes folders and no tag", () => {
        expect(["a", "a/b", "gh200-vllm-cmm", "a__b"].map(isRepositoryPath)).toEqual([true, true, true, true]);
        expect(["A", "a:b", "a//b", "/a", "a/", "", "a b", "a@b"].map(isRepositoryPath)).toEqual(Array(8).fill(false));
    });

    test("lets through what it is made of, and no whitespace anywhere", () => {
        const part = fc.stringMatching(/^[a-z0-9]{1,8}([._-][a-z0-9]{1,4})?$/);
        fc.assert(
            fc.property(part, part, fc.integer({ min: 1, max: 65535 }), fc.nat(), (host, namespace, port, at) => {
                const address = `${host}.example:${port}/${namespace}`;
                expect(isRegistryAddress(address)).toBe(!/[_]/.test(host) && !/[.-]$|^[.-]/.test(host));
                const place = at % (address.length + 1);
                expect(isRegistryAddress(`${address.slice(0, place)} ${address.slice(place)}`)).toBe(false);
            }),
        );
    });
});
