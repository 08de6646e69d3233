/** What is read of a resource in Pulumi's state. */
export interface StateResource {
    readonly type: string;
    readonly inputs?: {
        readonly context?: { readonly location?: string; readonly named?: Record<string, { readonly location?: string }> };
        readonly target?: string;
        readonly cacheFrom?: readonly { readonly registry?: { readonly ref?: string } }[];
    };
    readonly outputs?: { readonly digest?: string; readonly ref?: string };
}

export interface Prunable {
    /** Manifests that may go, each with all its tags: a registry deletes by digest, and every tag of it goes too. */
    readonly digests: readonly { readonly repository: string; readonly digest: string; readonly tags: readonly string[] }[];
    /** Folders of .gh200/contexts. */
    readonly contexts: readonly string[];
}

/** What a tag of a repository names. */
export interface Tagged {
    readonly repository: string;
    readonly tag: string;
    readonly digest: string;
}

/**
 * What nothing in the state needs. Kept: every digest that the state or one of its images names, every tag that it names, as it does the
 * build cache of each stage, and the contexts that its images were built from.
 */
export function prunable(resources: readonly StateResource[], tags: readonly Tagged[], contexts: readonly string[]): Prunable {
    const text = JSON.stringify(resources);
    const place = ({ repository, digest }: Tagged) => `${repository}@${digest}`;
    const kept = new Set(tags.filter(({ repository, tag, digest }) => text.includes(digest) || text.includes(`"${repository}:${tag}"`)).map(place));
    const byPlace = new Map<string, Tagged[]>();
    for (const tagged of tags.filter((candidate) => !kept.has(place(candidate)))) {
        byPlace.set(place(tagged), [...(byPlace.get(place(tagged)) ?? []), tagged]);
    }
    const digests = [...byPlace.values()].map((of) => ({ repository: of[0]!.repository, digest: of[0]!.digest, tags: of.map(({ tag }) => tag).sort() }));
    return {
        digests: digests.sort((a, b) => a.tags[0]!.localeCompare(b.tags[0]!)),
        contexts: contexts.filter((name) => !text.includes(name)).sort(),
    };
}
