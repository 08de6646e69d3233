/**
 * What is read, or undefined while a preview does not know it: the SDK throws at the first unknown property, and the rest of
 * the resource would then go unchecked. An update knows everything, and checks it then.
 */
export function known<T>(read: () => T): T | undefined {
    try {
        return read();
    } catch (error) {
        if ((error as Error).constructor.name === "UnknownValueError") {
            return undefined;
        }
        throw error;
    }
}

/** The entries of a map whose values are known. */
export function knownEntries(read: () => Record<string, unknown> | undefined): Record<string, string> {
    const map = known(read) ?? {};
    const entries = Object.keys(map).map((key) => [key, known(() => map[key])] as const);
    return Object.fromEntries(entries.filter((entry): entry is readonly [string, string] => typeof entry[1] === "string"));
}
