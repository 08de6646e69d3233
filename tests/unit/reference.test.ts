import { describe, expect, test } from "vitest";
import { isLoopbackRegistry, registryHost, releaseReference, releaseRepository, releaseTag } from "../../components/image/reference";
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
