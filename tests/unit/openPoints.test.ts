import * as pulumi from "@pulumi/pulumi";
import { describe, expect, test, vi } from "vitest";
import { nameInputsByStackKey, problemLine } from "../../components/internal/errors";
import type { CmmPlatformArgs } from "../../components/platform/cmmPlatformArgs";
import { openPoints } from "../../components/platform/openPoints";
import { certificateProblems } from "../../components/rules/certificates";
import { defaultSources } from "../../components/stages/sources";
import { certificatePair } from "../support/certificatePair";
import { settledPlatform } from "../support/platform";

const lines = (overrides: Partial<CmmPlatformArgs> = {}) => openPoints(settledPlatform(overrides)).map(problemLine);
const unresolved = Object.entries(defaultSources)
    .filter(([, { commit }]) => commit === undefined)
    .map(([source, { repository, ref }]) => [source, `${repository}#${ref}`]);
const { image, registry, serving, stages } = settledPlatform();

test("a settled platform has none", () => {
    expect(lines()).toEqual([]);
});

describe("an update is refused", () => {
    test.each([{}, { endpoint: "" }])("without a builder (%j)", (builder) => {
        expect(lines({ builder })).toEqual([
            "builder.endpoint: is unset, so there is no builder; accepted: tcp://HOST:PORT of a BuildKit daemon on the GH200; " +
                "set builder.endpoint to tcp://HOST:PORT",
        ]);
    });

    test("with a base by tag alone", () => {
        expect(lines({ image: { ...image, base: { name: "nvcr.io/nvidia/pytorch:26.03-py3" } } })).toEqual([
            "image.base: nvcr.io/nvidia/pytorch:26.03-py3: is unpinned; accepted: a digest; " + "set image.base.digest to sha256:DIGEST",
        ]);
    });

    test("with each of the table's sources that was never resolved to a commit", () => {
        expect(unresolved).toContainEqual(["src-vllm", "https://sweetapi.com/biondizzle/vllm.git#cmm"]);
        expect(lines({ sources: {} })).toEqual(
            unresolved.map(
                ([source, address]) => `sources.${source}: ${address}: is unpinned; accepted: a full commit; set sources.${source}.commit to COMMIT`,
            ),
        );
    });

    test("but not for a source that is a folder of this machine", () => {
        const sources = { ...settledPlatform().sources, "src-vllm": { path: "sandbox/sources/vllm" } };
        expect(lines({ sources })).toEqual([]);
    });

    test.each([
        ["build-vllm", "cannot be left out"],
        ["build-triton", "cannot be left out"],
        ["build-nothing", "is no stage"],
    ])("without %s, which %s", (target, wrong) => {
        expect(lines({ stages: { ...stages, disabled: [target] } })).toEqual([
            `stages.disabled: ${target}: ${wrong}; accepted: build-flash-attention, build-infinistore`,
        ]);
    });

    test("but not without the two stages that can be left out", () => {
        expect(lines({ stages: { ...stages, disabled: ["build-flash-attention", "build-infinistore"] } })).toEqual([]);
    });

    test("with stand-ins from a registry that others reach", () => {
        expect(lines({ serving: { ...serving, acceptStandIn: true } })).toEqual([
            "serving.acceptStandIn: true: would run stand-ins from atl.vultrcr.com/vllm; " +
                "accepted: true only where the registry is this machine's own; remove serving.acceptStandIn",
        ]);
        expect(lines({ serving: { ...serving, acceptStandIn: true }, registry: { ...registry, address: "localhost:5000/vllm" } })).toEqual([]);
    });

    test("for all of it at once", () => {
        const found = lines({ builder: {}, sources: {}, stages: { ...stages, disabled: ["build-vllm"] }, serving: { ...serving, acceptStandIn: true } });
        expect(found.map((line) => line.split(": ")[0])).toEqual([
            "serving.acceptStandIn",
            "builder.endpoint",
            ...unresolved.map(([source]) => `sources.${source}`),
            "stages.disabled",
        ]);
    });
});

test("an image that exists already needs no builder, base or commits", () => {
    const use = `atl.vultrcr.com/vllm/gh200-vllm-cmm@sha256:${"0".repeat(64)}`;
    expect(lines({ builder: {}, sources: {}, image: { ...image, base: { name: "a/b:c" }, use } })).toEqual([]);
});

describe("credentials that can be told wrong without asking anybody", () => {
    const { builder } = settledPlatform();
    const [own, other] = [certificatePair("own"), certificatePair("other")];
    const day = 24 * 3600 * 1000;

    test.each([
        [
            { clientKey: undefined },
            ["builder.clientKey: is unset, though builder.clientCertificate is set; accepted: the PEM text of that certificate's key; set builder.clientKey"],
        ],
        [
            { clientCertificate: undefined },
            ["builder.clientCertificate: is unset, though its key is set; accepted: PEM text, with its lines; set builder.clientCertificate"],
        ],
        [
            { clientCertificate: own.certificate, clientKey: other.key },
            ["builder.clientKey: is not the key of builder.clientCertificate; accepted: the key that it was issued for"],
        ],
        [
            { clientCertificate: own.certificate, clientKey: "secret text" },
            ["builder.clientKey: is no private key without a passphrase; accepted: PEM text, with its lines"],
        ],
        [{ clientCertificate: own.certificate, clientKey: own.key }, []],
        [
            { caCertificate: "ca.pem" },
            ["builder.caCertificate: is no certificate; accepted: PEM text, with its lines; set builder.caCertificate to the file's text"],
        ],
    ])("of the builder: %#", (change, said) => {
        expect(lines({ builder: { ...builder, ...change } })).toEqual(said);
    });

    test("certificates that have ended, or not begun", () => {
        const at = (days: number) => certificateProblems("builder", { clientCertificate: own.certificate }, new Date(Date.now() + days * day)).map(problemLine);
        expect(at(0)).toEqual([]);
        expect(at(3)).toEqual([
            expect.stringMatching(/^builder\.clientCertificate: CN=own: ended on \d{4}-\d\d-\d\d; accepted: one that is valid; issue it anew$/),
        ]);
        expect(at(-3)).toEqual([
            expect.stringMatching(/^builder\.clientCertificate: CN=own: begins on \d{4}-\d\d-\d\d; accepted: one that is valid; check this machine's clock$/),
        ]);
    });

    test.each([
        [
            { username: "pusher", password: undefined },
            "registry.username: pusher: has no password, so nothing is pushed; accepted: both or neither; set registry.password",
        ],
        [
            { username: undefined, password: "secret" },
            "registry.username: is unset, though its password is set; accepted: both or neither; set registry.username to NAME",
        ],
    ])("of the registry: %#", (change, said) => {
        expect(lines({ registry: { ...registry, ...change } })).toEqual([said]);
    });

    test("secrets are not missed where a preview was given none", async () => {
        vi.stubEnv("GH200_PREVIEW_WITHOUT_SECRETS", "true");
        await pulumi.runtime.setMocks({ newResource: ({ inputs }) => ({ id: "", state: inputs as object }), call: () => ({}) }, "gh200-vllm", "test", true);
        const without = { builder: { ...builder, clientKey: undefined }, registry: { ...registry, password: undefined } };
        expect(lines(without)).toEqual([]);
        // An update has them, or fails.
        await pulumi.runtime.setMocks({ newResource: ({ inputs }) => ({ id: "", state: inputs as object }), call: () => ({}) }, "gh200-vllm", "test", false);
        expect(lines(without)).toHaveLength(2);
        vi.unstubAllEnvs();
    });
});

test("a stack's user reads the stack's keys, and the command that sets each", () => {
    nameInputsByStackKey("gh200-vllm");
    expect(lines({ builder: {}, image: { ...image, base: { name: "nvcr.io/nvidia/pytorch:26.03-py3" } } })).toEqual([
        "gh200-vllm:builder.endpoint: is unset, so there is no builder; accepted: tcp://HOST:PORT of a BuildKit daemon on the GH200; " +
            "pulumi config set --path gh200-vllm:builder.endpoint tcp://HOST:PORT",
        "gh200-vllm:image.base: nvcr.io/nvidia/pytorch:26.03-py3: is unpinned; accepted: a digest; " +
            "pulumi config set --path gh200-vllm:image.base.digest sha256:DIGEST",
    ]);
});
