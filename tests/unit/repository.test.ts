import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { expect, test } from "vitest";
import { configurationPage, memoryPictures, stagesPage } from "../../docs/generate";

const root = path.resolve(__dirname, "../..");

test.each([
    ["all TypeScript compiles", "tsc", ["--noEmit"]],
    ["no rule of ESLint is broken", "eslint", ["."]],
])("%s", (_, tool, args) => {
    const { status, stdout } = spawnSync(path.join(root, "node_modules", ".bin", tool), args, { cwd: root, encoding: "utf8" });
    expect(stdout).toBe("");
    expect(status).toBe(0);
}, 180_000);

test("docs/configuration.md is what `npm run docs` makes of the schemas", () => {
    expect(fs.readFileSync(path.join(root, "docs/configuration.md"), "utf8")).toBe(configurationPage());
});

test("the tables of docs/stages.md are what `npm run docs` makes of the stage and source tables", () => {
    const page = fs.readFileSync(path.join(root, "docs/stages.md"), "utf8");
    expect(stagesPage(page)).toBe(page);
    expect(page).toContain("| `build-vllm` |");
});

test("the pictures of the memory plan are what `npm run docs` makes of the same functions", () => {
    for (const [file, svg] of Object.entries(memoryPictures())) {
        expect(fs.readFileSync(path.join(root, "docs", file), "utf8"), file).toBe(svg);
    }
});

test("every link between the repository's pages leads somewhere", () => {
    const pages = ["README.md", ...fs.readdirSync(path.join(root, "docs"), { recursive: true, encoding: "utf8" }).map((name) => `docs/${name}`)].filter((name) => name.endsWith(".md"));
    const broken = pages.flatMap((page) =>
        [...fs.readFileSync(path.join(root, page), "utf8").matchAll(/\]\((?!https?:|#)([^)#]+)/g)]
            .map((match) => path.join(root, path.dirname(page), match[1] ?? ""))
            .filter((target) => !fs.existsSync(target))
            .map((target) => `${page}: ${path.relative(root, target)}`),
    );
    expect(broken).toEqual([]);
});

test("every npm script that the README names is there", () => {
    const { scripts } = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8")) as { scripts: Record<string, string> };
    const named = [...fs.readFileSync(path.join(root, "README.md"), "utf8").matchAll(/npm (?:run )?([a-z:]+)/g)].map((match) => match[1] ?? "");
    expect(named.filter((name) => scripts[name] === undefined && name !== "ci")).toEqual([]);
});
