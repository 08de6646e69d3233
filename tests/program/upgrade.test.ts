import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import * as yaml from "yaml";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { replacements } from "../fixtures/upgrade/capture";
import { emptyBackend, ProgramCopy } from "../live/programCopy";
import { repositoryRoot } from "../support/stackFile";

// The state that an older version left, under today's program, on the real engine and with the real providers. Neither builder nor
// cluster can be reached: what is shown is what an upgrade would do. tests/fixtures/upgrade/README.md says how the state was taken.
const MINUTE = 60_000;
const fixtures = path.join(repositoryRoot, "tests/fixtures/upgrade");
const versions = fs.readdirSync(fixtures).flatMap((file) => /^(.+)\.state\.json$/.exec(file)?.[1] ?? []);

/** What an upgrade adds, and why. Nothing is replaced or deleted; what ever must be is to be named here with its reason. */
const PLANNED: Record<string, Record<string, string>> = {
    "89fe2ac": {
        "kubernetes:core/v1:Secret gh200-vllm-api-key": "requests carry a key, drawn once where none is named",
        "kubernetes:networking.k8s.io/v1:NetworkPolicy gh200-vllm-default-deny": "what no policy names is denied",
        "kubernetes:policy/v1:PodDisruptionBudget gh200-vllm": "a drain takes one pod at a time",
        "pulumi:index:Stash gh200-change": "the stack remembers what it was last updated with",
    },
};

let backend: Awaited<ReturnType<typeof emptyBackend>>;
let program: ProgramCopy;

beforeAll(async () => {
    backend = await emptyBackend();
    program = new ProgramCopy(backend.env);
}, 5 * MINUTE);

afterAll(() => {
    program?.remove();
    backend?.remove();
});

async function pulumi(...args: string[]): Promise<string> {
    const { status, output } = await program.pulumi(args);
    expect(status, output).toBe(0);
    return output;
}

function setSecret(key: string, value: string): void {
    const { status, stderr } = spawnSync("pulumi", ["config", "set", "--stack", "sandbox", "--secret", `gh200-vllm:${key}`], {
        cwd: program.folder,
        env: backend.env,
        input: value,
        encoding: "utf8",
    });
    expect(status, stderr).toBe(0);
}

/** Makes the stack as that version left it. */
async function leftBy(version: string): Promise<void> {
    const file = (name: string) => path.join(program.folder, name);
    fs.copyFileSync(path.join(fixtures, `${version}.config.yaml`), file("Pulumi.sandbox.yaml"));
    await pulumi("stack", "init", "sandbox");
    Object.entries(replacements).forEach(([key, value]) => setSecret(key, value));
    const state = JSON.parse(fs.readFileSync(path.join(fixtures, `${version}.state.json`), "utf8")) as { deployment: Record<string, unknown> };
    const { encryptionsalt: salt } = yaml.parse(fs.readFileSync(file("Pulumi.sandbox.yaml"), "utf8")) as { encryptionsalt: string };
    state.deployment.secrets_providers = { type: "passphrase", state: { salt } };
    fs.writeFileSync(file("state.json"), JSON.stringify(state));
    await pulumi("stack", "import", "--stack", "sandbox", "--file", "state.json");
}

/** Resources by operation, `TYPE NAME`, in the alphabet's order, without those that stay the same. */
async function planned(): Promise<Record<string, string[]>> {
    const output = await pulumi("preview", "--json", "--stack", "sandbox");
    const { steps } = JSON.parse(output.slice(output.indexOf("{"))) as { steps: { op: string; urn: string }[] };
    const changes: Record<string, string[]> = {};
    for (const { op, urn } of steps.filter((step) => step.op !== "same")) {
        const [, , types = "", name = ""] = urn.split("::");
        (changes[op] ??= []).push(`${types.split("$").at(-1)} ${name}`);
    }
    // Which of two independent resources is planned first is chance.
    Object.values(changes).forEach((resources) => resources.sort());
    return changes;
}

describe.each(versions)("the state of %s", (version) => {
    beforeAll(() => leftBy(version), 2 * MINUTE);
    afterEach(() => program.restore("components/platform/cmmPlatform.ts"));
    afterAll(() => pulumi("stack", "rm", "sandbox", "--yes", "--force"), MINUTE);

    test(
        "is taken over without replacing or deleting anything, whatever DOCKER_HOST is here",
        async () => {
            expect(backend.env.DOCKER_HOST).not.toBe("");
            const { update = [], create = [], ...others } = await planned();
            expect(others).toEqual({});
            expect(create).toEqual(Object.keys(PLANNED[version] ?? {}).sort());
            expect(update).toContain("kubernetes:apps/v1:Deployment gh200-vllm");
        },
        5 * MINUTE,
    );

    test(
        "with another password of the registry, another certificate and another name of the builder builds nothing more than without",
        async () => {
            const before = await planned();
            setSecret("registryPassword", "another");
            setSecret("builderClientKey", "another");
            await pulumi("config", "set", "--stack", "sandbox", "--path", "gh200-vllm:builder.clientCertificate", "another");
            await pulumi("config", "set", "--stack", "sandbox", "--path", "gh200-vllm:builder.name", "another");
            const { replace, "create-replacement": made, "delete-replaced": gone, ...after } = await planned();
            const others = (resources: string[] = []) => resources.filter((resource) => resource !== "kubernetes:core/v1:Secret gh200-vllm-pull");
            expect([replace, made, gone].flatMap(others)).toEqual([]);
            expect({ ...after, update: others(after.update) }).toEqual({ ...before, update: others(before.update) });
            Object.entries(replacements).forEach(([key, value]) => setSecret(key, value));
        },
        5 * MINUTE,
    );

    test(
        "shows a rename without an alias as something deleted and something made",
        async () => {
            program.edit("components/platform/cmmPlatform.ts", (text) => text.replace("`${name}-release`", "`${name}-published`"));
            const { delete: deleted, create } = await planned();
            expect(deleted).toEqual(["docker-build:index:Image gh200-release", "gh200-vllm:index:ImageRelease gh200-release"]);
            expect(create).toContain("docker-build:index:Image gh200-published");
        },
        5 * MINUTE,
    );

    test(
        "keeps what is renamed with an alias, and what is below it",
        async () => {
            program.edit("components/platform/cmmPlatform.ts", (text) =>
                text
                    .replace("`${name}-release`", "`${name}-published`")
                    .replace("{ parent, dependsOn: [lmcache] }", "{ parent, dependsOn: [lmcache], aliases: [{ name: `${name}-release` }] }"),
            );
            const { update, create = [], ...others } = await planned();
            expect(others).toEqual({});
            expect(create).toEqual(Object.keys(PLANNED[version] ?? {}).sort());
            expect(update).toContain("docker-build:index:Image gh200-published");
        },
        5 * MINUTE,
    );
});
