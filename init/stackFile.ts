import * as fs from "node:fs";
import * as path from "node:path";
import { Document, isMap, isScalar, isSeq, type Node, parse, parseDocument, type YAMLMap } from "yaml";
import { z } from "zod";
import { sections } from "../components/config/schema";
import type { Declaration } from "./declaration";

const checkout = path.join(__dirname, "..");
const project = (parse(fs.readFileSync(path.join(checkout, "Pulumi.yaml"), "utf8")) as { name: string }).name;

export const stackFile = (stack: string): string => path.join(checkout, `Pulumi.${stack}.yaml`);

/** The key of a section or a secret, as Pulumi's command line takes it. */
export const configKey = (name: string): string => `${project}:${name}`;

/**
 * The text of a stack file, each value with its meaning from the schema that checks it. Of a file that it takes the
 * place of, what only Pulumi can make stays: the encryption's own keys and the encrypted values.
 */
export function stackFileText({ clientKey: _, problems: __, remarks: ___, ...declared }: Declaration, before = ""): string {
    const document = new Document({ config: Object.fromEntries(Object.entries(declared).map(([name, section]) => [configKey(name), section])) });
    document.commentBefore = " Written by `npm run init`. docs/configuration.md lists every key.";
    for (const name of Object.keys(declared)) {
        explain(document.getIn(["config", configKey(name)]), z.toJSONSchema(sections[name as keyof typeof sections], { io: "input" }) as Leaf);
    }
    for (const [at, node] of keptOf(before)) {
        document.setIn(at, node);
    }
    return document.toString({ lineWidth: 0 });
}

/** What `stackFileText` takes over from a file, by its paths. */
export function keptOf(before: string): Map<string[], Node> {
    const kept = new Map<string[], Node>();
    const document = parseDocument(before);
    for (const { key, value } of isMap<{ value: string }, Node>(document.contents) ? document.contents.items : []) {
        if (key.value !== "config" && value !== null) {
            kept.set([key.value], value);
        }
    }
    const config = document.get("config");
    for (const { key, value } of isMap<{ value: string }, Node>(config) ? config.items : []) {
        if (isMap(value) && value.has("secure")) {
            kept.set(["config", key.value], value);
        }
    }
    return kept;
}

interface Leaf {
    description?: string;
    properties?: Record<string, Leaf>;
    items?: Leaf;
}

function explain(node: unknown, schema: Leaf): void {
    for (const { key, value } of isMap(node) ? (node as YAMLMap<{ value: string }, Node>).items : []) {
        const leaf = schema.properties?.[key.value] ?? {};
        if (isMap(value)) {
            explain(value, leaf);
        } else if (isSeq(value)) {
            value.items.forEach((item) => explain(item, leaf.items ?? {}));
        } else if (isScalar(value) && leaf.description !== undefined) {
            value.comment = ` ${leaf.description.replace(/\.$/, "")}`;
        }
    }
}
