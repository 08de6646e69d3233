import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import * as yaml from "yaml";
import { findTool, sandboxState } from "../../tools/toolchain";
import type { Answer } from "./programCopy";
import type { LiveSandbox } from "./liveSandbox";
import { repositoryRoot } from "../support/stackFile";

/** `docker buildx` as a person types it, against a sandbox's BuildKit and registry, without Pulumi. */
export class PlainBuildx {
    private readonly home = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-buildx-"));
    readonly base: string;

    constructor(sandbox: LiveSandbox) {
        const { config } = yaml.parse(fs.readFileSync(sandboxState(sandbox.folder).stackConfig, "utf8")) as {
            config: { "gh200-vllm:image": { base: { name: string; digest: string } } };
        };
        const { name, digest } = config["gh200-vllm:image"].base;
        this.base = `${name.replace(/:[^:/]+$/, "")}@${digest}`;
        const { registry, builder } = sandbox.facts;
        const auth = Buffer.from(`${registry.username}:${sandbox.password()}`).toString("base64");
        fs.writeFileSync(path.join(this.home, "config.json"), JSON.stringify({ auths: { [registry.address]: { auth } } }));
        const options = { cacert: builder.caFile, cert: builder.certFile, key: builder.keyFile, servername: builder.serverName };
        const flags = Object.entries(options).map(([key, value]) => `--driver-opt=${key}=${value}`);
        const made = this.run(["create", "--name=plain", "--driver=remote", ...flags, builder.endpoint]);
        if (made.status !== 0) {
            throw new Error(made.output);
        }
    }

    run(args: string[]): Answer {
        const { status, stdout, stderr } = spawnSync(findTool("buildx")?.path ?? "docker-buildx", args, {
            cwd: repositoryRoot,
            env: { ...process.env, BUILDX_CONFIG: path.join(this.home, "buildx"), DOCKER_CONFIG: this.home, BUILDX_BUILDER: "plain" },
            encoding: "utf8",
            maxBuffer: 2 ** 28,
        });
        return { status, output: `${stdout}${stderr}` };
    }

    /** A build of the folder's Dockerfile as its head documents it, with the sandbox's stand-ins for base, sources and packages. */
    build(target: string, args: string[] = [], folder = "assets/vllm"): Answer {
        const requirements = { locks: "sandbox/wheelhouse/locks", wheelhouse: "sandbox/wheelhouse/wheels" };
        const sources = fs.readdirSync(path.join(repositoryRoot, "sandbox/sources")).map((name) => [`src-${name}`, `sandbox/sources/${name}`]);
        const contexts = [...Object.entries(requirements), ...sources].map(([name, location]) => `--build-context=${name}=${location}`);
        return this.run([
            "build",
            "--progress=plain",
            "--platform=linux/arm64",
            `--target=${target}`,
            `--build-arg=BASE_IMAGE=${this.base}`,
            ...contexts,
            ...args,
            folder,
        ]);
    }

    remove(): void {
        fs.rmSync(this.home, { recursive: true, force: true });
    }
}
