import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import type { Problem } from "../components/internal/errors";

/**
 * States of a file backend that nobody can read: `kill -9`, a full disk or a crash of the machine in the middle of writing one leaves it
 * empty or cut off, and Pulumi then says «failed to load checkpoint: EOF» and no more. Each with the copy that can take its place; it is
 * put there by a person, since what the last step did is not in it.
 */
export function unreadableStates(backend: string | undefined): Problem[] {
    if (backend === undefined || !backend.startsWith("file:///")) {
        return [];
    }
    const state = path.join(fileURLToPath(backend), ".pulumi");
    const stacks = path.join(state, "stacks");
    const files = fs.existsSync(stacks) ? fs.readdirSync(stacks, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".json")) : [];
    return files
        .filter((name) => !isState(path.join(stacks, name)))
        .map((name) => {
            const file = path.join(stacks, name);
            const copy = [`${file}.bak`, ...history(path.join(state, "history", name.replace(/\.json$/, "")))].find(isState);
            return {
                path: file,
                wrong: "is no whole state: a process was killed while it wrote it",
                fix: copy === undefined ? "import an export of the stack (pulumi stack import)" : `cp ${copy} ${file}, then pulumi up --refresh`,
            };
        });
}

function isState(file: string): boolean {
    try {
        const { checkpoint } = JSON.parse(fs.readFileSync(file, "utf8")) as { checkpoint?: unknown };
        return checkpoint !== undefined;
    } catch {
        return false;
    }
}

/** The newest first; their names carry the time. */
function history(folder: string): string[] {
    const files = fs.existsSync(folder) ? fs.readdirSync(folder) : [];
    return files
        .filter((name) => name.endsWith(".checkpoint.json"))
        .sort()
        .reverse()
        .map((name) => path.join(folder, name));
}
