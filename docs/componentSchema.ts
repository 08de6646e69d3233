import * as fs from "node:fs";
import * as path from "node:path";
import { Analyzer } from "@pulumi/pulumi/provider/experimental/analyzer";
import { generateSchema } from "@pulumi/pulumi/provider/experimental/schema";
import * as components from "../components/index";

export const SCHEMA_FILE = path.resolve(__dirname, "..", "components", "schema.json");
const PACKAGE = path.resolve(__dirname, "..", "components");

export interface Property {
    type?: string;
    $ref?: string;
    description?: string;
    plain?: boolean;
    secret?: boolean;
    items?: Property;
    additionalProperties?: Property;
}

export interface TypeSpec {
    description?: string;
    type?: string;
    properties?: Record<string, Property>;
    required?: string[];
    inputProperties?: Record<string, Property>;
    requiredInputs?: string[];
    enum?: { name: string; value: string; description?: string }[];
}

export interface PackageSchema {
    name: string;
    version: string;
    resources: Record<string, TypeSpec>;
    types: Record<string, TypeSpec>;
}

/** The schema as it is committed, which is as `pulumi package get-schema` prints it: without empty lists and inference's own mark of what may be left out. */
export const schemaText = (schema: PackageSchema): string =>
    `${JSON.stringify(schema, (key, value: unknown) => ((key === "optional" && value === true) || (Array.isArray(value) && value.length === 0) ? undefined : value), 4)}\n`;

/** The schema that Pulumi infers, by the same code that its plug-ins run at each start, from the components' TypeScript: what programs in other languages see. */
export function componentSchema(): PackageSchema {
    const manifest = JSON.parse(fs.readFileSync(path.join(PACKAGE, "package.json"), "utf8")) as Record<"name" | "version" | "description", string>;
    const [scope = "", name = ""] = manifest.name.slice(1).split("/");
    const classes = Object.values(components).flatMap((value) => (typeof value === "function" ? [value.name] : []));
    // `main` is the plug-in's entry; without it inference starts at index.ts.
    const analyzed = new Analyzer(PACKAGE, name, { ...manifest, main: "index.ts", exports: undefined }, new Set(classes)).analyze();
    const schema = generateSchema(
        name,
        manifest.version,
        manifest.description,
        analyzed.components,
        analyzed.typeDefinitions,
        analyzed.dependencies,
        scope,
    ) as PackageSchema;
    for (const spec of [...Object.values(schema.resources), ...Object.values(schema.types)]) {
        [spec.properties, spec.inputProperties].forEach((properties) => Object.values(properties ?? {}).forEach(markSecret));
    }
    return schema;
}

/** Inference knows no secrets. A property that says in its description that it is one is encrypted by the SDK of every language. */
function markSecret(property: Property): void {
    if (/; secret\b/.test(property.description ?? "")) {
        property.secret = true;
    }
}
