import * as pulumi from "@pulumi/pulumi";
import type { z } from "zod";
import { nameInputsByStackKey, type Problem, refuse } from "../internal/errors";
import { zodProblems } from "../internal/resolve";
import { absentSections, secrets, sections } from "./schema";

type Sections = { [K in keyof typeof sections]: z.output<(typeof sections)[K]> };
type Secrets = { [K in keyof typeof secrets]?: pulumi.Output<string> };
export type StackConfig = Sections & { secrets: Secrets };

/**
 * Reads and checks the stack's whole configuration. Every wrong, missing or unknown key is reported at
 * once, a line each.
 */
export function loadConfig(): StackConfig {
    const config = new pulumi.Config();
    nameInputsByStackKey(config.name);
    const problems: Problem[] = unknownKeys(config.name);
    const parsed: Record<string, unknown> = {};
    for (const [key, schema] of Object.entries(sections)) {
        const path = `${config.name}:${key}`;
        const value = section(config, key, path, problems);
        if (value === undefined) {
            problems.push({ path, wrong: "is missing", fix: "see docs/configuration.md" });
        }
        if (value === undefined || value === unreadable) {
            continue;
        }
        const result = (schema as z.ZodType).safeParse(value);
        problems.push(...zodProblems(path, result.error, value));
        parsed[key] = result.data;
    }
    problems.push(...gitTokenProblems(config.name));
    refuse(problems);
    return {
        ...(parsed as Sections),
        secrets: Object.fromEntries(Object.keys(secrets).map((key) => [key, config.getSecret(key)])),
    };
}

/** The value is a secret and is never shown. */
function gitTokenProblems(namespace: string): Problem[] {
    const path = `${namespace}:gitTokens`;
    const text = (pulumi.runtime.allConfig() as Record<string, string | undefined>)[path];
    if (text === undefined || isTokensByHost(text)) {
        return [];
    }
    return [
        { path, wrong: "is no JSON object of hosts and tokens", accepted: '{"HOST": "TOKEN"}', fix: `pulumi config set --secret ${path} '{"HOST": "TOKEN"}'` },
    ];
}

function isTokensByHost(text: string): boolean {
    try {
        const tokens = JSON.parse(text) as unknown;
        return (
            typeof tokens === "object" &&
            tokens !== null &&
            !Array.isArray(tokens) &&
            Object.values(tokens).every((token) => typeof token === "string" && token !== "")
        );
    } catch {
        return false;
    }
}

/** The SDK has this function and leaves it out of its types. */
const { isConfigSecret } = pulumi.runtime as unknown as { isConfigSecret: (this: void, path: string) => boolean };

function section(config: pulumi.Config, key: string, path: string, problems: Problem[]): unknown {
    if (isConfigSecret(path)) {
        problems.push({
            path,
            wrong: "holds a secret, which a section would hand on as plain text",
            accepted: `secrets only as ${Object.keys(secrets).join(", ")}`,
            fix: `pulumi config set --secret ${config.name}:NAME`,
        });
        return unreadable;
    }
    const value = parsedObject(config, key);
    if (value === undefined) {
        return absentSections[key as keyof typeof sections];
    }
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
        problems.push({ path, value: config.get(key), wrong: "is no section", accepted: "keys and values" });
        return unreadable;
    }
    return value;
}

function parsedObject(config: pulumi.Config, key: string): unknown {
    try {
        return config.getObject<unknown>(key);
    } catch {
        return config.get(key);
    }
}

/** A section whose own problem is reported; what it may hold is not looked at. */
const unreadable = Symbol("unreadable");

function unknownKeys(namespace: string): Problem[] {
    const known = new Set([...Object.keys(sections), ...Object.keys(secrets)]);
    return Object.keys(pulumi.runtime.allConfig())
        .filter((path) => path.startsWith(`${namespace}:`) && !known.has(path.slice(namespace.length + 1)))
        .map((path) => ({
            path,
            wrong: "is an unknown key",
            accepted: [...known].join(", "),
            fix: `pulumi config rm ${path}`,
        }));
}
