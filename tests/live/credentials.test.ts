import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import bcrypt from "bcryptjs";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { ensureTools, findTool } from "../../tools/toolchain";
import { type Answer, emptyBackend, plannedChanges, ProgramCopy } from "./programCopy";

// A registry that wants a password, a BuildKit and the engine, all real; one image that copies a file. Needs root and runc.
const REGISTRY = 31_235;
const BUILDKIT = 31_236;
const MINUTE = 60_000;
const PROGRAM = `
import * as dockerBuild from "@pulumi/docker-build";
import * as pulumi from "@pulumi/pulumi";
import { RemoteBuilder } from "./components/builder/remoteBuilder";
import { imageCredentials } from "./components/image/imageCredentials";
import { BuildStage } from "./components/stages/buildStage";

const builder = new RemoteBuilder("builder", { name: "credentials", endpoint: "tcp://127.0.0.1:${BUILDKIT}", platform: "linux/${process.arch === "x64" ? "amd64" : process.arch}" });
const password = new pulumi.Config().requireSecret("password");
const builds = new dockerBuild.Provider("builds", {}, { ignoreChanges: ["host", "registries"] });
new BuildStage(
    "stage",
    { builder, dockerfile: "stage/Dockerfile", target: "stage", repository: "localhost:${REGISTRY}/stages", registryCache: false },
    { providers: [builds], transformations: imageCredentials({ address: "localhost:${REGISTRY}", username: "pusher", password }) },
);
`;
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-credentials-"));
const inFolder = (name: string) => path.join(folder, name);
const daemons: ChildProcess[] = [];
let backend: Awaited<ReturnType<typeof emptyBackend>>;
let program: ProgramCopy;

/** A daemon is ready when it says so. */
async function start(file: string, args: string[], ready: string): Promise<ChildProcess> {
    const daemon = spawn(file, args, { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, OTEL_TRACES_EXPORTER: "none" } });
    daemons.push(daemon);
    let log = "";
    daemon.stderr?.on("data", (chunk: Buffer) => (log += chunk.toString()));
    await vi.waitUntil(() => log.includes(ready), { timeout: 30_000 });
    return daemon;
}

async function end(daemon: ChildProcess): Promise<void> {
    const ended = new Promise((resolve) => daemon.once("close", resolve));
    daemon.kill();
    await ended;
}

async function startRegistry(password: string): Promise<ChildProcess> {
    fs.writeFileSync(inFolder("htpasswd"), `pusher:${bcrypt.hashSync(password, 4)}\n`);
    fs.writeFileSync(
        inFolder("registry.yml"),
        JSON.stringify({
            version: "0.1",
            storage: { filesystem: { rootdirectory: inFolder("registry") } },
            auth: { htpasswd: { realm: "test", path: inFolder("htpasswd") } },
            http: { addr: `127.0.0.1:${REGISTRY}` },
        }),
    );
    return start(findTool("registry")!.path, ["serve", inFolder("registry.yml")], "listening on");
}

const setPassword = (password: string) => program.pulumi(["config", "set", "--stack", "test", "--secret", "password", password]);
const up = () => program.pulumi(["up", "--yes", "--skip-preview", "--stack", "test"]);
const passed = ({ status, output }: Answer) => expect(status, output).toBe(0);

beforeAll(async () => {
    await ensureTools(["registry", "buildkitd"]);
    fs.writeFileSync(
        inFolder("buildkitd.toml"),
        `root = "${inFolder("buildkit")}"\n[grpc]\n  address = ["tcp://127.0.0.1:${BUILDKIT}"]\n[worker.containerd]\n  enabled = false\n`,
    );
    await start(findTool("buildkitd")!.path, ["--config", inFolder("buildkitd.toml")], "running server on");
    backend = await emptyBackend();
    program = new ProgramCopy({ ...backend.env, BUILDX_CONFIG: inFolder("buildx"), DOCKER_CONFIG: inFolder("docker") });
    fs.writeFileSync(path.join(program.folder, "index.ts"), PROGRAM);
    fs.mkdirSync(path.join(program.folder, "stage"));
    fs.writeFileSync(path.join(program.folder, "stage/Dockerfile"), "FROM scratch AS stage\nCOPY file /\n");
    fs.writeFileSync(path.join(program.folder, "stage/file"), "one");
    passed(await program.pulumi(["stack", "init", "test"]));
}, 10 * MINUTE);

afterAll(async () => {
    await Promise.all(daemons.filter(({ exitCode, signalCode }) => exitCode === null && signalCode === null).map(end));
    program?.remove();
    backend?.remove();
    fs.rmSync(folder, { recursive: true, force: true });
});

test(
    "an image is pushed with its own credentials, a rotated password builds nothing again, and the next build has it",
    async () => {
        const before = await startRegistry("first password");
        await setPassword("wrong");
        const refused = await up();
        expect(refused.status).not.toBe(0);
        expect(refused.output).toMatch(/401|unauthorized/i);
        await setPassword("first password");
        passed(await up());

        await end(before);
        await startRegistry("second password");
        await setPassword("second password");
        const preview = await program.pulumi(["preview", "--json", "--stack", "test"]);
        passed(preview);
        expect(plannedChanges(preview.output.slice(preview.output.indexOf("{")))).toEqual({});

        fs.writeFileSync(path.join(program.folder, "stage/file"), "two");
        passed(await up());
        const state = await program.pulumi(["stack", "export", "--stack", "test"]);
        expect(state.output).toContain("docker-build:index:Image");
        expect(state.output).not.toMatch(/first password|second password/);
    },
    5 * MINUTE,
);
