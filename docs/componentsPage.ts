import type { PackageSchema, Property, TypeSpec } from "./componentSchema";

/** docs/components.md, from the schema that other languages are generated from. */
export function componentsPage(schema: PackageSchema): string {
    const lines = [
        "# Components",
        "",
        "Made from `components/schema.json` by `npm run docs`, which makes that from the components' TypeScript; a test keeps both current.",
        "An input marked `plain` is known when the program is written: it decides which resources there are, which files are built, or how long an update waits.",
        "All others take outputs too.",
    ];
    for (const [token, component] of sorted(schema.resources)) {
        lines.push(
            "",
            `## ${short(token)}`,
            "",
            ...paragraphs(component.description),
            "",
            ...table("input", component.inputProperties, component.requiredInputs),
        );
        lines.push("", ...table("output", component.properties));
    }
    lines.push("", "# Types");
    for (const [token, type] of sorted(schema.types)) {
        lines.push("", `## ${short(token)}`, "", ...paragraphs(type.description));
        if (type.enum !== undefined) {
            lines.push(`One of ${type.enum.map(({ value }) => `\`${value}\``).join(", ")}.`);
        } else {
            lines.push(...table("property", type.properties, type.required));
        }
    }
    return `${lines.join("\n").replace(/\n{3,}/g, "\n\n")}\n`;
}

function table(kind: "input" | "output" | "property", properties: Record<string, Property> = {}, required: string[] = []): string[] {
    const rows = sorted(properties).map(([name, property]) => {
        const marks = [required.includes(name) && "**required**", kind === "input" && property.plain && "plain"].filter(Boolean).join(", ");
        return `| \`${name}\` | ${typeOf(property)} | ${[marks, ...paragraphs(property.description)].filter(Boolean).join(". ")} |`;
    });
    return rows.length === 0 ? [] : [`| ${kind} | type | meaning |`, "| --- | --- | --- |", ...rows];
}

function typeOf({ type, $ref, items, additionalProperties }: Property): string {
    if ($ref !== undefined) {
        return `[${short($ref)}](#${short($ref).toLowerCase()})`;
    }
    if (items !== undefined) {
        return `list of ${typeOf(items)}`;
    }
    return additionalProperties === undefined ? (type ?? "") : `map of ${typeOf(additionalProperties)}`;
}

const short = (token: string): string => token.split(":").at(-1) ?? token;
const sorted = <T>(record: Record<string, T>): [string, T][] => Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));
const paragraphs = (text: TypeSpec["description"]): string[] =>
    text === undefined
        ? []
        : [
              text
                  .trim()
                  .replace(/\s*\n\s*/g, " ")
                  .replaceAll("|", "\\|"),
          ];
