import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import * as yaml from "yaml";
import { findTool } from "../../tools/toolchain";

const CHECKOUT = path.resolve(__dirname, "../..");

/** A program that a user might have written instead, in a folder and with a state of its own. */
export class Baseline {
    private readonly folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-baseline-"));

    /**
     * @param files further files of the program
     * @param links files and folders that it finds under these names, by where they lie
     */
    constructor(
        private readonly env: NodeJS.ProcessEnv,
        program: string,
        files: Record<string, string> = {},
        links: Record<string, string> = {},
    ) {
        const all: Record<string, string> = {
            "Pulumi.yaml": yaml.stringify({ name: "baseline", runtime: { name: "nodejs", options: { packagemanager: "npm" } } }),
            "package.json": '{ "name": "baseline", "devDependencies": { "typescript": "*" } }\n',
            "tsconfig.json": JSON.stringify({ compilerOptions: newProgramOptions, files: ["index.ts"] }),
            "index.ts": program,
            ...files,
        };
        for (const [name, text] of Object.entries(all)) {
            fs.writeFileSync(path.join(this.folder, name), text);
        }
        for (const [name, target] of Object.entries({ node_modules: path.join(CHECKOUT, "node_modules"), ...links })) {
            fs.symlinkSync(target, path.join(this.folder, name));
        }
        fs.mkdirSync(path.join(this.folder, "state"));
        this.run("stack", "init", "bench");
    }

    /** Gives the stack a state, in the format of `pulumi stack export`. */
    import(state: object): void {
        const file = path.join(this.folder, "state.json");
        fs.writeFileSync(file, JSON.stringify(state));
        this.run("stack", "import", "--stack", "bench", "--file", file);
    }

    run(...args: string[]): string {
        const stack = args[0] === "stack" ? [] : ["--stack", "bench"];
        const result = spawnSync(findTool("pulumi")?.path ?? "pulumi", [...args, ...stack, "--non-interactive"], {
            cwd: this.folder,
            env: { ...this.env, PULUMI_BACKEND_URL: `file://${this.folder}/state`, PULUMI_CONFIG_PASSPHRASE: "bench" },
            encoding: "utf8",
        });
        if (result.status !== 0) {
            throw new Error(`baseline: ${args.join(" ")}: ${result.stdout}${result.stderr}`);
        }
        return result.stdout;
    }

    remove(): void {
        fs.rmSync(this.folder, { recursive: true, force: true });
    }
}

/** As `pulumi new typescript` writes them. ts-node checks types once and keeps the result. */
const newProgramOptions = {
    strict: true,
    outDir: "bin",
    target: "es2020",
    module: "commonjs",
    moduleResolution: "node",
    sourceMap: true,
    experimentalDecorators: true,
    pretty: true,
    noFallthroughCasesInSwitch: true,
    noImplicitReturns: true,
    forceConsistentCasingInFileNames: true,
};

/** The least that a TypeScript program of ten components can be. */
export const tenEmptyComponents = `import * as pulumi from "@pulumi/pulumi";
class Empty extends pulumi.ComponentResource {
    constructor(name: string) { super("bench:index:Empty", name); this.registerOutputs({}); }
}
for (let i = 0; i < 10; i += 1) { new Empty(\`empty-\${i}\`); }
`;
