import * as fs from "node:fs";
import * as path from "node:path";
import * as yaml from "yaml";

export const repositoryRoot = path.resolve(__dirname, "..", "..");

/** A committed stack file as the engine hands it to the program: text by key, sections as JSON. */
export function stackConfig(stack: string): Record<string, string> {
    const file = path.join(repositoryRoot, `Pulumi.${stack}.yaml`);
    const { config } = yaml.parse(fs.readFileSync(file, "utf8")) as { config: Record<string, object | string> };
    return Object.fromEntries(Object.entries(config).map(([key, value]) => [key, typeof value === "object" ? JSON.stringify(value) : value]));
}
