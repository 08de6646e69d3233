import type { ResolvedSource } from "../components/platform/openPoints";
import { isAncestor, resolveRef } from "./git";

/** What was found out about one pin. */
export interface Finding {
    /** Name of the source, or `image.base`. */
    readonly name: string;
    /** What the person asked for, e.g. `REPOSITORY#REF`. */
    readonly asked: string;
    /** The pin to write into the stack file. Absent where it stays as it is. */
    readonly pin?: string;
    /** In words: what it is, or what is wrong. */
    readonly says: string;
    /** Whether the pin could not be resolved or proven; it is then left as it is. */
    readonly open: boolean;
}

/** Resolves one source. `follow` moves the pin of a branch to its newest commit. */
export async function findSource(name: string, source: ResolvedSource, follow: boolean): Promise<Finding> {
    const asked = `${source.repository}#${source.ref}`;
    const finding = (says: string, rest: { pin?: string; open?: boolean } = {}): Finding => ({ name, asked, says, open: false, ...rest });
    if (source.path !== undefined) {
        return finding(`is the folder ${source.path}, which has no pin`);
    }
    try {
        const now = await resolveRef(source.repository, source.ref);
        const pinned = source.commit;
        if (now.kind === "tag" && pinned !== undefined && pinned !== now.commit) {
            return finding(`the tag is ${now.commit} now, but ${pinned} is pinned: tags do not move by themselves; look at both before either is built`, {
                open: true,
            });
        }
        const commit = pinned === undefined || (follow && now.kind === "branch") ? now.commit : pinned;
        if (source.contains !== undefined && !(await isAncestor(source.repository, source.contains, commit))) {
            return finding(`${source.contains} is not in the history of ${commit}; accepted: a commit that contains it`, { open: true });
        }
        const proven = source.contains === undefined ? "" : `; ${source.contains} is in its history`;
        const moved = now.kind === "branch" && commit !== now.commit ? `; the branch is at ${now.commit} now` : "";
        return commit === pinned
            ? finding(now.kind === "commit" ? `is pinned by its commit${proven}` : `is pinned to ${commit}${proven}${moved}`)
            : finding(`${now.kind} resolves to ${commit}${proven}`, { pin: commit });
    } catch (error) {
        return finding(`unresolved: ${(error as Error).message}`, { open: source.commit === undefined || source.contains !== undefined });
    }
}

export function findingLine({ name, asked, says, open }: Finding): string {
    return `${open ? "OPEN " : "     "}${name.padEnd(24)} ${asked}\n     ${"".padEnd(24)} ${says}`;
}
