/** A config.json, parsed. */
export type ModelConfig = Readonly<Record<string, unknown>>;

/** The text of a config.json, or undefined where it is no object. Python's own writer also writes Infinity and NaN, which JSON has not. */
export function parseConfig(text: string): ModelConfig | undefined {
    const bare = /("(?:[^"\\]|\\.)*")|-?\bInfinity\b|\bNaN\b/g;
    try {
        return asConfig(JSON.parse(text.replace(bare, (found, quoted?: string) => (quoted === undefined ? "null" : found))));
    } catch {
        return undefined;
    }
}

export function asConfig(value: unknown): ModelConfig | undefined {
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as ModelConfig) : undefined;
}

export function asText(value: unknown): string | undefined {
    return typeof value === "string" ? value : undefined;
}
