import * as fs from "node:fs";

/** How long each image took, by the name of its resource. */
export type BuildSeconds = Record<string, number>;

const IMAGE = "docker-build:index:Image";

interface EngineEvent {
    resourcePreEvent?: { metadata: { op: string; urn: string; type: string } };
    resOutputsEvent?: { metadata: { urn: string } };
}

/** Reads the engine's events while the update runs. They carry whole seconds; a stage that takes a third of one is timed by when its events arrive. */
export class UpdateEvents {
    readonly seconds: BuildSeconds = {};
    private readonly began = new Map<string, number>();
    private offset = 0;
    private rest: Buffer = Buffer.alloc(0);

    constructor(private readonly file: string) {}

    read(): void {
        if (!fs.existsSync(this.file)) {
            return;
        }
        const handle = fs.openSync(this.file, "r");
        const bytes = Buffer.alloc(fs.fstatSync(handle).size - this.offset);
        this.offset += fs.readSync(handle, bytes, 0, bytes.length, this.offset);
        fs.closeSync(handle);
        const whole = Buffer.concat([this.rest, bytes]);
        const end = whole.lastIndexOf("\n") + 1;
        this.rest = whole.subarray(end);
        for (const line of whole.subarray(0, end).toString("utf8").split("\n").filter(Boolean)) {
            this.take(JSON.parse(line) as EngineEvent);
        }
    }

    private take({ resourcePreEvent, resOutputsEvent }: EngineEvent): void {
        const before = resourcePreEvent?.metadata;
        if (before?.type === IMAGE && before.op !== "same") {
            this.began.set(before.urn, Date.now());
        }
        const done = resOutputsEvent?.metadata.urn ?? "";
        const began = this.began.get(done);
        if (began !== undefined) {
            this.seconds[nameOf(done)] = (Date.now() - began) / 1000;
        }
    }
}

const nameOf = (urn: string): string => urn.split("::").pop() ?? "";

/**
 * Where the output is a file, Pulumi writes a line for every line of every build. What is left of them: each resource's
 * beginning and end, once, and whatever is wrong. Gives undefined for a line that is not shown.
 */
export function lineFilter(): (line: string) => string | undefined {
    const told = new Set<string>();
    return (line) => {
        const [, tense, rest = ""] = /\b\w+(ing|ed) \([\d.]+s\)(.*)$/.exec(line) ?? [];
        if (tense === undefined || /\b(error|warning):/.test(rest)) {
            return /^@ \w+ing/.test(line) ? undefined : line;
        }
        const shown = line.replace(/;? #\d+ .*$/, "");
        const isProgress = tense === "ing" && rest.trim() !== "";
        if (isProgress || told.has(shown)) {
            return undefined;
        }
        told.add(shown);
        return shown;
    };
}
