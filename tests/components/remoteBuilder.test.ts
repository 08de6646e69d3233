import * as fs from "node:fs";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { builderHook } from "../../components/builder/builderHook";
import { RemoteBuilder, type RemoteBuilderArgs } from "../../components/builder/remoteBuilder";
import { record, type Recorder, valueOf } from "../support/mocks";
import { refusal } from "../support/refusal";
import { standInBuildkits } from "../support/standInBuildkit";
import { temporaryFolders } from "../support/temporaryFolder";
import * as pulumi from "@pulumi/pulumi";

const temporaryFolder = temporaryFolders();
const standInBuildkit = standInBuildkits();
const type = "gh200-vllm:index:RemoteBuilder";

let recorder: Recorder;
let store: string;
beforeEach(async () => {
    store = path.join(temporaryFolder(), "buildx");
    vi.stubEnv("BUILDX_CONFIG", store);
    recorder = await record();
});
afterEach(() => vi.unstubAllEnvs());

const secured = { endpoint: "tcp://10.0.0.1:1234", caCertificate: "CA", clientCertificate: "CERT", clientKey: "KEY" };

test("a builder by its facts creates nothing, and needs no Docker daemon", async () => {
    const builder = new RemoteBuilder("builder", secured);
    await recorder.settled();
    expect(recorder.registrations).toEqual([
        expect.objectContaining({ type, name: "builder", parent: "", inputs: { endpoint: "tcp://10.0.0.1:1234", encrypted: true, allowEmulation: false } }),
    ]);
    expect(fs.existsSync(store)).toBe(false);
    expect(
        await valueOf(
            pulumi.all([
                builder.name,
                builder.endpoint,
                builder.platform,
                builder.serverName,
                builder.caCertificate,
                builder.clientCertificate,
                builder.minBuildkitVersion,
                builder.allowEmulation,
            ]),
        ),
    ).toEqual(["gh200-vllm-test", "tcp://10.0.0.1:1234", "linux/arm64", "", "CA", "CERT", "0.31.0", false]);
});

test("its key is a secret, its certificates are not", async () => {
    const builder = new RemoteBuilder("builder", secured);
    expect(await pulumi.isSecret(builder.clientKey)).toBe(true);
    expect(await valueOf(pulumi.unsecret(builder.clientKey))).toBe("KEY");
    expect(await pulumi.isSecret(builder.clientCertificate)).toBe(false);
});

test("where a stack asks for it, it is a docker.BuildxBuilder too, with certificates by path", async () => {
    const builder = new RemoteBuilder("builder", { ...secured, buildxBuilderResource: true });
    await recorder.settled();
    const resource = recorder.only("docker:index/buildxBuilder:BuildxBuilder", "builder");
    expect(recorder.registrations).toHaveLength(2);
    expect(resource.parent).toBe(`${type} builder`);
    expect(resource.inputs).toEqual({
        name: "gh200-vllm-test",
        endpoint: "tcp://10.0.0.1:1234",
        remote: {
            cacert: path.join(store, "certificates/gh200-vllm-test/cacert.pem"),
            cert: path.join(store, "certificates/gh200-vllm-test/cert.pem"),
            key: path.join(store, "certificates/gh200-vllm-test/key.pem"),
        },
    });
    expect(resource.hooks).toMatchObject({ beforeCreate: ["RemoteBuilder builder/certificates"] });
    expect(await recorder.runHook("RemoteBuilder builder/certificates")).toBe("");
    expect(fs.readFileSync(path.join(store, "certificates/gh200-vllm-test/key.pem"), "utf8")).toBe("KEY");
    expect(await valueOf(builder.name)).toBe("gh200-vllm-test");
    expect(resource.ignoreChanges).toEqual(["name"]);
});

describe("its inputs are refused", () => {
    const lines = (args: object) => refusal(() => new RemoteBuilder("builder", args));

    test.each(["10.0.0.1:1234", "unix:///run/buildkit", "tcp://10.0.0.1", "https://10.0.0.1:1234", "tcp://a:1/b"])("for the endpoint %s", (endpoint) => {
        expect(lines({ endpoint })).toEqual([`builder.endpoint: ${endpoint}: is no BuildKit address; accepted: tcp://HOST:PORT`]);
    });

    test("for an unknown one, with those that there are", () => {
        expect(lines({ retries: 3 })[0]).toMatch(/^builder\.retries: is no input of this component; accepted: endpoint, name, platform, /);
    });
});

describe("the hook before a build", () => {
    async function hook(args: RemoteBuilderArgs): Promise<string> {
        const builder = new RemoteBuilder("builder", args);
        builderHook(builder, "image", builder);
        await recorder.settled();
        expect(recorder.hookNames()).toEqual(["RemoteBuilder builder/image:builder"]);
        return recorder.runHook("RemoteBuilder builder/image:builder");
    }

    test("makes a native builder known to this machine's buildx", async () => {
        const endpoint = await standInBuildkit({ version: "v0.34.2", platforms: ["linux/arm64"] });
        expect(await hook({ endpoint })).toBe("");
        const instance = JSON.parse(fs.readFileSync(path.join(store, "instances", "gh200-vllm-test"), "utf8")) as { Nodes: { Endpoint: string }[] };
        expect(instance.Nodes.map((node) => node.Endpoint)).toEqual([endpoint]);
    });

    test("under the name that the image was first built under, which the provider looks up", async () => {
        const endpoint = await standInBuildkit({ version: "v0.34.2", platforms: ["linux/arm64"] });
        const component = new RemoteBuilder("builder", { endpoint });
        builderHook(component, "image", component);
        await recorder.settled();
        expect(await recorder.runHook("RemoteBuilder builder/image:builder", undefined, { builder: { name: "gh200" } })).toBe("");
        expect(fs.readdirSync(path.join(store, "instances"))).toEqual(["gh200"]);
    });

    test("refuses one that emulates or is old, both at once", async () => {
        const endpoint = await standInBuildkit({ version: "v0.12.0", platforms: ["linux/amd64", "linux/arm64"] });
        const lines = (await hook({ endpoint })).split("\n");
        expect(lines.map((line) => line.split(";")[0])).toEqual([
            `builder.endpoint: ${endpoint}: runs BuildKit v0.12.0`,
            `builder.endpoint: ${endpoint}: runs on linux/amd64 and only emulates linux/arm64, which turns hours into days`,
        ]);
    });

    test("refuses one that does not answer, within seconds and in one line", async () => {
        const text = await hook({ endpoint: "tcp://127.0.0.1:1" });
        expect(text).toMatch(
            /^builder\.endpoint: tcp:\/\/127\.0\.0\.1:1: no BuildKit daemon answered within 4 s: nothing listens there \(.*start buildkitd there, or correct builder\.endpoint$/,
        );
    });

    test("refuses to build where there is no builder", async () => {
        expect(await hook({})).toBe("builder.endpoint: is missing; accepted: tcp://HOST:PORT of a BuildKit daemon");
        expect(fs.existsSync(store)).toBe(false);
    });
});
