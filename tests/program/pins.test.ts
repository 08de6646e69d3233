import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as https from "node:https";
import * as os from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { layoutOf, createFolders } from "../../sandbox/layout";
import { prepareRegistry, type Registry } from "../../sandbox/registry";
import { ensureTools } from "../../tools/toolchain";
import { defaultSources } from "../../components/stages/sources";
import { GitServer, TestRepository } from "../support/gitServer";
import { repositoryRoot } from "../support/stackFile";

/* `npm run pins` against git's own server and Distribution's registry, both on loopback. */
const folder = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "gh200-pins-test-")));
const sources = Object.keys(defaultSources);
let server: GitServer;
let registry: Registry & { stop: () => void };
let repositories: Record<string, TestRepository>;
let root: string;
let armDigest: string;

beforeAll(async () => {
    repositories = Object.fromEntries(sources.map((name) => [name, new TestRepository(path.join(folder, "git", `${name}.git`), { "README.md": `${name}\n` })]));
    root = repositories["src-vllm"]!.git("rev-parse", "HEAD");
    for (const repository of Object.values(repositories)) {
        repository.git("tag", "--annotate", "--message=release", "v1");
        repository.commit({ later: "commit\n" });
        repository.push();
    }
    server = await GitServer.start(path.join(folder, "git"));
    registry = await startRegistry();
    armDigest = await pushIndex();
}, 120_000);

afterAll(async () => {
    await server?.close();
    registry?.stop();
    fs.rmSync(folder, { recursive: true, force: true });
});

describe("npm run pins", () => {
    test("resolves tags to the commits that they name, branches to their newest, and the base to its arm64 manifest", async () => {
        const { output, status, stack } = await pins(stackWith());
        expect(status, output).toBe(0);
        const head = repositories["src-vllm"]!.git("rev-parse", "main");
        expect(output).toContain(`branch resolves to ${head}; ${root.slice(0, 9)} is in its history`);
        expect(output).toContain("nothing is changed");
        expect(stack.before).toBe(stack.after);
        // A diff that patch(1) or a reviewer can read.
        expect(output).toMatch(/^\+ +commit: [0-9a-f]{40}$/m);
        expect(output).toMatch(new RegExp(`^\\+ +digest: ${armDigest}$`, "m"));
    }, 60_000);

    test("with --write changes the stack file, whose comments stay; a second run finds nothing to do", async () => {
        const text = stackWith();
        const first = await pins(text, "--write");
        const written = parse(first.stack.after) as { config: Record<string, Record<string, { commit?: string; digest?: string }>> };
        for (const name of sources) {
            const wanted = repositories[name]!.git("rev-parse", name === "src-vllm" ? "main" : "v1^{commit}");
            expect(written.config["gh200-vllm:sources"]![name]!.commit, name).toBe(wanted);
        }
        expect(written.config["gh200-vllm:image"]!.base!.digest).toBe(armDigest);
        expect(first.stack.after).toContain("# a comment that stays");
        const second = await pins(first.stack.after, "--write");
        expect(second.output).toContain("Pulumi.test.yaml stays as it is");
        expect(second.status).toBe(0);
    }, 60_000);

    test("a branch that has moved is said, and followed only where it is named", async () => {
        const pinned = root;
        const text = stackWith({ "src-vllm": pinned });
        const newest = repositories["src-vllm"]!.git("rev-parse", "main");
        const still = await pins(text);
        expect(still.output).toContain(`is pinned to ${pinned}; ${root.slice(0, 9)} is in its history; the branch is at ${newest} now`);
        const followed = await pins(text, "--follow", "src-vllm", "--write");
        expect(followed.stack.after).toContain(newest);
    }, 60_000);

    test("a tag that names another commit now is an open point, and its pin stays", async () => {
        const other = repositories["src-triton"]!.git("rev-parse", "main");
        const { output, status, stack } = await pins(stackWith({ "src-triton": other }), "--write");
        expect(status).toBe(1);
        expect(output).toMatch(/^OPEN src-triton/m);
        expect(output).toContain(`but ${other} is pinned`);
        expect(stack.after).toContain(`commit: ${other}`);
    }, 60_000);

    test("a branch without the commit that must be in it gets no pin", async () => {
        const unrelated = repositories["src-vllm"]!;
        unrelated.git("checkout", "--quiet", "--orphan", "rewritten");
        unrelated.commit({ fresh: "start\n" });
        unrelated.push();
        const { output, status, stack } = await pins(stackWith({}, { "src-vllm": "rewritten" }), "--write");
        unrelated.git("checkout", "--quiet", "main");
        expect(status).toBe(1);
        expect(output).toMatch(/^OPEN src-vllm/m);
        expect(output).toContain("is not in the history of");
        expect((parse(stack.after) as { config: Record<string, Record<string, object>> }).config["gh200-vllm:sources"]!["src-vllm"]).not.toHaveProperty(
            "commit",
        );
    }, 60_000);

    test("what cannot be reached is said, each for itself, and stays absent", async () => {
        const text = stackWith().replaceAll(`${server.address}/src-triton.git`, "http://127.0.0.1:1/src-triton.git").replace(registry.address, "localhost:1");
        const { output, status, stack } = await pins(text, "--write");
        expect(status).toBe(1);
        expect(output.match(/^OPEN \S+/gm)).toEqual(["OPEN image.base", "OPEN src-triton"]);
        const { config } = parse(stack.after) as { config: Record<string, Record<string, object>> };
        expect(config["gh200-vllm:sources"]!["src-triton"]).not.toHaveProperty("commit");
        expect(config["gh200-vllm:image"]!.base).not.toHaveProperty("digest");
        expect(config["gh200-vllm:sources"]!["src-lmcache"]).toHaveProperty("commit");
    }, 60_000);
});

/** A stack whose sources are the test's repositories. */
function stackWith(commits: Record<string, string> = {}, refs: Record<string, string> = {}): string {
    const entries = sources.map((name) => {
        const commit = commits[name] === undefined ? "" : `\n      commit: ${commits[name]}`;
        const ofVllm = name === "src-vllm" ? `\n      contains: "${root.slice(0, 9)}"` : "";
        return `    ${name}:\n      repository: ${server.address}/${name}.git\n      ref: ${refs[name] ?? (ofVllm ? "main" : "v1")}${commit}${ofVllm}`;
    });
    return [
        "config:",
        "  gh200-vllm:builder: { platform: linux/arm64 }",
        "  gh200-vllm:image:",
        "    base:",
        `      name: ${registry.address}/nvidia/pytorch:26.03-py3 # a comment that stays`,
        "  gh200-vllm:sources:",
        ...entries,
        "",
    ].join("\n");
}

async function pins(text: string, ...args: string[]): Promise<{ output: string; status: number | null; stack: { before: string; after: string } }> {
    const place = fs.mkdtempSync(path.join(folder, "stack-"));
    const file = path.join(place, "Pulumi.test.yaml");
    fs.writeFileSync(file, text);
    fs.copyFileSync(path.join(repositoryRoot, "Pulumi.yaml"), path.join(place, "Pulumi.yaml"));
    const child = spawn(path.join(repositoryRoot, "node_modules/.bin/tsx"), [path.join(repositoryRoot, "pins/main.ts"), "--stack", "test", ...args], {
        cwd: place,
        env: { ...process.env, NODE_EXTRA_CA_CERTS: registry.caFile, GIT_CONFIG_GLOBAL: "/dev/null" },
    });
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
    const status = await new Promise<number | null>((resolve) => child.once("close", resolve));
    return { output, status, stack: { before: text, after: fs.readFileSync(file, "utf8") } };
}

async function startRegistry(): Promise<Registry & { stop: () => void }> {
    const tools = await ensureTools(["registry"]);
    const layout = layoutOf(path.join(folder, "registry"));
    createFolders(layout);
    const prepared = await prepareRegistry(layout, tools.get("registry")!.path);
    // Public, as the base image's own registry is: without its list of users it lets everybody read and write.
    const [binary = "", ...rest] = prepared.daemon.command;
    const config = JSON.parse(fs.readFileSync(rest.at(-1)!, "utf8")) as { auth?: unknown };
    delete config.auth;
    fs.writeFileSync(rest.at(-1)!, JSON.stringify(config));
    const child = spawn(binary, rest, { stdio: "ignore", env: { ...process.env, OTEL_TRACES_EXPORTER: "none" } });
    for (let tries = 0; tries < 100; tries++) {
        if (
            await call(prepared, "GET", "/v2/").then(
                ({ status }) => status === 200,
                () => false,
            )
        ) {
            break;
        }
        await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return { ...prepared, stop: () => child.kill() };
}

/** An index with an amd64 and an arm64 image under one tag, as the base image's is; the digest of the second. */
async function pushIndex(): Promise<string> {
    const put = async (text: string, mediaType: string, reference?: string): Promise<string> => {
        const digest = `sha256:${createHash("sha256").update(text).digest("hex")}`;
        expect((await call(registry, "PUT", `/v2/nvidia/pytorch/manifests/${reference ?? digest}`, text, mediaType)).status).toBe(201);
        return digest;
    };
    const image = async (architecture: string): Promise<string> => {
        const config = JSON.stringify({ architecture, os: "linux", rootfs: { type: "layers", diff_ids: [] } });
        const digest = `sha256:${createHash("sha256").update(config).digest("hex")}`;
        const { location = "" } = await call(registry, "POST", "/v2/nvidia/pytorch/blobs/uploads/");
        const upload = new URL(location, `https://${registry.address}`);
        upload.searchParams.set("digest", digest);
        expect((await call(registry, "PUT", upload.pathname + upload.search, config, "application/octet-stream")).status).toBe(201);
        const mediaType = "application/vnd.oci.image.manifest.v1+json";
        return put(
            JSON.stringify({
                schemaVersion: 2,
                mediaType,
                config: { mediaType: "application/vnd.oci.image.config.v1+json", digest, size: config.length },
                layers: [],
            }),
            mediaType,
        );
    };
    const digests = { amd64: await image("amd64"), arm64: await image("arm64") };
    const mediaType = "application/vnd.oci.image.index.v1+json";
    const manifests = await Promise.all(
        Object.entries(digests).map(async ([architecture, digest]) => {
            const { body } = await call(registry, "GET", `/v2/nvidia/pytorch/manifests/${digest}`);
            return { mediaType: "application/vnd.oci.image.manifest.v1+json", digest, size: body.length, platform: { os: "linux", architecture } };
        }),
    );
    await put(JSON.stringify({ schemaVersion: 2, mediaType, manifests }), mediaType, "26.03-py3");
    return digests.arm64;
}

function call(
    { address, caFile }: Registry,
    method: string,
    url: string,
    body = "",
    type = "application/json",
): Promise<{ status: number; location?: string; body: string }> {
    return new Promise((resolve, reject) => {
        const accept = "application/vnd.oci.image.manifest.v1+json";
        const request = https.request(
            `https://${address}${url}`,
            { method, ca: fs.readFileSync(caFile), headers: { "content-type": type, "content-length": Buffer.byteLength(body), accept } },
            (answer) => {
                let text = "";
                answer.on("data", (chunk: Buffer) => (text += chunk.toString()));
                answer.on("end", () => resolve({ status: answer.statusCode ?? 0, location: answer.headers.location, body: text }));
            },
        );
        request.on("error", reject);
        request.end(body);
    });
}
