import * as fs from "node:fs";
import * as https from "node:https";
import type { AddressInfo } from "node:net";
import * as os from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeCertificatePair } from "../support/certificatePair";
import { labelledImage } from "../support/labelledImage";
import { temporaryFolders } from "../support/temporaryFolder";
import { LiveSandbox, type Machine } from "./liveSandbox";
import type { Answer } from "./programCopy";

/*
 * What fails ends with its true cause in one line: real API server, kubelet, containerd, BuildKit and registry. The wrapper around a
 * dead engine is vLLM's own text (tests/fixtures/vllm), printed by the stand-in server; everything else says its own words.
 */
const MINUTE = 60_000;
/** Long enough for the fault to show. */
const SHORT_WAIT = { warmupSeconds: 20, shutdownSeconds: 5 };
const temporaryFolder = temporaryFolders();

let sandbox: LiveSandbox;
let machine: Machine;
let released: string;

beforeAll(async () => {
    sandbox = new LiveSandbox(process.env.GH200_TEST_SANDBOX);
    sandbox.start();
    machine = await sandbox.machine();
    // What vLLM's API server prints when its engine is gone.
    const wrapper = fs.readFileSync(path.resolve(__dirname, "../fixtures/vllm/api-server-wrapper.txt"), "utf8");
    machine.program.edit("sandbox/sources/vllm/vllm/entrypoints/cli/main.py", (text) =>
        text.replace("sys.exit(core.exitcode or 1)", `sys.stderr.write(${JSON.stringify(wrapper)})\n        sys.exit(1)`),
    );
    const answer = await machine.up();
    expect(answer.status, answer.output.slice(-4000)).toBe(0);
    released = String((await machine.outputs()).deployRef);
}, 40 * MINUTE);
// A sandbox that was given is left as it is.
afterAll(() => (process.env.GH200_TEST_SANDBOX === undefined ? sandbox?.down() : sandbox?.forget()), 10 * MINUTE);

function up(use: string, serving: Record<string, unknown> = {}): Promise<Answer> {
    return machine.upWith(
        machine.configOf((config) => {
            config["gh200-vllm:image"] = { ...config["gh200-vllm:image"], use };
            config["gh200-vllm:serving"] = { ...config["gh200-vllm:serving"], ...SHORT_WAIT, ...serving };
        }),
    );
}

/** The line of an answer that names the cause. */
function causeLine(answer: Answer, begins: RegExp): string {
    expect(answer.status).not.toBe(0);
    const line = answer.output.split("\n").find((candidate) => begins.test(candidate));
    expect(line, answer.output.slice(-6000)).toBeDefined();
    console.log(line!.trim());
    return line!;
}

test(
    "a pod that dies behind 65 lines of wrapper, by the engine's refusal",
    async () => {
        const answer = await up(released, { kvCacheMemoryBytes: 2 ** 50 });
        const line = causeLine(answer, /pod gh200-vllm-\S+: /);
        expect(line).toMatch(/the launcher refused: --kv-cache-memory-bytes: .*HBM.*; accepted: /);
        expect(answer.output).toContain("log (APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.");
    },
    10 * MINUTE,
);

test(
    "a digest with 403 in it, which the registry does not have, and whose credentials are right",
    async () => {
        const line = causeLine(await up(`${released.split("@")[0]}@sha256:403${"4".repeat(61)}`), /image\.use: /);
        expect(line).toMatch(/is not in its registry; accepted: an image that is there/);
        expect(line).not.toContain("credentials");
    },
    10 * MINUTE,
);

test(
    "a registry whose authority the node does not know, though the machine that updates does",
    async () => {
        // Not loopback, for which containerd falls back to plain HTTP.
        const address = Object.values(os.networkInterfaces())
            .flatMap((found) => found ?? [])
            .find(({ internal, family }) => !internal && family === "IPv4")?.address;
        const folder = temporaryFolder();
        writeCertificatePair(folder, "unknown", address);
        const [cert, key] = ["pem", "key"].map((kind) => fs.readFileSync(path.join(folder, `unknown.${kind}`)));
        const { digest, manifest, manifestType, config, configDigest } = labelledImage();
        const server = https.createServer({ cert, key }, ({ url = "" }, response) => {
            const text = url.endsWith(digest) ? manifest : url.endsWith(configDigest) ? config : undefined;
            response.writeHead(text === undefined ? 404 : 200, { "content-type": manifestType }).end(text);
        });
        await new Promise<void>((listening) => server.listen(0, "0.0.0.0", listening));
        try {
            const host = `${address}:${(server.address() as AddressInfo).port}`;
            const file = machine.configOf((stack) => {
                stack["gh200-vllm:registry"] = { ...stack["gh200-vllm:registry"], address: `${host}/vllm` };
                stack["gh200-vllm:image"] = { ...stack["gh200-vllm:image"], use: `${host}/vllm/x@${digest}` };
                // A stand-in is accepted from this machine's own registry alone.
                stack["gh200-vllm:serving"] = { ...stack["gh200-vllm:serving"], ...SHORT_WAIT, acceptStandIn: false };
            });
            const update = ["up", "--yes", "--skip-preview", "--stack", "sandbox", "--config-file", file];
            const answer = await machine.program.pulumi(update, { NODE_EXTRA_CA_CERTS: path.join(folder, "unknown.pem") });
            const line = causeLine(answer, /pod gh200-vllm-\S+: /);
            expect(line).toContain(`${host}: its certificate `);
            expect(line).toMatch(/x509: certificate signed by unknown authority/);
            expect(line).not.toContain("credentials");
        } finally {
            server.close();
        }
    },
    10 * MINUTE,
);

test(
    "a compiler that was killed",
    async () => {
        // As the kernel's OOM killer does: SIGKILL for nvcc's own front end, in BuildKit's real step.
        const killer =
            'while sleep 0.1; do for p in /proc/[0-9]*; do read -r name <"$p/comm" && [ "$name" = cicc ] && kill -9 "${p#/proc/}"; done 2>/dev/null; done &\n';
        machine.program.edit("assets/vllm/build/stages/managed-alloc", (text) => text.replace("\nnvcc -O3", `\n${killer}nvcc -O3`));
        const answer = await machine.up();
        const line = causeLine(answer, /# build-managed-alloc failed: /);
        expect(line).toMatch(
            /# build-managed-alloc failed: a compiler was killed for want of memory: (Killed|nvcc error : 'cicc' died due to signal 9 \(Kill signal\)); give the builder more memory/,
        );
    },
    10 * MINUTE,
);
