import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as https from "node:https";
import * as os from "node:os";
import * as path from "node:path";
import * as yaml from "yaml";
import { clearStaleLocks } from "../../tools/staleLock";
import { ensureTools, findTool, pulumiEnvironment, sandboxState } from "../../tools/toolchain";
import { labelledImage } from "../support/labelledImage";
import { type Answer, copyProgram, ProgramCopy } from "./programCopy";

const CHECKOUT = path.resolve(__dirname, "../..");
const STACK = "sandbox";
const manifestType = "application/vnd.oci.image.manifest.v1+json";

/** What sandbox/main.ts writes of a sandbox. */
export interface SandboxFacts {
    registry: { address: string; username: string; passwordFile: string; caFile: string };
    builder: { endpoint: string; caFile: string; certFile: string; keyFile: string; serverName: string };
}

/** A sandbox of this test run's own, and a copy of the program that deploys to it. */
export class LiveSandbox {
    facts!: SandboxFacts;
    /** What every machine of this run checks out, whatever happens to the real checkout meanwhile. */
    private readonly checkout = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-checkout-"));
    private copies: ProgramCopy[] = [];
    private homes: string[] = [];

    constructor(readonly folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-sandbox-"))) {}

    /** Starts the daemons without an update; also the repair after one was killed. */
    start(...options: string[]): void {
        // Other runs' clean-up of the temporary folder may have taken it.
        if (!fs.existsSync(this.checkout) || fs.readdirSync(this.checkout).length === 0) {
            copyProgram(CHECKOUT, this.checkout);
        }
        this.main("up", "--no-up", ...options);
        this.facts = JSON.parse(fs.readFileSync(path.join(this.folder, "sandbox.json"), "utf8")) as SandboxFacts;
    }

    /** A checkout on a machine of its own: another path, home, umask and buildx store; the same state. */
    async machine(): Promise<Machine> {
        // The sandbox itself does without it.
        await ensureTools(["buildctl"]);
        const home = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-home-"));
        const env = {
            ...(await pulumiEnvironment(this.folder)),
            HOME: home,
            BUILDX_CONFIG: path.join(home, "buildx"),
            DOCKER_CONFIG: path.join(home, "docker"),
        };
        const copy = new ProgramCopy(env, this.checkout);
        this.copies.push(copy);
        this.homes.push(home);
        return new Machine(copy, home, sandboxState(this.folder).stackConfig);
    }

    kubectlPath(): string {
        return findTool("kubectl")?.path ?? "kubectl";
    }

    /** What requests to the server's /v1 must carry. */
    apiKey(secret = "gh200-vllm-api-key", namespace = "vllm"): string {
        return Buffer.from(this.kubectl("get", "secret", secret, `--namespace=${namespace}`, "--output=jsonpath={.data.api-key}"), "base64").toString();
    }

    kubectl(...args: string[]): string {
        return execFileSync(this.kubectlPath(), args, {
            encoding: "utf8",
            env: { ...process.env, KUBECONFIG: path.join(this.folder, "kubeconfig") },
        });
    }

    buildctl(...args: string[]): string {
        const { endpoint, caFile, certFile, keyFile, serverName } = this.facts.builder;
        const tls = ["--addr", endpoint, "--tlscacert", caFile, "--tlscert", certFile, "--tlskey", keyFile, "--tlsservername", serverName];
        return execFileSync(findTool("buildctl")?.path ?? "buildctl", [...tls, ...args], { encoding: "utf8", maxBuffer: 2 ** 28 });
    }

    /** What a user's `npm run pulumi` does before each command. */
    clearLocks(): void {
        clearStaleLocks(sandboxState(this.folder).backend);
    }

    /** References of all builds that BuildKit remembers. */
    buildRefs(): string[] {
        return this.buildctl("debug", "histories")
            .split("\n")
            .map(
                (line) =>
                    line
                        .trim()
                        .split(/\s+/)
                        .find((word) => /^[a-z0-9]{20,}$/.test(word)) ?? "",
            )
            .filter((ref) => ref !== "");
    }

    /** GET from the registry with its own CA and the sandbox's user. */
    registryGet(url: string): Promise<Response> {
        const { address, username, caFile } = this.facts.registry;
        return new Promise((resolve, reject) => {
            const options = {
                ca: fs.readFileSync(caFile),
                auth: `${username}:${this.password()}`,
                headers: { accept: manifestType },
            };
            https
                .get(`https://${address}${url}`, options, (answer) => {
                    const chunks: Buffer[] = [];
                    answer.on("data", (chunk: Buffer) => chunks.push(chunk));
                    answer.on("end", () =>
                        resolve(new Response(Buffer.concat(chunks), { status: answer.statusCode, headers: answer.headers as Record<string, string> })),
                    );
                })
                .on("error", reject);
        });
    }

    /** Moves a tag, `REGISTRY/NAMESPACE/REPOSITORY:TAG`, to some manifest of its own repository with other bytes, as a person with docker could. */
    async retag(reference: string): Promise<void> {
        const { address } = this.facts.registry;
        const [, repository = "", tag = ""] = /^(.+):([^:]+)$/.exec(reference.slice(address.length + 1)) ?? [];
        const manifest = await (await this.registryGet(`/v2/${repository}/manifests/${tag}`)).text();
        const type = (JSON.parse(manifest) as { mediaType?: string }).mediaType ?? manifestType;
        // The same image in other bytes has another digest.
        await this.send("PUT", `/v2/${repository}/manifests/${tag}`, type, `${manifest}\n`);
    }

    /** Pushes an image that an update may adopt and no pod can run; `REPOSITORY@DIGEST`. */
    async pushLabelled(): Promise<string> {
        const { digest, manifest, manifestType: type, config, configDigest } = labelledImage();
        const [repository, bytes] = ["vllm/labelled", "application/octet-stream"];
        const { address } = this.facts.registry;
        const place = new URL(await this.send("POST", `/v2/${repository}/blobs/uploads/`, bytes, ""), `https://${address}`);
        place.searchParams.set("digest", configDigest);
        await this.send("PUT", `${place.pathname}${place.search}`, bytes, config);
        await this.send("PUT", `/v2/${repository}/manifests/${digest}`, type, manifest);
        return `${address}/${repository}@${digest}`;
    }

    /** A request to the registry with its own CA and the sandbox's user; the answer's location. */
    private send(method: string, url: string, type: string, body: string): Promise<string> {
        const { address, username, caFile } = this.facts.registry;
        const headers = { "content-type": type, "content-length": Buffer.byteLength(body) };
        const options = { method, ca: fs.readFileSync(caFile), auth: `${username}:${this.password()}`, headers };
        return new Promise((resolve, reject) => {
            const request = https.request(`https://${address}${url}`, options, (answer) => {
                const { statusCode = 0, headers: told } = answer;
                answer
                    .resume()
                    .on("end", () =>
                        statusCode === 201 || statusCode === 202 ? resolve(told.location ?? "") : reject(new Error(`${method} answered ${statusCode}`)),
                    );
            });
            request.on("error", reject);
            request.end(body);
        });
    }

    /** A file of this run; its path. */
    write(name: string, text: string): string {
        const file = path.join(this.folder, name);
        fs.writeFileSync(file, text);
        return file;
    }

    log(name: string): string {
        return fs.readFileSync(path.join(this.folder, "logs", `${name}.log`), "utf8");
    }

    /** The newest state of the stack as it lies on disk. */
    stateText(): string {
        const stacks = path.join(sandboxState(this.folder).folder, ".pulumi", "stacks", "gh200-vllm");
        return fs.readFileSync(path.join(stacks, `${STACK}.json`), "utf8");
    }

    password(): string {
        return fs.readFileSync(this.facts.registry.passwordFile, "utf8").trim();
    }

    /** Removes the sandbox and all that this run made. */
    down(): void {
        this.forget();
        this.main("down");
    }

    /** Removes the checkouts of this run, and leaves the sandbox as it is. */
    forget(): void {
        for (const copy of this.copies) {
            copy.remove();
        }
        for (const folder of [this.checkout, ...this.homes]) {
            fs.rmSync(folder, { recursive: true, force: true });
        }
    }

    private main(...args: string[]): void {
        const tsx = path.join(CHECKOUT, "node_modules", ".bin", "tsx");
        const result = spawnSync(tsx, ["sandbox/main.ts", ...args, "--dir", this.folder], { cwd: CHECKOUT, encoding: "utf8" });
        if (result.status !== 0) {
            throw new Error(`sandbox ${args.join(" ")}: ${result.stdout}${result.stderr}`);
        }
    }
}

/** The program as one person's machine has it. */
export class Machine {
    constructor(
        readonly program: ProgramCopy,
        readonly home: string,
        readonly stackConfig: string,
    ) {}

    up(...args: string[]): Promise<Answer> {
        return this.program.pulumi(["up", "--yes", "--skip-preview", ...this.stack(), ...args]);
    }

    startUp(...args: string[]): ReturnType<ProgramCopy["start"]> {
        return this.program.start(["up", "--yes", "--skip-preview", ...this.stack(), ...args]);
    }

    async preview(): Promise<string> {
        const { output } = await this.program.pulumi(["preview", "--json", ...this.stack()]);
        return output.slice(output.indexOf("{"));
    }

    async outputs(): Promise<Record<string, unknown>> {
        const { output } = await this.program.pulumi(["stack", "output", "--json", "--stack", STACK]);
        return JSON.parse(output) as Record<string, unknown>;
    }

    /** The stack's state with its secrets in plain text. */
    async exportState(): Promise<string> {
        const { output } = await this.program.pulumi(["stack", "export", "--stack", STACK, "--show-secrets"]);
        return output.slice(output.indexOf("{"));
    }

    /** An update of another stack of the same configuration, with further arguments. */
    buildOnly(stack: string, args: string[]): Promise<Answer> {
        return this.program.pulumi(["up", "--yes", "--skip-preview", "--stack", stack, "--config-file", path.join(this.home, "stack.yaml"), ...args]);
    }

    destroy(): Promise<Answer> {
        return this.program.pulumi(["destroy", "--yes", "--skip-preview", ...this.stack()]);
    }

    /** A copy of the stack's configuration with `change` applied, for an update that should be refused. */
    configWith(change: (text: string) => string): string {
        const file = path.join(this.home, "Pulumi.sandbox.yaml");
        const before = fs.readFileSync(this.stackConfig, "utf8");
        const after = change(before);
        if (after === before) {
            throw new Error("the change of the configuration changed nothing");
        }
        fs.writeFileSync(file, after);
        return file;
    }

    /** A copy of the stack's configuration as `change` leaves it; keys as in the file, secrets as they are. */
    configOf(change: (config: Record<string, Record<string, unknown>>) => void): string {
        const file = path.join(this.home, "Pulumi.sandbox.yaml");
        const whole = yaml.parse(fs.readFileSync(this.stackConfig, "utf8")) as { config: Record<string, Record<string, unknown>> };
        change(whole.config);
        fs.writeFileSync(file, yaml.stringify(whole));
        return file;
    }

    upWith(configFile: string, ...more: string[]): Promise<Answer> {
        return this.program.pulumi(["up", "--yes", "--skip-preview", "--stack", STACK, "--config-file", configFile, ...more]);
    }

    private stack(): string[] {
        return ["--stack", STACK, "--config-file", this.stackConfig];
    }
}

/** `updated`, `created` ... resources of an update's closing summary, e.g. `{ updated: 3, unchanged: 30 }`. */
export function summary(output: string): Record<string, number> {
    const block = output.slice(output.lastIndexOf("Resources:"));
    return Object.fromEntries([...block.matchAll(/(\d+) (created|updated|deleted|unchanged|replaced|errored)/g)].map((match) => [match[2], Number(match[1])]));
}

/** Images that an update built, in the order in which they were finished. */
export function builtImages(output: string): string[] {
    // The line may be printed again when a late line of the log follows it.
    return [...new Set([...output.matchAll(/docker-build:index:Image (\S+) (?:created|updated) \(/g)].map((match) => match[1] ?? ""))];
}
