import * as fs from "node:fs";
import * as path from "node:path";
import * as yaml from "yaml";
import { z } from "zod";
import { absentSections, secrets, sections } from "../components/config/schema";
import { memoryTerms } from "../components/node/describe";
import type { Gh200NodeArgs } from "../components/node/gh200NodeArgs";
import { memoryPicture } from "../components/node/picture";
import { planNode } from "../components/node/planNode";
import { advisories, type Advisory } from "../components/rules/advisories";
import { defaultSources } from "../components/stages/sources";
import { exceptions, type Figure, stageTable } from "../components/stages/table";
import { componentSchema, SCHEMA_FILE, schemaText } from "./componentSchema";
import { componentsPage } from "./componentsPage";
import { operationsPage } from "./operationsPage";
import { resourceTree } from "./resourceTree";

const PAGE = path.join(__dirname, "configuration.md");

interface Leaf {
    type?: string;
    description?: string;
    unit?: string;
    source?: string;
    default?: unknown;
    enum?: unknown[];
    const?: unknown;
    pattern?: string;
    properties?: Record<string, Leaf>;
    required?: string[];
    additionalProperties?: Leaf | false;
    items?: Leaf;
}

/** docs/configuration.md, from the schemas that check the configuration. */
export function configurationPage(): string {
    const lines = [
        "# Configuration",
        "",
        "Made from the schemas in `components/` by `npm run docs`; a test keeps it current.",
        "Every key below stands in `Pulumi.STACK.yaml` under `config:`. All that is wrong, missing or unknown is reported at once.",
    ];
    for (const [name, schema] of Object.entries(sections)) {
        const json = z.toJSONSchema(schema, { io: "input" }) as Leaf;
        const optional = name in absentSections ? " (may be left out)" : "";
        lines.push("", `## \`gh200-vllm:${name}\`${optional}`, "", "| key | type | default | unit | meaning |", "| --- | --- | --- | --- | --- |");
        lines.push(...rows(json, ""));
    }
    lines.push("", "## Secrets", "", "Keys of their own, set with `pulumi config set --secret gh200-vllm:KEY`.", "", "| key | meaning |", "| --- | --- |");
    lines.push(...Object.entries(secrets).map(([key, meaning]) => `| \`${key}\` | ${meaning} |`), "");
    return lines.join("\n");
}

const STAGES_PAGE = path.join(__dirname, "stages.md");
const ARCHITECTURE_PAGE = path.join(__dirname, "architecture.md");

/** A page with what stands between its markers made anew. */
function filled(page: string, made: string[]): string {
    return page.replace(/(<!-- made by[^\n]*begin -->\n)[^]*?(<!-- end -->)/, (_, begin: string, end: string) => `${begin}${made.join("\n")}\n${end}`);
}

/** docs/architecture.md with the resource tree in its middle drawn anew; once a process, see resourceTree. */
export async function architecturePage(): Promise<string> {
    const tree = await resourceTree("gh200");
    return filled(fs.readFileSync(ARCHITECTURE_PAGE, "utf8"), ["```text", ...tree, "```"]);
}

/** docs/stages.md with the tables in its middle made anew from the stage and source tables. */
export function stagesPage(text = fs.readFileSync(STAGES_PAGE, "utf8")): string {
    const figure = ({ value, basis, source }: Figure, unit: string) => (value === 0 ? "" : `${value} ${unit}, ${basis}: ${source}`);
    const made = [
        "| stage | delivers | sources | wheels | memory of one job | processor seconds | minutes beside |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        ...stageTable.map((stage) => {
            const wheels = Object.entries(stage.wheels).map(([project, content]) => `${project} (${content})`);
            const cells = [
                `\`${stage.target}\``,
                stage.delivers,
                stage.sources.join(", "),
                wheels.join(", "),
                figure(stage.memoryPerJobGiB, "GiB"),
                figure(stage.cpuSeconds, "s"),
                `${stage.fixedMinutes}`,
            ];
            return `| ${cells.join(" | ")} |`;
        }),
        "",
        ...stageTable.flatMap(({ target, lostWithout }) =>
            lostWithout === undefined ? [] : [`\`${target}\` can be left out (\`stages.disabled\`). Lost without it: ${lostWithout}.`, ""],
        ),
        "| source | repository | ref | commit |",
        "| --- | --- | --- | --- |",
        ...Object.entries(defaultSources).map(
            ([name, { repository, ref, commit, because }]) =>
                `| ${name} | ${repository} | ${ref}${because === undefined ? "" : `: ${because}`} | ${commit ?? "unpinned"} |`,
        ),
        "",
        "| not built from source | what is done | why |",
        "| --- | --- | --- |",
        ...exceptions.map(({ part, choice, reason }) => `| ${part} | ${choice} | ${reason} |`),
    ];
    return filled(text, made);
}

const SECURITY_PAGE = path.join(__dirname, "security.md");

/** docs/security.md with its table of known holes made anew from the advisories. */
export function securityPage(text = fs.readFileSync(SECURITY_PAGE, "utf8")): string {
    const range = ({ introduced, fixed, lastAffected }: Advisory) =>
        [introduced && `from ${introduced}`, fixed && `below ${fixed}`, lastAffected && `up to ${lastAffected}`].filter(Boolean).join(", ");
    const made = [
        "| package | advisory | versions | somebody | address |",
        "| --- | --- | --- | --- | --- |",
        ...advisories.map((one) => `| ${one.package} | ${one.id} | ${range(one)} | ${one.what} | ${one.source} |`),
    ];
    return filled(text, made);
}

function rows(node: Leaf, prefix: string): string[] {
    if (node.properties === undefined) {
        return typeof node.additionalProperties === "object" ? rows(node.additionalProperties, `${prefix}NAME.`) : [];
    }
    return Object.entries(node.properties).flatMap(([key, leaf]) => {
        if (leaf.properties !== undefined) {
            return rows(leaf, `${prefix}${key}.`);
        }
        const absent = node.required?.includes(key) ? "required" : "none";
        const fallback = leaf.default === undefined ? absent : `\`${JSON.stringify(leaf.default)}\``;
        const meaning = [leaf.description ?? "", leaf.source && `Source: ${leaf.source}.`].filter(Boolean).join(" ");
        const items = leaf.items?.properties === undefined ? [] : rows(leaf.items, `${prefix}${key}[].`);
        return [`| \`${prefix}${key}\` | ${typeOf(leaf)} | ${fallback} | ${leaf.unit ?? ""} | ${meaning} |`, ...items];
    });
}

function typeOf(leaf: Leaf): string {
    if (leaf.enum !== undefined) {
        return leaf.enum.map((value) => `\`${String(value)}\``).join(" or ");
    }
    if (leaf.type === "array") {
        return `list of ${leaf.items?.type ?? "anything"}`;
    }
    return leaf.type === "string" && leaf.pattern !== undefined ? `string, \`${leaf.pattern.replaceAll("|", "\\|")}\`` : (leaf.type ?? "anything");
}

/** The memory plans that the pages show: the source document's node as Pulumi.gh200.yaml declares it, and the recommended profile. */
export function memoryPictures(): Record<string, string> {
    const { config } = yaml.parse(fs.readFileSync(path.join(__dirname, "..", "Pulumi.gh200.yaml"), "utf8")) as { config: Record<string, unknown> };
    const nodes: Record<string, Gh200NodeArgs> = {
        "memory-egm-numa.svg": config["gh200-vllm:node"] as Gh200NodeArgs,
        "memory-driver.svg": { egmEnabled: false, coherentMode: "driver", managedGiB: 475 },
    };
    return Object.fromEntries(
        Object.entries(nodes).map(([file, node]) => {
            const { memory, plan } = planNode(node);
            return [file, memoryPicture(memoryTerms(memory, plan), plan)];
        }),
    );
}

async function generate(): Promise<void> {
    const schema = componentSchema();
    fs.writeFileSync(SCHEMA_FILE, schemaText(schema));
    fs.writeFileSync(path.join(__dirname, "components.md"), componentsPage(schema));
    fs.writeFileSync(PAGE, configurationPage());
    fs.writeFileSync(STAGES_PAGE, stagesPage());
    fs.writeFileSync(SECURITY_PAGE, securityPage());
    fs.writeFileSync(path.join(__dirname, "operations.md"), operationsPage());
    for (const [file, svg] of Object.entries(memoryPictures())) {
        fs.writeFileSync(path.join(__dirname, file), svg);
    }
    fs.writeFileSync(ARCHITECTURE_PAGE, await architecturePage());
}

if (require.main === module) {
    void generate();
}
