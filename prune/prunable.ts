/** What is read of a resource in Pulumi's state. */
export interface StateResource {
    readonly type: string;
    readonly inputs?: {
        readonly context?: { readonly location?: string; readonly named?: Record<string, { readonly location?: string }> };
        readonly target?: string;
    };
    readonly outputs?: { readonly digest?: string; readonly ref?: string };
}

export interface Prunable {
    /** Manifests that may go, each with all its tags: a registry deletes by digest, and every tag of it goes too. */
    readonly digests: readonly { readonly digest: string; readonly tags: readonly string[] }[];
    /** Folders of .gh200/contexts. */
    readonly contexts: readonly string[];
}

const IMAGE = "docker-build:index:Image";

/**
 * What nothing in the state needs. Kept: every digest that the state or one of its images names, the build cache of each stage that
 * is in the state, and the contexts that its images were built from.
 */
export function prunable(resources: readonly StateResource[], tags: readonly { tag: string; digest: string }[], contexts: readonly string[]): Prunable {
    const text = JSON.stringify(resources);
    const targets = new Set(resources.filter(({ type }) => type === IMAGE).map(({ inputs }) => inputs?.target));
    const isKept = ({ tag, digest }: { tag: string; digest: string }): boolean =>
        text.includes(digest) || (tag.startsWith("cache-") && targets.has(tag.slice("cache-".length)));
    const kept = new Set(tags.filter(isKept).map(({ digest }) => digest));
    const byDigest = new Map<string, string[]>();
    for (const { tag, digest } of tags.filter((candidate) => !kept.has(candidate.digest))) {
        byDigest.set(digest, [...(byDigest.get(digest) ?? []), tag]);
    }
    return {
        digests: [...byDigest].map(([digest, names]) => ({ digest, tags: names.sort() })).sort((a, b) => a.tags[0]!.localeCompare(b.tags[0]!)),
        contexts: contexts.filter((name) => !text.includes(name)).sort(),
    };
}
