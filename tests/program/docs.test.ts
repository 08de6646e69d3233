import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import * as yaml from "yaml";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { probeBuilder } from "../../components/builder/probe";
import { emptyBackend, ProgramCopy } from "../live/programCopy";
import { commands, isGuide } from "../support/docsCommands";
import { blocks, commandLines, pages } from "../support/pages";
import { connection, standInBuildkits } from "../support/standInBuildkit";
import { repositoryRoot } from "../support/stackFile";

// The commands of the pages that need no more than the engine: each page's own, one after another, in a folder of their own.
const MINUTE = 60_000;
const standInBuildkit = standInBuildkits();
let backend: Awaited<ReturnType<typeof emptyBackend>>;
let program: ProgramCopy;
let config: Record<string, Record<string, unknown>>;
const pem = (name: string) => fs.readFileSync(path.join(program.folder, name));

/** Runs a page's commands in one shell; the lines with `pulumi` as a person without one on PATH types them. */
function type(page: string): { status: number | null; output: string } {
    const lines = blocks(page)
        .flatMap(commandLines)
        .filter((line) => "run" in (commands[line] ?? {}));
    const script = ["set -eo pipefail", ...lines].join("\n").replaceAll("npm run pulumi -- ", "pulumi ");
    const { status, stdout, stderr } = spawnSync("bash", ["-c", script], { cwd: program.folder, env: backend.env, encoding: "utf8" });
    return { status, output: stdout + stderr };
}

beforeAll(async () => {
    backend = await emptyBackend();
    program = new ProgramCopy(backend.env);
    fs.writeFileSync(path.join(program.folder, "password"), "hunter2");
    fs.writeFileSync(path.join(program.folder, "pull-password"), "hunter3");
    // Where pages take the stack for granted, it is made and chosen.
    const typed = ["docs/production.md", ...pages.filter((page) => isGuide(page) && page !== "docs/production.md")].map((page) => ({ page, ...type(page) }));
    expect(typed.filter(({ status }) => status !== 0)).toEqual([]);
    ({ config } = yaml.parse(pem("Pulumi.gh200.yaml").toString()) as { config: typeof config });
}, 5 * MINUTE);

afterAll(() => {
    program?.remove();
    backend?.remove();
});

describe("the certificates of docs/production.md", () => {
    const certificates = () => ({
        serverName: "gh200.example.com",
        caCertificate: pem("ca.pem").toString(),
        clientCertificate: pem("client-cert.pem").toString(),
        clientKey: pem("client-key.pem").toString(),
    });
    const daemon = () => ({ version: "v0.34.2", platforms: ["linux/arm64"], tls: { ca: pem("ca.pem"), cert: pem("cert.pem"), key: pem("key.pem") } });

    test("let the program's own client in to a daemon that has the others, by the daemon's name", async () => {
        const endpoint = await standInBuildkit(daemon());
        expect(await probeBuilder(connection({ endpoint, ...certificates() }))).toMatchObject({ platforms: ["linux/arm64"] });
        await expect(probeBuilder(connection({ endpoint, ...certificates(), serverName: "other.example.com" }))).rejects.toThrow(/altnames/);
    });

    test("let in nobody who has a certificate of another authority, or the daemon's own", async () => {
        const endpoint = await standInBuildkit(daemon());
        const stranger = path.join(program.folder, "stranger");
        execFileSync(
            "openssl",
            [
                "req",
                "-x509",
                "-config",
                "/dev/null",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-subj",
                "/CN=stranger",
                "-keyout",
                `${stranger}.key`,
                "-out",
                `${stranger}.pem`,
            ],
            { stdio: "ignore" },
        );
        await expect(
            probeBuilder(
                connection({ endpoint, ...certificates(), clientCertificate: pem("stranger.pem").toString(), clientKey: pem("stranger.key").toString() }),
            ),
        ).rejects.toThrow();
        await expect(
            probeBuilder(connection({ endpoint, ...certificates(), clientCertificate: pem("cert.pem").toString(), clientKey: pem("key.pem").toString() })),
        ).rejects.toThrow();
    });

    test("keep their keys from others", () => {
        for (const key of ["ca-key.pem", "key.pem", "client-key.pem"]) {
            expect(fs.statSync(path.join(program.folder, key)).mode & 0o077, key).toBe(0);
        }
    });
});

describe("the stack that the pages' commands make", () => {
    test("holds the builder and the registry, and what is secret as secrets", () => {
        // Pulumi leaves the last newline of standard input out.
        const certificate = (name: string) => pem(name).toString().trimEnd();
        expect(config["gh200-vllm:builder"]).toMatchObject({
            endpoint: "tcp://gh200.example.com:1234",
            caCertificate: certificate("ca.pem"),
            clientCertificate: certificate("client-cert.pem"),
        });
        expect(config["gh200-vllm:registry"]).toEqual({ address: "atl.vultrcr.com/vllm", username: "NAME", pullUsername: "PULLER" });
        for (const key of ["builderClientKey", "registryPassword", "registryPullPassword", "gitTokens"]) {
            expect(config[`gh200-vllm:${key}`], key).toEqual({ secure: expect.any(String) as string });
        }
        expect(config["gh200-vllm:sources"]?.["src-vllm"]).toMatchObject({ path: "../vllm" });
    });

    test(
        "previews, with the builder settled and the pins still open",
        async () => {
            const { stdout } = spawnSync("pulumi", ["config", "get", "--stack", "gh200", "gh200-vllm:builderClientKey"], {
                cwd: program.folder,
                env: backend.env,
                encoding: "utf8",
            });
            expect(stdout.trim()).toBe(pem("client-key.pem").toString().trim());
            await program.pulumi(["config", "rm", "--stack", "gh200", "--path", "gh200-vllm:image.use"]);
            await program.pulumi(["config", "rm", "--stack", "gh200", "--path", "gh200-vllm:sources.src-vllm.path"]);
            const { status, output } = await program.pulumi(["preview", "--stack", "gh200"]);
            expect(status, output).toBe(0);
            expect(output).toContain("gh200-vllm:image.base: nvcr.io/nvidia/pytorch:26.03-py3: is unpinned");
            expect(output).not.toContain("gh200-vllm:builder");
        },
        2 * MINUTE,
    );
});

describe("commands of the README that change nothing", () => {
    const npm = (args: string[], env: NodeJS.ProcessEnv = {}) =>
        spawnSync("npm", ["run", "--silent", ...args], { cwd: repositoryRoot, env: { ...process.env, PATH: backend.env.PATH, ...env }, encoding: "utf8" });

    test(
        "doctor names each tool, and what is missing with its mend",
        () => {
            const { stdout } = npm(["doctor"]);
            expect(stdout).toMatch(/^pulumi +\d/m);
            expect(stdout).toMatch(/nothing is missing|`npm run bootstrap` prepares all of it/);
        },
        MINUTE,
    );

    test(
        "preview:report --temporary writes a pull request's comment",
        () => {
            const { status, stdout, stderr } = npm(["preview:report", "--", "-s", "gh200", "--temporary"]);
            expect(status, stderr).toBe(0);
            expect(stdout).toContain("gh200-build-vllm");
        },
        2 * MINUTE,
    );

    test(
        "a preview where nobody is logged in shows the whole plan, says what it is, and leaves stack file and backends as they are",
        () => {
            const stackFile = () => fs.readFileSync(path.join(repositoryRoot, "Pulumi.gh200.yaml"), "utf8");
            const before = stackFile();
            const home = path.join(program.folder, "nobodys-home");
            const nobody = { PULUMI_HOME: home, GH200_SANDBOX_DIR: path.join(home, "no-sandbox"), PULUMI_BACKEND_URL: "", PULUMI_ACCESS_TOKEN: "" };
            const { status, stdout, stderr } = npm(["pulumi", "--", "preview", "--stack", "gh200"], { ...nobody, PULUMI_CONFIG_PASSPHRASE: undefined });
            expect(status, stdout + stderr).toBe(0);
            expect(stderr).toContain("stack gh200: nobody is logged in, so it is previewed without its state and secrets, as a new stack;");
            expect(stdout).toMatch(/\+ \d+ to create/);
            expect(stackFile()).toBe(before);
            expect(fs.existsSync(path.join(home, "credentials.json"))).toBe(false);
        },
        2 * MINUTE,
    );
});
