import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type { BuilderConnection } from "../../components/builder/connection";
import { builderProblems, probeBuilder } from "../../components/builder/probe";
import { findTool } from "../../tools/toolchain";
import { blocks, commandLines } from "../support/pages";
import { connection } from "../support/standInBuildkit";

// The builder as docs/production.md sets it up: its certificates, its configuration file, a real buildkitd. Needs root and runc.
const PORT = 31_234;
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-builder-"));
const inFolder = (name: string) => path.join(folder, name);
const text = (name: string) => fs.readFileSync(inFolder(name), "utf8");
let daemon: ChildProcess;
let log = "";
let client: BuilderConnection;

beforeAll(async () => {
    const [certificates] = blocks("docs/production.md").filter(({ language }) => language === "sh");
    const [settings] = blocks("docs/production.md").filter(({ language }) => language === "toml");
    const issued = spawnSync("bash", ["-c", ["set -e", ...commandLines(certificates!)].join("\n")], { cwd: folder, encoding: "utf8" });
    expect(issued.status, issued.stderr).toBe(0);
    const config = settings!.lines.join("\n").replaceAll("/etc/buildkit", folder).replace("0.0.0.0:1234", `127.0.0.1:${PORT}`);
    fs.writeFileSync(inFolder("buildkitd.toml"), `root = "${inFolder("root")}"\n${config}`);
    daemon = spawn(findTool("buildkitd")?.path ?? "buildkitd", ["--config", inFolder("buildkitd.toml")], { stdio: ["ignore", "ignore", "pipe"] });
    daemon.stderr?.on("data", (chunk: Buffer) => (log += chunk.toString()));
    await vi.waitUntil(() => log.includes("running server on"), { timeout: 30_000 });
    client = connection({
        endpoint: `tcp://127.0.0.1:${PORT}`,
        serverName: "gh200.example.com",
        caCertificate: text("ca.pem"),
        clientCertificate: text("client-cert.pem"),
        clientKey: text("client-key.pem"),
    });
}, 60_000);

afterAll(async () => {
    const ended = new Promise((resolve) => daemon.once("close", resolve));
    daemon.kill();
    await ended;
    fs.rmSync(folder, { recursive: true, force: true });
});

test("answers the program's client, and is new enough", async () => {
    const facts = await probeBuilder(client);
    // It runs on this machine, which may be no arm64: that is all that may be wrong with it.
    expect(builderProblems({ ...client, platform: facts.platforms[0]! }, facts)).toEqual([]);
});

test("answers nobody without a client's certificate", async () => {
    await expect(probeBuilder({ ...client, clientCertificate: text("cert.pem"), clientKey: text("key.pem") })).rejects.toThrow();
});
