import * as fs from "node:fs";
import * as path from "node:path";
import { expect, test } from "vitest";
import type { ToolName } from "../../tools/toolchain";
import { repositoryRoot } from "../support/stackFile";
import { Consumer, upToPreview } from "./consumer";
import { packed } from "./packed";

// Each in an empty folder with nothing but the archive, by what components/README.md says. Packages come from their
// registries; no builder, image registry or cluster can be reached.
const MINUTE = 60_000;
const DIGEST = "1".repeat(64);

const made = packed();

/** npm, pip and Go find their registries by the home; Pulumi and Docker are told theirs. */
const person = (name: string, ...hosts: ToolName[]) =>
    Consumer.of(path.join(made.folder, name), { ...made.backend.env, HOME: process.env.HOME, DOCKER_CONFIG: made.backend.folder }, ...hosts);

const SERVER = /kubernetes:apps\/v1:Deployment +vllm +create/;

test.each<[string, ToolName[]]>([
    ["TypeScript", []],
    ["Python", ["pulumi-language-python"]],
    ["YAML", ["pulumi-language-yaml"]],
])(
    "%s, by the README alone",
    async (language, hosts) => {
        const { status, output } = (await person(language, ...hosts)).follow(upToPreview("components/README.md", language), { ARCHIVE: made.archive, DIGEST });
        expect(status, output).toBe(0);
        expect(output).toMatch(SERVER);
        expect(output).toContain("+ 10 to create");
    },
    15 * MINUTE,
);

test(
    "`pulumi package get-schema` of the unpacked archive is the committed schema",
    async () => {
        const consumer = await person("schema");
        const { status, output } = consumer.shell(
            `mkdir gh200-vllm; tar xzf ${made.archive} --strip-components=1 -C gh200-vllm; pulumi package get-schema ./gh200-vllm > schema.json`,
        );
        expect(status, output).toBe(0);
        const printed = JSON.parse(fs.readFileSync(path.join(consumer.folder, "schema.json"), "utf8")) as object;
        const committed = JSON.parse(fs.readFileSync(path.join(repositoryRoot, "components", "schema.json"), "utf8")) as object;
        expect(printed).toEqual({ ...committed, config: {} });
    },
    5 * MINUTE,
);

test.each<[string, ToolName[], RegExp]>([
    ["whole-platform", [], /kubernetes:apps\/v1:Deployment +gh200-vllm +create/],
    ["bring-your-own-image", [], SERVER],
    ["foreign-dockerfile", [], /docker-build:index:Image +app +create/],
    ["yaml", ["pulumi-language-yaml"], SERVER],
    ["python", ["pulumi-language-python"], SERVER],
    ["go", ["pulumi-language-go"], SERVER],
])(
    "examples/%s, by its README alone",
    async (example, hosts, shown) => {
        const consumer = await person(`example-${example}`, ...hosts);
        fs.cpSync(path.join(repositoryRoot, "examples", example), consumer.folder, { recursive: true });
        const { status, output } = consumer.follow(upToPreview(`examples/${example}/README.md`), { ARCHIVE: made.archive, DIGEST });
        expect(status, output).toBe(0);
        expect(output).toMatch(shown);
    },
    15 * MINUTE,
);
