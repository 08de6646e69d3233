import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { stageTable } from "../../components/stages/table";
import { emptyBackend } from "../live/programCopy";
import { packPackage, temporaryFolder } from "../package/installPackage";
import { Consumer } from "./consumer";

// What a YAML program reads of components that run in the plug-in, without builder, registry or cluster.
const MINUTE = 60_000;

let backend: Awaited<ReturnType<typeof emptyBackend>>;
let folder: string;
let consumer: Consumer;
beforeAll(async () => {
    backend = await emptyBackend();
    folder = temporaryFolder();
    consumer = await Consumer.of(
        path.join(folder, "program"),
        { ...backend.env, HOME: process.env.HOME, DOCKER_CONFIG: folder, BUILDX_CONFIG: path.join(folder, "buildx") },
        "pulumi-language-yaml",
    );
    fs.cpSync(path.join(__dirname, "served"), consumer.folder, { recursive: true });
    const unpacked = consumer.shell(
        `mkdir gh200-vllm; tar xzf ${packPackage(folder)} --strip-components=1 -C gh200-vllm; npm install --prefix gh200-vllm --omit=dev; pulumi stack init dev`,
    );
    expect(unpacked.status, unpacked.output).toBe(0);
}, 15 * MINUTE);
afterAll(() => {
    backend?.remove();
    fs.rmSync(folder, { recursive: true, force: true });
}, MINUTE);

test(
    "a hook of an image runs in the plug-in: a builder that does not answer is refused in one line, before the build",
    () => {
        const values = {
            endpoint: "tcp://127.0.0.1:9",
            serverName: "",
            caCertificate: "",
            clientCertificate: "",
            repository: "localhost:9/team/served",
            base: `localhost:9/base@sha256:${"1".repeat(64)}`,
        };
        consumer.pulumi(
            "config",
            "set-all",
            ...Object.entries(values).flatMap(([key, value]) => ["--plaintext", `${key}=${value}`]),
            "--secret",
            "clientKey=key",
        );
        const { status, output } = consumer.pulumi("up", "--yes", "--skip-preview");
        expect(status).not.toBe(0);
        expect(output).toMatch(
            /error: before hook "BuildStage served\/served:builder" failed: builder\.endpoint: tcp:\/\/127\.0\.0\.1:9: no BuildKit daemon answered within 4 s/,
        );
        // The same hook made the builder known to buildx.
        expect(fs.readdirSync(path.join(folder, "buildx", "instances"))).toEqual(["served"]);
    },
    2 * MINUTE,
);

/** A program of this one resource. */
function program(type: string, properties: object): void {
    const text = {
        name: "served",
        runtime: "yaml",
        packages: { "gh200-vllm": "./gh200-vllm" },
        resources: { own: { type: `gh200-vllm:${type}`, properties } },
    };
    fs.writeFileSync(path.join(consumer.folder, "Pulumi.yaml"), JSON.stringify(text));
}

test(
    "a wrong input is refused in one line, with its path",
    () => {
        program("Gh200Node", { egmEnabled: false, coherentMode: "driver", egmReservedMiB: 4096 });
        const { status, output } = consumer.pulumi("preview");
        expect(status).not.toBe(0);
        expect(output).toContain(
            "error: gh200-vllm:index:Gh200Node resource 'own' has a problem: node.egmReservedMiB: 4096: is refused; accepted: 8192, the only reserved value that works\n",
        );
        expect(output).not.toMatch(/^ +at /m);
    },
    2 * MINUTE,
);

test(
    "the whole platform previews, and an update of it says what is open by the component's own names",
    () => {
        const [registry, stages, node] = [
            { address: "registry.example.com/team" },
            { builderMemoryGiB: 101, builderCores: 72 },
            { egmEnabled: false, coherentMode: "driver" },
        ];
        program("CmmPlatform", { registry, stages, node, serving: { model: "Qwen/Qwen2.5-7B-Instruct" } });
        const preview = consumer.pulumi("preview");
        expect(preview.status, preview.output).toBe(0);
        expect(preview.output).toMatch(/kubernetes:apps\/v1:Deployment +own-vllm +create/);
        const { status, output } = consumer.pulumi("up", "--yes", "--skip-preview");
        expect(status).not.toBe(0);
        expect(output).toContain(
            "builder.endpoint: is unset, so there is no builder; accepted: tcp://HOST:PORT of a BuildKit daemon on the GH200; set builder.endpoint to tcp://HOST:PORT\n",
        );
        expect(output).toContain("image.base: nvcr.io/nvidia/pytorch:26.03-py3: is unpinned; accepted: a digest; set image.base.digest to sha256:DIGEST\n");
        expect(output).not.toMatch(/gh200-vllm:(builder|image|sources)/);
    },
    3 * MINUTE,
);

test(
    "an output within a group of inputs reaches what is made: a registry's address, and a build argument of a stage",
    () => {
        fs.cpSync(path.join(__dirname, "built"), path.join(consumer.folder, "built"), { recursive: true });
        const { status, output } = consumer.shell("cd built; pulumi stack init dev; pulumi preview --diff --non-interactive");
        expect(status, output).toBe(0);
        expect(output).toMatch(/WHOSE\s*: "team"/);
        const tags = [...output.matchAll(/\[0\]: "registry\.example\.com\/team\/gh200-vllm-cmm-stages:(build-[a-z-]+)-[0-9a-f]{12}"/g)].map(
            ([, stage]) => stage,
        );
        expect(tags).toEqual([...stageTable.map(({ target }) => target), "build-plugin", "build-managed-alloc"]);
    },
    2 * MINUTE,
);
