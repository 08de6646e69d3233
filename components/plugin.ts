import * as fs from "node:fs";
import * as path from "node:path";
import * as pulumi from "@pulumi/pulumi";
import * as components from "./index";
import { packageFolder } from "./internal/assets";

type Component = new (name: string, inputs: pulumi.Inputs, options: pulumi.ComponentResourceOptions) => pulumi.ComponentResource;

/**
 * Serves the components to programs in other languages, by the committed schema. To infer the schema takes
 * the compiler 15 s (2 cores, 2026-11-24) of every preview; `npm run docs` does it once.
 */
export function serve(): Promise<void> {
    const schema = fs.readFileSync(path.join(packageFolder(), "schema.json"), "utf8");
    const { version, resources } = JSON.parse(schema) as { version: string; resources: Record<string, { properties: object }> };
    const provider: pulumi.provider.Provider = {
        version,
        schema,
        construct: (name, type, inputs, options) => {
            const resource = resources[type];
            const Class = (components as unknown as Record<string, Component>)[type.split(":").at(-1) ?? ""];
            if (resource === undefined || Class === undefined) {
                throw new Error(`${type}: is no component of this package; accepted: ${Object.keys(resources).join(", ")}`);
            }
            const made = new Class(name, inputs, options) as unknown as Record<string, unknown> & { urn: pulumi.Output<string> };
            return Promise.resolve({ urn: made.urn, state: Object.fromEntries(Object.keys(resource.properties).map((key) => [key, made[key]])) });
        },
    };
    return pulumi.provider.main(provider, process.argv.slice(2));
}
