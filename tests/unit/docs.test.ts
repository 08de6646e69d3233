import * as fs from "node:fs";
import * as path from "node:path";
import { describe, expect, test } from "vitest";
import { architecturePage, configurationPage, memoryPictures, securityPage, stagesPage } from "../../docs/generate";
import { operationsPage } from "../../docs/operationsPage";
import { anchors, blocks, codeSpans, commandLines, pages, read, repositoryFiles } from "../support/pages";
import { commands, isGuide, notCommands } from "../support/docsCommands";
import { repositoryRoot } from "../support/stackFile";

describe("what `npm run docs` makes is current", () => {
    test("docs/configuration.md, of the schemas", () => {
        expect(read("docs/configuration.md")).toBe(configurationPage());
    });

    test("the tables of docs/stages.md, of the stage and source tables", () => {
        const page = read("docs/stages.md");
        expect(stagesPage(page)).toBe(page);
        expect(page).toContain("| `build-vllm` |");
    });

    test("the known holes of docs/security.md, of the advisories", () => {
        const page = read("docs/security.md");
        expect(securityPage(page)).toBe(page);
        expect(page).toContain("| vllm | CVE-2026-48746 |");
    });

    test("docs/operations.md, of the table that the live test does", () => {
        expect(read("docs/operations.md")).toBe(operationsPage());
    });

    test("the pictures of the memory plan, of the same functions", () => {
        for (const [file, svg] of Object.entries(memoryPictures())) {
            expect(read(`docs/${file}`), file).toBe(svg);
        }
    });

    test("the resource tree of docs/architecture.md, of the program itself", async () => {
        const page = await architecturePage();
        expect(read("docs/architecture.md")).toBe(page);
        expect(page).toContain("└─ gh200-build-vllm                docker-build:Image");
    });
});

describe("links", () => {
    const links = pages.flatMap((page) =>
        [
            ...read(page)
                .replace(/^ *```[^]*?^ *```$/gm, "")
                .matchAll(/\]\((?!https?:)([^)\s]*)\)/g),
        ].map((match) => {
            const [file = "", anchor] = (match[1] ?? "").split("#");
            return { page, target: file === "" ? page : path.posix.join(path.posix.dirname(page), file), anchor };
        }),
    );

    test("lead to files of the repository", () => {
        expect(links.length).toBeGreaterThan(50);
        expect(
            links
                .filter(({ target }) => !repositoryFiles.some((file) => file === target || file.startsWith(`${target.replace(/\/$/, "")}/`)))
                .map(({ page, target }) => `${page}: ${target}`),
        ).toEqual([]);
    });

    test("with an anchor lead to a heading", () => {
        const broken = links.filter(
            ({ target, anchor }) => anchor !== undefined && fs.existsSync(path.join(repositoryRoot, target)) && !anchors(target).includes(anchor),
        );
        expect(broken.map(({ page, target, anchor }) => `${page}: ${target}#${anchor}`)).toEqual([]);
    });
});

test("docs/README.md leads to every page of docs/", () => {
    const map = read("docs/README.md");
    const guides = pages.filter((page) => /^docs\/[^/]+\.md$/.test(page) && page !== "docs/README.md").map((page) => path.posix.basename(page));
    expect(guides.length).toBeGreaterThan(8);
    expect(guides.filter((page) => !map.includes(`](${page})`))).toEqual([]);
});

describe("pages name nothing that does not exist:", () => {
    const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };
    const code = pages.flatMap((page) => [...codeSpans(page), ...blocks(page).flatMap((block) => block.lines)].map((text) => ({ page, text })));
    const all = (pattern: RegExp) => code.flatMap(({ page, text }) => [...text.matchAll(pattern)].map((match) => ({ page, match })));
    const wrong = (found: { page: string; match: RegExpMatchArray }[], exists: (match: RegExpMatchArray) => boolean) => {
        expect(found.length).toBeGreaterThan(5);
        return found.filter(({ match }) => !exists(match)).map(({ page, match }) => `${page}: ${match[0]}`);
    };

    test("npm scripts", () => {
        expect(wrong(all(/\bnpm run (?:--silent )?([a-z][a-z:]*)/g), ([, name = ""]) => scripts[name] !== undefined)).toEqual([]);
    });

    test("flags of our own commands", () => {
        const calls = all(/\bnpm run ([a-z:]+) -- ([^|`]*)/g).filter(({ match }) => match[1] !== "pulumi");
        const flags = calls.flatMap(({ page, match }) =>
            [...(match[2] ?? "").matchAll(/(?<=^|\s)--([a-z-]+)/g)].map((flag) => ({
                page,
                match: [`${match[1]} --${flag[1]}`, match[1] ?? "", flag[1] ?? ""] as unknown as RegExpMatchArray,
            })),
        );
        const source = (script: string) => (/(\w+)\/\w+\.ts/.exec(scripts[script] ?? "")?.[1] ?? "").replace(/^$/, "nowhere");
        const text = (folder: string) =>
            repositoryFiles
                .filter((file) => file.startsWith(`${folder}/`) && file.endsWith(".ts"))
                .map(read)
                .join("\n");
        expect(wrong(flags, ([, script = "", flag = ""]) => new RegExp(`--${flag}\\b|["' ]${flag}["']?: \\{`).test(text(source(script))))).toEqual([]);
    });

    test("configuration keys", () => {
        const keys = read("docs/configuration.md");
        const sections = [...keys.matchAll(/^## `gh200-vllm:(\w+)`/gm)].map((match) => match[1] ?? "");
        const known = (section: string, key: string) => {
            const part = keys.split(`## \`gh200-vllm:${section}\``)[1]?.split("\n## ")[0] ?? "";
            const pattern = key.replace(/\b(NAME|STAGE)\b/, "[a-z-]+").replaceAll(".", "\\.");
            return new RegExp(`^\\| \`${pattern}[\`.]`, "m").test(part);
        };
        const named = all(new RegExp(`(?<![\\w/.-])(?:gh200-vllm:)?(${sections.join("|")})\\.([a-z][\\w-]*(?:\\.[A-Za-z][\\w-]*)*)(?![\\w/(-]|\\.[a-z])`, "g"));
        // In programs these words are variables.
        const ours = named.filter(({ page, match }) => isGuide(page) && !/\.(ts|svg|py|yaml|md|json|test)$/.test(match[0]));
        expect(wrong(ours, ([, section = "", key = ""]) => known(section, key))).toEqual([]);
        const secret = all(/gh200-vllm:([A-Za-z]+)(?![\w.])/g).filter(({ page, match }) => isGuide(page) && !sections.includes(match[1] ?? ""));
        expect(
            secret
                .filter(({ match }) => !keys.includes(`| \`${match[1]}\` |`) && !["index", "SECTION", "KEY"].includes(match[1] ?? ""))
                .map(({ page, match }) => `${page}: ${match[0]}`),
        ).toEqual([]);
    });

    test("paths", () => {
        const top = [...new Set(repositoryFiles.filter((file) => file.includes("/")).map((file) => file.split("/")[0] ?? ""))];
        const named = all(new RegExp(`(?<![\\w/.@:-])(?:${top.map((folder) => folder.replace(".", "\\.")).join("|")})/[\\w./*@-]*`, "g"));
        const matches = (glob: string) => {
            const pattern = new RegExp(
                `^${glob
                    .replace(/[./]+$/, "")
                    .replaceAll(".", "\\.")
                    .replaceAll("*", "[^/]*")}(/|$)`,
            );
            return repositoryFiles.some((file) => pattern.test(file));
        };
        // Written by `npm run approve`.
        const made = ["approvals/gh200.json", "approvals/gh200.signers.json"];
        expect(wrong(named, ([file]) => made.includes(file) || matches(file))).toEqual([]);
    });

    test("environment variables", () => {
        const source = repositoryFiles
            .filter((file) => /\.(ts|py|cu|mjs)$|Dockerfile$/.test(file) && !file.startsWith("tests/unit/docs"))
            .map(read)
            .join("\n");
        expect(wrong(all(/\b(?:GH200|MANAGED_MEM)_[A-Z_]*[A-Z]\b/g), ([name]) => source.includes(name))).toEqual([]);
    });

    test("tests: each «yes» of docs/deployment.md names files that are there", () => {
        const yes = read("docs/deployment.md")
            .split("\n")
            .filter((line) => /^\|[^|]+\| (yes|\*\(schema\)\*|manifests alone)/.test(line));
        expect(yes.length).toBeGreaterThan(15);
        for (const row of yes) {
            const named = [...(row.split("|")[2] ?? "").matchAll(/tests\/[\w/]+\.(?:test\.ts|py)/g)].map((match) => match[0]);
            expect(named.length, row).toBeGreaterThan(0);
            expect(
                named.filter((file) => !repositoryFiles.includes(file)),
                row,
            ).toEqual([]);
        }
    });
});

describe("commands in blocks", () => {
    const inBlocks = pages
        .filter(isGuide)
        .flatMap((page) => blocks(page).filter(({ language, lines }) => language === "sh" || (language === "" && !notCommands.includes(lines[0] ?? ""))));
    const found = inBlocks.flatMap(commandLines);

    test("are each run by a test, or the table says what they need", () => {
        expect(found.filter((line) => commands[line] === undefined)).toEqual([]);
    });

    test("are in the table only while a page has them", () => {
        expect(Object.keys(commands).filter((line) => !found.includes(line))).toEqual([]);
        const firstLines = pages.flatMap((page) => blocks(page).map(({ lines }) => lines[0]));
        expect(notCommands.filter((line) => !firstLines.includes(line))).toEqual([]);
    });

    test("are in the tests that the table names", () => {
        const wrong = Object.entries(commands).filter(
            ([, handling]) => "by" in handling && !(repositoryFiles.includes(handling.by) && read(handling.by).includes(handling.text)),
        );
        expect(wrong).toEqual([]);
    });
});
