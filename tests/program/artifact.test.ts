import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import bcrypt from "bcryptjs";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { attachArtifact } from "../../components/image/artifact";
import { getManifest, imageLabels, putBlob, putManifest, wantsLogin } from "../../components/image/registryClient";
import { type Answer, emptyBackend } from "../live/programCopy";
import { ApprovedProgram, digestIn } from "../support/approvedProgram";
import { freePort } from "../support/freePort";
import { ensureTools, findTool } from "../../tools/toolchain";

// The sandbox's own registry, distribution, which has no referrers API: what is attached is found by the tag that the specification names.
const credentials = { username: "tester", password: "secret" };
let folder: string;
let registry: ChildProcess;
let repository: string;
const digestOf = (bytes: Buffer) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

beforeAll(async () => {
    await ensureTools(["registry"]);
    folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-registry-"));
    const host = `127.0.0.1:${await freePort()}`;
    repository = `${host}/vllm/gh200-vllm-cmm`;
    fs.writeFileSync(path.join(folder, "htpasswd"), `${credentials.username}:${bcrypt.hashSync(credentials.password, 4)}\n`);
    const auth = { htpasswd: { realm: "test", path: path.join(folder, "htpasswd") } };
    const config = { version: "0.1", storage: { filesystem: { rootdirectory: path.join(folder, "data") } }, auth, http: { addr: host } };
    fs.writeFileSync(path.join(folder, "config.yml"), JSON.stringify(config));
    registry = spawn(findTool("registry")?.path ?? "registry", ["serve", path.join(folder, "config.yml")], { stdio: "ignore" });
    await vi.waitFor(() => wantsLogin(host), { timeout: 20_000, interval: 200 });
}, 5 * 60_000);

afterAll(() => {
    registry?.kill();
    fs.rmSync(folder, { recursive: true, force: true });
});

/** A small image; `REPOSITORY@DIGEST`. */
async function pushed(label: string): Promise<string> {
    const config = Buffer.from(JSON.stringify({ config: { Labels: { label } } }));
    const descriptor = { mediaType: "application/vnd.oci.image.config.v1+json", digest: digestOf(config), size: config.length };
    await putBlob(repository, descriptor.digest, config, credentials);
    const type = "application/vnd.oci.image.manifest.v1+json";
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: type, config: descriptor, layers: [] }));
    await putManifest(`${repository}:release`, { type, bytes }, credentials);
    return `${repository}@${digestOf(bytes)}`;
}

interface Manifest {
    artifactType?: string;
    subject?: { digest: string };
    manifests?: { digest: string; artifactType: string }[];
    layers?: { digest: string }[];
}
const manifest = async (name: string) => JSON.parse((await getManifest(name, credentials)).bytes.toString()) as Manifest;
const type = "application/vnd.gh200-vllm.approval.v1+json";

test("a record is attached to an image whose digest and tag stay, found from it, and attached once however often", async () => {
    const image = await pushed("one");
    const digest = image.split("@")[1] ?? "";
    const content = Buffer.from('{"approver":"mike"}');
    const first = await attachArtifact(image, { type, content, title: "gh200.json" }, credentials);
    const second = await attachArtifact(image, { type, content: Buffer.from("another"), title: "gh200.json" }, credentials);
    expect(await attachArtifact(image, { type, content, title: "gh200.json" }, credentials)).toBe(first);
    const { manifests = [] } = await manifest(`${repository}:${digest.replace(":", "-")}`);
    expect(manifests.map(({ digest: attached, artifactType }) => [attached, artifactType])).toEqual([
        [first, type],
        [second, type],
    ]);
    expect(await manifest(`${repository}@${first}`)).toMatchObject({ artifactType: type, subject: { digest }, layers: [{ digest: digestOf(content) }] });
    expect(digestOf((await getManifest(`${repository}:release`, credentials)).bytes)).toBe(digest);
    expect(await imageLabels(image, credentials)).toEqual({ label: "one" });
});

test("of a registry that refuses, the answer is named", async () => {
    const image = await pushed("two");
    await expect(attachArtifact(image, { type, content: Buffer.from("x"), title: "x" }, { ...credentials, password: "wrong" })).rejects.toThrow(
        "answered 401 Unauthorized",
    );
});

test(
    "an approved update attaches its record to what it deploys, and one that changes nothing attaches none",
    async () => {
        const backend = await emptyBackend();
        const program = new ApprovedProgram(backend);
        const image = await pushed("three");
        const tag = `${repository}:${image.split("@")[1]?.replace(":", "-")}`;
        const passed = async (run: Promise<Answer>) => expect((await run).status, (await run).output).toBe(0);
        try {
            const address = repository.slice(0, repository.lastIndexOf("/"));
            program.copy.edit("Pulumi.gh200.yaml", (text) => text.replace("address: atl.vultrcr.com/vllm", `address: ${address}\n    username: tester`));
            await program.copy.pulumi(["stack", "init", "gh200"]);
            await program.copy.pulumi(["config", "set", "--stack", "gh200", "--secret", "gh200-vllm:registryPassword", credentials.password]);
            fs.writeFileSync(program.file("deployRef"), image);
            await passed(program.preview());
            await expect(manifest(tag)).rejects.toThrow("answered 404");
            program.approve(digestIn(program.approve("").output));
            await passed(program.up());
            await passed(program.up());
            const { manifests = [] } = await manifest(tag);
            expect(manifests.map(({ artifactType }) => artifactType)).toEqual([type]);
            const { layers = [] } = await manifest(`${repository}@${manifests[0]?.digest}`);
            expect(layers[0]?.digest).toBe(digestOf(fs.readFileSync(program.file("approvals/gh200.json"))));
        } finally {
            program.copy.remove();
            backend.remove();
        }
    },
    5 * 60_000,
);
