import * as path from "node:path";
import { build } from "./build";
import { link } from "./cache";
import { type Entry, entryOf, type ToolName } from "./catalogue";
import { download } from "./download";
import { findTool, locate, type Tool } from "./locate";
import { withLock } from "./lock";
import { Problem, type Report, terminalReport } from "./report";

export { findTool, type Tool } from "./locate";
export { allTools, pulumiTools, type ToolName } from "./catalogue";
export { pulumiEnvironment, sandboxDirectory, sandboxState } from "./environment";
export { Problem, type Report, terminalReport } from "./report";

/**
 * Finds all of `names`, and downloads or builds what is missing, one after another. Interrupted, the next call goes on:
 * finished tools are kept, and within a tool Go keeps the packages it compiled.
 */
export async function ensureTools(names: readonly ToolName[], report: Report = terminalReport()): Promise<Map<ToolName, Tool>> {
    if (names.some((name) => findTool(name) === undefined)) {
        await withLock(report, () => provide(names, report));
    }
    return new Map(names.map((name) => [name, found(name)]));
}

async function provide(names: readonly ToolName[], report: Report): Promise<void> {
    const missing = names.map(entryOf).filter((entry) => locate(entry) === undefined);
    for (const [index, entry] of missing.entries()) {
        // Another of the missing may have brought it: kubectl comes with kubernetes.
        if (locate(entry) === undefined) {
            await provideOne(entry, `${index + 1} of ${missing.length}`, report);
        }
    }
}

async function provideOne(entry: Entry, position: string, report: Report): Promise<void> {
    const pulumi = findTool("pulumi");
    if (pulumi !== undefined && (await download(entry, pulumi, report))) {
        return;
    }
    const source = entry.aliasOf === undefined ? entry : entryOf(entry.aliasOf);
    if (locate(source) === undefined) {
        await build(source, position, report);
    }
    if (entry.aliasOf !== undefined) {
        link(source.name, path.join(path.dirname(found(source.name).path), entry.name));
    }
}

function found(name: ToolName): Tool {
    const tool = findTool(name);
    if (tool === undefined) {
        throw new Problem(`${name}: not found after building it; run \`npm run doctor\``);
    }
    return tool;
}
