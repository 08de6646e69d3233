import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { expect, test } from "vitest";
import { repositoryRoot } from "../support/stackFile";
import { Consumer } from "./consumer";
import { packed } from "./packed";

// The components' types, and a preview, with the oldest and the newest SDKs that components/package.json accepts.
const MINUTE = 60_000;
const EXAMPLES = ["whole-platform", "bring-your-own-image", "foreign-dockerfile"];

type Ranges = Record<string, string>;
const read = (file: string) =>
    JSON.parse(fs.readFileSync(path.join(repositoryRoot, file), "utf8")) as { dependencies: Ranges; peerDependencies: Ranges; devDependencies: Ranges };
const { dependencies, peerDependencies } = read("components/package.json");
const accepted: Ranges = { ...dependencies, ...peerDependencies };
const oldest = Object.fromEntries(Object.entries(accepted).map(([name, range]) => [name, range.replace(/^[~^]/, "")]));

const made = packed();

/** A folder with those versions, the package, the components' sources and the examples. */
async function installed(name: string, versions: Ranges): Promise<Consumer> {
    const consumer = await Consumer.of(path.join(made.folder, name), { ...made.backend.env, HOME: process.env.HOME, DOCKER_CONFIG: made.backend.folder });
    const types = read("package.json").devDependencies["@types/node"];
    fs.writeFileSync(
        path.join(consumer.folder, "package.json"),
        JSON.stringify({ private: true, dependencies: { ...versions, "@types/node": types, "@gh200/gh200-vllm": made.archive } }),
    );
    execFileSync("npm", ["install", "--ignore-scripts"], { cwd: consumer.folder, stdio: "pipe" });
    for (const entry of ["components", "tsconfig.json", ...EXAMPLES.map((example) => path.join("examples", example))]) {
        fs.cpSync(path.join(repositoryRoot, entry), path.join(consumer.folder, entry), { recursive: true });
    }
    return consumer;
}

test.each([
    ["oldest", oldest],
    ["newest", accepted],
])(
    "%s SDKs",
    async (name, versions) => {
        const consumer = await installed(name, versions);
        const ofSdk = JSON.parse(fs.readFileSync(path.join(consumer.folder, "node_modules/@pulumi/pulumi/package.json"), "utf8")) as { version: string };
        expect(ofSdk.version === oldest["@pulumi/pulumi"]).toBe(name === "oldest");
        const components = consumer.shell("npx tsc --noEmit --project components/tsconfig.build.json");
        expect(components).toEqual({ status: 0, output: "" });
        const options = "--noEmit --strict --skipLibCheck --target es2022 --module nodenext --moduleResolution nodenext";
        expect(consumer.shell(`npx tsc ${options} ${EXAMPLES.map((example) => `examples/${example}/index.ts`).join(" ")}`)).toEqual({ status: 0, output: "" });
        const { status, output } = consumer.shell(
            "cd examples/whole-platform; pulumi stack init dev; pulumi config set registry registry.example.com/team; pulumi preview",
        );
        expect(status, output).toBe(0);
        expect(output).toMatch(/kubernetes:apps\/v1:Deployment +gh200-vllm +create/);
    },
    15 * MINUTE,
);
