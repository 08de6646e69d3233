import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { builtImages, LiveSandbox, summary } from "../live/liveSandbox";
import { type Answer, emptyBackend } from "../live/programCopy";
import { packPackage, temporaryFolder } from "../package/installPackage";
import { repositoryRoot } from "../support/stackFile";
import { Consumer } from "./consumer";

// One sandbox for the whole file, and its tests in order: its one GPU serves one program at a time. What is deployed is a
// stand-in for a vLLM image, built by the first test.
const MINUTE = 60_000;
/** A GH200 scaled down to the sandbox's node; as Pulumi.sandbox.yaml has it. */
const NODE = { hbmMiB: 1024, hbmReservedMiB: 64, lpddrGiB: 8, managedGiB: 2, hostProcessMiB: 1024, shmMiB: 64, headroomMiB: 256 };
/** Python starts slowly under emulation, and what is to fail shall fail soon. */
const SERVING = { cpus: 1, warmupSeconds: 40, shutdownSeconds: 5 };

let sandbox: LiveSandbox;
let backend: Awaited<ReturnType<typeof emptyBackend>>;
let folder: string;
let archive: string;
let builds: Consumer;
let served: string;

beforeAll(async () => {
    sandbox = new LiveSandbox(process.env.GH200_TEST_SANDBOX);
    sandbox.start();
    backend = await emptyBackend();
    folder = temporaryFolder();
    archive = packPackage(folder);
    const { address, username } = sandbox.facts.registry;
    const auth = Buffer.from(`${username}:${sandbox.password()}`).toString("base64");
    fs.writeFileSync(path.join(folder, "config.json"), JSON.stringify({ auths: { [address]: { auth } } }));
}, 60 * MINUTE);
afterAll(() => {
    // A sandbox that was given is left as it is.
    process.env.GH200_TEST_SANDBOX === undefined ? sandbox?.down() : sandbox?.forget();
    backend?.remove();
    fs.rmSync(folder, { recursive: true, force: true });
}, 5 * MINUTE);

/** Somebody with the sandbox's kubeconfig who is logged in to its registry. */
function person(name: string): Promise<Consumer> {
    const env = {
        ...backend.env,
        HOME: process.env.HOME,
        DOCKER_CONFIG: folder,
        BUILDX_CONFIG: path.join(folder, `buildx-${name}`),
        KUBECONFIG: path.join(sandbox.folder, "kubeconfig"),
    };
    return Consumer.of(path.join(folder, name), env, "pulumi-language-yaml");
}

function ok(answer: Answer): Answer {
    expect(answer.status, answer.output.slice(-6000)).toBe(0);
    return answer;
}

const plugIn = () =>
    `mkdir gh200-vllm; tar xzf ${archive} --strip-components=1 -C gh200-vllm; npm install --prefix gh200-vllm --omit=dev; pulumi stack init dev`;
const up = (consumer: Consumer) => consumer.pulumi("up", "--yes", "--skip-preview");
const output = (consumer: Consumer, name: string) => ok(consumer.pulumi("stack", "output", name)).output.trim();

function configure(consumer: Consumer, plain: Record<string, string>, secret: Record<string, string>): void {
    const pairs = (kind: string, values: Record<string, string>) => Object.entries(values).flatMap(([key, value]) => [kind, `${key}=${value}`]);
    ok(consumer.pulumi("config", "set-all", ...pairs("--plaintext", plain), ...pairs("--secret", secret)));
}

function builderConfig(): { plain: Record<string, string>; secret: Record<string, string> } {
    const { endpoint, serverName, caFile, certFile, keyFile } = sandbox.facts.builder;
    const read = (file: string) => fs.readFileSync(file, "utf8");
    return { plain: { endpoint, serverName, caCertificate: read(caFile), clientCertificate: read(certFile) }, secret: { clientKey: read(keyFile) } };
}

const base = () => (JSON.parse(fs.readFileSync(path.join(sandbox.folder, "sandbox.json"), "utf8")) as { base: { image: string } }).base.image;

/** Image and readiness of the pods that the cluster runs. */
function pods(): [string, boolean][] {
    const list = JSON.parse(sandbox.kubectl("get", "pods", "--namespace=vllm", "--output=json")) as {
        items: { spec: { containers: { image: string }[] }; status: { containerStatuses?: { ready: boolean }[] } }[];
    };
    return list.items.map(({ spec, status }) => [spec.containers[0]!.image, status.containerStatuses?.[0]?.ready ?? false]);
}

describe("BuildStage from YAML", () => {
    test(
        "builds, because the hook in the plug-in made the builder known to buildx",
        async () => {
            builds = await person("served");
            fs.cpSync(path.join(__dirname, "served"), builds.folder, { recursive: true });
            ok(builds.shell(plugIn()));
            const { plain, secret } = builderConfig();
            configure(builds, { ...plain, repository: `${sandbox.facts.registry.address}/vllm/served`, base: base() }, secret);
            const { output: said } = ok(up(builds));
            expect(builtImages(said)).toEqual(["served"]);
            expect(fs.readdirSync(path.join(folder, "buildx-served", "instances"))).toEqual(["served"]);
            served = output(builds, "imageRef");
            expect(served).toMatch(/\/vllm\/served@sha256:[0-9a-f]{64}$/);
        },
        15 * MINUTE,
    );

    test(
        "reports a build that fails, with the end of its log, and retries nothing",
        () => {
            builds.edit("Dockerfile", "ENTRYPOINT", "RUN echo planted by the test >&2; exit 3\nENTRYPOINT");
            const before = sandbox.buildRefs().length;
            const { status, output: said } = up(builds);
            expect(status).not.toBe(0);
            expect(said).toContain("planted by the test");
            expect(said).toContain("This report: ");
            expect(sandbox.buildRefs().length - before).toBe(1);
        },
        10 * MINUTE,
    );
});

describe.each<[string, string, (consumer: Consumer) => void]>([
    [
        "bring-your-own-image",
        "TypeScript",
        (consumer) => {
            ok(consumer.shell(`npm install ${archive} && pulumi stack init dev`));
            consumer.edit("index.ts", "coherentMode: CoherentMode.Driver,", `coherentMode: CoherentMode.Driver, ...${JSON.stringify(NODE)},`);
            consumer.edit("index.ts", "placement: Placement.Off,", `placement: Placement.Off, ...${JSON.stringify(SERVING)},`);
        },
    ],
    [
        "yaml",
        "YAML",
        (consumer) => {
            const lines = (values: object) =>
                Object.entries(values)
                    .map(([key, value]) => `\n      ${key}: ${value}`)
                    .join("");
            ok(consumer.shell(plugIn()));
            consumer.edit("Pulumi.yaml", "coherentMode: driver", `coherentMode: driver${lines(NODE)}`);
            consumer.edit("Pulumi.yaml", 'placement: "off"', `placement: "off"${lines(SERVING)}`);
        },
    ],
])("examples/%s, in %s", (example, _, prepare) => {
    let consumer: Consumer;

    test(
        "deploys the image, and the pod is Ready",
        async () => {
            consumer = await person(example);
            fs.cpSync(path.join(repositoryRoot, "examples", example), consumer.folder, { recursive: true });
            prepare(consumer);
            const { address, username } = sandbox.facts.registry;
            configure(consumer, { image: served, model: "stand-in/echo", registryHost: address, pullUsername: username }, { pullPassword: sandbox.password() });
            expect(summary(ok(up(consumer)).output)).toEqual({ created: 10 });
            expect(pods()).toEqual([[served, true]]);
            expect(output(consumer, "endpoint")).toBe("http://vllm.vllm.svc:8000");
        },
        15 * MINUTE,
    );

    test(
        "ends an update to an image that is not there with its cause",
        () => {
            const absent = `${served.split("@")[0]}@sha256:${"1".repeat(64)}`;
            configure(consumer, { image: absent }, {});
            const { status, output: said } = up(consumer);
            expect(status).not.toBe(0);
            expect(said).toContain(`image ${absent} cannot be pulled: the registry has no such digest`);
        },
        10 * MINUTE,
    );

    test(
        "is taken down",
        () => {
            ok(consumer.pulumi("destroy", "--yes", "--skip-preview"));
            expect(sandbox.kubectl("get", "namespaces", "--output=name").split("\n")).not.toContain("namespace/vllm");
        },
        5 * MINUTE,
    );
});

describe("examples/foreign-dockerfile", () => {
    let consumer: Consumer;

    test(
        "stops at the stage that does not compile and keeps the one before",
        async () => {
            consumer = await person("foreign-dockerfile");
            fs.cpSync(path.join(repositoryRoot, "examples", "foreign-dockerfile"), consumer.folder, { recursive: true });
            ok(consumer.shell(`npm install ${archive} && pulumi stack init dev`));
            const { plain, secret } = builderConfig();
            configure(consumer, { ...plain, allowEmulation: "true", repository: `${sandbox.facts.registry.address}/vllm/foreign` }, secret);
            ok(consumer.pulumi("config", "set-all", "--path", "--plaintext", `buildArgs.COMPILER=${base()}`, "--plaintext", `buildArgs.RUNTIME=${base()}`));
            consumer.edit("program/greet.c", "#include <stdio.h>", "#include <stdio.h>\n#error planted by the test");
            const { status, output: said } = up(consumer);
            expect(status).not.toBe(0);
            expect(builtImages(said)).toEqual(["library"]);
            expect(said).toContain("#error planted by the test");
            expect(said).not.toMatch(/Image app creat/);
        },
        10 * MINUTE,
    );

    test(
        "starts there once it is mended",
        () => {
            consumer.edit("program/greet.c", "\n#error planted by the test", "");
            const { output: said } = ok(up(consumer));
            expect(builtImages(said)).toEqual(["program", "app"]);
            expect(output(consumer, "imageRef")).toMatch(/\/vllm\/foreign@sha256:[0-9a-f]{64}$/);
        },
        10 * MINUTE,
    );

    test(
        "builds neither again where nothing changed, and the last two where the program did",
        () => {
            expect(builtImages(ok(up(consumer)).output)).toEqual([]);
            consumer.edit("program/greet.c", "puts(greeting())", 'puts("and") < 0 || puts(greeting())');
            expect(builtImages(ok(up(consumer)).output)).toEqual(["program", "app"]);
        },
        10 * MINUTE,
    );
});
