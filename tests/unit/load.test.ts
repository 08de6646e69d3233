import * as pulumi from "@pulumi/pulumi";
import { beforeEach, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { loadConfig } from "../../components/config/load";
import { refusal } from "../support/refusal";
import { stackConfig } from "../support/stackFile";

/** What the engine sets before it runs a program of this project. */
beforeEach(() => pulumi.runtime.setMocks({ newResource: ({ inputs }) => ({ id: "", state: inputs as object }), call: () => ({}) }, "gh200-vllm", "test"));

/** Loads the gh200 stack's configuration with `changes` put over it; undefined removes a key. */
function load(changes: Record<string, unknown> = {}, secretKeys: string[] = []) {
    const merged = { ...stackConfig("gh200"), ...changes };
    const text = Object.entries(merged).filter(([, value]) => value !== undefined);
    pulumi.runtime.setAllConfig(Object.fromEntries(text.map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)])), secretKeys);
    return loadConfig();
}

/** A section of the gh200 stack with `changes` put over it. */
const section = (name: string, changes: object) => ({
    [`gh200-vllm:${name}`]: { ...(JSON.parse(stackConfig("gh200")[`gh200-vllm:${name}`]!) as object), ...changes },
});

describe("a committed stack", () => {
    test("gh200 parses, and says what the source document says", () => {
        const config = load();
        expect(config.registry).toEqual({ address: "atl.vultrcr.com/vllm" });
        expect(config.image).toEqual({
            base: { name: "nvcr.io/nvidia/pytorch:26.03-py3" },
            imageTag: "gh200-vllm-cmm",
            vllmVersion: "cmm",
            imageSuffix: "-cmm",
            cudaArchList: "9.0a",
            sourceDateEpoch: 1775088000,
            registryCache: true,
        });
        expect(config.sources).toEqual({ "src-vllm": { repository: "https://sweetapi.com/biondizzle/vllm.git", ref: "cmm" } });
        expect(config.approval).toMatchObject({ required: true, approver: "mike" });
        expect(config.secrets).toEqual({
            builderClientKey: undefined,
            registryPassword: undefined,
            registryPullPassword: undefined,
            hfToken: undefined,
            kubeconfig: undefined,
        });
    });

    test("sandbox parses, and asks for no approval", () => {
        pulumi.runtime.setAllConfig(stackConfig("sandbox"));
        const config = loadConfig();
        expect(config.approval.required).toBe(false);
        expect(config.serving.acceptStandIn).toBe(true);
    });
});

describe("tokens of private git hosts", () => {
    const loadTokens = (text: string) => load({ "gh200-vllm:gitTokens": text }, ["gh200-vllm:gitTokens"]);

    test("are an object by host", () => {
        expect(loadTokens('{"sweetapi.com": "hunter2"}').secrets.gitTokens).toBeDefined();
    });

    test.each(["hunter2", '["hunter2"]', '{"sweetapi.com": 2}', '{"sweetapi.com": ""}'])("are nothing else, and are not shown (%s)", (text) => {
        const lines = refusal(() => loadTokens(text));
        expect(lines).toEqual([expect.stringMatching(/^gh200-vllm:gitTokens: is no JSON object of hosts and tokens; accepted: /)]);
        expect(lines[0]).not.toMatch(/hunter2|sweetapi/);
    });
});

describe("secrets", () => {
    const values = {
        "gh200-vllm:builderClientKey": "key",
        "gh200-vllm:registryPassword": "word",
        "gh200-vllm:hfToken": "token",
        "gh200-vllm:kubeconfig": "clusters: []",
    };

    test("are keys of their own and stay secret", async () => {
        const { secrets } = load(values, Object.keys(values));
        for (const [path, value] of Object.entries(values)) {
            const output = secrets[path.slice("gh200-vllm:".length) as keyof typeof secrets]!;
            expect(await pulumi.isSecret(output), path).toBe(true);
            expect(await new Promise((resolve) => void pulumi.unsecret(output).apply(resolve))).toBe(value);
        }
    });

    test("are made secret where someone set them as plain text", async () => {
        const { secrets } = load(values, []);
        expect(await pulumi.isSecret(secrets.registryPassword!)).toBe(true);
    });

    test("in a section are refused, because the section is handed on as plain text", () => {
        const path = "gh200-vllm:registry";
        const lines = refusal(() => load({ [path]: { address: "a/b", username: "u", password: "hunter2" } }, [path]));
        expect(lines).toContain(
            "gh200-vllm:registry: holds a secret, which a section would hand on as plain text; " +
                "accepted: secrets only as builderClientKey, registryPassword, registryPullPassword, gitTokens, hfToken, kubeconfig; pulumi config set --secret gh200-vllm:NAME",
        );
        expect(lines.join("\n")).not.toContain("hunter2");
    });
});

describe("a wrong configuration", () => {
    test("is reported whole: every wrong, missing and unknown key, a line each", () => {
        const lines = refusal(() =>
            load({
                ...section("builder", { endpoint: "10.0.0.1", name: "GH200" }),
                ...section("registry", { address: "atl.vultrcr.com" }),
                ...section("image", { base: { name: "nvcr.io/nvidia/pytorch", digest: "sha256:1" }, cudaArchList: "hopper" }),
                ...section("sources", { "src-vllm": { commit: "2a69949bd" }, "src-triton": { path: "/tmp/triton" }, "src-vlm": {} }),
                ...section("stages", { builderMemoryGiB: 4, disable: [] }),
                ...section("serving", { cpus: 1.5, placement: "hbm" }),
                ...section("node", { egmReservedMiB: 4096, coherentMode: "cdmm" }),
                "gh200-vllm:cluster": undefined,
                "gh200-vllm:approval": "yes",
                "gh200-vllm:retries": "3",
            }),
        );
        expect(lines).toEqual([
            "gh200-vllm:retries: is an unknown key; accepted: builder, registry, image, sources, stages, node, serving, cluster, approval, " +
                "builderClientKey, registryPassword, registryPullPassword, gitTokens, hfToken, kubeconfig; pulumi config rm gh200-vllm:retries",
            "gh200-vllm:builder.endpoint: 10.0.0.1: is no BuildKit address; accepted: tcp://HOST:PORT",
            "gh200-vllm:builder.name: GH200: is no buildx builder name; accepted: lower-case letters, digits, dashes",
            "gh200-vllm:registry.address: atl.vultrcr.com: is no registry and namespace; accepted: HOST/NAMESPACE",
            "gh200-vllm:image.base.name: nvcr.io/nvidia/pytorch: is no image name with a tag; accepted: NAME:TAG",
            "gh200-vllm:image.base.digest: sha256:1: is no digest; accepted: sha256: and 64 hex digits",
            "gh200-vllm:image.cudaArchList: hopper: is no GPU architecture; accepted: e.g. 9.0a",
            "gh200-vllm:sources.src-triton.path: /tmp/triton: is absolute; accepted: a folder relative to the program",
            "gh200-vllm:sources.src-vllm.commit: 2a69949bd: is no full commit; accepted: 40 hex digits",
            "gh200-vllm:sources.src-vlm: is an unknown key; remove it, or see docs/configuration.md for the keys there are",
            "gh200-vllm:stages.builderMemoryGiB: 4: is too small; accepted: 10 or more",
            "gh200-vllm:stages.disable: is an unknown key; remove it, or see docs/configuration.md for the keys there are",
            "gh200-vllm:node.egmReservedMiB: 4096: is refused; accepted: 8192, the only reserved value that works",
            "gh200-vllm:node.coherentMode: cdmm: is not accepted; accepted: numa or driver; see /proc/driver/nvidia/params",
            "gh200-vllm:serving.placement: hbm: is not accepted; accepted: hbm-first, managed, managed-prefetch or off",
            "gh200-vllm:serving.cpus: 1.5: is no whole number of CPUs",
            "gh200-vllm:cluster: is missing; see docs/configuration.md",
            "gh200-vllm:approval: yes: is no section; accepted: keys and values",
        ]);
    });

    test("that is empty names the sections that must be there, and not those that need not", () => {
        pulumi.runtime.setAllConfig({});
        expect(refusal(() => loadConfig())).toEqual(
            ["registry", "image", "stages", "node", "serving", "cluster", "approval"].map(
                (name) => `gh200-vllm:${name}: is missing; see docs/configuration.md`,
            ),
        );
    });

    test("with a source that has both folder and commit is refused", () => {
        const both = { "src-vllm": { path: "vllm", commit: "0".repeat(40) } };
        expect(refusal(() => load({ "gh200-vllm:sources": both })).map((line) => line.split(": ").at(0))).toEqual(["gh200-vllm:sources.src-vllm"]);
    });

    // The first is more than a number can be, and so null; the second loses its zero.
    test.each([
        ["contains: 93e928824", "gh200-vllm:sources.src-vllm.contains: null: is no string; accepted: a string; put it in quotes, so that it is read as text"],
        ["ref: 1.10", "gh200-vllm:sources.src-vllm.ref: 1.1: is no string; accepted: a string; put it in quotes, so that it is read as text"],
    ])("whose text YAML takes for a number (%s) says how to write it", (line, said) => {
        const source = parse(line) as object;
        expect(refusal(() => load({ "gh200-vllm:sources": { "src-vllm": source } }))).toContain(said);
    });

    test("of another project's namespace is none of ours", () => {
        expect(() => load({ "kubernetes:context": "a", "pulumi:tags": "{}" })).not.toThrow();
    });

    test.each(["image", "podLimitMiB", "hfToken", "pullPassword"])("sets serving.%s, which another component supplies", (key) => {
        expect(refusal(() => load(section("serving", { [key]: "x" })))).toEqual([
            `gh200-vllm:serving.${key}: is an unknown key; remove it, or see docs/configuration.md for the keys there are`,
        ]);
    });

    test("sets the builder's key in its section, where it would be plain text", () => {
        const lines = refusal(() => load(section("builder", { clientKey: "-----BEGIN" })));
        expect(lines).toEqual(["gh200-vllm:builder.clientKey: is an unknown key; remove it, or see docs/configuration.md for the keys there are"]);
    });
});
